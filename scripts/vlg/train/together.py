"""What the processes of one training tell each other."""

from __future__ import annotations

from typing import Any

from vlg.workflow.processes import Stop, process


def agreed(flag: Stop | bool) -> bool:
    """Whether it is true in any process (told to stop, out of memory); all get the same answer."""
    import torch
    from torch import distributed

    if process()[1] == 1:
        return bool(flag)
    nccl = distributed.get_backend() == "nccl"
    number = torch.tensor(float(bool(flag)), device="cuda" if nccl else "cpu")
    distributed.all_reduce(number)
    return number.item() > 0


def gathered(value: Any) -> list[Any]:
    """The values of all processes, by rank, in each of them."""
    from torch import distributed

    if process()[1] == 1:
        return [value]
    values: list[Any] = [None] * process()[1]
    distributed.all_gather_object(values, value)
    return values


def wait_for_all() -> None:
    """Go on when every process has come here."""
    from torch import distributed

    if process()[1] > 1:
        distributed.barrier()


def from_first(value: Any) -> Any:
    """The first process's value, in all of them."""
    from torch import distributed

    if process()[1] == 1:
        return value
    box = [value]
    distributed.broadcast_object_list(box)
    return box[0]

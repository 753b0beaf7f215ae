"""Where torch computes."""

from __future__ import annotations

from vlg.errors import UserError


def set_up(device: str, threads: int) -> str:
    """Choose `auto`, `cpu` or `cuda` and the number of CPU threads; returns "cpu" or "cuda".

    Of several GPUs each process of a launch takes its own. Raises UserError when there is none.
    """
    import os

    import torch

    torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        if not torch.cuda.is_available():
            raise UserError("device: cuda, but torch sees no GPU; use auto or cpu")
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    return device

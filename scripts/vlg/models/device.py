"""Where and how torch computes, and what happens when its memory runs out."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from vlg.errors import UserError
from vlg.models.ledger import forgotten_on_error

if TYPE_CHECKING:
    import torch

log = logging.getLogger("vlg")

T = TypeVar("T")


@dataclass
class Options:
    """How models run on a GPU (the config's section `gpu`). Results differ in their last bits."""

    channels_last: bool = False
    compile: bool = False
    vae_slicing: bool = False
    offload: bool = False


# Of this process, as the number of threads is: set once by `set_up`. Nothing on a CPU.
OPTIONS = Options()


def set_up(device: str, threads: int) -> str:
    """Choose where to compute, and with how many CPU threads; returns "cpu" or "cuda".

    device: `auto`, `cpu` or `cuda`, and behind a comma each how models run on a GPU, for example
    `auto,channels_last,compile`. Of several GPUs each process of a launch takes its own.
    Raises UserError for an unknown word, and when there is no GPU.
    """
    import torch

    from vlg.workflow import slots

    device, *words = device.split(",")
    known = [field.name for field in fields(Options)]
    for word in words:
        if word not in known:
            raise UserError(f"device: unknown option {word}; one of {', '.join(known)}")
    torch.set_num_threads(threads)
    if (
        device != "cpu" and "LOCAL_RANK" not in os.environ
    ):  # of a launch, the launcher has taken them
        slots.take()
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        if not torch.cuda.is_available():
            raise UserError("device: cuda, but torch sees no GPU; use auto or cpu")
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        set_precision("fp32")
        for word in known:
            setattr(OPTIONS, word, word in words)
    return device


def set_precision(precision: str) -> torch.dtype:
    """How precisely this process computes from now on; returns the dtype for frozen weights.

    fp32: float32 throughout, which torch alone would not do: it rounds what goes into a convolution
    to TF32 (10 bits of mantissa). tf32: float32 with that rounding in matrix products too.
    bf16, fp16: weights and activations of 16 bits, and TF32 for what stays in float32.
    """
    import torch

    kind = "ieee" if precision == "fp32" else "tf32"
    torch.backends.cuda.matmul.fp32_precision = kind
    torch.backends.cudnn.conv.fp32_precision = kind
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)


def autocast(device: str | torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Within: matrix products in bfloat16 if `precision` is bf16, over weights kept in float32."""
    import torch

    return torch.autocast(torch.device(device).type, torch.bfloat16, precision == "bf16")


def place(module: Any, device: str | torch.device, compiled: bool = False) -> Any:
    """Move a model to the device, laid out and, if it pays (`compiled`), compiled as OPTIONS say.

    Only `forward` is compiled: names of weights stay as they are, and hooks stay outside.
    """
    import torch

    module = module.to(device)
    if OPTIONS.channels_last:
        module = module.to(memory_format=torch.channels_last)
    if OPTIONS.vae_slicing and hasattr(module, "enable_slicing"):
        module.enable_slicing()
    if OPTIONS.compile and compiled:
        module.forward = torch.compile(module.forward)
    return module


def waiting(device: str) -> str:
    """Where text encoders are while none reads."""
    return "cpu" if OPTIONS.offload else device


def take_turns(away: Sequence[Any], there: Sequence[Any], device: str) -> None:
    """Move modules from the device into the machine's memory, and others to it."""
    for module in away:
        module.to("cpu")
    for module in there:
        module.to(device)


def send(tensor: torch.Tensor, device: str | torch.device) -> torch.Tensor:
    """The tensor on the device. A GPU copies it when its turn comes; the CPU goes on meanwhile."""
    import torch

    if torch.device(device).type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """x in float32, or unchanged when it is more precise (gradient checks run in float64)."""
    import torch

    return x.to(torch.promote_types(x.dtype, torch.float32))


# --- when memory runs out -----------------------------------------------------------------------


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or on the CPU."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(each in str(error) for each in words)


def release() -> None:
    """Give back what a failed attempt held.

    Call it outside the `except` block: within it, the traceback still holds the attempt's tensors.
    """
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class Parts:
    """Applies a function to a batch, whole or, once memory has run out, in parts.

    Parts are halved until one fits; later batches begin with that size. Files made in parts differ
    from others in last bits only, as with another batch size.

    what: for messages, as in "drawing". Raises UserError when not even one item fits.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.size: int | None = None  # None: no limit is known

    def __call__(self, function: Callable[..., T], *columns: Sequence[Any]) -> list[T]:
        """[function(*columns[begin:end]) for each part in turn]; columns are of equal length."""
        results: list[T] = []
        begin, total = 0, len(columns[0])
        while begin < total:
            size = min(self.size or total, total - begin)
            try:
                with forgotten_on_error():
                    part = function(*(column[begin : begin + size] for column in columns))
                results.append(part)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                if size == 1:
                    raise UserError(
                        f"out of memory in {self.what} one at a time ({first_line(error)}); "
                        "free some, choose another device or a lower precision"
                    ) from error
            else:
                begin += size
                continue
            release()
            self.size = -(-size // 2)
            log.warning(
                "out of memory in %s %d at a time; going on with %d", self.what, size, self.size
            )
        return results


def first_line(error: BaseException) -> str:
    """What an exception says, without the pages that CUDA adds."""
    return str(error).strip().split("\n")[0].split(". ")[0] or type(error).__name__

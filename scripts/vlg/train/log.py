"""What a training run says of itself: rows in CSV files, curves for TensorBoard, sanity checks."""

from __future__ import annotations

import csv
import math
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.errors import UserError

if TYPE_CHECKING:
    import torch

    from vlg.train.loop import Settings

# ru_maxrss is in kB on Linux and in bytes on macOS.
PEAK_UNIT = 2**30 if sys.platform == "darwin" else 2**20


class Log:
    """One row a step in log.csv, one an evaluation in held_out.csv, both also for TensorBoard.

    While the run lasts they are in `folder`, for whoever wants to look. `seconds` counts the
    training steps of the whole chain, without evaluation, saving and start-up; `memory_gb` is the
    most this process has held so far, of the GPU's memory where there is one.
    """

    COLUMNS = {
        "log.csv": (
            "step", "loss", "denoising", "clip", "guide_cosine", "grad_norm", "learning_rate",
            "pictures_per_second", "memory_gb", "seconds",
        ),
        "held_out.csv": ("step", "denoising", "guide_cosine", "grad_denoising", "grad_clip"),
    }  # fmt: skip

    def __init__(
        self, folder: Path, settings: Settings, before: Path | None = None, seconds: float = 0.0
    ) -> None:
        """Begin with the rows of the logs in the state folder `before`."""
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(exist_ok=True)
        self.folder, self.settings, self.seconds = folder, settings, seconds
        self.pending: list[tuple[int, float, torch.Tensor]] = []
        self.last: dict[str, dict[str, float]] = {}
        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        self.events = SummaryWriter(str(folder / "tensorboard"), flush_secs=10)
        self.files = {
            name: open(folder / name, "w", encoding="utf-8", newline="")  # noqa: SIM115
            for name in self.COLUMNS
        }
        for name, columns in self.COLUMNS.items():
            self.files[name].write(",".join(columns) + "\n")
            if before:
                with open(before / name, encoding="utf-8", newline="") as file:
                    for row in csv.DictReader(file):
                        self.write(name, row)
        self.restart_clock()

    def restart_clock(self) -> None:
        """What has passed since the last flush was no training."""
        self.clock = time.monotonic()

    def step(self, step: int, rate: float, numbers: torch.Tensor) -> None:
        """Take a step's learning rate and numbers without waiting for the device.

        numbers: [5], the two loss terms, sum and number of the guide's cosines, gradient norm.
        """
        self.pending.append((step, rate, numbers))

    def flush(self) -> None:
        """Write a row for each pending step. Raises UserError when a number is not sane."""
        import torch

        if not self.pending:
            return
        table = torch.stack([numbers for _, _, numbers in self.pending]).tolist()  # waits for a GPU
        elapsed = (time.monotonic() - self.clock) / len(table)
        memory = peak_memory()
        for (step, rate, _), (denoising, clip, cosines, count, norm) in zip(
            self.pending, table, strict=True
        ):
            self.seconds += elapsed
            check(step, denoising, clip, norm)
            row = {
                "step": step,
                "loss": denoising + self.settings.guide_scale * clip,
                "denoising": denoising,
                "clip": clip if self.settings.guide_scale else math.nan,
                "guide_cosine": cosines / count if count else math.nan,
                "grad_norm": norm,
                "learning_rate": rate,
                "pictures_per_second": self.settings.batch_size / elapsed,
                "memory_gb": memory,
                "seconds": self.seconds,
            }
            self.write("log.csv", row)
        self.pending.clear()
        for file in self.files.values():
            file.flush()
        self.restart_clock()

    def write(self, name: str, row: dict[str, Any]) -> None:
        """Append a row to the file `name`; a NaN is an empty cell."""
        text = {
            key: value if isinstance(value, str | int) else f"{value:.6g}"
            for key, value in row.items()
            if value != "" and not math.isnan(float(value))
        }
        self.last[name] = {key: float(value) for key, value in text.items()}
        cells = (str(text.get(column, "")) for column in self.COLUMNS[name])
        self.files[name].write(",".join(cells) + "\n")
        group = "train" if name == "log.csv" else "held_out"
        for key in text.keys() - {"step"}:
            # at time 0, not now: how long it took is a curve of its own
            self.events.add_scalar(f"{group}/{key}", float(text[key]), int(text["step"]), 0)

    def texts(self) -> dict[str, str]:
        """Both files as they are now."""
        for file in self.files.values():
            file.flush()
        return {name: (self.folder / name).read_text(encoding="utf-8") for name in self.files}

    def close(self) -> None:
        """Close the files; the events get a name without the host's and the time of day."""
        for file in self.files.values():
            file.close()
        self.events.close()
        for events in (self.folder / "tensorboard").iterdir():
            events.rename(events.with_name("events.out.tfevents.0"))


def peak_memory() -> float:
    """Most memory this process has held so far in GB (2^30 bytes): the GPU's if it uses one."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / PEAK_UNIT


def check_held_out(step: int, denoising: float) -> None:
    """Raise UserError when the held-out loss of the weights as they would be written explodes."""
    if not denoising < 100:
        raise UserError(
            f"training: held-out denoising is {denoising:.4g} at step {step}; lower learning_rate "
            "or guide_scale; the last good state is kept"
        )


def check(step: int, denoising: float, clip: float, grad_norm: float) -> None:
    """Raise UserError when a step's numbers are not finite or explode.

    The denoising loss of a UNet that predicts nothing at all is 1; at 100 nothing is learned.
    """
    for name, value, limit in (
        ("denoising", denoising, 100.0),
        ("clip", clip, math.inf),
        ("grad_norm", grad_norm, math.inf),
    ):
        if not value < limit:
            raise UserError(
                f"training: {name} is {value:.4g} at step {step}; lower learning_rate or "
                "guide_scale; the last good state is kept"
            )

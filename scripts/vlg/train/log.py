"""What a training run says of itself: rows in CSV files, curves for TensorBoard, sanity checks."""

from __future__ import annotations

import csv
import math
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from vlg.errors import UserError
from vlg.workflow.processes import memory_mb

if TYPE_CHECKING:
    import torch

    from vlg.train.method import Method

FILES = ("log.csv", "held_out.csv")


class Log:
    """One row a step in log.csv, one an evaluation in held_out.csv, both also for TensorBoard.

    Columns are a method's terms and what it logs. While the run lasts they are in `folder`, for
    whoever wants to look. `seconds` counts the training steps of the whole chain, without
    evaluation, saving and start-up; `memory_gb` is the most this process has held so far, of the
    GPU's memory where there is one.
    """

    def __init__(
        self,
        folder: Path,
        method: Method,
        before: Path | None = None,
        seconds: float = 0.0,
        stops: bool = False,
    ) -> None:
        """Begin with the rows of the logs in the state folder `before`. stops: whether a judge may
        stop the run, whose score is a column."""
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(exist_ok=True)
        self.folder, self.method, self.seconds = folder, method, seconds
        self.columns = columns(method, stops)
        self.pending: list[tuple[int, float, dict[str, float], torch.Tensor]] = []
        self.last: dict[str, dict[str, float]] = {}
        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        self.events = SummaryWriter(str(folder / "tensorboard"), flush_secs=10)
        self.files = {
            name: open(folder / name, "w", encoding="utf-8", newline="")  # noqa: SIM115
            for name in self.columns
        }
        for name, header in self.columns.items():
            self.files[name].write(",".join(header) + "\n")
            if before:
                with open(before / name, encoding="utf-8", newline="") as file:
                    for row in csv.DictReader(file):
                        self.write(name, row)
        self.restart_clock()

    def restart_clock(self) -> None:
        """What has passed since the last flush was no training."""
        self.clock = time.monotonic()

    def step(
        self, step: int, rate: float, weights: dict[str, float], numbers: torch.Tensor
    ) -> None:
        """Take a step's learning rate and numbers without waiting for the device.

        weights: of the terms in the loss. numbers: of each term, in order, its value and then sum
        and number of what each of its logs has; at the end the gradient norm.
        """
        self.pending.append((step, rate, weights, numbers))

    def flush(self) -> None:
        """Write a row for each pending step. Raises UserError when a number is not sane."""
        import torch

        if not self.pending:
            return
        table = torch.stack([numbers for *_, numbers in self.pending]).tolist()  # waits for a GPU
        elapsed = (time.monotonic() - self.clock) / len(table)
        memory = peak_memory()
        for (step, rate, weights, _), numbers in zip(self.pending, table, strict=True):
            self.seconds += elapsed
            values, left = {}, iter(numbers)
            for term, logs in self.method.terms_and_logs.items():
                values[term] = next(left)
                for name in logs:
                    total, count = next(left), next(left)
                    values[name] = total / count if count else math.nan
            norm = next(left)
            check(step, {term: values[term] for term in weights}, norm)
            row = {
                "step": step,
                "loss": sum(weight * values[term] for term, weight in weights.items()),
                **values,
                "grad_norm": norm,
                "learning_rate": rate,
                "pictures_per_second": self.method.settings.batch_size / elapsed,
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
        cells = (str(text.get(column, "")) for column in self.columns[name])
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


def columns(method: Method, stops: bool = False) -> dict[str, list[str]]:
    """{file: its columns}. Where a loss has several terms, the norm of each one's gradient is
    looked at, too."""
    terms = method.terms_and_logs
    values = [name for term, logs in terms.items() for name in (term, *logs)]
    cost = ["grad_norm", "learning_rate", "pictures_per_second", "memory_gb", "seconds"]
    norms = [f"grad_{term}" for term in terms] if len(terms) > 1 else []
    stop = ["stop_score"] if stops else []
    return {
        "log.csv": ["step", "loss", *values, *cost],
        "held_out.csv": ["step", *method.looks, *norms, *stop],
    }


def peak_memory() -> float:
    """Most memory this process has held so far in GB (2^30 bytes): the GPU's if it uses one."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return memory_mb() / 2**10


# The denoising loss of a network that predicts nothing at all is 1; at 100 nothing is learned.
LIMITS = {"denoising": 100.0}


def check_held_out(step: int, denoising: float) -> None:
    """Raise UserError when the held-out loss of the weights as they would be written explodes."""
    if not denoising < LIMITS["denoising"]:
        refuse("held-out denoising", denoising, step)


def check(step: int, terms: dict[str, float], grad_norm: float) -> None:
    """Raise UserError when a step's numbers are not finite or explode."""
    for name, value in {**terms, "grad_norm": grad_norm}.items():
        if not abs(value) < LIMITS.get(name, math.inf):
            refuse(name, value, step)


def refuse(what: str, value: float, step: int) -> NoReturn:
    """Raise the UserError of a run that has lost its way."""
    raise UserError(
        f"training: {what} is {value:.4g} at step {step}; lower learning_rate or the weight of a "
        "guide's term; the last good state is kept"
    )

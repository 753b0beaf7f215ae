"""A training from nothing that can be killed at any time and continued, to the same bits.

What is kept beside the models: of the part of the training that runs, the weights, AdamW's moments,
the average, what is frozen and every random state; of those before it, that they are over.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.train import checkpoints

if TYPE_CHECKING:
    import torch

    from vlg.shapes.pretrain import Average

EVERY = 120.0  # seconds between two states; when one is written changes no result


class Course:
    """Where one training stands; folder: where that is kept, None for nowhere.

    fingerprint: what the training is made of (recipe, code, threads); the state of another one is
    of no use and is deleted.
    """

    def __init__(
        self, folder: Path | None = None, fingerprint: dict[str, Any] | None = None
    ) -> None:
        self.folder, self.fingerprint = folder, fingerprint or {}
        self.seconds = 0.0  # of earlier processes
        self._over: list[str] = []
        self._rng, self._average = random.Random(0), None
        self._others: list[torch.Tensor] = []
        self._groups: dict[str, Any] = {}
        self._counters: dict[str, Any] = {}
        if folder:
            checkpoints.make_clean(folder)
        if folder and (state := checkpoints.newest_state(folder, self.fingerprint)):
            self._groups, self._counters = checkpoints.read_state(state)
            self._over, self.seconds = self._counters["over"], self._counters["seconds"]
        self._begun = self._saved = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds of this training in all processes that worked on it."""
        return self.seconds + time.monotonic() - self._begun

    def follow(
        self,
        rng: random.Random,
        average: Average | None = None,
        others: Sequence[torch.Tensor] = (),
    ) -> None:
        """Keep these, too: what draws samples, the average of the weights, and others: what an
        earlier part has trained and this one reads, or what changes by the way (the statistics of
        batches)."""
        self._rng, self._average, self._others = rng, average, list(others)

    def begin(
        self, name: str, parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer
    ) -> int | None:
        """How many steps of the part `name` are done, all of it as it was then; None if all are."""
        import torch

        if name in self._over:
            return None
        if self._counters.get("name") != name:
            return 0
        with torch.no_grad():
            for index, parameter in enumerate(parameters):
                parameter.copy_(self._groups["weights"][str(index)])
                moments = {key: self._groups[key][str(index)] for key in ("exp_avg", "exp_avg_sq")}
                steps = torch.tensor(float(self._counters["step"]))
                optimizer.state[parameter] = {"step": steps, **moments}
            for index, other in enumerate(self._others):
                other.copy_(self._groups["others"][str(index)])
        if self._average:
            kept = self._groups["average"]
            self._average.values = [kept[str(i)] for i in range(len(kept))]
        torch.set_rng_state(self._groups["random"]["torch"])
        version, state, gauss = self._counters["random"]
        self._rng.setstate((version, tuple(state), gauss))
        return self._counters["step"]

    def end(self, name: str) -> None:
        """The part `name` is over."""
        self._over.append(name)

    def step(
        self,
        name: str,
        step: int,
        parameters: list[torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """`step` steps of the part `name` are done; keep that, if it is time to."""
        import torch

        if self.folder is None or time.monotonic() - self._saved < EVERY:
            return

        def numbered(tensors: Any) -> dict[str, torch.Tensor]:
            return {str(index): each.detach() for index, each in enumerate(tensors)}

        groups = {"weights": numbered(parameters)}
        for key in ("exp_avg", "exp_avg_sq"):
            groups[key] = numbered(optimizer.state[p][key] for p in parameters)
        groups["random"] = {"torch": torch.get_rng_state()}
        if self._average:
            groups["average"] = numbered(self._average.values)
        if self._others:
            groups["others"] = numbered(self._others)
        counters = {
            **self.fingerprint,
            "name": name,
            "step": step,
            "over": self._over,
            "random": self._rng.getstate(),
            "seconds": self.spent,
        }
        state = self.folder / f"step-{len(self._over)}-{step:07d}"
        checkpoints.write_state(state, groups, counters, {})
        for old in checkpoints.saved_states(self.folder)[1:]:
            shutil.rmtree(old)
        self._saved = time.monotonic()

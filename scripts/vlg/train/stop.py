"""Early stopping: a held-out judge looks at development prompts as they are drawn now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.models import noise
from vlg.models.clip import Clip
from vlg.models.device import Parts, autocast, send
from vlg.train.method import replaced
from vlg.train.own import as_bytes
from vlg.train.together import from_first
from vlg.workflow.processes import process

if TYPE_CHECKING:
    from vlg.train.loop import Wanted
    from vlg.train.step import Run


class Stopping:
    """The judge, loaded by the first process alone, which tells the others its score."""

    def __init__(self, folder: Path, wanted: Wanted, run: Run) -> None:
        self.wanted, self.parts = wanted, Parts("drawing development prompts")
        self.judge = Clip(folder, run.device) if process()[0] == 0 else None
        if self.judge:
            self.judge.watch(run.ledger)

    def score(self, run: Run) -> float:
        """Mean 100 cos of the development prompts, drawn by the weights as they would be written
        now, from the noise that all models see."""
        return float(from_first(self._score(run) if self.judge else None))

    def _score(self, run: Run) -> float:
        import torch

        family, how = run.family, self.wanted.sampling
        net = replaced(run.state.net, run.state.best)

        def part(texts: list[str], seeds: list[int]) -> list[float]:
            start = torch.stack(
                [
                    noise.latents(text, seed, family.latent_shape)
                    for text, seed in zip(texts, seeds, strict=True)
                ]
            )
            with torch.no_grad(), autocast(run.device, run.settings.precision):
                guided = how.guidance_scale > 1
                negative = family.condition([""] * len(texts)) if guided else None
                z = family.sample(
                    family.condition(texts), send(start, run.device), how,
                    negative=negative, net=net,
                )  # fmt: skip
                pixels = family.decode(z.float(), exactly=True).float()
            return self.judge.scores(list(as_bytes(pixels)), texts)

        asked = [(text, seed) for seed in self.wanted.seeds for text in self.wanted.prompts]
        size, scores = run.settings.batch_size, []
        for first in range(0, len(asked), size):
            columns = zip(*asked[first : first + size], strict=True)
            scores += [x for each in self.parts(part, *map(list, columns)) for x in each]
        return sum(scores) / len(scores)


def note(run: Run, score: float) -> bool:
    """Take a look's score into the run's state; whether that was one look too many."""
    state, found = run.state, run.state.looked
    if not found or score > found["best"]:
        state.looked = {"best": score, "step": state.step, "since": 0}
        state.kept = {name: weight.detach().clone() for name, weight in state.best.items()}
        return False
    found["since"] += 1
    return found["since"] >= run.settings.stop_patience


def end(run: Run) -> dict[str, Any]:
    """Put the best look's weights in place of what came after; nothing is trained from here on."""
    import torch

    state = run.state
    with torch.no_grad():
        for weights in (state.weights, state.ema):
            for name, weight in weights.items():
                weight.copy_(state.kept[name])
    state.looked["stopped"] = state.step
    return state.looked

"""DDPO (arXiv:2305.13301, the importance-sampling form): drawing as a policy that is rewarded.

In rounds, own samples of a caption are drawn by the stochastic form of the sampler, each step of
which is a Gaussian around a mean mu that the network gives; their scores, less the caption's mean,
over the deviation of all, clipped, are advantages A. A training step takes one step of the sampler
of some samples, z -> z', and with log p = -|z' - mu(z)|^2 / (2 sigma^2), its mean over dimensions,
and r = p / p(as drawn) lowers

    max(-A r, -A clip(r, 1 - clip_range, 1 + clip_range))

The reward needs no gradient. Each step of the sampler is taken as its first one: DDIM at eta 1, or
SDE-DPM-Solver++ of first order, of which the next latents depend on the last alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from vlg.config.keys import short
from vlg.models.device import at_least_float32, send
from vlg.models.noise import generator
from vlg.train import own, rounds
from vlg.train.method import Term
from vlg.train.mixed import Mixed
from vlg.train.rounds import Rounds, advantages

if TYPE_CHECKING:
    import torch

    from vlg.data.source import Source
    from vlg.models.ledger import Ledger
    from vlg.train.method import Net

NEEDS = ("latents", "guide")
DOSE = ("policy_scale", None)


class Settings(rounds.Settings):
    """How far a step may go from what a round was drawn by."""

    clip_range: float = Field(
        0.0001,
        gt=0,
        json_schema_extra=short("range"),
        description="How far the ratio of probabilities may move from 1 in a round; as released.",
    )
    advantage_clip: float = Field(
        5.0,
        gt=0,
        json_schema_extra=short("clip"),
        description="The largest advantage, in deviations from a caption's mean; as released.",
    )
    policy_scale: float = Field(
        1.0, gt=0, json_schema_extra=short("ps"), description="Weight of the policy's loss."
    )


@dataclasses.dataclass
class Moves(Mixed):
    """A batch whose own samples are moves: `own` has the latents before and after a step of the
    sampler, `score` the advantage.

    late: the number of the step, the same in all rows. drawn: [n] log probabilities as drawn.
    """

    late: list[int]
    drawn: torch.Tensor


class DDPO(Rounds):
    """The policy's loss is called `ddpo` and has beside it the advantage, half the squared
    difference of log probabilities since the round was drawn, and whether the ratio is clipped."""

    terms_and_logs = {"denoising": (), "ddpo": ("own_advantage", "own_kl", "own_clipped")}
    settings: Settings

    def prepare(self, net: Net, folders: Mapping[str, Path], ledger: Ledger) -> None:
        super().prepare(net, folders, ledger)
        self.deviations: list[float] = []  # of each step of the sampler; 0 where it is certain

    def before(self, net: Net, data: Source, step: int) -> None:
        if not self.deviations:
            self.deviations = [self.deviation(data, k) for k in range(self.settings.path.steps)]
        super().before(net, data, step)

    def deviation(self, data: Source, step: int) -> float:
        """sigma of a step: how far noise of 1 moves what a network that says 0 gives."""
        import torch
        from torch.utils._pytree import tree_map

        zeros = torch.zeros(1, *data.shape, device=self.family.device)

        def silent(z: object, *arguments: object, **options: object) -> list[object]:
            return [tree_map(torch.zeros_like, z)]

        moved = [
            self.move(silent, data, [0], zeros, step, fresh)
            for fresh in (torch.ones_like(zeros), zeros)
        ]
        return float((moved[0] - moved[1]).mean())

    def move(
        self,
        net: Net,
        data: Source,
        captions: list[int],
        z: torch.Tensor,
        step: int,
        fresh: torch.Tensor,
        grad: int = 0,
    ) -> torch.Tensor:
        """Latents [n, ...] after one step of the sampler; without fresh noise (zeros) its mean."""
        path = self.settings.path
        moved, _ = own.draw(
            *(self.family, net, data, captions, path, z),
            begin=step,
            end=step + 1,
            grad=grad,
            noise=lambda _: fresh,
        )
        return at_least_float32(moved)

    def sampled(
        self, net: Net, data: Source, captions: list[int], places: list[int], number: int
    ) -> Sequence[torch.Tensor]:
        """(finished latents [n, ...], those before each step and the finished ones [n, K + 1, ...],
        log probabilities of the steps [n, K])."""
        import torch

        z = self.start(data, places, number)
        path, logs = [z], []
        for step in range(self.settings.path.steps):
            keys = [("own step", self.settings.seed, number, place, step) for place in places]
            noise = torch.stack([torch.randn(data.shape, generator=generator(*k)) for k in keys])
            z = self.move(net, data, captions, z, step, send(noise, self.family.device))
            path.append(z)
            logs.append(-noise.square().mean(dim=(1, 2, 3)) / 2)
        return z, torch.stack(path, dim=1), torch.stack(logs, dim=1)

    def kept(
        self,
        captions: list[int],
        latents: torch.Tensor,
        scores: torch.Tensor,
        *more: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        import torch

        path, logs = more
        most = self.settings.advantage_clip
        return {
            "captions": torch.tensor(captions)[:, None].expand(scores.shape).flatten(),
            "latents": path.flatten(0, 1),
            "logs": logs.flatten(0, 1),
            "score": advantages(scores).clamp(-most, most).flatten(),
        }

    def late(self, step: int) -> int:
        """Which step of the sampler a training step looks at: one that is not certain."""
        import torch

        uncertain = [k for k, sigma in enumerate(self.deviations) if sigma > 0]
        g = generator("own late", self.settings.seed, step)
        return uncertain[int(torch.randint(len(uncertain), (1,), generator=g))]

    def shown(self, rows: list[int], step: int) -> torch.Tensor:
        late = self.late(step)
        return self.pool["latents"][rows, late : late + 2]

    def batch(self, data: Source, step: int) -> Moves:
        batch, late = super().batch(data, step), self.late(step)
        drawn = batch.score.new_zeros(len(batch))
        drawn[batch.rows(chosen=True)] = self.pool["logs"][self.rows(step), late]
        fields = (getattr(batch, field.name) for field in dataclasses.fields(batch))
        return Moves(*fields, [late] * len(batch), drawn)

    def terms(self, net: Net, batch: Moves) -> dict[str, Term]:
        s = self.settings
        data, chosen = batch.rows(chosen=False), batch.rows(chosen=True)
        parts = {}
        if data:
            parts["denoising"] = self.denoising(self.predict(net, batch.take(data))).values
        if chosen:
            parts["ddpo"], logs = self.of_moves(net, batch.take(chosen))
        none = next(iter(parts.values()))[:0]
        if not chosen:
            logs = dict.fromkeys(self.terms_and_logs["ddpo"], none.detach())
        return {
            "denoising": Term(parts.get("denoising", none), s.denoising_scale),
            "ddpo": Term(parts.get("ddpo", none), s.policy_scale, logs),
        }

    def of_moves(self, net: Net, some: Moves) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """(the policy's loss of each move [m], what is logged of it)."""
        import torch

        s, device, late = self.settings, self.family.device, some.late[0]
        z, after = (send(some.own[:, i], device) for i in (0, 1))
        mean = self.move(net, some.data, some.captions, z, late, torch.zeros_like(z), grad=1)
        apart = (after - mean) / self.deviations[late]
        moved = -apart.square().mean(dim=(1, 2, 3)) / 2 - send(some.drawn, device)
        ratio, advantage = moved.exp(), send(some.score, device)
        clipped = ratio.clamp(1 - s.clip_range, 1 + s.clip_range)
        loss = torch.maximum(-advantage * ratio, -advantage * clipped)
        logs = {
            "own_advantage": advantage,
            "own_kl": moved.detach().square() / 2,
            "own_clipped": (clipped != ratio).detach().to(ratio.dtype),
        }
        return loss, logs

"""Diffusion-DPO (arXiv:2311.12908, equation 14): the better of two own samples before the worse.

The rule `pairs` has drawn several samples of each of some captions by the base and scored them; the
best and the worst of a caption are a pair. Both get the same noise and timestep; with e the squared
error of a prediction, weighted as the denoising loss is (`min_snr_gamma`, the paper's omega, which
it leaves constant), and e_ref that of the base's prediction,

    -log sigmoid(beta ((e_ref - e)(better) - (e_ref - e)(worse)))

counts 1 / beta, so that its gradient is of the size of the denoising loss's, which stands beside it
on rows of data.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from vlg.config import sections
from vlg.config.keys import short
from vlg.errors import UserError
from vlg.files import read_json
from vlg.models.device import send
from vlg.train import batches, mixed
from vlg.train.method import Method, Term, replaced, snapshot
from vlg.train.mixed import Mixed, mix, walked
from vlg.train.pairs import read

if TYPE_CHECKING:
    import torch

    from vlg.data.source import Source
    from vlg.models.ledger import Ledger
    from vlg.train.batches import Batch
    from vlg.train.method import Net

NEEDS = ("latents", "pairs")
DOSE = ("beta", 2500.0)


class Settings(mixed.Settings):
    """Which pairs there are, and how near the base a model stays."""

    pair_captions: int = Field(
        256,
        ge=1,
        json_schema_extra=short("m"),
        description="Captions of the data that are drawn for pairs, at most.",
    )
    pair_samples: int = Field(
        4, ge=2, json_schema_extra=short("n"), description="Own samples of each of them."
    )
    margin: float = Field(
        0.0,
        ge=0,
        json_schema_extra=short("margin"),
        description=(
            "The least difference of a pair's scores (cosines, or shares of facts); pairs that are "
            "nearer are left out."
        ),
    )
    beta: float = Field(
        2500.0,
        gt=0,
        json_schema_extra=short("b"),
        description=(
            "How strongly a model is held to the base; 2500 is that of diffusers' example, the "
            "paper has 2000 for Stable Diffusion 1.5."
        ),
    )

    def pairs(self) -> sections.Pairs:
        return sections.Pairs(
            pair_captions=self.pair_captions,
            pair_samples=self.pair_samples,
            reward=self.reward,
            **self.path.model_dump(),
        )


class DPO(Method):
    """The term is called `dpo`, and has beside it whether the pair is told apart rightly, and by
    how much the better one's error fell, and the worse one's."""

    terms_and_logs = {"denoising": (), "dpo": ("pair_right", "better_gain", "worse_gain")}
    settings: Settings

    def prepare(self, net: Net, folders: Mapping[str, Path], ledger: Ledger) -> None:
        if "pairs" not in folders:
            raise UserError("--folder pairs=PATH: missing; give the folder that pairs.py wrote")
        self.folder = folders["pairs"]
        self.costs = {"pairs": read_json(self.folder / "index.json")["cost"]}
        self.base = snapshot(net)
        self.pool: tuple[list[int], torch.Tensor, torch.Tensor] | None = None

    def before(self, net: Net, data: Source, step: int) -> None:
        """Read the pairs once: (captions [k], latents [k, 2, c, h, w], score differences [k])."""
        if self.pool is not None:
            return
        import torch

        captions, latents, scores = read(self.folder, data)
        best, worst = scores.argmax(dim=1), scores.argmin(dim=1)
        every = torch.arange(len(captions))
        apart = scores[every, best] - scores[every, worst]
        kept = ((apart > 0) & (apart >= self.settings.margin)).nonzero()[:, 0]
        if not len(kept):
            raise UserError(
                f"finetune.margin: {self.settings.margin} is above all differences of scores, at "
                f"most {apart.max():.3g}; lower it"
            )
        pairs = torch.stack([latents[every, best], latents[every, worst]], dim=1)
        self.pool = [captions[i] for i in kept.tolist()], pairs[kept], apart[kept]

    def batch(self, data: Source, step: int) -> Mixed:
        s, (captions, pairs, apart) = self.settings, self.pool
        rows = walked(len(captions), step * s.number, s.number, "pairs", s.seed)
        batch = batches.draw(data, s, step, self.family)
        return mix(batch, [captions[i] for i in rows], pairs[rows], apart[rows])

    def terms(self, net: Net, batch: Mixed) -> dict[str, Term]:
        import torch
        from torch.nn.functional import logsigmoid

        s, device = self.settings, self.family.device
        data, own = batch.rows(chosen=False), batch.rows(chosen=True)
        some = batch.take(own)
        if own:
            z0 = torch.cat([batch.latents(device), send(some.own[:, 1], device)])
            now = self.errors(net, batch, z0, [*range(len(batch)), *own])
            pairs = send(some.own.transpose(0, 1).flatten(0, 1), device)
            with torch.no_grad():
                base = self.errors(replaced(net, self.base), some, pairs, [*range(len(own))] * 2)
        else:  # a part of the batch that is data alone
            now = self.errors(net, batch, batch.latents(device), [*range(len(batch))])
            base = now[:0].detach()
        better, worse = now[own], now[len(batch) :]
        gains = [was - error for was, error in zip(base.chunk(2), (better, worse), strict=True)]
        apart = gains[0] - gains[1]
        logs = {
            "pair_right": (apart.detach().sign() + 1) / 2,
            "better_gain": gains[0].detach(),
            "worse_gain": gains[1].detach(),
        }
        return {
            "denoising": Term(now[data], s.denoising_scale),
            "dpo": Term(-logsigmoid(s.beta * apart), 1 / s.beta, logs),
        }

    def errors(self, net: Net, batch: Batch, z0: torch.Tensor, rows: list[int]) -> torch.Tensor:
        """Errors [m] of predictions for latents z0 [m, ...], noised and captioned as `rows` are."""
        family, device = self.family, self.family.device
        noise, t = send(batch.noise[rows], device), send(batch.timesteps[rows], device)
        told = {name: value[rows] for name, value in batch.condition(device).items()}
        predicted = family.predict(net, family.noised(z0, noise, t), t, told)
        target = family.target(z0, noise, t)
        return family.denoising(predicted, target, t, self.settings.min_snr_gamma)

    @property
    def looks(self) -> list[str]:
        return self.compared

    def held_out(self, net: Net, batch: Batch) -> dict[str, torch.Tensor]:
        """Pairs are looked at in the steps; here is what can be compared."""
        return self.comparable(net, batch)

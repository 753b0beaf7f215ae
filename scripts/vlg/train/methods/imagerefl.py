"""ImageReFL (arXiv:2505.22569): the guide on pictures of the data, drawn anew from a late step on.

The latents of a data picture are noised to a late step of the sampler, drawn on under its caption
to a random later one without gradient, and estimated there, from a prediction with gradient, for
the guide to see. The denoising loss is on the same noised latents. `refl_every` makes every so many
steps one of ReFL, which draws from noise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from vlg.config.keys import NEUTRAL, disagree, short
from vlg.train import own, reward
from vlg.train.reward import Drawn, Rewarded

if TYPE_CHECKING:
    import torch

    from vlg.data.source import Source
    from vlg.models.ledger import Ledger
    from vlg.train.method import Net

NEEDS = ("latents", "guide")
DOSE = ("guide_scale", 100.0)


class Settings(reward.Late):
    """From where pictures are drawn anew."""

    data_from: float = Field(
        0.75,
        ge=0,
        lt=1,
        json_schema_extra=short("from"),
        description=(
            "Pictures of the data are noised to the step behind this share of the sampler's; 0.75 "
            "is the released config's, step 30 of 40. At most `late_from`."
        ),
    )
    refl_every: int | None = Field(
        None,
        ge=1,
        json_schema_extra=NEUTRAL | short("re"),
        description="Every so many steps one draws from noise, as `refl` does; null: none does.",
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.data_from > self.late_from:
            raise disagree(
                "data_from", f"{self.data_from} is behind late_from ({self.late_from})", "lower it"
            )
        return self

    @property
    def first(self) -> int:
        """The step of the sampler that pictures are noised to."""
        return int(self.data_from * self.sampling.steps)


@dataclasses.dataclass
class Redrawn(Drawn):
    """from_noise: whether drawing begins from noise, the same in all rows."""

    from_noise: list[bool]


class ImageReFL(Rewarded):
    """See above."""

    settings: Settings

    def prepare(self, net: Net, folders: Mapping[str, Path], ledger: Ledger) -> None:
        super().prepare(net, folders, ledger)
        self.path = self.family.path(self.settings.path)

    def late(self, number: float) -> int:
        return self.settings.late(number)

    def batch(self, data: Source, step: int) -> Redrawn:
        """All at one timestep, that of the step which pictures are noised to."""
        s, drawn = self.settings, super().batch(data, step)
        drawn.timesteps.fill_(self.path[s.first])
        from_noise = s.refl_every is not None and (step + 1) % s.refl_every == 0
        columns = (getattr(drawn, field.name) for field in dataclasses.fields(drawn))
        return Redrawn(*columns, [from_noise] * len(drawn))

    def cosines(self, net: Net, batch: Redrawn) -> torch.Tensor:
        family, device, begin = self.family, self.family.device, self.settings.first
        if batch.from_noise[0]:
            z, begin = batch.start.to(device), 0
        else:
            z0, noise = batch.latents(device), batch.noise.to(device)
            z = family.noised(z0, noise, batch.timesteps.to(device))
        _, estimate = own.draw(
            family, net, batch.data, batch.captions, self.settings.path, z,
            begin=begin, end=batch.late[0] + 1, grad=1,
        )  # fmt: skip
        return self.seen(estimate, batch)

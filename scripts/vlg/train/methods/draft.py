"""DRaFT-K and DRaFT-LV (arXiv:2309.17400): the guide's gradient through the last sampling steps.

A caption is drawn whole, as the study draws it, with gradient through the last K steps. With
`low_variance: n` the finished latents, taken as given, are noised anew n times to the last step's
timestep and estimated again from there; the gradient is the mean over these and the path's own
(algorithm 1 of the paper).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from vlg.config.keys import NEUTRAL, disagree, short
from vlg.train import own, reward
from vlg.train.reward import EVERY, SHARE, Drawn, Rewarded

if TYPE_CHECKING:
    import torch

    from vlg.train.method import Net

NEEDS = ("latents", "guide")
DOSE = ("guide_scale", 100.0)


class Settings(reward.Settings):
    """How far back the gradient goes."""

    own_share: float = Field(0.25, gt=0, le=1, json_schema_extra=short("os"), description=SHARE)
    own_every: int = Field(4, ge=1, json_schema_extra=short("oe"), description=EVERY)
    last_steps: int = Field(
        1,
        ge=1,
        json_schema_extra=short("k"),
        description=(
            "Steps of the sampler, the last ones, that the gradient goes through; each keeps its "
            "activations, unless `gradient_checkpointing` computes them again."
        ),
    )
    low_variance: int = Field(
        0,
        ge=0,
        json_schema_extra=NEUTRAL | short("lv"),
        description=(
            "Further estimates of the gradient per own sample, from new noise at the last step "
            "(DRaFT-LV; the paper has 2); for `last_steps: 1`."
        ),
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.last_steps > self.sampling.steps:
            raise disagree(
                "last_steps",
                f"{self.last_steps} of the {self.sampling.steps} steps of generate.steps",
                f"use at most {self.sampling.steps}",
            )
        if self.low_variance and self.last_steps > 1:
            raise disagree(
                "low_variance", f"is for last_steps: 1, got {self.last_steps}", "set one of them"
            )
        return self


class DRaFT(Rewarded):
    """See above."""

    settings: Settings

    @property
    def noises(self) -> int:
        return self.settings.low_variance

    def cosines(self, net: Net, batch: Drawn) -> torch.Tensor:
        s, family = self.settings, self.family
        if s.gradient_checkpointing:
            net = recomputed(net)
        start, captions = batch.start.to(family.device), batch.captions
        z, _ = own.draw(family, net, batch.data, captions, s.path, start, grad=s.last_steps)
        found = [self.seen(z, batch)]
        t = batch.timesteps.new_full((len(z),), family.path(s.path)[-1]).to(family.device)
        for number in range(s.low_variance):
            z_t = family.noised(z.detach(), batch.again[:, number].to(family.device), t)
            _, estimate = own.draw(
                family, net, batch.data, captions, s.path, z_t, begin=s.path.steps - 1, grad=1
            )
            found.append(self.seen(estimate, batch))
        return sum(found) / len(found)


def recomputed(net: Net) -> Net:
    """The network, each call of which is computed again in the backward pass: of a path of several
    steps its latents alone are kept."""
    from torch.utils.checkpoint import checkpoint

    def called(*arguments: Any, **options: Any) -> Any:
        return checkpoint(net, *arguments, use_reentrant=False, **options)

    return called

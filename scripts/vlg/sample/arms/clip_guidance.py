"""Guidance by the gradient of the guide on the estimate of the clean picture, at each step.

Forward universal guidance (Bansal et al., arXiv:2302.07121): with z0_hat the estimate of the clean
latents from the prediction at z_t, the predicted noise becomes

    eps_hat - scale * sigma_t * grad_{z_t} 100 cos(guide's embedding of D(z0_hat), of the prompt)

where sigma_t is the standard deviation of the noise in z_t; that is, scale * grad is added to the
score of p(z_t). What the network predicts, noise or v, is the family's matter (`Step.shift`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from vlg.config import sections
from vlg.config.keys import disagree
from vlg.sample.arm import Arm, Before, Drawn, choose

if TYPE_CHECKING:
    from vlg.models.family import Step
    from vlg.models.guide import Guide
    from vlg.sample.sampler import Sampler

NEEDS = ("guide",)
ROUNDS = 1
DOSE = ("scale", 2.0)


class Settings(sections.ArmKeys):
    """How strongly, and when."""

    scale: float = Field(
        2.0,
        ge=0,
        description=(
            "Weight of the gradient of 100·cos; 2 is the default of the paper's released code for "
            "guidance by a CLIP, 0 is plain drawing at the cost of this."
        ),
    )
    window: tuple[sections.Share, sections.Share] = Field(
        (0.0, 1.0),
        description=(
            "Between which shares of the steps, 0 (noise) to 1 (clean), the guide is asked; all "
            "steps in the paper."
        ),
    )

    @model_validator(mode="after")
    def _window_rises(self) -> Self:
        first, last = self.window
        if first >= last:
            raise disagree("window", f"must rise, got [{first}, {last}]", "write [0, 1] for all")
        return self


class ClipGuidance(Arm):
    """Every step in the window has a pass back through guide, decoder and network."""

    settings: Settings

    def draw(self, sampler: Sampler, guide: Guide, before: Before) -> Drawn:
        first, last = (round(share * sampler.settings.steps) for share in self.settings.window)

        def steer(texts: list[str], seeds: list[int]) -> Mapping[str, Any]:
            wanted = guide.encode_text(texts)

            def on_step(step: Step) -> None:
                if first <= step.index < last:
                    step.shift(self.settings.scale * gradient(step, guide, wanted))

            return {"on_step": on_step, "grad": "step"}

        images = sampler.draw(before.texts, before.seeds, before.noise, steer=steer)
        return choose(guide, before, images)


def gradient(step: Step, guide: Guide, wanted: Any) -> Any:
    """grad_{z_t} of 100 cos between the estimated pictures and unit embeddings `wanted` [n, d]."""
    import torch

    from vlg.models.cosines import latent_cosines

    seen = latent_cosines(step.family, guide, step.estimate, wanted)
    return torch.autograd.grad(100 * seen.sum(), step.z)[0].float()

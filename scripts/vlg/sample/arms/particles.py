"""Feynman-Kac steering (Singhal et al., arXiv:2501.06848): particles that are resampled on the way.

Of each picture several particles are drawn by the stochastic form of the sampler. At steps of the
schedule r, the guide's cosine for what a particle's clean picture is estimated to be, gives each a
weight, by which the particles that go on are drawn with replacement. With r_ the one at the
resampling before (0 at first):

    diff   exp(reward_scale (r - r_))
    max    exp(reward_scale max(r, r_)), and that maximum is kept as r_ of the next
    sum    exp(reward_scale (r + r_)), and that sum is kept

Of the finished particles the guide keeps the best.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from vlg.config import sections
from vlg.config.keys import disagree
from vlg.sample.arm import Arm, Before, Drawn, keep

if TYPE_CHECKING:
    import torch

    from vlg.models.family import Step
    from vlg.models.guide import Guide
    from vlg.sample.sampler import Sampler

NEEDS = ("guide",)
ROUNDS = 1
DOSE = ("reward_scale", 10.0)


class Settings(sections.ArmKeys):
    """How many particles, how they are weighted, and when. The defaults are those of the released
    code; its schedule, every 20th of 100 steps from the 20th to the 80th, is a fifth of the steps.
    """

    particles: int = Field(4, ge=2, description="Particles of each picture.")
    potential: Literal["diff", "max", "sum"] = Field(
        "max", description="What weighs a particle: the rise, the highest, or the sum of rewards."
    )
    reward_scale: float = Field(
        10.0,
        ge=0,
        description=(
            "λ of the weights, times the guide's cosine; 0 resamples blindly. Published for "
            "ImageReward, whose scores spread by about 1, a cosine's by a few hundredths."
        ),
    )
    resample_every: float = Field(
        0.2, gt=0, le=1, description="Share of the steps between two resamplings."
    )
    window: tuple[sections.Share, sections.Share] = Field(
        (0.2, 0.8),
        description="Share of the steps, of 0 (noise) to 1 (clean), at which the first and the "
        "last resampling are.",
    )

    @model_validator(mode="after")
    def _window_rises(self) -> Self:
        first, last = self.window
        if first > last:
            raise disagree(
                "window", f"must rise, got [{first}, {last}]", f"write [{last}, {first}]"
            )
        return self

    def steps(self, number: int) -> list[int]:
        """At which of `number` steps particles are resampled."""
        first, last = (round(share * number) for share in self.window)
        stride = max(1, round(self.resample_every * number))
        return [step for step in range(first, last + 1, stride) if step < number]


class Particles(Arm):
    """The particles of a picture stand side by side in the batch."""

    settings: Settings

    def __init__(self, settings: sections.ArmKeys) -> None:
        super().__init__(settings)
        self.samples = self.settings.particles

    def draw(self, sampler: Sampler, guide: Guide, before: Before) -> Drawn:
        import numpy as np

        from vlg.models.cosines import guide_scores

        def part(texts: list[str], seeds: list[int]) -> np.ndarray:
            return self.steered(sampler, guide, texts, seeds, before.noise)

        number = self.settings.particles
        # [pictures, particles, height, width, 3]
        many = np.concatenate(sampler.parts(part, before.texts, before.seeds))
        texts = [text for text in before.texts for _ in range(number)]
        scores = np.reshape(
            guide_scores(guide, many.reshape(-1, *many.shape[2:]), texts), (-1, number)
        )
        best = scores.argmax(axis=1)
        rows = range(len(best))
        return keep(before, many[rows, best], scores[rows, best].tolist())

    def steered(
        self, sampler: Sampler, guide: Guide, texts: list[str], seeds: list[int], purpose: str
    ) -> Any:
        """All particles of these pictures, (n, particles, height, width, 3) uint8."""
        import torch

        from vlg.models.cosines import latent_cosines

        s, family = self.settings, sampler.family
        n, number = len(texts), s.particles
        pairs = list(zip(texts, seeds, strict=True))
        wanted = guide.encode_text(texts).repeat_interleave(number, 0)
        asked = s.steps(sampler.settings.steps)
        rewards = torch.zeros(n, number)

        def each(what: str) -> torch.Tensor:
            """Noise of every particle: of the first one at the start that of a plain picture."""
            keys = [purpose, *(f"{purpose}-particle-{i}" for i in range(1, number))]
            drawn = [sampler.latents(texts, seeds, f"{key}{what}") for key in keys]
            return torch.stack(drawn, 1).flatten(0, 1)

        def on_step(step: Step) -> None:
            nonlocal rewards
            if step.index not in asked:
                return
            seen = latent_cosines(family, guide, step.estimate, wanted).cpu().view(n, number)
            kept, weights = potential(s.potential, s.reward_scale, seen, rewards)
            chosen = [
                drawn(weights[i], f"{purpose}-resampling-{step.index}", *pair)
                for i, pair in enumerate(pairs)
            ]
            rows = torch.stack(chosen)
            rewards = kept.gather(1, rows)
            step.resample((rows + number * torch.arange(n)[:, None]).flatten().to(step.z.device))

        more: Mapping[str, Any] = {
            "on_step": on_step,
            "noise": lambda index: each(f"-step-{index}"),
        }
        words = [text for text in texts for _ in range(number)]
        numbers = [seed for seed in seeds for _ in range(number)]
        images = sampler.finish(words, numbers, each(""), **more)
        return images.reshape(n, number, *images.shape[1:])


def potential(
    kind: str, scale: float, rewards: torch.Tensor, before: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(what is kept as reward of each particle, its weight), [n, particles] both.

    A weight is a probability: only its share among a picture's particles counts.
    """
    import torch

    if kind == "max":
        kept = weighed = torch.maximum(rewards, before)
    elif kind == "sum":
        kept = weighed = rewards + before
    else:
        kept, weighed = rewards, rewards - before
    return kept, (scale * weighed).softmax(dim=1)


def drawn(weights: torch.Tensor, purpose: str, text: str, seed: int) -> torch.Tensor:
    """As many particles as there are, [particles] indices, each by its weight."""
    import torch

    from vlg.models.noise import generator

    random = generator(purpose, text, seed)
    return torch.multinomial(weights, len(weights), replacement=True, generator=random)

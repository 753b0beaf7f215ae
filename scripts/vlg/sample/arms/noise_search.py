"""Search over the noise that a picture begins from (Ma et al., arXiv:2501.09732).

Each round draws `candidates` more pictures of each, and the guide keeps the best of them and of
what stands. Random search begins each candidate from fresh noise. Zero-order search begins it from
a neighbour of the noise of what stands, at the cosine `nearness` to it and of the same length. The
first round goes on from the plain picture and its noise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from vlg.config import sections
from vlg.sample.arm import Arm, Before, Drawn, keep

if TYPE_CHECKING:
    import torch

    from vlg.models.guide import Guide
    from vlg.sample.sampler import Sampler

NEEDS = ("guide", "pictures")
ONE_A_ROUND = False
DOSE = ("rounds", None)

# The noise of what stands, as JSON: the (round, candidate) of the fresh noise it began from, [0, 0]
# of the plain one, and behind it those of the neighbours that were gone to.
Path = list[list[int]]


class Settings(sections.ArmKeys):
    """Where candidates begin, and how many there are."""

    search: Literal["zero_order", "random"] = Field(
        "zero_order",
        description="From neighbours of the best noise so far, or from fresh noise.",
    )
    candidates: int = Field(
        4, ge=1, description="Pictures drawn of each in a round; 4 in the released code."
    )
    nearness: sections.Share = Field(
        0.95,
        description=(
            "Of zero-order search: cosine between the noise of what stands and a neighbour's; "
            "0.95 in the released code."
        ),
    )


class NoiseSearch(Arm):
    """The state of a picture between rounds is the path to its noise."""

    settings: Settings

    def draw(self, sampler: Sampler, guide: Guide, before: Before) -> Drawn:
        from vlg.models.cosines import guide_scores

        texts, seeds = before.texts, before.seeds
        stands = Drawn(before.images, before.scores, [False] * len(texts))
        paths: list[Path] = before.states or [[[0, 0]] for _ in texts]
        found = list(paths)
        for number in range(1, self.settings.candidates + 1):
            moves = [self.move(path, before.number, number) for path in paths]
            images = self.pictures(sampler, texts, seeds, moves)
            now = Before(before.number, before.pictures, stands.images, stands.scores)
            best = keep(now, images, guide_scores(guide, images, texts))
            found = [m if new else f for m, f, new in zip(moves, found, best.accepted, strict=True)]
            ever = [a or b for a, b in zip(stands.accepted, best.accepted, strict=True)]
            stands = Drawn(best.images, best.scores, ever)
        return Drawn(stands.images, stands.scores, stands.accepted, found)

    def move(self, path: Path, number: int, candidate: int) -> Path:
        """The path to a candidate of round `number`."""
        last = [number, candidate]
        return [last] if self.settings.search == "random" else [*path, last]

    def pictures(
        self, sampler: Sampler, texts: list[str], seeds: list[int], paths: list[Path]
    ) -> Any:
        """Pictures from the noise at the ends of paths."""
        import numpy as np
        import torch

        from vlg.models.device import send

        def part(texts: list[str], seeds: list[int], paths: list[Path]) -> np.ndarray:
            family = sampler.family
            noise = [
                self.noise(path, text, seed, family.latent_shape)
                for path, text, seed in zip(paths, texts, seeds, strict=True)
            ]
            latents = send(torch.stack(noise).to(family.dtype), family.device)
            return sampler.finish(texts, seeds, latents)

        return np.concatenate(sampler.parts(part, texts, seeds, paths))

    def noise(self, path: Path, text: str, seed: int, shape: tuple[int, ...]) -> torch.Tensor:
        """The noise at the end of a path, without a batch dimension."""
        from vlg.models import noise

        first, *others = path
        purpose = "latents" if first == [0, 0] else f"refine-{first[0]}-{first[1]}"
        pivot = noise.latents(text, seed, shape, purpose)
        for number, candidate in others:
            drawn = noise.latents(text, seed, shape, f"refine-{number}-{candidate}")
            pivot = neighbour(pivot, drawn, self.settings.nearness)
        return pivot


def neighbour(pivot: torch.Tensor, drawn: torch.Tensor, nearness: float) -> torch.Tensor:
    """What has the length of `pivot` and the cosine `nearness` to it, on the side of `drawn`."""
    p, v = pivot.double(), drawn.double()
    length = p.norm()
    along = p / length
    across = v - (v * along).sum() * along
    across = across / across.norm()
    moved = length * (nearness * along + math.sqrt(1 - nearness**2) * across)
    return moved.to(pivot.dtype)

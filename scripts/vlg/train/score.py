"""Rewards that need no gradient: what own samples are ranked by."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vlg import plugins
from vlg.config import sections
from vlg.config.keys import NEUTRAL
from vlg.errors import UserError
from vlg.models.device import at_least_float32

if TYPE_CHECKING:
    import torch

    from vlg.data.source import Source
    from vlg.models.guide import Guide

    # (data, rows of its captions [n], pictures [n, 3, h, w] in 0..1) -> [n] on the CPU
    Score = Callable[[Source, list[int], torch.Tensor], torch.Tensor]


class Scored(sections.Sampled):
    """Of a method that ranks own samples."""

    reward: Literal["guide", "verifier"] = Field(
        "guide",
        json_schema_extra=NEUTRAL,
        description=(
            "What ranks own samples: the guide's cosine with the caption, or, in the shapes world, "
            "the verifier's share of true facts: an oracle, which no other world has."
        ),
    )

    def found(self) -> list[tuple[str, str]]:
        return sections.VERIFIER if self.reward == "verifier" else []


def scorer(reward: str, guide: Guide) -> Score:
    """The function that a setting names."""
    import torch

    def by_guide(data: Source, captions: list[int], pictures: torch.Tensor) -> torch.Tensor:
        wanted = data.guide_captions(captions).to(pictures.device)
        with torch.no_grad():
            seen = at_least_float32(guide.encode_image(pictures))
        return (seen * wanted).sum(dim=1).cpu()

    def by_verifier(data: Source, captions: list[int], pictures: torch.Tensor) -> torch.Tensor:
        check = plugins.load("shapes", "verify").check
        images = (pictures * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        said = [meaning(data.listing.captions[row]) for row in captions]
        found = [check(image, each)["fidelity"] for image, each in zip(images, said, strict=True)]
        return torch.tensor(found, dtype=torch.float32)

    return by_verifier if reward == "verifier" else by_guide


def meaning(caption: str) -> object:
    """What a caption of the shapes world claims."""
    said = plugins.load("shapes", "captions").parse(caption)
    if said is None:
        raise UserError(
            f"finetune.reward: the verifier cannot read the caption {caption!r}; it knows those of "
            "the shapes world alone, use reward: guide"
        )
    return said

"""Rewards that need no gradient: what own samples are ranked by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from vlg import plugins
from vlg.config import sections
from vlg.config.keys import NEUTRAL, disagree
from vlg.errors import UserError
from vlg.models import function
from vlg.models.device import at_least_float32
from vlg.train import own

if TYPE_CHECKING:
    import torch

    from vlg.data.source import Source
    from vlg.models.guide import Guide

    # (data, rows of its captions [n], pictures [n, 3, h, w] in 0..1) -> [n] on the CPU
    Score = Callable[[Source, list[int], torch.Tensor], torch.Tensor]


class Scored(sections.Sampled):
    """Of a method that ranks own samples."""

    reward: str = Field(
        "guide", min_length=1, json_schema_extra=NEUTRAL, description=sections.REWARD
    )

    def found(self) -> list[tuple[str, str]]:
        return super().found() + sections.REWARDS.get(self.reward, [])

    def files(self) -> list[Path]:
        return files_of(self.reward)

    def check(self, root: Path) -> None:
        super().check(root)
        for file in self.files():
            if not (root / file).is_file():
                raise disagree(
                    "reward",
                    f"{self.reward!r} is neither guide nor verifier nor module.function",
                    "write one of them; the module lies in the folder in which Snakemake runs",
                )


def files_of(reward: str) -> list[Path]:
    """The file of a function of one's own."""
    return [] if reward in sections.REWARDS else [function.file_of(reward)]


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
        images = own.as_bytes(pictures)
        said = [meaning(data.listing.captions[row]) for row in captions]
        found = [check(image, each)["fidelity"] for image, each in zip(images, said, strict=True)]
        return torch.tensor(found, dtype=torch.float32)

    if reward == "guide":
        return by_guide
    if reward == "verifier":
        return by_verifier
    judged = function.Function(reward, "finetune.reward")

    def by_function(data: Source, captions: list[int], pictures: torch.Tensor) -> torch.Tensor:
        texts = [data.listing.captions[row] for row in captions]
        return torch.tensor(judged(list(own.as_bytes(pictures)), texts), dtype=torch.float32)

    return by_function


def meaning(caption: str) -> object:
    """What a caption of the shapes world claims."""
    said = plugins.load("shapes", "captions").parse(caption)
    if said is None:
        raise UserError(
            f"finetune.reward: the verifier cannot read the caption {caption!r}; it knows those of "
            "the shapes world alone, use reward: guide"
        )
    return said

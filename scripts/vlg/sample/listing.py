"""What is drawn: which pictures a model needs at a stage, in which order, in which shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from vlg.config import sections
from vlg.config.keys import Keys
from vlg.config.layout import BASE


class Stage(Keys):
    """Which pictures a job of plain drawing has, and how it draws."""

    model: str = Field(BASE, description="Name of the model, `base` or `<variant>-<step>`.")
    stage: Literal["selection", "final"] = Field(
        "selection", description="Of two in which the base is drawn; all others have `final`."
    )
    selection: list[sections.Seed] = Field([0, 1], description="`seeds.selection`.")
    fresh: list[sections.Seed] = Field([], description="`seeds.fresh`, at the stage `final`.")
    shard: int = Field(0, ge=0, description="Number of the shard.")
    shard_size: int = Field(500, ge=1, description="Pictures in a shard.")
    sampling: sections.Sampling = sections.Sampling()


@dataclass(frozen=True)
class Picture:
    """One picture to draw: a prompt (its id and text) with a seed, in a set (study, rest, hard)."""

    id: str
    prompt: str
    seed: int
    set: str

    @property
    def file_name(self) -> str:
        # Never made from the prompt: prompts hold slashes, quotes and worse.
        return f"{self.seed}-{self.id}.png"


def listing(
    prompts: Sequence[Mapping[str, str]],
    hard: Sequence[Mapping[str, str]],
    settings: Stage,
) -> list[Picture]:
    """All pictures that one model needs at one stage, in the order that shards cut.

    Stage `selection` (base only): every prompt on the selection seeds, from which hard prompts are
    chosen. Stage `final`: the hard prompts on fresh seeds and, for every other model, what the base
    has drawn at its first stage as far as it is reported: study and hard prompts on the selection
    seeds.
    """
    selection, fresh = settings.selection, settings.fresh
    if settings.stage == "selection":
        chosen = [(seed, row, row["set"]) for seed in selection for row in prompts]
    else:
        chosen = [(seed, row, "hard") for seed in fresh for row in hard]
        if settings.model != BASE:
            study = [row for row in prompts if row["set"] == "study"]
            known = {row["id"] for row in study}
            also = [row for row in hard if row["id"] not in known]
            chosen = [
                *((seed, row, "study") for seed in selection for row in study),
                *((seed, row, "hard") for seed in selection for row in also),
                *chosen,
            ]
    return [Picture(row["id"], row["Prompt"], seed, name) for seed, row, name in chosen]


def study(prompts: Sequence[Mapping[str, str]], seeds: Sequence[int]) -> list[Picture]:
    """The study pictures alone, in the order in which every listing has them."""
    rows = [row for row in prompts if row["set"] == "study"]
    return [Picture(row["id"], row["Prompt"], seed, "study") for seed in seeds for row in rows]


def shard(wanted: list[Picture], index: int, size: int) -> list[Picture]:
    """The `index`-th run of `size` pictures; empty past the end."""
    return wanted[index * size : (index + 1) * size]

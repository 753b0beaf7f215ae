"""What an arm is: a way to draw pictures, or to redraw those that were drawn, in rounds.

The file `sample/arms/<name>.py` is the kind of arm `<name>`; it holds

    NEEDS = ("guide", "pictures")       # what it works with, read without importing anything;
                                        # "base" for one that draws with the study's base, too
    ROUNDS = 1                          # how many it has where the config gives it none of its
                                        # own; without this it has `refine.rounds`
    ONE_A_ROUND = False                 # where a round of pictures takes more than one sample
    class Settings(sections.ArmKeys)    # its own keys, with meaning, range and default
    class <Name>(Arm)                   # how it draws

and is all that the kind consists of: `refine.arms.<arm>: {kind: <name>, ...}` uses it. Keeping what
is finished, the rounds, the files and the cost are the loop's (`vlg.sample.drawing`). The file is
imported whenever the Snakefile is read, so what is heavy is imported where it is used.

An arm may call the sampler as often as it likes: for several samples of each picture, for the
gradient of the guide within the steps (the sampler's `family`), for a search over noise. What it
draws must depend on the pictures' prompts and seeds and on the round, never on the batch, the
clock or a random state: noise is keyed by (purpose, prompt, seed) (`vlg.models.noise`), and a
purpose names the draw, as `before.purpose` does or f"{before.purpose}-{particle}".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from vlg import plugins
from vlg.config import sections
from vlg.config.keys import Keys
from vlg.config.layout import BASE

if TYPE_CHECKING:
    import numpy as np

    from vlg.models.guide import Guide
    from vlg.sample.listing import Picture
    from vlg.sample.sampler import Sampler


class Job(Keys):
    """Which pictures a job of an arm draws, and how."""

    model: str = Field(BASE, description="Name of the model, `base` or `<variant>-<step>`.")
    arm: str = Field("refine", description="Name of the arm.")
    kind: str = Field("refine", description="Its kind, a file of `sample/arms/`.")
    keys: dict[str, Any] = Field({}, description="Keys of the kind.")
    seeds: list[sections.Seed] = Field(
        [], description="`seeds.selection`, for an arm that draws from noise alone."
    )
    shard: int = Field(0, ge=0, description="Number of the shard.")
    shard_size: int = Field(500, ge=1, description="Pictures in a shard.")
    sampling: sections.Sampling = sections.Sampling()


@dataclass(frozen=True)
class Before:
    """A batch of pictures as it stands before a round.

    number: the round, from 1. images: (n, height, width, 3) uint8, what stands now; None in round 1
    of an arm that needs no pictures. scores: their 100 cos by the guide; None without images or
    without a guide. states: what the round before has noted of each, if anything.
    """

    number: int
    pictures: Sequence[Picture]
    images: np.ndarray | None = None
    scores: list[float] | None = None
    states: list[Any] | None = None

    @property
    def texts(self) -> list[str]:
        return [each.prompt for each in self.pictures]

    @property
    def seeds(self) -> list[int]:
        return [each.seed for each in self.pictures]

    @property
    def purpose(self) -> str:
        """The key of this round's noise, beside prompt and seed."""
        return f"refine-{self.number}"

    @property
    def noise(self) -> str:
        """The same for drawing from noise alone: in round 1 that of plain pictures, from which only
        the way of drawing then differs."""
        return "latents" if self.number == 1 else self.purpose


@dataclass(frozen=True)
class Drawn:
    """What a round makes of a batch.

    images: (n, height, width, 3) uint8, what stands after it. scores: their 100 cos by the guide.
    accepted: whether each is new. Without a guide, or where nothing is chosen, the latter are None.
    states: what the next round should know of each picture beside it, as JSON has it.
    """

    images: np.ndarray
    scores: list[float] | None = None
    accepted: list[bool] | None = None
    states: list[Any] | None = None


class Arm(ABC):
    """A kind of arm with its settings; light until it draws.

    needs: of `guide`, `pictures` and `base`. Without `pictures`, round 1 draws from noise alone: it
    waits for no plain picture, and its cost begins at 0.
    samples: how many samples of each picture are held at once; batches have so many fewer pictures.
    """

    needs: frozenset[str] = frozenset(("guide", "pictures"))
    samples = 1

    def __init__(self, settings: sections.ArmKeys) -> None:
        self.settings = settings

    @abstractmethod
    def draw(self, sampler: Sampler, guide: Guide | None, before: Before) -> Drawn:
        """One round of a batch. guide: None for an arm that does not need one."""


def load(kind: str, values: Mapping[str, Any]) -> Arm:
    """The arm of a kind with these values of its keys; UserError for others."""
    settings = plugins.load(plugins.ARMS, kind).Settings.parse(values, "refine.arms")
    arm: Arm = plugins.own(plugins.ARMS, kind)(settings)
    arm.needs = frozenset(plugins.constant(plugins.ARMS, kind, "NEEDS", ()))
    return arm


def choose(guide: Guide, before: Before, images: np.ndarray) -> Drawn:
    """What the guide prefers of the new pictures and of what stood before, if anything did."""
    from vlg.models.cosines import guide_scores

    return keep(before, images, guide_scores(guide, images, before.texts))


def keep(before: Before, images: np.ndarray, scores: list[float], always: bool = False) -> Drawn:
    """The new pictures where the guide prefers them (or `always`), elsewhere what stood before."""
    if before.images is None or before.scores is None:
        return Drawn(images, scores, [True] * len(images))
    import numpy as np

    accepted = [always or new > old for new, old in zip(scores, before.scores, strict=True)]
    return Drawn(
        np.where(np.array(accepted)[:, None, None, None], images, before.images),
        [n if yes else o for n, o, yes in zip(scores, before.scores, accepted, strict=True)],
        accepted,
    )

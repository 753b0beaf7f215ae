"""What each step trains on, as a function of (seed, step): pictures, captions, noise, timesteps."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, NamedTuple, Self

from vlg.data.source import UNCHANGED
from vlg.models.device import send
from vlg.models.noise import generator

if TYPE_CHECKING:
    import torch

    from vlg.config.sections import Training
    from vlg.data.source import Source
    from vlg.models.family import Condition, Family


@dataclasses.dataclass
class Batch:
    """What step s trains on. n samples; rows of the data and random numbers, on the CPU.

    A method that needs more has a subclass with more fields, each with a row a sample.
    """

    data: Source
    pictures: list[int]
    captions: list[int]  # rows of the data's captions; 0, the empty one, where dropped
    flipped: list[bool]
    augment: torch.Tensor  # [n, 6] in 0..1: for a crop's size, x, y; brightness, contrast, colour
    timesteps: torch.Tensor  # [n] int64
    posterior: torch.Tensor  # [n, c, h, w] standard normal, for drawing z_0 = mean + std * it
    noise: torch.Tensor  # [n, c, h, w] standard normal

    def __len__(self) -> int:
        return len(self.pictures)

    def part(self, rows: slice) -> Self:
        """These rows only."""
        data, *others = dataclasses.fields(self)
        return type(self)(self.data, *(getattr(self, field.name)[rows] for field in others))

    def take(self, rows: list[int]) -> Self:
        """The rows with these numbers."""
        data, *others = dataclasses.fields(self)
        columns = (getattr(self, field.name) for field in others)
        chosen = ([c[i] for i in rows] if isinstance(c, list) else c[rows] for c in columns)
        return type(self)(self.data, *chosen)

    def latents(self, device: str) -> torch.Tensor:
        """z_0 [n, c, h, w], drawn from the posteriors."""
        mean, std = self.data.latents(self.pictures, self.flipped, self.augment)
        return send(mean + std * self.posterior, device)

    def condition(self, device: str) -> Condition:
        """What the network is told of captions and pictures."""
        said = self.data.condition(self.captions) | self.placed()
        return {k: send(v, device) for k, v in said.items()}

    def placed(self) -> Condition:
        """What it is told of the pictures, on the CPU."""
        return self.data.placed(self.pictures, self.flipped, self.augment)


class Predicted(NamedTuple):
    """A batch, noised and predicted, on the device; all but t are [n, c, h, w]."""

    z_t: torch.Tensor
    predicted: torch.Tensor
    target: torch.Tensor
    t: torch.Tensor


def draw(data: Source, settings: Training, step: int, family: Family) -> Batch:
    """The global batch of step `step` (from 0), the same on every process.

    The data set is walked in a new order every epoch. Sample i of step s is number s * batch + i
    of that walk, so a batch may begin in one epoch and end in the next. All numbers are drawn
    whether or not a setting uses them: runs that differ in one setting see the same noise.
    """
    import torch

    n = settings.batch_size
    pictures = []
    for position in range(step * n, (step + 1) * n):
        epoch, place = divmod(position, data.pictures)
        pictures.append(order(data.pictures, settings.seed, epoch)[place])
    g = generator("train", settings.seed, step)
    which, dropped, mirrored = torch.rand(3, n, generator=g).tolist()
    captions = [
        0 if d < settings.caption_dropout else data.rows[i][int(w * len(data.rows[i]))]
        for i, w, d in zip(pictures, which, dropped, strict=True)
    ]
    return Batch(
        data,
        pictures,
        captions,
        [data.flip and m < 0.5 for m in mirrored],
        torch.rand(n, 6, generator=generator("augment", settings.seed, step)),
        family.draw_timesteps(n, g),
        torch.randn(n, *data.shape, generator=g),
        torch.randn(n, *data.shape, generator=g),
    )


@functools.lru_cache(maxsize=2)
def order(pictures: int, seed: int, epoch: int) -> list[int]:
    """The order in which an epoch walks the data set."""
    import torch

    return torch.randperm(pictures, generator=generator("order", seed, epoch)).tolist()


def held_out_batches(data: Source, size: int, timesteps: int) -> list[Batch]:
    """The held-out pictures with their first captions, always at the same noise and timesteps.

    The timesteps are spread evenly over the schedule and dealt out at random.
    """
    import torch

    n = len(data.held_out)
    g = generator("held-out")
    spread = (torch.randperm(n, generator=g) + 0.5) / n * timesteps
    everything = Batch(
        data,
        data.held_out,
        [data.rows[i][0] for i in data.held_out],
        [False] * n,
        torch.tensor(UNCHANGED).expand(n, 6),
        spread.long(),
        torch.randn(n, *data.shape, generator=g),
        torch.randn(n, *data.shape, generator=g),
    )
    return [everything.part(slice(i, i + size)) for i in range(0, n, size)]

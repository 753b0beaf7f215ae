"""What each step trains on, as a function of (seed, step): pictures, captions, noise, timesteps."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

from vlg.data.encoded import UNCHANGED
from vlg.models.noise import generator

if TYPE_CHECKING:
    import torch

    from vlg.data.encoded import Source
    from vlg.train.loop import Settings


@dataclasses.dataclass
class Batch:
    """What step s trains on. n samples; rows of the cache and random numbers, on the CPU."""

    pictures: list[int]
    captions: list[int]  # rows of the cache's captions; 0, the empty one, where dropped
    flipped: list[bool]
    augment: torch.Tensor  # [n, 6] in 0..1: for a crop's size, x, y; brightness, contrast, colour
    timesteps: torch.Tensor  # [n] int64
    posterior: torch.Tensor  # [n, c, h, w] standard normal, for drawing z_0 = mean + std * it
    noise: torch.Tensor  # [n, c, h, w] standard normal

    def part(self, rows: slice) -> Batch:
        """These rows only."""
        return Batch(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


def draw(cache: Source, settings: Settings, step: int, timesteps: int) -> Batch:
    """The global batch of step `step` (from 0), the same on every process.

    The data set is walked in a new order every epoch. Sample i of step s is number s * batch + i
    of that walk, so a batch may begin in one epoch and end in the next. All numbers are drawn
    whether or not a setting uses them: runs that differ in one setting see the same noise.
    """
    import torch

    n = settings.batch_size
    pictures = []
    for position in range(step * n, (step + 1) * n):
        epoch, place = divmod(position, cache.pictures)
        pictures.append(order(cache.pictures, settings.seed, epoch)[place])
    g = generator("train", settings.seed, step)
    which, dropped, mirrored = torch.rand(3, n, generator=g).tolist()
    captions = [
        0 if d < settings.caption_dropout else cache.rows[i][int(w * len(cache.rows[i]))]
        for i, w, d in zip(pictures, which, dropped, strict=True)
    ]
    return Batch(
        pictures,
        captions,
        [cache.flip and m < 0.5 for m in mirrored],
        torch.rand(n, 6, generator=generator("augment", settings.seed, step)),
        torch.randint(timesteps, (n,), generator=g),
        torch.randn(n, *cache.shape, generator=g),
        torch.randn(n, *cache.shape, generator=g),
    )


@functools.lru_cache(maxsize=2)
def order(pictures: int, seed: int, epoch: int) -> list[int]:
    """The order in which an epoch walks the data set."""
    import torch

    return torch.randperm(pictures, generator=generator("order", seed, epoch)).tolist()


def held_out_batches(cache: Source, size: int, timesteps: int) -> list[Batch]:
    """The held-out pictures with their first captions, always at the same noise and timesteps.

    The timesteps are spread evenly over the schedule and dealt out at random.
    """
    import torch

    n = len(cache.held_out)
    g = generator("held-out")
    spread = (torch.randperm(n, generator=g) + 0.5) / n * timesteps
    everything = Batch(
        cache.held_out,
        [cache.rows[i][0] for i in cache.held_out],
        [False] * n,
        torch.tensor(UNCHANGED).expand(n, 6),
        spread.long(),
        torch.randn(n, *cache.shape, generator=g),
        torch.randn(n, *cache.shape, generator=g),
    )
    return [everything.part(slice(i, i + size)) for i in range(0, n, size)]

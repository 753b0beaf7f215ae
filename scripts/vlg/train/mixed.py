"""Batches that mix data with own samples: a share of the rows is data under the denoising loss."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from vlg.config.keys import disagree, short
from vlg.models.device import send
from vlg.models.noise import generator
from vlg.train.batches import Batch
from vlg.train.score import Scored

if TYPE_CHECKING:
    import torch

    from vlg.models.family import Condition


class Settings(Scored):
    """How much of a batch is data."""

    data_share: float = Field(
        0.5,
        ge=0,
        lt=1,
        json_schema_extra=short("data"),
        description=(
            "Share of a batch that is data under the denoising loss, which keeps a model what it "
            "was; the rest are own samples. 0 leaves the data out."
        ),
    )
    denoising_scale: float = Field(
        1.0,
        ge=0,
        json_schema_extra=short("ds"),
        description="Weight of the denoising loss on the data.",
    )

    @model_validator(mode="after")
    def _has_both(self) -> Self:
        if self.number == 0:
            raise disagree(
                "data_share",
                f"{self.data_share} of {self.batch_size} pictures leaves no own sample",
                "lower it",
            )
        return self

    @property
    def number(self) -> int:
        """How many rows of a batch are own samples: the first ones."""
        return self.batch_size - round(self.data_share * self.batch_size)


@dataclasses.dataclass
class Mixed(Batch):
    """A batch whose rows are data or own samples.

    own: [n, k, c, h, w] latents of k own samples of a row's caption, zeros in rows of data.
    score: [n] of whatever kind the method has. chosen: whether a row is own samples.
    """

    own: torch.Tensor
    score: torch.Tensor
    chosen: list[bool]

    def rows(self, chosen: bool) -> list[int]:
        """The rows of own samples, or those of data."""
        return [i for i, own in enumerate(self.chosen) if own == chosen]

    def latents(self, device: str) -> torch.Tensor:
        """z_0 [n, c, h, w]: of own samples the first, of data drawn from the posteriors."""
        z0, data = self.own[:, 0].clone(), self.rows(chosen=False)
        if data:
            some = self.take(data)
            mean, std = self.data.latents(some.pictures, some.flipped, some.augment)
            z0[data] = mean + std * some.posterior
        return send(z0, device)

    def placed(self) -> Condition:
        """Of own samples zeros: they are as the model draws them."""
        said, own = super().placed(), self.rows(chosen=True)
        for values in said.values():
            values[own] = 0
        return said


def mix(batch: Batch, captions: list[int], own: torch.Tensor, score: torch.Tensor) -> Mixed:
    """The batch with own samples in its first rows, one for each of `captions`.

    own: [m, k, c, h, w]; score: [m].
    """
    import torch

    m, n = len(captions), len(batch)
    batch.captions[:m] = captions
    return Mixed(
        *(getattr(batch, field.name) for field in dataclasses.fields(batch)),
        torch.cat([own, own.new_zeros(n - m, *own.shape[1:])]),
        torch.cat([score, score.new_zeros(n - m)]),
        [i < m for i in range(n)],
    )


def walked(pool: int, first: int, number: int, *key: str | int) -> list[int]:
    """Places `first` to `first + number` of a walk through a pool, in a new order each time round.

    key: what the order depends on.
    """
    places = (divmod(place, pool) for place in range(first, first + number))
    return [_order(pool, *key, time)[place] for time, place in places]


@functools.lru_cache(maxsize=4)
def _order(pool: int, *key: Any) -> list[int]:
    import torch

    return torch.randperm(pool, generator=generator("walk", *key)).tolist()

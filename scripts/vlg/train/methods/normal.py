"""Normal fine-tuning: the denoising loss alone.

L = |target - predicted|^2 on latents of captioned pictures; captions are dropped now and then, so
that the unconditional branch keeps its meaning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlg.config import sections
from vlg.train.method import Method, Term

if TYPE_CHECKING:
    from vlg.train.batches import Batch
    from vlg.train.method import Net

NEEDS = ("latents",)


class Settings(sections.Training):
    """Of its own it has none."""


class Normal(Method):
    """One term."""

    def terms(self, net: Net, batch: Batch) -> dict[str, Term]:
        return {"denoising": self.denoising(self.predict(net, batch))}

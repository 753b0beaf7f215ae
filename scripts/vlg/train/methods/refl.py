"""ReFL (arXiv:2304.05977, algorithm 1): the guide on own samples, estimated at a late step.

A caption is drawn from noise to a random late step without gradient; the one-step estimate there,
from a prediction with gradient, is decoded and shown to the guide. Beside it stands the denoising
loss on the data, which the paper takes in turn with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlg.train import own, reward
from vlg.train.reward import Drawn, Rewarded

if TYPE_CHECKING:
    import torch

    from vlg.train.method import Net

NEEDS = ("latents", "guide")
DOSE = ("guide_scale", 100.0)


class Settings(reward.Late):
    """Of its own it has none."""


class ReFL(Rewarded):
    """See above."""

    settings: Settings

    def late(self, number: float) -> int:
        return self.settings.late(number)

    def cosines(self, net: Net, batch: Drawn) -> torch.Tensor:
        start, captions = batch.start.to(self.family.device), batch.captions
        path, end = self.settings.path, batch.late[0] + 1
        _, estimate = own.draw(self.family, net, batch.data, captions, path, start, end=end, grad=1)
        return self.seen(estimate, batch)

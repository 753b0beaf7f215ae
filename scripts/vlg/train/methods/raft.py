"""RAFT (arXiv:2304.06767): fine-tuning on the best of one's own samples.

In rounds: the network draws several samples of some captions, the best of each caption, by the
guide, is kept, and the steps until the next round train on these as if they were data, mixed with
data by a share. The reward needs no gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlg.train import rounds
from vlg.train.method import Term
from vlg.train.mixed import Mixed
from vlg.train.rounds import Rounds

if TYPE_CHECKING:
    import torch

    from vlg.train.method import Net

NEEDS = ("latents", "guide")
DOSE = ("round_samples", None)


class Settings(rounds.Settings):
    """Of its own it has none."""


class RAFT(Rounds):
    """The denoising loss on own samples is called `raft`, and has their score beside it."""

    terms_and_logs = {"denoising": (), "raft": ("own_score",)}
    drops = True
    settings: Settings

    def kept(
        self,
        captions: list[int],
        latents: torch.Tensor,
        scores: torch.Tensor,
        *more: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        import torch

        best = scores.argmax(dim=1)
        every = torch.arange(len(captions))
        return {
            "captions": torch.tensor(captions),
            "latents": latents[every, best].contiguous(),
            "score": scores[every, best].contiguous(),
        }

    def terms(self, net: Net, batch: Mixed) -> dict[str, Term]:
        errors = self.denoising(self.predict(net, batch)).values
        data, own = batch.rows(chosen=False), batch.rows(chosen=True)
        return {
            "denoising": Term(errors[data], self.settings.denoising_scale),
            "raft": Term(errors[own], 1.0, {"own_score": batch.score[own].to(errors.device)}),
        }

"""Watching the guide: what it says of held-out pictures, whether or not training follows it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vlg.errors import UserError
from vlg.models.guide import Guide, load_guide
from vlg.train import losses

if TYPE_CHECKING:
    import torch

    from vlg.models.family import Family
    from vlg.models.ledger import Ledger
    from vlg.train.batches import Batch, Predicted


class Watch:
    """The guide's cosine between a caption and the one-step estimate of its picture.

    Of samples in the lower half of the schedule, where the estimate shows the picture, through the
    base's own decoder: it depends on no setting of a variant.
    """

    names = ("guide_cosine",)

    def __init__(self, guide: Guide) -> None:
        self.guide = guide

    def __call__(self, family: Family, batch: Batch, seen: Predicted) -> dict[str, torch.Tensor]:
        rows = (batch.timesteps < family.timesteps // 2).nonzero()[:, 0].tolist()
        if not rows:
            return {"guide_cosine": seen.predicted.new_empty(0)}
        e = batch.data.guide_captions([batch.captions[i] for i in rows]).to(family.device)
        samples = seen.z_t[rows], seen.predicted[rows], seen.t[rows], e
        return {"guide_cosine": losses.guide_cosine(family, self.guide, *samples, exactly=True)}


def open_guide(folders: Mapping[str, Path], ledger: Ledger, device: str) -> Guide:
    """The guide of a training, counted; UserError when it or what it said is not given."""
    if "guide" not in folders:
        raise UserError("--guide: missing; this fine-tuning needs the guide's folder")
    if "embeddings" not in folders:
        raise UserError("--embeddings: missing; give the folder that encode_guide.py wrote")
    guide = load_guide(folders["guide"], device)
    guide.watch(ledger)
    return guide

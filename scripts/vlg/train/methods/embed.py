"""Embed fine-tuning: the denoising loss and the guide's term on the one-step estimate.

L + guide_scale * w(t) * (1 - cos(E_img(A(D(z0_hat))), e)), on data latents: z0_hat is the estimate
of the clean latents from one prediction, e the guide's embedding of what the picture should look
like. Nearest relatives: ReFL (arXiv:2304.05977), ImageReFL (arXiv:2505.22569).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from vlg.config.keys import NEUTRAL, disagree, short
from vlg.errors import UserError
from vlg.train import losses
from vlg.train.decoder import Decoded
from vlg.train.method import Method, Term
from vlg.train.watch import Watch, open_guide

if TYPE_CHECKING:
    import torch

    from vlg.models.ledger import Ledger
    from vlg.train.batches import Batch
    from vlg.train.method import Net

NEEDS = ("latents", "guide")
DOSE = ("guide_scale", 0.05)

Timestep = Annotated[int, Field(ge=0, le=999)]


class Settings(Decoded):
    """What the guide looks at, when, and how much that counts."""

    guide_scale: float = Field(
        0.05,
        ge=0,
        json_schema_extra=short("gs"),
        description=(
            "Weight of the guide's term, 1 − cos between picture and `target`. Where a variant "
            "names no `method`, 0 is normal fine-tuning and anything above is this one."
        ),
    )
    window: tuple[Timestep, Timestep] = Field(
        (0, 600),
        json_schema_extra=short("w"),
        description=(
            "Timesteps [low, high], both included, in which the guide's term counts, of the "
            "scheduler's 0 (clean) to 999 (noise)."
        ),
    )
    weighting: Literal["abar", "sqrt_abar", "uniform"] = Field(
        "abar",
        json_schema_extra=NEUTRAL | short(""),
        description=(
            "Weight of the guide's term inside the window, by ᾱ_t, the share of the picture "
            "in what the UNet sees: `abar` (ᾱ_t), `sqrt_abar` (its root) or `uniform` (1)."
        ),
    )
    target: Literal["text", "image", "mix"] = Field(
        "text",
        json_schema_extra=short(""),
        description=(
            "What the guide compares the picture with: the caption (`text`), the training "
            "picture (`image`), or the mean of both (`mix`)."
        ),
    )

    @model_validator(mode="after")
    def _window_rises(self) -> Self:
        low, high = self.window
        if low >= high:
            raise disagree(
                "window",
                f"must be [low, high] with low below high, got [{low}, {high}]",
                f"write [{high}, {low}]" if low > high else "widen it, or set guide_scale to 0",
            )
        return self


class Embed(Method):
    """The guide's term is called `clip`, and has the cosine beside it."""

    terms_and_logs = {"denoising": (), "clip": ("guide_cosine",)}
    settings: Settings

    def prepare(self, net: Net, folders: Mapping[str, Path], ledger: Ledger) -> None:
        s, last = self.settings, self.family.timesteps - 1
        if s.window[1] > last:
            raise UserError(
                f"finetune.window: {list(s.window)} must lie within the schedule, 0 .. {last}"
            )
        import torch

        z_t = torch.ones(1, *self.family.latent_shape, device=self.family.device)
        t = torch.tensor([s.window[1]], device=self.family.device)
        if not self.family.estimate(z_t, torch.zeros_like(z_t), t).isfinite().all():
            raise UserError(
                f"finetune.window: at timestep {s.window[1]} the base's schedule has nothing left "
                "of a picture, which cannot be estimated there; end it earlier"
            )
        self.guide = open_guide(folders, ledger, self.family.device)
        self.watching = Watch(self.guide)
        if decoder := folders.get("decoder"):
            self.family.use_decoder(decoder)

    def terms(self, net: Net, batch: Batch) -> dict[str, Term]:
        import torch

        s, family = self.settings, self.family
        seen = self.predict(net, batch)
        denoising = self.denoising(seen)
        # chosen on the CPU, where the timesteps were drawn: no wait for the device
        captioned = torch.tensor([caption != 0 for caption in batch.captions])
        rows = losses.inside(batch.timesteps, captioned, s.window).tolist()
        if not rows:
            none = denoising.values[:0]
            return {
                "denoising": denoising,
                "clip": Term(none, s.guide_scale, {"guide_cosine": none.detach()}),
            }
        t = seen.t[rows]
        cosine = losses.guide_cosine(
            family, self.guide, seen.z_t[rows], seen.predicted[rows], t, self.wanted(batch, rows)
        )
        clip = losses.WEIGHTS[s.weighting](family.share(t)) * (1 - cosine)
        return {
            "denoising": denoising,
            "clip": Term(clip, s.guide_scale, {"guide_cosine": cosine.detach()}),
        }

    def wanted(self, batch: Batch, rows: list[int]) -> torch.Tensor:
        """What these rows should look like to the guide: unit vectors [m, d].

        `mix` lies half-way between the caption and the picture.
        """
        from torch.nn.functional import normalize

        target, device = self.settings.target, self.family.device
        text = batch.data.guide_captions([batch.captions[i] for i in rows])
        if target == "text":
            return text.to(device)
        image = batch.data.guide_pictures([batch.pictures[i] for i in rows])
        return (image if target == "image" else normalize(text + image, dim=1)).to(device)

    @property
    def looks(self) -> list[str]:
        return self.compared

    def held_out(self, net: Net, batch: Batch) -> dict[str, torch.Tensor]:
        """The term itself depends on window and weighting; the cosine does not."""
        return self.comparable(net, batch)

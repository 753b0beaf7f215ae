"""What the methods share that follow the guide's gradient on own samples: refl, draft, imagerefl.

    denoising_scale * L_denoising + guide_scale * (1 - cos(E_img(A(D(z0))), e))

The denoising loss is on the pictures of the batch. z0 are latents that the network has drawn for
some of their captions, with a gradient through its last steps, and e is the guide's embedding of
the caption.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from vlg.config import sections
from vlg.config.keys import short
from vlg.models.device import at_least_float32
from vlg.models.noise import generator
from vlg.train import batches, losses
from vlg.train.batches import Batch
from vlg.train.decoder import Decoded
from vlg.train.method import Method, Term
from vlg.train.watch import Watch, open_guide

if TYPE_CHECKING:
    import torch

    from vlg.data.source import Source
    from vlg.models.ledger import Ledger
    from vlg.train.method import Net


SHARE = (
    "Share of a batch's captions that the network draws for the guide, one at least; drawing is "
    "most of what a step costs. The term is their mean, whatever the share."
)
EVERY = (
    "Every so many steps captions are drawn, and their term weighs as much more: the same number "
    "of samples in fewer and larger drawings takes less time."
)


class Settings(Decoded, sections.Sampled):
    """How much the guide counts, and how much of a batch it sees."""

    guide_scale: float = Field(
        100.0,
        ge=0,
        json_schema_extra=short("gs"),
        description=(
            "Weight of the guide's term, 1 − cos between own sample and caption. 100 is what the "
            "released configs of ImageReFL have for a cosine against a denoising loss of weight 1."
        ),
    )
    denoising_scale: float = Field(
        1.0,
        ge=0,
        json_schema_extra=short("ds"),
        description=(
            "Weight of the denoising loss on the data, which keeps a model what it was; 0 leaves "
            "it out."
        ),
    )
    own_share: float = Field(
        1.0,
        gt=0,
        le=1,
        json_schema_extra=short("os"),
        description=SHARE,
    )
    own_every: int = Field(
        1,
        ge=1,
        json_schema_extra=short("oe"),
        description=EVERY,
    )


class Late(Settings):
    """Of a method that looks at the estimate of a late step."""

    own_guidance: float | None = Field(
        1.0,
        ge=1,
        json_schema_extra=short("og"),
        description=(
            "Classifier-free guidance of own samples; 1 is none, as the released code has it; "
            "null takes `generate.guidance_scale`."
        ),
    )
    late_from: float = Field(
        0.75,
        ge=0,
        lt=1,
        json_schema_extra=short("late"),
        description=(
            "The step with a gradient is a random one of the sampler's behind this share of them; "
            "0.75 is the paper's, the last 10 of 40."
        ),
    )

    def late(self, number: float) -> int:
        """The step of the sampler that a number in 0..1 chooses."""
        first = int(self.late_from * self.sampling.steps)
        return first + int(number * (self.sampling.steps - first))


@dataclasses.dataclass
class Drawn(Batch):
    """A batch some of whose captions are drawn.

    shown: which. start: [n, c, h, w] the noise that drawing begins from. late: the step of the
    sampler that the gradient goes through, the same in all rows. again: [n, k, c, h, w] further
    noise, of methods that need it.
    """

    shown: list[bool]
    start: torch.Tensor
    late: list[int]
    again: torch.Tensor


class Rewarded(Method):
    """The guide's term is called `reward`, and has the cosine beside it."""

    terms_and_logs = {"denoising": (), "reward": ("reward_cosine",)}
    settings: Settings

    def prepare(self, net: Net, folders: Mapping[str, Path], ledger: Ledger) -> None:
        self.guide = open_guide(folders, ledger, self.family.device)
        self.watching = Watch(self.guide)
        if decoder := folders.get("decoder"):
            self.family.use_decoder(decoder)

    def late(self, number: float) -> int:
        """The step of the sampler that the gradient goes through, of a number in 0..1."""
        return self.settings.sampling.steps - 1

    def batch(self, data: Source, step: int) -> Drawn:
        """The first captions of the batch that were not dropped are drawn."""
        import torch

        s = self.settings
        batch = batches.draw(data, s, step, self.family)
        g = generator("own", s.seed, step)
        late = self.late(torch.rand(1, generator=g).item())
        asked = step % s.own_every == 0
        captioned = [i for i, caption in enumerate(batch.captions) if caption and asked]
        shown = set(captioned[: self.number])
        n, shape = s.batch_size, data.shape
        return Drawn(
            *(getattr(batch, field.name) for field in dataclasses.fields(batch)),
            [i in shown for i in range(n)],
            torch.randn(n, *shape, generator=g),
            [late] * n,
            torch.randn(n, self.noises, *shape, generator=g),
        )

    @property
    def noises(self) -> int:
        """How many further noises a row has."""
        return 0

    @property
    def number(self) -> int:
        """How many captions of a batch are drawn."""
        return max(1, round(self.settings.own_share * self.settings.batch_size))

    def terms(self, net: Net, batch: Drawn) -> dict[str, Term]:
        s = self.settings
        denoising = Term(self.denoising(self.predict(net, batch)).values, s.denoising_scale)
        rows = [i for i, shown in enumerate(batch.shown) if shown]
        cosine = self.cosines(net, batch.take(rows)) if rows else denoising.values[:0]
        values = (1 - cosine) * (s.batch_size / self.number)  # so that the term is their mean
        weight = s.guide_scale * s.own_every
        reward = Term(values, weight, {"reward_cosine": cosine.detach()})
        return {"denoising": denoising, "reward": reward}

    @abstractmethod
    def cosines(self, net: Net, batch: Drawn) -> torch.Tensor:
        """What the guide says of own samples of these rows, [m], with its gradient."""

    def seen(self, latents: torch.Tensor, batch: Drawn) -> torch.Tensor:
        """cos between latents, decoded, and the captions of their rows, [m], in float32."""
        wanted = batch.data.guide_captions(batch.captions).to(self.family.device)
        return losses.cosine(self.family, self.guide, at_least_float32(latents), wanted)

    @property
    def looks(self) -> list[str]:
        return self.compared

    def held_out(self, net: Net, batch: Batch) -> dict[str, torch.Tensor]:
        """Own samples are looked at in the steps; here is what can be compared."""
        return self.comparable(net, batch)

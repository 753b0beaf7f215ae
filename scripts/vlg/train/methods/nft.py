"""DiffusionNFT (arXiv:2509.16117): own samples, better and worse ones, on the forward process.

In rounds, own samples of a caption get a score; less the caption's mean, over the deviation of all,
clipped and brought to 0..1, it is r, how much a sample is one of the better. With v the prediction
of the network, v_old that of a slow copy, which draws the samples, and x(v) the estimate of z_0:

    r |x(beta v + (1 - beta) v_old) - z_0|^2 + (1 - r) |x((1 + beta) v_old - beta v) - z_0|^2

each error over its own mean size, all over beta and times `advantage_clip`, as in the released
code, and a small KL term to the base. The reward needs no gradient. Of predictions of
noise the estimates of z_0 are compared, as of flow, for which the paper has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from vlg.config.keys import short
from vlg.models.device import at_least_float32, send
from vlg.models.noise import generator
from vlg.train import rounds
from vlg.train.method import Term, replaced, snapshot
from vlg.train.mixed import Mixed
from vlg.train.rounds import Rounds, advantages

if TYPE_CHECKING:
    import torch

    from vlg.data.source import Source
    from vlg.models.ledger import Ledger
    from vlg.train.batches import Predicted
    from vlg.train.method import Net

NEEDS = ("latents", "guide")
DOSE = ("beta", 1.0)
OLD = "old."


class Settings(rounds.Settings):
    """How far a step goes, and how slow the copy is that draws."""

    own_guidance: float | None = Field(
        1.0,
        ge=1,
        json_schema_extra=short("og"),
        description=(
            "Classifier-free guidance of own samples; 1 is none, as in the paper; null takes "
            "`generate.guidance_scale`."
        ),
    )
    beta: float = Field(
        1.0,
        gt=0,
        json_schema_extra=short("b"),
        description=(
            "How far the better and the worse prediction lie from the slow copy's; the released "
            "configs have 1 and 0.1."
        ),
    )
    advantage_clip: float = Field(
        5.0,
        gt=0,
        json_schema_extra=short("clip"),
        description=(
            "Deviations from a caption's mean at which a sample is wholly better or worse; as "
            "released."
        ),
    )
    kl_scale: float = Field(
        0.0001,
        ge=0,
        json_schema_extra=short("kl"),
        description="Weight of the squared distance from the base's predictions; as released.",
    )
    old_decay: float = Field(
        0.5,
        ge=0,
        lt=1,
        json_schema_extra=short("old"),
        description=(
            "What the slow copy keeps of itself at a round, at most: it rises by 0.001 a training "
            "step, as released."
        ),
    )


class NFT(Rounds):
    """The loss on own samples is called `nft`, and has their r beside it; `kl` is the other."""

    terms_and_logs = {"denoising": (), "nft": ("own_better",), "kl": ()}
    settings: Settings

    def prepare(self, net: Net, folders: Mapping[str, Path], ledger: Ledger) -> None:
        super().prepare(net, folders, ledger)
        self.base, self.old = snapshot(net), snapshot(net)
        self.times = self.family.path(self.settings.path)

    def drawer(self, net: Net) -> Net:
        return replaced(net, self.old)

    def before(self, net: Net, data: Source, step: int) -> None:
        """The slow copy follows when a round is over, before the next one is drawn."""
        if self.pool and int(self.pool["round"]) != step // self.settings.round_steps:
            decay = min(0.001 * step, self.settings.old_decay)
            for name, weight in snapshot(net).items():
                self.old[name].lerp_(weight, 1 - decay)
        super().before(net, data, step)

    def kept(
        self,
        captions: list[int],
        latents: torch.Tensor,
        scores: torch.Tensor,
        *more: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        import torch

        each = torch.tensor(captions)[:, None].expand(scores.shape)
        return {
            "captions": each.flatten(),
            "latents": latents.flatten(0, 1),
            "score": better(scores, self.settings.advantage_clip).flatten(),
        }

    def batch(self, data: Source, step: int) -> Mixed:
        """Own samples are noised to timesteps of the sampler, as the released code does."""
        import torch

        batch = super().batch(data, step)
        g = generator("own timesteps", self.settings.seed, step)
        drawn = torch.tensor(self.times)[torch.randint(len(self.times), (len(batch),), generator=g)]
        own = batch.rows(chosen=True)
        batch.timesteps[own] = drawn[own]
        return batch

    def terms(self, net: Net, batch: Mixed) -> dict[str, Term]:
        s = self.settings
        seen = self.predict(net, batch)
        data, own = batch.rows(chosen=False), batch.rows(chosen=True)
        errors = self.denoising(seen).values
        none = errors[:0]
        terms = {
            "denoising": Term(errors[data], s.denoising_scale),
            "nft": Term(none, 1.0, {"own_better": none.detach()}),
            "kl": Term(none, s.kl_scale),
        }
        return terms | self.of_own(net, batch.take(own), seen, own) if own else terms

    def of_own(self, net: Net, some: Mixed, seen: Predicted, own: list[int]) -> dict[str, Term]:
        """The terms on own samples, which are the rows `own` of what was seen."""
        import torch

        s, family = self.settings, self.family
        z0, condition = some.latents(family.device), some.condition(family.device)
        z_t, t, now = seen.z_t[own], seen.t[own], at_least_float32(seen.predicted[own])
        r = send(some.score, family.device)
        with torch.no_grad():
            old, base = (
                at_least_float32(family.predict(replaced(net, weights), z_t, t, condition))
                for weights in (self.old, self.base)
            )
        right = s.beta * now + (1 - s.beta) * old
        wrong = (1 + s.beta) * old - s.beta * now
        loss = [relative(family.estimate(z_t, each, t), z0) for each in (right, wrong)]
        nft = (r * loss[0] + (1 - r) * loss[1]) * (s.advantage_clip / s.beta)
        kl = (now - base).square().mean(dim=(1, 2, 3))
        return {"nft": Term(nft, 1.0, {"own_better": r}), "kl": Term(kl, s.kl_scale)}

    def state(self) -> dict[str, torch.Tensor]:
        return super().state() | {f"{OLD}{name}": weight for name, weight in self.old.items()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        super().load_state({k: v for k, v in state.items() if not k.startswith(OLD)})
        for name, weight in self.old.items():
            weight.copy_(state[f"{OLD}{name}"])


def better(scores: torch.Tensor, clip: float) -> torch.Tensor:
    """r in 0..1 of scores [captions, samples]."""
    return advantages(scores).clamp(-clip, clip) / (2 * clip) + 0.5


def relative(estimate: torch.Tensor, z0: torch.Tensor) -> torch.Tensor:
    """Squared error over the mean size of the error, [n]."""
    dims = tuple(range(1, z0.ndim))
    error = estimate - z0
    size = error.detach().abs().mean(dim=dims, keepdim=True).clamp(min=1e-5)
    return (error.square() / size).mean(dim=dims)

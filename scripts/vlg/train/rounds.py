"""Rounds of own samples: every so many steps the network draws some captions several times, and the
samples serve the steps until the next round."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from vlg.config.keys import short
from vlg.models.device import Parts, autocast, send
from vlg.models.noise import generator
from vlg.train import batches, mixed, own, score
from vlg.train.method import Method
from vlg.train.mixed import Mixed, mix, walked
from vlg.train.together import gathered
from vlg.train.watch import Watch, open_guide
from vlg.workflow.processes import process

if TYPE_CHECKING:
    import torch

    from vlg.data.source import Source
    from vlg.models.ledger import Ledger
    from vlg.train.batches import Batch
    from vlg.train.method import Net


log = logging.getLogger("vlg")


class Settings(mixed.Settings):
    """How many own samples there are, and how long they serve."""

    round_captions: int = Field(
        32, ge=1, json_schema_extra=short("m"), description="Captions of the data drawn in a round."
    )
    round_samples: int = Field(
        4, ge=2, json_schema_extra=short("n"), description="Own samples of each of them."
    )
    round_steps: int = Field(
        50,
        ge=1,
        json_schema_extra=short("every"),
        description="Training steps that a round's samples serve.",
    )


class Rounds(Method):
    """What a round has drawn is a state of the method: a run that stopped goes on with it.

    drops: whether captions of own samples are dropped as often as those of data.
    """

    drops = False
    settings: Settings

    def prepare(self, net: Net, folders: Mapping[str, Path], ledger: Ledger) -> None:
        self.guide = open_guide(folders, ledger, self.family.device)
        self.watching = Watch(self.guide)
        self.score = score.scorer(self.settings.reward, self.guide)
        self.parts = Parts("drawing own samples")
        self.pool: dict[str, torch.Tensor] = {}

    # --- a round ---

    def before(self, net: Net, data: Source, step: int) -> None:
        number = step // self.settings.round_steps
        if self.pool and self.pool["round"].item() == number:
            return
        import torch

        log.info("round %d: drawing own samples", number)
        captions = self.captions(data, number)
        latents, scores, *more = self.drawn(net, data, captions, number)
        kept = self.kept(captions, latents, scores, *more)
        self.pool = {**kept, "round": torch.tensor(number)}

    def captions(self, data: Source, number: int) -> list[int]:
        """The captions of round `number`: of the next pictures, one of each."""
        import torch

        s = self.settings
        pictures = walked(
            data.pictures, number * s.round_captions, s.round_captions, "captions", s.seed
        )
        g = generator("captions", s.seed, number)
        which = torch.rand(len(pictures), generator=g).tolist()
        rows = [data.rows[i] for i in pictures]
        return [each[int(w * len(each))] for each, w in zip(rows, which, strict=True)]

    def drawn(self, net: Net, data: Source, captions: list[int], number: int) -> list[torch.Tensor]:
        """Latents [m, n, c, h, w] and scores [m, n] of own samples of captions, and what else
        `sampled` gives of each, on the CPU.

        Each is keyed by (seed, round, place), so that neither parts nor processes change it.
        """
        import torch

        s, device, (rank, world) = self.settings, self.family.device, process()
        net = self.drawer(net)

        def part(places: list[int]) -> list[torch.Tensor]:
            rows = [captions[place // s.round_samples] for place in places]
            with torch.no_grad(), autocast(device, s.precision):
                z, *more = (each.float() for each in self.sampled(net, data, rows, places, number))
                scores = self.score(data, rows, self.family.decode(z, exactly=True).float())
                return [z.cpu(), scores, *(each.cpu() for each in more)]

        mine = list(range(rank, len(captions) * s.round_samples, world))
        found = []
        for first in range(0, len(mine), s.batch_size):
            found += self.parts(part, mine[first : first + s.batch_size])
        shares = gathered(
            [torch.cat(column) for column in zip(*found, strict=True)] if mine else []
        )
        order = [i for r in range(world) for i in range(r, len(captions) * s.round_samples, world)]
        back = torch.tensor(order).argsort()
        columns = zip(*(share for share in shares if share), strict=True)
        size = (len(captions), s.round_samples)
        return [torch.cat(column)[back].unflatten(0, size) for column in columns]

    def sampled(
        self, net: Net, data: Source, captions: list[int], places: list[int], number: int
    ) -> Sequence[torch.Tensor]:
        """Finished latents [n, ...] of captions on the device, and whatever else a method keeps of
        each sample; their noise is keyed by their places in the round."""
        start = self.start(data, places, number)
        return own.draw(self.family, net, data, captions, self.settings.path, start)[:1]

    def start(self, data: Source, places: list[int], number: int) -> torch.Tensor:
        """The noise [n, ...] that own samples begin from."""
        import torch

        keys = [("own", self.settings.seed, number, place) for place in places]
        noise = [torch.randn(data.shape, generator=generator(*key)) for key in keys]
        return send(torch.stack(noise), self.family.device)

    def drawer(self, net: Net) -> Net:
        """Which network draws own samples."""
        return net

    @abstractmethod
    def kept(
        self,
        captions: list[int],
        latents: torch.Tensor,
        scores: torch.Tensor,
        *more: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """What of a round serves the steps: `captions` [k], `latents` [k, c, h, w], `score` [k].

        more: what else `sampled` has given, [m, n, ...].
        """

    # --- a step ---

    def batch(self, data: Source, step: int) -> Mixed:
        s, pool = self.settings, self.pool
        batch = batches.draw(data, s, step, self.family)
        rows = self.rows(step)
        captions = pool["captions"][rows].tolist()
        if self.drops:
            captions = [c if old else 0 for c, old in zip(captions, batch.captions, strict=False)]
        return mix(batch, captions, self.shown(rows, step), pool["score"][rows])

    def rows(self, step: int) -> list[int]:
        """Which samples of the round step `step` trains on."""
        s, pool = self.settings, self.pool
        first, number = step % s.round_steps * s.number, int(pool["round"])
        return walked(len(pool["captions"]), first, s.number, "own", s.seed, number)

    def shown(self, rows: list[int], step: int) -> torch.Tensor:
        """Latents [m, k, c, h, w] of these samples that the step works on."""
        return self.pool["latents"][rows][:, None]

    def state(self) -> dict[str, torch.Tensor]:
        return self.pool

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        self.pool = dict(state)

    @property
    def looks(self) -> list[str]:
        return self.compared

    def held_out(self, net: Net, batch: Batch) -> dict[str, torch.Tensor]:
        """Own samples are looked at in the steps; here is what can be compared."""
        return self.comparable(net, batch)


def advantages(scores: torch.Tensor) -> torch.Tensor:
    """Scores [captions, samples] less their caption's mean, over the deviation of all."""
    return (scores - scores.mean(dim=1, keepdim=True)) / (scores.std(correction=0) + 1e-4)

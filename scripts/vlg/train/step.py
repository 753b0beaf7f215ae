"""A step of training: the gradient of a method's loss, in parts, by several processes, halved where
memory runs out."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vlg.errors import UserError
from vlg.models.device import Parts, autocast, first_line, out_of_memory, release
from vlg.models.ledger import Cost, Ledger, forgotten_on_error
from vlg.train.together import agreed
from vlg.workflow.processes import process

if TYPE_CHECKING:
    import torch

    from vlg.config.sections import Training
    from vlg.data.source import Source
    from vlg.models.family import Family
    from vlg.train.batches import Batch
    from vlg.train.method import Method
    from vlg.train.state import State

log = logging.getLogger("vlg")


@dataclass
class Run:
    """What a training works with: the weights, the method, the data, and what has been computed.

    cost: of the training steps of the whole chain, and apart from it of the looks at held-out
    pictures; it is summed up by `settle`.
    """

    state: State
    method: Method
    data: Source
    ledger: Ledger
    cost: dict[str, Cost] = field(default_factory=lambda: {"training": Cost(), "looks": Cost()})
    parts: Parts = field(default_factory=lambda: Parts("evaluating held-out pictures"))

    @property
    def settings(self) -> Training:
        return self.method.settings

    @property
    def family(self) -> Family:
        return self.method.family

    @property
    def device(self) -> str:
        return self.method.family.device

    def told(self) -> dict[str, Any]:
        """The method and all its settings, ready for JSON."""
        return {"method": self.method.name, **self.settings.model_dump(mode="json")}

    def settle(self, what: str) -> None:
        """What was counted since the last time was `training`, or `looks`."""
        self.cost[what] += self.ledger.take()


def backward(
    run: Run, batch: Batch, only: str | None = None
) -> tuple[dict[str, float], torch.Tensor]:
    """Add the gradient of the loss, or of one of its terms, each a mean over the whole batch.

    Returns (weights of the terms; the numbers that `Log.step` takes, without the last). Since every
    term is a sum over samples, it may be computed in parts (`accumulate`) and by several processes,
    each taking every world-th sample.

    When memory runs out, the gradient is computed again in parts of half the size, and so are all
    that follow; weights and optimizer have not changed. UserError when one sample is too much.
    """
    import torch
    from torch import distributed

    state, world = run.state, process()[1]
    while True:
        found, problem = None, ""
        try:
            with forgotten_on_error():
                found = accumulate(run, batch, only)
        except Exception as error:
            if not out_of_memory(error):
                raise
            problem = first_line(error)
        if not agreed(found is None):  # all processes go on, or all try again
            break
        state.optimizer.zero_grad()
        release()
        size = min(state.part, math.ceil(len(batch) / world))
        if size == 1:
            raise UserError(
                f"out of memory in training on one picture at a time ({problem}); try "
                "finetune.gradient_checkpointing, finetune.precision bf16 or finetune.lora_rank, "
                "beside which finetune.frozen takes less"
            )
        state.part = math.ceil(size / 2)
        log.warning(
            "out of memory in training on %d pictures at a time; going on with %d", size, state.part
        )
    weights, sums = found
    if world > 1:
        for tensor in (sums, *(weight.grad for weight in state.weights.values())):
            distributed.all_reduce(tensor)
    divisors = []
    for logs in run.method.terms_and_logs.values():
        divisors += [len(batch), *[1] * 2 * len(logs)]
    return weights, sums / torch.tensor(divisors, device=run.device)


def accumulate(run: Run, batch: Batch, only: str | None) -> tuple[dict[str, float], torch.Tensor]:
    """`backward` on this process's share of a batch; the numbers are sums."""
    import torch

    state, names = run.state, run.method.terms_and_logs
    rank, world = process()
    weights: dict[str, float] = {}
    sums = torch.zeros(sum(1 + 2 * len(logs) for logs in names.values()), device=run.device)
    for begin in range(rank, len(batch), state.part * world):
        part = batch.part(slice(begin, begin + state.part * world, world))
        with autocast(run.device, run.settings.precision):
            terms = run.method.terms(state.net, part)
        loss = sum(
            term.weight * term.values.sum() for name, term in terms.items() if only in (None, name)
        )
        (loss / len(batch)).backward()
        numbers = []
        for name, logs in names.items():
            numbers.append(terms[name].values.sum())
            for each in logs:
                values = terms[name].logs[each]
                numbers += [values.sum(), torch.tensor(float(len(values)), device=run.device)]
        sums += torch.stack(numbers).detach()
        weights = {name: terms[name].weight for name in names}
    return weights, sums


def gradient_norms(run: Run, batch: Batch) -> dict[str, float]:
    """The norm of the gradient of each term as it is in the loss, on one batch."""
    import torch

    norms = {}
    for name in run.method.terms_and_logs:
        backward(run, batch, only=name)
        grads = [weight.grad for weight in run.state.weights.values()]
        norms[f"grad_{name}"] = torch.nn.utils.get_total_norm(grads).item()
        run.state.optimizer.zero_grad()
    return norms


def train_step(run: Run) -> tuple[dict[str, float], torch.Tensor]:
    """One step of training, the state's next; returns `backward`'s weights and numbers, with the
    gradient's norm behind them."""
    import torch

    run.method.before(run.state.net, run.data, run.state.step)
    weights, numbers = backward(run, run.method.batch(run.data, run.state.step))
    norm = run.state.update()
    run.method.after(run.state.net, run.state.step)
    return weights, torch.cat([numbers, norm[None]])

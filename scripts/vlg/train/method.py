"""What a way to fine-tune is.

The file `train/methods/<name>.py` is the method `<name>`; it holds

    NEEDS = ("latents", "guide")          # what becomes inputs of the rule, read without importing
    class Settings(sections.Training)     # its own keys, with meaning, range and default
    class <Name>(Method)                  # what a step trains on, and the terms of its loss

and is all that the method consists of: `finetune.variants.<variant>: {method: <name>, ...}` uses
it. The loop, saving and resuming, several processes, running out of memory and the logs are the
trainer's (`vlg.train.loop`), which knows this class alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg import plugins
from vlg.models.device import send
from vlg.train import batches
from vlg.train.batches import Predicted

if TYPE_CHECKING:
    import torch

    from vlg.config import sections
    from vlg.data.source import Source
    from vlg.models.family import Family
    from vlg.models.ledger import Ledger
    from vlg.train.batches import Batch
    from vlg.train.watch import Watch

    Net = Callable[..., Any]  # the network that is trained, or one that stands for its average


@dataclass
class Term:
    """One term of a loss.

    values: [m], one of each sample that the term concerns, with its gradient; m may be 0. The loss
    of a step is the sum over terms of weight * sum of values / size of the batch: a sample's weight
    does not depend on its neighbours, so a batch may be computed in parts and by several processes.
    logs: {name: [m] values}, whose means over these samples are logged beside it.
    """

    values: torch.Tensor
    weight: float = 1.0
    logs: dict[str, torch.Tensor] = field(default_factory=dict)


class Method(ABC):
    """A method with its settings; light until `prepare`.

    name: the file's. needs: of `latents`, `pixels`, `guide`, `pairs`, `samples`; the file's NEEDS.
    terms_and_logs: the names of what `terms` gives, {term: names of its logs}, in the order of
    their columns in log.csv. They are the same in every step.
    costs: what inputs that were made for this training have cost, by name, as `Cost.json` gives it.
    """

    name: str
    needs: frozenset[str] = frozenset()
    terms_and_logs: Mapping[str, tuple[str, ...]] = {"denoising": ()}
    costs: Mapping[str, Any] = {}

    def __init__(self, settings: sections.Training, family: Family) -> None:
        self.settings, self.family = settings, family
        self.watching: Watch | None = None  # the guide, on held-out pictures

    def prepare(self, net: Net, folders: Mapping[str, Path], ledger: Ledger) -> None:  # noqa: B027
        """Load what the steps work with beside `family` and `net`, which is the base's still.

        folders: those given, by name: guide, embeddings, decoder, ... What is loaded is watched by
        the ledger.
        """

    def before(self, net: Net, data: Source, step: int) -> None:  # noqa: B027
        """What is to be done before step `step` (from 0), on every process; again when it has been
        done already. Nothing, as a rule."""

    def batch(self, data: Source, step: int) -> Batch:
        """What step `step` (from 0) trains on, the same on every process: a function of the
        settings' seed and the step."""
        return batches.draw(data, self.settings, step, self.family)

    @abstractmethod
    def terms(self, net: Net, batch: Batch) -> dict[str, Term]:
        """The terms of the loss on a batch or a part of one."""

    def after(self, net: Net, step: int) -> None:  # noqa: B027
        """What is to be done when `step` steps have been taken. Nothing, as a rule."""

    def state(self) -> dict[str, torch.Tensor]:
        """Tensors of its own that a run needs to go on: what training changes beside `net`."""
        return {}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:  # noqa: B027
        """Go on from what `state` gave."""

    # --- what methods share ---

    def predict(self, net: Net, batch: Batch) -> Predicted:
        """The batch noised to its timesteps, and what the network and the schedule say of it."""
        device = self.family.device
        z0 = batch.latents(device)
        noise, t = send(batch.noise, device), send(batch.timesteps, device)
        condition = batch.condition(device)
        z_t = self.family.noised(z0, noise, t)
        predicted = self.family.predict(net, z_t, t, condition)
        return Predicted(z_t, predicted, self.family.target(z0, noise, t), t)

    def denoising(self, seen: Predicted) -> Term:
        """The denoising loss, which keeps a model what it was trained to be."""
        gamma = self.settings.min_snr_gamma
        return Term(self.family.denoising(seen.predicted, seen.target, seen.t, gamma))

    # --- held-out pictures ---

    @property
    def looks(self) -> list[str]:
        """The names of what `held_out` gives, columns of held_out.csv."""
        others = [
            name
            for term, logs in self.terms_and_logs.items()
            if term != "denoising"
            for name in (term, *logs)
        ]
        return [*self.compared, *(name for name in others if name not in self.compared)]

    def held_out(self, net: Net, batch: Batch) -> dict[str, torch.Tensor]:
        """Values of each sample, or of those concerned, on held-out pictures, without gradient.

        By default what can be compared between variants, and all other terms and logs as a step
        has them.
        """
        values = self.comparable(net, batch)
        if len(self.looks) > len(values):
            terms = self.terms(net, batch)
            found = {name: value for term in terms.values() for name, value in term.logs.items()}
            found |= {name: term.values for name, term in terms.items()}
            values |= {name: found[name] for name in self.looks if name not in values}
        return values

    @property
    def compared(self) -> list[str]:
        """The names of what `comparable` gives."""
        return ["denoising", *(self.watching.names if self.watching else ())]

    def comparable(self, net: Net, batch: Batch) -> dict[str, torch.Tensor]:
        """What does not depend on a variant's settings, so that variants can be compared: the plain
        denoising loss and, where the guide is watched, its cosine."""
        seen = self.predict(net, batch)
        values = {"denoising": self.family.denoising(seen.predicted, seen.target, seen.t)}
        return values | (self.watching(self.family, batch, seen) if self.watching else {})


def snapshot(net: Any) -> dict[str, torch.Tensor]:
    """The weights that are trained, as they are now, by name."""
    return {n: p.detach().clone() for n, p in net.named_parameters() if p.requires_grad}


def replaced(net: Any, weights: Mapping[str, torch.Tensor]) -> Net:
    """The network with these weights in place of those of the same names."""
    import torch

    def called(*arguments: Any, **options: Any) -> Any:
        return torch.func.functional_call(net, dict(weights), arguments, options)

    return called


def settings_of(name: str, values: Mapping[str, Any]) -> sections.Training:
    """The settings of the method `name`; UserError for unknown names and impossible values."""
    return plugins.load(plugins.METHODS, name).Settings.parse(values, "finetune")


def load(name: str, settings: sections.Training, family: Family) -> Method:
    """The method `name`."""
    method: Method = plugins.own(plugins.METHODS, name)(settings, family)
    method.name = name
    method.needs = frozenset(plugins.constant(plugins.METHODS, name, "NEEDS", ()))
    return method

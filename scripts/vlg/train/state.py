"""The weights being trained, their optimizer and average, and LoRA."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg import plugins
from vlg.models.noise import generator
from vlg.train import checkpoints

if TYPE_CHECKING:
    import torch

    from vlg.config.sections import Training
    from vlg.models.family import Family
    from vlg.train.method import Method


class State:
    """The weights being trained and all that must survive a stop: optimizer, EMA and counters.

    method: its own state is saved, too.
    """

    def __init__(self, net: Any, settings: Training, method: Method) -> None:
        import torch

        self.net, self.settings, self.method = net, settings, method
        self.weights = {n: p for n, p in net.named_parameters() if p.requires_grad}
        averaged = self.weights if settings.ema_decay else {}
        self.ema = {n: p.detach().clone() for n, p in averaged.items()}
        self.optimizer = torch.optim.AdamW(
            self.weights.values(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.step = 0
        # Of early stopping (`vlg.train.stop`): the best look so far, and its weights.
        self.looked: dict[str, Any] = {}
        self.kept: dict[str, torch.Tensor] = {}
        # Samples computed at once; fewer once memory has run out.
        self.part = math.ceil(settings.batch_size / settings.accumulate)

    def update(self) -> torch.Tensor:
        """Clip the gradients, take an AdamW step, let the EMA follow; return the gradient norm."""
        from torch.optim.swa_utils import get_ema_multi_avg_fn

        s, weights = self.settings, list(self.weights.values())
        norm = clip(weights, s.max_grad_norm or math.inf)
        self.optimizer.param_groups[0]["lr"] = learning_rate(s, self.step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if s.ema_decay:
            # Early on the average is short, or it would be mostly base model: (1 + t) / (10 + t) is
            # 0.92 after 100 steps and 0.99 after 900 (diffusers' EMAModel does the same).
            decay = min(s.ema_decay, (1 + self.step) / (10 + self.step))
            get_ema_multi_avg_fn(decay)(list(self.ema.values()), weights, None)
        self.step += 1
        return norm

    @property
    def best(self) -> dict[str, torch.Tensor]:
        """The weights to use: the EMA if there is one."""
        return self.ema if self.settings.ema_decay else self.weights

    def groups(self) -> dict[str, dict[str, torch.Tensor]]:
        """All tensors, by group and parameter name."""
        groups = {"weights": {name: p.detach() for name, p in self.weights.items()}}
        if self.settings.ema_decay:
            groups["ema"] = self.ema
        for key in ("exp_avg", "exp_avg_sq"):
            groups[key] = {n: self.optimizer.state[p][key] for n, p in self.weights.items()}
        if self.kept:
            groups["kept"] = self.kept
        own = {name: tensor.detach() for name, tensor in self.method.state().items()}
        return groups | ({"method": own} if own else {})

    def free(self) -> None:
        """Give back the memory of a finished training, most of it on a GPU."""
        import torch

        self.net.to("cpu")
        self.optimizer.state.clear()
        self.ema.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def load(self, folder: Path) -> dict[str, Any]:
        """Continue from a state folder; returns its counters."""
        import torch

        groups, counters = checkpoints.read_state(folder)
        self.step, self.looked = counters["step"], counters.get("looked", {})
        with torch.no_grad():
            for name, parameter in self.weights.items():
                parameter.copy_(groups["weights"][name])
                if self.settings.ema_decay:
                    self.ema[name].copy_(groups["ema"][name])
                moments = {
                    key: torch.empty_like(parameter).copy_(groups[key][name])
                    for key in ("exp_avg", "exp_avg_sq")
                }
                steps = torch.tensor(float(self.step), device=parameter.device)
                self.optimizer.state[parameter] = {"step": steps, **moments}
        device = next(iter(self.weights.values())).device
        self.kept = {name: kept.to(device) for name, kept in groups.get("kept", {}).items()}
        if own := groups.get("method"):
            self.method.load_state(own)
        return counters


def clip(weights: list[torch.Tensor], most: float) -> torch.Tensor:
    """`torch.nn.utils.clip_grad_norm_` to the bit, without its pass over all gradients where that
    multiplies by 1. A GPU makes the pass: to know, the CPU would have to wait for it."""
    from torch.nn import utils

    norm = utils.get_total_norm([w.grad for w in weights if w.grad is not None])
    within = norm.device.type == "cpu" and most / (norm + 1e-6) >= 1  # false where it is nan
    if not within:
        utils.clip_grads_with_norm_(weights, most, norm)
    return norm


def learning_rate(settings: Training, step: int) -> float:
    """The rate of step `step` (from 0): linear warm-up, then constant."""
    return settings.learning_rate * min(1.0, (step + 1) / max(1, settings.warmup_steps))


def add_lora(net: Any, family: Family, settings: Training) -> None:
    """Freeze the network and add low-rank matrices to its attention (LoRA, Hu et al. 2021, 4.1).

    W x becomes W x + B A x with A [rank, in] drawn at random and B [out, rank] zero at first.
    """
    import torch
    from peft import LoraConfig

    seed = generator("lora", settings.seed).initial_seed()
    net.requires_grad_(False)
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_rank,
        init_lora_weights="gaussian",
        target_modules=list(family.lora_targets),
    )
    with torch.random.fork_rng():  # peft draws from the global generator
        torch.manual_seed(seed)
        net.add_adapter(config)
    if settings.frozen != "fp32":
        plugins.load("train", "frozen").pack(net, settings.frozen)


def final_weights(state: State, family: Family) -> tuple[dict[str, Any], dict[str, Any]]:
    """(all weights of the network as the base names them, the LoRA's own or nothing).

    The last thing done with a network: its LoRA layers are merged and removed.
    """
    import torch

    if not state.settings.lora_rank:
        return {**state.net.state_dict(), **state.best}, {}
    with torch.no_grad():
        for name, weight in state.weights.items():
            weight.copy_(state.best[name])
    lora = {
        f"{family.network_name}.{name.replace('.default.', '.')}": weight.detach().clone()
        for name, weight in state.weights.items()
    }
    net = state.net
    if state.settings.frozen != "fp32":  # merged into the weights as the base has them
        net = family.network()
        add_lora(net, family, state.settings.model_copy(update={"frozen": "fp32"}))
        net.load_state_dict(state.weights, strict=False)
    net.fuse_lora()
    net.unload_lora()
    return net.state_dict(), lora

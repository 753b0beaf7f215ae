"""Fine-tuning: `finetune` at the end of this file is the whole run, read it first.

A run is a function of its inputs and settings. What step s trains on is a function of (seed, s),
and the learning rate is one of s, so a run that stops and continues any number of times ends in the
very bits of one that never stopped. What is trained for is the method's (`vlg.train.method`), how
the network is called the family's (`vlg.models.family`); here is what all have in common.
"""

from __future__ import annotations

import functools
import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg import plugins
from vlg.data.source import Cache, LiveCache, Source
from vlg.errors import UserError
from vlg.files import (
    MANIFEST,
    atomic_folder,
    identity,
    link,
    read_json,
    write_json,
    write_manifest,
)
from vlg.models.components import write_model
from vlg.models.device import (
    Parts,
    autocast,
    first_line,
    out_of_memory,
    place,
    release,
    set_precision,
)
from vlg.models.families import file_of
from vlg.models.family import open_family
from vlg.models.ledger import Cost, Ledger, forgotten_on_error
from vlg.train import checkpoints
from vlg.train import method as methods
from vlg.train.batches import Batch, held_out_batches
from vlg.train.log import FILES, Log, check_held_out
from vlg.train.method import Method
from vlg.train.state import State, add_lora, final_weights, learning_rate
from vlg.train.together import agreed, from_first, gathered, wait_for_all
from vlg.workflow.codehash import code_hash
from vlg.workflow.processes import Stop, process

if TYPE_CHECKING:
    import torch

    from vlg.config.sections import Training
    from vlg.models.family import Family

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


# --- a step -------------------------------------------------------------------------------------


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
                "finetune.gradient_checkpointing, finetune.precision bf16 or finetune.lora_rank"
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

    weights, numbers = backward(run, run.method.batch(run.data, run.state.step))
    norm = run.state.update()
    run.method.after(run.state.net, run.state.step)
    return weights, torch.cat([numbers, norm[None]])


# --- between steps ------------------------------------------------------------------------------


def evaluate(run: Run, logs: Log, batches: list[Batch]) -> None:
    """Log how the weights as they would be written now do on held-out pictures."""
    run.settle("training")
    row = {"step": run.state.step, **held_out(run, batches)}
    check_held_out(run.state.step, row["denoising"])
    if len(run.method.terms_and_logs) > 1:
        row |= gradient_norms(run, run.method.batch(run.data, run.state.step))
    run.settle("looks")
    logs.write("held_out.csv", row)
    log.info(
        "step %d: held-out %s, %s pictures/s",
        run.state.step,
        ", ".join(f"{name} {row[name]:.4f}" for name in run.method.looks),
        logs.last.get("log.csv", {}).get("pictures_per_second", "-"),
    )
    logs.restart_clock()


def held_out(run: Run, batches: list[Batch]) -> dict[str, float]:
    """Means over the held-out pictures, by the weights as they would be written now."""
    import torch

    found: dict[str, list[torch.Tensor]] = {name: [] for name in run.method.looks}

    def best(*arguments: Any, **options: Any) -> Any:
        return torch.func.functional_call(run.state.net, run.state.best, arguments, options)

    def part(batch: Batch, span: range) -> None:
        some = batch.part(slice(span.start, span.stop))
        for name, values in run.method.held_out(best, some).items():
            found[name].append(values)

    with torch.no_grad(), autocast(run.device, run.settings.precision):
        for batch in batches:
            run.parts(functools.partial(part, batch), range(len(batch)))
    means = {name: torch.cat(values) for name, values in found.items()}
    return {name: v.mean().item() if len(v) else math.nan for name, v in means.items()}


def save(run: Run, logs: Log, resume: Path, facts: Mapping[str, Any]) -> Path:
    """Write the whole state into the resume folder, keep the last two, return the new one.

    All processes call it, and the first writes. facts: what the run is made of.
    """
    run.settle("training")
    costs = gathered(run.cost)
    folder = resume / f"step-{run.state.step:08d}"
    if process()[0] == 0:
        # The costs of all are the first one's from now on.
        run.cost = {what: sum((each[what] for each in costs), Cost()) for what in run.cost}
        cost = {what: each.json() for what, each in run.cost.items()}
        counters = {"step": run.state.step, "seconds": logs.seconds, "cost": cost, **facts}
        checkpoints.write_state(folder, run.state.groups(), counters, logs.texts())
        for old in checkpoints.saved_states(resume)[2:]:
            shutil.rmtree(old)
    else:
        run.cost = {what: Cost() for what in run.cost}
    logs.restart_clock()
    return folder


def write_results(
    run: Run,
    logs: Log,
    final: Path,
    out_model: Path,
    out_training: Path,
    draw_samples: Callable[[Path, Path], None] | None,
) -> None:
    """Write the model folder and the training folder from the state saved in `final`."""
    import torch

    variant = out_training.name.partition("-")[0]
    facts = {"variant": variant, "step": run.state.step, "settings": run.told()}
    parameters = sum(weight.numel() for weight in run.state.weights.values())
    weights, lora = final_weights(run.state, run.family)
    base = run.family.folder
    facts_of_model = {"derived_from": identity(base), **facts}
    write_model(base, out_model, run.family.network_name, weights, lora, **facts_of_model)

    summary = {
        **facts,
        "steps": run.state.step,
        "train_seconds": logs.seconds,
        "cost": {what: cost.json() for what, cost in run.cost.items()},
        "held_out": logs.last.get("held_out.csv"),
        "last_step": logs.last.get("log.csv"),
        "parameters": parameters,
        "peak_memory_gb": round(logs.last["log.csv"]["memory_gb"], 2),
        "device": run.device,
        "threads": torch.get_num_threads(),
    }
    logs.close()
    run.state.free()
    with atomic_folder(out_training) as folder:
        if draw_samples:
            draw_samples(out_model, folder / "samples")
        shutil.copytree(final, folder / "state", copy_function=link)
        for name in FILES:
            shutil.copy(final / name, folder / name)
        shutil.copytree(logs.folder / "tensorboard", folder / "tensorboard")
        write_json(folder / "summary.json", summary)
        write_manifest(folder, **facts)


# --- before the first step ----------------------------------------------------------------------


def begin(name: str, settings: Training, folders: Mapping[str, Path], device: str = "cpu") -> Run:
    """The models as they are before the first step, and the data.

    name: of the method. folders: `base`; `cache`, or `data` for pictures; and what else the method
    needs (`guide`, `embeddings`, ...).
    """
    set_precision(settings.precision)
    family, ledger = open_family(folders["base"], device), Ledger()
    family.checkpointing = settings.gradient_checkpointing
    family.watch(ledger)
    method = methods.load(name, settings, family)
    data = open_source(settings, family, folders)
    net = place(family.network(), device, compiled=True).train()
    if settings.lora_rank:
        add_lora(net, family, settings)
    if settings.gradient_checkpointing:
        net.enable_gradient_checkpointing()
    method.prepare(net, folders, ledger)
    if settings.watch_guide and method.watching is None:
        watch = plugins.load("train", "watch")
        method.watching = watch.Watch(watch.open_guide(folders, ledger, device))
    return Run(State(net, settings, method), method, data, ledger)


def open_source(settings: Training, family: Family, folders: Mapping[str, Path]) -> Source:
    """The encoded data set, or the pictures themselves; UserError when it is not given."""
    if settings.cached:
        if "cache" not in folders:
            raise UserError("--cache: missing; give the folder that encode.py wrote")
        return Cache(folders["cache"], folders.get("embeddings"))
    if "data" not in folders:
        raise UserError("--data: missing, and finetune.cached is false; give the image folder")
    return LiveCache(
        folders["data"], family, folders.get("embeddings"),
        resolution=settings.resolution, flip=settings.flip,
        crop=settings.crop, jitter=settings.jitter,
    )  # fmt: skip


def check_previous(folder: Path | None, settings: Mapping[str, Any]) -> None:
    """UserError unless the state in `folder` (None: the base) is one that `settings` continue."""
    if folder and not folder.exists():
        raise UserError(
            f"{folder}: was deleted, so no training can continue from it; delete "
            f"{folder.with_name(MANIFEST)} and rerun, which trains it again"
        )
    before = read_json(folder / "counters.json") if folder else {"step": 0, "settings": settings}
    if before["step"] != settings["start"]:
        raise UserError(
            f"{folder or '--previous'}: is at step {before['step']}, not at {settings['start']}; "
            "rerun the checkpoint before this one"
        )
    for key in settings.keys() - {"start", "step"}:
        trained = before["settings"].get(key)
        if trained != settings[key]:
            raise UserError(
                f"{folder}: was trained with {key} {trained}, not {settings[key]}; "
                "rerun the checkpoint before this one"
            )


def made_of(run: Run, folders: Mapping[str, Path]) -> dict[str, Any]:
    """What a saved state must agree with to be continued: method, settings, inputs and code."""
    chosen = [plugins.file(plugins.METHODS, run.method.name), file_of(folders["base"])]
    if run.method.watching:
        chosen.append(plugins.file("train", "watch"))
    return {
        "settings": run.told(),
        "inputs": {key: identity(path) for key, path in folders.items()},
        "code": code_hash(Path(__file__), *chosen),
    }


# --- the whole run ------------------------------------------------------------------------------


def finetune(
    *,
    method: str,
    values: Mapping[str, Any],
    folders: Mapping[str, Path],
    previous: Path | None = None,
    out_model: Path,
    out_training: Path,
    device: str = "cpu",
    save_every: int = 500,
    save_minutes: float = 10,
    stop: Stop | None = None,
    draw_samples: Callable[[Path, Path], None] | None = None,
) -> None:
    """Train by a method from a base, or on from `previous`, and write the model and the training.

    values: the method's settings. folders: `base`; what `encode` wrote as `cache`, or an image
    folder as `data`; and what the method needs beside, by name. Others are left alone. previous:
    the training folder of the checkpoint before.

    Every `save_every` steps and `save_minutes` minutes, and when `stop` turns true, the whole state
    goes into `.resume-<variant>-<step>` beside `out_training`, which survives a failed job; the
    same call then continues from there. The folder is removed when the run is finished.

    `draw_samples(model folder, folder to write)` draws the finished model's samples. They are no
    part of what was trained: a finished run that is asked for other samples trains nothing again.
    """
    from torch import distributed
    from tqdm import tqdm

    settings = methods.settings_of(method, values)
    folders = needed(method, settings, folders)
    rank, world = process()
    if world > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    stop = Stop() if stop is None else stop
    resume = out_training.with_name(f".resume-{out_training.name}")
    if rank == 0:  # this process alone writes, but for the others' logs
        checkpoints.make_clean(resume, out_model, out_training)

    run = begin(method, settings, folders, device)
    inputs = folders | ({"previous": previous / "state"} if previous else {})
    facts = made_of(run, inputs)
    before = None
    if rank == 0:
        finished = checkpoints.read_if_fits(out_training / "state", facts)
        before = finished or checkpoints.newest_state(resume, facts)
    before = from_first(before)
    if before:
        log.info("going on from %s", before)
    else:
        before = previous and previous / "state"
        check_previous(before, facts["settings"])
    seconds = 0.0
    if before:
        counters = run.state.load(before)
        seconds = counters["seconds"]
        if rank == 0:
            run.cost = {what: Cost.read(cost) for what, cost in counters["cost"].items()}
    folder = resume / f"process-{rank}" if rank else resume
    logs = Log(folder, run.method, before, seconds)
    held_out = held_out_batches(run.data, settings.batch_size, run.family.timesteps)
    if run.state.step == 0:
        evaluate(run, logs, held_out)

    wait = 1 if device == "cpu" else 10  # steps between looks at the numbers: each waits for a GPU
    saved = time.monotonic()
    final = before
    ahead = range(run.state.step, settings.step)
    for _ in tqdm(ahead, desc=out_training.name, disable=None, mininterval=2):
        rate = learning_rate(settings, run.state.step)
        weights, numbers = train_step(run)
        step = run.state.step
        logs.step(step, rate, weights, numbers)
        last = step == settings.step
        look = last or step % settings.evaluate_every == 0
        late = time.monotonic() - saved > 60 * save_minutes
        interrupted = agreed(bool(stop) or late)  # in all processes or in none
        stopping = interrupted and agreed(stop)
        save_now = last or interrupted or step % save_every == 0
        if look or save_now or step % wait == 0:
            logs.flush()
        if look:
            evaluate(run, logs, held_out)
        if save_now:
            final = save(run, logs, resume, facts)
            saved = time.monotonic()
        if stopping:
            raise UserError(
                f"{out_training.name}: stopped by {stop.name or 'a signal'} after step {step}; its "
                "state is kept, run it again to continue"
            )
    if rank:
        logs.close()
    wait_for_all()
    if rank == 0:
        write_results(run, logs, final, out_model, out_training, draw_samples)
        shutil.rmtree(resume)


def needed(method: str, settings: Training, folders: Mapping[str, Path]) -> dict[str, Path]:
    """Of the folders that are given, those that a run works with."""
    needs = set(plugins.constant(plugins.METHODS, method, "NEEDS", ()))
    names = {"base", "cache" if settings.cached else "data", *needs}
    if "guide" in needs or settings.watch_guide:
        names |= {"guide", "embeddings"}
    if "guide" in needs:
        names.add("decoder")
    return {name: folder for name, folder in folders.items() if name in names}

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
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    sha256,
    write_json,
    write_manifest,
)
from vlg.models.components import write_model
from vlg.models.device import (
    autocast,
    place,
    set_precision,
)
from vlg.models.families import file_of
from vlg.models.family import open_family
from vlg.models.ledger import Cost, Ledger
from vlg.train import checkpoints
from vlg.train import method as methods
from vlg.train.batches import Batch, held_out_batches
from vlg.train.log import FILES, Log, check_held_out
from vlg.train.state import State, add_lora, final_weights, learning_rate
from vlg.train.step import Run, gradient_norms, train_step
from vlg.train.together import agreed, from_first, gathered, wait_for_all
from vlg.workflow.codehash import code_hash
from vlg.workflow.processes import Stop, process

if TYPE_CHECKING:
    import torch

    from vlg.config.sections import Sampling, Training
    from vlg.models.family import Family
    from vlg.train.stop import Stopping

log = logging.getLogger("vlg")


@dataclass(frozen=True)
class Wanted:
    """Development prompts and how they are drawn: each with each seed."""

    prompts: list[str]
    seeds: list[int]
    sampling: Sampling


# --- between steps ------------------------------------------------------------------------------


def evaluate(run: Run, logs: Log, batches: list[Batch], early: Stopping | None) -> bool:
    """Log how the weights as they would be written now do on held-out pictures; whether the judge
    of `early` has seen no better ones for too long."""
    run.settle("training")
    row = {"step": run.state.step, **held_out(run, batches)}
    check_held_out(run.state.step, row["denoising"])
    if len(run.method.terms_and_logs) > 1:
        row |= gradient_norms(run, run.method.batch(run.data, run.state.step))
    enough = False
    if early:
        row["stop_score"] = early.score(run)
        enough = plugins.load("train", "stop").note(run, row["stop_score"])
    run.settle("looks")
    logs.write("held_out.csv", row)
    log.info(
        "step %d: held-out %s, %s pictures/s",
        run.state.step,
        ", ".join(f"{name} {row[name]:.4f}" for name in run.method.looks),
        logs.last.get("log.csv", {}).get("pictures_per_second", "-"),
    )
    logs.restart_clock()
    return enough


def held_out(run: Run, batches: list[Batch]) -> dict[str, float]:
    """Means over the held-out pictures, by the weights as they would be written now."""
    import torch

    found: dict[str, list[torch.Tensor]] = {name: [] for name in run.method.looks}

    best = methods.replaced(run.state.net, run.state.best)

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
        counters |= {"looked": run.state.looked} if run.state.looked else {}
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
        "cost": {what: cost.json() for what, cost in run.cost.items()} | dict(run.method.costs),
        "held_out": logs.last.get("held_out.csv"),
        "last_step": logs.last.get("log.csv"),
        "parameters": parameters,
        "peak_memory_gb": round(logs.last["log.csv"]["memory_gb"], 2),
        **({"early_stop": run.state.looked} if run.state.looked else {}),
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
    if family.lora_only and not settings.lora_rank:
        raise UserError(f"lora_rank: is 0, and {family.lora_only}; set it to 16")
    net = family.network()
    if settings.lora_rank:
        add_lora(net, family, settings)
    net = place(net, device, compiled=True).train()
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
    chosen += [plugins.file(*each) for each in run.settings.found()]
    if run.method.watching:
        chosen.append(plugins.file("train", "watch"))
    if "stop_judge" in folders:
        chosen.append(plugins.file("train", "stop"))
    return {
        "settings": run.told(),
        "inputs": {key: identity(path) for key, path in folders.items()}
        | {file.name: sha256(file) for file in run.settings.files()},
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
    development: Wanted | None = None,
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

    development: what early stopping looks at, needed for it alone.
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
    early = early_stopping(run, folders, development)
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
    logs = Log(folder, run.method, before, seconds, stops=early is not None)
    held_out = held_out_batches(run.data, settings.batch_size, run.family.timesteps)
    if run.state.step == 0:
        run.method.before(run.state.net, run.data, 0)  # which a step's gradient is looked at with
        evaluate(run, logs, held_out, early)
    if "stopped" in run.state.looked and run.state.step < settings.step:
        # An earlier checkpoint has stopped: this one is the same.
        run.state.step = settings.step
        final = before = save(run, logs, resume, facts)

    wait = 1 if device == "cpu" else 10  # steps between looks at the numbers: each waits for a GPU
    saved = time.monotonic()
    final = before
    ahead = range(run.state.step, settings.step)
    # Only on a terminal, unless it shows the whole run already (vlg.workflow.screen).
    quiet = True if os.environ.get("TQDM_DISABLE") else None
    for _ in tqdm(ahead, desc=out_training.name, disable=quiet, mininterval=2):
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
            # A look at a checkpoint that comes between is none of early stopping's.
            counts = step % settings.evaluate_every == 0
            if evaluate(run, logs, held_out, early if counts else None):
                log.info("stopped early: %s", plugins.load("train", "stop").end(run))
                run.state.step = settings.step
                save_now = True
        if save_now:
            final = save(run, logs, resume, facts)
            saved = time.monotonic()
        if stopping:
            raise UserError(
                f"{out_training.name}: stopped by {stop.name or 'a signal'} after step {step}; its "
                "state is kept, run it again to continue"
            )
        if run.state.step == settings.step:
            break
    if rank:
        logs.close()
    wait_for_all()
    if rank == 0:
        write_results(run, logs, final, out_model, out_training, draw_samples)
        shutil.rmtree(resume)


def early_stopping(
    run: Run, folders: Mapping[str, Path], development: Wanted | None
) -> Stopping | None:
    """The judge of early stopping, where the settings name one."""
    if "stop_judge" not in folders:
        return None
    if development is None or not development.prompts:
        raise UserError("--development: missing; stop_judge looks at its prompts")
    judge = plugins.load("train", "stop").Stopping(folders["stop_judge"], development, run)
    return judge  # type: ignore[no-any-return]


def needed(method: str, settings: Training, folders: Mapping[str, Path]) -> dict[str, Path]:
    """Of the folders that are given, and those that the settings name, what a run works with."""
    needs = set(plugins.constant(plugins.METHODS, method, "NEEDS", ()))
    names = {"base", "cache" if settings.cached else "data", *needs, *settings.inputs()}
    if "guide" in needs or settings.watch_guide:
        names |= {"guide", "embeddings"}
    own = {name: getattr(settings, name) for name in settings.inputs()}
    named = {name: Path(path) for name, path in own.items() if path}
    return {name: path for name, path in (named | dict(folders)).items() if name in names}

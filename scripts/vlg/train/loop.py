"""Fine-tuning: `finetune` at the end of this file is the whole run, read it first.

A run is a function of its inputs and settings. The pictures, captions, noise and timesteps of step
s are functions of (seed, s), and the learning rate is one of s, so a run that stops and continues
any number of times ends in the very bits of one that never stopped.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.data.encoded import Cache, LiveCache, Source
from vlg.errors import UserError
from vlg.files import MANIFEST, atomic_folder, read_json, write_json, write_manifest
from vlg.models import checkpoints
from vlg.models.device import autocast, first_line, out_of_memory, place, release, set_precision
from vlg.train import losses
from vlg.train.batches import Batch, draw, held_out_batches
from vlg.train.log import Log, check_held_out
from vlg.train.state import State, add_lora, final_weights, learning_rate
from vlg.train.terms import Losses
from vlg.workflow.codehash import code_hash
from vlg.workflow.processes import Stop, agreed, from_first, process, wait_for_all

if TYPE_CHECKING:
    import torch

log = logging.getLogger("vlg")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What changes the result. Steps count from the base model; 0 or None turns a thing off."""

    batch_size: int
    learning_rate: float
    seed: int
    step: int  # stop after this many steps
    start: int = 0  # continue after this many, from the previous checkpoint's state
    warmup_steps: int = 0  # linear; then the rate is constant, or it would depend on `step`
    weight_decay: float = 0.0
    max_grad_norm: float | None = None
    ema_decay: float = 0.0
    caption_dropout: float = 0.0
    min_snr_gamma: float | None = None
    guide_scale: float = 0.0  # 0: normal fine-tuning
    target: str = "text"  # what the picture should look like to the guide: text, image or mix
    window: tuple[int, int] = (0, 999)  # timesteps of the CLIP term, both ends included
    lora_rank: int = 0  # train low-rank changes of the attention weights instead of all weights
    precision: str = "fp32"  # or bf16: autocast, over weights kept in fp32
    accumulate: int = 1  # parts in which a batch is computed, to save memory
    gradient_checkpointing: bool = False  # recompute activations in UNet and VAE decoder
    weighting: str = "abar"  # of the CLIP term inside the window: abar, sqrt_abar or uniform
    evaluate_every: int = 100  # steps between looks at the held-out pictures
    watch_guide: bool = False  # log the guide's cosine even where guide_scale is 0
    cached: bool = True  # train from encode.py's folder; False: encode at every step
    resolution: int | None = None  # pixels; this and the next three only without the cache
    flip: bool = False
    crop: float = 1.0  # lowest share of the shorter side that a random crop keeps
    jitter: float = 0.0  # by how much brightness, contrast and saturation change

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Settings:
        """From a JSON object; UserError names an unknown, missing or impossible value."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for key in values:
            if key not in fields:
                raise UserError(f"finetune.{key}: unknown setting; one of {', '.join(fields)}")
        for key, field in fields.items():
            if field.default is dataclasses.MISSING and key not in values:
                raise UserError(f"finetune.{key}: missing; give it in --settings")
        result = cls(**{**values, "window": tuple(values.get("window", (0, 999)))})
        for key, good, what in (
            ("step", result.step > result.start >= 0, f"must be over start ({result.start})"),
            ("batch_size", result.batch_size >= 1, "must be at least 1"),
            ("accumulate", 1 <= result.accumulate <= result.batch_size, "1 .. batch_size"),
            ("target", result.target in ("text", "image", "mix"), "must be text, image or mix"),
            ("precision", result.precision in ("fp32", "bf16"), "must be fp32 or bf16"),
            ("caption_dropout", 0 <= result.caption_dropout < 1, "must be in [0, 1)"),
            ("ema_decay", 0 <= result.ema_decay < 1, "must be in [0, 1)"),
            ("weighting", result.weighting in losses.WEIGHTS, f"one of {list(losses.WEIGHTS)}"),
            ("crop", 0 < result.crop <= 1, "must be in (0, 1]"),
            ("jitter", 0 <= result.jitter < 1, "must be in [0, 1)"),
        ):
            if not good:
                raise UserError(f"finetune.{key}: {getattr(result, key)}; {what}")
        for key in ("resolution", "flip", "crop", "jitter"):
            if result.cached and getattr(result, key) != fields[key].default:
                raise UserError(f"finetune.{key}: needs pixels; set finetune.cached to false")
        return result


def backward(
    state: State, terms: Losses, batch: Batch, denoising_scale: float, clip_scale: float
) -> torch.Tensor:
    """Add the gradient of the scaled loss terms, each a mean over the whole batch.

    Returns [denoising, clip, sum of cosines, number of cosines], the terms unscaled. The CLIP term
    is divided by the batch and not by the number of samples in the window, so the weight of one
    sample doesn't depend on its neighbours; and since every term is a sum over samples, it may be
    computed in parts (`accumulate`) and by several processes, each taking every world-th sample.

    When memory runs out, the gradient is computed again in parts of half the size, and so are all
    that follow; weights and optimizer have not changed. UserError when one sample is too much.
    """
    import torch
    from torch import distributed

    s, world = state.settings, process()[1]
    while True:
        sums, problem = None, ""
        try:
            sums = accumulate(state, terms, batch, denoising_scale, clip_scale)
        except Exception as error:
            if not out_of_memory(error):
                raise
            problem = first_line(error)
        if not agreed(sums is None):  # all processes go on, or all try again
            break
        state.optimizer.zero_grad()
        release()
        size = min(state.part, math.ceil(s.batch_size / world))
        if size == 1:
            raise UserError(
                f"out of memory in training on one picture at a time ({problem}); try "
                "finetune.gradient_checkpointing, finetune.precision bf16 or finetune.lora_rank"
            )
        state.part = math.ceil(size / 2)
        log.warning(
            "out of memory in training on %d pictures at a time; going on with %d", size, state.part
        )
    if world > 1:
        for tensor in (sums, *(weight.grad for weight in state.weights.values())):
            distributed.all_reduce(tensor)
    return sums / torch.tensor([s.batch_size, s.batch_size, 1, 1], device=terms.device)


def accumulate(
    state: State, terms: Losses, batch: Batch, denoising_scale: float, clip_scale: float
) -> torch.Tensor:
    """`backward` on this process's share of a batch; the four numbers are sums."""
    import torch

    s, device, size = state.settings, terms.device, state.part
    rank, world = process()
    sums = torch.zeros(4, device=device)
    for begin in range(rank, s.batch_size, size * world):
        part = batch.part(slice(begin, begin + size * world, world))
        with autocast(device, s.precision):
            denoising, clip, cosine = terms(state.unet, part)
        loss = denoising_scale * denoising.sum() + clip_scale * clip.sum()
        (loss / s.batch_size).backward()
        count = torch.tensor(float(len(cosine)), device=device)
        sums += torch.stack([denoising.sum(), clip.sum(), cosine.sum(), count]).detach()
    return sums


def gradient_norms(state: State, terms: Losses, batch: Batch) -> dict[str, float]:
    """The norm of each loss term's gradient, the CLIP term's with guide_scale, on one batch."""
    import torch

    norms = {}
    for name, scales in (("denoising", (1, 0)), ("clip", (0, state.settings.guide_scale))):
        backward(state, terms, batch, *scales)
        grads = [weight.grad for weight in state.weights.values()]
        norms[f"grad_{name}"] = torch.nn.utils.get_total_norm(grads).item()
        state.optimizer.zero_grad()
    return norms


def train_step(state: State, terms: Losses) -> torch.Tensor:
    """One step of training, the state's next; returns `backward`'s four numbers and the norm."""
    import torch

    batch = draw(terms.cache, state.settings, state.step, terms.timesteps)
    sums = backward(state, terms, batch, 1.0, state.settings.guide_scale)
    return torch.cat([sums, state.update()[None]])


def evaluate(state: State, terms: Losses, logs: Log, batches: list[Batch]) -> None:
    """Log the held-out losses of the weights as they would be written now."""
    import torch

    if terms.guide is None and state.settings.watch_guide:
        terms.load_guide()
    row = {"step": state.step}

    def best(*arguments: Any, **options: Any) -> Any:
        return torch.func.functional_call(state.unet, state.best, arguments, options)

    row |= terms.held_out(best, batches)
    check_held_out(state.step, row["denoising"])
    if state.settings.guide_scale:
        batch = draw(terms.cache, state.settings, state.step, terms.timesteps)
        row |= gradient_norms(state, terms, batch)
    logs.write("held_out.csv", row)
    log.info(
        "step %d: held-out denoising loss %.4f, guide cosine %.4f, %s pictures/s",
        state.step, row["denoising"], row["guide_cosine"],
        logs.last.get("log.csv", {}).get("pictures_per_second", "-"),
    )  # fmt: skip
    logs.restart_clock()


def save(state: State, logs: Log, resume: Path, fingerprint: dict[str, Any]) -> Path:
    """Write the whole state into the resume folder, keep the last two, return the new one."""
    folder = resume / f"step-{state.step:08d}"
    counters = {"step": state.step, "seconds": logs.seconds, **fingerprint}
    checkpoints.write_state(folder, state.groups(), counters, logs.texts())
    for old in checkpoints.saved_states(resume)[2:]:
        shutil.rmtree(old)
    logs.restart_clock()
    return folder


def write_results(
    state: State,
    terms: Losses,
    logs: Log,
    final: Path,
    out_model: Path,
    out_training: Path,
    draw_samples: Callable[[Path, Path], None] | None,
) -> None:
    """Write the model folder and the training folder from the state saved in `final`."""
    import torch

    variant, settings = out_training.name.partition("-")[0], dataclasses.asdict(state.settings)
    facts = {"variant": variant, "step": state.step, "settings": settings}
    parameters = sum(weight.numel() for weight in state.weights.values())
    unet, lora = final_weights(state)
    origin = checkpoints.identity(terms.base)
    checkpoints.write_model(terms.base, out_model, unet, lora, derived_from=origin, **facts)

    summary = {
        **facts,
        "steps": state.step,
        "train_seconds": logs.seconds,
        "held_out": logs.last.get("held_out.csv"),
        "last_step": logs.last.get("log.csv"),
        "parameters": parameters,
        "peak_memory_gb": round(logs.last["log.csv"]["memory_gb"], 2),
        "device": terms.device,
        "threads": torch.get_num_threads(),
    }
    logs.close()
    state.free()
    with atomic_folder(out_training) as folder:
        if draw_samples:
            draw_samples(out_model, folder / "samples")
        shutil.copytree(final, folder / "state", copy_function=checkpoints.link)
        for name in Log.COLUMNS:
            shutil.copy(final / name, folder / name)
        shutil.copytree(logs.folder / "tensorboard", folder / "tensorboard")
        write_json(folder / "summary.json", summary)
        write_manifest(folder, **facts)


def finetune(
    *,
    base: Path,
    guide: Path | None = None,
    embeddings: Path | None = None,
    cache: Path | None = None,
    data: Path | None = None,
    previous: Path | None = None,
    out_model: Path,
    out_training: Path,
    values: dict[str, Any],
    decoder: Path | None = None,
    device: str = "cpu",
    save_every: int = 500,
    save_minutes: float = 10,
    stop: Stop | None = None,
    draw_samples: Callable[[Path, Path], None] | None = None,
) -> None:
    """Train from `base`, or on from `previous`, and write the model and the training folder.

    `cache` and `embeddings` are folders of `data.encoded`'s two functions; without the cache the
    image folder `data` is encoded at every step. Guide and embeddings are used only where the
    settings have a CLIP term or watch the guide's cosine.

    Every `save_every` steps and `save_minutes` minutes, and when `stop` turns true, the whole state
    goes into `.resume-<variant>-<step>` beside `out_training`, which survives a failed job; the
    same call then continues from there. The folder is removed when the run is finished.

    `draw_samples(model folder, folder to write)` draws the finished model's samples. They are no
    part of what was trained: a finished run that is asked for other samples trains nothing again.
    """
    from torch import distributed
    from tqdm import tqdm

    settings = Settings.parse(values)
    rank, world = process()
    if world > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    stop = Stop() if stop is None else stop
    resume = out_training.with_name(f".resume-{out_training.name}")
    if rank == 0:  # this process alone writes, but for the others' logs
        checkpoints.make_clean(resume, out_model, out_training)

    if not (settings.guide_scale or settings.watch_guide):
        guide = embeddings = decoder = None
    folders = {"base": base, "guide": guide, "embeddings": embeddings, "decoder": decoder}
    folders |= {"cache": cache} if settings.cached else {"data": data}
    folders |= {"previous": previous and previous / "state"}
    source = open_source(settings, base, embeddings, cache, data, device)
    state, terms = begin(settings, source, base, guide, device, decoder)
    fingerprint = run_fingerprint(settings, folders)
    before = None
    if rank == 0:
        finished = checkpoints.read_if_fits(out_training / "state", fingerprint)
        before = finished or checkpoints.newest_state(resume, fingerprint)
    before = from_first(before)
    if before:
        log.info("going on from %s", before)
    else:
        before = previous and previous / "state"
        check_previous(before, fingerprint["settings"])
    seconds = state.load(before)["seconds"] if before else 0.0
    folder = resume / f"process-{rank}" if rank else resume
    logs = Log(folder, settings, before, seconds)
    held_out = held_out_batches(terms.cache, settings.batch_size, terms.timesteps)
    if state.step == 0:
        evaluate(state, terms, logs, held_out)

    wait = 1 if device == "cpu" else 10  # steps between looks at the numbers: each waits for a GPU
    saved = time.monotonic()
    final = before
    for _ in tqdm(range(state.step, settings.step), out_training.name, disable=None, mininterval=2):
        logs.step(state.step + 1, learning_rate(settings, state.step), train_step(state, terms))
        last = state.step == settings.step
        look = last or state.step % settings.evaluate_every == 0
        stopping = agreed(stop)
        late = time.monotonic() - saved > 60 * save_minutes
        save_now = last or stopping or late or state.step % save_every == 0
        if look or save_now or state.step % wait == 0:
            logs.flush()
        if look:
            evaluate(state, terms, logs, held_out)
        if save_now and rank == 0:
            final = save(state, logs, resume, fingerprint)
            saved = time.monotonic()
        if stopping:
            raise UserError(
                f"{out_training.name}: stopped by {stop.name or 'a signal'} after step "
                f"{state.step}; its state is kept, run it again to continue"
            )
    if rank:
        logs.close()
    wait_for_all()
    if rank == 0:
        write_results(state, terms, logs, final, out_model, out_training, draw_samples)
        shutil.rmtree(resume)


def begin(
    settings: Settings,
    source: Source,
    base: Path,
    guide: Path | None,
    device: str,
    decoder: Path | None = None,
) -> tuple[State, Losses]:
    """The models as they are before the first step: what is trained, and what the losses need."""
    set_precision(settings.precision)
    terms = Losses(settings, source, base, guide, device, decoder)
    unet = place(checkpoints.load_unet(base), device, compiled=True).train()
    if settings.lora_rank:
        add_lora(unet, settings)
    if settings.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    return State(unet, settings), terms


def open_source(
    settings: Settings,
    base: Path,
    embeddings: Path | None,
    cache: Path | None,
    data: Path | None,
    device: str,
) -> Source:
    """The encoded data set, or the pictures themselves; UserError when it is not given."""
    if settings.cached:
        if cache is None:
            raise UserError("--cache: missing; give the folder that encode.py wrote")
        return Cache(cache, embeddings)
    if data is None:
        raise UserError("--data: missing, and finetune.cached is false; give the image folder")
    return LiveCache(
        data, base, device, embeddings,
        resolution=settings.resolution, flip=settings.flip,
        crop=settings.crop, jitter=settings.jitter,
    )  # fmt: skip


def check_previous(folder: Path | None, settings: dict[str, Any]) -> None:
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


def run_fingerprint(settings: Settings, folders: dict[str, Path | None]) -> dict[str, Any]:
    """What a saved state must agree with to be continued: settings, inputs and code."""
    return {
        "settings": {**dataclasses.asdict(settings), "window": list(settings.window)},
        "inputs": {key: checkpoints.identity(path) for key, path in folders.items() if path},
        "code": code_hash(Path(__file__)),
    }

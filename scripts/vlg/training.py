"""Fine-tuning: `finetune` at the end of this file is the whole run, read it first.

A run is a function of its inputs and settings. The pictures, captions, noise and timesteps of step
s are functions of (seed, s), and the learning rate is one of s, so a run that stops and continues
any number of times ends in the very bits of one that never stopped.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import resource
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg import checkpoints, losses
from vlg.cache import Cache
from vlg.codehash import code_hash
from vlg.errors import UserError
from vlg.files import atomic_folder, read_json, write_json, write_manifest
from vlg.noise import generator
from vlg.processes import Stop, agreed, from_first, process
from vlg.trainlog import Log

if TYPE_CHECKING:
    import torch

    from vlg.guides import Guide

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
    evaluate_every: int = 100  # steps between looks at the held-out pictures

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
        ):
            if not good:
                raise UserError(f"finetune.{key}: {getattr(result, key)}; {what}")
        return result


@dataclasses.dataclass
class Batch:
    """What step s trains on. n samples; rows of the cache and random numbers, on the CPU."""

    pictures: list[int]
    captions: list[int]  # rows of the cache's captions; 0, the empty one, where dropped
    flipped: list[bool]
    timesteps: torch.Tensor  # [n] int64
    posterior: torch.Tensor  # [n, c, h, w] standard normal, for drawing z_0 = mean + std * it
    noise: torch.Tensor  # [n, c, h, w] standard normal

    def part(self, rows: slice) -> Batch:
        """These rows only."""
        return Batch(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


def draw(cache: Cache, settings: Settings, step: int, timesteps: int) -> Batch:
    """The global batch of step `step` (from 0), the same on every process.

    The data set is walked in a new order every epoch. Sample i of step s is number s * batch + i
    of that walk, so a batch may begin in one epoch and end in the next. All numbers are drawn
    whether or not a setting uses them: runs that differ in one setting see the same noise.
    """
    import torch

    n = settings.batch_size
    pictures = []
    for position in range(step * n, (step + 1) * n):
        epoch, place = divmod(position, cache.pictures)
        pictures.append(order(cache.pictures, settings.seed, epoch)[place])
    g = generator("train", settings.seed, step)
    which, dropped, mirrored = torch.rand(3, n, generator=g).tolist()
    captions = [
        0 if d < settings.caption_dropout else cache.rows[i][int(w * len(cache.rows[i]))]
        for i, w, d in zip(pictures, which, dropped, strict=True)
    ]
    return Batch(
        pictures,
        captions,
        [cache.flip and m < 0.5 for m in mirrored],
        torch.randint(timesteps, (n,), generator=g),
        torch.randn(n, *cache.shape, generator=g),
        torch.randn(n, *cache.shape, generator=g),
    )


@functools.lru_cache(maxsize=2)
def order(pictures: int, seed: int, epoch: int) -> list[int]:
    """The order in which an epoch walks the data set."""
    import torch

    return torch.randperm(pictures, generator=generator("order", seed, epoch)).tolist()


def held_out_batches(cache: Cache, size: int, timesteps: int) -> list[Batch]:
    """The held-out pictures with their first captions, always at the same noise and timesteps.

    The timesteps are spread evenly over the schedule and dealt out at random.
    """
    import torch

    n = len(cache.held_out)
    g = generator("held-out")
    spread = (torch.randperm(n, generator=g) + 0.5) / n * timesteps
    everything = Batch(
        cache.held_out,
        [cache.rows[i][0] for i in cache.held_out],
        [False] * n,
        spread.long(),
        torch.randn(n, *cache.shape, generator=g),
        torch.randn(n, *cache.shape, generator=g),
    )
    return [everything.part(slice(i, i + size)) for i in range(0, n, size)]


class Losses:
    """Both loss terms of a batch: the frozen models, the cache and the settings behind them."""

    def __init__(
        self,
        settings: Settings,
        cache: Cache,
        base: Path,
        guide: Path | None,
        device: str,
        decoder: Path | None = None,
    ) -> None:
        self.settings, self.cache, self.device = settings, cache, device
        self.base, self.guide_folder, self.decoder_folder = base, guide, decoder
        self.schedule = losses.load_schedule(base)
        self.schedule.abar = self.schedule.abar.to(device)
        self.timesteps = len(self.schedule.abar)
        self.guide: Guide | None = None
        if not 0 <= settings.window[0] <= settings.window[1] < self.timesteps:
            raise UserError(
                f"finetune.window: {list(settings.window)} must rise within the schedule, "
                f"0 .. {self.timesteps - 1}"
            )
        if settings.guide_scale:
            self.load_guide()

    def load_guide(self) -> None:
        """Load what only the CLIP term needs: the guide and the VAE's decoder."""
        from vlg.guides import load_guide

        if self.guide_folder is None:
            raise UserError("--guide: missing, and guide_scale is not 0; give the guide's folder")
        self.guide = load_guide(self.guide_folder, self.device)
        self.vae = self.decoder = checkpoints.load_vae(self.base, self.device)
        if self.decoder_folder:
            self.decoder = checkpoints.load_tiny_decoder(self.decoder_folder, self.device)
        if self.settings.gradient_checkpointing:
            self.decoder.enable_gradient_checkpointing()

    def decode(self, latents: torch.Tensor, exactly: bool = False) -> torch.Tensor:
        """Latents to pictures in 0..1, clamped as the pipeline does.

        exactly: by the base's own VAE, even if a tiny decoder serves the gradient.
        """
        vae = self.vae if exactly else self.decoder
        pictures = vae.decode(latents / vae.config.scaling_factor).sample
        return (pictures / 2 + 0.5).clamp(0, 1)

    def predict(self, unet: Any, batch: Batch) -> tuple[torch.Tensor, ...]:
        """(z_t, the UNet's prediction, its target, t) of a batch, on the device."""
        mean, std = self.cache.latents(batch.pictures, batch.flipped)
        z0 = (mean + std * batch.posterior).to(self.device)
        noise, t = batch.noise.to(self.device), batch.timesteps.to(self.device)
        states = self.cache.states(batch.captions).to(self.device)
        z_t = self.schedule.add_noise(z0, noise, t)
        predicted = unet(z_t, t, states, return_dict=False)[0]
        return z_t, predicted, self.schedule.target(z0, noise, t), t

    def embeddings(self, batch: Batch, rows: list[int], target: str) -> torch.Tensor:
        """What these rows should look like to the guide: unit vectors [m, d].

        `mix` lies half-way between the caption and the picture.
        """
        from torch.nn.functional import normalize

        text = self.cache.guide_captions([batch.captions[i] for i in rows])
        if target == "text":
            return text.to(self.device)
        image = self.cache.guide_pictures([batch.pictures[i] for i in rows])
        return (image if target == "image" else normalize(text + image, dim=1)).to(self.device)

    def __call__(self, unet: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(denoising [n], CLIP term [m], cosines [m]) of a batch; the CLIP term is unscaled.

        m is the number of captioned samples inside the window; with guide_scale 0 it is 0 and
        neither guide nor decoder is there.
        """
        import torch

        s = self.settings
        z_t, predicted, target, t = self.predict(unet, batch)
        denoising = losses.denoising(self.schedule, predicted, target, t, s.min_snr_gamma)
        if not s.guide_scale:
            return denoising, denoising[:0], denoising[:0].detach()
        # chosen on the CPU, where the timesteps were drawn: no wait for the device
        captioned = torch.tensor([caption != 0 for caption in batch.captions])
        rows = losses.clip_samples(batch.timesteps, captioned, s.window).tolist()
        if not rows:
            return denoising, denoising[:0], denoising[:0].detach()
        e = self.embeddings(batch, rows, s.target)
        clip, cosine = losses.clip_term(
            self.schedule, self.decode, self.guide, z_t[rows], predicted[rows], t[rows], e
        )
        return denoising, clip, cosine

    def held_out(self, unet: Any, batches: list[Batch]) -> dict[str, float]:
        """Mean denoising loss and guide cosine on held-out pictures, one number each.

        The loss is plain mean squared error and the cosine (with the caption) that of the samples
        in the lower half of the schedule, where the one-step estimate shows the picture: neither
        depends on a variant's settings, so variants can be compared. No cosine without a guide.
        """
        import torch

        errors, cosines = [], []
        with torch.no_grad():
            for batch in batches:
                z_t, predicted, target, t = self.predict(unet, batch)
                errors.append(losses.denoising(self.schedule, predicted, target, t))
                rows = (batch.timesteps < self.timesteps // 2).nonzero()[:, 0].tolist()
                if rows and self.guide:
                    e = self.embeddings(batch, rows, "text")
                    decode = functools.partial(self.decode, exactly=True)
                    samples = z_t[rows], predicted[rows], t[rows], e
                    _, cosine = losses.clip_term(self.schedule, decode, self.guide, *samples)
                    cosines.append(cosine)
        return {
            "denoising": torch.cat(errors).mean().item(),
            "guide_cosine": torch.cat(cosines).mean().item() if cosines else math.nan,
        }


class State:
    """The weights being trained and all that must survive a stop: optimizer, EMA and counters."""

    def __init__(self, unet: Any, settings: Settings) -> None:
        import torch

        self.unet, self.settings = unet, settings
        self.weights = {n: p for n, p in unet.named_parameters() if p.requires_grad}
        averaged = self.weights if settings.ema_decay else {}
        self.ema = {n: p.detach().clone() for n, p in averaged.items()}
        self.optimizer = torch.optim.AdamW(
            self.weights.values(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.step = 0

    def update(self) -> torch.Tensor:
        """Clip the gradients, take an AdamW step, let the EMA follow; return the gradient norm."""
        import torch
        from torch.optim.swa_utils import get_ema_multi_avg_fn

        s, weights = self.settings, list(self.weights.values())
        norm = torch.nn.utils.clip_grad_norm_(weights, s.max_grad_norm or math.inf)
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
        return groups

    def load(self, folder: Path) -> dict[str, Any]:
        """Continue from a state folder; returns its counters."""
        import torch

        groups, counters = checkpoints.read_state(folder)
        self.step = counters["step"]
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
        return counters


def learning_rate(settings: Settings, step: int) -> float:
    """The rate of step `step` (from 0): linear warm-up, then constant."""
    return settings.learning_rate * min(1.0, (step + 1) / max(1, settings.warmup_steps))


def backward(
    state: State, terms: Losses, batch: Batch, denoising_scale: float, clip_scale: float
) -> torch.Tensor:
    """Add the gradient of the scaled loss terms, each a mean over the whole batch.

    Returns [denoising, clip, sum of cosines, number of cosines], the terms unscaled. The CLIP term
    is divided by the batch and not by the number of samples in the window, so the weight of one
    sample doesn't depend on its neighbours; and since every term is a sum over samples, it may be
    computed in parts (`accumulate`) and by several processes, each taking every world-th sample.
    """
    import torch
    from torch import distributed

    s, device = state.settings, terms.device
    rank, world = process()
    size = math.ceil(s.batch_size / s.accumulate)
    sums = torch.zeros(4, device=device)
    for begin in range(rank, s.batch_size, size * world):
        part = batch.part(slice(begin, begin + size * world, world))
        with torch.autocast(torch.device(device).type, torch.bfloat16, s.precision == "bf16"):
            denoising, clip, cosine = terms(state.unet, part)
        loss = denoising_scale * denoising.sum() + clip_scale * clip.sum()
        (loss / s.batch_size).backward()
        count = torch.tensor(float(len(cosine)), device=device)
        sums += torch.stack([denoising.sum(), clip.sum(), cosine.sum(), count]).detach()
    if world > 1:
        for tensor in (sums, *(weight.grad for weight in state.weights.values())):
            distributed.all_reduce(tensor)
    return sums / torch.tensor([s.batch_size, s.batch_size, 1, 1], device=device)


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

    if terms.guide is None and terms.guide_folder:
        terms.load_guide()
    row = {"step": state.step}

    def best(*arguments: Any, **options: Any) -> Any:
        return torch.func.functional_call(state.unet, state.best, arguments, options)

    row |= terms.held_out(best, batches)
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


def add_lora(unet: Any, settings: Settings) -> None:
    """Freeze the UNet and add low-rank matrices to its attention (LoRA, Hu et al. 2021, 4.1).

    W x becomes W x + B A x with A [rank, in] drawn at random and B [out, rank] zero at first.
    """
    import torch
    from peft import LoraConfig

    seed = generator("lora", settings.seed).initial_seed()
    unet.requires_grad_(False)
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_rank,
        init_lora_weights="gaussian",
        target_modules=["to_q", "to_k", "to_v", "to_out.0"],
    )
    with torch.random.fork_rng():  # peft draws from the global generator
        torch.manual_seed(seed)
        unet.add_adapter(config)


def final_weights(state: State) -> tuple[dict[str, Any], dict[str, Any]]:
    """(all weights of the UNet as the base names them, the LoRA's own or nothing).

    The last thing done with a UNet: its LoRA layers are merged and removed.
    """
    import torch

    if not state.settings.lora_rank:
        return {**state.unet.state_dict(), **state.best}, {}
    with torch.no_grad():
        for name, weight in state.weights.items():
            weight.copy_(state.best[name])
    lora = {
        f"unet.{name.replace('.default.', '.')}": weight.detach().clone()
        for name, weight in state.weights.items()
    }
    state.unet.fuse_lora()
    state.unet.unload_lora()
    return state.unet.state_dict(), lora


def write_results(
    state: State, terms: Losses, logs: Log, final: Path, out_model: Path, out_training: Path
) -> None:
    """Write the model folder and the training folder from the state saved in `final`."""
    import torch

    variant, settings = out_training.name.rpartition("-")[0], dataclasses.asdict(state.settings)
    facts = {"variant": variant, "step": state.step, "settings": settings}
    parameters = sum(weight.numel() for weight in state.weights.values())
    unet, lora = final_weights(state)
    origin = checkpoints.identity(terms.base)
    checkpoints.write_model(terms.base, out_model, unet, lora, derived_from=origin, **facts)

    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if torch.cuda.is_available():
        gigabytes = torch.cuda.max_memory_allocated() / 2**30
    summary = {
        **facts,
        "steps": state.step,
        "train_seconds": logs.seconds,
        "held_out": logs.last.get("held_out.csv"),
        "last_step": logs.last.get("log.csv"),
        "parameters": parameters,
        "peak_memory_gb": round(gigabytes, 2),
        "device": terms.device,
        "threads": torch.get_num_threads(),
    }
    logs.close()
    with atomic_folder(out_training) as folder:
        shutil.copytree(final, folder / "state", copy_function=checkpoints.link)
        for name in Log.COLUMNS:
            shutil.copy(final / name, folder / name)
        shutil.copytree(logs.folder / "tensorboard", folder / "tensorboard")
        write_json(folder / "summary.json", summary)
        write_manifest(folder, **facts)


def finetune(
    *,
    base: Path,
    guide: Path | None,
    cache: Path,
    previous: Path | None,
    out_model: Path,
    out_training: Path,
    values: dict[str, Any],
    decoder: Path | None = None,
    device: str = "cpu",
    save_every: int = 500,
    save_minutes: float = 10,
    stop: Stop | None = None,
) -> None:
    """Train from `base`, or on from `previous`, and write the model and the training folder.

    Every `save_every` steps and `save_minutes` minutes, and when `stop` turns true, the whole state
    goes into `.resume-<variant>-<step>` beside `out_training`, which survives a failed job; the
    same call then continues from there. The folder is removed when the run is finished.
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

    terms = Losses(settings, Cache(cache), base, guide, device, decoder)
    unet = checkpoints.load_unet(base).to(device).train()
    if settings.lora_rank:
        add_lora(unet, settings)
    if settings.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    state = State(unet, settings)
    inputs = {"base": base, "guide": guide, "cache": cache, "previous": previous}
    fingerprint = run_fingerprint(settings, {**inputs, "decoder": decoder})
    before = checkpoints.newest_state(resume, fingerprint) if rank == 0 else None
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
    if rank == 0:
        write_results(state, terms, logs, final, out_model, out_training)
        shutil.rmtree(resume)


def check_previous(folder: Path | None, settings: dict[str, Any]) -> None:
    """UserError unless the state in `folder` (None: the base) is one that `settings` continue."""
    before = read_json(folder / "counters.json") if folder else {"step": 0, "settings": settings}
    if before["step"] != settings["start"]:
        raise UserError(
            f"{folder or '--previous'}: is at step {before['step']}, not at {settings['start']}; "
            "rerun the checkpoint before this one"
        )
    for key in settings.keys() - {"start", "step"}:
        if before["settings"][key] != settings[key]:
            raise UserError(
                f"{folder}: was trained with {key} {before['settings'][key]}, not {settings[key]}; "
                "rerun the checkpoint before this one"
            )


def run_fingerprint(settings: Settings, folders: dict[str, Path | None]) -> dict[str, Any]:
    """What a saved state must agree with to be continued: settings, inputs and code."""
    return {
        "settings": {**dataclasses.asdict(settings), "window": list(settings.window)},
        "inputs": {key: checkpoints.identity(path) for key, path in folders.items() if path},
        "code": code_hash(Path(__file__)),
    }

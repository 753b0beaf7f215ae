"""How fast the pipeline is on a GPU at Stable Diffusion 1.5's true size, and how near its limits.

Builds the models with random weights (bench/sd15.py, 7 GB in a temporary folder) and prints one
Markdown table within nine minutes: ceilings measured in the same run, the pipeline's own training,
drawing and scoring, each as a share of the ceiling, and beside them the loop that a notebook would
run: one prompt at a time, float32, VAE and text encoder at every training step. FLOPs are counted
on the modules themselves, a multiply-add as two, without what checkpointing computes again.
A row is printed when it is measured; what no time is left for is skipped and says so.

    .venv/bin/python bench/gpu.py
    .venv/bin/python bench/gpu.py --size tiny --device cpu --minutes 1     # tests this program
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent)]
sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "scripts")]

import sd15  # noqa: E402

PROMPT = "a photograph of thing number {} on a table"
GUIDED = {"guidance_scale": 7.5, "scheduler": "dpm++"}
TRAINING = {"learning_rate": 1e-5, "weight_decay": 0.01, "max_grad_norm": 1.0, "seed": 0,
            "step": 10**6, "caption_dropout": 0.1, "ema_decay": 0.0, "warmup_steps": 0}  # fmt: skip
# size: batches and steps of drawing, batch of training, side of the ceilings' matrices
SCALE = {"full": ((1, 4, 16, 64), (20, 50), 16, 8192), "tiny": ((1, 2), (2, 3), 4, 128)}
GOALS = {
    "drawing, share of the matmul ceiling": (">=", 0.45),
    "normal training, share of the matmul ceiling": (">=", 0.40),
    "an embed step against a normal one": ("<=", 2.0),
    "drawing against the naive loop": (">=", 5.0),
    "training against the naive loop": (">=", 2.0),
}


@dataclass
class Bench:
    """What all measurements share: where they run, the models, the clock, and what was found."""

    size: str
    device: str
    precision: str
    deadline: float
    seconds: float  # that one measurement takes at least
    folder: Path
    ceiling: float = 0.0  # FLOP/s of matrix products at `precision`
    found: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    @property
    def base(self) -> Path:
        return self.folder / "models" / "base"

    @property
    def guide(self) -> Path:
        return self.folder / "models" / "guide"

    def left(self) -> float:
        """Seconds until the table must be finished."""
        return self.deadline - time.monotonic()

    def row(self, what: str, rate: str, flops: float | None = None) -> None:
        """Print a row; flops: achieved a second."""
        tera = share = ""
        if flops is not None:
            tera = f"{flops / 1e12:.3g}"
            share = f"{flops / self.ceiling:.0%}" if self.ceiling else ""
        print(f"| {what} | {rate} | {tera} | {share} |", flush=True)

    @contextmanager
    def section(self, what: str, needs: float) -> Iterator[bool]:
        """True if `needs` seconds are left. What fails is a row, and the others go on."""
        import torch

        enough = self.left() > needs
        if not enough:
            self.row(what, "skipped, out of time")
        try:
            yield enough
        except Exception as error:
            self.failed.append(what)
            self.row(what, f"failed: {' '.join(str(error).split())[:120]}")
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def timed(self, function: Callable[[], Any], most: int = 1000) -> float:
        """Seconds of one call, over as many as fill `seconds`, after one that warms up."""
        self.wait(function)
        started, calls = time.monotonic(), 0
        while calls < most:
            function()
            calls += 1
            if self.elapsed(started) > self.seconds or self.left() < 0:
                break
        return self.elapsed(started) / calls

    def wait(self, function: Callable[[], Any] = lambda: None) -> None:
        """Call, and wait until the device has done it."""
        import torch

        function()
        if self.device == "cuda":
            torch.cuda.synchronize()

    def elapsed(self, started: float) -> float:
        self.wait()
        return time.monotonic() - started


def ceilings(bench: Bench) -> None:
    """The rate of large matrix products and of copies."""
    import torch

    from vlg.models.device import set_precision

    side = SCALE[bench.size][3]
    for precision in dict.fromkeys(["fp32", "tf32", bench.precision]):
        dtype = set_precision(precision)
        a, b = (torch.randn(side, side, device=bench.device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        rate = 2 * side**3 / bench.timed(lambda: torch.matmul(a, b, out=out))  # noqa: B023
        if precision == bench.precision:
            bench.ceiling = rate
        bench.row(f"ceiling: {precision} matrix product, {side} x {side}", "", rate)
    a = torch.empty(side * side, 4, device=bench.device)
    b = torch.empty_like(a)
    seconds = bench.timed(lambda: b.copy_(a))
    bench.row("ceiling: copy within memory", f"{2 * a.nbytes / seconds / 1e9:.3g} GB/s")


def training(bench: Bench, variant: str, checkpointing: bool, work: dict[str, float]) -> None:
    """Steps of `vlg.train.loop`, from cached latents and text states."""
    from vlg.train.loop import begin
    from vlg.train.method import settings_of
    from vlg.train.step import train_step

    size = SCALE[bench.size][2]
    settings = settings_of(variant, {
        **TRAINING, "batch_size": size,
        "precision": "bf16" if bench.precision in ("bf16", "fp16") else "fp32",
        "gradient_checkpointing": checkpointing,
    })  # fmt: skip
    folders = {"base": bench.base, "cache": bench.folder / "cache"}
    if variant == "embed":
        folders |= {"guide": bench.guide, "embeddings": bench.folder / "embeddings"}
    run = begin(variant, settings, folders, bench.device)
    train_step(run)  # makes the optimizer's state, and finds a batch that fits
    run.ledger.take()
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        train_step(run)

    seconds = bench.timed(step)
    looked = run.ledger.take().each(steps).of("guide")
    done = size * work["unet step"] + looked * work["clip term"]
    name = f"{variant} training" + (", checkpointing" if checkpointing else "")
    parts = "" if run.state.part >= size else f", {run.state.part} at a time"
    more = f", {looked:.1f} through the guide" if looked else ""
    rate = f"{1 / seconds:.3g} steps/s, {size / seconds:.3g} pictures/s"
    bench.row(f"{name}, batch {size}{parts}{more}", rate, done / seconds)
    bench.found[name] = seconds
    if variant == "normal":
        share = done / seconds / bench.ceiling
        key = "normal training, share of the matmul ceiling"
        bench.found[key] = max(share, bench.found.get(key, 0.0))
        best = size / seconds
        bench.found["trained"] = max(best, bench.found.get("trained", 0.0))


# Few own samples, as the cost of one does not depend on how many there are.
FEW = {"round_captions": 2, "round_samples": 2, "round_steps": 1000}
PAIRS = {"pair_captions": 4, "pair_samples": 2}


def way_to_train(bench: Bench, method: str) -> None:
    """A step of a further method at its defaults, FLOPs by its own ledger; a round of own samples
    is a row of its own."""
    from vlg import plugins
    from vlg.config import sections
    from vlg.train import loop, pairs
    from vlg.train.method import settings_of
    from vlg.train.step import train_step

    size, steps = SCALE[bench.size][2], SCALE[bench.size][1][0]
    known = plugins.load(plugins.METHODS, method).Settings.model_fields
    settings = settings_of(method, {
        **TRAINING, "batch_size": size, "gradient_checkpointing": True,
        "precision": "bf16" if bench.precision in ("bf16", "fp16") else "fp32",
        **{name: value for name, value in {**FEW, **PAIRS}.items() if name in known},
        **({"sampling": {**GUIDED, "steps": steps}} if "sampling" in known else {}),
    })  # fmt: skip
    folders = {name: bench.folder / name for name in ("cache", "embeddings", "pairs")}
    folders |= {"base": bench.base, "guide": bench.guide}
    if (
        "pairs" in plugins.constant(plugins.METHODS, method, "NEEDS")
        and not folders["pairs"].exists()
    ):
        own = {name: folders[name] for name in ("base", "cache", "guide", "embeddings")}
        drawn = sections.Pairs.parse({**PAIRS, **GUIDED, "steps": steps}, "pairs")
        pairs.draw(own, drawn, folders["pairs"], "", bench.device, 8)
    run = loop.begin(method, settings, loop.needed(method, settings, folders), bench.device)
    started = time.monotonic()
    run.method.before(run.state.net, run.data, 0)
    seconds, cost = bench.elapsed(started), run.ledger.take()
    if cost.flops:
        number = PAIRS["pair_samples"] * FEW["round_captions"]
        bench.row(f"{method}: {number} own samples", f"{seconds:.3g} s", cost.flops / seconds)
    train_step(run)
    run.ledger.take()
    steps = 0

    def step() -> None:
        nonlocal steps
        train_step(run)
        steps += 1

    seconds = bench.timed(step)
    # `timed` warms up with a call that its seconds leave out and the ledger has.
    flops = run.ledger.take().flops / steps
    bench.row(f"{method} training, checkpointing, batch {size}", f"{1 / seconds:.3g} steps/s",
              flops / seconds)  # fmt: skip


def way_to_draw(bench: Bench, draws: Any, guide: Any, kind: str) -> None:
    """A round of an arm at its defaults on a few pictures, FLOPs by its own ledger."""
    from vlg.sample import arm as arms
    from vlg.sample.drawing import Models
    from vlg.sample.listing import Picture

    keys = {"iterations": 2} if kind == "noise_opt" else {}
    arm, models = arms.load(kind, keys), Models(draws, guide)
    number = max(1, SCALE[bench.size][0][1] // arm.samples)
    wanted = [Picture(str(i), PROMPT.format(i), i, "study") for i in range(number)]
    texts, seeds = [each.prompt for each in wanted], [each.seed for each in wanted]
    images = draws.draw(texts, seeds) if "pictures" in arm.needs else None
    scores = None if images is None else [0.0] * number
    models.ledger.take()
    calls = 0

    def draw() -> None:
        nonlocal calls
        arm.draw(draws, guide, arms.Before(1, wanted, images, scores))
        calls += 1

    seconds = bench.timed(draw)
    flops = models.ledger.take().flops / calls
    bench.row(f"arm {kind}, a round of {number}", f"{number / seconds:.3g} pictures/s",
              flops / seconds)  # fmt: skip


def naive_training(bench: Bench) -> None:
    """What diffusers' example does: float32, every picture and caption encoded at every step."""
    import torch
    from diffusers import DDPMScheduler, StableDiffusionPipeline
    from torch.nn.functional import mse_loss

    notebook()
    pipe = StableDiffusionPipeline.from_pretrained(bench.base, safety_checker=None)
    pipe = pipe.to(bench.device)
    scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    pipe.vae.requires_grad_(False)
    pipe.text_encoder.requires_grad_(False)
    optimizer = torch.optim.AdamW(pipe.unet.parameters(), lr=1e-5)
    side, size = sd15.SIZES[bench.size]["vae"]["sample_size"], SCALE[bench.size][2]

    def step() -> None:
        pixels = torch.rand(size, 3, side, side).to(bench.device) * 2 - 1
        ids = pipe.tokenizer(
            [PROMPT.format(i) for i in range(size)], padding="max_length", return_tensors="pt"
        ).input_ids
        latents = pipe.vae.encode(pixels).latent_dist.sample() * pipe.vae.config.scaling_factor
        states = pipe.text_encoder(ids.to(bench.device))[0]
        noise = torch.randn_like(latents)
        t = torch.randint(0, 1000, (size,), device=bench.device)
        noisy = scheduler.add_noise(latents, noise, t)
        loss = mse_loss(pipe.unet(noisy, t, states).sample, noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(pipe.unet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # the notebook prints it

    while True:
        failed = False
        try:
            step()
        except torch.OutOfMemoryError:
            failed = True
        if not failed:
            break
        optimizer.zero_grad()
        torch.cuda.empty_cache()
        size //= 2  # as its user would
    seconds = bench.timed(step)
    rate = f"{1 / seconds:.3g} steps/s, {size / seconds:.3g} pictures/s"
    bench.row(f"naive training, fp32, batch {size}", rate)
    if "trained" in bench.found:
        bench.found["training against the naive loop"] = bench.found["trained"] * seconds / size


def sampler(bench: Bench, base: Path | None = None) -> Any:
    """The pipeline's sampler; its steps are set before each measurement."""
    from vlg.sample.sampler import Sampler

    settings = {**GUIDED, "steps": 1, "precision": bench.precision}
    return Sampler(bench.base, settings, bench.device, base)


def set_steps(draws: Any, steps: int) -> None:
    """Let a sampler take so many steps."""
    draws.settings = draws.settings.model_copy(update={"steps": steps})


def drawing(
    bench: Bench, draws: Any, batch: int, steps: int, work: dict[str, float], label: str = ""
) -> None:
    """Pictures drawn by `vlg.sample.sampler`, guided."""
    texts, seeds = [PROMPT.format(i) for i in range(batch)], list(range(batch))
    set_steps(draws, min(steps, 2))
    draws.draw(texts, seeds)  # warms up this shape
    set_steps(draws, steps)
    started, calls = time.monotonic(), 0
    while calls == 0 or (bench.elapsed(started) < bench.seconds and bench.left() > 0):
        draws.draw(texts, seeds)
        calls += 1
    seconds = bench.elapsed(started) / calls
    unet = batch * 2 * steps * work["unet"]  # two calls a guided step
    name = f"drawing{label}, {steps} steps, batch {batch}"
    bench.row(name, f"{batch / seconds:.3g} pictures/s", unet / seconds)
    if steps == SCALE[bench.size][1][0]:
        for key, value in (
            ("drawing, share of the matmul ceiling", unet / seconds / bench.ceiling),
            ("drawn", batch / seconds),
        ):
            bench.found[key] = max(value, bench.found.get(key, 0.0))


def naive_drawing(bench: Bench) -> None:
    """What a notebook does: the pipeline as it is loaded, a prompt at a time."""
    import torch
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    notebook()
    pipe = StableDiffusionPipeline.from_pretrained(bench.base, safety_checker=None)
    pipe = pipe.to(bench.device)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    steps = SCALE[bench.size][1][0]
    with torch.no_grad():
        seconds = bench.timed(
            lambda: pipe(PROMPT.format(0), num_inference_steps=steps, guidance_scale=7.5)
        )
    bench.row(f"naive drawing, fp32, {steps} steps, one at a time", f"{1 / seconds:.3g} pictures/s")
    if "drawn" in bench.found:
        bench.found["drawing against the naive loop"] = bench.found["drawn"] * seconds


def notebook() -> None:
    """torch's own defaults: float32 matrix products, TF32 in convolutions."""
    import torch

    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.backends.cudnn.conv.fp32_precision = "tf32"


def scoring(bench: Bench, work: dict[str, float], threads: int) -> None:
    """Pictures through judge and guide, from PNG files, as scripts/score.py does."""
    import numpy as np

    from vlg.data import pictures
    from vlg.models.clip import Clip
    from vlg.models.cosines import guide_scores
    from vlg.models.guide import load_guide

    judge = Clip(bench.folder / "models" / "judge", bench.device, bench.precision)
    guide = load_guide(bench.guide, bench.device)
    side, folder = sd15.SIZES[bench.size]["vae"]["sample_size"], bench.folder / "pictures"
    number = 256 if bench.size == "full" else 8
    coarse = np.random.default_rng(0).integers(0, 256, (number, 8, 8, 3), np.uint8)
    images = coarse.repeat(side // 8, 1).repeat(side // 8, 2)
    folder.mkdir()
    with pictures.Writer() as writer:
        for index, image in enumerate(images):
            writer.save(folder / f"{index}.png", image, {"key": ""})
    batches = [list(range(begin, begin + 64)) for begin in range(0, number, 64)]

    def read(batch: list[int]) -> tuple[list[Any], Any]:
        loaded = [pictures.load(folder / f"{index % number}.png") for index in batch]
        return loaded, judge.prepare(loaded)

    def score() -> None:
        for batch, (loaded, pixels) in pictures.ahead(read, batches, threads):
            texts = [PROMPT.format(index) for index in batch]
            judge.scores(pixels, texts)
            guide_scores(guide, np.stack(loaded), texts)

    seconds = bench.timed(score) / (64 * len(batches))
    done = work["judge"] + work["guide"]
    bench.row(f"scoring from PNG files, {threads} threads", f"{1 / seconds:.3g} scores/s",
              done / seconds)  # fmt: skip
    loaded, pixels = read(batches[0])
    texts = [PROMPT.format(index) for index in batches[0]]
    seconds = bench.timed(lambda: judge.scores(pixels, texts)) / 64
    bench.row("scoring, the judge alone", f"{1 / seconds:.3g} scores/s", work["judge"] / seconds)


def measure(bench: Bench, threads: int, ways: Sequence[str] = ()) -> None:
    """Every section in turn, the most important first; ways: see --ways."""
    from vlg import plugins
    from vlg.data.embedded import encode_guide
    from vlg.data.encoded import encode
    from vlg.models import device
    from vlg.models.guide import load_guide

    batches, counts, _, _ = SCALE[bench.size]
    full = bench.size == "full"
    started = time.monotonic()
    sd15.build(bench.folder / "models", bench.size, bench.device)
    data = sd15.pictures(bench.folder / "data", bench.size, 24)
    encode(data, bench.base, bench.folder / "cache", {}, bench.device, 4)
    guide = load_guide(bench.guide, bench.device)
    encode_guide(data, guide, bench.folder / "embeddings", bench.device, 8)
    guide = None
    print(f"Built in {time.monotonic() - started:.0f} s.\n")
    print("| what | rate | TFLOP/s | share of the matmul ceiling |\n|---|---:|---:|---:|")
    work = sd15.flops(bench.size)
    with bench.section("ceilings", 0) as enough:
        if enough:
            ceilings(bench)
    for variant, checkpointing in (("normal", False), ("normal", True), ("embed", True)):
        with bench.section(f"{variant} training", 40 * full) as enough:
            if enough:
                training(bench, variant, checkpointing, work)
    one, other = (bench.found.get(f"{v} training, checkpointing") for v in ("embed", "normal"))
    if one and other:
        bench.found["an embed step against a normal one"] = one / other
    draws = None
    for steps in counts:
        for batch in batches:
            with bench.section(f"drawing, {steps} steps, batch {batch}", 20 * full) as enough:
                if enough:
                    draws = draws or sampler(bench)
                    drawing(bench, draws, batch, steps, work)
    draws = None
    methods, arms = (
        [name for name in plugins.names(room) if name in (ways or (name,))]
        for room in (plugins.METHODS, plugins.ARMS)
    )
    for method in methods:
        if method in ("normal", "embed"):  # above
            continue
        with bench.section(f"{method} training", 30 * full) as enough:
            if enough:
                way_to_train(bench, method)
    for kind in arms:
        with bench.section(f"arm {kind}", 20 * full) as enough:
            if enough:
                draws = draws or sampler(bench, bench.base)
                guide = guide or load_guide(bench.guide, bench.device)
                set_steps(draws, counts[0])
                way_to_draw(bench, draws, guide, kind)
    draws = guide = None
    with bench.section("naive drawing", 25 * full) as enough:
        if enough:
            naive_drawing(bench)
    with bench.section("naive training", 40 * full) as enough:
        if enough:
            naive_training(bench)
    with bench.section("scoring", 30 * full) as enough:
        if enough:
            scoring(bench, work, threads)
    with bench.section("drawing, compiled", 150 if full else 3600) as enough:
        if enough:
            device.OPTIONS.compile = True
            drawing(bench, sampler(bench), batches[-2], counts[0], work, ", compiled")
            device.OPTIONS.compile = False
    print("\n| goal | wanted | measured |\n|---|---:|---:|")
    for name, (sign, value) in GOALS.items():
        measured = bench.found.get(name)
        shown = "not measured" if measured is None else f"{measured:.2f}"
        print(f"| {name} | {sign} {value} | {shown} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--size", default="full", choices=list(SCALE), help="tiny tests this program")
    add("--device", default="cuda,channels_last,vae_slicing", help="as in scripts/*.py")
    add("--precision", default="bf16", choices=["tf32", "bf16", "fp16"])
    add("--threads", type=int, default=4, help="CPU threads")
    add("--ways", nargs="+", default=[], help="of the methods and kinds of arms only these")
    add("--minutes", type=float, default=8.5, help="after which the table is finished")
    add("--seconds", type=float, default=4, help="that a measurement takes at least")
    args = parser.parse_args()
    deadline = time.monotonic() + 60 * args.minutes

    import diffusers
    import torch
    from diffusers.utils.logging import disable_progress_bar

    from vlg.errors import UserError
    from vlg.models.device import set_up

    disable_progress_bar()
    try:
        device = set_up(args.device, args.threads)
    except UserError as error:
        sys.exit(f"error: {error}")
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(
        f"{name}, torch {torch.__version__}, diffusers {diffusers.__version__}, size {args.size}."
    )
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args.size, device, args.precision, deadline, args.seconds, Path(folder))
        measure(bench, args.threads, args.ways)
    if bench.failed:
        sys.exit(f"failed: {', '.join(bench.failed)}")


if __name__ == "__main__":
    main()

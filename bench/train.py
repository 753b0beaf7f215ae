"""Training steps side by side: what diffusers' example does, ours, and ours with the guide.

In one process, on the same model, pictures and batch size, in turns of a few steps each:

    floor    the UNet alone, forward and backward, on one batch that is ready; and the same with
             weights laid out as channels_last, in bf16, and compiled
    script   diffusers' own examples/text_to_image/train_text_to_image.py, from --script FILE,
             unchanged but for its version check
    example  a loop that does what that does at every step: read the pictures, VAE encoder, text
             encoder, UNet, loss, AdamW, average of the weights
    normal   ours, from cached latents and text states
    embed    ours, with the guide's term inside the window
    tiny     ours, the guide's gradient through an AutoencoderTiny instead of the VAE decoder

Prints a Markdown table of medians and ratios, then where the seconds of a step go. On a CPU these
are seconds of processor time, which other programs hardly change. --size tiny
takes the shipped shapes models; sd15 takes models of Stable Diffusion 1.5's size with random
weights, at 512 px, on a GPU. --flops needs neither: it counts the operations of each part at
Stable Diffusion's size, without computing them.

    .venv/bin/python bench/train.py --script train_text_to_image.py
    .venv/bin/python bench/train.py --size sd15 --batch 8 --precision bf16 --device cuda
    .venv/bin/python bench/train.py --flops
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import runpy
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE.parent / "scripts"
sys.path[:0] = [str(HERE), str(SCRIPTS)]

KINDS = {
    "floor": "UNet alone, forward and backward",
    "channels_last": "the same, channels_last",
    "bf16": "the same, bf16",
    "compiled": "the same, compiled",
    "script": "diffusers' train_text_to_image.py",
    "example": "what diffusers' example does",
    "normal": "ours, normal",
    "embed": "ours, embed",
    "tiny": "ours, embed, tiny decoder",
}
FLOORS = ("floor", "channels_last", "bf16", "compiled")
# The study's: 60 % of the timesteps, and one caption in ten is dropped.
SETTINGS = {
    "learning_rate": 1e-5, "weight_decay": 0.01, "max_grad_norm": 1.0, "ema_decay": 0.98,
    "caption_dropout": 0.1, "seed": 0, "step": 10**6,
}  # fmt: skip


class Clock:
    """Seconds by part of a step; waits for a GPU at every edge, so parts are true but slower."""

    def __init__(self, device: str) -> None:
        self.device, self.seconds, self.on = device, defaultdict(float), False

    def now(self) -> float:
        """When all that was asked for is done: seconds of processor time on a CPU."""
        wait(self.device)
        return time.perf_counter() if self.device == "cuda" else time.process_time()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        if not self.on:
            yield
            return
        started = self.now()
        yield
        self.seconds[name] += self.now() - started


def wait(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def prepare(folder: Path, args: argparse.Namespace) -> None:
    """Models, pictures, the cache and the embeddings, by the pipeline's own command lines."""

    def script(name: str, **options: Any) -> None:
        words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        subprocess.run([sys.executable, str(SCRIPTS / f"{name}.py"), *words], check=True)

    if args.size == "tiny":
        for kind in ("base", "guide"):
            shapes_model(folder / "models", kind)
        drawn = json.dumps({"source": "shapes", "size": 256, "seed": 0})
        script("dataset", settings=drawn, out=folder / "data")
    else:
        import sd15

        sd15.build(folder / "models", "full")
        sd15.pictures(folder / "data", "full", 64)
    places = {"data": folder / "data", "device": args.device, "threads": args.threads}
    models = folder / "models"
    script("encode", base=models / "base", out=folder / "cache", **places)
    script("encode_guide", guide=models / "guide", out=folder / "embeddings", **places)


def shapes_model(folder: Path, kind: str) -> None:
    """The shipped base or guide, by the pipeline's own command line."""
    settings = json.dumps({"kind": kind, "source": kind})
    words = ["--settings", settings, "--source", str(HERE.parent / "resources/shapes"), "--shipped"]
    command = [sys.executable, str(SCRIPTS / "model.py"), *words, "--out", str(folder / kind)]
    subprocess.run(command, check=True)


def tiny_decoder(folder: Path, size: str) -> Path:
    """An AutoencoderTiny with random weights, as deep as the VAE is."""
    from diffusers import AutoencoderTiny

    options = {}
    if size == "tiny":  # a third of the channels and one scale less, as the VAE of the shapes world
        options = {
            f"{part}_block_out_channels": (16, 16, 16) for part in ("encoder", "decoder")
        } | {"num_encoder_blocks": (1, 1, 1), "num_decoder_blocks": (1, 1, 1)}
    AutoencoderTiny(**options).save_pretrained(folder)
    return folder


class Floor:
    """What no training of the network can do without: its forward and backward pass."""

    def __init__(self, folder: Path, args: argparse.Namespace, device: str, kind: str) -> None:
        import torch

        from vlg.train.loop import begin
        from vlg.train.method import settings_of

        values = {**SETTINGS, "batch_size": args.batch, "precision": args.precision}
        values |= {"gradient_checkpointing": args.gradient_checkpointing}
        given = {"base": folder / "models/base", "cache": folder / "cache"}
        run = begin("normal", settings_of("normal", values), given, device)
        batch = run.method.batch(run.data, 0)
        self.net = run.state.net
        self.low = "bf16" in (kind, args.precision)
        if kind == "channels_last":
            self.net.to(memory_format=torch.channels_last)
        if kind == "compiled":
            self.net.forward = torch.compile(self.net.forward)
        seen = run.method.predict(self.net, batch)
        self.given = (seen.z_t, seen.t, batch.condition(device)["states"])
        self.target, self.device = seen.target, device

    def step(self) -> None:
        import torch

        with torch.autocast(self.device, torch.bfloat16, self.low):
            predicted = self.net(*self.given, return_dict=False)[0]
        torch.nn.functional.mse_loss(predicted.float(), self.target).backward()
        self.net.zero_grad()


class Script:
    """diffusers' own file in a thread of its own, which takes a step when it is told to: its
    progress bar is where it waits."""

    def __init__(self, folder: Path, args: argparse.Namespace, device: str, clock: Clock) -> None:
        importlib.import_module("datasets")  # the script's, before tqdm is another
        import diffusers
        import tqdm.auto

        words = {
            "pretrained_model_name_or_path": folder / "models/base",
            "train_data_dir": folder / "data",
            "cache_dir": folder / "datasets",
            "output_dir": folder / "script",
            "resolution": 32 if args.size == "tiny" else 512,
            "train_batch_size": args.batch,
            "max_train_steps": 10**6,
            "checkpointing_steps": 10**6,
            "learning_rate": 1e-5,
            "mixed_precision": "bf16" if args.precision == "bf16" else "no",
        }
        flags = ["--use_ema", "--random_flip", "--center_crop"]
        flags += ["--gradient_checkpointing"] * args.gradient_checkpointing
        line = [str(args.script), *flags]
        line += [word for key, value in words.items() for word in (f"--{key}", str(value))]
        self.go, self.done = threading.Semaphore(0), threading.Semaphore(0)
        go, done = self.go, self.done

        class Steps(tqdm.auto.tqdm):
            def update(self, n: float = 1) -> Any:
                if self.desc == "Steps":
                    done.release()
                    go.acquire()
                return super().update(n)

        def main() -> None:
            import torch

            torch.set_num_threads(args.threads)
            sys.argv = line
            try:
                runpy.run_path(str(args.script), run_name="__main__")
            finally:
                self.ended = True
                done.release()

        diffusers.utils.check_min_version = lambda version: None
        tqdm.auto.tqdm = Steps
        self.ended = False
        threading.Thread(target=main, daemon=True).start()
        self.wait()

    def wait(self) -> None:
        self.done.acquire()
        if self.ended:
            sys.exit("the script has ended, see above")

    def step(self) -> None:
        self.go.release()
        self.wait()


class Example:
    """The training loop of diffusers' examples/text_to_image/train_text_to_image.py, its options
    --use_ema, --random_flip and --center_crop; and --mixed_precision for bf16."""

    def __init__(self, folder: Path, args: argparse.Namespace, device: str, clock: Clock) -> None:
        import torch
        from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
        from diffusers.training_utils import EMAModel
        from torchvision import transforms
        from transformers import CLIPTextModel, CLIPTokenizer

        from vlg.data.captioned import read_captions

        base = folder / "models/base"
        self.device, self.clock, self.precision = device, clock, args.precision
        low = torch.bfloat16 if args.precision == "bf16" else torch.float32
        self.noise = DDPMScheduler.from_pretrained(base, subfolder="scheduler")
        tokenizer = CLIPTokenizer.from_pretrained(base, subfolder="tokenizer")
        self.vae = AutoencoderKL.from_pretrained(base, subfolder="vae").to(device, low)
        self.text = CLIPTextModel.from_pretrained(base, subfolder="text_encoder").to(device, low)
        self.unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet").float().to(device)
        self.vae.requires_grad_(False)
        self.text.requires_grad_(False)
        self.unet.train()
        if args.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        self.ema = EMAModel(self.unet.parameters(), model_config=self.unet.config)
        self.ema.to(device)
        self.optimizer = torch.optim.AdamW(self.unet.parameters(), lr=1e-5, weight_decay=0.01)
        side = self.unet.config.sample_size * 2 ** (len(self.vae.config.block_out_channels) - 1)
        view = transforms.Compose(
            [
                transforms.Resize(side, transforms.InterpolationMode.LANCZOS),
                transforms.CenterCrop(side),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize([0.5], [0.5]),
            ]
        )
        rows = read_captions(folder / "data")

        class Pictures(torch.utils.data.Dataset):
            def __len__(self) -> int:
                return len(rows)

            def __getitem__(self, index: int) -> tuple[Any, Any]:
                from PIL import Image

                name, texts = rows[index]
                ids = tokenizer(
                    texts[0], max_length=tokenizer.model_max_length, padding="max_length",
                    truncation=True, return_tensors="pt",
                ).input_ids[0]  # fmt: skip
                return view(Image.open(folder / "data" / name).convert("RGB")), ids

        self.loader = torch.utils.data.DataLoader(
            Pictures(), batch_size=args.batch, shuffle=True, drop_last=True
        )
        self.batches = iter(())

    def step(self) -> None:
        import torch

        part = self.clock.part
        with part("read pictures"):
            batch = next(self.batches, None)
            if batch is None:
                self.batches = iter(self.loader)
                batch = next(self.batches)
        pixels, ids = (each.to(self.device) for each in batch)
        with part("VAE encoder"):
            latents = self.vae.encode(pixels.to(self.vae.dtype)).latent_dist.sample()
            latents = latents * self.vae.config.scaling_factor
        noise = torch.randn_like(latents)
        count = self.noise.config.num_train_timesteps
        t = torch.randint(0, count, (len(latents),), device=self.device)
        noisy = self.noise.add_noise(latents, noise, t)
        with part("text encoder"):
            states = self.text(ids)[0]
        with part("UNet, forward and backward"):
            with torch.autocast(self.device, torch.bfloat16, self.precision == "bf16"):
                predicted = self.unet(noisy, t, states, return_dict=False)[0]
            loss = torch.nn.functional.mse_loss(predicted.float(), noise.float())
            loss.backward()
        with part("AdamW and average"):
            torch.nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.ema.step(self.unet.parameters())
        loss.item()


class Ours:
    """`vlg.train.loop.train_step` with the numbers that it logs."""

    def __init__(
        self, folder: Path, args: argparse.Namespace, device: str, clock: Clock, kind: str
    ) -> None:
        from vlg.train.loop import begin
        from vlg.train.method import settings_of

        method = "normal" if kind == "normal" else "embed"
        values = {**SETTINGS, "batch_size": args.batch, "precision": args.precision}
        values |= {"gradient_checkpointing": args.gradient_checkpointing}
        given = {"base": folder / "models/base", "cache": folder / "cache"}
        if method == "embed":
            given |= {"guide": folder / "models/guide", "embeddings": folder / "embeddings"}
        if kind == "tiny":
            given["decoder"] = tiny_decoder(folder / "decoder", args.size)
        self.run = begin(method, settings_of(method, values), given, device)
        self.steps = 0
        self.watch(clock)

    def watch(self, clock: Clock) -> None:
        """Let the clock see the parts of a step, in forward order: backward is what is left."""
        for owner, name, part in (
            (self.run.family, "predict", "UNet, forward"),
            (self.run.family, "decode", "decoder, forward"),
            (getattr(self.run.method, "guide", None), "encode_image", "guide, forward"),
            (self.run.state, "update", "AdamW and average"),
        ):
            if owner is not None:
                setattr(owner, name, self.timed(getattr(owner, name), clock, part))

    @staticmethod
    def timed(function: Any, clock: Clock, part: str) -> Any:
        def wrapped(*args: Any, **options: Any) -> Any:
            with clock.part(part):
                return function(*args, **options)

        return wrapped

    def step(self) -> None:
        from vlg.train.step import train_step

        _, numbers = train_step(self.run)
        numbers.tolist()  # as the log reads them
        self.steps += 1

    def inside(self) -> float:
        """Share of the samples so far that the guide looked at."""
        looked = self.run.ledger.take().of("guide")
        return looked / self.steps / self.run.settings.batch_size


def measure(args: argparse.Namespace) -> None:
    """Run the kinds in turns and print the tables."""
    import torch

    from vlg.models.device import set_up

    device = set_up(args.device, args.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        if not (folder / "embeddings").is_dir():
            prepare(folder, args)
        clock = Clock(device)
        runs: dict[str, Any] = {}
        for kind in args.kinds:
            own = (folder, args, device, clock)
            if kind in FLOORS:
                runs[kind] = Floor(folder, args, device, kind)
            elif kind in ("script", "example"):
                runs[kind] = {"script": Script, "example": Example}[kind](*own)
            else:
                runs[kind] = Ours(*own, kind)
        for run in runs.values():
            for _ in range(args.warm_up):
                run.step()
        seconds: dict[str, list[float]] = {kind: [] for kind in runs}
        for _ in range(args.turns):
            for kind, run in runs.items():
                for _ in range(args.steps):
                    started = clock.now()
                    run.step()
                    seconds[kind].append(clock.now() - started)
        where = torch.cuda.get_device_name() if device == "cuda" else f"{args.threads} CPU threads"
        print(
            f"{where}, {args.size}, batch {args.batch}, {args.precision}; {args.turns} turns of "
            f"{args.steps} steps each{'' if device == 'cuda' else '; processor time'}\n"
        )
        print_ratios(seconds, KINDS, ("floor", "script", "example", "normal"))
        for kind, run in runs.items():
            if kind not in (*FLOORS, "script"):
                print_parts(kind, run, clock, args.steps)


def print_ratios(
    seconds: dict[str, list[float]], says: dict[str, str], beside: tuple[str, ...]
) -> None:
    """Medians by kind, and their ratios to those of the kinds of `beside` that were measured."""
    medians = {kind: statistics.median(values) for kind, values in seconds.items()}
    names = [kind for kind in beside if kind in medians]
    print("| step | median, ms | quartiles, ms |" + "".join(f" of {n} |" for n in names))
    print("|---|---:|---:|" + "---:|" * len(names))
    for kind, values in seconds.items():
        low, _, high = statistics.quantiles(values, n=4)
        ratios = "".join(f" {medians[kind] / medians[n]:.2f} |" for n in names)
        print(
            f"| {says[kind]} | {1e3 * medians[kind]:.1f} | {1e3 * low:.1f} to {1e3 * high:.1f} |"
            + ratios
        )
    print()


def print_parts(kind: str, run: Any, clock: Clock, steps: int) -> None:
    """Where a step's seconds go; what is named by no part is the backward pass and small things."""
    clock.seconds.clear()
    clock.on = True
    started = clock.now()
    for _ in range(steps):
        run.step()
    total = clock.now() - started
    clock.on = False
    parts = dict(clock.seconds)
    if isinstance(run, Ours):
        parts["backward and the rest"] = total - sum(parts.values())
    words = [f"{name} {1e3 * s / steps:.1f} ms" for name, s in parts.items()]
    inside = ""
    if isinstance(run, Ours) and (share := run.inside()):
        inside = f" ({share:.0%} of the samples are captioned and inside the window)"
    print(f"{KINDS[kind]}{inside}: {', '.join(words)}; {1e3 * total / steps:.1f} ms in all")


def flops() -> None:
    """Operations of each kind of step at Stable Diffusion 1.5's size, 512 px, one picture."""
    import sd15

    work = sd15.flops("full")
    share = 0.6 * 0.9  # of the timesteps in [0, 600], of captions that are not dropped
    rows = {
        "example": work["unet step"] + work["vae encode"] + work["text encode"],
        "normal": work["unet step"],
        "embed": work["unet step"] + share * work["clip term"],
        "tiny": work["unet step"] + share * work["clip term, tiny decoder"],
    }
    print("| step | TFLOP a picture | of example | of normal |\n|---|---:|---:|---:|")
    for kind, number in rows.items():
        ratios = f"{number / rows['example']:.2f} | {number / rows['normal']:.2f}"
        print(f"| {KINDS[kind]} | {number / 1e12:.2f} | {ratios} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--size", choices=["tiny", "sd15"], default="tiny", help="shapes models, or SD 1.5's size")
    add("--flops", action="store_true", help="count operations at SD 1.5's size and stop")
    add("--kinds", nargs="+", choices=KINDS, help="which steps; default: those of training")
    add("--script", type=Path, help="diffusers' train_text_to_image.py; it needs `datasets`")
    add("--batch", type=int, default=16, help="pictures a step")
    add("--precision", choices=["fp32", "bf16"], default="fp32", help="arithmetic")
    add("--gradient-checkpointing", action="store_true", help="in all of them")
    add("--turns", type=int, default=8, help="turns of each kind")
    add("--steps", type=int, default=8, help="steps a turn")
    add("--warm-up", type=int, default=3, help="steps before the clock starts")
    add("--device", default="auto", help="as in scripts/*.py")
    add("--threads", type=int, default=1, help="CPU threads")
    add("--folder", type=Path, help="keep models and data here; default: a temporary folder")
    args = parser.parse_args()
    if not args.kinds:
        left_out = {*FLOORS[1:], *([] if args.script else ["script"])}
        args.kinds = [kind for kind in KINDS if kind not in left_out]
    flops() if args.flops else measure(args)


if __name__ == "__main__":
    main()

"""The pipeline at its models' true sizes, with random weights: what each stage takes.

Builds the models in a temporary folder and runs the pipeline's own command lines on them, each in a
process of its own. Of Stable Diffusion 1.5 (bench/sd15.py, 7 GB on disk) and 2.1: encoding pictures
and captions, one step of normal and one of embed fine-tuning (batch 1, all weights, AdamW,
activations recomputed), one picture, one round of refinement, one score. Of Stable Diffusion XL
(bench/sdxl.py, 9 GB), 3.5 medium (bench/sd35.py, 18 GB) and FLUX.1 dev (bench/flux.py, 36 GB): the
same without refinement, the step that of a LoRA of rank 16 beside weights of 16 bits, drawing and
texts in bfloat16. Prints a Markdown table with each one's peak memory and time; a stage for which
the machine has too little memory is left out and says how much it wants, and what it takes is
counted without computing it. Runs where it is: a GPU if there is one, or two cores and 24 GB of
memory.

    make full-size                       # or FAMILY=sd21, sdxl, sd35, flux
    .venv/bin/python bench/full_size.py --threads 2 --only normal embed
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE.parent / "scripts"
sys.path[:0] = [str(HERE), str(SCRIPTS)]

STEPS = 4  # denoising steps of the picture; a round at strength 0.5 takes half of them
TRAINING = {
    "batch_size": 1, "learning_rate": 1e-5, "weight_decay": 0.01, "max_grad_norm": 1.0, "seed": 0,
    "ema_decay": 0.0, "warmup_steps": 0, "caption_dropout": 0.0, "gradient_checkpointing": True,
}  # fmt: skip
SAMPLING = {"steps": STEPS, "guidance_scale": 7.5, "scheduler": "dpm++", "vae_tiling": False}
# Of the large families: a LoRA, few steps, and what saves memory.
LORA = {"lora_rank": 16, "frozen": "bf16"}
FEW = {
    "sdxl": {"steps": 2, "guidance_scale": 5.0, "vae_tiling": True},
    "sd35": {"steps": 2, "guidance_scale": 4.5, "scheduler": "ddim", "vae_tiling": True},
    "flux": {"steps": 2, "guidance_scale": 3.5, "scheduler": "ddim", "vae_tiling": True},
}
PICTURES = 3  # of a large family, of which two are held out
FAMILIES = ("sd15", "sd21", *FEW)
# GB of memory that a stage wants of a CPU, where that is much: the base is read in float32 before
# its weights get 16 bits, and whole text encoders stay beside the network that draws. `build` is
# asked of a machine with a GPU, too, and also for the disk.
WANTED = {
    "sdxl": {"normal": 17, "embed": 18, "generate": 10},
    "sd35": {"encode": 14, "normal": 14, "embed": 18, "generate": 18},
    "flux": {"build": 36, "encode": 13, "normal": 73, "embed": 77, "generate": 36},
}
NEEDS = {"normal": {"encode"}, "embed": {"encode", "encode_guide"}, "refine": {"generate"},
         "score": {"generate"}}  # fmt: skip
SHARD = {"shard": 0, "shard_size": 1}
LINE = re.compile(r"peak memory ([\d.]+) GB(?:, of the GPU ([\d.]+) GB)?")
INNER = re.compile(r"the step took ([\d.]+) s")


def stages(folder: Path, args: argparse.Namespace) -> dict[str, tuple[str, list[Any]]]:
    """{name: (what it does, the command)} in the order in which they need each other."""

    def script(name: str, settings: dict[str, Any] | None, *words: Any) -> list[Any]:
        options = [] if settings is None else ["--settings", json.dumps(settings)]
        where = ["--device", args.device, "--threads", args.threads]
        return [SCRIPTS / f"{name}.py", *options, *words, *where]

    def step(name: str) -> list[Any]:
        where = ["--device", args.device, "--threads", args.threads, "--steps", args.steps]
        where += ["--family", args.family]
        return [__file__, "--step", name, "--folder", folder, "--precision", args.precision, *where]

    models, images = folder / "models", folder / "images"
    base, guide, judge = (models / name for name in ("base", "guide", "judge"))
    large = args.family in FEW
    sampling = SAMPLING | FEW.get(args.family, {})
    drawing = {"sampling": {**sampling, "precision": args.precision}}
    encoding = {"precision": args.precision, "dtype": "float16"} if large else {}
    what = f"{args.steps} step(s) of {{}} fine-tuning, batch 1{', LoRA' if large else ''}"
    selection = {"stage": "selection", "selection": [0]}
    # What a large family is trained on is made up: its pictures take minutes to encode.
    files = folder / "data", folder / ("encoded" if large else "cache"), folder / "embeddings"
    scoring = {"truth": False, "precision": args.precision}
    number = PICTURES if large else 4
    found = {
        "encode": (
            f"encoding {number} picture(s) and {number + 1} captions",
            script("encode", encoding, "--data", files[0], "--base", base, "--out", files[1],
                   "--batch-size", 1),
        ),
        "encode_guide": (
            "embedding them by the guide",
            script("encode_guide", None, "--data", files[0], "--guide", guide, "--out", files[2],
                   "--batch-size", 1),
        ),
        "normal": (what.format("normal"), step("normal")),
        "embed": (what.format("embed"), step("embed")),
        "generate": (
            f"one picture, {sampling['steps']} steps with guidance",
            script("generate", {**drawing, **selection, **SHARD}, "--model", base, "--prompts",
                   folder / "prompts.tsv", "--out", images),
        ),
        "refine": (
            f"one round of refinement, {STEPS // 2} steps with guidance",
            script("refine", {**drawing, **SHARD}, "--model", base, "--guide", guide,
                   "--start", images, "--out", folder / "refined"),
        ),
        "score": (
            "one score by judge and guide",
            script("score", scoring, "--pictures", images, "--judge", judge, "--guide", guide,
                   "--root", folder, "--out", folder / "scores.csv"),
        ),
    }  # fmt: skip
    return {name: each for name, each in found.items() if name != "refine" or not large}


def build(folder: Path, family: str, size: str) -> None:
    """Write models, a captioned data set and a prompt."""
    import sd15

    from vlg.data import prompts
    from vlg.files import write_manifest
    from vlg.models.family import open_family

    if family in FEW:
        importlib.import_module(family).build(folder / "models/base", size)
        write_manifest(folder / "models/base")
        sd15.build_clips(folder / "models", size)
        side = open_family(folder / "models/base").resolution
        sd15.pictures(folder / "data", size, PICTURES, side)
        make_up_cache(folder)
    else:
        chosen = "sd21" if (family, size) == ("sd21", "full") else size
        sd15.build(folder / "models", chosen)
        sd15.pictures(folder / "data", chosen)
    row = {"Prompt": "a photograph of an astronaut riding a horse", "id": "p0000", "set": "study"}
    prompts.write(folder / "prompts.tsv", [row])


def make_up_cache(folder: Path) -> None:
    """Write what `encode` would, with random numbers of the same shapes: a step costs as much."""
    import torch

    from vlg.data import encoded
    from vlg.models.family import open_family

    torch.manual_seed(0)
    family = open_family(folder / "models/base")
    listing = encoded.read_listing(folder / "data")

    def shards(name: str, items: list[str], shapes: dict[str, tuple[int, ...]]) -> None:
        def drawn(texts: list[str]) -> dict[str, torch.Tensor]:
            return {k: torch.randn(len(texts), *shape).abs() for k, shape in shapes.items()}

        encoded.write_shards(out, name, items, drawn, 1, torch.float16)

    out = folder / "cache"
    out.mkdir()
    more = {"time_ids": (6,)} if family.sized else {}
    shards("latents", listing.files, dict.fromkeys(("mean", "std"), family.latent_shape) | more)
    shards("captions", listing.captions, told(family.folder))
    facts = {"resolution": family.resolution, "flip": False}
    encoded.write_json(out / "index.json", {**dataclasses.asdict(listing), **facts})
    encoded.write_manifest(out)


def told(base: Path) -> dict[str, tuple[int, ...]]:
    """{name: its shape} of what a large family's network is told of a caption."""
    configs = [
        json.loads(path.read_text()) for path in sorted(base.glob("text_encoder*/config.json"))
    ]
    clips, t5 = ([c for c in configs if ("d_model" in c) == is_t5] for is_t5 in (False, True))
    if len(clips) == 1:
        from vlg.models.families.flux import T5_TOKENS as OF_FLUX

        return {"t5": (OF_FLUX[True], t5[0]["d_model"]), "pooled": (clips[0]["hidden_size"],)}
    widths, projected = (sum(c[key] for c in clips) for key in ("hidden_size", "projection_dim"))
    tokens = clips[0]["max_position_embeddings"]
    if not t5:
        return {"states": (tokens, widths), "pooled": (clips[1]["projection_dim"],)}
    from vlg.models.families.sd3 import T5_TOKENS

    said = {"states": (tokens, widths), "pooled": (projected,)}
    return said | {"t5": (T5_TOKENS, t5[0]["d_model"])}


def train(args: argparse.Namespace) -> None:
    """Take the first steps of a variant, as scripts/finetune.py does, and say what they took."""
    from vlg.models.device import set_up
    from vlg.train.loop import begin
    from vlg.train.method import settings_of
    from vlg.train.step import train_step
    from vlg.workflow import cli

    values = {**TRAINING, "precision": args.precision, "step": args.steps}
    values |= LORA if args.family in FEW else {}
    folders = {"base": args.folder / "models/base", "cache": args.folder / "cache"}
    if args.step == "embed":
        values["window"] = [0, 999]
        folders |= {"guide": args.folder / "models/guide", "embeddings": args.folder / "embeddings"}
    device = set_up(args.device, args.threads)
    training = begin(args.step, settings_of(args.step, values), folders, device)
    for _ in range(args.steps):
        started = time.monotonic()
        numbers = train_step(training)[1].tolist()
        print(f"the step took {time.monotonic() - started:.1f} s, loss {numbers[0]:.3f}")
    print(f"peak memory {cli.peak_memory()}")


def run(command: list[Any]) -> tuple[str, float, float]:
    """(output, seconds, peak memory in GB) of a Python program; leaves when it fails."""
    started = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, *map(str, command)], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(child.stdout))
    reader.start()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    reader.join()
    if child.returncode:
        sys.exit(f"{''.join(lines)}\nfailed with status {child.returncode}: {command[0]}")
    return "".join(lines), time.monotonic() - started, usage.ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--family", default="sd15", choices=FAMILIES, help="whose sizes")
    add("--size", default="full", choices=["full", "tiny"], help="tiny tests this program")
    add("--device", default="auto,channels_last,vae_slicing", help="as in scripts/*.py")
    add(
        "--precision", choices=["fp32", "bf16"], help="default: bf16 on a GPU and of large families"
    )
    add("--threads", type=int, default=os.cpu_count(), help="CPU threads")
    add("--steps", type=int, default=1, help="steps of fine-tuning")
    add("--only", nargs="+", metavar="STAGE", help="only these stages, and what they need")
    add("--folder", type=Path, help="keep the models here; default: a temporary folder")
    add("--step", choices=["build", "normal", "embed"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step == "build":
        build(args.folder, args.family, args.size)
    elif args.step:
        train(args)
    else:
        print_table(args)


def print_table(args: argparse.Namespace) -> None:
    """Build the models where they are missing, run the stages, print a row for each."""
    if args.precision is None:
        args.precision = "bf16" if args.family in FEW or on_gpu() else "fp32"
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        print("| stage | what | seconds, loading included | of which the step | peak memory, GiB |")
        print("|---|---|---:|---:|---:|", flush=True)
        chosen = set(args.only or stages(folder, args))
        wanted = WANTED.get(args.family, {}).get("build", 0) if args.size == "full" else 0
        whole = folder.absolute()
        place = next(each for each in (whole, *whole.parents) if each.exists())
        free = min(available(), shutil.disk_usage(place).free / 1e9)
        if wanted > free and not (folder / "prompts.tsv").is_file():
            what = f"random weights: want {wanted} GB of memory and disk, {free:.0f} are free"
            print(f"| build | {what}; no stage runs | | | |", flush=True)
            chosen = set()
        elif not (folder / "prompts.tsv").is_file():
            words = ["--step", "build", "--folder", folder, "--size", args.size]
            words += ["--family", args.family]
            _, seconds, peak = run([__file__, *words])
            print(f"| build | random weights, written | {seconds:.0f} | | {peak:.1f} |", flush=True)
        for name in [*chosen]:
            chosen |= NEEDS.get(name, set()) - ({"encode"} if args.family in FEW else set())
        left_out = ""
        for name, (what, command) in stages(folder, args).items():
            if name not in chosen:
                continue
            wanted = WANTED.get(args.family, {}).get(name, 0) if args.size == "full" else 0
            if wanted and not on_gpu() and wanted > (free := available()):
                left_out += name
                print(f"| {name} | {what}: wants {wanted} GB, {free:.0f} are free | | | |")
                continue
            if name == "score" and "generate" in left_out:
                continue
            output, seconds, peak = run(command)
            memory = LINE.search(output)
            gpu = f", of the GPU {memory[2]}" if memory and memory[2] else ""
            inner = " + ".join(INNER.findall(output))
            print(f"| {name} | {what} | {seconds:.0f} | {inner} | {peak:.1f}{gpu} |", flush=True)
    if args.family in FEW and args.size == "full":
        print("\nCounted without computing it:\n", flush=True)
        print(run([HERE / f"{args.family}.py"])[0])


def on_gpu() -> bool:
    """Whether there is a GPU; asked in a child: a child's peak is at least its parent's memory."""
    return "True" in run(["-c", "import torch; print(torch.cuda.is_available())"])[0]


def available() -> float:
    """GB of this machine's memory that are free, or could be."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    found = {name: amount for name, _, amount in (line.partition(":") for line in lines)}
    return int(found["MemAvailable"].split()[0]) * 1024 / 1e9


if __name__ == "__main__":
    main()

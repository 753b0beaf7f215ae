"""The pipeline at Stable Diffusion 1.5's true size, with random weights: what each stage takes.

Builds the models (bench/sd15.py) in a temporary folder of 7 GB and runs the pipeline's own command
lines on them, each in a process of its own: encoding pictures and captions, one step of normal and
one of embed fine-tuning (batch 1, 512 px, all weights, AdamW, activations recomputed), one picture,
one round of refinement, one score. Prints a Markdown table with each one's peak memory and time.
Runs where it is: a GPU if there is one, or two cores and 24 GB of memory.

    make full-size
    .venv/bin/python bench/full_size.py --threads 2 --only normal embed
"""

from __future__ import annotations

import argparse
import json
import os
import re
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
        return [__file__, "--step", name, "--folder", folder, "--precision", args.precision, *where]

    models, images = folder / "models", folder / "images"
    base, guide, judge = (models / name for name in ("base", "guide", "judge"))
    drawing = {"sampling": {**SAMPLING, "precision": args.precision}}
    selection = {"stage": "selection", "selection": [0]}
    files = folder / "data", folder / "cache", folder / "embeddings"
    scoring = {"truth": False, "precision": args.precision}
    return {
        "encode": (
            "encoding 4 pictures and 5 captions",
            script("encode", {}, "--data", files[0], "--base", base, "--out", files[1],
                   "--batch-size", 1),
        ),
        "encode_guide": (
            "embedding them by the guide",
            script("encode_guide", None, "--data", files[0], "--guide", guide, "--out", files[2],
                   "--batch-size", 1),
        ),
        "normal": (f"{args.steps} step(s) of normal fine-tuning, batch 1", step("normal")),
        "embed": (f"{args.steps} step(s) of embed fine-tuning, batch 1", step("embed")),
        "generate": (
            f"one picture, {STEPS} steps with guidance",
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


def build(folder: Path, size: str) -> None:
    """Write models, a captioned data set and a prompt."""
    import sd15

    from vlg.data import prompts

    sd15.build(folder / "models", size)
    sd15.pictures(folder / "data", size)
    row = {"Prompt": "a photograph of an astronaut riding a horse", "id": "p0000", "set": "study"}
    prompts.write(folder / "prompts.tsv", [row])


def train(args: argparse.Namespace) -> None:
    """Take the first steps of a variant, as scripts/finetune.py does, and say what they took."""
    from vlg.models.device import set_up
    from vlg.train.loop import begin
    from vlg.train.method import settings_of
    from vlg.train.step import train_step
    from vlg.workflow import cli

    values = {**TRAINING, "precision": args.precision, "step": args.steps}
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
    add("--size", default="full", choices=["full", "tiny"], help="tiny tests this program")
    add("--device", default="auto,channels_last,vae_slicing", help="as in scripts/*.py")
    add("--precision", choices=["fp32", "bf16"], help="default: bf16 on a GPU, fp32 on a CPU")
    add("--threads", type=int, default=os.cpu_count(), help="CPU threads")
    add("--steps", type=int, default=1, help="steps of fine-tuning")
    add("--only", nargs="+", metavar="STAGE", help="only these stages, and what they need")
    add("--folder", type=Path, help="keep the models here; default: a temporary folder")
    add("--step", choices=["build", "normal", "embed"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step == "build":
        build(args.folder, args.size)
    elif args.step:
        train(args)
    else:
        print_table(args)


def print_table(args: argparse.Namespace) -> None:
    """Build the models where they are missing, run the stages, print a row for each."""
    if args.precision is None:  # asked in a child: a child's peak is at least its parent's memory
        output, _, _ = run(["-c", "import torch; print(torch.cuda.is_available())"])
        args.precision = "bf16" if "True" in output else "fp32"
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        print("| stage | what | seconds, loading included | of which the step | peak memory, GiB |")
        print("|---|---|---:|---:|---:|", flush=True)
        if not (folder / "prompts.tsv").is_file():
            words = ["--step", "build", "--folder", folder, "--size", args.size]
            _, seconds, peak = run([__file__, *words])
            print(f"| build | random weights, written | {seconds:.0f} | | {peak:.1f} |", flush=True)
        needed = {"encode", "encode_guide", *(["generate"] if args.only else [])}
        for name, (what, command) in stages(folder, args).items():
            if args.only and name not in args.only and name not in needed:
                continue
            output, seconds, peak = run(command)
            memory = LINE.search(output)
            gpu = f", of the GPU {memory[2]}" if memory and memory[2] else ""
            inner = " + ".join(INNER.findall(output))
            print(f"| {name} | {what} | {seconds:.0f} | {inner} | {peak:.1f}{gpu} |", flush=True)


if __name__ == "__main__":
    main()

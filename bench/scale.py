"""How a study grows with the number of prompts: jobs, scheduling, bytes and days.

For each number of prompts this makes a prompt file and a config in a temporary folder (9 models, 4
selection seeds, each model refined for 6 rounds in two arms), asks Snakemake for its plan (`--dry-
run`), and measures the processor time and memory that takes. How long the jobs of that plan would
run on GPUs is simulated: a job starts when what it needs is there and a GPU is free, and runs for
the FLOPs of its pictures at an assumed rate, plus a start. Pictures are counted at 0.45 MB.

    .venv/bin/python bench/scale.py --out docs/scale

prints a Markdown table and writes docs/scale.svg and docs/scale.png.
"""

from __future__ import annotations

import argparse
import heapq
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROMPTS = (100, 1_632, 10_000, 100_000)
GPUS = (1, 8, 80)
STEPS = (1_000, 2_000, 5_000, 10_000)
MODELS = ["base", *(f"{v}-{s}" for v in ("normal", "embed") for s in STEPS)]
SEEDS, HARD, ROUNDS, SHARD = 4, 50, 6, 500
# docs/benchmarks.md: TFLOP a picture or step of Stable Diffusion 1.5; the rate is 40 % of an A100's
# bfloat16 peak of 312 TFLOP/s.
RATE, START = 0.4 * 312, 60.0  # TFLOP/s, seconds until a job has loaded its model
DRAW, REDRAW, SCORE = 25 * 2 * 0.803 + 2.51, 12 * 2 * 0.803 + 2.51 + 1.12, 0.171
STEP = {"normal": 8 * 3.21, "embed": 8 * (3.21 + 0.54 * 7.59)}
PICTURE = 0.45e6  # bytes of a PNG of 512 x 512 pixels, a photograph
MODEL = 3.44e9  # bytes of a fine-tuned UNet in float32; the other parts are links

CONFIG = f"""
study: scale
device: cuda
prompts: {{source: prompts.txt, study: null, pool: null}}
seeds: {{selection: [0, 1, 2, 3], fresh: [4, 5, 6, 7]}}
finetune:
  steps: {list(STEPS)}
  variants: {{normal: {{guide_scale: 0}}, embed: {{guide_scale: 0.05}}}}
generate: {{shard_size: {SHARD}}}
refine: {{models: [{", ".join(MODELS)}], rounds: {ROUNDS}}}
hard: {{count: {HARD}, threshold: 20}}
"""


def plan(prompts: int, folder: Path) -> tuple[int, float, float]:
    """(jobs, seconds of processor time, megabytes) of a dry run over so many prompts."""
    text = "".join(f"a photograph of thing number {i}\n" for i in range(prompts))
    (folder / "prompts.txt").write_text(text)
    (folder / "config.yaml").write_text(CONFIG.replace("study: null", f"study: {prompts}"))
    words = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    words += ["--directory", str(folder), "--configfile", "config.yaml", "--cores", "8"]
    with open(folder / "output", "w+") as output:
        child = subprocess.Popen(
            [*words, "--dry-run", "--quiet", "all"],
            stdout=output, stderr=subprocess.STDOUT, cwd=folder,
        )  # fmt: skip
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        # Not by the clock: a dry run computes on one core, and others may compute there too.
        seconds = used.ru_utime + used.ru_stime
        output.seek(0)
        said = output.read()
    if child.returncode:
        sys.exit(said)
    return int(re.search(r"^total +(\d+)", said, re.M)[1]), seconds, used.ru_maxrss / 1000


def jobs(prompts: int) -> dict[str, tuple[float, list[str]]]:
    """{job: (seconds on a GPU, jobs it waits for)} of what computes with a model."""
    result: dict[str, tuple[float, list[str]]] = {"encode": (5_000 * 1.12 / RATE * 4, [])}

    def add(name: str, tflop: float, needs: list[str]) -> str:
        result[name] = (START + tflop / RATE, needs)
        return name

    def shards(name: str, pictures: int, tflop: float, needs: list[str]) -> list[str]:
        return [
            add(f"{name} {start}", min(SHARD, pictures - start) * tflop, needs)
            for start in range(0, pictures, SHARD)
        ]

    def refine(model: str, needs: list[str]) -> None:
        for arm, tflop in (("refine", REDRAW), ("best of n", DRAW)):
            done = shards(f"{arm} {model}", prompts * SEEDS, ROUNDS * tflop, needs)
            add(f"score {arm} {model}", prompts * SEEDS * ROUNDS * SCORE, done)

    first = shards("base", prompts * SEEDS, DRAW, [])
    hard = add("score base", prompts * SEEDS * SCORE, first)
    shards("base hard", HARD * SEEDS, DRAW, [hard])
    refine("base", first)
    for model in MODELS[1:]:
        variant, step = model.split("-")
        before = [s for s in STEPS if s < int(step)]
        needs = [f"train {variant}-{before[-1]}" if before else "encode"]
        trained = add(f"train {model}", (int(step) - max([0, *before])) * STEP[variant], needs)
        pictures = (prompts + HARD) * SEEDS
        drawn = shards(model, pictures, DRAW, [trained, hard])
        refine(model, drawn)
        add(f"score {model}", pictures * SCORE, drawn)
    return result


def makespan(work: dict[str, tuple[float, list[str]]], gpus: int) -> float:
    """Seconds until all is done, if the longest-waited-for job that can start always starts."""
    followers = defaultdict(list)
    missing = {}
    for name, (_, needs) in work.items():
        missing[name] = len(needs)
        for need in needs:
            followers[need].append(name)
    longest: dict[str, float] = {}
    for name in reversed(list(work)):  # needs stand before what needs them
        longest[name] = work[name][0] + max((longest[f] for f in followers[name]), default=0.0)
    ready = [(-longest[name], name) for name, count in missing.items() if not count]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < gpus:
            _, name = heapq.heappop(ready)
            heapq.heappush(running, (now + work[name][0], name))
        now, done = heapq.heappop(running)
        for name in followers[done]:
            missing[name] -= 1
            if not missing[name]:
                heapq.heappush(ready, (-longest[name], name))
    return now


def volume(prompts: int) -> float:
    """Bytes of pictures and fine-tuned models."""
    pictures = prompts * SEEDS * len(MODELS) * (1 + 2 * ROUNDS)
    pictures += HARD * SEEDS * (2 * len(MODELS) - 1)
    return pictures * PICTURE + (len(MODELS) - 1) * MODEL


def draw(rows: list[dict[str, float]], out: Path) -> None:
    """Four panels over the number of prompts, as SVG and PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sys.path.insert(0, str(ROOT / "scripts"))
    from vlg.report.plots import STYLE

    x = [row["prompts"] for row in rows]
    with plt.rc_context({**STYLE, "svg.hashsalt": "vlg"}):
        figure, panels = plt.subplots(1, 4, figsize=(11, 2.8))
        for panel, (title, key) in zip(
            panels,
            [("jobs", "jobs"), ("seconds to plan", "plan"), ("terabytes", "tb")],
            strict=False,
        ):
            panel.plot(x, [row[key] for row in rows], "o-", color="#0072B2")
            panel.set_title(title)
        markers = zip(GPUS, "osD", ("#000000", "#0072B2", "#D55E00"), strict=True)
        for gpus, marker, colour in markers:
            days = [row[f"hours_{gpus}"] / 24 for row in rows]
            label = f"{gpus} GPU{'s' if gpus > 1 else ''}"
            panels[3].plot(x, days, f"{marker}-", color=colour, label=label)
        panels[3].set_title("days, simulated")
        panels[3].legend()
        for panel in panels:
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.set_xlabel("prompts")
        for suffix in ("svg", "png"):
            figure.savefig(out.with_suffix(f".{suffix}"), dpi=150, metadata=None)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, nargs="+", default=PROMPTS)
    parser.add_argument("--out", type=Path, help="figure to write, without its ending")
    args = parser.parse_args()
    head = ["prompts", "jobs", "plan, s", "plan, MB", "pictures and models, TB"]
    head += [f"{gpus} GPU{'s' if gpus > 1 else ''}, h" for gpus in GPUS]
    print("| " + " | ".join(head) + " |\n|" + "---:|" * len(head))
    rows = []
    for prompts in args.prompts:
        with tempfile.TemporaryDirectory() as folder:
            number, seconds, megabytes = plan(prompts, Path(folder))
        work = jobs(prompts)
        row = {"prompts": prompts, "jobs": number, "plan": seconds, "mb": megabytes}
        row |= {"tb": volume(prompts) / 1e12}
        row |= {f"hours_{gpus}": makespan(work, gpus) / 3600 for gpus in GPUS}
        rows.append(row)
        cells = [f"{prompts:,}", f"{number:,}", f"{seconds:.1f}", f"{megabytes:.0f}"]
        cells += [f"{row['tb']:.2f}", *(f"{row[f'hours_{gpus}']:,.1f}" for gpus in GPUS)]
        print("| " + " | ".join(cells) + " |", flush=True)
    if args.out:
        draw(rows, args.out)


if __name__ == "__main__":
    main()

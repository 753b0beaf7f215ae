"""What a training step of each method costs, as a multiple of a normal step.

On the shipped shapes models, in one process, in turns of a few steps each: FLOPs as the ledger of a
training counts them, and processor time of this process (which others on the machine do not
change as much as they change seconds). A round of own samples is measured once and shared out to
the steps that it serves. Pairs are drawn before a training, once for all that share them: what one
own sample of these costs stands below the table.

    .venv/bin/python bench/methods.py
    .venv/bin/python bench/methods.py --kinds normal embed draft --own-share 0.25
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "scripts")]

import train  # noqa: E402

from vlg import plugins  # noqa: E402


def begin(kind: str, folder: Path, args: argparse.Namespace) -> Any:
    """A run of a method at its defaults, of the study's other settings."""
    from vlg.train import loop
    from vlg.train.method import settings_of

    values = {**train.SETTINGS, "batch_size": args.batch}
    if args.own_share and "own_share" in plugins.load(plugins.METHODS, kind).Settings.model_fields:
        values["own_share"] = args.own_share
    settings = settings_of(kind, values)
    given = {name: folder / name for name in ("cache", "embeddings", "pairs")}
    given |= {name: folder / "models" / name for name in ("base", "guide")}
    return loop.begin(kind, settings, loop.needed(kind, settings, given), "cpu")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    known = plugins.names(plugins.METHODS)
    kinds = ["normal", *(name for name in known if name != "normal")]
    add("--kinds", nargs="+", choices=kinds, default=kinds, help="which methods; normal is first")
    add("--batch", type=int, default=16, help="pictures a step")
    add("--own-share", type=float, help="of all methods that have it; default: each one's own")
    add("--turns", type=int, default=4, help="turns of each method")
    add("--steps", type=int, default=8, help="steps a turn")
    add("--folder", type=Path, help="keep models and data here; default: a temporary folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        if not (folder / "embeddings").is_dir():
            train.prepare(folder, argparse.Namespace(size="tiny", device="cpu", threads=1))
        if not (folder / "pairs").is_dir():
            draw_pairs(folder)
        measure(folder, args)


PAIRS = {"pair_captions": 16, "pair_samples": 4}


def draw_pairs(folder: Path) -> None:
    """By the pipeline's own command line; few, as the cost of a sample does not depend on it."""
    given = {name: folder / name for name in ("cache", "embeddings")}
    given |= {name: folder / "models" / name for name in ("base", "guide")}
    words = [word for key, path in given.items() for word in (f"--{key}", str(path))]
    script = [sys.executable, str(train.SCRIPTS / "pairs.py"), "--settings", json.dumps(PAIRS)]
    subprocess.run([*script, *words, "--out", str(folder / "pairs")], check=True)


def measure(folder: Path, args: argparse.Namespace) -> None:
    import torch

    from vlg.train.step import train_step

    torch.set_num_threads(1)
    runs = {kind: begin(kind, folder, args) for kind in args.kinds}
    seconds: dict[str, list[float]] = {kind: [] for kind in runs}
    rounds = {}  # (FLOPs, seconds) of a round for each step that it serves
    for kind, run in runs.items():
        started = time.process_time()
        run.method.before(run.state.net, run.data, 0)
        served = getattr(run.settings, "round_steps", 1)
        spent = (time.process_time() - started) / served
        rounds[kind] = (run.ledger.take().flops / served, spent if served > 1 else 0.0)
        assert served == 1 or args.turns * args.steps < served, "more steps than a round serves"
        train_step(run)  # what is loaded when it is first used
        run.ledger.take()
    for _ in range(args.turns):
        for kind, run in runs.items():
            started = time.process_time()
            for _ in range(args.steps):
                train_step(run)
            seconds[kind].append((time.process_time() - started) / args.steps)
    steps = args.turns * args.steps
    costs = {kind: run.ledger.take() for kind, run in runs.items()}
    flops = {kind: cost.flops / steps + rounds[kind][0] for kind, cost in costs.items()}
    median = {kind: statistics.median(v) + rounds[kind][1] for kind, v in seconds.items()}
    first = args.kinds[0]
    print(
        f"| method | GFLOP a step | of {first} | processor time, ms | of {first} "
        "| of which rounds, GFLOP | network, decoder, guide: forward + backward a picture |"
    )
    print("|---|---:|---:|---:|---:|---:|---|")
    for kind in runs:
        parts = ", ".join(
            f"{costs[kind].of(part) / steps / args.batch:.2f} + "
            f"{costs[kind].of(part, 'backward') / steps / args.batch:.2f}"
            for part in ("network", "decoder", "guide")
        )
        print(
            f"| `{kind}` | {flops[kind] / 1e9:.1f} | {flops[kind] / flops[first]:.2f} "
            f"| {1e3 * median[kind]:.0f} | {median[kind] / median[first]:.2f} "
            f"| {rounds[kind][0] / 1e9:.1f} | {parts} |"
        )
    drawn = json.loads((folder / "pairs/index.json").read_text())["cost"]["flops"]
    each = drawn / PAIRS["pair_captions"] / PAIRS["pair_samples"]
    print(
        f"\nAn own sample for pairs: {each / 1e9:.2f} GFLOP, {each / flops[first]:.3f} of {first}."
    )


if __name__ == "__main__":
    main()

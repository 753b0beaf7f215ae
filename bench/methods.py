"""What a training step of each method costs, as a multiple of a normal step.

On the shipped shapes models, in one process, in turns of a few steps each: FLOPs as the ledger of a
training counts them, and processor time of this process (which others on the machine do not
change as much as they change seconds). Rounds of own samples are part of the steps that they serve;
pairs that a rule has drawn are a column of their own.

    .venv/bin/python bench/methods.py
    .venv/bin/python bench/methods.py --kinds normal embed draft --own-share 0.25
"""

from __future__ import annotations

import argparse
import statistics
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
        measure(folder, args)


def measure(folder: Path, args: argparse.Namespace) -> None:
    import torch

    from vlg.train.step import train_step

    torch.set_num_threads(1)
    runs = {kind: begin(kind, folder, args) for kind in args.kinds}
    seconds: dict[str, list[float]] = {kind: [] for kind in runs}
    for run in runs.values():  # what is loaded when it is first used
        train_step(run)
        run.ledger.take()
    for _ in range(args.turns):
        for kind, run in runs.items():
            started = time.process_time()
            for _ in range(args.steps):
                train_step(run)
            seconds[kind].append((time.process_time() - started) / args.steps)
    steps = args.turns * args.steps
    costs = {kind: run.ledger.take() for kind, run in runs.items()}
    flops = {kind: cost.flops / steps for kind, cost in costs.items()}
    median = {kind: statistics.median(values) for kind, values in seconds.items()}
    first = args.kinds[0]
    print(
        f"| method | GFLOP a step | of {first} | processor time, ms | of {first} "
        "| network, decoder, guide: forward and backward a picture |"
    )
    print("|---|---:|---:|---:|---:|---|")
    for kind in runs:
        parts = ", ".join(
            f"{costs[kind].of(part) / steps / args.batch:.2f} + "
            f"{costs[kind].of(part, 'backward') / steps / args.batch:.2f}"
            for part in ("network", "decoder", "guide")
        )
        print(
            f"| `{kind}` | {flops[kind] / 1e9:.1f} | {flops[kind] / flops[first]:.2f} "
            f"| {1e3 * median[kind]:.0f} | {median[kind] / median[first]:.2f} | {parts} |"
        )


if __name__ == "__main__":
    main()

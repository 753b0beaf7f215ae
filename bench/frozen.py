"""What `finetune.frozen` saves and costs: frozen weights of a LoRA in fewer bits.

Counts the bytes of the networks of Stable Diffusion 1.5, XL, 3.5 medium and of FLUX.1 dev as each
kind keeps them, without allocating them. Then trains a LoRA of the shipped shapes model beside each
kind, from the same start on the same pictures: held-out loss before the first step and after the
last, and how long a step takes on this machine.

    .venv/bin/python bench/frozen.py
    .venv/bin/python bench/frozen.py --steps 0      # the bytes alone
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "scripts")]

KINDS = ("fp32", "bf16", "fp16", "int8", "nf4")
SETTINGS = {
    "learning_rate": 1e-3, "weight_decay": 0.01, "max_grad_norm": 1.0, "ema_decay": 0.0,
    "caption_dropout": 0.1, "seed": 0, "lora_rank": 4, "batch_size": 8,
}  # fmt: skip


def weights_bytes(net: Any, kind: str) -> int:
    """Bytes of a network's weights as a kind keeps them, beside those of a LoRA."""
    from vlg.train import frozen

    if kind != "fp32":
        frozen.pack(net.requires_grad_(False), kind)
    return sum(p.numel() * p.element_size() for p in net.parameters())


def count() -> dict[str, dict[str, int]]:
    """{network: {kind: bytes}} at the true sizes."""
    import flux
    import sd15
    import sd35
    import sdxl
    import torch

    networks = {
        "Stable Diffusion 1.5": lambda: sd15.unet("full"),
        "Stable Diffusion XL": lambda: sdxl.network("unet"),
        "Stable Diffusion 3.5 medium": sd35.transformer,
        "FLUX.1 dev": flux.transformer,
    }
    with torch.device("meta"):
        return {n: {k: weights_bytes(make(), k) for k in KINDS} for n, make in networks.items()}


def trained(folder: Path, kind: str, precision: str, steps: int) -> tuple[float, float, float]:
    """(held-out loss before, after `steps` steps, seconds of one) of a LoRA beside a kind."""
    from vlg.train.batches import held_out_batches
    from vlg.train.loop import begin, held_out
    from vlg.train.method import settings_of
    from vlg.train.step import train_step

    settings = settings_of(
        "normal", {**SETTINGS, "frozen": kind, "precision": precision, "step": steps}
    )
    run = begin("normal", settings, {"base": folder / "models/base", "cache": folder / "cache"})
    looks = held_out_batches(run.data, settings.batch_size, run.family.timesteps)
    before = held_out(run, looks)["denoising"]
    started = time.process_time()
    for _ in range(steps):
        train_step(run)
    seconds = (time.process_time() - started) / steps
    return before, held_out(run, looks)["denoising"], seconds


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=40, help="steps of each training")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    args = parser.parse_args()
    print(f"| GB of the network's weights | {' | '.join(KINDS)} |\n|---|{'---:|' * len(KINDS)}")
    for name, found in count().items():
        print(f"| {name} | {' | '.join(f'{each / 1e9:.2f}' for each in found.values())} |")
    if args.steps:
        compare(args)


def compare(args: argparse.Namespace) -> None:
    """Train beside each kind on the shapes model and print how they did."""
    import torch
    import train

    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        args.size, args.device = "tiny", "cpu"
        train.prepare(folder, args)
        print(
            f"\n| frozen | held-out loss before | after {args.steps} steps | ms a step |\n"
            "|---|---:|---:|---:|"
        )
        for kind in KINDS:
            before, after, seconds = trained(folder, kind, args.precision, args.steps)
            print(f"| `{kind}` | {before:.5f} | {after:.5f} | {1000 * seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()

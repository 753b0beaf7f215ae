"""Encode a data set once for all fine-tuning.

Reads an image folder with metadata.jsonl, a diffusers model and an open_clip guide; writes a folder
of VAE posteriors, text-encoder states and guide embeddings (formats: scripts/vlg/cache.py).
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from vlg import cli


def main(args: Namespace) -> None:
    from vlg.cache import encode
    from vlg.device import set_up
    from vlg.guides import load_guide

    device = set_up(args.device, args.threads)
    encode(args.data, args.base, load_guide(args.guide, device), args.out, args.settings, device)


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    arguments.add_argument("--data", type=Path, required=True, help="image folder")
    arguments.add_argument("--base", type=Path, required=True, help="diffusers folder")
    arguments.add_argument("--guide", type=Path, required=True, help="open_clip folder")
    arguments.add_argument("--out", type=Path, required=True, help="folder to write")
    arguments.add_argument("--device", default="auto", help="auto, cpu or cuda")
    arguments.add_argument("--threads", type=int, default=1, help="CPU threads")
    cli.run(main, arguments)

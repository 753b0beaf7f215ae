"""Embed a data set once for all fine-tuning that follows the guide.

Reads an image folder with metadata.jsonl and an open_clip guide; writes a folder of embeddings of
pictures and captions (formats: scripts/vlg/data/embedded.py).
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from vlg.workflow import cli


def main(args: Namespace) -> None:
    from vlg.data.embedded import encode_guide
    from vlg.models.device import set_up
    from vlg.models.guide import load_guide

    device = set_up(args.device, args.threads)
    encode_guide(args.data, load_guide(args.guide, device), args.out, device, args.batch_size)


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    arguments.add_argument("--data", type=Path, required=True, help="image folder")
    arguments.add_argument("--guide", type=Path, required=True, help="open_clip folder")
    arguments.add_argument("--out", type=Path, required=True, help="folder to write")
    arguments.add_argument("--batch-size", type=int, default=32, help="pictures embedded at once")
    arguments.add_argument("--device", default="auto", help="auto, cpu or cuda, and options")
    arguments.add_argument("--threads", type=int, default=1, help="CPU threads")
    cli.run(main, arguments)

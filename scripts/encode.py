"""Encode a data set once for all fine-tuning: what the base model says of pictures and captions.

Reads an image folder with metadata.jsonl and a diffusers model; writes a folder of VAE posteriors
and text-encoder states (formats: scripts/vlg/data/encoded.py).
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from vlg.config import sections
from vlg.workflow import cli


def main(args: Namespace) -> None:
    from vlg.data.encoded import encode
    from vlg.models.device import set_up

    device = set_up(args.device, args.threads)
    encode(args.data, args.base, args.out, args.settings.handed_on(), device, args.batch_size)


if __name__ == "__main__":
    arguments = cli.parser(__doc__, sections.EncodeStep, "encode")
    arguments.add_argument("--data", type=Path, required=True, help="image folder")
    arguments.add_argument("--base", type=Path, required=True, help="diffusers folder")
    arguments.add_argument("--out", type=Path, required=True, help="folder to write")
    arguments.add_argument("--batch-size", type=int, default=32, help="pictures encoded at once")
    arguments.add_argument("--device", default="auto", help="auto, cpu or cuda, and options")
    arguments.add_argument("--threads", type=int, default=1, help="CPU threads")
    cli.run(main, arguments)

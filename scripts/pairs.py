"""Draw own samples of the base and score them, for the pairs that `dpo` trains on.

Reads a diffusers model, the folders that encode.py and encode_guide.py wrote, and a guide; writes a
folder of latents and scores (formats: scripts/vlg/train/pairs.py). Run it again after it was
killed: what it had drawn is kept.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from vlg.config import sections
from vlg.workflow import cli

FOLDERS = {
    "base": "diffusers folder that draws",
    "cache": "folder that encode.py wrote",
    "guide": "open_clip folder that scores",
    "embeddings": "folder that encode_guide.py wrote",
}


def main(args: Namespace) -> None:
    from vlg import plugins
    from vlg.models.device import set_up
    from vlg.models.families import file_of
    from vlg.train import pairs
    from vlg.workflow.codehash import code_hash

    device = set_up(args.device, args.threads)
    folders = {name: getattr(args, name) for name in FOLDERS}
    named = [plugins.file(*each) for each in args.settings.found()]
    code = code_hash(Path(__file__), file_of(args.base), *named)
    cost = pairs.draw(folders, args.settings, args.out, code, device, args.batch_size)
    args.computed = cost.json()


if __name__ == "__main__":
    arguments = cli.parser(__doc__, sections.Pairs, "finetune")
    for name, what in FOLDERS.items():
        arguments.add_argument(f"--{name}", type=Path, required=True, help=what)
    arguments.add_argument("--out", type=Path, required=True, help="folder to write")
    arguments.add_argument("--batch-size", type=int, default=40, help="pictures drawn at once")
    arguments.add_argument("--device", default="auto", help="auto, cpu or cuda, and options")
    arguments.add_argument("--threads", type=int, default=1, help="CPU threads")
    cli.run(main, arguments)

"""Fine-tune a base model to one checkpoint, by one of the methods in scripts/vlg/train/methods.

The settings name the method and give its keys: {"method": "embed", "step": 500, ...}. Reads a
diffusers model, the folder that encode.py wrote (or, with `cached: false`, the pictures), for a
method that follows a guide an open_clip model and the folder that encode_guide.py wrote, and for
all but the first checkpoint of a variant the training folder of the one before. Writes a diffusers
model and a training folder: log.csv, held_out.csv, tensorboard/, summary.json, in samples/ the
pictures of the development prompts, and in state/ all that the next checkpoint continues from. Run
it again after it was killed: it goes on from its last saved state.
"""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

from vlg.errors import UserError
from vlg.workflow import cli

FOLDERS = {
    "base": "diffusers folder to start from",
    "cache": "folder that encode.py wrote; needed unless cached is false",
    "data": "image folder; needed if cached is false",
    "guide": "open_clip folder, where the method follows it or watch_guide is true",
    "embeddings": "folder that encode_guide.py wrote; needed with --guide",
}


def main(args: Namespace) -> None:
    import functools
    import os

    from vlg.data import prompts
    from vlg.models.device import set_up
    from vlg.sample import development
    from vlg.train.loop import Wanted, finetune
    from vlg.workflow.processes import Stop, end_with_parent

    end_with_parent()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # processes that share this node's threads
    device = set_up(args.device, max(1, args.threads // local))
    draw_samples = wanted = None
    if args.development:
        rows = prompts.read_table(args.development)
        chosen = development.Drawing.parse(args.drawing, "development")
        wanted = Wanted([row["Prompt"] for row in rows], chosen.seeds, chosen)
        draw_samples = functools.partial(development.draw, rows, chosen, args.batch_size, device)
    values = dict(args.settings)
    if "method" not in values:
        raise UserError("finetune.method: missing; give it in --settings")
    given = {name: getattr(args, name) for name in FOLDERS}
    given |= {name: Path(path) for name, _, path in (each.partition("=") for each in args.folder)}
    finetune(
        method=values.pop("method"),
        values=values,
        folders={name: folder for name, folder in given.items() if folder},
        previous=args.previous,
        out_model=args.out_model,
        out_training=args.out_training,
        device=device,
        save_every=args.save_every,
        save_minutes=args.save_minutes,
        stop=Stop().listen(),
        draw_samples=draw_samples,
        development=wanted,
    )


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    add = arguments.add_argument
    for name, what in FOLDERS.items():
        add(f"--{name}", type=Path, required=name == "base", help=what)
    own = "a folder that the method works with: decoder=PATH, pairs=PATH, ...; may be repeated"
    add("--folder", action="append", default=[], metavar="KEY=PATH", help=own)
    add("--previous", type=Path, help="training folder of the checkpoint before")
    add("--development", type=Path, help="development.tsv, whose prompts to draw at the end")
    add("--drawing", type=json.loads, default={}, metavar="JSON", help="how they are drawn")
    add("--batch-size", type=int, default=40, help="development prompts drawn at once")
    add("--out-model", type=Path, required=True, help="diffusers folder to write")
    add("--out-training", type=Path, required=True, help="training folder to write")
    add("--save-every", type=int, default=500, help="steps between saved states")
    add("--save-minutes", type=float, default=10, help="minutes between saved states")
    add("--device", default="auto", help="auto, cpu or cuda, and options: auto,channels_last")
    add("--threads", type=int, default=1, help="CPU threads; other counts give other last bits")
    cli.run(main, arguments)

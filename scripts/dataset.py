"""Make the image folder that fine-tuning learns from: pictures and metadata.jsonl.

Draws it in the shapes world (full and true captions, pairs the base never saw among them), or
takes a fixed subset of a folder of captioned pictures, which stay where they are and are linked.
"""

from pathlib import Path

from vlg import cli
from vlg.files import atomic_folder, write_manifest


def main(args):
    from vlg import dataset

    with atomic_folder(args.out) as out:
        if args.source:
            dataset.gather(args.source, out, args.settings["size"])
        else:
            dataset.draw(out, args.settings["size"], args.settings["seed"])
        write_manifest(out, settings=args.settings)


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    arguments.add_argument("--source", type=Path, help="image folder; without it shapes are drawn")
    arguments.add_argument("--out", type=Path, required=True, help="folder to write")
    cli.run(main, arguments)

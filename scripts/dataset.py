"""Make the image folder that fine-tuning learns from: pictures and metadata.jsonl.

Draws it in the shapes world (full and true captions, pairs the base never saw among them), or
takes a fixed subset of captioned pictures: those of a folder stay where they are and are linked,
those inside parquet files are written out, and so are transparent ones, on a background. Broken and
tiny ones, and those of an unknown kind, are skipped and reported.
"""

from pathlib import Path

from vlg.config import sections
from vlg.files import atomic_folder, write_manifest
from vlg.workflow import cli


def main(args):
    from vlg.data import dataset

    settings = args.settings.handed_on()
    made = {name: value for name, value in settings.items() if name != "source"}
    with atomic_folder(args.out) as out:
        if args.source:
            dataset.gather(args.source, out, **made)
        else:
            dataset.draw(out, **made)
        write_manifest(out, settings=settings)


if __name__ == "__main__":
    arguments = cli.parser(__doc__, sections.Dataset, "dataset")
    arguments.add_argument("--source", type=Path, help="image folder or parquet; none: shapes")
    arguments.add_argument("--out", type=Path, required=True, help="folder to write")
    cli.run(main, arguments)

"""Make a guide of the section `guides` that is a control: the verifier, or one shown other texts.

Writes one folder, which is a guide wherever an open_clip folder is one. A shuffled one reads the
folder of the guide that is shown other texts, and that of the data, whose captions they are.
"""

from pathlib import Path

from vlg import plugins
from vlg.config.guides import SHUFFLED
from vlg.config.sections import GuideKeys
from vlg.errors import UserError
from vlg.files import MANIFEST, atomic_folder, link, read_json, write_json, write_manifest
from vlg.models.guide import SPEC
from vlg.workflow import cli


def main(args):
    settings = args.settings
    with atomic_folder(args.out) as out:
        write_json(out / SPEC, settings.seen())
        if settings.control == SHUFFLED:
            shuffle(args.guide, args.data, out)
        write_manifest(out, **settings.handed_on())


def shuffle(guide, data, out):
    """Link a guide into `out`, and write the captions there."""
    from vlg.data.captioned import read_listing

    shuffled = plugins.load(plugins.KINDS, "shuffled")
    texts = [text for text in read_listing(data).captions if text]
    if len(texts) < 2:
        raise UserError(f"{data}: one caption alone; a shuffled guide needs two")
    for file in read_json(guide / MANIFEST)["files"]:
        (out / shuffled.GUIDE / file).parent.mkdir(parents=True, exist_ok=True)
        link(guide / file, out / shuffled.GUIDE / file)
    write_json(out / shuffled.TEXTS, texts)


if __name__ == "__main__":
    arguments = cli.parser(__doc__, GuideKeys, "guides")
    add = arguments.add_argument
    add("--guide", type=Path, help="folder of the guide that is shown other texts")
    add("--data", type=Path, help="image folder, whose captions they are")
    add("--out", type=Path, required=True, help="folder to write")
    cli.run(main, arguments)

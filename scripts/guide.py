"""Make a guide of the section `guides`: of another kind than open_clip, in views, or of several.

Reads the folder of a model, or the folders of several guides, and writes one folder, which is a
guide wherever an open_clip folder is one.
"""

from pathlib import Path

from vlg import plugins
from vlg.config.sections import GuideKeys
from vlg.files import atomic_folder, write_manifest
from vlg.models import folders, guides
from vlg.workflow import cli


def main(args):
    settings = args.settings
    with atomic_folder(args.out) as out:
        if settings.members:
            guides.join(settings.members, args.source, out)
        else:
            (source,) = args.source
            if args.shipped:
                folders.unpack(source, "guide", out)
            else:
                folders.take(source, plugins.own(plugins.KINDS, settings.kind).form, out)
            guides.write(out, settings.seen())
        write_manifest(out, **settings.handed_on())


if __name__ == "__main__":
    arguments = cli.parser(__doc__, GuideKeys, "guides")
    add = arguments.add_argument
    add("--source", type=Path, nargs="+", required=True, help="folder of the model, or of guides")
    add("--shipped", action="store_true", help="--source is resources/shapes, check its manifest")
    add("--out", type=Path, required=True, help="folder to write")
    cli.run(main, arguments)

"""Put a model where the study looks for it: base (diffusers), guide (open_clip), judge (HF CLIP).

Reads a model folder, a Stable Diffusion 1.x or XL checkpoint in one safetensors file, or a part of
the shipped shapes models, whose checksums are compared with their manifest. Only safetensors,
tokenizer and configuration files are taken; shipped half precision becomes float32. A judge with
the guide's weights is refused.
"""

from pathlib import Path

from vlg.files import atomic_folder, write_manifest
from vlg.models import folders
from vlg.workflow import cli


def main(args):
    with atomic_folder(args.out) as out:
        if args.shipped:
            folders.unpack(args.source, args.settings.source, out)
        elif args.source.is_file():
            folders.unfold(args.source, out, args.settings.family)
        else:
            folders.take(args.source, args.settings.kind, out, args.settings.family)
        for guide in args.guide:
            folders.check_differs(out, guide.parent)
        write_manifest(out, source=args.settings.source)


if __name__ == "__main__":
    arguments = cli.parser(__doc__, folders.Settings, "models")
    arguments.add_argument("--source", type=Path, required=True, help="model folder or file")
    arguments.add_argument(
        "--shipped", action="store_true", help="--source is resources/shapes, check its manifest"
    )
    arguments.add_argument(
        "--guide",
        type=Path,
        nargs="+",
        default=[],
        help="manifests of guides, if this is the judge",
    )
    arguments.add_argument("--out", type=Path, required=True, help="folder to write")
    cli.run(main, arguments)

"""Put a finished model beside the base, where the study looks for it: an entry of models.compare.

Reads a diffusers folder, a Stable Diffusion 1.x or XL checkpoint in one safetensors file or a part
of the shipped shapes models and, of a LoRA, its files, which are merged into that model. The
manifest says the shape of its latents and of the base's: where they are equal, both draw from the
same noise.
"""

import tempfile
from pathlib import Path

from pydantic import Field

from vlg.config.keys import Keys
from vlg.errors import UserError
from vlg.files import HALF, atomic_folder, write_manifest
from vlg.models import folders, lora
from vlg.workflow import cli


def half(out):
    """A folder for what is needed in between; what a killed job leaves of it, the next removes."""
    return tempfile.TemporaryDirectory(dir=out.parent, prefix=f"{HALF}{out.name}-")


class Settings(Keys):
    """Which model is put beside the base."""

    name: str = Field("compared", description="What the study calls it.")
    source: str = Field("shapes", description="What the config calls it, or which shipped one.")
    family: str = Field(folders.FAMILY, description="Its family.")
    scales: list[float] = Field([], description="By which its LoRAs are multiplied.")


def main(args):
    from vlg.models.family import open_family

    settings = args.settings
    try:
        with atomic_folder(args.out) as out, half(args.out) as spare:
            whole = Path(spare) / "whole" if args.lora else out
            whole.mkdir(exist_ok=True)
            if args.shipped:
                folders.unpack(args.source, settings.source, whole)
            elif args.source.is_file():
                folders.unfold(args.source, whole, settings.family)
            else:
                folders.take(args.source, "base", whole, settings.family)
            if args.lora:
                lora.merge(whole, args.lora, settings.scales, out)
            shapes = {
                name: list(open_family(folder).latent_shape)
                for name, folder in (("latent_shape", out), ("base_latent_shape", args.base))
            }
            write_manifest(out, source=settings.source, **shapes)
    except UserError as error:
        said = str(error).removeprefix("models.base: ")
        raise UserError(f"models.compare.{settings.name}: {said}") from None


if __name__ == "__main__":
    arguments = cli.parser(__doc__, Settings, "models.compare")
    add = arguments.add_argument
    add("--source", type=Path, required=True, help="model folder or file, or that of a LoRA's base")
    add("--shipped", action="store_true", help="--source is resources/shapes, check its manifest")
    add("--lora", type=Path, nargs="+", default=[], help="LoRA files to merge into it")
    add("--base", type=Path, required=True, help="the study's base, a diffusers folder")
    add("--out", type=Path, required=True, help="folder to write")
    cli.run(main, arguments)

"""Measure the freshly trained shapes models and put them under resources: further judges into
folders of their own, all others into shapes.

Each is measured in float32 and in half precision, in which it is shipped; both figures go to the
manifest, with recipe, training time and checksums. Reads results/<study>/pretrained. --parts ships
some anew and leaves the others as they are.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from vlg.config import sections
from vlg.errors import UserError
from vlg.files import (
    MANIFEST,
    atomic_folder,
    check_manifest,
    read_json,
    write_json,
    write_manifest,
)
from vlg.workflow import cli

if TYPE_CHECKING:
    from collections.abc import Collection

    from vlg.shapes import quality

# Where a part lies below pretrained/, and what of it is shipped: other bases share the rest with
# base (vlg.models.folders.SHARED).
FLOW = ("model_index.json", "scheduler", "transformer", "text_encoder*", "tokenizer_*")
PARTS = {
    "base": ("base/base", ("*",)),
    "base-early": ("base/base-early", ("unet",)),
    "base-middle": ("base/base-middle", ("unet",)),
    "base-flow": ("base-flow", (*FLOW, "vae/config.json")),
    "guide": ("guide", ("*",)),
    "judge": ("judge", ("*",)),
}
JUDGES = ("siglip", "vqa")  # further ones
BASES = [name for name in PARTS if name.startswith("base")]
ALL = [*PARTS, *JUDGES]


def halve(folder: Path) -> None:
    """Turn every float tensor of a folder's safetensors to half precision."""
    import torch
    from safetensors.torch import load_file, save_file

    for path in folder.rglob("*.safetensors"):
        tensors = load_file(path)
        half = {n: t.half() if t.dtype == torch.float32 else t for n, t in tensors.items()}
        save_file(half, path, metadata={"format": "pt"})


def ship_judge(part: str, pretrained: Path, out: Path, drawn: quality.Drawn) -> dict:
    """Put a further judge into `out`; what is known of it."""
    facts = check_manifest(pretrained)
    known = {k: facts[k] for k in ("recipe", "seconds", "threads")}
    with atomic_folder(out) as folder:
        for path in pretrained.iterdir():
            if path.name != MANIFEST:
                shutil.copyfile(path, folder / path.name)
        halve(folder)
        known["quality"] = {
            "float32": measure(part, pretrained, drawn),
            "float16": measure(part, folder, drawn),
        }
        write_manifest(folder, **known)
    cli.log.info("%s: %s", part, known["quality"])
    return known


def forget_places(folder: Path) -> None:
    """Take out of a folder's configurations where its models lay when they were trained."""
    for path in folder.rglob("config.json"):
        told = read_json(path)
        if told.pop("_name_or_path", None) is not None:
            write_json(path, told)


def check_vaes(pretrained: Path, shipped: Path, out: Path, parts: Collection[str]) -> None:
    """UserError unless every base, of `parts` as it is trained and else as it is shipped, is over
    the VAE that `out` has, of which there is one for all."""
    import torch
    from safetensors.torch import load_file

    def weights(folder: Path) -> dict[str, torch.Tensor]:
        found = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
        return {name: tensor.half() for name, tensor in found.items()}

    own = weights(out / "base")
    for name in BASES:
        folder = pretrained / PARTS[name][0] if name in parts else shipped / "base"
        vae = weights(folder)
        if vae.keys() != own.keys() or not all(torch.equal(own[n], vae[n]) for n in own):
            raise UserError(
                f"--parts: {name} was trained over another VAE than what would be shipped; train "
                f"the bases over one and ship them together: {' '.join(BASES)}"
            )


def measure(part: str, folder: Path, drawn: quality.Drawn) -> dict:
    """The quality of a part; drawn: what it draws itself, or what judges look at."""
    from vlg.shapes import quality

    if part == "vqa":
        return quality.vqa(folder, drawn)
    if part in ("guide", "judge", "siglip"):
        scores = quality.scorer(part, folder)
        return {**quality.clip(part, folder), **quality.sees(scores, drawn)}
    return {"vae": quality.vae(folder / "vae"), **quality.base(drawn)}


def main(args):
    import torch

    from vlg.models.folders import unpack
    from vlg.shapes import quality

    torch.set_num_threads(args.threads)
    places = {name: PARTS[name] for name in args.parts if name in PARTS}
    others = [name for name in PARTS if name not in places]
    known = check_manifest(args.out) if others else {}
    settings = args.settings.model_dump()
    if known and known["sampling"] != settings:
        raise UserError(
            f"--settings: the other parts were measured as {known['sampling']}; ship with these "
            "settings, or all parts together"
        )
    trained = known.get("parts", {})
    for name, (place, _) in places.items():
        facts = check_manifest(args.pretrained / place)
        trained[name] = {k: facts[k] for k in ("recipe", "seconds", "threads")}
    if "base" in places:
        trained["vae"] = check_manifest(args.pretrained / "vae")
        trained["vae"].pop("files")
    scratch = args.quality.parent / ".scratch"
    with atomic_folder(args.out) as out:
        for name in others:
            shutil.copytree(args.out / name, out / name)
        for name, (place, wanted) in places.items():
            for pattern in wanted:
                for path in (args.pretrained / place).glob(pattern):
                    target = out / name / path.relative_to(args.pretrained / place)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    copy = shutil.copytree if path.is_dir() else shutil.copyfile
                    if path.name != "manifest.json":
                        copy(path, target)
            halve(out / name)
            forget_places(out / name)
        check_vaes(args.pretrained, args.out, out, places)
        write_manifest(out)

        def unpacked(name: str) -> Path:
            shutil.rmtree(scratch, ignore_errors=True)
            unpack(out, name, scratch)
            write_manifest(scratch)
            return scratch

        shown = {"base", "guide", "judge", *JUDGES} & set(args.parts)
        drawn = quality.draw(unpacked("base"), args.settings) if shown else None
        for name, (place, _) in places.items():
            trained[name]["quality"] = {}
            for precision, folder in (
                ("float32", args.pretrained / place),
                ("float16", unpacked(name)),
            ):
                own = drawn  # what judges look at, and what the base as it is shipped draws
                if name in BASES and (name, precision) != ("base", "float16"):
                    own = quality.draw(folder, args.settings)
                trained[name]["quality"][precision] = measure(name, folder, own)
            cli.log.info("%s: %s", name, trained[name]["quality"])
        shutil.rmtree(scratch, ignore_errors=True)
        write_manifest(out, parts=trained, sampling=settings)
    for part in JUDGES:
        if part in args.parts:
            out = args.out.with_name(f"shapes-{part}")
            trained[part] = ship_judge(part, args.pretrained / part, out, drawn)
    write_json(args.quality, trained)


if __name__ == "__main__":
    arguments = cli.parser(__doc__, sections.Sampling, "generate")
    add = arguments.add_argument
    add("--pretrained", type=Path, required=True, help="results/<study>/pretrained")
    add("--out", type=Path, required=True, help="folder to replace, resources/shapes")
    add("--quality", type=Path, required=True, help="JSON file of what was measured")
    add("--parts", nargs="+", choices=ALL, default=ALL, help="what to ship (all)")
    add("--threads", type=int, default=1, help="CPU threads")
    cli.run(main, arguments)

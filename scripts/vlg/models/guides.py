"""Guides that are not one open_clip model seen once: of another kind, in views, several together.

The file `guide.json` in a guide's folder says what it is. Beside the files of its model:

    {"kind": "clip", "views": 4, "crop": 0.8, "noise": 0.02}

or, with a folder for each of several guides: {"members": {"one": 0.5, "two": 0.5}}.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg import plugins
from vlg.errors import UserError
from vlg.files import MANIFEST, check_manifest, link, read_json, write_json
from vlg.models.guide import SPEC, Guide, load_open_clip

if TYPE_CHECKING:
    import torch

    from vlg.models.ledger import Ledger

OPEN_CLIP = "open_clip"


class OfKind(Guide):
    """A kind of judge that can guide (`judge/kinds/`)."""

    def __init__(self, judge: Any, folder: Path) -> None:
        self.judge, self.folder = judge, folder
        self.size = judge.side, judge.side

    @property
    def device(self) -> Any:
        return self.judge.device

    def watch(self, ledger: Ledger, part: str = "guide") -> None:
        self.judge.watch(ledger, part)

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        return self.judge.encode_text(texts)

    def encode_image(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.judge.encode_image(pictures)


class Views(Guide):
    """A guide's mean over the picture and augmented views of it, which fool it less easily.

    A picture's embedding is the mean of its views', so that its product with a text's is the mean
    of their cosines; its length is at most 1. The views are the same for every picture, or what the
    guide says of one would depend on when it is asked.
    """

    def __init__(self, guide: Guide, views: int, crop: float, noise: float) -> None:
        self.guide, self.views, self.crop, self.noise = guide, views, crop, noise
        self.size, self.folder = guide.size, guide.folder

    @property
    def device(self) -> Any:
        return self.guide.device

    def watch(self, ledger: Ledger, part: str = "guide") -> None:
        self.guide.watch(ledger, part)

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        return self.guide.encode_text(texts)

    def encode_image(self, pictures: torch.Tensor) -> torch.Tensor:
        seen = [self.guide.encode_image(self.view(pictures, i)) for i in range(self.views)]
        return sum(seen[1:], seen[0]) / len(seen)

    def view(self, pictures: torch.Tensor, number: int) -> torch.Tensor:
        """View `number` of pictures [n, 3, h, w] in 0..1; 0 is the picture.

        A square part, its side a share of the picture's between `crop` and 1, with noise added.
        """
        import torch

        from vlg.models.noise import generator

        if number == 0:
            return pictures
        random = generator("guide-view", number)
        share, down, right = torch.rand(3, generator=random).tolist()
        height, width = pictures.shape[-2:]
        share = self.crop + (1 - self.crop) * share
        h, w = max(1, round(share * height)), max(1, round(share * width))
        top, left = round(down * (height - h)), round(right * (width - w))
        part = pictures[..., top : top + h, left : left + w]
        if self.noise:
            noise = self.noise * torch.randn(part.shape[1:], generator=random)
            part = (part + noise.to(part)).clamp(0, 1)
        return part


class Ensemble(Guide):
    """Several guides: the cosine is the weighted mean of theirs.

    Embeddings stand one behind the other, each times the root of its weight, so that the product
    of a picture's and a text's is that mean, and their length is 1 as each alone has it.
    """

    def __init__(self, members: list[tuple[Guide, float]], folder: Path) -> None:
        total = sum(weight for _, weight in members)
        self.members = [(guide, math.sqrt(weight / total)) for guide, weight in members]
        self.folder = folder
        side = max(max(guide.size) for guide, _ in members)
        self.size = side, side

    @property
    def device(self) -> Any:
        return self.members[0][0].device

    def watch(self, ledger: Ledger, part: str = "guide") -> None:
        for guide, _ in self.members:
            guide.watch(ledger, part)

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        import torch

        return torch.cat([root * g.encode_text(texts) for g, root in self.members], dim=1)

    def encode_image(self, pictures: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.cat([root * g.encode_image(pictures) for g, root in self.members], dim=1)


def load_made(folder: Path, device: str) -> Guide:
    """The guide of a folder that has a `guide.json`. UserError when it cannot be loaded."""
    if (folder / MANIFEST).is_file():
        check_manifest(folder)
    said = read_json(folder / SPEC)
    if members := said.get("members"):
        return Ensemble([(_one(folder / n, device), w) for n, w in members.items()], folder)
    return _one(folder, device)


def _one(folder: Path, device: str) -> Guide:
    said = read_json(folder / SPEC) if (folder / SPEC).is_file() else {}
    kind = said.get("kind", OPEN_CLIP)
    if kind == OPEN_CLIP:
        guide = load_open_clip(folder, device)
    else:
        values = {"kind": kind, "source": str(folder.resolve())}
        keys = plugins.load(plugins.KINDS, kind).Settings.parse(values, "guides")
        guide = OfKind(plugins.own(plugins.KINDS, kind)(keys, device), folder)
    if said.get("views", 1) > 1:
        return Views(guide, said["views"], said["crop"], said["noise"])
    return guide


def write(out: Path, said: Mapping[str, Any]) -> None:
    """Say in `out`, which holds the files of a model, what kind it is and how it is seen; nothing
    of an open_clip that is seen once."""
    if said["kind"] != OPEN_CLIP or said["views"] > 1:
        write_json(out / SPEC, dict(said))


def join(members: Mapping[str, float], folders: list[Path], out: Path) -> None:
    """Link several guides' folders into one. UserError when one is itself of several."""
    for name, folder in zip(members, folders, strict=True):
        if "members" in (read_json(folder / SPEC) if (folder / SPEC).is_file() else {}):
            raise UserError(f"{folder}: is made of several guides; name its members")
        for file in read_json(folder / MANIFEST)["files"]:
            (out / name / file).parent.mkdir(parents=True, exist_ok=True)
            link(folder / file, out / name / file)
    write_json(out / SPEC, {"members": dict(members)})

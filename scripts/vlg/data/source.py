"""What training draws from: pictures and captions as a model and the guide see them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vlg.data.captioned import (
    Listing,
    corner,
    jittered,
    read_listing,
    read_picture,
    read_size,
)
from vlg.data.shards import gather, load_shards
from vlg.errors import UserError
from vlg.files import read_json

if TYPE_CHECKING:
    import torch

    from vlg.models.family import Condition, Family

# A row of augmentation numbers that leaves a picture as it is: all of it, in its own colours.
UNCHANGED = (1.0, 0.5, 0.5, 0.5, 0.5, 0.5)


class Source:
    """What training draws from: pictures, captions, and what the guide says of both.

    pictures: how many are trained on. They come first; the `held_out` ones follow them.
    embeddings: the folder of `vlg.data.embedded`, or None where no guide is used.
    """

    shape: tuple[int, ...]  # of a latent, [c, h, w]
    flip: bool

    def __init__(self, listing: Listing, embeddings: Path | None) -> None:
        self.listing, self.rows = listing, listing.rows
        self.pictures = len(self.rows) - listing.held_out
        self.held_out = list(range(self.pictures, len(self.rows)))
        self.guided = embeddings is not None
        if embeddings is None:
            return
        if read_index(embeddings) != listing:
            raise UserError(
                f"{embeddings}: is of other pictures or captions; rerun encode and encode_guide"
            )
        self._guide_pictures = load_shards(embeddings, "guide-pictures")
        self._guide_captions = load_shards(embeddings, "guide-captions")

    def latents(
        self, pictures: list[int], flipped: list[bool], augment: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(mean, std), each [n, c, h, w] float32, of the pictures with these indices."""
        raise NotImplementedError

    def condition(self, captions: list[int]) -> Condition:
        """What the network is told of these captions, float32; 0 is the empty one."""
        raise NotImplementedError

    def placed(
        self, pictures: list[int], flipped: list[bool], augment: torch.Tensor | None = None
    ) -> Condition:
        """What it is told of pictures beside their captions, float32 (`Family.placed`)."""
        raise NotImplementedError

    def guide_captions(self, captions: list[int]) -> torch.Tensor:
        """The guide's embeddings [n, d] of these captions."""
        return gather(self._guide_captions, captions, ["embedding"] * len(captions))

    def guide_pictures(self, pictures: list[int]) -> torch.Tensor:
        """The guide's embeddings [n, d] of these pictures, without any augmentation."""
        return gather(self._guide_pictures, pictures, ["embedding"] * len(pictures))


class Cache(Source):
    """What `vlg.data.encoded` wrote; the tensors are mapped into memory, not read."""

    def __init__(self, folder: Path, embeddings: Path | None = None) -> None:
        super().__init__(read_index(folder), embeddings)
        self.flip = read_json(folder / "index.json")["flip"]
        self._latents = load_shards(folder, "latents")
        self._captions = load_shards(folder, "captions")
        self.shape = tuple(self._latents[0]["mean"].shape[1:])

    def latents(
        self, pictures: list[int], flipped: list[bool], augment: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        suffix = ["_flipped" if flip else "" for flip in flipped]
        return (
            gather(self._latents, pictures, ["mean" + end for end in suffix]),
            gather(self._latents, pictures, ["std" + end for end in suffix]),
        )

    def condition(self, captions: list[int]) -> Condition:
        names = self._captions[0]
        return {name: gather(self._captions, captions, [name] * len(captions)) for name in names}

    def placed(
        self, pictures: list[int], flipped: list[bool], augment: torch.Tensor | None = None
    ) -> Condition:
        names = [name for name in self._latents[0] if not name.startswith(("mean", "std"))]
        return {name: gather(self._latents, pictures, [name] * len(pictures)) for name in names}


class LiveCache(Source):
    """The same, computed from the pictures and captions at every step, with augmentations.

    crop: lowest share of the shorter side that a random crop keeps; jitter: by how much brightness,
    contrast and saturation change at most. The reference that the cache is tested against.
    """

    def __init__(
        self,
        data: Path,
        family: Family,
        embeddings: Path | None = None,
        *,
        resolution: int | None = None,
        flip: bool = False,
        crop: float = 1.0,
        jitter: float = 0.0,
    ) -> None:
        super().__init__(read_listing(data), embeddings)
        self.data, self.family = data, family
        self.resolution = resolution or family.resolution
        self.flip, self.crop, self.jitter = flip, crop, jitter
        self._sizes: dict[int, tuple[int, int]] = {}  # of the files, by picture
        self.shape = tuple(self.latents([0], [False])[0].shape[1:])

    def picture(self, index: int, flip: bool, augment: Sequence[float]) -> torch.Tensor:
        """[3, h, w] in 0..1; augment: a row of `Batch.augment`."""
        size, x, y, *colour = augment
        share = self.crop + (1 - self.crop) * size
        path = self.data / self.listing.files[index]
        picture = read_picture(path, self.resolution, (share, x, y))
        if self.jitter:
            picture = jittered(picture, [1 + self.jitter * (2 * c - 1) for c in colour])
        return picture.flip(-1) if flip else picture

    def latents(
        self, pictures: list[int], flipped: list[bool], augment: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        numbers = [UNCHANGED] * len(pictures) if augment is None else augment.tolist()
        rows = zip(pictures, flipped, numbers, strict=True)
        mean, std = self.family.encode(torch.stack([self.picture(*row) for row in rows]))
        return mean.cpu(), std.cpu()

    def condition(self, captions: list[int]) -> Condition:
        said = self.family.condition([self.listing.captions[i] for i in captions])
        return {name: tensor.cpu() for name, tensor in said.items()}

    def placed(
        self, pictures: list[int], flipped: list[bool], augment: torch.Tensor | None = None
    ) -> Condition:
        import torch

        if not self.family.sized:
            return {}
        numbers = [UNCHANGED] * len(pictures) if augment is None else augment.tolist()
        sizes, corners = [], []
        for index, flip, (size, x, y, *_) in zip(pictures, flipped, numbers, strict=True):
            if index not in self._sizes:
                self._sizes[index] = read_size(self.data / self.listing.files[index])
            sizes.append(self._sizes[index])
            crop = (self.crop + (1 - self.crop) * size, 1 - x if flip else x, y)
            corners.append(corner(sizes[-1], self.resolution, crop))
        said = self.family.placed(torch.tensor(sizes), torch.tensor(corners), self.resolution)
        return {name: tensor.float() for name, tensor in said.items()}


def read_index(folder: Path) -> Listing:
    """The listing in the index.json of an encoded or embedded data set."""
    index = read_json(folder / "index.json")
    try:
        return Listing(**{field.name: index[field.name] for field in dataclasses.fields(Listing)})
    except KeyError as error:
        raise UserError(
            f"{folder}/index.json: no {error}; delete the folder and rerun encode"
        ) from None

"""The data set, encoded once: what training needs of each picture and caption, ready in files.

A training step of diffusers' example script runs the VAE encoder and the text encoder for every
sample of every step, though their answers never change. Here they run once per picture. At 512 px
a picture takes 2 * 4 * 64 * 64 * 4 bytes = 131 kB (VAE mean and standard deviation) and a caption
77 * 768 * 4 bytes = 237 kB, so 1,000 pictures with one caption each take 0.37 GB, half of it with
`dtype: float16`. What the base model says and what the guide says are two folders, so that another
guide encodes no picture again and retrains nothing that has no guide. In shards of SHARD rows that
training maps into memory, `encode` writes

    latents-000.safetensors    mean, std [n, c, h, w] of the VAE's posterior, times scaling_factor;
                               with `flip` also mean_flipped, std_flipped of the mirrored pictures
    captions-000.safetensors   states [m, tokens, width]: the text encoder's, one row per distinct
                               caption, row 0 the empty one

and `encode_guide`

    guide-pictures-000, guide-captions-000.safetensors
                               embedding [n or m, d]: the guide's, of length 1

both with

    index.json                 files of the pictures; captions: the texts; rows: of each picture,
                               those of its captions; encode's also resolution and flip
    manifest.json              checksums and the settings

Without the cache, LiveCache gives the same answers from the pictures themselves.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.errors import UserError
from vlg.files import atomic_folder, read_json, write_json, write_manifest
from vlg.models.checkpoints import identity, load_component, load_vae, save_tensors
from vlg.models.device import Parts, place

if TYPE_CHECKING:
    import torch

    from vlg.models.guide import Guide

log = logging.getLogger("vlg")

SHARD = 2048  # rows a file: 0.27 GB of latents or 0.48 GB of captions at 512 px
# A row of augmentation numbers that leaves a picture as it is: all of it, in its own colours.
UNCHANGED = (1.0, 0.5, 0.5, 0.5, 0.5, 0.5)
HELD_OUT = 0.04, 2, 256  # share of the pictures kept for validation, at least, at most


def read_captions(data: Path) -> list[tuple[str, list[str]]]:
    """[(file name, captions)] of an image folder, in the order of its metadata.jsonl.

    Each line is {"file_name": ..., "text": a caption or a list of captions}, as Hugging Face
    `datasets` reads it. Raises UserError naming the line that is not.
    """
    path = data / "metadata.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: not found; dataset.source must be a folder with metadata.jsonl")
    pictures = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            name, texts = row["file_name"], row["text"]
        except (json.JSONDecodeError, KeyError, TypeError):
            raise UserError(
                f'{path}:{number}: must be {{"file_name": ..., "text": ...}}; mend the line'
            ) from None
        texts = [texts] if isinstance(texts, str) else texts
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise UserError(f"{path}:{number}: empty caption; write one or remove the line")
        if not (data / name).is_file():
            raise UserError(f"{path}:{number}: {name} is missing; restore it or remove the line")
        pictures.append((name, texts))
    if len(pictures) <= HELD_OUT[1]:
        raise UserError(
            f"{path}: {len(pictures)} pictures and {HELD_OUT[1]} are held out; add some"
        )
    return pictures


def read_picture(
    path: Path, resolution: int, crop: tuple[float, float, float] = (1.0, 0.5, 0.5)
) -> torch.Tensor:
    """[3, resolution, resolution] float32 in 0..1.

    The largest middle square is resized to `resolution`. crop: (share of that square's side to
    keep, place from left to right, from top to bottom, both in 0..1).
    """
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file).convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path}: not a whole picture ({error}); replace or remove it") from None
    share, x, y = crop
    if share < 1:
        side = share * min(picture.size)
        left, top = x * (picture.width - side), y * (picture.height - side)
        box = (left, top, left + side, top + side)
        picture = picture.resize((resolution, resolution), Image.Resampling.BICUBIC, box)
    elif picture.size != (resolution, resolution):
        picture = ImageOps.fit(picture, (resolution, resolution), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


@dataclasses.dataclass
class Listing:
    """Pictures and captions in the order of all rows.

    rows: of each picture, the numbers of its captions; captions[0] is the empty one.
    """

    files: list[str]
    captions: list[str]
    rows: list[list[int]]

    @property
    def held_out(self) -> int:
        """How many of the last pictures are kept from training."""
        return min(max(HELD_OUT[1], int(len(self.files) * HELD_OUT[0])), HELD_OUT[2])


def read_listing(data: Path) -> Listing:
    """The listing of an image folder."""
    pictures = read_captions(data)
    captions = list(dict.fromkeys(["", *(text for _, texts in pictures for text in texts)]))
    row = {text: i for i, text in enumerate(captions)}
    rows = [[row[text] for text in texts] for _, texts in pictures]
    return Listing([name for name, _ in pictures], captions, rows)


class Encoder:
    """The frozen parts of a base model that turn pictures into latents and captions into states."""

    def __init__(self, base: Path, device: str) -> None:
        from transformers import CLIPTextModel, CLIPTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        self.device = device
        self.vae = place(load_vae(base, device), device)
        self.tokenizer = load_component(CLIPTokenizer, base, "tokenizer")
        text = load_component(CLIPTextModel, base, "text_encoder")
        self.text = text.to(device).float().eval().requires_grad_(False)
        config = read_json(base / "unet" / "config.json")
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.resolution: int = config["sample_size"] * factor

    def latents(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(mean, std) of the posterior of `pictures` [n, 3, h, w] in 0..1, times scaling_factor."""
        import torch

        with torch.no_grad():
            posterior = self.vae.encode(pictures.to(self.device) * 2 - 1).latent_dist
        scale = self.vae.config.scaling_factor
        return posterior.mean.cpu() * scale, posterior.std.cpu() * scale

    def states(self, captions: list[str]) -> torch.Tensor:
        """Hidden states [n, tokens, width], tokenized as StableDiffusionPipeline does."""
        import torch

        ids = self.tokenizer(
            captions,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        with torch.no_grad():
            return self.text(ids.to(self.device))[0].cpu()


def encode(
    data: Path, base: Path, out: Path, settings: dict[str, Any], device: str, batch_size: int = 32
) -> None:
    """Encode the image folder `data` by the base model into the folder `out`, whole or not at all.

    settings: optionally `resolution` in pixels (default: what the UNet was trained at), `flip`
    (also store mirrored pictures) and `dtype` (`float32` or `float16`, of the files).
    """
    import torch

    options = {"resolution": None, "flip": False, "dtype": "float32"}
    if unknown := set(settings) - set(options):
        raise UserError(f"settings: unknown key {sorted(unknown)[0]}; one of {sorted(options)}")
    options |= settings
    dtype = {"float32": torch.float32, "float16": torch.float16}[options["dtype"]]
    listing = read_listing(data)
    encoder = Encoder(base, device)
    resolution = options["resolution"] or encoder.resolution

    def encode_pictures(names: list[str]) -> dict[str, torch.Tensor]:
        pixels = torch.stack([read_picture(data / name, resolution) for name in names])
        latents = dict(zip(("mean", "std"), encoder.latents(pixels), strict=True))
        if options["flip"]:
            flipped = encoder.latents(pixels.flip(-1))
            latents |= zip(("mean_flipped", "std_flipped"), flipped, strict=True)
        return latents

    with atomic_folder(out) as folder:
        write_shards(folder, "latents", listing.files, encode_pictures, batch_size, dtype)
        write_shards(
            folder, "captions", listing.captions,
            lambda texts: {"states": encoder.states(texts)}, batch_size, dtype,
        )  # fmt: skip
        facts = {"resolution": resolution, "flip": options["flip"]}
        write_json(folder / "index.json", {**dataclasses.asdict(listing), **facts})
        write_manifest(folder, settings=settings, base=identity(base))
    log.info("encoded %d pictures and %d captions", len(listing.files), len(listing.captions))


def encode_guide(data: Path, guide: Guide, out: Path, device: str, batch_size: int = 32) -> None:
    """Embed pictures and captions of `data` by the guide into `out`, whole or not at all."""
    import torch

    listing = read_listing(data)

    def encode_pictures(names: list[str]) -> dict[str, torch.Tensor]:
        pixels = torch.stack([read_picture(data / name, max(guide.size)) for name in names])
        with torch.no_grad():
            return {"embedding": guide.encode_image(pixels.to(device)).cpu()}

    with atomic_folder(out) as folder:
        write_shards(
            folder, "guide-pictures", listing.files, encode_pictures, batch_size, torch.float32
        )
        write_shards(
            folder, "guide-captions", listing.captions,
            lambda texts: {"embedding": guide.encode_text(texts).cpu()}, batch_size, torch.float32,
        )  # fmt: skip
        write_json(folder / "index.json", dataclasses.asdict(listing))
        write_manifest(folder, guide=identity(guide.folder))
    log.info("embedded %d pictures and %d captions", len(listing.files), len(listing.captions))


def write_shards(
    folder: Path,
    name: str,
    items: list[str],
    function: Callable[[list[str]], dict[str, torch.Tensor]],
    batch: int,
    dtype: torch.dtype,
) -> None:
    """Apply `function` to batches of `items`; write the rows of its answers as `name`-*.

    A batch that does not fit into memory is halved.
    """
    import torch

    parts = Parts(f"encoding {name}")
    for number, shard in enumerate(chunks(items, SHARD)):
        answers = [part for some in chunks(shard, batch) for part in parts(function, some)]
        tensors = {
            key: torch.cat([answer[key] for answer in answers]).to(dtype) for key in answers[0]
        }
        save_tensors(folder / f"{name}-{number:03d}.safetensors", tensors)


def chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    """`items` in lists of `size`, the last one shorter."""
    return (items[i : i + size] for i in range(0, len(items), size))


class Source:
    """What training draws from: pictures, captions, and what the guide says of both.

    pictures: how many are trained on. They come first; the `held_out` ones follow them.
    embeddings: the folder of `encode_guide`, or None where no guide is used.
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

    def states(self, captions: list[int]) -> torch.Tensor:
        """Text-encoder states [n, tokens, width] float32 of these captions; 0 is the empty one."""
        raise NotImplementedError

    def guide_captions(self, captions: list[int]) -> torch.Tensor:
        """The guide's embeddings [n, d] of these captions."""
        return gather(self._guide_captions, captions, ["embedding"] * len(captions))

    def guide_pictures(self, pictures: list[int]) -> torch.Tensor:
        """The guide's embeddings [n, d] of these pictures, without any augmentation."""
        return gather(self._guide_pictures, pictures, ["embedding"] * len(pictures))


class Cache(Source):
    """What `encode` wrote; the tensors are mapped into memory, not read."""

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

    def states(self, captions: list[int]) -> torch.Tensor:
        return gather(self._captions, captions, ["states"] * len(captions))


class LiveCache(Source):
    """The same, computed from the pictures and captions at every step, with augmentations.

    crop: lowest share of the shorter side that a random crop keeps; jitter: by how much brightness,
    contrast and saturation change at most. The reference that the cache is tested against.
    """

    def __init__(
        self,
        data: Path,
        base: Path,
        device: str,
        embeddings: Path | None = None,
        *,
        resolution: int | None = None,
        flip: bool = False,
        crop: float = 1.0,
        jitter: float = 0.0,
    ) -> None:
        super().__init__(read_listing(data), embeddings)
        self.data, self.encoder = data, Encoder(base, device)
        self.resolution = resolution or self.encoder.resolution
        self.flip, self.crop, self.jitter = flip, crop, jitter
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
        return self.encoder.latents(torch.stack([self.picture(*row) for row in rows]))

    def states(self, captions: list[int]) -> torch.Tensor:
        return self.encoder.states([self.listing.captions[i] for i in captions])


def jittered(picture: torch.Tensor, factors: list[float]) -> torch.Tensor:
    """A picture [3, h, w] in 0..1 with brightness, contrast and saturation times `factors`."""
    import torch

    brightness, contrast, saturation = factors
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]  # ITU-R BT.601
    picture = picture * brightness
    mean = (picture * luma).sum(dim=0).mean()
    picture = mean + contrast * (picture - mean)
    grey = (picture * luma).sum(dim=0)
    return (grey + saturation * (picture - grey)).clamp(0, 1)


def read_index(folder: Path) -> Listing:
    """The listing in the index.json of `encode` or `encode_guide`."""
    index = read_json(folder / "index.json")
    try:
        return Listing(**{field.name: index[field.name] for field in dataclasses.fields(Listing)})
    except KeyError as error:
        raise UserError(
            f"{folder}/index.json: no {error}; delete the folder and rerun encode"
        ) from None


def load_shards(folder: Path, name: str) -> list[dict[str, torch.Tensor]]:
    """The shards of one kind, memory-mapped; UserError when there is none or one is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    paths = sorted(folder.glob(f"{name}-*.safetensors"))
    if not paths:
        raise UserError(f"{folder}: no {name}-*.safetensors; delete the folder and rerun encode")
    try:
        return [load_file(path) for path in paths]
    except SafetensorError as error:
        raise UserError(f"{folder}/{name}: {error}; delete the folder and rerun encode") from None


def gather(shards: list[dict[str, torch.Tensor]], rows: list[int], keys: list[str]) -> torch.Tensor:
    """Stack row by row, float32: row i of shard i // SHARD under its key."""
    import torch

    # Float32 before stacking: autocast to bf16 on a CPU cannot stack float16.
    return torch.stack(
        [shards[i // SHARD][key][i % SHARD].float() for i, key in zip(rows, keys, strict=True)]
    )

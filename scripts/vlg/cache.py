"""The data set, encoded once: what training needs of each picture and caption, ready in files.

A training step of diffusers' example script runs the VAE encoder and the text encoder for every
sample of every step, though their answers never change. Here they run once per picture. At 512 px
a picture takes 2 * 4 * 64 * 64 * 4 bytes = 131 kB (VAE mean and standard deviation) and a caption
77 * 768 * 4 bytes = 237 kB, so 1,000 pictures with one caption each take 0.37 GB, half of it with
`dtype: float16`. The folder holds, in shards of SHARD rows that training maps into memory:

    latents-000.safetensors    mean, std [n, c, h, w] of the VAE's posterior, times scaling_factor;
                               with `flip` also mean_flipped, std_flipped of the mirrored pictures
    captions-000.safetensors   states [m, tokens, width]: the text encoder's, one row per distinct
                               caption, row 0 the empty one
    guide-pictures-000, guide-captions-000.safetensors
                               embedding [n or m, d]: the guide's, of length 1
    index.json                 pictures: file, size in pixels, rows of its captions; captions: the
                               texts; held_out: how many of the last pictures are kept from training
    manifest.json              checksums and the settings
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.checkpoints import identity, load_component, load_vae, save_tensors
from vlg.errors import UserError
from vlg.files import atomic_folder, read_json, write_json, write_manifest

if TYPE_CHECKING:
    import torch

    from vlg.guides import Guide

log = logging.getLogger("vlg")

SHARD = 2048  # rows a file: 0.27 GB of latents or 0.48 GB of captions at 512 px
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


def read_picture(path: Path, resolution: int) -> tuple[torch.Tensor, tuple[int, int]]:
    """([3, resolution, resolution] float32 in 0..1, the file's (width, height)).

    The shorter side is resized to `resolution` and the middle cut out.
    """
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file).convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path}: not a whole picture ({error}); replace or remove it") from None
    size = picture.size
    if size != (resolution, resolution):
        picture = ImageOps.fit(picture, (resolution, resolution), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255, size


class Encoder:
    """The frozen parts of a base model that turn pictures into latents and captions into states."""

    def __init__(self, base: Path, device: str) -> None:
        from transformers import CLIPTextModel, CLIPTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        self.device = device
        self.vae = load_vae(base, device)
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
    data: Path, base: Path, guide: Guide, out: Path, settings: dict[str, Any], device: str
) -> None:
    """Encode the image folder `data` into the folder `out`, whole or not at all.

    settings: batch_size; optionally `resolution` in pixels (default: what the UNet was trained at),
    `flip` (also store mirrored pictures) and `dtype` (`float32` or `float16`, of the files).
    """
    import torch

    options = {"batch_size": 32, "resolution": None, "flip": False, "dtype": "float32"}
    if unknown := set(settings) - set(options):
        raise UserError(f"settings: unknown key {sorted(unknown)[0]}; one of {sorted(options)}")
    options |= settings
    dtype = {"float32": torch.float32, "float16": torch.float16}[options["dtype"]]
    pictures = read_captions(data)
    captions = list(dict.fromkeys(["", *(text for _, texts in pictures for text in texts)]))
    row = {text: i for i, text in enumerate(captions)}
    encoder = Encoder(base, device)
    resolution = options["resolution"] or encoder.resolution
    sizes: list[tuple[int, int]] = []

    def encode_pictures(names: list[str]) -> tuple[dict[str, torch.Tensor], ...]:
        read = [read_picture(data / name, resolution) for name in names]
        sizes.extend(size for _, size in read)
        pixels = torch.stack([picture for picture, _ in read])
        latents = dict(zip(("mean", "std"), encoder.latents(pixels), strict=True))
        if options["flip"]:
            flipped = encoder.latents(pixels.flip(-1))
            latents |= zip(("mean_flipped", "std_flipped"), flipped, strict=True)
        with torch.no_grad():
            embedding = guide.encode_image(pixels.to(device)).cpu()
        return latents, {"embedding": embedding}

    def encode_captions(texts: list[str]) -> tuple[dict[str, torch.Tensor], ...]:
        return {"states": encoder.states(texts)}, {"embedding": guide.encode_text(texts).cpu()}

    with atomic_folder(out) as folder:
        names = [name for name, _ in pictures]
        size = options["batch_size"]
        write_shards(folder, ("latents", "guide-pictures"), names, encode_pictures, size, dtype)
        write_shards(folder, ("captions", "guide-captions"), captions, encode_captions, size, dtype)
        index = {
            "pictures": [
                {"file": name, "size": size, "captions": [row[text] for text in texts]}
                for (name, texts), size in zip(pictures, sizes, strict=True)
            ],
            "captions": captions,
            "held_out": min(max(HELD_OUT[1], int(len(pictures) * HELD_OUT[0])), HELD_OUT[2]),
            "resolution": resolution,
            "flip": options["flip"],
        }
        write_json(folder / "index.json", index)
        write_manifest(folder, settings=settings, base=identity(base), guide=identity(guide.folder))
    log.info("encoded %d pictures and %d captions", len(pictures), len(captions))


def write_shards(
    folder: Path,
    names: tuple[str, ...],
    items: list[str],
    function: Callable[[list[str]], tuple[dict[str, torch.Tensor], ...]],
    batch: int,
    dtype: torch.dtype,
) -> None:
    """Apply `function` to batches of `items`; write the rows of its n-th answer as `names[n]`."""
    import torch

    for number, shard in enumerate(chunks(items, SHARD)):
        answers = [function(part) for part in chunks(shard, batch)]
        for n, name in enumerate(names):
            tensors = {
                key: torch.cat([answer[n][key] for answer in answers]).to(dtype)
                for key in answers[0][n]
            }
            save_tensors(folder / f"{name}-{number:03d}.safetensors", tensors)


def chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    """`items` in lists of `size`, the last one shorter."""
    return (items[i : i + size] for i in range(0, len(items), size))


class Cache:
    """What `encode` wrote, for training; the tensors are mapped into memory, not read.

    pictures: how many are trained on. They come first; the `held_out` ones follow them.
    """

    def __init__(self, folder: Path) -> None:
        self.index = read_json(folder / "index.json")
        self.rows = [picture["captions"] for picture in self.index["pictures"]]
        self.pictures = len(self.rows) - self.index["held_out"]
        self.held_out = list(range(self.pictures, len(self.rows)))
        self.flip: bool = self.index["flip"]
        self._latents = load_shards(folder, "latents")
        self._captions = load_shards(folder, "captions")
        self._guide_pictures = load_shards(folder, "guide-pictures")
        self._guide_captions = load_shards(folder, "guide-captions")
        self.shape = tuple(self._latents[0]["mean"].shape[1:])

    def latents(
        self, pictures: list[int], flipped: list[bool]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(mean, std), each [n, c, h, w] float32, of the pictures with these indices."""
        suffix = ["_flipped" if flip else "" for flip in flipped]
        return (
            gather(self._latents, pictures, ["mean" + end for end in suffix]),
            gather(self._latents, pictures, ["std" + end for end in suffix]),
        )

    def states(self, captions: list[int]) -> torch.Tensor:
        """Text-encoder states [n, tokens, width] float32 of these captions; 0 is the empty one."""
        return gather(self._captions, captions, ["states"] * len(captions))

    def guide_captions(self, captions: list[int]) -> torch.Tensor:
        """The guide's embeddings [n, d] of these captions."""
        return gather(self._guide_captions, captions, ["embedding"] * len(captions))

    def guide_pictures(self, pictures: list[int]) -> torch.Tensor:
        """The guide's embeddings [n, d] of these pictures."""
        return gather(self._guide_pictures, pictures, ["embedding"] * len(pictures))


class LiveCache(Cache):
    """The same answers, computed from the pictures and captions at every step.

    For augmentations that need pixels (override `picture`), and the reference that the cache is
    tested against. The guide's embeddings still come from the cache.
    """

    def __init__(self, folder: Path, data: Path, base: Path, device: str) -> None:
        super().__init__(folder)
        self.data, self.encoder = data, Encoder(base, device)

    def picture(self, index: int, flip: bool) -> torch.Tensor:
        """[3, h, w] in 0..1."""
        path = self.data / self.index["pictures"][index]["file"]
        picture, _ = read_picture(path, self.index["resolution"])
        return picture.flip(-1) if flip else picture

    def latents(
        self, pictures: list[int], flipped: list[bool]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        pixels = [self.picture(i, f) for i, f in zip(pictures, flipped, strict=True)]
        return self.encoder.latents(torch.stack(pixels))

    def states(self, captions: list[int]) -> torch.Tensor:
        return self.encoder.states([self.index["captions"][i] for i in captions])


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

    return torch.stack(
        [shards[i // SHARD][key][i % SHARD] for i, key in zip(rows, keys, strict=True)]
    ).float()

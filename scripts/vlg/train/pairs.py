"""Own samples of the base, several of each of some captions, each with its score: what `dpo` makes
pairs of. The rule `pairs` draws them once for all trainings whose pairs are drawn alike, into

    samples.safetensors   captions [m] rows of the data's captions; latents [m, n, c, h, w];
                          scores [m, n], by the reward
    index.json            captions: their texts; what the samples were drawn with
    manifest.json         checksums

While it draws, each batch is a file in `.resume-<name>` beside, which survives a killed job.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tqdm import tqdm

from vlg.data.source import Cache, Source
from vlg.errors import UserError
from vlg.files import (
    atomic,
    atomic_folder,
    check_manifest,
    identity,
    read_json,
    sha256,
    write_json,
    write_manifest,
)
from vlg.models import noise
from vlg.models.components import save_tensors
from vlg.models.device import Parts, send
from vlg.models.family import open_family
from vlg.models.guide import load_guide
from vlg.models.ledger import Cost, Ledger
from vlg.train import own
from vlg.train.mixed import walked
from vlg.train.score import files_of, scorer

if TYPE_CHECKING:
    import torch

    from vlg.config.sections import Pairs

SAMPLES = "samples.safetensors"


class Samples(NamedTuple):
    """captions: m rows of the data's captions. latents: [m, n, c, h, w]. scores: [m, n]."""

    captions: list[int]
    latents: torch.Tensor
    scores: torch.Tensor


def draw(
    folders: dict[str, Path], settings: Pairs, out: Path, code: str, device: str, batch_size: int
) -> Cost:
    """Draw and score the samples into the folder `out`; returns what that has cost.

    folders: base, cache, guide, embeddings. code: a hash of what draws.
    """
    import torch
    from safetensors.torch import load_file

    made_of = {
        "settings": settings.model_dump(mode="json"),
        "inputs": {name: identity(folder) for name, folder in folders.items()}
        | {file.name: sha256(file) for file in files_of(settings.reward)},
        "code": code,
    }
    resume = out.with_name(f".resume-{out.name}")
    if not (resume / "made-of.json").is_file() or read_json(resume / "made-of.json") != made_of:
        shutil.rmtree(resume, ignore_errors=True)
        resume.mkdir(parents=True)
        write_json(resume / "made-of.json", made_of)
    data = Cache(folders["cache"], folders["embeddings"])
    family, guide, ledger = open_family(folders["base"], device), None, Ledger()
    captions = chosen(data, settings.pair_captions)
    n, score = settings.pair_samples, None
    parts, found, cost = Parts("drawing own samples"), [], Cost()

    def part(places: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        rows = [captions[place // n] for place in places]
        texts = [data.listing.captions[row] for row in rows]
        start = [
            noise.latents(text, place % n, data.shape, "pairs")
            for text, place in zip(texts, places, strict=True)
        ]
        with torch.no_grad():
            z, _ = own.draw(
                family, family.net, data, rows, settings, send(torch.stack(start), device)
            )
            return z.cpu(), score(data, rows, family.decode(z))

    places = list(range(len(captions) * n))
    batches = [places[i : i + batch_size] for i in range(0, len(places), batch_size)]
    for number, batch in enumerate(tqdm(batches, desc="pairs", mininterval=5)):
        file, counts = (resume / f"{number:06d}.{end}" for end in ("safetensors", "json"))
        if not counts.is_file():
            if guide is None:
                guide = load_guide(folders["guide"], device)
                score = scorer(settings.reward, guide)
                guide.watch(ledger)
                family.watch(ledger)
            z, scores = (torch.cat(column) for column in zip(*parts(part, batch), strict=True))
            with atomic(file) as path:
                save_tensors(path, {"latents": z, "scores": scores})
            write_json(counts, ledger.take().json())  # the last thing: the batch is whole
        found.append(load_file(file))
        cost += Cost.read(read_json(counts))
    tensors = {key: torch.cat([each[key] for each in found]) for key in ("latents", "scores")}
    tensors = {key: tensor.unflatten(0, (len(captions), n)) for key, tensor in tensors.items()}
    with atomic_folder(out) as folder:
        save_tensors(folder / SAMPLES, {"captions": torch.tensor(captions), **tensors})
        texts = [data.listing.captions[row] for row in captions]
        write_json(folder / "index.json", {"captions": texts, "cost": cost.json()})
        write_manifest(folder, **made_of)
    shutil.rmtree(resume)
    return cost


def chosen(data: Source, number: int) -> list[int]:
    """The first captions of as many pictures that are trained on, each once; fewer if so few."""
    pictures = walked(data.pictures, 0, data.pictures, "pairs")
    return list(dict.fromkeys(data.rows[i][0] for i in pictures))[:number]


def read(folder: Path, data: Source) -> Samples:
    """What `draw` wrote; UserError where it is damaged or of other captions."""
    from safetensors.torch import load_file

    check_manifest(folder)
    tensors = load_file(folder / SAMPLES)
    captions = tensors["captions"].tolist()
    texts = read_json(folder / "index.json")["captions"]
    listed = data.listing.captions
    if [listed[row] if row < len(listed) else None for row in captions] != texts:
        raise UserError(f"{folder}: is of other captions than the data; rerun pairs")
    return Samples(captions, tensors["latents"], tensors["scores"])

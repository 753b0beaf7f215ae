"""What the tiny models can do, measured on scenes and prompts that no table reports."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from vlg.shapes import captions, pretrain, verify, world

if TYPE_CHECKING:
    import torch

    from vlg.config import sections

SEED = 1  # of noise and scenes; what development prompts mean no reported prompt does


def development_prompts(number: int) -> list[dict[str, str]]:
    """Prompts to choose settings on, none of which means what a reported one does. Some come more
    than once, so that many are like few."""
    rng, splits = random.Random(SEED), itertools.cycle(captions.SPLITS)
    return [captions.prompt(rng, next(splits), development=True) for _ in range(number)]


def _scenes(number: int) -> list[world.Scene]:
    rng = random.Random(f"quality {SEED}")
    return [world.sample(rng, pretrain.EVERYTHING) for _ in range(number)]


def vae(folder: Path, number: int = 500) -> dict[str, float]:
    """Peak signal to noise in dB, and the share of scenes read right from reconstructions."""
    import torch
    from diffusers import AutoencoderKL

    model = AutoencoderKL.from_pretrained(folder, dtype=torch.float32).eval()
    scenes = _scenes(number)
    pixels = pretrain.tensor([world.render(scene) for scene in scenes])
    with torch.no_grad():
        output = torch.cat(
            [model.decode(model.encode(x).latent_dist.mode()).sample for x in pixels.split(100)]
        ).clamp(-1, 1)
    error = ((output - pixels) / 2).square().mean().item()
    images = ((output + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    right = [
        verify.check(image, captions.meaning(scene))["strict"]
        for image, scene in zip(images, scenes, strict=True)
    ]
    return {"psnr_db": round(-10 * float(np.log10(error)), 2), "strict": round(fmean(right), 4)}


Scorer = Callable[[list[np.ndarray], list[str]], "torch.Tensor"]


def scorer(which: str, folder: Path) -> Scorer:
    """What gives the cosines (n, m) of n pictures and m texts by the guide or a judge."""
    import torch

    if which == "guide":
        from vlg.models.guide import load_guide

        guide = load_guide(folder)

        def scores(images: list[np.ndarray], texts: list[str]) -> torch.Tensor:
            pictures = pretrain.tensor(images) / 2 + 0.5
            return guide.encode_image(pictures) @ guide.encode_text(texts).T
    else:
        from vlg.models.clip import Clip

        judge = Clip(folder, "cpu")

        def scores(images: list[np.ndarray], texts: list[str]) -> torch.Tensor:
            return judge.encode_image(images) @ judge.encode_text(texts).T

    return torch.no_grad()(scores)


def clip(which: str, folder: Path, number: int = 1024) -> dict[str, Any]:
    """Retrieval of the caption among 64, and how often the true caption beats one with a wrong
    detail, of every kind that it can have, and by kind."""
    import torch

    scores, rng = scorer(which, folder), random.Random(1000 + SEED)
    retrieval, true_scores = [], []
    better: dict[str, list[float]] = {}
    for _ in range(number // 64):
        shown = [pretrain.captioned(rng) for _ in range(64)]
        images = [world.render(scene) for scene, _ in shown]
        texts = [captions.sentence(said, rng) for _, said in shown]
        right = scores(images, texts)
        # Two scenes of a batch may have the same partial caption: either is right.
        same = torch.tensor([[a == b for b in texts] for a in texts])
        retrieval.append(same.gather(1, right.argmax(1, keepdim=True)).float().mean().item())
        own = right.diagonal()
        true_scores.append(100 * own.mean().item())
        wrong = [
            (index, detail, captions.sentence(captions.wrong(said, rng, detail), rng))
            for index, (_, said) in enumerate(shown)
            for detail in captions.details(said)
        ]
        places = torch.tensor([index for index, _, _ in wrong])
        others = scores(images, [text for _, _, text in wrong])[places, torch.arange(len(wrong))]
        for (_, detail, _), won in zip(wrong, (own[places] > others).tolist(), strict=True):
            better.setdefault(detail, []).append(won)
    return {
        "retrieval_among_64": round(fmean(retrieval), 4),
        "beats_hard_negative": round(fmean(sum(better.values(), [])), 4),
        **{f"beats_{detail}": round(fmean(won), 4) for detail, won in sorted(better.items())},
        "clipscore_of_renders": round(fmean(true_scores), 2),
    }


def sees(scores: Callable[..., Any], drawn: Drawn) -> dict[str, float | None]:
    """How well what gives a number of [a picture] and [its prompt] tells pictures of a base of
    which all facts are true (AUC); None where all or none are."""
    own = np.array(
        [
            float(scores([image], [row["Prompt"]]))
            for image, row in zip(drawn.images, drawn.rows, strict=True)
        ]
    )
    true = np.array([row["strict"] for row in drawn.found]) == 1
    if true.all() or not true.any():
        return {"auc_of_drawn": None}
    above = (own[true][:, None] > own[~true]).mean() + (own[true][:, None] == own[~true]).mean() / 2
    return {"auc_of_drawn": round(float(above), 4)}


def vqa(folder: Path, drawn: Drawn, number: int = 512) -> dict[str, Any]:
    """How often the true caption is likelier than a hard negative, questions answered right by
    kind, and what `sees` tells."""
    from vlg.models.vlm import Reader
    from vlg.shapes import asked

    reader = Reader(folder, "cpu")
    yes = reader.tokens(asked.YES)

    def said(images: list[np.ndarray], texts: list[str]) -> torch.Tensor:
        questions = [asked.stated(text) for text in texts]
        return reader.logits(images, questions).softmax(1)[:, yes].sum(1)

    batches, better = pretrain.contrastive_batches(random.Random(1000 + SEED), 64), []
    for _ in range(number // 64):
        pictures, texts, negatives = next(batches)
        images = list(((pictures + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
        better += (said(images, texts) > said(images, negatives)).tolist()
    rng = random.Random(f"questions {SEED}")
    right: dict[str, list[bool]] = {kind: [] for kind in asked.KINDS}
    for scene in _scenes(number):
        for kind, answers in right.items():
            question, answer, _ = asked.ask(scene, rng, kind)
            best = int(reader.logits([world.render(scene)], [question]).argmax())
            answers.append(best in reader.tokens(answer))
    return {
        "beats_hard_negative": round(fmean(better), 4),
        **{kind: round(fmean(answers), 4) for kind, answers in right.items()},
        **sees(said, drawn),
    }


@dataclass(frozen=True)
class Drawn:
    """Pictures (32, 32, 3) uint8 of development prompts, and what the verifier finds in each."""

    rows: list[dict[str, str]]
    images: list[np.ndarray]
    found: list[dict[str, float | None]]


def draw(folder: Path, settings: sections.Sampling, number: int = 400) -> Drawn:
    """What a base draws of development prompts."""
    from vlg.sample.sampler import Sampler

    rows = development_prompts(number)
    sampler = Sampler(folder, settings, "cpu")
    images = [
        image
        for start in range(0, number, 40)
        for image in sampler.draw(
            [row["Prompt"] for row in rows[start : start + 40]],
            [1000 + index for index in range(start, min(start + 40, number))],
        )
    ]
    said = [captions.parse(row["Prompt"]) for row in rows]
    assert None not in said
    found = [verify.check(image, each) for image, each in zip(images, said, strict=True)]
    return Drawn(rows, images, found)


def base(drawn: Drawn) -> dict[str, Any]:
    """Fidelity and strict share of what a base drew, overall and by split; relations where both
    things are there, and three things counted right."""
    result: dict[str, Any] = {"pictures": len(drawn.rows)}

    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return round(fmean(known), 4) if known else None

    for part in ("fidelity", "strict", *verify.PARTS):
        result[part] = mean([found[part] for found in drawn.found])
    for split in world.PAIRS:
        own = [f for f, row in zip(drawn.found, drawn.rows, strict=True) if row["split"] == split]
        result[f"strict_{split}"] = mean([found["strict"] for found in own])
    both = [f for f in drawn.found if f["relation"] is not None and f["shape"] == 1]
    result["relation_of_both"] = mean([found["relation"] for found in both])
    three = [
        found["count"]
        for found, row in zip(drawn.found, drawn.rows, strict=True)
        if row["Prompt"].startswith("three ")
    ]
    result["count_of_three"] = mean(three)
    return result

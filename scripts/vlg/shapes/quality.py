"""What the tiny models can do, measured on scenes and prompts that no table reports."""

from __future__ import annotations

import random
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from vlg.shapes import captions, pretrain, verify, world

SEED = 1  # development; tables report prompts of other seeds


def development_prompts(number: int) -> list[dict[str, str]]:
    """Prompts to choose settings on: none of them is among the first 1,000 reported ones."""
    reported = {row["Prompt"] for row in captions.prompts(1000, 0)}
    rows = captions.prompts(2 * number, SEED)
    return [row for row in rows if row["Prompt"] not in reported][:number]


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


def clip(which: str, folder: Path, number: int = 1024) -> dict[str, float]:
    """Retrieval of the caption among 64, and how often the true caption beats a hard negative."""
    import torch

    batches = pretrain.contrastive_batches(1000 + SEED, 64)
    if which == "guide":
        from vlg.models.guide import load_guide

        guide = load_guide(folder)

        def scores(pictures: torch.Tensor, texts: list[str]) -> torch.Tensor:
            return guide.encode_image(pictures / 2 + 0.5) @ guide.encode_text(texts).T
    else:
        from vlg.models.clip import Clip

        judge = Clip(folder, "cpu")

        def scores(pictures: torch.Tensor, texts: list[str]) -> torch.Tensor:
            images = ((pictures + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
            return judge.encode_image(list(images)) @ judge.encode_text(texts).T

    retrieval, binding, true_scores = [], [], []
    for _ in range(number // 64):
        pictures, texts, negatives = next(batches)
        with torch.no_grad():
            right, wrong = scores(pictures, texts), scores(pictures, negatives).diagonal()
        # Two scenes of a batch may have the same partial caption: either is right.
        same = torch.tensor([[a == b for b in texts] for a in texts])
        retrieval.append(same.gather(1, right.argmax(1, keepdim=True)).float().mean().item())
        binding.append((right.diagonal() > wrong).float().mean().item())
        true_scores.append(100 * right.diagonal().mean().item())
    return {
        "retrieval_among_64": round(fmean(retrieval), 4),
        "beats_hard_negative": round(fmean(binding), 4),
        "clipscore_of_renders": round(fmean(true_scores), 2),
    }


def vqa(folder: Path, number: int = 512) -> dict[str, Any]:
    """How often the true caption is likelier than a hard negative, and questions answered right, of
    all and of each kind."""
    from vlg.models.vlm import Reader
    from vlg.shapes import asked

    reader = Reader(folder, "cpu")
    yes = reader.tokens(asked.YES)

    def said(images: list[np.ndarray], texts: list[str]) -> list[float]:
        questions = [asked.stated(text) for text in texts]
        return reader.logits(images, questions).softmax(1)[:, yes].sum(1).tolist()

    batches, better = pretrain.contrastive_batches(1000 + SEED, 64), []
    for _ in range(number // 64):
        pictures, texts, negatives = next(batches)
        images = list(((pictures + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
        pairs = zip(said(images, texts), said(images, negatives), strict=True)
        better += [right > wrong for right, wrong in pairs]
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
    }


def base(folder: Path, settings: dict[str, Any], number: int = 200) -> dict[str, Any]:
    """Fidelity and strict share of pictures of development prompts, overall and by split."""
    from vlg.sample.sampler import Sampler

    rows = development_prompts(number)
    sampler = Sampler(folder, settings, "cpu")
    images = [
        image
        for start in range(0, number, 40)
        for image in sampler.draw([r["Prompt"] for r in rows[start : start + 40]], [1000] * 40)
    ]
    found = []
    for image, row in zip(images, rows, strict=True):
        said = captions.parse(row["Prompt"])
        assert said is not None, row
        found.append({**verify.check(image, said), "split": row["split"]})
    result: dict[str, Any] = {"pictures": number}
    for part in ("fidelity", "strict", *verify.PARTS):
        values = [row[part] for row in found if row[part] is not None]
        result[part] = round(fmean(values), 4)
    for split in world.PAIRS:
        result[f"strict_{split}"] = round(
            fmean(row["strict"] for row in found if row["split"] == split), 4
        )
    return result

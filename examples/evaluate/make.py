"""Make what the examples evaluate: two sets of pictures, as of two programs, their ratings, and a
LoRA.

    python examples/evaluate/make.py FOLDER

Both sets are of the first prompts of the shapes world, and each gets some of them wrong: `plain`
three pictures in ten, and lists its pictures in metadata.jsonl; `careful` one in ten, names them by
prompt and seed, draws larger, and has left out two prompts. No person has rated them: three raters
are simulated, who see every fact and are a little unsure of the number. The LoRA holds what the
attention of the shipped base has learned after `shapes-early`, as far as matrices of a low rank
can.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import random
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
captions, example, verify, world = (
    importlib.import_module(f"vlg.shapes.{name}")
    for name in ("captions", "example", "verify", "world")
)

PROMPTS, SEEDS = 40, 2
WRONG = {"plain": 0.3, "careful": 0.1}
RATERS = ("one", "two", "three")
RANK = 16
LAYERS = ("to_q", "to_k", "to_v", "to_out.0")


def picture(name: str, prompt: str, seed: int) -> Image.Image:
    """What a program makes of a prompt: a scene that shows it, or shows it with a fact wrong."""
    rng = random.Random(f"{name} {prompt} {seed}")
    said = captions.parse(prompt)
    if rng.random() < WRONG[name]:
        false = captions.wrong(said, rng)
        while any(claim.number == 3 and claim.size == "large" for claim in false.claims):
            false = captions.wrong(said, rng)  # three large things fit nowhere
        said = false
    return Image.fromarray(world.render(example.example(said, rng)))


def sets(folder: Path) -> None:
    """Write both sets of pictures, and ratings of them."""
    prompts = [row["Prompt"] for row in captions.prompts(PROMPTS, 0)]
    for name in WRONG:
        (folder / name).mkdir(parents=True, exist_ok=True)
    lines, ratings = [], []

    def rate(name: str, prompt: str, seed: int, shown: Image.Image) -> None:
        rng = random.Random(f"ratings {name} {prompt} {seed}")
        share = verify.check(np.asarray(shown), captions.parse(prompt))["fidelity"]
        for rater in RATERS:
            score = min(5, max(1, round(1 + 4 * share + rng.gauss(0, 0.5))))
            ratings.append((rater, name, prompt, seed, score))

    for place, prompt in enumerate(prompts):
        for seed in range(SEEDS):
            plain, drawn = f"{len(lines):04d}.png", picture("plain", prompt, seed)
            drawn.save(folder / "plain" / plain)
            rate("plain", prompt, seed, drawn)
            lines.append(json.dumps({"file_name": plain, "prompt": prompt, "seed": seed}))
            if place not in (3, 17):
                drawn = picture("careful", prompt, seed)
                rate("careful", prompt, 1000 + seed, drawn)
                large = drawn.resize((64, 64), Image.Resampling.NEAREST)
                large.save(folder / "careful" / f"{place}_{1000 + seed}.webp", lossless=True)
    (folder / "plain/metadata.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    with (folder / "ratings.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("rater", "model", "prompt", "seed", "score"), *ratings])


def lora(file: Path) -> None:
    """Write the LoRA: the largest singular values of each layer's change."""
    import torch
    from safetensors.torch import load_file, save_file

    early, late = (
        load_file(ROOT / f"resources/shapes/{part}/unet/diffusion_pytorch_model.safetensors")
        for part in ("base-early", "base")
    )
    tensors = {}
    for name in early:
        layer = name.removesuffix(".weight")
        if layer.endswith(LAYERS) and name.endswith(".weight"):
            left, values, right = torch.linalg.svd(late[name].float() - early[name].float())
            up, down = left[:, :RANK] * values[:RANK], right[:RANK]
            tensors[f"unet.{layer}.lora_A.weight"] = down.contiguous()
            tensors[f"unet.{layer}.lora_B.weight"] = up.contiguous()
    save_file(tensors, file)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("folder", type=Path, help="where they are written")
    folder = arguments.parse_args().folder
    sets(folder)
    lora(folder / "lora.safetensors")

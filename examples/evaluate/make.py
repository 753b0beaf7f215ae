"""Make what the example evaluates: two sets of pictures, as two programs might have left them.

    python examples/evaluate/make.py FOLDER

Both draw the first prompts of the shapes world, and each gets some of them wrong: `plain` three
pictures in ten, and lists its pictures in metadata.jsonl; `careful` one in ten, names them by prompt
and seed, draws larger, and has left out two prompts.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from PIL import Image

from vlg.shapes import captions
from vlg.shapes.example import example
from vlg.shapes.world import render

PROMPTS, SEEDS = 40, 2
WRONG = {"plain": 0.3, "careful": 0.1}


def picture(name: str, prompt: str, seed: int) -> Image.Image:
    """What a program makes of a prompt: a scene that shows it, or shows it with a fact wrong."""
    rng = random.Random(f"{name} {prompt} {seed}")
    said = captions.parse(prompt)
    if rng.random() < WRONG[name]:
        said = captions.wrong(said, rng)
    return Image.fromarray(render(example(said, rng)))


def main(folder: Path) -> None:
    prompts = [row["Prompt"] for row in captions.prompts(PROMPTS, 0)]
    for name in WRONG:
        (folder / name).mkdir(parents=True, exist_ok=True)
    lines = []
    for place, prompt in enumerate(prompts):
        for seed in range(SEEDS):
            plain = f"{len(lines):04d}.png"
            picture("plain", prompt, seed).save(folder / "plain" / plain)
            lines.append(json.dumps({"file_name": plain, "prompt": prompt, "seed": seed}))
            if place not in (3, 17):
                large = picture("careful", prompt, seed).resize((64, 64), Image.Resampling.NEAREST)
                large.save(folder / "careful" / f"{place}_{1000 + seed}.webp", lossless=True)
    (folder / "plain/metadata.jsonl").write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""How often the verifier of the shapes world errs, measured on pictures whose content is known.

Draws scenes that nothing else uses and prints a Markdown table: how many are read right under
their own caption, clean and with noise or blur, how many captions with one wrong detail are
accepted, by detail, and how long a picture takes. The verifier: scripts/vlg/shapes/verify.py.

    .venv/bin/python bench/verifier.py --scenes 5000
    .venv/bin/python bench/verifier.py --picture docs/shapes-world.png
"""

import argparse
import random
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from vlg.shapes import captions, verify, world  # noqa: E402

EVERYTHING = world.SEEN + world.ADAPT + world.NEVER
KINDS = {"single": "one thing", "pair": "two things in a relation", "count": "two or three alike"}


def detail(true: captions.Meaning, false: captions.Meaning) -> str:
    """In which detail two meanings differ, in the words of the table."""
    if true.background != false.background:
        return "wrong background"
    if true.relation != false.relation:
        return "relation turned round"
    changed = {
        name
        for a, b in zip(true.claims, false.claims, strict=True)
        for name in vars(a)
        if getattr(a, name) != getattr(b, name)
    }
    both = all(a != b for a, b in zip(true.claims, false.claims, strict=True))
    if len(true.claims) == 2 and both:
        return "colours exchanged"
    return f"wrong {changed.pop()}"


def disturbances(rng: np.random.Generator) -> dict:
    """Ways in which a drawn picture may differ from a clean one: name -> function."""

    def noise(picture: np.ndarray) -> np.ndarray:
        noisy = picture + rng.normal(0, 8, picture.shape)
        return noisy.clip(0, 255).astype(np.uint8)

    def blur(picture: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(picture, (0.6, 0.6, 0))

    return {"noise of 8 grey levels": noise, "blur of 0.6 pixels": blur}


def measure(number: int, seed: int) -> str:
    """The table, for `number` scenes."""
    rng = random.Random(f"verifier bench {seed}")
    scenes = [world.sample(rng, EVERYTHING) for _ in range(number)]
    said = [captions.meaning(scene) for scene in scenes]
    images = [world.render(scene) for scene in scenes]
    started = time.process_time()
    found = [verify.check(*each) for each in zip(images, said, strict=True)]
    seconds = time.process_time() - started

    right, of = Counter(), Counter()
    for scene, result in zip(scenes, found, strict=True):
        for name in ("all", KINDS[scene.kind]):
            right[name] += int(result["strict"])
            of[name] += 1
        for part in verify.PARTS:
            if result[part] is not None:
                right[f"its {part}"] += result[part] == 1
                of[f"its {part}"] += 1
    rows = [
        ("clean pictures read right: every statement of the full caption", right["all"], of["all"]),
        *((f"- {name}", right[name], of[name]) for name in KINDS.values()),
        *((f"- its {part}", right[f"its {part}"], of[f"its {part}"]) for part in verify.PARTS),
    ]
    for name, disturb in disturbances(np.random.default_rng(seed)).items():
        strict = [
            verify.check(disturb(i), s)["strict"]
            for i, s in zip(images[:1000], said[:1000], strict=True)
        ]
        rows.append((f"pictures with {name} read right", int(sum(strict)), len(strict)))

    accepted, of = Counter(), Counter()
    for image, true in zip(images, said, strict=True):
        false = captions.wrong(true, rng)
        strict = int(verify.check(image, false)["strict"])
        for name in ("all", detail(true, false)):
            accepted[name] += strict
            of[name] += 1
    rows.append(("captions with one wrong detail accepted", accepted.pop("all"), of.pop("all")))
    rows += [(f"- {name}", accepted[name], of[name]) for name in sorted(of)]

    lines = ["| | pictures | share |", "|---|---|---|"]
    lines += [f"| {name} | {k:,} of {n:,} | {100 * k / n:.2f} % |" for name, k, n in rows]
    return "\n".join([*lines, f"\n{1000 * seconds / number:.1f} ms of processor time a picture."])


def draw(path: Path, seed: int = 6, columns: int = 6) -> None:
    """A picture of the world: renders with their captions, a row for each split of the pairs."""
    import matplotlib

    matplotlib.use("Agg")
    import textwrap

    from matplotlib import pyplot

    rng = random.Random(f"world picture {seed}")
    titles = {
        "in": "pairs that every training shows",
        "adapt": "pairs that only fine-tuning shows",
        "never": "pairs that no training of the UNet shows",
    }
    figure, axes = pyplot.subplots(len(titles), columns, figsize=(1.6 * columns, 7.4), dpi=110)
    kinds = ("single", "count", "pair")
    for line, (split, title) in zip(axes, titles.items(), strict=True):
        line[0].set_title(title, loc="left", fontsize=11, fontweight="bold", pad=7)
        for index, axis in enumerate(line):
            scene = world.sample(rng, world.PAIRS[split], kinds[index % 3])
            axis.imshow(world.render(scene), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            text = textwrap.fill(captions.caption(scene, rng), 22)
            axis.set_xlabel(text, fontsize=7.5)
    figure.subplots_adjust(wspace=0.12, hspace=0.72)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", pad_inches=0.1, metadata={"Software": None})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=2000, help="how many to draw and check")
    parser.add_argument("--seed", type=int, default=0, help="which scenes")
    parser.add_argument("--picture", type=Path, help="draw the world to this PNG file instead")
    args = parser.parse_args()
    if args.picture:
        draw(args.picture)
    else:
        print(measure(args.scenes, args.seed))

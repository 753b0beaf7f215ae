"""How often the verifier of the shapes world errs, measured on pictures whose content is known.

Draws scenes that nothing else uses and prints a Markdown table: how many are read right under
their own caption, clean and with noise or blur, and of two things that touch; how many captions
with one wrong detail are accepted, by detail; how often what is none of the shapes is taken for
one; and how long a picture takes. The verifier: scripts/vlg/shapes/verify.py.

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


FINE = 8  # samples of a pixel's side, for shapes that the world does not have
YS, XS = (np.mgrid[0 : world.SIDE * FINE, 0 : world.SIDE * FINE] + 0.5) / FINE


def filled(inside: np.ndarray) -> np.ndarray:
    """How much of each pixel is covered, from the finer grid: (32, 32) in 0..1."""
    return inside.reshape(world.SIDE, FINE, world.SIDE, FINE).mean((1, 3))


def turned(shape: str, degrees: float, dx: np.ndarray, dy: np.ndarray, radius: float):
    """Where a shape of the world is that was turned round its centre."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return world.distance(shape, cos * dx + sin * dy, cos * dy - sin * dx, radius) < 0


def rounded(dx: np.ndarray, dy: np.ndarray, half: float) -> np.ndarray:
    """A box half way to a circle: its corners are rounded by 0.6 of half its side."""
    corner = [np.maximum(np.abs(each) - 0.4 * half, 0) for each in (dx, dy)]
    return np.hypot(*corner) < 0.6 * half


def smeared(dx: np.ndarray, dy: np.ndarray, radius: float, rng: random.Random) -> np.ndarray:
    """A blot whose radius swings round it by a quarter and more."""
    angle, edge = np.arctan2(dy, dx), radius
    for waves in (2, 3):
        swing = rng.uniform(0.2, 0.3)
        edge = edge * (1 + swing * np.cos(waves * angle + rng.uniform(0, 2 * np.pi)))
    return np.hypot(dx, dy) < edge


# What is none of the shapes, from offsets to a centre, a radius and a source of chance.
ODD = {
    "diamond": lambda x, y, r, rng: np.abs(x) + np.abs(y) < 1.25 * r,
    "parallelogram": lambda x, y, r, rng: np.maximum(np.abs(x - 0.35 * y), np.abs(y)) < 0.886 * r,
    "rounded box": lambda x, y, r, rng: rounded(x, y, 0.93 * r),
    "ellipse": lambda x, y, r, rng: np.hypot(x / 1.15, 1.15 * y) < r,
    "rectangle": lambda x, y, r, rng: np.maximum(np.abs(x) / 1.15, 1.15 * np.abs(y)) < 0.886 * r,
    "square turned by 20 degrees": lambda x, y, r, rng: turned("square", 20, x, y, r),
    "triangle upside down": lambda x, y, r, rng: turned("triangle", 180, x, y, r),
    "cross turned by 45 degrees": lambda x, y, r, rng: turned("cross", 45, x, y, r),
    "dot": lambda x, y, r, rng: turned(rng.choice(world.SHAPES), 0, x, y, 2.3),
    "smear": lambda x, y, r, rng: smeared(x, y, r, rng),
}


def odd(name: str, rng: random.Random) -> np.ndarray:
    """A picture (32, 32, 3) uint8 of one of ODD, anywhere, in any colours."""
    x, y = rng.uniform(11, 21), rng.uniform(11, 21)
    radius = world.SIZES[rng.choice(list(world.SIZES))]
    alpha = filled(ODD[name](XS - x, YS - y, radius, rng))[..., None]
    ground = np.array(world.BACKGROUNDS[rng.choice(list(world.BACKGROUNDS))])
    colour = np.array(world.COLOURS[rng.choice(list(world.COLOURS))])
    return np.rint(ground + alpha * (colour - ground)).astype(np.uint8)


def touching(rng: random.Random, alike: bool) -> world.Scene:
    """Two things whose outlines just touch: alike, or of any shapes and sizes and two colours."""
    shapes = [rng.choice(world.SHAPES) for _ in range(2)]
    sizes = [rng.choice(list(world.SIZES)) for _ in range(2)]
    colours = rng.sample(list(world.COLOURS), 2)
    if alike:
        shapes, sizes, colours = ([each[0]] * 2 for each in (shapes, sizes, colours))
    radii = [world.SIZES[size] for size in sizes]
    while True:
        x, y, angle = rng.uniform(8, 24), rng.uniform(8, 24), rng.uniform(0, 2 * np.pi)
        first = world.distance(shapes[0], XS - x, YS - y, radii[0])
        for away in np.arange(4, 20, 0.1):
            x2, y2 = x + away * np.cos(angle), y + away * np.sin(angle)
            second = world.distance(shapes[1], XS - x2, YS - y2, radii[1])
            if np.maximum(first, second).min() >= 0:
                break
        if all(8 < each < 24 for each in (x2, y2)):
            centres = ((x, y), (x2, y2))
            things = tuple(map(world.Thing, shapes, colours, sizes, *zip(*centres, strict=True)))
            kind = "count" if alike else "pair"
            return world.Scene(kind, rng.choice(list(world.BACKGROUNDS)), things)


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

    several, other = max(number // 10, 1), random.Random(f"verifier bench, other pictures {seed}")
    for name, alike in (("of two colours", False), ("alike", True)):
        pairs = [touching(other, alike) for _ in range(several)]
        strict = [verify.check(world.render(p), captions.meaning(p))["strict"] for p in pairs]
        rows.append((f"two things {name} that touch read right", int(sum(strict)), several))

    accepted, of = Counter(), Counter()
    for image, true in zip(images, said, strict=True):
        false = captions.wrong(true, rng)
        strict = int(verify.check(image, false)["strict"])
        for name in ("all", detail(true, false)):
            accepted[name] += strict
            of[name] += 1
    rows.append(("captions with one wrong detail accepted", accepted.pop("all"), of.pop("all")))
    rows += [(f"- {name}", accepted[name], of[name]) for name in sorted(of)]
    for name in ODD:
        known = [any(t.shape for t in verify.read(odd(name, other))[1]) for _ in range(several)]
        rows.append((f"{name} taken for a shape", sum(known), several))

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

"""Scenes of one to three shapes on a plain background, and how they are drawn.

A picture is 32 x 32 RGB. Every shape is a signed distance function whose edge is one pixel wide,
so pictures are anti-aliased and positions are sub-pixel. The vocabulary is small enough for a
two-million-parameter UNet to learn in an hour and rich enough to be got wrong.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import combinations

import numpy as np

SIDE = 32

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 39, 40),
    "green": (44, 150, 44),
    "blue": (38, 80, 210),
    "yellow": (245, 215, 30),
    "purple": (140, 60, 180),
    "orange": (250, 130, 15),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (245, 245, 245),
    "black": (20, 20, 20),
    "gray": (130, 130, 130),
    "pink": (250, 190, 210),
}
SHAPES = ("circle", "square", "triangle", "cross")
# Radii in pixels. Two large things side by side just fit.
SIZES: dict[str, float] = {"small": 4.2, "large": 6.4}
RELATIONS = ("left of", "right of", "above", "below")
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

# Attribute pairs by who has seen them. The base model's training shows none of ADAPT and NEVER;
# the fine-tuning pictures show ADAPT too; no training of the UNet shows NEVER. Guide, judge and
# VAE see everything, as CLIP has seen what a fine-tuned model has not. Each shape and each colour
# stands in several pairs of the first kind, so that a model which composes could get all right.
NEVER = (("cross", "red"), ("triangle", "blue"), ("square", "orange"), ("circle", "purple"))
ADAPT = (
    ("circle", "yellow"),
    ("square", "green"),
    ("triangle", "purple"),
    ("cross", "blue"),
    ("circle", "orange"),
    ("square", "red"),
    ("triangle", "yellow"),
    ("cross", "green"),
)
SEEN = tuple(
    (shape, colour)
    for shape in SHAPES
    for colour in COLOURS
    if (shape, colour) not in ADAPT + NEVER
)
PAIRS = {"in": SEEN, "adapt": ADAPT, "never": NEVER}


@dataclass(frozen=True)
class Thing:
    """One drawn shape: centre (x, y) in pixels from the top left corner, size a key of SIZES."""

    shape: str
    colour: str
    size: str
    x: float
    y: float


@dataclass(frozen=True)
class Scene:
    """A background and one to three things.

    kind is "single", "pair" (two different things in `relation`: the first is `relation` the
    second) or "count" (two or three alike).
    """

    kind: str
    background: str
    things: tuple[Thing, ...]
    relation: str = ""


def distance(shape: str, dx: np.ndarray, dy: np.ndarray, radius: float | np.ndarray) -> np.ndarray:
    """Signed distance in pixels (negative inside) from offsets to the centroid of a shape."""
    if shape == "circle":
        return np.hypot(dx, dy) - radius
    if shape == "square":
        return np.maximum(np.abs(dx), np.abs(dy)) - 0.886 * radius
    if shape == "triangle":  # equilateral, point up; its inscribed circle has half the outer radius
        inner = 0.6 * radius
        return np.maximum(dy - inner, 0.866 * np.abs(dx) - 0.5 * dy - inner)
    if shape == "cross":
        long, short = 1.05 * radius, 0.38 * radius
        across = np.maximum(np.abs(dx) - long, np.abs(dy) - short)
        along = np.maximum(np.abs(dx) - short, np.abs(dy) - long)
        return np.minimum(across, along)
    raise ValueError(f"no shape {shape!r}")


_YS, _XS = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) + 0.5


def coverage(shape: str, x: float, y: float, radius: float) -> np.ndarray:
    """How much of each pixel a shape covers: (32, 32) float32 in 0..1."""
    return np.clip(0.5 - distance(shape, _XS - x, _YS - y, radius), 0, 1).astype(np.float32)


def render(scene: Scene) -> np.ndarray:
    """Draw a scene: (32, 32, 3) uint8."""
    picture = np.empty((SIDE, SIDE, 3), np.float32)
    picture[:] = BACKGROUNDS[scene.background]
    for thing in scene.things:
        alpha = coverage(thing.shape, thing.x, thing.y, SIZES[thing.size])[..., None]
        picture += alpha * (np.asarray(COLOURS[thing.colour], np.float32) - picture)
    return np.rint(picture).astype(np.uint8)


def holds(relation: str, dx: float, dy: float) -> bool:
    """Whether a thing whose centre is at offset (dx, dy) from another stands in `relation` to it.

    The larger of the two offsets decides, so exactly one of the four relations holds.
    """
    if abs(dx) >= abs(dy):
        return relation == ("left of" if dx < 0 else "right of")
    return relation == ("above" if dy < 0 else "below")


# How far each shape of radius 1 reaches from its centroid: left and right, up, down.
_REACH = {
    "circle": (1.0, 1.0, 1.0),
    "square": (0.886, 0.886, 0.886),
    "triangle": (1.04, 1.2, 0.6),
    "cross": (1.05, 1.05, 1.05),
}
_MARGIN = 1.0  # pixels kept free around each thing, so that two are at least two apart


def _place(
    rng: random.Random, kinds: list[tuple[str, str]], relation: str
) -> list[tuple[float, float]]:
    """Centres of (shape, size) kinds that keep each whole and apart from the others."""
    reach = [
        tuple(SIZES[size] * extent + _MARGIN for extent in _REACH[shape]) for shape, size in kinds
    ]
    while True:
        centres = [
            (rng.uniform(side, SIDE - side), rng.uniform(up, SIDE - down))
            for side, up, down in reach
        ]
        boxes = [
            (x - side, y - up, x + side, y + down)
            for (x, y), (side, up, down) in zip(centres, reach, strict=True)
        ]
        if any(
            a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
            for a, b in combinations(boxes, 2)
        ):
            continue
        if relation:
            dx, dy = centres[0][0] - centres[1][0], centres[0][1] - centres[1][1]
            # A clear case: nobody could argue about a diagonal.
            if not holds(relation, dx, dy) or min(abs(dx), abs(dy)) > 0.5 * max(abs(dx), abs(dy)):
                continue
        return centres


def sample(rng: random.Random, allowed: tuple[tuple[str, str], ...], kind: str = "") -> Scene:
    """Draw a random scene whose (shape, colour) pairs are all among `allowed`."""
    kind = kind or rng.choices(("single", "pair", "count"), (0.35, 0.4, 0.25))[0]
    background = rng.choice(list(BACKGROUNDS))
    relation = ""
    if kind == "single":
        pairs = [rng.choice(allowed)]
        sizes = [rng.choice(list(SIZES))]
    elif kind == "pair":
        pairs = rng.sample(allowed, 2)
        sizes = [rng.choice(list(SIZES)) for _ in pairs]
        relation = rng.choice(RELATIONS)
    else:
        number = rng.choice((2, 3))
        pairs = [rng.choice(allowed)] * number
        # Three large shapes do not fit.
        sizes = [rng.choice(list(SIZES)) if number == 2 else "small"] * number
    centres = _place(rng, [(p[0], size) for p, size in zip(pairs, sizes, strict=True)], relation)
    things = tuple(
        Thing(shape, colour, size, x, y)
        for (shape, colour), size, (x, y) in zip(pairs, sizes, centres, strict=True)
    )
    return Scene(kind, background, things, relation)

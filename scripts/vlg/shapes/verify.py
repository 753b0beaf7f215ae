"""Read a picture of the shapes world back: what is in it, and is that what the prompt says?

The background is the border's colour. Things are the connected regions that differ from it; each
is compared with every shape at many sizes, placed at its own centre of mass to an eighth of a
pixel. No learned part, so a picture that fools a CLIP does not fool the verifier.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from scipy import ndimage

from vlg.shapes.captions import Meaning
from vlg.shapes.world import BACKGROUNDS, COLOURS, SHAPES, SIDE, SIZES, coverage, holds

# Thresholds were chosen on renders, their reconstructions by the VAE and samples of development
# prompts looked at by eye; docs/shapes.md has the error rates.
COLOUR_REACH = 75.0  # a colour is the nearest named one, if within this RGB distance (0..441)
DIFFERENT = 45.0  # RGB distance from the background from which a pixel belongs to a thing
SMALLEST = 8.0  # least area of a thing, in pixels
MISFIT = 0.20  # squared error over area beyond which a region is none of the shapes
BORDER_SIZE = sum(SIZES.values()) / 2  # radius that divides small from large
RADII = np.arange(3.0, 8.3, 0.2)
STEPS = 8  # sub-pixel positions per pixel
HALF = 11  # templates are cut to (2 HALF + 1) squared


@dataclass(frozen=True)
class Seen:
    """A thing read from a picture; shape or colour is None where it is none of the known ones."""

    shape: str | None
    colour: str | None
    size: str
    x: float
    y: float


def _nearest(colour: np.ndarray, names: dict[str, tuple[int, int, int]]) -> str | None:
    distances = {name: float(np.linalg.norm(colour - value)) for name, value in names.items()}
    name = min(distances, key=distances.__getitem__)
    return name if distances[name] <= COLOUR_REACH else None


@functools.cache
def _templates(step_x: int, step_y: int) -> tuple[np.ndarray, np.ndarray]:
    """Coverage of every shape and radius around one sub-pixel centre, and each one's energy.

    (shapes x radii, (2 HALF + 1)^2) float32 and (shapes x radii,).
    """
    middle = SIDE // 2
    x, y = middle + step_x / STEPS, middle + step_y / STEPS
    cut = slice(middle - HALF, middle + HALF + 1)
    bank = np.stack([coverage(s, x, y, r)[cut, cut].ravel() for s in SHAPES for r in RADII])
    return bank, (bank**2).sum(1)


def _fit(alpha: np.ndarray) -> tuple[str | None, float, float, float]:
    """Best shape, radius and centre of one region's coverage (32, 32) in 0..1."""
    total = alpha.sum()
    x = float((alpha.sum(0) * (np.arange(SIDE) + 0.5)).sum() / total)
    y = float((alpha.sum(1) * (np.arange(SIDE) + 0.5)).sum() / total)
    column, row = int(x), int(y)
    bank, energy = _templates(round((x - column) * STEPS), round((y - row) * STEPS))
    patch = np.pad(alpha, HALF)[row : row + 2 * HALF + 1, column : column + 2 * HALF + 1].ravel()
    errors = (patch**2).sum() - 2 * (bank @ patch) + energy
    best = int(errors.argmin())
    shape = SHAPES[best // len(RADII)] if errors[best] <= MISFIT * total else None
    return shape, float(RADII[best % len(RADII)]), x, y


def read(picture: np.ndarray) -> tuple[str | None, list[Seen]]:
    """The background's name (None if it is no known colour) and the things in a picture.

    `picture` is (32, 32, 3) uint8.
    """
    pixels = picture.astype(np.float32)
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    ground = np.median(border, axis=0)
    differs = np.linalg.norm(pixels - ground, axis=2)
    labels, number = ndimage.label(differs > DIFFERENT, structure=np.ones((3, 3)))
    things = []
    for label in range(1, number + 1):
        region = labels == label
        if region.sum() < SMALLEST:
            continue
        # The inner half of a region, away from blended edges, has its true colour.
        inner = region & (differs >= np.median(differs[region]))
        colour = np.median(pixels[inner], axis=0)
        axis = colour - ground
        near = ndimage.binary_dilation(region, structure=np.ones((3, 3)))
        # A patchwork of colours may have a median that none of its pixels comes near.
        alpha = np.clip(((pixels - ground) @ axis) / max(axis @ axis, 1.0), 0, 1) * near
        if alpha.sum() < 1:
            y, x = ndimage.center_of_mass(region)
            things.append(Seen(None, None, "small", x + 0.5, y + 0.5))
            continue
        shape, radius, x, y = _fit(alpha.astype(np.float32))
        size = "large" if radius > BORDER_SIZE else "small"
        things.append(Seen(shape, _nearest(colour, COLOURS), size, x, y))
    return _nearest(ground, BACKGROUNDS), things


PARTS = ("count", "shape", "colour", "size", "relation", "background")


def check(picture: np.ndarray, said: Meaning) -> dict[str, float | None]:
    """Compare a picture with a meaning.

    Returns a share of true statements in 0..1 for each of PARTS (None where the sentence says
    nothing of it), `fidelity`, the share of all statements that are true, and `strict`, 1.0 when
    every one is. Things are matched to claims in the way that makes most statements true.
    """
    background, seen = read(picture)
    wanted = [claim for claim in said.claims for _ in range(claim.number)]
    facts: dict[str, list[bool]] = {part: [] for part in PARTS}
    facts["count"] = [len(seen) == len(wanted)]
    if said.background:
        facts["background"] = [background == said.background]

    def matched(things: tuple[Seen | None, ...]) -> dict[str, list[bool]]:
        found: dict[str, list[bool]] = {"shape": [], "colour": [], "size": [], "relation": []}
        for claim, thing in zip(wanted, things, strict=True):
            for part in ("shape", "colour", "size"):
                if (value := getattr(claim, part)) is not None:
                    found[part].append(thing is not None and getattr(thing, part) == value)
        if said.relation:
            # A relation is between the things that were named: with a wrong shape in its place
            # it says nothing.
            named = all(t and t.shape == c.shape for t, c in zip(things, wanted, strict=True))
            first = said.claims[0].number
            found["relation"] = [
                named
                and all(
                    holds(said.relation, a.x - b.x, a.y - b.y)
                    for a in things[:first]
                    for b in things[first:]
                )
            ]
        return found

    # Six things or more are a mess; the largest few would do, but any six are as wrong.
    candidates: list[Seen | None] = [*seen[:6]]
    places = range(len(candidates) + len(wanted))
    # Any place past the last thing means the same: nothing was drawn for this claim.
    nothing = len(candidates)
    ways = {tuple(min(i, nothing) for i in way) for way in permutations(places, len(wanted))}
    candidates.append(None)
    best = max(
        (matched(tuple(candidates[i] for i in way)) for way in sorted(ways)),
        key=lambda found: sum(sum(values) for values in found.values()),
    )
    facts.update(best)
    everything = [fact for values in facts.values() for fact in values]
    return {
        **{part: (sum(v) / len(v) if v else None) for part, v in facts.items()},
        "fidelity": sum(everything) / len(everything),
        "strict": float(all(everything)),
    }

"""Read a picture of the shapes world back: what is in it, and is that what the prompt says?

The background is the border's colour. Things are what differs from it, divided where colours or
thin necks divide it; each is compared with every shape at many sizes, placed at its own centre of
mass to an eighth of a pixel. What fits none is a smear. No learned part, so a picture that fools a
CLIP does not fool the verifier.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from scipy import ndimage

from vlg.shapes.captions import Meaning
from vlg.shapes.world import BACKGROUNDS, COLOURS, SHAPES, SIDE, SIZES, distance, holds

# Thresholds were chosen on renders, their reconstructions by the VAE and drawn pictures looked at
# by eye; docs/shapes.md has the error rates.
COLOUR_REACH = 75.0  # a colour is the nearest named one, if within this RGB distance (0..441)
HALFWAY = 0.46  # and if no farther on the way from it to another one
DIFFERENT = 45.0  # RGB distance from the background from which a pixel belongs to a thing
SMALLEST = 8.0  # least area of a thing, in pixels
SOFT = 0.8  # blur in pixels under which a region and a template are compared,
SOFTER = (0.0, 0.6, 1.0)  # and of the template before that: models draw soft edges
# A region is of the shape it is nearest to, if its squared error over its area is at most MISFIT,
# and if it lies no farther than BETWEEN on the way from that shape (0) to another one (1). The VAE
# draws crosses and triangles less well than circles and squares.
MISFIT = {"circle": 0.010, "square": 0.014, "triangle": 0.034, "cross": 0.035}
BETWEEN = {"circle": 0.33, "square": 0.40, "triangle": 0.40, "cross": 0.45}
DEFORMED = 0.10  # up to which misfit what has no shape is a thing, and beyond which a smear
STRAY = 50.0  # RGB distance from the blend of a thing and the background that is another colour
PURE = 0.85  # least share of a thing that is of its colour
NECK = 0.8  # longest border of two things of one colour, over the root of the smaller one's area
LEAST = 16.0  # area of the smallest shape that is looked for, in pixels
TURNS = 5  # how often the border of two things of one colour is drawn anew
BORDER_SIZE = sum(SIZES.values()) / 2  # radius that divides small from large
RADII = np.arange(1.75, 8.3, 0.25)
TINY = 3.0  # least radius of a shape; what is smaller is a dot, whatever it looks like
# What a circle or square must not be nearer to: shapes, and by how many degrees they are turned.
STRANGE = 0.6  # of its error; clearly nearer, that is
STRANGERS = (("square", 22.5), ("square", 45.0), ("square", 67.5), ("cross", 45.0))
MOST = 6  # things that are matched to claims
STEPS = 8  # sub-pixel positions per pixel
HALF = 11  # templates are cut to (2 HALF + 1) squared

_AROUND = np.ones((3, 3))
_YS, _XS = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) + 0.5


@dataclass(frozen=True)
class Seen:
    """A thing read from a picture; shape or colour is None where it is none of the known ones.

    What has no size, and neither of the others, is a smear.
    """

    shape: str | None
    colour: str | None
    size: str | None
    x: float
    y: float


@dataclass(frozen=True)
class _Fit:
    """The best shape for a region, and whether it is one: centre and radius in pixels."""

    shape: str
    radius: float
    x: float
    y: float
    misfit: float
    between: float
    strange: bool

    @property
    def good(self) -> bool:
        near = self.misfit <= MISFIT[self.shape] and self.between <= BETWEEN[self.shape]
        return near and not self.strange and self.radius >= TINY

    @property
    def smear(self) -> bool:
        """Whether this is so far from every shape that it is no thing at all."""
        return not self.good and self.misfit > DEFORMED


def _nearest(colour: np.ndarray, names: dict[str, tuple[int, int, int]]) -> str | None:
    """The named colour that an RGB colour is of; None where it is of none, or between two."""
    values = np.array(list(names.values()), float)
    away = ((colour - values) ** 2).sum(1)
    best = int(away.argmin())
    # How far the colour lies on the way from the nearest one (0) to another (1).
    others = np.arange(len(values)) != best
    apart = ((values - values[best]) ** 2).sum(1)
    between = ((away[best] - away[others]) / apart[others]).max() / 2 + 0.5
    return list(names)[best] if away[best] <= COLOUR_REACH**2 and between <= HALFWAY else None


@functools.cache
def _templates(step_x: int, step_y: int) -> tuple[np.ndarray, np.ndarray]:
    """Softened coverage of every shape and stranger, softness and radius around one sub-pixel
    centre, and their energies.

    (kinds x softnesses x radii, (2 HALF + 1)^2) float32 and (kinds x softnesses x radii,).
    """
    xs, ys = (np.arange(-HALF, HALF + 1) + 0.5 - step / STEPS for step in (step_x, step_y))
    xs, ys = np.meshgrid(xs, ys)
    kinds = [(shape, 0.0) for shape in SHAPES] + [*STRANGERS]
    sharp = np.stack([_drawn(*kind, xs, ys, radius) for kind in kinds for radius in RADII])
    blurs = [np.hypot(SOFT, softer) for softer in SOFTER]
    bank = np.stack([ndimage.gaussian_filter(sharp, (0, blur, blur)) for blur in blurs])
    bank = bank.reshape(len(blurs), len(kinds), len(RADII), -1).swapaxes(0, 1)
    bank = bank.reshape(len(kinds) * len(blurs) * len(RADII), -1)
    return bank, (bank**2).sum(1)


def _drawn(shape: str, turn: float, xs: np.ndarray, ys: np.ndarray, radius: float) -> np.ndarray:
    """Coverage in 0..1 of a shape turned by `turn` degrees, at offsets from its centre."""
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    away = distance(shape, c * xs + s * ys, c * ys - s * xs, radius)
    return np.clip(0.5 - away, 0, 1).astype(np.float32)


def _fit(alpha: np.ndarray) -> _Fit:
    """The best shape for one region's coverage (32, 32) in 0..1."""
    total = float(alpha.sum())
    x = float((alpha.sum(0) * (np.arange(SIDE) + 0.5)).sum() / total)
    y = float((alpha.sum(1) * (np.arange(SIDE) + 0.5)).sum() / total)
    column, row = int(x), int(y)
    bank, energy = _templates(round((x - column) * STEPS), round((y - row) * STEPS))
    patch = np.pad(alpha, HALF)[row : row + 2 * HALF + 1, column : column + 2 * HALF + 1]
    patch = ndimage.gaussian_filter(patch, SOFT, mode="constant").ravel()
    kinds = len(SHAPES) + len(STRANGERS)
    errors = ((patch**2).sum() - 2 * (bank @ patch) + energy).reshape(kinds, -1)
    # Of each shape its best softness and radius; then how far the region lies on the way from the
    # best shape to each other one.
    places = errors.argmin(1)[: len(SHAPES)]
    least, strange = np.split(errors.min(1), [len(SHAPES)])
    best = int(least.argmin())
    chosen = bank.reshape(*errors.shape, -1)[np.arange(len(SHAPES)), places]
    apart = ((chosen - chosen[best]) ** 2).sum(1)
    others = np.arange(len(SHAPES)) != best
    between = float(((least[best] - least[others]) / apart[others]).max() + 1) / 2
    radius = float(RADII[places[best] % len(RADII)])
    round_or_square = SHAPES[best] in ("circle", "square")
    strange = round_or_square and bool((strange < STRANGE * least[best]).any())
    return _Fit(SHAPES[best], radius, x, y, float(least[best]) / total, between, strange)


def _divided(alpha: np.ndarray, number: int) -> list[_Fit] | None:
    """Fits of `number` things of one colour whose outline shows them; None where it does not."""
    inside = alpha > 0.5
    points = np.argwhere(inside) + 0.5  # rows of (y, x)
    if len(points) < number * LEAST:
        return None
    # Begin with points far apart, then go by turns from parts to shapes and back.
    centres: list[np.ndarray] = []
    while len(centres) < number:
        others = centres or [points.mean(0)]
        centres.append(
            points[np.min([((points - c) ** 2).sum(1) for c in others], axis=0).argmax()]
        )
    owner = np.argmin([(_YS - y) ** 2 + (_XS - x) ** 2 for y, x in centres], axis=0)
    for _ in range(TURNS):
        parts = [alpha * (owner == index) for index in range(number)]
        if min(part.sum() for part in parts) < LEAST:
            return None
        fits = [_fit(part) for part in parts]
        before = owner
        owner = np.argmin([distance(f.shape, _XS - f.x, _YS - f.y, f.radius) for f in fits], axis=0)
        if (owner == before).all():
            break
    if not all(fit.good for fit in fits):
        return None
    owner = np.where(inside, before, -1)
    for one in range(number):
        for two in range(one):
            a, b = owner == one, owner == two
            border = (ndimage.binary_dilation(a) & b).sum()
            if border > NECK * np.sqrt(min(a.sum(), b.sum())):
                return None
    return fits


def _cores(pixels: np.ndarray, ground: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The insides of what a region is made of: (32, 32) of 0 and 1, 2, ...

    An inside is a connected patch, nowhere thinner than three pixels, that is nearer to one named
    colour than to any other and to the background.
    """
    colours = np.array([ground, *COLOURS.values()], np.float32)
    away = ((pixels[:, :, None] - colours) ** 2).sum(3)
    named = np.where(region & (away.min(2) <= COLOUR_REACH**2), away.argmin(2), 0)
    cores = np.zeros(region.shape, int)
    for colour in np.unique(named[named > 0]):
        labels, number = ndimage.label(ndimage.binary_opening(named == colour))
        for label in range(1, number + 1):
            core = labels == label
            if core.sum() >= SMALLEST:
                cores[core] = cores.max() + 1
    return cores


def _parts(
    pixels: np.ndarray, ground: np.ndarray, region: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """What one region is made of: for each part its colour and its coverage (32, 32) in 0..1."""
    near = ndimage.binary_dilation(region, structure=_AROUND)
    cores = _cores(pixels, ground, region)
    if cores.any():
        _, nearest = ndimage.distance_transform_edt(cores == 0, return_indices=True)
        owner = cores[tuple(nearest)]
    else:
        # Nothing of a known colour: the inner half, away from blended edges.
        differs = np.linalg.norm(pixels - ground, axis=2)
        cores = (region & (differs >= np.median(differs[region]))).astype(int)
        owner = np.ones(region.shape, int)
    parts = []
    for index in range(1, int(cores.max()) + 1):
        colour = np.median(pixels[cores == index], axis=0)
        axis = colour - ground
        # A patchwork of colours may have a median that none of its pixels comes near.
        alpha = np.clip(((pixels - ground) @ axis) / max(axis @ axis, 1.0), 0, 1)
        parts.append((colour, (alpha * (near & (owner == index))).astype(np.float32)))
    return parts


def _things(pixels: np.ndarray, ground: np.ndarray, region: np.ndarray) -> list[Seen]:
    """The things of one connected region."""
    parts = _parts(pixels, ground, region)
    whole = sum(alpha for _, alpha in parts)
    if len(parts) > 1 and whole.sum() >= SMALLEST and (fit := _fit(whole)).good:
        parts = [(np.median(pixels[region & (whole > 0.7)], axis=0), whole)]
    things = []
    for colour, alpha in sorted(parts, key=lambda part: -part[1].sum()):
        if alpha.sum() < SMALLEST / 2:
            y, x = ndimage.center_of_mass(region)
            things.append(Seen(None, None, None, x + 0.5, y + 0.5))
            continue
        fits = [_fit(alpha)]
        if not fits[0].good:
            fits = _divided(alpha, 2) or _divided(alpha, 3) or fits
        # A pixel blended with the background, or of more contrast, is of the same colour.
        axis = colour - ground
        blend = ((pixels - ground) @ axis / (axis @ axis))[..., None] * axis
        strays = np.linalg.norm(pixels - ground - blend, axis=2)[alpha > 0.5] > STRAY
        pure = strays.sum() <= (1 - PURE) * strays.size
        name = _nearest(colour, COLOURS) if pure else None
        for fit in fits:
            size = "large" if fit.radius > BORDER_SIZE else "small"
            told = (
                (None, None, None) if fit.smear else (fit.shape if fit.good else None, name, size)
            )
            things.append(Seen(*told, fit.x, fit.y))
    if len(things) > 1 and not any(thing.shape for thing in things):
        return [Seen(None, None, None, things[0].x, things[0].y)]  # parts of no shape are a smear
    return things


def read(picture: np.ndarray) -> tuple[str | None, list[Seen]]:
    """The background's name (None if it is no known colour) and the things in a picture.

    `picture` is (32, 32, 3) uint8.
    """
    pixels = picture.astype(np.float32)
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    ground = np.median(border, axis=0)
    differs = np.linalg.norm(pixels - ground, axis=2)
    labels, number = ndimage.label(differs > DIFFERENT, structure=_AROUND)
    things = []
    for label in range(1, number + 1):
        region = labels == label
        if region.sum() >= SMALLEST:
            things += _things(pixels, ground, region)
    return _nearest(ground, BACKGROUNDS), things


PARTS = ("count", "shape", "colour", "size", "relation", "background")


def check(picture: np.ndarray, said: Meaning) -> dict[str, float | None]:
    """Compare a picture with a meaning.

    Returns a share of true statements in 0..1 for each of PARTS (None where the sentence says
    nothing of it), `fidelity`, the share of all statements that are true, and `strict`, 1.0 when
    every one is. Things are matched to claims in the way that makes most statements true. A smear
    is matched to none and makes the count wrong.
    """
    background, everything_seen = read(picture)
    seen = [thing for thing in everything_seen if thing.size]
    wanted = [claim for claim in said.claims for _ in range(claim.number)]
    facts: dict[str, list[bool]] = {part: [] for part in PARTS}
    facts["count"] = [len(everything_seen) == len(seen) == len(wanted)]
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

    if len(seen) > MOST:  # a mess: those most like what is wanted, so that none of them is missed
        kinds = [{getattr(claim, part) for claim in wanted} for part in ("shape", "colour")]
        seen.sort(key=lambda t: (t.shape not in kinds[0]) + (t.colour not in kinds[1]))
    candidates: list[Seen | None] = [*seen[:MOST]]
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

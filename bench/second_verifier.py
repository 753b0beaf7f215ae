"""A second reader of pictures of the shapes world, independent of `vlg.shapes.verify`.

It is for measuring the project's own verifier, which every result rests on: two readers that work
by different principles and were tuned apart agree where both are right. `check` answers as that
one's does, and nothing of the project uses it; `bench/verifiers.py` sets both side by side.

The principle is analysis by synthesis. A picture is explained by things drawn on a background:

1. The background is the one that most pixels of the border are nearest to.
2. Each pixel is told as a mixture of the background and a named colour, which gives a map of
   opacity for each colour.
3. The shape (kind, place, radius) whose drawing takes most squared error off a map is found by
   correlation and fitted to sub-pixels (centre, radius, softness of the edge) as each of the four
   shapes; what it explains is taken away, and the next is sought. Then all are fitted again, each
   with what the others explain left out.
4. A thing has the shape that leaves least error, if that is little (`ERROR`), clearly less than
   what the best other shape leaves (`AHEAD`), and no more than what the best of `STRANGERS`
   leaves: drawings that are none of the four, such as a rounded box, a diamond or a sheared square.
5. What is left over counts as things of no shape, at least one for each patch (`LEFT`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import permutations

import numpy as np
from scipy import fft, ndimage

from vlg.shapes.captions import Meaning
from vlg.shapes.world import BACKGROUNDS, COLOURS, SHAPES, SIDE, SIZES, distance, holds

PARTS = ("count", "shape", "colour", "size", "relation", "background")

FAR = 60.0  # a background's colour is at most so far from its name's, in RGB of 0 to 255
BORDER = 0.4  # and it takes this share of the border
SEEN = 45.0  # a pixel so far from the background shows something
TAU = 70.0  # distance from a mixture of background and colour at which a pixel hardly counts
NAMED = 70.0  # a thing's colour is at most so far from its name's
SHARE = 0.6  # and this share of its pixels are nearest to that name
GAIN = 10.0  # squared error that another thing must take off, in pixels
MOST = 8  # things that are sought
RADII = (3.4, 4.2, 5.2, 6.4, 7.6)  # sought; what is found is fitted continuously
SMALLEST, LARGEST = 3.2, 7.9  # radii, in pixels, that are a size; between sizes, the nearer one
ERROR = 0.1  # squared error that a shape may leave for each pixel of its outline,
PLAIN = 0.13  # or where the best other shape leaves twice as much
OUTLINE = {"circle": 6.28, "square": 7.09, "triangle": 6.24, "cross": 8.4}  # of radius 1
AHEAD = 1.25  # the best other shape leaves at least so many times its error
STRANGE = 1.1  # and a stranger less than one so-manieth of it
OVERLAP = 0.1  # share of the smaller of two things that may lie under the other,
HIDDEN = 0.4  # or where they differ in colour
LOOSE = 0.3  # error up to which a thing of no shape is still one of several in a patch
LEFT = 6  # pixels of a patch that count as a thing
CLEAR = 0.03  # error up to which strangers are not asked
TINY = 2.8  # radius below which a drawing is a piece of something else
SOFT = (0.0, 0.2)  # how soft: a blur of up to sqrt(4 * 0.2) = 0.9 pixels

_YS, _XS = np.mgrid[0:SIDE, 0:SIDE] + 0.5
_NAMES = list(COLOURS)
_PALETTE = np.array([COLOURS[name] for name in _NAMES], float)


@dataclass(frozen=True)
class Seen:
    """One thing that a picture shows; None where it cannot be told. Centre and radius in pixels."""

    shape: str | None
    colour: str | None
    size: str | None
    x: float
    y: float
    radius: float
    error: float


@dataclass(frozen=True)
class Reading:
    """What a picture shows."""

    background: str | None
    things: tuple[Seen, ...]


# --- drawing ---------------------------------------------------------------------------------


def _turned(dx, dy, degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return c * dx + s * dy, c * dy - s * dx


def _rounded(dx, dy, r):  # half-way between circle and square
    corner = 0.55 * r
    qx, qy = np.abs(dx) - (0.93 * r - corner), np.abs(dy) - (0.93 * r - corner)
    outside = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0))
    return outside + np.minimum(np.maximum(qx, qy), 0) - corner


def _box(dx, dy, r, aspect):
    return np.maximum(np.abs(dx) - 0.886 * r * aspect, np.abs(dy) - 0.886 * r / aspect)


def _ellipse(dx, dy, r, aspect):
    return np.hypot(dx / aspect, dy * aspect) - r


def _triangle(dx, dy, r, stretch):
    return distance("triangle", dx / stretch, dy * stretch, r)


def _trapezoid(dx, dy, r, slope):
    return np.maximum(np.abs(dy) - 0.886 * r, np.abs(dx) - slope * dy - 0.886 * r)


STRANGERS = {
    "rounded box": _rounded,
    "diamond": lambda dx, dy, r: distance("square", *_turned(dx, dy, 45), r),
    "tilted box": lambda dx, dy, r: distance("square", *_turned(dx, dy, 22), r),
    "tilted box, other way": lambda dx, dy, r: distance("square", *_turned(dx, dy, -22), r),
    "sheared box": lambda dx, dy, r: distance("square", dx + 0.4 * dy, dy, r),
    "sheared box, other way": lambda dx, dy, r: distance("square", dx - 0.4 * dy, dy, r),
    "trapezoid": lambda dx, dy, r: _trapezoid(dx, dy, r, 0.3),
    "trapezoid, other way": lambda dx, dy, r: _trapezoid(dx, dy, r, -0.3),
    "wide box": lambda dx, dy, r: _box(dx, dy, r, 1.2),
    "high box": lambda dx, dy, r: _box(dx, dy, r, 1 / 1.2),
    "long box": lambda dx, dy, r: _box(dx, dy, r, 1.45),
    "tall box": lambda dx, dy, r: _box(dx, dy, r, 1 / 1.45),
    "wide ellipse": lambda dx, dy, r: _ellipse(dx, dy, r, 1.18),
    "high ellipse": lambda dx, dy, r: _ellipse(dx, dy, r, 1 / 1.18),
    "leaning ellipse": lambda dx, dy, r: _ellipse(*_turned(dx, dy, 45), r, 1.18),
    "leaning ellipse, other way": lambda dx, dy, r: _ellipse(*_turned(dx, dy, -45), r, 1.18),
    "wide triangle": lambda dx, dy, r: _triangle(dx, dy, r, 1.45),
    "high triangle": lambda dx, dy, r: _triangle(dx, dy, r, 1 / 1.45),
    "triangle on its head": lambda dx, dy, r: distance("triangle", dx, -dy, r),
    "triangle to the left": lambda dx, dy, r: distance("triangle", dy, dx, r),
    "triangle to the right": lambda dx, dy, r: distance("triangle", dy, -dx, r),
    "leaning triangle": lambda dx, dy, r: distance("triangle", dx + 0.5 * dy, dy, r),
    "leaning triangle, other way": lambda dx, dy, r: distance("triangle", dx - 0.5 * dy, dy, r),
    "standing cross": lambda dx, dy, r: distance("cross", *_turned(dx, dy, 45), r),
    "fat cross": lambda dx, dy, r: np.minimum(
        np.maximum(np.abs(dx) - r, np.abs(dy) - 0.55 * r),
        np.maximum(np.abs(dx) - 0.55 * r, np.abs(dy) - r),
    ),
    "dome": lambda dx, dy, r: np.maximum(np.hypot(dx, dy) - r, dy - 0.45 * r),
    "T": lambda dx, dy, r: np.minimum(
        np.maximum(np.abs(dx) - r, np.abs(dy + 0.6 * r) - 0.4 * r),
        np.maximum(np.abs(dx) - 0.4 * r, np.abs(dy) - r),
    ),
}


def _distance(kind: str, dx, dy, r):
    return STRANGERS[kind](dx, dy, r) if kind in STRANGERS else distance(kind, dx, dy, r)


def _blurred(drawn: np.ndarray, soft: np.ndarray) -> np.ndarray:
    """Pictures (n, height, width) with (1 - 2 s, s on both sides) applied twice along each axis."""
    soft = soft[:, None, None]
    for axis in (1, 2, 1, 2):
        size = drawn.shape[axis]
        before = drawn.take([0, *range(size - 1)], axis)
        after = drawn.take([*range(1, size), size - 1], axis)
        drawn = drawn + soft * (before + after - 2 * drawn)
    return drawn


def _sharper(amount: np.ndarray) -> np.ndarray:
    """Opacity without the noise of plain areas; its half stays a half."""
    return np.clip((amount - 0.5) / 0.7 + 0.5, 0, 1)


def _drawn(kind: str, many: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Sharpened coverage (n, height, width) of a shape at n of (x, y, radius, softness)."""
    x, y, r, soft = many.T[:, :, None, None]
    plain = np.clip(0.5 - _distance(kind, xs - x, ys - y, r), 0, 1)
    return _sharper(_blurred(plain, many[:, 3]))


def _draw(kind: str, at: np.ndarray) -> np.ndarray:
    """The same of one, for the whole picture: (32, 32)."""
    return _drawn(kind, at[None], _XS, _YS)[0]


def _fit(kind: str, aim: np.ndarray, weight: np.ndarray, at: np.ndarray, rounds: int = 8):
    """Fit a shape's (x, y, radius, softness) to a map by Levenberg and Marquardt's method.

    Returns them, the squared error left over its surroundings as a share of its area, and the area.
    """
    x, y, r, _ = at
    reach = 1.3 * r + 4
    rows = slice(max(0, int(y - reach)), min(SIDE, int(y + reach) + 1))
    columns = slice(max(0, int(x - reach)), min(SIDE, int(x + reach) + 1))
    xs, ys, goal, near = (a[rows, columns] for a in (_XS, _YS, aim, weight))
    near = near.ravel()
    low = np.array([x - 4, y - 4, 2.0, SOFT[0]])
    high = np.array([x + 4, y + 4, 9.5, SOFT[1]])
    steps = np.vstack([np.zeros(4), np.diag([0.05, 0.05, 0.05, 0.02])])
    best = at = np.clip(at, low, high)
    damp, left, slope, gap, area = 1e-2, np.inf, None, None, 1.0
    for _ in range(rounds):
        many = _drawn(kind, at + steps, xs, ys).reshape(5, -1)
        off = goal.ravel() - many[0]
        now = float((near * off**2).sum())
        if now < left:
            done = left - now < 1e-3 * now
            best, left, gap, area = at, now, off, float(many[0].sum())
            slope = (many[1:] - many[0]) / np.diag(steps[1:])[:, None]
            damp = max(damp / 4, 1e-4)
            if done:
                break
        else:
            damp *= 6
        square = (slope * near) @ slope.T
        step = np.linalg.solve(
            square + damp * np.diag(np.diag(square)) + 1e-6 * np.eye(4), (slope * near) @ gap
        )
        at = np.clip(best + step, low, high)
    return best, left / max(area, 1.0), area


# --- seeking ---------------------------------------------------------------------------------


@cache
def _templates():
    """Transforms of the drawings that are sought, centred at the origin, and their squares'."""
    size = 2 * SIDE
    offset = (np.arange(size) + SIDE) % size - SIDE
    dx, dy = np.meshgrid(offset, offset)
    kinds = [(shape, r) for shape in SHAPES for r in RADII]
    drawn = np.stack([np.clip(0.5 - distance(k, dx, dy, r) / 1.3, 0, 1) for k, r in kinds])
    inside = fft.rfft2(np.ones((SIDE, SIDE)), (size, size))
    cost = fft.irfft2(inside * np.conj(fft.rfft2(drawn**2)), (size, size))
    return kinds, np.conj(fft.rfft2(drawn)), cost[:, :SIDE, :SIDE]


def _best(residual: np.ndarray):
    """The drawing that takes most squared error off a map: (gain, kind, radius, x, y)."""
    kinds, drawn, cost = _templates()
    size = 2 * SIDE
    found = fft.irfft2(fft.rfft2(residual, (size, size)) * drawn, (size, size))
    gain = 2 * found[:, :SIDE, :SIDE] - cost
    index, row, column = np.unravel_index(int(gain.argmax()), gain.shape)
    return float(gain[index, row, column]), *kinds[index], column + 0.5, row + 0.5


def _ground(pixels: np.ndarray) -> tuple[str | None, np.ndarray]:
    """Name and colour of the background."""
    ring = np.ones((SIDE, SIDE), bool)
    ring[2:-2, 2:-2] = False
    border = pixels[ring]
    names = list(BACKGROUNDS)
    palette = np.array([BACKGROUNDS[name] for name in names], float)
    gaps = np.linalg.norm(border[:, None] - palette, axis=2)
    near = gaps.argmin(1)
    near[gaps.min(1) > FAR] = -1
    counts = [(near == i).sum() for i in range(len(names))]
    best = int(np.argmax(counts))
    if counts[best] < BORDER * len(border):
        return None, np.median(border, axis=0)
    return names[best], np.median(border[near == best], axis=0)


def _amounts(pixels: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Opacity of each named colour: (6, 32, 32)."""
    off = pixels - ground
    maps = []
    for colour in _PALETTE:
        axis = colour - ground
        share = np.clip(off @ axis / (axis @ axis), 0, 1)
        miss = np.linalg.norm(off - share[..., None] * axis, axis=2)
        maps.append(_sharper(share) * np.exp(-((miss / TAU) ** 2)))
    return np.stack(maps)


@dataclass(eq=False)
class _Found:
    """A thing in the making."""

    tint: np.ndarray  # its colour
    kind: str
    at: np.ndarray
    drawn: np.ndarray
    error: float = 0.0
    area: float = 0.0
    shape: str | None = None


def _tint(pixels: np.ndarray, drawn: np.ndarray, fallback: np.ndarray) -> np.ndarray:
    core = drawn > 0.95
    return np.median(pixels[core], axis=0) if core.sum() >= 4 else fallback


def _seek(pixels: np.ndarray, ground: np.ndarray) -> list[_Found]:
    """Explain a picture greedily: by things of named colours, then of any."""
    anything = _sharper(np.clip(np.linalg.norm(pixels - ground, axis=2) / (2 * SEEN), 0, 1))
    explained = np.zeros((SIDE, SIDE))
    found: list[_Found] = []
    for layers in (_amounts(pixels, ground), anything[None]):
        while len(found) < MOST:
            rest = layers * (1 - explained)
            best = max(
                ((*_best(layer), i) for i, layer in enumerate(rest) if layer.sum() > GAIN),
                default=(0.0,),
            )
            if best[0] < GAIN:
                break
            _, _, radius, x, y, index = best
            at, weight = np.array([x, y, radius, 0.05]), np.ones_like(explained)
            fits = {shape: _fit(shape, rest[index], weight, at) for shape in SHAPES}
            kind = min(SHAPES, key=lambda shape: fits[shape][1] * fits[shape][2])
            at = fits[kind][0]
            drawn = _draw(kind, at)
            middle = np.unravel_index(int((drawn * rest[index]).argmax()), drawn.shape)
            found.append(_Found(_tint(pixels, drawn, pixels[middle]), kind, at, drawn))
            explained = np.maximum(explained, ndimage.grey_dilation(drawn, (3, 3)) > 0.5)
    return found


# --- judging ---------------------------------------------------------------------------------


def _colours(points: np.ndarray, ground: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest named colour (index) of points (n, 3), pale or dim ones included, and how far."""
    axis = _PALETTE - ground
    off = points[:, None] - ground
    share = np.clip((off * axis).sum(2) / (axis**2).sum(1), 0.55, 1)
    gaps = np.linalg.norm(off - share[..., None] * axis, axis=2)
    return gaps.argmin(1), gaps.min(1)


def _own(pixels: np.ndarray, ground: np.ndarray, tint: np.ndarray) -> np.ndarray:
    """Opacity of a thing of one colour."""
    off, axis = pixels - ground, tint - ground
    share = off @ axis / max(axis @ axis, 1.0)
    miss = np.linalg.norm(off - np.clip(share, 0, 1.2)[..., None] * axis, axis=2)
    return _sharper(share) * np.exp(-((miss / TAU) ** 2))


def _outline(pixels: np.ndarray, ground: np.ndarray, tint: np.ndarray) -> np.ndarray:
    """Opacity of a thing of any colours, about as far from the background as its main one."""
    away = np.linalg.norm(pixels - ground, axis=2)
    return _sharper(away / max(float(np.linalg.norm(tint - ground)), 1.0))


def _free(thing: _Found, others: list[_Found]) -> np.ndarray:
    """Weights: what other things do not cover."""
    return 1 - np.max([o.drawn for o in others if o is not thing] or [np.zeros((SIDE, SIDE))], 0)


def _judge(thing: _Found, others: list[_Found], pixels: np.ndarray, ground: np.ndarray) -> None:
    """Fit a thing as each shape, and as the strangers: sets its shape, or None.

    Where it is none by its own colour, its outline against the background is asked: a thing may
    be of two colours.
    """
    weight = _free(thing, others)
    thing.shape = None
    for aim in (_own(pixels, ground, thing.tint), _outline(pixels, ground, thing.tint)):
        fits = {shape: _fit(shape, aim, weight, thing.at) for shape in SHAPES}
        order = sorted(SHAPES, key=lambda shape: fits[shape][1] * fits[shape][2])
        kind, (least, second) = order[0], (fits[s][1] * fits[s][2] for s in order[:2])
        at, error, area = fits[kind]
        outline = OUTLINE[kind] * at[2]
        most = outline * (PLAIN if second >= 2 * least else ERROR)
        good = least <= most and second >= AHEAD * least and at[2] >= TINY
        if good and least > CLEAR * outline:
            strange = (_fit(stranger, aim, weight, at) for stranger in STRANGERS)
            good = all(STRANGE * error * area >= least for _, error, area in strange)
        if good:
            thing.shape = kind
        if good or not thing.area:
            thing.kind, thing.at, thing.error, thing.area = kind, at, error, area
        if good:
            break
    thing.drawn = _draw(thing.kind, thing.at)
    thing.tint = _tint(pixels, thing.drawn, thing.tint)


def _clash(a: _Found, b: _Found) -> bool:
    """Whether one of two things lies so far under the other that they are no two."""
    shared = np.minimum(a.drawn, b.drawn).sum() / max(min(a.drawn.sum(), b.drawn.sum()), 1)
    return shared > (HIDDEN if np.linalg.norm(a.tint - b.tint) > NAMED else OVERLAP)


def _sort_out(found: list[_Found], pixels, ground) -> tuple[list[_Found], list[_Found]]:
    """Which things are shapes, and which are not; who is not excuses no other's error."""
    active, refused = list(found), []
    stale = list(found)
    for thing in found:  # once more, now that all are known
        _judge(thing, active, pixels, ground)
    while active:
        for thing in stale:
            _judge(thing, active, pixels, ground)
        worst = max(active, key=lambda thing: (thing.shape is None, thing.error))
        if worst.shape:
            pair = next(
                ((a, b) for a in active for b in active if a is not b and _clash(a, b)),
                None,
            )
            if pair is None:
                break
            worst = max(pair, key=lambda thing: thing.error)
        active.remove(worst)
        refused.append(worst)
        stale = [
            t for t in active if np.hypot(*(t.at[:2] - worst.at[:2])) < t.at[2] + worst.at[2] + 4
        ]
    return active, refused


def _seen(thing: _Found, pixels: np.ndarray, ground: np.ndarray, mask: np.ndarray) -> Seen:
    """Name what a thing is like: `mask` is where it is."""
    core = ndimage.binary_erosion(mask)
    points = pixels[core if core.sum() >= 5 else mask]
    names, gaps = _colours(points, ground)
    index = np.bincount(names, minlength=len(_NAMES)).argmax()
    middle = np.median(gaps[names == index])
    sure = (names == index).mean() >= SHARE and middle <= NAMED
    x, y, radius = thing.at[:3]
    return Seen(
        thing.shape,
        _NAMES[index] if sure else None,
        _size(radius),
        float(x),
        float(y),
        float(radius),
        float(thing.error),
    )


def _size(radius: float) -> str | None:
    if not SMALLEST <= radius <= LARGEST:
        return None
    return min(SIZES, key=lambda size: abs(SIZES[size] - radius))


def _unknown(refused: list[_Found], shapes: list[_Found], pixels, ground) -> list[Seen]:
    """Things of no shape: patches that the shapes leave over."""
    covered = np.zeros((SIDE, SIDE), bool)
    for thing in shapes:
        covered |= thing.drawn > 0.1
    covered = ndimage.binary_dilation(covered)
    left = (np.linalg.norm(pixels - ground, axis=2) > SEEN) & ~covered
    patches, number = ndimage.label(left)
    things = []
    for patch in range(1, number + 1):
        mask = patches == patch
        if mask.sum() < LEFT:
            continue
        # Several, where drawings of some likeness stand side by side in it.
        several: list[_Found] = []
        inside = [t for t in refused if (t.drawn * mask).sum() > 0.6 * t.drawn.sum()]
        for thing in sorted(inside, key=lambda thing: -thing.area):
            if thing.at[2] >= TINY and not any(_clash(thing, o) for o in several):
                several.append(thing)
        for thing in several:
            thing.error = _fit(
                thing.kind, _own(pixels, ground, thing.tint), _free(thing, several), thing.at, 1
            )[1]
        several = [thing for thing in several if thing.error < LOOSE]
        ys, xs = np.nonzero(mask)
        if len(several) < 2:
            radius = np.sqrt(mask.sum() / 2.8)
            whole = _Found(
                ground, "", np.array([xs.mean() + 0.5, ys.mean() + 0.5, radius, 0]), mask
            )
            whole.error = 1.0
            things.append(_seen(whole, pixels, ground, mask))
            continue
        for thing in several:
            thing.shape = None
            things.append(_seen(thing, pixels, ground, mask & (thing.drawn > 0.5)))
    return things


def read(picture: np.ndarray) -> Reading:
    """What a picture, (32, 32, 3) uint8, shows."""
    pixels = np.asarray(picture)[..., :3].astype(float)
    name, ground = _ground(pixels)
    shapes, refused = _sort_out(_seek(pixels, ground), pixels, ground)
    things = [_seen(thing, pixels, ground, thing.drawn > 0.5) for thing in shapes]
    things += _unknown(refused, shapes, pixels, ground)
    return Reading(name, tuple(sorted(things, key=lambda thing: (thing.y, thing.x))))


def _truths(reading: Reading, said: Meaning) -> dict[str, list[bool]]:
    """The statements of a sentence by part, under the match that makes most of them true."""
    asked = [claim for claim in said.claims for _ in range(claim.number)]
    fixed = {"count": [len(reading.things) == len(asked)]}
    if said.background:
        fixed["background"] = [reading.background == said.background]
    slots = list(reading.things) + [None] * len(asked)
    best: dict[str, list[bool]] = {}
    most = -1
    for match in permutations(range(len(slots)), len(asked)):
        matched = [slots[i] for i in match]
        truths: dict[str, list[bool]] = {}
        for claim, thing in zip(asked, matched, strict=True):
            for part in ("shape", "colour", "size"):
                value = getattr(claim, part)
                if value is not None:
                    truths.setdefault(part, []).append(
                        thing is not None and getattr(thing, part) == value
                    )
        if said.relation:
            truths["relation"] = [_related(said, matched)]
        true = sum(sum(part) for part in truths.values())
        if true > most:
            best, most = truths, true
    return fixed | best


def _related(said: Meaning, matched: list[Seen | None]) -> bool:
    first, second = matched[0], matched[said.claims[0].number]
    if first is None or second is None:
        return False
    named = first.shape == said.claims[0].shape and second.shape == said.claims[1].shape
    return named and holds(said.relation, first.x - second.x, first.y - second.y)


def check(picture: np.ndarray, said: Meaning) -> dict[str, float | None]:
    """Which share of what a sentence says a picture, (32, 32, 3) uint8, shows.

    Returns the share of true statements of each of `PARTS` (None where nothing is said), of all
    (`fidelity`), and `strict`: 1.0 if all are true, else 0.0. Statements are: exactly so many
    things; of each thing named its shape, colour and size, as far as told; the relation; the
    background. A relation is true only between things of the shapes named.
    """
    truths = _truths(read(picture), said)
    everything = [truth for part in truths.values() for truth in part]
    shares = {part: float(np.mean(truths[part])) if part in truths else None for part in PARTS}
    return shares | {
        "fidelity": float(np.mean(everything)),
        "strict": float(all(everything)),
    }

"""Scenes hold what they say, whole and apart, and are drawn the same every time."""

import random
from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlg.shapes import world
from vlg.shapes.world import ADAPT, COLOURS, NEVER, PAIRS, SEEN, SHAPES, SIZES, Scene, Thing

EVERYTHING = SEEN + ADAPT + NEVER
seeds = st.integers(0, 2**32)


def a_scene(seed, allowed=EVERYTHING, kind=""):
    return world.sample(random.Random(seed), allowed, kind)


def box(thing):
    """(left, top, right, bottom) of the pixels that a thing covers by half or more."""
    rows, columns = np.nonzero(
        world.coverage(thing.shape, thing.x, thing.y, SIZES[thing.size]) > 0.5
    )
    return columns.min(), rows.min(), columns.max(), rows.max()


def test_pairs_are_split_into_seen_adapt_and_never():
    everything = [pair for pairs in PAIRS.values() for pair in pairs]
    assert len(everything) == len(set(everything)) == len(SHAPES) * len(COLOURS)
    assert set(everything) == {(shape, colour) for shape in SHAPES for colour in COLOURS}
    # Enough of each in SEEN that a model which composes can get the other pairs right.
    shapes, colours = (Counter(pair[i] for pair in SEEN) for i in (0, 1))
    assert all(shapes[shape] >= 2 for shape in SHAPES), shapes
    assert all(colours[colour] >= 2 for colour in COLOURS), colours


@settings(max_examples=100, deadline=None)
@given(seed=seeds, split=st.sampled_from(sorted(PAIRS)))
def test_a_scene_has_only_allowed_pairs_and_its_kind_is_true(seed, split):
    scene = a_scene(seed, PAIRS[split])
    assert {(t.shape, t.colour) for t in scene.things} <= set(PAIRS[split])
    assert scene == a_scene(seed, PAIRS[split])
    things = scene.things
    if scene.kind == "single":
        assert len(things) == 1
    elif scene.kind == "pair":
        assert len(things) == 2
        assert (things[0].shape, things[0].colour) != (things[1].shape, things[1].colour)
    else:
        assert len(things) in (2, 3)
        assert len({(t.shape, t.colour, t.size) for t in things}) == 1
    assert bool(scene.relation) == (scene.kind == "pair")


@settings(max_examples=100, deadline=None)
@given(seed=seeds)
def test_things_are_whole_and_at_least_two_pixels_apart(seed):
    boxes = [box(thing) for thing in a_scene(seed).things]
    for left, top, right, bottom in boxes:
        assert left >= 1 and top >= 1 and right <= 30 and bottom <= 30
    for a, b in combinations(boxes, 2):
        gaps = (a[0] - b[2], b[0] - a[2], a[1] - b[3], b[1] - a[3])
        assert max(gaps) >= 2, (a, b)  # background lies between them


@settings(max_examples=100, deadline=None)
@given(seed=seeds)
def test_a_relation_is_clear(seed):
    scene = a_scene(seed, kind="pair")
    first, second = scene.things
    dx, dy = first.x - second.x, first.y - second.y
    along, across = (dx, dy) if scene.relation in ("left of", "right of") else (dy, dx)
    assert (along < 0) == (scene.relation in ("left of", "above"))
    assert abs(across) <= 0.5 * abs(along)


@given(dx=st.floats(-32, 32), dy=st.floats(-32, 32))
def test_exactly_one_relation_holds(dx, dy):
    held = [relation for relation in world.RELATIONS if world.holds(relation, dx, dy)]
    assert len(held) == 1
    if max(abs(dx), abs(dy)) > 0 and abs(dx) != abs(dy):
        assert world.holds(world.INVERSE[held[0]], -dx, -dy)


def test_every_kind_number_size_and_relation_is_drawn():
    scenes = [a_scene(seed) for seed in range(300)]
    assert {len(s.things) for s in scenes if s.kind == "count"} == {2, 3}
    assert {s.relation for s in scenes} == {"", *world.RELATIONS}
    assert {s.background for s in scenes} == set(world.BACKGROUNDS)
    assert {t.size for s in scenes for t in s.things} == set(SIZES)
    assert {(t.shape, t.colour) for s in scenes for t in s.things} == set(EVERYTHING)


@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_a_picture_is_a_function_of_its_scene(seed):
    scene = a_scene(seed)
    picture = world.render(scene)
    assert picture.shape == (32, 32, 3) and picture.dtype == np.uint8
    assert np.array_equal(picture, world.render(scene))
    assert tuple(picture[0, 0]) == world.BACKGROUNDS[scene.background]
    for thing in scene.things:
        assert tuple(picture[int(thing.y), int(thing.x)]) == COLOURS[thing.colour]


@pytest.mark.parametrize("shape", SHAPES)
def test_coverage_is_the_area_and_moves_with_the_thing(shape):
    radius = 6.0
    area = {
        "circle": np.pi * radius**2,
        "square": (2 * 0.886 * radius) ** 2,
        # The triangle's inscribed circle has radius 0.6 * 6; area = 3 sqrt(3) r^2.
        "triangle": 3 * np.sqrt(3) * (0.6 * radius) ** 2,
        "cross": (2.1 * 0.76 * 2 - 0.76**2) * radius**2,
    }[shape]
    whole = world.coverage(shape, 16, 16, radius)
    assert whole.min() >= 0 and whole.max() <= 1
    assert whole.sum() == pytest.approx(area, rel=0.05)

    def centre(coverage):
        return np.arange(32) @ coverage.sum(0) / coverage.sum()

    moved = centre(world.coverage(shape, 16.3, 16, radius)) - centre(whole)
    assert moved == pytest.approx(0.3, abs=0.05)  # anti-aliased: sub-pixel moves are seen


def test_an_unknown_shape_is_refused():
    with pytest.raises(ValueError, match="hexagon"):
        world.coverage("hexagon", 16, 16, 5)


def test_one_detail_changes_the_picture():
    thing = Thing("circle", "red", "large", 16, 16)
    scene = Scene("single", "white", (thing,))
    plain = world.render(scene)
    others = [replace(thing, **change) for change in (
        {"shape": "square"}, {"colour": "orange"}, {"size": "small"}, {"x": 17.0}, {"y": 15.0},
    )]  # fmt: skip
    for other in [replace(scene, things=(each,)) for each in others] + [
        replace(scene, background="pink")
    ]:
        assert (world.render(other) != plain).any()

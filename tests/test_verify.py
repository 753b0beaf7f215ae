"""The verifier reads drawn pictures right, refuses what is false and survives any picture."""

import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

sys.path.append(str(Path(__file__).parents[1] / "bench"))

import verifier as bench  # noqa: E402

from vlg.shapes import captions, world  # noqa: E402
from vlg.shapes.captions import Claim, Meaning, meaning, parse  # noqa: E402
from vlg.shapes.verify import PARTS, check, read  # noqa: E402
from vlg.shapes.world import PAIRS, Scene, Thing, render  # noqa: E402

EVERYTHING = sum(PAIRS.values(), ())


@pytest.fixture(scope="module")
def scenes():
    rng = random.Random("verifier test")
    return [world.sample(rng, EVERYTHING) for _ in range(500)]


def test_renders_are_read_right_and_wrong_captions_refused(scenes):
    rng = random.Random(0)
    pictures = [render(scene) for scene in scenes]
    said = [meaning(scene) for scene in scenes]
    right = [check(p, s)["strict"] for p, s in zip(pictures, said, strict=True)]
    false = [
        check(p, captions.wrong(s, rng))["strict"] for p, s in zip(pictures, said, strict=True)
    ]
    assert np.mean(right) >= 0.99
    assert np.mean(false) <= 0.01


def test_centres_are_read_to_half_a_pixel(scenes):
    for scene in scenes[:50]:
        _, seen = read(render(scene))
        assert len(seen) == len(scene.things)
        for thing in scene.things:
            nearest = min(np.hypot(s.x - thing.x, s.y - thing.y) for s in seen)
            assert nearest < 0.5


def test_parts_are_shares_of_what_was_said():
    red = Thing("circle", "red", "large", 9, 16)
    blue = Thing("square", "blue", "small", 24, 16)
    picture = render(Scene("pair", "white", (red, blue), "left of"))

    def found(text):
        return check(picture, parse(text))

    everything = found("a large red circle left of a small blue square on a white background")
    assert everything == dict.fromkeys([*PARTS, "fidelity", "strict"], 1)
    some = found("a circle and a square")
    assert (some["count"], some["shape"]) == (1, 1)
    assert [some[part] for part in ("colour", "size", "relation", "background")] == [None] * 4
    # One of two colours and the background wrong: 1 count, 2 shapes and 1 of 2 colours are right.
    half = found("a red circle and a green square on black")
    assert (half["colour"], half["background"], half["strict"]) == (0.5, 0, 0)
    assert half["fidelity"] == pytest.approx(4 / 6)
    turned = found("a red circle right of a blue square")
    assert (turned["relation"], turned["colour"], turned["strict"]) == (0, 1, 0)
    # The colours are there, at the wrong things.
    swapped = found("a blue circle and a red square")
    assert (swapped["shape"] + swapped["colour"], swapped["strict"]) == (1, 0)
    # Without the named things a relation says nothing.
    assert found("a cross left of a triangle")["relation"] == 0
    # One thing too many or too few is a wrong count, whatever else is right.
    assert (found("a red circle")["count"], found("a red circle")["colour"]) == (0, 1)
    assert found("three circles")["shape"] == pytest.approx(1 / 3)


def test_a_relation_of_several_things_is_between_the_two_kinds():
    things = [Thing("circle", "red", "small", x, 8) for x in (8, 22)]
    below = [Thing("square", "blue", "small", 15, 24)]
    scene = Scene("pair", "white", (*things, *below))
    assert check(render(scene), parse("two red circles above a blue square"))["strict"] == 1
    assert check(render(scene), parse("two red circles left of a blue square"))["relation"] == 0
    assert check(render(scene), parse("a blue square below two red circles"))["strict"] == 1


@pytest.mark.parametrize("colour", list(world.COLOURS))
@pytest.mark.parametrize("ground", list(world.BACKGROUNDS))
def test_every_colour_is_told_from_every_background(colour, ground):
    scene = Scene("single", ground, (Thing("triangle", colour, "small", 12.3, 17.8),))
    background, seen = read(render(scene))
    assert background == ground
    assert [(s.shape, s.colour, s.size) for s in seen] == [("triangle", colour, "small")]


@pytest.mark.parametrize("shape", world.SHAPES)
@pytest.mark.parametrize(("radius", "size"), [(3.6, "small"), (4.9, "small"), (5.7, "large")])
def test_sizes_are_divided_in_the_middle(shape, radius, size):
    alpha = world.coverage(shape, 15.3, 16.1, radius)[..., None]
    ground, colour = (np.array(c) for c in (world.BACKGROUNDS["pink"], world.COLOURS["blue"]))
    picture = np.rint(ground + alpha * (colour - ground)).astype(np.uint8)
    assert [(s.shape, s.size) for s in read(picture)[1]] == [(shape, size)]


def test_a_shape_between_two_or_in_another_colour_is_not_read_as_known():
    brown = np.full((32, 32, 3), 245, np.uint8)
    brown[10:22, 10:22] = (90, 60, 40)
    (thing,) = read(brown)[1]
    assert (thing.shape, thing.colour) == ("square", None)
    ring = render(Scene("single", "white", (Thing("circle", "red", "large", 16, 16),)))
    hole = world.coverage("circle", 16, 16, 4.0) > 0.5
    ring[hole] = 245
    (thing,) = read(ring)[1]
    assert thing.shape is None
    strip = np.full((32, 32, 3), 245, np.uint8)
    strip[15:18, 3:29] = world.COLOURS["blue"]
    assert [t.shape for t in read(strip)[1]] == [None]


def blurred(picture):
    """As soft as a decoder draws it."""
    return ndimage.gaussian_filter(picture, (0.5, 0.5, 0))


def kinds(picture):
    return sorted((thing.colour, thing.size, thing.shape) for thing in read(picture)[1])


@pytest.mark.parametrize("soften", [np.asarray, blurred])
def test_things_of_two_colours_that_touch_are_told_apart(soften):
    triangle = Thing("triangle", "red", "large", 10.5, 17)
    circle = Thing("circle", "blue", "small", 19.4, 17)
    scene = Scene("pair", "white", (triangle, circle), "left of")
    picture = soften(render(scene))
    assert kinds(picture) == [("blue", "small", "circle"), ("red", "large", "triangle")]
    assert check(picture, meaning(scene))["strict"] == 1
    assert check(picture, parse("a blue triangle left of a red circle"))["strict"] == 0
    rng = random.Random(0)
    scenes = [bench.touching(rng, alike=False) for _ in range(40)]
    assert np.mean([check(soften(render(s)), meaning(s))["strict"] for s in scenes]) >= 0.95


def test_things_of_one_colour_that_touch_are_two_where_the_outline_shows_it():
    circles = tuple(Thing("circle", "green", "small", x, 16) for x in (10, 18.4))
    assert (
        kinds(blurred(render(Scene("count", "pink", circles))))
        == [("green", "small", "circle")] * 2
    )
    squares = (Thing("square", "red", "large", 9, 10), Thing("square", "red", "large", 19, 20))
    assert kinds(render(Scene("count", "gray", squares))) == [("red", "large", "square")] * 2
    chain = tuple(Thing("circle", "blue", "small", x, y) for x, y in ((7, 10), (15, 12), (23, 14)))
    assert kinds(render(Scene("count", "white", chain))) == [("blue", "small", "circle")] * 3
    # Two squares side by side are a bar as well.
    bar = tuple(Thing("square", "red", "small", x, 16) for x in (10, 10 + 2 * 0.886 * 4.2))
    assert [t.shape for t in read(render(Scene("count", "gray", bar)))[1]] == [None]


@pytest.mark.parametrize("name", list(bench.ODD))
def test_what_is_none_of_the_shapes_has_no_shape(name):
    rng = random.Random(0)
    for _ in range(12):
        picture = bench.odd(name, rng)
        for seen in (read(picture)[1], read(blurred(picture))[1]):
            assert seen
            assert [thing.shape for thing in seen] == [None] * len(seen)


def smear(ground, colour):
    """A picture of a smear as large as a large circle."""
    offsets = bench.XS - 16, bench.YS - 16
    alpha = bench.filled(bench.smeared(*offsets, 6, random.Random(1)))[..., None]
    return ground + alpha * (np.array(colour) - ground)


def test_a_smear_earns_nothing_and_makes_the_count_wrong():
    ground, red = np.array(world.BACKGROUNDS["white"]), world.COLOURS["red"]
    picture = np.rint(smear(ground, red)).astype(np.uint8)
    assert [(t.shape, t.colour, t.size) for t in read(picture)[1]] == [(None, None, None)]
    found = check(picture, parse("a large red circle on a white background"))
    assert found == dict.fromkeys(("count", "shape", "colour", "size", "strict"), 0) | {
        "relation": None,
        "background": 1,
        "fidelity": 1 / 5,
    }
    # Beside the thing that was asked for it is one too many, and no second one.
    circle = world.coverage("circle", 5, 5, 4.2)[..., None]
    both = picture + circle * (np.array(red) - picture)
    both = np.rint(both).astype(np.uint8)
    one = check(both, parse("a small red circle"))
    assert (one["count"], one["shape"], one["colour"], one["size"]) == (0, 1, 1, 1)
    assert check(both, parse("two red circles"))["count"] == 0
    assert check(both, parse("two red circles"))["colour"] == 0.5


def test_a_colour_between_two_or_of_two_patches_is_none():
    scene = Scene("single", "black", (Thing("cross", "red", "large", 16, 16),))
    middle = np.mean([world.COLOURS["red"], world.COLOURS["orange"]], axis=0)
    picture = render(scene)
    mixed = picture.copy()
    mixed[(picture == world.COLOURS["red"]).all(2)] = middle
    assert kinds(picture) == [("red", "large", "cross")]
    assert [(t.shape, t.colour) for t in read(mixed)[1]] == [("cross", None)]
    patched = picture.copy()
    lower = (picture == world.COLOURS["red"]).all(2) & (np.arange(32)[:, None] > 17)
    patched[lower] = world.COLOURS["purple"]
    assert [(t.shape, t.colour) for t in read(patched)[1]] == [("cross", None)]


def garbage():
    rng = np.random.default_rng(0)
    yield np.zeros((32, 32, 3), np.uint8)
    yield np.full((32, 32, 3), 255, np.uint8)
    yield np.full((32, 32, 3), (250, 190, 210), np.uint8)
    for high in (30, 120, 256):
        yield rng.integers(0, high, (32, 32, 3), dtype=np.uint8)
    yield np.indices((32, 32)).sum(0)[..., None].repeat(3, 2).astype(np.uint8) * 4
    yield (np.indices((32, 32)).sum(0) % 2 * 255)[..., None].repeat(3, 2).astype(np.uint8)
    # Patchworks whose median colour is the background's, or that no pixel comes near.
    for ground, patches in (
        ((0, 0, 0), 255 * np.eye(3)),
        ((130, 130, 130), 130 + 150 * np.eye(3) - 50),
    ):
        picture = np.full((32, 32, 3), ground, np.uint8)
        picture[8:24, 8:24] = patches.astype(np.uint8)[rng.integers(0, 3, (16, 16))]
        yield picture


@pytest.mark.parametrize("picture", list(garbage()))
def test_garbage_is_not_what_any_prompt_says(picture):
    for row in captions.prompts(30, 3):
        found = check(picture, parse(row["Prompt"]))
        assert found["strict"] == 0
        assert 0 <= found["fidelity"] < 1


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    levels=st.integers(2, 6),
    cell=st.sampled_from([1, 2, 4, 8, 16]),
)
def test_any_picture_can_be_checked(seed, levels, cell):
    rng = np.random.default_rng(seed)
    palette = rng.integers(0, 256, (levels, 3), dtype=np.uint8)
    small = rng.integers(0, levels, (32 // cell, 32 // cell))
    picture = palette[small.repeat(cell, 0).repeat(cell, 1)]
    said = Meaning((Claim("circle", "red", "small", 3),), None, "white")
    found = check(picture, said)
    assert set(found) == {*PARTS, "fidelity", "strict"}
    assert all(value is None or 0 <= value <= 1 for value in found.values())


def test_a_little_noise_is_forgiven_and_a_missing_thing_is_not(scenes):
    rng = np.random.default_rng(0)
    noisy = []
    for scene in scenes[:100]:
        picture = render(scene) + rng.normal(0, 6, (32, 32, 3))
        noisy.append(check(picture.clip(0, 255).astype(np.uint8), meaning(scene))["strict"])
        if len(scene.things) > 1:
            fewer = render(replace(scene, things=scene.things[:-1]))
            assert check(fewer, meaning(scene))["count"] == 0
    assert np.mean(noisy) >= 0.95


def test_soft_things_are_read_and_among_many_the_wanted_one_is_found(scenes):
    soft = [ndimage.gaussian_filter(render(scene), (1.1, 1.1, 0)) for scene in scenes[:100]]
    right = [check(p, meaning(s))["strict"] for p, s in zip(soft, scenes, strict=False)]
    assert np.mean(right) >= 0.9
    said = parse("a blue square")
    for place in range(9):
        things = [
            Thing("circle", "red", "small", 5.5 + 10.5 * (i % 3), 5.5 + 10.5 * (i // 3))
            if i != place
            else Thing("square", "blue", "small", 5.5 + 10.5 * (i % 3), 5.5 + 10.5 * (i // 3))
            for i in range(9)
        ]
        found = check(render(Scene("count", "white", tuple(things))), said)
        assert found["shape"] == found["colour"] == 1 and found["count"] == 0

"""The second reader of pictures of the shapes world: what it reads right, and what it refuses."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

sys.path.append(str(Path(__file__).parents[1] / "bench"))

import verifiers  # noqa: E402
from second_verifier import PARTS, check, read  # noqa: E402

from vlg.data import pictures  # noqa: E402
from vlg.shapes import captions, world  # noqa: E402
from vlg.shapes.captions import Claim, Meaning  # noqa: E402
from vlg.shapes.world import Scene, Thing  # noqa: E402

ALL = sum(world.PAIRS.values(), ())


def reads_scenes(number: int, seed: int) -> None:
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    for index in range(number):
        scene = world.sample(rng, ALL)
        picture = world.render(scene)
        if index % 2:  # as soft and noisy as drawn ones are
            soft = ndimage.gaussian_filter(picture.astype(float), (0.5, 0.5, 0))
            picture = np.clip(soft + noise.normal(0, 4, soft.shape), 0, 255).astype(np.uint8)
        said = captions.meaning(scene)
        found = check(picture, said)
        assert found["strict"] == found["fidelity"] == 1.0, scene
        assert not check(picture, captions.wrong(said, rng))["strict"], scene


def test_scenes_are_read_and_wrong_details_refused():
    reads_scenes(24, 1)


@pytest.mark.slow
def test_hundreds_of_scenes_are_read_and_wrong_details_refused():
    reads_scenes(300, 2)


def named(picture):
    return sorted((thing.shape, thing.colour, thing.size) for thing in read(picture).things)


@pytest.mark.parametrize("colours", [("red", "blue"), ("green", "yellow"), ("orange", "orange")])
def test_things_that_touch_are_told_apart(colours):
    reach = world.SIZES["large"]
    things = (
        Thing("circle", colours[0], "large", 16 - reach, 15.3),
        Thing("circle", colours[1], "large", 16 + reach, 16.2),
    )
    picture = world.render(Scene("pair", "white", things))
    assert named(picture) == sorted((t.shape, t.colour, t.size) for t in things)


def test_what_lies_half_under_another_is_told_by_its_colour():
    things = (Thing("cross", "blue", "large", 13, 16), Thing("square", "red", "small", 21.5, 16))
    picture = world.render(Scene("pair", "gray", things))
    assert named(picture) == [("cross", "blue", "large"), ("square", "red", "small")]


def one(shape: str, size: str = "large") -> np.ndarray:
    return world.render(Scene("single", "white", (Thing(shape, "blue", size, 10, 12),)))


def test_a_smear_is_a_thing_of_no_shape():
    picture = one("square")
    picture[27:30, 6:28] = (190, 120, 140)
    reading = read(picture)
    assert len(reading.things) == 2 and {t.shape for t in reading.things} == {"square", None}
    found = check(picture, Meaning((Claim("square", "blue", "large"),)))
    assert found["count"] == 0.0 and found["shape"] == 1.0 and not found["strict"]


def test_a_bridge_between_two_things_is_seen():
    things = (Thing("circle", "red", "small", 8, 16), Thing("circle", "red", "small", 24, 16))
    picture = world.render(Scene("count", "black", things))
    said = Meaning((Claim("circle", "red", "small", 2),))
    assert check(picture, said)["strict"] == 1.0
    picture[14:18, 11:21] = world.COLOURS["red"]
    assert not check(picture, said)["strict"]


def drawn(inside) -> np.ndarray:
    """A blue thing on white from a test of where it is, four by four points a pixel."""
    ys, xs = (np.mgrid[0:128, 0:128] + 0.5) / 4 - 16.2
    cover = inside(xs, ys).astype(float).reshape(32, 4, 32, 4).mean((1, 3))[..., None]
    return np.rint(245 + cover * (np.array(world.COLOURS["blue"]) - 245)).astype(np.uint8)


NOT_QUITE = {
    "rounded box": lambda x, y: (np.abs(x) / 6) ** 4 + (np.abs(y) / 6) ** 4 <= 1,
    "diamond": lambda x, y: np.abs(x) + np.abs(y) <= 8,
    "parallelogram": lambda x, y: np.maximum(np.abs(x + 0.4 * y), np.abs(y)) <= 5.7,
    "bar": lambda x, y: (np.abs(x) <= 7) & (np.abs(y) <= 4.6),
    "ellipse": lambda x, y: np.hypot(x / 1.15, y * 1.15) <= 6.4,
    "triangle on its head": lambda x, y: world.distance("triangle", x, -y, 6.4) <= 0,
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 5) <= 1.6,
    "three arms": lambda x, y: (world.distance("cross", x, y, 6.4) <= 0) & (x < 2.4),
}


@pytest.mark.parametrize("name", NOT_QUITE)
def test_what_is_none_of_the_four_shapes_has_none(name):
    (thing,) = read(drawn(NOT_QUITE[name])).things
    assert (thing.shape, thing.colour) == (None, "blue")


@pytest.mark.parametrize("radius, size", [(2.9, None), (4.8, "small"), (5.8, "large"), (8.6, None)])
def test_a_size_is_the_nearer_one_within_limits(radius, size):
    (thing,) = read(drawn(lambda x, y: np.hypot(x, y) <= radius)).things
    assert (thing.shape, thing.size) == ("circle", size)


def test_nothing_is_read_from_a_plain_picture_or_from_noise():
    assert read(np.full((32, 32, 3), 245, np.uint8)) == read(np.full((32, 32, 3), 244, np.uint8))
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    assert all(thing.shape is None for thing in read(noise).things)


def test_parts_are_shares_of_statements():
    things = (Thing("circle", "red", "small", 8, 16), Thing("square", "blue", "large", 22, 16))
    picture = world.render(Scene("pair", "pink", things))
    said = Meaning((Claim("circle", "red"), Claim("cross", "blue", "large")), "left of", "pink")
    found = check(picture, said)
    assert {part: found[part] for part in PARTS} == {
        "count": 1.0, "shape": 0.5, "colour": 1.0, "size": 1.0, "relation": 0.0, "background": 1.0,
    }  # fmt: skip
    assert found["fidelity"] == pytest.approx(6 / 8) and found["strict"] == 0.0
    assert check(picture, Meaning((Claim("circle"),)))["background"] is None


def test_both_verifiers_are_set_side_by_side(tmp_path, monkeypatch, capsys):
    rng = random.Random(4)
    folder, rows = tmp_path / "pictures", []
    folder.mkdir()
    for index in range(5):
        scene = world.sample(rng, ALL, "single")
        picture = world.render(scene)
        if index == 4:
            picture[29:, 10:24] = (200, 90, 160)  # both see one thing too many
        rows.append({"file_name": f"{index}.png", "prompt": captions.caption(scene, rng)})
        pictures.save(folder / rows[-1]["file_name"], picture, rows[-1])
    pictures.write_metadata(folder, rows)
    sheet = tmp_path / "differ.png"
    monkeypatch.setattr(
        sys, "argv", ["verifiers.py", "--pictures", str(folder), "--sheet", str(sheet)]
    )
    verifiers.main()
    printed = capsys.readouterr().out
    assert "| strict | 5 | 0.800 | 0.800 | 100.0% | 0.000 |" in printed
    assert "| first: right | 4 | 0 |" in printed and "| first: wrong | 0 | 1 |" in printed
    assert sheet.read_bytes().startswith(b"\x89PNG")
    pictures.write_metadata(folder, [rows[0] | {"prompt": "a dog"}])
    with pytest.raises(SystemExit, match="'a dog' is not in the language"):
        verifiers.main()

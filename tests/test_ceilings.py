"""Pictures to hold scores against: what they show, and that they decide nothing in the tables."""

import random

import numpy as np
import pytest
import synthetic
from test_tables import build, load

from tests import tiny
from vlg import plugins
from vlg.config import plan
from vlg.config.load import load as config
from vlg.data import pictures
from vlg.errors import UserError
from vlg.sample.listing import Picture
from vlg.sample.reference import Given, write
from vlg.shapes.captions import parse, prompts
from vlg.shapes.example import example
from vlg.shapes.verify import check

TEXTS = [row["Prompt"] for row in prompts(60, 3)]
WANTED = [Picture(f"p{i:04d}", text, s, "study") for s in (0, 1) for i, text in enumerate(TEXTS)]
NAMES = ["render", "reconstruction", "shuffled"]


def drawn(name, **given):
    return list(plugins.load(plugins.REFERENCES, name).draw(Given(WANTED, **given)))


@pytest.fixture(scope="module")
def renders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("render")
    write("render", Given(WANTED), folder)
    return folder


def test_a_render_shows_all_that_its_prompt_says(renders):
    found = pictures.listed([renders])
    assert [(row["id"], row["seed"], row["set"]) for _, row in found] == [
        (each.id, each.seed, "reference") for each in WANTED
    ]
    images = [pictures.load_checked(*each) for each in found]
    assert all(
        check(image, parse(each.prompt))["strict"] == 1
        for image, each in zip(images, WANTED, strict=True)
    )
    half = len(TEXTS)
    same = [np.array_equal(*pair) for pair in zip(images[:half], images[half:], strict=True)]
    assert not any(same), "another seed is another scene"
    assert all(map(np.array_equal, images, drawn("render"))), "the same each time"


@pytest.mark.parametrize(
    "text", ["three large red circles", "two red circles left of a blue square"]
)
def test_what_the_world_has_no_scene_of_is_refused(text):
    with pytest.raises(UserError, match="has no scene in this world"):
        example(parse(text), random.Random(0))


def test_a_shuffled_picture_is_of_another_prompt_and_each_is_taken_once(renders):
    sources = pictures.listed([renders])
    own = [image.tobytes() for image in drawn("render")]
    for start in (0, len(TEXTS)):
        place = slice(start, start + len(TEXTS))
        taken = [image.tobytes() for image in drawn("shuffled", sources=sources)[place]]
        assert sorted(taken) == sorted(own[place]), "of the same seed"
        assert not any(a == b for a, b in zip(taken, own[place], strict=True))


def test_a_reconstruction_is_of_the_same_picture(renders):
    base, sources = tiny.world()["base"], pictures.listed([renders])
    from vlg.models.family import open_family

    whole = drawn("reconstruction", sources=sources[::-1], base=base, batch_size=50)
    parts = drawn("reconstruction", sources=sources, base=base, batch_size=17)
    assert np.abs(np.stack(whole).astype(int) - np.stack(parts)).max() <= 1
    family = open_family(base)
    import torch

    pixels = torch.from_numpy(drawn("render")[7] / 255.0).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        expected = family.decode(family.encode(pixels)[0])[0].permute(1, 2, 0).numpy()
    assert np.abs(whole[7] / 255 - expected).max() < 0.01


@pytest.mark.parametrize(
    ("text", "study", "expected"),
    [(None, 4, NAMES), ("a cat\na dog\n", 2, NAMES[2:]), ("a cat\na dog\n", 1, [])],
)
def test_which_references_there_are_follows_from_the_prompts(tmp_path, text, study, expected):
    own = {"study": study}
    if text:
        (tmp_path / "mine.txt").write_text(text)
        own["source"] = "mine.txt"
    assert plan.references(config({"prompts": own}, tmp_path)) == expected


@pytest.mark.parametrize("name", ["finetune", "refinement"])
def test_references_stand_under_a_table_and_change_nothing_in_it(tmp_path, name):
    shape = synthetic.write(tmp_path, synthetic.Study(pictures=False, prompts=45, rounds=1))
    before = build(load(tmp_path, shape), name)
    base = synthetic.rows(tmp_path / "scores/images/base/study.csv")
    rows = [
        row | {"model": reference, "set": "reference", "clipscore": str(level), "blank": blank}
        for reference, level, blank in zip(NAMES, (99, 98, 1), "010", strict=True)
        for row in base
    ]
    synthetic.rewrite(tmp_path / "scores/references.csv", rows)
    table = build(load(tmp_path, shape), name)
    kept = table.frame[table.frame["reference"] == ""]
    assert kept.to_csv(index=False) == before.frame.to_csv(index=False)
    assert table.marks[: len(kept)] == before.marks and any(bold for bold, _ in before.marks)
    under = table.frame.iloc[len(kept) :]
    assert under["model"].tolist() == NAMES
    assert under["reference"].tolist() == ["ceiling", "ceiling", "floor"]
    assert under["clipscore"].tolist() == [99, 98, 1] and under["delta_low"].notna().all()
    tested = [c for c in table.frame if c == "p" or c.endswith(("_p", "corrected", "mde"))]
    assert under[tested].isna().all(axis=None)
    assert set(under["family"]) == set(under["gain_seen_by"]) == {""}
    assert not any(map(any, table.marks[len(kept) :]))
    assert under["blank"].tolist() == [0, len(base), 0]
    assert "No picture is blank" in before.caption and "Blank: how many" in table.caption
    assert "Blank" in table.texts(name)["md"].partition("\n")[0]
    assert table.caption.startswith(before.caption.partition(" No picture")[0])

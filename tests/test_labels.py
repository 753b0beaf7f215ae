"""The hand-labelled sheet of the shapes world, and what is counted on it."""

import csv
import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "bench"))

import labels  # noqa: E402

from vlg.data import pictures  # noqa: E402
from vlg.errors import UserError  # noqa: E402
from vlg.shapes import captions, verify, world  # noqa: E402


@pytest.fixture
def drawn(tmp_path):
    """Two models' folders of true pictures; 20 of each."""
    rng, folders = random.Random(0), []
    for model in ("one", "two"):
        folder = tmp_path / model / "final" / "shard-0"
        folder.mkdir(parents=True)
        rows = []
        for i in range(20):
            scene = world.sample(rng, world.SEEN)
            Image.fromarray(world.render(scene)).save(folder / f"{i}.png")
            said = captions.sentence(captions.meaning(scene), rng)
            rows.append({"file_name": f"{i}.png", "prompt": said, "seed": i, "prompt_id": i})
        pictures.write_metadata(folder, rows)
        folders.append(folder)
    return folders


def relabel(sheet, change):
    """Write what `change` makes of each row of a sheet, by its number."""
    path = sheet / "labels.csv"
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, labels.KNOWN)
        writer.writeheader()
        writer.writerows(change(i, row) for i, row in enumerate(rows))


def test_a_sheet_is_drawn_evenly_and_counted_by_what_a_person_says(drawn, tmp_path):
    sheet = tmp_path / "sheet"
    labels.draw(drawn, 30, sheet)
    pairs = labels.labelled(sheet)
    assert [row["model"] for _, row in pairs] == ["one"] * 15 + ["two"] * 15
    for picture, row in pairs:
        said = captions.parse(row["prompt"])
        assert verify.check(picture, said)["strict"] == 1
        assert {row[part] for part in verify.PARTS} <= {"?", ""}
    by_fact = {(row["verifier"], row["fact"]): row for row in labels.compared(pairs)}
    assert by_fact["first", "count"]["labels"] == 0
    assert by_fact["first", "count"]["unclear"] == by_fact["first", "strict"]["unclear"] == 30

    # A person finds the count of the first five wrong and says nothing of the next ten's.
    def seen(i, row):
        told = {part: row[part] and "1" for part in verify.PARTS}
        return {**row, **told, "count": "0" if i < 5 else "?" if i < 15 else "1"}

    relabel(sheet, seen)
    for row in labels.compared(labels.labelled(sheet)):
        if row["fact"] in ("count", "strict"):
            assert (row["labels"], row["same"], row["lenient"], row["unclear"]) == (20, 15, 5, 10)
        else:
            assert row["same"] == row["labels"] and row["unclear"] == 0
        assert row["harsh"] == 0


def test_a_sheet_that_is_there_or_lacks_rows_is_refused(drawn, tmp_path):
    sheet = tmp_path / "sheet"
    labels.draw(drawn, 30, sheet)
    with pytest.raises(UserError, match="is there already"):
        labels.draw(drawn, 30, sheet)
    text = (sheet / "labels.csv").read_text().splitlines()
    (sheet / "labels.csv").write_text("\n".join(text[:12]) + "\n")
    with pytest.raises(UserError, match="11 labels of 36 tiles"):
        labels.labelled(sheet)


def test_the_shipped_sheet_is_whole_and_of_all_models():
    pairs = labels.labelled()
    assert len(pairs) == 120
    assert {row["model"] for _, row in pairs} == {"base", "base-middle", "base-early", "base-flow"}
    for picture, row in pairs:
        assert picture.shape == (world.SIDE, world.SIDE, 3) and picture.dtype == np.uint8
        said = captions.parse(row["prompt"])
        told = {part for part, value in verify.check(picture, said).items() if value is not None}
        for part in verify.PARTS:  # labelled where the prompt says something of it
            assert row[part] in (("0", "1", "?") if part in told else ("",)), row


@pytest.mark.parametrize(
    "row, part, label, said",
    [
        (3, "count", "x", "picture 3: count is 'x'; write 1, 0 or ?"),
        (4, "shape", "", "picture 4: shape is ''"),
    ],
)
def test_a_label_that_is_none_is_told_by_its_place(drawn, tmp_path, row, part, label, said):
    sheet = tmp_path / "sheet"
    labels.draw(drawn, 12, sheet)
    relabel(sheet, lambda i, each: each | {part: label} if i == row else each)
    with pytest.raises(UserError, match=re.escape(said)):
        labels.labelled(sheet)


def test_pictures_of_another_size_or_language_are_told(drawn, tmp_path):
    listed = pictures.read_metadata(drawn[0])
    Image.new("RGB", (64, 48)).save(drawn[0] / listed[0]["file_name"])
    with pytest.raises(UserError, match="64 x 48 pixels; give 32 x 32"):
        labels.draw(drawn[:1], 20, tmp_path / "sheet")
    assert not (tmp_path / "sheet").exists()
    rows = [each | {"prompt": "a dog"} for each in pictures.read_metadata(drawn[1])]
    pictures.write_metadata(drawn[1], rows)
    with pytest.raises(UserError, match="'a dog' is not in the language"):
        labels.draw(drawn[1:], 20, tmp_path / "sheet")

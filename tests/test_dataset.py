"""Captioned pictures: drawn ones are the same every time, a user's are linked or refused."""

import json
import random

import numpy as np
import pytest
from PIL import Image

from vlg.data import dataset
from vlg.errors import UserError
from vlg.shapes import captions, verify, world


def save(folder, *names):
    for index, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (index, 0, 0)).save(path)


def rows(folder):
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def write_rows(folder, *values):
    text = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    (folder / "metadata.jsonl").write_text(text, encoding="utf-8")


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    save(path, "a.png", "b.jpg", "deep/c.PNG")
    return path


@pytest.fixture
def out(tmp_path):
    path = tmp_path / "out"
    path.mkdir()
    return path


def test_drawn_pictures_have_full_and_true_captions_of_pairs_that_may_be_seen(out):
    dataset.draw(out, 40, seed=0)
    assert [row["file_name"] for row in rows(out)] == [f"{i:06d}.png" for i in range(40)]
    pairs = set()
    for row in rows(out):
        said = captions.parse(row["text"])
        pairs |= {(claim.shape, claim.colour) for claim in said.claims}
        assert said.background and all(claim.colour and claim.size for claim in said.claims)
        picture = np.asarray(Image.open(out / row["file_name"]))
        assert verify.check(picture, said)["strict"] == 1
    assert pairs <= set(world.SEEN + world.ADAPT) and pairs & set(world.ADAPT)


def test_drawing_is_a_function_of_its_seed_and_a_longer_set_only_adds(tmp_path):
    for name, size, seed in (("a", 6, 0), ("b", 9, 0), ("c", 6, 1)):
        (tmp_path / name).mkdir()
        random.seed(len(name))
        dataset.draw(tmp_path / name, size, seed)
    a, b, c = (
        [(tmp_path / name / f"{i:06d}.png").read_bytes() for i in range(6)] for name in "abc"
    )
    assert a == b != c
    assert rows(tmp_path / "a") == rows(tmp_path / "b")[:6]


def test_captions_from_json_lines(source, out):
    write_rows(
        source,
        {"file_name": "a.png", "text": "one\u2028line “é”"},
        {"file_name": "./deep/c.PNG", "text": ["two", "three"], "width": 8},
        {"file_name": "a.png", "text": "again"},
    )
    dataset.gather(source, out, None)
    assert rows(out) == [
        {"file_name": "a.png", "text": ["one\u2028line “é”", "again"]},
        {"file_name": "deep/c.PNG", "text": ["two", "three"]},
    ]
    assert (out / "deep/c.PNG").read_bytes() == (source / "deep/c.PNG").read_bytes()
    assert (out / "a.png").samefile(source / "a.png")
    assert not (out / "b.jpg").exists()


def test_captions_from_a_spreadsheet(source, out):
    text = '\ufefffile_name,text,note\na.png,"red, and ""so on""",x\nb.jpg,a boy\n'
    (source / "metadata.csv").write_text(text, encoding="utf-8")
    dataset.gather(source, out, None)
    assert rows(out) == [
        {"file_name": "a.png", "text": ['red, and "so on"']},
        {"file_name": "b.jpg", "text": ["a boy"]},
    ]


def test_captions_beside_the_pictures(source, out):
    for name in ("a", "b", "deep/c"):
        (source / f"{name}.txt").write_text(f" {name} \n\nanother\n")
    (source / "notes.txt").write_text("of no picture")
    dataset.gather(source, out, None)
    assert rows(out) == [
        {"file_name": name, "text": [name.partition(".")[0], "another"]}
        for name in ("a.png", "b.jpg", "deep/c.PNG")
    ]


def test_links_of_a_download_cache_are_followed(source, out, tmp_path):
    (tmp_path / "blob").write_bytes((source / "a.png").read_bytes())
    (source / "d.png").symlink_to(tmp_path / "blob")
    write_rows(source, {"file_name": "d.png", "text": "d"})
    dataset.gather(source, out, None)
    assert not (out / "d.png").is_symlink()
    assert (out / "d.png").read_bytes() == (tmp_path / "blob").read_bytes()


def test_a_subset_is_fixed_and_changes_little_when_pictures_are_added(source, tmp_path):
    names = [f"{i}.png" for i in range(30)]
    save(source, *names)

    def chosen(pictures, size, folder):
        write_rows(source, *({"file_name": name, "text": name} for name in pictures))
        (tmp_path / folder).mkdir()
        dataset.gather(source, tmp_path / folder, size)
        return [row["file_name"] for row in rows(tmp_path / folder)]

    first = chosen(names[:20], 8, "first")
    assert len(first) == 8 and first == sorted(first)
    assert first == chosen(names[19::-1], 8, "turned")
    assert set(first) not in (set(names[:8]), set(sorted(names[:20])[:8]))
    assert set(chosen(names[:20], 12, "more")) > set(first)
    assert len(set(chosen(names, 8, "added")) & set(first)) >= 3
    assert len(chosen(names, 99, "all")) == 30


@pytest.mark.parametrize("name", ["../secret.png", "deep/../../secret.png", "{root}/secret.png"])
def test_names_that_lead_out_of_the_folder_are_refused(source, out, tmp_path, name):
    save(tmp_path, "secret.png")
    write_rows(source, {"file_name": name.format(root=tmp_path), "text": "x"})
    with pytest.raises(UserError, match="row 1.*secret.png is no file below"):
        dataset.gather(source, out, None)
    assert list(out.iterdir()) == []


def test_names_that_come_back_from_outside_are_refused_too(source, out):
    """The source exists, but the link would be made beside `out`."""
    for name in (f"../{source.name}/a.png", str(source / "a.png")):
        write_rows(source, {"file_name": name, "text": "x"})
        with pytest.raises(UserError, match="is no file below"):
            dataset.gather(source, out, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"file_name": "a.png"}', "row 1 lacks"),
        ('{"file_name": "a.png", "text": "a"}\n{"file_name": "b.jpg", "text": " "}', "row 2 lacks"),
        ('{"file_name": "a.png", "text": []}', "row 1 lacks"),
        ('{"file_name": "a.png", "text": ["a", null]}', "row 1 lacks"),
        ('{"text": "a"}', "row 1 lacks"),
        ('["a.png", "a"]', "row 1 lacks"),
        ('{"file_name": "gone.png", "text": "a"}', "row 1: gone.png is no file"),
        ('{"file_name": "deep", "text": "a"}', "row 1: deep is no file"),
        ('{"file_name": ', "not JSON lines"),
        ("[" * 100_000, "not JSON lines"),
        ("\n\n", "no captioned pictures"),
    ],
)
def test_bad_json_lines_are_named(source, out, content, message):
    (source / "metadata.jsonl").write_text(content)
    with pytest.raises(UserError, match=message) as error:
        dataset.gather(source, out, None)
    assert "metadata.jsonl: " in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name,caption\na.png,a\n", "row 1 lacks"),
        (b"file_name,text\na.png\n", "row 1 lacks"),
        (b"file_name,text\n", "no captioned pictures"),
        ("file_name,text\na.png,é\n".encode("latin-1"), "not a CSV file in UTF-8"),
        (b'file_name,text\na.png,"' + b"x" * 200_000, "not a CSV file"),
    ],
)
def test_bad_spreadsheets_are_named(source, out, content, message):
    (source / "metadata.csv").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        dataset.gather(source, out, None)
    assert "metadata.csv: " in str(error.value)


def test_a_picture_without_a_caption_is_named(source, out):
    with pytest.raises(UserError, match="a.png: no caption; write a.txt beside it"):
        dataset.gather(source, out, None)
    for name in ("a", "b", "deep/c"):
        (source / f"{name}.txt").write_text("text")
    (source / "b.txt").write_text("\n \n")
    with pytest.raises(UserError, match="row 2 lacks"):
        dataset.gather(source, out, None)
    (source / "b.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="b.txt: not UTF-8"):
        dataset.gather(source, out, None)


def test_an_empty_folder_is_named(tmp_path, out):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: no captioned pictures"):
        dataset.gather(tmp_path / "empty", out, None)

"""Captioned pictures: drawn ones are the same every time, a user's are linked or refused."""

import json
import random
import shutil

import numpy as np
import pytest
from PIL import Image

from vlg.data import captioned, dataset, imagefolder
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
    text = '\ufefffile_name,text,note\na.png,"red, and ""so on""",x\nb.jpg, "a boy",\n'
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


def test_links_to_folders_are_followed_once(source, out, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("a", "b", "deep/c"):
        (source / f"{name}.txt").write_text(name)
    (elsewhere / "d.png").write_bytes((source / "a.png").read_bytes())
    (elsewhere / "d.txt").write_text("d")
    (elsewhere / "._d.txt").write_bytes(b"\xff")  # as macOS leaves them on other disks
    (source / "more").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(source)
    dataset.gather(source, out, None)
    assert [row["file_name"] for row in rows(out)] == ["a.png", "b.jpg", "deep/c.PNG", "more/d.png"]


def test_captions_without_a_picture_are_told(source, out, caplog):
    for name in ("a", "b", "deep/c", "gone"):
        (source / f"{name}.txt").write_text(name)
    (source / "lost.caption").write_text("lost")
    dataset.gather(source, out, None)
    assert len(rows(out)) == 3
    assert "gone.txt (and 1 more): a caption without a picture" in caplog.text


@pytest.mark.parametrize("names", [("Train", "Test"), ("TRAIN", "dev"), ("training", "eval")])
def test_folders_of_splits_are_known_in_any_letters(tmp_path, names):
    for name in names:
        (tmp_path / name).mkdir()
        save(tmp_path / name, "x.png")
        write_rows(tmp_path / name, {"file_name": "x.png", "text": name})
    if names[0] == "training":  # another word, which is then to be said
        with pytest.raises(
            UserError, match="there are eval/metadata.jsonl, training/metadata.jsonl"
        ):
            imagefolder.captioned(tmp_path)
    split = names[0].lower()
    assert [row["text"] for row in imagefolder.captioned(tmp_path, split=split)] == [[names[0]]]


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
        ('{"file_name": "a.png", "prompt": "a"}', "there are file_name, prompt; name the"),
        ('{"file_name": "a.png", "text": "a \\ud83e"}', "row 1 has half a character"),
        ('["a.png", "a"]', "row 1 lacks"),
        ('{"file_name": "gone.png", "text": "a"}', "row 1: gone.png is no file"),
        ('{"file_name": "deep", "text": "a"}', "row 1: deep is no file"),
        ('{"file_name": ', "line 1 is no JSON"),
        ("[" * 100_000, "line 1 is no JSON"),
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
        (b"name,caption\na.png,a\n", "lacks the column file_name, there are name, caption; name"),
        (b"file_name,prompt\na.png,a\n", "lacks the column text, there are file_name, prompt; n"),
        (b"file_name;text\na.png;a\n", "there are file_name;text; separate cells by commas, name"),
        (b"file_name,text\na.png,a red, round ball\n", "row 1: 3 cells where the header has 2"),
        (b"file_name,caption_0\na.png,a\na.png,a, b\n", "row 2: 3 cells where the header has 2"),
        (b"file_name,text,text\na.png,a,b\n", "two columns are named text"),
        (b'file_name,text\na.png,"a\nb.jpg,b\n', "not a CSV file"),
        (b"file_name,text\na.png\n", "row 1: 1 cells where the header has 2"),
        (b"file_name,text\n", "no captioned pictures"),
        ("file_name,text\na.png,é\n".encode("latin-1"), "not UTF-8 text"),
        (b'file_name,text\na.png,"' + b"x" * 200_000, "not a CSV file"),
    ],
)
def test_bad_spreadsheets_are_named(source, out, content, message):
    (source / "metadata.csv").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        dataset.gather(source, out, None)
    assert "metadata.csv: " in str(error.value) and "\n" not in str(error.value)


def test_the_line_about_columns_says_where_captions_are_named(source, out):
    (source / "metadata.csv").write_text("file_name,prompt\na.png,one\n")
    with pytest.raises(UserError, match=r"file_name, prompt; .* in dataset\.captions$"):
        dataset.gather(source, out, None)
    dataset.gather(source, out, None, captions=["prompt"])
    assert rows(out) == [{"file_name": "a.png", "text": ["one"]}]


def test_a_picture_without_a_caption_is_named(source, out):
    with pytest.raises(UserError, match="a.png: no caption; write a.txt beside it"):
        dataset.gather(source, out, None)
    for name in ("a", "b", "deep/c"):
        (source / f"{name}.txt").write_text("text")
    for content, message in {
        b"\n \n": "b.txt: has no caption; write one",
        b"\xff\xfe": "b.txt: not UTF-8 text; save as such",
        "é".encode("utf-16-le"): "b.txt: not UTF-8",
        "a cat".encode("utf-16-le"): "b.txt: not UTF-8",
    }.items():
        (source / "b.txt").write_bytes(content)
        with pytest.raises(UserError, match=message):
            dataset.gather(source, out, None)


@pytest.mark.parametrize(("content", "what"), [("café", "not UTF-8 text"), (" ", "has no caption")])
def test_of_many_bad_captions_one_is_named_and_the_others_are_counted(source, out, content, what):
    save(source, *(f"{i}.png" for i in range(5)))
    for name in ("a", "b", "deep/c", *range(5)):
        (source / f"{name}.txt").write_text("text")
    for name in (1, 3, 4):
        (source / f"{name}.txt").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=rf"1.txt: {what} \(and 2 more\); ") as error:
        dataset.gather(source, out, None)
    assert "\n" not in str(error.value)


def test_caption_files_with_a_byte_order_mark_and_of_the_other_usual_ending(source, out):
    (source / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\n")
    (source / "a.caption").write_text("not this")
    (source / "b.caption").write_bytes("\ufefftwo é".encode())
    (source / "deep/c.TXT").write_text("three")
    dataset.gather(source, out, None)
    assert [row["text"] for row in rows(out)] == [["one"], ["two é"], ["three"]]


@pytest.mark.parametrize("kind", ["bmp", "gif", "tiff", "tif", "webp", "jfif"])
def test_pictures_of_all_usual_kinds_are_found_beside_captions(tmp_path, out, kind):
    source = tmp_path / "source"
    save(source, "a.png")
    Image.new("RGB", (16, 16), (200, 0, 0)).save(
        source / f"x.{kind}", {"tif": "TIFF", "jfif": "JPEG"}.get(kind, kind)
    )
    for name in "ax":
        (source / f"{name}.txt").write_text(name)
    dataset.gather(source, out, None)
    assert [row["file_name"] for row in rows(out)] == ["a.png", f"x.{kind}"]
    assert captioned.read_picture(out / f"x.{kind}", 16)[0].mean() == pytest.approx(0.78, abs=0.03)


def test_what_has_captions_and_is_no_picture_that_can_be_read_is_counted(source, out, caplog):
    for name in ("a", "b", "deep/c", "d", "e"):
        (source / f"{name}.txt").write_text(name)
    (source / "d.heic").write_bytes(b"of a kind that is not read here")
    Image.new("RGB", (8, 8)).save(source / "e.ppm")
    (source / "a.npz").write_bytes(b"what another program keeps of a.png")
    (source / "d").mkdir()
    dataset.gather(source, out, None)
    assert [row["file_name"] for row in rows(out)] == ["a.png", "b.jpg", "deep/c.PNG", "e.ppm"]
    report = json.loads((out / "report.json").read_text())
    assert report["skipped"] == {"of an unknown kind": 1}
    assert report["names"] == {"d.heic": "of an unknown kind"}
    assert "skipped 1 of an unknown kind of the pictures" in caplog.text


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_folders_of_splits_have_lists_of_their_own(tmp_path, out, name):
    """As `datasets` reads an image folder: file names start from the list's folder."""
    source = tmp_path / "source"
    for split in ("train", "test"):
        save(source, f"{split}/a.png", f"{split}/deep/b.png")
        if name == "metadata.csv":
            lines = f"file_name,text\na.png,{split} a\ndeep/b.png,{split} b\n"
        else:
            values = [{"file_name": f, "text": f"{split} {f[-5]}"} for f in ("a.png", "deep/b.png")]
            lines = "\n".join(map(json.dumps, values))
        (source / split / name).write_text(lines)
    dataset.gather(source, out, None)
    assert rows(out) == [
        {"file_name": "train/a.png", "text": ["train a"]},
        {"file_name": "train/deep/b.png", "text": ["train b"]},
    ]
    assert (out / "train/deep/b.png").samefile(source / "train/deep/b.png")
    dataset.gather(source, out, None, split="test")
    assert [row["text"] for row in rows(out)] == [["test a"], ["test b"]]
    with pytest.raises(UserError, match=f"no {name} of split dev, there are test/{name}, train/"):
        dataset.gather(source, out, None, split="dev")


def test_a_name_in_a_split_may_not_lead_out_of_its_folder(tmp_path, out):
    source = tmp_path / "source"
    save(source, "train/a.png", "deep/c.png")
    write_rows(source / "train", {"file_name": "../deep/c.png", "text": "x"})
    with pytest.raises(UserError, match=r"train/metadata.jsonl: row 1: \.\./deep/c.png is no file"):
        dataset.gather(source, out, None)


def test_a_list_below_pictures_with_captions_beside_them_is_not_theirs(source, out):
    for name in ("a", "b", "deep/c"):
        (source / f"{name}.txt").write_text("text")
    write_rows(source / "deep", {"file_name": "c.PNG", "text": "x"})
    dataset.gather(source, out, None)
    assert len(rows(out)) == 3


def test_transparent_pictures_are_written_on_the_background(tmp_path, out):
    """What is hidden (black here) is not trained on; pictures without holes stay links."""
    source = tmp_path / "source"
    save(source, "plain.png")
    red = np.zeros((8, 8, 4), np.uint8)
    red[4:] = 255, 0, 0, 255
    for name in ("hole.png", "hole.webp", "hole.gif"):
        Image.fromarray(red).save(source / name, lossless=True)
    Image.fromarray(red[4:].repeat(2, 0)).save(source / "opaque.png")
    save(source, "hole.webp.png")
    names = sorted(path.name for path in source.iterdir())
    write_rows(source, *({"file_name": name, "text": name} for name in names))
    dataset.gather(source, out, None, background="#0000ff")
    assert {row["text"][0]: row["file_name"] for row in rows(out)} == {
        "hole.gif": "hole.gif.png",
        "hole.png": "hole.png",
        "hole.webp": "hole.webp.png.png",
        "hole.webp.png": "hole.webp.png",
        "opaque.png": "opaque.png",
        "plain.png": "plain.png",
    }
    for name in ("hole.gif.png", "hole.png", "hole.webp.png.png"):
        seen = captioned.read_picture(out / name, 8)
        assert seen[:, 0, 0].tolist() == [0, 0, 1] and seen[:, 7, 7].tolist() == [1, 0, 0]
    for name in ("opaque.png", "plain.png", "hole.webp.png"):
        assert (out / name).samefile(source / name)
    shutil.rmtree(out)
    out.mkdir()
    dataset.gather(source, out, None)
    assert captioned.read_picture(out / "hole.png", 8)[:, 0, 0].tolist() == [1, 1, 1]


def test_a_picture_whose_depth_nothing_tells_is_counted(source, out):
    Image.fromarray(np.full((8, 8), 3e9, np.float32)).save(source / "d.tiff")
    write_rows(source, *({"file_name": name, "text": "x"} for name in ("a.png", "d.tiff")))
    dataset.gather(source, out, None)
    assert json.loads((out / "report.json").read_text())["names"] == {
        "d.tiff": "of an unknown kind"
    }


def test_an_empty_folder_is_named(tmp_path, out):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: no captioned pictures"):
        dataset.gather(tmp_path / "empty", out, None)

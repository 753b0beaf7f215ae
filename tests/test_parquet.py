"""Captioned pictures inside parquet files, and pictures that cannot be used."""

import io
import json
import shutil

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from vlg.data import dataset
from vlg.data.columns import of_split
from vlg.errors import UserError


def image(number, size=(20, 16), kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", size, (number % 256, number // 256, 7)).save(file, kind)
    return file.getvalue()


def cell(number, **options):
    return {"bytes": image(number, **options), "path": None}


def write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return path


@pytest.fixture
def source(tmp_path):
    return tmp_path / "source"


@pytest.fixture
def gather(source, tmp_path):
    def gather(size=None, **options):
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        dataset.gather(options.pop("source", source), out, size, **options)
        rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
        assert all((out / row["file_name"]).is_file() for row in rows)
        return rows

    gather.out = tmp_path / "out"
    gather.report = lambda: json.loads((tmp_path / "out/report.json").read_text())
    return gather


def texts(rows):
    return [row["text"] for row in rows]


def test_one_row_a_caption_is_one_picture_with_several(source, gather):
    rows = [{"image": cell(n), "caption": f"{n} {word}"} for n in range(3) for word in "ab"]
    rows += [{"image": cell(0), "caption": caption} for caption in ("0 late", "0 a")]
    write(source / "data/train-0.parquet", *rows)
    write(source / "data/test-0.parquet", {"image": cell(9), "caption": "not of this split"})
    rows = gather()
    assert texts(rows) == [["0 a", "0 b", "0 late"], ["1 a", "1 b"], ["2 a", "2 b"]]
    for number, row in enumerate(rows):
        assert (gather.out / row["file_name"]).read_bytes() == image(number)
    assert texts(gather(split="test")) == [["not of this split"]]


@pytest.mark.parametrize("captions", [None, ["caption_0", "caption_1"], ["caption_1"]])
def test_several_caption_columns(source, gather, captions):
    row = {"image": cell(1), "caption_0": "zero", "caption_1": "one", "note": "x"}
    write(source / "0.parquet", row, {**row, "image": cell(2), "caption_0": " "})
    expected = [["one"], ["one"]] if captions == ["caption_1"] else [["zero", "one"], ["one"]]
    assert texts(gather(captions=captions)) == expected


def test_lists_of_captions_plain_bytes_and_other_names(source, gather):
    write(source / "0.parquet", {"photo": image(1), "sentences": ["a\nb", "c", "a b"]})
    assert texts(gather(picture="photo", captions=["sentences"])) == [["a b", "c"]]


def test_pictures_beside_the_parquet_file(source, gather):
    write(source / "0.parquet", {"image": {"bytes": None, "path": "1.png"}, "text": "one"})
    (source / "1.png").write_bytes(image(1))
    assert texts(gather()) == [["one"]]


@pytest.mark.parametrize("column", ["image", "file_name"])
def test_paths_of_pictures_beside_the_parquet_file(source, gather, column):
    rows = [{column: f"pictures/{n}.png", "text": f"{n}"} for n in range(3)]
    write(source / "train/metadata.parquet", *rows)
    for number in range(3):
        (source / "train/pictures").mkdir(exist_ok=True)
        (source / f"train/pictures/{number}.png").write_bytes(image(number))
    read = gather()
    assert texts(read) == [["0"], ["1"], ["2"]]
    assert (gather.out / read[1]["file_name"]).read_bytes() == image(1)
    whole = str((source / "train/pictures/1.png").absolute())
    write(source / "train/metadata.parquet", {column: whole, "text": "whole path"})
    assert texts(gather()) == [["whole path"]]


@pytest.mark.parametrize("path", ["gone.png", "../secret.png", "/etc/passwd", "https://x.org/a"])
@pytest.mark.parametrize("whole", [False, True])
def test_paths_of_no_picture_beside_the_parquet_file_are_told(source, gather, path, whole):
    rows = [{"image": {"bytes": None, "path": path} if whole else path, "text": "x"}]
    write(source / "0.parquet", *rows)
    (source.parent / "secret.png").write_bytes(image(1))
    message = f"0.parquet: row 0: {path} is no file beside it; put .* in dataset.picture"
    with pytest.raises(UserError, match=message):
        gather()


def test_transparent_pictures_inside_are_written_on_the_background(source, gather):
    buffer = io.BytesIO()
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(buffer, "WEBP", lossless=True)
    write(source / "0.parquet", {"image": {"bytes": buffer.getvalue()}, "text": "x"})
    (row,) = gather(background="#ff0000")
    assert row["file_name"] == "0000/0000000.png"
    assert Image.open(gather.out / row["file_name"]).convert("RGBA").getpixel((0, 0)) == (
        255, 0, 0, 255,
    )  # fmt: skip


def test_captions_that_are_no_text_are_told(source, gather):
    column = pyarrow.array([b"caf\xe9"], pyarrow.binary()).view(pyarrow.string())
    table = pyarrow.table({"image": [{"bytes": image(1)}], "text": column})
    source.mkdir()
    parquet.write_table(table, source / "0.parquet")
    with pytest.raises(UserError, match="0.parquet: row 0, column text: not UTF-8 text .*; write"):
        gather()


def test_a_single_file_and_files_of_other_kinds_of_picture(source, gather):
    kinds = ["JPEG", "WEBP", "PNG"]
    rows = [{"image": cell(n, kind=kind), "text": kind} for n, kind in enumerate(kinds)]
    path = write(source / "one.parquet", *rows)
    names = [row["file_name"] for row in gather(source=path)]
    assert names == ["0000/0000000.jpeg", "0000/0000001.webp", "0000/0000002.png"]


def test_no_more_files_are_read_than_hold_the_pictures(source):
    files = [
        write(source / f"{n}.parquet", *({"image": cell(4 * n + i), "text": "x"} for i in range(4)))
        for n in range(3)
    ]
    asked = []

    def listed():
        for file in files:
            asked.append(file.name)
            yield file

    for size, number in ((3, 1), (5, 2), (8, 3), (99, 3)):
        # Of 8 pictures the ninth must be seen: another caption of the eighth may come before it.
        asked.clear()
        found = dataset.Selection(size, 1)
        dataset.from_parquet(listed(), None, None, found)
        assert len(found.rows) == min(size, 12) and len(asked) == number


def test_a_subset_is_the_beginning_and_keeps_all_captions_of_its_last(source, gather):
    rows = [{"image": cell(n), "text": f"{n}{word}"} for n in range(5) for word in "ab"]
    write(source / "0.parquet", *rows)
    assert texts(gather(2)) == [["0a", "0b"], ["1a", "1b"]]


def test_bad_pictures_are_skipped_and_counted(source, gather, caplog):
    good, cut = image(1), image(2, size=(200, 200), kind="JPEG")
    tiny = image(3, size=(100, 15))
    rows = [good, cut[: len(cut) // 2], tiny, b"", b"no picture", tiny, image(4)]
    rows = [{"image": {"bytes": data}, "text": "x"} for data in rows]
    write(source / "0.parquet", *rows, {"image": cell(5), "text": None})
    assert len(gather(smallest=16)) == 2
    assert gather.report() == {
        "pictures": 2,
        "captions": 2,
        "skipped": {"broken": 3, "tiny": 1, "uncaptioned": 1},
        "names": {
            "0.parquet: row 1": "broken",
            "0.parquet: row 2": "tiny",
            "0.parquet: row 3": "broken",
            "0.parquet: row 4": "broken",
            "0.parquet: row 7": "uncaptioned",
        },
    }
    assert "skipped 3 broken, 1 tiny, 1 uncaptioned of the pictures; see report.json" in caplog.text


def test_bad_pictures_of_a_folder_are_replaced_by_others(source, gather):
    source.mkdir()
    for number in range(9):
        data = image(number)
        (source / f"{number}.png").write_bytes(data[:30] if number % 3 == 0 else data)
        (source / f"{number}.txt").write_text("text")
    rows = gather(5)
    assert len(rows) == 5 and not {"0.png", "3.png", "6.png"} & {r["file_name"] for r in rows}
    assert len(gather()) == 6 and gather.report()["skipped"] == {"broken": 3}


def test_captions_of_a_folder_in_named_columns(source, gather):
    source.mkdir()
    (source / "a.png").write_bytes(image(1))
    (source / "metadata.csv").write_text("file_name,caption_0,caption_1,fr\na.png,one,two,un\n")
    assert texts(gather()) == [["one", "two"]]
    assert texts(gather(captions=["fr"])) == [["un"]]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (
            [{"image": cell(1), "label": 3}],
            {},
            "no column text, there are image, label; name the col",
        ),
        ([{"photo": cell(1), "text": "x"}], {}, "no column image, there are photo, text"),
        ([{"image": cell(1), "text": "x"}], {"captions": ["alt"]}, "has no column alt"),
        ([{"image": cell(1), "text": " "}], {}, "no usable picture .1 uncaptioned.; give"),
        ([{"image": cell(1), "text": "x"}], {"smallest": 64}, "1 tiny.*dataset.smallest"),
        ([{"image": 3, "text": "x"}], {}, "column image holds int64, no pictures or paths of th"),
        (
            [{"image": cell(1), "text": 3}],
            {},
            "column text holds int64, no text or lists of it; na",
        ),
        ([{"image": cell(1), "text": b"x"}], {}, "0.parquet: column text holds binary, no text"),
        ([{"image": cell(1), "text": [{"raw": "x"}]}], {}, "column text holds list<.*raw"),
        ([{"image": cell(1), "text": "\u200b"}], {}, "no usable picture .1 uncaptioned.; give"),
    ],
)
def test_tables_of_no_use_are_told(source, gather, rows, options, message):
    write(source / "0.parquet", *rows)
    with pytest.raises(UserError, match=message):
        gather(**options)


def test_a_damaged_row_group_is_told_with_its_rows(source, gather):
    rows = [{"image": cell(n), "text": f"{n}"} for n in range(6)]
    source.mkdir()
    path = source / "0.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2, compression="zstd")
    place = parquet.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[place : place + 60] = bytes(60)
    path.write_bytes(data)
    with pytest.raises(UserError, match="0.parquet: row group 1, after row 1: cannot be read .*; "):
        gather()


def test_a_folder_that_holds_captioned_pictures_twice_is_refused(source, gather):
    """Else one half would be left out without a word."""
    write(source / "data/train-0.parquet", {"image": cell(1), "text": "x"})
    (source / "a.png").write_bytes(image(2))
    assert texts(gather()) == [["x"]]  # pictures without captions may be those of the rows
    (source / "a.txt").write_text("a")
    twice = "source: holds captioned pictures twice, data/train-0.parquet and {}; move one of them"
    with pytest.raises(UserError, match=twice.format("a.png with a.txt")):
        gather()
    (source / "a.txt").unlink()
    for name in ("metadata.csv", "test/metadata.jsonl"):
        path = source / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
        with pytest.raises(UserError, match=twice.format(name)):
            gather()
        path.unlink()


def test_endings_in_capitals_are_the_same(source, gather):
    write(source / "Train-0.PARQUET", {"image": cell(1), "text": "x"})
    write(source / "Test-0.PARQUET", {"image": cell(2), "text": "y"})
    assert texts(gather()) == [["x"]]


def test_a_split_that_no_file_is_of_is_told(source, gather):
    write(source / "train-0.parquet", {"image": cell(1), "text": "x"})
    with pytest.raises(UserError, match="no parquet file of split test, there are train-0.parquet"):
        gather(split="test")


def test_a_file_cut_short_is_told(source, gather):
    path = write(source / "0.parquet", {"image": cell(1), "text": "x"})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="0.parquet: not a whole parquet file") as error:
        gather()
    assert "\n" not in str(error.value)


def test_files_of_a_split():
    names = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
    others = ["data/validation-00000-of-00001.parquet", "data/test-0.parquet", "README.md"]
    assert of_split([*others, *names[::-1]], "train", ".parquet") == names
    assert of_split(["b.parquet", "a.parquet"], "train", ".parquet") == [
        "a.parquet",
        "b.parquet",
    ]
    assert of_split(["default/train/0000.parquet"], "test", ".parquet") == []
    assert of_split(["constrained/0.parquet"], "train", ".parquet") == ["constrained/0.parquet"]

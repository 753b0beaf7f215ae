"""Picture folders: rows survive any prompt, finished pictures are kept, damaged ones are not."""

import numpy as np
import pytest
from PIL import Image

from vlg.data import pictures
from vlg.errors import UserError
from vlg.files import identity, sha256, write_manifest

PROMPTS = [
    "a red circle",
    'says "42"\nand \\ more\r\n',
    "one\u2028line\u2029and\x85more",
    " edges ",
    "é 日本 🟥 \x00\x1b",
    "",
]


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (32, 24, 3), dtype=np.uint8)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_picture_carries_its_row(tmp_path, image, prompt):
    row = {"prompt": prompt, "seed": 3, "key": "k"}
    pictures.save(tmp_path / "a.png", image, row)
    assert pictures.kept(tmp_path / "a.png", "k") == row
    assert np.array_equal(pictures.load(tmp_path / "a.png"), image)
    first = (tmp_path / "a.png").read_bytes()
    pictures.save(tmp_path / "a.png", image, row)
    assert (tmp_path / "a.png").read_bytes() == first


def test_rows_come_back_from_the_metadata(tmp_path, image):
    rows = [{"file_name": f"{i}.png", "prompt": text} for i, text in enumerate(PROMPTS)]
    for row in rows:
        pictures.save(tmp_path / row["file_name"], image, row)
    pictures.write_metadata(tmp_path, rows)
    read = pictures.read_metadata(tmp_path)
    assert [{k: v for k, v in row.items() if k != "sha256"} for row in read] == rows
    assert [row["sha256"] for row in read] == [sha256(tmp_path / f"{i}.png") for i in range(6)]
    assert (tmp_path / "metadata.jsonl").read_bytes().count(b"\n") == len(rows)
    for row in read:
        assert np.array_equal(pictures.load_checked(tmp_path, row), image)


def test_a_key_tells_apart_all_that_a_picture_is_made_from():
    settings = {"steps": 10, "scheduler": "ddim"}
    key = pictures.key("model", "a", 1, settings)
    assert key == pictures.key("model", "a", 1, dict(reversed(settings.items())))
    others = [
        pictures.key("other", "a", 1, settings),
        pictures.key("model", "b", 1, settings),
        pictures.key("model", "a", 11, settings),
        pictures.key("model", "a", "1", settings),
        pictures.key("modela", "", 1, settings),
        pictures.key("model", "a", 1, {**settings, "steps": 11}),
    ]
    assert len({key, *others}) == 7


def test_the_weights_and_nothing_else_identify_a_model(tmp_path):
    (tmp_path / "w").write_bytes(b"weights")
    keys = []
    for facts in ({"seconds": 3}, {"seconds": 4}):
        write_manifest(tmp_path, **facts)
        keys.append(identity(tmp_path))
    (tmp_path / "w").write_bytes(b"weightz")
    write_manifest(tmp_path, seconds=4)
    keys.append(identity(tmp_path))
    assert keys[0] == keys[1] != keys[2]


def test_another_key_or_no_picture_is_not_kept(tmp_path, image):
    path = tmp_path / "a.png"
    assert pictures.kept(path, "k") is None
    pictures.save(path, image, {"key": "k"})
    assert pictures.kept(path, "other") is None
    for text in ("[]", "null", '"key"', "{", '{"key": null}', None):
        chunk = pictures.PngInfo()
        if text is not None:
            chunk.add_text(pictures.TEXT, text)
        Image.fromarray(image).save(path, pnginfo=chunk)
        assert pictures.kept(path, "k") is None
    Image.fromarray(image).save(path, format="JPEG")
    assert pictures.kept(path, "k") is None


def test_a_picture_cut_or_altered_anywhere_is_not_kept(tmp_path, image):
    path = tmp_path / "a.png"
    pictures.save(path, image, {"key": "k", "prompt": "a red circle"})
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 37), *range(len(whole) - 25, len(whole))]:
        path.write_bytes(whole[:length])
        assert pictures.kept(path, "k") is None, length
    for at in [*range(0, len(whole), 37), *range(len(whole) - 12, len(whole))]:
        altered = bytearray(whole)
        altered[at] ^= 0x10
        path.write_bytes(altered)
        assert pictures.kept(path, "k") is None, at
    path.write_bytes(whole)
    assert pictures.kept(path, "k")


@pytest.mark.parametrize("length", [0, 8, 40, 500, 1500])
def test_a_cut_picture_ends_in_one_line(tmp_path, image, length):
    path = tmp_path / "a.png"
    pictures.save(path, image, {})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(
        UserError, match=r"a.png: not a whole picture .*delete .* and rerun"
    ) as error:
        pictures.load(path)
    assert "\n" not in str(error.value)


def test_a_missing_or_exchanged_picture_ends_in_one_line(tmp_path, image):
    row = {"file_name": "a.png"}
    pictures.save(tmp_path / "a.png", image, row)
    pictures.write_metadata(tmp_path, [row])
    (row,) = pictures.read_metadata(tmp_path)
    pictures.save(tmp_path / "a.png", image[::-1].copy(), row)
    with pytest.raises(UserError, match="a.png: checksum differs"):
        pictures.load_checked(tmp_path, row)
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match="a.png: missing"):
        pictures.load_checked(tmp_path, row)


def test_damaged_metadata_ends_in_one_line(tmp_path):
    with pytest.raises(UserError, match="metadata.jsonl: not found; rerun"):
        pictures.read_metadata(tmp_path)
    for data in (b'{"file_name": ', b"\xff"):
        (tmp_path / "metadata.jsonl").write_bytes(data)
        with pytest.raises(UserError, match="metadata.jsonl: damaged"):
            pictures.read_metadata(tmp_path)


def test_no_metadata_for_pictures_that_are_not_there(tmp_path):
    with pytest.raises(OSError):
        pictures.write_metadata(tmp_path, [{"file_name": "gone.png"}])
    assert list(tmp_path.iterdir()) == []


def test_only_pictures_that_belong_to_the_folder_stay(tmp_path, image):
    for name in ("0-p0000.png", "1-p0000.png", "0-p0009.png"):
        pictures.save(tmp_path / name, image, {})
    (tmp_path / "notes.txt").write_text("mine")
    pictures.prune(tmp_path, {"0-p0000.png", "0-p0001.png"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0-p0000.png", "notes.txt"]

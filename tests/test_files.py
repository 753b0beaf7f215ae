"""Files are whole or absent, and a manifest notices what is not as it was."""

import os
import stat

import pytest

from vlg import files
from vlg.errors import UserError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_only_when_its_block_ends_well(tmp_path):
    target = tmp_path / "new" / "a.txt"
    with files.atomic(target) as temporary:
        temporary.write_text("one")
        assert not target.exists() and temporary.suffix == ".txt"
    assert target.read_text() == "one"
    with pytest.raises(RuntimeError), files.atomic(target) as temporary:
        temporary.write_text("two")
        raise RuntimeError
    assert target.read_text() == "one"
    assert names(target.parent) == ["a.txt"]


def test_an_interrupt_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.atomic(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), files.atomic_folder(tmp_path / "b") as temporary:
        (temporary / "half").write_text("half")
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_a_written_file_has_the_rights_that_others_have(tmp_path):
    old = os.umask(0o027)
    try:
        files.write_text(tmp_path / "a", "text")
        (tmp_path / "b").write_text("text")
    finally:
        os.umask(old)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"]
    assert modes == [0o640, 0o640]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "folder"
    for name in ("one", "two"):
        with files.atomic_folder(target) as temporary:
            (temporary / name).write_text(name)
    assert names(target) == ["two"]
    with pytest.raises(RuntimeError), files.atomic_folder(target) as temporary:
        (temporary / "three").write_text("three")
        raise RuntimeError
    assert names(target) == ["two"] and names(tmp_path) == ["folder"]


def test_json_is_the_same_bytes_whatever_the_order(tmp_path):
    files.write_json(tmp_path / "a", {"b": 1, "a": "é\u2028"})
    files.write_json(tmp_path / "b", {"a": "é\u2028", "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert files.read_json(tmp_path / "a") == {"b": 1, "a": "é\u2028"}
    assert b"\r" not in (tmp_path / "a").read_bytes()


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe{}"])
def test_damaged_json_is_told_in_one_line(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match="x.json: not valid JSON") as error:
        files.read_json(path)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="y.json: not found"):
        files.read_json(tmp_path / "y.json")


@pytest.fixture
def folder(tmp_path):
    for name in ("a.bin", "below/b.bin", "empty"):
        files.write_text(tmp_path / "model" / name, name * 100 if "." in name else "")
    files.write_manifest(tmp_path / "model", recipe={"steps": 3})
    return tmp_path / "model"


def test_a_manifest_lists_all_files_and_facts(folder):
    manifest = files.check_manifest(folder)
    assert manifest["recipe"] == {"steps": 3}
    assert set(manifest["files"]) == {"a.bin", "below/b.bin", "empty"}
    assert manifest["files"]["empty"]["bytes"] == 0
    assert manifest["files"]["a.bin"]["sha256"] == files.sha256(folder / "a.bin")
    before = (folder / "manifest.json").read_bytes()
    files.write_manifest(folder, recipe={"steps": 3})
    assert (folder / "manifest.json").read_bytes() == before  # it never lists itself


def alter(path):
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["a.bin", "below/b.bin"])
@pytest.mark.parametrize(
    "damage",
    [
        alter,
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    ],
    ids=["altered", "missing", "cut", "longer"],
)
def test_a_manifest_notices_damage_and_names_the_file(folder, name, damage):
    damage(folder / name)
    with pytest.raises(UserError, match=name) as error:
        files.check_manifest(folder)
    assert "rerun" in str(error.value) and "\n" not in str(error.value)


def test_a_folder_without_a_manifest_is_not_whole(folder):
    (folder / "manifest.json").unlink()
    with pytest.raises(UserError, match="manifest.json: not found"):
        files.check_manifest(folder)

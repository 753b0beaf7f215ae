"""Folders as one file each, for machines that share no disk."""

import os
import signal
import subprocess
import sys
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlg.workflow import bundle

PROGRAM = [sys.executable, "-S", bundle.__file__]
NAMES = st.lists(st.sampled_from(["a", "b", "ä'{x}", "c.png"]), min_size=1, max_size=3).map(
    "/".join
)


def fill(folder, files):
    """Write files that do not lie inside one another."""
    for name, content in files.items():
        path = folder / name
        if not any(parent.is_file() for parent in path.parents) and not path.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    folder.mkdir(exist_ok=True)


def read(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@settings(max_examples=30, deadline=None)
@given(
    made=st.dictionaries(NAMES, st.binary(max_size=40), max_size=5),
    there=st.dictionaries(NAMES, st.binary(max_size=40), max_size=5),
)
def test_what_was_there_before_is_as_it_was_packed(tmp_path_factory, made, there):
    root = tmp_path_factory.mktemp("bundle")
    fill(root / "made", made)
    packed = bundle.pack(root / "made")
    once = packed.read_bytes()
    for path in (root / "made").rglob("*"):
        os.utime(path, (1, 1))
    assert bundle.pack(root / "made").read_bytes() == once, "the time of a file is in the bundle"

    wanted = read(root / "made")
    target = root / "there"
    fill(target, {name: content for name, content in there.items() if not _in_the_way(name, made)})
    packed.rename(root / "there.tar")
    bundle.unpack(root / "there.tar")
    assert read(target) == wanted


def _in_the_way(name, made):
    """Whether a file is where a folder belongs, or a folder where a file does."""
    return any(a != name and (a.startswith(f"{name}/") or name.startswith(f"{a}/")) for a in made)


def test_what_is_the_same_already_stays(tmp_path):
    fill(tmp_path / "m", {"weights": b"0" * 10, "other": b"1" * 10})
    packed = bundle.pack(tmp_path / "m")
    before = (tmp_path / "m/weights").stat().st_ino
    (tmp_path / "m/other").write_bytes(b"2" * 10)  # of the same size
    bundle.unpack(packed)
    assert (tmp_path / "m/weights").stat().st_ino == before
    assert (tmp_path / "m/other").read_bytes() == b"1" * 10


@pytest.mark.parametrize("name", ["../outside", "/outside", "link"])
def test_nothing_is_written_outside_the_folder(tmp_path, name):
    facts = tarfile.TarInfo(name)
    if name == "link":
        facts.type, facts.linkname = tarfile.SYMTYPE, "/etc"
    with tarfile.open(tmp_path / "m.tar", "w") as tar:
        tar.addfile(facts)
    with pytest.raises(ValueError, match="is no file below"):
        bundle.unpack(tmp_path / "m.tar")
    assert not (tmp_path / "outside").exists()


def run(*command):
    """Run a command that reads in/manifest.json with its bundle and writes out/manifest.json."""
    words = ["--in", "in/manifest.json", "in.tar"]
    words += ["--out", "out/manifest.json", "out.tar", "records/a.log", "--log", "logs/a.log"]
    return [*PROGRAM, *words, "--", *command]


def test_a_job_finds_its_folders_and_leaves_them(tmp_path):
    fill(tmp_path / "in", {"manifest.json": b"m", "weights": b"w"})
    bundle.pack(tmp_path / "in")
    (tmp_path / "in/weights").unlink()  # only what was declared came
    script = "mkdir -p out logs && cp in/weights out/copy && echo told > logs/a.log"
    subprocess.run(run("sh", "-c", script), cwd=tmp_path, check=True)
    with tarfile.open(tmp_path / "out.tar") as tar:
        assert tar.getnames() == ["copy"]
    assert (tmp_path / "records/a.log").read_text() == "told\n"


def test_it_ends_as_the_job_does(tmp_path):
    fill(tmp_path / "in", {"manifest.json": b"m"})
    bundle.pack(tmp_path / "in")
    failed = subprocess.run(run("sh", "-c", "mkdir out; exit 7"), cwd=tmp_path)
    assert failed.returncode == 7 and not (tmp_path / "out.tar").exists()
    waits = "import signal, sys, time; signal.signal(15, lambda *a: sys.exit(9))"
    waits += "; print(1, flush=True); time.sleep(60)"
    job = subprocess.Popen(run(sys.executable, "-c", waits), cwd=tmp_path, stdout=subprocess.PIPE)
    assert job.stdout.readline()
    job.send_signal(signal.SIGTERM)
    assert job.wait(20) == 9

"""A job among machines that share no disk: what its declared files leave out travels in bundles.

    python -S bundle.py --in FILE... --out FILE... --log FILE -- COMMAND...

There Snakemake carries the files that a rule declares and no others, but a model, a data set or a
shard of pictures is a folder that is declared by one file of it. Rules then declare FOLDER.tar too
(`rules/functions/bundles.smk`): this program unpacks those that come in, runs the command, packs
those that go out. An output below `records/` is a copy of the job's log. The program ends as the
command does. Only the standard library is imported: it starts before every job.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import IO

END = ".tar"
# Half-written files, and Snakemake's own.
LEFT_OUT = (".tmp-", ".snakemake_timestamp")
# Of a model, with its checksum: written into its folder by a later job, which declares them.
LATER = "README.md"


def pack(folder: Path) -> Path:
    """Write FOLDER.tar, whole or not at all, and return it. The same files give the same bytes."""
    bundle = folder.with_name(folder.name + END)
    with _half(bundle) as half, tarfile.open(fileobj=half, mode="w", dereference=True) as tar:
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or any(p.startswith(LEFT_OUT) for p in path.parts):
                continue
            if path.suffix == END and path.with_suffix("").is_dir():
                continue  # of a folder inside, which is here itself
            facts = tar.gettarinfo(path, path.relative_to(folder).as_posix())
            facts.mtime, facts.mode = 0, 0o644
            facts.uid = facts.gid = 0
            facts.uname = facts.gname = ""
            with open(path, "rb") as file:
                tar.addfile(facts, file)
    return bundle


def unpack(bundle: Path) -> Path:
    """Make the folder of FOLDER.tar hold what is packed, and return it.

    Files that are there with the same content stay: jobs of one machine may do this side by side.
    Others of the folder are removed. ValueError for a bundle with anything but files below it.
    """
    folder = bundle.with_name(bundle.name.removesuffix(END))
    folder.mkdir(parents=True, exist_ok=True)
    packed = set()
    with tarfile.open(bundle) as tar:
        for member in tar:
            path = folder / member.name
            if not member.isreg() or not path.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"{bundle}: {member.name} is no file below the folder")
            packed.add(path)
            with tar.extractfile(member) as file:
                if _same(path, member.size, file):
                    continue
                file.seek(0)
                path.parent.mkdir(parents=True, exist_ok=True)
                with _half(path) as half:
                    shutil.copyfileobj(file, half, 2**20)
    for path in folder.rglob("*"):
        stays = path in packed or path.name.startswith((LATER, *LEFT_OUT))
        if path.is_file() and not stays:
            path.unlink(missing_ok=True)
    return folder


def clear(study: Path) -> None:
    """Remove what was unpacked for the jobs of this machine; the storage has all of it.

    Which commit a download was resolved to is kept, as no storage has that.
    """
    for path in study.glob("*"):
        if path.name != "downloads":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextlib.contextmanager
def _half(path: Path):
    """A file that gets the name `path` when the block ends well."""
    handle, name = tempfile.mkstemp(prefix=f"{LEFT_OUT[0]}{path.name}-", dir=path.parent)
    try:
        with open(handle, "wb") as file:
            yield file
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _same(path: Path, size: int, packed: IO[bytes]) -> bool:
    try:
        if path.stat().st_size != size:
            return False
        with open(path, "rb") as file:
            while block := file.read(2**20):
                if block != packed.read(len(block)):
                    return False
    except OSError:
        return False
    return True


def main(words: list[str]) -> int:
    """Run the command between unpacking and packing; its exit status, or minus a signal."""
    end = words.index("--")
    given: dict[str, list[str]] = {"--in": [], "--out": [], "--log": []}
    for word in words[:end]:
        if word in given:
            files = given[word]
        else:
            files.append(word)
    for file in given["--in"]:
        if file.endswith(END):
            unpack(Path(file))
    job = subprocess.Popen(words[end + 1 :])
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, frame: job.send_signal(number))
    code = job.wait()
    for file in map(Path, given["--out"] if code == 0 else []):
        if file.name.endswith(END):
            pack(file.with_name(file.name.removesuffix(END)))
        elif file.suffix == ".log":
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(given["--log"][0], file)
    return code


if __name__ == "__main__":
    status = main(sys.argv[1:])
    if status < 0:  # as the job ended
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)

"""How `make` sets up .venv: which Python it takes or fetches, and what installs the locks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import lock

ROOT = lock.ROOT
NAMES = ("python3.12", "python3.13", "python3.11", "python3.14", "python3")
LOCKS = lock.LOCK, lock.DEV, lock.DEMO
MADE, FILLED = ".venv/requirements.lock", ".venv/requirements-dev.lock"


@pytest.fixture
def folder(tmp_path):
    """A checkout with what sets it up; `bin` is the PATH's first, and no Python there fits."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "bin").mkdir()
    for name in ("Makefile", *(path.name for path in LOCKS), "tools/venv.sh"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in NAMES:
        program(tmp_path / "bin" / name, "exit 1")
    return tmp_path


def program(path: Path, lines: str) -> Path:
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return path


def python(path: Path, version: tuple[int, int], include: Path | None = None) -> Path:
    """A stand-in for a Python of a version: it can be asked whether it fits, and makes environments
    whose pip notes what it is asked for and installs uv alone, a stand-in that fetches nothing."""
    here = path.parent.parent
    uv = program(
        here / "uv", f'echo "uv $UV_DEFAULT_INDEX $*" >> {here}/said; [ ! -e {here}/broken ]'
    )
    pip = f'echo "pip $*" >> {here}/said; case "$*" in *uv.txt) cp {uv} .venv/bin/uv;; esac'
    inner = program(here / f"inner-{path.name}", f'case "$*" in *config*) exit 1;; *) {pip};; esac')
    facts = f"import sys, sysconfig; sys.version_info = {(*version, 0, 'final', 0)}"
    facts += f"; sysconfig.get_path = lambda name: '{include or here}'"
    venv = f"mkdir -p .venv/bin; cp {inner} .venv/bin/python; echo {path.name} >> {here}/said"
    return program(
        path,
        f'case "$*" in -c*) exec {sys.executable} -c "{facts}; $2";; *venv*) {venv};; esac',
    )


def make(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess:
    # Without what a make that runs the tests tells those below it, either.
    others = ("PIP_", "UV_", "MAKE", "MFLAGS")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(others)}
    environment |= {"PATH": f"{folder}/bin:/usr/bin:/bin", "CC": "sh", **variables}
    return subprocess.run(
        ["make", *words], cwd=folder, env=environment, capture_output=True, text=True
    )


def said(folder: Path) -> list[str]:
    file = folder / "said"
    return file.read_text().splitlines() if file.exists() else []


def errors(done: subprocess.CompletedProcess) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize(
    ("version", "compiler", "header", "fits"),
    [
        ((3, 10), "sh", True, False),
        ((3, 11), "nowhere", False, True),
        ((3, 13), "nowhere", False, True),
        ((3, 14), "sh", True, True),
        ((3, 14), "nowhere -pthread", True, False),
        ((3, 14), "sh", False, False),
        ((3, 15), "sh", True, False),
    ],
)
def test_which_pythons_fit(folder, version, compiler, header, fits):
    """3.14 where the one package that has no wheel for it can be compiled."""
    if header:
        (folder / "include").mkdir()
        (folder / "include/Python.h").touch()
    own = python(folder / "bin/own", version, folder / "include")
    done = make(folder, MADE, f"PYTHON={own}", CC=compiler)
    assert (done.returncode == 0) == fits == (folder / MADE).exists(), done.stderr
    if not fits:
        (line,) = errors(done)
        assert "no Python 3.11 to 3.13" in line and "make PYTHON=" in line


def test_the_named_python_is_taken_and_none_fetched_for_it(folder):
    program(folder / "bin/uv", f"echo uv >> {folder}/said")
    done = make(folder, MADE, "PYTHON=false nonsense")
    assert done.returncode and len(errors(done)) == 1 and not said(folder)
    python(folder / "bin/python3.12", (3, 12))
    other = python(folder / "bin/other", (3, 11))
    assert make(folder, MADE, f"PYTHON={other}").returncode == 0
    assert said(folder)[0] == "other"


def test_uv_fetches_a_python_where_none_fits(folder):
    fetched = python(folder / "bin/fetched", (3, 13))
    program(
        folder / "bin/uv",
        f'echo "$*" >> {folder}/said\ncase "$*" in *dir) echo /its/place;; '
        f"*find*) echo {fetched};; esac",
    )
    done = make(folder, MADE)
    assert done.returncode == 0, done.stderr
    (line,) = [each for each in done.stdout.splitlines() if "fetches" in each]
    assert f"Python {lock.ENVIRONMENT_PYTHON}" in line and "/its/place" in line
    assert f"python install {lock.ENVIRONMENT_PYTHON}" in said(folder)
    assert "fetched" in said(folder)


def test_an_unfitting_python_installs_the_uv_that_fetches(folder):
    """Hashed, and from the lock. This uv fetches none: one line says why."""
    python(folder / "bin/python3", (3, 15))
    (folder / "broken").touch()
    done = make(folder, MADE)
    assert done.returncode and not (folder / MADE).exists()
    assert "fetches Python" in done.stdout
    assert len(errors(done)) == 1
    (pip,) = [line for line in said(folder) if line.startswith("pip")]
    assert "--require-hashes" in pip
    asked = lock.pins((folder / ".venv/uv.txt").read_text())
    assert asked == {"uv": lock.pins(lock.DEV.read_text("utf-8"))["uv"]}


def test_no_network_to_fetch_from_is_one_line(folder):
    """As uv itself says it."""
    program(
        folder / "bin/uv",
        '[ "$2" = dir ] || { echo "error: Failed" >&2; echo "  cause: no route" >&2; exit 2; }',
    )
    done = make(folder, MADE)
    (line,) = errors(done)
    assert done.returncode and "uv fetched none (no route)" in line


def test_locks_are_installed_once_and_tests_on_top(folder):
    """Two calls of make: the first lock alone, then the second beside it; a third does nothing."""
    python(folder / "bin/python3.12", (3, 12))
    for target in (MADE, FILLED):
        for _ in range(2):
            done = make(folder, target)
            assert done.returncode == 0, done.stderr
    name, pip, first, second = said(folder)
    assert name == "python3.12" and pip.startswith("pip") and "uv.txt" in pip
    assert first.startswith("uv") and second.startswith("uv")
    assert "--require-hashes" in first and "-dev" not in first
    assert "--require-hashes" in second and "requirements-dev.lock" in second


def test_the_demo_is_added_to_a_study_and_looks_at_nothing_else(folder):
    """Its lock says all there is: gradio's own bounds would have another pillow."""
    python(folder / "bin/python3.12", (3, 12))
    for _ in range(2):
        assert make(folder, ".venv/requirements-demo.lock").returncode == 0
    *_, study, added = said(folder)
    assert "requirements.lock" in study and "--no-deps" not in study
    assert added.endswith("--no-deps --requirement requirements-demo.lock")


def test_uv_takes_the_index_that_pip_is_told(folder):
    python(folder / "bin/python3.12", (3, 12))
    assert make(folder, MADE, PIP_INDEX_URL="https://mirror/simple").returncode == 0
    assert said(folder)[-1].startswith("uv https://mirror/simple pip install")


def test_pip_installs_where_uv_cannot(folder):
    python(folder / "bin/python3.12", (3, 12))
    (folder / "broken").touch()
    assert make(folder, MADE).returncode == 0
    assert re.match(r"pip .*--require-hashes.* requirements\.lock$", said(folder)[-1])


def test_an_interrupted_setup_starts_anew(folder):
    python(folder / "bin/python3.12", (3, 12))
    (folder / ".venv").mkdir()
    (folder / ".venv/half").touch()
    assert make(folder, MADE).returncode == 0
    assert not (folder / ".venv/half").exists() and (folder / MADE).exists()


def test_one_python_is_meant_everywhere():
    """What is fetched, and what the image and the environments have."""
    text = (ROOT / "tools/venv.sh").read_text("utf-8")
    assert re.search(r"^FETCHED=(\S+)", text, re.MULTILINE)[1] == lock.ENVIRONMENT_PYTHON
    assert f"python:{lock.ENVIRONMENT_PYTHON}-slim" in (ROOT / "Dockerfile").read_text("utf-8")

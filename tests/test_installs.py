"""The environments of the rules, really made: what their rules import is there."""

import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.test_environments import ROOT, RULES, STEPS, foreign, pip_pins, reached
from tools import lock

pytestmark = pytest.mark.slow
CLIENT = next(filter(None, map(shutil.which, ("micromamba", "mamba", "conda"))), None)


def modules(name: str) -> list[str]:
    """What the scripts of the rules that have this environment import from elsewhere."""
    found = set()
    for stage, script in STEPS:
        environments = re.findall(r"envs/(\w+)\.yaml", RULES[stage])
        # A stage may have rules of both kinds; what suits the smaller one is in both.
        if environments and set(environments) == {name}:
            found |= foreign(reached(ROOT / "scripts" / f"{script}.py"), {"vlg"})
    assert found
    return sorted(found)


def import_all(python: Path, name: str) -> None:
    lines = "\n".join(f"import {module}" for module in modules(name))
    done = subprocess.run([python, "-c", lines], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", lock.ENVIRONMENTS)
def test_the_pins_alone_make_an_environment(name, tmp_path):
    venv.create(tmp_path / "made", with_pip=True)
    python = tmp_path / "made/bin/python"
    pins = tmp_path / "pins.txt"
    pins.write_text("".join(f"{pin}\n" for pin in pip_pins(name).values()))
    install = [python, "-m", "pip", "install", "--no-deps", "--no-input", "--quiet", "-r", pins]
    done = subprocess.run([str(word) for word in install], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    import_all(python, name)


@pytest.mark.skipif(not CLIENT, reason="no conda, mamba or micromamba here")
@pytest.mark.parametrize("name", lock.ENVIRONMENTS)
def test_a_conda_client_makes_the_environment(name, tmp_path):
    file = ROOT / "envs" / f"{name}.yaml"
    words = [CLIENT, "env", "create", "--yes", "--prefix", tmp_path / "made", "--file", file]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    import_all(tmp_path / "made/bin/python", name)


def test_the_image_has_what_the_lock_says():
    """There may be no engine here to build it; its file must at least install the lock, hashed."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "--require-hashes --requirement /opt/requirements.lock" in text


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_the_locks_install_on_each_python(version, tmp_path):
    """As the index says it: what has no wheel is known, and needs no more than is known of it."""
    sources = {"connection-pool"} | ({"immutables"} if version == "3.14" else set())
    words = [sys.executable, "-m", "uv", "pip", "install", "--dry-run", "--require-hashes"]
    words += ["--python-version", version, "--target", tmp_path, "--only-binary", ":all:"]
    words += [word for name in sources for word in ("--no-binary", name)]
    words += [word for file in (lock.LOCK, lock.DEV) for word in ("--requirement", file)]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

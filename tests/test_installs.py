"""The environments of the rules, really made: what their rules import is there."""

import re
import shutil
import subprocess
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
    assert f"python:{lock.ENVIRONMENT_PYTHON}-slim" in text
    assert "--require-hashes --requirement /opt/requirements.lock" in text


def test_tests_install_what_they_need_on_top(tmp_path):
    """Two calls of make: the first lock alone, then the second beside it; a third does nothing."""
    for name in ("Makefile", "requirements.lock", "requirements-dev.lock"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    said = tmp_path / "said"
    # A Python whose environments have a pip that only tells what it is asked for.
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *venv*) mkdir -p .venv/bin; cp {python} .venv/bin/python;; '
        f'*pip*) echo "$*" >> {said};; esac\n'
    )
    python.chmod(0o755)
    for target in (".venv/requirements.lock", ".venv/requirements-dev.lock"):
        for _ in range(2):
            line = ["make", f"PYTHON={python}", target]
            done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
    first, second = said.read_text().splitlines()
    assert "--require-hashes" in first and "-dev" not in first
    assert "--require-hashes" in second and "requirements-dev.lock" in second

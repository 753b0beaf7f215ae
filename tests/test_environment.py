"""What jobs inherit from the environment in which Snakemake runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
# Stands for conda's: with an environment active its folder's place on the PATH is taken, without
# one the first place.
ACTIVATE = """
if [ -n "$CONDA_SHLVL" ]; then
    export PATH="${PATH/$CONDA_PREFIX\\/bin/$1\\/bin}"
else
    export PATH="$1/bin:$PATH"
fi
export CONDA_PREFIX="$1" CONDA_SHLVL=$((${CONDA_SHLVL:-0} + 1))
"""


@pytest.fixture
def conda(tmp_path):
    """A base and an environment, each with a `python` that tells where it is."""
    for name in ("base", "own"):
        folder = tmp_path / name / "bin"
        folder.mkdir(parents=True)
        (folder / "python").write_text(f"#!/bin/sh\necho {name}\n")
        (folder / "python").chmod(0o755)
    (tmp_path / "activate").write_text(ACTIVATE)
    return tmp_path


def found(conda, *, active, behind=True):
    """Which `python` a job of an environment of its own calls."""
    path = [str(conda / "base/bin")] * active + [os.environ["PATH"]]
    environment = {**os.environ, "PATH": os.pathsep.join(path if behind else reversed(path))}
    environment = {k: v for k, v in environment.items() if not k.startswith("CONDA")}
    if active:
        environment |= {"CONDA_SHLVL": "1", "CONDA_PREFIX": str(conda / "base")}
    line = f". '{conda}/activate' '{conda}/own' && python"
    program = (
        "import subprocess; from vlg.workflow import environment; environment.prepare(); "
        f"print(subprocess.check_output(['bash', '-c', {line!r}], text=True))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=SCRIPTS,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize("behind", [False, True])
def test_a_job_with_an_environment_of_its_own_runs_in_it(conda, active, behind):
    assert found(conda, active=active, behind=behind) == "own"


def test_packages_of_the_user_are_not_seen():
    """By a Python that is no virtual environment's, as conda's are none."""
    told = "import site; print(site.ENABLE_USER_SITE)"
    program = (
        "import subprocess, sys; from vlg.workflow import environment; environment.prepare(); "
        f"print(subprocess.check_output([sys._base_executable, '-c', {told!r}], text=True))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=SCRIPTS, capture_output=True, text=True
    )
    assert done.stdout.strip() == "False"

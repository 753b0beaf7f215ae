"""The environment in which the steps of a workflow run, and whether they can write."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from vlg.workflow import versions


def prepare() -> None:
    """Set what every job inherits.

    Rules call `python`: unless a job brings an environment of its own, that must be the one
    Snakemake runs in, whether it was activated or not.

    glibc gives large blocks back to the system and gets them again, zeroed page by page, at every
    layer of a model; told to keep them, a training step on a CPU takes a seventh less time.

    A conda environment of a job's own comes before that one only where none was active: activating
    it puts it in the place of the active one, which stands behind ours. Packages of `pip install
    --user` belong to no environment.

    Jobs record the version of Snakemake, which an environment of their own need not hold.
    """
    os.environ.pop("CONDA_SHLVL", None)
    os.environ["PYTHONNOUSERSITE"] = "1"
    here = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([here, os.environ.get("PATH", os.defpath)])
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**31 - 1))
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**32))
    with suppress(metadata.PackageNotFoundError):
        os.environ[versions.SNAKEMAKE] = metadata.version("snakemake")


def check_writable(files: Iterable[str]) -> None:
    """End with one line if the folder of a file that will be written cannot be written."""
    for folder in sorted({os.path.dirname(file) for file in files}):
        while folder and not os.path.exists(folder):
            folder = os.path.dirname(folder)
        if folder and not os.path.isdir(folder):
            sys.exit(f"error: {folder}: is in the way of a folder; move it and rerun")
        if not os.access(folder or ".", os.W_OK | os.X_OK):
            sys.exit(f"error: {folder or '.'}: cannot be written; make it writable and rerun")

"""Which packages a job computed with: those of requirements.in that it imported."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SNAKEMAKE = "VLG_SNAKEMAKE"  # environment variable: the version of the run that started the job
MODULES = {"pillow": "PIL", "open_clip_torch": "open_clip", "pyyaml": "yaml"}  # named otherwise


def required(text: str) -> list[str]:
    """The packages that a requirements.in names."""
    return re.findall(r"^[A-Za-z][\w.-]*", text, re.MULTILINE)


def used() -> dict[str, str]:
    """{package: version} of what this process has imported, and of Snakemake where it ran it."""
    names = required((ROOT / "requirements.in").read_text(encoding="utf-8"))
    found = {}
    for name in names:
        if MODULES.get(name, name.replace("-", "_")) in sys.modules:
            # Unless it is a module beside the script that happens to have its name.
            with suppress(metadata.PackageNotFoundError):
                found[name] = metadata.version(name)
    if SNAKEMAKE in os.environ:
        found["snakemake"] = os.environ[SNAKEMAKE]
    return found

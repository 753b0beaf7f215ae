"""Resolve requirements*.in into requirements*.lock, and write the same pins into envs/*.yaml.

requirements.lock is what a study needs; requirements-dev.lock is what tests and upkeep need beside
it, and only together do they install; requirements-demo.lock is what the demo adds. A lock holds
one version of every package for all of Python 3.11 to 3.14, so that results don't depend on which
of them is found. Versions already locked stay as they are unless requirements.in rules them out;
`--upgrade` takes the newest releases. `--envs` needs no network: it only rewrites envs/ from the
lock that is there.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
DEV = ROOT / "requirements-dev.lock"
DEMO = ROOT / "requirements-demo.lock"
# Packages whose bounds elsewhere don't count: gradio's metadata wants a pillow before 13, of which
# the demo uses nothing that 13 changed. The study's lock says which there is.
UNBOUND = {DEMO: ("pillow",)}
OLDEST_PYTHON = "3.11"
ENVIRONMENT_PYTHON = "3.13"  # also what tools/venv.sh fetches, and the Dockerfile's


@dataclass(frozen=True)
class Environment:
    """A file of envs/: what it is for, and the packages that its steps import."""

    purpose: str
    packages: tuple[str, ...]


ENVIRONMENTS = {
    "models": Environment(
        "Steps that train, sample or score: everything with torch.",
        (
            "accelerate",
            "diffusers",
            "filelock",
            "huggingface_hub",
            "numpy",
            "open_clip_torch",
            "peft",
            "pillow",
            "pyarrow",
            "pydantic",
            "pydantic_core",
            "safetensors",
            "scipy",
            "tabulate",
            "tensorboard",
            "tokenizers",
            "torch",
            "tqdm",
            "transformers",
        ),
    ),
    "tables": Environment(
        "Steps that make tables, figures and pages from scores: no torch.",
        (
            "jinja2",
            "markupsafe",
            "matplotlib",
            "numpy",
            "pandas",
            "pillow",
            "pydantic",
            "pydantic_core",
            "scipy",
            "tabulate",
        ),
    ),
}


@dataclass(frozen=True)
class Pin:
    """One package of the lock."""

    name: str
    version: str
    marker: str  # PEP 508, empty when the package is wanted everywhere
    hashes: tuple[str, ...]  # 64 hex digits each, one for each file of the release
    wanted_by: frozenset[str]  # names of packages, and "-r requirements.in"

    def __str__(self) -> str:
        return f"{self.name}=={self.version}" + (f" ; {self.marker}" if self.marker else "")


def canonical(name: str) -> str:
    """A package's name as the lock spells it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(text: str) -> set[str]:
    """Canonical names of the packages that a requirements*.in asks for."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return {canonical(re.match(r"[\w.-]+", line)[0]) for line in lines if line and line[0] != "-"}


def blocks(text: str) -> list[str]:
    """What stands above the first package of a lock, and the lines of each package."""
    return re.split(r"^(?=\w)", text, flags=re.MULTILINE)


def pins(text: str) -> dict[str, Pin]:
    """The packages of a lock by canonical name; ValueError at a line that is none of a lock's."""
    result = {}
    for block in blocks(text)[1:]:
        head, *rest = block.replace("\\\n", "\n").splitlines()
        match = re.fullmatch(r"([\w.-]+)==([^\s;]+)(?: ; (.+?))?\s*", head)
        if not match or canonical(match[1]) in result:
            raise ValueError(f"not one exact pin: {head}")
        wanted_by = [name for line in rest for name in re.findall(r"^ +# via (.+)", line)]
        result[canonical(match[1])] = Pin(
            match[1],
            match[2],
            match[3] or "",
            tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})\b", block)),
            frozenset(", ".join(wanted_by).split(", ")),
        )
    return result


def closure(packages: tuple[str, ...], locked: dict[str, Pin]) -> tuple[list[Pin], list[Pin]]:
    """The pins of `packages`, and those of all that they need, each sorted by name."""
    named = {canonical(name) for name in packages}
    missing = named - locked.keys()
    if missing:
        raise KeyError(f"{', '.join(sorted(missing))}: not in {LOCK.name}")
    found = set(named)
    while more := {name for name, pin in locked.items() if pin.wanted_by & found} - found:
        found |= more
    return [locked[name] for name in sorted(named)], [
        locked[name] for name in sorted(found - named)
    ]


def environment(name: str, locked: dict[str, Pin]) -> str:
    """The text of envs/<name>.yaml.

    The pins stand inline because Snakemake copies the file before use, where a relative
    `-r requirements.lock` would lead nowhere.
    """
    direct, indirect = closure(ENVIRONMENTS[name].packages, locked)
    return "\n".join(
        [
            f"# {ENVIRONMENTS[name].purpose}",
            f"# Written by tools/lock.py from {LOCK.name}; change the packages there.",
            "channels:",
            "  - conda-forge",
            "dependencies:",
            f"  - python ={ENVIRONMENT_PYTHON}.*",
            "  - pip",
            "  - pip:",
            "      # imported by the steps",
            *(f"      - {pin}" for pin in direct),
            "      # needed by those",
            *(f"      - {pin}" for pin in indirect),
            "",
        ]
    )


def resolve(lock: Path, upgrade: bool) -> None:
    """Rewrite a lock with uv from the .in file beside it, without any address in it."""
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if not uv:
        sys.exit("uv: not found; run `make lock`, which installs it into .venv first")
    wanted = lock.with_suffix(".in").name
    command = [uv, "pip", "compile", "--quiet", wanted, "--output-file", lock.name]
    command += ["--universal", "--python-version", OLDEST_PYTHON, "--fork-strategy", "fewest"]
    command += ["--generate-hashes", "--annotation-style", "line", "--no-config"]
    command += ["--no-emit-index-url", "--no-emit-find-links"]
    command += ["--custom-compile-command", "make lock"] + ["--upgrade"] * upgrade
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as unbound:
        if lock in UNBOUND:
            unbound.write("\n".join(UNBOUND[lock]))
            unbound.flush()
            command += ["--overrides", unbound.name]
        result = subprocess.run(command, cwd=ROOT, check=False)
    if result.returncode:
        sys.exit(f"{lock.name}: unchanged; see what uv says above")


def leave_out(lock: Path, others: dict[str, Pin]) -> None:
    """Take the packages out of a lock that another has."""
    text = lock.read_text(encoding="utf-8")
    twice = pins(text).keys() & others.keys()
    head, *packages = blocks(text)
    kept = [each for each in packages if canonical(each.split("==")[0]) not in twice]
    lock.write_text("".join([head, *kept]), encoding="utf-8")


def main() -> None:
    """Parse the command line and write the files."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = arguments.add_mutually_exclusive_group()
    which.add_argument("--upgrade", action="store_true", help="take the newest releases")
    which.add_argument("--envs", action="store_true", help="only rewrite envs/ from the lock")
    args = arguments.parse_args()
    if not args.envs:
        resolve(LOCK, args.upgrade)
    locked = pins(LOCK.read_text(encoding="utf-8"))
    if not args.envs:
        for lock in (DEV, DEMO):
            resolve(lock, args.upgrade)
            leave_out(lock, locked)
    for name in ENVIRONMENTS:
        (ROOT / "envs" / f"{name}.yaml").write_text(environment(name, locked), encoding="utf-8")


if __name__ == "__main__":
    main()

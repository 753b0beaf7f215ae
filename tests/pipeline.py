"""A copy of the checkout in which tests run the pipeline through its real command lines."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# What is not copied: it was made here, and a copy makes its own.
MADE = ("results", ".git", ".snakemake", ".venv", ".*_cache", "__pycache__")
JOB = re.compile(r"^(?:local)?rule (\w+):\n((?: +\S.*\n)*)", re.MULTILINE)
WILDCARDS = re.compile(r"^ +wildcards: (.*)$", re.MULTILINE)
ERROR = re.compile(r"^(?:[-\d]+ [:,\d]+ )?error: (.*)$", re.MULTILINE)  # in a log after the time


@dataclass(frozen=True)
class Done:
    """The exit status of a command, and what it wrote to standard output and error."""

    code: int
    output: str

    def refused(self, *parts: str) -> None:
        """Assert that the command failed with one line, in which `parts` occur, and nothing else.

        Snakemake repeats the log of a failed job, so the line may be there twice.
        """
        lines = set(ERROR.findall(self.output))
        assert self.code != 0 and len(lines) == 1, self.output
        assert all(part in "".join(lines) for part in parts), (lines, parts)
        assert "; " in "".join(lines), f"no remedy in {lines}"
        assert "Traceback" not in self.output, self.output


class Checkout:
    """A copy of this checkout, without its results, as a git repository of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns(*MADE), dirs_exist_ok=True)
        if shutil.which("git"):
            who = ["-c", "user.name=test", "-c", "user.email=test", "-c", "commit.gpgsign=false"]
            for words in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "copy"]):
                subprocess.run(["git", *words], cwd=root, capture_output=True)

    def run(self, *command: object, **variables: str) -> Done:
        """Run a command in the copy: one thread a process, no network unless `variables` say so."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        # No PYTHONPATH: that of `make test` names this checkout's package.
        own = {"PATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
        done = subprocess.run(
            [str(word) for word in command],
            cwd=self.root,
            env={**os.environ, **own, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return Done(done.returncode, done.stdout)

    def copy(self, root: Path) -> Checkout:
        """The same with its results, for what changes them: others read these."""
        return Checkout.at(shutil.copytree(self.root, root, symlinks=True))

    @classmethod
    def at(cls, root: Path) -> Checkout:
        """A tree that is a copy already."""
        checkout = cls.__new__(cls)
        checkout.root = root
        return checkout

    def snakemake(self, *words: object, overlays: Sequence[str] = (), **config: str) -> Done:
        """Run Snakemake on the reduced study.

        words: targets and options; overlays: files over the reduced study's config; config: what
        to change in it, as YAML by section.
        """
        changes = [f"{name}={value}" for name, value in config.items()]
        return self.run(
            *(sys.executable, "-m", "snakemake", *words),
            *(["--config", *changes] if changes else []),
            *("--cores", 2, "--configfile", "tests/reduced.yaml", *overlays),
        )

    def planned(self, overlays: Sequence[str] = (), **config: str) -> set[str]:
        """The jobs that a run would start, as `rule` or `rule wildcard=value, ...`."""
        done = self.snakemake("--dry-run", overlays=overlays, **config)
        assert done.code == 0, done.output
        jobs = set()
        for rule, details in JOB.findall(done.output):
            wildcards = WILDCARDS.search(details)
            # an empty one, as of the first training seed, is left out
            given = [w for w in wildcards[1].split(", ") if w[-1] != "="] if wildcards else []
            jobs.add(f"{rule} {', '.join(given)}".strip())
        assert jobs or "Nothing to be done" in done.output, done.output
        return jobs - {"all"}


def command(script: str, settings: dict[str, Any], **options: Any) -> list[str]:
    """The command line of scripts/<script>.py; an option that is True is a flag."""
    words = [sys.executable, f"scripts/{script}.py", "--settings", json.dumps(settings)]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return words


def on_small_disk(
    checkout: Checkout, folder: Path, size: str, script: str, settings: dict, **options: Any
) -> list[Done]:
    """Run a script whose --out is on a disk of `size`, then again with room enough.

    After each run the disk is copied, to folder/0 and folder/1. The list is empty where the system
    lets this user mount nothing.
    """
    disk = folder / "disk"
    disk.mkdir(parents=True)
    line = shlex.join(command(script, settings, **options, out=disk / "out", log=disk / "log"))
    place, *copies = (shlex.quote(str(folder / name)) for name in ("disk", "0", "1"))
    runs = [f"{line}; printf '\\n=== %d\\n' $?; cp -a {place} {copy}" for copy in copies]
    mount = f"mount -t tmpfs -o size={size} none {place} || exit"
    program = "\n".join([mount, runs[0], f"mount -o remount,size=100m {place}", runs[1]])
    if not shutil.which("unshare"):
        return []
    # In a mount namespace of its own: what is mounted there is gone with the process.
    done = checkout.run("unshare", "--map-root-user", "--mount", "sh", "-c", program)
    parts = re.split(r"^=== (\d+)\n", done.output, flags=re.MULTILINE)
    return [Done(int(code), said) for said, code in zip(parts[::2], parts[1::2], strict=False)]

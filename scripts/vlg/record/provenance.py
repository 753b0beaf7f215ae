"""How a study was made, completely enough to make it again: `provenance.json`."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from vlg.files import sha256

# What each job logs when it ends (vlg.workflow.cli).
COST = re.compile(r" cost: (\{.*\})$", re.MULTILINE)
PACKAGES = re.compile(r" packages: (\{.*\})$", re.MULTILINE)


def packages(logs: Path) -> dict[str, str]:
    """{package: version} of what the jobs of a study computed with, from their logs.

    A package of which jobs had several versions tells all of them.
    """
    found: dict[str, set[str]] = {}
    for told in _last(logs, PACKAGES).values():
        for name, version in told.items():
            found.setdefault(name, set()).add(version)
    return {name: ", ".join(sorted(versions)) for name, versions in sorted(found.items())}


def pipeline(root: Path) -> dict[str, Any]:
    """The git commit of the pipeline, whether files differ from it, and a hash of how; None
    outside a checkout. `lock` is the checksum of requirements.lock."""

    def git(*words: str) -> bytes | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout

    commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "-uall")
    lock = root / "requirements.lock"
    result: dict[str, Any] = {
        "commit": commit.decode().strip() if commit else None,
        "modified": bool(changes.strip()) if changes is not None else None,
        "changed": [line[3:] for line in (changes or b"").decode().splitlines()],
        "diff_sha256": None,
        "lock_sha256": sha256(lock) if lock.is_file() else None,
    }
    if result["modified"]:
        digest = hashlib.sha256(git("diff", "HEAD", "--binary") or b"")
        for line in (changes or b"").decode().splitlines():
            path = root / line[3:]
            if line.startswith("??") and path.is_file():
                digest.update(f"\0{line[3:]}\0{sha256(path)}".encode())
        result["diff_sha256"] = digest.hexdigest()
    return result


def hardware() -> dict[str, Any]:
    """Processor, cores and memory, and what GPUs the driver reports, by name."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        pass
    pages = {name: os.sysconf(name) for name in ("SC_PHYS_PAGES", "SC_PAGE_SIZE")}
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gb": round(pages["SC_PHYS_PAGES"] * pages["SC_PAGE_SIZE"] / 2**30, 1),
        "gpus": gpus(Path("/proc/driver/nvidia/gpus")),
        "system": platform.platform(),
    }


def gpus(driver: Path) -> list[str]:
    """Names of the GPUs below the NVIDIA driver's folder, in the order of their addresses."""
    names = []
    for folder in sorted(driver.iterdir()) if driver.is_dir() else []:
        try:
            facts = dict(
                line.split(":", 1) for line in (folder / "information").read_text().splitlines()
            )
            names.append(facts["Model"].strip())
        except (OSError, ValueError, LookupError):
            names.append(folder.name)
    return names


def costs(logs: Path) -> dict[str, Any]:
    """{job: seconds, processor seconds and memory of its last run} from the logs of a study, and
    `total`, the sums and the largest memory."""
    jobs = _last(logs, COST)
    total = {
        name: (max if name == "memory_mb" else sum)(job[name] for job in jobs.values())
        for name in ("seconds", "processor_seconds", "memory_mb")
        if jobs
    }
    return {"jobs": jobs, "total": {name: round(value, 1) for name, value in total.items()}}


def _last(logs: Path, pattern: re.Pattern[str]) -> dict[str, Any]:
    """{job: what its last run told} of the logs in which the pattern's JSON is found."""
    told = {}
    for path in sorted(logs.rglob("*.log")) if logs.is_dir() else []:
        if found := pattern.findall(path.read_text("utf-8", errors="replace")):
            told[path.relative_to(logs).with_suffix("").as_posix()] = json.loads(found[-1])
    return told


def repeat(commit: str | None) -> list[str]:
    """The commands that make the study again, from a copy of the repository and an archive."""
    return [
        f"git checkout {commit or 'COMMIT'}",
        "make study CONFIG=config.yaml  # the config.yaml of the archive, saved under its own name",
    ]


def record(settings: dict[str, Any], root: Path, logs: Path) -> dict[str, Any]:
    """What does not come from a study's own files."""
    made_by = pipeline(root)
    return {
        "config": settings,
        "pipeline": made_by,
        "repeat": repeat(made_by["commit"]),
        "python": sys.version.split()[0],
        "packages": packages(logs),
        "hardware": hardware(),
        "cost": costs(logs),
    }

"""The state of a training on disk, from which a run continues exactly.

A state is a folder: one safetensors file per group of tensors (weights, ema, AdamW's exp_avg and
exp_avg_sq, and what a method keeps of its own), counters.json, the logs so far, and a manifest with
checksums.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from vlg.errors import UserError
from vlg.files import (
    atomic_folder,
    check_manifest,
    read_json,
    write_json,
    write_manifest,
    write_text,
)
from vlg.models.components import Tensors, save_tensors

log = logging.getLogger("vlg")


def write_state(
    folder: Path, groups: dict[str, Tensors], counters: dict[str, Any], texts: dict[str, str]
) -> None:
    """Write a whole state folder or, when the disk is full or the process is killed, nothing."""
    with atomic_folder(folder) as temporary:
        for name, tensors in groups.items():
            save_tensors(temporary / f"{name}.safetensors", tensors)
        for name, text in texts.items():
            write_text(temporary / name, text)
        write_json(temporary / "counters.json", counters)
        write_manifest(temporary)


def read_state(folder: Path) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """(groups, counters) of a state folder. Raises UserError when it is incomplete or damaged."""
    from safetensors.torch import load_file

    check_manifest(folder)
    groups = {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}
    return groups, read_json(folder / "counters.json")


def saved_states(folder: Path) -> list[Path]:
    """The states in a resume folder, newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def read_if_fits(state: Path, fingerprint: dict[str, Any]) -> Path | None:
    """`state` if it is whole and of the run that `fingerprint` describes, else None."""
    try:
        check_manifest(state)
        counters = read_json(state / "counters.json")
    except UserError:
        return None
    fits = all(counters.get(key) == value for key, value in fingerprint.items())
    return state if fits else None


def newest_state(folder: Path, fingerprint: dict[str, Any]) -> Path | None:
    """The newest whole state in a resume folder that belongs to this very run, or None.

    `fingerprint` says what the run is made of (settings, inputs, code). Damaged states and those
    of another run are of no use any more: they are deleted, with a warning.
    """
    for state in saved_states(folder):
        try:
            check_manifest(state)
            counters = read_json(state / "counters.json")
        except UserError as error:
            log.warning("damaged state %s (%s); trying the one before it", state.name, error)
            shutil.rmtree(state)
            continue
        changed = [key for key, value in fingerprint.items() if counters.get(key) != value]
        if changed:
            log.warning("%s is of another run (%s differs); deleted", state, ", ".join(changed))
            shutil.rmtree(state)
            continue
        return state
    return None


def make_clean(resume: Path, *targets: Path) -> None:
    """Make the resume folder and remove what killed processes left half-written.

    Only one process writes these paths, so temporary folders of theirs (see `files.atomic_folder`)
    belong to nobody any more.
    """
    resume.mkdir(parents=True, exist_ok=True)
    leftovers = list(resume.glob(".tmp-*"))
    for target in targets:
        leftovers += target.parent.glob(f".tmp-{target.name}-*")
    for leftover in leftovers:
        shutil.rmtree(leftover, ignore_errors=True)

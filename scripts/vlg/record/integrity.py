"""Whether a study is what its steps made: checksums of every file, and scores of today's pictures.

Each step leaves a checksum of what it wrote: beside a file (`prompts.tsv.sha256`), in the manifest
of a folder (`models/base/manifest.json`) or, for pictures, in their metadata. `check` compares all
of them with what is there, and `repair` restores or deletes what differs; no model is loaded.
"""

from __future__ import annotations

import csv
import functools
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlg.data.pictures import METADATA, read_metadata
from vlg.errors import UserError
from vlg.files import (
    CARD,
    CHECKSUM,
    HALF,
    MANIFEST,
    atomic,
    identity,
    own_checksum,
    read_json,
    sha256,
)

NO_GUIDE = "none"  # the weights of a guide where there is none
# Written while a step runs, or for looking at; nothing is computed from them.
UNCHECKED = ("logs", "tensorboard")
OF_PEOPLE = ("votes.csv", ".votes.csv.lock")  # who vote in the demo; it grows as they do
RESUME = ".resume-"  # the states of a fine-tuning that is not finished (vlg.train.loop)
# By which output the DAG knows a folder whose manifest is none of its outputs.
OUTPUTS = {"gallery": "index.html", "sheets": "base.jpg"}
# Folders into which many jobs write: each file has its checksum beside it.
SHARED = ("tables", "figures", "report")
STAMP = ".snakemake_timestamp"  # Snakemake's own, in a folder that is an output
# What a run without targets asks for by name (rule all): deleted files of these come back by
# themselves, others only when they are asked for.
WANTED = ("images", "refined", "references", *OUTPUTS, *SHARED, "provenance.json")


@dataclass(frozen=True)
class Problem:
    """A file that is not as a step left it, and what puts it right.

    what: in words. mark: the output by which the DAG knows what has to be made anew, None when
    nothing has to. expected: the checksum that the file should have, "" when there is none.
    """

    path: Path
    what: str
    mark: Path | None = None
    expected: str = ""


@dataclass
class Report:
    """What `check` found: `problems`, how many files were compared, and `intact`, where a file
    of each checksum is."""

    study: Path
    problems: list[Problem] = field(default_factory=list)
    files: int = 0
    intact: dict[str, Path] = field(default_factory=dict)
    listed: set[Path] = field(default_factory=set)
    base: set[str] = field(default_factory=set)  # checksums that models/base should have

    def compare(self, file: Path, expected: str, against: str, mark: Path) -> None:
        """Note whether a file has the checksum that `against` lists."""
        self.listed.add(file)
        self.files += 1
        if not file.is_file():
            self.add(file, f"missing, though {against} lists it", mark, expected)
        elif sha256(file) != expected:
            self.add(file, f"differs from {against}", mark, expected)
        else:
            self.intact.setdefault(expected, file)

    def add(self, *words: Any) -> None:
        """Note a problem."""
        self.problems.append(Problem(*words))

    def source(self, problem: Problem) -> Path | None:
        """An intact file of the same content."""
        return self.intact.get(problem.expected)

    def waits(self, problem: Problem) -> bool:
        """Whether a checkpoint's file is one of the base's, from which it is restored once that
        is whole: it costs no training."""
        inside = problem.path.relative_to(self.study).parts
        checkpoint = inside[0] == "models" and "-" in inside[1]
        return checkpoint and problem.expected in self.base

    def deleted(self, problem: Problem) -> list[Path]:
        """The files to delete for a problem, so that a run makes them anew."""
        if self.source(problem) or self.waits(problem):
            return []
        paths = [problem.path, *([problem.mark] if problem.mark else [])]
        return [path for path in dict.fromkeys(paths) if path.exists()]

    def targets(self) -> list[Path]:
        """What a run has to be asked for by name, so that all that differs is made anew."""
        marks = {p.mark for p in self.problems if p.mark and not self.source(p)}
        marks -= {p.mark for p in self.problems if self.waits(p)} - {
            p.mark for p in self.problems if not self.waits(p)
        }
        return sorted(m for m in marks if m.relative_to(self.study).parts[0] not in WANTED)


def check(study: Path) -> Report:
    """Compare every file below results/<study> with its checksum, and every score with its picture.

    Problems are in the order of their paths. A half-finished study is checked as far as it goes.
    """
    report = Report(study)
    base = study / "models/base" / MANIFEST
    if base.is_file():
        report.base = {facts["sha256"] for _, facts in _manifest_files(base)}
    for place, folders, names in os.walk(study):
        folder = Path(place)
        folders[:] = sorted(n for n in folders if not n.startswith((HALF, RESUME)) and n != "logs")
        for name in sorted(names):
            path = folder / name
            if name == MANIFEST:
                _check_manifest(report, path)
            elif name == METADATA + CHECKSUM:
                _check_beside(report, path)
                _check_pictures(report, folder)
            elif path.suffix == CHECKSUM:
                _check_beside(report, path)
    _check_unlisted(report)
    for path in sorted((study / "scores").rglob("*.csv")):
        try:
            line, what = next(_stale(path, study), (0, ""))
        except UserError:
            continue  # metadata or a manifest is damaged, and named already
        if line:
            report.add(path, f"stale: line {line} {what}", path)
    report.problems.sort(key=lambda problem: problem.path)
    return report


def _manifest_files(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    """(file, {"sha256", "bytes"}) of each file that a manifest lists; [] when it is damaged."""
    try:
        manifest = read_json(path)
        if manifest["sha256"] != own_checksum(manifest):
            return []
        return [(path.parent / name, facts) for name, facts in manifest["files"].items()]
    except (UserError, LookupError, TypeError, AttributeError):
        return []


def _check_manifest(report: Report, path: Path) -> None:
    report.listed.add(path)
    if path.parent.name in SHARED and path.parent.parent == report.study:
        report.add(path, "left over: the files beside it have checksums of their own")
        return
    files = _manifest_files(path)
    # A folder may hold another that has a manifest, too: steps declare the outer one.
    outer = [p / MANIFEST for p in path.parents if report.study in p.parents]
    mark = [place for place in outer if place.is_file()][-1]
    mark = mark.with_name(OUTPUTS.get(mark.parent.name, MANIFEST))
    listed = [file for file, _ in files]
    if mark.parent.name == "sheets" and listed and mark not in listed:  # there is no base
        mark = listed[0]
    if not files:
        report.add(path, "differs from its own checksum", mark)
        report.listed.update(path.parent.rglob("*"))  # nothing can be said about them
    # States take by far the most space, and who wants no more steps of a variant may delete them.
    state = path.parent / "state"
    spared = path.parent.parent.name == "training" and not state.exists()
    for file, facts in files:
        if not (spared and state in file.parents):
            report.compare(file, facts["sha256"], MANIFEST, mark)


def _check_beside(report: Report, path: Path) -> None:
    file = path.with_name(path.name.removesuffix(CHECKSUM))
    report.listed.add(path)
    try:
        expected, _, name = path.read_text("ascii").partition("  ")
        if name != f"{file.name}\n":
            expected = ""
    except (OSError, UnicodeDecodeError):
        expected = ""
    report.compare(file, expected, path.name, file)


def _check_pictures(report: Report, folder: Path) -> None:
    try:
        rows = {folder / row["file_name"]: row["sha256"] for row in read_metadata(folder)}
    except (UserError, LookupError, TypeError):
        report.listed.update(folder.iterdir())  # it is named already
        return
    for file, expected in rows.items():
        report.compare(file, expected, METADATA, folder / METADATA)


def _check_unlisted(report: Report) -> None:
    """Name what no checksum is about."""
    for place, folders, names in os.walk(report.study):
        folder = Path(place)
        for name in [n for n in (*folders, *names) if n.startswith(HALF)]:
            report.add(folder / name, "left over from a step that was killed")
        folders[:] = [n for n in folders if not n.startswith((HALF, RESUME, *UNCHECKED))]
        for name in names:
            path = folder / name
            if path in report.listed or name == STAMP or name.startswith(HALF):
                continue
            if place == report.study and name in OF_PEOPLE:
                continue
            home = report.study.joinpath(*path.relative_to(report.study).parts[:-1][:2])
            if home.parent.name in ("models", "training") and not (home / MANIFEST).exists():
                report.add(home / MANIFEST, "missing", home / MANIFEST)
                report.listed.update(home.rglob("*"))
                continue
            if name in (METADATA, CARD) or path.suffix in (".csv", ".tsv", ".json"):
                report.add(path, "has no checksum", path)
            else:
                report.add(path, "extra: no step lists it")


def repair(report: Report) -> list[str]:
    """Restore what is there a second time, delete the rest of what differs; what was done."""
    done = []
    for problem in report.problems:
        source = report.source(problem)
        if source:
            with atomic(problem.path) as temporary:
                shutil.copyfile(source, temporary)
            done.append(f"restored {problem.path} from {source}")
        for path in report.deleted(problem):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            done.append(f"deleted {path}")
    return done


# --- scores -------------------------------------------------------------------------------------


def check_scores(paths: Iterable[Path], study: Path) -> None:
    """UserError unless every score is that of a picture, a judge and a guide of today.

    paths: score files. study: results/<study>, with the pictures' metadata and the models'
    manifests. Folders that were deleted to save space are not compared.
    """
    for path in paths:
        for line, what in _stale(path, study):
            raise UserError(f"{path}: line {line} {what}; delete the file and rerun")


def _stale(path: Path, study: Path) -> Iterator[tuple[int, str]]:
    """(line, what differs) of the rows of a score file that belong to nothing of today."""
    drawn = functools.cache(lambda folder: _metadata(study / folder))
    weights = functools.cache(lambda name: _weights(study / "models" / name))
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        return  # a file that cannot be read is named elsewhere
    for line, row in enumerate(rows, start=2):
        models = {"weights": row.get("model"), "judge_weights": "judge", "guide_weights": "guide"}
        if any(not row.get(name) for name in ("sha256", "picture", "model", *models)):
            yield line, "does not say which picture it scores, and by which weights"
            continue
        folder, _, name = row["picture"].rpartition("/")
        pictures = drawn(folder)
        picture = None if pictures is None else pictures.get(name, {})
        if picture is not None and picture.get("sha256") != row["sha256"]:
            yield line, f"scores another {row['picture']} than is there"
        for column, model in models.items():
            if weights(model) not in (None, row[column]) and row[column] != NO_GUIDE:
                yield line, f"is of other weights than models/{model} ({column})"


def _metadata(folder: Path) -> dict[str, dict[str, Any]] | None:
    """{file name: row} of a picture folder, None when it is not there."""
    if not (folder / METADATA).is_file():
        return None
    return {row["file_name"]: row for row in read_metadata(folder)}


def _weights(folder: Path) -> str | None:
    return identity(folder) if (folder / MANIFEST).is_file() else None

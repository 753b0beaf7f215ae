"""Benchmarks: published prompts that a study takes by name, `prompts: {source: geneval}`.

The file `data/benchmarks/<name>.py` is the benchmark `<name>`. At its top it says, in literals,

    SOURCE   where it is: `github:owner/name@commit`, or `hub:owner/name@commit` for a data set
    FILES    {path there: SHA-256, or git's hash of the file; None where the Hub's own must do}
    NUMBERS  {category: number of its prompts}
    JUDGED   {kind of judge: keys}, where the first file says what a picture must show: the first
             key names that file, and the others must be given with it. May be missing
    RATED    the file that has people's ratings of pictures, in a form that `vlg.data.ratings`
             reads. May be missing

and holds `rows(files)`, which makes (line, {column: text}) of the files, and lets a KeyError,
TypeError or ValueError say what is not as it was published. The Snakefile reads the literals alone.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vlg import plugins
from vlg.data import github, hub, prompts
from vlg.data.text import composed
from vlg.errors import UserError

log = logging.getLogger("vlg")

PATTERN = re.compile(rf"(?P<name>[a-z][a-z0-9_]*)(@(?P<revision>{hub.REVISION}))?", re.ASCII)
WRONG = (LookupError, TypeError, ValueError, AttributeError, csv.Error)


@dataclass(frozen=True)
class Benchmark:
    """One benchmark at the commit that it is pinned to, or at another revision."""

    name: str
    source: str
    files: dict[str, str | None]
    numbers: dict[str, int]
    judged: dict[str, tuple[str, ...]]
    rated: str | None = None

    def number(self, categories: list[str] | None) -> int:
        """How many prompts there are of these categories (None: all)."""
        wanted = None if categories is None else {*map(composed, categories)}
        return sum(n for name, n in self.numbers.items() if wanted is None or name in wanted)

    @property
    def first(self) -> str:
        """Its first file, by which judges know what a picture must show."""
        return next(iter(self.files))

    def known_by(self, sha256: str | None) -> Benchmark:
        """The same, its one file known by this checksum, too (None: by what is known already).

        UserError where there are several files, and where one of GitHub is known by nothing.
        """
        if sha256 and len(self.files) > 1:
            raise UserError(
                f"config: prompts.sha256: {self.name} has {len(self.files)} files; it must be null"
            )
        if hub.parse(self.source):
            return self
        files = {name: known or sha256 for name, known in self.files.items()}
        if missing := [name for name, known in files.items() if not known]:
            other = "" if len(files) > 1 else ", or give prompts.sha256"
            raise UserError(
                f"config: prompts.source: the checksum of {missing[0]} at this revision is not "
                f"known; leave out the revision{other}"
            )
        return replace(self, files=files)

    def repository(self, key: str, notes: Path) -> hub.Repository | github.Repository:
        """Where its files are got from. key, notes: as of `hub.Repository`."""
        if found := hub.parse(self.source):
            result = hub.Repository(found, "dataset", key, notes)
            if missing := [name for name in self.files if name not in result.files]:
                raise UserError(
                    f"{key}: {self.source} has no {missing[0]}; name another revision, or give the "
                    "prompts as a file"
                )
            return result
        return github.Repository(github.parse(self.source), self.files, key)

    def read(self, folder: Path) -> list[prompts.Row]:
        """Its prompts from the files in `folder`, as `prompts.read` gives them, each once.

        UserError where a file is not as it was published.
        """
        files = [folder / name for name in self.files]
        where = f"{self.source}: {self.first if len(files) == 1 else 'its files'}"
        return prompts.checked(where, self._once(where, files))

    def _once(self, where: str, files: list[Path]) -> Iterator[tuple[int, prompts.Row]]:
        rows = plugins.load(plugins.BENCHMARKS, self.name).rows(files)
        last, repeated, seen = 0, 0, set()
        try:
            for line, cells in rows:
                texts = {column: _text(cell) for column, cell in cells.items()}
                last, place = line, composed(texts["Prompt"])
                if place and place in seen:
                    repeated += 1
                    continue
                seen.add(place)
                yield line, texts
        except WRONG as error:
            raise UserError(
                f"{where}: behind line {last}: not as {self.name} is published "
                f"({type(error).__name__}: {error}); take another revision, or give the prompts as "
                "a file"
            ) from None
        if repeated:
            log.warning("%s: %d prompts occur again, each is taken once", self.name, repeated)


@functools.cache
def parse(text: str) -> Benchmark | None:
    """The benchmark that `name` or `name@revision` names; None where there is none of that name."""
    found = PATTERN.fullmatch(text)
    if not found or found["name"] not in names() or ".." in text:
        return None
    said = {
        key: plugins.constant(plugins.BENCHMARKS, found["name"], key, {})
        for key in ("SOURCE", "FILES", "NUMBERS", "JUDGED")
    }
    source, files = said["SOURCE"], said["FILES"]
    if found["revision"]:
        source = f"{source.partition('@')[0]}@{found['revision']}"
        if source != said["SOURCE"]:
            files = dict.fromkeys(files)
    rated = plugins.constant(plugins.BENCHMARKS, found["name"], "RATED")
    return Benchmark(found["name"], source, files, said["NUMBERS"], said["JUDGED"], rated)


def names() -> list[str]:
    """The names of all benchmarks, in alphabetical order."""
    return plugins.names(plugins.BENCHMARKS)


# --- what files have in common --------------------------------------------------------------------


def read_text(path: Path) -> str:
    """The text of a UTF-8 file."""
    return path.read_bytes().decode("utf-8-sig")


def csv_lines(path: Path, **form: Any) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, its cells by column) of a table; form: how it is written, as `csv` has it."""
    table = csv.DictReader(io.StringIO(read_text(path), newline=""), **form)
    for row in table:
        if None in row or None in row.values():
            raise ValueError(f"line {table.line_num} has another number of cells than the header")
        yield table.line_num, row


def json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """(line number, its value) of a JSON Lines file."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield number, json.loads(line)


def _text(cell: Any) -> str:
    if not isinstance(cell, str):
        raise TypeError(f"{cell!r} is no text")
    return cell.strip()

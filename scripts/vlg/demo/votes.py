"""The file of people's votes, results/<study>/votes.csv: a line a vote, whole or not there.

A vote is on the disk before it is answered, so that a kill loses at most the one that was being
given. Several pages, and several demos of one study, may write at once.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path

from vlg.errors import UserError
from vlg.files import atomic

LEFT, RIGHT, TIE, BAD = "left", "right", "tie", "both_bad"
VOTES = (LEFT, RIGHT, TIE, BAD)
# time: when, in UTC, to the second. ballot: what was shown once to one person, a random name.
# rater: a name of their own choice, or guest-<random>. id, prompt, seed: of both pictures.
# <side>_model, _arm, _round: who drew the picture on that side, as in score files (no arm and round
# 0 for a plain picture). vote: one of VOTES. <side>_sha256: of the picture's file.
COLUMNS = ("time", "ballot", "rater", "id", "prompt", "seed")
COLUMNS += ("left_model", "left_arm", "left_round", "right_model", "right_arm", "right_round")
COLUMNS += ("vote", "left_sha256", "right_sha256")

Row = Mapping[str, str]


class Votes:
    """The votes of a study."""

    def __init__(self, path: Path) -> None:
        from filelock import FileLock

        self.path = path
        self._lock = FileLock(path.with_name(f".{path.name}.lock"))

    def rows(self) -> list[dict[str, str]]:
        """All votes, as they were given. UserError for a file that is something else."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        except UnicodeDecodeError as error:
            raise UserError(f"{self.path}: is not text ({error}); move it away") from None
        text = text[: text.rfind("\n") + 1]  # what a killed demo did not finish is no vote
        reader = csv.DictReader(io.StringIO(text, newline=""))
        if text and tuple(reader.fieldnames or ()) != COLUMNS:
            raise UserError(f"{self.path}: its columns are not {', '.join(COLUMNS)}; move it away")
        return list(reader)

    def add(self, row: Row) -> None:
        """Append a vote, and have it on the disk."""
        with self._lock, open(self.path, "a+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            whole = file.read().rfind(b"\n") + 1
            if whole < size:
                file.truncate(whole)
            line = _line(dict.fromkeys(COLUMNS), header=True) if not whole else ""
            file.write((line + _line(row)).encode())
            file.flush()
            os.fsync(file.fileno())

    def take_back(self, ballot: str) -> bool:
        """Remove the vote of a ballot; whether there was one."""
        with self._lock:
            rows = self.rows()
            kept = [row for row in rows if row["ballot"] != ballot]
            if len(kept) == len(rows):
                return False
            with atomic(self.path) as temporary:
                lines = [_line(dict.fromkeys(COLUMNS), header=True), *map(_line, kept)]
                temporary.write_text("".join(lines), encoding="utf-8", newline="")
        return True


def _line(row: Row, header: bool = False) -> str:
    """A row, or the names of the columns, as a line of CSV."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if header:
        writer.writeheader()
    else:
        writer.writerow(row)
    return text.getvalue()

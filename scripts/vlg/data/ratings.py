"""What people say of pictures, as a .csv file has it: scores, votes, or the demo's votes.

Or a .json file as GenAI-Bench publishes it: {item: {"prompt": text, "models": {name: [score of each
rater]}}}, of models that a study may have as sets of pictures under the same names in lower case.

What can be told before anything is drawn is told here: the form of the file, and whose pictures it
is about. What it comes to is `vlg.analysis.ratings`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlg.errors import UserError

SCORES = ("rater", "model", "score")
VOTES = ("rater", "model_a", "model_b", "winner")
# The demo's columns of who drew each side, by whom a vote is about.
SIDES = {f"model_{end}": f"{side}_" for end, side in (("a", "left"), ("b", "right"))}


@dataclass(frozen=True)
class Told:
    """voted: whether they are votes. demo: whether the demo wrote them. rows: (file and line, cell
    by column) of each line; of the demo's, VOTES but `rater` are still to be made. published:
    whether they are of more models and prompts than a study need have."""

    voted: bool
    demo: bool
    rows: list[tuple[str, dict[str, str]]]
    published: bool = False


def read(path: Path) -> Told:
    """The lines of a file. UserError where it has no such form."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); give a .csv file in UTF-8") from None
    if path.suffix == ".json":
        return Told(False, False, _published(path, text), published=True)
    try:
        given, lines = _lines(text)
    except csv.Error as error:
        raise UserError(f"{path}: no table ({error}); mend it") from None
    demo = _is_demo(given)
    names = [*given, *VOTES] if demo else given
    voted = "winner" in names
    if missing := [name for name in (VOTES if voted else SCORES) if name not in names]:
        raise UserError(
            f"{path}: has no column {missing[0]}; scores have {', '.join(SCORES)} and votes "
            f"{', '.join(VOTES)}, both with id or prompt and seed"
        )
    if not {"id", "prompt"} & set(names):
        raise UserError(f"{path}: has no column id or prompt; say which prompt a picture is of")
    rows = []
    for number, cells in lines:
        where = f"{path}: line {number}"
        if len(cells) > len(given):
            raise UserError(f"{where}: more cells than the header has; quote a cell with a comma")
        row = dict.fromkeys(names, "") | dict(zip(given, map(str.strip, cells), strict=False))
        rows.append((where, row))
    return Told(voted, demo, rows)


def check(path: Path, models: Collection[str]) -> None:
    """UserError for a file of no such form, or about a model that is none of the study's.

    models: their names; rounds of arms are `base best_of_n round 3`, which only tables can tell.
    """
    told = read(path)
    if told.published:
        return
    columns = tuple(SIDES) if told.voted else ("model",)
    if told.demo:
        columns = tuple(f"{side}model" for side in SIDES.values())
    for where, row in told.rows:
        for column in columns:
            if row[column].split(" ")[0] not in models:
                raise stranger(where, row[column], models)


def stranger(where: str, name: str, models: Collection[str]) -> UserError:
    """What is said of a name that is none of these models'."""
    known = ", ".join([*models][:8]) + (", ..." if len(models) > 8 else "")
    return UserError(f"{where}: unknown model {name!r}; there are {known}; mend or remove it")


def _published(path: Path, text: str) -> list[tuple[str, dict[str, str]]]:
    """Rows of GenAI-Bench's file; a rater is a place in its lists."""
    rows = []
    try:
        for item, entry in json.loads(text).items():
            for model, scores in entry["models"].items():
                cells = {"model": model.lower(), "prompt": entry["prompt"].strip()}
                rows += [
                    (f"{path}: {item}", {**cells, "rater": str(place), "score": str(score)})
                    for place, score in enumerate(scores, 1)
                ]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: not as GenAI-Bench publishes its ratings ({type(error).__name__}: {error}); "
            "give a .csv file"
        ) from None
    return rows


def _lines(text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """(header, (line, cells) of each row that is not empty) of a .csv file."""
    header = next(csv.reader(io.StringIO(text, newline="")), [])
    header = [name.strip() for name in header]
    if _is_demo(header):
        text = text[: text.rfind("\n") + 1]  # a vote that was being written is none
    rows = csv.reader(io.StringIO(text, newline=""))
    next(rows, None)
    return header, [(rows.line_num, cells) for cells in rows if cells]


def _is_demo(header: Sequence[str]) -> bool:
    return {"vote", *(f"{side}model" for side in SIDES.values())} <= {*header}

"""Questions about what prompts say, with the answers that a true picture gives: read and made.

A question may have parents, other questions of its prompt without which it makes no sense ("Is the
circle red?" where there is no circle), as in the Davidsonian Scene Graph (DSG, arXiv:2310.18235).
Read are a table of one's own, DSG's and GenEval 2's published files, and GenEval's
`evaluation_metadata.jsonl`, of which questions are made; for the shapes world they are made of its
grammar.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.data.text import composed
from vlg.errors import UserError

if TYPE_CHECKING:
    from vlg.shapes import captions

YES = "yes"
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
COLUMNS = ("prompt", "question", "answer", "number", "parent")
# DSG's own names of these.
DSG = {
    "text": "prompt",
    "question_natural_language": "question",
    "proposition_id": "number",
    "dependency": "parent",
    "item_id": "item",
}


@dataclass(frozen=True)
class Question:
    """number: of the question among its prompt's, from 1; parents: the numbers of others."""

    number: int
    text: str
    answer: str = YES
    parents: tuple[int, ...] = ()


class Questions:
    """The questions of prompts; `source` is a file, or `shapes`. UserError where it is wrong."""

    def __init__(self, source: str, root: Path = Path()) -> None:
        self.source = source
        self._made = {} if source == "shapes" else read(root / source)

    def of(self, prompt: str) -> Sequence[Question]:
        """Those of one prompt, in order; UserError when there are none."""
        place = key(prompt)
        if self.source == "shapes" and place not in self._made:
            from vlg.shapes import captions

            said = captions.parse(prompt)
            self._made[place] = of_shapes(said) if said else ()
        if not self._made.get(place):
            raise UserError(
                f"{self.source}: no question about the prompt {prompt!r}; add one, or leave this "
                "judge out"
            )
        return self._made[place]


def key(prompt: str) -> str:
    """By what a prompt is found again in a file."""
    return composed(prompt.strip())


# --- reading ------------------------------------------------------------------------------------


def read(path: Path) -> dict[str, Sequence[Question]]:
    """{prompt: its questions} of a .csv or .tsv table, or of a .jsonl file of GenEval or GenEval 2.

    Columns of a table are COLUMNS, in any order: prompt and question; answer (one word, by default
    yes); number (by default the place among the prompt's) and parent (numbers, with commas or
    semicolons between them; empty or 0 for none); or DSG's (`_of_dsg`). Further columns are
    skipped. UserError names the line of what is wrong.
    """
    found: dict[str, list[Question]] = {}
    dsg: set[str] = set()
    try:
        records = list(_records(path))
    except csv.Error as error:
        raise UserError(f"{path}: no table ({error}); mend it") from None
    for line, prompt, questions in records:
        where = f"{path}: line {line}"
        if not prompt.strip():
            raise UserError(f"{where}: the prompt is empty; write one")
        own = found.setdefault(key(prompt), [])
        dsg |= {key(prompt) for made in questions if "item" in made}
        for made in questions:
            try:
                number = int(made.get("number") or len(own) + 1)
                names = str(made.get("parent") or "").replace(";", ",").split(",")
                parents = tuple(int(each) for each in names if each.strip() not in ("", "0", "-"))
            except ValueError as error:
                raise UserError(f"{where}: number and parent are numbers ({error})") from None
            text = (made.get("question") or "").strip()
            if not text or number in [each.number for each in own]:
                what = f"question {number} occurs twice" if text else "the question is empty"
                raise UserError(f"{where}: {what}; mend it")
            answer = (made.get("answer") or YES).strip()
            own.append(Question(number, text, answer, parents))
    if not found:
        raise UserError(f"{path}: has no questions; write at least one")
    for prompt, own in found.items():
        if prompt not in dsg:
            _check_parents(path, prompt, own)
    return found


def _check_parents(path: Path, prompt: str, own: Sequence[Question]) -> None:
    parents = {each.number: each.parents for each in own}
    for each in own:
        if lost := [number for number in each.parents if number not in parents]:
            raise UserError(
                f"{path}: question {each.number} of {prompt!r} has parent {lost[0]}, which is no "
                "question of that prompt; mend it"
            )
    left = dict(parents)
    while ready := [n for n, above in left.items() if not any(a in left for a in above)]:
        for number in ready:
            del left[number]
    if left:
        raise UserError(f"{path}: questions of {prompt!r} are each other's parents; mend them")


def _records(path: Path) -> Iterator[tuple[int, str, Sequence[Mapping[str, str]]]]:
    """(line, prompt, its questions) of each line of a file."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give a file of questions") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; save the file as UTF-8") from None
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        for line, words in enumerate(text.split("\n"), 1):
            if words.strip():
                yield line, *_of_json(path, line, words)
    elif suffix in (".csv", ".tsv"):
        # Like all tables of this pipeline, a .tsv has no quoting.
        quoting = csv.QUOTE_NONE if suffix == ".tsv" else csv.QUOTE_MINIMAL
        delimiter = "\t" if suffix == ".tsv" else ","
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)
        names = rows.fieldnames or []
        known = {name: DSG.get(name, name) for name in names} if "text" in names else {}
        if missing := [n for n in COLUMNS[:2] if n not in {known.get(x, x) for x in names}]:
            raise UserError(
                f"{path}: has no column {missing[0]}; a table of questions has "
                f"{', '.join(COLUMNS)}, of which the first two are needed"
            )
        made = []
        for row in rows:
            if None in row:
                raise UserError(
                    f"{path}: line {rows.line_num}: more cells than the header has; quote a cell "
                    "that has a comma"
                )
            cells = {known.get(name, name): cell or "" for name, cell in row.items() if name}
            made.append((rows.line_num, cells))
        for line, cells in _of_dsg(made) if "item" in known.values() else made:
            yield line, cells["prompt"], [cells]
    else:
        raise UserError(f"{path}: not a .csv, .tsv or .jsonl file; save the questions as one")


def _of_dsg(rows: Sequence[tuple[int, dict[str, str]]]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of DSG's published table as its own code takes them: an item with a dependency that
    is no number has none at all, and a question does not wait for itself. Of two items with one
    prompt the first counts. A parent that is not there was not answered right."""
    items: dict[str, str] = {}
    for _, cells in rows:
        items.setdefault(key(cells["prompt"]), cells["item"])

    def parents(cells: Mapping[str, str]) -> list[str]:
        return [each.strip() for each in cells.get("parent", "").split(",")]

    broken = {
        cells["item"]
        for _, cells in rows
        if not all(each.isdigit() or each in ("", "-") for each in parents(cells))
    }
    for line, cells in rows:
        if items[key(cells["prompt"])] == cells["item"]:
            others = [each for each in parents(cells) if each != cells.get("number", "").strip()]
            above = "" if cells["item"] in broken else ",".join(others)
            yield line, {**cells, "parent": above}


def _of_json(path: Path, line: int, words: str) -> tuple[str, Sequence[Mapping[str, str]]]:
    """(prompt, its questions) of a line of GenEval 2's or GenEval's file."""
    try:
        said = json.loads(words)
        if "vqa_list" in said:
            made = [{"question": q + "", "answer": str(a)} for q, a in said["vqa_list"]]
        else:
            made = of_geneval(said)
        return said["prompt"] + "", made
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: line {line}: neither of GenEval (prompt, include) nor of GenEval 2 (prompt, "
            f"vqa_list) ({type(error).__name__}: {error}); mend it"
        ) from None


# --- making -------------------------------------------------------------------------------------


def of_geneval(said: Mapping[str, Any]) -> list[dict[str, str]]:
    """Questions of a line of GenEval's evaluation_metadata.jsonl: things, numbers, colours, places.

    A number of things is asked for where the line excludes one more or asks for several.
    """
    made: list[dict[str, str]] = []

    def ask(question: str, *parents: int) -> int:
        number = len(made) + 1
        above = ",".join(map(str, parents))
        made.append({"question": question, "number": str(number), "parent": above})
        return number

    excluded = {each["class"] for each in said.get("exclude", [])}
    things: list[tuple[int, str, str]] = []
    for each in said["include"]:
        name, count = each["class"], int(each["count"])
        many = count > 1
        thing, verb = (_plural(name), "Are") if many else (name, "Is")
        first = ask(f"Are there {thing}?" if many else f"Is there {_article(name)}?")
        if many or name in excluded:
            number = NUMBERS[count] if count < len(NUMBERS) else str(count)
            exactly = "exactly " if name in excluded else ""
            ask(
                f"Are there {exactly}{number} {thing}?" if many else f"Is there only one {name}?",
                first,
            )
        if "color" in each:
            ask(f"{verb} the {thing} {each['color']}?", first)
        if "position" in each:
            where, target = each["position"]
            above, other, _ = things[target]
            ask(f"{verb} the {thing} {where} the {other}?", above, first)
        things.append((first, thing, verb))
    return made


def _article(name: str) -> str:
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _plural(name: str) -> str:
    return name + ("es" if name.endswith(("s", "x", "ch", "sh")) else "s")


def of_shapes(said: captions.Meaning) -> list[Question]:
    """Questions of what a sentence of the shapes world claims: each thing, then of it its number,
    colour and size, the relation of two, the background.

    Two things of one shape are told apart by their colours, or by their sizes.
    """
    from vlg.shapes import captions

    made: list[Question] = []

    def ask(text: str, *parents: int) -> int:
        made.append(Question(len(made) + 1, text, YES, parents))
        return len(made)

    shapes = [claim.shape for claim in said.claims]
    alike = len(shapes) == 2 and shapes[0] == shapes[1]
    told = "colour" if len({claim.colour for claim in said.claims}) == 2 else "size"
    things = []
    for claim in said.claims:
        many = claim.number > 1
        noun = captions.plural(claim.shape) if many else claim.shape
        own = (getattr(claim, told) if alike else None) or ""
        name = f"{own} {noun}".strip()
        verb = "Are" if many else "Is"
        first = ask(f"Are there {name}?" if many else f"Is there {_article(name)}?")
        if many:
            ask(f"Are there {NUMBERS[claim.number]} {name}?", first)
        for word in (claim.colour, claim.size):
            if word and word != own:
                ask(f"{verb} the {name} {word}?", first)
        things.append((first, name, verb))
    if said.relation:
        (first, name, verb), (second, other, _) = things
        ask(f"{verb} the {name} {said.relation} the {other}?", first, second)
    if said.background:
        ask(f"Is the background {said.background}?")
    return made


# --- answers to a number ------------------------------------------------------------------------


def pruned(questions: Sequence[Question], right: Sequence[bool]) -> list[bool]:
    """Whether each question counts: not where a parent was not answered right. As in DSG's code a
    grandparent does not matter."""
    of = {each.number: place for place, each in enumerate(questions)}
    return [all(n in of and right[of[n]] for n in each.parents) for each in questions]

"""Finished pictures of any origin: which prompt and seed each is of, and how they enter a study.

A list beside the pictures says it (metadata.jsonl or .csv), or a pattern of their file names.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from vlg.config.keys import Keys
from vlg.data import listings, pixels
from vlg.data.columns import LISTS, told
from vlg.data.text import composed
from vlg.errors import UserError
from vlg.files import below

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger("vlg")

# What the columns of a list may be called, the first that is there.
COLUMNS = {"id": ("id", "prompt_id"), "prompt": ("prompt", "text"), "seed": ("seed",)}
PARTS = ("id", "prompt", "seed")
WORD = re.compile(r"\{(\w*)\}|(\*)")
KEPT = frozenset({"JPEG", "PNG", "WEBP"})  # formats that browsers show as they are
SEEDS = 2**63


class Settings(Keys):
    """Which set is taken into a study."""

    name: str = Field("pictures", description="What the study calls it.")
    pattern: str | None = Field(None, description="`pictures.<name>.pattern`.")
    column: str = Field("id", description="`pictures.<name>.column`.")
    others: str = Field("refuse", description="`pictures.<name>.others`.")
    selection: list[int] = Field([0, 1], description="`seeds.selection`.")
    fresh: list[int] = Field([], description="`seeds.fresh`, which no picture of a set gets.")
    files: str = Field("", description="Digest of the names and sizes of the folder's files.")


@dataclass(frozen=True)
class Entry:
    """What is said of a file: where it is said, and of prompt, id and seed what is there."""

    path: Path
    where: str
    id: str | None = None
    prompt: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Given:
    """A file, the row of the prompt that it is of, and its seed as its maker counts."""

    path: Path
    prompt: Mapping[str, str]
    seed: int


# --- what is said of files ----------------------------------------------------------------------


def expression(pattern: str) -> re.Pattern[str]:
    """What a pattern of file names means; UserError where it says no prompt, or what is unknown."""
    parts, seen, end = [], set(), 0
    for found in WORD.finditer(pattern):
        parts.append(re.escape(pattern[end : found.start()]))
        end, name = found.end(), found[1]
        if found[2]:
            parts.append("[^/]*")
        elif name not in PARTS or name in seen:
            what = "occurs twice" if name in seen else "is unknown"
            raise UserError(f"{{{name}}} {what}; there are {{id}}, {{prompt}}, {{seed}} and *")
        else:
            seen.add(name)
            parts.append(r"(?P<seed>[0-9]+)" if name == "seed" else rf"(?P<{name}>[^/]+)")
    if not seen & {"id", "prompt"}:
        raise UserError(f"{pattern!r} says no prompt; write {{id}} or {{prompt}} in it")
    return re.compile("".join([*parts, re.escape(pattern[end:])]))


def entries(source: Path, pattern: str | None = None, quiet: bool = False) -> list[Entry]:
    """The pictures of a folder, in the order of a list or of their names; UserError for none.

    quiet: nothing is logged of pictures that are named otherwise."""
    if not source.is_dir():
        raise UserError(f"{source}: no such folder; check the path")
    found = _by_name(source, pattern, quiet) if pattern else _listed(source)
    bare, said = (
        next((each for each in found if (each.seed is None) == lacks), None)
        for lacks in (True, False)
    )
    if bare and said:
        raise UserError(f"{bare.where} has no seed and {said.where} has; give all one or none")
    return found


def _by_name(source: Path, pattern: str, quiet: bool) -> list[Entry]:
    names = [path.relative_to(source).as_posix() for path in below(source)]
    names = [name for name in names if Path(name).suffix.lower() in pixels.KINDS]
    wanted, found = expression(pattern), []
    for name in names:
        if match := wanted.fullmatch(name):
            said = match.groupdict()
            seed = _seed(said.pop("seed", None), f"{source / name}")
            found.append(Entry(source / name, str(source / name), seed=seed, **said))
    if not found:
        there = f"of its {len(names)} pictures the first is {names[0]}" if names else "it has none"
        raise UserError(
            f"{source}: no picture is named like {pattern!r}, {there}; mend the pattern"
        )
    others = len(names) - len(found)
    if others and not quiet:
        first = next(name for name in names if not wanted.fullmatch(name))
        log.warning("%s: %d pictures are not named like %r, the first is %s; left out",
                    source, others, pattern, first)  # fmt: skip
    return found


def _listed(source: Path) -> list[Entry]:
    """What lists at the top, or in folders below, say."""
    files = below(source)
    lists = [source / name for name in LISTS if source / name in files][:1]
    for name in LISTS:
        lists = lists or [path for path in files if path.name == name]
    if not lists:
        raise UserError(
            f"{source}: has no metadata.jsonl or metadata.csv; write one (file_name, prompt, "
            "seed), or say by `pattern` how its files are named"
        )
    found = [each for path in lists for each in _entries(path)]
    if not found:
        raise UserError(f"{lists[0]}: lists no picture; name at least one")
    return found


def _entries(table: Path) -> Iterator[Entry]:
    for number, row in enumerate(_rows(table), start=1):
        where = f"{table}: row {number}"
        name = row.get("file_name")
        if not isinstance(name, str) or not name:
            raise UserError(
                f"{where} has no file_name; give the picture's path from {table.parent}"
            )
        path = table.parent / name
        if Path(name).is_absolute() or ".." in Path(name).parts or not os.path.isfile(path):
            raise UserError(f"{where}: {told(name)} is no file below {table.parent}; mend it")
        said = {}
        for part, names in COLUMNS.items():
            cells = [row[each] for each in names if row.get(each) not in (None, "")]
            said[part] = cells[0] if cells else None
        if said["id"] is None and said["prompt"] is None:
            raise UserError(f"{where} has neither prompt nor id; give one")
        texts = {part: None if said[part] is None else str(said[part]) for part in ("id", "prompt")}
        yield Entry(path, where, seed=_seed(said["seed"], where), **texts)


def _rows(table: Path) -> Iterator[Mapping[str, Any]]:
    is_csv = table.suffix == ".csv"
    for row in listings.csv_table(table)[1] if is_csv else listings.json_rows(table):
        yield row if isinstance(row, dict) else {}


def _seed(value: Any, where: str) -> int | None:
    if value is None:
        return None
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,19}", text) or int(text) >= SEEDS:
        raise UserError(
            f"{where}: the seed must be a whole number of 0 or more, got {text!r}; mend it"
        )
    return int(text)


# --- the prompts they are of ----------------------------------------------------------------------


def matched(
    found: Sequence[Entry],
    prompts: Sequence[Mapping[str, str]],
    column: str = "id",
    others: str = "refuse",
    quiet: bool = False,
) -> list[Given]:
    """Each entry with its prompt, by id or text, and with a seed.

    prompts: rows of the study's table. column: of which an id is. others: whether an entry of no
    prompt is an error (`refuse`) or left out (`skip`). quiet: nothing is logged of those. UserError
    for two pictures of a prompt with one seed, and when nothing is left.
    """
    by_id = _by_id(prompts, column) if any(each.id is not None for each in found) else {}
    by_text = {composed(row["Prompt"]): row for row in prompts}
    counted: Counter[str] = Counter()
    result: dict[tuple[str, int], tuple[Given, Entry]] = {}
    unknown = []
    for each in found:
        row = by_id.get(_plain(each.id, column)) if each.id is not None else None
        if each.prompt is not None:
            said = by_text.get(composed(each.prompt.strip()))
            if row and said is not row:
                raise UserError(
                    f"{each.where}: {column} {each.id} is {row['Prompt']!r}, and it says "
                    f"{each.prompt!r}; mend one"
                )
            row = said
        if row is None:
            unknown.append(each)
            continue
        seed = counted[row["id"]] if each.seed is None else each.seed
        counted[row["id"]] += 1
        if other := result.get((row["id"], seed)):
            raise _second(each, row["id"], other[1])
        result[row["id"], seed] = Given(each.path, row, seed), each
    if unknown and (others == "refuse" or not result):
        first = unknown[0]
        what = f"{column} {first.id!r}" if first.prompt is None else f"prompt {first.prompt!r}"
        raise UserError(
            f"{first.where}: {what} is none of the study's {len(prompts)} ({len(unknown)} of "
            f"{len(found)} pictures are of no such); mend it, or set others: skip to leave them out"
        )
    if unknown and not quiet:
        log.warning("%d pictures of other prompts are left out", len(unknown))
    return [given for given, _ in result.values()]


def _second(each: Entry, prompt: str, first: Entry) -> UserError:
    return UserError(
        f"{each.where}: a second picture of {prompt} with seed {each.seed}, the first is "
        f"{first.path.name}; remove one or give it another seed"
    )


def _by_id(prompts: Sequence[Mapping[str, str]], column: str) -> dict[str, Mapping[str, str]]:
    if prompts and column not in prompts[0]:
        there = ", ".join(prompts[0])
        raise UserError(f"column: the prompts have no column {column!r}; there are {there}")
    found: dict[str, Mapping[str, str]] = {}
    for row in prompts:
        if row[column] in found:
            raise UserError(
                f"column: two prompts have {row[column]!r} in {column!r}; name one that tells them "
                "apart"
            )
        found[row[column]] = row
    return found


def _plain(name: str, column: str) -> str:
    """An id as the study writes it: `7`, `0007` and `p0007` are the prompt at place 7."""
    number = re.fullmatch(r"p?([0-9]{1,9})", name) if column == "id" else None
    return f"p{int(number[1]):04d}" if number else name


def numbered(
    given: Sequence[Given], selection: Sequence[int], fresh: Sequence[int] = ()
) -> list[int]:
    """The seed by which the study calls each picture.

    Its maker's, where all of these are selection seeds. Otherwise seeds of another program say
    nothing here: the k-th picture of a prompt, by rising seed, stands beside the k-th selection
    seed, and what is left behind all that the study draws with.
    """
    if {each.seed for each in given} <= {*selection}:
        return [each.seed for each in given]
    most = max(Counter(each.prompt["id"] for each in given).values())
    further = (n for n in range(len(given) + len(selection) + len(fresh)))
    free = [n for n in further if n not in {*selection, *fresh}]
    names = [*selection, *free[: max(0, most - len(selection))]]
    rank: Counter[str] = Counter()
    result = {}
    for place in sorted(range(len(given)), key=lambda place: given[place].seed):
        name = given[place].prompt["id"]
        result[place] = names[rank[name]]
        rank[name] += 1
    return [result[place] for place in range(len(given))]


# --- before a study -------------------------------------------------------------------------------


def check(
    source: Path,
    pattern: str | None = None,
    column: str = "id",
    others: str = "refuse",
    prompts: Sequence[Mapping[str, str]] | None = None,
) -> None:
    """UserError for what a set would be refused for when it is taken, as far as names, lists and
    the pictures' headers tell; of 10,000 pictures in about a second.

    prompts: rows of the study's table. None where a job makes them: then it tells which pictures
    are of none, and all about a set with `others: skip` but its list or names.
    """
    found = entries(source, pattern, quiet=True)
    if prompts is not None:
        read = [each.path for each in matched(found, prompts, column, others, quiet=True)]
    else:
        read = [each.path for each in _single(found, column)] if others == "refuse" else []
    if importlib.util.find_spec("PIL"):  # packages can be the jobs' own (--use-conda)
        for path in read:
            _looked(path, pixels.size)


def _single(found: Sequence[Entry], column: str) -> Sequence[Entry]:
    """The entries; UserError for two of one prompt, as far as they say it alike, and seed."""
    seen: dict[tuple[str, int], Entry] = {}
    for each in found:
        said = composed((each.prompt or "").strip())
        name = _plain(each.id, column) if each.id is not None else repr(said)
        if each.seed is not None and seen.setdefault((name, each.seed), each) is not each:
            raise _second(each, name, seen[name, each.seed])
    return found


# --- into a study ---------------------------------------------------------------------------------


def take(given: Sequence[Given], settings: Settings, out: Path, threads: int) -> None:
    """Fill the picture folder `out` with a set: files as they are where every program shows the
    same of them, and otherwise 8-bit PNG, upright. UserError for one that cannot be read."""
    from tqdm import tqdm

    from vlg.data import pictures

    seeds = numbered(given, settings.selection, settings.fresh)

    def kept(part: Sequence[tuple[Given, int]]) -> list[dict[str, Any]]:
        return [_kept(each, seed, settings.name, out) for each, seed in part]

    pairs = list(zip(given, seeds, strict=True))
    batches = list(pictures.chunks(pairs, 8))
    rows = []
    ready = pictures.ahead(kept, batches, threads)
    for _, done in tqdm(ready, settings.name, len(batches), mininterval=5):
        rows += done
    digest = pictures.key(settings.name, sorted(row["original_sha256"] for row in rows))
    rows.sort(key=lambda row: (row["seed"], row["id"]))
    pictures.write_metadata(out, rows, weights=digest)


def _kept(each: Given, seed: int, name: str, out: Path) -> dict[str, Any]:
    from vlg.data import pictures
    from vlg.files import link, sha256

    picture = read(each.path)
    plain = pixels.is_plain(each.path, KEPT)
    suffix = each.path.suffix.lower() if plain else ".png"
    row = {
        "file_name": f"{seed}-{each.prompt['id']}{suffix}",
        **{"id": each.prompt["id"], "prompt": each.prompt["Prompt"], "seed": seed},
        **{"set": each.prompt["set"], "model": name, "arm": "", "round": 0},
        **{"own_seed": each.seed, "original": each.path.name},
    }
    if plain:
        link(each.path, out / row["file_name"])
    else:
        pictures.save(out / row["file_name"], picture, row)
    return {**row, "original_sha256": sha256(each.path)}


def read(path: Path) -> np.ndarray:
    """The pixels of a picture (height, width, 3) uint8; UserError where it gives none."""
    import numpy as np

    return np.asarray(_looked(path, pixels.read))


def _looked(path: Path, look: Callable[[Path], Any]) -> Any:
    """What is seen of a picture; UserError where it cannot be read."""
    try:
        return look(path)
    except FileNotFoundError:
        raise UserError(f"{path}: missing; check the path") from None
    except pixels.Unreadable as error:
        raise UserError(
            f"{path}: a picture that is {error.kind} ({error}); remove or mend it"
        ) from None

"""The pictures of a finished study, with their scores: found, compared, sorted, read.

Only files that a score file of the study names are read, only from within the study, and only if
they are still the pictures that were scored.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vlg.analysis import scores
from vlg.config import plan
from vlg.config.layout import BASE, parse_model
from vlg.data import pixels
from vlg.demo.study import Study
from vlg.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

GAIN, LOSS, DISAGREEMENT, PROMPT = "gain", "loss", "disagreement", "prompt"
ORDERS = (GAIN, LOSS, DISAGREEMENT, PROMPT)


class Entry(NamedTuple):
    """Who drew pictures: a model, and a round of an arm ("" and 0 for plain pictures)."""

    model: str
    arm: str = ""
    round: int = 0

    @property
    def name(self) -> str:
        """`embed-500`, or `base best_of_n round 6`."""
        return scores.name(self)


class Cell(NamedTuple):
    """A prompt, by its id, with a seed."""

    id: str
    seed: int


@dataclass(frozen=True)
class Scored:
    """A picture and what was said of it; path: relative to the study. numbers: `clipscore`,
    `guide`, `fidelity` (where truth is known) and further judges by their names."""

    path: str
    sha256: str
    numbers: Mapping[str, float]


@dataclass(frozen=True)
class Pair:
    """Two pictures from the same noise. gains: second minus first, by each number that both have.
    disagreement: how far the judges are apart about it, in standard deviations of their gains."""

    cell: Cell
    prompt: str
    first: Scored
    second: Scored
    gains: Mapping[str, float]
    disagreement: float = 0.0


class Finished:
    """The scored pictures of a study, by who drew them."""

    def __init__(self, study: Study) -> None:
        """UserError when there are none, or they are of an older layout."""
        self.root = study.root
        self._config = study.config
        self.texts = {row["id"]: row["Prompt"] for row in study.prompts}
        self.entries = _read(study)
        if not self.entries:
            raise UserError(f"{self.root}/scores: no scores yet; run `make study` first")

    def pairs(self, first: Entry, second: Entry) -> list[Pair]:
        """All that both drew, in the order of prompts.tsv."""
        one, two = self.entries.get(first, {}), self.entries.get(second, {})
        pairs = []
        for cell in one.keys() & two.keys():
            a, b = one[cell], two[cell]
            gains = {n: b.numbers[n] - a.numbers[n] for n in a.numbers if n in b.numbers}
            pairs.append(Pair(cell, self.texts[cell.id], a, b, gains))
        order = {name: number for number, name in enumerate(self.texts)}
        pairs.sort(key=lambda pair: (order[pair.cell.id], pair.cell.seed))
        return _with_disagreement(pairs)

    def search(self, first: Entry, second: Entry, words: str = "", order: str = GAIN) -> list[Pair]:
        """The pairs whose prompts have all of these words, sorted."""
        wanted = words.lower().split()
        found = [
            pair
            for pair in self.pairs(first, second)
            if all(word in pair.prompt.lower() for word in wanted)
        ]
        keys = {
            GAIN: lambda pair: -pair.gains["clipscore"],
            LOSS: lambda pair: pair.gains["clipscore"],
            DISAGREEMENT: lambda pair: -pair.disagreement,
        }
        return sorted(found, key=keys[order]) if order in keys else found

    def comparisons(self) -> list[tuple[Entry, Entry]]:
        """What is worth asking people about: the last checkpoint of each variant, and what was
        finished elsewhere, against the base and against each other, and the last round of each arm
        against its plain pictures."""
        last: dict[str, Entry] = {}
        rounds: dict[tuple[str, str], Entry] = {}
        for entry in self.entries:
            if entry.arm:
                key = entry.model, entry.arm
                if key not in rounds or rounds[key].round < entry.round:
                    rounds[key] = entry
                continue
            variant, step, seed = parse_model(entry.model)
            if seed is None and entry.model != BASE:
                known = last.get(variant)
                if known is None or parse_model(known.model).step < step:
                    last[variant] = entry
        base, tuned = Entry(BASE), list(last.values())
        result = [(base, each) for each in tuned]
        result += [(one, two) for i, one in enumerate(tuned) for two in tuned[i + 1 :]]
        result += [(Entry(each.model), each) for each in rounds.values()]
        return [each for each in result if all(side in self.entries for side in each)]

    def image(self, picture: Scored) -> np.ndarray:
        """The pixels (height, width, 3) uint8; UserError unless it is the one that was scored."""
        path = (self.root / picture.path).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise UserError(f"{picture.path}: is not inside the study; rerun the score step")
        try:
            content = path.read_bytes()
        except OSError:
            raise UserError(f"{picture.path}: not found; rerun the step that draws it") from None
        if hashlib.sha256(content).hexdigest() != picture.sha256:
            raise UserError(f"{picture.path}: is not what was scored; rerun the score step")
        try:
            return np.asarray(pixels.read(content))
        except pixels.Unreadable as error:
            raise UserError(f"{picture.path}: {error}; delete it and rerun") from None


def _read(study: Study) -> dict[Entry, dict[Cell, Scored]]:
    """Every scored picture of models of the study, plain ones first."""
    from vlg.analysis.scores import Grids, read, read_prompts

    paths = sorted(study.root.glob("scores/images/*/*.csv"))
    paths += sorted(study.root.glob("scores/refined/*/*.csv"))
    if not paths:
        return {}
    grids = Grids(read(paths, read_prompts(study.root / "prompts.tsv")))
    further = _further(study)
    order = {name: number for number, name in enumerate(plan.runs(dict(study.config)))}
    result: dict[Entry, dict[Cell, Scored]] = {}
    for rows in (grids.plain, grids.refined):
        for row in rows.to_dict("records"):
            entry = Entry(row["model"], row["arm"], int(row["round"]))
            cell = Cell(row["id"], int(row["seed"]))
            numbers = {name: row[name] for name in ("clipscore", "guide", "fidelity")}
            numbers |= {n: of.get((*cell, row["sha256"]), math.nan) for n, of in further.items()}
            known = {name: float(v) for name, v in numbers.items() if not math.isnan(v)}
            result.setdefault(entry, {})[cell] = Scored(row["picture"], row["sha256"], known)
    last = len(order)
    return dict(
        sorted(result.items(), key=lambda item: (item[0].arm, order.get(item[0].model, last)))
    )


def _further(study: Study) -> dict[str, dict[tuple[str, int, str], float]]:
    """What each further judge says, by prompt, seed and checksum of the picture."""
    from vlg.analysis.scores import read_further

    result: dict[str, dict[tuple[str, int, str], float]] = {}
    for name in study.judges:
        files = sorted((study.root / "judges" / name).glob("*.csv"))
        tables: list[pd.DataFrame] = [read_further(path) for path in files]
        result[name] = {
            (row["id"], int(row["seed"]), row["sha256"]): float(row["score"])
            for table in tables
            for row in table.to_dict("records")
        }
    return result


def _with_disagreement(pairs: list[Pair]) -> list[Pair]:
    """The same pairs; the judges are all that gave a number to each of them."""
    from dataclasses import replace

    shared = set.intersection(*(set(pair.gains) for pair in pairs)) if pairs else set()
    if len(shared) < 2:
        return pairs
    gains = np.array([[pair.gains[name] for name in sorted(shared)] for pair in pairs])
    spread = gains.std(axis=0)
    scaled = gains / np.where(spread > 0, spread, 1)
    apart = np.ptp(scaled, axis=1)
    return [replace(pair, disagreement=float(by)) for pair, by in zip(pairs, apart, strict=True)]

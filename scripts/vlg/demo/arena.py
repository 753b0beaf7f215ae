"""The blind arena: which of two pictures of one prompt is better, asked without saying whose.

A ballot is two pictures from the same noise. Who drew them is kept here, and told when the vote has
been written. Sides are balanced within each comparison, pictures that nobody has judged come first,
no rater sees a ballot twice, and two pictures that are one and the same are never asked about.
"""

from __future__ import annotations

import math
import random
import secrets
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import NormalDist

from vlg.demo.finished import Cell, Entry, Finished, Scored
from vlg.demo.votes import LEFT, RIGHT, VOTES, Votes
from vlg.errors import UserError

BACK = 10.0  # seconds for which a vote can be taken back
OPEN = 1000  # ballots that wait for a vote; the oldest are forgotten
NAME = 40  # characters of a rater's name
# What would settle a comparison: enough decided votes to see that one side wins this share of them.
SHARE, CONFIDENCE, POWER = 0.6, 0.95, 0.8

Comparison = tuple[Entry, Entry]


@dataclass(frozen=True)
class Ballot:
    """What was shown once to one person. name: random, says nothing."""

    name: str
    rater: str
    cell: Cell
    prompt: str
    sides: tuple[Entry, Entry]
    pictures: tuple[Scored, Scored]

    @property
    def of(self) -> frozenset[Entry]:
        """Both sides, whichever is where."""
        return frozenset(self.sides)


@dataclass(frozen=True)
class Progress:
    """Votes on a comparison, those that decided for a side, and how many of these would settle it.
    wins: of those, for the second entry."""

    votes: int
    decided: int
    wins: int
    needed: int

    @property
    def settled(self) -> bool:
        """Whether one side is ahead by more than chance explains, at the number that was planned
        or beyond; looked at earlier, chance alone would pass often."""
        if self.decided < self.needed:
            return False
        z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
        return abs(self.wins / self.decided - 0.5) > z * math.sqrt(0.25 / self.decided)


def needed(share: float = SHARE, confidence: float = CONFIDENCE, power: float = POWER) -> int:
    """Decided votes with which a sign test shows, with this power, that a side wins `share`.

    The normal approximation, of votes that are independent; several votes on one prompt are not
    quite, so a table of the votes may want more.
    """
    normal = NormalDist()
    null = normal.inv_cdf((1 + confidence) / 2) * 0.5
    true = normal.inv_cdf(power) * math.sqrt(share * (1 - share))
    return math.ceil(((null + true) / (share - 0.5)) ** 2)


def rater_name(name: object) -> str:
    """A rater's own name, as it is written; a random one where there is none."""
    text = " ".join(str(name or "").split())[:NAME]
    text = "".join(c for c in text if c.isprintable()).lstrip("=+-@")  # no formula of a spreadsheet
    return text or f"guest-{secrets.token_hex(3)}"


class Arena:
    """Ballots of a finished study and its file of votes."""

    def __init__(
        self,
        finished: Finished,
        votes: Votes,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._finished, self._votes, self._clock = finished, votes, clock
        self._rng = rng or random.SystemRandom()
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Ballot] = OrderedDict()
        self._given: OrderedDict[str, float] = OrderedDict()
        self.comparisons: list[Comparison] = []
        self._cells: dict[Comparison, list[Cell]] = {}
        for comparison in finished.comparisons():
            one, two = (finished.entries[entry] for entry in comparison)
            differ = [c for c in one if c in two and one[c].sha256 != two[c].sha256]
            if differ:
                self.comparisons.append(comparison)
                self._cells[comparison] = differ
        if not self.comparisons:
            raise UserError(
                f"{finished.root}: no two models that drew the same prompts differently; run "
                "`make study` first"
            )
        self._known = {frozenset(each): each for each in self.comparisons}

    def ballot(self, rater: str, comparison: Comparison | None = None) -> Ballot | None:
        """Two pictures to choose from; None where this rater has judged all there are.

        comparison: between whom; None for whichever has had the fewest votes.
        """
        with self._lock:
            for ballot in self._open.values():  # of a page that was loaded again
                if ballot.rater == rater and comparison in (None, self._known[ballot.of]):
                    return ballot
            cast = self._cast()
            seen = {(of, cell) for of, cell, _, who in cast if who == rater}
            asked = [comparison] if comparison else self.comparisons
            counts = Counter(of for of, *_ in cast)
            for of in self._fewest(asked, counts):
                cells = [cell for cell in self._cells[of] if (of, cell) not in seen]
                if cells:
                    times = Counter(cell for other, cell, *_ in cast if other == of)
                    cell = self._fewest(cells, times)[0]
                    return self._shown(rater, of, cell, [each for each in cast if each[0] == of])
        return None

    def vote(self, name: str, vote: str) -> Ballot:
        """Write what was said of a ballot, and tell who was who. UserError for a ballot that is
        not open, as after a restart of the demo, and for what is no vote."""
        if vote not in VOTES:
            raise UserError(f"vote: {str(vote)[:20]!r} is none of {', '.join(VOTES)}")
        with self._lock:
            ballot = self._open.pop(name, None)
            if ballot is None:
                raise UserError("this ballot is no longer open; take the next one")
            try:
                self._votes.add(self._row(ballot, vote))
            except BaseException:
                self._open[name] = ballot
                raise
            self._given[name] = self._clock()
            while len(self._given) > OPEN:
                self._given.popitem(last=False)
        return ballot

    def take_back(self, name: str) -> bool:
        """Remove a vote within BACK seconds of its giving; whether that was done."""
        with self._lock:
            given = self._given.pop(name, None)
            if given is None or self._clock() - given > BACK:
                return False
            return self._votes.take_back(name)

    def progress(self, comparison: Comparison) -> Progress:
        """How far the votes on a comparison have come."""
        rows = [row for row in self._votes.rows() if _of(row) == frozenset(comparison)]
        won = [
            (row["vote"] == RIGHT) != _turned(row, comparison)
            for row in rows
            if row["vote"] in (LEFT, RIGHT)
        ]
        return Progress(len(rows), len(won), sum(won), needed())

    def _cast(self) -> list[tuple[Comparison, Cell, bool, str]]:
        """(comparison, cell, whether its first entry was on the right, rater) of votes given and
        of ballots that are open."""
        result = []
        for row in self._votes.rows():
            if of := self._known.get(_of(row)):
                cell = Cell(row["id"], int(row["seed"]))
                result.append((of, cell, _turned(row, of), row["rater"]))
        for ballot in self._open.values():
            of = self._known[ballot.of]
            result.append((of, ballot.cell, ballot.sides[0] != of[0], ballot.rater))
        return result

    def _fewest(self, things: Iterable, counts: Counter) -> list:
        """In the order of their counts, by lot where these are equal."""
        shuffled = list(things)
        self._rng.shuffle(shuffled)
        return sorted(shuffled, key=lambda each: counts[each])

    def _shown(self, rater: str, of: Comparison, cell: Cell, cast: list) -> Ballot:
        """A ballot, its sides by lot unless one has been on the left more often."""
        turned = sum(each[2] for each in cast)
        ahead = len(cast) - 2 * turned  # how much oftener the first entry was on the left
        turn = self._rng.random() < 0.5 if abs(ahead) < 2 else ahead > 0
        sides = of[::-1] if turn else of
        pictures = tuple(self._finished.entries[entry][cell] for entry in sides)
        name = secrets.token_urlsafe(12)
        ballot = Ballot(name, rater, cell, self._finished.texts[cell.id], sides, pictures)
        self._open[name] = ballot
        while len(self._open) > OPEN:
            self._open.popitem(last=False)
        return ballot

    def _row(self, ballot: Ballot, vote: str) -> dict[str, str]:
        left, right = ballot.sides
        one, two = ballot.pictures
        return {
            "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "ballot": ballot.name,
            "rater": ballot.rater,
            "id": ballot.cell.id,
            "prompt": ballot.prompt,
            "seed": str(ballot.cell.seed),
            **{f"left_{name}": str(value) for name, value in left._asdict().items()},
            **{f"right_{name}": str(value) for name, value in right._asdict().items()},
            "vote": vote,
            "left_sha256": one.sha256,
            "right_sha256": two.sha256,
        }


def _entry(row: dict[str, str], side: str) -> Entry:
    return Entry(row[f"{side}_model"], row[f"{side}_arm"], int(row[f"{side}_round"] or 0))


def _of(row: dict[str, str]) -> frozenset[Entry]:
    return frozenset((_entry(row, LEFT), _entry(row, RIGHT)))


def _turned(row: dict[str, str], comparison: Comparison) -> bool:
    """Whether the comparison's first entry was on the right."""
    return _entry(row, LEFT) != comparison[0]

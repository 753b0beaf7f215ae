"""The finished study's pictures and people's votes on them, without a page."""

from __future__ import annotations

import copy
import hashlib
import multiprocessing
import random

import pytest

from tests import demo
from tests.demo import TUNED
from vlg.config.layout import BASE
from vlg.demo import arena as arenas
from vlg.demo.arena import Arena
from vlg.demo.finished import DISAGREEMENT, GAIN, LOSS, Entry, Finished, Scored
from vlg.demo.votes import COLUMNS, TIE, VOTES, Votes
from vlg.errors import UserError


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return Finished(demo.write(tmp_path_factory.mktemp("demo")))


@pytest.fixture
def votes(tmp_path):
    return Votes(tmp_path / "votes.csv")


# --- the finished study's pictures ----------------------------------------------------------------


def test_pairs_are_found_and_sorted(finished):
    base, tuned = Entry(BASE), Entry(TUNED)
    gains = [pair.gains["clipscore"] for pair in finished.search(base, tuned, order=GAIN)]
    assert gains == sorted(gains, reverse=True) and len(gains) > 20
    losses = [pair.gains["clipscore"] for pair in finished.search(base, tuned, order=LOSS)]
    assert losses == sorted(losses)
    apart = [pair.disagreement for pair in finished.search(base, tuned, order=DISAGREEMENT)]
    assert apart == sorted(apart, reverse=True) and apart[0] > apart[-1]
    found = finished.search(base, tuned, "CIRCLE red")
    assert found and all("circle" in pair.prompt and "red" in pair.prompt for pair in found)
    assert finished.image(found[0].first).shape == (32, 32, 3)


def test_no_file_outside_the_study_is_read(finished, tmp_path):
    outside = tmp_path / "secret.png"
    outside.write_bytes(b"secret")
    known = hashlib.sha256(b"secret").hexdigest()
    for path in (str(outside), f"../../../{outside.relative_to(outside.anchor)}"):
        with pytest.raises(UserError, match="not inside the study|not found"):
            finished.image(Scored(path, known, {}))
    picture = finished.entries[Entry(BASE)][next(iter(finished.entries[Entry(BASE)]))]
    with pytest.raises(UserError, match="not what was scored"):
        finished.image(Scored(picture.path, "0" * 64, {}))


# --- votes ----------------------------------------------------------------------------------------


def row(number, **changes):
    own = {"ballot": f"b{number}", "rater": "ann", "prompt": 'a "red", one', "vote": TIE}
    return {**dict.fromkeys(COLUMNS, ""), **own, **changes}


def test_a_half_written_vote_is_no_vote_and_harms_none(votes):
    votes.add(row(1))
    votes.add(row(2))
    with votes.path.open("ab") as file:
        file.write(b"2026-01-01T00:00:00Z,half")
    assert [each["ballot"] for each in votes.rows()] == ["b1", "b2"]
    votes.add(row(3))
    assert [each["ballot"] for each in votes.rows()] == ["b1", "b2", "b3"]
    assert votes.rows()[0] == row(1)


def test_a_vote_is_taken_back(votes):
    for number in range(3):
        votes.add(row(number))
    assert votes.take_back("b1") and not votes.take_back("b1")
    assert [each["ballot"] for each in votes.rows()] == ["b0", "b2"]


def test_a_file_that_is_something_else_is_left_alone(votes):
    votes.path.write_text("name,age\nann,7\n")
    with pytest.raises(UserError, match="its columns are not"):
        votes.rows()


def append(path, first):
    for number in range(first, first + 10):
        Votes(path).add(row(number))


def test_several_demos_may_write_at_once(votes):
    context = multiprocessing.get_context("fork")
    many = [context.Process(target=append, args=(votes.path, 10 * i)) for i in range(3)]
    for process in many:
        process.start()
    for process in many:
        process.join()
    assert {each["ballot"] for each in votes.rows()} == {f"b{i}" for i in range(30)}


# --- the arena ------------------------------------------------------------------------------------


@pytest.fixture
def arena(finished, votes):
    return Arena(finished, votes, random.Random(0))


def test_what_was_finished_elsewhere_is_asked_about_too(finished):
    more = copy.copy(finished)
    theirs, tuned = Entry("theirs"), Entry(TUNED)
    more.entries = {**finished.entries, theirs: finished.entries[tuned]}
    assert {(Entry(BASE), theirs), (tuned, theirs)} <= set(more.comparisons())


def test_sides_are_balanced_and_no_rater_sees_a_ballot_twice(arena):
    comparison = arena.comparisons[0]
    lefts, seen = [], set()
    while ballot := arena.ballot("ann", comparison):
        assert set(ballot.sides) == set(comparison)
        assert ballot.cell not in seen
        seen.add(ballot.cell)
        lefts.append(ballot.sides[0] == comparison[0])
        arena.vote(ballot.name, VOTES[len(seen) % 4])
        assert abs(2 * sum(lefts) - len(lefts)) <= 2
    assert len(seen) > 4 and len(set(lefts)) == 2
    assert arena.ballot("bob", comparison), "another rater is asked, too"


def test_pictures_that_are_one_and_the_same_are_never_asked_about(arena):
    for comparison in arena.comparisons:
        for _ in range(5):
            ballot = arena.ballot("ann", comparison)
            if ballot:
                assert ballot.pictures[0].sha256 != ballot.pictures[1].sha256
                arena.vote(ballot.name, TIE)


def test_a_vote_is_written_as_it_was_given(arena, votes, finished):
    ballot = arena.ballot("ann")
    assert arena.vote(ballot.name, "left") == ballot
    (written,) = votes.rows()
    left, right = ballot.sides
    assert (written["left_model"], written["right_model"]) == (left.model, right.model)
    assert written["left_sha256"] == finished.entries[left][ballot.cell].sha256
    assert written["right_sha256"] == finished.entries[right][ballot.cell].sha256
    assert (written["rater"], written["vote"], written["id"]) == ("ann", "left", ballot.cell.id)
    assert written["prompt"] == finished.texts[ballot.cell.id]
    with pytest.raises(UserError, match="no longer open"):
        arena.vote(ballot.name, "left")
    with pytest.raises(UserError, match="is none of"):
        arena.vote(arena.ballot("ann").name, "best")


def test_a_vote_is_taken_back_for_ten_seconds(finished, votes):
    now = [0.0]
    arena = Arena(finished, votes, random.Random(0), lambda: now[0])
    first, second = (arena.ballot("ann"), arena.ballot("bob"))
    arena.vote(first.name, TIE)
    now[0] = 9.0
    assert arena.take_back(first.name) and votes.rows() == []
    assert not arena.take_back(first.name)
    arena.vote(second.name, TIE)
    now[0] = 20.0
    assert not arena.take_back(second.name) and len(votes.rows()) == 1


def test_a_page_that_is_loaded_again_shows_the_same_ballot(arena):
    assert arena.ballot("ann") == arena.ballot("ann") != arena.ballot("bob")


def test_progress_counts_for_the_right_side(arena):
    comparison = arena.comparisons[0]
    for number in range(6):
        ballot = arena.ballot(f"rater {number}", comparison)
        side = "left" if ballot.sides[0] == comparison[1] else "right"
        arena.vote(ballot.name, side if number < 5 else TIE)
    progress = arena.progress(comparison)
    assert (progress.votes, progress.decided, progress.wins) == (6, 5, 5)
    assert not progress.settled


def test_so_many_votes_settle_a_comparison_as_were_planned():
    from scipy.stats import binom

    number = arenas.needed()
    assert 180 < number < 210

    # The exact two-sided sign test at that number has about the power that was asked for.
    def chance(k):
        return 2 * min(binom.cdf(k, number, 0.5), binom.sf(k - 1, number, 0.5))

    reject = [k for k in range(number + 1) if chance(k) < 0.05]
    assert 0.75 < binom.pmf(reject, number, 0.6).sum() < 0.85
    assert arenas.Progress(300, number, round(0.6 * number), number).settled
    assert not arenas.Progress(300, number, round(0.52 * number), number).settled
    assert not arenas.Progress(300, number - 1, number - 1, number).settled


@pytest.mark.parametrize("name", ["", None, "\x00\n"])
def test_who_gives_no_name_gets_one(name):
    assert arenas.rater_name(name).startswith("guest-")


def test_a_name_is_short_and_no_formula():
    assert arenas.rater_name("  =cmd|'/c calc'!A0 ") == "cmd|'/c calc'!A0"
    assert len(arenas.rater_name("x" * 1000)) == arenas.NAME

"""How often do tables see a gain where there is none? Signs of a study's own differences, flipped.

STUDY=results/shapes pytest -m slow tests/test_nulls.py does the same for a finished study.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import synthetic
from test_tables import build, load

from vlg.analysis import nulls
from vlg.analysis.study import BASE

TOOLS = Path(__file__).parents[1] / "tools"
TABLES = ("finetune", "by_split", "by_challenge", "by_fact")


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    root = tmp_path_factory.mktemp("nulls")
    shape = synthetic.Study(pictures=False, prompts=90, hard=24, rounds=1)
    return load(root, synthetic.write(root, shape), draws=500)


def test_flipped_differences_keep_their_size_and_lose_their_direction(made_up):
    signs = dict(zip(made_up.ids, np.resize([1.0, -1.0], len(made_up.ids)), strict=True))
    parts = {name: getattr(made_up, name) for name in ("prompts", "scores", "hard", "training")}
    flipped = nulls.Flipped(**parts, settings=made_up.settings, signs=signs)
    keys, where = [BASE, ("embed-500", "", 0)], (made_up.ids, made_up.seeds)
    measures = ("clipscore", "fidelity", "flops")
    before, after = (each.values(keys, *where, measures) for each in (made_up, flipped))
    assert (after[..., 0, :] == before[..., 0, :]).all()
    assert (after[..., 2] == before[..., 2]).all()
    change, other = (each[:, :, :, 1, :2] - each[:, :, :, 0, :2] for each in (before, after))
    assert other[:, ::2] == pytest.approx(change[:, ::2])
    assert other[:, 1::2] == pytest.approx(-change[:, 1::2])


def test_a_gain_that_is_there_is_not_seen_when_signs_are_flipped(made_up):
    assert build(made_up).frame["gain_seen_by"].isin(nulls.SEEN).any()
    assert nulls.seen(made_up, "finetune", 40) <= 0.15  # at 6 %, once in a hundred


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_few_null_tables_see_a_gain(made_up, name):
    assert nulls.seen(made_up, name, 600) <= 0.06


@pytest.mark.slow
@pytest.mark.skipif("STUDY" not in os.environ, reason="STUDY names no finished study")
@pytest.mark.parametrize("name", TABLES)
def test_few_null_tables_of_a_finished_study_see_a_gain(monkeypatch, name):
    monkeypatch.syspath_prepend(str(TOOLS))
    from sign_flips import load as finished

    assert nulls.seen(finished(Path(os.environ["STUDY"]), 1000), name, 600) <= 0.06

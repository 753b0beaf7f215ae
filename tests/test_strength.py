"""The same rows of two studies, side by side with how much they differ."""

import numpy as np
import pandas as pd
import pytest
import synthetic
from test_tables import make

from vlg.analysis import strength
from vlg.errors import UserError


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """A weak base on which embed gains much, and a strong one on which it gains little."""
    roots = [tmp_path_factory.mktemp("results") / name for name in ("early", "late")]
    for root, gain in zip(roots, (5.0, 0.5), strict=True):
        root.mkdir()
        gains = {"normal": 0.5, "embed": gain, "refine": 1, "best_of_n": 1}
        shape = synthetic.Study(pictures=False, prompts=30, rounds=1, gains=gains)
        make(root, synthetic.write(root, shape))
    return roots


def test_a_lead_that_depends_on_the_base_is_seen(studies, tmp_path):
    path = strength.write(studies, tmp_path / "strength")
    table = pd.read_csv(path).set_index(["study", "model", "against"])
    early, late = (table.loc[(name, "embed-500", "normal-500")] for name in ("early", "late"))
    assert np.isnan(early["delta_change"])
    assert late["delta_change"] == pytest.approx(late["delta"] - early["delta"], abs=1e-4)
    assert late["delta_change_high"] < 0
    assert late["delta_change_low"] < -4.5 < late["delta_change_high"]
    same = table.loc[("late", "normal-500", "base")]
    assert same["delta_change_low"] < 0 < same["delta_change_high"]
    finetune = pd.read_csv(studies[1] / "tables/finetune.csv")
    assert late["base_clipscore"] == pytest.approx(finetune["clipscore"][0], rel=1e-5)


def test_the_interval_of_a_change_covers_it():
    rng = np.random.default_rng(0)
    means = rng.normal([[1.0], [0.3]], [[0.5], [0.2]], size=(2, 4000))
    sides = [(m, m - 1.96 * s, m + 1.96 * s) for m, s in zip(means, (0.5, 0.2), strict=True)]
    _, low, high = strength.change(*sides)
    assert ((low < 0.7) & (high > 0.7)).mean() == pytest.approx(0.95, abs=0.01)


def test_a_study_that_was_not_run_is_named(studies, tmp_path):
    with pytest.raises(UserError, match="finetune.csv: not found; run that study first"):
        strength.join([tmp_path / "nothing", studies[0]])

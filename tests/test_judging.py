"""How far judges can be believed: figures beside those of libraries, and their intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, spearmanr

from vlg.analysis.judging import Pictures

OPTIONS = {"confidence": 0.95, "seed": 0, "draws": 400}


def made(prompts=40, each=6, seed=0, sharp=1.0):
    """Pictures, scores that see a part of what is true, and what is true."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(prompts), each)
    right = (rng.random(len(of)) < 0.4).astype(float)
    return Pictures(of, **OPTIONS), sharp * right + rng.normal(size=len(of)), right


numbers = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1), st.integers(0, 5)), min_size=2)


@settings(max_examples=60, deadline=None)
@given(numbers)
def test_figures_are_those_of_scipy_with_ties(rows):
    scores, right, prompts = np.array(rows, float).T
    pictures = Pictures(prompts.astype(int), **OPTIONS)
    yes, no = scores[right == 1], scores[right == 0]
    expected = (
        mannwhitneyu(yes, no).statistic / (len(yes) * len(no))
        if 0 < len(yes) < len(right)
        else np.nan
    )
    assert pictures.auc(scores, right).value == pytest.approx(expected, nan_ok=True)
    constant = np.ptp(scores) == 0 or np.ptp(right) == 0
    expected = np.nan if constant else spearmanr(scores, right).statistic
    assert pictures.spearman(scores, right).value == pytest.approx(expected, nan_ok=True)


def test_a_picture_without_a_label_counts_for_nothing():
    pictures, scores, right = made()
    half = np.where(pictures.prompts % 2, right, np.nan)
    known = np.isfinite(half)
    alone = Pictures(pictures.prompts[known], **OPTIONS)
    for name in ("auc", "spearman"):
        told = getattr(pictures, name)(scores, half)
        assert told == getattr(alone, name)(scores[known], half[known])
        assert np.isnan(getattr(pictures, name)(scores, right * np.nan).value)


def test_pairs_that_differ_in_one_fact_alone_count():
    """Of one prompt: the first two pictures differ in one fact, told right; the others in two."""
    facts = np.array([[1, 1, np.nan], [0, 1, np.nan], [1, 0, np.nan], [1, 0, np.nan]])
    pictures = Pictures(np.zeros(4, int), **OPTIONS)
    told = pictures.accuracy(np.array([3.0, 2.0, 3.0, 4.0]), facts)
    # Second fact: the first picture ties with the third and loses to the fourth.
    assert [each.value for each in told] == pytest.approx([1, 0.25, np.nan], nan_ok=True)
    assert all(np.isnan(each.low) for each in told), "one prompt has no interval"


def test_intervals_cover_what_is_true():
    """Of 60 sets each: 95 % intervals that cover in fewer than 50 have one chance in a thousand."""
    from scipy.stats import norm

    found = [made(seed=seed)[0].auc(*made(seed=seed)[1:]) for seed in range(60)]
    true = norm.cdf(1 / np.sqrt(2))
    assert sum(each.low <= true <= each.high for each in found) >= 50
    assert all(each.high - each.low < 0.25 for each in found)
    pictures, scores, right = made(prompts=200)
    many, few = pictures.spearman(scores, right), made()[0].spearman(*made()[1:])
    assert 1.5 < (few.high - few.low) / (many.high - many.low) < 3.5  # the root of 5
    assert made(prompts=14)[0].auc(*made(prompts=14)[1:]).low is np.nan

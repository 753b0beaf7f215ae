"""Do the intervals hold what they promise, on data whose truth is known?"""

import numpy as np
import pytest

from vlg.analysis import statistics

OPTIONS = {"draws": 2000, "confidence": 0.95, "seed": 0}
STUDIES = 2000  # simulated; the coverage found is then known to half a per cent


def two_models(prompts, seeds, prompt_sd, seed_sd, gain, studies=STUDIES, skewed=False):
    """Scores of two models on the same pictures' noise, (prompts, seeds, studies) each.

    They share strong prompt and seed effects; the second gains `gain` in the mean, by prompt
    (`prompt_sd`) and by picture (`seed_sd`) more or less.
    """
    rng = np.random.default_rng(1)

    def draw(*shape):
        return rng.exponential(size=shape) - 1 if skewed else rng.normal(size=shape)

    first = 20 + 3 * draw(prompts, 1, studies) + 2 * draw(prompts, seeds, studies)
    change = prompt_sd * draw(prompts, 1, studies) + seed_sd * draw(prompts, seeds, studies)
    return first, first + gain + change


def covered(estimate, truth):
    return ((estimate.low <= truth) & (truth <= estimate.high)).mean()


@pytest.mark.parametrize("seeds", [1, 2, 4])
@pytest.mark.parametrize(("prompt_sd", "seed_sd"), [(1, 1), (0, 1), (1, 0.1), (0.3, 1)])
def test_intervals_of_paired_differences_cover_the_truth(seeds, prompt_sd, seed_sd):
    first, second = two_models(60, seeds, prompt_sd, seed_sd, gain=0.4)
    estimate = statistics.estimate(second - first, **OPTIONS)
    assert 0.935 < covered(estimate, 0.4) < 0.965


@pytest.mark.parametrize("prompts", [8, 20, 50])
def test_intervals_hold_for_few_prompts(prompts):
    first, second = two_models(prompts, 2, 1, 1, gain=0.4)
    assert 0.935 < covered(statistics.estimate(second - first, **OPTIONS), 0.4) < 0.965


def test_intervals_nearly_hold_for_skewed_scores():
    first, second = two_models(100, 2, 1, 1, gain=0.4, skewed=True)
    assert 0.93 < covered(statistics.estimate(second - first, **OPTIONS), 0.4) < 0.97


def test_intervals_of_means_cover_the_truth():
    first, _ = two_models(60, 2, 1, 1, gain=0)
    assert 0.935 < covered(statistics.estimate(first, **OPTIONS), 20) < 0.965


def test_no_effect_is_found_as_rarely_as_claimed():
    first, second = two_models(60, 2, 0.5, 1, gain=0, studies=6 * 500)
    p = statistics.estimate(second - first, **OPTIONS).p
    assert 0.035 < (p < 0.05).mean() < 0.065
    tables = p.reshape(500, 6)  # of six comparisons each
    found = [(statistics.holm(table) < 0.05).any() for table in tables]
    assert 0.02 < np.mean(found) < 0.07


def test_seed_noise_is_not_counted_twice():
    # With no prompt effect, drawing prompts and then seeds as they are is too wide by a fifth.
    first, second = two_models(200, 2, 0, 1, gain=0)
    estimate = statistics.estimate(second - first, **OPTIONS)
    widths = (estimate.high - estimate.low) / (2 * 1.972)  # Student's, 199 degrees of freedom
    assert widths.mean() == pytest.approx(1 / np.sqrt(400), rel=0.02)


def test_pairing_cancels_what_models_share():
    first, second = two_models(60, 2, 0.2, 0.2, gain=0.3, studies=1)
    paired = statistics.estimate(second - first, **OPTIONS)
    unpaired = statistics.difference(second, first, **OPTIONS)
    assert paired.mean == pytest.approx(unpaired.mean)
    assert paired.high - paired.low < 0.2 * (unpaired.high - unpaired.low)


def test_interval_and_p_value_agree():
    rng = np.random.default_rng(2)
    values = rng.normal(0.2, 1, size=(40, 2, 1000))
    estimate = statistics.estimate(values, **OPTIONS)
    excludes = (estimate.low > 0) | (estimate.high < 0)
    assert 0.1 < excludes.mean() < 0.9
    # At the very edge the resolution of the draws decides.
    assert ((estimate.p < 0.05) != excludes).mean() < 0.005


def test_difference_of_two_sets_of_prompts_covers_the_truth():
    rng = np.random.default_rng(3)
    hard = 1.0 + rng.normal(size=(20, 1, STUDIES)) + rng.normal(size=(20, 2, STUDIES))
    study = 0.6 + rng.normal(size=(80, 1, STUDIES)) + 2 * rng.normal(size=(80, 3, STUDIES))
    estimate = statistics.difference(hard, study, **OPTIONS)
    assert 0.935 < covered(estimate, 0.4) < 0.965


def test_detectable_effect_is_detected_four_times_in_five():
    first, second = two_models(60, 2, 0.5, 1, gain=0)
    null = statistics.estimate(second - first, **OPTIONS)
    true_error = np.sqrt((0.5**2 + 1 / 2) / 60)
    effect = statistics.detectable(np.array([true_error]), null.freedom[:1], confidence=0.95)[0]
    found = statistics.estimate(second - first + effect, **OPTIONS).low > 0
    assert found.mean() == pytest.approx(0.8, abs=0.03)


def test_prompts_needed_grow_with_the_square_of_the_ratio():
    assert statistics.prompts_needed(effect=0.5, smallest=1.0, prompts=100) == 400
    assert statistics.prompts_needed(effect=-0.5, smallest=1.0, prompts=100) == 400
    assert statistics.prompts_needed(effect=0.0, smallest=1.0, prompts=100) == float("inf")
    assert np.isnan(statistics.prompts_needed(float("nan"), 1.0, 100))


def test_holm_steps_down_and_keeps_what_was_not_tested():
    adjusted = statistics.holm(np.array([0.01, np.nan, 0.04, 0.03]))
    assert adjusted[[0, 2, 3]] == pytest.approx([0.03, 0.06, 0.06])
    assert np.isnan(adjusted[1])
    assert np.isnan(statistics.holm(np.array([np.nan]))).all()


def test_holm_agrees_with_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(5).uniform(size=40) ** 3
    expected = multitest.multipletests(p, method="holm")[1]
    assert statistics.holm(p) == pytest.approx(expected)


def test_a_difference_that_is_always_0_is_no_effect():
    estimate = statistics.estimate(np.zeros((10, 2, 1)), **OPTIONS)
    assert (estimate.low[0], estimate.high[0], estimate.p[0]) == (0, 0, 1)


def test_one_prompt_has_a_mean_and_no_interval():
    estimate = statistics.estimate(np.full((1, 2, 1), 3.0), **OPTIONS)
    assert estimate.mean[0] == 3
    assert np.isnan([estimate.low[0], estimate.high[0], estimate.p[0]]).all()


def test_the_same_arguments_give_the_same_result_and_the_seed_another():
    values = np.random.default_rng(4).normal(size=(30, 2, 3))
    first, again = (statistics.estimate(values, **OPTIONS) for _ in range(2))
    assert (first.low == again.low).all() and (first.p == again.p).all()
    other = statistics.estimate(values, **OPTIONS | {"seed": 1})
    assert (first.low != other.low).all()


def test_small_p_values_do_not_end_at_the_resolution_of_the_draws():
    values = np.random.default_rng(6).normal(1, 1, size=(40, 2, 1))
    p = statistics.estimate(values, **OPTIONS).p[0]
    assert 0 < p < 1e-6


def test_what_is_not_a_number_is_refused():
    with pytest.raises(ValueError, match="finite"):
        statistics.estimate(np.full((5, 2, 1), np.nan), **OPTIONS)


# --- several trainings ----------------------------------------------------------------------------


def trained(trainings, prompts, training_sd, gain, studies=STUDIES, interaction=0.6, seed=7):
    """Paired differences to base of several trainings, (trainings, prompts, 2, studies).

    A training is better or worse throughout (`training_sd`), and on some prompts and pictures.
    """
    rng = np.random.default_rng(seed)
    effect = training_sd * rng.normal(size=(trainings, 1, 1, studies))
    prompt = rng.normal(size=(1, prompts, 1, studies))
    picture = rng.normal(size=(1, prompts, 2, studies))
    own = interaction * rng.normal(size=(trainings, prompts, 1, studies))
    rest = rng.normal(size=(trainings, prompts, 2, studies))
    return gain + effect + prompt + picture + own + rest


@pytest.mark.parametrize("trainings", [2, 3, 5])
@pytest.mark.parametrize("training_sd", [0, 0.1, 0.2, 0.5])
def test_intervals_over_trainings_cover_the_truth(trainings, training_sd):
    values = trained(trainings, 60, training_sd, gain=0.4)
    estimate = statistics.estimate(values, **OPTIONS)
    # Two trainings know next to nothing of their spread; half a per cent is the simulation's own.
    low, high = (0.92, 0.975) if trainings == 2 else (0.93, 0.97)
    assert low < covered(estimate, 0.4) < high


def test_no_effect_over_trainings_is_found_as_rarely_as_claimed():
    for training_sd in (0, 0.2):
        p = statistics.estimate(trained(3, 60, training_sd, gain=0, studies=3000), **OPTIONS).p
        assert 0.025 < (p < 0.05).mean() < 0.065
        tables = p.reshape(500, 6)
        found = [(statistics.holm(table) < 0.05).any() for table in tables]
        assert 0.01 < np.mean(found) < 0.07


def test_one_training_alone_does_not_know_its_spread():
    values = trained(1, 60, 0.5, gain=0.4)
    assert covered(statistics.estimate(values, **OPTIONS), 0.4) < 0.75


def test_trainings_that_agree_to_the_bit_are_one():
    one = trained(1, 30, 0, gain=0.4, studies=5)
    first, second = (statistics.estimate(v, **OPTIONS) for v in (one[0], np.repeat(one, 3, axis=0)))
    assert second.low == pytest.approx(first.low) and second.freedom == pytest.approx(first.freedom)


def test_difference_of_two_sets_pairs_the_trainings():
    # A training that is better everywhere is better on both sets: their difference is not wider.
    hard, study = (trained(3, n, 0, gain=0.4, seed=n) for n in (30, 80))
    both = np.random.default_rng(8).normal(size=(3, 1, 1, STUDIES))
    estimate = statistics.difference(hard + both, study + both, **OPTIONS)
    assert 0.93 < covered(estimate, 0) < 0.97
    alone = statistics.difference(hard, study, **OPTIONS)
    assert estimate.error == pytest.approx(alone.error)

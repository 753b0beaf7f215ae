"""Do the intervals hold what they promise, on data whose truth is known?"""

import dataclasses

import numpy as np
import pytest

from vlg.analysis import correction, power, statistics

OPTIONS = {"draws": 2000, "confidence": 0.95, "seed": 0}
FEWER = OPTIONS | {"draws": 500}
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


@pytest.mark.parametrize("prompts", [15, 20, 50])
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
    found = [(correction.holm(table) < 0.05).any() for table in tables]
    assert 0.02 < np.mean(found) < 0.07


def tied(prompts, seeds, studies):
    """Differences in the share of six facts that are true, and their mean."""
    rng = np.random.default_rng(2)
    chance = rng.beta(4, 2, size=(prompts, 1, studies))
    better = chance + 0.3 * (1 - chance)
    before, after = (
        rng.binomial(6, np.broadcast_to(p, (prompts, seeds, studies))) / 6 for p in (chance, better)
    )
    return after - before, 0.3 * (1 - 4 / 6)


def zero_inflated(prompts, seeds, studies, share=0.3):
    """Differences that are 0 for most prompts and 1 on average for the others, and their mean."""
    rng = np.random.default_rng(3)
    changed = rng.random((prompts, 1, studies)) < share
    sizes = rng.normal(1, 1, (prompts, 1, studies)) + rng.normal(size=(prompts, seeds, studies))
    return changed * sizes, share


@pytest.mark.parametrize(
    ("draw", "prompts"), [(tied, 20), (tied, 60), (zero_inflated, 60), (zero_inflated, 160)]
)
def test_intervals_that_are_given_hold_for_tied_and_zero_inflated_data(draw, prompts):
    values, truth = draw(prompts, 2, STUDIES)
    estimate = statistics.estimate(values, **OPTIONS)
    given = ~np.isnan(estimate.low)
    assert given.mean() > 0.7
    inside = (estimate.low <= truth) & (truth <= estimate.high)
    assert 0.93 <= inside[given].mean() < 0.97


@pytest.mark.parametrize("prompts", [5, 8, 15, 30])
def test_no_interval_where_few_prompts_differ(prompts):
    values, _ = zero_inflated(prompts, 2, 500, share=0.2)
    estimate = statistics.estimate(values, **OPTIONS)
    differ = (values.mean(axis=1) != 0).sum(axis=0) + 1
    assert (np.isnan(estimate.low) == (differ < 15)).all()
    assert (np.isnan(estimate.p) == np.isnan(estimate.low)).all()
    normal = two_models(prompts, 2, 1, 1, gain=0.4, studies=5)
    estimate = statistics.estimate(normal[1] - normal[0], **OPTIONS)
    assert np.isnan(estimate.low).all() == (prompts < 15)


@pytest.mark.parametrize("value", [0, 1 / 6])
@pytest.mark.parametrize("prompts", [8, 160])
def test_differences_that_are_all_alike_decide_nothing(prompts, value):
    estimate = statistics.estimate(np.full((prompts, 2, 1), value), **OPTIONS)
    assert estimate.mean[0] == pytest.approx(value)
    assert np.isnan([estimate.low[0], estimate.high[0], estimate.p[0]]).all()
    assert np.isnan(statistics.exceeds(estimate, 0.1)).all()


def test_the_probability_of_a_worthwhile_effect_agrees_with_the_interval():
    first, second = two_models(40, 2, 1, 1, gain=0.4)
    estimate = statistics.estimate(second - first, **OPTIONS)
    above = statistics.exceeds(estimate, 0.2)
    assert ((above > 0.975) == (estimate.low > 0.2)).mean() > 0.995
    assert ((above < 0.025) == (estimate.high < 0.2)).mean() > 0.995
    # Where the effect is just the smallest worth having, any probability is as likely.
    level = statistics.exceeds(estimate, 0.4)
    assert np.quantile(level, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.03)


# --- many comparisons -----------------------------------------------------------------------------


def alike(rows, likeness, studies, seed=9, gain=0.0):
    """Differences of studies of several rows that share a part of what they vary by."""
    rng = np.random.default_rng(seed)
    for _ in range(studies):
        shared = rng.normal(size=(40, 2, 1))
        own = rng.normal(size=(40, 2, rows))
        yield np.sqrt(likeness) * shared + np.sqrt(1 - likeness) * own + gain


@pytest.mark.parametrize("likeness", [0, 0.95])
def test_max_t_finds_no_effect_as_rarely_as_claimed(likeness):
    """With 500 draws the smallest p of eight is found too small too often: 6.8 % for 5."""
    wrong = []
    for values in alike(8, likeness, 500):
        estimate = statistics.estimate(values, **(OPTIONS | {"draws": 3000}))
        wrong.append((correction.max_t(estimate.p, estimate.draws) < 0.05).any())
    assert 0.03 < np.mean(wrong) < 0.07


def test_max_t_keeps_more_than_holm_where_rows_are_alike():
    kept = np.zeros(2)
    for values in alike(12, 0.95, 100, gain=0.35):
        estimate = statistics.estimate(values, **FEWER)
        ours = correction.max_t(estimate.p, estimate.draws)
        assert (ours >= estimate.p).all()
        kept += [(ours < 0.05).sum(), (correction.holm(estimate.p) < 0.05).sum()]
    assert kept[0] > 1.2 * kept[1]


def test_max_t_of_one_comparison_is_its_p_and_nan_stays():
    values = np.random.default_rng(1).normal(0.2, 1, size=(40, 2, 1))
    estimate = statistics.estimate(values, **OPTIONS)
    alone = correction.max_t(estimate.p, estimate.draws)
    assert alone == pytest.approx(estimate.p, abs=0.005)
    p = np.array([np.nan, *estimate.p])
    both = correction.max_t(p, np.repeat(estimate.draws, 2, axis=1))
    assert np.isnan(both[0]) and both[1] == alone[0]
    assert len(correction.max_t(np.array([]), np.zeros((10, 0)))) == 0


def test_parts_of_the_prompts_share_their_draws():
    values = np.random.default_rng(5).normal(size=(60, 2, 200))
    part = range(0, 60, 2)
    whole = statistics.estimate(values, **OPTIONS)
    own = statistics.estimate(values[::2], **OPTIONS, among=(part, 60))
    alone = statistics.estimate(values[::2], **OPTIONS)
    assert own.draws.std(axis=0) == pytest.approx(alone.draws.std(axis=0), rel=0.1)
    # Half of the prompts are half of what the mean of all deviates by.
    together = [np.corrcoef(own.draws[:, k], whole.draws[:, k])[0, 1] for k in range(200)]
    assert np.mean(together) == pytest.approx(np.sqrt(0.5), abs=0.05)
    other = statistics.estimate(values[1::2], **OPTIONS, among=(range(1, 60, 2), 60))
    apart = [np.corrcoef(own.draws[:, k], other.draws[:, k])[0, 1] for k in range(200)]
    assert np.mean(apart) == pytest.approx(0, abs=0.05)


def test_opposite_directions_are_found_where_they_are_and_rarely_elsewhere():
    def found(means, studies=150):
        rng = np.random.default_rng(4)
        result = []
        for _ in range(studies):
            values = rng.normal(size=(60, 2, 6)) + rng.normal(size=(60, 1, 1)) + np.array(means)
            estimate = statistics.estimate(values, **FEWER)
            result.append(correction.opposite(estimate.mean, estimate.p, estimate.draws) < 0.05)
        return np.mean(result)

    assert found([0.8, 0, 0, 0, 0, -0.8]) > 0.8
    assert found([0, 0, 0, 0, 0, 0]) < 0.05
    assert found([2, 2, 2, 2, 2, 0]) < 0.05  # one that stays does not fall
    assert correction.opposite(np.ones(3), np.full(3, 0.01), np.zeros((10, 3))) == 1
    draws = np.random.default_rng(8).normal(size=(4000, 10))  # the best of ten of which none moves
    p = np.full(10, 0.02)
    assert correction.opposite(draws[0], p, draws) == pytest.approx(1 - 0.99**10, abs=0.02)


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
    known = dataclasses.replace(null, error=np.full(STUDIES, true_error))
    effect = power.detectable(known, confidence=0.95)[0]
    found = statistics.estimate(second - first + effect, **OPTIONS).low > 0
    assert found.mean() == pytest.approx(0.8, abs=0.02)


def found_again(first, second):
    """Share of repetitions that show the effect which the first study says it would have shown."""
    effect = power.detectable(statistics.estimate(first, **OPTIONS), confidence=0.95)
    return (statistics.estimate(second + effect, **OPTIONS).low > 0).mean()


@pytest.mark.parametrize(("prompts", "seeds"), [(20, 2), (60, 1), (160, 2)])
def test_a_repetition_shows_what_a_study_says_it_would_have_shown(prompts, seeds):
    first, second = two_models(prompts, seeds, 0.5, 1, gain=0, studies=2 * STUDIES)
    both = np.split(second - first, 2, axis=2)
    assert 0.78 <= found_again(*both) <= 0.82


def test_what_is_needed_depends_on_where_the_error_comes_from():
    counts = (100, 2, 3)
    alone = (1.0, 3.0, float("nan"))  # one training: theirs is unknown
    # An error of 2, of which a factor of 3 is detectable: 6 at 100 prompts, so 3 at four times.
    assert power.needed(3.0, 3.0, alone, counts)[0] == 400
    assert power.needed(-3.0, 3.0, alone, counts)[0] == 400
    # Prompts leave a variance of 1, which is all that an effect of 3 allows.
    assert power.needed(3.0, 3.0, alone, counts)[1] == np.inf
    assert power.needed(6.0, 3.0, alone, counts)[1] == 2
    assert np.isnan(power.needed(3.0, 3.0, alone, counts)[2])
    spread = (1.0, 3.0, 12.0)
    prompts, seeds, trainings = power.needed(9.0, 3.0, spread, counts)
    assert (prompts, seeds, trainings) == (np.inf, np.inf, np.ceil(3 * 12 / 5))
    assert power.needed(0.0, 3.0, alone, counts)[:2] == (np.inf, np.inf)
    assert np.isnan(power.needed(float("nan"), 3.0, alone, counts)).all()


def test_the_error_is_split_into_its_sources():
    values = trained(4, 60, 0.5, gain=0, interaction=0)
    estimate = statistics.estimate(values, **OPTIONS)
    parts = [estimate.sources.prompts, estimate.sources.seeds, estimate.sources.trainings]
    assert sum(parts) == pytest.approx(estimate.error**2)
    # Four trainings of sd 0.5; 60 prompts of sd 1; pictures of sd 1, and of each training's own.
    expected = [1 / 60, (1 + 1 / 4) / 120, 0.25 / 4]
    assert [part.mean() for part in parts] == pytest.approx(expected, rel=0.1)
    alone = statistics.estimate(values[:1], **OPTIONS)
    assert np.isnan(alone.sources.trainings).all()
    one_seed = statistics.estimate(values[:1, :, :1], **OPTIONS)
    assert np.isnan(one_seed.sources.seeds).all()
    assert one_seed.sources.prompts == pytest.approx(one_seed.error**2)


def test_holm_steps_down_and_keeps_what_was_not_tested():
    adjusted = correction.holm(np.array([0.01, np.nan, 0.04, 0.03]))
    assert adjusted[[0, 2, 3]] == pytest.approx([0.03, 0.06, 0.06])
    assert np.isnan(adjusted[1])
    assert np.isnan(correction.holm(np.array([np.nan]))).all()


def test_holm_agrees_with_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(5).uniform(size=40) ** 3
    expected = multitest.multipletests(p, method="holm")[1]
    assert correction.holm(p) == pytest.approx(expected)


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


@pytest.mark.parametrize("trainings", [3, 5])
@pytest.mark.parametrize("training_sd", [0, 0.1, 0.2, 0.5])
def test_intervals_over_trainings_cover_the_truth(trainings, training_sd):
    values = trained(trainings, 60, training_sd, gain=0.4)
    estimate = statistics.estimate(values, **OPTIONS)
    assert 0.93 < covered(estimate, 0.4) < 0.97


def test_two_trainings_speak_of_themselves_alone():
    values = trained(2, 60, 0.5, gain=0.4)
    estimate = statistics.estimate(values, **OPTIONS)
    assert np.isnan(estimate.sources.trainings).all()
    rng = np.random.default_rng(7)
    own = 0.4 + 0.5 * rng.normal(size=(2, 1, 1, STUDIES)).mean(axis=(0, 1, 2))
    assert 0.935 < covered(estimate, own) < 0.965  # of the mean of these two


@pytest.mark.parametrize("trainings", [3, 5])
@pytest.mark.parametrize("training_sd", [0, 0.1, 0.5])
def test_trainings_show_what_they_say_they_would_show(trainings, training_sd):
    both = (trained(trainings, 60, training_sd, gain=0, seed=seed) for seed in (7, 99))
    assert 0.77 <= found_again(*both) <= 0.83


@pytest.mark.slow
@pytest.mark.parametrize("trainings", [3, 4, 5])
@pytest.mark.parametrize("training_sd", [0, 0.1, 0.2, 0.3, 0.5])
@pytest.mark.parametrize("prompts", [20, 60, 160])
def test_power_and_coverage_over_trainings_in_full(trainings, training_sd, prompts):
    sets = [trained(trainings, prompts, training_sd, gain=0, studies=8000, seed=s) for s in (7, 9)]
    # With few prompts an effect that is said to be detectable is shown a little more often.
    assert 0.775 <= found_again(*sets) <= (0.825 if prompts > 20 else 0.835)
    assert 0.93 <= covered(statistics.estimate(sets[0], **OPTIONS), 0) <= 0.975


def test_no_effect_over_trainings_is_found_as_rarely_as_claimed():
    for training_sd in (0, 0.2):
        p = statistics.estimate(trained(3, 60, training_sd, gain=0, studies=3000), **OPTIONS).p
        assert 0.025 < (p < 0.05).mean() < 0.065
        tables = p.reshape(500, 6)
        found = [(correction.holm(table) < 0.05).any() for table in tables]
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

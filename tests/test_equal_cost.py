"""The table `methods`: what ways to guide gain, held against the best of N at their cost."""

import numpy as np
import pandas as pd
import pytest
import synthetic
from matplotlib.text import Text
from test_tables import build, load, made, mean, score_rows

from vlg.analysis import study as studies
from vlg.analysis.tables import methods
from vlg.report import pages
from vlg.report.figure import styled
from vlg.report.figures import methods as figure

TRAINED = "embed-1000"
PLAIN = 20e9 / methods.TERA  # TFLOPs of a plain picture of the made-up study


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return made(folder, prompts=90, hard=24, refined=("base", TRAINED))


@pytest.fixture(scope="module")
def table(results):
    return build(load(*results), "methods")


@pytest.fixture(scope="module")
def frame(table):
    return table.frame.set_index(["model", "arm"])


def rows_of(root, model, arm="", number=0):
    names = [f"refined/{model}"] if arm else [f"images/{model}/study"]
    rows = [row for name in names for row in score_rows(root, name)]
    return [row for row in rows if (row["arm"], int(row["round"])) == (arm, number)]


def test_a_row_is_the_last_of_each_way(frame):
    arms = [(model, arm) for model in ("base", TRAINED) for arm in ("plain", "refine", "best_of_n")]
    assert set(frame.index) == {*arms, ("normal-1000", "plain")}
    assert set(frame["round"][frame.index.get_level_values(1) != "plain"]) == {4}


def test_training_is_spread_over_the_pictures_that_will_be_drawn(results, frame):
    summary = load(*results).train_flops(TRAINED) / methods.TERA
    row = frame.loc[(TRAINED, "plain")]
    assert row["tflops"] == pytest.approx(PLAIN) and row["train_tflops"] == pytest.approx(summary)
    for n in methods.PICTURES:
        assert row[f"at_{n}_tflops"] == pytest.approx(PLAIN + summary / n)
        # A sample more costs as much as the first one.
        best = 1 + summary / n / PLAIN
        assert row[f"at_{n}_against"] == pytest.approx(best) if best <= 5 else True
    assert frame.loc[("base", "refine"), "at_100_tflops"] == pytest.approx(3 * PLAIN)


def test_the_difference_at_equal_cost_is_that_to_the_best_of_as_many(results, frame):
    root = results[0]
    # Four rounds of half the steps cost as much as two fresh samples more.
    expected = mean(rows_of(root, "base", "refine", 4)) - mean(
        rows_of(root, "base", "best_of_n", 2)
    )
    row = frame.loc[("base", "refine")]
    for n in methods.PICTURES:
        assert row[f"at_{n}_against"] == pytest.approx(3)
        assert row[f"at_{n}_delta"] == pytest.approx(expected, abs=1e-3)
        assert row[f"at_{n}_delta_low"] < expected < row[f"at_{n}_delta_high"]
        assert row[f"at_{n}_delta_p"] <= row[f"at_{n}_delta_p_corrected"]
    share = frame.loc[(TRAINED, "plain"), "at_1000000_against"] - 1
    assert 0 < share < 0.1
    one, two = (mean(rows_of(root, "base", *key)) for key in ((), ("best_of_n", 1)))
    best = (1 - share) * one + share * two
    found = frame.loc[(TRAINED, "plain"), "at_1000000_delta"]
    assert found == pytest.approx(mean(rows_of(root, TRAINED)) - best, abs=1e-3)


def test_the_best_of_n_is_not_held_against_itself_nor_beyond_what_was_drawn(frame):
    control = frame.loc[("base", "best_of_n")]
    assert np.isnan(control["at_100_delta"]) and control["at_100"] == ""
    beyond = frame.loc[(TRAINED, "best_of_n")]
    assert beyond["at_100_tflops"] > 5 * PLAIN
    assert np.isnan(beyond["at_100_against"]) and np.isnan(beyond["at_100_delta"])


def test_who_sees_the_difference_is_said_by_corrected_p(frame):
    for n in methods.PICTURES:
        for _, row in frame[frame[f"at_{n}_delta"].notna()].iterrows():
            for who, name in (("judge", "delta"), ("facts", "fidelity_delta")):
                seen = row[f"at_{n}_{name}_p_corrected"] < 0.05
                word = f"{who} {'more' if row[f'at_{n}_{name}'] > 0 else 'less'}"
                assert (word in row[f"at_{n}"]) == seen
    assert "judge more" in frame.loc[(TRAINED, "plain"), "at_1000000"]


def test_an_interaction_that_was_put_in_is_found_and_none_where_gains_add_up(results, tmp_path):
    """The made-up gains of models and arms add up."""
    study = load(*results)
    alone = build(study, "methods").frame.set_index(["model", "arm"])
    row = alone.loc[(TRAINED, "refine")]
    there = alone[alone["interaction"].notna()]
    assert len(there) == 2 and (there["interaction_p_corrected"] > 0.01).all()
    scores = study.scores.copy()
    scores.loc[(scores["model"] == TRAINED) & (scores["arm"] == "refine"), "clipscore"] -= 3
    lost = studies.Study(study.prompts, scores, study.hard, study.training, settings=study.settings)
    found = build(lost, "methods").frame.set_index(["model", "arm"]).loc[(TRAINED, "refine")]
    assert found["interaction"] == pytest.approx(row["interaction"] - 3)
    assert found["interaction_high"] < 0 and found["interaction_p_corrected"] < 0.01


def test_diversity_of_arms_is_shown_where_it_was_measured(results, tmp_path):
    study = load(*results)
    assert study.grids.columns.count("spread") == 0
    own = study.scores[study.scores["set"] == "study"]
    last = own[(own["arm"] == "") | (own["round"] == 4)]
    rows = last[["model", "arm", "round", "id", "seed", "sha256"]].assign(drift=0.1)
    rows["spread"] = np.where(rows["arm"] == "best_of_n", 0.2, 0.4)
    path = tmp_path / "diversity.csv"
    rows.to_csv(path, index=False)
    scores, _ = studies.further(study.scores, [], path)
    told = studies.Study(study.prompts, scores, study.hard, study.training, settings=study.settings)
    found = build(told, "methods").frame.set_index(["model", "arm"])
    assert found.loc[("base", "best_of_n"), "spread_delta"] == pytest.approx(-0.2)
    assert found.loc[("base", "refine"), "spread_delta"] == pytest.approx(0)
    # A table that is not about arms reads no scores of them.
    plain = study.scores[study.scores["arm"] == ""]
    assert studies.further(plain, [], path)[0]["spread"].notna().any()
    # Half of a round is missing.
    (rows[(rows["arm"] != "refine") | (rows["seed"] == 0)]).to_csv(path, index=False)
    with pytest.raises(studies.UserError, match="spread of base: pictures are missing"):
        studies.further(study.scores, [], path)


def test_the_page_moves_points_as_the_slider_says(table, frame, tmp_path, browser):
    path = tmp_path / "methods.html"
    pages.write(path, pages.table("methods", table, table.texts("methods")))
    browser.open(path)
    script = """
        const slider = document.getElementById("pictures");
        slider.value = PLACE; slider.dispatchEvent(new Event("input"));
        return [...document.querySelectorAll("#chart tbody tr")].map(
            (row) => [...row.cells].map((cell) => cell.textContent));"""
    for place, n in ((40, 100), (80, 10_000), (120, 1_000_000)):
        rows = {
            row[0].split(" ", 1)[1]: row[1:]
            for row in browser.run(script.replace("PLACE", str(place)))
        }
        own = frame.loc[(TRAINED, "plain")]
        cost, gain, samples, _, beyond = rows[TRAINED]
        assert float(cost) == pytest.approx(own[f"at_{n}_tflops"], rel=5e-3)
        assert float(gain.replace("−", "-")) == pytest.approx(own["delta"], abs=6e-3)
        if np.isfinite(own[f"at_{n}_against"]):
            assert float(samples) == pytest.approx(own[f"at_{n}_against"], abs=0.06)
            assert float(beyond.replace("−", "-")) == pytest.approx(own[f"at_{n}_delta"], abs=0.02)
        else:
            assert samples == "more than 5" and beyond == "–"
        assert float(rows["base, refine"][0]) == pytest.approx(3 * PLAIN, rel=5e-3)
    assert not [each for each in browser.messages() if each["level"] != "WARNING"]


def test_the_figure_shows_each_way(results, frame):
    # As narrow as it gets: a long name, and one column more where diversity was measured.
    long = "imagerefl_gs100_0-1000"
    ways = build(load(*results), "methods").frame.replace({"model": {TRAINED: long}})
    for end in ("", "_low", "_high"):
        ways[f"spread_delta{end}"] = ways[f"delta{end}"] / 100
    with styled():
        drawn = figure.draw({"confidence": 0.95}, ways, build(load(*results), "refinement").frame)
        drawn.canvas.draw()
    titles = [axis.get_title("left") for axis in drawn.axes]
    forests = [title for title in titles if title.split() == ["Δ", "at", "equal", "cost"]]
    labels = [label.get_text() for label in drawn.axes[2].get_yticklabels()]
    assert len(forests) == 1 and len(labels) == len(frame) - 1
    assert "refine" in labels and f"{long}, best of n" in labels
    texts = [text for text in drawn.findobj(Text) if text.get_text() in titles and text.get_text()]
    ends = [text.get_window_extent().x1 for text in texts]
    assert len(ends) >= len(drawn.axes) and max(ends) <= drawn.bbox.x1  # none is cut off


def test_a_way_that_breaks_pictures_leaves_room_for_the_others(results, table):
    """It is named at the edge, with its number, and the others keep their places."""
    frame, broken = table.frame, table.frame.copy()
    row = broken.index[broken["arm"] == "refine"][0]
    for column in ("delta", "delta_low", "delta_high"):
        broken.loc[row, column] = -80.0
    other = build(load(*results), "refinement").frame
    before, after = (figure.draw({"confidence": 0.95}, each, other) for each in (frame, broken))
    shown, whole = (
        [axis for axis in each.axes if axis.get_title() == "Δ ClipScore"]
        for each in (after, before)
    )
    texts = [[text.get_text() for text in axis.texts] for axis in shown]
    assert texts == [["1 lower"], ["\N{BLACK LEFT-POINTING TRIANGLE} -80"]]
    assert not [text for axis in whole for text in axis.texts]
    assert whole[1].get_xlim()[0] > -10  # nothing is cut off
    highest = broken["delta_high"].max()
    for low, high in (shown[0].get_ylim(), shown[1].get_xlim()):
        assert low == pytest.approx(-max(2 * highest, 10)) and highest <= high
    assert shown[0].dataLim.y0 > -80 and shown[1].dataLim.x0 > -80


def test_a_study_without_ways_has_a_table_and_a_figure(tmp_path):
    root, study = made(tmp_path, prompts=12, rounds=0, variants=(), refined=())
    one = build(load(root, study), "methods").frame
    assert list(one["model"]) == ["base"] and isinstance(one, pd.DataFrame)
    assert synthetic.Study().models[0] == "base"
    figure.draw({"confidence": 0.95}, one, build(load(root, study), "refinement").frame)

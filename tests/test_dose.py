"""Ladders of doses: what the table says of each rung, and how often it says so wrongly."""

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import synthetic
from scipy.stats import binom
from test_tables import build, load

from vlg.analysis.study import MEASURES, Settings, Study
from vlg.analysis.tables import dose
from vlg.report import figure

DOSES = (0.05, 0.5, 2.0, 20.0)
EFFECTS = {"clipscore": 1.0, "guide": 0.5, "fidelity": 0.03}  # a standard error is a tenth of it


def ladder(name="mine", doses=DOSES, **keys):
    rungs = [{"dose": each, "name": f"{name}_{place}"} for place, each in enumerate(doses)]
    return {"variant": False, "dose": "scale", "published": 2.0, "rungs": rungs, **keys}


class Simulated(Study):
    """A study of base and arms whose scores are drawn, as its tables ask for them."""

    def __init__(self, rng, effects, prompts=30, seeds=2, ladders=("one", "two"), draws=400):
        """effects: {(ladder, rung): {measure: true difference in units of EFFECTS}}."""
        names = {name: ladder(name) for name in ladders}
        settings = Settings.parse({"draws": draws, "ladders": names}, "settings")
        super().__init__(prompts=pd.DataFrame(), scores=pd.DataFrame(), settings=settings)
        self.__dict__ |= {
            "ids": [f"p{i}" for i in range(prompts)],
            "seeds": list(range(seeds)),
            "_models": ["base"],
            "grids": SimpleNamespace(columns=[]),
        }
        shape = (prompts, seeds, len(MEASURES))
        base = rng.normal(70, 6, shape)
        self.arms = {("base", "", 0): base}
        size = np.array([*EFFECTS.values(), 0.03]) * 0.1 * np.sqrt(prompts)
        for name in ladders:
            of_prompt = rng.normal(0, 1, (prompts, 1, len(MEASURES)))  # rungs are alike
            for place in range(len(DOSES)):
                noise = 0.6 * of_prompt + 0.6 * rng.normal(0, 1, (prompts, 1, len(MEASURES)))
                noise = noise + 0.7 * rng.normal(0, 1, shape)
                gain = effects.get((name, place), {})
                mean = np.array([gain.get(m, 0) * EFFECTS.get(m, 0) for m in MEASURES])
                self.arms["base", f"{name}_{place}", 1] = base + size * noise + mean

    def refined(self):
        return [key for key in self.arms if key[1]]

    def values(self, keys, ids, seeds, measures):
        places = [MEASURES.index(name) for name in measures]
        return np.stack([self.arms[key][..., places] for key in keys], axis=2)[None]


def simulated(times, effects, seed=0, **shape):
    """The rows' words of so many tables."""
    rng = np.random.default_rng(seed)
    return [dose.build(Simulated(rng, effects, **shape)).frame for _ in range(times)]


def at_most(frames, word, share=0.05):
    """Whether so many tables with this word anywhere are no more than chance has of `share`."""
    found = sum((frame["seen"] == word).any() for frame in frames)
    return found <= binom.ppf(0.999, len(frames), share)


NULL = {}
GUIDED = {("one", place): {"guide": 3.0} for place in range(len(DOSES))}
HACKED = {("one", 3): {"guide": 1.0, "fidelity": -0.8}, ("one", 1): {"clipscore": 0.8}}


def check(times):
    nulls = simulated(times, NULL)
    assert all(at_most(nulls, word) for word in (dose.HELPS, dose.HACKS, dose.HARMS, dose.GUIDE))
    guided = simulated(times, GUIDED, seed=1)
    assert at_most(guided, dose.HELPS) and at_most(guided, dose.HACKS)
    moved = [(frame["seen"][frame["ladder"] == "one"] == dose.GUIDE).mean() for frame in guided]
    assert np.mean(moved) > 0.9
    hacked = simulated(times, HACKED, seed=2)
    verdicts = [frame["verdict"][frame["ladder"] == "one"].iloc[0] for frame in hacked]
    right = [v == "helps at 0.5; hacks at 20" for v in verdicts]
    assert np.mean(right) > 0.85, pd.Series(verdicts).value_counts()


def test_nothing_is_seen_where_nothing_is_and_what_is_planted_is():
    check(20)


@pytest.mark.slow
def test_error_rates_of_the_rule():
    check(400)


@pytest.mark.slow
def test_an_effect_of_the_stated_size_is_seen_with_eighty_per_cent():
    stated = np.mean([frame["mde"].mean() for frame in simulated(40, NULL, seed=3)])
    planted = {("one", 2): {"clipscore": stated / EFFECTS["clipscore"]}}
    frames = simulated(300, planted, seed=4)
    found = np.mean([frame["seen"].iloc[2] == dose.HELPS for frame in frames])
    assert 0.74 < found < 0.88


# p: of judge, guide, facts, each with the sign of its difference
@pytest.mark.parametrize(
    ("judge", "guide", "facts", "word"),
    [
        (+0.01, +0.01, +0.01, "helps"),
        (+0.01, +0.9, -0.9, "helps"),
        (-0.9, +0.9, +0.01, "helps"),
        (+0.01, +0.01, -0.01, "hacks"),
        (-0.01, +0.01, -0.9, "hacks"),
        (+0.01, -0.01, -0.01, "harms"),
        (-0.01, +0.06, +0.9, "harms"),
        (+0.06, +0.01, -0.06, "moves the guide"),
        (+0.06, -0.01, +0.06, "nothing"),
        (+0.01, +0.01, None, "helps"),
        (-0.01, +0.01, None, "hacks"),
        (None, None, None, "nothing"),
    ],
)
def test_the_rule(judge, guide, facts, word):
    columns = {}
    for who, p in {"judge": judge, "guide": guide, "facts": facts}.items():
        difference, corrected = dose.SIGNS[who]
        columns[difference] = [np.nan if p is None else np.sign(p)]
        columns[corrected] = [np.nan if p is None else abs(p)]
    assert dose.words(pd.DataFrame(columns), 0.05).tolist() == [word]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("dose")
    shape = synthetic.Study(
        pictures=False,
        prompts=60,
        variants=("normal", "mine_gs0_05", "mine_gs2_0"),
        steps=(5, 10),
        rounds=2,
        refined=("base", "mine_gs2_0-10"),
        gains={"normal": 0.2, "mine_gs2_0": 3.0, "refine": 1.5, "best_of_n": 1.8},
    )
    study = synthetic.write(root, shape)
    ladders = {
        "mine": {
            "variant": True,
            "dose": "guide_scale",
            "published": 0.05,
            "rungs": [
                {"dose": 0.05, "name": "mine_gs0_05"},
                {"dose": 2, "name": "mine_gs2_0", "round": None},
            ],
        },
        "best_of_n": {
            "variant": False,
            "dose": "rounds",
            "rungs": [{"dose": n, "name": "best_of_n", "round": n} for n in (1, 2)],
        },
    }
    return root, load(root, study, ladders=ladders)


def test_a_row_is_a_rung_against_plain_pictures_of_its_model(made):
    frame = build(made[1], "dose").frame
    rows = frame[["ladder", "dose", "model", "arm", "round"]].to_numpy().tolist()
    tuned = "mine_gs2_0-10"
    assert rows == [
        ["mine", 0.05, "mine_gs0_05-10", "plain", 0],
        ["mine", 2.0, tuned, "plain", 0],
        ["best_of_n", 1.0, "base", "best_of_n", 1],
        ["best_of_n", 2.0, "base", "best_of_n", 2],
        ["best_of_n", 1.0, tuned, "best_of_n", 1],
        ["best_of_n", 2.0, tuned, "best_of_n", 2],
    ]
    means = (
        made[1]
        .values(
            [(tuned, "", 0), (tuned, "best_of_n", 2)], made[1].ids, made[1].seeds, ["clipscore"]
        )
        .mean(axis=(0, 1, 2, 4))
    )
    assert frame["delta"].iloc[5] == pytest.approx(means[1] - means[0])
    assert frame["verdict"].iloc[0] == frame["verdict"].iloc[1]
    assert frame["seen"].iloc[1] == "helps" and "at 2" in frame["verdict"].iloc[0]
    # What is held against a corrected p needs more than what is held against its own.
    assert (frame["mde"] > build(made[1], "refinement").frame["mde"].dropna().min()).all()


def test_diversity_stands_where_it_was_measured(made):
    study = made[1]
    scores = study.scores.copy()
    plain = scores["arm"].eq("") | scores["round"].eq(2)
    scores["spread"] = np.where(plain, 0.3 + 0.001 * scores["clipscore"], np.nan)
    frame = build(dataclasses.replace(study, scores=scores), "dose").frame
    measured = [True, True, False, True, False, True]
    assert frame["spread_delta"].notna().tolist() == measured
    assert frame["spread_delta_p_corrected"].notna().tolist() == measured
    ratio = frame["spread_delta"][measured] / frame["delta"][measured]
    assert ratio.to_numpy() == pytest.approx(0.001)


def test_a_ladder_that_breaks_pictures_does_not_flatten_the_others(made):
    from vlg.report.figures import dose as drawing

    frame = build(made[1], "dose").frame
    broken = frame.copy()
    first = broken["ladder"] == frame["ladder"].iloc[0]
    ends = ["delta", "delta_low", "delta_high"]
    broken.loc[first, ends] -= 80
    before, after = (drawing.draw({"confidence": 0.95}, each) for each in (frame, broken))
    limits = [[axis.get_ylim() for axis in each.axes] for each in (before, after)]
    changed = [old != new for old, new in zip(*limits, strict=True)]
    assert sum(changed) == 1 and min(high - low for low, high in limits[0]) >= 10


def test_the_figure_marks_the_published_dose(made, tmp_path):
    root, study = made
    from vlg.analysis import table

    table.write("dose", build(study, "dose").texts("dose"), root / "tables")
    files = figure.draw("dose", root / "tables", [], tmp_path, {"confidence": 0.95})
    drawn = Path(files[0]).read_text()
    assert len(re.findall("stroke-dasharray: 1", drawn)) == 3  # one a panel of the ladder

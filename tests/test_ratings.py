"""What people say of pictures: files, figures beside published ones, and judges held against it."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_judge_tables import MODELS, made, study, written
from vlg.analysis import ratings
from vlg.analysis.tables import calibration
from vlg.analysis.tables import ratings as rated
from vlg.data import ratings as told
from vlg.demo.votes import COLUMNS, Votes
from vlg.errors import UserError

PROMPTS = {"p0000": "a cat", "p0001": "a dog"}


def read(tmp_path, text, models=("base", "embed-2")):
    (tmp_path / "r.csv").write_text(text)
    return ratings.read(tmp_path / "r.csv", PROMPTS, models)


def test_scores_and_votes_are_read(tmp_path):
    found = read(
        tmp_path,
        "rater,model,prompt,seed,score\nann,base,a cat,1,3\nann,embed-2,a cat,1,4\n"
        "bo,base,a dog,1,2\n",
    )
    assert found.scores["id"].tolist() == ["p0000", "p0000", "p0001"]
    assert found.pairs.to_dict("records") == [
        {
            "rater": "ann",
            "id": "p0000",
            "seed": 1,
            "model_a": "base",
            "model_b": "embed-2",
            "won": 0,
        }
    ]
    votes = read(
        tmp_path,
        "rater,id,model_a,model_b,winner\nann,p0000,base,embed-2,tie\n"
        "bo,p0000,base,embed-2,embed-2\ncy,p0000,embed-2,base,a\n",
    )
    assert votes.pairs["won"].tolist() == [0.5, 0, 1] and not len(votes.scores)


def test_a_set_of_pictures_is_rated_by_its_makers_seeds(tmp_path):
    numbered = {("ours", "p0000", 1000): 0, ("ours", "p0000", 1001): 1}
    numbered |= {("theirs", "p0000", 1001): 0}
    path, names = tmp_path / "r.csv", ["base", "ours", "theirs"]
    path.write_text("rater,model,prompt,seed,score\nann,ours,a cat,1001,3\nann,base,a cat,1,4\n")
    found = ratings.read(path, PROMPTS, names, numbered=numbered)
    assert found.scores["seed"].tolist() == [1, 1] and len(found.pairs) == 1
    path.write_text("rater,id,seed,model_a,model_b,winner\nann,p0000,1001,ours,theirs,a\n")
    with pytest.raises(UserError, match=r"line 2: seed 1001 is not the same .* ours and theirs"):
        ratings.read(path, PROMPTS, names, numbered=numbered)


PUBLISHED = {
    "00000": {"prompt": "a cat", "models": {"DALLE_3": [5, 4], "SDXL_Turbo": [2, 3], "base": [1]}},
    "00001": {"prompt": "a cow", "models": {"DALLE_3": [5, 5], "SDXL_Turbo": [1, 1]}},
}


def test_published_ratings_are_of_the_sets_that_a_study_has(tmp_path):
    """The study's own base is not theirs, and it may have fewer prompts and models."""
    path, sets = tmp_path / "r.json", ["base", "dalle_3", "sdxl_turbo"]
    path.write_text(json.dumps(PUBLISHED))
    told.check(path, ["base"])
    numbered = {(name, "p0000", 0): 0 for name in sets[1:]}
    usual = {(name, "p0000"): {0} for name in sets}
    shown = {(name, "p0000", 0): "" for name in sets}
    found = ratings.read(path, PROMPTS, sets, shown, usual, numbered)
    assert [*found.scores[["rater", "model", "id", "seed", "score"]].itertuples(index=False)] == [
        *(("1", "dalle_3", "p0000", 0, 5), ("2", "dalle_3", "p0000", 0, 4)),
        *(("1", "sdxl_turbo", "p0000", 0, 2), ("2", "sdxl_turbo", "p0000", 0, 3)),
    ]
    assert found.pairs["won"].tolist() == [1, 1]
    with pytest.raises(UserError, match="no picture of a set .* of: base, dalle_3, sdxl_turbo"):
        ratings.read(path, PROMPTS, sets)
    for strange in ("[]", "{", '{"0": {"prompt": "a cat"}}', '{"0": {"prompt": 1, "models": 2}}'):
        path.write_text(strange)
        with pytest.raises(UserError, match="r.json: not as GenAI-Bench publishes its ratings"):
            told.check(path, ["base"])


DEMO = "rater,id,seed,vote,left_model,left_arm,left_round,right_model,right_arm,right_round\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rater,model,id,score\nann,base,p7,1\nbo,base best_of_n round 3,p7,1\n", ""),
        ("rater,model,id,score\nann,bass arm round 3,p7,1\n", "line 2: unknown model 'bass a"),
        ("rater,id,model_a,model_b,winner\nann,p7,base,emb,a\n", "line 2: unknown model 'emb'"),
        (f"{DEMO}ann,p7,1,left,base,,0,base,best_of_n,3\nbo,p7,1,le", ""),
        (f"{DEMO}ann,p7,1,left,base,,0,bass,best_of_n,3\n", "line 2: unknown model 'bass'"),
        ("rater,model,id\nann,base,p7\n", "has no column score"),
        ("rater,model,id,score\nann,base,p7,1,2\n", "line 2: more cells than the header"),
    ],
    ids=range(7),
)  # fmt: skip
def test_whose_pictures_are_rated_is_told_before_there_are_any(tmp_path, text, said):
    (tmp_path / "r.csv").write_text(text)
    if not said:
        return told.check(tmp_path / "r.csv", ["base", "embed-2"])
    with pytest.raises(UserError, match=f"r.csv: {said}"):
        told.check(tmp_path / "r.csv", ["base", "embed-2"])


def test_votes_of_the_demo_are_read(tmp_path):
    """As it writes them; what was drawn anew since is left out, and so is half a line."""
    names = ["base", "embed-2", "base best_of_n round 3"]
    rows = [
        ("ann", "base", "", 0, "embed-2", "", 0, "left", "1", "2"),
        ("ann", "embed-2", "", 0, "base", "best_of_n", 3, "right", "2", "3"),
        ("bo", "base", "", 0, "embed-2", "", 0, "both_bad", "1", "2"),
        ("cy", "base", "", 0, "embed-2", "", 0, "right", "1", "old"),
    ]
    path = tmp_path / "votes.csv"
    votes = Votes(path)
    for number, (rater, *left_right, vote, one, two) in enumerate(rows):
        sides = dict(zip(COLUMNS[6:12], map(str, left_right), strict=True))
        row = {"time": "", "ballot": str(number), "rater": rater, "id": "p0000", "seed": "1"}
        shown = {"left_sha256": one, "right_sha256": two}
        votes.add(row | sides | shown | {"prompt": PROMPTS["p0000"], "vote": vote})
    with open(path, "a") as file:
        file.write("2026-01-31T12:00:00Z,x,dan,p00")
    pictures = {(name, "p0000", 1): str(at) for at, name in enumerate(names, 1)}
    found = ratings.read(path, PROMPTS, names, pictures)
    said = found.pairs[["rater", "model_a", "model_b", "won"]].values.tolist()
    assert said == [
        ["ann", "base", "embed-2", 1.0],
        ["ann", "embed-2", names[2], 0.0],
        ["bo", "base", "embed-2", 0.5],
    ]
    assert found.stale == 1 and not len(found.scores)
    with pytest.raises(UserError, match="all 4 votes are on pictures that the study has since"):
        ratings.read(path, PROMPTS, names, {each: "new" for each in pictures})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rater,model,id\n", "has no column score"),
        ("rater,model,score\n", "has no column id or prompt"),
        ("rater,model,id,score\nann,other,p0000,1\n", "line 2: unknown model 'other'; there are"),
        ("rater,model,id,score\nann,base,p7,1\n", "line 2: 'p7' is no prompt of the study"),
        ("rater,model,id,score\nann,base,p0000,x\n", "line 2: score 'x' is no number"),
        ("rater,model,id,score\nann,base,p0000,1\nann,base,p0000,2\n", "line 3: .* a second time"),
        ("rater,model,id,score\n,base,p0000,1\n", "line 2: .* by no rater"),
        ("rater,model,id,score\n", "has no ratings"),
        ("rater,model,prompt,score\nann,base,a cat, asleep,1\n", "line 2: more cells than the"),
        ("rater,model,id,score\nann,base,p0000,1\n\nann,base,p0001,x\n", "line 4: score 'x'"),
        ('rater,model,id,note,score\nann,base,p0000,"a\nb",x\n', "line 3: score 'x'"),
        ("rater,id,model_a,model_b,winner\nann,p0000,base,embed-2,c\n", "line 2: winner 'c'"),
        ("rater,id,model_a,model_b,winner\nann,p0000,base,base,a\n", "line 2: 'base' against"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)


def test_what_is_rated_must_be_there(tmp_path):
    """A line without a seed is of the only seed there is; of several none is chosen in silence."""
    pictures = {("base", "p0000", 4): "", ("embed-2", "p0000", 4): "", ("base", "p0001", 4): ""}
    pictures["base", "p0000", 9] = ""  # drawn again on a seed that is no usual one
    usual = {("base", "p0000"): [4], ("embed-2", "p0000"): [4], ("base", "p0001"): [4]}

    def found(line):
        (tmp_path / "r.csv").write_text(f"rater,model,id,seed,score\n{line}\n")
        return ratings.read(
            tmp_path / "r.csv", PROMPTS, ("base", "embed-2"), pictures, usual
        ).scores

    assert found("ann,base,p0000,,3")["seed"].tolist() == [4]
    with pytest.raises(UserError, match="line 2: base has no picture of p0000 with seed 5"):
        found("ann,base,p0000,5,3")
    with pytest.raises(UserError, match="line 2: embed-2 has no picture of p0001"):
        found("ann,embed-2,p0001,,3")
    usual["base", "p0000"] = [4, 5]
    with pytest.raises(UserError, match="base has no picture of p0000 that needs no seed"):
        found("ann,base,p0000,,3")


def test_alpha_is_the_published_one():
    """Example C of Krippendorff's own text: 4 observers, 12 units, some missing."""
    x = np.nan
    data = np.array(
        [[1, 2, 3, 3, 2, 1, 4, 1, 2, x, x, x], [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, x, 3],
         [x, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, x], [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, x]]
    )  # fmt: skip
    for level, expected in (("nominal", 0.743), ("interval", 0.849)):
        assert ratings.krippendorff(data, level) == pytest.approx(expected, abs=5e-4)
    assert math.isnan(ratings.krippendorff(np.ones((2, 3))))


BASEBALL = np.array(
    [[0, 7, 9, 7, 7, 9, 11], [6, 0, 7, 5, 11, 9, 9], [4, 6, 0, 7, 7, 8, 12], [6, 8, 6, 0, 6, 7, 10],
     [6, 2, 6, 7, 0, 7, 12], [4, 4, 5, 6, 6, 0, 6], [2, 4, 1, 3, 1, 7, 0]], float
)  # fmt: skip


def test_strengths_are_the_published_ones_and_those_of_a_logistic_regression():
    """The American League of 1987, in Agresti, Categorical Data Analysis."""
    import statsmodels.api as sm

    found = ratings.bradley_terry(BASEBALL)
    assert found - found[-1] == pytest.approx([1.58, 1.44, 1.29, 1.25, 1.11, 0.68, 0], abs=6e-3)
    sides, counts = [], []
    for a in range(7):
        for b in range(a + 1, 7):
            sides.append(np.eye(7)[a] - np.eye(7)[b])
            counts.append((BASEBALL[a, b], BASEBALL[b, a]))
    model = sm.GLM(np.array(counts), np.array(sides)[:, :-1], family=sm.families.Binomial())
    assert (found - found[-1])[:-1] == pytest.approx(model.fit().params, abs=1e-6)
    both = ratings.bradley_terry(np.stack([BASEBALL, np.triu(BASEBALL)]))
    assert both[0] == pytest.approx(found) and np.isnan(both[1]).all(), "one that never won"


pair = st.tuples(st.integers(-1, 1), st.integers(-4, 4))


@settings(max_examples=150, deadline=None)
@given(st.lists(pair, min_size=1, max_size=25))
def test_tie_calibration_tries_every_threshold(pairs):
    human, judge = np.array(pairs, float).T
    limits = sorted({0.0, *np.abs(judge)})
    right = [np.mean(np.where(np.abs(judge) <= e, 0, np.sign(judge)) == human) for e in limits]
    best = int(np.argmax(right))
    assert ratings.tied(human, judge) == pytest.approx((right[best], limits[best]))


def people(sharp, prompts=30, raters=4, seed=0):
    """Ratings from 1 to 5 of raters who see a part of how good the models of `made` are."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(prompts):
        for model, gain in zip(MODELS, (0, 1, 2), strict=True):
            for rater in range(raters):
                score = np.clip(np.round(2 + sharp * gain + rng.normal(0, 0.7)), 1, 5)
                rows.append({"rater": f"r{rater}", "model": model, "id": f"p{number:04d}",
                             "seed": 0, "score": score})  # fmt: skip
    return pd.DataFrame(rows)


def with_ratings(tmp_path, frame, folders=None):
    folders = folders or {}
    scores = made(prompts=30)
    if folders:
        folders = [
            written(scores, tmp_path / "judges" / n, column) for n, column in folders.items()
        ]
    own = study(scores, folders)
    own.prompts["Prompt"] = own.prompts["id"]
    own.prompts["Category"] = np.where(np.arange(30) < 20, "Single", "Pair")
    frame.to_csv(tmp_path / "r.csv", index=False)
    own.ratings = tmp_path / "r.csv"
    return own


def test_the_table_has_scores_win_rates_and_strengths(tmp_path):
    frame = people(sharp=1)
    table = rated.build(with_ratings(tmp_path, frame))
    found = table.frame.set_index("model")
    assert list(found.index) == MODELS
    means = frame.groupby("model")["score"].mean()
    assert found["score"].to_dict() == pytest.approx(means.to_dict())
    by = frame.pivot(index=["rater", "id"], columns="model", values="score")
    won = [(np.sign(by["embed-2"] - by[other]) + 1) / 2 for other in ("base", "normal-2")]
    assert found["win_rate"]["embed-2"] == pytest.approx(np.mean(won))
    assert (found["score_low"] < found["score"]).all() and (
        found["score"] < found["score_high"]
    ).all()
    assert found["strength"].is_monotonic_increasing and found["strength"].sum() == pytest.approx(0)
    assert 0 < found["alpha"].iloc[0] < 1 and "4 raters, 30 prompts" in table.caption
    assert set(table.texts("ratings")) == {"csv", "md", "tex"}


def test_votes_have_win_rates_and_no_scores(tmp_path):
    scores = people(sharp=1).pivot(index=["rater", "id"], columns="model", values="score")
    rows = [
        {"rater": rater, "id": key, "seed": 0, "model_a": "embed-2", "model_b": "base",
         "winner": "tie" if row["embed-2"] == row["base"] else
         "a" if row["embed-2"] > row["base"] else "b"}
        for (rater, key), row in scores.iterrows()
    ]  # fmt: skip
    own = with_ratings(tmp_path, pd.DataFrame(rows))
    found = rated.build(own).frame.set_index("model")
    assert found["score"].isna().all() and list(found.index) == ["base", "embed-2"]
    assert found["win_rate"].sum() == pytest.approx(1) and found["win_rate"]["embed-2"] > 0.8
    assert -1 < found["alpha"].iloc[0] < 1
    told = calibration.build(own).frame
    assert told["spearman"].isna().all() and (told["pairs"] == 30).any()


def test_raters_who_say_the_same_agree_whatever_the_sides(tmp_path):
    rows = [
        {"rater": rater, "id": f"p{n:04d}", "seed": 0, "model_a": sides[0], "model_b": sides[1],
         "winner": "base" if n % 3 else "embed-2"}
        for n in range(12)
        for rater, sides in (("ann", ("base", "embed-2")), ("bo", ("embed-2", "base")))
    ]  # fmt: skip
    own = with_ratings(tmp_path, pd.DataFrame(rows))
    assert rated.agreement(own.rated()) == 1


def test_intervals_over_few_raters_are_wider(tmp_path):
    """Raters who differ in what they call good: twice as many raters, a narrower interval."""
    widths = []
    for raters in (4, 32):
        frame = people(sharp=1, raters=raters)
        shift = {f"r{i}": x for i, x in enumerate(np.random.default_rng(1).normal(0, 1, raters))}
        frame["score"] += frame["rater"].map(shift)
        found = rated.build(with_ratings(tmp_path, frame)).frame
        widths.append((found["score_high"] - found["score_low"]).mean())
    assert widths[0] > 1.7 * widths[1]


def test_a_judge_is_held_against_people_by_kind_of_prompt(tmp_path):
    gains = dict(zip(MODELS, (0, 1, 2), strict=True))
    noise = np.random.default_rng(3)
    folders = {
        "same": lambda rows: rows["model"].map(gains) * 10,
        "against": lambda rows: -rows["model"].map(gains) * 10,
        "noise": lambda rows: noise.normal(size=len(rows)),
    }
    table = calibration.build(with_ratings(tmp_path, people(sharp=1), folders))
    frame = table.frame[table.frame["prompt_kind"] == "all"].set_index("judge")
    assert list(frame.index) == ["judge", "guide", "same", "against", "noise"]
    assert frame["pairs"].tolist() == [90] * 5, "three models, three pairs a prompt"
    assert frame["accuracy"]["same"] > 0.9 > 0.6 > frame["accuracy"]["noise"]
    assert frame["accuracy_decided"]["against"] < 0.1 and frame["spearman"]["same"] > 0.8
    assert frame["accuracy_low"]["same"] <= frame["accuracy"]["same"]
    kinds = table.frame[table.frame["judge"] == "same"].set_index("prompt_kind")["pairs"]
    assert kinds.to_dict() == {"all": 90, "Single": 60, "Pair": 30}
    assert set(table.texts("calibration")) == {"csv", "md", "tex"}

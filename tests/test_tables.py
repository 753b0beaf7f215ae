"""Do the tables say what the scores say? Checked on a made-up study whose truth is known."""

import json
import re
import shutil
import subprocess
import sys
from statistics import fmean
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import synthetic

from vlg import plugins
from vlg.analysis import claims, correction, scores
from vlg.analysis import study as studies
from vlg.analysis import table as tables
from vlg.analysis.comparison import FEWEST
from vlg.analysis.tables import equal_compute
from vlg.errors import UserError
from vlg.workflow import codehash
from vlg.workflow.codehash import code_hash

SCRIPT = plugins.PACKAGE.parent / "table.py"
CONTRACT = ["model", "prompts", "seeds", "clipscore", "clipscore_low", "clipscore_high"]
CONTRACT += ["delta", "delta_low", "delta_high", "fidelity", "published"]
OWN = {
    "finetune": ["variant", "step", "train_seconds", "train_flops"],
    "refinement": ["round", "arm", "unet_calls", "seconds", "flops"],
    "equal_compute": ["arm", "round", "against", "equal", "at"],
    "methods": ["arm", "round", "tflops", "train_tflops", "interaction"],
    "hard_prompts": ["selection"],
    "by_category": ["category"],
    "by_challenge": ["challenge"],
    "by_split": ["split"],
    "by_length": ["length"],
    "by_fact": ["fact"],
}
FIGURES = {"finetune": {"base": 23.46, "embed-500": 23.87}, "refinement": {"0": 23.64, "3": 24.02}}


def settings(study, **changes):
    values = {"draws": 400, "confidence": 0.95, "seed": 0, "published": FIGURES}
    values |= {"models": study.models, "train_seeds": list(study.train_seeds)}
    return values | changes


def load(root, study, files=None, **changes):
    """The study as scripts/table.py reads it for a table that needs everything."""
    return studies.read(
        studies.Settings.parse(settings(study, **changes), "settings"),
        prompts=[root / "prompts.tsv"],
        scores=files or synthetic.score_files(root),
        hard=root / "hard_prompts.tsv",
        training=sorted((root / "training").glob("*/summary.json")),
    )


def build(study, name="finetune"):
    return plugins.load(plugins.TABLES, name).build(study)


def make(root, study, **changes):
    loaded = load(root, study, **changes)
    for name in (*OWN, "compare", "claims"):
        tables.write(name, build(loaded, name).texts(name), root / "tables")
    return root / "tables"


def made(folder, **changes):
    """A made-up study with its tables."""
    study = synthetic.write(folder, synthetic.Study(pictures=False, **changes))
    make(folder, study)
    return folder, study


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return made(tmp_path_factory.mktemp("study"), prompts=90, hard=24)


@pytest.fixture
def fresh(tmp_path):
    study = synthetic.write(tmp_path, synthetic.Study(pictures=False, prompts=12, rounds=1))
    return tmp_path, study


def table(root, name):
    return pd.read_csv(root / "tables" / f"{name}.csv", keep_default_na=False, na_values=[""])


def score_rows(root, name):
    return synthetic.rows(root / "scores" / f"{name}.csv")


def mean(rows, column="clipscore"):
    return fmean(float(row[column]) for row in rows)


# --- what every table has ------------------------------------------------------------------------


@pytest.mark.parametrize("name", OWN)
def test_tables_have_the_columns_others_rely_on(results, name):
    columns = list(table(results[0], name).columns)
    assert [c for c in [*CONTRACT, *OWN[name], "guide"] if c not in columns] == []
    assert len(columns) == len(set(columns))


@pytest.mark.parametrize("name", OWN)
def test_intervals_hold_their_means_and_shares_are_shares(results, name):
    frame = table(results[0], name)
    wide = frame[frame["delta_low"].notna()]
    assert len(wide)
    for column in ("clipscore", "delta"):
        assert (wide[f"{column}_low"] <= wide[column]).all()
        assert (wide[column] <= wide[f"{column}_high"]).all()
    assert frame["fidelity"].between(0, 1).all()


def test_every_table_is_there_in_three_formats(results):
    names = {path.name for path in (results[0] / "tables").iterdir()}
    files = {
        f"{name}.{kind}" for name in [*OWN, "compare", "claims"] for kind in ("csv", "md", "tex")
    }
    assert names == files | {f"{name}.sha256" for name in files}


# --- fine-tuning ---------------------------------------------------------------------------------


def test_finetune_is_the_mean_over_study_prompts(results):
    root, study = results
    frame = table(root, "finetune").set_index("model")
    assert list(frame.index) == study.models
    base, embed = (score_rows(root, f"images/{m}/study") for m in ("base", "embed-500"))
    row = frame.loc["embed-500"]
    assert row["clipscore"] == pytest.approx(mean(embed), abs=1e-5)
    assert row["delta"] == pytest.approx(mean(embed) - mean(base), abs=1e-5)
    assert row["guide_delta"] == pytest.approx(mean(embed, "guide") - mean(base, "guide"), abs=1e-5)
    assert row["gap"] == pytest.approx(row["guide_delta"] - row["delta"], abs=1e-5)
    assert row["strict"] == pytest.approx(mean(embed, "strict"), abs=1e-5)
    assert (row["prompts"], row["seeds"], row["step"], row["variant"]) == (60, 2, 500, "embed")
    assert row["train_seconds"] == pytest.approx(100)
    assert row["train_flops"] == 800e9 and frame.loc["base", "train_flops"] == 0
    assert row["published"] == 23.87


def test_finetune_finds_the_gains_that_were_put_in(results):
    frame = table(results[0], "finetune").set_index("model")
    embed = frame.loc["embed-500"]
    assert embed["delta_low"] < 1.5 < embed["delta_high"]
    assert embed["delta_low"] > 0.5  # pairing removes prompt and seed effects of 6 and 4 points
    assert embed["clipscore_high"] - embed["clipscore_low"] > 3


def test_base_is_its_own_reference(results):
    base = table(results[0], "finetune").iloc[0]
    assert (base["delta"], base["delta_low"], base["delta_high"]) == (0, 0, 0)
    assert pd.isna(base["p_corrected"])


# --- refinement ----------------------------------------------------------------------------------


def test_round_0_is_the_plain_pictures(results):
    frame = table(results[0], "refinement")
    first = frame.iloc[0]
    assert (first["model"], first["arm"], first["round"]) == ("base", "plain", 0)
    assert first["clipscore"] == table(results[0], "finetune").iloc[0]["clipscore"]
    assert first["published"] == 23.64
    third = frame[(frame["arm"] == "refine") & (frame["round"] == 3)].iloc[0]
    assert third["published"] == 24.02
    assert frame[frame["arm"] == "best_of_n"]["published"].isna().all()


def test_refinement_is_compared_at_equal_unet_calls(results):
    root, _ = results
    frame = table(root, "refinement").set_index(["arm", "round"])
    rows = score_rows(root, "refined/base")

    def score(arm, number):
        own = [row for row in rows if row["arm"] == arm and int(row["round"]) == number]
        return mean(own)

    # Two rounds at half strength cost what one fresh sample costs.
    second = frame.loc[("refine", 2)]
    assert second["unet_calls"] == frame.loc[("best_of_n", 1), "unet_calls"] == 40
    assert second["equal_compute_with"] == "best_of_n 1"
    assert second["equal_delta"] == pytest.approx(
        score("refine", 2) - score("best_of_n", 1), abs=1e-5
    )
    assert second["equal_delta_low"] < second["equal_delta"] < second["equal_delta_high"]
    # Three cost one and a half.
    third = frame.loc[("refine", 3)]
    assert third["equal_compute_with"] == "best_of_n 1.5"
    between = (score("best_of_n", 1) + score("best_of_n", 2)) / 2
    assert third["equal_delta"] == pytest.approx(score("refine", 3) - between, abs=1e-5)
    assert pd.isna(frame.loc[("best_of_n", 1), "equal_delta"])


def test_a_study_without_refinement_has_the_plain_row_only(tmp_path):
    root, _ = made(tmp_path, prompts=12, arms={}, rounds=0)
    assert len(table(root, "refinement")) == 1
    verdicts = table(root, "claims").set_index("claim")
    assert "not refined" in verdicts.loc["refinement_full", "reason"]


def test_refined_models_bring_their_own_plain_row(tmp_path):
    root, study = made(tmp_path, prompts=12, rounds=1)
    path = root / "scores/refined/base.csv"
    tuned = [row | {"model": "embed-200"} for row in synthetic.rows(path)]
    synthetic.rewrite(root / "scores/refined/embed-200.csv", tuned)
    make(root, study)
    frame = table(root, "refinement")
    assert list(frame["model"]) == ["base"] * 3 + ["embed-200"] * 3
    assert list(frame["arm"]) == ["plain", "refine", "best_of_n"] * 2


# --- at equal cost -------------------------------------------------------------------------------


def test_variants_are_compared_at_equal_steps_and_at_equal_flops(results):
    frame = table(results[0], "equal_compute")
    tuned = table(results[0], "finetune").set_index("model")["clipscore"]
    steps = frame[frame["equal"] == "steps"].set_index("model")
    assert list(steps.index) == ["embed-200", "embed-500", "embed-1000"]
    assert steps.loc["embed-500", "delta"] == pytest.approx(
        tuned["embed-500"] - tuned["normal-500"], abs=1e-5
    )
    flops = frame[frame["equal"] == "flops"].set_index("at")
    # A step of normal costs 1e9, one of embed 1.6e9.
    assert list(flops.index) == [320e9, 800e9, 1000e9]
    share = (800 - 500) / (1000 - 500)
    normal = share * tuned["normal-1000"] + (1 - share) * tuned["normal-500"]
    assert flops.loc[800e9, "delta"] == pytest.approx(tuned["embed-500"] - normal, abs=1e-5)
    assert "8e11" in (results[0] / "tables/equal_compute.md").read_text()
    words = frame.groupby("family", sort=False)["equal"].unique()
    assert list(words["any method against the plain one"]) == ["steps", "flops"]
    assert list(words["every arm against the best of N"]) == ["unet_calls", "samples"]


def test_seconds_decide_nothing(fresh):
    """A machine ten times as slow for one of the variants changes no comparison."""
    root, study = fresh
    names = ("equal_compute", "claims")
    before = [build(load(root, study), name).frame for name in names]
    for path in (root / "training").glob("embed-*/summary.json"):
        summary = json.loads(path.read_text())
        path.write_text(json.dumps(summary | {"train_seconds": 10 * summary["train_seconds"]}))
    for name, frame in zip(names, before, strict=True):
        pd.testing.assert_frame_equal(build(load(root, study), name).frame, frame)


def test_arms_are_compared_at_equal_calls_and_at_equal_samples(results):
    root, study = results
    frame = table(root, "equal_compute").set_index(["arm", "equal"])
    rounds = table(root, "refinement").set_index(["arm", "round"])
    samples = frame.loc[("refine", "samples")]
    assert (samples["at"], samples["against"]) == (study.rounds + 1, "best_of_n 4")
    expected = rounds.loc[("refine", 4), "delta"] - rounds.loc[("best_of_n", 4), "delta"]
    assert samples["delta"] == pytest.approx(expected, abs=1e-5)
    calls = frame.loc[("refine", "unet_calls")]
    assert calls["delta"] == pytest.approx(rounds.loc[("refine", 4), "equal_delta"], abs=1e-5)


def test_an_arm_with_more_samples_than_rounds_is_compared_at_equal_calls_alone():
    cost = {("base", "", 0): 20, ("base", "search", 1): 100, ("base", "refine", 1): 30}
    cost |= {("base", "best_of_n", number): 20 * (number + 1) for number in range(1, 6)}
    study = SimpleNamespace(
        settings=studies.Settings(uncounted=["search"]), grids=cost, calls=cost.get,
        refined=lambda: [key for key in cost if key[1]],
    )  # fmt: skip
    found = {(row.arm, row.equal): row.against for row in equal_compute._drawing(study)}
    assert found == {
        ("search", "unet_calls"): "best_of_n 4",
        ("refine", "unet_calls"): "best_of_n 0.5",
        ("refine", "samples"): "best_of_n 1",
    }


def test_a_gain_is_real_when_the_facts_see_it_too(results):
    frame = table(results[0], "finetune")
    assert pd.isna(frame.loc[0, "gain_seen_by"])
    seen = {(True, True): "judge and facts", (True, False): "judge only"}
    seen |= {(False, True): "facts only", (False, False): "neither"}
    for row in frame.iloc[1:].itertuples():
        up = row.delta > 0, row.fidelity_delta > 0
        after = row.p_corrected < 0.05, row.fidelity_delta_p_corrected < 0.05
        before = row.p < 0.05, row.fidelity_delta_p < 0.05
        after, before = (seen[p[0] and up[0], p[1] and up[1]] for p in (after, before))
        if after == "neither" and before != "neither":
            after = f"{before}, before correction"
        assert row.gain_seen_by == after
    assert (frame["gain_seen_by"] != "neither").any()
    claims = table(results[0], "claims").set_index("claim").loc["embed_gain"]
    embed = frame.set_index("model").loc["embed-500"]
    assert claims["gap"] == pytest.approx(embed["gap"], abs=1e-5)
    assert claims["fidelity_effect"] == pytest.approx(100 * embed["fidelity_delta"], abs=1e-3)


# --- several trainings ---------------------------------------------------------------------------


def test_further_trainings_are_averaged_and_widen_intervals(tmp_path):
    shape = {"prompts": 36, "rounds": 1, "train_seeds": (0, 1, 2), "training_sd": 2.0}
    shape |= {"refined": ("base", "embed-200", "embed-200-s1", "embed-200-s2")}
    root, study = made(tmp_path, **shape)
    frame = table(root, "finetune").set_index("model")
    assert list(frame.index) == study.models
    runs = ["embed-500", "embed-500-s1", "embed-500-s2"]
    means = [mean(score_rows(root, f"images/{run}/study")) for run in runs]
    row = frame.loc["embed-500"]
    assert row["clipscore"] == pytest.approx(fmean(means), abs=1e-5)
    assert row["delta_sd"] == pytest.approx(pd.Series(means).std(), abs=1e-5)
    assert (row["trainings"], frame.loc["base", "trainings"]) == (3, 0)
    # What base scores is known as well as before; what a new training would gain is not.
    alone = build(load(root, study, train_seeds=[0])).frame.set_index("model")
    width, before = (
        f.loc["embed-500", "delta_high"] - f.loc["embed-500", "delta_low"] for f in (frame, alone)
    )
    assert width > 2 * before
    assert frame.loc["base", "clipscore_low"] == pytest.approx(alone.loc["base", "clipscore_low"])
    refined = table(root, "refinement").set_index(["model", "arm", "round"])
    runs = [score_rows(root, f"refined/embed-200{end}") for end in ("", "-s1", "-s2")]
    own = fmean(mean([r for r in rows if r["arm"] == "refine"]) for rows in runs)
    assert refined.loc[("embed-200", "refine", 1), "clipscore"] == pytest.approx(own, abs=1e-5)
    assert "3 trainings" in (root / "tables/finetune.md").read_text()
    assert (row["about"], frame.loc["base", "about"]) == ("the method", "this checkpoint")
    claims = table(root, "claims").set_index("claim")
    assert claims.loc["embed_gain", ["trainings", "about"]].tolist() == [3, "the method"]
    assert claims.loc["refinement_full", ["trainings", "about"]].tolist() == [0, "this checkpoint"]
    assert claims.loc["embed_gain", "worth_adding"] == "trainings"
    assert "number of prompts or" in claims.loc["normal_gain", "reason"]


def test_two_trainings_have_no_interval_for_the_method(tmp_path):
    shape = {"prompts": 30, "rounds": 1, "train_seeds": (0, 1), "training_sd": 2.0}
    root, study = made(tmp_path, **shape)
    frame = table(root, "finetune").set_index("model")
    assert frame.loc["embed-500", "about"] == "these 2 checkpoints"
    assert pd.isna(frame.loc["embed-500", "share_trainings"])
    text = (root / "tables/finetune.md").read_text()
    assert "no interval for the method" in text and "these 2 checkpoints" in text
    # As wide as one training's: the spread of the two, however large, is no part of it.
    alone = build(load(root, study, train_seeds=[0])).frame.set_index("model")
    widths = [
        f.loc["embed-500", "delta_high"] - f.loc["embed-500", "delta_low"] for f in (frame, alone)
    ]
    assert 0.5 < widths[0] / widths[1] < 1.2


# --- hard prompts --------------------------------------------------------------------------------


def test_hard_prompts_show_the_regression_of_base_itself(results):
    root, study = results
    frame = table(root, "hard_prompts").set_index(["selection", "model"])
    hard = {row.split("\t")[4] for row in (root / "hard_prompts.tsv").read_text().splitlines()[1:]}
    plain = [
        r for name in ("study", "rest", "hard") for r in score_rows_if(root, f"images/base/{name}")
    ]
    for selection, seeds in (("same_seeds", study.selection), ("fresh_seeds", study.fresh)):
        own = {
            (row["id"], row["seed"]): float(row["clipscore"])
            for row in plain
            if row["id"] in hard and int(row["seed"]) in seeds
        }
        assert len(own) == study.hard * 2
        row = frame.loc[(selection, "base")]
        assert row["clipscore"] == pytest.approx(fmean(own.values()), abs=1e-5)
        assert (row["prompts"], row["seeds"], row["delta"]) == (study.hard, 2, 0)
    assert (
        frame.loc[("fresh_seeds", "base"), "clipscore"]
        > frame.loc[("same_seeds", "base"), "clipscore"]
    )


def test_the_regression_to_the_mean_of_base_is_a_row_of_its_own(results):
    frame = table(results[0], "hard_prompts").set_index(["selection", "model"])
    row = frame.loc[("regression", "base")]
    fresh, same = (frame.loc[(s, "base")] for s in ("fresh_seeds", "same_seeds"))
    assert row["clipscore"] == pytest.approx(fresh["clipscore"], abs=1e-5)
    assert row["delta"] == pytest.approx(fresh["clipscore"] - same["clipscore"], abs=1e-5)
    assert row["delta_low"] < row["delta"] < row["delta_high"]
    claim = table(results[0], "claims").set_index("claim").loc["hard_regression"]
    assert row["delta_low"] == pytest.approx(claim["effect_low"], abs=1e-5)


def score_rows_if(root, name):
    path = root / "scores" / f"{name}.csv"
    return synthetic.rows(path) if path.exists() else []


def test_a_study_without_hard_prompts_has_an_empty_table(tmp_path):
    root, _ = made(tmp_path, prompts=12, rounds=1, hard=0)
    frame = table(root, "hard_prompts")
    assert len(frame) == 0
    assert [c for c in [*CONTRACT, "selection"] if c not in frame.columns] == []
    assert "Nothing to report" in (root / "tables/hard_prompts.md").read_text()


# --- groups --------------------------------------------------------------------------------------


def test_groups_partition_the_study(results):
    root, _ = results
    for name, column in (
        ("by_category", "category"),
        ("by_split", "split"),
        ("by_length", "length"),
    ):
        frame = table(root, name)
        base = frame[frame["model"] == "base"]
        assert base["prompts"].sum() == 60, name
        whole = (base["clipscore"] * base["prompts"]).sum() / 60
        assert whole == pytest.approx(table(root, "finetune").iloc[0]["clipscore"], abs=1e-5)
        assert base[column].is_unique


def test_by_fact_counts_the_prompts_that_state_it(results):
    root, _ = results
    frame = table(root, "by_fact").set_index(["fact", "model"])
    rows = [row for row in score_rows(root, "images/base/study") if row["relation"]]
    row = frame.loc[("relation", "base")]
    assert row["prompts"] == len(rows) / 2
    assert row["fidelity"] == pytest.approx(mean(rows, "relation"), abs=1e-5)


def test_groups_too_small_for_an_interval_have_none(results):
    frame = table(results[0], "by_length")
    small = frame[frame["prompts"] < FEWEST]
    assert len(small)
    assert small["clipscore"].notna().all()
    assert small[["clipscore_low", "delta_high", "p_corrected"]].isna().all(axis=None)


def test_photographs_have_no_fidelity(tmp_path):
    root, _ = made(tmp_path, prompts=12, rounds=1, truth=False)
    frame = table(root, "finetune")
    assert frame[["fidelity", "fidelity_delta_low", "strict"]].isna().all(axis=None)
    assert len(table(root, "by_fact")) == len(table(root, "by_split")) == 0
    assert "Fidelity" not in (root / "tables/finetune.md").read_text()
    reason = table(root, "claims").set_index("claim").loc["embed_fidelity", "reason"]
    assert reason == "not measured: there is no ground truth"


# --- claims --------------------------------------------------------------------------------------


def test_claims_state_the_published_effects():
    effects = {claim.name: claim.published for claim in claims.CLAIMS}
    assert effects["normal_gain"] == pytest.approx(23.6169 - 23.4626)
    assert effects["embed_over_normal"] == pytest.approx(23.8673 - 23.6169)
    assert effects["embed_gain_hard"] == pytest.approx(19.6628 - 18.8323)
    assert effects["embed_most_on_hard"] == pytest.approx(0.8305 - 0.4279)
    assert effects["embed_declines"] == pytest.approx(23.8905 - 23.6294)
    assert effects["refinement_full"] == pytest.approx(24.1287 - 23.6384)
    assert effects["refinement_over_best_of_n"] is None
    # Everything the study claimed is in the direction it claimed.
    assert all(effect is None or effect > 0 for effect in effects.values())
    assert len(effects) == len(claims.CLAIMS)


def test_verdicts_follow_the_corrected_p_values(results):
    frame = table(results[0], "claims")
    assert frame["claim"].is_unique
    for row in frame.itertuples():
        verdict = "supported" if row.effect > 0 else "contradicted"
        if not row.p_corrected < 0.05 or row.claim == "embed_gain_hard_same_seeds":
            verdict = "unresolved"
        assert row.verdict == verdict, row.claim
        assert row.p_corrected >= row.p
        only_before = row.p < 0.05 <= row.p_corrected
        assert ("before correction only" in row.reason) == only_before, row.claim


def test_what_holds_before_correction_only_is_said_so(results, monkeypatch):
    """With every p value tenfold, what was near the level is no longer supported."""
    root, study = results
    monkeypatch.setattr(studies.Study, "correct", lambda self, p, draws: np.minimum(1000 * p, 1))
    frame = build(load(root, study), "claims").frame
    own = frame[(frame["p"] < 0.05) & (frame["p_corrected"] >= 0.05)]
    assert len(own) and (own["verdict"] == "unresolved").all()
    assert own["reason"].str.contains("before correction only").all()
    seen = build(load(root, study)).frame["gain_seen_by"]
    assert seen.str.endswith(", before correction").any()


def test_the_seeds_that_chose_the_prompts_support_nothing(tmp_path):
    gains = {"normal": 8, "embed": 8, "refine": 1, "best_of_n": 1}
    root, _ = made(tmp_path, prompts=36, hard=24, rounds=1, gains=gains)
    claim = table(root, "claims").set_index("claim").loc["embed_gain_hard_same_seeds"]
    assert claim["effect_low"] > 0 and claim["verdict"] == "unresolved"
    assert "chose the prompts" in claim["reason"]
    frame = table(root, "hard_prompts").set_index("selection")
    same, fresh = (frame.loc[name].iloc[1:] for name in ("same_seeds", "fresh_seeds"))
    assert (same["delta_low"] > 0).all() and same["p"].notna().all()
    assert same["p_corrected"].isna().all() and same["gain_seen_by"].str.startswith("not").all()
    assert (fresh["p_corrected"] < 0.05).all()


def test_every_difference_has_a_p_value_of_its_own(results):
    for name, tested in (("finetune", "delta"), ("by_fact", "fidelity_delta")):
        frame = table(results[0], name)
        frame = frame[(frame["model"] != "base") & (frame["prompts"] >= 40)]
        for measure in ("delta", "guide_delta", "fidelity_delta", "strict_delta", "gap"):
            p, low, high = (
                "p" if measure == tested else f"{measure}_p",
                *(f"{measure}_{end}" for end in ("low", "high")),
            )
            assert frame[[p, f"{p}_corrected"]].notna().all(axis=None), (name, measure)
            outside = (frame[low] > 0) | (frame[high] < 0)
            assert ((frame[p] < 0.05) == outside).mean() > 0.9, (name, measure)


def test_claims_say_how_probable_a_worthwhile_effect_is(results):
    root, study = results
    frame = table(root, "claims").set_index("claim")
    rows = frame[frame["effect"].notna() & frame["p"].notna()]
    assert rows["probability"].between(0, 1).all()
    assert set(rows["smallest"][rows["measure"] == "ClipScore"]) == {0.2}
    assert set(rows["smallest"][rows["measure"] == "fidelity, %"]) == {1.0}
    # A gain that no gain reaches is as good as impossible.
    more = build(load(root, study, smallest_clipscore=50.0), "claims").frame.set_index("claim")
    assert more.loc["embed_gain", "probability"] < 0.01 < rows.loc["embed_gain", "probability"]
    certain = (rows["effect_low"] > rows["smallest"]) == (rows["probability"] > 0.975)
    assert certain.mean() > 0.95


def test_the_correction_is_a_setting(results):
    root, study = results
    max_t, holm = (
        build(load(root, study, correction=name), "by_fact") for name in ("max_t", "holm")
    )
    p = max_t.frame[["p", "delta_p"]].to_numpy()  # ClipScore and fidelity are one family
    expected = correction.holm(p.ravel()).reshape(p.shape)[:, 0]
    assert holm.frame["p_corrected"].to_numpy() == pytest.approx(expected, nan_ok=True)
    p = p[:, 0]
    both = max_t.frame["p_corrected"], holm.frame["p_corrected"]
    assert (both[0] <= both[1] + 0.01)[~np.isnan(p)].all() and (both[0] < both[1]).any()
    assert "max-T" in max_t.caption and "Holm" in holm.caption and "max-T" not in holm.caption


def test_facts_that_move_in_opposite_directions_are_named(tmp_path):
    root, study = made(tmp_path, prompts=90, rounds=1)
    assert "Opposite directions" not in (root / "tables/by_fact.md").read_text()
    path = root / "scores/images/normal-500/study.csv"
    plain = synthetic.rows(root / "scores/images/base/study.csv")
    rows = synthetic.rows(path)
    for i, (row, base) in enumerate(zip(rows, plain, strict=True)):
        row["colour"] = max(int(base["colour"]), i % 2)
        row["shape"] = min(int(base["shape"]), int(i % 3 > 0))
    synthetic.rewrite(path, rows)
    found = build(load(root, study), "by_fact")
    assert "Opposite directions: normal-500: colour up, shape down." in found.caption
    own = found.frame[found.frame["model"] == "normal-500"]
    assert set(own["opposite"]) == {"colour up, shape down"}
    assert not found.frame.loc[found.frame["model"] == "embed-500", "opposite"].any()


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ({"normal": 0.2, "embed": 3}, "supported"),
        ({"normal": 0.2, "embed": -3}, "contradicted"),
        ({"normal": 0, "embed": 0.1}, "unresolved"),
    ],
)
def test_verdicts_follow_the_truth(tmp_path, gains, verdict):
    gains = gains | {"refine": 1, "best_of_n": 1}
    root, _ = made(tmp_path, prompts=36, rounds=1, gains=gains)
    frame = table(root, "claims").set_index("claim")
    assert frame.loc["embed_gain", "verdict"] == verdict
    assert frame.loc["embed_over_normal", "verdict"] == verdict
    assert frame.loc["embed_over_normal_equal_cost", "verdict"] == verdict


def test_an_unresolved_claim_says_how_many_prompts_would_settle_it(results):
    frame = table(results[0], "claims")
    open_ones = frame[(frame["verdict"] == "unresolved") & frame["published"].notna()]
    open_ones = open_ones[open_ones["reason"].str.contains("the interval covers 0")]
    assert len(open_ones)
    for row in open_ones.itertuples():
        wanted = row.prompts * (row.mde / row.published) ** 2
        assert wanted <= row.prompts_for_published <= wanted + 1.1
        assert f"{row.prompts_for_ours:,.0f} prompts" in row.reason


def test_equal_cost_interpolates_between_checkpoints(results):
    root, _ = results
    row = table(root, "claims").set_index("claim").loc["embed_over_normal_equal_cost"]
    tuned = table(root, "finetune").set_index("model")["clipscore"]
    # normal's last checkpoint cost 1e12, embed's 0.8e12 and 1.6e12.
    embed = 0.75 * tuned["embed-500"] + 0.25 * tuned["embed-1000"]
    assert "1e+12 FLOPs" in row["statement"]
    assert row["effect"] == pytest.approx(embed - tuned["normal-1000"], abs=1e-5)


def test_claims_about_absent_variants_are_open(tmp_path):
    root, _ = made(tmp_path, prompts=12, rounds=1, variants=("normal",), steps=(100,))
    frame = table(root, "claims").set_index("claim")
    assert len(frame) == len(claims.CLAIMS)
    assert frame.loc["embed_gain", "verdict"] == "unresolved"
    assert frame.loc["embed_gain", "reason"] == "not measured: there is no variant embed"


# --- Markdown and LaTeX --------------------------------------------------------------------------


def test_markdown_bolds_the_best_only_when_the_interval_says_so(tmp_path, results):
    text = (results[0] / "tables/finetune.md").read_text()
    best = table(results[0], "finetune").sort_values("clipscore").iloc[-1]["model"]
    assert re.findall(r"\*\*([a-z]+-\d+)\*\*", text) == [best]
    none, _ = made(tmp_path, prompts=30, rounds=1, gains={})
    text = (none / "tables/finetune.md").read_text()
    assert "**" not in text and "†:" in text


def test_markdown_rows_are_whole(results):
    for path in (results[0] / "tables").glob("*.md"):
        lines = [line for line in path.read_text().splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1, path.name


def test_captions_give_sample_sizes_and_explain_the_marks(results):
    text = (results[0] / "tables/finetune.md").read_text()
    for words in (
        "60 prompts, 2 seeds",
        "95 % intervals",
        "400 draws",
        "12 comparisons",
        "†",
        "80 %",
    ):
        assert words in text


def test_latex_is_balanced_and_escaped(results):
    for path in (results[0] / "tables").glob("*.tex"):
        packages, _, text = path.read_text().partition("\n")
        assert packages.startswith("% \\usepackage{"), path.name
        plain = re.sub(r"\\[{}]", "", text)
        assert plain.count("{") == plain.count("}"), path.name
        assert not re.search(r"(?<!\\)[#_]", re.sub(r"\\label{.*}", "", text)), path.name
        assert not re.search(r"(?<!\\|{)%", text), path.name
        assert not re.search(r"[^\x00-\x7f]", text), path.name
        body = text.split(r"\midrule")[-1].split(r"\bottomrule")[-2 if "longtable" in text else 0]
        align = re.search(r"begin{(?:tabular|longtable)}{(.*)}", text)[1]
        columns = len(re.sub(r">{.*?}p{.*?}", "l", align))
        for line in re.findall(r"^(?!\\).* & .*$", body, re.MULTILINE):
            assert len(re.findall(r"(?<!\\)&", line)) == columns - 1, path.name


def test_latex_marks_the_value_and_not_its_interval(results):
    text = (results[0] / "tables/finetune.tex").read_text()
    bold = r"\\textbf\{[\d.]+\}\\textsuperscript\{\\dag\} \{\\scriptsize\[[\d., ]+\]\} &"
    assert len(re.findall(bold, text)) == 1


def test_groups_of_rows_stand_apart(results):
    frame = table(results[0], "hard_prompts")
    text = (results[0] / "tables/hard_prompts.tex").read_text()
    assert text.count(r"\addlinespace") == frame["selection"].nunique() - 1


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex")
def test_latex_compiles_and_is_no_wider_than_the_line(results, tmp_path):
    tables = sorted((results[0] / "tables").glob("*.tex"))
    packages = {
        name
        for path in tables
        for name in re.match(r"% .usepackage{(.*)}", path.read_text())[1].split(",")
    }
    lines = [
        r"\documentclass{article}\usepackage[a4paper,margin=25mm]{geometry}",
        rf"\usepackage{{{','.join(sorted(packages))}}}\begin{{document}}",
        *(rf"\input{{{path}}}\clearpage" for path in tables),
        r"\end{document}",
    ]
    (tmp_path / "all.tex").write_text("\n".join(lines))
    for _ in range(2):  # a longtable knows its widths the second time
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            errors="replace",
        )
        assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout and "Float too large" not in done.stdout


# --- running -------------------------------------------------------------------------------------


def command(root, study, name, **changes):
    """The command line of a table, with what its NEEDS name and nothing else."""
    needs = plugins.constant(plugins.TABLES, name, "NEEDS")
    plain, refined = (sorted((root / "scores" / k).rglob("*.csv")) for k in ("images", "refined"))
    words = [sys.executable, SCRIPT, name, "--settings", json.dumps(settings(study, **changes))]
    words += ["--prompts", root / "prompts.tsv", "--scores", *plain]
    words += refined if "refined" in needs else []
    words += ["--hard", root / "hard_prompts.tsv"] if "hard" in needs else []
    if "training" in needs:
        words += ["--training", *sorted((root / "training").glob("*/summary.json"))]
    words += ["--out", root / "by_script", "--page", root / f"by_script/{name}.html"]
    return [*map(str, words), "--log", str(root / "table.log")]


@pytest.mark.parametrize("name", ["finetune", "hard_prompts", "by_fact", "claims"])
def test_the_script_writes_the_same_bytes_from_what_a_table_needs_without_torch(results, name):
    root, study = results
    program = (
        "import os, runpy, sys; sys.argv = sys.argv[1:];"
        "sys.path.insert(0, os.path.dirname(sys.argv[0]));"
        "runpy.run_path(sys.argv[0], run_name='__main__'); sys.exit('torch' in sys.modules)"
    )
    arguments = command(root, study, name)
    arguments[1:1] = ["-c", program]
    subprocess.run(arguments, check=True, capture_output=True)
    for form in ("csv", "md", "tex"):
        file = f"{name}.{form}"
        assert (root / "by_script" / file).read_bytes() == (root / "tables" / file).read_bytes()


def test_a_table_reruns_for_its_own_code_alone(tmp_path):
    """A copy in which one table is edited and another added; the hash is what the rule compares."""
    shutil.copytree(SCRIPT.parent, tmp_path / "scripts")
    room = tmp_path / "scripts/vlg/analysis/tables"

    def codes():
        code_hash.cache_clear()
        codehash._module.cache_clear()
        codehash._state.cache_clear()
        found = {path.stem: path for path in room.glob("*.py") if path.stem != "__init__"}
        script = tmp_path / "scripts/table.py"
        return {name: code_hash(script, path) for name, path in found.items()}

    before = codes()
    assert set(before) == set(plugins.names(plugins.TABLES))
    (room / "mine.py").write_text('"""Mine."""\n\nNEEDS = ("scores",)\n')
    (room / "claims.py").write_text((room / "claims.py").read_text() + "\nMORE = 1\n")
    after = codes()
    assert {name for name in before if after[name] != before[name]} == {"claims"}
    grouped = tmp_path / "scripts/vlg/analysis/groups.py"
    grouped.write_text(grouped.read_text() + "\nMORE = 1\n")
    changed = {name for name, code in codes().items() if code != after[name]}
    assert changed == {name for name in before if name.startswith("by_")}


def test_what_a_table_asks_for_is_known():
    for name in plugins.names(plugins.TABLES):
        needs = plugins.constant(plugins.TABLES, name, "NEEDS")
        assert needs and set(needs) <= set(tables.NEEDED), name
        when = plugins.constant(plugins.TABLES, name, "WHEN", needs[0])
        assert when in (*needs, "base", "pictures"), name


def test_a_mistake_ends_in_one_line(fresh):
    root, study = fresh
    (root / "scores/images/base/study.csv").unlink()
    ended = subprocess.run(command(root, study, "finetune"), capture_output=True, text=True)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "study prompts" in ended.stderr


def test_the_order_of_score_files_does_not_matter(fresh):
    root, study = fresh
    files = synthetic.score_files(root)
    one, other = (load(root, study, files=order) for order in (files, files[::-1]))
    for name in OWN:
        pd.testing.assert_frame_equal(build(one, name).frame, build(other, name).frame)


def change(root, name, edit):
    path = root / "scores" / f"{name}.csv"
    table = synthetic.rows(path)
    synthetic.rewrite(path, edit(table))


def first_row(**changes):
    return lambda table: [table[0] | changes, *table[1:]]


def without(column):
    return lambda table: [{k: v for k, v in row.items() if k != column} for row in table]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (without("guide"), "study.csv: no column guide"),
        (first_row(clipscore=""), "study.csv: line 2 has no clipscore"),
        (first_row(clipscore="inf"), "study.csv: line 2 has no clipscore"),
        (first_row(guide="high"), "study.csv: column guide"),
        (first_row(sha256=""), "study.csv: line 2 has no sha256"),
        (first_row(id="p9999"), "study.csv: id p9999 is no prompt's"),
        (first_row(set="other"), "study.csv: set 'other' is none of"),
        (lambda table: table[1:], "scores of embed-200: 1 of 16 pictures are missing"),
        (lambda table: [*table, table[0] | {"sha256": "f" * 64}], "one score is stale"),
    ],
)
def test_bad_scores_are_refused(fresh, edit, message):
    root, study = fresh
    change(root, "images/embed-200/study", edit)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        build(load(root, study))
    assert "\n" not in str(error.value)


def test_the_same_score_twice_counts_once(fresh):
    root, study = fresh
    before = build(load(root, study)).frame
    change(root, "images/embed-200/study", lambda table: [*table, table[0]])
    pd.testing.assert_frame_equal(before, build(load(root, study)).frame)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'model,set\n"a,b\n'])
def test_damaged_files_are_named(fresh, content):
    root, study = fresh
    path = root / "scores/images/base/study.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match="study.csv"):
        load(root, study)


def test_missing_files_are_named(fresh):
    root, study = fresh
    with pytest.raises(UserError, match="gone.csv: not found"):
        load(root, study, files=[root / "gone.csv"])
    (root / "training/embed-500/summary.json").unlink()
    with pytest.raises(UserError, match="no summary of embed-500"):
        build(load(root, study))


def test_settings_that_are_not_given_have_those_of_the_config(fresh):
    root, study = fresh
    given = studies.Settings.parse({"draws": 50}, "settings")
    assert (given.confidence, given.seed) == (0.95, 0)
    with pytest.raises(UserError, match="settings.drawz: unknown key"):
        studies.Settings.parse({"drawz": 50}, "settings")
    found = load(root, study, models=None)
    assert found.models == [(model, "", 0) for model in ("base", *sorted(study.models[1:]))]


def test_prompts_that_look_like_missing_values_are_prompts(fresh):
    root, study = fresh
    path = root / "prompts.tsv"
    lines = path.read_text().splitlines()
    lines[1] = "\t".join(['"NA', *lines[1].split("\t")[1:]])
    path.write_text("\n".join(lines) + "\n")
    table = scores.read(synthetic.score_files(root), scores.read_prompts(path))
    assert set(table[table["id"] == "p0000"]["Prompt"]) == {'"NA'}

"""The tables of further judges and of diversity."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from vlg.analysis import study as studies
from vlg.analysis.comparison import compare
from vlg.analysis.tables import diversity, judges
from vlg.errors import UserError
from vlg.judge.columns import NUMBERS
from vlg.report.figures import diversity as diversity_figure
from vlg.report.figures import judges as judges_figure

OPTIONS = {"draws": 200, "confidence": 0.95, "seed": 0}
MODELS = ["base", "normal-2", "embed-2"]


def made(prompts=20, seeds=(0, 1), gains=(0, 1, 2), models=MODELS):
    """Scores in which embed gains 2 and normal 1 on every picture."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(prompts):
        for seed in seeds:
            noise = rng.normal(50, 5)
            for gain, model in zip(gains, models, strict=True):
                rows.append(
                    {
                        "model": model, "arm": "", "set": "study", "id": f"p{number:04d}",
                        "seed": seed, "sha256": f"{model}{number}{seed}",
                        "clipscore": noise + gain + rng.normal(0, 0.1),
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def study(scores, folders=(), diversity=None, train_seeds=(0,)):
    """What the tables are built from, with what the judges in `folders` say."""
    ids = list(dict.fromkeys(scores["id"]))
    others = {name: np.nan for name in NUMBERS if name not in scores}
    others["guide"] = 0.4 * scores["clipscore"]
    files = [path for folder in folders for path in sorted(folder.glob("*.csv"))]
    frame, measures = studies.further(scores.assign(round=0, **others), files, diversity)
    settings = OPTIONS | {"models": MODELS, "train_seeds": list(train_seeds)}
    return studies.Study(
        prompts=pd.DataFrame({"id": ids, "set": "study"}),
        scores=frame,
        judges=measures,
        settings=studies.Settings.parse(settings, "settings"),
    )


def written(scores, folder, column):
    folder.mkdir(parents=True)
    for model, rows in scores.groupby("model"):
        rows = rows.assign(score=column(rows))[["model", "id", "seed", "sha256", "score"]]
        rows.to_csv(folder / f"{model}.csv", index=False)
    return folder


def test_judges_that_agree_and_one_that_does_not(tmp_path):
    scores = made()
    folders = [
        written(scores, tmp_path / "same", lambda rows: 3 * rows["clipscore"] + 7),
        written(scores, tmp_path / "against", lambda rows: -rows["clipscore"]),
    ]
    frame = judges.build(study(scores, folders)).frame.set_index(["judge", "model"])
    assert list(dict.fromkeys(frame.index.get_level_values(0))) == [
        *("judge", "guide", "same", "against")
    ]
    together = frame.xs("all", level="model")
    assert together["auc"].isna().all() and together["score"].isna().all()
    assert together["spearman_against"].tolist() == pytest.approx([-1, -1, -1, 1])
    frame = frame.drop("all", level="model")
    assert frame.loc[("judge", "embed-2"), "delta"] == pytest.approx(2, abs=0.1)
    assert frame.loc[("same", "embed-2"), "delta"] == pytest.approx(6, abs=0.3)
    assert (
        frame.loc[("same", "embed-2"), "delta_low"]
        > 0
        > frame.loc[("against", "embed-2"), "delta_high"]
    )
    assert frame.loc["same", "kendall"].iloc[0] == frame.loc["same", "spearman"].iloc[0] == 1
    assert frame.loc["against", "kendall"].iloc[0] == -1
    assert frame.loc["same", "rank"].tolist() == frame.loc["against", "rank"].tolist()[::-1]


def test_the_studys_own_judge_says_the_same_in_every_table(tmp_path):
    """And so does a further one that gives the same scores: all come by one way."""
    scores = made()
    made_up = study(scores, [written(scores, tmp_path / "same", lambda rows: rows["clipscore"])])
    found = judges.build(made_up).frame.set_index(["judge", "model"])
    compared = compare(made_up, made_up.models).frame
    for judge in ("judge", "same"):
        own = found.loc[judge]
        for mine, theirs in (("score", "clipscore"), ("delta", "delta")):
            for end in ("", "_low", "_high"):
                assert own[mine + end].tolist()[1:] == compared[theirs + end].tolist(), (
                    judge,
                    mine,
                )
        assert own["p"].tolist()[2:] == compared["p"].tolist()[1:]
    distances = scores[["model", "id", "seed", "sha256"]]
    distances = distances.assign(spread=scores["clipscore"], drift=0.2)
    distances.to_csv(tmp_path / "diversity.csv", index=False)
    apart = diversity.build(study(scores, diversity=tmp_path / "diversity.csv")).frame
    for end in ("", "_low", "_high"):
        assert apart[f"spread{end}"].tolist() == compared[f"clipscore{end}"].tolist()
        assert apart[f"delta{end}"].tolist() == compared[f"delta{end}"].tolist()


def test_further_trainings_are_averaged_and_widen_the_interval(tmp_path):
    names = [*MODELS, *(f"{model}-s{seed}" for seed in (5, 7) for model in MODELS[1:])]
    scores = made(gains=(0, 1, 2, 1, 6, 1, 4), models=names)
    folders = [written(scores, tmp_path / "same", lambda rows: rows["clipscore"])]
    rows = scores[["model", "id", "seed", "sha256"]].assign(spread=0.4, drift=0.2)
    rows.loc[rows["model"] == "embed-2-s5", "spread"] = 0.2
    rows.to_csv(tmp_path / "diversity.csv", index=False)
    alone = judges.build(study(scores, folders)).frame.set_index(["judge", "model"])
    table = judges.build(study(scores, folders, train_seeds=(0, 5, 7)))
    both = table.frame.set_index(["judge", "model"])
    assert "Means over 3 trainings" in table.caption
    assert both.loc["same", "trainings"].tolist() == [3, 0, 3, 3]
    for judge in ("judge", "same"):
        assert both.loc[(judge, "embed-2"), "delta"] == pytest.approx(4, abs=0.1)
        width = [
            each.loc[(judge, "embed-2"), "delta_high"] - each.loc[(judge, "embed-2"), "delta_low"]
            for each in (alone, both)
        ]
        assert width[1] > 5 * width[0]
    found = diversity.build(
        study(scores, diversity=tmp_path / "diversity.csv", train_seeds=(0, 5, 7))
    ).frame
    assert found["spread"].tolist() == pytest.approx([0.4, 0.4, 1.0 / 3])
    (tmp_path / "same/embed-2-s5.csv").unlink()
    with pytest.raises(UserError, match="score of embed-2-s5: pictures are missing"):
        study(scores, folders, train_seeds=(0, 5, 7))


def test_a_score_of_another_picture_is_refused(tmp_path):
    scores = made()
    folder = written(scores, tmp_path / "old", lambda rows: rows["clipscore"])
    path = folder / "embed-2.csv"
    path.write_text(path.read_text().replace("embed-201", "other", 1))
    with pytest.raises(UserError, match=r"embed-2.csv: line 3 is of another picture"):
        study(scores, [folder])
    path.unlink()
    with pytest.raises(UserError, match="score of embed-2: pictures are missing"):
        study(scores, [folder])


def test_a_collapse_shows(tmp_path):
    scores = made()
    spread = {"base": 0.4, "normal-2": 0.4, "embed-2": 0.01}
    rows = scores[["model", "id", "seed", "sha256"]].assign(
        spread=scores["model"].map(spread) * (1 + scores["clipscore"] / 1e4),
        drift=(scores["model"] != "base") * 0.2,
    )
    rows.to_csv(tmp_path / "diversity.csv", index=False)
    found = diversity.build(study(scores, diversity=tmp_path / "diversity.csv")).frame
    found = found.set_index("model")
    assert found.loc["embed-2", "delta"] == pytest.approx(-0.39, rel=0.01)
    assert found.loc["embed-2", "delta_high"] < 0 and found.loc["embed-2", "p_corrected"] < 0.001
    assert found.loc["normal-2", "delta"] == pytest.approx(0, abs=1e-3)
    assert found["drift"].tolist() == pytest.approx([0, 0.2, 0.2])
    own = study(scores, diversity=tmp_path / "diversity.csv")
    other = dataclasses.replace(own, strangers=frozenset({"embed-2"}))
    drift = diversity.build(other).frame.set_index("model")["drift"]
    assert np.isnan(drift["embed-2"]) and drift["normal-2"] == pytest.approx(0.2)


def test_a_model_of_other_latents_shares_its_noise_with_itself_alone():
    own = dataclasses.replace(study(made()), strangers=frozenset({"embed-2"}))
    base, embed = ("base", "", 0), ("embed-2", "", 0)
    assert not own.paired(base, embed) and own.paired(base, ("normal-2", "", 0))
    assert own.paired(embed, ("embed-2", "refine", 3)) and own.apart == ["embed-2"]
    assert own.last == {"base": "base", "normal": "normal-2"}


def test_judges_and_diversity_are_drawn(tmp_path):
    scores = made()
    folders = [written(scores, tmp_path / "other", lambda rows: rows["clipscore"])]
    rows = scores[["model", "id", "seed", "sha256"]].assign(spread=0.4, drift=0.2)
    rows.to_csv(tmp_path / "diversity.csv", index=False)
    both = judges_figure.draw(OPTIONS, judges.build(study(scores, folders)).frame)
    assert [axis.get_title() for axis in both.axes] == [*("Δ ClipScore", "Δ guide", "Δ other", "")][
        :3
    ]
    found = diversity.build(study(scores, diversity=tmp_path / "diversity.csv")).frame
    drift = diversity_figure.draw(OPTIONS, found).axes[1]
    drawn = [line.get_xdata()[0] for line in drift.lines if line.get_marker() in "sD"]
    assert drawn == pytest.approx([20, 20])
    alone = found[found["model"] == "base"]
    assert "one model only" in [
        text.get_text() for text in diversity_figure.draw(OPTIONS, alone).texts
    ]

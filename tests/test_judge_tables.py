"""The tables of further judges and of diversity."""

import numpy as np
import pandas as pd
import pytest

from vlg import plugins
from vlg.analysis import study as studies
from vlg.analysis.comparison import compare
from vlg.data import prompts as table_of_prompts
from vlg.errors import UserError
from vlg.judge.columns import COLUMNS, NUMBERS

OPTIONS = {"draws": 200, "confidence": 0.95, "seed": 0}
MODELS = ["base", "normal-2", "embed-2"]


def made(folder, prompts=8, seeds=(0, 1), gains=(0, 1, 2), models=MODELS):
    """Prompts and scores in which embed gains 2 and normal 1 on every picture; the scores."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(prompts):
        for seed in seeds:
            noise = rng.normal(50, 5)
            for gain, model in zip(gains, models, strict=True):
                rows.append(
                    dict.fromkeys(COLUMNS, "x")
                    | dict.fromkeys(NUMBERS, "")
                    | {"model": model, "arm": "", "set": "study", "id": f"p{number:04d}"}
                    | {"round": 0, "seed": seed, "sha256": f"{model}{number}{seed}", "guide": 30}
                    | {"clipscore": noise + gain + rng.normal(0, 0.1)}
                )
    ids = [f"p{number:04d}" for number in range(prompts)]
    texts = [dict.fromkeys(table_of_prompts.COLUMNS, "") for _ in ids]
    texts = [row | {"Prompt": key, "id": key} for row, key in zip(texts, ids, strict=True)]
    table_of_prompts.write(folder / "prompts.tsv", [row | {"set": "study"} for row in texts])
    scores = pd.DataFrame(rows)
    scores.to_csv(folder / "scores.csv", index=False)
    return scores


def judged(scores, folder, column):
    """A further judge's files, of the name of their folder."""
    folder.mkdir(parents=True)
    for model, rows in scores.groupby("model"):
        rows = rows.assign(score=column(rows))[["model", "id", "seed", "sha256", "score"]]
        rows.to_csv(folder / f"{model}.csv", index=False)
    return folder


def apart(scores, folder, **columns):
    """What diversity.py writes."""
    rows = scores[["model", "id", "seed", "sha256"]].assign(**columns)
    rows.to_csv(folder / "diversity.csv", index=False)


def table(name, folder, seeds=(0,)):
    """A table, read and built as scripts/table.py does it from all that lies in `folder`."""
    settings = OPTIONS | {"models": MODELS, "train_seeds": list(seeds)}
    runs = pd.read_csv(folder / "scores.csv")["model"].unique()
    judges = [path / f"{run}.csv" for path in sorted(folder.iterdir()) for run in runs]
    diversity = folder / "diversity.csv"
    study = studies.read(
        studies.Settings.parse(settings, "settings"),
        prompts=[folder / "prompts.tsv"],
        scores=[folder / "scores.csv"],
        judges=[path for path in judges if path.parent.is_dir()] if name == "judges" else [],
        diversity=diversity if name == "diversity" else None,
    )
    return plugins.load(plugins.TABLES, name).build(study)


def test_judges_that_agree_and_one_that_does_not(tmp_path):
    scores = made(tmp_path)
    judged(scores, tmp_path / "same", lambda rows: 3 * rows["clipscore"] + 7)
    judged(scores, tmp_path / "against", lambda rows: -rows["clipscore"])
    frame = table("judges", tmp_path).frame.set_index(["judge", "model"])
    assert list(dict.fromkeys(frame.index.get_level_values(0))) == ["judge", "against", "same"]
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
    judged(made(tmp_path), tmp_path / "same", lambda rows: rows["clipscore"])
    found = table("judges", tmp_path).frame.set_index(["judge", "model"])
    settings = studies.Settings.parse(OPTIONS | {"models": MODELS}, "settings")
    study = studies.read(settings, [tmp_path / "prompts.tsv"], [tmp_path / "scores.csv"])
    compared = compare(study, study.models).set_index("model")
    for judge in ("judge", "same"):
        own = found.loc[judge]
        for mine, theirs in (("score", "clipscore"), ("delta", "delta")):
            for end in ("", "_low", "_high"):
                assert own[mine + end].tolist() == compared[theirs + end].tolist(), (judge, mine)
        assert own["p"].iloc[1:].tolist() == compared["p"].iloc[1:].tolist()


def test_further_trainings_are_averaged_and_widen_the_interval(tmp_path):
    names = [*MODELS, "normal-2-s5", "embed-2-s5"]
    scores = made(tmp_path, gains=(0, 1, 2, 1, 6), models=names)
    judged(scores, tmp_path / "same", lambda rows: rows["clipscore"])
    spread = np.where(scores["model"] == "embed-2-s5", 0.2, 0.4)
    apart(scores, tmp_path, spread=spread, drift=0.2)
    alone = table("judges", tmp_path).frame.set_index(["judge", "model"])
    made_of_both = table("judges", tmp_path, [0, 5])
    both = made_of_both.frame.set_index(["judge", "model"])
    assert "Means over 2 trainings" in made_of_both.caption
    assert both.loc["same", "trainings"].tolist() == [0, 2, 2]
    for judge in ("judge", "same"):
        assert both.loc[(judge, "embed-2"), "delta"] == pytest.approx(4, abs=0.1)
        width = [
            each.loc[(judge, "embed-2"), "delta_high"] - each.loc[(judge, "embed-2"), "delta_low"]
            for each in (alone, both)
        ]
        assert width[1] > 5 * width[0]
    found = table("diversity", tmp_path, [0, 5]).frame
    assert found["spread"].tolist() == pytest.approx([0.4, 0.4, 0.3])
    (tmp_path / "same/embed-2-s5.csv").unlink()
    with pytest.raises(UserError, match="embed-2-s5.csv: not found"):
        table("judges", tmp_path, [0, 5])


def test_a_score_of_another_picture_is_refused(tmp_path):
    scores = made(tmp_path)
    folder = judged(scores, tmp_path / "old", lambda rows: rows["clipscore"])
    path = folder / "embed-2.csv"
    path.write_text(path.read_text().replace("embed-201", "other", 1))
    with pytest.raises(UserError, match=r"embed-2.csv: line 3 is of another picture"):
        table("judges", tmp_path)
    path.unlink()
    with pytest.raises(UserError, match="embed-2.csv: not found"):
        table("judges", tmp_path)


def test_a_picture_that_a_judge_did_not_see_is_named(tmp_path):
    scores = made(tmp_path)
    path = judged(scores, tmp_path / "old", lambda rows: rows["clipscore"]) / "embed-2.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match="score of embed-2: pictures are missing"):
        table("judges", tmp_path)


def test_a_collapse_shows(tmp_path):
    scores = made(tmp_path)
    spread = {"base": 0.4, "normal-2": 0.4, "embed-2": 0.01}
    drift = (scores["model"] != "base") * 0.2
    apart(scores, tmp_path, spread=scores["model"].map(spread), drift=drift)
    found = table("diversity", tmp_path).frame.set_index("model")
    assert found.loc["embed-2", "delta"] == pytest.approx(-0.39)
    assert found.loc["embed-2", "delta_high"] < 0 and found.loc["normal-2", "delta"] == 0
    assert found["drift"].tolist() == pytest.approx([0, 0.2, 0.2])


def test_judges_and_diversity_are_drawn(tmp_path):
    scores = made(tmp_path)
    judged(scores, tmp_path / "other", lambda rows: rows["clipscore"])
    apart(scores, tmp_path, spread=0.4, drift=0.2)

    def drawn(name, frame):
        return plugins.load(plugins.FIGURES, name).draw(OPTIONS, **{name: frame})

    both = drawn("judges", table("judges", tmp_path).frame)
    assert [axis.get_title() for axis in both.axes] == ["Δ ClipScore", "Δ other"]
    found = table("diversity", tmp_path).frame
    drift = drawn("diversity", found).axes[1]
    points = [line.get_xdata()[0] for line in drift.lines if line.get_marker() in "sD"]
    assert points == pytest.approx([20, 20])
    alone = found[found["model"] == "base"]
    assert "one model only" in [text.get_text() for text in drawn("diversity", alone).texts]

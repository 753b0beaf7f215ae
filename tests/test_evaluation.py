"""Sets of pictures scored and compared from Python, and the leaderboard."""

import json
import random
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import vlg
from tests import tiny
from tests.pipeline import ROOT
from tests.test_judge_tables import made
from vlg.analysis import study as studies
from vlg.analysis.tables import compare
from vlg.config import layout
from vlg.errors import UserError
from vlg.judge.columns import NUMBERS
from vlg.shapes import captions
from vlg.shapes.example import example
from vlg.shapes.world import render

PROMPTS = 30
TEXTS = [row["Prompt"] for row in captions.prompts(PROMPTS, 0)]


def light(images, prompts):
    """A judge: mean lightness, whatever the size."""
    return [float(image.mean()) for image in images]


def drawn(folder, level, prompts=PROMPTS, seeds=2, size=(8, 8)):
    """Grey pictures, lighter by the prompt and by `level`, named by prompt and seed."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng([level, *folder.name.encode()])
    for place in range(prompts):
        for seed in range(seeds):
            shade = 50 + place * 3 + int(noise.integers(20)) + level
            name = f"{place}_{1000 + 3 * seed}.png"
            Image.new("L", size, shade).save(folder / name)
    return {"source": folder, "pattern": "{id}_{seed}.png"}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    given = {
        "dark": drawn(root / "dark", 0, size=(8, 12)),
        "light": drawn(root / "light", 40, prompts=27, seeds=3),
        "alike": drawn(root / "alike", 0),
    }
    return vlg.evaluate(pictures=given, judges=[light], prompts=TEXTS)


def test_a_frame_has_a_row_for_each_picture(results):
    assert len(results) == 60 + 81 + 60
    assert list(results.columns[:3]) == ["model", "id", "prompt"] and "light" in results
    one = results[(results["model"] == "light") & (results["id"] == "p0003")]
    assert list(one["seed"]) == [1000, 1003, 1006]
    for _, row in one.iterrows():
        assert row["light"] == np.asarray(Image.open(row["picture"])).mean()
    assert set(one["prompt"]) == {TEXTS[3]}


def test_sets_are_compared_on_the_prompts_that_both_have(results):
    found = vlg.tables(results, draws=500)
    board = found["compare"]
    rows = board[board["kind"] == "row"].set_index("model")
    assert rows.loc["light", "rank"] == 1 and rows.loc["light", "rank_last"] == 1
    assert rows.loc["dark", "rank"] == rows.loc["alike", "rank"] == 2  # they cannot be told apart
    assert rows.loc["dark", "rank_last"] == 3
    assert rows.loc["light", "words"] == "above all others"
    assert rows.loc["light", "prompts"] == 27 and rows.loc["dark", "prompts"] == 30
    pairs = board[board["kind"] == "pair"].set_index(["model", "against"])
    means = results.groupby(["model", "id"])["light"].mean()
    expected = (means["light"] - means["dark"]).dropna()
    assert len(expected) == 27
    assert pairs.loc[("light", "dark"), "delta"] == pytest.approx(expected.mean())
    assert pairs.loc[("light", "dark"), "prompts"] == 27
    judged = found["judges"].set_index("model")
    assert judged.loc["light", "delta"] == pytest.approx(expected.mean())
    assert judged["prompts"].to_dict() == {"all": 30, "dark": 30, "light": 27, "alike": 30}
    assert judged["seeds"].to_dict() == {"all": 2, "dark": 2, "light": 3, "alike": 2}
    lacking = found["coverage"]
    assert list(lacking.loc[lacking["model"] == "light", "id"]) == [
        "all",
        "p0027",
        "p0028",
        "p0029",
    ]


def test_another_set_can_be_the_reference(results):
    judged = vlg.tables(results, reference="light", draws=200)["judges"]
    assert list(judged["model"]) == ["all", "light", "dark", "alike"]
    assert judged["delta"].iloc[1] == 0
    with pytest.raises(UserError, match="no set 'lite'; there are dark, light, alike"):
        vlg.tables(results, reference="lite")


def test_a_set_is_never_taken_for_a_checkpoint(results):
    """Whatever it is called."""
    names = {"dark": "mine-500", "light": "mine-1000", "alike": "mine-1000-s1"}
    found = vlg.tables(results.assign(model=results["model"].map(names)), draws=200)
    assert [*found["judges"]["model"]] == ["all", *names.values()]
    assert not found["judges"]["trainings"].any()
    assert set(found["judges"]["about"][1:]) == {"these pictures"}


def test_a_frame_that_was_edited_is_checked(results):
    for frame, said in [
        (results.rename(columns={"light": "guide"}), "guide is what the tables call another"),
        (results.assign(note="good"), "note is no column of numbers"),
        (pd.concat([results, results.replace({"prompt": {TEXTS[1]: "else"}})]), "two prompts"),
    ]:
        with pytest.raises(UserError, match=said):
            vlg.tables(frame)


def test_every_judge_reads_pictures_of_several_sizes_at_once(tmp_path):
    for number, side in enumerate((32, 64, 32)):
        picture = render(example(captions.parse(TEXTS[0]), random.Random(number)))
        scene = Image.fromarray(picture)
        scene = scene.resize((side, side), Image.Resampling.NEAREST)
        (tmp_path / "mine").mkdir(exist_ok=True)
        scene.save(tmp_path / f"mine/0_{number}.png")
    own = {"mine": {"source": tmp_path / "mine", "pattern": "{id}_{seed}.png"}}
    guide = str(ROOT / "resources/shapes/guide")
    kinds = {"seen": {"kind": "open_clip", "source": guide}}
    kinds["true"] = {"kind": "verifier", "source": "shapes"}
    found = vlg.evaluate(own, kinds, TEXTS)
    assert [*found["true"]] == [100.0] * 3
    alone = vlg.evaluate(own, kinds, TEXTS, batch_size=1)
    assert np.allclose(found["seen"], alone["seen"], atol=1e-4)


def test_the_shipped_judge_and_the_verifier_read_pictures(tmp_path):
    (tmp_path / "mine").mkdir()
    rng, lines = random.Random(0), []
    for place, text in enumerate(TEXTS[:6]):
        said = captions.parse(text)
        said = captions.wrong(said, rng) if place == 5 else said
        Image.fromarray(render(example(said, rng))).save(tmp_path / f"mine/{place}.png")
        lines.append(json.dumps({"file_name": f"{place}.png", "prompt": text}))
    (tmp_path / "mine/metadata.jsonl").write_text("\n".join(lines))
    found = vlg.evaluate(tmp_path / "mine", truth=True)
    assert list(found["model"].unique()) == ["mine"] and list(found["seed"]) == [0] * 6
    assert list(found["strict"]) == [1, 1, 1, 1, 1, 0]
    judge = tiny.save_judge(tmp_path / "clip")
    again = vlg.evaluate(tmp_path / "mine", {"one": judge, "two": {"source": str(judge)}})
    assert list(again["one"]) == list(again["two"])


@pytest.mark.parametrize(
    ("judges", "said"),
    [
        ([], "judges: none"),
        ([light, light], "judges: light is taken"),
        ({"judge": light}, "judges: judge is taken"),
        ([lambda images, prompts: [1.0]], "must return a finite number for each"),
        (["gone"], "'gone' has no config.json"),
        ([{"kind": "clipp", "source": "x"}], "did you mean clip"),
        (["hub:a/b"], "not fetched here"),
    ],
    ids=range(7),
)
def test_wrong_judges_are_one_line(tmp_path, judges, said):
    with pytest.raises(UserError) as raised:
        vlg.evaluate({"a": drawn(tmp_path / "a", 0, 2)}, judges, TEXTS)
    assert said in str(raised.value)


def test_wrong_sets_are_one_line(tmp_path):
    one = drawn(tmp_path / "a", 0, 2)
    for pictures, prompts, said in [
        ({"a": one}, None, "prompts: the pictures say ids alone"),
        ({"a": one}, TEXTS[:1], "pictures.a: "),
        ({"a": {**one, "patern": "x"}}, TEXTS, "did you mean"),
        ({}, TEXTS, "no set"),
    ]:
        with pytest.raises(UserError) as raised:
            vlg.evaluate(pictures, [light], prompts)
        assert said in str(raised.value)


def test_importing_the_package_loads_nothing():
    code = "import sys, vlg; print(sorted(m for m in sys.modules if m.startswith('vlg')))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "scripts", capture_output=True, text=True
    )
    assert done.stdout.strip() == "['vlg']"


# --- the leaderboard ------------------------------------------------------------------------------


def board(scores, models, **settings):
    """The table of scores of rows that share their noise."""
    others = {name: np.nan for name in NUMBERS if name not in scores}
    ids = list(dict.fromkeys(scores["id"]))
    options = {"draws": 500, "models": list(models), **settings}
    study = studies.Study(
        prompts=pd.DataFrame({"id": ids, "set": "study"}),
        scores=scores.assign(round=0, **others),
        settings=studies.Settings.parse(options, "settings"),
    )
    return compare.build(study).frame


def test_every_pair_is_there_once_and_ranks_follow_what_is_told_apart():
    models = ["base", "normal-2", "embed-2", "embed-4"]
    scores = made(prompts=30, gains=(0, 0.01, 2, 4), models=models)
    frame = board(scores, models)
    rows, pairs = (frame[frame["kind"] == kind] for kind in ("row", "pair"))
    assert len(pairs) == 6 and not pairs.duplicated(["model", "against"]).any()
    assert dict(zip(rows["model"], rows["rank"], strict=True)) == {
        "embed-4": 1, "embed-2": 2, "base": 3, "normal-2": 3,
    }  # fmt: skip
    for row in pairs.itertuples():
        own = scores[scores["model"] == row.model].set_index(["id", "seed"])["clipscore"]
        other = scores[scores["model"] == row.against].set_index(["id", "seed"])["clipscore"]
        assert row.delta == pytest.approx((own - other).mean())
        assert row.delta_low <= row.delta <= row.delta_high and row.p <= row.p_corrected


def test_rows_without_a_difference_seldom_get_a_second_rank():
    """Of 40 leaderboards of 5 equal rows, at a level of 5 %."""
    models, told = [f"m{i}" for i in range(5)], 0
    rng = np.random.default_rng(1)
    for _ in range(40):
        rows = [
            {"model": model, "arm": "", "set": "study", "id": f"p{n}", "seed": seed,
             "sha256": f"{model}{n}{seed}", "clipscore": rng.normal(50, 5)}
            for model in models for n in range(30) for seed in (0, 1)
        ]  # fmt: skip
        frame = board(pd.DataFrame(rows), models)
        told += frame["rank"].max() > 1
    assert told <= 6  # with a probability of 0.985


def test_a_board_may_have_many_rows():
    models = [f"m{i}" for i in range(40)]
    scores = made(prompts=60, gains=range(40), models=models)
    assert len(board(scores, models, draws=2000)) == 40 + 780


def test_names_of_sets_are_names_of_models():
    assert layout.parse_model("mine") == layout.Model("mine", 0)

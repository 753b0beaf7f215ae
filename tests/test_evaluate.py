"""The examples of docs/evaluate.md: what is finished is compared, and nothing is trained."""

import json
import random
import shutil
import sys

import pytest
from PIL import Image

from tests.hub_server import Hub
from tests.pipeline import Checkout
from tests.reduced import rows
from vlg.data import benchmark, hub
from vlg.shapes import captions, world

DRAWING = ("finetune", "generate", "refine", "encode", "dataset")


@pytest.fixture(scope="module")
def tree(checkout):
    """The checkout with what the examples evaluate."""
    done = checkout.run(sys.executable, "examples/evaluate/make.py", "examples/evaluate/made")
    assert done.code == 0, done.output
    return checkout


def evaluate(tree, example, *words, **config):
    """Run it as `make evaluate` does."""
    changes = [f"{name}={value}" for name, value in config.items()]
    return tree.run(
        *(sys.executable, "-m", "snakemake", "evaluate", *words),
        *(["--config", *changes] if changes else []),
        *(
            "--cores",
            2,
            "--configfile",
            "config/evaluate.yaml",
            f"examples/evaluate/{example}.yaml",
        ),
    )


def test_two_sets_of_pictures_are_compared_without_a_model(tree):
    done = evaluate(tree, "pictures", statistics="{draws: 500}")
    assert done.code == 0, done.output
    out = tree.root / "results/pictures"
    board = rows(out / "tables/compare.csv")
    ranks = {row["model"]: row["ranks"] for row in board if row["kind"] == "row"}
    assert ranks == {"careful": "1", "plain": "2"}
    (pair,) = (row for row in board if row["kind"] == "pair")
    assert (pair["prompts"], pair["paired"]) == ("38", "not shared")
    lacking = [row["id"] for row in rows(out / "tables/coverage.csv") if row["id"] != "all"]
    assert lacking == ["p0003", "p0017"]
    assert not [name for name in ("base", "guide") if (out / "models" / name).exists()]
    scores = rows(out / "scores/images/careful/final.csv")
    assert len(scores) == 76 and {row["guide"] for row in scores} == {""}
    for path in ("gallery/index.html", "report/compare.html", "figures/compare.png"):
        assert (out / path).is_file()
    whole = tree.run("python", "scripts/verify.py", "--study", "results/pictures")
    assert whole.code == 0, whole.output
    again = evaluate(tree, "pictures", "-n", statistics="{draws: 500}")
    assert "Nothing to be done" in again.output, again.output
    # A picture that was exchanged is scored again, and that of the other set is not.
    made = tree.root / "examples/evaluate/made/careful"
    shutil.copyfile(made / "0_1000.webp", made / "0_1001.webp")
    planned = evaluate(tree, "pictures", "-n", statistics="{draws: 500}").output
    assert "model=careful" in planned and "model=plain" not in planned


def test_the_reading_judge_of_a_rebuilt_world_is_trained_anew(tree):
    planned = evaluate(tree, "judges", "-n", models="{rebuild: true}")
    assert planned.code == 0, planned.output
    assert "part=vqa" in planned.output
    assert "part=vqa" not in evaluate(tree, "judges", "-n").output


def test_what_would_train_is_refused(tree):
    done = evaluate(tree, "models", "-n", finetune="{variants: {mine: {}}}")
    done.refused("finetune.variants: evaluate trains nothing, and there is mine")


@pytest.mark.slow
def test_judges_are_held_against_the_ratings_that_genai_bench_comes_with(tmp_path):
    """From a stand-in for the Hub: pictures of the one are what prompts say, of the other not."""
    tree, rng = Checkout(tmp_path / "tree"), random.Random(3)
    shown = {}
    while len(shown) < 20:
        scene = world.sample(rng, world.SEEN)
        shown[captions.sentence(captions.meaning(scene))] = world.render(scene)
    images, skills, pictures = {}, {"basic": [*range(20)]}, [*shown.values()]
    for number, said in enumerate(shown):
        scores = {"DALLE_3": [5, 4, 5], "SDXL_Turbo": [1, 2, 1], "Midjourney_6": [3, 3, 3]}
        images[f"{number:05d}"] = {"id": f"{number:05d}", "prompt": said, "models": scores}
        for name, drawn in (("DALLE_3", pictures[number]), ("SDXL_Turbo", pictures[number - 1])):
            (tree.root / name).mkdir(exist_ok=True)
            Image.fromarray(drawn).save(tree.root / name / f"{number:05d}.jpeg", quality=95)
    folder = tmp_path / "there"
    folder.mkdir()
    for name, content in (("genai_image", images), ("genai_skills", skills)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    sets = {"dalle_3": "DALLE_3", "sdxl_turbo": "SDXL_Turbo"}
    own = {"pattern": "{id}.jpeg", "column": "item_id"}
    config = {
        "study": "rated",
        "models": {"base": None},
        "prompts": {"source": "genai_bench", "pool": 20, "study": 20},
        "pictures": {name: {"source": source, **own} for name, source in sets.items()},
        "ratings": "prompts",
        "statistics": {"draws": 500},
    }
    (tree.root / "rated.yaml").write_text(json.dumps(config))
    source = hub.parse(benchmark.parse("genai_bench").source)
    words = ("evaluate", "--cores", 2, "--configfile", "config/evaluate.yaml", "rated.yaml")
    with Hub() as server:
        server.add("dataset", source.id, folder, source.revision)
        place = {
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_OFFLINE": "0",
        }
        done = tree.run(sys.executable, "-m", "snakemake", *words, NO_PROXY="127.0.0.1", **place)
    assert done.code == 0, done.output
    board = {row["model"]: row for row in rows(tree.root / "results/rated/tables/ratings.csv")}
    assert [*board] == ["dalle_3", "sdxl_turbo"] and board["dalle_3"]["ratings"] == "60"
    assert float(board["dalle_3"]["win_rate"]) == 1 and board["dalle_3"]["raters"] == "3"
    held = rows(tree.root / "results/rated/tables/calibration.csv")
    (whole,) = (row for row in held if row["prompt_kind"] == "all" and row["judge"] == "judge")
    assert whole["pairs"] == "20" and float(whole["accuracy_decided"]) > 0.8, held


@pytest.mark.slow
def test_a_lora_and_a_set_stand_beside_the_base(tree):
    done = evaluate(tree, "models", statistics="{draws: 500}")
    assert done.code == 0, done.output
    out = tree.root / "results/models"
    board = rows(out / "tables/compare.csv")
    paired = {
        (row["model"], row["against"]): row["paired"] for row in board if row["kind"] == "pair"
    }
    assert len(paired) == 6
    assert all(
        word == ("not shared" if "careful" in key else "the same") for key, word in paired.items()
    )
    hard = rows(out / "tables/hard_prompts.csv")
    assert {row["model"] for row in hard if row["selection"] == "fresh_seeds"} == {
        "base", "late", "lora", "careful",
    }  # fmt: skip
    assert not (out / "training").exists() and not (out / "dataset").exists()
    again = evaluate(tree, "models", "-n", statistics="{draws: 500}")
    assert "Nothing to be done" in again.output, again.output


@pytest.mark.slow
def test_judges_that_read_and_people_stand_beside_the_clip(tree):
    done = evaluate(tree, "judges", statistics="{draws: 500}")
    assert done.code == 0, done.output
    out = tree.root / "results/judges"
    judges = {row["judge"] for row in rows(out / "tables/judges.csv")}
    assert {"judge", "vqa", "questions", "strict"} <= judges
    rated = {row["model"] for row in rows(out / "tables/ratings.csv")}
    assert rated == {"careful", "plain"}
    calibrated = {row["judge"] for row in rows(out / "tables/calibration.csv")}
    assert {"judge", "vqa", "questions", "strict"} <= calibrated

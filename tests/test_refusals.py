"""What is refused, and what a full disk leaves behind, through the command lines."""

import os
import shutil

import pytest
from PIL import Image

from tests.pipeline import command, on_small_disk
from tests.reduced import RESULTS, SCORING, SELECTION


@pytest.fixture(scope="module")
def wrong(checkout):
    """A folder of wrong inputs."""
    root = checkout.root / "wrong"
    for name, content in {
        "model/unet/config.json": "{}",
        "both/config.json": "{}",
        "both/open_clip_config.json": "{}",
        "headless.tsv": "a cat\tAnimals\na dog\tAnimals\n",
        "gap.tsv": "Prompt\tCategory\na cat\tAnimals\n\tAnimals\n",
        "pictures/metadata.jsonl": '{"file_name": "0.png", "text": "a cat"}\n'
        '{"file_name": "1.png", "text": ""}\n',
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    for number in range(2):
        Image.new("RGB", (32, 32)).save(root / f"pictures/{number}.png")
    yield root
    shutil.rmtree(root)


@pytest.mark.parametrize(
    "section, value, told",
    [
        ("stepz", "1", "config: stepz: unknown key"),
        ("refine", "{rounds: many}", "config: refine.rounds: expected a whole number, got 'many'"),
        ("finetune", "{steps: [4, 2]}", "config: finetune.steps: must rise, got [4, 2]"),
        ("finetune", "{steps: [-2, 4]}", "config: finetune.steps[0]: must be at least 1, got -2"),
        (
            "models",
            "{guide: wrong/both, judge: wrong/both}",
            "config: models.judge: is the same model as models.guide: 'wrong/both'",
        ),
        ("models", "{base: wrong/model}", "config: models.base: wrong/model has no model_index"),
        ("prompts", "{source: no.tsv}", "config: prompts.source: no file 'no.tsv'"),
        ("prompts", "{source: wrong/headless.tsv}", "wrong/headless.tsv: has no column Prompt"),
        ("prompts", "{source: wrong/gap.tsv}", "wrong/gap.tsv: line 3: the prompt is empty"),
    ],
)
def test_a_wrong_config_stops_before_any_job(checkout, wrong, section, value, told):
    checkout.snakemake("--dry-run", **{section: value}).refused(told)


def test_a_picture_without_a_caption_is_refused(checkout, wrong):
    done = checkout.run(
        *command(
            "dataset",
            {"source": "wrong/pictures", "size": None},
            source="wrong/pictures",
            out="wrong/dataset",
        )
    )
    done.refused("wrong/pictures/metadata.jsonl: row 2")
    assert not (wrong / "dataset").exists()


def test_altered_shipped_weights_are_refused(checkout, wrong):
    shutil.copytree(checkout.root / "resources/shapes", wrong / "shapes")
    weights = wrong / "shapes/guide/open_clip_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    settings = {"kind": "guide", "source": "guide"}
    done = checkout.run(
        *command("model", settings, source="wrong/shapes", shipped=True, out="wrong/guide")
    )
    done.refused("wrong/shapes/guide/open_clip_model.safetensors: checksum differs")
    assert not (wrong / "guide").exists()


def test_weights_cut_short_are_refused(checkout, wrong):
    shutil.copytree(checkout.root / "resources/shapes/base", wrong / "cut")
    weights = wrong / "cut/unet/diffusion_pytorch_model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    settings = {"kind": "base", "source": "wrong/cut"}
    done = checkout.run(*command("model", settings, source="wrong/cut", out="wrong/base"))
    done.refused("wrong/cut/unet/diffusion_pytorch_model.safetensors: not a whole safetensors")
    assert not (wrong / "base").exists()


@pytest.mark.parametrize("damaged, told", [("png", "not a whole picture"), ("jsonl", "damaged")])
def test_pictures_cut_in_half_are_refused(study, wrong, damaged, told):
    folder = wrong / damaged
    shutil.copytree(study.root / RESULTS / "images/base/final/shard-0", folder)
    path = sorted(folder.glob(f"*.{damaged}"))[-1]
    os.truncate(path, path.stat().st_size // 2)
    models = {name: RESULTS / f"models/{name}" for name in ("judge", "guide")}
    done = study.run(
        *command("score", SCORING, pictures=f"wrong/{damaged}", root="wrong", **models),
        *("--out", f"wrong/{damaged}.csv"),
    )
    done.refused(f"wrong/{damaged}/{path.name}: {told}", "delete")
    assert not (wrong / f"{damaged}.csv").exists()


def small_disk(study, folder, *what, **options):
    """(refused, repeated, first copy of the disk, second): see on_small_disk."""
    runs = on_small_disk(study, folder, *what, **options)
    if not runs:
        pytest.skip("this system lets us mount no small disk")
    runs[0].refused("no space left", "free some")
    assert runs[1].code == 0, runs[1].output
    return folder / "0/out", folder / "1/out"


def test_a_full_disk_loses_no_finished_picture(study, results, tmp_path):
    settings = {
        **{"sampling": {"steps": 2}, "shard": 0, "shard_size": 12},
        **{"stage": "selection", "model": "base", "selection": SELECTION},
    }
    inputs = {"model": RESULTS / "models/base", "prompts": RESULTS / "prompts.tsv"}
    # A page of the disk for each picture, of which there are 12, and one for the log.
    first, second = small_disk(study, tmp_path, "32k", "generate", settings, **inputs, batch_size=4)
    assert not (first / "metadata.jsonl").exists()
    finished = sorted(path.name for path in first.glob("*.png"))
    kept = [n for n in finished if (first / n).stat().st_mtime == (second / n).stat().st_mtime]
    assert len(kept) >= 4, "the first batch was whole"
    for path in (results / "images/base/selection/shard-0").glob("*.png"):
        assert (second / path.name).read_bytes() == path.read_bytes()


def test_a_full_disk_leaves_no_half_model(study, tmp_path):
    settings = {"kind": "base", "source": "base"}
    first, second = small_disk(
        study, tmp_path, "12m", "model", settings, source="resources/shapes", shipped=True
    )
    assert not first.exists()
    assert (second / "manifest.json").is_file()


def test_what_is_in_the_way_of_a_folder_is_named_before_any_job(checkout):
    place = checkout.root / "results/blocked/dataset"
    place.parent.mkdir(parents=True)
    place.write_text("")
    done = checkout.snakemake(place.relative_to(checkout.root) / "manifest.json", study="blocked")
    done.refused("results/blocked/dataset: is in the way")
    assert not (place.parent / "prompts.tsv").exists()

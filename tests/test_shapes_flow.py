"""The shapes world's other base, a transformer with flow matching, as it is shipped."""

import json

import numpy as np
import pytest

from tests.overlays import rows
from tests.pipeline import Checkout
from vlg.files import check_manifest, write_manifest
from vlg.models import folders, stated
from vlg.sample.sampler import Sampler
from vlg.shapes import captions, models

TEXTS = [row["Prompt"] for row in captions.prompts(4, seed=7)]
SHIPPED = folders.RESOURCES / "shapes"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("shapes") / "base"
    folders.unpack(SHIPPED, "base-flow", path)
    write_manifest(path)
    return path


def test_it_is_a_whole_base_of_its_family(folder):
    folders.check_family(folder, "sd3")
    stated.check("base", folder, "it", "sd3")
    parts = {path.name for path in folder.iterdir() if path.is_dir()}
    assert parts == set(folders.parts("base", "sd3")[0])


def test_its_pictures_are_the_pipelines(folder):
    """Within one grey level, with as many tokens for T5 as its tokenizer says."""
    from diffusers import StableDiffusion3Pipeline

    settings = {"steps": 4, "guidance_scale": 5.0, "scheduler": "ddim"}
    sampler, seeds = Sampler(folder, settings, "cpu"), [0, 1, 2, 3]
    ours = sampler.draw(TEXTS, seeds)
    pipe = StableDiffusion3Pipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        TEXTS, latents=sampler.latents(TEXTS, seeds, "latents"), num_inference_steps=4,
        guidance_scale=5.0, max_sequence_length=models.CONTEXT, output_type="np",
    ).images  # fmt: skip
    apart = np.abs(ours.astype(int) - np.rint(theirs * 255).astype(int))
    assert apart.max() <= 1 and ours.std() > 1


def test_it_is_small_and_says_how_it_was_made_and_how_good_it_is():
    manifest = check_manifest(SHIPPED)
    own = [told["bytes"] for name, told in manifest["files"].items() if "base-flow/" in name]
    assert sum(own) <= 12e6
    told = manifest["parts"]["base-flow"]
    assert set(told) == {"quality", "recipe", "seconds", "threads"}
    assert set(told["quality"]) == {"float16", "float32"}
    assert (
        told["quality"]["float16"]["vae"] == manifest["parts"]["base"]["quality"]["float16"]["vae"]
    )


@pytest.mark.slow
def test_the_study_runs_on_it(tmp_path):
    checkout = Checkout(tmp_path / "copy")
    done = checkout.snakemake(overlays=["config/shapes-flow.yaml"])
    assert done.code == 0, done.output
    results = checkout.root / "results/shapes-flow"
    finetune = {row["model"]: row for row in rows(results / "tables/finetune.csv")}
    assert {"base", "normal-4", "embed-4"} <= set(finetune)
    assert all(row["fidelity"] for name, row in finetune.items() if name != "base (vae)")
    for table in ("refinement", "hard_prompts", "claims"):
        assert rows(results / f"tables/{table}.csv"), table
    index = json.loads((results / "models/embed-4/model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusion3Pipeline"
    done = checkout.run("python", "scripts/verify.py", "--study", "results/shapes-flow")
    assert done.code == 0, done.output
    done = checkout.run(
        *("python", "tools/families.py", "results/shapes-flow", "results/shapes-flow"),
        *("--out", "results/families.md"),
    )
    assert done.code == 0, done.output
    assert (checkout.root / "results/families.md").read_text() == done.output
    assert "clear of 0 for 0 of the" in done.output

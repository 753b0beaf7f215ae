"""Stable Diffusion XL from download to tables, with tiny models behind the real names.

config/sdxl.yaml is run as it is shipped; only counts of steps, prompts and pictures are lowered.
"""

import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests import tiny
from tests.hub_server import Hub
from tests.pipeline import ROOT, Checkout
from tests.test_sd15 import COUNTS, names, rows, run, save_coco
from vlg.shapes import models as shapes

OVERLAY = yaml.safe_load((ROOT / "config/sdxl.yaml").read_text())
BASE, COMMIT = OVERLAY["models"]["base"].removeprefix("hub:").split("@")
SMALL = COUNTS | {"finetune": {"steps": [2], "accumulate": 1}, "refine": {"rounds": 1}}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """With what the real repository has beside: half precision, one file, other VAEs."""
    root = tmp_path_factory.mktemp("hub")
    torch.manual_seed(3)
    base, judge = tiny.save_sdxl(root / "base"), root / "judge"
    shapes.judge().save_pretrained(judge)
    shapes.judge_processor().save_pretrained(judge)
    (base / "vae_1_0").mkdir()
    for name in ("sd_xl_base_1.0", "vae_1_0/diffusion_pytorch_model", "text_encoder_2/model.fp16",
                 "unet/diffusion_pytorch_model.fp16"):  # fmt: skip
        (base / f"{name}.safetensors").write_bytes(b"not wanted")
    save_coco(root / "coco")
    (root / "parti").mkdir()
    shutil.copy(ROOT / "tests/data/parti_sample.tsv", root / "parti/PartiPrompts.tsv")
    models = OVERLAY["models"]
    with Hub() as hub:
        hub.add("model", BASE, base, commit=COMMIT)
        hub.add("model", models["guide"].removeprefix("hub:"), tiny.save_guide(root / "guide"))
        hub.add("model", models["judge"].removeprefix("hub:"), judge)
        hub.add("dataset", OVERLAY["dataset"]["source"].removeprefix("hub:"), root / "coco")
        hub.add("dataset", OVERLAY["prompts"]["source"].removeprefix("hub:"), root / "parti")
        yield hub


@pytest.mark.slow
def test_the_base_of_the_overlay_is_fetched_and_taken(tmp_path, server):
    checkout = Checkout(tmp_path / "copy")
    target = "results/sdxl/models/base/manifest.json"
    run(checkout, server, target, overlay="config/sdxl.yaml", counts=SMALL)
    got = names(checkout.root / "results/sdxl/models/base")
    assert {name.partition("/")[0] for name in got} == {
        "manifest.json", "model_index.json", "unet", "vae", "text_encoder", "text_encoder_2",
        "tokenizer", "tokenizer_2", "scheduler",
    }  # fmt: skip
    assert not [name for name in got if "fp16" in name or "sd_xl" in name]


@pytest.mark.slow
def test_the_overlay_runs_whole(tmp_path, server):
    checkout = Checkout(tmp_path / "copy")
    run(checkout, server, overlay="config/sdxl.yaml", counts=SMALL)
    results = checkout.root / "results/sdxl"
    finetune = {row["model"]: row for row in rows(results / "tables/finetune.csv")}
    assert list(finetune) == ["base", "normal-2", "embed-2", "shuffled"]
    assert all(row["clipscore"] and row["prompts"] == "3" for row in finetune.values())
    for table in ("refinement", "hard_prompts", "claims", "by_category"):
        assert rows(results / f"tables/{table}.csv"), table
    provenance = json.loads((results / "provenance.json").read_text())["downloads"]["base"]
    assert provenance["id"] == BASE and provenance["commit"] == COMMIT
    encoded = load_file(results / "latents/latents-000.safetensors")
    assert encoded["mean"].dtype == torch.float16 and encoded["time_ids"].dtype == torch.int64
    assert {tuple(row) for row in encoded["time_ids"][:, 2:].tolist()} <= {
        (0, x, 32, 32) for x in range(2)
    } and (encoded["time_ids"][:, 0] == 256).all()
    cost = json.loads((results / "training/embed-2/summary.json").read_text())["cost"]["training"]
    assert all(cost[part]["flops"] > 0 for part in ("network", "decoder", "guide"))
    assert (results / "models/embed-2/pytorch_lora_weights.safetensors").is_file()
    card = (results / "models/embed-2/README.md").read_text()
    assert "DiffusionPipeline.from_pretrained" in card and "StableDiffusionPipeline" not in card
    done = checkout.run("python", "scripts/verify.py", "--study", "results/sdxl")
    assert done.code == 0, done.output

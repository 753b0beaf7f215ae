"""Stable Diffusion 3.5 from download to tables, with tiny models behind the real names.

config/sd35.yaml is run as it is shipped; only counts of steps, prompts and pictures are lowered.
"""

import json
import shutil

import pytest
import torch
import yaml
from transformers import T5EncoderModel

from tests import tiny
from tests.hub_server import Hub
from tests.pipeline import ROOT, Checkout
from tests.test_sd15 import COUNTS, names, rows, run, save_coco
from vlg.shapes import models as shapes

OVERLAY = yaml.safe_load((ROOT / "config/sd35.yaml").read_text())
BASE, COMMIT = OVERLAY["models"]["base"].removeprefix("hub:").split("@")
SMALL = COUNTS | {"finetune": {"steps": [2], "accumulate": 1}, "refine": {"rounds": 1}}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Weights as the real repository has them: T5's in pieces, other copies beside."""
    root = tmp_path_factory.mktemp("hub")
    torch.manual_seed(3)
    base, judge = tiny.save_sd3(root / "base"), root / "judge"
    t5 = base / "text_encoder_3"
    whole = T5EncoderModel.from_pretrained(t5)
    (t5 / "model.safetensors").unlink()
    whole.save_pretrained(t5, max_shard_size="6KB")
    assert len(list(t5.glob("model-0000*"))) > 1
    shapes.judge().save_pretrained(judge)
    shapes.judge_processor().save_pretrained(judge)
    (base / "text_encoders").mkdir()
    for name in (
        "sd3.5_medium",
        "text_encoders/t5xxl_fp16",
        "text_encoder_3/model.fp16-00001-of-00002",
    ):
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
def test_the_overlay_runs_whole(tmp_path, server):
    checkout = Checkout(tmp_path / "copy")
    run(checkout, server, overlay="config/sd35.yaml", counts=SMALL)
    results = checkout.root / "results/sd35"
    finetune = {row["model"]: row for row in rows(results / "tables/finetune.csv")}
    assert list(finetune) == ["base", "normal-2", "embed-2", "shuffled"]
    assert all(row["clipscore"] and row["prompts"] == "3" for row in finetune.values())
    for table in ("refinement", "hard_prompts", "claims", "by_category"):
        assert rows(results / f"tables/{table}.csv"), table
    provenance = json.loads((results / "provenance.json").read_text())["downloads"]["base"]
    assert provenance["id"] == BASE and provenance["commit"] == COMMIT
    got = names(results / "downloads/base")
    assert not [name for name in got if "fp16" in name or "sd3.5" in name]
    assert len([name for name in got if name.startswith("text_encoder_3/model-0")]) > 1
    cost = json.loads((results / "training/embed-2/summary.json").read_text())["cost"]["training"]
    assert all(cost[part]["flops"] > 0 for part in ("network", "decoder", "guide"))
    assert list((results / "models/embed-2").glob("pytorch_lora_weights.safetensors"))
    done = checkout.run("python", "scripts/verify.py", "--study", "results/sd35")
    assert done.code == 0, done.output

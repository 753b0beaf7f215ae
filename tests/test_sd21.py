"""Stable Diffusion 2.1 from download to tables, with a tiny base that predicts v.

config/sd21.yaml is run as it is shipped; only counts of steps, prompts and pictures are lowered.
"""

import json
import shutil

import pytest
import torch
import yaml

from tests import tiny
from tests.hub_server import Hub
from tests.pipeline import ROOT, Checkout
from tests.test_sd15 import COUNTS, rows, run, save_coco
from vlg.models.family import open_family
from vlg.shapes import models as shapes

OVERLAY = yaml.safe_load((ROOT / "config/sd21.yaml").read_text())
BASE, COMMIT = OVERLAY["models"]["base"].removeprefix("hub:").split("@")
SMALL = COUNTS | {"finetune": {"steps": [2], "accumulate": 1}, "refine": {"rounds": 1}}


def save_base(folder):
    """A base that predicts v, as its scheduler says."""
    torch.manual_seed(3)
    base = tiny.save_base(folder)
    file = base / "scheduler/scheduler_config.json"
    told = json.loads(file.read_text()) | {"prediction_type": "v_prediction"}
    file.write_text(json.dumps(told))
    return base


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    base, judge = save_base(root / "base"), root / "judge"
    shapes.judge().save_pretrained(judge)
    shapes.judge_processor().save_pretrained(judge)
    (base / "v2-1_768-ema-pruned.safetensors").write_bytes(b"not wanted")
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
    run(checkout, server, overlay="config/sd21.yaml", counts=SMALL)
    results = checkout.root / "results/sd21"
    finetune = {row["model"]: row for row in rows(results / "tables/finetune.csv")}
    assert list(finetune) == ["base", "normal-2", "embed-2", "shuffled"]
    assert all(row["clipscore"] and row["prompts"] == "3" for row in finetune.values())
    for table in ("refinement", "hard_prompts", "claims", "by_category"):
        assert rows(results / f"tables/{table}.csv"), table
    provenance = json.loads((results / "provenance.json").read_text())["downloads"]["base"]
    assert provenance["id"] == BASE and provenance["commit"] == COMMIT
    assert not list((results / "downloads/base").rglob("v2-1*"))
    told = json.loads((results / "models/embed-2/scheduler/scheduler_config.json").read_text())
    assert told["prediction_type"] == "v_prediction"


def test_what_a_network_of_v_should_predict(tmp_path):
    """v = a noise - sigma z_0, with a^2 + sigma^2 = 1."""
    family = open_family(save_base(tmp_path / "base"))
    torch.manual_seed(0)
    z0, noise = torch.randn(2, 3, *family.latent_shape)
    t = torch.tensor([5, 400, 900])
    a = family.share(t).sqrt()[:, None, None, None]
    v = family.target(z0, noise, t)
    assert torch.allclose(v, a * noise - (1 - a**2).sqrt() * z0, atol=1e-5)
    assert torch.allclose(family.estimate(family.noised(z0, noise, t), v, t), z0, atol=1e-4)

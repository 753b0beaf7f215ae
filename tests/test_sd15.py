"""The study on Stable Diffusion, from download to tables, with tiny models behind the real names.

config/sd15.yaml is run as it is shipped; only counts of steps, prompts and pictures are lowered.
The downloads come from a stand-in for the Hub, which is gone when the other rules run.
"""

import json
import re

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tests import tiny
from tests.overlays import CAPTIONS, COUNTS, FILES, names, rows, run, served, sources, unwanted
from tests.pipeline import ROOT, Checkout
from vlg.analysis.claims import FIGURES

OVERLAY = yaml.safe_load((ROOT / "config/sd15.yaml").read_text())
NAMED = sources("sd15")
OTHER_JUDGE = "openai/clip-vit-base-patch32"


def as_in_2022(base, judge):
    """Give saved models the files that the real repositories have: today's libraries write others.

    Vocabulary and merges in files of their own, the processor of pictures likewise, a prefix
    before the names of the text encoder's weights, and a tensor that nobody reads.
    """
    for folder in (base / "tokenizer", judge):
        model = json.loads((folder / "tokenizer.json").read_text())["model"]
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
        merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    processor = json.loads((judge / "processor_config.json").read_text())
    (judge / "processor_config.json").unlink()
    (judge / "preprocessor_config.json").write_text(json.dumps(processor["image_processor"]))
    file = base / "text_encoder/model.safetensors"
    weights = {f"text_model.{n.removeprefix('text_model.')}": t for n, t in load_file(file).items()}
    weights["text_model.embeddings.position_ids"] = torch.arange(tiny.LENGTH)[None]
    save_file(weights, file, metadata={"format": "pt"})


def as_published(base, judge, guide):
    """What the repositories have beside what is wanted."""
    index = json.loads((base / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (base / "model_index.json").write_text(json.dumps(index))
    as_in_2022(base, judge)
    unwanted(base, "safety_checker/model", "unet/diffusion_pytorch_model.non_ema", "v1-5-pruned")
    for folder in (guide, judge):
        (folder / "pytorch_model.bin").write_bytes(b"not wanted")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    with served("sd15", root, tiny.save_base, as_published) as hub:
        hub.add("model", OTHER_JUDGE, root / "judge")
        yield hub


@pytest.fixture(scope="module")
def study(tmp_path_factory, server):
    """The finished study."""
    checkout = Checkout(tmp_path_factory.mktemp("sd15") / "copy")
    run(checkout, server)
    return checkout


@pytest.fixture(scope="module")
def results(study):
    return study.root / "results/sd15"


def test_the_tables_are_there_with_the_published_figures_beside_ours(results):
    refinement = rows(results / "tables/refinement.csv")
    told = {row["round"]: float(row["published"]) for row in refinement if row["published"]}
    assert told == FIGURES["refinement"]
    finetune = {row["model"]: row for row in rows(results / "tables/finetune.csv")}
    assert list(finetune) == ["base", "normal-2", "embed-2", "shuffled"]
    assert float(finetune["base"]["published"]) == FIGURES["finetune"]["base"]
    assert all(row["clipscore"] and row["prompts"] == "3" for row in finetune.values())
    for table in ("hard_prompts", "claims", "by_category"):
        assert rows(results / f"tables/{table}.csv"), table


def test_only_what_is_needed_was_downloaded(server, results):
    asked = [path for how, path, _ in server.asked if how == "GET" and "/resolve/" in path]
    assert len(asked) == len(set(asked)), "nothing is fetched twice"
    got = {path.rpartition("/resolve/")[2].partition("/")[2] for path in asked}
    assert not [name for name in got if re.search(r"safety|non_ema|pruned|\.bin|test-", name)]
    assert {name for name in got if name.endswith(".parquet")} == set(FILES[:2])


def test_downloads_are_recorded(results):
    provenance = json.loads((results / "provenance.json").read_text())
    assert set(provenance["downloads"]) == {"base", "guide", "judge", "dataset", "prompts"}
    base = provenance["downloads"]["base"]
    assert (base["id"], base["commit"]) == (NAMED["base"], NAMED["commit"])
    for what, told in provenance["downloads"].items():
        assert len(told["commit"]) == 40 and told["source"].startswith("hub:")
        assert set(told["files"]) == names(results / "downloads" / what) - {"manifest.json"}


def test_every_file_has_its_checksum(study):
    done = study.run("python", "scripts/verify.py", "--study", "results/sd15")
    assert done.code == 0, done.output


def test_pictures_that_cannot_be_used_are_reported(results):
    report = json.loads((results / "dataset/report.json").read_text())
    assert report["pictures"] == COUNTS["dataset"]["size"]
    assert report["captions"] == CAPTIONS * report["pictures"]
    assert report["skipped"] == {"tiny": 1, "broken": 1}
    told = (results / "dataset/metadata.jsonl").read_text().splitlines()
    assert {len(json.loads(line)["text"]) for line in told} == {CAPTIONS}


def test_prompts_are_the_first_ones_of_the_file(results):
    lines = (results / "prompts.tsv").read_text("utf-8").splitlines()
    sample = (ROOT / "tests/data/parti_sample.tsv").read_text("utf-8").splitlines()
    assert [line.split("\t")[0] for line in lines] == [line.split("\t")[0] for line in sample[:6]]


def test_the_figures_are_the_published_ones():
    told = OVERLAY["published"]
    assert {k: {str(n): v for n, v in told[k].items()} for k in told} == FIGURES


def test_a_further_judge_comes_from_the_hub(study, server, results):
    """Here it has the weights of the study's own, so it must say the same."""
    judges = json.dumps({"other": {"kind": "clip", "source": f"hub:{OTHER_JUDGE}"}})
    table = "results/sd15/tables/judges.csv"
    run(study, server, table, "--config", f"judges={judges}")
    assert (results / "downloads/judge_other/manifest.json").is_file()
    found = {(row["judge"], row["model"]): row["delta"] for row in rows(study.root / table)}
    models = {model for _, model in found}
    assert models == {"all", "base", "normal-2", "embed-2"}
    for model in models - {"all"}:
        own, other = (float(found[judge, model]) for judge in ("judge", "other"))
        assert other == pytest.approx(own, abs=0.02)

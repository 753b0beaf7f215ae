"""The study on Stable Diffusion, from download to tables, with tiny models behind the real names.

config/sd15.yaml is run as it is shipped; only counts of steps, prompts and pictures are lowered.
The downloads come from a stand-in for the Hub, which is gone when the other rules run.
"""

import csv
import io
import json
import os
import re
import shutil

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from tests import tiny
from tests.hub_server import Hub
from tests.pipeline import ROOT, Checkout
from vlg.analysis.claims import FIGURES
from vlg.shapes import models as shapes

OVERLAY = yaml.safe_load((ROOT / "config/sd15.yaml").read_text())
BASE, COMMIT = OVERLAY["models"]["base"].removeprefix("hub:").split("@")
GUIDE, JUDGE = (OVERLAY["models"][kind].removeprefix("hub:") for kind in ("guide", "judge"))
OTHER_JUDGE = "openai/clip-vit-base-patch32"
PARTI, COCO = (OVERLAY[what]["source"].removeprefix("hub:") for what in ("prompts", "dataset"))
COUNTS = {
    "prompts": {"study": 3, "pool": 5},
    "dataset": {"size": 12},
    "finetune": {"steps": [2]},
    "generate": {"steps": 2},
    "statistics": {"draws": 200},
}
SIZE, CAPTIONS = 256, 5
FILES = [f"data/train-0000{n}-of-00003-0123456789abcdef.parquet" for n in range(3)]


def picture(number, side):
    """A PNG picture as bytes; no two numbers look alike."""
    file = io.BytesIO()
    colour = (number * 37 % 256, number * 91 % 256, number * 53 % 256)
    Image.new("RGB", (side + number % 3, side), colour).save(file, "PNG")
    return file.getvalue()


def save_coco(folder):
    """Parquet files as jxie/coco_captions has them: a row a caption, pictures inside.

    The first two pictures cannot be used.
    """
    import pyarrow
    from pyarrow import parquet

    for number, name in enumerate(FILES):
        rows = []
        for index in range(number * 10, number * 10 + 10):
            data = picture(index, SIZE if index else SIZE - 1)
            data = data[: len(data) // 2] if index == 1 else data
            image = {"bytes": data, "path": f"{index}.png"}
            for caption in range(CAPTIONS):
                words = (tiny.WORDS[(index + caption) % len(tiny.WORDS)], tiny.SHAPES[caption % 2])
                rows.append({"image": image, "caption": f"{caption} a {' '.join(words)}"})
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    (folder / "data/test-00000-of-00001.parquet").write_bytes(b"not wanted")


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


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    torch.manual_seed(3)
    base, judge = tiny.save_base(root / "base"), root / "judge"
    index = json.loads((base / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (base / "model_index.json").write_text(json.dumps(index))
    shapes.judge().save_pretrained(judge)
    shapes.judge_processor().save_pretrained(judge)
    as_in_2022(base, judge)
    guide = tiny.save_guide(root / "guide")
    for name in ("safety_checker/model", "unet/diffusion_pytorch_model.non_ema", "v1-5-pruned"):
        (base / f"{name}.safetensors").parent.mkdir(exist_ok=True)
        (base / f"{name}.safetensors").write_bytes(b"not wanted")
    for folder in (guide, judge):
        (folder / "pytorch_model.bin").write_bytes(b"not wanted")
    save_coco(root / "coco")
    (root / "parti").mkdir()
    shutil.copy(ROOT / "tests/data/parti_sample.tsv", root / "parti/PartiPrompts.tsv")
    with Hub() as hub:
        hub.add("model", BASE, base, commit=COMMIT)
        hub.add("model", GUIDE, guide)
        hub.add("model", JUDGE, judge)
        hub.add("model", OTHER_JUDGE, judge)
        hub.add("dataset", COCO, root / "coco")
        hub.add("dataset", PARTI, root / "parti")
        yield hub


def run(checkout, server, *words, overlay="config/sd15.yaml", counts=COUNTS):
    """Fetch from the server what is asked for, then run the rest with no way to any Hub."""
    lowered = checkout.root / "counts.yaml"
    lowered.write_text(yaml.safe_dump(counts))
    command = ("snakemake", *words, "--cores", 2, "--configfile", overlay, lowered)
    home = str(checkout.root / "hub")
    online = {"HF_ENDPOINT": server.url, "HF_HOME": home, "HF_HUB_OFFLINE": "0"}
    online["NO_PROXY"] = "127.0.0.1"
    done = checkout.run(*command, "--until", "fetch", **online)
    assert done.code == 0, done.output
    done = checkout.run(*command, HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=os.devnull)
    assert done.code == 0, done.output
    assert "rule fetch" not in done.output


@pytest.fixture(scope="module")
def study(tmp_path_factory, server):
    """The finished study."""
    checkout = Checkout(tmp_path_factory.mktemp("sd15") / "copy")
    run(checkout, server)
    return checkout


@pytest.fixture(scope="module")
def results(study):
    return study.root / "results/sd15"


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


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
    assert base["id"] == BASE and base["commit"] == COMMIT
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

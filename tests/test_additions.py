"""CONTRIBUTING's additions, done as it says: a file each, and nothing finished runs again."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.pipeline import ROOT

BLOCK = re.compile(
    r"^```(python|yaml)(?: (\S+?)(?:: ([^\n]+))?)?\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Six additions")[2]
BLOCKS = [match.groups() for match in BLOCK.finditer(PAGE)]
FILES = {path: text for kind, path, part, text in BLOCKS if kind == "python" and not part}
CONFIGS = [yaml.safe_load(text) for kind, _, _, text in BLOCKS if kind == "yaml"]
REDUCED = "results/reduced"


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def tree(study, tmp_path_factory):
    tree = study.copy(tmp_path_factory.mktemp("additions") / "tree")
    for path, text in FILES.items():
        assert not (tree.root / path).exists(), f"{path} is there already"
        (tree.root / path).write_text(text, encoding="utf-8")
    config = {}
    for part in CONFIGS:
        if "family" not in part.get("models", {}):
            config |= part
    (tree.root / "additions.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return tree


def test_each_kind_of_addition_is_shown():
    rooms = {"/".join(path.split("/")[2:4]) for path in FILES}
    assert rooms == {
        *("train/methods", "sample/arms", "judge/kinds", "analysis/tables", "models/families"),
    }


def test_files_that_nothing_uses_yet_run_nothing_but_the_table(tree):
    planned = tree.planned()
    assert {job for job in planned if not job.startswith(("provenance", "tables"))} == {
        "table table=by_question"
    }


def test_additions_compute_what_is_new_and_get_their_rows(tree):
    planned = tree.planned(overlays=["additions.yaml"])
    assert {job for job in planned if job.startswith(("finetune", "refine", "generate"))}
    old = [
        job
        for job in planned
        if job.startswith(("finetune", "generate", "refine", "score", "judge "))
        and not re.search(r"robust|again|judge=grey", job)
    ]
    assert not old, f"finished work would run again: {old}"

    done = tree.snakemake(overlays=["additions.yaml"])
    assert done.code == 0, done.output
    tables = tree.root / REDUCED / "tables"
    finetune = rows(tables / "finetune.csv")
    variants = {row["variant"] for row in finetune if not row["reference"]}
    assert variants == {"base", "normal", "embed", "robust"}
    assert "again" in {row["arm"] for row in rows(tables / "refinement.csv")}
    assert "grey" in {row["judge"] for row in rows(tables / "judges.csv")}
    assert {row["things"] for row in rows(tables / "by_question.csv")} <= {"one", "several"}
    assert (tree.root / REDUCED / "report/by_question.html").is_file()
    model = next(row["model"] for row in finetune if row["variant"] == "robust")
    log = rows(tree.root / REDUCED / f"training/{model}/log.csv")
    assert float(log[-1]["huber"]) > 0, "the log has a column of the term's name"
    assert tree.planned(overlays=["additions.yaml"]) == set()


def test_a_family_is_found_by_the_class_of_its_folder(tree, study):
    folder = tree.root / "sag-base"
    shutil.copytree(tree.root / REDUCED / "models/base", folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionSAGPipeline"
    (folder / "model_index.json").write_text(json.dumps(index))
    config = {"study": "sag", "models": {"base": str(folder)}}
    (tree.root / "sag.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    refused = tree.snakemake("--dry-run", overlays=["sag.yaml"])
    refused.refused("models", "StableDiffusionSAGPipeline", "sag")

    config["models"]["family"] = next(c for c in CONFIGS if "models" in c)["models"]["family"]
    (tree.root / "sag.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    shard = "images/base/selection/shard-0/metadata.jsonl"
    done = tree.snakemake(f"results/sag/{shard}", overlays=["sag.yaml"])
    assert done.code == 0, done.output
    drawn = sorted((tree.root / f"results/sag/{shard}").parent.glob("*.png"))
    assert drawn
    for path in drawn:  # the same networks from the same noise
        before = study.root / REDUCED / path.relative_to(tree.root / "results/sag")
        assert np.array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(before)))


def test_a_config_key_is_a_line_of_its_section(study, tmp_path):
    tree = study.copy(tmp_path / "tree")
    _, path, place, line = next(block for block in BLOCKS if block[2])
    text = (tree.root / path).read_text(encoding="utf-8")
    begin, found, rest = text.partition(f"{place}:\n")
    assert found, f"{path} has no {place}"
    section, end, after = rest.partition("\n\n\n")
    line = line.rstrip()
    (tree.root / path).write_text(f"{begin}{found}{section}\n{line}{end}{after}", "utf-8")
    assert not any("finetune" in job for job in tree.planned(gallery="{title: My pictures}"))
    refused = tree.snakemake("--dry-run", gallery="{title: [1, 2]}")
    refused.refused("gallery.title")
    assert tree.run("python", "tools/config_reference.py").code == 0
    assert "`gallery.title`" in (tree.root / "docs/configuration.md").read_text("utf-8")

"""What is handed on: the record of a study, its archive, the cards of its models."""

import json
import os
import subprocess
import tarfile

import pytest
import yaml

from tests.pipeline import ROOT
from vlg import files
from vlg.config.load import load
from vlg.errors import UserError
from vlg.record import archive, provenance
from vlg.report import cards

CONFIG = load({"study": "small", "finetune": {"variants": {"odd": {}}}}, ROOT)
ROW = "embed-4,embed,4,8,2,{},44.118863,22.84258,60.401099,1.5,-2,3,0.57"
SUMMARY = {
    "settings": {"guide_scale": 0.05, "batch_size": 4, "seed": 0},
    "train_seconds": 12.3,
    "device": "cpu",
    "parameters": 2_414_308,
}


@pytest.fixture
def study(tmp_path):
    root = tmp_path / "small"
    table = "model,variant,step,prompts,seeds,trainings,clipscore,clipscore_low,clipscore_high,"
    table += f"delta,delta_low,delta_high,fidelity\n{ROW.format(1)}\n"
    for name, text in {
        "tables/finetune.csv": table,
        "figures/finetune.svg": "<svg/>",
        "gallery/pictures/a.png": "picture",
        "scores/images/base/selection.csv": "score",
        "prompts.tsv": "Prompt\na cat\n",
        "provenance.json": json.dumps({"config": CONFIG}),
        "models/embed-4/unet/weights.safetensors": "weights",
        "models/embed-4/README.md": "card",
        "training/embed-4/log.csv": "step\n1\n",
        "training/embed-4/state/weights.safetensors": "state",
        "images/base/0.png": "picture",
        "logs/score.log": "log",
    }.items():
        files.write_text(root / name, text)
    files.write_manifest(root / "models/embed-4")
    return root


def names(path):
    with tarfile.open(path) as tar:
        assert all(m.isfile() and m.mtime == m.uid == m.gid == 0 for m in tar.getmembers())
        return {m.name.removeprefix("small/") for m in tar.getmembers()}


def test_an_archive_holds_what_a_reader_needs(study, tmp_path):
    archive.write(study, tmp_path / "a.tar.gz", False, {})
    plain = {
        "config.yaml",
        "manifest.json",
        "tables/finetune.csv",
        "figures/finetune.svg",
        "gallery/pictures/a.png",
        "scores/images/base/selection.csv",
        "prompts.tsv",
        "provenance.json",
        "models/embed-4/README.md",
        "models/embed-4/manifest.json",
        "training/embed-4/log.csv",
    }
    assert names(tmp_path / "a.tar.gz") == plain
    archive.write(study, tmp_path / "b.tar.gz", True, {})
    assert names(tmp_path / "b.tar.gz") - plain == {"models/embed-4/unet/weights.safetensors"}


def test_the_same_study_gives_the_same_bytes(study, tmp_path):
    archive.write(study, tmp_path / "a.tar.gz", True, {})
    for path in study.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    archive.write(study, tmp_path / "later.tar.gz", True, {})
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "later.tar.gz").read_bytes()
    files.write_text(study / "tables/finetune.csv", "other")
    archive.write(study, tmp_path / "b.tar.gz", True, {})
    assert (tmp_path / "a.tar.gz").read_bytes() != (tmp_path / "b.tar.gz").read_bytes()


def test_an_archive_can_be_checked_where_it_is_unpacked(study, tmp_path):
    archive.write(study, tmp_path / "a.tar.gz", True, {})
    (tmp_path / "there").mkdir()
    subprocess.run(["tar", "-xzf", "../a.tar.gz"], cwd=tmp_path / "there", check=True)
    files.check_manifest(tmp_path / "there/small/models/embed-4")
    listed = files.read_json(tmp_path / "there/small/manifest.json")["files"]
    for name, facts in listed.items():
        assert files.sha256(tmp_path / "there/small" / name) == facts["sha256"]


@pytest.mark.parametrize("name", ["tables", "scores", "prompts.tsv", "provenance.json"])
def test_a_study_that_is_not_finished_is_not_archived(study, tmp_path, name):
    os.rename(study / name, tmp_path / "away")
    with pytest.raises(UserError, match=f"{name}: not found; finish the study"):
        archive.members(study, False)


def test_the_config_of_an_archive_makes_the_same_study():
    """Laid over the shipped config, as --configfile does it, it gives the config it was."""
    shipped = yaml.safe_load((ROOT / "config.yaml").read_text("utf-8"))
    overlay = yaml.safe_load(archive.config_text(CONFIG, shipped))
    assert overlay["finetune"]["variants"]["embed"] is None

    def lay(over, under):
        return {
            **under,
            **{
                k: lay(v, under[k]) if isinstance(v, dict) and isinstance(under.get(k), dict) else v
                for k, v in over.items()
            },
        }

    assert load(lay(overlay, shipped), ROOT) == CONFIG


# --- cards --------------------------------------------------------------------------------------


def card(study, model="embed-4", **settings):
    known = {"study": "small", "base": "shapes", "dataset": "shapes", "judge": "shapes"}
    known["confidence"] = 0.95
    given = cards.Settings.parse(known | settings, "card")
    return cards.card(model, study / "tables/finetune.csv", SUMMARY, given)


def test_a_card_is_read_by_the_client_of_the_hub(study):
    hub = pytest.importorskip("huggingface_hub")
    text = card(study, base="stable-diffusion-v1-5/stable-diffusion-v1-5")
    data = hub.ModelCard(text).data
    front = data.to_dict()
    assert front["base_model"] == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert front["license"] == "creativeml-openrail-m"
    assert front["library_name"] == "diffusers"
    assert data.eval_results[0].metric_value == 44.12
    for told in ("44.12 [22.84, 60.40]", "1.50 [-2.00, 3.00]", "0.05", "2,414,308", "12 s on cpu"):
        assert told in text


@pytest.mark.parametrize("base", ["my: model", "../x --- license: mit", "'\"{}", "été/模型"])
def test_a_path_cannot_break_the_front_matter(study, base):
    front = yaml.safe_load(card(study, base=base).split("\n---\n")[0].removeprefix("---\n"))
    assert (front["base_model"], front["license"]) == (base, "other")


def test_a_name_of_several_lines_is_refused(study):
    with pytest.raises(UserError, match="base: has a line break"):
        card(study, base="x\n---\nlicense: mit")


def test_a_further_training_has_the_scores_of_all(study):
    table = study / "tables/finetune.csv"
    assert "trainings" not in card(study)
    table.write_text(table.read_text().replace(ROW.format(1), ROW.format(3)))
    text = card(study, "embed-4-s7")
    for told in ("# embed-4-s7", "44.12", "The mean of 3 trainings, of which this is one."):
        assert told in text


def test_a_card_needs_its_row(study):
    with pytest.raises(UserError, match=r"finetune.csv: has no row of embed-9; delete"):
        cards.card("embed-9", study / "tables/finetune.csv", SUMMARY, cards.Settings())


# --- the record ---------------------------------------------------------------------------------


def test_costs_are_read_from_the_logs_of_the_last_run(tmp_path):
    log = '2026-01-01 cost: {"memory_mb": %d, "processor_seconds": 1.5, "seconds": 2}\n'
    files.write_text(tmp_path / "score/base.log", "2026-01-01 12 pictures\n" + log % 300)
    files.write_text(tmp_path / "tables.log", log % 100)
    files.write_text(tmp_path / "killed.log", "2026-01-01 begins\n")
    found = provenance.costs(tmp_path)
    assert set(found["jobs"]) == {"score/base", "tables"}
    assert found["total"] == {"memory_mb": 300, "processor_seconds": 3.0, "seconds": 4}
    assert provenance.costs(tmp_path / "none") == {"jobs": {}, "total": {}}


def test_packages_are_those_that_jobs_used(tmp_path):
    log = '2026-01-01 packages: {"numpy": "%s", "torch": "2"}\n'
    files.write_text(tmp_path / "score/base.log", log % 1 + log % 2)
    files.write_text(tmp_path / "tables.log", '2026-01-01 packages: {"numpy": "3"}\n')
    assert provenance.packages(tmp_path) == {"numpy": "2, 3", "torch": "2"}
    assert provenance.packages(tmp_path / "none") == {}


def test_gpus_have_names(tmp_path):
    for number, text in enumerate(["Model: \t NVIDIA H100\nIRQ: 1\n", "nothing"]):
        files.write_text(tmp_path / f"0000:{number}" / "information", text)
    assert provenance.gpus(tmp_path) == ["NVIDIA H100", "0000:1"]
    assert provenance.gpus(tmp_path / "none") == []


def test_changes_to_the_code_are_told_apart(tmp_path):
    def git(*words):
        who = ["-c", "user.name=t", "-c", "user.email=t", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    files.write_text(tmp_path / "a.py", "1")
    assert provenance.pipeline(tmp_path)["commit"] is None
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "one")
    clean = provenance.pipeline(tmp_path)
    assert len(clean["commit"]) == 40 and clean["modified"] is False and not clean["diff_sha256"]
    hashes = set()
    for name, text in (("a.py", "2"), ("a.py", "3"), ("b.py", "2"), ("b.py", "3")):
        files.write_text(tmp_path / name, text)
        found = provenance.pipeline(tmp_path)
        assert found["modified"] and name in found["changed"]
        hashes.add(found["diff_sha256"])
    assert len(hashes) == 4

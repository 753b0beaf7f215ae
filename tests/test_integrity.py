"""A study is what its steps made: damage is named with its remedy, stale scores are refused."""

import csv
import shutil
import sys

import numpy as np
import pytest

from tests.pipeline import ROOT, Done
from vlg import files
from vlg.analysis import scores
from vlg.data import pictures, prompts
from vlg.errors import UserError
from vlg.record import integrity

PICTURE = "images/base/selection/shard-0/0-p0000.png"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study of two prompts, one checkpoint and no steps that had to be computed."""
    root = tmp_path_factory.mktemp("whole") / "study"
    for model in ("base", "embed-4", "guide", "judge"):
        files.write_text(root / f"models/{model}/unet/weights", f"of {model}")
        files.write_text(root / f"models/{model}/vae/weights", "of the base")
        files.write_manifest(root / f"models/{model}", source=model)
    files.write_text(root / "training/embed-4/state/ema", "of embed-4")
    files.write_manifest(root / "training/embed-4")
    rows = [{"Prompt": text, "id": f"p{i:04}", "set": "study"} for i, text in enumerate(["a", "b"])]
    prompts.write(root / "prompts.tsv", rows)
    identity = {n: files.identity(root / "models" / n) for n in ("base", "guide", "judge")}
    folder = root / "images/base/selection/shard-0"
    drawn = [
        {"file_name": f"0-{row['id']}.png", "id": row["id"], "prompt": row["Prompt"], "seed": 0}
        for row in rows
    ]
    for number, row in enumerate(drawn):
        pictures.save(folder / row["file_name"], np.full((8, 8, 3), number, np.uint8), row)
    pictures.write_metadata(folder, drawn, weights=identity["base"])
    write_scores(root, folder, identity)
    files.write_text(root / "tables/finetune.csv", "model\nbase\n")
    files.write_checksum(root / "tables/finetune.csv")
    files.write_text(root / "logs/score.log", "done")
    return root


def write_scores(root, folder, identity):
    path = root / "scores/images/base/selection.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, scores.COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for row in pictures.read_metadata(folder):
            place = (folder / row["file_name"]).relative_to(root).as_posix()
            scored = {"judge_weights": identity["judge"], "guide_weights": identity["guide"]}
            writer.writerow({**row, **scored, "model": "base", "picture": place, "clipscore": 1})
    files.write_checksum(path)


@pytest.fixture
def study(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "study")


def told(study):
    return {p.path.relative_to(study).as_posix(): p.what for p in integrity.check(study).problems}


def alter(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_whole_study_has_no_problem(study):
    report = integrity.check(study)
    assert report.problems == [] and report.files == 15
    listed = {path for path in study.rglob("*") if path.is_file()} - {study / "logs/score.log"}
    assert listed == report.listed


@pytest.mark.parametrize("damage", ["altered", "cut", "missing"])
def test_damage_anywhere_is_named_and_nothing_else(study, damage):
    """Every file of the study in turn, those that hold checksums too."""
    for path in sorted(p for p in study.rglob("*") if p.is_file() and p.parent.name != "logs"):
        before = path.read_bytes()
        if damage == "altered":
            alter(path)
        elif damage == "cut":
            path.write_bytes(before[: len(before) // 2])
        else:
            path.unlink()
        named = told(study)
        name = path.relative_to(study).as_posix()
        if damage == "missing" and path.name == "manifest.json":
            assert any(each.startswith(f"{path.parent.relative_to(study)}/") for each in named)
        elif path.suffix == ".sha256":
            assert name.removesuffix(".sha256") in named
        else:
            assert name in named, named
        path.write_bytes(before)
        assert told(study) == {}


def test_what_no_step_made_is_named(study):
    (study / "models/base/code.py").write_text("")
    (study / "tables/.tmp-finetune.csv").write_text("")
    (study / "training/.resume-embed-8").mkdir()
    (study / "training/.resume-embed-8/state").write_text("")
    (study / "hard_prompts.tsv").write_text("")
    assert told(study) == {
        "models/base/code.py": "extra: no step lists it",
        "tables/.tmp-finetune.csv": "left over from a step that was killed",
        "hard_prompts.tsv": "has no checksum",
    }


def test_a_manifest_of_a_folder_that_many_jobs_share_is_left_over(study):
    """Nobody writes it again, so what it says of a table that was made anew must not count."""
    files.write_manifest(study / "tables")
    files.write_text(study / "tables/finetune.csv", "model\nbase\nembed-4\n")
    files.write_checksum(study / "tables/finetune.csv")
    report = integrity.check(study)
    assert [problem.path for problem in report.problems] == [study / "tables/manifest.json"]
    integrity.repair(report)
    assert (study / "tables/finetune.csv").is_file()
    assert integrity.check(study).problems == []


def test_a_lost_manifest_is_what_is_made_anew(study):
    """Not one by one the files that it listed."""
    mark = study / "models/guide/manifest.json"
    mark.unlink()
    report = integrity.check(study)
    assert {problem.path for problem in report.problems if problem.path.parent == mark.parent} == {
        mark
    }
    assert report.targets() == [mark]


def test_damage_below_a_folder_is_mended_by_the_step_that_makes_it(study):
    """The state of a training has a manifest of its own, which no rule declares."""
    files.write_text(study / "training/embed-4/state/exp_avg", "moments")
    files.write_manifest(study / "training/embed-4/state")
    files.write_manifest(study / "training/embed-4")
    alter(study / "training/embed-4/state/exp_avg")
    assert integrity.check(study).targets() == [study / "training/embed-4/manifest.json"]


def test_weights_are_restored_from_where_they_are_twice(study):
    """The weights of a checkpoint are those of the state its training left."""
    path = study / "models/embed-4/unet/weights"
    alter(path)
    report = integrity.check(study)
    assert report.targets() == []
    assert integrity.repair(report) == [
        f"restored {path} from {study / 'training/embed-4/state/ema'}"
    ]
    assert told(study) == {}


def test_damage_to_the_base_costs_no_training(study):
    """Checkpoints hold the base's files as hard links: one fault hits all of them."""
    for model in ("base", "embed-4", "guide", "judge"):
        alter(study / f"models/{model}/vae/weights")
    report = integrity.check(study)
    marks = [study / f"models/{model}/manifest.json" for model in ("base", "guide", "judge")]
    integrity.repair(report)
    assert [mark.exists() for mark in marks] == [False, False, False]
    assert (study / "models/embed-4/manifest.json").exists()


def test_what_must_be_made_anew_is_deleted_with_its_mark(study):
    alter(study / PICTURE)
    alter(study / "prompts.tsv")
    report = integrity.check(study)
    assert report.targets() == [study / "prompts.tsv"]  # pictures come back by themselves
    integrity.repair(report)
    assert not (study / PICTURE).exists() and not (study / "prompts.tsv").exists()
    assert not (study / PICTURE).with_name("metadata.jsonl").exists()
    assert (study / PICTURE).with_name("0-p0001.png").exists()


def test_a_stale_score_is_named_and_enters_no_table(study):
    path = study / "scores/images/base/selection.csv"
    integrity.check_scores([path], study)
    folder = (study / PICTURE).parent
    rows = pictures.read_metadata(folder)
    pictures.save(study / PICTURE, np.full((8, 8, 3), 9, np.uint8), rows[0])
    pictures.write_metadata(folder, rows, weights=rows[0]["weights"])
    with pytest.raises(UserError, match="selection.csv: line 2 scores another .*p0000.png than"):
        integrity.check_scores([path], study)
    assert "stale" in told(study)["scores/images/base/selection.csv"]


@pytest.mark.parametrize("model", ["base", "judge", "guide"])
def test_a_score_of_other_weights_is_stale(study, model):
    files.write_text(study / f"models/{model}/unet/weights", "others")
    files.write_manifest(study / f"models/{model}", source=model)
    path = study / "scores/images/base/selection.csv"
    with pytest.raises(UserError, match=rf"selection.csv: line 2 .*models/{model}.*delete"):
        integrity.check_scores([path], study)


def test_scores_outlive_pictures_that_were_deleted_for_space(study):
    shutil.rmtree(study / "images")
    integrity.check_scores([study / "scores/images/base/selection.csv"], study)


def test_a_whole_state_may_be_deleted_for_space(study):
    files.write_text(study / "training/embed-4/state/exp_avg", "moments")
    files.write_manifest(study / "training/embed-4")
    (study / "training/embed-4/state/ema").unlink()
    assert list(told(study)) == ["training/embed-4/state/ema"]
    shutil.rmtree(study / "training/embed-4/state")
    assert told(study) == {}


def verify(study, *words):
    import subprocess

    line = [sys.executable, ROOT / "scripts/verify.py", "--study", study, *words]
    done = subprocess.run(line, capture_output=True, text=True)
    return Done(done.returncode, done.stdout + done.stderr)


def test_the_command_line_names_each_remedy(study):
    assert verify(study).code == 0
    alter(study / PICTURE)
    alter(study / "prompts.tsv")
    done = verify(study)
    assert done.code == 1
    targets = f"make files ARGS={study}/prompts.tsv && make study"
    assert f"{study}/prompts.tsv: differs from prompts.tsv.sha256; rm -r" in done.output
    assert f"make verify ARGS=--repair && {targets}" in done.output
    assert (study / PICTURE).exists(), "without --repair nothing is changed"
    verify(study / "none").refused("none: not found", "make the study first")


def test_verifying_needs_no_torch(study):
    program = (
        "import sys; sys.path.insert(0, 'scripts'); from vlg.record import integrity; "
        "assert not {'torch', 'pandas', 'diffusers'} & set(sys.modules)"
    )
    import subprocess

    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)

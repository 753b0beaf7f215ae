"""What runs again after a change of the reduced study, and what does not."""

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.faults import twin
from tests.reduced import (
    AFTER_SCORES,
    RECORDS,
    RESULTS,
    TUNED,
    after_scores,
    edited,
    finetunes,
    followers,
    metadata,
    rows,
)


def test_a_second_run_does_nothing(study):
    done = study.snakemake()
    assert done.code == 0 and "Nothing to be done" in done.output, done.output


def test_touched_files_and_edited_comments_rerun_nothing(study):
    losses = study.root / "scripts/vlg/train/losses.py"
    with edited(losses, ("from __future__", "# A comment.\n\nfrom __future__"), ('"""', '"""Or: ')):
        for folder, names, files in os.walk(study.root):
            names[:] = [name for name in names if name not in (".git", ".snakemake")]
            for name in files:
                os.utime(Path(folder) / name)
        assert study.planned() == set()


def test_what_changes_no_result_reruns_no_model(study):
    """Only the record of the config is made anew."""
    planned = study.planned(
        generate="{batch_size: 3}",
        score="{batch_size: 5}",
        resources="{threads: 2, mem_mb: 3000}",
        device="cpu",
        gpu="{channels_last: false, compile: true}",
    )
    assert planned == {"provenance"}


def test_another_guide_scale_reruns_the_embed_branch(study):
    planned = study.planned(finetune="{variants: {embed: {guide_scale: 0.1}}}")
    assert planned == finetunes("embed-2", "embed-4") | followers("embed-2", "embed-4")


def test_another_guide_leaves_normal_finetuning_as_it_is(study):
    planned = study.planned(models="{guide: resources/shapes/guide}")
    assert finetunes("embed-2", "embed-4") <= planned and "encode_guide" in planned
    assert not planned & {*finetunes("normal-2", "normal-4"), "encode", "dataset"}


def test_how_many_processes_train_reruns_nothing(study):
    planned = study.planned(finetune="{processes: 2, nodes: 2, save_every: 7}")
    assert planned <= RECORDS


def test_a_sweep_trains_what_is_new_and_nothing_else(study):
    tuned = {f"s_gs{scale}_lr1e_05-{step}" for scale in ("0_1", "0_2") for step in (2, 4)}
    planned = study.planned(
        finetune="{sweeps: {s: {learning_rate: [1e-5], guide_scale: [0.1, 0.2]}}}"
    )
    scored = {f"score_samples model={model}" for model in {*tuned, *TUNED}}
    assert planned - RECORDS == {*finetunes(*tuned), *scored, "table table=sweep"}


@pytest.mark.slow
def test_a_sweep_grows_without_repeating_anything(study, tmp_path):
    study = twin(study, tmp_path / "study")  # other tests compare theirs file by file
    results = study.root / RESULTS
    small = "{sweeps: {s: {guide_scale: [0.1]}}}"
    done = study.snakemake(finetune=small)
    assert done.code == 0, done.output
    ranked = rows(results / "tables/sweep.csv")
    assert {row["model"] for row in ranked} == {*TUNED, "s_gs0_1-2", "s_gs0_1-4"}
    means = [float(row["clipscore"]) for row in ranked]
    assert means == sorted(means, reverse=True)
    assert all(float(row["train_seconds"]) > 0 and row["prompts"] == "8" for row in ranked)
    assert study.planned(finetune=small) == set()
    whole = study.run("python", "scripts/verify.py", "--study", RESULTS)
    assert whole.code == 0, whole.output
    added = {"s_gs0_2-2", "s_gs0_2-4"}
    scored = {f"score_samples model={model}" for model in added}
    grown = study.planned(finetune="{sweeps: {s: {guide_scale: [0.2, 0.1]}}}")
    assert grown - RECORDS == {*finetunes(*added), *scored, "table table=sweep"}


@pytest.mark.slow
def test_other_development_prompts_train_nothing(study, results):
    model = "models/normal-2/manifest.json"
    files = [results / model, results / "training/normal-2/state/manifest.json"]
    before = [path.read_bytes() for path in files]
    try:
        done = study.snakemake(str(RESULTS / model), development="{count: 2}")
        assert done.code == 0, done.output
        assert len(metadata(results / "training/normal-2/samples")) == 2
        assert before == [path.read_bytes() for path in files]
        assert "going on from" in (results / "logs/finetune/normal-2.log").read_text()
    finally:
        assert study.snakemake().code == 0


def test_more_bootstrap_draws_rerun_tables(study):
    assert study.planned(statistics="{draws: 300}") == after_scores("scores") - {
        "gallery",
        "sheets",
    }


EMBED = finetunes("embed-2", "embed-4") | followers("embed-2", "embed-4")
REFINED = {f"refine model=base, arm=refine, shard={k}" for k in (0, 1)}
REFINED |= {"score_refined model=base, arm=refine"} | after_scores("refined")
ROOM = "scripts/vlg/"
METHOD = "from vlg.train.methods.normal import Normal, Settings\n\nNEEDS = ('latents',)\n"
KIND = "from vlg.judge.kinds.clip import Clip, Settings\n"


@pytest.mark.parametrize(
    ("file", "change", "reruns"),
    [
        # what makes a result reruns it, and nothing beside it
        ("train/loop.py", ("\n\nlog = ", "\n\nA_CHANGE = 1\nlog = "),
         finetunes(*TUNED) | followers(*TUNED)),
        ("train/methods/embed.py", ("(1 - cosine)", "(2 - cosine)"), EMBED),
        ("sample/arms/refine.py", ("== \"always\"", "!= \"best\""), REFINED),
        ("analysis/tables/by_fact.py", ("By fact: on", "By fact, on"),
         {"table table=by_fact", "provenance"}),
        # messages, and what is there beside what is used, do not
        ("train/loop.py", ("state is kept, run it again", "state is kept; run it again"), set()),
        ("train/loop.py", ("log.info(\"going on from %s\", before)",
                           "log.info(\"continuing from %s\", before)"), set()),
        ("train/methods/another.py", METHOD, set()),
        ("judge/kinds/another.py", KIND, set()),
        ("judge/kinds/clip_iqa.py", ("100 * (cosines", "101 * (cosines"), set()),
    ],
    ids=lambda value: value if isinstance(value, str) and "/" in value else "",
)  # fmt: skip
def test_an_edit_reaches_as_far_as_results_do(study, file, change, reruns):
    path = study.root / ROOM / file
    if isinstance(change, str):
        path.write_text(change, "utf-8")
        try:
            assert study.planned() == reruns
        finally:
            path.unlink()
        return
    with edited(path, change):
        assert study.planned() == reruns


def test_an_edit_of_the_guide_leaves_normal_finetuning_alone(study):
    guide = study.root / ROOM / "models/guide.py"
    with edited(guide, ("\nclass Guide", "\nA_CHANGE = 1\n\n\nclass Guide")):
        planned = study.planned()
    assert finetunes("embed-2", "embed-4") <= planned and "encode_guide" in planned
    assert not planned & {*finetunes("normal-2", "normal-4"), "encode", "dataset"}


def test_deleted_pictures_come_back_as_they_were(study, results):
    folder = results / "images/embed-4/final"
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    times = {path: path.stat().st_mtime_ns for path in before}
    shard = "generate model=embed-4, stage=final, shard="

    shutil.rmtree(folder / "shard-1")
    assert study.planned() == {f"{shard}1", "score model=embed-4, stage=final"} | AFTER_SCORES
    lost = folder / "shard-0" / metadata(folder / "shard-0")[0]["file_name"]
    lost.unlink()
    (folder / "shard-0/metadata.jsonl").unlink()
    done = study.snakemake(
        *(RESULTS / f"images/embed-4/final/shard-{number}/metadata.jsonl" for number in (0, 1))
    )
    assert done.code == 0, done.output
    assert set(re.findall(r"rule (\w+):", done.output)) == {"generate"}
    assert "12 pictures, 4 drawn, 8 kept" in (
        (results / "logs/generate/embed-4/final-0.log").read_text()
    )

    timeless = re.compile(rb'"seconds": [^,}]*')
    kept = 0
    for path, content in before.items():
        again = path.read_bytes()
        if path.suffix == ".sha256":  # of metadata, in which the seconds differ
            path.write_bytes(content)
        elif path.suffix == ".png":
            assert again == content, path
            kept += path.stat().st_mtime_ns == times[path]
        else:
            assert timeless.sub(b"", again) == timeless.sub(b"", content)
            path.write_bytes(content)
    assert kept == 8, "the other batches of the shard should stay as they are"
    assert set(before) == set(folder.rglob("*.*"))
    assert study.planned() == set()

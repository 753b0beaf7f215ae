"""The whole study, small, through its command lines: what it makes, repeats and refuses.

The study is made once, in minutes; the tests then look at it, or change something and put it back.
"""

import contextlib
import csv
import hashlib
import json
import os
import re
import shutil
import tarfile
import time
import zipfile
from collections import Counter
from itertools import product
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from PIL import Image

from tests.faults import Fault, twin
from tests.pipeline import command, on_small_disk
from tests.test_judges import PLUG_IN
from vlg import plugins

RESULTS = Path("results/reduced")
TUNED = ["normal-2", "normal-4", "embed-2", "embed-4"]
MODELS = ["base", *TUNED]
PROMPTS, POOL, HARD = 8, 10, 3
SELECTION, FRESH = [0, 1], [2]
ROUNDS, ARMS = 2, ["refine", "best_of_n"]
TABLES = ["finetune", "refinement", "hard_prompts", "by_category", "by_challenge", "claims"]
SCORED = ["model", "prompts", "seeds", "clipscore", "clipscore_low", "clipscore_high"]
SCORED += ["delta", "delta_low", "delta_high", "fidelity", "published"]
CARDS = {"card variant={}, step={}".format(*model.split("-")) for model in TUNED}
RECORDS = {"provenance", *CARDS}  # what tells the config
SCORING = {"truth": True, "precision": "fp32"}
MADE = {  # tables of this study
    name
    for name in plugins.names(plugins.TABLES)
    if not plugins.constant(plugins.TABLES, name, "WHEN")
}
DRAWN = {  # figures of these, and of the training logs
    name: set(plugins.constant(plugins.FIGURES, name, "NEEDS"))
    for name in plugins.names(plugins.FIGURES)
    if set(plugins.constant(plugins.FIGURES, name, "NEEDS")) <= {*MADE, "logs"}
}


def after_scores(*needs):
    """The jobs that follow when tables which need one of these kinds of input are made anew."""
    tables = {
        name for name in MADE if {*plugins.constant(plugins.TABLES, name, "NEEDS")} & {*needs}
    }
    jobs = {f"table table={name}" for name in tables}
    jobs |= {f"figure figure={name}" for name, shown in DRAWN.items() if shown & tables}
    return (
        jobs
        | {"gallery", "sheets", "findings", "provenance"}
        | (CARDS if "finetune" in tables else set())
    )


AFTER_SCORES = after_scores("scores")
AFTER_TRAINING = AFTER_SCORES | {"figure figure=training"}


@pytest.fixture(scope="module")
def results(study):
    return study.root / RESULTS


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def tsv(path):
    lines = path.read_text("utf-8").splitlines()
    return [dict(zip(lines[0].split("\t"), line.split("\t"), strict=True)) for line in lines[1:]]


def metadata(folder):
    return [
        json.loads(line) for line in (folder / "metadata.jsonl").read_text("utf-8").splitlines()
    ]


def picture_folders(results):
    return sorted(path.parent for path in results.rglob("shard-*/metadata.jsonl"))


# --- what a study makes -------------------------------------------------------------------------


def test_the_study_makes_all_files_of_the_contract(results):
    expected = {
        "prompts.tsv",
        "provenance.json",
        "gallery/index.html",
        *(f"models/{model}/model_index.json" for model in MODELS),
        "models/guide/open_clip_config.json",
        "models/judge/config.json",
        *(f"tables/{table}.{form}" for table in TABLES for form in ("csv", "md", "tex")),
        *(f"refined/base/round-{r}/{arm}" for r in range(1, ROUNDS + 1) for arm in ARMS),
        *(f"images/{model}" for model in MODELS),
        *(f"scores/images/{model}/final.csv" for model in MODELS),
        *(f"scores/refined/base/{arm}.csv" for arm in ARMS),
        *(f"training/{model}/log.csv" for model in TUNED),
    }
    assert {name for name in expected if not (results / name).exists()} == set()
    for form in ("svg", "png"):
        figures = {path.stem for path in (results / "figures").glob(f"*.{form}")}
        assert figures >= {"finetune", "refinement", "hard_prompts", "training"}


def test_file_names_are_plain(results):
    """Neither named after a prompt nor left over from a file half written."""
    odd = {p.name for p in results.rglob("*") if not re.fullmatch(r"\w[\w.-]*", p.name, re.ASCII)}
    assert odd <= {".snakemake_timestamp"}  # Snakemake's own, in a folder that is an output
    texts = {row["Prompt"] for row in tsv(results / "prompts.tsv")}
    assert texts.isdisjoint(path.stem for path in results.rglob("*"))


def test_prompts_are_chosen(results):
    prompts = tsv(results / "prompts.tsv")
    assert [row["set"] for row in prompts] == ["study"] * PROMPTS + ["rest"] * (POOL - PROMPTS)
    assert all(row["Prompt"] and row["Category"] and row["Challenge"] for row in prompts)
    scores = {row["id"]: [] for row in prompts}
    for row in rows(results / "scores/images/base/selection.csv"):
        scores[row["id"]].append(float(row["clipscore"]))
    lowest = sorted(scores, key=lambda name: fmean(scores[name]))[:HARD]
    assert [row["id"] for row in tsv(results / "hard_prompts.tsv")] == lowest


def test_every_picture_is_drawn_once_and_scored_as_it_is(results):
    prompts = {row["id"]: row for row in tsv(results / "prompts.tsv")}
    hard = [row["id"] for row in tsv(results / "hard_prompts.tsv")]
    study = [name for name, row in prompts.items() if row["set"] == "study"]
    plain = set(product([*study, *hard], SELECTION)) | set(product(hard, FRESH))
    refined = set(product(study, SELECTION))
    expected = {(model, "", 0): plain for model in TUNED}
    expected["base", "", 0] = set(product(prompts, SELECTION)) | set(product(hard, FRESH))
    expected |= {("base", arm, r): refined for arm in ARMS for r in range(1, ROUNDS + 1)}

    drawn, sums = {}, {}
    for folder in picture_folders(results):
        found = metadata(folder)
        assert {row["file_name"] for row in found} == {p.name for p in folder.glob("*.png")}
        for row in found:
            path = folder / row["file_name"]
            assert row["prompt"] == prompts[row["id"]]["Prompt"]
            assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
            key = (row["model"], row["arm"], row["round"])
            drawn.setdefault(key, Counter())[row["id"], row["seed"]] += 1
            sums[path.relative_to(results).as_posix()] = row["sha256"]
    assert drawn == {key: Counter(pictures) for key, pictures in expected.items()}

    scored = [row for path in results.rglob("scores/**/*.csv") for row in rows(path)]
    assert {row["picture"]: row["sha256"] for row in scored} == sums
    assert len(scored) == len(sums)
    for row in scored:
        assert -100 <= float(row["clipscore"]) <= 100 and -100 <= float(row["guide"]) <= 100
        assert 0 <= float(row["fidelity"]) <= 1 and float(row["strict"]) in (0, 1)


def test_tables_have_the_columns_and_rows_of_the_contract(results):
    tables = {name: rows(results / f"tables/{name}.csv") for name in TABLES}
    extra = {
        "finetune": ["variant", "step", "train_seconds"],
        "refinement": ["round", "arm", "unet_calls", "seconds"],
        "hard_prompts": ["selection"],
        "by_category": ["category"],
        "by_challenge": ["challenge"],
    }
    for name, columns in extra.items():
        assert {*SCORED, *columns} <= set(tables[name][0]), name
    steps = [("base", "base", "0"), *((m, *m.split("-")) for m in TUNED)]
    assert [(r["model"], r["variant"], r["step"]) for r in tables["finetune"]] == steps
    rounds = [(arm, str(number)) for arm in ARMS for number in range(1, ROUNDS + 1)]
    assert [(r["arm"], r["round"]) for r in tables["refinement"]] == [("plain", "0"), *rounds]
    assert [(r["selection"], r["model"]) for r in tables["hard_prompts"]] == [
        *product(["same_seeds", "fresh_seeds"], MODELS),
        ("regression", "base"),
    ]
    for name, column in (("by_category", "category"), ("by_challenge", "challenge")):
        groups = {(row[column], row["model"]) for row in tables[name]}
        assert groups == set(product({row[column] for row in tables[name]}, MODELS)), name
        assert len(tables[name]) == len(groups)
        for model in MODELS:
            parts = [int(row["prompts"]) for row in tables[name] if row["model"] == model]
            assert sum(parts) == PROMPTS
    assert {row["verdict"] for row in tables["claims"]} <= {
        "supported",
        "contradicted",
        "unresolved",
        "",
    }

    for row in tables["finetune"]:
        stage = "selection" if row["model"] == "base" else "final"
        scores = rows(results / f"scores/images/{row['model']}/{stage}.csv")
        mean = fmean(float(s["clipscore"]) for s in scores if s["set"] == "study")
        assert float(row["clipscore"]) == pytest.approx(mean, abs=1e-4)
        assert (row["prompts"], row["seeds"]) == (str(PROMPTS), str(len(SELECTION)))
        assert float(row["clipscore_low"]) <= mean <= float(row["clipscore_high"])
        assert row["model"] == "base" or float(row["train_seconds"]) > 0
    # Guided sampling of two steps takes four calls, and a fresh sample as many again.
    calls = {(r["arm"], int(r["round"])): float(r["unet_calls"]) for r in tables["refinement"]}
    assert calls["plain", 0] == 4
    assert [calls["best_of_n", number] for number in (1, 2)] == [8, 12]
    assert 4 < calls["refine", 1] < calls["refine", 2] < 12


def test_models_load_in_the_libraries_whose_format_they_have(results):
    import open_clip
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPModel, CLIPProcessor

    weights = {}
    for model in MODELS:
        pipeline = StableDiffusionPipeline.from_pretrained(results / "models" / model)
        weights[model] = next(pipeline.unet.parameters()).detach().numpy()
    for model in TUNED:
        assert not np.array_equal(weights[model], weights["base"])
    assert not np.array_equal(weights["normal-4"], weights["embed-4"])
    open_clip.create_model_and_transforms(f"local-dir:{results / 'models/guide'}")
    CLIPModel.from_pretrained(results / "models/judge")
    CLIPProcessor.from_pretrained(results / "models/judge")


@pytest.mark.parametrize(
    "folder, number, column",
    [
        ("images/base", POOL * 2 + HARD, "prompt"),
        ("images/embed-4", None, "sha256"),
        ("refined/base", PROMPTS * 2 * ROUNDS * len(ARMS), "accepted"),
        ("dataset", 40, "text"),
    ],
)
def test_picture_folders_load_with_datasets(results, tmp_path, folder, number, column):
    import datasets

    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(results / folder), cache_dir=str(tmp_path)
    )["train"]
    assert len(loaded) == number or len(list((results / folder).rglob("*.png")))
    assert column in loaded.column_names and loaded[0]["image"].size == (32, 32)


def test_provenance_traces_everything(results):
    from vlg import files

    record = json.loads((results / "provenance.json").read_text("utf-8"))
    assert record["config"]["finetune"]["steps"] == [2, 4]
    assert record["config"]["seeds"] == {"train": 0, "selection": SELECTION, "fresh": FRESH}
    assert all(record["packages"].values()) and record["python"]
    assert record["hardware"]["processor"] and record["hardware"]["cores"] >= 1
    if shutil.which("git"):
        assert re.fullmatch("[0-9a-f]{40}", record["pipeline"]["commit"])
        assert record["pipeline"]["modified"] is False
    assert set(record["models"]) == {*MODELS, "guide", "judge"}
    for name, facts in record["models"].items():
        on_disk = files.checksums(results / "models" / name)
        assert facts["files"] == {path: entry["sha256"] for path, entry in on_disk.items()}
    assert {name: facts["step"] for name, facts in record["training"].items()} == {
        name: int(name[-1]) for name in TUNED
    }
    for kind in ("scores", "tables"):
        for path, digest in record[kind].items():
            place = results.parents[1] / path if kind == "scores" else results / kind / path
            assert files.sha256(place) == digest
    assert len(record["scores"]) == len(list((results / "scores").rglob("*.csv")))


def test_the_record_says_what_each_job_cost(results):
    record = json.loads((results / "provenance.json").read_text("utf-8"))
    logs = {p.relative_to(results / "logs").with_suffix("") for p in results.rglob("logs/**/*.log")}
    # The card and the record itself are written after it, and so may be pages and figures.
    drawing = {
        name.as_posix() for name in logs if name.parts[0] in ("generate", "score", "finetune")
    }
    assert drawing <= set(record["cost"]["jobs"])
    # A card takes less than the tenth of a second that is told.
    assert all(record["cost"]["jobs"][name]["processor_seconds"] > 0 for name in drawing)
    assert record["repeat"][0] == f"git checkout {record['pipeline']['commit']}"


def test_a_finished_study_verifies(study):
    done = study.run("python", "scripts/verify.py", "--study", RESULTS)
    assert done.code == 0 and "no problems" in done.output, done.output


def test_a_finished_study_is_archived_to_the_same_bytes(study, tmp_path):
    for name in ("one", "other"):
        line = ("python", "scripts/archive.py", "--study", RESULTS, "--out", tmp_path / name)
        done = study.run(*line)
        assert done.code == 0, done.output
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    with tarfile.open(tmp_path / "one") as tar:
        names = {member.name.removeprefix("reduced/") for member in tar.getmembers()}
    wanted = {"config.yaml", "tables/claims.csv", "gallery/index.html", "provenance.json"}
    assert wanted | {f"models/{model}/README.md" for model in TUNED} <= names
    assert not [name for name in names if name.endswith(".safetensors")]


# A sample; test_faults.py has all kinds, and takes long.
FAULTS = [Fault("kill all", "tables"), Fault("kill job", "dataset"), Fault("flip", "weights")]
FAULTS += [Fault("power cut", "generate")]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_disturbed_study_is_finished_the_same(study, tmp_path, fault):
    assert bool(fault.check(study, tmp_path)) == (fault.kind == "flip")


def test_the_gallery_shows_pictures_that_are_there(results):
    page = (results / "gallery/index.html").read_text("utf-8")
    named = set(re.findall(r'"(pictures/[^"]*)"', page))
    there = {f"pictures/{path.name}" for path in (results / "gallery/pictures").iterdir()}
    assert named == there != set()
    assert re.findall(r"https?://|@import|url\(", page) == [], "it opens without a network"


def test_pictures_do_not_depend_on_how_the_work_is_cut(results, tmp_path):
    """Other shards and batches than the study's: at most one grey level apart."""
    from vlg.config.sections import Sampling
    from vlg.data import prompts
    from vlg.models.device import set_up
    from vlg.sample import drawing, listing
    from vlg.sample.sampler import Sampler

    how = Sampling(steps=2)
    which = listing.Stage(stage="selection", model="base", selection=SELECTION)
    wanted = listing.listing(prompts.read_table(results / "prompts.tsv"), [], which)
    sampler = Sampler(results / "models/base", how, set_up("cpu", 1))
    made = drawing.made_by(results / "models/base", "base", how)
    for index in range(2):
        part = listing.shard(wanted, index, 13)
        drawing.plain(part, lambda: sampler, tmp_path / str(index), made, 5)
    study = {path.name: path for path in (results / "images/base/selection").rglob("*.png")}
    again = {path.name: path for path in tmp_path.rglob("*.png")}
    assert again.keys() == study.keys()
    for name, path in again.items():
        with Image.open(path) as one, Image.open(study[name]) as other:
            apart = np.abs(np.asarray(one, int) - np.asarray(other, int)).max()
        assert apart <= 1, name


# --- the report ---------------------------------------------------------------------------------

CLICK = """
const found = [...document.querySelectorAll("#app li")].filter((e) => e.textContent.trim() === %r);
found[0].querySelector("a").click();
"""
VIEW = "document.querySelector('#app tbody tr td:last-child a').click()"


def look(browser, page, *names):
    """Open the report, click on `names` one after the other, then on the first result's eye."""
    browser.open(page)
    for name in names:
        wait(browser, f"return document.querySelector('#app').textContent.includes({name!r})")
        browser.run(CLICK % name)
    if names:
        wait(browser, "return document.querySelector('#app tbody tr')")
        browser.run(VIEW)


def wait(browser, program):
    for _ in range(100):
        if found := browser.run(program):
            return found
        time.sleep(0.1)
    raise AssertionError(f"not in time: {program}")


def complaints(browser):
    """Errors of the console; a warning of Snakemake's own style sheet is none."""
    return [message for message in browser.messages() if message["level"] != "WARNING"]


@pytest.mark.parametrize("form", ["zip", "html"])
def test_the_report_is_whole_and_opens_without_a_network(study, browser, tmp_path, form):
    done = study.snakemake("--report", tmp_path / f"it.{form}")
    assert done.code == 0, done.output
    assert "Missing metadata" not in done.output
    page = tmp_path / "it.html"
    if form == "zip":
        with zipfile.ZipFile(tmp_path / "it.zip") as archive:
            archive.extractall(tmp_path)
        page = tmp_path / "it/report.html"
    browser.width(1400)
    look(browser, page)
    listed = {
        f"{category}/{Path(path).name}"
        for category, groups in browser.run("return categories").items()
        for paths in groups.values()
        for path in paths
    }
    expected = {
        *(f"Tables/{table}.html" for table in TABLES),
        *(f"Tables to paste/{t}.{form}" for t in TABLES for form in ("csv", "md", "tex")),
        *(f"Figures/{f}.{form}" for f in ("finetune", "training") for form in ("svg", "png")),
        *(f"Pictures/{model}.jpg" for model in MODELS),
        *(f"Pictures/base-{arm}-{r}.jpg" for arm in ARMS for r in range(1, ROUNDS + 1)),
        "Gallery/hard-prompts.html",
        "Provenance/provenance.json",
    }
    assert expected <= listed
    captions = browser.run("return Object.values(results).map((result) => result.caption)")
    assert all("scripts/" in caption for caption in captions)
    text = wait(browser, "return document.querySelector('#app .prose')?.textContent")
    claims = rows(study.root / RESULTS / "tables/claims.csv")
    assert all(claim["statement"] in text for claim in claims)
    # What is seen, is seen inside the report.
    look(browser, page, "Figures")
    wait(browser, "return document.querySelector('#app .p-3 > img')?.naturalWidth > 500")
    look(browser, page, "Pictures", "Refinement")
    wait(browser, "return document.querySelector('#app .p-3 > img')?.naturalWidth > 500")
    for category, inside in (("Tables", "td"), ("Gallery", "article img")):
        look(browser, page, category)
        wait(browser, "return document.querySelector('#app iframe')")
        browser.frame("#app iframe")
        wait(browser, f"return document.querySelector('{inside}')")
        if category == "Gallery":
            wait(browser, "return document.querySelector('article img').naturalWidth === 32")
        browser.frame()
        asked = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
        assert all(name.startswith(("file:", "data:")) for name in browser.run(asked))
    assert complaints(browser) == []


# --- what is repeated ---------------------------------------------------------------------------


@contextlib.contextmanager
def edited(path, *changes):
    """A file with each (old, new) replaced, until the block ends."""
    before = path.read_text("utf-8")
    text = before
    for old, new in changes:
        assert old in text, f"{path} has no {old!r} to edit"
        text = text.replace(old, new, 1)
    path.write_text(text, "utf-8")
    try:
        yield
    finally:
        path.write_text(before, "utf-8")


def followers(*models):
    """The jobs that new weights of these models start."""
    jobs = {f"generate model={m}, stage=final, shard={k}" for m in models for k in (0, 1)}
    return jobs | {f"score model={m}, stage=final" for m in models} | AFTER_TRAINING


def finetunes(*models):
    return {"finetune variant={}, step={}".format(*model.split("-")) for model in models}


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
        ("train/loop.py", ("its state is kept", "the state is kept"), set()),
        ("train/loop.py", ("log.info(\"going on from %s\", before)",
                           "log.info(\"continuing from %s\", before)"), set()),
        ("train/methods/another.py", METHOD, set()),
        ("judge/kinds/another.py", KIND, set()),
        ("judge/kinds/clip_iqa.py", ("100 * logits", "101 * logits"), set()),
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
    assert not any(job.startswith("generate model=normal") for job in planned)


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


# --- what is refused ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wrong(checkout):
    """A folder of wrong inputs."""
    root = checkout.root / "wrong"
    for name, content in {
        "model/unet/config.json": "{}",
        "both/config.json": "{}",
        "both/open_clip_config.json": "{}",
        "headless.tsv": "a cat\tAnimals\na dog\tAnimals\n",
        "gap.tsv": "Prompt\tCategory\na cat\tAnimals\n\tAnimals\n",
        "pictures/metadata.jsonl": '{"file_name": "0.png", "text": "a cat"}\n'
        '{"file_name": "1.png", "text": ""}\n',
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    for number in range(2):
        Image.new("RGB", (32, 32)).save(root / f"pictures/{number}.png")
    yield root
    shutil.rmtree(root)


@pytest.mark.parametrize(
    "section, value, told",
    [
        ("stepz", "1", "config: stepz: unknown key"),
        ("refine", "{rounds: many}", "config: refine.rounds: expected a whole number, got 'many'"),
        ("finetune", "{steps: [4, 2]}", "config: finetune.steps: must rise, got [4, 2]"),
        ("finetune", "{steps: [-2, 4]}", "config: finetune.steps[0]: must be at least 1, got -2"),
        (
            "models",
            "{guide: wrong/both, judge: wrong/both}",
            "config: models.judge: is the same model as models.guide: 'wrong/both'",
        ),
        ("models", "{base: wrong/model}", "config: models.base: wrong/model has no model_index"),
        ("prompts", "{source: no.tsv}", "config: prompts.source: no file 'no.tsv'"),
        ("prompts", "{source: wrong/headless.tsv}", "wrong/headless.tsv: has no column Prompt"),
        ("prompts", "{source: wrong/gap.tsv}", "wrong/gap.tsv: line 3: the prompt is empty"),
    ],
)
def test_a_wrong_config_stops_before_any_job(checkout, wrong, section, value, told):
    checkout.snakemake("--dry-run", **{section: value}).refused(told)


def test_a_picture_without_a_caption_is_refused(checkout, wrong):
    done = checkout.run(
        *command("dataset", {"size": None}, source="wrong/pictures", out="wrong/dataset")
    )
    done.refused("wrong/pictures/metadata.jsonl: row 2")
    assert not (wrong / "dataset").exists()


def test_altered_shipped_weights_are_refused(checkout, wrong):
    shutil.copytree(checkout.root / "resources/shapes", wrong / "shapes")
    weights = wrong / "shapes/guide/open_clip_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    settings = {"kind": "guide", "source": "guide"}
    done = checkout.run(
        *command("model", settings, source="wrong/shapes", shipped=True, out="wrong/guide")
    )
    done.refused("wrong/shapes/guide/open_clip_model.safetensors: checksum differs")
    assert not (wrong / "guide").exists()


def test_weights_cut_short_are_refused(checkout, wrong):
    shutil.copytree(checkout.root / "resources/shapes/base", wrong / "cut")
    weights = wrong / "cut/unet/diffusion_pytorch_model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    settings = {"kind": "base", "source": "wrong/cut"}
    done = checkout.run(*command("model", settings, source="wrong/cut", out="wrong/base"))
    done.refused("wrong/cut/unet/diffusion_pytorch_model.safetensors: not a whole safetensors")
    assert not (wrong / "base").exists()


@pytest.mark.parametrize("damaged, told", [("png", "not a whole picture"), ("jsonl", "damaged")])
def test_pictures_cut_in_half_are_refused(study, wrong, damaged, told):
    folder = wrong / damaged
    shutil.copytree(study.root / RESULTS / "images/base/final/shard-0", folder)
    path = sorted(folder.glob(f"*.{damaged}"))[-1]
    os.truncate(path, path.stat().st_size // 2)
    models = {name: RESULTS / f"models/{name}" for name in ("judge", "guide")}
    done = study.run(
        *command("score", SCORING, pictures=f"wrong/{damaged}", root="wrong", **models),
        *("--out", f"wrong/{damaged}.csv"),
    )
    done.refused(f"wrong/{damaged}/{path.name}: {told}", "delete")
    assert not (wrong / f"{damaged}.csv").exists()


def small_disk(study, folder, *what, **options):
    """(refused, repeated, first copy of the disk, second): see on_small_disk."""
    runs = on_small_disk(study, folder, *what, **options)
    if not runs:
        pytest.skip("this system lets us mount no small disk")
    runs[0].refused("no space left", "free some")
    assert runs[1].code == 0, runs[1].output
    return folder / "0/out", folder / "1/out"


def test_a_full_disk_loses_no_finished_picture(study, results, tmp_path):
    settings = {
        **{"sampling": {"steps": 2}, "shard": 0, "shard_size": 12},
        **{"stage": "selection", "model": "base", "selection": SELECTION},
    }
    inputs = {"model": RESULTS / "models/base", "prompts": RESULTS / "prompts.tsv"}
    # A page of the disk for each picture, of which there are 12, and one for the log.
    first, second = small_disk(study, tmp_path, "32k", "generate", settings, **inputs, batch_size=4)
    assert not (first / "metadata.jsonl").exists()
    finished = sorted(path.name for path in first.glob("*.png"))
    kept = [n for n in finished if (first / n).stat().st_mtime == (second / n).stat().st_mtime]
    assert len(kept) >= 4, "the first batch was whole"
    for path in (results / "images/base/selection/shard-0").glob("*.png"):
        assert (second / path.name).read_bytes() == path.read_bytes()


def test_a_full_disk_leaves_no_half_model(study, tmp_path):
    settings = {"kind": "base", "source": "base"}
    first, second = small_disk(
        study, tmp_path, "12m", "model", settings, source="resources/shapes", shipped=True
    )
    assert not first.exists()
    assert (second / "manifest.json").is_file()


def test_what_is_in_the_way_of_a_folder_is_named_before_any_job(checkout):
    place = checkout.root / "results/blocked/dataset"
    place.parent.mkdir(parents=True)
    place.write_text("")
    done = checkout.snakemake(place.relative_to(checkout.root) / "manifest.json", study="blocked")
    done.refused("results/blocked/dataset: is in the way")
    assert not (place.parent / "prompts.tsv").exists()


def test_further_judges_and_diversity(study, results, tmp_path):
    (study.root / "mine").mkdir(exist_ok=True)
    (study.root / "mine/judge.py").write_text(PLUG_IN)
    judges = {
        "bright": {"kind": "callable", "source": "mine.judge.bright"},
        "quality": {"kind": "clip_iqa", "source": "resources/shapes/judge"},
    }
    config = {"judges": json.dumps(judges), "score": "{diversity: true}"}
    planned = study.planned(**config)
    new = {
        f"{kind} {kind}={name}" for kind in ("table", "figure") for name in ("judges", "diversity")
    }
    judged = {f"judge judge={j}, model={m}" for j in judges for m in MODELS}
    assert planned == {*new, *judged, "diversity", "gallery", "provenance"}
    trained = study.planned(**config, seeds="{train: [0, 1]}")
    assert {f"judge judge=bright, model={m}" for m in (*MODELS, "embed-4-s1")} <= trained
    wanted = [RESULTS / name for name in ("figures/judges.svg", "gallery/index.html")]
    done = study.snakemake(*wanted, **config)
    assert done.code == 0, done.output
    assert (results / "figures/diversity.png").is_file()
    assert '"judges":["bright","quality"]' in (results / "gallery/index.html").read_text()
    whole = study.run("python", "scripts/verify.py", "--study", RESULTS)
    assert whole.code == 0, whole.output
    table = rows(results / "tables/judges.csv")
    assert {(row["judge"], row["model"]) for row in table} == {
        *product(["judge", "bright", "quality"], MODELS)
    }
    assert all(row["score"] for row in table)
    diversity = rows(results / "tables/diversity.csv")
    assert all(float(row["spread"]) > 0 for row in diversity)
    assert [float(row["drift"]) > 1e-5 for row in diversity] == [False, True, True, True, True]
    folder = RESULTS / "images/base/selection/shard-0"
    wrong = {"kind": "callable", "source": "mine.judge.wrong"}
    words = command("judge", wrong, root=RESULTS, pictures=folder, out=tmp_path / "x.csv")
    study.run(*words).refused("must return a finite number")

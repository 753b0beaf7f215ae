"""The whole study, small, through its command lines: what it makes, and that it repeats it.

The study is made once, in minutes; the tests look at it, or change something and put it back.
"""

import hashlib
import json
import re
import shutil
import tarfile
from collections import Counter
from itertools import product
from statistics import fmean

import numpy as np
import pytest
from PIL import Image

from tests.faults import Fault
from tests.pipeline import command
from tests.reduced import (
    ARMS,
    FRESH,
    HARD,
    MODELS,
    POOL,
    PROMPTS,
    REFERENCES,
    RESULTS,
    ROUNDS,
    SCORED,
    SELECTION,
    TABLES,
    TUNED,
    metadata,
    picture_folders,
    rows,
    tsv,
)
from tests.test_judges import PLUG_IN


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

    expected |= {(name, "", 0): refined for name in REFERENCES}

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
    steps += [(name, "", "0") for name in REFERENCES]
    assert [(r["model"], r["variant"], r["step"]) for r in tables["finetune"]] == steps
    rounds = [(arm, str(number)) for arm in ARMS for number in range(1, ROUNDS + 1)]
    assert [(r["arm"], r["round"]) for r in tables["refinement"]] == [
        ("plain", "0"),
        *rounds,
        *[("", "0")] * len(REFERENCES),
    ]
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
        file = "references" if row["reference"] else f"images/{row['model']}/{stage}"
        wanted = (row["model"], "reference" if row["reference"] else "study")
        scores = rows(results / f"scores/{file}.csv")
        scores = [s for s in scores if (s["model"], s["set"]) == wanted]
        mean = fmean(float(s["clipscore"]) for s in scores)
        assert float(row["clipscore"]) == pytest.approx(mean, abs=1e-4)
        assert (row["prompts"], row["seeds"]) == (str(PROMPTS), str(len(SELECTION)))
        assert row["clipscore_low"] == row["clipscore_high"] == ""  # too few prompts for one
        assert row["model"] not in TUNED or float(row["train_seconds"]) > 0
        assert row["model"] != "render" or row["strict"] == "1"
    # Guided sampling of two steps takes four calls, and a fresh sample as many again.
    refined = [row for row in tables["refinement"] if not row["reference"]]
    calls = {(r["arm"], int(r["round"])): float(r["unet_calls"]) for r in refined}
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


def test_further_judges_and_diversity(study, tmp_path):
    study = study.copy(tmp_path / "tree")
    results = study.root / RESULTS
    (study.root / "mine").mkdir(exist_ok=True)
    (study.root / "mine/judge.py").write_text(PLUG_IN)
    judges = {
        "bright": {"kind": "callable", "source": "mine.judge.bright"},
        "quality": {"kind": "clip_iqa", "source": "resources/shapes/judge"},
    }
    config = {"judges": json.dumps(judges), "score": "{diversity: true}"}
    planned = study.planned(**config)
    shown = ("judges", "diversity", "methods")
    new = {f"{kind} {kind}={name}" for kind in ("table", "figure") for name in shown}
    judged = {f"judge judge={j}, model={m}" for j in judges for m in MODELS}
    assert planned == {*new, *judged, "diversity", "gallery", "provenance"}
    trained = study.planned(**config, seeds="{train: [0, 1]}")
    assert {f"judge judge=bright, model={m}" for m in (*MODELS, "embed-4-s1")} <= trained
    names = ("figures/judges.svg", "figures/diversity.svg", "gallery/index.html")
    wanted = [RESULTS / name for name in names]
    done = study.snakemake(*wanted, **config)
    assert done.code == 0, done.output
    assert (results / "figures/diversity.png").is_file()
    assert '"judges":["bright","quality"]' in (results / "gallery/index.html").read_text()
    whole = study.run("python", "scripts/verify.py", "--study", RESULTS)
    assert whole.code == 0, whole.output
    table = rows(results / "tables/judges.csv")
    assert {(row["judge"], row["model"]) for row in table} == {
        *product(["judge", "guide", "bright", "quality"], ["all", *MODELS])
    }
    assert all(bool(row["score"]) == (row["model"] != "all") for row in table)
    assert all(0 <= float(row["auc"] or 0) <= 1 for row in table)
    diversity = rows(results / "tables/diversity.csv")
    assert all(float(row["spread"]) > 0 for row in diversity)
    assert [float(row["drift"]) > 1e-5 for row in diversity] == [False, True, True, True, True]
    folder = RESULTS / "images/base/selection/shard-0"
    wrong = {"kind": "callable", "source": "mine.judge.wrong"}
    words = command("judge", wrong, root=RESULTS, pictures=folder, out=tmp_path / "x.csv")
    study.run(*words).refused("must return a finite number")

"""The reduced study: what there is in it, which jobs follow which, how its files are read."""

import contextlib
import csv
import json
from pathlib import Path

from vlg import plugins

RESULTS = Path("results/reduced")
TUNED = ["normal-2", "normal-4", "embed-2", "embed-4"]
MODELS = ["base", *TUNED]
PROMPTS, POOL, HARD = 8, 10, 3
SELECTION, FRESH = [0, 1], [2]
REFERENCES = ["render", "reconstruction", "shuffled"]
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
    if plugins.constant(plugins.TABLES, name, "WHEN") in (None, "base", "hard")
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
    shards = results.rglob("shard-*/metadata.jsonl")
    return sorted(path.parent for path in [*shards, *results.glob("references/*/metadata.jsonl")])


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

# Functions and names that the rules share. Nothing here imports more than the standard library,
# yaml and jsonschema: the Snakefile is read at the start of every run and of every remote job.

import json
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

ROOT = Path(workflow.basedir)
SCRIPTS = ROOT / "scripts"
sys.path.insert(0, str(SCRIPTS))
# Rules call `python`: without conda that must be the one Snakemake runs in, activated or not.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
# glibc gives large blocks back to the system and gets them again, zeroed, at every layer of a model;
# keeping them saves a seventh of the time of a step on a CPU.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**31 - 1))
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**32))

from vlg import config as settings_of, prompts as prompt_files
from vlg.codehash import code_hash
from vlg.errors import UserError

try:
    CONFIG = settings_of.load(config, Path.cwd())
    VARIANTS = settings_of.variants(CONFIG)
    MODELS = settings_of.models(CONFIG)
except UserError as error:
    raise WorkflowError(str(error)) from None

OUT = f"results/{CONFIG['study']}"
STEPS = CONFIG["finetune"]["steps"]
ROUNDS = CONFIG["refine"]["rounds"]
ARMS = CONFIG["refine"]["arms"] if ROUNDS else {}
THREADS = CONFIG["resources"]["threads"]
MEMORY = CONFIG["resources"]["mem_mb"]
DEVICE = CONFIG["device"]


wildcard_constraints:
    model=r"base|[a-z][a-z0-9_]*-[0-9]+",
    variant=r"[a-z][a-z0-9_]*",
    step=r"[0-9]+",
    arm=r"[a-z][a-z0-9_]*",
    stage=r"selection|final",
    shard=r"[0-9]+",
    kind=r"base|guide|judge",


def settings(values):
    """The values that change a step's result, as one JSON text: Snakemake reruns when it changes."""
    return json.dumps(values, sort_keys=True)


def code(name):
    """Hash of what scripts/<name>.py does: reruns when code changes, not when a comment does."""
    return code_hash(SCRIPTS / f"{name}.py")


def pool_size():
    """Number of prompts of the study: those reported and those only searched for hard ones."""
    chosen, source = CONFIG["prompts"], CONFIG["prompts"]["source"]
    if source == "shapes":
        return chosen["pool"] or chosen["study"]
    wanted = {k: chosen[k] for k in ("study", "pool", "category", "challenge", "order")}
    return len(prompt_files.select(prompt_files.read(source), **wanted))


POOL = pool_size()
STUDY = CONFIG["prompts"]["study"]


def shards(model, stage):
    """Numbers of the shards of a model's pictures at a stage (vlg.sampling.listing).

    How many hard prompts there will be is not known yet, so the last shards may be empty.
    """
    selection, fresh = (len(CONFIG["seeds"][name]) for name in ("selection", "fresh"))
    hard = min(CONFIG["hard"]["count"], POOL)
    if stage == "selection":
        number = POOL * selection
    else:
        number = hard * fresh
        if model != "base":
            number += (STUDY + min(hard, POOL - STUDY)) * selection
    return range(-(-number // CONFIG["generate"]["shard_size"]))


def stages(model):
    """The base is drawn twice: hard prompts are chosen from what it draws first."""
    return ["selection", "final"] if model == "base" else ["final"]


def images(model, stage):
    """The metadata files of a model's pictures at a stage."""
    return expand(
        OUT + "/images/{model}/{stage}/shard-{shard}/metadata.jsonl",
        model=model,
        stage=stage,
        shard=shards(model, stage),
    )


def study_images(model):
    """The metadata files among which a model's study pictures are."""
    return images(model, "selection" if model == "base" else "final")


def folders(files):
    """The folders of files."""
    return [os.path.dirname(file) for file in files]


def sampling_settings():
    """How a picture is drawn."""
    chosen = CONFIG["generate"]
    return {name: chosen[name] for name in ("steps", "guidance_scale", "scheduler")}


def score_files():
    """All score files of the study."""
    plain = [f"{OUT}/scores/images/{m}/{stage}.csv" for m in MODELS for stage in stages(m)]
    refined = CONFIG["refine"]["models"] if ARMS else []
    return plain + [f"{OUT}/scores/refined/{model}/{arm}.csv" for model in refined for arm in ARMS]

# Functions and names that the rules share. Nothing here imports more than the standard library,
# yaml and jsonschema: the Snakefile is read at the start of every run and of every remote job.

import json
import os
import shlex
import sys
from pathlib import Path

ROOT = Path(workflow.basedir)
SCRIPTS = ROOT / "scripts"
sys.path.insert(0, str(SCRIPTS))

from vlg import plugins
from vlg.config import checks as settings_of, plan
from vlg.config.layout import Layout
from vlg.data import hub, prompts as prompt_files
from vlg.judge import further as judge_plugins
from vlg.workflow import environment, running
from vlg.workflow.codehash import code_hash
from vlg.errors import UserError

environment.prepare()
running.announce()
if workflow.is_main_process:
    running.hold(Path.cwd())
try:
    CONFIG = settings_of.load(config, Path.cwd())
    VARIANTS = plan.variants(CONFIG)
    MODELS = plan.models(CONFIG)
    RUNS = plan.runs(CONFIG)  # MODELS and their further trainings
except UserError as error:
    sys.exit(f"error: {error}")  # one line; a WorkflowError would print several

LAYOUT = Layout(CONFIG["study"])
OUT = LAYOUT.root
STEPS = CONFIG["finetune"]["steps"]
ROUNDS = CONFIG["refine"]["rounds"]
ARMS = CONFIG["refine"]["arms"] if ROUNDS else {}
REFINED = plan.runs(CONFIG, CONFIG["refine"]["models"]) if ARMS else []
TRAIN_SEEDS = plan.training_seeds(CONFIG)
# Variants of sweeps are trained and draw the development prompts; MODELS has none of them.
SWEPT = [f"{name}-{step}" for name in VARIANTS for step in STEPS if CONFIG["finetune"]["sweeps"]]
DEVICE = plan.device(CONFIG)
# Fine-tuning runs in so many processes on each of so many nodes, with a device each.
PROCESSES, NODES = CONFIG["finetune"]["processes"], CONFIG["finetune"]["nodes"]
SAMPLES = CONFIG["development"]["count"] > 0  # whether checkpoints draw development prompts
EMBEDDED = ("shapes", "shapes-early")  # model sources that are not folders
GATHERING = ("split", "picture", "captions", "smallest")  # keys of dataset that gather pictures


# Rules whose jobs compute with a model; all others are light.
COMPUTING = (
    "encode",
    "encode_guide",
    "finetune",
    "generate",
    "refine",
    "score",
    "judge",
    "diversity",
    "pretrain_part",
    "pretrain_base",
    "pretrain",
)
FAMILY = (plugins.FAMILIES, CONFIG["models"]["family"])  # of the base and all that comes of it
GPUS = plan.gpus(CONFIG)  # of each process that computes with a model


wildcard_constraints:
    model=r"base|[a-z][a-z0-9_]*-[0-9]+(-s[0-9]+)?",
    variant=r"[a-z][a-z0-9_]*",
    step=r"[0-9]+",
    run=r"(-s[0-9]+)?",
    arm=r"[a-z][a-z0-9_]*",
    judge=r"[a-z][a-z0-9_]*",
    stage=r"selection|final",
    shard=r"[0-9]+",
    kind=r"base|guide|judge",


def script(name):
    """The path of a step's script in a shell command, as seen from the working folder."""
    path = shlex.quote(os.path.relpath(SCRIPTS / f"{name}.py"))
    return path.replace("{", "{{").replace("}", "}}")


def python(name):
    """The beginning of a shell command: the script of a step."""
    return f"python {script(name)}"


def need(name, what):
    """How much of `threads`, `mem_mb` or `runtime` the config lets a job of a rule have."""
    given = CONFIG["resources"]
    light = {"threads": 1, **given["light"]}
    return given["stages"].get(name, {}).get(what, (given if name in COMPUTING else light)[what])


def memory(name, times=1):
    """Memory of a job in MB, as much more again with each further try."""
    return lambda wildcards, attempt: need(name, "mem_mb") * times * attempt


def settings(values):
    """The values that change a step's result, as one JSON text: Snakemake reruns when it changes."""
    return json.dumps(values, sort_keys=True)


def code(name, *chosen):
    """Hash of what scripts/<name>.py does: reruns when code changes, not when a comment does.

    chosen: (room, name) of what the script finds by name, for example (plugins.METHODS, "embed").
    """
    return code_hash(SCRIPTS / f"{name}.py", *(plugins.file(*each) for each in chosen))


def pool_size():
    """Number of prompts of the study: those reported and those only searched for hard ones."""
    chosen, source = CONFIG["prompts"], CONFIG["prompts"]["source"]
    if source == "shapes" or hub.parse(source):
        return chosen["pool"] or chosen["study"]
    wanted = {k: chosen[k] for k in ("study", "pool", "category", "challenge", "order")}
    return len(prompt_files.select(prompt_files.read(source), **wanted))


POOL = pool_size()
STUDY = CONFIG["prompts"]["study"]


def folders(files):
    """The folders of files."""
    return [os.path.dirname(file) for file in files]


def sampling_settings():
    """How a picture is drawn."""
    chosen = CONFIG["generate"]
    names = ("steps", "guidance_scale", "scheduler", "precision", "vae_tiling")
    return {name: chosen[name] for name in names}


def check_writable(files):
    """End with one line if the folder of a file that will be written cannot be written."""
    for folder in sorted({os.path.dirname(file) for file in files}):
        while folder and not os.path.exists(folder):
            folder = os.path.dirname(folder)
        if folder and not os.path.isdir(folder):
            sys.exit(f"error: {folder}: is in the way of a folder; move it and rerun")
        if not os.access(folder or ".", os.W_OK | os.X_OK):
            sys.exit(f"error: {folder or '.'}: cannot be written; make it writable and rerun")

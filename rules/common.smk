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


def shards(model, stage):
    """Numbers of the shards of a model's pictures at a stage (vlg.sample.sampler.listing).

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
        f"{OUT}/images/{{model}}/{{stage}}/shard-{{shard}}/metadata.jsonl",
        model=model,
        stage=stage,
        shard=shards(model, stage),
    )


def study_place(model, number):
    """Where a model's study picture of this number stands among the pictures of its stage.

    The base draws prompts that are not reported between those of two seeds (vlg.sample.sampler.listing).
    """
    seed, prompt = divmod(number, STUDY)
    return seed * (POOL if model == "base" else STUDY) + prompt


def refine_start(wildcards):
    """The metadata files among which the pictures are that one shard of refinement begins with."""
    size = CONFIG["generate"]["shard_size"]
    first = int(wildcards.shard) * size
    last = min(first + size, STUDY * len(CONFIG["seeds"]["selection"])) - 1
    begin, end = (study_place(wildcards.model, number) // size for number in (first, last))
    stage = "selection" if wildcards.model == "base" else "final"
    return images(wildcards.model, stage)[begin : end + 1]


def refine_skip(wildcards):
    """How many of the study pictures in those files belong to an earlier shard of refinement."""
    size = CONFIG["generate"]["shard_size"]
    first = int(wildcards.shard) * size
    begin = study_place(wildcards.model, first) // size * size
    return sum(study_place(wildcards.model, n) >= begin for n in range(max(0, first - size), first))


def folders(files):
    """The folders of files."""
    return [os.path.dirname(file) for file in files]


def sampling_settings():
    """How a picture is drawn."""
    chosen = CONFIG["generate"]
    names = ("steps", "guidance_scale", "scheduler", "precision", "vae_tiling")
    return {name: chosen[name] for name in names}


def plain_score_files():
    """The score files of plain pictures."""
    return [f"{OUT}/scores/images/{m}/{stage}.csv" for m in RUNS for stage in stages(m)]


def study_images(model):
    """The metadata files among which a model's study pictures are."""
    return images(model, "selection" if model == "base" else "final")


def judge_settings(wildcards):
    """What a further judge is; the source of a download is its folder."""
    values = dict(CONFIG["judges"][wildcards.judge])
    if values["kind"] != "clip_iqa":
        del values["pair"]
    if hub.parse(values["source"]):
        values["source"] = os.path.dirname(download(f"judge_{wildcards.judge}"))
    return settings(values)


def judged_options(files):
    """Which further judges' scores there are, as words of a command line."""
    judges = list(dict.fromkeys(folders(files.judges)))
    given = ["--judges", *judges] if judges else []
    diversity = files.get("diversity")
    return [*given, *(["--diversity", diversity] if diversity else [])]


def score_files():
    """All score files of the study."""
    return [
        *plain_score_files(),
        *(f"{OUT}/scores/refined/{m}/{arm}.csv" for m in REFINED for arm in ARMS),
    ]


def previous(wildcards):
    """The checkpoint that this one continues: the next smaller step of the same variant."""
    earlier = [step for step in STEPS if step < int(wildcards.step)]
    if not earlier:
        return []
    return f"{OUT}/training/{wildcards.variant}-{earlier[-1]}{wildcards.run}/manifest.json"


def finetune_settings(wildcards):
    """The variant's settings, and from which step to which."""
    step = int(wildcards.step)
    start = max((each for each in STEPS if each < step), default=0)
    values = {**VARIANTS[wildcards.variant], "start": start, "step": step}
    values.pop("decoder", None)  # an input
    if SAMPLES:
        values["samples"] = {**sampling_settings(), "seeds": CONFIG["development"]["seeds"]}
    seed = wildcards.run.removeprefix("-s") or TRAIN_SEEDS[0]
    return settings({**values, "seed": int(seed)})


def development_data():
    """The pictures whose held-out captions are the development prompts, if they are."""
    made = CONFIG["development"]["prompts"] or CONFIG["prompts"]["source"] == "shapes"
    return [] if made else f"{OUT}/dataset/manifest.json"


def development_settings():
    """Which development prompts."""
    chosen = CONFIG["development"]
    values = {name: chosen[name] for name in ("count", "prompts")}
    return settings({**values, "seed": CONFIG["prompts"]["seed"]})


def guided(wildcards):
    """Whether a variant needs the guide: for its loss, or to log its cosine."""
    variant = VARIANTS[wildcards.variant]
    return variant["guide_scale"] > 0 or "watch_guide" in variant


def guide(wildcards):
    """The guide and what it says of the data set, where a variant needs them."""
    names = ("models/guide", "embeddings") if guided(wildcards) else ()
    return [f"{OUT}/{name}/manifest.json" for name in names]


def training_data(wildcards):
    """The encoded data set, or the pictures for a variant that needs pixels."""
    cached = VARIANTS[wildcards.variant].get("cached", True)
    return f"{OUT}/{'latents' if cached else 'dataset'}/manifest.json"


def decoder(wildcards):
    """The files of a variant's tiny decoder, its config.json first."""
    folder = VARIANTS[wildcards.variant].get("decoder")
    weights = sorted(Path(folder).glob("*.safetensors")) if folder else []
    return [f"{folder}/config.json", *map(str, weights)] if folder else []


def finetune_options(wildcards, input):
    """The folders that not every fine-tuning has, as words of a command line."""
    cached = VARIANTS[wildcards.variant].get("cached", True)
    given = {"cache" if cached else "data": input.data, "previous": input.previous}
    given |= zip(("guide", "embeddings"), input.guide)
    if input.decoder:
        given["decoder"] = input.decoder[0]
    chosen = [(name, os.path.dirname(file)) for name, file in given.items() if file]
    if input.development:
        chosen.append(("development", input.development))
    return [word for name, path in chosen for word in (f"--{name}", path)]


def generate_settings(wildcards):
    """How a shard is drawn and which pictures it has."""
    seeds = CONFIG["seeds"]
    return settings(
        {
            **sampling_settings(),
            "model": wildcards.model,
            "stage": wildcards.stage,
            "selection": seeds["selection"],
            "fresh": seeds["fresh"] if wildcards.stage == "final" else [],
            "shard": int(wildcards.shard),
            "shard_size": CONFIG["generate"]["shard_size"],
        }
    )


def refine_settings(wildcards):
    """How an arm redraws, how often, and on which pictures."""
    return settings(
        {
            **sampling_settings(),
            **ARMS[wildcards.arm],
            "arm": wildcards.arm,
            "rounds": ROUNDS,
            "shard": int(wildcards.shard),
            "shard_size": CONFIG["generate"]["shard_size"],
        }
    )


def refined(model, arm):
    """The metadata files of all rounds of an arm."""
    number = STUDY * len(CONFIG["seeds"]["selection"])
    return expand(
        f"{OUT}/refined/{{model}}/round-{{round}}/{{arm}}/shard-{{shard}}/metadata.jsonl",
        model=model,
        arm=arm,
        round=range(1, ROUNDS + 1),
        shard=range(-(-number // CONFIG["generate"]["shard_size"])),
    )


def all_pictures():
    """The metadata files of every picture folder. The whole study asks for them by name, because
    Snakemake makes a deleted file again only when something that is wanted needs it."""
    plain = [images(model, stage) for model in RUNS for stage in stages(model)]
    return sum([*plain, *(refined(model, arm) for model in REFINED for arm in ARMS)], [])


def in_words(name):
    """A name as people read it: hard_prompts is hard prompts."""
    return name.replace("_", " ")


def caption(kind, name):
    """The caption in the report of a figure or table; one for all that have none of their own."""
    own = f"report/{kind}/{name}.rst"
    return f"../{own}" if (ROOT / own).exists() else f"../report/{kind.removesuffix('s')}.rst"


def sheet_labels(model, arm, number):
    """What the report calls a contact sheet. It sorts labels as text: blanks keep 20 before 100."""
    variant, _, step = model.partition("-")
    labels = {"model": variant, "step": (step or "0").rjust(7)}
    return labels | ({"arm": in_words(arm), "round": str(number).rjust(3)} if arm else {})


def cards():
    """The card of every fine-tuned model."""
    return [f"{OUT}/models/{model}/README.md" for model in RUNS[1:]]


def check_writable(files):
    """End with one line if the folder of a file that will be written cannot be written."""
    for folder in sorted({os.path.dirname(file) for file in files}):
        while folder and not os.path.exists(folder):
            folder = os.path.dirname(folder)
        if folder and not os.path.isdir(folder):
            sys.exit(f"error: {folder}: is in the way of a folder; move it and rerun")
        if not os.access(folder or ".", os.W_OK | os.X_OK):
            sys.exit(f"error: {folder or '.'}: cannot be written; make it writable and rerun")

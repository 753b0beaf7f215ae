# Names and functions that the rules share. Light imports alone: every run and remote job reads this.

import os
import sys
from pathlib import Path

# Where this file's workflow is, which is not workflow.basedir when another one loads it as a module.
HOME = workflow.current_basedir.get_path_or_uri(secret_free=True)
ROOT = Path(HOME).parent
SCRIPTS = ROOT / "scripts"
if not SCRIPTS.is_dir():
    sys.exit(f"error: {HOME}: rules alone; clone the repository and name its Snakefile instead")
sys.path.insert(0, str(SCRIPTS))

from vlg import plugins
from vlg.config import checks, guides, layout, plan, variants, written
from vlg.config.load import load
from vlg.data import hub
from vlg.workflow import bundle, environment, retries, running, warm
from vlg.errors import UserError
from vlg.files import CHECKSUM

if not Path(plugins.__file__).is_relative_to(SCRIPTS):  # read before, for --logger vlg
    sys.exit(f"error: PYTHONPATH: it gives {plugins.__file__}; have it name {SCRIPTS} first")
environment.prepare()
running.announce()
if workflow.is_main_process:
    running.hold(Path.cwd())
    retries.spare()
else:  # one job, which would wait for imports it does not need
    os.environ[warm.OFF] = "0"
try:
    if workflow.is_main_process:
        written.check_files(workflow.configfiles)
    CONFIG = load(written.named(config, workflow.config_settings.config_args), Path.cwd())
    POOL = plan.pool(CONFIG)  # prompts reported, and those only searched for hard ones
    if workflow.is_main_process:
        checks.check_sets(CONFIG, Path.cwd())
except UserError as error:
    sys.exit(f"error: {error}")  # one line; a WorkflowError would print several

LAYOUT = layout.Layout(CONFIG["study"])
OUT = LAYOUT.root
STUDY = CONFIG["prompts"]["study"]
STEPS = CONFIG["finetune"]["steps"]
VARIANTS = variants.entries(CONFIG)
HAS_BASE = plan.has_base(CONFIG)
MODELS = plan.models(CONFIG)
TUNED = plan.tuned(CONFIG)  # those of them that are trained here
RUNS = plan.runs(CONFIG)  # MODELS and the further trainings of TUNED
CHECKPOINTS = plan.runs(CONFIG, TUNED)
COMPARED = plan.compared(CONFIG)  # those that are finished, and stand beside the base
SETS = CONFIG["pictures"]  # of pictures that were drawn elsewhere
ROWS = plan.rows(CONFIG)  # MODELS and SETS, in the order of tables
TRAIN_SEEDS = plan.training_seeds(CONFIG)
# Variants of sweeps are trained and draw the development prompts; MODELS has none of them.
SWEPT = plan.swept(CONFIG)
ROUNDS = CONFIG["refine"]["rounds"]
ARMS = plan.arms(CONFIG)
REFINED = plan.refined(CONFIG)  # (model, arm)
GUIDES = guides.made(CONFIG)  # {folder below models/: an entry of `guides`}
FAMILY = (plugins.FAMILIES, CONFIG["models"]["family"])  # of the base and of all tuned from it
SAMPLES = CONFIG["development"]["count"] > 0  # whether checkpoints draw development prompts
DEVICE = plan.device(CONFIG)
GPUS = plan.gpus(CONFIG)  # of each process that computes with a model
# Fine-tuning runs in so many processes on each of so many nodes, with a device each.
PROCESSES, NODES = CONFIG["finetune"]["processes"], CONFIG["finetune"]["nodes"]

# Rules whose jobs compute with a model; all others are light.
COMPUTING = set("encode encode_guide finetune generate refine score judge pairs diversity".split())
COMPUTING |= set(
    "compared reference judges_selftest pretrain_part pretrain_base pretrain_flow pretrain".split()
)


wildcard_constraints:
    **layout.WILDCARDS,


include: "functions/bundles.smk"
include: "functions/commands.smk"


def one_of(names):
    """A wildcard that is one of these names; none of any where there are none."""
    return "|".join(names) or "none^"


def threads_of(name):
    """How many CPU threads the config lets a job of a rule have."""
    return plan.needs(CONFIG, name, name in COMPUTING)["threads"]


def needs(name, gpu=0, times=1):
    """The resources of a rule's jobs as a cluster must be told them: memory and minutes as the
    config says, `times` as much memory, and as much again with each further try."""
    given = plan.needs(CONFIG, name, name in COMPUTING)
    memory = lambda wildcards, attempt: given["mem_mb"] * times * attempt
    return {"mem_mb": memory, "runtime": given["runtime"], "gpu": gpu}


def folders(files):
    """The folders of files."""
    return [os.path.dirname(file) for file in files]

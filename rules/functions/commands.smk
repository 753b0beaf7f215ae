# What a job is called with: its script, its settings, the hash of its code.

import json
import shlex

from vlg.workflow.codehash import code_hash


def script(name):
    """The path of a step's script in a shell command, as seen from the working folder."""
    path = shlex.quote(os.path.relpath(SCRIPTS / f"{name}.py"))
    return path.replace("{", "{{").replace("}", "}}")


def python(name):
    """The beginning of a shell command: the script of a step, as a fork of what has its imports."""
    packages = "models" if name in {*COMPUTING, "launch", "model", "guide"} else "tables"
    return f"{bundled()}python -S {script('vlg/workflow/warm')} {packages} {script(name)}"


def settings(values):
    """The values that change a step's result, as one JSON text: Snakemake reruns when it changes."""
    return json.dumps(values, sort_keys=True)


def code(name, *chosen):
    """Hash of what scripts/<name>.py does: reruns when code changes, not when a comment does.

    chosen: (room, name) of what the script finds by name, for example (plugins.METHODS, "embed").
    """
    return code_hash(SCRIPTS / f"{name}.py", *(plugins.file(*each) for each in chosen))


def family_of(model):
    """The family of a model, for the hash of a step's code."""
    own = COMPARED[model].family if model in COMPARED else None
    return (plugins.FAMILIES, own) if own else FAMILY


def guide_code(name=None):
    """(room, name) of the kinds of judges by which a guide looks, for the hash of a step's code."""
    return [(plugins.KINDS, kind) for kind in guides.kinds(CONFIG, name)]

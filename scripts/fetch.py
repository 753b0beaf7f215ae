"""Download one thing of a study from the Hugging Face Hub: a model, pictures or prompts.

Needs the network once, when the Hub's cache (HF_HOME) does not have it. Writes a folder of the
files that the study reads and, beside it, OUT.commit.json: the commit that the revision was
resolved to, to which later runs keep. Where HF_TOKEN is set, gated repositories are open.
"""

import os
from pathlib import Path

from vlg.data import downloads, hub
from vlg.errors import UserError
from vlg.files import atomic_folder, write_manifest
from vlg.workflow import cli

# Progress bars would fill the logs of jobs with thousands of lines.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def main(args):
    settings = args.settings
    source, what = hub.parse(settings.source), settings.what
    if source is None:
        raise UserError(f"{settings.source}: not hub:owner/name[@revision]; mend it")
    section, _, judge = what.partition("_")
    if judge:  # a further one
        key = f"judges.{judge}.source"
        form = settings.form
    elif section in ("base", "guide", "judge"):
        key, form = f"models.{what}", what
    else:
        key, form = f"{what}.source", None
    kind = "model" if form else "dataset"
    notes = args.out.with_name(f"{args.out.name}.commit.json")
    repository = hub.Repository(source, kind, key, notes)
    with atomic_folder(args.out) as out:
        if form:
            downloads.model(repository, form, out, settings.family)
        elif what == "dataset":
            downloads.pictures(repository, settings, out)
        else:
            downloads.prompt_table(repository, settings.sha256, out)
        write_manifest(out, source=str(source), id=source.id, commit=repository.commit)


if __name__ == "__main__":
    arguments = cli.parser(__doc__, downloads.Settings, "fetch")
    arguments.add_argument("--out", type=Path, required=True, help="folder to write")
    cli.run(main, arguments)

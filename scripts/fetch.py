"""Download one thing of a study from the Hugging Face Hub: a model, pictures or prompts.

Needs the network once, when the Hub's cache (HF_HOME) does not have it. Writes a folder of the
files that the study reads and, beside it, OUT.commit.json: the commit that the revision was
resolved to, to which later runs keep. Where HF_TOKEN is set, gated repositories are open.
"""

import errno
import os
from contextlib import contextmanager
from pathlib import Path

from vlg.data import downloads, hub
from vlg.errors import UserError
from vlg.files import atomic_folder, write_manifest
from vlg.workflow import cli

# Progress bars would fill the logs of jobs with thousands of lines.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


@contextmanager
def usable_cache():
    """Within: that the Hub's cache cannot be made or written is told with what to set."""
    from huggingface_hub import constants

    try:
        yield
    except OSError as error:
        at = Path(error.filename or "")
        places = [Path(constants.HF_HUB_CACHE), Path(constants.HF_HOME)]
        refused = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS)
        if error.errno not in refused or not at.name:
            raise
        if not any(each.is_relative_to(at) or at.is_relative_to(each) for each in places):
            raise
        raise UserError(
            f"{places[0]}: the Hub's cache cannot be used ({error.strerror}: {at}); set HF_HOME, "
            "or XDG_CACHE_HOME, to a folder that can be written"
        ) from error


def main(args):
    settings = args.settings
    source, what = hub.parse(settings.source), settings.what
    if source is None:
        raise UserError(f"{settings.source}: not hub:owner/name[@revision]; mend it")
    section, _, further = what.partition("_")
    if section == "compare":
        key, form = f"models.compare.{further}", "base"
    elif further:  # a further judge or guide
        key = f"{section}s.{further}.source"
        form = settings.form
    elif section in ("base", "guide", "judge"):
        key, form = f"models.{what}", what
    else:
        key, form = f"{what}.source", None
    kind = "model" if form else "dataset"
    notes = args.out.with_name(f"{args.out.name}.commit.json")
    with usable_cache():
        repository = hub.Repository(source, kind, key, notes)
    with usable_cache(), atomic_folder(args.out) as out:
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

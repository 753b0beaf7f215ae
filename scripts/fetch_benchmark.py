"""Download the prompts of a benchmark, from GitHub or the Hugging Face Hub.

Needs the network once, when the cache (HF_HOME) does not have the files. Writes a folder of them as
they were published, with prompts.tsv, the table that is made of them.
"""

import os
from pathlib import Path

from pydantic import Field

from vlg.config.keys import Keys
from vlg.data import benchmark, downloads, prompts
from vlg.errors import UserError
from vlg.files import atomic_folder, write_manifest
from vlg.workflow import cli

# Progress bars would fill the logs of jobs with thousands of lines.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

KEY = "prompts.source"


class Settings(Keys):
    """What is downloaded."""

    source: str = Field("geneval", description="`prompts.source`.")
    sha256: str | None = Field(None, description="`prompts.sha256`.")


def main(args):
    settings = args.settings
    found = benchmark.parse(settings.source)
    if found is None:
        there = ", ".join(benchmark.names())
        raise UserError(f"{KEY}: no benchmark {settings.source!r}; there are {there}")
    found = found.known_by(settings.sha256)
    repository = found.repository(KEY, args.out.with_name(f"{args.out.name}.commit.json"))
    with atomic_folder(args.out) as out:
        repository.get(found.files, out)
        if settings.sha256:
            prompts.check_sha256(out / found.first, settings.sha256)
        rows = found.read(out)
        prompts.write(out / downloads.PROMPTS, rows)
        write_manifest(out, source=found.source, id=found.name, commit=repository.commit)
    args.found = f"{len(rows)} prompts"


if __name__ == "__main__":
    arguments = cli.parser(__doc__, Settings, "fetch_benchmark")
    arguments.add_argument("--out", type=Path, required=True, help="folder to write")
    cli.run(main, arguments)

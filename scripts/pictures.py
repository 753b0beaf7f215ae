"""Take a set of finished pictures into a study: which prompt and seed each is of, as rows of it.

Reads a folder of pictures and prompts.tsv; writes a picture folder (metadata.jsonl) in which files
are links where every program shows the same of them, and 8-bit PNG otherwise.
"""

from collections import Counter
from pathlib import Path

from vlg.data import prompts, sets
from vlg.errors import UserError
from vlg.files import atomic_folder
from vlg.workflow import cli


def main(args):
    settings, known = args.settings, prompts.read_table(args.prompts)
    try:
        entries = sets.entries(args.source, settings.pattern)
        given = sets.matched(entries, known, settings.column, settings.others)
        with atomic_folder(args.out) as out:
            sets.take(given, settings, out, args.threads)
    except UserError as error:
        raise UserError(f"pictures.{settings.name}: {error}") from None
    there = Counter(each.prompt["id"] for each in given)
    wanted = [row["id"] for row in known if row["set"] == "study"]
    if lacking := [name for name in wanted if name not in there]:
        first = ", ".join(lacking[:5]) + (", ..." if len(lacking) > 5 else "")
        cli.log.warning("no picture of %d prompts: %s", len(lacking), first)
    args.found = f"{len(given)} pictures of {len(there)} prompts"


if __name__ == "__main__":
    arguments = cli.parser(__doc__, sets.Settings, "pictures")
    add = arguments.add_argument
    add("--source", type=Path, required=True, help="folder of the pictures")
    add("--prompts", type=Path, required=True, help="prompts.tsv")
    add("--out", type=Path, required=True, help="folder to write")
    add("--threads", type=int, default=1, help="pictures read at once")
    cli.run(main, arguments)

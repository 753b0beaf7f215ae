"""Write the study's prompt table.

Takes the prompts of the shapes world or of a file (.tsv, .csv, .txt), selects among them and marks
which are reported (`set` = study) and which only serve to find hard ones (`set` = rest).
"""

from pathlib import Path

from vlg.config import sections
from vlg.data import prompts
from vlg.workflow import cli


def main(args):
    settings = args.settings
    if args.source:
        prompts.check_sha256(args.source, settings.sha256)
        rows = prompts.read(args.source)
    else:
        from vlg.shapes import captions

        number = settings.pool or settings.study
        rows = [
            {**row, "id": f"p{index:04d}"}
            for index, row in enumerate(captions.prompts(number, settings.seed))
        ]
    chosen = {
        name: getattr(settings, name)
        for name in ("study", "pool", "category", "challenge", "order")
    }
    selected = prompts.select(rows, **chosen)
    prompts.write(args.out, selected)
    args.found = f"{len(selected)} of {len(rows)} prompts"


if __name__ == "__main__":
    arguments = cli.parser(__doc__, sections.Prompts, "prompts")
    arguments.add_argument("--source", type=Path, help="prompt file; without it the shapes world's")
    arguments.add_argument("--out", type=Path, required=True, help="prompts.tsv to write")
    cli.run(main, arguments)

"""Write the development prompts: what settings may be chosen on, because none is reported.

Takes the config's own list, new prompts of the shapes world or, with --data, captions of held-out
pictures; leaves out what is among the study's prompts.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from vlg.config import sections
from vlg.data import prompts
from vlg.workflow import cli


def main(args: Namespace) -> None:
    from vlg.sample.development import choose

    rows = choose(prompts.read_table(args.prompts), args.settings.model_dump(), args.data)
    prompts.write(args.out, rows)


if __name__ == "__main__":
    arguments = cli.parser(__doc__, sections.DevelopmentStep, "development")
    arguments.add_argument("--prompts", type=Path, required=True, help="prompts.tsv of the study")
    arguments.add_argument("--data", type=Path, help="image folder whose held-out captions to take")
    arguments.add_argument("--out", type=Path, required=True, help="development.tsv to write")
    cli.run(main, arguments)

"""Make contact sheets: what each model and each round of refinement makes of the same prompts.

Writes a JPEG into --out for each of the settings' `sheets`: {file stem: [model, arm, round]}, where
plain pictures have the arm "" and round 0.
"""

from argparse import Namespace
from pathlib import Path

from vlg.analysis import scores
from vlg.files import write_manifest
from vlg.record import integrity
from vlg.report import sheets
from vlg.workflow import cli


def main(args: Namespace) -> None:
    integrity.check_scores(args.scores, args.root)
    prompts = scores.read_prompts(args.prompts)
    table = scores.read(args.scores, prompts)
    for path in sheets.write(args.root, table, prompts, args.settings, args.out):
        cli.log.info("%s", path)
    write_manifest(args.out)


if __name__ == "__main__":
    arguments = cli.parser(__doc__, sheets.Settings, "sheets")
    arguments.add_argument("--prompts", type=Path, required=True, help="prompts.tsv")
    arguments.add_argument(
        "--scores", type=Path, nargs="+", required=True, metavar="CSV", help="score files"
    )
    arguments.add_argument(
        "--root", type=Path, required=True, help="folder of the study, results/<study>"
    )
    arguments.add_argument("--out", type=Path, required=True, help="folder for the sheets")
    cli.run(main, arguments)

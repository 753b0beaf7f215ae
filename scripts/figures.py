"""Draw the figures of a study from its tables and training logs.

Writes into --out, each as .svg and .png: finetune, refinement, hard_prompts, by_category,
guide_judge_fidelity, training; judges and diversity, where asked for. Settings: confidence (of the
tables' intervals), further (names of those asked for).
"""

from argparse import Namespace
from pathlib import Path

from vlg.files import write_manifest
from vlg.report import figures
from vlg.workflow import cli


def main(args: Namespace) -> None:
    drawn = figures.draw(args.tables, args.training, args.out, args.settings)
    for path in drawn:
        cli.log.info("%s", path)
    write_manifest(args.out, drawn)


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    arguments.add_argument("--tables", type=Path, required=True, help="folder of the tables")
    arguments.add_argument(
        "--training",
        type=Path,
        nargs="*",
        default=[],
        metavar="CSV",
        help="training/<model>/log.csv of each fine-tuned model",
    )
    arguments.add_argument("--out", type=Path, required=True, help="folder for the figures")
    cli.run(main, arguments)

"""Draw one figure of a study from its tables or training logs, as .svg and .png.

The figure is a file of scripts/vlg/report/figures/, whose NEEDS say which of the inputs it reads.
Settings: confidence (of the tables' intervals).
"""

from argparse import Namespace
from pathlib import Path

from vlg import plugins
from vlg.config import sections
from vlg.report import figure
from vlg.workflow import cli


def main(args: Namespace) -> None:
    told = {"confidence": args.settings.confidence}
    for path in figure.draw(args.name, args.tables, args.training, args.out, told):
        cli.log.info("%s", path)


if __name__ == "__main__":
    arguments = cli.parser(__doc__, sections.Statistics, "statistics")
    add = arguments.add_argument
    add("name", help="which figure: " + ", ".join(plugins.names(plugins.FIGURES)))
    add("--tables", type=Path, required=True, help="folder of the tables")
    add(
        "--training",
        type=Path,
        nargs="*",
        default=[],
        metavar="CSV",
        help="training/<model>/log.csv of each fine-tuned model",
    )
    add("--out", type=Path, required=True, help="folder for the figures")
    cli.run(main, arguments)

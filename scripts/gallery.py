"""Make the gallery of a study: the same prompts across models and rounds, with their scores.

Writes --out/index.html and --out/pictures/; the page opens from disk, without server or network.
Settings: study (title), prompts (at most so many, hard ones first), models (in order, the reference
first), sets (those of them that are sets of pictures).
"""

from argparse import Namespace
from pathlib import Path

from vlg.analysis import scores
from vlg.record import integrity
from vlg.report import gallery
from vlg.workflow import cli


def main(args: Namespace) -> None:
    integrity.check_scores(args.scores, args.root)
    prompts = scores.read_prompts(args.prompts)
    table = scores.read(args.scores, prompts)
    hard = scores.read_prompts(args.hard) if args.hard else None
    judges = {path.name: path for path in args.judges}
    count = gallery.write(args.root, table, prompts, hard, args.settings, args.out, judges)
    cli.log.info("%s: %d prompts", args.out / "index.html", count)


if __name__ == "__main__":
    arguments = cli.parser(__doc__, gallery.Settings, "gallery")
    arguments.add_argument("--prompts", type=Path, required=True, help="prompts.tsv")
    arguments.add_argument("--hard", type=Path, help="hard_prompts.tsv, where there is a base")
    arguments.add_argument(
        "--scores", type=Path, nargs="+", required=True, metavar="CSV", help="score files"
    )
    arguments.add_argument(
        "--root", type=Path, required=True, help="folder of the study, results/<study>"
    )
    arguments.add_argument(
        "--judges", type=Path, nargs="*", default=[], help="folder of each further judge's scores"
    )
    arguments.add_argument("--out", type=Path, required=True, help="folder for the gallery")
    cli.run(main, arguments)

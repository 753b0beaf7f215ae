"""Rank the variants of sweeps by the judge on development prompts, with the cost of each.

Reads development.tsv, a score file and a training summary per model; writes sweep.csv, .md and .tex
into --out. Settings: draws, confidence and seed of the bootstrap.
"""

from argparse import Namespace
from pathlib import Path

from vlg import files
from vlg.analysis import sweep, tables
from vlg.workflow import cli


def main(args: Namespace) -> None:
    training = {path.parent.name: files.read_json(path) for path in args.training}
    table = sweep.rank(args.prompts, args.scores, training, args.settings)
    tables.write_apart(table, args.out)
    best = table.frame.iloc[0]
    cli.log.info("%d models, the best is %s", len(table.frame), best["model"])


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    add = arguments.add_argument
    add("--prompts", type=Path, required=True, help="development.tsv")
    add("--scores", type=Path, nargs="+", required=True, help="score files of the samples")
    add("--training", type=Path, nargs="+", required=True, help="summary.json of each model")
    add("--out", type=Path, required=True, help="folder for the table")
    cli.run(main, arguments)

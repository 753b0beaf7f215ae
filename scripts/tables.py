"""Make the tables of a study from its scores: means, intervals, paired differences, claims.

Reads the prompt tables, score files and training summaries; writes into --out, as .csv, .md and
.tex: finetune, refinement, equal_compute, hard_prompts, by_category, by_challenge, by_split,
by_length, by_fact, claims. Settings: draws, confidence and seed of the bootstrap; published
(figures for the column of that name); models (in order, base first); rounds (the last of
refinement); train_seeds (the first is that of the models with plain names).
"""

from argparse import Namespace
from pathlib import Path

from vlg import files
from vlg.analysis import scores, tables
from vlg.record import integrity
from vlg.workflow import cli


def main(args: Namespace) -> None:
    if args.root:
        integrity.check_scores(args.scores, args.root)
    prompts = scores.read_prompts(args.prompts)
    summaries = [(path, files.read_json(path)) for path in args.training]
    study = tables.Study(
        grids=scores.Grids(scores.read(args.scores, prompts)),
        prompts=prompts,
        hard=scores.read_prompts(args.hard),
        training={path.parent.name: summary for path, summary in summaries},
        settings=args.settings,
    )
    written = []
    for table in tables.build(study):
        written += tables.write(table, args.out)
        cli.log.info("%s: %d rows", args.out / f"{table.name}.csv", len(table.frame))
    files.write_manifest(args.out, written)


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    arguments.add_argument("--prompts", type=Path, required=True, help="prompts.tsv")
    arguments.add_argument("--hard", type=Path, required=True, help="hard_prompts.tsv")
    arguments.add_argument(
        "--scores", type=Path, nargs="+", required=True, metavar="CSV", help="score files"
    )
    arguments.add_argument(
        "--training",
        type=Path,
        nargs="*",
        default=[],
        metavar="JSON",
        help="training/<model>/summary.json of each fine-tuned model",
    )
    arguments.add_argument(
        "--root", type=Path, help="results/<study>: refuse scores that are not of its pictures"
    )
    arguments.add_argument("--out", type=Path, required=True, help="folder for the tables")
    cli.run(main, arguments)

"""Make the tables of further judges and of diversity: judges, diversity (.csv, .md, .tex).

Reads prompts.tsv, the study's score files and what judge.py and diversity.py wrote. Settings:
draws, confidence and seed of the bootstrap; models (in order, base first), train_seeds.
"""

from argparse import Namespace
from pathlib import Path

from vlg.analysis import agreement, scores, tables
from vlg.workflow import cli


def main(args: Namespace) -> None:
    settings = dict(args.settings)
    models, seeds = settings.pop("models"), settings.pop("train_seeds")
    known = scores.read(args.scores, scores.read_prompts(args.prompts))
    made = []
    if args.judges:
        folders = {path.name: path for path in args.judges}
        made.append(agreement.judges(known, folders, models, settings, seeds))
    if args.diversity:
        made.append(agreement.diversity(args.diversity, known, models, settings, seeds))
    for table in made:
        tables.write_apart(table, args.out)
        cli.log.info("%s: %d rows", args.out / f"{table.name}.csv", len(table.frame))


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    add = arguments.add_argument
    add("--prompts", type=Path, required=True, help="prompts.tsv")
    add("--scores", type=Path, nargs="+", required=True, help="score files of the study's judge")
    add("--judges", type=Path, nargs="*", default=[], help="folder of each further judge")
    add("--diversity", type=Path, help="what diversity.py wrote")
    add("--out", type=Path, required=True, help="folder for the tables")
    cli.run(main, arguments)

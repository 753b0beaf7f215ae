"""Make one table of a study from its scores: means, intervals, paired differences.

The table is a file of scripts/vlg/analysis/tables/, whose NEEDS say which of the inputs it reads.
Writes --out/NAME.csv, .md and .tex, and with --page a page to sort, search and copy from. Settings:
those of `statistics` (draws, confidence and seed of the bootstrap, correction, the smallest effects
worth having); models (in order, base first), train_seeds, published
(figures for the column of that name).
"""

from argparse import Namespace
from pathlib import Path

from vlg import plugins
from vlg.analysis import study as studies
from vlg.analysis import table as tables
from vlg.record import integrity
from vlg.report import pages
from vlg.workflow import cli


def main(args: Namespace) -> None:
    build = plugins.load(plugins.TABLES, args.name).build
    if args.root:
        integrity.check_scores(args.scores, args.root)
    settings = studies.Settings.parse(args.settings, "settings")
    others = ("hard", "training", "judges", "diversity", "models", "ratings", "pictures")
    given = {name: getattr(args, name) for name in ("prompts", "scores", *others)}
    study = studies.read(settings, **given)
    made = build(study)
    texts = made.texts(args.name)
    tables.write(args.name, texts, args.out)
    if args.page:
        pages.write(args.page, pages.table(args.name, made, texts))
    cli.log.info("%s: %d rows", args.out / f"{args.name}.csv", len(made.frame))


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    add = arguments.add_argument
    add("name", help="which table: " + ", ".join(plugins.names(plugins.TABLES)))
    several = {"type": Path, "nargs": "*", "default": [], "metavar": "FILE"}
    add("--prompts", **several, help="prompts.tsv; development.tsv for scores of its pictures")
    add("--scores", **several, help="score files, of plain and of refined pictures")
    add("--hard", type=Path, help="hard_prompts.tsv")
    add("--training", **several, help="training/<model>/summary.json of fine-tuned models")
    add("--judges", **several, help="judges/<judge>/<model>.csv of further judges")
    add("--diversity", type=Path, help="judges/diversity.csv")
    add("--models", **several, help="manifest.json of each model of models.compare")
    add("--ratings", type=Path, help="a .csv of people's scores or votes")
    add("--pictures", **several, help="metadata.jsonl of sets of pictures that are rated")
    add("--root", type=Path, help="results/<study>: refuse scores that are not of its pictures")
    add("--out", type=Path, required=True, help="folder for the table")
    add("--page", type=Path, help="the page to write")
    cli.run(main, arguments)

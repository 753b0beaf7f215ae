"""Choose the hard prompts: the lowest base ClipScores under a threshold, on the selection seeds.

Reads prompts.tsv and the base model's scores; writes a table of the same columns and `clipscore`.
There may be fewer than asked for, or none.
"""

import csv
from pathlib import Path
from statistics import fmean

from vlg.config import sections
from vlg.data import prompts
from vlg.workflow import cli


def main(args):
    scores: dict[str, list[float]] = {}
    for path in args.scores:
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                scores.setdefault(row["id"], []).append(float(row["clipscore"]))
    rows = [
        {**row, "clipscore": f"{fmean(scores[row['id']]):.4f}"}
        for row in prompts.read_table(args.prompts)
    ]
    below = [row for row in rows if float(row["clipscore"]) < args.settings.threshold]
    below.sort(key=lambda row: (float(row["clipscore"]), row["id"]))
    hard = below[: args.settings.count]
    if not hard:
        cli.log.warning("no prompt scores under hard.threshold; the hard-prompt table is empty")
    # Written with its header even when empty, so that what follows can read it.
    prompts.write(args.out, hard)
    args.found = f"{len(hard)} of {len(rows)} prompts"


if __name__ == "__main__":
    arguments = cli.parser(__doc__, sections.Hard, "hard")
    arguments.add_argument("--prompts", type=Path, required=True, help="prompts.tsv")
    arguments.add_argument(
        "--scores", type=Path, nargs="+", required=True, help="the base's scores"
    )
    arguments.add_argument("--out", type=Path, required=True, help="hard_prompts.tsv to write")
    cli.run(main, arguments)

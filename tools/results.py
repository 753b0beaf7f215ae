"""Write docs/results.md from the tables of finished studies: no number in it is typed.

python tools/results.py                    # results/shapes, and those of STUDIES that are there
python tools/results.py results/mine ...   # others
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from vlg import files  # noqa: E402
from vlg.errors import UserError  # noqa: E402

TARGET = ROOT / "docs" / "results.md"
STUDIES = ("results/shapes", "results/shapes-full", "results/shapes-early", "results/shapes-flow")
FAMILIES = ROOT / "results" / "families.md"  # of `make families`
# What is shown of a study, and what a reader asks of it.
SHOWN = {
    "finetune": "Does fine-tuning help, and does the CLIP term?",
    "equal_compute": "Is it the method, or the compute?",
    "methods": "What does each way gain, and at which cost?",
    "refinement": "Do rounds of refinement help more than drawing again?",
    "hard_prompts": "Do hard prompts gain most?",
    "by_fact": "Which facts become true?",
    "judges": "Can the judge be believed, and do others agree?",
    "diversity": "Do pictures collapse?",
}
VERDICTS = ("supported", "contradicted", "unresolved")

HEAD = """\
<!-- Written by `python tools/results.py` from results/*/tables; run a study and it again. -->
# What the drawn world says

Tables and verdicts as `make study`, `make full` and `make families` made them, put here by
`python tools/results.py`. They are findings about a tiny Stable Diffusion in a drawn world
([shapes.md](shapes.md)): they say what the pipeline can tell apart. Nothing of them has been
measured on Stable Diffusion itself. Words are explained in [methods.md](methods.md), the published
figures in [study.md](study.md).
"""


def render(studies: Sequence[Path]) -> str:
    """The page; UserError when a study has no tables."""
    parts = [HEAD]
    for study in studies:
        record = files.read_json(study / "provenance.json")
        seeds = record["config"]["seeds"]["train"]
        trainings = len(seeds) if isinstance(seeds, list) else 1
        parts.append(f"\n## {study.name}\n")
        parts.append(
            f"{'One training' if trainings == 1 else f'{trainings} trainings'} of each variant"
            f"{', so every row speaks of that one checkpoint' if trainings == 1 else ''}.\n"
        )
        parts += _findings(study)
        for table, question in SHOWN.items():
            path = study / "tables" / f"{table}.md"
            if path.is_file():
                parts.append(f"\n### `{table}`: {question}\n\n{path.read_text('utf-8').strip()}\n")
    if FAMILIES.is_file():
        parts.append("\n## Do verdicts depend on the architecture?\n")
        parts.append(FAMILIES.read_text("utf-8"))
    return "\n".join(parts)


def _findings(study: Path) -> list[str]:
    """Every claim under its verdict, with its effect and interval."""
    path = study / "tables" / "claims.csv"
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run that study first") from None
    parts = []
    for verdict in VERDICTS:
        own = [row for row in rows if row["verdict"] == verdict and row["effect"]]
        if own:
            lines = "\n".join(f"- {_finding(row)}" for row in own)
            parts.append(f"\n**{verdict.capitalize()}**\n\n{lines}\n")
    return parts


def _finding(row: dict[str, str]) -> str:
    interval = ""
    if row["effect_low"]:
        low, high = (float(row[key]) for key in ("effect_low", "effect_high"))
        interval = f" [{low:.2f}, {high:.2f}]"
    published = f"; published {float(row['published']):+.2f}" if row["published"] else ""
    effect = f"{float(row['effect']):+.2f}{interval}"
    return f"{row['statement']}: {effect} {row['measure']}{published}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", type=Path, nargs="*", help="folders of finished studies")
    given = parser.parse_args().studies
    studies = given or [path for name in STUDIES if (path := ROOT / name).is_dir()]
    if not studies:
        sys.exit("error: no finished study under results; run `make study` first")
    try:
        text = render(studies)
    except UserError as error:
        sys.exit(f"error: {error}")
    TARGET.write_text(text, encoding="utf-8", newline="\n")
    print(f"{TARGET.relative_to(ROOT)}: {', '.join(study.name for study in studies)}")


if __name__ == "__main__":
    main()

"""Write docs/choose.md from the tables `methods` of finished studies: no number in it is typed.

python tools/choose.py                    # results/methods and results/methods-small, what is there
python tools/choose.py results/mine ...   # others
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from vlg import files  # noqa: E402
from vlg.analysis.tables.methods import PICTURES  # noqa: E402
from vlg.errors import UserError  # noqa: E402

if TYPE_CHECKING:
    import pandas as pd

TARGET = ROOT / "docs" / "choose.md"
STUDIES = ("results/methods", "results/methods-small")
BUDGETS = (1.5, 2, 4, 8, 16)  # what a picture may cost, in plain ones
# (what is asked for, its difference and corrected p in the table, digits and factor to show it)
WANTED = (
    ("More true facts", "fidelity_delta", "fidelity_delta_p_corrected", 1, 100, "points"),
    ("A higher ClipScore by the judge", "delta", "p_corrected", 2, 1, "ClipScore"),
)

# The same of every way; no p is made of diversity.
MEASURED = (
    ("Δ guide", "guide_delta", "guide_delta_p_corrected", 1, 1),
    ("Δ ClipScore", "delta", "p_corrected", 1, 1),
    ("Δ facts, points", "fidelity_delta", "fidelity_delta_p_corrected", 1, 100),
    ("Δ diversity", "spread_delta", None, 1, 100),
)

HEAD = """\
<!-- Written by `python tools/choose.py` from results/methods*/tables/methods.csv. -->
# Which way to take

For a budget: what a picture may cost, training included, in plain pictures of the base drawn with
the study's steps and guidance, when so many pictures will be drawn. A cell has the way that gained
most among those that the budget allows and whose gain is told from 0 after correction over all
ways; in brackets the interval of its gain, then its cost. The largest of several is flattered by
chance: where two ways are close, take the simpler one. *No more than best of N*: the guide's choice
among as many plain samples as cost the same gains as much or more, or cannot be told from it; it
needs no training. Of an arm its last round alone is looked at, so that a smaller budget may hold
what no row has. Rows that are there for comparison alone (an oracle, a shuffled guide) are left
out. Below it, what each way did: differences to base's plain pictures and their intervals, in bold
where told from 0 after correction.

All of it is measured in a drawn world ([shapes.md](shapes.md)), nothing on Stable Diffusion. What
each way is: [methods.md](methods.md) and [drawing.md](drawing.md).
"""


def render(studies: Sequence[Path]) -> str:
    """The page."""
    import pandas as pd

    parts = [HEAD]
    for study in studies:
        record = files.read_json(study / "provenance.json")
        seeds = record["config"]["seeds"]["train"]
        number = len(seeds) if isinstance(seeds, list) else 1
        frame = pd.read_csv(study / "tables" / "methods.csv", keep_default_na=True)
        alpha = 1 - record["config"]["statistics"]["confidence"]
        prompts, drawn = int(frame["prompts"].iloc[0]), int(frame["seeds"].iloc[0])
        parts.append(
            f"\n## {study.name}\n\n{prompts} prompts, {drawn} seeds each; trainings of each "
            f"variant: {number}{'' if number > 1 else ': a row speaks of that one checkpoint'}.\n"
        )
        for title, *wanted in WANTED:
            if frame[wanted[0]].notna().any():
                parts.append(f"\n### {title}\n\n{_choices(frame, alpha, *wanted)}\n")
        parts.append(f"\n### What each way did\n\n{_all(frame, alpha)}\n")
    return "".join(parts)


def _choices(
    frame: pd.DataFrame, alpha: float, delta: str, p: str, digits: int, scale: float, unit: str
) -> str:
    """The table of budgets by numbers of pictures."""
    plain = float(frame.loc[_plain(frame), "tflops"].iloc[0])
    lines = [
        f"| a picture may cost as | {' | '.join(f'of {n:,}' for n in PICTURES)} |",
        f"|---|{'---|' * len(PICTURES)}",
    ]
    for budget in BUDGETS:
        cells = []
        for n in PICTURES:
            known = told(frame, alpha, delta, p)
            known = known[known[f"at_{n}_tflops"] <= budget * plain * (1 + 1e-9)]
            if not len(known):
                cells.append("nothing told from base")
                continue
            best = known.loc[known[delta].idxmax()]
            gain, interval = _difference(best, delta, digits, scale)
            cost = best[f"at_{n}_tflops"] / plain
            cells.append(
                f"{way(best)}: {gain} {unit} {interval} at "
                f"{cost:.2f}{_beside(best, alpha, n, delta)}"
            )
        lines.append(f"| {budget:g} plain | {' | '.join(cells)} |")
    return "\n".join(lines)


def told(frame: pd.DataFrame, alpha: float, delta: str, p: str) -> pd.DataFrame:
    """Rows whose gain is told from 0 after correction, but for controls."""
    own = frame[(frame[delta] > 0) & (frame[p] < alpha)]
    return own[own["control"].isna()] if "control" in own else own


def _plain(frame: pd.DataFrame) -> pd.Series:
    """Which row is base's plain pictures."""
    return (frame["model"] == "base") & (frame["arm"] == "plain")


def way(row: pd.Series) -> str:
    """What is done, in a few words."""
    model = "`base`" if row["model"] == "base" else f"`{row['model']}`"
    return model if row["arm"] == "plain" else f"`{row['arm']}` ({int(row['round'])}) on {model}"


def _beside(row: pd.Series, alpha: float, n: int, delta: str) -> str:
    """How it does against the best of as many samples of base as cost the same."""
    name = f"at_{n}_{delta}"
    if row["arm"] == "best_of_n" and row["model"] == "base":
        return ""
    p = row[f"{name}_p_corrected"]
    if math.isnan(p):
        return "; best of N was not drawn at this cost"
    return f"; {'more' if p < alpha and row[name] > 0 else 'no more'} than best of N"


def _all(frame: pd.DataFrame, alpha: float) -> str:
    """The table of every way's differences to base, those told from 0 in bold, controls too."""
    measured = [each for each in MEASURED if each[1] in frame and frame[each[1]].notna().any()]
    lines = [
        f"| way | {' | '.join(title for title, *_ in measured)} |",
        f"|---|{'---:|' * len(measured)}",
    ]
    for _, row in frame[~_plain(frame)].iterrows():
        control = f", {row['control']}" if isinstance(row.get("control"), str) else ""
        cells = [_cell(row, alpha, *each) for _, *each in measured]
        lines.append(f"| {way(row)}{control} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(
    row: pd.Series, alpha: float, delta: str, p: str | None, digits: int, scale: float
) -> str:
    """A difference and its interval; bold where it is told from 0 after correction."""
    if math.isnan(row[delta]):
        return "–"
    text = " ".join(filter(None, _difference(row, delta, digits, scale)))
    return f"**{text}**" if p and row[p] < alpha else text


def _difference(row: pd.Series, delta: str, digits: int, scale: float) -> tuple[str, str]:
    """A difference, and its interval in brackets or nothing where it has none."""
    low, high = (scale * row[f"{delta}_{end}"] for end in ("low", "high"))
    interval = "" if math.isnan(low) else f"[{low:.{digits}f}, {high:.{digits}f}]"
    return f"{scale * row[delta]:+.{digits}f}", interval


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", type=Path, nargs="*", help="folders of finished studies")
    given = parser.parse_args().studies
    studies = given or [path for name in STUDIES if (path := ROOT / name).is_dir()]
    missing = [each for each in studies if not (each / "tables/methods.csv").is_file()]
    if missing or not studies:
        where = missing[0] if missing else "results"
        sys.exit(f"error: {where}: no table methods; run `make methods` first")
    try:
        text = render(studies)
    except UserError as error:
        sys.exit(f"error: {error}")
    TARGET.write_text(text, encoding="utf-8", newline="\n")
    print(f"{TARGET.relative_to(ROOT)}: {', '.join(study.name for study in studies)}")


if __name__ == "__main__":
    main()

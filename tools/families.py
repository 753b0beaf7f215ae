"""Set the verdicts of two studies side by side: does a finding depend on the architecture?

python tools/families.py [results/shapes results/shapes-flow] [--out results/families.md]

Reads tables/claims.csv of both. Prints a table with each claim's effect and verdict in the one and
in the other, and writes it to --out.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from vlg import files  # noqa: E402
from vlg.analysis import markup, strength  # noqa: E402
from vlg.errors import UserError  # noqa: E402

if TYPE_CHECKING:
    import pandas as pd

EFFECT = ["effect", "effect_low", "effect_high"]
CAPTION = """\
Effects with their intervals, in the unit of "Measured in", and verdicts, from tables/claims.csv of
both studies. {verdicts} Verdicts that differ do not tell the two bases apart. *Difference* does:
the second effect less the first, with an interval made from the two (MOVER: Zou & Donner,
*Statistics in Medicine* 27, 2008) as if they were independent, not corrected for the number of
claims. {differ}"""


def render(studies: list[Path]) -> str:
    """The table of two studies (folders results/<study>) and what it comes to, as Markdown.

    UserError when a study has no claims.
    """
    one, two = (study.name for study in studies)
    rows = _join(studies)
    columns = [
        markup.Column("Claim", "statement"),
        markup.Column("Measured in", "measure"),
        markup.Column(one, "effect_1", interval=True, signed=True),
        markup.Column("Verdict", "verdict_1"),
        markup.Column(two, "effect_2", interval=True, signed=True),
        markup.Column("Verdict", "verdict_2"),
        markup.Column("Difference", "change", interval=True, signed=True),
    ]
    measured = rows[rows["effect_1"].notna() & rows["effect_2"].notna()]
    pairs = Counter(zip(measured["verdict_1"], measured["verdict_2"], strict=True))
    same = {verdict: n for (verdict, other), n in pairs.items() if verdict == other}
    told = ", ".join(f"{same[verdict]} {verdict}" for verdict in sorted(same))
    verdicts = (
        f"Of {len(measured)} claims measured in both, {sum(same.values())} have the same verdict"
        f"{f' ({told})' if told else ''}."
    )
    apart = measured[(measured["change_low"] > 0) | (measured["change_high"] < 0)]
    differ = (
        f"It is clear of 0 for {len(apart)} of the {int(measured['change_low'].notna().sum())} "
        "claims that have one."
    )
    return markup.markdown(
        columns,
        markup.cells(rows, columns),
        [(False, False)] * len(rows),
        " ".join(CAPTION.format(verdicts=verdicts, differ=differ).split()),
    )


def _join(studies: list[Path]) -> pd.DataFrame:
    """A row for each claim that either study has, in the order of the first; what is the first's
    ends in _1, what is the second's in _2."""
    import pandas as pd

    both = [_read(study / "tables" / "claims.csv") for study in studies]
    names = list(dict.fromkeys(name for claims in both for name in claims.index))
    rows = pd.DataFrame(index=names)
    for name in ("statement", "measure"):
        rows[name] = both[0][name].reindex(names).fillna(both[1][name].reindex(names)).fillna("")
    for end, claims in zip(("1", "2"), both, strict=True):
        for name in EFFECT:
            rows[name.replace("effect", f"effect_{end}")] = claims[name].reindex(names)
        rows[f"verdict_{end}"] = claims["verdict"].reindex(names).fillna(markup.EMPTY)
    ends = [
        [rows[name.replace("effect", f"effect_{end}")].to_numpy(float) for name in EFFECT]
        for end in ("2", "1")
    ]
    rows["change"], rows["change_low"], rows["change_high"] = strength.change(*ends)
    units = [claims["measure"].reindex(names) for claims in both]
    rows.loc[(units[0] != units[1]).to_numpy(), ["change", "change_low", "change_high"]] = math.nan
    return rows


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_csv(path).set_index("claim")
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run that study first") from None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    results = ROOT / "results"
    parser.add_argument(
        "studies", type=Path, nargs="*", default=[results / "shapes", results / "shapes-flow"]
    )
    parser.add_argument("--out", type=Path, default=results / "families.md")
    args = parser.parse_args()
    if len(args.studies) != 2:
        parser.error(f"give the folders of two studies, not {len(args.studies)}")
    try:
        text = render(args.studies)
    except UserError as error:
        sys.exit(f"error: {error}")
    files.write_text(args.out, text)
    print(text, end="")


if __name__ == "__main__":
    main()

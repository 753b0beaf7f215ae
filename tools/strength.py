"""Draw the ladders of several studies side by side, such as those of a weak and a strong base.

.venv/bin/python tools/strength.py [results/shapes-early results/shapes] [--out results/strength]

Reads tables/finetune.csv and equal_compute.csv of each study, in the given order; writes OUT.svg,
OUT.png and OUT.csv (vlg.analysis.strength).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from vlg import files  # noqa: E402
from vlg.analysis import strength  # noqa: E402
from vlg.errors import UserError  # noqa: E402
from vlg.report import figure, plots  # noqa: E402
from vlg.report.figures.finetune import ladder  # noqa: E402

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def draw(studies: Sequence[Path], out: Path) -> list[Path]:
    """Draw the ladders of several finished studies (folders results/<study>) into out.svg, .png."""
    tables = {study.name: figure.read(study / "tables", "finetune") for study in studies}
    confidence = {
        files.read_json(study / "provenance.json")["config"]["statistics"]["confidence"]
        for study in studies
    }
    if len(confidence) > 1:
        raise UserError(
            "studies: their intervals differ in confidence; use one statistics.confidence"
        )
    with figure.styled():
        return plots.save(ladders(tables, {"confidence": confidence.pop()}), out)


def ladders(tables: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]) -> Figure:
    """The ladders of several bases side by side: a column for each, a line for each measure.

    Scales are shared along a line, so that how good a base is can be seen as well as what it gains.
    tables: the table finetune of each study, by name.
    """
    measures = [plots.measures(table) for table in tables.values()]
    panels = min(measures, key=len)  # fidelity only where all have it
    drawn, axes = plots.panels(
        len(tables), lines=len(panels), height=0.7 + 2.3 * len(panels), sharey="row"
    )
    places = [(panel, name) for panel in panels for name in tables]
    for axis, (panel, name) in zip(axes, places, strict=True):
        ladder(axis, tables[name], panel)
        axis.set_title(f"{name}: {panel[0]}")
    plots.legend(drawn, axes[0])
    return plots.noted(drawn, settings, next(iter(tables.values())), "its own base")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    results = ROOT / "results"
    parser.add_argument(
        "studies", type=Path, nargs="*", default=[results / "shapes-early", results / "shapes"]
    )
    parser.add_argument("--out", type=Path, default=results / "strength")
    args = parser.parse_args()
    try:
        for path in draw(args.studies, args.out):
            print(path)
        print(strength.write(args.studies, args.out))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

"""Draw the ladders of several studies side by side, such as those of a weak and a strong base.

.venv/bin/python tools/strength.py [results/shapes-early results/shapes] [--out results/strength]

Reads tables/finetune.csv and equal_compute.csv of each study, in the given order; writes OUT.svg,
OUT.png and OUT.csv (vlg.analysis.strength).
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from vlg.analysis import strength  # noqa: E402
from vlg.errors import UserError  # noqa: E402
from vlg.report import figures  # noqa: E402


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
        for path in figures.draw_strength(args.studies, args.out):
            print(path)
        print(strength.write(args.studies, args.out))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

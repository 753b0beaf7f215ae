"""What a base of the shapes world draws at several scales of classifier-free guidance.

Draws development prompts, of which no table reports one, and prints a Markdown table: fidelity, the
share strictly right in all and of prompts of pairs that the base has seen, relations right where
both things are there, and three things counted right. By it `generate.guidance_scale` was chosen.

    .venv/bin/python bench/guidance.py --scales 2 2.5 3 5
    .venv/bin/python bench/guidance.py --base results/shapes/models/base --number 1000
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from vlg import files  # noqa: E402
from vlg.config import sections  # noqa: E402
from vlg.errors import UserError  # noqa: E402
from vlg.models.folders import RESOURCES, unpack  # noqa: E402
from vlg.shapes import quality  # noqa: E402

MEASURED = ("fidelity", "strict", "strict_in", "relation_of_both", "count_of_three")


def shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--base", type=Path, help="a model of a study; without, the shipped base")
    add("--scales", type=float, nargs="+", default=[2, 2.5, 3, 4, 5, 7.5])
    add("--steps", type=int, default=sections.Sampling().steps, help="of drawing")
    add("--number", type=int, default=400, help="pictures at each scale")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        base = given.base or Path(scratch) / "base"
        try:
            if not given.base:
                unpack(RESOURCES / "shapes", "base", base)
                files.write_manifest(base)
            print(f"| guidance | {' | '.join(MEASURED)} |\n|---|{'---:|' * len(MEASURED)}")
            for scale in given.scales:
                settings = sections.Sampling.parse(
                    {"guidance_scale": scale, "steps": given.steps}, "--scales, --steps"
                )
                found = quality.base(quality.draw(base, settings, given.number))
                print(f"| {scale:g} | {' | '.join(shown(found[each]) for each in MEASURED)} |")
        except UserError as error:
            sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

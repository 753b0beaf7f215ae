"""How often would each table of a finished study see a gain if there were none?

    .venv/bin/python tools/sign_flips.py results/shapes --times 400

Prints, for each table with the column gain_seen_by, the share of tables made of the study's own
scores with the signs of each prompt's differences flipped at random (`vlg.analysis.nulls`) in which
a gain is seen; it should be about the level, 0.05, or below.
"""

import sys
from argparse import ArgumentParser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from vlg import files
from vlg.analysis import nulls
from vlg.analysis import study as studies


def load(root: Path, draws: int) -> studies.Study:
    """The study in results/<study>, under the settings of its provenance.json if it has one."""
    settings = {"draws": draws}
    if (root / "provenance.json").exists():
        config = files.read_json(root / "provenance.json")["config"]
        settings["confidence"] = config["statistics"]["confidence"]
        seeds = config["seeds"]["train"]  # one, or several
        settings["train_seeds"] = seeds if isinstance(seeds, list) else [seeds]
    hard = root / "hard_prompts.tsv"
    return studies.read(
        studies.Settings.parse(settings, "settings"),
        prompts=[path for path in [root / "prompts.tsv"] if path.exists()],
        scores=[
            path for path in sorted((root / "scores").rglob("*.csv")) if path.stem != "development"
        ],
        hard=hard if hard.exists() else None,
        training=sorted((root / "training").glob("*/summary.json")),
    )


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, help="results/<study>")
    parser.add_argument("--tables", nargs="*", default=nulls.TABLES, help="which ones")
    parser.add_argument("--times", type=int, default=400, help="null tables of each")
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap draws")
    args = parser.parse_args()
    study = load(args.study, args.draws)
    for name in args.tables:
        print(f"{name}: {nulls.seen(study, name, args.times):.3f}", flush=True)


if __name__ == "__main__":
    main()

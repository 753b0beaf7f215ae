"""Make docs/results.png, the README's first picture, from a finished shapes study.

.venv/bin/python tools/results_picture.py
"""

import csv
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.gridspec import GridSpec
from PIL import Image

ROOT = Path(__file__).parent.parent
STUDY = ROOT / "results" / "shapes"
PROMPTS = 7
SEED = "2"  # a fresh one: hard prompts were not chosen on it
COLUMNS = ("base", "normal", "embed")


def last(variant: str) -> str:
    """The model of a variant's last checkpoint."""
    if variant == "base":
        return variant
    steps = [int(path.name.split("-")[1]) for path in (STUDY / "models").glob(f"{variant}-*")]
    return f"{variant}-{max(steps)}"


def rows(model: str) -> dict[str, dict[str, str]]:
    """{prompt id: score row} of a model's hard prompts on SEED."""
    with open(STUDY / f"scores/images/{model}/final.csv", newline="", encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file) if row["seed"] == SEED}


def main() -> None:
    lines = (STUDY / "hard_prompts.tsv").read_text("utf-8").split("\n")
    names = lines[0].split("\t")
    hard = [dict(zip(names, line.split("\t"), strict=True)) for line in lines[1:] if line]
    figure = plt.figure(figsize=(13, 7.2), layout="constrained", facecolor="white")
    grid = GridSpec(PROMPTS, 6, figure, width_ratios=[1, 1, 1, 0.1, 4, 4])
    models = [last(variant) for variant in COLUMNS]
    scored = {model: rows(model) for model in models}
    # Every seventh of the hard prompts, so that not only the very worst are shown.
    for number, prompt in enumerate(hard[:: max(1, len(hard) // PROMPTS)][:PROMPTS]):
        for position, model in enumerate(models):
            axes = figure.add_subplot(grid[number, position])
            row = scored[model][prompt["id"]]
            axes.imshow(Image.open(STUDY / row["picture"]), interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            right = row["strict"] == "1.0"
            label = f"{float(row['clipscore']):.0f}" + (" ✓" if right else "")
            axes.set_xlabel(label, fontsize=8, labelpad=1)
            if number == 0:
                axes.set_title(model, fontsize=9)
            if position == 0:
                text = prompt["Prompt"].replace(" on a", "\non a").replace(" left of", "\nleft of")
                text = text.replace(" right of", "\nright of").replace(" above", "\nabove")
                axes.set_ylabel(
                    text.replace(" below", "\nbelow"),
                    rotation=0, ha="right", va="center", fontsize=8,
                )  # fmt: skip
    for name, place in (("finetune", grid[:4, 4:]), ("refinement", grid[4:, 4:])):
        axes = figure.add_subplot(place)
        axes.imshow(Image.open(STUDY / f"figures/{name}.png"))
        axes.axis("off")
    figure.savefig(ROOT / "docs/results.png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()

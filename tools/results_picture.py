"""Make docs/results.png, the README's first picture, from a finished study.

.venv/bin/python tools/results_picture.py [results/shapes]

Left: hard prompts, spread over all of them, on a fresh seed. Right: what the tables say.
"""

import csv
import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from vlg.analysis import markup  # noqa: E402
from vlg.config.layout import parse_model  # noqa: E402
from vlg.report import plots  # noqa: E402
from vlg.report.figure import read  # noqa: E402
from vlg.report.figures.finetune import ladder  # noqa: E402
from vlg.report.figures.refinement import gain  # noqa: E402

PROMPTS = 6
VARIANTS = ("base", "normal", "embed")
SOFT = "#555555"


def last(study: Path, variant: str) -> str:
    """The model of a variant's last checkpoint."""
    if variant == "base":
        return variant
    steps = [parse_model(path.name).step for path in (study / "models").glob(f"{variant}-*")]
    return f"{variant}-{max(steps)}"


def rows(study: Path, model: str) -> dict[str, dict[str, dict[str, str]]]:
    """{seed: {prompt id: score row}} of a model's pictures of its last stage."""
    result: dict[str, dict[str, dict[str, str]]] = {}
    with open(study / f"scores/images/{model}/final.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            result.setdefault(row["seed"], {})[row["id"]] = row
    return result


def pictures(figure, study: Path) -> None:
    """Hard prompts by each variant's last checkpoint."""
    lines = (study / "hard_prompts.tsv").read_text("utf-8").split("\n")
    names = lines[0].split("\t")
    hard = [dict(zip(names, line.split("\t"), strict=True)) for line in lines[1:] if line]
    # Spread over all, so that not only the very worst are shown.
    number = min(PROMPTS, len(hard))
    shown = [hard[i * len(hard) // number] for i in range(number)]
    models = [last(study, variant) for variant in VARIANTS]
    # Base is drawn last on the fresh seeds alone: hard prompts were not chosen on those.
    seed = min(rows(study, "base"))
    grid = figure.subplots(len(shown), len(models), squeeze=False)
    for place, (model, column) in enumerate(zip(models, grid.T, strict=True)):
        scored = rows(study, model)[seed]
        for prompt, axes in zip(shown, column, strict=True):
            row = scored[prompt["id"]]
            axes.imshow(Image.open(study / row["picture"]), interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
            axes.spines[:].set_visible(False)
            right = row["strict"] in ("1", "1.0")
            label = markup.number(float(row["clipscore"]), 0) + (" ✓" if right else "")
            axes.set_xlabel(label, fontsize=9, labelpad=2, color="#0a7a4f" if right else "black")
            if place == 0:
                text = re.sub(r" (on a|left of|right of|above|below) ", r"\n\1 ", prompt["Prompt"])
                axes.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=9)
        column[0].set_title(model, fontsize=10, loc="center")
    figure.suptitle("Hard prompts, from the same noise", fontweight="bold", fontsize=11)
    figure.supxlabel(
        "ClipScore below each; ✓: shows all that the prompt says", fontsize=8.5, color=SOFT
    )


def curves(figure, study: Path) -> None:
    """ClipScore and fidelity by training steps and by the cost of refinement."""
    tables = [read(study / "tables", name) for name in ("finetune", "refinement")]
    upper, lower = figure.subfigures(2, 1, hspace=0.03)
    titles = ("Fine-tuning", "Refinement of base")
    panels = plots.measures(tables[0])
    drawings = (ladder, gain)
    for part, table, title, draw in zip((upper, lower), tables, titles, drawings, strict=True):
        axes = part.subplots(1, len(panels), squeeze=False)[0]
        for axis, panel in zip(axes, panels, strict=True):
            draw(axis, table, panel)
        part.suptitle(title, fontweight="bold", fontsize=11)
        axes[0].legend(*axes[0].get_legend_handles_labels(), loc="best", fontsize=8.5)
    row = tables[0].iloc[0]
    figure.supxlabel(
        f"bars, bands: 95 % interval of the paired difference to base; {row['prompts']} prompts, "
        f"{row['seeds']} seeds",
        fontsize=8.5,
        color=SOFT,
    )


def main() -> None:
    study = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "results/shapes"
    plt.rcParams.update(plots.STYLE)
    figure = plt.figure(figsize=(13, 7), facecolor="white")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.35], wspace=0.02)
    pictures(left, study)
    curves(right, study)
    path = ROOT / "docs/results.png"
    figure.savefig(path, dpi=115, metadata={"Software": None})
    # Few colours are enough, and a README should open fast.
    with Image.open(path) as drawn:
        drawn.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()

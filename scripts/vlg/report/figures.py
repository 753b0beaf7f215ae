"""The figures of a study, drawn from its tables and training logs.

Unless an axis says otherwise, bars and bands are intervals of the *paired difference* to base,
drawn around the row's own value: one that stays clear of base's line is a difference that the
interval tells from none. The intervals of the means themselves, in the tables, are much wider,
because prompts differ much more than models do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlg import files
from vlg.analysis.scores import CONTROL, OWN, split_model
from vlg.errors import UserError
from vlg.report import plots

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = (
    "finetune",
    "refinement",
    "hard_prompts",
    "by_category",
    "guide_judge_fidelity",
    "training",
)


def draw(tables: Path, logs: Sequence[Path], out: Path, settings: Mapping[str, Any]) -> list[Path]:
    """Draw every figure of `NAMES` into `out` and return the files.

    tables: folder of the tables' CSV files. logs: training/<model>/log.csv of each checkpoint.
    settings: confidence, which the tables' intervals have; further, figures of tables that not
    every study has (`judges`, `diversity`).
    """
    import matplotlib

    # Drawing to files needs no display, and must not look for one.
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawings = {
        "finetune": lambda: finetune(read(tables, "finetune"), settings),
        "refinement": lambda: refinement(read(tables, "refinement"), settings),
        "hard_prompts": lambda: hard_prompts(read(tables, "hard_prompts"), settings),
        "by_category": lambda: by_category(read(tables, "by_category"), settings),
        "guide_judge_fidelity": lambda: guide_judge_fidelity(
            read(tables, "finetune"), read(tables, "refinement"), settings
        ),
        "training": lambda: training(read_logs(logs)),
        "judges": lambda: judges(read(tables, "judges"), settings),
        "diversity": lambda: diversity(read(tables, "diversity"), settings),
    }
    written = []
    with plt.rc_context({**matplotlib.rcParamsDefault, "backend": "Agg", **plots.STYLE}):
        for name in (*NAMES, *settings.get("further", [])):
            figure = drawings[name]()
            written += plots.save(figure, out / name)
            plt.close(figure)
    return written


def draw_strength(studies: Sequence[Path], out: Path) -> list[Path]:
    """Draw the ladders of several finished studies (folders results/<study>) into out.svg, .png."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    tables = {study.name: read(study / "tables", "finetune") for study in studies}
    confidence = {
        files.read_json(study / "provenance.json")["config"]["statistics"]["confidence"]
        for study in studies
    }
    if len(confidence) > 1:
        raise UserError(
            "studies: their intervals differ in confidence; use one statistics.confidence"
        )
    with plt.rc_context({**matplotlib.rcParamsDefault, "backend": "Agg", **plots.STYLE}):
        figure = strength(tables, {"confidence": confidence.pop()})
        written = plots.save(figure, out)
        plt.close(figure)
    return written


def read(folder: Path, name: str) -> pd.DataFrame:
    """One table's CSV."""
    import pandas as pd

    path = folder / f"{name}.csv"
    try:
        return pd.read_csv(path, keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise UserError(f"{path}: not found; make the tables first") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it and rerun") from None


def read_logs(paths: Sequence[Path]) -> dict[str, pd.DataFrame]:
    """Training logs by variant, the checkpoints of a chain joined, steps rising.

    Where held_out.csv stands beside a log, its columns are there too, named held_out_...; they are
    empty at steps without an evaluation.
    """
    import pandas as pd

    parts: dict[str, list[tuple[int, pd.DataFrame]]] = {}
    for path in paths:
        variant, step = split_model(path.parent.name)
        log = _by_step(path)
        held_out = path.with_name("held_out.csv")
        if held_out.exists():
            evaluated = _by_step(held_out).set_index("step").add_prefix("held_out_")
            log = log.merge(evaluated.reset_index(), on="step", how="outer")
        parts.setdefault(variant, []).append((step, log))
    result = {}
    for variant, chain in parts.items():
        chain.sort(key=lambda part: part[0])
        joined = pd.concat([log for _, log in chain], ignore_index=True)
        # A chained log may repeat the steps before it; the last that is there of each column.
        result[variant] = joined.groupby("step", as_index=False).last()
    return result


def _by_step(path: Path) -> pd.DataFrame:
    log = read(path.parent, path.stem)
    if "step" not in log:
        raise UserError(f"{path}: no column step; delete it and rerun")
    return log


# --- figures ------------------------------------------------------------------------------------


def finetune(table: pd.DataFrame, settings: Mapping[str, Any]) -> Figure:
    """ClipScore and fidelity by training steps, base as a line."""
    panels = plots.measures(table)
    figure, axes = plots.panels(len(panels), height=2.9)
    for axis, panel in zip(axes, panels, strict=True):
        ladder(axis, table, panel)
    plots.legend(figure, axes[0])
    return plots.noted(figure, settings, table)


def ladder(axis: Axes, table: pd.DataFrame, panel: plots.Measure) -> None:
    """One measure of each variant by training steps; base as a line."""
    title, mean, delta, scale = panel
    base = table[table["variant"] == "base"].iloc[0]
    tuned = table[table["variant"] != "base"]
    variants = list(dict.fromkeys(tuned["variant"]))
    span = float(tuned["step"].max()) if len(tuned) else 1.0
    line = {"color": plots.BLACK, "linestyle": "--", "linewidth": 1}
    axis.axhline(scale * base[mean], **line, label="base")
    for i, variant in enumerate(variants):
        rows = tuned[tuned["variant"] == variant].sort_values("step")
        # Moved aside a little, so that bars at the same step do not hide each other.
        x = rows["step"] + span * 0.012 * (i - (len(variants) - 1) / 2)
        style = plots.series(variant, variants)
        plots.bars(axis, x, rows, mean, delta, scale, **style, label=variant)
        start = [0, x.iloc[0]], [scale * base[mean], scale * rows[mean].iloc[0]]
        axis.plot(*start, color=style["color"], linewidth=0.8, linestyle=":")
    axis.set_title(title)
    axis.set_xlabel("training steps")
    axis.set_xticks([0, *sorted(set(tuned["step"]))])
    axis.set_xlim(left=0)


def strength(tables: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]) -> Figure:
    """The ladders of several bases side by side: a column for each, a line for each measure.

    Scales are shared along a line, so that how good a base is can be seen as well as what it gains.
    tables: the table finetune of each study, by name.
    """
    measures = [plots.measures(table) for table in tables.values()]
    panels = min(measures, key=len)  # fidelity only where all have it
    figure, axes = plots.panels(
        len(tables), lines=len(panels), height=0.7 + 2.3 * len(panels), sharey="row"
    )
    places = [(panel, name) for panel in panels for name in tables]
    for axis, (panel, name) in zip(axes, places, strict=True):
        ladder(axis, tables[name], panel)
        axis.set_title(f"{name}: {panel[0]}")
    plots.legend(figure, axes[0])
    return plots.noted(figure, settings, next(iter(tables.values())), "its own base")


COSTS = (("unet_calls", "UNet calls per picture"), ("seconds", "seconds per picture"))


def refinement(table: pd.DataFrame, settings: Mapping[str, Any]) -> Figure:
    """Gain against cost: ClipScore and fidelity by UNet calls and by seconds for each arm.

    Best of N, the control of equal compute, is a line with a band: the frontier to be beaten.
    """
    panels = plots.measures(table)
    figure, axes = plots.panels(len(panels), lines=len(COSTS), height=5.2, sharey="col")
    places = [(panel, cost) for cost in COSTS for panel in panels]
    for axis, (panel, cost) in zip(axes, places, strict=True):
        gain(axis, table, panel, cost)
        if cost != COSTS[0]:
            axis.set_title("")
    plots.legend(figure, axes[0])
    return plots.noted(figure, settings, table, "base without refinement")


def gain(
    axis: Axes, table: pd.DataFrame, panel: plots.Measure, cost: tuple[str, str] = COSTS[0]
) -> None:
    """One measure of each arm by what it costs."""
    (title, mean, delta, scale), (column, label) = panel, cost
    for start, rows, style in _arms(table):
        x, y = np.r_[start[column], rows[column]], scale * np.r_[start[mean], rows[mean]]
        if (rows["arm"] == CONTROL).all():
            # What guided refinement has to beat: a band, so that the arms stand out on it.
            ends = (np.r_[0, rows[delta + end] - rows[delta]] for end in ("_low", "_high"))
            low, high = (y + scale * np.nan_to_num(end) for end in ends)
            axis.fill_between(x, low, high, color=style["color"], alpha=0.2, linewidth=0)
            axis.plot(x, y, **style | {"label": f"{style['label']} (control)"})
            continue
        axis.plot(x, y, **style | {"marker": "", "label": ""})
        alone = style | {"linestyle": "", "label": ""}
        plots.bars(axis, rows[column], rows, mean, delta, scale, **alone)
        axis.plot([], [], **style)  # for the legend: marker and line
    plain = table[table["arm"] == "plain"]
    axis.plot(plain[column], scale * plain[mean], color=plots.BLACK, marker="o", linestyle="")
    axis.set_title(title)
    axis.set_xlabel(label)
    axis.set_xlim(left=0)


def _arms(table: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]]:
    """(plain row, rows of the rounds, style) of each model and arm."""
    arms = [arm for arm in dict.fromkeys(table["arm"]) if arm != "plain"]
    models = list(dict.fromkeys(table["model"]))
    for m, model in enumerate(models):
        own = table[table["model"] == model]
        for arm in arms:
            rows = own[own["arm"] == arm].sort_values("round")
            if len(rows):
                label = plots.words(arm) if len(models) == 1 else f"{plots.words(arm)}, {model}"
                look = {"linestyle": ("-", "--", ":", "-.")[m % 4], "label": label}
                yield own[own["arm"] == "plain"], rows, plots.series(arm, arms) | look


def hard_prompts(table: pd.DataFrame, settings: Mapping[str, Any]) -> Figure:
    """Slopes from the seeds that chose the prompts to fresh ones; differences to base beside."""
    table = table[table["selection"] != "regression"]
    figure, axes = plots.panels(2, height=3.1, widths=(1, 1.4))
    if table.empty:
        return plots.empty(figure, axes, "no hard prompts in this study")
    slopes, forest = axes
    places = {"same_seeds": 0, "fresh_seeds": 1}
    models = list(dict.fromkeys(table["model"]))
    variants = plots.variants(models)
    for model in models:
        rows = table[table["model"] == model].set_index("selection")["clipscore"]
        x = [places[name] for name in rows.index]
        slopes.plot(x, rows, **plots.model_style(model, models, variants))
    slopes.set_xticks([0, 1], ["seeds that\nchose them", "fresh\nseeds"])
    slopes.set_xlim(-0.25, 1.25)
    slopes.set_title("ClipScore on hard prompts")
    tuned = [model for model in models if model != "base"]
    for i, (selection, fill) in enumerate((("same_seeds", "white"), ("fresh_seeds", None))):
        rows = table[table["selection"] == selection].set_index("model")
        for y, model in enumerate(tuned):
            if model not in rows.index:
                continue
            style = plots.model_style(model, models, variants) | {"alpha": 1, "linestyle": ""}
            plots.bar(forest, rows.loc[model], "delta", y + 0.3 * i - 0.15, 1, style, fill)
    plots.forest(forest, tuned)
    forest.set_title("Δ ClipScore")
    forest.set_xlabel("open: seeds that chose them; filled: fresh seeds", fontsize=8)
    plots.model_legend(figure, models, variants)
    return plots.noted(figure, settings)


def by_category(table: pd.DataFrame, settings: Mapping[str, Any]) -> Figure:
    """Forest plot of differences to base by category."""
    tuned = table[table["model"] != "base"]
    panels = [panel for panel in plots.measures(table) if not tuned.empty]
    models = list(dict.fromkeys(tuned["model"]))
    groups = list(dict.fromkeys(tuned["category"]))
    height = max(2.2, 0.9 + 0.15 * len(groups) * (len(models) + 1))
    figure, axes = plots.panels(max(1, len(panels)), height=height, sharey=True)
    if not panels:
        return plots.empty(figure, axes, "no categories in this study")
    variants = plots.variants(models)
    for axis, (title, _, delta, scale) in zip(axes, panels, strict=True):
        for g, group in enumerate(groups):
            rows = tuned[tuned["category"] == group].set_index("model")
            for m, model in enumerate(models):
                style = plots.model_style(model, models, variants)
                style |= {"linestyle": "", "markersize": 4}
                y = g + (m - (len(models) - 1) / 2) * 0.8 / len(models)
                plots.bar(axis, rows.loc[model], delta, y, scale, style)
        sizes = tuned.groupby("category", sort=False)["prompts"].first()
        plots.forest(axis, [f"{group}\n{plots.count(sizes[group])}" for group in groups])
        for edge in range(1, len(groups)):
            axis.axhline(edge - 0.5, color="#d0d0d0", linewidth=0.6)
        axis.set_title(f"Δ {title.replace('%', 'points')}")
    plots.model_legend(figure, models, variants)
    return plots.noted(figure, settings)


def guide_judge_fidelity(
    finetuned: pd.DataFrame, refined: pd.DataFrame, settings: Mapping[str, Any]
) -> Figure:
    """What the guide, the judge and the ground truth say of each gain, side by side."""
    import pandas as pd

    last = refined[refined["arm"] != "plain"]
    last = last.sort_values("round").drop_duplicates(["model", "arm"], keep="last").sort_index()
    tuned = finetuned[finetuned["model"] != "base"]
    labels = [*tuned["model"]]
    labels += [f"{row.model}, {plots.words(row.arm)} {row.round}" for row in last.itertuples()]
    kinds = [split_model(model)[0] for model in tuned["model"]] + [*last["arm"]]
    rows = pd.concat([tuned, last], ignore_index=True)
    panels = [("guide, 100·cos", "guide_delta", 1), ("judge (ClipScore)", "delta", 1)]
    if rows["fidelity_delta"].notna().any():
        panels.append(("fidelity, points", "fidelity_delta", 100))
    height = 1.3 + 0.24 * len(rows)
    figure, axes = plots.panels(len(panels), height=height, sharey=True)
    if rows.empty:
        return plots.empty(figure, axes, "one model only")
    for axis, (title, delta, scale) in zip(axes, panels, strict=True):
        for y, kind in enumerate(kinds):
            style = plots.series(kind, kinds) | {"linestyle": ""}
            plots.bar(axis, rows.iloc[y], delta, y, scale, style)
        plots.forest(axis, labels)
        axis.set_title(f"Δ {title}")
    return plots.noted(figure, settings)


def judges(table: pd.DataFrame, settings: Mapping[str, Any]) -> Figure:
    """Differences to base by each judge, on the judge's own scale; the study's own first."""
    names = list(dict.fromkeys(table["judge"]))
    titles = [f"Δ {plots.words(name)}" if name != OWN else "Δ ClipScore" for name in names]
    return _forests(table, [(table["judge"] == name, "delta") for name in names], titles, settings)


def diversity(table: pd.DataFrame, settings: Mapping[str, Any]) -> Figure:
    """How far pictures of a prompt are from each other, against base, and from base's."""
    everything = table["model"] != ""
    shown = [(everything, "delta"), (everything, "drift")]
    titles = ["Δ diversity, 100·(1 − cos)", "drift from base, 100·(1 − cos)"]
    return _forests(table, shown, titles, settings, scale=100)


def _forests(
    table: pd.DataFrame,
    shown: Sequence[tuple[pd.Series, str]],
    titles: Sequence[str],
    settings: Mapping[str, Any],
    scale: float = 1,
) -> Figure:
    """A forest of models for each (which rows, column of the difference)."""
    models = [model for model in dict.fromkeys(table["model"]) if model != "base"]
    columns = min(3, len(shown))
    lines = -(-len(shown) // columns)
    height = lines * (1.0 + 0.24 * len(models))
    figure, axes = plots.panels(columns, height=height, lines=lines, sharey=True)
    if not models:
        return plots.empty(figure, axes, "one model only")
    variants = plots.variants(models)
    for axis, (rows, column), title in zip(axes, shown, titles, strict=False):
        own = table[rows].set_index("model")
        for y, model in enumerate(models):
            style = plots.series(split_model(model)[0], variants) | {"linestyle": ""}
            plots.bar(axis, own.loc[model], column, y, scale, style)
        plots.forest(axis, models)
        axis.set_title(title)
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    return plots.noted(figure, settings, table)


CURVES = (
    ("denoising", "denoising loss"),
    ("clip", "guide loss, 1 − cos"),
    ("guide_cosine", "guide cosine"),
    ("held_out_denoising", "held-out denoising loss"),
    ("held_out_guide_cosine", "held-out guide cosine"),
    ("grad_norm", "gradient norm"),
    ("learning_rate", "learning rate"),
    ("pictures_per_second", "pictures per second"),
)

FEW = 40  # points of a curve that are shown each; more are also averaged to about as many


def training(logs: Mapping[str, pd.DataFrame]) -> Figure:
    """Loss terms, guide cosine, gradient norm, learning rate and speed by step."""
    shown = [
        (column, title)
        for column, title in CURVES
        if any(column in log and log[column].notna().any() for log in logs.values())
    ]
    if not shown:
        return plots.empty(*plots.panels(1, height=2.2), "no training in this study")
    columns = min(3, len(shown))
    lines = -(-len(shown) // columns)
    figure, axes = plots.panels(columns, lines=lines, height=2.1 * lines)
    variants = list(logs)
    for axis, (column, title) in zip(axes, shown, strict=False):
        for variant, log in logs.items():
            if column not in log or not log[column].notna().any():
                continue
            values = log.set_index("step")[column].dropna().astype(float)
            style = plots.series(variant, variants)
            if len(values) > FEW:
                style["marker"] = ""
            window = max(1, len(values) // FEW)
            if window > 1 and column != "learning_rate":
                axis.plot(values, **style | {"alpha": 0.2, "linewidth": 0.6})
                values = values.rolling(window, min_periods=1, center=True).mean()
            axis.plot(values, **style, label=variant)
        axis.set_title(title)
        axis.set_xlabel("training steps")
        axis.yaxis.set_major_formatter("{x:g}")
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    plots.legend(figure, axes[0])
    return figure

"""The figures of a study, drawn from its tables and training logs.

Each is written as SVG and PNG whose bytes depend on nothing but the data and matplotlib's version.
Colours are Okabe and Ito's, which people with any colour vision tell apart; every series has a
marker of its own as well, so that prints in grey can be read.

Unless an axis says otherwise, bars are intervals of the *paired difference* to base, drawn around
the row's own value: a bar that stays clear of base's line is a difference that the interval tells
from none. The intervals of the means themselves, in the tables, are much wider, because prompts
differ much more than models do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlg import files
from vlg.errors import UserError
from vlg.scores import split_model

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLACK, GREY = "#000000", "#777777"
# Okabe & Ito, "Color Universal Design" (2008).
COLOURS = {
    "base": BLACK,
    "plain": BLACK,
    "normal": "#0072B2",
    "embed": "#D55E00",
    "refine": "#009E73",
    "best_of_n": "#E69F00",
}
OTHERS = ("#CC79A7", "#56B4E9", "#F0E442", "#0072B2", "#D55E00")
MARKERS = {"base": "o", "plain": "o", "normal": "s", "embed": "D", "refine": "^", "best_of_n": "v"}
OTHER_MARKERS = ("P", "X", "p", "h", "<")
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.constrained_layout.use": True,
    # Ids inside an SVG are random otherwise.
    "svg.hashsalt": "vlg",
}
WIDTH = 7.0  # inches: a page's text
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
    settings: confidence, which the tables' intervals have.
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
    }
    written = []
    with plt.rc_context({**matplotlib.rcParamsDefault, "backend": "Agg", **STYLE}):
        for name in NAMES:
            figure = drawings[name]()
            written += _save(figure, out / name)
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
    """Training logs by variant, the checkpoints of a chain joined, steps rising."""
    import pandas as pd

    parts: dict[str, list[tuple[int, pd.DataFrame]]] = {}
    for path in paths:
        variant, step = split_model(path.parent.name)
        log = read(path.parent, path.stem)
        if "step" not in log:
            raise UserError(f"{path}: no column step; delete it and rerun")
        parts.setdefault(variant, []).append((step, log))
    result = {}
    for variant, chain in parts.items():
        chain.sort(key=lambda part: part[0])
        joined = pd.concat([log for _, log in chain], ignore_index=True)
        # A chained log may repeat the steps before it.
        result[variant] = joined.drop_duplicates("step", keep="last").sort_values("step")
    return result


# --- figures ------------------------------------------------------------------------------------


def finetune(table: pd.DataFrame, settings: Mapping[str, Any]) -> Figure:
    """ClipScore and fidelity by training steps, base as a line."""
    panels = _measures(table)
    figure, axes = _panels(len(panels), height=2.9)
    base = table[table["variant"] == "base"].iloc[0]
    tuned = table[table["variant"] != "base"]
    variants = list(dict.fromkeys(tuned["variant"]))
    span = float(tuned["step"].max()) if len(tuned) else 1.0
    for axis, (title, mean, delta, scale) in zip(axes, panels, strict=True):
        axis.axhline(scale * base[mean], color=BLACK, linestyle="--", linewidth=1, label="base")
        for i, variant in enumerate(variants):
            rows = tuned[tuned["variant"] == variant].sort_values("step")
            # Moved aside a little, so that bars at the same step do not hide each other.
            x = rows["step"] + span * 0.012 * (i - (len(variants) - 1) / 2)
            style = _series(variant, variants)
            _bars(axis, x, rows, mean, delta, scale, **style, label=variant)
            start = [0, x.iloc[0]], [scale * base[mean], scale * rows[mean].iloc[0]]
            axis.plot(*start, color=style["color"], linewidth=0.8, linestyle=":")
        axis.set_title(title)
        axis.set_xlabel("training steps")
        axis.set_xticks([0, *sorted(set(tuned["step"]))])
        axis.set_xlim(left=0)
    _legend(figure, axes[0])
    return _noted(figure, settings, table)


COSTS = (("unet_calls", "UNet calls per picture"), ("seconds", "seconds per picture"))


def refinement(table: pd.DataFrame, settings: Mapping[str, Any]) -> Figure:
    """Gain against cost: ClipScore and fidelity by UNet calls and by seconds for each arm."""
    panels = _measures(table)
    figure, axes = _panels(len(panels), lines=len(COSTS), height=5.2, sharey="col")
    places = [(panel, cost) for cost in COSTS for panel in panels]
    for axis, ((title, mean, delta, scale), (cost, label)) in zip(axes, places, strict=True):
        for start, rows, style in _arms(table):
            line = np.r_[start[cost], rows[cost]], scale * np.r_[start[mean], rows[mean]]
            axis.plot(*line, **style | {"marker": "", "label": ""})
            _bars(axis, rows[cost], rows, mean, delta, scale, **style | {"linestyle": ""})
        plain = table[table["arm"] == "plain"]
        axis.plot(plain[cost], scale * plain[mean], color=BLACK, marker="o", linestyle="")
        axis.set_title(title if cost == COSTS[0][0] else "")
        axis.set_xlabel(label)
        axis.set_xlim(left=0)
    _legend(figure, axes[0])
    return _noted(figure, settings, table, "base without refinement")


def _arms(table: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]]:
    """(plain row, rows of the rounds, style) of each model and arm."""
    arms = [arm for arm in dict.fromkeys(table["arm"]) if arm != "plain"]
    models = list(dict.fromkeys(table["model"]))
    for m, model in enumerate(models):
        own = table[table["model"] == model]
        for arm in arms:
            rows = own[own["arm"] == arm].sort_values("round")
            if len(rows):
                label = _words(arm) if len(models) == 1 else f"{_words(arm)}, {model}"
                look = {"linestyle": ("-", "--", ":", "-.")[m % 4], "label": label}
                yield own[own["arm"] == "plain"], rows, _series(arm, arms) | look


def hard_prompts(table: pd.DataFrame, settings: Mapping[str, Any]) -> Figure:
    """Slopes from the seeds that chose the prompts to fresh ones; differences to base beside."""
    figure, axes = _panels(2, height=3.1, widths=(1, 1.4))
    if table.empty:
        return _empty(figure, axes, "no hard prompts in this study")
    slopes, forest = axes
    places = {"same_seeds": 0, "fresh_seeds": 1}
    models = list(dict.fromkeys(table["model"]))
    variants = _variants(models)
    for model in models:
        rows = table[table["model"] == model].set_index("selection")["clipscore"]
        x = [places[name] for name in rows.index]
        slopes.plot(x, rows, **_model_style(model, models, variants))
    slopes.set_xticks([0, 1], ["seeds that\nchose them", "fresh\nseeds"])
    slopes.set_xlim(-0.25, 1.25)
    slopes.set_title("ClipScore on hard prompts")
    tuned = [model for model in models if model != "base"]
    for i, (selection, fill) in enumerate((("same_seeds", "white"), ("fresh_seeds", None))):
        rows = table[table["selection"] == selection].set_index("model")
        for y, model in enumerate(tuned):
            if model not in rows.index:
                continue
            style = _model_style(model, models, variants) | {"alpha": 1, "linestyle": ""}
            _bar(forest, rows.loc[model], "delta", y + 0.3 * i - 0.15, 1, style, fill)
    _forest(forest, tuned)
    forest.set_title("Δ ClipScore")
    forest.set_xlabel("open: seeds that chose them; filled: fresh seeds", fontsize=8)
    _model_legend(figure, models, variants)
    return _noted(figure, settings)


def by_category(table: pd.DataFrame, settings: Mapping[str, Any]) -> Figure:
    """Forest plot of differences to base by category."""
    tuned = table[table["model"] != "base"]
    panels = [panel for panel in _measures(table) if not tuned.empty]
    models = list(dict.fromkeys(tuned["model"]))
    groups = list(dict.fromkeys(tuned["category"]))
    height = max(2.2, 0.9 + 0.15 * len(groups) * (len(models) + 1))
    figure, axes = _panels(max(1, len(panels)), height=height, sharey=True)
    if not panels:
        return _empty(figure, axes, "no categories in this study")
    variants = _variants(models)
    for axis, (title, _, delta, scale) in zip(axes, panels, strict=True):
        for g, group in enumerate(groups):
            rows = tuned[tuned["category"] == group].set_index("model")
            for m, model in enumerate(models):
                style = _model_style(model, models, variants)
                style |= {"linestyle": "", "markersize": 4}
                y = g + (m - (len(models) - 1) / 2) * 0.8 / len(models)
                _bar(axis, rows.loc[model], delta, y, scale, style)
        sizes = tuned.groupby("category", sort=False)["prompts"].first()
        _forest(axis, [f"{group}\n{sizes[group]} prompts" for group in groups])
        for edge in range(1, len(groups)):
            axis.axhline(edge - 0.5, color="#d0d0d0", linewidth=0.6)
        axis.set_title(f"Δ {title.replace('%', 'points')}")
    _model_legend(figure, models, variants)
    return _noted(figure, settings)


def guide_judge_fidelity(
    finetuned: pd.DataFrame, refined: pd.DataFrame, settings: Mapping[str, Any]
) -> Figure:
    """What the guide, the judge and the ground truth say of each gain, side by side."""
    import pandas as pd

    last = refined[refined["arm"] != "plain"]
    last = last.sort_values("round").drop_duplicates(["model", "arm"], keep="last").sort_index()
    tuned = finetuned[finetuned["model"] != "base"]
    labels = [*tuned["model"]]
    labels += [f"{row.model}, {_words(row.arm)} {row.round}" for row in last.itertuples()]
    kinds = [split_model(model)[0] for model in tuned["model"]] + [*last["arm"]]
    rows = pd.concat([tuned, last], ignore_index=True)
    panels = [("guide, 100·cos", "guide_delta", 1), ("judge (ClipScore)", "delta", 1)]
    if rows["fidelity_delta"].notna().any():
        panels.append(("fidelity, points", "fidelity_delta", 100))
    height = 1.3 + 0.24 * len(rows)
    figure, axes = _panels(len(panels), height=height, sharey=True)
    if rows.empty:
        return _empty(figure, axes, "one model only")
    for axis, (title, delta, scale) in zip(axes, panels, strict=True):
        for y, kind in enumerate(kinds):
            style = _series(kind, kinds) | {"linestyle": ""}
            _bar(axis, rows.iloc[y], delta, y, scale, style)
        _forest(axis, labels)
        axis.set_title(f"Δ {title}")
    return _noted(figure, settings)


CURVES = (
    ("denoising", "denoising loss"),
    ("clip", "guide loss, 1 − cos"),
    ("guide_cosine", "guide cosine"),
    ("grad_norm", "gradient norm"),
    ("learning_rate", "learning rate"),
    ("pictures_per_second", "pictures per second"),
)


def training(logs: Mapping[str, pd.DataFrame]) -> Figure:
    """Loss terms, guide cosine, gradient norm, learning rate and speed by step."""
    shown = [
        (column, title)
        for column, title in CURVES
        if any(column in log and log[column].notna().any() for log in logs.values())
    ]
    if not shown:
        return _empty(*_panels(1, height=2.2), "no training in this study")
    columns = min(3, len(shown))
    lines = -(-len(shown) // columns)
    figure, axes = _panels(columns, lines=lines, height=2.1 * lines)
    variants = list(logs)
    for axis, (column, title) in zip(axes, shown, strict=False):
        for variant, log in logs.items():
            if column not in log or not log[column].notna().any():
                continue
            style = _series(variant, variants) | {"marker": ""}
            values = log[column].astype(float)
            window = max(1, len(values) // 40)
            if window > 1 and column != "learning_rate":
                axis.plot(log["step"], values, **style | {"alpha": 0.2, "linewidth": 0.6})
                values = values.rolling(window, min_periods=1, center=True).mean()
            axis.plot(log["step"], values, **style, label=variant)
        axis.set_title(title)
        axis.set_xlabel("training steps")
        axis.yaxis.set_major_formatter("{x:g}")
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    _legend(figure, axes[0])
    return figure


# --- parts --------------------------------------------------------------------------------------


def _panels(
    columns: int,
    height: float,
    lines: int = 1,
    sharey: bool | str = False,
    widths: Sequence[float] | None = None,
) -> tuple[Figure, list[Axes]]:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(WIDTH if columns > 1 else WIDTH * 0.62, height),
        sharey=sharey,
        squeeze=False,
        width_ratios=widths,
    )
    return figure, list(axes.ravel())


def _measures(table: pd.DataFrame) -> list[tuple[str, str, str, float]]:
    """(title, column of the mean, column of the difference, factor) of what the table has."""
    result = [("ClipScore", "clipscore", "delta", 1.0)]
    if table["fidelity"].notna().any():
        result.append(("fidelity, %", "fidelity", "fidelity_delta", 100.0))
    return result


def _bars(
    axis: Axes,
    x: Any,
    rows: pd.DataFrame,
    mean: str,
    delta: str,
    scale: float,
    **style: Any,
) -> None:
    """Values of `rows` with the interval of their difference to base around them."""
    ends = [rows[delta] - rows[f"{delta}_low"], rows[f"{delta}_high"] - rows[delta]]
    axis.errorbar(x, scale * rows[mean], yerr=_ends(ends, scale), capsize=2, elinewidth=1, **style)


def _bar(
    axis: Axes,
    row: pd.Series,
    delta: str,
    y: float,
    scale: float,
    style: Mapping[str, Any],
    fill: str | None = None,
) -> None:
    """One difference with its interval, lying."""
    ends = [[row[delta] - row[f"{delta}_low"]], [row[f"{delta}_high"] - row[delta]]]
    style = dict(style) | ({"markerfacecolor": fill} if fill else {})
    axis.errorbar(scale * row[delta], y, xerr=_ends(ends, scale), capsize=2, elinewidth=1, **style)


def _ends(ends: list[Any], scale: float) -> np.ndarray:
    """Lengths of bars; a missing interval has none, and rounding must not make one negative."""
    return np.clip(np.nan_to_num(np.array(ends, dtype=float)) * scale, 0, None)


def _forest(axis: Axes, labels: Sequence[str]) -> None:
    axis.axvline(0, color=BLACK, linewidth=1, linestyle="--")
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.grid(axis="y", visible=False)


def _series(name: str, names: Sequence[str]) -> dict[str, Any]:
    """Colour and marker of a variant or arm; those without one of their own take the next free."""
    others = [n for n in dict.fromkeys(names) if n not in COLOURS]
    if name in COLOURS:
        return {"color": COLOURS[name], "marker": MARKERS[name]}
    place = others.index(name)
    return {
        "color": OTHERS[place % len(OTHERS)],
        "marker": OTHER_MARKERS[place % len(OTHER_MARKERS)],
    }


def _variants(models: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(split_model(model)[0] for model in models))


def _model_style(model: str, models: Sequence[str], variants: Sequence[str]) -> dict[str, Any]:
    """A variant's colour and marker, paler for fewer steps."""
    variant, step = split_model(model)
    steps = sorted(split_model(other)[1] for other in models if split_model(other)[0] == variant)
    share = (steps.index(step) + 1) / len(steps)
    return {**_series(variant, variants), "alpha": 0.35 + 0.65 * share}


def _legend(figure: Figure, axis: Axes) -> None:
    """The legend of `axis` in a line above all panels, where it hides nothing."""
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper left", ncols=len(handles))


def _model_legend(figure: Figure, models: Sequence[str], variants: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    lines = [
        Line2D([], [], **_model_style(model, models, variants) | {"linestyle": ""}, label=model)
        for model in models
    ]
    columns = min(len(lines), 7)
    figure.legend(
        handles=lines, loc="outside upper left", ncols=columns, columnspacing=1, handletextpad=0.2
    )


def _noted(
    figure: Figure,
    settings: Mapping[str, Any],
    table: pd.DataFrame | None = None,
    reference: str = "base",
) -> Figure:
    """A line below that says what the bars are, and of how many pictures where all have as many."""
    note = (
        f"bars: {100 * settings['confidence']:g} % interval of the paired difference to {reference}"
    )
    if table is not None and len(table):
        note += f"; {table['prompts'].iloc[0]} prompts, {table['seeds'].iloc[0]} seeds"
    figure.supxlabel(note, fontsize=7.5, color="#555555")
    return figure


def _empty(figure: Figure, axes: Sequence[Axes], text: str) -> Figure:
    for axis in axes:
        axis.set_axis_off()
    figure.text(0.5, 0.5, text, ha="center", va="center", color=GREY)
    return figure


def _words(arm: str) -> str:
    return arm.replace("_", " ")


def _save(figure: Figure, stem: Path) -> list[Path]:
    paths = [stem.with_suffix(".svg"), stem.with_suffix(".png")]
    # The date and the version of the program would make every file differ.
    facts = [{"Date": None, "Creator": None}, {"Software": None}]
    for path, metadata in zip(paths, facts, strict=True):
        with files.atomic(path) as temporary:
            figure.savefig(temporary, metadata=metadata, dpi=200)
    return paths

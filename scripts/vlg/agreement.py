"""The tables `judges` and `diversity`: do other judges say the same, and do pictures collapse?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlg import markup, statistics
from vlg.comparison import FEWEST, Table
from vlg.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

OWN = "judge"  # the name of the study's own judge among the others


def judges(
    scores: pd.DataFrame, files: Mapping[str, Path], models: Sequence[str], settings: Mapping
) -> Table:
    """A row per judge and model, the study's own judge first.

    scores: as `vlg.scores.read` returns them, without further trainings. files: the folder of each
    judge's CSVs, one per model. settings: draws, confidence and seed of the bootstrap. `kendall` is
    the rank agreement of a judge with the study's own over models, `spearman` that over the
    differences to base of single pictures. Raises UserError for a score of another picture than
    the study's own judge saw.
    """
    import pandas as pd
    from scipy.stats import kendalltau, spearmanr

    study = scores[(scores["set"] == "study") & (scores["arm"] == "")]
    own = _grid(study[study["model"].isin(models)], models, "clipscore")
    seen = study.set_index(["model", "id", "seed"])["sha256"]
    grids = {OWN: own}
    for name, folder in files.items():
        parts = [_read(folder / f"{model}.csv", seen) for model in models]
        grids[name] = _grid(pd.concat(parts), models, "score")
    frames = []
    for name, grid in grids.items():
        frame = _rows(grid, models, settings)
        frame.insert(0, "judge", name)
        frame["rank"] = frame["score"].rank(ascending=False, method="min").astype(int)
        means = [each.mean(axis=(0, 1)) for each in (own, grid)]
        changes = [(each - each[..., :1])[..., 1:].ravel() for each in (own, grid)]
        frame["kendall"] = kendalltau(*means).statistic if len(models) > 1 else np.nan
        constant = any(np.ptp(each) == 0 if len(each) else True for each in changes)
        frame["spearman"] = np.nan if constant else spearmanr(*changes).statistic
        frames.append(frame)
    frame = pd.concat(frames, ignore_index=True)
    frame["p_holm"] = statistics.holm(frame["p"].to_numpy(float))
    caption = (
        f"Judges. {own.shape[0]} study prompts, {own.shape[1]} seeds each; {OWN} is the study's. "
        f"Δ: paired difference to base by the same judge, in brackets "
        f"{100 * settings['confidence']:g} % intervals (paired two-level bootstrap, "
        f"{settings['draws']:,} draws). †: not 0 after Holm's correction over the table. Agreement "
        "with the study's own judge: Kendall's τ over the models' means, Spearman's ρ over the "
        "differences to base of single pictures. Judges have scales of their own; those that are "
        "no cosine are not ClipScores."
    )
    columns = [
        markup.Column("Judge", "judge", words=True),
        markup.MODEL,
        markup.Column("Score", "score", interval=True),
        markup.Column("Δ", "delta", interval=True, signed=True, marked=True),
        markup.Column("Rank", "rank", digits=0),
        markup.Column("τ", "kendall"),
        markup.Column("ρ", "spearman"),
    ]
    return Table("judges", frame, caption, columns, alpha=1 - settings["confidence"])


def diversity(
    path: Path, scores: pd.DataFrame, models: Sequence[str], settings: Mapping[str, Any]
) -> Table:
    """A row per model: how far its pictures of a prompt are from each other and from base's."""
    import pandas as pd

    study = scores[(scores["set"] == "study") & (scores["arm"] == "")]
    rows = _read(path, study.set_index(["model", "id", "seed"])["sha256"])
    frame = pd.DataFrame({"model": list(models)})
    for name in ("spread", "drift"):
        grid = _grid(rows, models, name)
        found = _rows(grid, models, settings)
        frame["prompts"], frame["seeds"] = grid.shape[0], grid.shape[1]
        for end in ("", "_low", "_high"):
            frame[f"{name}{end}"] = found[f"score{end}"]
            if name == "spread":
                frame[f"delta{end}"] = found[f"delta{end}"]
    caption = (
        "Diversity and drift: distances (1 − cos) in the judge's embedding, times 100. Diversity: "
        "between pictures of one prompt on different seeds; Δ is its paired difference to base, "
        "and a model that collapses falls far below 0. Drift: from base's picture of the same "
        f"prompt and seed. In brackets: {100 * settings['confidence']:g} % intervals."
    )
    hundred = {"scale": 100.0, "interval": True}
    columns = [
        markup.Column("Model", "model"),
        markup.Column("Diversity", "spread", **hundred),
        markup.Column("Δ diversity", "delta", signed=True, **hundred),
        markup.Column("Drift", "drift", **hundred),
    ]
    return Table("diversity", frame, caption, columns, measure="")


def read(path: Path) -> pd.DataFrame:
    """One file of a further judge's scores, or of diversity; UserError when it is damaged."""
    import pandas as pd

    try:
        rows = pd.read_csv(path, dtype={"id": str, "sha256": str}, keep_default_na=True)
        rows[["model", "id", "seed", "sha256"]]
    except FileNotFoundError:
        raise UserError(f"{path}: not found; rerun the step that writes it") from None
    except (ValueError, KeyError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it and rerun") from None
    return rows


def _read(path: Path, seen: pd.Series) -> pd.DataFrame:
    """One file of scores, each of the picture that the study's own judge saw."""
    import pandas as pd

    rows = read(path)
    now = seen.reindex(pd.MultiIndex.from_frame(rows[["model", "id", "seed"]])).to_numpy()
    stale = np.flatnonzero(now != rows["sha256"].to_numpy())
    if len(stale):
        row = rows.iloc[int(stale[0])]
        raise UserError(
            f"{path}: line {stale[0] + 2} is of another picture than is there ({row['model']} "
            f"{row['id']} seed {row['seed']}); delete the file and rerun"
        )
    return rows


def _grid(rows: pd.DataFrame, models: Sequence[str], column: str) -> np.ndarray:
    """(prompts, seeds, models); UserError when a picture has no score."""
    table = rows.pivot(index=["id", "seed"], columns="model", values=column)
    table = table.reindex(columns=list(models))
    shape = [len(table.index.unique(level)) for level in ("id", "seed")]
    if len(table) != shape[0] * shape[1] or (
        table.isna().any().any() and not table.isna().all().all()
    ):
        lacking = table.columns[table.isna().any()]
        raise UserError(
            f"scores of {lacking[0] if len(lacking) else 'some models'}: pictures are missing; "
            "rerun the judges"
        )
    return table.to_numpy(float).reshape(*shape, len(models))


def _rows(grid: np.ndarray, models: Sequence[str], settings: Mapping[str, Any]) -> pd.DataFrame:
    """score and delta (to base, the first model) with intervals and p, a row per model."""
    import pandas as pd

    frame = pd.DataFrame({"model": list(models), "prompts": grid.shape[0], "seeds": grid.shape[1]})
    delta = grid - grid[..., :1]
    for name, values in (("score", grid), ("delta", delta)):
        numbers = np.full((4, len(models)), np.nan)
        if np.isfinite(values).all():
            found = statistics.estimate(values, **settings)
            numbers = np.stack([found.mean, found.low, found.high, found.p])
            if grid.shape[0] < FEWEST:
                numbers[1:] = np.nan
        frame[name], frame[f"{name}_low"], frame[f"{name}_high"] = numbers[:3]
        if name == "delta":
            frame["p"] = np.where(np.arange(len(models)) == 0, np.nan, numbers[3])
    return frame

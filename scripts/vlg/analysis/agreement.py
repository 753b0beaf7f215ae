"""The tables `judges` and `diversity`: do other judges say the same, and do pictures collapse?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlg.analysis import markup, statistics
from vlg.analysis.comparison import FEWEST, Table
from vlg.analysis.scores import OWN, read_further
from vlg.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def judges(
    scores: pd.DataFrame,
    files: Mapping[str, Path],
    models: Sequence[str],
    settings: Mapping[str, Any],
    train_seeds: Sequence[int] = (0,),
) -> Table:
    """A row per judge and model, the study's own judge first.

    scores: as `analysis.scores.read` returns them. files: the folder of each judge's CSVs, one per
    training. settings: draws, confidence and seed of the bootstrap. train_seeds: of the trainings,
    over which means are taken, and whose spread is part of the intervals. `kendall` is
    the rank agreement of a judge with the study's own over models, `spearman` that over the
    differences to base of single pictures. Raises UserError for a score of another picture than
    the study's own judge saw.
    """
    import pandas as pd
    from scipy.stats import kendalltau, spearmanr

    study = scores[(scores["set"] == "study") & (scores["arm"] == "")]
    own = _grid(study, models, "clipscore", train_seeds)
    seen = study.set_index(["model", "id", "seed"])["sha256"]
    grids = {OWN: own}
    for name, folder in files.items():
        runs = dict.fromkeys(
            run for seed in train_seeds for run in _runs(models, seed, train_seeds)
        )
        parts = [_read(folder / f"{run}.csv", seen) for run in runs]
        grids[name] = _grid(pd.concat(parts), models, "score", train_seeds)
    frames = []
    for name, grid in grids.items():
        frame = _rows(grid, models, settings)
        frame.insert(0, "judge", name)
        frame["rank"] = frame["score"].rank(ascending=False, method="min").astype(int)
        means = [each.mean(axis=(0, 1, 2)) for each in (own, grid)]
        changes = [(each - each[..., :1])[..., 1:].ravel() for each in (own, grid)]
        frame["kendall"] = kendalltau(*means).statistic if len(models) > 1 else np.nan
        constant = any(np.ptp(each) == 0 if len(each) else True for each in changes)
        frame["spearman"] = np.nan if constant else spearmanr(*changes).statistic
        frames.append(frame)
    frame = pd.concat(frames, ignore_index=True)
    frame["p_holm"] = statistics.holm(frame["p"].to_numpy(float))
    caption = (
        f"Judges. {own.shape[1]} study prompts, {own.shape[2]} seeds each; {OWN} is the study's. "
        f"Δ: paired difference to base by the same judge, in brackets "
        f"{100 * settings['confidence']:g} % intervals (paired two-level bootstrap, "
        f"{settings['draws']:,} draws). †: not 0 after Holm's correction over the table. Agreement "
        "with the study's own judge: Kendall's τ over the models' means, Spearman's ρ over the "
        "differences to base of single pictures. Judges have scales of their own; those that are "
        "no cosine are not ClipScores." + _trained(train_seeds)
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
    path: Path,
    scores: pd.DataFrame,
    models: Sequence[str],
    settings: Mapping[str, Any],
    train_seeds: Sequence[int] = (0,),
) -> Table:
    """A row per model: how far its pictures of a prompt are from each other and from base's.

    path: what diversity.py wrote; the rest as in `judges`. Distances are within a training.
    """
    import pandas as pd

    study = scores[(scores["set"] == "study") & (scores["arm"] == "")]
    rows = _read(path, study.set_index(["model", "id", "seed"])["sha256"])
    frame = pd.DataFrame({"model": list(models)})
    for name in ("spread", "drift"):
        found = _rows(_grid(rows, models, name, train_seeds), models, settings)
        for column in ("prompts", "seeds", "trainings"):
            frame[column] = found[column]
        for end in ("", "_low", "_high"):
            frame[f"{name}{end}"] = found[f"score{end}"]
            if name == "spread":
                frame[f"delta{end}"] = found[f"delta{end}"]
    caption = (
        "Diversity and drift: distances (1 − cos) in the judge's embedding, times 100. Diversity: "
        "between pictures of one prompt on different seeds; Δ is its paired difference to base, "
        "and a model that collapses falls far below 0. Drift: from base's picture of the same "
        f"prompt and seed. In brackets: {100 * settings['confidence']:g} % intervals."
        + _trained(train_seeds)
    )
    hundred = {"scale": 100.0, "interval": True}
    columns = [
        markup.Column("Model", "model"),
        markup.Column("Diversity", "spread", **hundred),
        markup.Column("Δ diversity", "delta", signed=True, **hundred),
        markup.Column("Drift", "drift", **hundred),
    ]
    return Table("diversity", frame, caption, columns, measure="")


def _read(path: Path, seen: pd.Series) -> pd.DataFrame:
    """One file of scores, each of the picture that the study's own judge saw."""
    import pandas as pd

    rows = read_further(path)
    now = seen.reindex(pd.MultiIndex.from_frame(rows[["model", "id", "seed"]])).to_numpy()
    stale = np.flatnonzero(now != rows["sha256"].to_numpy())
    if len(stale):
        row = rows.iloc[int(stale[0])]
        raise UserError(
            f"{path}: line {stale[0] + 2} is of another picture than is there ({row['model']} "
            f"{row['id']} seed {row['seed']}); delete the file and rerun"
        )
    return rows


def _runs(models: Sequence[str], seed: int, train_seeds: Sequence[int]) -> list[str]:
    """The models as a training seed made them; base, which is not trained, is always the same."""
    end = "" if seed == train_seeds[0] else f"-s{seed}"
    return [model if model == "base" else f"{model}{end}" for model in models]


def _trained(train_seeds: Sequence[int]) -> str:
    """What a caption says of several trainings."""
    if len(train_seeds) == 1:
        return ""
    return (
        f" Means over {len(train_seeds)} trainings of each variant; their spread is part of the "
        "intervals."
    )


def _grid(
    rows: pd.DataFrame, models: Sequence[str], column: str, train_seeds: Sequence[int]
) -> np.ndarray:
    """(trainings, prompts, seeds, models); UserError when a picture has no score."""
    table = rows.pivot(index=["id", "seed"], columns="model", values=column)
    shape = [len(table.index.unique(level)) for level in ("id", "seed")]
    grids = []
    for seed in train_seeds:
        own = table.reindex(columns=_runs(models, seed, train_seeds))
        empty = own.isna()
        if len(own) != shape[0] * shape[1] or (empty.any().any() and not empty.all().all()):
            lacking = own.columns[empty.any()]
            raise UserError(
                f"scores of {lacking[0] if len(lacking) else 'some models'}: pictures are missing; "
                "rerun the judges"
            )
        grids.append(own.to_numpy(float).reshape(*shape, len(models)))
    return np.stack(grids)


def _rows(grid: np.ndarray, models: Sequence[str], settings: Mapping[str, Any]) -> pd.DataFrame:
    """score and delta (to base, the first model) with intervals and p, a row per model."""
    import pandas as pd

    trainings, prompts, seeds, _ = grid.shape
    frame = pd.DataFrame({"model": list(models), "prompts": prompts, "seeds": seeds})
    frame["trainings"] = [0 if model == "base" else trainings for model in models]
    delta = grid - grid[..., :1]
    for name, values in (("score", grid), ("delta", delta)):
        numbers = np.full((4, len(models)), np.nan)
        if np.isfinite(values).all():
            found = statistics.estimate(values, **settings)
            numbers = np.stack([found.mean, found.low, found.high, found.p])
            if prompts < FEWEST:
                numbers[1:] = np.nan
        frame[name], frame[f"{name}_low"], frame[f"{name}_high"] = numbers[:3]
        if name == "delta":
            frame["p"] = np.where(np.arange(len(models)) == 0, np.nan, numbers[3])
    return frame

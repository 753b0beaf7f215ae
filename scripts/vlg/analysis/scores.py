"""Score files: read, checked and joined with their prompts, for everything downstream.

A score file has one row a picture (`vlg.judge.columns`); this module turns any number of them, and
what further judges say of the same pictures, into one pandas frame and hands out grids of
prompts x seeds from it. No torch is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vlg.data import prompts
from vlg.errors import UserError
from vlg.judge.columns import COLUMNS, HASHES, NUMBERS, WHOLE

if TYPE_CHECKING:
    import pandas as pd

PICTURE = ["model", "set", "arm", "round", "id", "seed"]
SEEN = ["model", "arm", "round", "id", "seed"]  # of the study
# The same plain picture may be scored in more than one set; the first of these is taken.
SETS = ("study", "rest", "hard", "development", "reference")

# The arm that the study is about, and the one it is compared with at equal compute.
REFINEMENT, CONTROL = "refine", "best_of_n"
REFERENCE = "reference"  # their set, and the column of tables that says ceiling, floor or nothing
BOUNDS = ("ceiling", "floor")
OWN, GUIDE = "judge", "guide"  # the study's own, in the table of several
ALL = "all"  # models, where a row is about all of them together

# A row of pictures in a table: model, arm ("" for plain pictures), round (0 for plain pictures).
Key = tuple[str, str, int]


def read_prompts(path: Path) -> pd.DataFrame:
    """A prompt table (prompts.tsv, hard_prompts.tsv), all columns as text, in file order."""
    import pandas as pd

    rows = prompts.read_table(path)
    table = pd.DataFrame(rows, columns=None if rows else [*prompts.COLUMNS], dtype=str)
    if table["id"].duplicated().any():
        twice = table["id"][table["id"].duplicated()].iloc[0]
        raise UserError(f"{path}: id {twice} occurs twice; delete it and rerun")
    return table


def read(paths: Iterable[Path], table: pd.DataFrame) -> pd.DataFrame:
    """All score files in one frame, with the columns of `COLUMNS` and of the prompt table `table`.

    Rows that describe the same picture twice become one when their sha256 agree; when they do
    not, one of them is stale and UserError says so, as it does for missing columns, text where
    a number belongs, an empty score or an id that is no prompt's.
    """
    import pandas as pd

    frames = [_read_one(path) for path in paths]
    if not frames:
        raise UserError("--scores: no score file given; name at least one")
    scores = pd.concat(frames, ignore_index=True)
    scores = scores.drop_duplicates([*PICTURE, "sha256"])
    clash = scores.duplicated(PICTURE, keep=False)
    if clash.any():
        row = scores[clash].iloc[0]
        raise UserError(
            f"{row['file']}: two different pictures scored as {row['model']} {row['id']} seed "
            f"{row['seed']}, so one score is stale; delete that file and rerun"
        )
    unknown = ~scores["id"].isin(table["id"])
    if unknown.any():
        row = scores[unknown].iloc[0]
        raise UserError(f"{row['file']}: id {row['id']} is no prompt's; delete the file and rerun")
    known = table.rename(columns={"set": "prompt_set"})
    return scores.merge(known, on="id", validate="many_to_one")


def with_further(
    scores: pd.DataFrame, paths: Iterable[Path], columns: Mapping[str, str]
) -> pd.DataFrame:
    """`scores` with further measures of study pictures, from files of their own.

    columns: {name of a measure: column of the files}. Plain pictures must be there, and those of
    a round of an arm all or none. A measure may be empty throughout, where nothing can be
    measured. UserError for a number of another picture than was scored, and when some pictures
    have none.
    """
    import pandas as pd

    study = scores[scores["set"] == "study"]
    seen = pd.Series(study["sha256"].to_numpy(), pd.MultiIndex.from_frame(study[SEEN]))
    rows = pd.concat([_read_further(path, seen) for path in paths]).set_index(SEEN)
    rounds = {key for key, _ in rows.groupby(SEEN[:3])}
    asked = [arm == "" or (m, arm, n) in rounds for m, arm, n in study[SEEN[:3]].to_numpy()]
    study = study[np.array(asked, dtype=bool)]
    places = pd.MultiIndex.from_frame(study[SEEN])
    result = scores.copy()
    for name, column in columns.items():
        found = rows[column].reindex(places).to_numpy(float)
        empty = np.isnan(found)
        if empty.any() and not empty.all():
            raise UserError(
                f"{column} of {study['model'].to_numpy()[empty][0]}: pictures are missing; rerun "
                "the judges"
            )
        result.loc[study.index, name] = found
    return result


class Grids:
    """Scores as arrays of prompts x seeds for each (model, arm, round)."""

    def __init__(self, scores: pd.DataFrame) -> None:
        """`scores`: as `read` and `with_further` return them."""
        numbers = scores.select_dtypes("number").columns
        # What says whether there is a picture comes first.
        self.columns = list(dict.fromkeys([*NUMBERS, *(n for n in numbers if n not in WHOLE)]))
        self.plain = self._plain(scores)
        self.refined = scores[(scores["arm"] != "") & (scores["round"] > 0)]
        self._prompt = {name: i for i, name in enumerate(scores["id"].unique())}
        self._seed = {int(seed): i for i, seed in enumerate(sorted(scores["seed"].unique()))}
        # (prompts, seeds, numbers) for each key; the first number, the score, is NaN where
        # there is no picture.
        self._grids = {
            key: self._grid(rows)
            for source in (self.plain, self.refined)
            for key, rows in source.groupby(["model", "arm", "round"])
        }

    @staticmethod
    def _plain(scores: pd.DataFrame) -> pd.DataFrame:
        rows = scores[(scores["arm"] == "") & (scores["round"] == 0)]
        unknown = ~rows["set"].isin(SETS)
        if unknown.any():
            row = rows[unknown].iloc[0]
            raise UserError(f"{row['file']}: set {row['set']!r} is none of {', '.join(SETS)}")
        order = rows["set"].map({name: i for i, name in enumerate(SETS)})
        rows = rows.assign(order=order).sort_values("order", kind="stable")
        return rows.drop_duplicates(["model", "id", "seed"]).drop(columns="order")

    def _grid(self, rows: pd.DataFrame) -> np.ndarray:
        result = np.full((len(self._prompt), len(self._seed), len(self.columns)), np.nan)
        places = rows["id"].map(self._prompt).to_numpy(), rows["seed"].map(self._seed).to_numpy()
        result[places] = rows[self.columns].to_numpy(float)
        return result

    def __contains__(self, key: Key) -> bool:
        return key in self._grids

    def values(
        self, key: Key, ids: Sequence[str], seeds: Sequence[int], columns: Sequence[str]
    ) -> np.ndarray:
        """Columns of numbers as an array (prompts, seeds, columns); NaN where they are empty.

        UserError when one of the pictures has no score.
        """
        grid = self._grids.get(key)
        missing = [
            (prompt, seed)
            for prompt in ids
            for seed in seeds
            if grid is None
            or prompt not in self._prompt
            or seed not in self._seed
            or np.isnan(grid[self._prompt[prompt], self._seed[seed], 0])
        ]
        if missing:
            raise UserError(
                f"scores of {name(key)}: {len(missing)} of {len(ids) * len(seeds)} pictures are "
                f"missing, the first is {missing[0][0]} seed {missing[0][1]}; rerun the score step"
            )
        places = np.ix_(
            [self._prompt[prompt] for prompt in ids],
            [self._seed[seed] for seed in seeds],
            [self.columns.index(column) for column in columns],
        )
        return grid[places]

    def rounds(self, models: Sequence[str]) -> list[Key]:
        """All refined rows: models in the given order, then arms (refinement
        first, its control last), then rounds."""
        order = {model: i for i, model in enumerate(models)}
        keys = [k for k in self._grids if k[1] and k[0] in order]
        return sorted(
            keys, key=lambda k: (order[k[0]], k[1] != REFINEMENT, k[1] == CONTROL, k[1], k[2])
        )

    def references(self) -> list[Key]:
        """Pictures that scores are held against, in the order of their scores."""
        names = self.plain["model"][self.plain["set"] == REFERENCE]
        return [(name, "", 0) for name in names.unique()]

    def seeds(self, model: str, set_name: str) -> list[int]:
        """The seeds of a model's plain pictures of one set, rising."""
        rows = self.plain[(self.plain["model"] == model) & (self.plain["set"] == set_name)]
        return sorted(int(seed) for seed in rows["seed"].unique())


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table that are no references."""
    return table[~table[REFERENCE].isin(BOUNDS)] if REFERENCE in table else table


def name(key: Key) -> str:
    """`base`, or `base best_of_n round 3`."""
    model, arm, number = key
    return f"{model} {arm} round {number}" if arm else model


def _read_one(path: Path) -> pd.DataFrame:
    import pandas as pd

    table = _read(path, dtype=str)
    _need(table, COLUMNS, path)
    table = table[[*COLUMNS]].copy()
    for column in (*WHOLE, *NUMBERS):
        try:
            table[column] = pd.to_numeric(table[column].replace("", np.nan))
        except ValueError as error:
            raise UserError(f"{path}: column {column}: {error}; delete it and rerun") from None
    for column in ("clipscore", "guide", *WHOLE):
        if not np.isfinite(table[column]).all():
            line = int(np.flatnonzero(~np.isfinite(table[column]))[0]) + 2
            raise UserError(f"{path}: line {line} has no {column}; delete the file and rerun")
    for column in ("model", "id", *HASHES):
        if (table[column] == "").any():
            line = int(np.flatnonzero(table[column] == "")[0]) + 2
            raise UserError(f"{path}: line {line} has no {column}; delete the file and rerun")
    table[[*WHOLE]] = table[[*WHOLE]].astype(int)
    return table.assign(file=str(path))


def _read(path: Path, **options: object) -> pd.DataFrame:
    import pandas as pd

    try:
        # Only empty fields are empty: a prompt may well read "NA" or "None".
        return pd.read_csv(path, keep_default_na=False, encoding="utf-8", **options)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; rerun the step that writes it") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it and rerun") from None


def read_further(path: Path) -> pd.DataFrame:
    """One file of a further judge's scores, or of diversity; numbers may be empty. Where it says
    nothing of arms its pictures are plain.

    UserError when it is missing or damaged.
    """
    import pandas as pd

    table = _read(path, dtype=str)
    _need(table, ("model", "id", "seed", "sha256"), path)
    for name, plain in (("arm", ""), ("round", "0")):
        if name not in table:
            table[name] = plain
    for column in {"seed", "round", "score", "spread", "drift"} & set(table):
        try:
            table[column] = pd.to_numeric(table[column].replace("", np.nan))
        except ValueError as error:
            raise UserError(f"{path}: column {column}: {error}; delete it and rerun") from None
    return table


def _read_further(path: Path, seen: pd.Series) -> pd.DataFrame:
    """One further file, each row of the picture that the study's own judge saw (`seen`: checksums
    by SEEN)."""
    import pandas as pd

    rows = read_further(path)
    # Rounds of arms that are not asked for are in the file, too.
    asked = {key for key, _ in seen.groupby(level=SEEN[:3])}
    known = [arm == "" or (model, arm, n) in asked for model, arm, n in rows[SEEN[:3]].to_numpy()]
    rows = rows[np.array(known, dtype=bool)]
    now = seen.reindex(pd.MultiIndex.from_frame(rows[SEEN])).to_numpy()
    stale = np.flatnonzero(now != rows["sha256"].to_numpy())
    if len(stale):
        row = rows.iloc[int(stale[0])]
        raise UserError(
            f"{path}: line {row.name + 2} is of another picture than is there ({row['model']} "
            f"{row['id']} seed {row['seed']}); delete the file and rerun"
        )
    return rows


def _need(table: pd.DataFrame, columns: Sequence[str], path: Path) -> None:
    missing = [column for column in columns if column not in table]
    if missing:
        raise UserError(f"{path}: no column {', '.join(missing)}; delete it and rerun")

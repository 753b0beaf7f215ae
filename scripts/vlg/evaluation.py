"""Pictures evaluated from Python, in a notebook for instance: scores as a frame, and its tables.

    import vlg
    results = vlg.evaluate(pictures={"mine": "out/mine", "theirs": "out/theirs"}, judges=["clip"])
    vlg.tables(results)["compare"]

It is the code of the workflow's steps `pictures`, `score`, `judge` and `table`; no
Snakemake is needed, and no study.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg import plugins
from vlg.config import sections
from vlg.data import hub, prompts, sets
from vlg.errors import UserError
from vlg.judge.columns import FACTS, NUMBERS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from vlg.judge.kind import Judge

SHAPES = "shapes"  # the judge that is shipped
TEXTS = ("model", "id", "prompt", "Category", "Challenge", "split", "seed", "picture")
TRUE = ("fidelity", "strict", *FACTS)
# What no judge can be called; `judge` and `guide` are rows of the tables.
TAKEN = frozenset({*TEXTS, *TRUE, "blank", "judge", "guide", "Prompt"})
Pictures = str | Path | Mapping[str, str | Path | Mapping[str, Any]]


def evaluate(
    pictures: Pictures,
    judges: Sequence[Any] | Mapping[str, Any] = (SHAPES,),
    prompts: str | Path | Sequence[str] | None = None,
    *,
    truth: bool = False,
    device: str = "auto",
    batch_size: int = 64,
    threads: int = 1,
) -> pd.DataFrame:
    """Scores of sets of finished pictures, a row a picture.

    pictures: the folder of a set, or {name: folder} of several, the first being what `tables` holds
    the others against. In place of a folder there may be the keys of an entry of the config's
    `pictures`, such as {"source": "out", "pattern": "{id}_{seed}.png"}.
    judges: the first is that of `clipscore` in the tables. Each is an entry of the config's
    `judges` ({"kind": "clip", "source": "path/to/clip"}), the path of a CLIP's folder, `shapes`
    (shipped, for the shapes world), or a function of a list of (height, width, 3) uint8 arrays and
    as many prompts that returns as many numbers. {name: judge} names them; otherwise a name is
    the kind's or the function's.
    prompts: a prompt file as the config takes it, or the prompts themselves, whose places ids tell;
    None takes those that the sets say.
    truth: also read from each picture which facts of its prompt it shows (`fidelity`, `strict` and
    each kind of fact), of prompts of the shapes world.
    device: auto, cpu or cuda. threads: by which pictures are read ahead.

    Columns: model (the set), id, prompt, seed, picture (its path), Category, Challenge and split of
    the prompt, a column for each judge, `blank` (1: of one colour). UserError, in one line, for
    whatever is wrong with a set, a prompt file or a judge.
    """
    import pandas as pd
    import torch

    from vlg.judge.scoring import scored
    from vlg.models.device import set_up

    given = _sets(pictures)
    found = {name: sets.entries(Path(own.source), own.pattern) for name, own in given.items()}
    rows = _prompts(prompts, [each for entries in found.values() for each in entries])
    ready = _judges(judges, set_up(device, torch.get_num_threads()))
    lines = []
    for name, own in given.items():
        try:
            known = sets.matched(found[name], rows, own.column, own.others)
        except UserError as error:
            raise UserError(f"pictures.{name}: {error}") from None
        wanted = [(each.path.parent, _row(name, each)) for each in known]
        told = scored(wanted, ready, truth, batch_size, threads, load=_load)
        lines += [{**row, **said} for _, row, said in told]
    columns = [*TEXTS, *ready, "blank", *(TRUE if truth else ())]
    return pd.DataFrame(lines).reindex(columns=columns)


def tables(
    results: pd.DataFrame | str | Path, reference: str | None = None, **statistics: Any
) -> dict[str, pd.DataFrame]:
    """The tables of `evaluate`'s frame, by name, or those of a finished study.

    results: the frame, of which rows may have been left out, or the folder `results/<study>`.
    reference: the set that the others are held against; by default the first. statistics: keys of
    the config's section of that name, such as draws=2000.

    `compare` is a leaderboard with every pair of sets; further ones are by category, by what judges
    say and so on, as far as there is something to tell. What a table's columns mean stands in
    `frame.attrs["caption"]`. Their CSV files hold the same columns.
    """
    if isinstance(results, str | Path):
        return _finished(Path(results))
    study = _study(results, reference, statistics)
    found = {}
    for name in sorted(plugins.names(plugins.TABLES), key=_order):
        if _is_made(study, name):
            made = plugins.load(plugins.TABLES, name).build(study)
            made.frame.attrs["caption"] = made.caption
            if len(made.frame):
                found[name] = made.frame
    return found


# --- what is evaluated ----------------------------------------------------------------------------


def _sets(pictures: Pictures) -> dict[str, sections.PictureSet]:
    if isinstance(pictures, str | Path):
        pictures = {Path(pictures).resolve().name: pictures}
    if not pictures:
        raise UserError("pictures: no set; name at least one")
    result = {}
    for name, own in pictures.items():
        keys = own if isinstance(own, Mapping) else {"source": own}
        keys = {
            key: str(value) if isinstance(value, Path) else value for key, value in keys.items()
        }
        result[name] = sections.PictureSet.parse(keys, f"pictures.{name}")
    return result


def _prompts(
    given: str | Path | Sequence[str] | None, entries: Sequence[sets.Entry]
) -> list[dict[str, str]]:
    """The rows of all prompts, as the study's table has them."""
    if isinstance(given, str | Path):
        rows = prompts.read(given)
    elif given is not None:
        rows = prompts.checked("prompts", ((n, {"Prompt": text}) for n, text in enumerate(given)))
    else:
        texts = dict.fromkeys(each.prompt.strip() for each in entries if each.prompt is not None)
        if not texts:
            raise UserError("prompts: the pictures say ids alone; give the prompts, or their file")
        rows = prompts.checked("prompts", ((n, {"Prompt": text}) for n, text in enumerate(texts)))
    return [row | {"set": "study"} for row in rows]


def _row(name: str, each: sets.Given) -> dict[str, Any]:
    texts = {column: each.prompt[column] for column in ("id", "Category", "Challenge", "split")}
    said = {"model": name, "prompt": each.prompt["Prompt"], "seed": each.seed}
    return {**said, **texts, "picture": str(each.path), "file_name": each.path.name}


def _load(folder: Path, row: Mapping[str, Any]) -> np.ndarray:
    return sets.read(folder / row["file_name"])


def _judges(given: Sequence[Any] | Mapping[str, Any], device: str) -> dict[str, Judge | _Function]:
    named = given.items() if isinstance(given, Mapping) else [(None, each) for each in given]
    result: dict[str, Any] = {}
    for name, judge in named:
        usual, ready = _judge(judge, device)
        name = name or usual
        if name in result or name in TAKEN:
            raise UserError(f"judges: {name} is taken; name the judges, as {{'mine': ...}}")
        result[name] = ready
    if not result:
        raise UserError("judges: none; name at least one")
    return result


def _judge(given: Any, device: str) -> tuple[str, Judge | _Function]:
    """(what a judge is called if nothing else is said, the judge)."""
    from vlg.judge import kind

    if callable(given):
        name = getattr(given, "__name__", type(given).__name__)
        return name, _Function(name, given)
    entry = dict(given) if isinstance(given, Mapping) else {"source": str(given)}
    entry = {"kind": kind.OWN, **entry}
    if entry.get("source") == SHAPES and entry["kind"] == kind.OWN:
        return SHAPES, _shipped(entry, device)
    if hub.parse(str(entry.get("source", ""))):
        raise UserError(f"judges: {entry['source']}: not fetched here; give its folder")
    kind.find(entry["kind"]).check(kind.settings(entry))
    return entry["kind"], kind.load(entry, device)


def _shipped(entry: Mapping[str, Any], device: str) -> Judge:
    from vlg.judge import kind
    from vlg.models import folders

    shipped = Path(__file__).parents[2] / "resources" / "shapes"
    with tempfile.TemporaryDirectory() as folder:
        folders.unpack(shipped, "judge", Path(folder))
        return kind.load({**entry, "source": folder}, device)


class _Function:
    """A judge that is a function."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name, self.function = name, function

    def prepare(self, images: list[np.ndarray]) -> list[np.ndarray]:
        return images

    def __call__(self, images: list[np.ndarray], texts: list[str]) -> list[float]:
        found = [float(number) for number in self.function(images, texts)]
        if len(found) != len(images) or not all(map(math.isfinite, found)):
            raise UserError(
                f"judges: {self.name} must return a finite number for each of {len(images)} "
                f"pictures, returned {found[:3]} ({len(found)}); mend it"
            )
        return found


# --- its tables -----------------------------------------------------------------------------------


def _study(results: pd.DataFrame, reference: str | None, statistics: Mapping[str, Any]) -> Any:
    """A study whose rows are the sets of a frame."""
    import numpy as np
    import pandas as pd

    from vlg.analysis import study as studies
    from vlg.analysis.scores import OWN

    if missing := [name for name in ("model", "id", "prompt", "seed") if name not in results]:
        raise UserError(f"results: no column {missing[0]}; give a frame that `evaluate` returned")
    if results.empty:
        raise UserError("results: no row; evaluate some pictures first")
    judges = [name for name in results if name not in (*TEXTS, *TRUE, "blank")]
    if not judges:
        raise UserError("results: no column of a judge; give a frame that `evaluate` returned")
    for name in judges:
        if name in TAKEN or not pd.api.types.is_numeric_dtype(results[name]):
            what = "is what the tables call another" if name in TAKEN else "is no column of numbers"
            raise UserError(f"results: {name} {what}; rename or drop the column")
    several = results.groupby("id")["prompt"].nunique()
    if (several > 1).any():
        raise UserError(
            f"results: id {several.idxmax()} stands for two prompts; evaluate the sets together"
        )
    names = list(dict.fromkeys(results["model"]))
    if reference is not None and reference not in names:
        raise UserError(f"reference: no set {reference!r}; there are {', '.join(names)}")
    names.sort(key=lambda name: name != reference)
    table = results.drop_duplicates("id").rename(columns={"prompt": "Prompt"})
    columns = [name for name in ("Prompt", "Category", "Challenge", "split") if name in table]
    table = table[["id", *columns]].assign(set="study").reset_index(drop=True)
    further = {name: f"judges.{name}" for name in judges[1:]}
    scores = results.drop(columns=["prompt", *(set(columns) & {*results})])
    scores = scores.rename(columns={judges[0]: "clipscore", **further})
    scores = scores.assign(arm="", round=0, set="study", file="results")
    scores = scores.reindex(columns=[*scores, *(n for n in NUMBERS if n not in scores)])
    numbers = [*NUMBERS, *further.values()]
    scores[numbers] = scores[numbers].astype(float)
    if np.isnan(scores[["clipscore", *further.values()]].to_numpy()).any():
        raise UserError("results: a score is missing; drop the rows without one")
    # Seeds of different programs say nothing to each other.
    scores["seed"] = scores.groupby(["model", "id"]).cumcount()
    scores = scores.merge(table.rename(columns={"set": "prompt_set"}), on="id")
    settings = {"models": names, "sets": names, **statistics}
    return studies.Study(
        prompts=pd.DataFrame(table).fillna(""),
        scores=scores,
        judges={OWN: "clipscore", **further},
        settings=studies.Settings.parse(settings, "statistics"),
    )


def _order(table: str) -> float:
    return plugins.constant(plugins.TABLES, table, "ORDER", 99)


def _is_made(study: Any, table: str) -> bool:
    """Whether a table is about pictures alone."""
    needs = {*plugins.constant(plugins.TABLES, table, "NEEDS", ())}
    when = plugins.constant(plugins.TABLES, table, "WHEN")
    column = {"by_category": "Category", "by_challenge": "Challenge", "by_split": "split"}.get(
        table
    )
    said = column is None or (column in study.prompts and study.prompts[column].any())
    return needs <= {"scores", "refined", "judges"} and when in (None, "pictures") and said


def _finished(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables of results/<study>."""
    from vlg.report import figure

    names = [path.stem for path in sorted((folder / "tables").glob("*.csv"))]
    if not names:
        raise UserError(f"{folder}/tables: no tables; give results/<study>, or make them first")
    return {name: figure.read(folder / "tables", name) for name in names}

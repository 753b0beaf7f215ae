"""What a table is: its rows, how they are shown, what its caption says, and the files it becomes.

A table is one file of `analysis/tables/`, found by its name. At its top it may say, as literals:

- NEEDS: what it is made of, of NEEDED; the job of a table waits for nothing else.
- ORDER: where it stands in a report; those without a number come last, in alphabetical order.
- WHEN: one of NEEDED without which the study has no such table.

`build(study)` then gives a Table; definitions of the figures are those of `vlg.analysis.comparison`
and `vlg.analysis.statistics`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vlg import files
from vlg.analysis import markup, statistics
from vlg.analysis.comparison import FEWEST, JUDGED, delta
from vlg.analysis.scores import compared
from vlg.analysis.study import Study

if TYPE_CHECKING:
    import pandas as pd

# Scores of plain pictures, of refined ones and of references, the hard prompts, summaries of
# training, scores by further judges, distances between pictures, scores of development pictures;
# ladders of doses and controls, which the settings name; what people say; and, as a condition only,
# whether there are a base and sets of pictures.
NEEDED = ("scores", "refined", "references", "hard", "training", "judges", "diversity", "samples")
NEEDED += ("ladders", "controls", "ratings", "base", "pictures")
FORMS = {"csv": "CSV", "md": "Markdown", "tex": "LaTeX"}


@dataclass
class Table:
    """One table: its rows, what its caption says and which rows are compared with each other.

    columns: what is shown of the frame, in this order, but for columns that are empty throughout;
    the CSV has the whole frame.
    """

    frame: pd.DataFrame
    caption: str
    columns: Sequence[markup.Column]
    group: str = ""  # column whose values share a reference row; "" if the whole table does
    measure: str = "clipscore"  # what p_corrected is about and the best row is best in
    alpha: float = 0.05
    # Data for the chart of the table's page, which report/templates/<table>.js draws.
    chart: Mapping[str, object] | None = None

    @property
    def shown(self) -> list[markup.Column]:
        """The columns that say something."""
        frame = self.frame
        return [c for c in self.columns if frame.empty or frame[c.name].notna().any()]

    @property
    def marks(self) -> list[tuple[bool, bool]]:
        """(bold, dagger) of each row: a dagger where the corrected p is small, bold for the best of
        a group if it has one and is better than the reference."""
        frame = self.frame
        if self.measure not in frame:
            return [(False, False)] * len(frame)
        dagger = (frame["p_corrected"] < self.alpha).to_numpy()
        groups = frame[self.group] if self.group else np.zeros(len(frame))
        rivals = frame.index.isin(compared(frame).index)
        if "control" in frame:
            rivals &= frame["control"].isin([""]).to_numpy()
        measured = frame[self.measure].where(rivals)
        best = measured.groupby(np.asarray(groups), sort=False).transform("max")
        better = (measured == best) & (frame[delta(self.measure)] > 0)
        return list(zip((better.to_numpy() & dagger).tolist(), dagger.tolist(), strict=True))

    def texts(self, name: str) -> dict[str, str]:
        """The table as CSV (all columns, full precision), Markdown and LaTeX (to be pasted)."""
        columns, marks = self.shown, self.marks
        rows = markup.cells(self.frame, columns)
        groups = list(self.frame[self.group]) if self.group else []
        return {
            "csv": self.frame.to_csv(index=False, lineterminator="\n", float_format=_number),
            "md": markup.markdown(columns, rows, marks, self.caption),
            "tex": markup.latex(columns, rows, marks, self.caption, name, groups),
        }


def of(
    study: Study,
    frame: pd.DataFrame,
    caption: str,
    columns: Sequence[markup.Column],
    group: str = "",
    measure: str = "clipscore",
) -> Table:
    """A table whose marks are those of the study's confidence.

    Rows of an oracle or of a shuffled guide are marked as such, in the column `control`, which the
    frame has where model and arm do not stand in columns of their own.
    """
    if study.settings.controls and "model" in frame:
        frame, columns, words = _controls(study, frame, columns)
        caption += words
    return Table(frame, caption, columns, group, measure, 1 - study.settings.confidence)


def _controls(
    study: Study, frame: pd.DataFrame, columns: Sequence[markup.Column]
) -> tuple[pd.DataFrame, list[markup.Column], str]:
    """The frame and what is shown of it with the column `control`, and what the caption says."""
    frame = frame.copy()
    if "control" not in frame:
        arms = frame["arm"] if "arm" in frame else [""] * len(frame)
        kinds = [study.control(model, arm) for model, arm in zip(frame["model"], arms, strict=True)]
        last = max(frame.columns.get_loc(name) for name in ("model", "arm") if name in frame)
        frame.insert(last + 1, "control", kinds)
    words = ""
    if frame["control"].any():
        words = (
            " Control: a row whose guide is the verifier itself (oracle) or is shown other texts "
            "(shuffled), there for comparison alone."
        )
    names = [column.name for column in columns]
    at = 1 + max((names.index(name) for name in ("model", "arm") if name in names), default=0)
    shown = markup.Column("Control", "control")
    return frame, [*columns[:at], *([shown] if words else []), *columns[at:]], words


def write(name: str, texts: dict[str, str], folder: Path) -> None:
    """Write the forms of a table into `folder`, each with its checksum beside it."""
    for form, text in texts.items():
        files.write_text(folder / f"{name}.{form}", text)
        files.write_checksum(folder / f"{name}.{form}")


def scores(*own: markup.Column) -> list[markup.Column]:
    """The columns of scores, then a table's own, then published figures."""
    return [*markup.SCORES, *own, markup.PUBLISHED]


def blank(frame: pd.DataFrame) -> tuple[list[markup.Column], str]:
    """(the column that counts blank pictures, if there are any; what the caption says of them)."""
    if not frame["blank"].any():
        return [], " No picture is blank (of one colour throughout)."
    return [markup.BLANK], (
        " Blank: how many of a row's pictures have one colour throughout, as failed ones do; their "
        "scores count as all others."
    )


def published(study: Study, name: str, models: Sequence[str]) -> list[float | None]:
    """The published figure of each model, where there is one."""
    figures = study.settings.published.get(name, {})
    return [figures.get(model) for model in models]


def _number(value: float) -> str:
    """Six decimals are far below any interval and far above what the order of a sum changes."""
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


# --- captions -----------------------------------------------------------------------------------


def sample(ids: Sequence[str], seeds: Sequence[int]) -> str:
    """`160 prompts, 2 seeds each.`"""
    return f"{count(len(ids), 'prompt')}, {count(len(seeds), 'seed')} each."


def count(number: int, word: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def percent(study: Study) -> str:
    """The confidence of intervals: `95 %`."""
    return f"{100 * study.settings.confidence:g} %"


def method(study: Study) -> str:
    """How p values are corrected."""
    return "Holm" if study.settings.correction == "holm" else "step-down max-T"


def by_prompt(names: Sequence[str]) -> str:
    """What a caption says of sets of pictures."""
    return (
        f"Pictures of {', '.join(names)} share no noise with those of other rows: they are "
        "compared prompt by prompt, not picture by picture, on the prompts that both sides have."
    )


def retrained(study: Study) -> str:
    """What a caption says of how many trainings stand behind its rows."""
    number = study.trainings
    if number == 1:
        return (
            "Each variant was trained once: intervals speak of these checkpoints, and another "
            "training of the same method may differ by more."
        )
    if number < statistics.ENOUGH:
        return (
            f"Means over {number} trainings of each variant, too few to know their spread: they "
            "have no interval for the method, and those given speak of these checkpoints."
        )
    return (
        f"Means over {number} trainings of each variant; their spread is part of the intervals, "
        "which speak of the method."
    )


def families(frame: pd.DataFrame) -> str:
    """The families of a table with how many comparisons each has, in words."""
    names = [f"{name}_corrected" for name in JUDGED if f"{name}_corrected" in frame]
    numbers = frame[names].notna().sum(axis=1).groupby(frame["family"], sort=False).sum()
    return "; ".join(f"{family}, {count(n, 'comparison')}" for family, n in numbers.items() if n)


def explained(study: Study, frame: pd.DataFrame, reference: str, measure: str = "clipscore") -> str:
    """How the figures of a table were computed, in the words of its caption."""
    what, scale = ("fidelity", 100) if measure == "fidelity" else ("ClipScore", 1)
    guided = (
        ", guide the same by the CLIP that guided; gap is what the guide sees of a gain and the "
        "judge does not"
    )
    words = [
        f"ClipScore is 100·cos by the judge{guided if frame['guide'].notna().any() else ''}.",
        f"In brackets: {percent(study)} intervals (paired two-level bootstrap over prompts and "
        f"seeds, {study.settings.draws:,} draws). Δ: paired difference to {reference}.",
    ]
    if apart := [name for name in study.apart if name in set(frame["model"])]:
        words.append(by_prompt(apart))
    if (frame["trainings"] > 0).any():
        words.append(retrained(study))
    if measure == "fidelity":
        words = words[1:]
    elif frame["fidelity"].notna().any():
        words.append(
            "Fidelity: share of the prompt's facts that the picture shows; strict: share of "
            "pictures that show all of them."
        )
    if frame["p_corrected"].notna().any():
        words.append(
            f"p: after correction by {method(study)} within a family, ClipScore and fidelity "
            f"together ({families(frame)}). †: the difference in {what} is then not 0; bold: the "
            "best row, if it is above the reference and has a †."
        )
        if (frame["gain_seen_by"] != "").any():
            words.append(
                "A gain is seen by the judge (ClipScore) or the facts (fidelity) if its own p is "
                f"below {1 - study.settings.confidence:.2g}; where that holds before correction "
                "only, it says so."
            )
        low, high = scale * frame["mde"].min(), scale * frame["mde"].max()
        words.append(
            "A repetition of the study would show, with 80 % power and before correction, true "
            f"differences from {low:.2f} up in the best determined row and from {high:.2f} up in "
            f"the worst.{worth_adding(frame)}"
        )
    if frame[f"{delta(measure)}_low"].isna().any():
        words.append(f"Where fewer than {FEWEST} prompts differ there is no interval.")
    return " ".join(words)


def worth_adding(frame: pd.DataFrame) -> str:
    """What most of the errors of a table come of, as a sentence; "" where nothing is known."""
    known = frame["worth_adding"][frame["worth_adding"] != ""]
    if not len(known):
        return ""
    source = known.mode().iloc[0]
    share = 100 * frame[f"share_{source}"].mean()
    return (
        f" The largest part of the error's variance is due to the choice of {source} "
        f"({share:.0f} %), so {source} are worth adding."
    )

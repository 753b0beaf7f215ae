"""What a figure is, and how one is drawn from a study's tables or training logs.

A figure is one file of `report/figures/`, found by its name. At its top stands NEEDS, a literal:
the tables it draws, or `logs` for the logs of training; a study that lacks one of these tables has
no such figure, and no other table's change draws it anew. `draw(settings, **needed)` gets each of
them by its name, a table as a frame, the logs as `read_logs` returns them; settings: confidence,
which the tables' intervals have.

Unless an axis says otherwise, bars and bands are intervals of the *paired difference* to base,
drawn around the row's own value: one that stays clear of base's line is a difference that the
interval tells from none. The intervals of the means themselves, in the tables, are much wider,
because prompts differ much more than models do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg import plugins
from vlg.config.layout import parse_model
from vlg.errors import UserError
from vlg.report import plots

if TYPE_CHECKING:
    import pandas as pd

LOGS = "logs"


def draw(
    name: str, tables: Path, logs: Sequence[Path], out: Path, settings: Mapping[str, Any]
) -> list[Path]:
    """Draw a figure into `out` and return its files, with their checksums beside them.

    tables: folder of the tables' CSV files. logs: training/<model>/log.csv of each checkpoint.
    """
    module = plugins.load(plugins.FIGURES, name)
    needed = {
        need: read_logs(logs) if need == LOGS else read(tables, need) for need in module.NEEDS
    }
    with styled():
        return plots.save(module.draw(settings, **needed), out / name)


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """matplotlib as figures want it, whatever its user's settings are."""
    import matplotlib

    # Drawing to files needs no display, and must not look for one.
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context({**matplotlib.rcParamsDefault, "backend": "Agg", **plots.STYLE}):
        yield
        plt.close("all")


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
        variant, step, _ = parse_model(path.parent.name)
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

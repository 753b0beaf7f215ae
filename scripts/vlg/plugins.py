"""What is found by its name: each method, family, arm, judge, table, benchmark and so on is a file.

The file `train/methods/embed.py` is the method `embed`. Nothing lists the names: a file that is
there is known, so an addition is one file. Files are loaded one by one and only when asked for, by
`importlib`, which a step's code hash does not follow: a step depends on what it uses and not on
what else there is. The rule names the chosen file for the hash (`vlg.workflow.codehash`).
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import functools
import importlib
import os
from abc import ABCMeta
from pathlib import Path
from types import ModuleType
from typing import Any

from vlg.errors import UserError

METHODS = "train.methods"
FAMILIES = "models.families"
ARMS = "sample.arms"
REFERENCES = "sample.references"
KINDS = "judge.kinds"
TABLES = "analysis.tables"
FIGURES = "report.figures"
BENCHMARKS = "data.benchmarks"

PACKAGE = Path(__file__).parent


def names(room: str) -> list[str]:
    """The names that a room (METHODS, FAMILIES, ...) knows, in alphabetical order."""
    files = os.listdir(folder(room))  # Path.glob takes long, and a plan asks often
    return sorted(
        file.removesuffix(".py") for file in files if file.endswith(".py") and file[0] != "_"
    )


def folder(room: str) -> Path:
    """The folder of a room."""
    return PACKAGE.joinpath(*room.split("."))


def file(room: str, name: str) -> Path:
    """The file of `name`; UserError when there is none."""
    known = names(room)
    if name not in known:
        if why := refused(room, name):
            raise UserError(f"no {room.rpartition('.')[2].rstrip('s')} {name!r}: {'; '.join(why)}")
        near = difflib.get_close_matches(name, known, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise UserError(f"no {room.rpartition('.')[2].rstrip('s')} {name!r}; {remedy}")
    return folder(room) / f"{name}.py"


def refused(room: str, name: str) -> tuple[str, str] | None:
    """(why a room does not have what is asked for, what to use instead), where it says so."""
    path = folder(room) / "__init__.py"
    if not path.is_file():
        return None
    return _literals(path, path.stat().st_mtime_ns).get("REFUSED", {}).get(name.lower())


def constant(room: str, name: str, constant: str, default: Any = None) -> Any:
    """A literal that the file of `name` assigns at its top, read without importing anything."""
    path = file(room, name)
    return _literals(path, path.stat().st_mtime_ns).get(constant, default)


@functools.lru_cache(maxsize=256)
def _literals(path: Path, changed: int) -> dict[str, Any]:
    """{name: literal} of what a file, last changed at `changed`, assigns at its top."""
    found = {}
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.Assign):
            with contextlib.suppress(ValueError):  # no literal
                value = ast.literal_eval(node.value)
                found |= {each.id: value for each in node.targets if isinstance(each, ast.Name)}
    return found


def load(room: str, name: str) -> ModuleType:
    """The module of `name`; UserError when there is none."""
    file(room, name)
    return importlib.import_module(f"{__package__}.{room}.{name}")


def own(room: str, name: str) -> type[Any]:
    """The class that makes the file of `name` what its room is of, whatever it calls it: its one
    subclass of an abstract class, as all residents of a room are. UserError for none or several."""
    module = load(room, name)
    found = [
        each
        for each in vars(module).values()
        if type(each) is ABCMeta and each.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise UserError(
            f"{file(room, name)}: holds {len(found)} classes of its kind; it must hold one"
        )
    return found[0]

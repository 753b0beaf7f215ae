"""A function of one's own: pictures and prompts in, as many numbers out."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vlg.errors import UserError

if TYPE_CHECKING:
    import numpy as np


def file_of(source: str, root: Path = Path()) -> Path:
    """The file of `module.function`, the module found from the folder in which Snakemake runs."""
    module, _, function = source.rpartition(".")
    return root / Path(*module.split(".")).with_suffix(".py") if module and function else root


def check(source: str, root: Path = Path()) -> None:
    """UserError when there is no such file."""
    file = file_of(source, root)
    if not file.is_file():
        raise UserError(
            f"{source!r} is no function of a file {file}; write module.function, the module in "
            "the folder in which Snakemake runs"
        )


class Function:
    """`source` is `module.function`. where: the key that names it, for messages.

    The function takes a list of (height, width, 3) uint8 arrays and as many prompts.
    """

    def __init__(self, source: str, where: str, root: Path = Path()) -> None:
        check(source, root)
        self.source, self.where = source, where
        module, _, name = source.rpartition(".")
        sys.path.insert(0, str(root.resolve()))
        try:
            self.function = getattr(importlib.import_module(module), name)
        except AttributeError:
            raise UserError(
                f"config: {where}: {source}: the module has no {name}; mend the name"
            ) from None
        except ImportError as error:
            raise UserError(
                f"config: {where}: {source}: cannot be imported ({error}); install what it needs"
            ) from error

    def __call__(self, images: list[np.ndarray], prompts: list[str]) -> list[float]:
        found = [float(number) for number in self.function(images, prompts)]
        if len(found) != len(images) or not all(map(math.isfinite, found)):
            raise UserError(
                f"config: {self.where}: {self.source}: must return a finite number for each of "
                f"{len(images)} pictures, returned {found[:3]} ({len(found)}); mend it"
            )
        return found

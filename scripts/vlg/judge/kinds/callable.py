"""A function of one's own: pictures and prompts in, as many numbers out.

HPSv2, ImageReward, PickScore or VQAScore become judges so, in a module of a few lines.
"""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vlg.config import sections
from vlg.errors import UserError
from vlg.judge.kind import Judge

if TYPE_CHECKING:
    import numpy as np


class Settings(sections.JudgeKeys):
    """Of its own it has none."""


class Callable(Judge):
    """`source` is `module.function`, the module found from the folder in which Snakemake runs.

    The function takes a list of (height, width, 3) uint8 arrays and as many prompts.
    """

    def load(self) -> None:
        self.check(self.settings, self.root)
        source = self.settings.source
        module, _, name = source.rpartition(".")
        sys.path.insert(0, str(self.root.resolve()))
        try:
            self.function = getattr(importlib.import_module(module), name)
        except AttributeError:
            raise UserError(
                f"config: judges: {source}: the module has no {name}; mend the name"
            ) from None
        except ImportError as error:
            raise UserError(
                f"config: judges: {source}: cannot be imported ({error}); install what it needs"
            ) from error

    def __call__(self, images: list[np.ndarray], prompts: list[str]) -> list[float]:
        found = [float(number) for number in self.function(images, prompts)]
        if len(found) != len(images) or not all(map(math.isfinite, found)):
            raise UserError(
                f"config: judges: {self.settings.source}: must return a finite number for each of "
                f"{len(images)} pictures, returned {found[:3]} ({len(found)}); mend it"
            )
        return found

    @classmethod
    def check(cls, settings: Settings, root: Path = Path()) -> None:
        (file,) = cls.files(settings, root)
        if not file.is_file():
            raise UserError(
                f"{settings.source!r} is no function of a file {file}; write module.function, the "
                "module in the folder in which Snakemake runs"
            )

    @classmethod
    def files(cls, settings: Settings, root: Path = Path()) -> list[Path]:
        module, _, function = settings.source.rpartition(".")
        return [root / Path(*module.split(".")).with_suffix(".py") if module and function else root]

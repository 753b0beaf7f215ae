"""A function of one's own: pictures and prompts in, as many numbers out.

What has no kind of its own becomes a judge so, in a module of a few lines.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vlg.config import sections
from vlg.judge.kind import Judge
from vlg.models import function

if TYPE_CHECKING:
    import numpy as np


class Settings(sections.JudgeKeys):
    """Of its own it has none."""


class Callable(Judge):
    """`source` is `module.function`, the module found from the folder in which Snakemake runs.

    The function takes a list of (height, width, 3) uint8 arrays and as many prompts.
    """

    def load(self) -> None:
        self.function = function.Function(self.settings.source, "judges", self.root)

    def __call__(self, images: list[np.ndarray], prompts: list[str]) -> list[float]:
        return self.function(images, prompts)

    @classmethod
    def check(cls, settings: Settings, root: Path = Path()) -> None:
        function.check(settings.source, root)

    @classmethod
    def files(cls, settings: Settings, root: Path = Path()) -> list[Path]:
        return [function.file_of(settings.source, root)]

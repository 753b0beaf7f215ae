"""What the kinds of judges share that ask a vision-language model."""

from __future__ import annotations

from pathlib import Path

from vlg.config import sections
from vlg.judge.kind import Judge, parts
from vlg.models import vlm

SHAPES = "shapes"  # the source that means the shipped model
SHIPPED = Path(__file__).parents[3] / "resources" / "shapes-vqa"


class Reading(Judge):
    """A judge with a `reader`."""

    shapes = "vqa"

    def load(self) -> None:
        own = self.settings
        self.reader = vlm.Reader(folder(own, self.root), self.device, self.precision)

    @classmethod
    def check(cls, settings: sections.JudgeKeys, root: Path = Path()) -> None:
        if settings.source != SHAPES:
            super().check(settings, root)
            vlm.check(root / settings.source, settings.source)

    @classmethod
    def files(cls, settings: sections.JudgeKeys, root: Path = Path()) -> list[Path]:
        return [*parts(folder(settings, root)), *cls.beside(settings, root)]


def folder(settings: sections.JudgeKeys, root: Path = Path()) -> Path:
    """Where the model of a judge is."""
    return SHIPPED if settings.source == SHAPES else root / settings.source

"""What the kinds of judges share that ask a vision-language model."""

from __future__ import annotations

from pathlib import Path

from vlg.config import sections
from vlg.judge.kind import Judge
from vlg.models import vlm


class Reading(Judge):
    """A judge with a `reader`."""

    shapes = "vqa"

    def load(self) -> None:
        folder = self.folder(self.settings, self.root)
        self.reader = vlm.Reader(folder, self.device, self.precision)

    @classmethod
    def check(cls, settings: sections.JudgeKeys, root: Path = Path()) -> None:
        super().check(settings, root)
        vlm.check(cls.folder(settings, root), settings.source)

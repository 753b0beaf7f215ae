"""What the kinds of judges share that ask a vision-language model."""

from __future__ import annotations

from pathlib import Path

from vlg.config import sections
from vlg.judge.kind import Judge
from vlg.models import vlm


class Reading(Judge):
    """A judge with a `reader`; its settings have `precision`."""

    shapes = "vqa"

    def load(self) -> None:
        own = self.settings
        self.reader = vlm.Reader(self.folder(own, self.root), self.device, own.precision)

    @classmethod
    def check(cls, settings: sections.JudgeKeys, root: Path = Path()) -> None:
        super().check(settings, root)
        vlm.check(cls.folder(settings, root), settings.source)

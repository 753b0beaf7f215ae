"""100 cos by an open_clip folder."""

from __future__ import annotations

from vlg.config import sections


class Settings(sections.JudgeKeys):
    """Of its own it has none."""

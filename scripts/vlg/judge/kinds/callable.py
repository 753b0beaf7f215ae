"""A function of the user's own: pictures and prompts in, numbers out."""

from __future__ import annotations

from vlg.config import sections


class Settings(sections.JudgeKeys):
    """Of its own it has none."""

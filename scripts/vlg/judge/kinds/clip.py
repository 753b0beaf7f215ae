"""100 cos by a Hugging Face CLIP or SigLIP folder."""

from __future__ import annotations

from vlg.config import sections


class Settings(sections.JudgeKeys):
    """Of its own it has none."""

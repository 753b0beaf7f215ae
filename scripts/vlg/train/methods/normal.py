"""Normal fine-tuning: the denoising loss alone."""

from __future__ import annotations

from vlg.config import sections


class Settings(sections.Training):
    """Of its own it has none."""

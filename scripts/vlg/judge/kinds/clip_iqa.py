"""Quality by a Hugging Face CLIP folder, whatever the prompt."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vlg.config import sections

Text = Annotated[str, Field(min_length=1)]


class Settings(sections.JudgeKeys):
    """What is asked of a picture."""

    pair: tuple[Text, Text] = Field(
        ("Good photo.", "Bad photo."),
        description=(
            "What is asked of a picture, and its contrary; the score is the share of the first. "
            "For example `[Sharp photo., Blurry photo.]`."
        ),
    )

"""The decoder through which a guide's gradient goes."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from vlg.config import sections
from vlg.config.keys import INPUT, disagree


class Decoded(sections.Training):
    """Of a method whose guide looks at decoded latents."""

    decoder: str | None = Field(
        None,
        min_length=1,
        json_schema_extra=INPUT,
        description=(
            "A folder of an `AutoencoderTiny` (TAESD) through which the guide's gradient goes "
            "instead of the base's own decoder, which is 40 times larger in Stable Diffusion; "
            "null takes the base's own."
        ),
    )

    def check(self, root: Path) -> None:
        super().check(root)
        if not self.decoder:
            return
        index = root / self.decoder / "config.json"
        text = index.read_text("utf-8", "replace") if index.is_file() else ""
        if '"AutoencoderTiny"' not in text:
            raise disagree(
                "decoder", f"{self.decoder!r} is no AutoencoderTiny", "give a folder of one"
            )
        if not list(index.parent.glob("*.safetensors")):
            raise disagree(
                "decoder", f"{self.decoder!r} has no *.safetensors", "save its weights so"
            )

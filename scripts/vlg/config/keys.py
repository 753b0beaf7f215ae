"""What every group of settings is built from: typed, documented keys with ranges and defaults.

A group is a class of `Keys`; a key is an annotated attribute whose `Field` states its meaning, its
range and its default, here and nowhere else:

    class Embed(Training):
        guide_scale: float = Field(0.05, ge=0, description="Weight of the guide's term.")

From these classes come the check of the config, docs/configuration.md, the JSON schema for
editors, and what a step's script reads from `--settings`. Nothing heavy is imported: the Snakefile
reads them at each start.
"""

from __future__ import annotations

from typing import Any

import pydantic
from pydantic import ConfigDict


class Keys(pydantic.BaseModel):
    """A group of settings: frozen, and without any key but its own.

    A key whose `Field` has `json_schema_extra=NEUTRAL` leaves a step's result as it is while it is
    at its default. It is then not handed to the step, so a new key of this kind reruns nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False)

    @classmethod
    def neutral(cls) -> set[str]:
        """The keys that are not handed on while they are at their defaults."""
        return {
            name
            for name, field in cls.model_fields.items()
            if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("neutral")
        }

    def handed_on(self) -> dict[str, Any]:
        """The values that a step's result depends on, ready for JSON."""
        values = self.model_dump(mode="json")
        fields = type(self).model_fields
        return {
            name: value
            for name, value in values.items()
            if name not in self.neutral() or getattr(self, name) != fields[name].get_default()
        }


NEUTRAL = {"neutral": True}

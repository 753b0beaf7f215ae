"""What every group of settings is built from: typed, documented keys with ranges and defaults.

A group is a class of `Keys`; a key is an annotated attribute whose `Field` states its meaning, its
range and its default, here and nowhere else:

    class Settings(Training):
        guide_scale: float = Field(0.05, ge=0, description="Weight of the guide's term.")

From these classes come the check of the config, docs/configuration.md, the JSON schema for
editors, and what a step's script reads from `--settings`. Nothing heavy is imported: the Snakefile
reads them at each start.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pydantic
from pydantic import ConfigDict
from pydantic_core import PydanticCustomError

from vlg.config.read import read
from vlg.errors import UserError

NEUTRAL = {"neutral": True}
INPUT = {"input": True}


class Keys(pydantic.BaseModel):
    """A group of settings: frozen, and without any key but its own.

    What a `Field` may say beyond pydantic's own, as `json_schema_extra=NEUTRAL | short("rank")`:

    - NEUTRAL: the key leaves a step's result as it is while it is at its default. It is then not
      handed to the step, so a new key of this kind reruns nothing.
    - INPUT: the key is the path of a folder, which becomes an input of the step's rule and is not
      handed on as a setting.
    - short(text): what stands for the key in the names of a sweep's members (`vlg.config.plan`).

    The order of the keys is theirs in a sweep's names, too: a new one goes behind the others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str) -> Self:
        """The settings that `values` say, with the defaults of all others.

        Numbers and booleans may be written as text. UserError, one line that names the key below
        `where` (`finetune.step`), for what is unknown, missing or impossible.
        """
        try:
            return read(cls, values, (where,))
        except UserError as error:
            raise UserError(str(error).removeprefix("config: ")) from None

    @classmethod
    def neutral(cls) -> set[str]:
        """The keys that are not handed on while they are at their defaults."""
        return {name for name in cls.model_fields if said_of(cls, name).get("neutral")}

    @classmethod
    def inputs(cls) -> set[str]:
        """The keys that are inputs of the step's rule."""
        return {name for name in cls.model_fields if said_of(cls, name).get("input")}

    def handed_on(self) -> dict[str, Any]:
        """The values that a step's result depends on, ready for JSON."""
        values = self.model_dump(mode="json", exclude=self.inputs())
        fields = type(self).model_fields
        return {
            name: value
            for name, value in values.items()
            if name not in self.neutral() or getattr(self, name) != fields[name].get_default()
        }

    def check(self, root: Path) -> None:
        """Raise what `disagree` makes where a path says what is not there.

        root: the folder in which Snakemake runs, from which relative paths start.
        """


def short(text: str) -> dict[str, Any]:
    """What stands for a key in the names of a sweep's members."""
    return {"short": text}


def said_of(keys: type[Keys], name: str) -> dict[str, Any]:
    """What a key's `Field` says beyond pydantic's own."""
    said = keys.model_fields[name].json_schema_extra
    return said if isinstance(said, dict) else {}


def disagree(key: str, what: str, remedy: str) -> PydanticCustomError:
    """What a group raises when values do not fit together, in a `model_validator(mode="after")`, or
    when files are not there, in `check`.

    key: the one that the message names, and behind it what is wrong and what to do.
    """
    return PydanticCustomError("disagree", "{what}", {"key": key, "what": what, "remedy": remedy})

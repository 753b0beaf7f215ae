"""Kinds of values that several sections have."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from vlg.config.patterns import ENTRY, MODEL, ROUND
from vlg.data.text import composed
from vlg.data.wordless import is_blank


def _once(values: list[Any]) -> list[Any]:
    seen = [composed(value) if isinstance(value, str) else value for value in values]
    if any(value in seen[:place] for place, value in enumerate(seen)):
        raise PydanticCustomError("twice", "has an entry twice")
    return values


def _as_text(value: Any) -> Any:
    """A whole number as the text it is written as: a command line cannot say which is meant."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _seen(value: str) -> str:
    if value and is_blank(value):
        raise PydanticCustomError("blank", "shows nothing")
    return value


Once = AfterValidator(_once)
TextOrWhole = Annotated[str, BeforeValidator(_as_text)]
Name = Annotated[str, Field(pattern=ENTRY, max_length=40)]
Whole = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
SeedList = Annotated[list[Seed], Field(min_length=1), Once]
Seen = Annotated[str, Field(min_length=1), AfterValidator(_seen)]
Words = Annotated[list[Seen], Field(min_length=1), Once]
ModelName = Annotated[str, Field(pattern=MODEL)]
RoundNumber = Annotated[str, Field(pattern=ROUND)]
Resolution = Annotated[int, Field(ge=8, multiple_of=8)] | None
Precision = Literal["fp32", "tf32", "bf16", "fp16"]

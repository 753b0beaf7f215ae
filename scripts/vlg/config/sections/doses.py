"""Ladders: one method or arm at several doses."""

from __future__ import annotations

from pydantic import Field

from vlg.config.keys import Keys


class Doses(Keys):
    """What a variant or an arm may say beside its keys."""

    doses: list[float] | dict[str, list[float]] | None = Field(
        None,
        description=(
            "Makes a ladder of it, an entry for each value of one key: `{guide_scale: [0.05, 0.5]}`"
            " gives `<name>_gs0_05` and `<name>_gs0_5`. A list alone is of the key that counts as "
            "the dose of the method or kind. Rounds of an arm go on from each other: their ladder "
            "is one arm, with the plain name. The table and the figure `dose` are about it."
        ),
    )

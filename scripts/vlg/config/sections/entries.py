"""What an entry may say beside the keys of its method or kind, of which no step is told."""

from __future__ import annotations

from pydantic import Field

from vlg.config.keys import Keys


class Doses(Keys):
    """Of a variant and of an arm."""

    doses: list[float] | dict[str, list[float]] | None = Field(
        None,
        description=(
            "Makes a ladder of it, an entry for each value of one key: `{guide_scale: [0.05, 0.5]}`"
            " gives `<name>_gs0_05` and `<name>_gs0_5`. A list alone is of the key that counts as "
            "the dose of the method or kind. Rounds of an arm go on from each other: their ladder "
            "is one arm, with the plain name. The table and the figure `dose` are about it."
        ),
    )


class Beside(Doses):
    """Of a variant."""

    guide: str | None = Field(
        None,
        min_length=1,
        description=(
            "Whom it follows, an entry of `guides`; null: `models.guide`. A method that ranks own "
            "samples may follow the verifier, too."
        ),
    )

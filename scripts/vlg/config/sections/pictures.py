"""Pictures that were drawn elsewhere."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vlg.config.keys import Keys


class PictureSet(Keys):
    """One set of finished pictures, an entry of `pictures`: a row of the tables."""

    source: str = Field(
        min_length=1,
        description=(
            "The folder of the pictures, of any size and format. Which prompt and seed each is of, "
            "`pattern` says or a `metadata.jsonl` or `metadata.csv` at its top or in folders below "
            "it: `file_name`, `prompt` (or `text`) or `id` (or `prompt_id`), and `seed`; without a "
            "seed the pictures of a prompt are counted from 0."
        ),
    )
    pattern: str | None = Field(
        None,
        min_length=1,
        description=(
            "How file names below the folder say it: `{id}_{seed}.png`, with `{id}` or `{prompt}`, "
            "`{seed}` where there is one, and `*` for any text within a name."
        ),
    )
    column: str = Field(
        "id",
        min_length=1,
        description=(
            "The column of the prompts that an id is looked up in. In `id` a number n is the "
            "prompt at place n of the source, counted from 0."
        ),
    )
    others: Literal["refuse", "skip"] = Field(
        "refuse",
        description="What becomes of pictures of prompts that are none of the study's.",
    )

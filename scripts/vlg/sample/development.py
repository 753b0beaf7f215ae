"""Development prompts: what settings may be chosen on, because none of them is reported.

Each checkpoint draws them in its training job, so pictures can be watched as training goes on, and
sweeps are ranked by them. They are the config's own list or, without one, new prompts of the shapes
world; in any other world captions of held-out pictures, which no training sees either.

The pictures of a checkpoint are an image folder as all others (`vlg.data.pictures`):

    training/<variant>-<step>/samples/<seed>-<id>.png
    training/<variant>-<step>/samples/metadata.jsonl

with a row a picture: file_name, id (`d0000`), prompt, seed, set (`development`), model, key, sha256
and so on. All checkpoints draw the same prompts in the same order from the same noise, so pictures
with one file name make a strip.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from vlg.config.sections import Sampling, SeedList
from vlg.data import prompts
from vlg.data.text import composed
from vlg.errors import UserError

SET = "development"


def choose(
    reported: Sequence[prompts.Row], settings: dict[str, Any], data: Path | None
) -> list[prompts.Row]:
    """Rows of the development prompts, none of which is among the prompts `reported`.

    settings: `count`; `prompts`, a list or None; `seed`, of the prompts of the shapes world that
    are reported. data: the image folder whose held-out captions serve, or None for the shapes
    world's prompts. There may be fewer than `count` held-out captions.
    """
    taken = {composed(row["Prompt"]) for row in reported}
    count = settings["count"]
    if settings["prompts"]:
        rows = [{"Prompt": text} for text in settings["prompts"]]
        for row in rows:
            if composed(row["Prompt"]) in taken:
                raise UserError(
                    f"config: development.prompts: {row['Prompt']!r} is a prompt of the study; "
                    "choose another"
                )
    elif data is None:
        from vlg.shapes import captions

        # Of meanings that no reported prompt of the shapes world has; one's own may be alike.
        rows, wanted = [], count
        while len(rows) < count:
            made = captions.prompts(wanted, settings["seed"], development=True)
            rows = [row for row in made if composed(row["Prompt"]) not in taken]
            wanted += count - len(rows)
    else:
        from vlg.data.captioned import read_listing

        listing = read_listing(data)
        first = [listing.captions[rows[0]] for rows in listing.rows[-listing.held_out :]]
        rows = [{"Prompt": " ".join(text.split())} for text in dict.fromkeys(first)]
    rows = [row for row in rows if composed(row["Prompt"]) not in taken][:count]
    return [
        dict.fromkeys(prompts.COLUMNS, "") | row | {"id": f"d{number:04d}", "set": SET}
        for number, row in enumerate(rows)
    ]


class Drawing(Sampling):
    """How development prompts are drawn."""

    seeds: SeedList = Field([0], description="`development.seeds`.")


def draw(
    rows: Sequence[prompts.Row],
    settings: Drawing,
    batch_size: int,
    device: str,
    model: Path,
    out: Path,
) -> None:
    """Draw the development prompts by the model folder `model` into the folder `out`.

    The pictures are those that the generate step would draw.
    """
    from vlg.sample import drawing
    from vlg.sample.listing import Picture
    from vlg.sample.sampler import Sampler

    sampling = Sampling(**settings.model_dump(exclude={"seeds"}))
    wanted = [
        Picture(row["id"], row["Prompt"], seed, SET) for seed in settings.seeds for row in rows
    ]
    drawing.plain(
        wanted,
        lambda: Sampler(model, sampling, device),
        out,
        drawing.made_by(model, model.name, sampling),
        batch_size,
    )

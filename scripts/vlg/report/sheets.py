"""Contact sheets: what one model, or one round of refinement, makes of the same few prompts.

All sheets of a study show the same prompts, in the same places, from the same noise.
"""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from vlg import files
from vlg.analysis.scores import Grids, Key, name
from vlg.config.keys import Keys
from vlg.config.layout import BASE
from vlg.data import pixels
from vlg.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

COLUMNS, LINES = 8, 3  # a screen is wider than high
PICTURE, GAP, WORDS = 144, 14, 3  # pixels of a picture and between two; lines of a prompt
SMALL, LARGE, LINE = 12, 17, 15  # font sizes and the height of a line, in pixels
HEAD = LARGE + 2 * GAP  # pixels above the first row
HEIGHT = PICTURE + GAP + (WORDS + 1) * LINE  # and from one row to the next
INK, SOFT, PAPER, RIGHT = "#1d1c1a", "#66625b", "#ffffff", "#0a7a4f"


class Settings(Keys):
    """Which sheets there are."""

    sheets: dict[str, tuple[str, str, int]] = Field(
        {"base": (BASE, "", 0)}, description="{file stem: [model, arm, round]}."
    )
    sets: list[str] = Field(
        [], description="Models that are sets of pictures, which may lack some."
    )


def write(
    root: Path,
    scores: pd.DataFrame,
    prompts: pd.DataFrame,
    settings: Settings,
    out: Path,
) -> list[Path]:
    """Write a JPEG for each sheet into `out` and return the files.

    root: what the scores' picture paths are relative to. Arm "" and round 0 are plain pictures; of
    a set the first picture of each prompt is shown. UserError when there are no pictures for a
    sheet.
    """
    grids = Grids(scores)
    ids = list(prompts["id"][prompts["set"] == "study"])
    number = min(len(ids), COLUMNS * LINES)
    # Spread over all, so that no kind of prompt that stands first rules the sheet.
    shown = [ids[i * len(ids) // number] for i in range(number)]
    texts = prompts.set_index("id")["Prompt"]
    first = next(iter(settings.sheets.values()))[0]
    seed = grids.seeds(first, "study")[0]
    written = []
    for stem, (model, arm, count) in settings.sheets.items():
        key: Key = (model, arm, count)
        rows = scores[
            (scores["model"] == model) & (scores["arm"] == arm) & (scores["round"] == count)
        ]
        given = model in settings.sets
        rows = rows.sort_values("seed") if given else rows[rows["seed"] == seed]
        rows = rows.drop_duplicates("id").set_index("id").reindex(shown)
        if rows["picture"].isna().any() and not given:
            raise UserError(
                f"scores: no picture of {name(key)} for each prompt; rerun its score step"
            )
        cells = [(texts[key], row) for key, row in rows.iterrows()]
        sheet = draw(root, name(key), cells, None if given else seed)
        written.append(out / f"{stem}.jpg")
        with files.atomic(written[-1]) as temporary:
            sheet.save(temporary, "JPEG", quality=90, subsampling=0)
    return written


def draw(
    root: Path, title: str, cells: list[tuple[str, pd.Series]], seed: int | None
) -> Image.Image:
    """One sheet of (prompt, score row) in rows of COLUMNS; a row without a picture is empty."""
    from PIL import Image, ImageDraw

    width, lines = PICTURE + GAP, math.ceil(len(cells) / COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width + GAP, HEAD + lines * HEIGHT + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    bold, plain = _font("DejaVuSans-Bold.ttf", LARGE), _font("DejaVuSans.ttf", SMALL)
    pen.text((GAP, GAP), title, INK, bold)
    facts = [row["strict"] for _, row in cells if isinstance(row["picture"], str)]
    note = "ClipScore below each picture"
    note = note if seed is None else f"seed {seed}; {note}"
    if not any(math.isnan(fact) for fact in facts):
        note += f"; green: shows all that the prompt says ({int(sum(facts))} of {len(facts)})"
    pen.text((GAP + pen.textlength(f"{title}   ", bold), GAP + LARGE - SMALL), note, SOFT, plain)
    for i, (text, row) in enumerate(cells):
        x, y = GAP + i % COLUMNS * width, HEAD + i // COLUMNS * HEIGHT
        right, there = row["strict"] == 1, isinstance(row["picture"], str)
        if there:
            picture = _picture(root / row["picture"])
            sheet.paste(picture, (x + (PICTURE - picture.width) // 2, y))
        if right:
            pen.rectangle((x - 3, y - 3, x + PICTURE + 2, y + PICTURE + 2), outline=RIGHT, width=3)
        y += PICTURE + 5
        score = f"{row['clipscore']:.1f}" if there else "no picture"
        pen.text((x, y), score, RIGHT if right else INK, plain)
        words = textwrap.wrap(text, PICTURE // 7, max_lines=WORDS, placeholder=" …")
        pen.text((x, y + LINE), "\n".join(words), SOFT, plain, spacing=LINE - SMALL - 1)
    return sheet


def _picture(path: Path) -> Image.Image:
    """A picture in PICTURE pixels: small ones pixel by pixel."""
    from PIL import Image

    try:
        picture = pixels.read(path)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; rerun the step that draws it") from None
    except pixels.Unreadable as error:
        raise UserError(f"{path}: not a picture ({error}); delete it and rerun") from None
    scale = PICTURE / max(picture.size)
    size = [max(1, round(side * scale)) for side in picture.size]
    kind = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return picture.resize(size, kind)


def _font(file: str, size: int) -> Any:
    """One of the fonts that come with matplotlib, so that sheets are the same everywhere."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf" / file, size)

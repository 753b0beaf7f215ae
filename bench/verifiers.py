"""How far two independent verifiers of the shapes world agree on drawn pictures.

The first is the project's (scripts/vlg/shapes/verify.py), the second bench/second_verifier.py, of
another principle. Reads folders of pictures whose prompts are in the world's language and prints
Markdown tables: by part, on how many pictures it was told, how each verifier finds it, on how many
both find the same and the mean difference; and how often one finds a picture strictly right that
the other does not. `--sheet` draws pictures that they differ on, with what each reads.

    .venv/bin/python bench/verifiers.py --pictures results/shapes/images/base/final/shard-0 \\
        --number 2000 --sheet differ.png
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "bench")]

import second_verifier  # noqa: E402

from vlg import files  # noqa: E402
from vlg.data import pictures  # noqa: E402
from vlg.errors import UserError  # noqa: E402
from vlg.shapes import captions, verify  # noqa: E402
from vlg.shapes.world import SIDE  # noqa: E402

MEASURED = (*second_verifier.PARTS, "fidelity", "strict")
NAMES = ("first", "second")
SCALE, COLUMNS, LINES = 6, 8, 9  # of the sheet: pixels a pixel, pictures a row, lines of text
LINE = 12  # pixels


def spread(folders: list[Path], number: int) -> list[tuple[Path, dict[str, Any]]]:
    """`number` rows of folders' metadata: about as many of each folder, evenly over each.

    Each folder begins elsewhere, since folders of one study list the same prompts.
    """
    chosen = []
    for i, folder in enumerate(folders):
        rows = pictures.read_metadata(folder)
        wanted = min(len(rows), number * (i + 1) // len(folders) - number * i // len(folders))
        step = len(rows) / max(wanted, 1)
        chosen += [(folder, rows[int((k + i / len(folders)) * step)]) for k in range(wanted)]
    return chosen


def meaning(folder: Path, prompt: str) -> captions.Meaning:
    """What a prompt of a folder says."""
    said = captions.parse(prompt)
    if said is None:
        raise UserError(
            f"{folder}: {prompt!r} is not in the language of the shapes world; "
            "give folders of pictures of its prompts"
        )
    return said


def load(path: Path) -> np.ndarray:
    """A picture of the world, (32, 32, 3) uint8."""
    picture = pictures.load(path)
    if picture.shape != (SIDE, SIDE, 3):
        raise UserError(
            f"{path}: {picture.shape[1]} x {picture.shape[0]} pixels; give {SIDE} x {SIDE}"
        )
    return picture


def judged(rows: Iterable[tuple[Path, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Each picture with its meaning and what both verifiers find."""
    found = []
    for folder, row in rows:
        said = meaning(folder, row["prompt"])
        picture = load(folder / row["file_name"])
        checks = (verify.check(picture, said), second_verifier.check(picture, said))
        found.append({"prompt": row["prompt"], "picture": picture, "checks": checks})
    return found


def table(found: list[dict[str, Any]]) -> str:
    """Agreement by part, and who is the stricter, as Markdown."""
    lines = [
        f"{len(found)} pictures\n",
        "| | told | first | second | same | mean difference |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for part in MEASURED:
        pairs = [[check[part] for check in each["checks"]] for each in found]
        values = np.array([pair for pair in pairs if pair[0] is not None], float)
        if not len(values):
            continue
        first, second = values.T
        lines.append(
            f"| {part} | {len(values)} | {first.mean():.3f} | {second.mean():.3f} "
            f"| {np.isclose(first, second).mean():.1%} | {np.abs(first - second).mean():.3f} |"
        )
    strict = np.array([[check["strict"] for check in each["checks"]] for each in found], bool)
    first, second = strict.T
    lines += [
        "",
        "| | second: right | second: wrong |",
        "|---|---:|---:|",
        f"| first: right | {(first & second).sum()} | {(first & ~second).sum()} |",
        f"| first: wrong | {(~first & second).sum()} | {(~first & ~second).sum()} |",
    ]
    return "\n".join(lines)


def reading(picture: np.ndarray) -> tuple[str, str]:
    """What each verifier reads, a line a thing."""
    background, seen = verify.read(picture)
    second = second_verifier.read(picture)
    return tuple(
        "\n".join(
            [f"{name}: {ground}"]
            + [f" {t.size or '?'} {t.colour or '?'} {t.shape or '?'}" for t in things]
        )
        for name, ground, things in zip(
            NAMES, (background, second.background), (seen, second.things), strict=True
        )
    )


def some(items: list[Any], number: int) -> list[Any]:
    """At most `number` of a list, evenly over it."""
    wanted = min(number, len(items))
    return [items[i * len(items) // wanted] for i in range(wanted)]


def sheet(found: list[dict[str, Any]], number: int) -> Image.Image:
    """Pictures on which the verifiers differ: those that one finds strictly right come first."""

    def gap(each: dict[str, Any], part: str) -> float:
        first, second = each["checks"]
        return abs(first[part] - second[part])

    shown = some([each for each in found if gap(each, "strict")], number)
    others = [each for each in found if not gap(each, "strict") and gap(each, "fidelity") > 1e-9]
    shown += some(others, number - len(shown))
    side = 32 * SCALE
    width, height = side + 8, side + LINES * LINE + 8
    paper = Image.new("RGB", (COLUMNS * width, max(1, -(-len(shown) // COLUMNS)) * height), "white")
    pen = ImageDraw.Draw(paper)
    for i, each in enumerate(shown):
        x, y = i % COLUMNS * width, i // COLUMNS * height
        paper.paste(Image.fromarray(each["picture"]).resize((side, side), Image.NEAREST), (x, y))
        words = each["prompt"].removesuffix(" background").split(" on a ")
        strict = [
            name for name, check in zip(NAMES, each["checks"], strict=True) if check["strict"]
        ]
        title = f"{i} " + "\n on ".join(words) + (f"  [{strict[0]}]" if len(strict) == 1 else "")
        pen.multiline_text((x, y + side + 1), title, "black", spacing=0, font_size=9)
        for k, text in enumerate(reading(each["picture"])):
            place = (x + k * side // 2, y + side + 2 * LINE + 2)
            pen.multiline_text(place, text, "black", spacing=1, font_size=9)
    return paper


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--pictures", type=Path, nargs="+", required=True, help="folders with metadata.jsonl")
    add("--number", type=int, default=2000, help="pictures, evenly of all folders")
    add("--sheet", type=Path, help="PNG file to draw of pictures that the verifiers differ on")
    add("--shown", type=int, default=64, help="most pictures on the sheet")
    given = parser.parse_args()
    try:
        found = judged(spread(given.pictures, given.number))
    except UserError as error:
        sys.exit(f"error: {error}")
    print(table(found))
    if given.sheet:
        with files.atomic(given.sheet) as temporary:
            sheet(found, given.shown).save(temporary, "PNG")


if __name__ == "__main__":
    main()

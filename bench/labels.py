"""How far the verifiers of the shapes world agree with a person, on drawn pictures.

The pictures and what a person sees in them are shipped: bench/labelled/sheet.png, twelve 32 x 32
tiles a row, and bench/labelled/labels.csv, a row a picture: its model and prompt and, for each kind
of fact that the prompt states, 1 (all of it true), 0 or ? (a person could not tell). Labels were
given with picture and prompt enlarged, and without what the verifiers say; a relation is 1 only
where both shapes are there. Prints a Markdown table: of labels that are not ?, on how many each
verifier says the same, is lenient (takes for true what is not), and harsh.

    .venv/bin/python bench/labels.py
    .venv/bin/python bench/labels.py --draw results/shapes/images/*/final/shard-0 --to FOLDER

`--draw` begins another sheet, without labels, evenly of folders of pictures.
"""

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "bench")]

import second_verifier  # noqa: E402
import verifiers  # noqa: E402

from vlg import files  # noqa: E402
from vlg.data import pictures  # noqa: E402
from vlg.errors import UserError  # noqa: E402
from vlg.shapes import captions, verify  # noqa: E402
from vlg.shapes.world import SIDE  # noqa: E402

LABELLED = ROOT / "bench" / "labelled"
COLUMNS = 12  # pictures a row
NOTHING, UNCLEAR = "", "?"  # of what a prompt does not tell; a person could not
KNOWN = ("model", "prompt", *verify.PARTS)


def draw(folders: list[Path], number: int, to: Path) -> None:
    """Write a sheet of `number` pictures and its rows, not labelled yet, into a new folder."""
    if to.exists():
        raise UserError(f"{to}: is there already; name another folder with --to")
    rows, tiles = [], []
    for folder, row in verifiers.spread(folders, number):
        said = verifiers.meaning(folder, row["prompt"])
        picture = verifiers.load(folder / row["file_name"])
        found = verify.check(picture, said)
        told = {part: NOTHING if found[part] is None else UNCLEAR for part in verify.PARTS}
        model = folder.parent.parent.name
        rows.append({"model": model, "prompt": row["prompt"], **told})
        tiles.append(picture)
    height = -(-len(tiles) // COLUMNS)
    sheet = np.zeros((height, COLUMNS, SIDE, SIDE, 3), np.uint8)
    sheet.reshape(-1, SIDE, SIDE, 3)[: len(tiles)] = tiles
    with files.atomic_folder(to) as new:
        flat = sheet.transpose(0, 2, 1, 3, 4).reshape(height * SIDE, COLUMNS * SIDE, 3)
        Image.fromarray(flat).save(new / "sheet.png")
        with open(new / "labels.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, KNOWN, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def labelled(folder: Path = LABELLED) -> list[tuple[np.ndarray, dict[str, str]]]:
    """Each picture (32, 32, 3) uint8 with its row of labels.csv."""
    sheet = pictures.load(folder / "sheet.png")
    if sheet.shape[0] % SIDE or sheet.shape[1] != COLUMNS * SIDE:
        raise UserError(f"{folder / 'sheet.png'}: not {COLUMNS} tiles a row; restore it")
    tiles = sheet.reshape(-1, SIDE, COLUMNS, SIDE, 3).swapaxes(1, 2).reshape(-1, SIDE, SIDE, 3)
    with open(folder / "labels.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not 0 <= len(tiles) - len(rows) < COLUMNS:
        raise UserError(f"{folder}: {len(rows)} labels of {len(tiles)} tiles; restore both files")
    for number, (tile, row) in enumerate(zip(tiles, rows, strict=False)):
        found = verify.check(tile, verifiers.meaning(folder, row["prompt"]))
        for part in verify.PARTS:
            if row[part] not in ((NOTHING,) if found[part] is None else ("0", "1", UNCLEAR)):
                raise UserError(
                    f"{folder / 'labels.csv'}: picture {number}: {part} is {row[part]!r}; write 1, "
                    "0 or ? where its prompt tells of it, and nothing elsewhere"
                )
    return list(zip(tiles, rows, strict=False))


def strict(row: dict[str, str]) -> str:
    """1 where all facts of a row are true, 0 where one is not, ? where that hangs on a ?."""
    facts = {row[part] for part in verify.PARTS}
    return "0" if "0" in facts else "?" if "?" in facts else "1"


def compared(pairs: list[tuple[np.ndarray, dict[str, str]]]) -> list[dict[str, Any]]:
    """By verifier and fact: labels that tell, those a verifier says the same of, those it is
    lenient and harsh on, and how many are ?."""
    found = []
    for name, reader in (("first", verify), ("second", second_verifier)):
        checks = [reader.check(picture, captions.parse(row["prompt"])) for picture, row in pairs]
        for part in (*verify.PARTS, "strict"):
            labels = [strict(row) if part == "strict" else row[part] for _, row in pairs]
            told = [
                (check[part] == 1, label == "1")
                for check, label in zip(checks, labels, strict=True)
                if label in ("0", "1")
            ]
            found.append(
                {
                    "verifier": name,
                    "fact": part,
                    "labels": len(told),
                    "same": sum(a == b for a, b in told),
                    "lenient": sum(a and not b for a, b in told),
                    "harsh": sum(b and not a for a, b in told),
                    "unclear": labels.count("?"),
                }
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--draw", type=Path, nargs="+", help="folders of pictures to begin another sheet of")
    add("--number", type=int, default=120, help="pictures of a new sheet")
    add("--to", type=Path, default=LABELLED, help="folder of a sheet")
    given = parser.parse_args()
    try:
        if given.draw:
            draw(given.draw, given.number, given.to)
            return
        found = compared(labelled(given.to))
    except UserError as error:
        sys.exit(f"error: {error}")
    print(f"| {' | '.join(found[0])} |\n|---|---|{'---:|' * 5}")
    for row in found:
        print(f"| {' | '.join(map(str, row.values()))} |")


if __name__ == "__main__":
    main()

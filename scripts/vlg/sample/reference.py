"""What a reference is: pictures that no model of the study drew, to hold its scores against.

The file `sample/references/<name>.py` is the reference `<name>`. At its top stand, as literals,

    BOUND   `ceiling` or `floor`, the end of the scale that it shows
    WORDS   what its pictures are, as captions say it
    NEEDS   what they are made from: `prompts` always, and of `base` (the base's folder), `pictures`
            (the base's of the study prompts) or the name of another reference at most one each
    TRUTH   whether it needs prompts of the shapes world

and `draw(given)`, which yields the pictures of `given.wanted`, (height, width, 3) uint8, in that
order; they depend on nothing but what it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vlg import plugins
from vlg.data import pictures
from vlg.files import identity
from vlg.sample.listing import Picture
from vlg.workflow.codehash import code_hash

SET = "reference"  # of all its pictures


@dataclass(frozen=True)
class Given:
    """What a reference is made from, as far as it needs it.

    wanted: the study prompts with each of their seeds. sources: (folder, metadata row) of the
    pictures that it needs.
    """

    wanted: Sequence[Picture]
    sources: Sequence[tuple[Path, dict[str, Any]]] = field(default_factory=list)
    base: Path | None = None
    device: str = "cpu"
    batch_size: int = 32


def write(name: str, given: Given, out: Path) -> None:
    """Make the picture folder `out` of a reference."""
    module = plugins.load(plugins.REFERENCES, name)
    code = code_hash(plugins.file(plugins.REFERENCES, name))
    made = [name, code, [row["sha256"] for _, row in given.sources]]
    key = pictures.key(*made, identity(given.base) if given.base else "")
    out.mkdir(parents=True, exist_ok=True)
    pictures.prune(out, {each.file_name for each in given.wanted})
    rows = []
    drawn = tqdm(module.draw(given), name, len(given.wanted), mininterval=5)
    with pictures.Writer() as writer:
        for each, image in zip(given.wanted, drawn, strict=True):
            row = {"file_name": each.file_name, **asdict(each), "set": SET}
            row |= {"model": name, "arm": "", "round": 0, "key": key}
            writer.save(out / each.file_name, image, row)
            rows.append(row)
    pictures.write_metadata(out, rows, weights=key)

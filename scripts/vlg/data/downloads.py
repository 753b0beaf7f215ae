"""What a study takes from the Hub: of each repository only the files that it will read."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from vlg.config.sections import Dataset
from vlg.data import dataset, prompts
from vlg.data.columns import LISTS, of_split
from vlg.data.hub import Repository
from vlg.data.imagefolder import captioned, lists_of
from vlg.errors import UserError
from vlg.files import link
from vlg.models import folders, stated

log = logging.getLogger("vlg")

PROMPTS = "prompts.tsv"


class Settings(Dataset):
    """What is downloaded and, of a data set, how much of it."""

    what: str = Field(
        "base",
        description=(
            "`base`, `guide`, `judge`, `dataset`, `prompts`, `judge_<name>` or `guide_<name>`."
        ),
    )
    family: str = Field(folders.FAMILY, description="`models.family`, of a base.")
    form: Literal["guide", "judge"] = Field(
        "judge", description="Which files a further judge or guide wants."
    )
    sha256: str | None = Field(None, description="`prompts.sha256`.")


def model(repository: Repository, kind: str, folder: Path, family: str = folders.FAMILY) -> None:
    """Download the base, guide or judge: safetensors, tokenizer and configurations.

    family: of a base.
    """
    begin = f"{repository.key}: {repository.source}"
    chosen = folders.check_whole(kind, repository.files, begin, family)
    # A further judge may be of a kind of one's own, which reads another model than a CLIP.
    if kind != "judge" or repository.key == "models.judge":
        weights = [name for name in chosen if name.endswith(".safetensors")]
        repository.get([name for name in chosen if name not in weights], folder)
        if kind == "base":
            folders.check_family(folder, family, begin)
        stated.check(kind, folder, begin, family, weights)
    repository.get(chosen, folder)


def pictures(repository: Repository, settings: Dataset, folder: Path) -> None:
    """Download captioned pictures until there are `size` usable ones.

    Parquet files come whole, one after the other; of an image folder each picture comes by itself.
    settings: of them size, split, picture, captions and smallest count.
    Pictures beside parquet files come one by one, too.
    """
    begin = f"{repository.key}: {repository.source}"
    found = dataset.Selection(settings.size, settings.smallest)
    if tables := of_split(repository.files, settings.split, ".parquet"):
        if other := next((n for n in repository.files if n.rpartition("/")[2] in LISTS), None):
            log.warning("%s: %s is left out, parquet files are read", begin, other)

        def files() -> Iterator[Path]:
            for name in tables:
                repository.get([name], folder)
                yield folder / name

        def beside(path: Path) -> None:
            name = path.relative_to(os.path.abspath(folder)).as_posix()
            if name in repository.files:
                repository.get([name], folder)

        columns = settings.picture, settings.captions
        dataset.from_parquet(files(), *columns, found, fetch=beside)
    else:
        lists = lists_of(repository.files, settings.split)
        if not lists:
            raise UserError(
                f"{begin} has no parquet files of split {settings.split} and no metadata.jsonl "
                "or metadata.csv; check dataset.split, or give a local folder"
            )
        repository.get(lists, folder)
        known = repository.files.__contains__
        rows = captioned(folder, settings.captions, known, settings.split)

        def picture(name: str) -> Path:
            repository.get([name], folder)
            return folder / name

        dataset.from_folder(rows, found, picture)
        # A metadata.jsonl, which is read first, of those that were downloaded.
        column = (settings.captions or ["text"])[0]
        listed = [{"file_name": row["file_name"], column: row["text"]} for row in found.rows]
        dataset.write_rows(folder, listed)
    found.check(repository.source)


def prompt_table(repository: Repository, checksum: str | None, folder: Path) -> None:
    """Download a prompt table as prompts.tsv: a .tsv file as it is, .csv and parquet rewritten.

    checksum: SHA-256 of the one file that is downloaded; None: whatever the revision has.
    """
    begin = f"{repository.key}: {repository.source}"
    for ending in (".tsv", ".csv", ".parquet"):
        names = of_split(repository.files, "train", ending)
        if names:
            break
    else:
        raise UserError(f"{begin} has no .tsv, .csv or .parquet file; give a local prompt file")
    if len(names) > 1 and ending != ".parquet":
        raise UserError(f"{begin} has several prompt files ({', '.join(names)}); give a local one")
    raw = folder / "raw"
    repository.get(names, raw)
    if checksum and len(names) > 1:
        raise UserError(f"{begin} has several prompt files; prompts.sha256 must be null")
    prompts.check_sha256(raw / names[0], checksum)
    table = folder / PROMPTS
    if ending == ".tsv":
        link(raw / names[0], table)
        prompts.read(table)  # its mistakes are told here, not when pictures are to be drawn
    elif ending == ".csv":
        prompts.write(table, prompts.read(raw / names[0]))
    else:
        prompts.write(table, prompts.checked(table, _records([raw / name for name in names])))


def _records(files: list[Path]) -> Iterator[tuple[int, dict[str, str]]]:
    """(row number, {column: text}) of parquet files; PartiPrompts' columns in any case."""
    from pyarrow import ArrowException, parquet

    number = 0
    for file in files:
        try:
            rows = parquet.read_table(file).to_pylist()
        except (ArrowException, OSError, UnicodeDecodeError) as error:
            why = " ".join(str(error).split())[:200]
            raise UserError(f"{file}: not a whole parquet file ({why}); get it again") from None
        for row in rows:
            number += 1
            cells = {k: "" if v is None else str(v) for k, v in row.items()}
            names = dict(zip(cells, prompts.columns_of(file, list(cells)), strict=True))
            yield number, {names[name]: cell for name, cell in cells.items()}

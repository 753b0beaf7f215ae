"""Which files and columns of a data set hold what: its splits, its lists, its captions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

LISTS = ("metadata.jsonl", "metadata.csv")
SPLITS = "(train|training|val|valid|validation|dev|eval|test)"
CAPTION_COLUMNS = ("text", "caption", "captions")


def of_split(names: Iterable[str], split: str, ending: str) -> list[str]:
    """The files of a split, in order: those named after it, in letters of either case, or all where
    none names a split.

    `data/train-00000-of-00002.parquet` and `train/0000.parquet` are of the split `train`.
    """
    names = sorted(name for name in names if name.lower().endswith(ending))
    word = r"(^|[/_.-]){}($|[/_.-])"
    if any(re.search(word.format(SPLITS), name, re.I) for name in names):
        return [name for name in names if re.search(word.format(re.escape(split)), name, re.I)]
    return names


def caption_columns(names: Iterable[str], wanted: list[str] | None) -> list[str]:
    """The caption columns: the wanted ones, or one of the usual name, or caption_0, caption_1, …"""
    if wanted:
        return wanted
    names = list(names)
    usual = [name for name in CAPTION_COLUMNS if name in names]
    return usual[:1] or sorted(name for name in names if re.fullmatch(r"caption_?\d+", name))


def told(name: str) -> str:
    """A name on one line, of a long one the beginning."""
    name = name if len(name) <= 200 else f"{name[:200]}…"
    return name if name.isprintable() else ascii(name)


def named(names: Iterable[Any]) -> str:
    """A few names on one line."""
    names = [told(str(name)) for name in names]
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")

"""Texts that are no words: they look empty, or are data of a program."""

from __future__ import annotations

import ast
import json
import unicodedata

# Control and format characters (zero-width spaces, joiners, soft hyphens, byte order marks) and all
# that separates.
UNSEEN = {"Cc", "Cf", "Zl", "Zp", "Zs"}
# Letters, marks and signs that show nothing: fillers, braille of no dot, variation selectors.
FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
FILLERS |= {*map(chr, range(0xFE00, 0xFE10)), *map(chr, range(0xE0100, 0xE01F0))}


def is_blank(text: str) -> bool:
    """Whether nothing of a text can be seen."""
    return all(each in FILLERS or unicodedata.category(each) in UNSEEN for each in text)


def is_data(text: str) -> bool:
    """Whether a text is an object or a list of texts, as JSON or Python writes them.

    Spreadsheets hold lists of captions so, and lines of JSON look like lines of prompts.
    """
    if text.strip()[:1] not in ("[", "{"):
        return False
    found = None
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        break
    texts = (
        isinstance(found, list) and found and all(isinstance(each, str | dict) for each in found)
    )
    return bool(texts) or isinstance(found, dict)

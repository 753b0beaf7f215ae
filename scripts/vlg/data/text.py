"""What prompts and captions are as text."""

from __future__ import annotations

import unicodedata


def composed(text: str) -> str:
    """A text with each letter in as few code points as Unicode has (NFC), to be compared.

    é as one code point or as two looks the same, and is the same to most tokenizers.
    """
    return unicodedata.normalize("NFC", text)


def is_whole(text: str) -> bool:
    """Whether a text has no half of a surrogate pair, which JSON can say and no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

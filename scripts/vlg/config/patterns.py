"""What names in a config may look like, and in words what each pattern allows."""

from __future__ import annotations

from vlg.config.layout import BASE, NAME

ENTRY = rf"^{NAME}$"
MODEL = rf"^({BASE}|{NAME}-[1-9][0-9]*)$"
ROUND = r"^(0|[1-9][0-9]*)$"
SHA256 = r"^[0-9a-f]{64}$"
COLOUR = r"^(white|black|#[0-9a-fA-F]{6})$"
STUDY = r"^[A-Za-z0-9](\.?[A-Za-z0-9_-])*\.?$"
ALLOWED = {
    ENTRY: "lower-case letters, digits and `_`, beginning with a letter",
    MODEL: "`base` or `<variant>-<step>`",
    ROUND: "a round's number",
    COLOUR: "`white`, `black` or `#rrggbb`",
    SHA256: "64 digits 0-9, a-f",
    STUDY: "letters, digits and single `_`, `.`, `-`, beginning with a letter or digit",
}

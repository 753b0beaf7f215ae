"""Write docs/configuration.md and schemas/config.schema.json, the reference of all config keys."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from vlg.config import reference  # noqa: E402


def files() -> dict[Path, str]:
    """{path: text} of what is written."""
    schema = json.dumps(reference.schema(), indent=2, ensure_ascii=False)
    return {
        ROOT / "docs" / "configuration.md": reference.page(),
        ROOT / "schemas" / "config.schema.json": schema + "\n",
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")

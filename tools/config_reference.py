"""Write docs/configuration.md, the reference of all config keys, from the schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "configuration.md"

HEAD = """\
<!-- Written by `python tools/config_reference.py` from schemas/; change it there. -->
# Configuration

`config.yaml` is the study in the shapes world and states only what you are likely to change. Every
other key has the default below. To change something without editing it:

- `snakemake --cores all --configfile mine.yaml` lays `mine.yaml` over `config.yaml`, key by key. A
  list replaces the list before it; a variant or arm that is `null` is removed.
- `snakemake --cores all --config 'finetune={steps: [100, 300]}' study=short` does the same on the
  command line.

Give a changed study a `study` name of its own, and its results stand beside the old ones. Relative
paths start from the folder in which Snakemake runs, and `~` is your home folder. An unknown key, a
wrong type, or values that don't fit together end the run before any job, with one line that names
the key. Only steps that a changed value affects run again.

"""

PROMPTS_HEAD = """
## Prompt files

`prompts.source` may be a `.tsv` as PartiPrompts is published (a header, tabs, no quoting), a `.csv`
(a header, ordinary quoting) or a `.txt` (one prompt a line), in UTF-8. Only the column `Prompt` is
needed; further columns are kept. Spaces at the edges of a prompt are removed and blank lines are
skipped; an empty prompt, a prompt given twice, a tab or line break inside one and a line with a
wrong number of cells are errors that name the line.

The study's own table, `results/<study>/prompts.tsv`, has these columns:

"""

KINDS = {"integer": "whole number", "string": "text", "array": "list", "boolean": "true or false"}


def render() -> str:
    """The page as Markdown."""
    config = _load("config")
    lines = [*_table([["key", "default", "values", "meaning"], *_top(config)])]
    for name, node in config["properties"].items():
        if "properties" in node:
            lines += ["", f"## {name}", "", node["description"], ""]
            lines += _table([["key", "default", "values", "meaning"], *_rows(name, node)])
    columns = [
        [f"`{name}`", _values(node), node["description"]]
        for name, node in _load("prompts")["properties"].items()
    ]
    return (
        HEAD
        + "\n".join(lines)
        + "\n"
        + PROMPTS_HEAD
        + "\n".join(_table([["column", "values", "meaning"], *columns]))
        + "\n"
    )


def _load(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "schemas" / f"{name}.schema.yaml").read_text(encoding="utf-8"))


def _top(config: dict[str, Any]) -> Iterator[list[str]]:
    for name, node in config["properties"].items():
        if "properties" not in node:
            yield from _entry(name, node)


def _rows(prefix: str, node: dict[str, Any]) -> Iterator[list[str]]:
    """A row per key below `node`, and per key of its freely named entries."""
    for name, child in node["properties"].items():
        if "properties" in child:
            yield [f"`{prefix}.{name}`", "", "keys", child["description"]]
            yield from _rows(f"{prefix}.{name}", child)
            continue
        yield from _entry(f"{prefix}.{name}", child)


def _entry(name: str, node: dict[str, Any]) -> Iterator[list[str]]:
    """The row of a key that is no section, and those of the keys of its freely named entries."""
    yield _row(name, node)
    entry = node.get("additionalProperties") or {}
    for key, setting in entry.get("properties", {}).items():
        if "default" in setting:
            yield _row(f"{name}.<name>.{key}", setting)


def _row(name: str, node: dict[str, Any]) -> list[str]:
    default = json.dumps(node["default"], ensure_ascii=False).replace('"', "") or '""'
    return [f"`{name}`", f"`{default}`", _values(node), node["description"]]


def _values(node: dict[str, Any]) -> str:
    """Type and range in words."""
    if "enum" in node:
        return ", ".join(f"`{value}`" if value else "empty" for value in node["enum"])
    if node["type"] == "object":
        entry = node["additionalProperties"]
        inner = "keys" if "properties" in entry else _values(entry)
        return f"names ({node['propertyNames']['x-allowed']}), each with {inner}"
    types = [node["type"]] if isinstance(node["type"], str) else node["type"]
    words = [KINDS.get(kind, kind) for kind in types]
    if node.get("items"):
        number = f"{node['maxItems']} " if "maxItems" in node else ""
        words[0] += f" of {number}{_values(node['items']).replace('number', 'numbers')}"
    if "x-allowed" in node:
        words[0] += f": {node['x-allowed']}"
    low = [f"≥ {node[k]}" for k in ("minimum",) if k in node]
    low += [f"> {node[k]}" for k in ("exclusiveMinimum",) if k in node]
    high = [f"≤ {node[k]}" for k in ("maximum",) if k in node]
    high += [f"< {node[k]}" for k in ("exclusiveMaximum",) if k in node]
    words[0] = ", ".join([" ".join([words[0], *low]), *high])
    return " or ".join(words)


def _table(rows: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8", newline="\n")

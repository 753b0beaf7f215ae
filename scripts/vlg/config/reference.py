"""What the keys are, for people and editors: the page docs/configuration.md, and a JSON schema.

Both come from the classes of the sections and from those of each method, arm and kind of judge.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator
from typing import Any

from vlg import plugins
from vlg.config import kinds, sections, variants
from vlg.config.keys import INPUT, NEUTRAL, Keys, short
from vlg.config.patterns import ALLOWED
from vlg.config.read import Key, kind, members
from vlg.data import prompts


def paths() -> list[Key]:
    """Paths of all keys but those of freely named entries."""
    found = [*_paths(sections.Config, ())]
    for method in plugins.names(plugins.METHODS):
        found += [("finetune", name) for name in own_keys(plugins.METHODS, method)]
    return list(dict.fromkeys(found))


def _paths(keys: type[Keys], key: Key) -> Iterator[Key]:
    for name, field in keys.model_fields.items():
        yield (*key, name)
        for option in members(field.annotation):
            if kind(option) == "keys":
                yield from _paths(option, (*key, name))


# The keys that all methods, arms or kinds of judge have.
ROOTS: dict[str, type[Keys]] = {
    plugins.METHODS: sections.Training,
    plugins.ARMS: sections.ArmKeys,
    plugins.KINDS: sections.JudgeKeys,
}


def own_keys(room: str, name: str) -> list[str]:
    """The keys that this method, arm or kind of judge has and not all have."""
    shared = {*ROOTS[room].model_fields, *variants.OF_A_STEP}
    return [name for name in kinds.settings_of(room, name).model_fields if name not in shared]


# --- the schema ---------------------------------------------------------------------------------


def schema() -> dict[str, Any]:
    """The JSON schema of the config, for editors: they complete keys, and mark what is wrong."""
    result = _of(sections.Config)
    properties = result["properties"]
    tuning = properties["finetune"]["properties"]
    methods = _entries(plugins.METHODS, "method")
    of_methods = {n: v for n, v in methods["properties"].items() if n not in ("method", *tuning)}
    swept = {name: {"type": "array", "items": v} for name, v in methods["properties"].items()}
    tuning["sweeps"]["additionalProperties"] = _or_null(
        methods | {"properties": {**swept, "method": methods["properties"]["method"]}}
    )
    tuning |= of_methods
    arms, judges = _entries(plugins.ARMS, "kind"), _entries(plugins.KINDS, "kind")
    for node, beside in ((methods, sections.Beside), (arms, sections.Doses)):
        node["properties"] = {k: _may_be_dosed(v) for k, v in node["properties"].items()}
        node["properties"] |= _of(beside)["properties"]
    tuning["variants"]["additionalProperties"] = _or_null(methods)
    properties["refine"]["properties"]["arms"]["additionalProperties"] = _or_null(arms)
    properties["judges"]["additionalProperties"] = _or_null(judges)
    properties["guides"]["additionalProperties"] = _or_null(_of(sections.GuideKeys))
    properties["pictures"]["additionalProperties"] = _or_null(_of(sections.PictureSet))
    models = {"anyOf": [{"type": "string", "minLength": 1}, _of(sections.Compared)]}
    properties["models"]["properties"]["compare"]["additionalProperties"] = _or_null(models)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration",
        "$comment": "Written by tools/config_reference.py.",
        **result,
    }


def _entries(room: str, named: str) -> dict[str, Any]:
    """Entries with the keys of any that a room has; `named` is the key that says which."""
    choice = {"description": f"Which {named}.", "type": "string", "enum": plugins.names(room)}
    found: dict[str, list[Any]] = {named: [choice]}
    for name in plugins.names(room):
        for key, node in _of(kinds.settings_of(room, name))["properties"].items():
            known = found.setdefault(key, [])
            if key != named and key not in variants.OF_A_STEP and node not in known:
                known.append(node)
    properties = {
        key: nodes[0] if len(nodes) == 1 else {"anyOf": nodes}
        for key, nodes in found.items()
        if nodes
    }
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _may_be_dosed(node: dict[str, Any]) -> dict[str, Any]:
    """A number may be null in an overlay, beside `doses` of it."""
    if node.get("type") in ("number", "integer"):
        return {**node, "type": [node["type"], "null"]}
    if any(each.get("type") in ("number", "integer") for each in node.get("anyOf", ())):
        return {**node, "anyOf": [*node["anyOf"], {"type": "null"}]}
    return node


def _or_null(node: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [node, {"type": "null"}]}


def _of(keys: type[Keys]) -> dict[str, Any]:
    """The schema of one class, its sections written where they stand."""
    whole = keys.model_json_schema()
    found = whole.pop("$defs", {})
    result: dict[str, Any] = _plain(whole, found)
    return result


def _plain(node: Any, found: dict[str, Any]) -> Any:
    """A schema without references, titles that only repeat a name, and what is for us alone."""
    if isinstance(node, list):
        return [_plain(each, found) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _plain(found[node["$ref"].rpartition("/")[2]], found)
    result = {}
    if "patternProperties" in node:
        ((pattern, entry),) = node["patternProperties"].items()
        names = {**node.get("propertyNames", {}), "pattern": pattern}
        node = {**node, "propertyNames": names, "additionalProperties": entry}
        del node["patternProperties"]
    for name, value in node.items():
        if name == "properties":
            result[name] = {key: _plain(each, found) for key, each in value.items()}
        elif name == "description":
            result[name] = " ".join(value.split("\n\n")[0].split())
        elif name == "default":
            result[name] = value
        elif name not in ("title", *NEUTRAL, *INPUT, *short("")):
            result[name] = _plain(value, found)
    return result


# --- the page -----------------------------------------------------------------------------------

HEAD = """\
<!-- Written by `python tools/config_reference.py` from the classes that hold the keys. -->
# Configuration

`config.yaml` is the study in the shapes world and states only what you are likely to change. Every
other key has the default below. To change something without editing it:

- `snakemake --cores all --configfile mine.yaml` lays `mine.yaml` over `config.yaml`, key by key. A
  list replaces the list before it; a variant, sweep, arm or judge that is `null` is removed.
- `snakemake --cores all --config 'finetune={steps: [100, 300]}' study=short` does the same on the
  command line.

Give a changed study a `study` name of its own, and its results stand beside the old ones. Relative
paths start from the folder in which Snakemake runs, and `~` is your home folder. An unknown key, a
wrong type, or values that don't fit together end the run before any job, with one line that names
the key. Only steps that a changed value affects run again.

An editor that knows JSON schemas completes and checks a config by `schemas/config.schema.json`: for
many, by the line `# yaml-language-server: $schema=<path>/schemas/config.schema.json` at its top.

"""

PROMPTS_HEAD = """
## Prompt files

`prompts.source` may be a `.tsv` as PartiPrompts is published (a header, tabs, no quoting), a `.csv`
(a header, ordinary quoting) or a `.txt` (one prompt a line), in UTF-8. Only the column `Prompt` is
needed; further columns are kept. Spaces at the edges of a prompt are removed and blank lines are
skipped; an empty prompt, a prompt given twice, a tab or line break inside one and a line with a
wrong number of cells are errors that name the line.

The study's own table, `results/<study>/prompts.tsv`, has these columns, and `hard_prompts.tsv` one
more:

"""

# What stands before what there is of each.
OF_FAMILIES = "`family` is one of these:"
OF_COMPARED = "An entry of `compare` is the `source` of a model, or has these keys:"
OF_BENCHMARKS = (
    "Benchmarks that `source` may name, where from and how sure: [prompts.md](prompts.md)."
)
OF_METHODS = """\
A variant may set all keys above from `learning_rate` to `evaluate_every`, and the keys of its
`method`, which is one of these. Keys of a method may stand in `finetune`, too, for all variants
whose method has them."""
OF_ARMS = (
    "An arm has `rounds`, `models`, `guide`, `doses` and the keys of its `kind`, one of these:"
)
OF_JUDGES = "A judge has `source` and the keys of its `kind`, which is one of these:"

COLUMNS = ["key", "default", "values", "meaning"]
KINDS = {"integer": "whole number", "string": "text", "boolean": "true or false"}
SIGNS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def page() -> str:
    """docs/configuration.md."""
    nodes = _of(sections.Config)["properties"]
    lines = _table(
        _row(name, node)
        for name, node in nodes.items()
        if "properties" not in node and name not in ("guides", "judges", "pictures")
    )
    for name, node in nodes.items():
        if "properties" not in node:
            continue
        lines += ["", f"## {name}", "", node["description"], "", *_table(_rows(name, node))]
        if name == "models":
            lines += ["", OF_FAMILIES, "", *_residents(plugins.FAMILIES), "", OF_COMPARED, ""]
            lines += _table(_rows("models.compare.<name>", _of(sections.Compared)))
        if name == "prompts":
            lines += ["", OF_BENCHMARKS, "", *_residents(plugins.BENCHMARKS)]
        if name == "finetune":
            lines += ["", OF_METHODS, "", *_residents(plugins.METHODS), ""]
            beside = _rows("finetune.variants.<name>", _of(sections.Beside))
            lines += _table([*beside, *_own_rows(plugins.METHODS, "finetune")])
        if name == "refine":
            arm = "refine.arms.<name>"
            lines += ["", OF_ARMS, "", *_residents(plugins.ARMS), ""]
            shared = [*_rows(arm, _of(sections.ArmKeys)), *_rows(arm, _of(sections.Doses))]
            lines += _table([*shared, *_own_rows(plugins.ARMS, arm)])
    lines += ["", "## guides", "", nodes["guides"]["description"], ""]
    lines += _table(_rows("guides.<name>", _of(sections.GuideKeys)))
    lines += ["", "## pictures", "", nodes["pictures"]["description"], ""]
    lines += _table(_rows("pictures.<name>", _of(sections.PictureSet)))
    judge = "judges.<name>"
    lines += ["", "## judges", "", nodes["judges"]["description"], ""]
    lines += [OF_JUDGES, "", *_residents(plugins.KINDS), ""]
    lines += _table([*_rows(judge, _of(sections.JudgeKeys)), *_own_rows(plugins.KINDS, judge)])
    columns = [[f"`{name}`", meaning] for name, meaning in prompts.MEANING.items()]
    columns += [["`clipscore`", f"In hard_prompts.tsv only: {prompts.CLIPSCORE}"]]
    table = _table(columns, ["column", "meaning"])
    return "\n".join([HEAD + lines[0], *lines[1:], PROMPTS_HEAD + table[0], *table[1:], ""])


def _residents(room: str) -> list[str]:
    """What there is in a room: each by its name, with the first line of its file."""
    found = {name: ast.parse(plugins.file(room, name).read_bytes()) for name in plugins.names(room)}
    return [
        f"- `{name}`: {str(ast.get_docstring(tree)).splitlines()[0]}"
        for name, tree in found.items()
    ]


def _rows(prefix: str, node: dict[str, Any]) -> Iterator[list[str]]:
    """A row for each key below `node`."""
    for name, child in node["properties"].items():
        if "properties" in child:
            yield [f"`{prefix}.{name}`", "", "keys", child["description"]]
            yield from _rows(f"{prefix}.{name}", child)
        else:
            yield _row(f"{prefix}.{name}", child)


def _own_rows(room: str, prefix: str) -> Iterator[list[str]]:
    """A row for each key that not all methods, arms or kinds of judge have, with those that do."""
    owners: dict[tuple[str, ...], list[str]] = {}
    for name in plugins.names(room):
        nodes = _of(kinds.settings_of(room, name))["properties"]
        for key in own_keys(room, name):
            owners.setdefault(tuple(_row(f"{prefix}.{key}", nodes[key])), []).append(name)
    for (first, *others), names in owners.items():
        yield [f"{first} ({', '.join(names)})", *others]


def _row(name: str, node: dict[str, Any]) -> list[str]:
    value = node.get("default")
    text = json.dumps(value, ensure_ascii=False).replace('"', "")
    default = (value if isinstance(value, str) else text) or '""'
    shown = f"`{default}`" if "default" in node else ""
    return [f"`{name}`", shown, _values(node), node["description"]]


def _values(node: dict[str, Any]) -> str:
    """Type and range in words."""
    if "anyOf" in node:
        return " or ".join(_values(each) for each in node["anyOf"])
    choices = node.get("enum", [node["const"]] if "const" in node else [])
    if choices:
        return ", ".join(f"`{value}`" if value else "empty" for value in choices)
    if node["type"] == "object":
        entry, names = node["additionalProperties"], node.get("propertyNames", {})
        allowed = f" ({ALLOWED[names['pattern']]})" if names else ""
        inner = _values(entry) if entry.get("type") in ("number", "array") else "keys"
        return f"names{allowed}, each with {inner}"
    if node["type"] == "array":
        number = f"{node['maxItems']} " if "maxItems" in node else ""
        item = node["items"] if "items" in node else node["prefixItems"][0]
        return f"list of {number}{_values(item).replace('number', 'numbers')}"
    words = KINDS.get(node["type"], node["type"])
    if "pattern" in node:
        words += f": {ALLOWED[node['pattern']]}"
    range_ = ", ".join(f"{sign} {_number(node[k])}" for k, sign in SIGNS.items() if k in node)
    return f"{words} {range_}".strip()


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _table(rows: Iterable[list[str]], head: list[str] = COLUMNS) -> list[str]:
    lines = [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (head, *rows)
    ]
    return [lines[0], "|" + "---|" * len(head), *lines[1:]]

"""The schema of the config: defaults filled in, values checked, each mistake told in one line.

It is read whenever the Snakefile is, so this imports nothing heavy.
"""

from __future__ import annotations

import copy
import difflib
import functools
import re
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

from vlg.errors import UserError

SCHEMA = Path(__file__).parents[3] / "schemas" / "config.schema.yaml"
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
NULL = ("null", "~", "")  # as the command line writes it, where all is text

Key = tuple[str | int, ...]


@functools.cache
def schema() -> dict[str, Any]:
    """The JSON schema of the config; do not change it."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C loader is ten times faster
    return yaml.load(SCHEMA.read_text(encoding="utf-8"), loader)


# --- filling in ---------------------------------------------------------------------------------


def fill(node: dict[str, Any], value: Any, key: Key) -> Any:
    """`value` of `key` with the defaults of its schema `node`, normalised as `config.load` says.

    UserError for unknown keys and unreadable values.
    """
    node = _resolved(node)
    types = _types(node)
    if "object" in types and (value is None or isinstance(value, Mapping)):
        return _fill_section(node, value or {}, key)
    if "array" in types and isinstance(value, list):
        return [fill(node["items"], item, (*key, i)) for i, item in enumerate(value)]
    return _scalar(types, value, key)


def _fill_section(node: dict[str, Any], value: Mapping[Any, Any], key: Key) -> dict[str, Any]:
    given = {_name(name, key): item for name, item in value.items()}
    known = node.get("properties", {})
    entries = node["additionalProperties"]  # False, or the schema of freely named entries
    result = {}
    for name, child in known.items():
        if name in given:
            result[name] = fill(child, given[name], (*key, name))
        elif "default" in child:
            result[name] = fill(child, copy.deepcopy(child["default"]), (*key, name))
        elif "$ref" not in child and "object" in _types(child):
            result[name] = fill(child, None, (*key, name))
    for name, item in given.items():
        if name in known:
            continue
        if not entries:
            _unknown((*key, name), list(known))
        if item is not None and item not in NULL:
            result[name] = fill(entries, item, (*key, name))
    return result


def _name(name: Any, key: Key) -> str:
    if isinstance(name, int) and not isinstance(name, bool):
        return str(name)
    if not isinstance(name, str):
        fail(
            key,
            f"a key must be text, got {shown(name)}",
            "put it in quotes (YAML reads bare no, off, yes, on as true or false)",
        )
    return name


def _scalar(types: list[str], value: Any, key: Key) -> Any:
    """`value` as one of `types` if it can be read so; else unchanged, for the schema to refuse."""
    if isinstance(value, str) and "string" not in types:
        if "null" in types and value in NULL:
            return None
        if "boolean" in types and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if {"integer", "number"} & set(types) and len(value) < 40 and NUMBER.fullmatch(value):
            value = int(value) if value.lstrip("+-").isdigit() else float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not abs(value) < 2**63:  # refuses infinity and not-a-number too
            fail(key, "must be a finite number of ordinary size", usual(key))
        if "number" in types:
            return float(value)  # so that 0 and 0.0 are the same setting
        if "integer" in types and value == int(value):
            return int(value)
    if isinstance(value, str) and any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in value):
        fail(key, f"has a line break or control character: {shown(value)}", "remove it")
    return value


def _resolved(node: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in node:
        return node
    return functools.reduce(lambda at, part: at[part], node["$ref"].split("/")[1:], schema())


def _types(node: dict[str, Any]) -> list[str]:
    kind = node["type"]
    return [kind] if isinstance(kind, str) else kind


# --- messages -----------------------------------------------------------------------------------


def fail(key: Key, what: str, remedy: str) -> NoReturn:
    """Raise a UserError about a key, in one line."""
    raise UserError(f"config: {_dotted(key)}: {what}; {remedy}")


def _dotted(key: Key) -> str:
    parts = (f"[{p}]" if isinstance(p, int) else "." + (p if _plain(p) else shown(p)) for p in key)
    return "".join(parts).lstrip(".") or "the whole config"


def _plain(name: str) -> bool:
    return 0 < len(name) <= 80 and name.isprintable()


def shown(value: Any) -> str:
    """`value` in a few words, on one line."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    short = reprlib.Repr()
    short.maxstring = short.maxother = 60
    short.maxlist = short.maxdict = 8
    return " ".join(short.repr(value).split())


def nearest(name: str, choices: list[str]) -> str:
    """`did you mean X?`, or the choices when none is near."""
    close = difflib.get_close_matches(name, choices, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(choices)}"


def _unknown(key: Key, siblings: list[str]) -> NoReturn:
    name = str(key[-1])
    close = difflib.get_close_matches(name, siblings, n=1)
    elsewhere = sorted((path for path in paths(schema()) if path[-1] == name), key=len)[:2]
    if close:
        remedy = f"did you mean {_dotted((*key[:-1], close[0]))}?"
    elif elsewhere:
        remedy = f"did you mean {' or '.join(map(_dotted, elsewhere))}?"
    else:
        remedy = f"keys known here are {', '.join(siblings)}"
    fail(key, "unknown key", remedy)


def paths(node: dict[str, Any], key: Key = ()) -> Iterator[Key]:
    """Paths of all keys that the schema names."""
    for name, child in node.get("properties", {}).items():
        yield (*key, name)
        yield from paths(child, (*key, name))


def usual(key: Key) -> str:
    """`the default is X` for a key, or the entry of a list, and where to read about it."""
    node, default = schema(), None
    for part in key:
        if isinstance(part, int):
            node = node["items"]
        else:
            node = node.get("properties", {}).get(part) or node["additionalProperties"]
        node = _resolved(node)
        if "object" not in _types(node):
            default = node.get("default", default)
    if default is None:
        return "see docs/configuration.md"
    return f"the default is {str(default).lower() if isinstance(default, bool) else default}"


KINDS = {
    "object": "keys and values",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
LIMITS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "above",
    "exclusiveMaximum": "below",
}


def validate(config: dict[str, Any]) -> None:
    """UserError for the first place where `config`, defaults filled in, breaks the schema."""
    from jsonschema import Draft202012Validator

    errors = Draft202012Validator(schema()).iter_errors(config)
    error = min(errors, key=lambda e: [str(part) for part in e.absolute_path], default=None)
    if error is None:
        return
    key, rule, value = tuple(error.absolute_path), error.validator, error.validator_value
    given = f"got {shown(error.instance)}"
    if "propertyNames" in error.absolute_schema_path:
        given = "as the name of an entry, " + given
    if rule == "type":
        expected = " or ".join(KINDS[kind] for kind in _types(error.schema))
        quotes = "string" in _types(error.schema) and not isinstance(error.instance, list | dict)
        remedy = "put it in quotes" if quotes and error.instance is not None else usual(key)
        fail(key, f"expected {expected}, {given}", remedy)
    if rule == "enum":
        fail(key, f"unknown value, {given}", f"choose one of {', '.join(value)}")
    if rule in LIMITS:
        fail(key, f"must be {LIMITS[rule]} {value}, {given}", usual(key))
    if rule == "pattern":
        fail(key, f"not allowed, {given}", f"use {error.schema['x-allowed']}")
    if rule == "maxLength":
        fail(key, f"too long, {given}", f"use at most {value} characters")
    if rule == "uniqueItems":
        fail(key, f"has an entry twice, {given}", "name each once")
    if rule in ("minItems", "maxItems", "minProperties", "minLength"):
        what = "must not be empty" if value == 1 else f"must have {value} entries, {given}"
        fail(key, what, "name at least one" if rule == "minProperties" else usual(key))
    fail(key, " ".join(error.message.split()), usual(key))

"""Values become keys: read as a config file or a command line writes them, checked, refused in one
line.

Numbers and booleans written as text are read as such (PyYAML takes `1e-4` for text, and so does the
command line for all in a list), whole numbers become int and others float, an empty section has its
defaults, and a freely named entry that is null is dropped.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import reprlib
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, NoReturn, TypeVar, Union

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from vlg.config.patterns import ALLOWED
from vlg.errors import UserError

NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
NULL = ("null", "~", "")  # as the command line writes it, where all is text
SEE = "see docs/configuration.md"

Key = tuple[str | int, ...]
Group = TypeVar("Group", bound=BaseModel)


def read(keys: type[Group], values: Any, key: Key = (), of: str = "") -> Group:
    """The group of settings that `values` say.

    key: where they stand in the config, for messages. of: whose keys they are, for example
    `method embed`, where that is not plain from `key`.
    Raises UserError naming the key, what is wrong and the remedy.
    """
    cleaned = clean(keys, values, key, of)
    try:
        return keys.model_validate(cleaned)
    except ValidationError as error:
        refuse(keys, cleaned, error, lambda path: (*key, *path))


def read_one(keys: type[BaseModel], name: str, value: Any, key: Key, of: str = "") -> Any:
    """The value of one key of a group, checked without the others.

    key: where this very value stands; other arguments as those of `read`.
    """
    if name not in keys.model_fields:
        raise UnknownKey(key, list(keys.model_fields), of)
    field = keys.model_fields[name]
    cleaned = {name: clean(field.annotation, value, key, remedy=usual(_default(field)))}
    try:
        keys.model_validate(cleaned)
    except ValidationError as error:
        if any(each["loc"][:1] == (name,) for each in error.errors(include_url=False)):
            refuse(keys, cleaned, error, lambda path: (*key, *path[1:]), name)
    return cleaned[name]


# --- reading ------------------------------------------------------------------------------------


def clean(annotation: Any, value: Any, key: Key, of: str = "", remedy: str = SEE) -> Any:
    """`value` as one of the kinds that `annotation` allows if it can be read so; else unchanged,
    for pydantic to refuse. UserError for unknown keys and for what no key may hold; `remedy` is
    what to do about a number."""
    options = list(members(annotation))
    kinds = {kind(option) for option in options}
    for option in options:
        if kind(option) == "keys" and (value is None or isinstance(value, Mapping)):
            return _clean_group(option, value or {}, key, of)
        if kind(option) == "entries" and (value is None or isinstance(value, Mapping)):
            inner = typing.get_args(option)[1]
            named = {_name(name, key): item for name, item in (value or {}).items()}
            if inner is Any:
                return named
            return {
                name: clean(inner, item, (*key, name))
                for name, item in named.items()
                if item is not None and item not in NULL
            }
        if kind(option) == "list" and isinstance(value, list | tuple):
            item = typing.get_args(option)[0]
            many = [clean(item, each, (*key, i), remedy=remedy) for i, each in enumerate(value)]
            return tuple(many) if typing.get_origin(option) is tuple else many
    return value if "any" in kinds else _clean_scalar(kinds, value, key, remedy)


def _clean_group(
    keys: type[BaseModel], values: Mapping[Any, Any], key: Key, of: str
) -> dict[str, Any]:
    given = {_name(name, key): item for name, item in values.items()}
    for name in given:
        if name not in keys.model_fields:
            raise UnknownKey((*key, name), list(keys.model_fields), of)
    return {
        name: clean(field.annotation, given.get(name), (*key, name), remedy=usual(_default(field)))
        for name, field in keys.model_fields.items()
        if name in given or field.default_factory  # a section
    }


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


def _clean_scalar(kinds: set[str], value: Any, key: Key, remedy: str) -> Any:
    if isinstance(value, str) and "text" not in kinds:
        if "null" in kinds and value in NULL:
            return None
        if "boolean" in kinds and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if {"whole", "number"} & kinds and len(value) < 40 and NUMBER.fullmatch(value):
            value = int(value) if value.lstrip("+-").isdigit() else float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not abs(value) < 2**63:  # refuses infinity and not-a-number too
            fail(key, "must be a finite number of ordinary size", remedy)
        if "number" in kinds:
            return float(value)  # so that 0 and 0.0 are the same setting
        if "whole" in kinds and value == int(value):
            return int(value)
    if isinstance(value, str) and any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in value):
        fail(key, f"has a line break or control character: {shown(value)}", "remove it")
    return value


def members(annotation: Any) -> Iterator[Any]:
    """The types that an annotation allows, without what is noted beside them."""
    if typing.get_origin(annotation) is Annotated:
        yield from members(typing.get_args(annotation)[0])
    elif typing.get_origin(annotation) in (Union, types.UnionType):
        for each in typing.get_args(annotation):
            yield from members(each)
    else:
        yield annotation


def kind(annotation: Any) -> str:
    """What sort of value a type, one of `members`, is."""
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return kind(type(typing.get_args(annotation)[0]))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "keys"
    plain = {str: "text", bool: "boolean", int: "whole", float: "number", type(None): "null"}
    containers = {dict: "entries", list: "list", tuple: "list"}
    return containers.get(origin) or plain.get(annotation, "any")


# --- messages -----------------------------------------------------------------------------------


def fail(key: Key, what: str, remedy: str) -> NoReturn:
    """Raise a UserError about a key, in one line."""
    raise UserError(f"config: {dotted(key)}: {what}; {remedy}")


@contextlib.contextmanager
def under(key: Key) -> Iterator[None]:
    """What is wrong within is told of this key."""
    try:
        yield
    except UserError as error:
        raise UserError(f"config: {dotted(key)}: {error}") from None


def dotted(key: Key) -> str:
    """`finetune.steps[1]`."""
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
    if isinstance(value, tuple):
        value = list(value)
    short = reprlib.Repr()
    short.maxstring = short.maxother = 60
    short.maxlist = short.maxdict = 8
    return " ".join(short.repr(value).split())


def nearest(name: str, choices: list[str]) -> str:
    """`did you mean X?`, or the choices when none is near."""
    close = difflib.get_close_matches(name, choices, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(choices)}"


class UnknownKey(UserError):
    """A key that is not among its `siblings`, the keys of `of`.

    elsewhere: paths of keys of the whole config, among which one of this name may be meant.
    """

    def __init__(
        self, key: Key, siblings: list[str], of: str = "", elsewhere: Iterable[Key] = ()
    ) -> None:
        self.key, self.siblings, self.of = key, siblings, of
        name = str(key[-1])
        close = difflib.get_close_matches(name, siblings, n=1)
        there = sorted((path for path in elsewhere if path[-1] == name), key=len)[:2]
        if close and not (there and len(key) == 1):
            remedy = f"did you mean {dotted((*key[:-1], close[0]))}?"
        elif there and (len(key) > 1 or not of):
            remedy = f"did you mean {' or '.join(map(dotted, there))}?"
        else:
            remedy = f"keys known here are {', '.join(siblings)}"
        what = f"unknown key of {of}" if of else "unknown key"
        super().__init__(f"config: {dotted(key)}: {what}; {remedy}")

    def among(self, paths: Iterable[Key]) -> UnknownKey:
        """The same with the remedy of one who knows all keys."""
        return UnknownKey(self.key, self.siblings, self.of, paths)


KINDS = {
    "keys": "keys and values",
    "entries": "keys and values",
    "list": "a list",
    "text": "text",
    "whole": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
LIMITS = {
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
    "greater_than": ("above", "gt"),
    "less_than": ("below", "lt"),
}


def refuse(
    keys: type[BaseModel],
    values: Any,
    error: ValidationError,
    place: Callable[[Key], Key],
    name: str | None = None,
) -> NoReturn:
    """Tell the first of pydantic's errors as a UserError.

    place: where in the config the key of a group stands. name: of the only key that counts.
    """
    errors = [e for e in error.errors(include_url=False) if name is None or e["loc"][:1] == (name,)]
    (path, annotation, default), first = _first(keys, errors)
    what, context, value = first["type"], first.get("ctx", {}), first["input"]
    if what == "missing" and isinstance(path[-1], int):  # an entry of a list of fixed length
        path, what, context = path[:-1], "too_short", {"min_length": _size(keys, path)}
        value = value_at(values, path)
    where, named = place(path), "[key]" in first["loc"]
    given = ("as the name of an entry, " if named else "") + f"got {shown(value)}"
    if what == "disagree":
        fail(place((*path, context["key"])), context["what"], context["remedy"])
    if what == "missing":
        fail(where, "missing", "give it")
    if what == "twice":
        fail(where, f"has an entry twice, {given}", "name each once")
    if what == "literal_error" and (named or isinstance(value, type(_choices(annotation)[0]))):
        choices = _choices(annotation)
        fail(where, f"unknown value, {given}", f"choose one of {', '.join(map(str, choices))}")
    if what in LIMITS:
        words, name = LIMITS[what]
        fail(where, f"must be {words} {_plainly(context[name])}, {given}", usual(default))
    if what == "multiple_of":
        fail(where, f"{value} is not a multiple of {context['multiple_of']}", usual(default))
    if what == "string_pattern_mismatch":
        # A letter of another alphabet may look like one of ours, or not be seen at all.
        odd = next((f" for {c!r} (U+{ord(c):04X})" for c in value if not c.isascii()), "")
        fail(where, f"not allowed{odd}, {given}", f"use {ALLOWED[context['pattern']]}")
    if what == "string_too_long":
        fail(where, f"too long, {given}", f"use at most {context['max_length']} characters")
    if what in ("too_short", "too_long", "string_too_short"):
        number = context.get("min_length", context.get("max_length"))
        words = "must not be empty" if number == 1 else f"must have {number} entries, {given}"
        fail(where, words, "name at least one" if isinstance(value, dict) else usual(default))
    if what.endswith("_type") or what == "literal_error":
        kinds = [kind(option) for option in members(annotation)]
        expected = " or ".join(dict.fromkeys(KINDS[each] for each in kinds if each in KINDS))
        quotes = "text" in kinds and value is not None and not isinstance(value, list | dict)
        fail(
            where, f"expected {expected}, {given}", "put it in quotes" if quotes else usual(default)
        )
    fail(where, " ".join(first["msg"].split()), usual(default))


def usual(default: Any) -> str:
    """`the default is X`, or where to read about it."""
    if default is None:
        return SEE
    words = list(default) if isinstance(default, tuple) else default
    return f"the default is {str(words).lower() if isinstance(words, bool) else words}"


Place = tuple[Key, Any, Any]  # a key with its annotation and its default


def _first(keys: type[BaseModel], errors: list[Any]) -> tuple[Place, Any]:
    """(place, error) of the first by place; of a union's members, that of the fitting."""
    found = [(_place(keys, each["loc"]), each) for each in errors]

    def other_member(path: Key, each: Any) -> bool:
        deeper = any(other[: len(path)] == path != other for (other, *_), _ in found)
        same = any(other == path and not _of_type(one) for (other, *_), one in found)
        return _of_type(each) and (deeper or same)

    fitting = [(place, each) for place, each in found if not other_member(place[0], each)]
    return min(fitting, key=lambda each: [str(part) for part in each[0][0]])


def _of_type(error: Any) -> bool:
    return error["type"].endswith("_type")


def _place(keys: Any, loc: tuple[str | int, ...]) -> Place:
    """What one of pydantic's places means. An entry of a list has the list's default."""
    path: list[str | int] = []
    trail = [(keys, None)]
    label = False  # whether the name of a union's member came last
    for part in loc:
        annotation, default = trail[-1]
        options = [option for option in members(annotation) if kind(option) != "null"]
        if part == "[key]":
            path.pop()
            trail.pop()
        elif len(options) > 1 and not label:
            label = True
        else:
            label = False
            path.append(part)
            trail.append(_inside(options, part, default))
    return tuple(path), *trail[-1]


def _inside(options: list[Any], part: str | int, default: Any) -> tuple[Any, Any]:
    """(annotation, default) of a part of what has one of these types."""
    for option in options:
        arguments = typing.get_args(option)
        if isinstance(part, int) and kind(option) == "list":
            return arguments[min(part, len(arguments) - 1)], default
        if kind(option) == "keys":
            field = option.model_fields[part]
            return field.annotation, _default(field)
        if kind(option) == "entries":
            return arguments[1], None
    return Any, None


def _default(field: FieldInfo) -> Any:
    """The default of a key, for a message; None where there is none worth telling."""
    default = field.get_default()
    return default if isinstance(default, str | int | float | list | tuple) else None


def _size(keys: type[BaseModel], path: Key) -> int:
    """How many entries a list of fixed length has."""
    annotation = _place(keys, path[:-1])[1]
    return max(len(typing.get_args(o)) for o in members(annotation) if kind(o) == "list")


def value_at(values: Any, path: Key) -> Any:
    """The value of a key."""
    for part in path:
        values = values[part]
    return values


def _choices(annotation: Any) -> list[Any]:
    literals = [o for o in members(annotation) if typing.get_origin(o) is Literal]
    return [choice for literal in literals for choice in typing.get_args(literal)]


def _plainly(limit: float) -> str:
    """A limit as a person writes it: 1 and not 1.0."""
    return str(int(limit)) if limit == int(limit) else str(limit)

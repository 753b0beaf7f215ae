"""Which method, arm or kind of judge an entry of the config is of, and its class of keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlg import plugins
from vlg.config.read import Key, clean, fail, nearest, shown


def kind_of(room: str, own: Any, key: Key, name: str, otherwise: str) -> tuple[str, dict[str, Any]]:
    """(the kind that an entry says, or its name, or `otherwise`; its other values)."""
    if not isinstance(own, Mapping):
        fail(key, f"expected keys and values, got {shown(own)}", "see docs/configuration.md")
    values = clean(dict[str, Any], own, key)
    if "kind" in values:
        return known(room, values.pop("kind"), (*key, "kind")), values
    return (name if name in plugins.names(room) else otherwise), values


def known(room: str, name: Any, key: Key) -> str:
    """`name` if it is one of a room's; UserError when not."""
    names = plugins.names(room)
    if name not in names:
        if why := plugins.refused(room, str(name)):
            fail(key, f"{shown(name)} is none: {why[0]}", why[1])
        fail(key, f"unknown value, got {shown(name)}", nearest(str(name), names))
    return name


def settings_of(room: str, name: str) -> type[Any]:
    """The class of the keys of a method, arm or kind of judge."""
    return plugins.load(room, name).Settings

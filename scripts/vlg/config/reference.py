"""All keys there are: those of the sections, and those of each method, arm and kind of judge."""

from __future__ import annotations

from collections.abc import Iterator

from vlg import plugins
from vlg.config import sections
from vlg.config.keys import Keys
from vlg.config.read import Key, kind, members


def paths() -> list[Key]:
    """Paths of all keys but those of freely named entries."""
    found = [*_paths(sections.Config, ())]
    for method in plugins.names(plugins.METHODS):
        own = plugins.load(plugins.METHODS, method).Settings.model_fields
        found += [("finetune", name) for name in own if name not in sections.Training.model_fields]
    return list(dict.fromkeys(found))


def _paths(keys: type[Keys], key: Key) -> Iterator[Key]:
    for name, field in keys.model_fields.items():
        yield (*key, name)
        for option in members(field.annotation):
            if kind(option) == "keys":
                yield from _paths(option, (*key, name))

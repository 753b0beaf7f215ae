"""What a config says of guides: the entries of `guides`, and the one that `models.guide` names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlg.config import sections
from vlg.config.read import clean, fail, read, shown

Config = Mapping[str, Any]
ORACLE, SHUFFLED = "oracle", "shuffled"  # the controls among guides
GUIDE = "guide"  # what members of a guide call `models.guide`, and the folder of that


def entries(config: Config) -> dict[str, sections.GuideKeys]:
    """The settings of the entries of `guides` by name. UserError names a wrong key."""
    result = {}
    for name, own in config["guides"].items():
        key = ("guides", name)
        if not isinstance(own, Mapping):
            fail(key, f"expected keys and values, got {shown(own)}", "see docs/configuration.md")
        result[name] = read(sections.GuideKeys, clean(dict[str, Any], own, key), key)
    return result


def entry(config: Config, name: str | None = None) -> sections.GuideKeys | None:
    """The settings of a guide, of `models.guide` where it has no name; None where that is the
    source of an open_clip itself."""
    chosen = config["models"]["guide"] if name in (None, GUIDE) else name
    return entries(config).get(chosen)


def folder(config: Config, name: str | None = None) -> str:
    """What a guide's folder below models/ is called."""
    own = name in (None, GUIDE, config["models"]["guide"])
    return GUIDE if own else f"{GUIDE}_{name}"


def kinds(config: Config, name: str | None = None) -> list[str]:
    """The kinds of judges by which a guide looks, but for open_clip, which every guide knows."""
    settings = entry(config, name)
    if settings is None:
        return []
    usual = sections.GuideKeys.model_fields["kind"].default
    found = set() if settings.members and not settings.control else {settings.kind}
    found |= {kind for member in inside(settings) for kind in kinds(config, member)}
    return sorted(found - {usual})


def inside(settings: sections.GuideKeys) -> list[str]:
    """The guides that one is made of, `guide` of a shuffled one that names none."""
    return list(settings.members) or ([GUIDE] if settings.control == SHUFFLED else [])


def black_box(settings: sections.GuideKeys | None) -> bool:
    """Whether a guide says what a picture is worth, and has no gradient."""
    return settings is not None and settings.control == ORACLE


def made(config: Config) -> dict[str, sections.GuideKeys]:
    """{folder below models/: settings} of the entries of `guides`."""
    return {folder(config, name): each for name, each in entries(config).items()}

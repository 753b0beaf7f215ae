"""Lists of values become entries of their own: sweeps over several keys, ladders of doses over one.

A member's name is that of the whole, then each key that varies, shortened, with its value:
`strength` with guide_scale 0.05 and window [0, 600] is `strength_gs0_05_w0_600`. It depends on the
member's own values only, so values may be added, and keys reordered.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlg import plugins
from vlg.config import layout, sections
from vlg.config.keys import Keys, said_of
from vlg.config.read import Key, UnknownKey, clean, fail, read_one, shown

DOSES = "doses"
ROUNDS = "rounds"


@dataclass(frozen=True)
class Ladder:
    """A method or an arm over doses of one key.

    key: where it stands in the config. dose: the key that varies. published: the dose that was
    published, if one was. rungs: {name of the entry: its dose}. Rounds go on from each other, so a
    ladder of rounds is one entry, whose rounds `values` are.
    """

    key: Key
    dose: str
    published: float | None
    values: list[Any]
    rungs: dict[str, Any]


def values(keys: type[Keys], name: str, given: Any, key: Key) -> list[Any]:
    """The values of one key that varies; UserError where they are none, or one is there twice."""
    if not isinstance(given, list):
        fail(key, f"expected a list, got {shown(given)}", "see docs/configuration.md")
    if not given:
        fail(key, "must not be empty", "name at least one value")
    result = [read_one(keys, name, value, (*key, i)) for i, value in enumerate(given)]
    if any(value in result[:place] for place, value in enumerate(result)):
        fail(key, f"has an entry twice, got {shown(given)}", "name each once")
    return result


def members(
    whole: str, keys: type[Keys], vary: Mapping[str, Sequence[Any]], order: Sequence[str], key: Key
) -> dict[str, dict[str, Any]]:
    """{name: own values} of the entries, one for each combination of the lists.

    whole: what they are called together. order: of the keys in a name. key: where they stand.
    """
    result = {}
    for chosen in itertools.product(*vary.values()):
        own = dict(zip(vary, chosen, strict=True))
        parts = [_in_a_name(keys, each, own[each]) for each in order if each in own]
        name = "_".join([whole, *parts])
        if not re.fullmatch(layout.NAME, name):
            fail(key, f"gives an entry the name {shown(name)}", "vary other keys")
        result[name] = own
    return result


def ladder(
    whole: str,
    room: str,
    kind: str,
    keys: type[Keys],
    known: Sequence[str],
    entry: Mapping[str, Any],
    key: Key,
) -> Ladder:
    """The ladder that `doses` of an entry says: `{key: [values]}`, or a list for the key that the
    file of its method or kind names.

    known: which keys may vary. key: where the entry stands.
    """
    at, given = (*key, DOSES), entry[DOSES]
    own, published = plugins.constant(room, kind, "DOSE", (None, None))
    said = clean(sections.Doses.model_fields[DOSES].annotation, given, at)
    if isinstance(said, list):
        if own is None:
            fail(at, f"{kind} has no dose of its own", f"name a key, as {{{known[0]}: [...]}}")
        said = {own: said}
    if not isinstance(said, dict) or len(said) != 1:
        what = f"expected a list, or one key with a list, got {shown(given)}"
        fail(at, what, "use a sweep for several keys" if room == plugins.METHODS else "name one")
    ((dose, many),) = said.items()
    if dose not in known:
        raise UnknownKey((*at, dose), list(known), f"{kind}")
    if entry.get(dose) is not None:  # null in an overlay takes away what it lies over
        fail((*key, dose), "stands beside doses of it", "write it among them")
    chosen = values(keys, dose, many, (*at, dose))
    for i, value in enumerate(chosen):
        if isinstance(value, bool) or not isinstance(value, int | float):
            fail((*at, dose, i), f"a dose is a number, got {shown(value)}", "vary another key")
    if dose == ROUNDS:
        rungs = {whole: max(chosen)}
    else:
        found = members(whole, keys, {dose: chosen}, [dose], at)
        rungs = {name: each[dose] for name, each in found.items()}
    return Ladder(key, dose, published if dose == own else None, chosen, rungs)


def _in_a_name(keys: type[Keys], key: str, value: Any) -> str:
    values = value if isinstance(value, list | tuple) else [value]
    text = "_".join(str(v).lower().replace("+", "") for v in values)
    return said_of(keys, key).get("short", f"{key}_") + re.sub("[.-]", "_", text)

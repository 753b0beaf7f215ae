"""The variants of a config, those of its sweeps among them, with the settings of their methods."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from vlg import plugins
from vlg.config import layout, sections
from vlg.config.keys import Keys, said_of
from vlg.config.kinds import known, settings_of
from vlg.config.read import Key, UnknownKey, clean, fail, read, read_one, refuse, shown

# Keys of a fine-tuning that a step gets and a config has elsewhere.
OF_A_STEP = sections.Training.model_fields.keys() - sections.Shared.model_fields.keys() | {
    "sampling"
}

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Variant:
    """A way to fine-tune: a method with its settings, trained to the last of `finetune.steps`.

    own: the values that the variant itself gives. key: where these stand in the config.
    """

    method: str
    settings: sections.Training
    own: dict[str, Any]
    key: Key

    @property
    def needs(self) -> frozenset[str]:
        """What it is trained from, of latents, pixels, guide, pairs, samples."""
        needs = set(plugins.constant(plugins.METHODS, self.method, "NEEDS", ("latents",)))
        if not self.settings.cached and "latents" in needs:
            needs = needs - {"latents"} | {"pixels"}
        return frozenset(needs | ({"guide"} if self.settings.watch_guide else set()))

    @property
    def folders(self) -> dict[str, str]:
        """{key: path} of those of its settings that are folders to read."""
        paths = {name: getattr(self.settings, name) for name in self.settings.inputs()}
        return {name: path for name, path in paths.items() if path is not None}

    @property
    def pairs(self) -> tuple[str, sections.Pairs] | None:
        """(a digest, how own samples are drawn) of a method that needs pairs."""
        if "pairs" not in self.needs:
            return None
        chosen: sections.Pairs = self.settings.pairs()  # type: ignore[attr-defined]
        text = json.dumps(chosen.handed_on(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12], chosen

    def place(self, name: str) -> Key:
        """Under which key of the config the value of one of its settings stands."""
        return self.key if name in self.own else ("finetune",)

    def handed_on(self, step: int, start: int = 0, seed: int = 0) -> dict[str, Any]:
        """What the step gets that trains it from `start` to `step`, ready for JSON.

        What means nothing to the method, or is at the value that changes nothing, is left out, so
        that neither changing it nor a new key of that kind reruns anything.
        """
        values = {"method": self.method, **self.settings.handed_on()}
        if "guide" in plugins.constant(plugins.METHODS, self.method, "NEEDS", ()):
            values.pop("watch_guide", None)  # it is logged in any case
        return values | {"start": start, "step": step, "seed": seed}


def entries(config: Config) -> dict[str, Variant]:
    """The variants by name, those of sweeps after the named ones. UserError names a wrong key."""
    tuning = config["finetune"]
    result = {
        name: _variant(config, name, own, ("finetune", "variants", name))
        for name, own in tuning["variants"].items()
    }
    for sweep in tuning["sweeps"]:
        key = ("finetune", "sweeps", sweep)
        for name, own in members(config, sweep).items():
            variant = _variant(config, sweep, own, key)
            named = result.setdefault(name, variant)
            # A member that has been named a variant, with the same values, is that variant.
            if (named.method, named.settings) != (variant.method, variant.settings):
                fail(key, f"gives a second variant the name {name}", "rename the sweep")
    return result


def method_of(config: Config, name: str, own: Mapping[str, Any], key: Key) -> str:
    """The method of a variant: what it says, or what its name says, or the seed's two.

    Before methods had names, `guide_scale` told them apart: 0 was normal fine-tuning, and anything
    above embed fine-tuning. A variant without a `method` is still read so.
    """
    if "method" in own:
        return known(plugins.METHODS, own["method"], (*key, "method"))
    given = own if "guide_scale" in own else config["finetune"]
    scale = clean(float, given.get("guide_scale"), (*key, "guide_scale"))
    if name in plugins.names(plugins.METHODS) and scale != 0:
        return name
    return "embed" if isinstance(scale, float) and scale > 0 else "normal"


def _variant(config: Config, name: str, own: Any, key: Key) -> Variant:
    if not isinstance(own, Mapping):
        fail(key, f"expected keys and values, got {shown(own)}", "see docs/configuration.md")
    own = clean(dict[str, Any], own, key)
    shared, method = config["finetune"], method_of(config, name, own, key)
    keys = settings_of(plugins.METHODS, method)
    scale = clean(float, own.get("guide_scale"), (*key, "guide_scale"))
    values, unused = {}, {"step": 1}
    embed = settings_of(plugins.METHODS, "embed")
    for name, value in own.items():
        if name in config_keys(keys):
            values[name] = read_one(keys, name, value, (*key, name))
        # Beside a guide_scale of 0 the guide's keys may stand, and mean nothing.
        elif name in config_keys(embed) and "method" not in own and not scale:
            unused[name] = read_one(embed, name, value, (*key, name))
        elif name != "method":
            raise UnknownKey((*key, name), ["method", *config_keys(keys)], f"method {method}")
    read(embed, unused, key)
    merged = {name: shared[name] for name in config_keys(keys) if name in shared}
    merged |= values
    if not merged["cached"]:
        merged["resolution"] = config["dataset"]["resolution"]
        merged["flip"] = config["encode"]["flip"]
    if issubclass(keys, sections.Sampled):
        chosen = sections.Denoising.model_fields
        merged["sampling"] = {name: config["generate"][name] for name in chosen}
    merged = clean(keys, {**merged, "step": shared["steps"][-1]}, key)
    try:
        settings = keys.model_validate(merged)
    except ValidationError as error:
        places = dict.fromkeys(shared.keys() - values.keys(), ("finetune",))
        refuse(keys, merged, error, lambda path: (*places.get((*path, "")[0], key), *path))
    given = values | unused
    return Variant(method, settings, {n: given.get(n, method) for n in own}, key)


def config_keys(keys: type[Keys]) -> list[str]:
    """The keys of a method that a config may set, its own first."""
    known = {*sections.Shared.model_fields, *OF_A_STEP}
    own = [name for name in keys.model_fields if name not in known]
    return [*own, *sections.Shared.model_fields]


def members(config: Config, sweep: str) -> dict[str, dict[str, Any]]:
    """{name: own values} of the variants of a sweep, one for each combination of its lists.

    A name is the sweep's, then each swept key, shortened, with its value: `strength` with
    guide_scale 0.05 and window [0, 600] is `strength_gs0_05_w0_600`. It depends on the member's own
    values only, so values may be added to a sweep, and its keys reordered.
    """
    values = grid(config, sweep)
    fixed = {"method": values.pop("method")} if "method" in values else {}
    keys = _swept_keys(sweep, fixed)
    order = [name for name in config_keys(keys) if name in values]
    result = {}
    for chosen in itertools.product(*values.values()):
        own = dict(zip(values, chosen, strict=True))
        name = "_".join([sweep, *(_in_a_name(keys, each, own[each]) for each in order)])
        if not re.fullmatch(layout.NAME, name):
            key = ("finetune", "sweeps", sweep)
            fail(key, f"gives a variant the name {shown(name)}", "sweep other keys")
        result[name] = fixed | own
    return result


def grid(config: Config, sweep: str) -> dict[str, Any]:
    """What a sweep varies, {key: list of values}, with its `method` where it says one."""
    key: Key = ("finetune", "sweeps", sweep)
    given = clean(dict[str, Any], config["finetune"]["sweeps"][sweep], key)
    result = {}
    if "method" in given:
        result["method"] = known(plugins.METHODS, given.pop("method"), (*key, "method"))
    keys = _swept_keys(sweep, result)
    of = f"method {result['method']}" if result else ""
    if not given:
        fail(key, "must not be empty", "name at least one")
    for name, values in given.items():
        at = (*key, name)
        if name not in config_keys(keys):
            raise UnknownKey(at, ["method", *config_keys(keys)], of)
        if not isinstance(values, list):
            fail(at, f"expected a list, got {shown(values)}", "see docs/configuration.md")
        if not values:
            fail(at, "must not be empty", "name at least one value")
        result[name] = [read_one(keys, name, value, (*at, i)) for i, value in enumerate(values)]
        if any(value in result[name][:place] for place, value in enumerate(result[name])):
            fail(at, f"has an entry twice, got {shown(values)}", "name each once")
    return result


def _swept_keys(sweep: str, fixed: Mapping[str, Any]) -> type[Keys]:
    """The keys among which those of a sweep are; without a method they may be the guide's."""
    method = fixed.get("method", sweep)
    known = plugins.names(plugins.METHODS)
    return settings_of(plugins.METHODS, method if method in known else "embed")


def _in_a_name(keys: type[Keys], key: str, value: Any) -> str:
    values = value if isinstance(value, list | tuple) else [value]
    text = "_".join(str(v).lower().replace("+", "") for v in values)
    return said_of(keys, key).get("short", f"{key}_") + re.sub("[.-]", "_", text)

"""The variants of a config, those of its sweeps among them, with the settings of their methods."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from vlg import plugins
from vlg.config import grids, guides, sections
from vlg.config.keys import Keys
from vlg.config.kinds import known, settings_of
from vlg.config.read import (
    Key,
    UnknownKey,
    clean,
    fail,
    nearest,
    read,
    read_one,
    refuse,
    shown,
)

# Keys of a fine-tuning that a step gets and a config has elsewhere.
OF_A_STEP = sections.Training.model_fields.keys() - sections.Shared.model_fields.keys() | {
    "sampling"
}

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Variant:
    """A way to fine-tune: a method with its settings, trained to the last of `finetune.steps`.

    own: the values that the variant itself gives. key: where these stand in the config. guide: the
    folder below models/ of the guide that it follows or logs. control: what it is there for, where
    its guide is the `oracle` or a `shuffled` one.
    """

    method: str
    settings: sections.Training
    own: dict[str, Any]
    key: Key
    guide: str = guides.GUIDE
    control: str = ""

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
        another = {} if self.guide == guides.GUIDE else {"guide": self.guide}
        text = json.dumps(chosen.handed_on() | another, sort_keys=True)
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
    """The variants by name: the named ones, rungs of ladders in their place, then those of sweeps.
    UserError names a wrong key."""
    tuning = config["finetune"]
    result: dict[str, Variant] = {}
    for name, own in tuning["variants"].items():
        key: Key = ("finetune", "variants", name)
        for each, values in rungs(name, own).items():
            _add(result, each, _variant(config, each, values, key), "rename the ladder")
    for sweep in tuning["sweeps"]:
        key = ("finetune", "sweeps", sweep)
        for name, own in members(config, sweep).items():
            _add(result, name, _variant(config, sweep, own, key), "rename the sweep")
    return result


def _add(known: dict[str, Variant], name: str, variant: Variant, remedy: str) -> None:
    """A member that has been named a variant, with the same values, is that variant."""
    named = known.setdefault(name, variant)
    if any(getattr(named, own) != getattr(variant, own) for own in ("method", "settings", "guide")):
        fail(variant.key, f"gives a second variant the name {name}", remedy)


def named(config: Config) -> list[str]:
    """The names of all variants that draw the study's prompts: those of sweeps do not."""
    given = config["finetune"]["variants"].items()
    return list(dict.fromkeys(each for name, own in given for each in rungs(name, own)))


def rungs(name: str, own: Any) -> dict[str, Any]:
    """{name: own values} of a variant: itself, or the rungs of its ladder."""
    found = ladder(name, own)
    if found is None:
        plain = isinstance(own, Mapping) and grids.DOSES in own  # it says null
        return {name: {k: v for k, v in own.items() if k != grids.DOSES} if plain else own}
    fixed = {"method": ladder_method(name, own), **own}
    del fixed[grids.DOSES]
    return {each: {**fixed, found.dose: dose} for each, dose in found.rungs.items()}


def ladder(name: str, own: Any) -> grids.Ladder | None:
    """The ladder that a variant is, if it is one. UserError names a wrong key."""
    if not isinstance(own, Mapping) or own.get(grids.DOSES) is None:
        return None
    key = ("finetune", "variants", name)
    method = ladder_method(name, own)
    known(plugins.METHODS, method, (*key, "method"))
    keys = settings_of(plugins.METHODS, method)
    return grids.ladder(name, plugins.METHODS, method, keys, config_keys(keys), own, key)


def ladder_method(name: str, own: Mapping[str, Any]) -> Any:
    """The method of a ladder or sweep; without one it may be the guide's."""
    return own.get("method", name if name in plugins.names(plugins.METHODS) else "embed")


def said(config: Config, name: str) -> dict[str, Any]:
    """What a variant says, as it is read."""
    own = config["finetune"]["variants"][name]
    found = ladder(name, own)
    first = next(iter(rungs(name, own).items()))
    values = _variant(config, *first, ("finetune", "variants", name)).own
    if found is None:
        return values
    fixed = {key: value for key, value in values.items() if key in own and key != found.dose}
    return {**fixed, grids.DOSES: {found.dose: found.values}}


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
    values, unused, beside = {}, {"step": 1}, {}
    embed = settings_of(plugins.METHODS, "embed")
    for name, value in own.items():
        if name in config_keys(keys):
            values[name] = read_one(keys, name, value, (*key, name))
        # Beside a guide_scale of 0 the guide's keys may stand, and mean nothing.
        elif name in config_keys(embed) and "method" not in own and not scale:
            unused[name] = read_one(embed, name, value, (*key, name))
        elif name in sections.Beside.model_fields:
            beside[name] = read_one(sections.Beside, name, value, (*key, name))
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
    given = values | unused | beside
    variant = Variant(method, settings, {n: given.get(n, method) for n in own}, key)
    return _guided(config, variant, beside.get("guide"))


def _guided(config: Config, variant: Variant, name: str | None) -> Variant:
    """The variant with the guide that it names. The oracle ranks as `reward: verifier` does, and
    leaves to the study's guide what is logged."""
    settings, reward = variant.settings, getattr(variant.settings, "reward", None)
    if name is None:
        return replace(variant, control=guides.ORACLE if reward == "verifier" else "")
    entry, place = guides.entries(config).get(name), (*variant.key, "guide")
    if entry is None:
        fail(place, f"no such entry of guides: {shown(name)}", nearest(name, [*config["guides"]]))
    if not {"guide", "pairs"} & variant.needs:
        fail(place, f"{variant.method} follows no guide", "leave it out")
    if guides.black_box(entry):
        if reward is None:
            what = f"{name} has no gradient, which {variant.method} follows"
            fail(place, what, f"use one of {', '.join(ranking())}")
        if reward not in ("guide", "verifier"):
            fail(place, f"{name} stands beside reward: {reward}", "leave one of them out")
        ranked = settings.model_copy(update={"reward": "verifier"})
        return replace(variant, settings=ranked, control=entry.control)
    if entry.control == guides.SHUFFLED:
        if reward not in (None, "guide"):
            fail(place, f"{name} does not rank beside reward: {reward}", "leave one of them out")
        if getattr(settings, "target", "text") != "text":
            fail(place, f"{name} shuffles texts, and target is another", "set target: text")
    control = entry.control or (guides.ORACLE if reward == "verifier" else "")
    return replace(variant, guide=guides.folder(config, name), control=control)


def ranking() -> list[str]:
    """The methods that rank own samples, for which any score will do."""
    names = plugins.names(plugins.METHODS)
    return [n for n in names if "reward" in settings_of(plugins.METHODS, n).model_fields]


def config_keys(keys: type[Keys]) -> list[str]:
    """The keys of a method that a config may set, its own first."""
    known = {*sections.Shared.model_fields, *OF_A_STEP}
    own = [name for name in keys.model_fields if name not in known]
    return [*own, *sections.Shared.model_fields]


def members(config: Config, sweep: str) -> dict[str, dict[str, Any]]:
    """{name: own values} of the variants of a sweep, as `vlg.config.grids` names them."""
    vary = grid(config, sweep)
    fixed = {"method": vary.pop("method")} if "method" in vary else {}
    keys = _swept_keys(sweep, fixed)
    key = ("finetune", "sweeps", sweep)
    found = grids.members(sweep, keys, vary, config_keys(keys), key)
    return {name: fixed | own for name, own in found.items()}


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
        result[name] = grids.values(keys, name, values, at)
    return result


def _swept_keys(sweep: str, fixed: Mapping[str, Any]) -> type[Keys]:
    """The keys among which those of a sweep are."""
    return settings_of(plugins.METHODS, ladder_method(sweep, fixed))

"""The config as a study uses it: every default filled in, every value checked.

It runs whenever the Snakefile is read, so it imports nothing heavy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlg import plugins
from vlg.config import guides, kinds, plan, sections, variants
from vlg.config.checks import check
from vlg.config.layout import Layout
from vlg.config.read import UnknownKey, read, read_one, shown
from vlg.data import benchmark
from vlg.errors import UserError


def load(config: Mapping[str, Any], root: Path | str) -> dict[str, Any]:
    """The config with every default filled in, checked as far as it can be before a job starts.

    Values are read as `vlg.config.read` says, and an entry that is null (a variant, sweep, arm or
    judge) is dropped. Variants and sweeps have the values that they were given, arms and judges all
    of theirs.

    config: as Snakemake merged it from files and command line; it is not changed.
    root: the folder that relative paths start from.
    Raises UserError naming the key and the remedy.
    """
    if not isinstance(config, Mapping):
        raise UserError(f"config: expected keys and values, got {shown(config)}; see config.yaml")
    try:
        plain, of_methods = _split(config)
        result = read(sections.Config, plain).model_dump()
        result["finetune"] |= of_methods
        _read_entries(result)
    except UnknownKey as error:
        from vlg.config.reference import paths  # of all keys: seldom wanted

        raise error.among(paths()) from None
    if not plan.has_base(result):
        _without_base(result)
    _of_benchmark(result)
    _expand(result)
    check(result, Path(root))
    return result


def _split(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the config without them; what `finetune` says of keys that only some methods have)."""
    tuning = config.get("finetune")
    if not isinstance(tuning, Mapping):
        return dict(config), {}
    owners: dict[str, str] = {}
    others = [name for name in tuning if name not in sections.Finetune.model_fields]
    if others:
        for method in reversed(plugins.names(plugins.METHODS)):
            keys = kinds.settings_of(plugins.METHODS, method)
            owners |= dict.fromkeys(keys.model_fields.keys() - variants.OF_A_STEP, method)
    given = {}
    for name in others:
        if isinstance(name, str) and name not in owners:
            raise UnknownKey(("finetune", name), [*sections.Finetune.model_fields, *owners])
        if name in owners:
            keys = kinds.settings_of(plugins.METHODS, owners[name])
            given[name] = read_one(keys, name, tuning[name], ("finetune", name))
    rest = {name: value for name, value in tuning.items() if name not in given}
    return {**config, "finetune": rest}, given


def _read_entries(config: dict[str, Any]) -> None:
    """Replace the freely named entries by what they are read as."""
    tuning = config["finetune"]
    variants.entries(config)
    tuning["variants"] = {name: _plain(variants.said(config, name)) for name in tuning["variants"]}
    tuning["sweeps"] = {name: _plain(variants.grid(config, name)) for name in tuning["sweeps"]}
    config["models"]["compare"] = {
        name: settings.model_dump(mode="json") for name, settings in plan.compared(config).items()
    }
    plan.all_arms(config)
    config["refine"]["arms"] = {name: plan.said(config, name) for name in config["refine"]["arms"]}
    config["guides"] = {
        name: settings.model_dump(mode="json") for name, settings in guides.entries(config).items()
    }
    config["judges"] = {
        name: settings.model_dump(mode="json") for name, settings in plan.judges(config).items()
    }


def _without_base(config: dict[str, Any]) -> None:
    """Leave out all that needs a base."""
    config["finetune"] |= {"variants": {}, "sweeps": {}}
    config["refine"]["models"] = []
    config["refine"]["arms"] = {
        name: {**arm, "models": None, "guide": None}
        for name, arm in config["refine"]["arms"].items()
    }
    config["models"]["guide"], config["guides"], config["positive_controls"] = None, {}, []


def _of_benchmark(config: dict[str, Any]) -> None:
    """Say what a benchmark tells by its name: how many prompts there are, what judges ask, and what
    people say."""
    wanted, found = config["prompts"], benchmark.parse(config["prompts"]["source"])
    if found is None:
        return
    if wanted["pool"] is None and wanted["challenge"] is None:
        wanted["pool"] = found.number(wanted["category"]) or None
    for own in config["judges"].values():
        key, *_ = found.judged.get(own["kind"], [None])
        if key and own[key] == "prompts":
            own[key] = Layout(config["study"]).benchmark(found.first)
    if found.rated and config["ratings"] == "prompts":
        config["ratings"] = Layout(config["study"]).benchmark(found.rated)


def _plain(values: Any) -> Any:
    """Values as a config file has them: lists, no tuples."""
    if isinstance(values, Mapping):
        return {name: _plain(value) for name, value in values.items()}
    return [*map(_plain, values)] if isinstance(values, list | tuple) else values


def _expand(config: dict[str, Any]) -> None:
    """Replace `~` in what are paths."""
    for own in config["models"]["compare"].values():
        files = own["lora"]
        own["lora"] = [*map(os.path.expanduser, files)] if isinstance(files, list) else files
    compared = config["models"]["compare"].values()
    places = [(own, part) for own in compared for part in ("source", "base", "lora")]
    places += [(config["models"], part) for part in ("base", "guide", "judge")]
    places += [(config[section], "source") for section in ("prompts", "dataset")]
    further = [config[part].values() for part in ("judges", "guides", "pictures")]
    places += [(each, "source") for entries in further for each in entries]
    tuning = config["finetune"]
    for variant in variants.entries(config).values():
        *_, section, name = variant.key
        own = tuning["variants"][name] if section == "variants" else {}
        places += [(own if key in own else tuning, key) for key in variant.folders]
    for values, key in places:
        if isinstance(values.get(key), str):
            values[key] = os.path.expanduser(values[key])

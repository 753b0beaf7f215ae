"""What a config asks for: variants, arms, judges, models and their trainings, shards, devices.

`config` is everywhere the whole config as `vlg.config.load.load` returns it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from vlg import plugins
from vlg.config import layout, sections
from vlg.config.keys import Keys, said_of
from vlg.config.layout import BASE, Model, parse_model
from vlg.config.read import Key, UnknownKey, clean, fail, nearest, read, read_one, refuse, shown
from vlg.data import hub, prompts
from vlg.workflow import slots

# The source of models, prompts and pictures that come with the pipeline, and which there are of a
# model.
SHAPES = "shapes"
EMBEDDED = {"base": (SHAPES, f"{SHAPES}-early"), "guide": (SHAPES,), "judge": (SHAPES,)}
# Keys of a fine-tuning that a step gets and a config has elsewhere.
OF_A_STEP = sections.Training.model_fields.keys() - sections.Shared.model_fields.keys() | {
    "sampling"
}

Config = Mapping[str, Any]


# --- variants -----------------------------------------------------------------------------------


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


def variants(config: Config) -> dict[str, Variant]:
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
    known = plugins.names(plugins.METHODS)
    if "method" in own:
        return _known(plugins.METHODS, own["method"], (*key, "method"))
    given = own if "guide_scale" in own else config["finetune"]
    scale = clean(float, given.get("guide_scale"), (*key, "guide_scale"))
    if name in known and scale != 0:
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
        result["method"] = _known(plugins.METHODS, given.pop("method"), (*key, "method"))
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


# --- arms and judges ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Arm:
    """A way to draw in rounds: its kind with its settings, how many rounds, with which models
    (`base` or `<variant>-<step>`)."""

    kind: str
    settings: sections.ArmKeys
    rounds: int
    models: list[str]

    @property
    def needs(self) -> frozenset[str]:
        """What it works with, of guide, pictures and base."""
        return frozenset(plugins.constant(plugins.ARMS, self.kind, "NEEDS", ()))

    @property
    def one_a_round(self) -> bool:
        """Whether after r rounds a picture has been made of r + 1 samples."""
        one = plugins.constant(plugins.ARMS, self.kind, "ONE_A_ROUND", True)
        return one and "pictures" in self.needs

    def handed_on(self) -> dict[str, Any]:
        """What its step gets: the kind, its settings and the number of rounds."""
        values = {"kind": self.kind, **self.settings.handed_on()}
        return values | {"rounds": self.rounds}


def arms(config: Config) -> dict[str, Arm]:
    """The arms by name; none with `refine.rounds: 0`."""
    return all_arms(config) if config["refine"]["rounds"] else {}


def all_arms(config: Config) -> dict[str, Arm]:
    """The arms by name. UserError names a wrong key."""
    refine, result = config["refine"], {}
    for name, own in refine["arms"].items():
        key = ("refine", "arms", name)
        kind, values = _kind(plugins.ARMS, own, key, name, "refine")
        settings = read(settings_of(plugins.ARMS, kind), values, key, f"arm {kind}")
        usual = plugins.constant(plugins.ARMS, kind, "ROUNDS", refine["rounds"])
        models = refine["models"] if settings.models is None else settings.models
        arm = Arm(kind, settings, settings.rounds or usual, models)
        if "base" in arm.needs:
            arm = replace(arm, models=[model for model in models if model != BASE])
            if models and not arm.models:
                fail(key, f"an arm {kind} draws with a fine-tuned model", "name some in its models")
        result[name] = arm
    return result


def refined(config: Config) -> list[tuple[str, str]]:
    """(model, arm) of all that arms draw, each training of a model by its own name."""
    known = arms(config)
    names = dict.fromkeys(
        [*config["refine"]["models"], *(m for a in known.values() for m in a.models)]
    )
    return [
        (run, name)
        for model in names
        for run in runs(config, [model])
        for name, arm in known.items()
        if model in arm.models
    ]


def judges(config: Config) -> dict[str, sections.JudgeKeys]:
    """The settings of the further judges by name. UserError names a wrong key."""
    result = {}
    for name, own in config["judges"].items():
        key = ("judges", name)
        default = sections.JudgeKeys.model_fields["kind"].default
        kind, values = _kind(plugins.KINDS, own, key, default, default)
        keys = settings_of(plugins.KINDS, kind)
        result[name] = read(keys, {"kind": kind, **values}, key, f"judge {kind}")
    return result


# --- guides -------------------------------------------------------------------------------------

GUIDE = "guide"  # what members of a guide call `models.guide`, and the folder of that


def guides(config: Config) -> dict[str, sections.GuideKeys]:
    """The settings of the entries of `guides` by name. UserError names a wrong key."""
    result = {}
    for name, own in config["guides"].items():
        key = ("guides", name)
        if not isinstance(own, Mapping):
            fail(key, f"expected keys and values, got {shown(own)}", "see docs/configuration.md")
        result[name] = read(sections.GuideKeys, clean(dict[str, Any], own, key), key)
    return result


def guide_of(config: Config, name: str | None = None) -> sections.GuideKeys | None:
    """The settings of a guide, of `models.guide` where it has no name; None where that is the
    source of an open_clip itself."""
    chosen = config["models"]["guide"] if name in (None, GUIDE) else name
    return guides(config).get(chosen)


def guide_folder(config: Config, name: str | None = None) -> str:
    """What a guide's folder below models/ is called."""
    own = name in (None, GUIDE, config["models"]["guide"])
    return GUIDE if own else f"{GUIDE}_{name}"


def guide_kinds(config: Config, name: str | None = None) -> list[str]:
    """The kinds of judges by which a guide looks, but for open_clip, which every guide knows."""
    settings = guide_of(config, name)
    if settings is None:
        return []
    usual = sections.GuideKeys.model_fields["kind"].default
    members = [guide_of(config, member) for member in settings.members]
    kinds = {each.kind for each in (settings, *members) if each and not each.members}
    return sorted(kinds - {usual})


def made_guides(config: Config) -> dict[str, sections.GuideKeys]:
    """{folder below models/: settings} of the entries of `guides`."""
    return {guide_folder(config, name): each for name, each in guides(config).items()}


def _kind(room: str, own: Any, key: Key, name: str, otherwise: str) -> tuple[str, dict[str, Any]]:
    """(the kind that an entry says, or its name, or `otherwise`; its other values)."""
    if not isinstance(own, Mapping):
        fail(key, f"expected keys and values, got {shown(own)}", "see docs/configuration.md")
    values = clean(dict[str, Any], own, key)
    if "kind" in values:
        return _known(room, values.pop("kind"), (*key, "kind")), values
    return (name if name in plugins.names(room) else otherwise), values


def _known(room: str, name: Any, key: Key) -> str:
    """`name` if it is one of a room's; UserError when not."""
    known = plugins.names(room)
    if name not in known:
        fail(key, f"unknown value, got {shown(name)}", nearest(str(name), known))
    return name


def settings_of(room: str, name: str) -> type[Any]:
    """The class of the keys of a method, arm or kind of judge."""
    return plugins.load(room, name).Settings


# --- models and pictures ------------------------------------------------------------------------


def models(config: Config) -> list[str]:
    """Names of all models that draw pictures: `base`, then `<variant>-<step>` in config order."""
    tuning = config["finetune"]
    return [BASE, *(Model(name, s).name for name in tuning["variants"] for s in tuning["steps"])]


def swept(config: Config) -> list[str]:
    """Models that a table of sweeps ranks: all checkpoints, if there is a sweep."""
    tuning = config["finetune"]
    if not tuning["sweeps"]:
        return []
    return [Model(name, step).name for name in variants(config) for step in tuning["steps"]]


def training_seeds(config: Config) -> list[int]:
    """The seeds each variant is trained with; the first is that of the models with plain names."""
    seeds = config["seeds"]["train"]
    return seeds if isinstance(seeds, list) else [seeds]


def runs(config: Config, names: list[str] | None = None) -> list[str]:
    """All models to be trained and drawn: `names` (`models(config)`), each followed by its further
    trainings, `<variant>-<step>-s<seed>`."""
    result = []
    for name in models(config) if names is None else names:
        model = parse_model(name)
        seeds = training_seeds(config)[1:] if model.step else []
        result += [name, *(model._replace(seed=seed).name for seed in seeds)]
    return result


def sampling(config: Config) -> dict[str, Any]:
    """How a picture is drawn, ready for JSON."""
    return {name: config["generate"][name] for name in sections.Sampling.model_fields}


def family(config: Config) -> dict[str, Any]:
    """The family of the base, where it is not the one that is understood."""
    default = sections.Models.model_fields["family"].default
    chosen = config["models"]["family"]
    return {} if chosen == default else {"family": chosen}


def dataset(config: Config) -> dict[str, Any]:
    """Which pictures are drawn, or gathered from what has captions."""
    return sections.Dataset(**config["dataset"]).handed_on()


def encode(config: Config) -> dict[str, Any]:
    """How pictures are encoded, where it is not in the simplest way."""
    chosen = {name: config["encode"][name] for name in sections.Encoding.model_fields}
    resolution = config["dataset"]["resolution"]
    return sections.EncodeStep(**chosen, resolution=resolution).handed_on()


def pool(config: Config) -> int:
    """Number of prompts of the study: those reported and those only searched for hard ones."""
    chosen, source = config["prompts"], config["prompts"]["source"]
    if source == SHAPES or hub.parse(source):
        return chosen["pool"] or chosen["study"]
    wanted = {k: chosen[k] for k in ("study", "pool", "category", "challenge", "order")}
    return len(prompts.select(prompts.read(source), **wanted))


def has_truth(config: Config) -> bool:
    """Whether the verifier can tell what is true: it knows the prompts of the shapes world."""
    return config["prompts"]["source"] == SHAPES


# --- machines -----------------------------------------------------------------------------------


def device(config: Config) -> str:
    """Where and how models run, as `models.device.set_up` reads it, for example `auto,compile`."""
    return ",".join([config["device"], *(name for name, on in config["gpu"].items() if on)])


def needs(config: dict[str, Any], rule: str, computes: bool) -> dict[str, int]:
    """{threads, mem_mb, runtime} of a rule's jobs, as the section `resources` has them.

    computes: whether they compute with a model; others are light.
    """
    given = config["resources"]
    usual = given if computes else {"threads": 1, **given["light"]}
    own = given["stages"].get(rule, {})
    return {
        what: usual[what] if own.get(what) is None else own[what]
        for what in ("threads", "mem_mb", "runtime")
    }


def gpus(config: Config) -> int:
    """GPUs that each process of a job asks for, if it computes with a model.

    With `device: auto` that depends on whether this machine has one: asked of the driver, as the
    Snakefile must not load torch.
    """
    asked = config["resources"]["gpus"]
    if asked is not None:
        return asked
    return int(config["device"] == "cuda" or (config["device"] == "auto" and bool(slots.here())))

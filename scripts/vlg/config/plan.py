"""What a config asks for: arms, judges, models and their trainings, shards, devices.

`config` is everywhere the whole config as `vlg.config.load.load` returns it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vlg import plugins
from vlg.config import grids, guides, sections, variants
from vlg.config.kinds import kind_of, settings_of
from vlg.config.layout import BASE, Layout, Model, parse_model
from vlg.config.read import Key, fail, read
from vlg.data import benchmark, hub, prompts
from vlg.workflow import slots

# The source of models, prompts and pictures that come with the pipeline; the families of its bases,
# and which there are of a model.
SHAPES = "shapes"
SHAPES_FAMILIES = {SHAPES: "sd", f"{SHAPES}-early": "sd", f"{SHAPES}-flow": "sd3"}
EMBEDDED = {"base": tuple(SHAPES_FAMILIES), "guide": (SHAPES,), "judge": (SHAPES,)}
Config = Mapping[str, Any]


# --- arms and judges ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Arm:
    """A way to draw in rounds: its kind with its settings, how many rounds, with which models
    (`base`, `<variant>-<step>` or an entry of `models.compare`)."""

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
    """The arms by name, rungs of ladders in their place. UserError names a wrong key."""
    result: dict[str, Arm] = {}
    for whole, own in config["refine"]["arms"].items():
        key = ("refine", "arms", whole)
        kind, values, ladder = _read_arm(whole, own)
        rungs = {whole: values}
        if ladder:
            rungs = {name: {**values, ladder.dose: dose} for name, dose in ladder.rungs.items()}
        for name, each in rungs.items():
            arm = _arm(config, kind, each, key)
            if result.setdefault(name, arm) != arm:
                fail(key, f"gives a second arm the name {name}", "rename the ladder")
    return result


def _read_arm(name: str, own: Any) -> tuple[str, dict[str, Any], grids.Ladder | None]:
    """(kind, values, the ladder if it is one) of an entry of `refine.arms`."""
    key = ("refine", "arms", name)
    kind, values = kind_of(plugins.ARMS, own, key, name, "refine")
    if values.get(grids.DOSES) is None:
        values.pop(grids.DOSES, None)
        return kind, values, None
    keys = settings_of(plugins.ARMS, kind)
    known = [each for each in keys.model_fields if each not in ("models", "guide")]
    found = grids.ladder(name, plugins.ARMS, kind, keys, known, values, key)
    for given in (grids.DOSES, found.dose):
        values.pop(given, None)
    return kind, values, found


def _arm(config: Config, kind: str, values: dict[str, Any], key: Key) -> Arm:
    refine = config["refine"]
    settings = read(settings_of(plugins.ARMS, kind), values, key, f"arm {kind}")
    usual = plugins.constant(plugins.ARMS, kind, "ROUNDS", refine["rounds"])
    models = refine["models"] if settings.models is None else settings.models
    arm = Arm(kind, settings, settings.rounds or usual, models)
    if "base" in arm.needs:
        arm = replace(arm, models=[model for model in models if model != BASE])
        if models and not arm.models:
            fail(key, f"an arm {kind} draws with a fine-tuned model", "name some in its models")
    return arm


def said(config: Config, name: str) -> dict[str, Any]:
    """What an entry of `refine.arms` says, as it is read, with every default but of its dose."""
    kind, values, ladder = _read_arm(name, config["refine"]["arms"][name])
    key = ("refine", "arms", name)
    settings = read(settings_of(plugins.ARMS, kind), values, key, f"arm {kind}")
    result = {"kind": kind, **settings.model_dump(mode="json")}
    if ladder:
        del result[ladder.dose]
        result[grids.DOSES] = {ladder.dose: ladder.values}
    return result


def ladders(config: Config) -> dict[str, dict[str, Any]]:
    """What tables know of the ladders of variants and, where there are arms, of theirs, by name.

    variant: whether it is one. dose: the key that varies. published: the published dose, if there
    is one. rungs: the dose, name of the variant or arm, and round, None where the last counts.
    """
    found: dict[str, tuple[bool, grids.Ladder]] = {}
    for name, own in config["finetune"]["variants"].items():
        if own_ladder := variants.ladder(name, own):
            found[name] = (True, own_ladder)
    for name, own in config["refine"]["arms"].items() if config["refine"]["rounds"] else ():
        if own_ladder := _read_arm(name, own)[2]:
            if name in found:
                fail(own_ladder.key, f"the variant {name} is a ladder, too", "rename one")
            found[name] = (False, own_ladder)
    result = {}
    for name, (variant, each) in found.items():
        by_round = each.dose == grids.ROUNDS
        rungs = [
            {"dose": dose, "name": entry, "round": dose if by_round else None}
            for entry, own in each.rungs.items()
            for dose in (each.values if by_round else [own])
        ]
        result[name] = {
            "variant": variant,
            "dose": each.dose,
            "published": each.published,
            "rungs": sorted(rungs, key=lambda rung: rung["dose"]),
        }
    return result


def controls(config: Config) -> list[dict[str, Any]]:
    """The variants and arms that are there for comparison: kind (oracle, shuffled, positive), name,
    variant (whether it is one), and twin, what differs in the guide alone, if anything does."""
    result: list[dict[str, Any]] = []
    trained = variants.entries(config)
    drawn = arms(config)
    known = guides.entries(config)

    def control(arm: Arm) -> str:
        named = known.get(arm.settings.guide or "") if "guide" in arm.needs else None
        return named.control if named else ""

    # Read at every start, so nothing is asked for where there is no control.
    words = {name: word for name, each in trained.items() if (word := each.control)}
    if words:
        told = {name: {**each.handed_on(1), "reward": None} for name, each in trained.items()}
        for name, word in words.items():
            twins = [o for o, own in told.items() if o not in words and own == told[name]]
            result.append(_control(word, name, True, twins))
    words = {name: word for name, each in drawn.items() if (word := control(each))}
    if words:
        ways = {name: (each.handed_on(), each.rounds) for name, each in drawn.items()}
        for name, word in words.items():
            twins = [
                other
                for other, own in ways.items()
                if other not in words
                and own == ways[name]
                and {*drawn[name].models} <= {*drawn[other].models}
            ]
            result.append(_control(word, name, False, twins))
    for name in config["positive_controls"]:
        result.append(_control("positive", name, name in trained, []))
    return result


def _control(kind: str, name: str, variant: bool, twins: list[str]) -> dict[str, Any]:
    return {"kind": kind, "name": name, "variant": variant, "twin": twins[0] if twins else None}


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
        kind, values = kind_of(plugins.KINDS, own, key, default, default)
        keys = settings_of(plugins.KINDS, kind)
        result[name] = read(keys, {"kind": kind, **values}, key, f"judge {kind}")
    return result


def asked(config: Config, judge: sections.JudgeKeys) -> tuple[str, str] | None:
    """(key, file) where a judge asks what the benchmark says that the prompts are of."""
    found = benchmark.parse(config["prompts"]["source"])
    key, *_ = found.judged.get(judge.kind, [None]) if found else [None]
    file = Layout(config["study"]).benchmark(found.first) if key else None
    return (key, file) if key and getattr(judge, key) == file else None


def rated(config: Config) -> str | None:
    """The file of people's ratings where it is of the benchmark that the prompts are of."""
    found = benchmark.parse(config["prompts"]["source"])
    file = Layout(config["study"]).benchmark(found.rated) if found and found.rated else None
    return file if file == config["ratings"] else None


# --- models and pictures ------------------------------------------------------------------------


def has_base(config: Config) -> bool:
    """Whether there is a base, which alone is trained, drawn and guided."""
    return config["models"]["base"] is not None


def tuned(config: Config) -> list[str]:
    """Names of the fine-tuned models, `<variant>-<step>` in config order."""
    tuning = config["finetune"]
    names = variants.named(config)
    return [Model(name, step).name for name in names for step in tuning["steps"]]


def compared(config: Config) -> dict[str, sections.Compared]:
    """The settings of the finished models beside the base by name. UserError names a wrong key."""
    result = {}
    for name, own in config["models"]["compare"].items():
        key, values = ("models", "compare", name), {"source": own} if isinstance(own, str) else own
        result[name] = read(sections.Compared, values, key)
    return result


def models(config: Config) -> list[str]:
    """Names of all models that draw: `base`, the fine-tuned ones, those compared with it."""
    further = config["models"]["compare"]
    return [BASE, *tuned(config), *further] if has_base(config) else []


def rows(config: Config) -> list[str]:
    """Names of all that has plain pictures: what the others are held against comes first, then the
    models, then the sets of pictures."""
    sets = sorted(config["pictures"], key=lambda name: name != config["reference"])
    return [*models(config), *sets]


def swept(config: Config) -> list[str]:
    """Models that a table of sweeps ranks: all checkpoints, if there is a sweep."""
    tuning = config["finetune"]
    if not tuning["sweeps"]:
        return []
    return [Model(name, step).name for name in variants.entries(config) for step in tuning["steps"]]


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
    rows = prompts_of(config, Path())
    return (config["prompts"]["pool"] or config["prompts"]["study"]) if rows is None else len(rows)


def prompts_of(config: Config, root: Path) -> list[prompts.Row] | None:
    """The rows of the study's table where its prompts are a file; None where a job brings them."""
    chosen, source = config["prompts"], config["prompts"]["source"]
    if source == SHAPES or hub.parse(source) or benchmark.parse(source):
        return None
    wanted = {k: chosen[k] for k in ("study", "pool", "category", "challenge", "order")}
    return prompts.select(prompts.read(root / source), **wanted)


def has_truth(config: Config) -> bool:
    """Whether the verifier can tell what is true: it knows the prompts of the shapes world."""
    return config["prompts"]["source"] == SHAPES


def references(config: Config) -> list[str]:
    """Names of the references that the study has: ceilings before floors, and each before what is
    made from it.

    Those that need the shapes world are there with its prompts alone, those of other prompts'
    pictures where there are two, and those of the base's where there is a base.
    """
    several = config["prompts"]["study"] > 1
    lacking = set() if has_base(config) else {BASE, "pictures"}
    order = {}
    for name in plugins.names(plugins.REFERENCES):
        said = (plugins.constant(plugins.REFERENCES, name, w) for w in ("BOUND", "NEEDS", "TRUTH"))
        bound, needs, truth = said
        known = (has_truth(config) or not truth) and not lacking & {*needs}
        if known and (several or "pictures" not in needs):
            order[name] = (bound, len(needs))
    return sorted(order, key=lambda name: order[name])


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

"""The config: defaults filled in, checked, and every mistake told in one line.

`schemas/config.schema.yaml` describes each key; this module adds what a schema cannot say: values
that must agree with each other and files that must be there. It runs whenever the Snakefile is
read, so it imports nothing heavy.
"""

from __future__ import annotations

import copy
import difflib
import filecmp
import functools
import itertools
import os
import re
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

from vlg import hub, judges, prompts, slots
from vlg.errors import UserError

SCHEMA = Path(__file__).parents[2] / "schemas" / "config.schema.yaml"
EMBEDDED = {"base": ("shapes", "shapes-early"), "guide": ("shapes",), "judge": ("shapes",)}
OTHER_JUDGE = "a CLIP cannot judge what it guided, give another one"
MODEL_FILE = {
    "base": "model_index.json",
    "guide": "open_clip_config.json",
    "judge": "config.json",
}
MODEL_KIND = {
    "base": "a diffusers folder",
    "guide": "an open_clip folder",
    "judge": "a Hugging Face CLIP folder",
}
WEIGHTS = {".safetensors", ".bin", ".pt", ".pth"}
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".parquet"}
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# Keys of `finetune` that are not settings of a variant.
NOT_OF_A_VARIANT = (
    *("steps", "variants", "sweeps", "save_every", "save_minutes"),
    *("processes", "nodes", "launcher"),
)
# How a sweep's key stands in the names of its members, in this order.
SHORT = {
    "guide_scale": "gs",
    "window": "w",
    "weighting": "",
    "target": "",
    "learning_rate": "lr",
    "batch_size": "bs",
    "warmup_steps": "warmup",
    "weight_decay": "wd",
    "max_grad_norm": "norm",
    "ema_decay": "ema",
    "caption_dropout": "drop",
    "min_snr_gamma": "snr",
    "lora_rank": "rank",
    "precision": "",
    "cached": "cached_",
    "crop": "crop",
    "jitter": "jitter",
}
# What leaves a fine-tuning as it is (`vlg.training.Settings` has the same defaults).
NEUTRAL = {
    "weighting": "abar",
    "decoder": None,
    "lora_rank": 0,
    "precision": "fp32",
    "accumulate": 1,
    "gradient_checkpointing": False,
    "evaluate_every": 100,
    "watch_guide": False,
    "cached": True,
    "crop": 1.0,
    "jitter": 0.0,
    "resolution": None,
    "flip": False,
}
NULL = ("null", "~", "")  # as the command line writes it, where all is text

Key = tuple[str | int, ...]


def load(config: Mapping[str, Any], root: Path | str) -> dict[str, Any]:
    """The config with every default filled in, checked as far as it can be before a job starts.

    Numbers are normalised (whole numbers to int, others to float), numbers and booleans written as
    text are read as such (PyYAML takes `1e-4` for text, and so does the command line for all in a
    list), an empty section has its defaults, and a variant or arm that is null is dropped.

    config: as Snakemake merged it from files and command line; it is not changed.
    root: the folder that relative paths start from.
    Raises UserError naming the key and the remedy.
    """
    if not isinstance(config, Mapping):
        raise UserError(f"config: expected keys and values, got {_shown(config)}; see config.yaml")
    result = _fill(schema(), config, ())
    _validate(result)
    for section, name in (("models", "base"), ("models", "guide"), ("models", "judge")):
        result[section][name] = os.path.expanduser(result[section][name])
    for section in ("prompts", "dataset"):
        result[section]["source"] = os.path.expanduser(result[section]["source"])
    for settings in (result["finetune"], *result["finetune"]["variants"].values()):
        if settings.get("decoder"):
            settings["decoder"] = os.path.expanduser(settings["decoder"])
    _check_finetune(result)
    _check_variants(result, Path(root))
    _check_refine(result)
    _check_seeds(result)
    _check_models(result, Path(root))
    _check_judges(result, Path(root))
    _check_dataset(result, Path(root))
    _check_prompts(result, Path(root))
    return result


def variants(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{variant: its settings}: the shared fine-tuning keys with the variant's own over them.

    What means nothing to a variant, or is at the value that changes nothing, is left out, so that
    neither changing it nor a new key of that kind reruns anything. With pixels (`cached: false`)
    how they are read belongs to the variant.
    """
    shared = {k: v for k, v in config["finetune"].items() if k not in NOT_OF_A_VARIANT}
    result = {}
    for name, (own, _) in _entries(config).items():
        settings = {**shared, **own}
        if not settings["cached"]:
            settings["resolution"] = config["dataset"]["resolution"]
            settings["flip"] = config["encode"]["flip"]
        if settings["guide_scale"] == 0:
            unused = ("target", "window", "weighting", "decoder")
        else:
            unused = ("watch_guide",)  # it is logged in any case
        neutral = [key for key, value in NEUTRAL.items() if settings.get(key) == value]
        result[name] = {k: v for k, v in settings.items() if k not in (*unused, *neutral)}
    return result


def _entries(config: Mapping[str, Any]) -> dict[str, tuple[dict[str, Any], Key]]:
    """{variant: (its own settings, the key they stand under)}, sweeps after the named ones."""
    tuning = config["finetune"]
    result = {
        name: (own, ("finetune", "variants", name)) for name, own in tuning["variants"].items()
    }
    for sweep, grid in tuning["sweeps"].items():
        key = ("finetune", "sweeps", sweep)
        for values in itertools.product(*grid.values()):
            own = dict(zip(grid, values, strict=True))
            name = swept_name(sweep, own)
            # A member that has been named a variant, with the same values, is that variant.
            if name in result and result[name][0] != own:
                _fail(key, f"gives a second variant the name {name}", "rename the sweep")
            result.setdefault(name, (own, key))
    return result


def swept_name(sweep: str, own: Mapping[str, Any]) -> str:
    """The name of a sweep's member: the sweep's, then each swept key, shortened, with its value.

    It depends on the member's own values only, so values may be added to a sweep, and its keys
    reordered. `strength` with guide_scale 0.05 and window [0, 600] is `strength_gs0_05_w0_600`.
    """
    words = [sweep]
    for key in sorted(own, key=list(SHORT).index):
        value = own[key]
        values = value if isinstance(value, list) else [value]
        text = "_".join(str(v).lower().replace("+", "") for v in values)
        words.append(SHORT[key] + re.sub("[.-]", "_", text))
    return "_".join(words)


def models(config: Mapping[str, Any]) -> list[str]:
    """Names of all models that draw pictures: `base`, then `<variant>-<step>` in config order."""
    tuning = config["finetune"]
    return ["base", *(f"{name}-{step}" for name in tuning["variants"] for step in tuning["steps"])]


def training_seeds(config: Mapping[str, Any]) -> list[int]:
    """The seeds each variant is trained with; the first is that of the models with plain names."""
    seeds = config["seeds"]["train"]
    return seeds if isinstance(seeds, list) else [seeds]


def runs(config: Mapping[str, Any], names: list[str] | None = None) -> list[str]:
    """All models to be trained and drawn: `names` (`models(config)`), each followed by its further
    trainings, `<variant>-<step>-s<seed>`."""
    further = training_seeds(config)[1:]
    return [
        run
        for name in (models(config) if names is None else names)
        for run in (name, *(f"{name}-s{seed}" for seed in further if name != "base"))
    ]


def device(config: Mapping[str, Any]) -> str:
    """Where and how models run, as `vlg.device.set_up` reads it, for example `auto,compile`."""
    return ",".join([config["device"], *(name for name, on in config["gpu"].items() if on)])


def gpus(config: Mapping[str, Any]) -> int:
    """GPUs that each process of a job asks for, if it computes with a model.

    With `device: auto` that depends on whether this machine has one: asked of the driver, as the
    Snakefile must not load torch.
    """
    asked = config["resources"]["gpus"]
    if asked is not None:
        return asked
    return int(config["device"] == "cuda" or (config["device"] == "auto" and bool(slots.here())))


@functools.cache
def schema() -> dict[str, Any]:
    """The JSON schema of the config; do not change it."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C loader is ten times faster
    return yaml.load(SCHEMA.read_text(encoding="utf-8"), loader)


# --- filling in ---------------------------------------------------------------------------------


def _fill(node: dict[str, Any], value: Any, key: Key) -> Any:
    """`value` with defaults, normalised; raises for unknown keys and unreadable values."""
    node = _resolved(node)
    types = _types(node)
    if "object" in types and (value is None or isinstance(value, Mapping)):
        return _fill_section(node, value or {}, key)
    if "array" in types and isinstance(value, list):
        return [_fill(node["items"], item, (*key, i)) for i, item in enumerate(value)]
    return _scalar(types, value, key)


def _fill_section(node: dict[str, Any], value: Mapping[Any, Any], key: Key) -> dict[str, Any]:
    given = {_name(name, key): item for name, item in value.items()}
    known = node.get("properties", {})
    entries = node["additionalProperties"]  # False, or the schema of freely named entries
    result = {}
    for name, child in known.items():
        if name in given:
            result[name] = _fill(child, given[name], (*key, name))
        elif "default" in child:
            result[name] = _fill(child, copy.deepcopy(child["default"]), (*key, name))
        elif "$ref" not in child and "object" in _types(child):
            result[name] = _fill(child, None, (*key, name))
    for name, item in given.items():
        if name in known:
            continue
        if not entries:
            _unknown((*key, name), list(known))
        if item is not None and item not in NULL:
            result[name] = _fill(entries, item, (*key, name))
    return result


def _name(name: Any, key: Key) -> str:
    if isinstance(name, int) and not isinstance(name, bool):
        return str(name)
    if not isinstance(name, str):
        _fail(
            key,
            f"a key must be text, got {_shown(name)}",
            "put it in quotes (YAML reads bare no, off, yes, on as true or false)",
        )
    return name


def _scalar(types: list[str], value: Any, key: Key) -> Any:
    """`value` as one of `types` if it can be read so; else unchanged, for the schema to refuse."""
    if isinstance(value, str) and "string" not in types:
        if "null" in types and value in NULL:
            return None
        if "boolean" in types and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if {"integer", "number"} & set(types) and len(value) < 40 and NUMBER.fullmatch(value):
            value = int(value) if value.lstrip("+-").isdigit() else float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not abs(value) < 2**63:  # refuses infinity and not-a-number too
            _fail(key, "must be a finite number of ordinary size", _default(key))
        if "number" in types:
            return float(value)  # so that 0 and 0.0 are the same setting
        if "integer" in types and value == int(value):
            return int(value)
    if isinstance(value, str) and any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in value):
        _fail(key, f"has a line break or control character: {_shown(value)}", "remove it")
    return value


def _resolved(node: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in node:
        return node
    return functools.reduce(lambda at, part: at[part], node["$ref"].split("/")[1:], schema())


def _types(node: dict[str, Any]) -> list[str]:
    kind = node["type"]
    return [kind] if isinstance(kind, str) else kind


# --- messages -----------------------------------------------------------------------------------


def _fail(key: Key, what: str, remedy: str) -> NoReturn:
    raise UserError(f"config: {_dotted(key)}: {what}; {remedy}")


def _dotted(key: Key) -> str:
    parts = (f"[{p}]" if isinstance(p, int) else "." + (p if _plain(p) else _shown(p)) for p in key)
    return "".join(parts).lstrip(".") or "the whole config"


def _plain(name: str) -> bool:
    return 0 < len(name) <= 80 and name.isprintable()


def _shown(value: Any) -> str:
    """`value` in a few words, on one line."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    short = reprlib.Repr()
    short.maxstring = short.maxother = 60
    short.maxlist = short.maxdict = 8
    return " ".join(short.repr(value).split())


def _nearest(name: str, choices: list[str]) -> str:
    """`did you mean X?`, or the choices when none is near."""
    close = difflib.get_close_matches(name, choices, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(choices)}"


def _unknown(key: Key, siblings: list[str]) -> NoReturn:
    name = str(key[-1])
    close = difflib.get_close_matches(name, siblings, n=1)
    elsewhere = sorted((path for path in _paths(schema()) if path[-1] == name), key=len)[:2]
    if close:
        remedy = f"did you mean {_dotted((*key[:-1], close[0]))}?"
    elif elsewhere:
        remedy = f"did you mean {' or '.join(map(_dotted, elsewhere))}?"
    else:
        remedy = f"keys known here are {', '.join(siblings)}"
    _fail(key, "unknown key", remedy)


def _paths(node: dict[str, Any], key: Key = ()) -> Iterator[Key]:
    """Paths of all keys that the schema names."""
    for name, child in node.get("properties", {}).items():
        yield (*key, name)
        yield from _paths(child, (*key, name))


def _default(key: Key) -> str:
    """`the default is X` for a key, or the entry of a list, and where to read about it."""
    node, default = schema(), None
    for part in key:
        if isinstance(part, int):
            node = node["items"]
        else:
            node = node.get("properties", {}).get(part) or node["additionalProperties"]
        node = _resolved(node)
        if "object" not in _types(node):
            default = node.get("default", default)
    if default is None:
        return "see docs/configuration.md"
    return f"the default is {str(default).lower() if isinstance(default, bool) else default}"


KINDS = {
    "object": "keys and values",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
LIMITS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "above",
    "exclusiveMaximum": "below",
}


def _validate(config: dict[str, Any]) -> None:
    """Raise for the first place where `config` breaks the schema."""
    from jsonschema import Draft202012Validator

    errors = Draft202012Validator(schema()).iter_errors(config)
    error = min(errors, key=lambda e: [str(part) for part in e.absolute_path], default=None)
    if error is None:
        return
    key, rule, value = tuple(error.absolute_path), error.validator, error.validator_value
    given = f"got {_shown(error.instance)}"
    if "propertyNames" in error.absolute_schema_path:
        given = "as the name of an entry, " + given
    if rule == "type":
        expected = " or ".join(KINDS[kind] for kind in _types(error.schema))
        quotes = "string" in _types(error.schema) and not isinstance(error.instance, list | dict)
        remedy = "put it in quotes" if quotes and error.instance is not None else _default(key)
        _fail(key, f"expected {expected}, {given}", remedy)
    if rule == "enum":
        _fail(key, f"unknown value, {given}", f"choose one of {', '.join(value)}")
    if rule in LIMITS:
        _fail(key, f"must be {LIMITS[rule]} {value}, {given}", _default(key))
    if rule == "pattern":
        _fail(key, f"not allowed, {given}", f"use {error.schema['x-allowed']}")
    if rule == "maxLength":
        _fail(key, f"too long, {given}", f"use at most {value} characters")
    if rule == "uniqueItems":
        _fail(key, f"has an entry twice, {given}", "name each once")
    if rule in ("minItems", "maxItems", "minProperties", "minLength"):
        what = "must not be empty" if value == 1 else f"must have {value} entries, {given}"
        _fail(key, what, "name at least one" if rule == "minProperties" else _default(key))
    _fail(key, " ".join(error.message.split()), _default(key))


# --- values that must agree, files that must be there -------------------------------------------


def _check_finetune(config: dict[str, Any]) -> None:
    tuning = config["finetune"]
    steps = tuning["steps"]
    if any(a >= b for a, b in zip(steps, steps[1:], strict=False)):
        _fail(
            ("finetune", "steps"),
            f"must rise, got {_shown(steps)}",
            "write them in ascending order",
        )
    for key, settings in [
        (("finetune",), tuning),
        *((key, own) for own, key in _entries(config).values()),
    ]:
        low, high = settings.get("window", [0, 1])
        if low >= high:
            _fail(
                (*key, "window"),
                f"must be [low, high] with low below high, got [{low}, {high}]",
                f"write [{high}, {low}]" if low > high else "widen it, or set guide_scale to 0",
            )
    for name in ("base", "guide", "judge"):
        if name in tuning["variants"]:
            _fail(("finetune", "variants", name), "is the name of a given model", "choose another")


def _check_variants(config: dict[str, Any], root: Path) -> None:
    """Values of a variant that must agree, wherever they are written."""
    if config["finetune"]["sweeps"] and not config["development"]["count"]:
        _fail(
            ("development", "count"),
            "is 0, and sweeps are ranked by development prompts",
            "set it to 40 or more",
        )
    entries = _entries(config)
    for name, settings in variants(config).items():

        def fail(key: str, what: str, remedy: str, name: str = name) -> NoReturn:
            own, place = entries[name]
            _fail((*(place if key in own else ("finetune",)), key), what, remedy)

        parts, size = settings.get("accumulate", 1), settings["batch_size"]
        if parts > size:
            fail("accumulate", f"{parts} parts of a batch of {size}", f"use at most {size}")
        devices = config["finetune"]["processes"] * config["finetune"]["nodes"]
        if devices > size:
            fail("batch_size", f"{size} pictures for {devices} processes", "use at least as many")
        for key in ("crop", "jitter"):
            if key in settings and settings.get("cached", True):
                fail(key, "needs pixels, and variants train from the cache", "set cached: false")
        if decoder := settings.get("decoder"):
            index = root / decoder / "config.json"
            text = index.read_text("utf-8", "replace") if index.is_file() else ""
            if '"AutoencoderTiny"' not in text:
                fail("decoder", f"{_shown(decoder)} is no AutoencoderTiny", "give a folder of one")
            if not list((root / decoder).glob("*.safetensors")):
                fail("decoder", f"{_shown(decoder)} has no *.safetensors", "save its weights so")


def _check_refine(config: dict[str, Any]) -> None:
    for i, model in enumerate(config["refine"]["models"]):
        if model not in models(config):
            _fail(
                ("refine", "models", i),
                f"no such model in this study: {_shown(model)}",
                _nearest(model, models(config)),
            )


def _check_seeds(config: dict[str, Any]) -> None:
    seeds = config["seeds"]
    shared = sorted(set(seeds["selection"]) & set(seeds["fresh"]))
    if shared:
        _fail(
            ("seeds", "fresh"),
            f"must differ from seeds.selection, both have {_shown(shared[0])}",
            "choose other fresh seeds",
        )


def _check_models(config: dict[str, Any], root: Path) -> None:
    names = config["models"]
    if hub.parse(names["guide"]) and hub.same(names["guide"], names["judge"]):
        _fail(
            ("models", "judge"),
            f"is the same model as models.guide: {_shown(names['judge'])}",
            OTHER_JUDGE,
        )
    folders = {
        part: root / names[part]
        for part, known in EMBEDDED.items()
        if names[part] not in known and not _is_hub(names[part], ("models", part))
    }
    file = folders.pop("base") if names["base"].endswith(".safetensors") else None
    if file and not os.path.isfile(file):
        _fail(("models", "base"), f"no file {_shown(names['base'])}", "check the path")
    guide, judge = folders.get("guide"), folders.get("judge")
    if guide and judge and os.path.realpath(guide) == os.path.realpath(judge):
        _fail(
            ("models", "judge"),
            f"is the same model as models.guide: {_shown(names['judge'])}",
            OTHER_JUDGE,
        )
    for part, folder in folders.items():
        key, known = ("models", part), ", ".join(EMBEDDED[part])
        if not os.path.isdir(folder):
            near = difflib.get_close_matches(names[part], EMBEDDED[part], n=1)
            remedy = f"did you mean {near[0]}?" if near else f"give {MODEL_KIND[part]} or {known}"
            _fail(key, f"no folder {_shown(names[part])}", remedy)
        if not os.path.isfile(folder / MODEL_FILE[part]):
            _fail(
                key,
                f"{names[part]} has no {MODEL_FILE[part]}",
                f"give {MODEL_KIND[part]} or {known}",
            )
    same = guide and judge and _same_weights(guide, judge)
    if same:
        _fail(
            ("models", "judge"),
            f"has the weights of models.guide: {same[0]} and {same[1]} are identical",
            OTHER_JUDGE,
        )


def _is_hub(source: str, key: Key) -> bool:
    """Whether a source is on the Hub; raises when it says so and is not written as it must be."""
    if hub.parse(source):
        return True
    if source.startswith((hub.PREFIX, "hf:", "https://huggingface.co/")):
        _fail(key, f"no repository of the Hub: {_shown(source)}", "write hub:owner/name[@revision]")
    return False


def _same_weights(one: Path, other: Path) -> tuple[Path, Path] | None:
    """The first two weight files of two folders that are equal byte for byte.

    Sizes are compared first, so different models cost no reading.
    """
    weights = [
        [file for file in sorted(folder.iterdir()) if file.suffix in WEIGHTS and file.is_file()]
        for folder in (one, other)
    ]
    for a, b in itertools.product(*weights):
        if a.stat().st_size == b.stat().st_size and filecmp.cmp(a, b, shallow=False):
            return a, b
    return None


def _check_judges(config: dict[str, Any], root: Path) -> None:
    for name, judge in config["judges"].items():
        key, source = ("judges", name, "source"), os.path.expanduser(judge["source"])
        judge["source"] = source
        if judge["kind"] == "callable":
            judges.plug_in_file(source, root)
            continue
        if hub.same(source, config["models"]["guide"]):
            _fail(key, "is the same model as models.guide", OTHER_JUDGE)
        if _is_hub(source, key):
            continue
        mark = "open_clip_config.json" if judge["kind"] == "open_clip" else "config.json"
        if not os.path.isfile(root / source / mark) or not list(
            (root / source).glob("*.safetensors")
        ):
            _fail(
                key,
                f"{_shown(source)} has no {mark} with *.safetensors",
                "give a CLIP folder of this kind, or hub:owner/name",
            )
        if os.path.realpath(root / source) == os.path.realpath(root / config["models"]["guide"]):
            _fail(key, "is the same model as models.guide", OTHER_JUDGE)


def _check_dataset(config: dict[str, Any], root: Path) -> None:
    source, key = config["dataset"]["source"], ("dataset", "source")
    if source == "shapes":
        if config["dataset"]["size"] is None:
            _fail(("dataset", "size"), "the shapes world has no end", _default(("dataset", "size")))
        return
    if _is_hub(source, key) or (source.endswith(".parquet") and os.path.isfile(root / source)):
        return
    if not os.path.isdir(root / source):
        near = difflib.get_close_matches(source, ["shapes"])
        remedy = "did you mean shapes?" if near else "give a folder of captioned pictures or shapes"
        _fail(key, f"no folder {_shown(source)}", remedy)
    # Of a large folder only a part is looked at: the config is read at each start of Snakemake.
    entries = [path.suffix.lower() for path in itertools.islice((root / source).rglob("*"), 1000)]
    if len(entries) < 1000 and not PICTURES & set(entries):
        _fail(
            key,
            f"{source} holds no picture ({', '.join(sorted(PICTURES))})",
            "give a folder of captioned pictures or shapes",
        )


def _check_prompts(config: dict[str, Any], root: Path) -> None:
    wanted = config["prompts"]
    if wanted["pool"] is not None and wanted["study"] > wanted["pool"]:
        _fail(
            ("prompts", "pool"),
            f"must be at least prompts.study ({wanted['study']}), got {wanted['pool']}",
            "raise it, or null for all",
        )
    if _is_hub(wanted["source"], ("prompts", "source")):
        if wanted["pool"] is None:
            _fail(
                ("prompts", "pool"),
                "prompts of the Hub are not counted before they are there",
                "write how many to take, 1632 for all of PartiPrompts",
            )
        return
    if wanted["source"] != "shapes":
        if not os.path.isfile(root / wanted["source"]):
            near = difflib.get_close_matches(wanted["source"], ["shapes"])
            _fail(
                ("prompts", "source"),
                f"no file {_shown(wanted['source'])}",
                "did you mean shapes?" if near else "give a .tsv, .csv or .txt file or shapes",
            )
        prompts.check_sha256(root / wanted["source"], wanted["sha256"])
        rows = prompts.read(root / wanted["source"])
        chosen = ("study", "pool", "category", "challenge", "order")
        prompts.select(rows, **{name: wanted[name] for name in chosen})

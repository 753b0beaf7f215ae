"""The config: defaults filled in, checked, and every mistake told in one line.

`schemas/config.schema.yaml` describes each key; this module adds what a schema cannot say: values
that must agree with each other and files that must be there. It runs whenever the Snakefile is
read, so it imports nothing heavy.
"""

from __future__ import annotations

import difflib
import filecmp
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from vlg.config.plan import entries, models, variants
from vlg.config.schema import Key, fail, fill, nearest, schema, shown, usual, validate
from vlg.data import hub, prompts
from vlg.errors import UserError
from vlg.judge import further

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
        raise UserError(f"config: expected keys and values, got {shown(config)}; see config.yaml")
    result = fill(schema(), config, ())
    validate(result)
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


# --- values that must agree, files that must be there -------------------------------------------


def _check_finetune(config: dict[str, Any]) -> None:
    tuning = config["finetune"]
    steps = tuning["steps"]
    if any(a >= b for a, b in zip(steps, steps[1:], strict=False)):
        fail(
            ("finetune", "steps"),
            f"must rise, got {shown(steps)}",
            "write them in ascending order",
        )
    for key, settings in [
        (("finetune",), tuning),
        *((key, own) for own, key in entries(config).values()),
    ]:
        low, high = settings.get("window", [0, 1])
        if low >= high:
            fail(
                (*key, "window"),
                f"must be [low, high] with low below high, got [{low}, {high}]",
                f"write [{high}, {low}]" if low > high else "widen it, or set guide_scale to 0",
            )
    for name in ("base", "guide", "judge"):
        if name in tuning["variants"]:
            fail(("finetune", "variants", name), "is the name of a given model", "choose another")


def _check_variants(config: dict[str, Any], root: Path) -> None:
    """Values of a variant that must agree, wherever they are written."""
    if config["finetune"]["sweeps"] and not config["development"]["count"]:
        fail(
            ("development", "count"),
            "is 0, and sweeps are ranked by development prompts",
            "set it to 40 or more",
        )
    known = entries(config)
    for name, settings in variants(config).items():

        def refuse(key: str, what: str, remedy: str, name: str = name) -> NoReturn:
            own, place = known[name]
            fail((*(place if key in own else ("finetune",)), key), what, remedy)

        parts, size = settings.get("accumulate", 1), settings["batch_size"]
        if parts > size:
            refuse("accumulate", f"{parts} parts of a batch of {size}", f"use at most {size}")
        devices = config["finetune"]["processes"] * config["finetune"]["nodes"]
        if devices > size:
            refuse("batch_size", f"{size} pictures for {devices} processes", "use at least as many")
        for key in ("crop", "jitter"):
            if key in settings and settings.get("cached", True):
                refuse(key, "needs pixels, and variants train from the cache", "set cached: false")
        if decoder := settings.get("decoder"):
            index = root / decoder / "config.json"
            text = index.read_text("utf-8", "replace") if index.is_file() else ""
            if '"AutoencoderTiny"' not in text:
                refuse("decoder", f"{shown(decoder)} is no AutoencoderTiny", "give a folder of one")
            if not list((root / decoder).glob("*.safetensors")):
                refuse("decoder", f"{shown(decoder)} has no *.safetensors", "save its weights so")


def _check_refine(config: dict[str, Any]) -> None:
    for i, model in enumerate(config["refine"]["models"]):
        if model not in models(config):
            fail(
                ("refine", "models", i),
                f"no such model in this study: {shown(model)}",
                nearest(model, models(config)),
            )


def _check_seeds(config: dict[str, Any]) -> None:
    seeds = config["seeds"]
    shared = sorted(set(seeds["selection"]) & set(seeds["fresh"]))
    if shared:
        fail(
            ("seeds", "fresh"),
            f"must differ from seeds.selection, both have {shown(shared[0])}",
            "choose other fresh seeds",
        )


def _check_models(config: dict[str, Any], root: Path) -> None:
    names = config["models"]
    if hub.parse(names["guide"]) and hub.same(names["guide"], names["judge"]):
        fail(
            ("models", "judge"),
            f"is the same model as models.guide: {shown(names['judge'])}",
            OTHER_JUDGE,
        )
    folders = {
        part: root / names[part]
        for part, known in EMBEDDED.items()
        if names[part] not in known and not _is_hub(names[part], ("models", part))
    }
    file = folders.pop("base") if names["base"].endswith(".safetensors") else None
    if file and not os.path.isfile(file):
        fail(("models", "base"), f"no file {shown(names['base'])}", "check the path")
    guide, judge = folders.get("guide"), folders.get("judge")
    if guide and judge and os.path.realpath(guide) == os.path.realpath(judge):
        fail(
            ("models", "judge"),
            f"is the same model as models.guide: {shown(names['judge'])}",
            OTHER_JUDGE,
        )
    for part, folder in folders.items():
        key, known = ("models", part), ", ".join(EMBEDDED[part])
        if not os.path.isdir(folder):
            near = difflib.get_close_matches(names[part], EMBEDDED[part], n=1)
            remedy = f"did you mean {near[0]}?" if near else f"give {MODEL_KIND[part]} or {known}"
            fail(key, f"no folder {shown(names[part])}", remedy)
        if not os.path.isfile(folder / MODEL_FILE[part]):
            fail(
                key,
                f"{names[part]} has no {MODEL_FILE[part]}",
                f"give {MODEL_KIND[part]} or {known}",
            )
    same = guide and judge and _same_weights(guide, judge)
    if same:
        fail(
            ("models", "judge"),
            f"has the weights of models.guide: {same[0]} and {same[1]} are identical",
            OTHER_JUDGE,
        )


def _is_hub(source: str, key: Key) -> bool:
    """Whether a source is on the Hub; raises when it says so and is not written as it must be."""
    if hub.parse(source):
        return True
    if source.startswith((hub.PREFIX, "hf:", "https://huggingface.co/")):
        fail(key, f"no repository of the Hub: {shown(source)}", "write hub:owner/name[@revision]")
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
            further.plug_in_file(source, root)
            continue
        if hub.same(source, config["models"]["guide"]):
            fail(key, "is the same model as models.guide", OTHER_JUDGE)
        if _is_hub(source, key):
            continue
        mark = "open_clip_config.json" if judge["kind"] == "open_clip" else "config.json"
        if not os.path.isfile(root / source / mark) or not list(
            (root / source).glob("*.safetensors")
        ):
            fail(
                key,
                f"{shown(source)} has no {mark} with *.safetensors",
                "give a CLIP folder of this kind, or hub:owner/name",
            )
        if os.path.realpath(root / source) == os.path.realpath(root / config["models"]["guide"]):
            fail(key, "is the same model as models.guide", OTHER_JUDGE)


def _check_dataset(config: dict[str, Any], root: Path) -> None:
    source, key = config["dataset"]["source"], ("dataset", "source")
    if source == "shapes":
        if config["dataset"]["size"] is None:
            fail(("dataset", "size"), "the shapes world has no end", usual(("dataset", "size")))
        return
    if _is_hub(source, key) or (source.endswith(".parquet") and os.path.isfile(root / source)):
        return
    if not os.path.isdir(root / source):
        near = difflib.get_close_matches(source, ["shapes"])
        remedy = "did you mean shapes?" if near else "give a folder of captioned pictures or shapes"
        fail(key, f"no folder {shown(source)}", remedy)
    # Of a large folder only a part is looked at: the config is read at each start of Snakemake.
    entries = [path.suffix.lower() for path in itertools.islice((root / source).rglob("*"), 1000)]
    if len(entries) < 1000 and not PICTURES & set(entries):
        fail(
            key,
            f"{source} holds no picture ({', '.join(sorted(PICTURES))})",
            "give a folder of captioned pictures or shapes",
        )


def _check_prompts(config: dict[str, Any], root: Path) -> None:
    wanted = config["prompts"]
    if wanted["pool"] is not None and wanted["study"] > wanted["pool"]:
        fail(
            ("prompts", "pool"),
            f"must be at least prompts.study ({wanted['study']}), got {wanted['pool']}",
            "raise it, or null for all",
        )
    if _is_hub(wanted["source"], ("prompts", "source")):
        if wanted["pool"] is None:
            fail(
                ("prompts", "pool"),
                "prompts of the Hub are not counted before they are there",
                "write how many to take, 1632 for all of PartiPrompts",
            )
        return
    if wanted["source"] != "shapes":
        if not os.path.isfile(root / wanted["source"]):
            near = difflib.get_close_matches(wanted["source"], ["shapes"])
            fail(
                ("prompts", "source"),
                f"no file {shown(wanted['source'])}",
                "did you mean shapes?" if near else "give a .tsv, .csv or .txt file or shapes",
            )
        prompts.check_sha256(root / wanted["source"], wanted["sha256"])
        rows = prompts.read(root / wanted["source"])
        chosen = ("study", "pool", "category", "challenge", "order")
        prompts.select(rows, **{name: wanted[name] for name in chosen})

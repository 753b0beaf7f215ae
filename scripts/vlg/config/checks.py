"""Values of a config that must agree with each other, and files that must be there.

What one key may be, and what its section must agree on, its class says (`vlg.config.sections`); of
models, `vlg.config.models`.
"""

from __future__ import annotations

import difflib
import importlib.util
import itertools
import os
import re
from pathlib import Path
from typing import Any

from pydantic_core import PydanticCustomError

from vlg import plugins
from vlg.config import guides, models, plan, variants
from vlg.config.models import GIVEN, SHIPPED, folder_of, is_hub, same_weights
from vlg.config.read import Key, fail, nearest, shown, under
from vlg.data import benchmark, pixels, prompts, ratings, sets
from vlg.data.columns import LISTS

RULES = Path(__file__).parents[3] / "rules"
PICTURES = pixels.KINDS | {".parquet"}
LOOKED_AT = 1000  # rows of a list of captions


def check(config: dict[str, Any], root: Path) -> None:
    """UserError for the first values that do not agree with each other or with what is there.

    config: whole, with every default filled in. root: the folder that relative paths start from.
    """
    _check_names(config)
    _check_rows(config)
    _check_variants(config, root)
    _check_refine(config)
    _check_asked(config)
    models.check(config, root)
    _check_ratings(config, root)
    if plan.has_base(config):
        _check_dataset(config, root)
    _check_prompts(config, root)
    _check_pictures(config, root)


def _check_names(config: dict[str, Any]) -> None:
    for name in GIVEN:
        if name in config["finetune"]["variants"]:
            fail(("finetune", "variants", name), "is the name of a given model", "choose another")
    family, known = config["models"]["family"], plugins.names(plugins.FAMILIES)
    if family not in known:
        fail(("models", "family"), f"unknown value, got {shown(family)}", nearest(family, known))
    stages = config["resources"]["stages"]
    known = rules() if stages else []
    for name in stages:
        if name not in known:
            fail(
                ("resources", "stages"),
                f"unknown value, as the name of an entry, got {shown(name)}",
                f"choose one of {', '.join(known)}",
            )


def _check_rows(config: dict[str, Any]) -> None:
    """There is something to compare, under names that differ."""
    given, chosen = config["pictures"], config["reference"]
    compared, tuned = config["models"]["compare"], config["finetune"]["variants"]
    if plan.has_base(config):
        if not tuned and not given and not compared:
            fail(("finetune", "variants"), "must not be empty", "name at least one")
        if config["models"]["guide"] is None:
            fail(("models", "guide"), "is null, and there is a base", "the default is shapes")
        if chosen is not None:
            fail(("reference",), "there is a base, which the others are held against", "remove it")
    elif compared:
        remedy = "name one of them as the base"
        fail(("models", "compare"), "stands beside a base, and there is none", remedy)
    elif not given:
        remedy = "name a base, or sets of pictures in `pictures`"
        fail(("models", "base"), "is null, and there is nothing to compare", remedy)
    elif chosen is not None and chosen not in given:
        fail(
            ("reference",), f"no such entry of pictures: {shown(chosen)}", nearest(chosen, [*given])
        )
    if config["score"]["diversity"] and not plan.has_base(config):
        fail(
            ("score", "diversity"), "is measured against a base, and there is none", "leave it out"
        )
    taken = {*GIVEN, *plugins.names(plugins.REFERENCES), *tuned, *variants.entries(config), "all"}
    taken |= {*guides.made(config)}
    for key, names in ((("models", "compare"), compared), (("pictures",), given)):
        for name in names:
            if name in taken:
                fail((*key, name), "is the name of something else", "choose another")
        taken |= {*names}


def rules() -> list[str]:
    """The names by which rules ask what they may use, in alphabetical order."""
    texts = [path.read_text("utf-8") for path in sorted(RULES.glob("*.smk"))]
    return sorted({name for text in texts for name in re.findall(r"\bneeds\(\"(\w+)\"", text)})


def _check_variants(config: dict[str, Any], root: Path) -> None:
    tuning = config["finetune"]
    if tuning["sweeps"] and not config["development"]["count"]:
        fail(
            ("development", "count"),
            "is 0, and sweeps are ranked by development prompts",
            "set it to 40 or more",
        )
    devices = tuning["processes"] * tuning["nodes"]
    family = config["models"]["family"]
    lora_only = plan.has_base(config) and plugins.constant(plugins.FAMILIES, family, "LORA_ONLY")
    for variant in variants.entries(config).values():
        size = variant.settings.batch_size
        if devices > size:
            key = (*variant.place("batch_size"), "batch_size")
            fail(key, f"{size} pictures for {devices} processes", "use at least as many")
        if lora_only and not variant.settings.lora_rank:
            key = (*variant.place("lora_rank"), "lora_rank")
            what = f"is 0, and all of {family}'s weights cannot be trained: {lora_only}"
            fail(key, what, "set it to 16")
        try:
            variant.settings.check(root)
        except PydanticCustomError as error:
            told = error.context or {}
            fail((*variant.place(told["key"]), told["key"]), told["what"], told["remedy"])
        if getattr(variant.settings, "reward", "") == "verifier" and (
            config["dataset"]["source"] != plan.SHAPES
        ):
            named = "guide" if "guide" in variant.own else "reward"
            key = (*variant.place(named), named)
            fail(key, "verifier: knows the shapes world's captions alone", "use guide")
        if variant.settings.stop_judge:
            key = (*variant.place("stop_judge"), "stop_judge")
            _check_stop_judge(config, root, variant.settings.stop_judge, key)


def _check_stop_judge(config: dict[str, Any], root: Path, chosen: str, key: Key) -> None:
    """What stops a training must be no guide, and nothing that is reported."""
    if not config["development"]["count"]:
        fail(
            ("development", "count"),
            "is 0, and stop_judge looks at development prompts",
            "set it to 40 or more",
        )
    places = {f"judges.{name}": folder_of(own, root) for name, own in plan.judges(config).items()}
    names = {f"models.{part}": config["models"][part] for part in ("guide", "judge")}
    names |= {f"guides.{name}": own.source for name, own in guides.entries(config).items()}
    for name, source in names.items():
        if source is not None:
            part = "judge" if name == "models.judge" else "guide"
            places[name] = SHIPPED / part if source == plan.SHAPES else root / source
    for name, folder in places.items():
        if not folder.is_dir():
            continue
        same = os.path.realpath(folder) == os.path.realpath(root / chosen)
        if same or same_weights(folder, root / chosen):
            fail(key, f"is the same model as {name}", "give a CLIP that is used for nothing else")


def _check_refine(config: dict[str, Any]) -> None:
    known = plan.models(config)
    lists = {("refine", "models"): config["refine"]["models"]}
    for name, arm in plan.all_arms(config).items():
        lists["refine", "arms", name, "models"] = arm.settings.models or []
        if lacks := arm.settings.lacks(config["generate"]["steps"]):
            key, *words = lacks
            fail(("refine", "arms", name, key), *words)
    for key, chosen in lists.items():
        for i, model in enumerate(chosen):
            if model not in known:
                fail(
                    (*key, i),
                    f"no such model in this study: {shown(model)}",
                    nearest(model, known),
                )


def _check_ratings(config: dict[str, Any], root: Path) -> None:
    source = config["ratings"]
    if source == "prompts":
        able = ", ".join(name for name in benchmark.names() if benchmark.parse(name).rated)
        what = f"{config['prompts']['source']} has none"
        fail(("ratings",), what, f"name a file, or take the prompts of {able}")
    if source is None or plan.rated(config):
        return
    if not os.path.isfile(root / source):
        fail(("ratings",), f"no file {shown(source)}", "give a .csv of people's scores or votes")
    known = [*plan.runs(config), *config["pictures"], *plugins.names(plugins.REFERENCES)]
    ratings.check(root / source, known)


def _check_dataset(config: dict[str, Any], root: Path) -> None:
    source, key = config["dataset"]["source"], ("dataset", "source")
    if source == plan.SHAPES:
        return
    if is_hub(source, key):
        return
    if source.endswith(".parquet") and os.path.isfile(root / source):
        _check_captions(config["dataset"], root)
        return
    if not os.path.isdir(root / source):
        near = difflib.get_close_matches(source, ["shapes"])
        remedy = "did you mean shapes?" if near else "give a folder of captioned pictures or shapes"
        fail(key, f"no folder {shown(source)}", remedy)
    # Of a large folder only a part is looked at: the config is read at each start of Snakemake.
    entries = [path.suffix.lower() for path in itertools.islice((root / source).rglob("*"), 1000)]
    whole = len(entries) < 1000
    if whole and not PICTURES & set(entries):
        fail(
            key,
            f"{source} holds no picture ({', '.join(sorted(PICTURES))})",
            "give a folder of captioned pictures or shapes",
        )
    if whole or any(os.path.isfile(root / source / name) for name in LISTS):
        _check_captions(config["dataset"], root, whole)


def _check_captions(wanted: dict[str, Any], root: Path, whole: bool = True) -> None:
    """whole: of a large folder with a list of captions at its top, that list alone is read."""
    from vlg.data import imagefolder, parquet

    source, captions = root / wanted["source"], wanted["captions"]
    if whole and (tables := parquet.files_of(source, wanted["split"])):
        # Where packages are the jobs' own (--use-conda), Snakemake may have none for parquet.
        for table in tables if importlib.util.find_spec("pyarrow") else ():
            parquet.check(table, wanted["picture"], captions)
    else:
        imagefolder.captioned(source, captions, split=wanted["split"], first=LOOKED_AT)


def _check_prompts(config: dict[str, Any], root: Path) -> None:
    wanted = config["prompts"]
    if is_hub(wanted["source"], ("prompts", "source")):
        if wanted["pool"] is None:
            fail(
                ("prompts", "pool"),
                "prompts of the Hub are not counted before they are there",
                "write how many to take, 1632 for all of PartiPrompts",
            )
        return
    if found := benchmark.parse(wanted["source"]):
        _check_benchmark(config, found)
        return
    if wanted["source"] != "shapes":
        if not os.path.isfile(root / wanted["source"]):
            known = ["shapes", *benchmark.names()]
            near = difflib.get_close_matches(wanted["source"].partition("@")[0], known, n=3)
            remedy = "give a .tsv, .csv or .txt file or shapes"
            if near:
                remedy = f"did you mean {' or '.join(near)}?"
            elif benchmark.PATTERN.fullmatch(wanted["source"]):  # a name, and no file's
                remedy = f"give a .tsv, .csv or .txt file, or one of {', '.join(known)}"
            fail(("prompts", "source"), f"no file {shown(wanted['source'])}", remedy)
        prompts.check_sha256(root / wanted["source"], wanted["sha256"])
        rows = prompts.read(root / wanted["source"])
        chosen = ("study", "pool", "category", "challenge", "order")
        prompts.select(rows, **{name: wanted[name] for name in chosen})


def _check_asked(config: dict[str, Any]) -> None:
    """Judges that are pointed at a benchmark's file are of one that says what they ask."""
    judges = plan.judges(config)
    known = [benchmark.parse(name) for name in benchmark.names()] if judges else []
    for name, judge in judges.items():
        able = [each for each in known if judge.kind in each.judged]
        if able and getattr(judge, key := able[0].judged[judge.kind][0]) == "prompts":
            names = ", ".join(each.name for each in able)
            what = f"{config['prompts']['source']} does not say what it asks"
            fail(("judges", name, key), what, f"name a file, or take the prompts of {names}")


def _check_benchmark(config: dict[str, Any], found: benchmark.Benchmark) -> None:
    """What is asked of a benchmark is there, as far as its name tells."""
    wanted = config["prompts"]
    found.known_by(wanted["sha256"])
    for i, name in enumerate(wanted["category"] or []):
        if not found.number([name]):
            key = ("prompts", "category", i)
            fail(
                key,
                f"{found.name} has no {shown(name)}",
                nearest(name, [each for each in found.numbers if each]),
            )
    if wanted["pool"] is None:
        what = f"how many prompts of {found.name} have a challenge is not known beforehand"
        fail(("prompts", "pool"), what, "write how many to take")
    number = found.number(wanted["category"])
    if wanted["challenge"] is None and wanted["pool"] > number:
        fail(
            ("prompts", "pool"),
            f"asks for {wanted['pool']} prompts, {found.name} has {number} that fit",
            f"lower it to {number} or less, or leave it out",
        )
    if wanted["study"] > wanted["pool"]:
        fail(
            ("prompts", "study"),
            f"asks for {wanted['study']} prompts, {found.name} has {wanted['pool']} that fit",
            f"lower it to {wanted['pool']} or less",
        )
    for name, judge in plan.judges(config).items():
        if plan.asked(config, judge):
            for key in found.judged[judge.kind][1:]:
                if getattr(judge, key) is None:
                    what = f"is null, and {found.name} needs it"
                    fail(("judges", name, key), what, "docs/judges.md says what for")


def _check_pictures(config: dict[str, Any], root: Path) -> None:
    """The folders of sets of pictures are there, and their patterns say what they must."""
    for name, own in config["pictures"].items():
        key = ("pictures", name)
        if not os.path.isdir(root / own["source"]):
            fail((*key, "source"), f"no folder {shown(own['source'])}", "check the path")
        if own["pattern"] is not None:
            with under((*key, "pattern")):
                sets.expression(own["pattern"])


def check_sets(config: dict[str, Any], root: Path) -> None:
    """UserError for what the sets of pictures hold, which takes long enough to be asked once a run.

    config: one that `check` has passed.
    """
    rows = plan.prompts_of(config, root) if config["pictures"] else None
    for name, own in config["pictures"].items():
        with under(("pictures", name)):
            sets.check(root / own["source"], own["pattern"], own["column"], own["others"], rows)

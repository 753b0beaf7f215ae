"""Values of a config that must agree with each other, and files that must be there.

What one key may be, and what its section must agree on, its class says (`vlg.config.sections`).
"""

from __future__ import annotations

import contextlib
import difflib
import filecmp
import importlib.util
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic_core import PydanticCustomError

from vlg import plugins
from vlg.config import guides, plan, variants
from vlg.config.read import Key, dotted, fail, nearest, shown
from vlg.data import hub, pixels, prompts, sets
from vlg.data.columns import LISTS
from vlg.errors import UserError
from vlg.models import headers, lora, stated
from vlg.models.families import class_of, name_of
from vlg.models.folders import MARK, check_family, check_whole, listed

RULES = Path(__file__).parents[3] / "rules"
SHIPPED = RULES.parent / "resources" / "shapes"
GIVEN = ("base", "guide", "judge")
OTHER_JUDGE = "a CLIP cannot judge what it guided, give another one"
MODEL_KIND = {
    "base": "a diffusers folder",
    "guide": "an open_clip folder",
    "judge": "a Hugging Face CLIP folder",
}
WEIGHTS = {".safetensors", ".bin", ".pt", ".pth"}
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
    _check_models(config, root)
    _check_compared(config, root)
    _check_guides(config, root)
    _check_controls(config)
    _check_judges(config, root)
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
    compared, variants = config["models"]["compare"], config["finetune"]["variants"]
    if plan.has_base(config):
        if not variants and not given and not compared:
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
    taken = {*GIVEN, *plugins.names(plugins.REFERENCES), *variants, "all"}
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
    for variant in variants.entries(config).values():
        size = variant.settings.batch_size
        if devices > size:
            key = (*variant.place("batch_size"), "batch_size")
            fail(key, f"{size} pictures for {devices} processes", "use at least as many")
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
    names = {f"models.{part}": config["models"][part] for part in ("guide", "judge")}
    judges = plan.judges(config)
    names |= {f"judges.{name}": settings.source for name, settings in judges.items()}
    names |= {f"guides.{name}": own.source for name, own in guides.entries(config).items()}
    for name, source in names.items():
        if source is None:
            continue
        shipped = source == plan.SHAPES and not name.startswith("judges.")
        part = "judge" if name == "models.judge" else "guide"
        folder = SHIPPED / part if shipped else root / source
        if not folder.is_dir():
            continue
        same = os.path.realpath(folder) == os.path.realpath(root / chosen)
        if same or _same_weights(folder, root / chosen):
            fail(key, f"is the same model as {name}", "give a CLIP that is used for nothing else")


def _check_refine(config: dict[str, Any]) -> None:
    known = plan.models(config)
    lists = {("refine", "models"): config["refine"]["models"]}
    for name, arm in plan.all_arms(config).items():
        lists["refine", "arms", name, "models"] = arm.settings.models or []
    for key, models in lists.items():
        for i, model in enumerate(models):
            if model not in known:
                fail(
                    (*key, i),
                    f"no such model in this study: {shown(model)}",
                    nearest(model, known),
                )


def _check_models(config: dict[str, Any], root: Path) -> None:
    _check_differ(config, root)
    names = {part: name for part, name in config["models"].items() if name is not None}
    folders = {
        part: root / names[part]
        for part, known in plan.EMBEDDED.items()
        if part in names and names[part] not in known
        if not _is_hub(names[part], ("models", part))
    }
    if names.get("guide") in guides.entries(config):
        folders.pop("guide", None)
    base = folders.get("base")
    if base and (base.suffix == ".safetensors" or os.path.isfile(base) or _is_pickled(base)):
        _check_base_file(folders.pop("base"), names["base"])
    for part, folder in folders.items():
        key, known = ("models", part), ", ".join(plan.EMBEDDED[part])
        if os.path.isfile(folder):
            fail(key, f"{names[part]} is a file", f"give {MODEL_KIND[part]} or {known}")
        if not os.path.isdir(folder):
            near = difflib.get_close_matches(names[part], plan.EMBEDDED[part], n=1)
            remedy = f"did you mean {near[0]}?" if near else f"give {MODEL_KIND[part]} or {known}"
            fail(key, f"no folder {shown(names[part])}", remedy)
        if not os.path.isfile(folder / MARK[part]):
            also = headers.described(folder, os.listdir(folder)) if part == "base" else ""
            fail(
                key,
                f"{names[part]} has no {MARK[part]}{also}",
                f"give {MODEL_KIND[part]} or {known}",
            )
    if "base" in folders:
        _check_family(folders["base"], names["family"])
    for part, folder in folders.items():
        begin = f"config: models.{part}: {names[part]}"
        for name in check_whole(part, listed(folder), begin, names["family"]):
            if name.endswith(".safetensors"):
                with _under(("models", part)):
                    headers.check_safetensors(folder / name)
        stated.check(part, folder, begin, names["family"])


def _check_compared(config: dict[str, Any], root: Path) -> None:
    """What is compared with the base can be drawn, as far as it is here."""
    known, usual = plan.EMBEDDED["base"], config["models"]["family"]
    for name, own in plan.compared(config).items():
        key = ("models", "compare", name)
        family = own.family or usual
        if family not in plugins.names(plugins.FAMILIES):
            families = plugins.names(plugins.FAMILIES)
            fail((*key, "family"), f"unknown value, got {shown(family)}", nearest(family, families))
        source = own.source or own.base or config["models"]["base"]
        part = "source" if own.source else "base"
        here = source not in known and not _is_hub(source, (*key, part))
        folder = root / source if here else SHIPPED / "base" if source in known else None
        if here and (own.source or own.base):
            with _under((*key, part)):
                _check_compared_model(root / source, source, family)
        for file in own.loras:
            if _is_hub(file, (*key, "lora")):
                fail((*key, "lora"), "a LoRA of the Hub is not fetched here", "give its file")
            with _under((*key, "lora")):
                lora.check(root / file, folder)


def _check_compared_model(path: Path, name: str, family: str) -> None:
    if os.path.isfile(path):
        if _is_pickled(path):
            raise UserError(headers.pickled(path))
        headers.check_base_file(path)
        return
    if not os.path.isdir(path):
        raise UserError(f"no folder {shown(name)}; give {MODEL_KIND['base']} or a file")
    check_whole("base", listed(path), name, family, path)
    check_family(path, family, name)
    stated.check("base", path, name, family)


def _is_pickled(path: Path) -> bool:
    return path.suffix in headers.PICKLES and not os.path.isdir(path)


def _check_base_file(file: Path, name: str) -> None:
    """A base in one file must be there and be a whole model, as far as its header tells."""
    if os.path.isdir(file):
        fail(("models", "base"), f"{name} is a folder", "rename it: files are called .safetensors")
    if not os.path.isfile(file):
        fail(("models", "base"), f"no file {shown(name)}", "check the path")
    with _under(("models", "base")):
        if _is_pickled(file):
            raise UserError(headers.pickled(file))
        headers.check_base_file(file)
    if file.suffix != ".safetensors":
        fail(("models", "base"), f"{name} is a safetensors file", "name it .safetensors")


def _check_family(base: Path, wanted: str) -> None:
    """What the folder of the base says of itself must be of the family that the config names."""
    found = name_of(base, f"config: models.base: {base}")
    if found != wanted:
        fail(
            ("models", "base"),
            f"{base} is a {class_of(base)}, of the family {found} and not {wanted}",
            f"set models.family: {found}",
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


def _check_guides(config: dict[str, Any], root: Path) -> None:
    """Every entry of `guides` can be made, and is no judge."""
    known = guides.entries(config)
    lists = {("refine", "arms", name): arm for name, arm in plan.all_arms(config).items()}
    for key, arm in lists.items():
        named = arm.settings.guide
        if named is not None and named not in known:
            fail((*key, "guide"), f"no such entry of guides: {shown(named)}", nearest(named, known))
        if guides.black_box(known.get(named)) and "guide" in arm.needs:
            _check_black_box(config, named, arm, (*key, "guide"))
    if (itself := known.get(config["models"]["guide"])) and itself.control:
        fail(
            ("models", "guide"),
            f"is a control, the {itself.control} guide",
            "name it as guide of an arm or a variant",
        )
    for name, settings in known.items():
        key = ("guides", name)
        if name == guides.GUIDE:
            fail(key, "is what models.guide is called", "choose another name")
        for member in settings.members:
            found = known.get(member)
            at = (*key, "members")
            if found is None and member != guides.GUIDE:
                fail(at, f"no such entry of guides: {shown(member)}", nearest(member, known))
            if found and found.control:
                fail(at, f"{member} is a control", "leave it out")
            itself = found or guides.entry(config)
            if itself and itself.members and not settings.control:
                fail(at, f"{member} is made of several itself", "name its members")
        if settings.source is not None or settings.kind not in plugins.names(plugins.KINDS):
            _check_guide(settings, (*key, "source"), root)


def _check_controls(config: dict[str, Any]) -> None:
    """What must raise the guide's score is there."""
    known = [*variants.named(config), *plan.arms(config)]
    for i, name in enumerate(config["positive_controls"]):
        if name not in known:
            fail(
                ("positive_controls", i),
                f"no such variant or arm: {shown(name)}",
                nearest(name, known),
            )


def _check_black_box(config: dict[str, Any], name: str, arm: plan.Arm, key: Key) -> None:
    """An arm can follow a guide without a gradient, and the verifier can read the prompts."""
    if not plugins.constant(plugins.ARMS, arm.kind, "BLACK_BOX", False):
        able = [
            kind
            for kind in plugins.names(plugins.ARMS)
            if plugins.constant(plugins.ARMS, kind, "BLACK_BOX", False)
        ]
        what = f"{name} has no gradient, which {arm.kind} follows"
        fail(key, what, f"use one of {', '.join(able)}")
    if not plan.has_truth(config):
        fail(key, f"{name} knows the prompts of the shapes world alone", "use another guide")


def _check_guide(settings: Any, key: Key, root: Path) -> None:
    """One guide that has a source."""
    rooms = [k for k in plugins.names(plugins.KINDS) if plugins.own(plugins.KINDS, k).guides]
    if settings.kind not in rooms:
        at = (*key[:-1], "kind")
        fail(at, f"cannot guide: {shown(settings.kind)}", f"choose one of {', '.join(rooms)}")
    if settings.source == plan.SHAPES:
        if settings.kind != "open_clip":
            fail(key, f"{plan.SHAPES} is an open_clip", "leave kind out")
        return
    _check_source(settings, key, root)


def _check_source(settings: Any, key: Key, root: Path) -> None:
    """What a kind of judge is made from, where it is here; what is on the Hub is looked at by the
    job that fetches it."""
    if not _is_hub(settings.source, key):
        with _under(key):
            plugins.own(plugins.KINDS, settings.kind).check(settings, root)


@contextlib.contextmanager
def _under(key: Key) -> Iterator[None]:
    """What is wrong within is told of this key."""
    try:
        yield
    except UserError as error:
        raise UserError(f"config: {dotted(key)}: {error}") from None


def _check_differ(config: dict[str, Any], root: Path) -> None:
    """No guide is a judge: neither the same source nor the same weights under another name."""
    known = guides.entries(config)
    chosen = {f"guides.{name}": each.source for name, each in known.items() if each.source}
    if plan.has_base(config) and config["models"]["guide"] not in known:
        chosen["models.guide"] = config["models"]["guide"]
    judges = {("judges", name, "source"): each.source for name, each in plan.judges(config).items()}
    judges[("models", "judge")] = config["models"]["judge"]
    for (key, judge), (guide, source) in itertools.product(judges.items(), chosen.items()):
        one = SHIPPED / "guide" if source == plan.SHAPES else root / source
        other = SHIPPED / "judge" if judge == plan.SHAPES else root / judge
        if hub.same(source, judge) or os.path.realpath(one) == os.path.realpath(other):
            fail(key, f"is the same model as {guide}: {shown(judge)}", OTHER_JUDGE)
        same = _same_weights(one, other) if os.path.isdir(one) and os.path.isdir(other) else None
        if same:
            what = f"has the weights of {guide}: {same[0]} and {same[1]} are identical"
            fail(key, what, OTHER_JUDGE)


def _check_judges(config: dict[str, Any], root: Path) -> None:
    for name, settings in plan.judges(config).items():
        if name in GIVEN:
            fail(("judges", name), "is the name of a given model", "choose another")
        _check_source(settings, ("judges", name, "source"), root)


def _check_ratings(config: dict[str, Any], root: Path) -> None:
    source = config["ratings"]
    if source is not None and not os.path.isfile(root / source):
        fail(("ratings",), f"no file {shown(source)}", "give a .csv of people's scores or votes")


def _check_dataset(config: dict[str, Any], root: Path) -> None:
    source, key = config["dataset"]["source"], ("dataset", "source")
    if source == plan.SHAPES:
        return
    if _is_hub(source, key):
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


def _check_pictures(config: dict[str, Any], root: Path) -> None:
    """The folders of sets of pictures are there, and their patterns say what they must."""
    for name, own in config["pictures"].items():
        key = ("pictures", name)
        if not os.path.isdir(root / own["source"]):
            fail((*key, "source"), f"no folder {shown(own['source'])}", "check the path")
        if own["pattern"] is not None:
            with _under((*key, "pattern")):
                sets.expression(own["pattern"])

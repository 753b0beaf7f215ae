"""Models, guides and judges that a config names: there, whole, fit for it, and no guide a judge."""

from __future__ import annotations

import difflib
import filecmp
import itertools
import os
from pathlib import Path
from typing import Any

from vlg import plugins
from vlg.config import guides, plan, sections, variants
from vlg.config.read import Key, fail, nearest, shown, under
from vlg.data import hub
from vlg.errors import UserError
from vlg.models import headers, lora, stated
from vlg.models.families import class_of, name_of
from vlg.models.folders import MARK, check_family, check_whole, listed

SHIPPED = Path(__file__).parents[3] / "resources" / "shapes"
GIVEN = ("base", "guide", "judge")
OTHER_JUDGE = "a CLIP cannot judge what it guided, give another one"
MODEL_KIND = {
    "base": "a diffusers folder",
    "guide": "an open_clip folder",
    "judge": "a Hugging Face CLIP folder",
}
WEIGHTS = {".safetensors", ".bin", ".pt", ".pth"}


def check(config: dict[str, Any], root: Path) -> None:
    """UserError for the first model that is not what it is named for; arguments as in `checks`."""
    _check_differ(config, root)
    _check_given(config, root)
    _check_compared(config, root)
    _check_guides(config, root)
    _check_controls(config)
    _check_judges(config, root)


def _check_given(config: dict[str, Any], root: Path) -> None:
    names = {part: name for part, name in config["models"].items() if name is not None}
    folders = {
        part: root / names[part]
        for part, known in plan.EMBEDDED.items()
        if part in names and names[part] not in known
        if not is_hub(names[part], ("models", part))
    }
    if names.get("guide") in guides.entries(config):
        folders.pop("guide", None)
    if names.get("base") in plan.SHAPES_FAMILIES:
        _check_shapes_family(names["base"], names["family"], ("models",))
    base = folders.get("base")
    if base and (base.suffix == ".safetensors" or os.path.isfile(base) or _is_pickled(base)):
        _check_base_file(folders.pop("base"), names["base"], names["family"])
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
                with under(("models", part)):
                    headers.check_safetensors(folder / name)
        stated.check(part, folder, begin, names["family"])
    if "base" in folders:
        with under(("generate",)):
            family = plugins.own(plugins.FAMILIES, names["family"])
            family.check_guidance(folders["base"], config["generate"]["guidance_scale"])


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
        here = source not in known and not is_hub(source, (*key, part))
        folder = root / source if here else None
        if source in known:
            folder = SHIPPED / ("base" if plan.SHAPES_FAMILIES[source] == "sd" else "base-flow")
            if own.source or own.base:
                _check_shapes_family(source, family, key)
        if here and (own.source or own.base):
            with under((*key, part)):
                _check_compared_model(root / source, source, family)
                if os.path.isdir(root / source):
                    scale = config["generate"]["guidance_scale"]
                    plugins.own(plugins.FAMILIES, family).check_guidance(root / source, scale)
        for file in own.loras:
            if is_hub(file, (*key, "lora")):
                fail((*key, "lora"), "a LoRA of the Hub is not fetched here", "give its file")
            with under((*key, "lora")):
                lora.check(root / file, folder)


def _check_compared_model(path: Path, name: str, family: str) -> None:
    if os.path.isfile(path):
        if _is_pickled(path):
            raise UserError(headers.pickled(path))
        headers.check_base_file(path, family)
        if path.suffix != ".safetensors":
            raise UserError(f"{name} is a safetensors file; name it .safetensors")
        return
    if not os.path.isdir(path):
        raise UserError(f"no folder {shown(name)}; give {MODEL_KIND['base']} or a file")
    for file in check_whole("base", listed(path), name, family, path):
        if file.endswith(".safetensors"):
            headers.check_safetensors(path / file)
    check_family(path, family, name)
    stated.check("base", path, name, family)


def _is_pickled(path: Path) -> bool:
    return path.suffix in headers.PICKLES and not os.path.isdir(path)


def _check_base_file(file: Path, name: str, family: str) -> None:
    """A base in one file must be there and be a whole model, as far as its header tells."""
    if os.path.isdir(file):
        fail(("models", "base"), f"{name} is a folder", "rename it: files are called .safetensors")
    if not os.path.isfile(file):
        fail(("models", "base"), f"no file {shown(name)}", "check the path")
    with under(("models", "base")):
        if _is_pickled(file):
            raise UserError(headers.pickled(file))
        headers.check_base_file(file, family)
    if file.suffix != ".safetensors":
        fail(("models", "base"), f"{name} is a safetensors file", "name it .safetensors")


def _check_shapes_family(source: str, wanted: str, key: Key) -> None:
    """A shapes model is of the family that the config names; key: what has the key `family`."""
    if (found := plan.SHAPES_FAMILIES[source]) != wanted:
        fail(
            (*key, "family"), f"is {wanted}, and {source} is of the family {found}", f"set {found}"
        )


def _check_family(base: Path, wanted: str) -> None:
    """What the folder of the base says of itself must be of the family that the config names."""
    found = name_of(base, f"config: models.base: {base}")
    if found != wanted:
        fail(
            ("models", "base"),
            f"{base} is a {class_of(base)}, of the family {found} and not {wanted}",
            f"set models.family: {found}",
        )


def is_hub(source: str, key: Key) -> bool:
    """Whether a source is on the Hub; raises when it says so and is not written as it must be."""
    if hub.parse(source):
        return True
    if source.startswith((hub.PREFIX, "hf:", "https://huggingface.co/")):
        fail(key, f"no repository of the Hub: {shown(source)}", "write hub:owner/name[@revision]")
    return False


def same_weights(one: Path, other: Path) -> tuple[Path, Path] | None:
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


def _check_source(settings: Any, key: Key, root: Path, pending: bool = False) -> None:
    """What a kind of judge is made from, where it is here; what is on the Hub is looked at by the
    job that fetches it. pending: what it asks is not here before another job has fetched it."""
    kind = plugins.own(plugins.KINDS, settings.kind)
    if not is_hub(settings.source, key):
        with under(key):
            kind.check(settings, root)
    with under(key[:-1]):
        if not pending:
            kind.check_beside(settings, root)


def folder_of(judge: sections.JudgeKeys, root: Path) -> Path:
    """Where the model of a further judge is."""
    return plugins.own(plugins.KINDS, judge.kind).folder(judge, root)


def _check_differ(config: dict[str, Any], root: Path) -> None:
    """No guide is a judge: neither the same source nor the same weights under another name."""
    known = guides.entries(config)
    chosen = {f"guides.{name}": each.source for name, each in known.items() if each.source}
    if plan.has_base(config) and config["models"]["guide"] not in known:
        chosen["models.guide"] = config["models"]["guide"]
    own = config["models"]["judge"]
    judges: dict[Key, tuple[str, Path]] = {
        ("judges", name, "source"): (each.source, folder_of(each, root))
        for name, each in plan.judges(config).items()
    }
    judges["models", "judge"] = (own, SHIPPED / "judge" if own == plan.SHAPES else root / own)
    for (key, (judge, other)), (guide, source) in itertools.product(judges.items(), chosen.items()):
        one = SHIPPED / "guide" if source == plan.SHAPES else root / source
        if (
            hub.parse(source)
            and hub.same(source, judge)
            or os.path.realpath(one) == os.path.realpath(other)
        ):
            fail(key, f"is the same model as {guide}: {shown(judge)}", OTHER_JUDGE)
        same = same_weights(one, other) if os.path.isdir(one) and os.path.isdir(other) else None
        if same:
            what = f"has the weights of {guide}: {same[0]} and {same[1]} are identical"
            fail(key, what, OTHER_JUDGE)


def _check_judges(config: dict[str, Any], root: Path) -> None:
    for name, settings in plan.judges(config).items():
        if name in GIVEN:
            fail(("judges", name), "is the name of a given model", "choose another")
        asked = plan.asked(config, settings)
        pending = asked is not None and not os.path.isfile(root / asked[1])
        _check_source(settings, ("judges", name, "source"), root, pending)

"""Model folders: what may be in them, and how they get into a study."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import Field

from vlg import plugins
from vlg.config.keys import Keys
from vlg.config.sections import Models
from vlg.errors import UserError
from vlg.files import MANIFEST, below, check_manifest, link, read_json, sha256, write_json
from vlg.models import headers, stated
from vlg.models.families import class_of, name_of

MARK = {"base": "model_index.json", "guide": "open_clip_config.json", "judge": "config.json"}
TEXTS = {".json", ".txt", ".model", ".jinja"}  # configurations, vocabularies, chat templates
# name[.variant][-00001-of-00002].safetensors, and name.safetensors.index[.variant].json
WEIGHTS = re.compile(
    r"(?P<name>[^.]+?)(\.(?P<variant>[^.]+?))?(?P<shard>-\d{5}-of-\d{5})?"
    r"\.safetensors(?P<index>\.index(\.(?P<of>[^.]+))?\.json)?"
)
OTHERS = re.compile(r"manifest\.json|.*\.(bin|msgpack)\.index\.json")
VARIANTS = ("fp32", "fp16", "bf16")  # taken, in this order, where plain weights are missing
RESOURCES = Path(__file__).parents[3] / "resources"
FAMILY = Models.model_fields["family"].default  # of a base that nothing is said of
# By which name each kind's library loads weights, the first that is there. A folder may hold them
# for two libraries: CLIPs on the Hub often have open_clip_model and, for transformers, model.
NAMES = {
    "base": ("diffusion_pytorch_model", "model"),
    "guide": ("open_clip_model", "open_clip_pytorch_model", "model"),
    "judge": ("model",),
}
# What a shipped model has of the shipped base, before its own files are laid over it.
SHARED = {"base-early": (".",), "base-middle": (".",), "base-flow": ("vae", "tokenizer")}


class Settings(Keys):
    """Which model is put into a study."""

    kind: Literal["base", "guide", "judge"] = Field("base", description="What it serves as.")
    source: str = Field("shapes", description="What the study calls it, or which shipped one.")
    family: str = Field(FAMILY, description="`models.family`, of a base.")


def parts(kind: str, family: str = FAMILY) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(folders of a model that are needed, those of them with weights); "" is the model's own.

    Of a base they are what its family draws with: a safety checker blackens pictures, which would
    be scored.
    """
    if kind != "base":
        return ("",), ("",)
    needed, weighted = (
        plugins.constant(plugins.FAMILIES, family, name) for name in ("PARTS", "WEIGHTED")
    )
    return needed, weighted


def wanted(kind: str, names: Iterable[str], family: str = FAMILY) -> dict[str, str]:
    """{file of a model: its name in the study}, of all its files only those that load it.

    Configurations, vocabularies and one set of safetensors weights a part: what its library loads
    first, half precision only where there is no other, whole files rather than shards. family: of a
    base.
    """
    weights, result = defaultdict(list), {}
    needed, _ = parts(kind, family)
    for name in sorted(names):
        path = PurePosixPath(name)
        part = path.parts[0] if len(path.parts) > 1 else ""
        if len(path.parts) > 2 or not (part in needed or name == MARK[kind]):
            continue
        if WEIGHTS.fullmatch(path.name):
            weights[part].append(path.name)
        elif path.suffix in TEXTS and not OTHERS.fullmatch(path.name):
            result[name] = name
    for part, files in weights.items():
        for name, target in _one_set(files, NAMES[kind]).items():
            result[f"{part}/{name}" if part else name] = f"{part}/{target}" if part else target
    return result


def _one_set(files: list[str], known: tuple[str, ...]) -> dict[str, str]:
    """{file: name to load it by} of one set of weights among several of a folder.

    known: names by which a library finds them; others come last."""
    sets: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for file in files:
        name, before, shard, index, behind = WEIGHTS.fullmatch(file).group(
            "name", "variant", "shard", "index", "of"
        )
        variant = before or behind
        if variant is None or variant in VARIANTS:
            order = known.index(name) if name in known else len(known)
            rank = VARIANTS.index(variant) + 1 if variant else 0
            sets[order, name, rank, bool(shard or index)].append(file)
    if not sets:
        return {}
    best = min(sets)
    if not best[2]:
        return {file: file for file in sets[best]}
    # An index names its files, which keep theirs.
    names = {True: f"{best[1]}.safetensors.index.json", False: f"{best[1]}.safetensors"}
    return {
        file: file if WEIGHTS.fullmatch(file)["shard"] else names[file.endswith(".json")]
        for file in sets[best]
    }


def check_whole(
    kind: str,
    names: Iterable[str],
    begin: str,
    family: str = FAMILY,
    folder: Path | None = None,
) -> dict[str, str]:
    """What is `wanted` of these files; UserError beginning with `begin` when a part lacks.

    folder: where they are, if they are here.
    """
    given = list(names)
    chosen = wanted(kind, given, family)
    names = set(chosen)
    if MARK[kind] not in names:
        also = headers.described(folder, given) if kind == "base" else ""
        raise UserError(f"{begin} has no {MARK[kind]}{also}; give a whole model folder")
    served, weighted = parts(kind, family)
    there = [part for part in served if f"{part}/config.json" in names]  # networks, also optional
    for part in dict.fromkeys([*weighted, *there]):
        start = f"{part}/" if part else ""
        if not any(n.startswith(start) and n.endswith(".safetensors") for n in names):
            where = f" in {part}" if part else ""
            raise UserError(f"{begin} has no *.safetensors{where}; convert its weights")
    return chosen


def take(source: Path, kind: str, out: Path, family: str = FAMILY) -> None:
    """Link a user's model folder to `out`, leaving out all that is not needed to load it.

    kind: "base" (diffusers, of that family), "guide" (open_clip) or "judge" (Hugging Face CLIP).
    UserError when the folder is not of that kind, has weights only in other formats, or a file is
    cut short.
    """
    begin = f"models.{kind}: {source}"
    if kind == "base" and (source / MARK[kind]).is_file():
        check_family(source, family)
    chosen = check_whole(kind, listed(source), begin, family, source)
    for name in chosen:
        if name.endswith(".safetensors"):
            headers.check_safetensors(source / name)
    stated.check(kind, source, begin, family)
    index = read_json(source / MARK[kind]) if kind == "base" else {}
    for name, target in chosen.items():
        (out / target).parent.mkdir(parents=True, exist_ok=True)
        link(source / name, out / target)
    if index:
        left_out = {
            name: [None, None]
            for name, value in index.items()
            if isinstance(value, list) and name not in parts(kind, family)[0]
        }
        (out / MARK[kind]).unlink()
        write_json(out / MARK[kind], {**index, **left_out, "requires_safety_checker": False})


def listed(folder: Path) -> list[str]:
    """The files of a folder and those below, relative to it."""
    return [path.relative_to(folder).as_posix() for path in below(folder)]


def check_family(source: Path, family: str, begin: str = "") -> None:
    """UserError when a base is of no family, or of another one than the config says.

    begin: what to call the base in it; by default the key and the folder.
    """
    begin = begin or f"models.base: {source}"
    try:
        stated.told(source, MARK["base"])
    except UserError as error:
        raise UserError(f"{begin}: {error}") from None
    found = name_of(source, begin)
    if found != family:
        raise UserError(f"{begin} is a {class_of(source)}; set models.family to {found}")


def check_differs(judge: Path, guide: Path) -> None:
    """UserError when the judge has a file of weights of the guide, whose folder has a manifest."""
    known = {
        told["sha256"]: name
        for name, told in read_json(guide / MANIFEST)["files"].items()
        if name.endswith(".safetensors")
    }
    for path in sorted(judge.rglob("*.safetensors")):
        if (name := known.get(sha256(path))) is not None:
            raise UserError(
                f"models.judge: has the weights of models.guide: its {path.name} is the guide's "
                f"{name}; a CLIP cannot judge what it guided, give another one"
            )


def unfold(file: Path, out: Path, family: str = FAMILY, shape: Path | None = None) -> None:
    """Write a checkpoint of a family, one safetensors file, as a diffusers folder.

    shape: a diffusers folder without weights that says how large each part is; by default that of
    the family. UserError when the file is cut short or holds another model.
    """
    tensors = headers.check_base_file(file, family)
    import diffusers
    import torch

    told = headers.one_file(family, f"models.base: {file}")
    shape = shape or RESOURCES / told["shape"]
    kind = getattr(diffusers, class_of(shape))
    own = {"tokenizer": clip_tokenizer(), **dict.fromkeys(stated.absent(shape))}
    if "tokenizer_2" in parts("base", family)[0]:
        own["tokenizer_2"] = clip_tokenizer(pad_token="!")
    checked = "safety_checker" in kind._optional_components
    try:
        with _shaped(shape, tensors, family) as config:
            pipeline = kind.from_single_file(
                str(file),
                config=str(config),
                local_files_only=True,
                dtype=torch.float32,
                **({**own, "safety_checker": None} if checked else own),
            )
        lacking = [
            f"{part}.{name}"
            for part, module in pipeline.components.items()
            if isinstance(module, torch.nn.Module)
            for name, weight in module.named_parameters()
            if weight.is_meta
        ]
        if lacking:
            raise ValueError(f"{len(lacking)} weights are not there, as {lacking[0]}")
    except Exception as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(
            f"models.base: {file} is no {told['name']} checkpoint ({why}); give a diffusers folder"
        ) from error
    if checked:
        pipeline.register_to_config(requires_safety_checker=False)
    pipeline.save_pretrained(out)


@contextlib.contextmanager
def _shaped(shape: Path, tensors: dict[str, Any], family: str) -> Iterator[Path]:
    """The folder `shape`, or a passing one whose JSON says what a checkpoint's weights say."""
    changes = plugins.own(plugins.FAMILIES, family).shaped(tensors)
    with tempfile.TemporaryDirectory() as temporary:
        for name in listed(shape) if changes else ():
            if name.endswith(".json"):
                (Path(temporary) / name).parent.mkdir(parents=True, exist_ok=True)
                write_json(Path(temporary) / name, read_json(shape / name) | changes.get(name, {}))
        yield Path(temporary) if changes else shape


def clip_tokenizer(**options: Any) -> Any:
    """CLIP's tokenizer, from the vocabulary that open_clip brings along; options as transformers
    has them."""
    import gzip

    import open_clip
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    packed = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(packed.read_bytes()).decode("utf-8").split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    vocabulary = {token: i for i, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77, **options)


def unpack(shipped: Path, source: str, out: Path) -> None:
    """Copy one shipped model (`base`, another of SHARED, `guide`, `judge`) in float32.

    Those of SHARED hold only what they do not share with base. UserError when a file's checksum is
    not the manifest's.
    """
    import shutil

    from safetensors.torch import load_file, save_file

    check_manifest(shipped)
    for part in SHARED.get(source, ()):
        shutil.copytree(shipped / "base" / part, out / part, dirs_exist_ok=True)
    shutil.copytree(shipped / source, out, dirs_exist_ok=True)
    for path in out.rglob("*.safetensors"):
        tensors = load_file(path)
        single = {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}
        save_file(single, path, metadata={"format": "pt"})

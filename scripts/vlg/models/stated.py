"""What model folders say of themselves: their JSON, never their weights.

A model that could only fail in the middle of a study, or be drawn wrongly without a word, is
refused here in one line. No large package is imported, and a folder takes milliseconds: local
models are looked at whenever Snakemake starts, others in the job that fetches them, before their
weights come.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vlg import plugins
from vlg.errors import UserError
from vlg.files import is_pointer

# Of Hugging Face tokenizers; any of the first, or a byte-pair vocabulary in two files.
TOKENIZERS = ("tokenizer.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
TOKENIZERS += ("tokenizer.model",)
BYTE_PAIRS = {"vocab.json", "merges.txt"}
ADDED, NAMES = "added_tokens.json", "tokenizer_config.json"
END = "<|endoftext|>"  # ends a text of CLIP where its tokenizer says nothing of it
CLIPS = ("clip", "siglip")  # `model_type` of what `vlg.models.clip` loads
WORDS = {"clip": 49408, "siglip": 32000}  # `vocab_size` where transformers' config has none
SIDE = 224  # and `image_size`, and that to which its processors resize and crop
LONGEST = 10_000_000  # bytes of a tokenizer.json that is read: CLIP's and SigLIP's have 2 to 4 MB
APART = "give a base whose parts belong together"  # where two parts do not fit
OPTIONAL = {"safety_checker", "feature_extractor", "image_encoder"}  # of a pipeline


def check(
    kind: str,
    folder: Path,
    begin: str,
    family: str = "",
    weights: Iterable[str] | None = None,
) -> None:
    """UserError beginning with `begin` when a folder says that it cannot serve as a `kind`.

    kind: base, guide or judge. family: of a base. weights: files of weights that the folder will
    have; by default those in it.
    """
    try:
        if kind == "base":
            plugins.own(plugins.FAMILIES, family).check(folder)
        elif kind == "guide":
            check_guide(folder)
        else:
            check_judge(folder, weights)
    except UserError as error:
        raise UserError(f"{begin}: {error}") from None
    except (TypeError, AttributeError, LookupError, ArithmeticError) as error:
        why = f"a JSON file has a value of another type than it should ({error})"
        raise UserError(f"{begin}: {why}; get the model again") from None


def check_guide(folder: Path) -> None:
    """UserError when an open_clip folder lacks what its config names."""
    name = "open_clip_config.json"
    config = told(folder, name)
    model = config.get("model_cfg")
    if not isinstance(model, dict):
        raise UserError(f"{name}: has no model_cfg; give a folder that open_clip has saved")
    if (config.get("preprocess_cfg") or {}).get("resize_mode") == "longest":
        raise UserError(
            f"{name}: preprocess_cfg has resize_mode longest, which pads pictures, and that is not "
            "known here; give a CLIP that crops or squashes them"
        )
    text = model.get("text_cfg") or {}
    wanted = text.get("hf_tokenizer_name")
    if wanted and not has_tokenizer(folder):
        raise UserError(
            f"{name}: names the Hugging Face tokenizer {wanted!r}, whose files are not there; save "
            "it into the folder (transformers: AutoTokenizer, save_pretrained)"
        )
    if wanted:
        check_tokenizer(folder, None)


def check_judge(folder: Path, weights: Iterable[str] | None = None) -> None:
    """UserError when a Hugging Face folder is no CLIP or SigLIP, or lacks what loads it."""
    config = told(folder, "config.json")
    found = config.get("model_type", CLIPS[0])
    if found not in CLIPS:
        raise UserError(
            f"config.json: model_type is {found!r}; give a CLIP or SigLIP ({', '.join(CLIPS)})"
        )
    if not has_tokenizer(folder):
        raise UserError("has no tokenizer (tokenizer.json); save the model's own into the folder")
    names = (
        sorted(path.name for path in folder.glob("*.safetensors")) if weights is None else weights
    )
    if not any(name.startswith("model") for name in names):
        raise UserError(
            f"has {', '.join(names)} and no model.safetensors, which transformers loads; give the "
            "CLIP in its format, or in judges with kind: open_clip"
        )
    text = config.get("text_config") or {}
    ids = check_tokenizer(folder, text.get("vocab_size", WORDS[found]))
    if found == "clip":
        _check_end(folder, ids, text.get("eos_token_id", WORDS[found] - 1))
    _check_processor(folder, found, (config.get("vision_config") or {}).get("image_size", SIDE))


def absent(base: Path) -> list[str]:
    """Parts of a diffusers folder that its model_index.json says are left out, and that diffusers
    misses unless it is told so once more."""
    index = told(base, "model_index.json")
    return [n for n, each in index.items() if each == [None, None] and n not in OPTIONAL]


def left_out(names: Iterable[str], family: str) -> list[str]:
    """What is `absent` of a base of a family that has files of these names, as T5 of a Stable
    Diffusion 3."""
    there = {name.partition("/")[0] for name in names}
    parts = plugins.constant(plugins.FAMILIES, family, "PARTS")
    return [part for part in parts if part not in there]


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has the files of a Hugging Face tokenizer."""
    names = {path.name for path in folder.glob("*")}
    return bool(names & {*TOKENIZERS}) or names >= BYTE_PAIRS


def check_words(folder: Path, part: str, size: int) -> None:
    """UserError when the tokenizer in a base's folder `part` is none, or is not that of a text
    encoder of `size` tokens."""
    if not has_tokenizer(folder / part):
        raise UserError(f"{part}: has no vocabulary (tokenizer.json); give a whole folder")
    try:
        check_tokenizer(folder / part, size)
    except UserError as error:
        raise UserError(f"{part}/{error}") from None


def check_tokenizer(folder: Path, size: int | None) -> dict[str, int]:
    """{token: id} of a Hugging Face tokenizer; empty where it is no JSON, or too long to read here.

    UserError for one that is damaged or has more tokens than the text model's `size` (None: any).
    """
    if (folder / NAMES).is_file():
        told(folder, NAMES)
    ids: dict[str, int] = {}
    name = TOKENIZERS[0]
    if (folder / name).is_file():
        if (folder / name).stat().st_size > LONGEST:
            return {}
        said = told(folder, name)
        words = (said.get("model") or {}).get("vocab")
        if not words or not isinstance(words, dict | list):
            raise UserError(f"{name}: has no vocabulary; save the model's own into the folder")
        if isinstance(words, list):  # pairs of a token and its weight
            ids = {pair[0]: i for i, pair in enumerate(words)}
        else:
            ids = dict(words)
        ids |= {token["content"]: token["id"] for token in said.get("added_tokens") or []}
    elif (folder / "vocab.json").is_file():
        name = "vocab.json"
        ids = told(folder, name)
        if not ids:
            raise UserError(f"{name}: has no vocabulary; save the model's own into the folder")
        ids = ids | told(folder, ADDED) if (folder / ADDED).is_file() else ids
    if ids and size is not None and (most := max(ids.values())) >= size:
        raise UserError(
            f"{name}: has the id {most} and the text model {size} tokens, it is another model's; "
            "save the model's own into the folder"
        )
    return ids


def _check_end(folder: Path, ids: dict[str, int], pooled: int) -> None:
    """UserError when a CLIP would pool at another token than that which ends a text."""
    if not ids:
        return
    found = told(folder, NAMES).get("eos_token") if (folder / NAMES).is_file() else None
    end = found.get("content") if isinstance(found, dict) else found or END
    # Of the first CLIPs, whose config is wrong, transformers pools at the highest id.
    if ids.get(end) != (max(ids.values()) if pooled == 2 else pooled):
        raise UserError(
            f"config.json: the text model pools at the token {pooled} and a text ends with {end!r} "
            f"({ids.get(end, 'which the tokenizer lacks')}); save the model's own tokenizer into "
            "the folder"
        )


def _check_processor(folder: Path, model: str, side: int) -> None:
    """UserError when pictures cannot be prepared as the vision model takes them."""
    name, remedy = "processor_config.json", "save the model's own image processor into the folder"
    whole = told(folder, name) if (folder / name).is_file() else {}
    said = whole.get("image_processor")
    if not isinstance(said, dict):
        name = "preprocessor_config.json"
        if not (folder / name).is_file():
            raise UserError(f"has no {name}; {remedy}")
        said = told(folder, name)
    for key in ("image_mean", "image_std"):
        values = said.get(key) if said.get(key) is not None else [0.5]
        for value in values if isinstance(values, list) else [values]:
            if not _number(value, 0 if key == "image_std" else -math.inf, math.inf):
                raise UserError(f"{name}: {key} is {json.dumps(values)}; {remedy}")
        if isinstance(values, list) and len(values) not in (1, 3):
            raise UserError(f"{name}: {key} has {len(values)} numbers and pictures 3; {remedy}")
    factor, filtering = said.get("rescale_factor"), said.get("resample")
    if factor is not None and not _number(factor, 0, 0.02):
        raise UserError(f"{name}: rescale_factor is {json.dumps(factor)}, not 1/255; {remedy}")
    if filtering is not None and (not isinstance(filtering, int) or filtering not in range(6)):
        raise UserError(f"{name}: resample is {json.dumps(filtering)}, which is none; {remedy}")
    crops = said.get("do_center_crop", model == "clip")
    for key, used in (("size", said.get("do_resize", True)), ("crop_size", crops)):
        found = said.get(key) or SIDE
        sides = found.values() if isinstance(found, dict) else found
        for each in sides if not isinstance(sides, int) else [sides]:
            # What is cropped may be larger.
            if used and not (each == side or (key == "size" and crops and each > side)):
                what = f"{key} is {json.dumps(found)} and the vision model takes {side} pixels"
                raise UserError(f"{name}: {what}; {remedy}")


def _number(value: Any, above: float, below: float) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and above < value < below


def told(folder: Path, name: str) -> dict[str, Any]:
    """The object in one of a folder's JSON files; UserError, beginning with its name, for none."""
    if is_pointer(folder / name):
        raise UserError(f"{name}: a pointer of Git LFS and not the file; git lfs pull")
    try:
        found = json.loads((folder / name).read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{name}: not found; give a whole model folder") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}: not valid JSON in UTF-8 ({error}); get it again") from None
    if not isinstance(found, dict):
        raise UserError(f"{name}: not a JSON object; get it again")
    return found

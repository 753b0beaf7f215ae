"""What model folders and files say of themselves: their JSON and their headers, never weights.

A model that could only fail in the middle of a study, or be drawn wrongly without a word, is
refused here in one line. No large package is imported, and a folder takes milliseconds: local
models are looked at whenever Snakemake starts, others in the job that fetches them, before their
weights come.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from vlg import plugins
from vlg.errors import UserError

ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1}
ITEM_BYTES |= {"U8": 1, "BOOL": 1}
# Of Hugging Face tokenizers; any of the first, or a byte-pair vocabulary in two files.
TOKENIZERS = ("tokenizer.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
TOKENIZERS += ("tokenizer.model",)
BYTE_PAIRS = {"vocab.json", "merges.txt"}
CLIPS = ("clip", "siglip")  # `model_type` of what `vlg.models.clip` loads
PICKLED = (b"PK\x03\x04", b"\x80")  # how torch.save begins today, and how it began before
PICKLES = (".ckpt", ".pt", ".pth", ".bin")


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
    model = told(folder, name).get("model_cfg")
    if not isinstance(model, dict):
        raise UserError(f"{name}: has no model_cfg; give a folder that open_clip has saved")
    text = model.get("text_cfg") or {}
    wanted = text.get("hf_tokenizer_name")
    if wanted and not has_tokenizer(folder):
        raise UserError(
            f"{name}: names the Hugging Face tokenizer {wanted!r}, whose files are not there; save "
            "it into the folder (transformers: AutoTokenizer, save_pretrained)"
        )


def check_judge(folder: Path, weights: Iterable[str] | None = None) -> None:
    """UserError when a Hugging Face folder is no CLIP or SigLIP, or lacks what loads it."""
    found = told(folder, "config.json").get("model_type", CLIPS[0])
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


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has the files of a Hugging Face tokenizer."""
    names = {path.name for path in folder.glob("*")}
    return bool(names & {*TOKENIZERS}) or names >= BYTE_PAIRS


def told(folder: Path, name: str) -> dict[str, Any]:
    """The object in one of a folder's JSON files; UserError, beginning with its name, for none."""
    try:
        found = json.loads((folder / name).read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{name}: not found; give a whole model folder") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}: not valid JSON in UTF-8 ({error}); get it again") from None
    if not isinstance(found, dict):
        raise UserError(f"{name}: not a JSON object; get it again")
    return found


# --- files of weights ---------------------------------------------------------------------------


def check_safetensors(path: Path) -> dict[str, Any]:
    """{name: what the header says} of the tensors; UserError when the file is not as its header.

    Its tensors must fill the file one after the other, each as long as its shape and type make it.
    (safetensors' own `safe_open` refuses the same but takes a name that occurs twice.)
    """
    size = path.stat().st_size
    try:
        with open(path, "rb") as file:
            start = file.read(8)
            (length,) = struct.unpack("<Q", start)
            if length > min(size, 100_000_000):
                if start.startswith(PICKLED):
                    raise UserError(pickled(path))
                if start == b"version ":
                    raise UserError(f"{path}: a pointer of Git LFS and no weights; git lfs pull")
                raise ValueError("header longer than the file")
            header = json.loads(file.read(length), object_pairs_hook=_each_once)
        tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
        end = 0
        for tensor in sorted(tensors.values(), key=lambda tensor: tensor["data_offsets"]):
            begin, stop = tensor["data_offsets"]
            if begin != end or stop < begin:
                raise ValueError("tensors overlap or leave gaps")
            count, item = math.prod(tensor["shape"]), ITEM_BYTES.get(tensor["dtype"])
            if item and count * item != stop - begin:
                raise ValueError("a tensor is not as long as its shape")
            end = stop
        if 8 + length + end != size:
            raise ValueError("cut short")
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
        struct.error,
    ) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error}); get it again") from None
    return tensors


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of a JSON header; readers differ in which of two equal names they take."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name occurs twice")
    return result


def pickled(path: Path) -> str:
    """What there is to say of a checkpoint that torch pickled, as .ckpt, .pt, .pth and .bin are."""
    other = "-converted" if path.suffix == ".safetensors" else ""
    words = shlex.join([str(path), str(path.with_name(f"{path.stem}{other}.safetensors"))])
    return (
        f"{path}: a pickled checkpoint, which could run code when it is read; convert it: "
        f"python tools/convert.py {words}"
    )


def check_base_file(path: Path) -> None:
    """UserError when one file that is given as base is pickled, cut short, or no whole model."""
    what, remedy = part(check_safetensors(path))
    if what:
        raise UserError(f"{path}: this is {what}; {remedy}")


# Names of tensors in LoRAs of diffusers (unet.….lora_A.weight, ….to_q.lora.down.weight,
# ….processor.to_q_lora.down.weight), kohya (lora_unet_….lora_down.weight) and LyCORIS.
LORA = re.compile(r"lora_|_lora\.|\.lora\.|\.hada_w|\.lokr_|\.dora_scale")
# How all names in a file begin that holds one part of a model, in diffusers' and the first format.
ALONE = {
    "a VAE": "encoder. decoder. quant_conv. post_quant_conv. first_stage_model. loss.",
    "a UNet": "model.diffusion_model. model_ema. conv_in. conv_out. conv_norm_out. time_embedding. "
    "time_proj. add_embedding. down_blocks. mid_block. up_blocks.",
    "a text encoder": "text_model. text_projection. cond_stage_model.",
    "a CLIP": "text_model. vision_model. text_projection. visual_projection. logit_",
    "a ControlNet": "control_model. controlnet_ conv_in. time_embedding. down_blocks. mid_block.",
}


def part(tensors: dict[str, Any]) -> tuple[str, str]:
    """(what a file with these tensors is, what to give instead) of what is no whole model.

    Two empty texts for a whole one, and for what is not known.
    """
    names = list(tensors)
    if any(LORA.search(name) for name in names):
        return (
            "a LoRA, which holds changes to a base and not the base",
            "give its base model, or the folder of a base into which it was merged",
        )
    if 0 < len(names) <= 2 and all(len(tensors[name]["shape"]) <= 2 for name in names):
        return (
            "a textual inversion, which holds the embedding of a word",
            "give the base model that it was made for",
        )
    for what, beginnings in ALONE.items():
        if names and all(name.startswith(tuple(beginnings.split())) for name in names):
            return f"{what} alone", "give the whole model that it is a part of"
    return "", ""


def described(folder: Path | None, names: Iterable[str]) -> str:
    """ ": this is …" of what is no pipeline and whose files tell what it is; otherwise "".

    names: of its files, relative to `folder`, or of a repository's (None), which are not read.
    """
    own = {name for name in names if "/" not in name}
    if own & {"pytorch_lora_weights.safetensors", "adapter_config.json"}:
        return ": this is a LoRA"
    for name in sorted(own) if folder else ():
        if name.endswith(".safetensors"):
            with suppress(UserError):
                if what := part(check_safetensors(folder / name))[0]:
                    return f": this is {what}"
    return ""

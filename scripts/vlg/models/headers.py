"""What files of weights say of themselves: how they begin and their headers, never what follows."""

from __future__ import annotations

import json
import math
import re
import shlex
import struct
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from vlg import plugins
from vlg.errors import UserError

ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1}
ITEM_BYTES |= {"U8": 1, "BOOL": 1}
PICKLED = (b"PK\x03\x04", b"\x80")  # how torch.save begins today, and how it began before
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
# {how a file begins that is something else: (what it is, what to do)}
BEGINNINGS = {
    b"GGUF": ("a GGUF file, whose weights are quantised", "get the safetensors it was made of"),
    b"version ": ("a pointer of Git LFS and no weights", "git lfs pull"),
    b"<": ("a web page and no weights", "download the file itself; it may want a login"),
    b"{": ("JSON and no weights", "give the .safetensors"),
    b"\x1f\x8b": ("a packed archive", "unpack it"),
    b"\x89HDF": ("an HDF5 file", "get it in safetensors"),
}


def check_safetensors(path: Path) -> dict[str, Any]:
    """{name: what the header says} of the tensors; UserError when the file is not as its header.

    Its tensors must fill the file one after the other, each as long as its shape and type make it.
    (safetensors' own `safe_open` refuses the same but takes a name that occurs twice.)
    """
    size = path.stat().st_size
    try:
        with open(path, "rb") as file:
            start = file.read(8)
            if len(start) < 8:
                _check_beginning(path, start)
                raise ValueError("shorter than a header" if start else "empty")
            (length,) = struct.unpack("<Q", start)
            if length > min(size, 100_000_000):
                _check_beginning(path, start)
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


def _check_beginning(path: Path, start: bytes) -> None:
    """UserError for a file that begins as another kind of files does."""
    for beginning, (what, remedy) in BEGINNINGS.items():
        if start.startswith(beginning):
            raise UserError(f"{path}: {what}; {remedy}")
    if start.startswith(PICKLED[0]):
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            if not any(name.endswith("data.pkl") for name in archive.namelist()):
                raise UserError(f"{path}: a zip archive; unpack it and give what is in it")
    if start.startswith(PICKLED):
        raise UserError(pickled(path))


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


def check_base_file(path: Path, family: str = "sd") -> dict[str, Any]:
    """The tensors of one file that is given as base; UserError when it is no whole model of its
    family."""
    whole = one_file(family, str(path))
    tensors = check_safetensors(path)
    what, remedy = part(tensors)
    if what and what != whole["name"]:
        raise UserError(f"{path}: this is {what}; {remedy}")
    for start, missing in whole["parts"].items():
        if not any(name.startswith(start) for name in tensors):
            some = ", ".join(ascii(name)[1:61] for name in sorted(tensors)[:3])
            raise UserError(
                f"{path}: has no {missing} ({start}…) but {some or 'nothing'}, …; "
                + whole.get("remedy", f"give a whole {whole['name']}, or a diffusers folder")
            )
    return tensors


def one_file(family: str, begin: str) -> dict[str, Any]:
    """The literal ONE_FILE of a family; UserError beginning with `begin` where there is none."""
    found = plugins.constant(plugins.FAMILIES, family, "ONE_FILE")
    if found is None:
        raise UserError(f"{begin}: a checkpoint in one file; of {family} give a diffusers folder")
    return dict(found)


MADE_FOR = "give the base that it is made for"
FOLDER = "no family here draws it; give a base of a family that there is (models.family)"
# (what a file is of which one tensor has such a name, what to do), the first that fits. LoRAs are
# diffusers' (unet.….lora_A.weight, ….to_q.lora.down.weight, ….processor.to_q_lora.down.weight),
# kohya's (lora_unet_….lora_down.weight) and LyCORIS'.
NAMED = {
    r"lora_|_lora\.|\.lora\.|\.hada_w|\.lokr_|\.dora_scale": (
        "a LoRA, which holds changes to a base and not the base",
        "give its base model, or the folder of a base into which it was merged",
    ),
    r"^image_proj\.|^ip_adapter\.": ("an IP-Adapter", MADE_FOR),
    r"^control_model\.|^controlnet_|^input_hint_block\.|^zero_convs\.|^lllite_": (
        "a ControlNet",
        MADE_FOR,
    ),
    r"\bmotion_modules\.": ("a motion module", MADE_FOR),
    r"(^|\.)joint_blocks\.": ("Stable Diffusion 3", "give it with models.family: sd3"),
    r"(^|\.)double_stream_modulation_": ("FLUX.2", FOLDER),
    r"(^|\.)double_blocks\.|^single_transformer_blocks\.": (
        "Flux",
        "give its diffusers folder, with models.family: flux",
    ),
    r"(^|\.)cap_pad_token$": (
        "Z-Image",
        "give its diffusers folder, with models.family: z_image",
    ),
    r"(^|\.)transformer_blocks\.\d+\.img_mod\.": (
        "Qwen-Image or a model like it",
        "give its diffusers folder, with models.family: qwen_image if it is Qwen-Image",
    ),
    r"\.(inverted_conv|conv_inverted)\.": (
        "Sana",
        "give its diffusers folder, with models.family: sana",
    ),
    r"^transformer_blocks\.": ("a diffusion transformer alone", FOLDER),
    r"^(v_pred|ztsnr|edm_\w+(\.\w+)?)$": (
        "a model with another schedule (v prediction or EDM)",
        "give its diffusers folder, whose scheduler says so",
    ),
    r"^conditioner\.|\.label_emb\.": (
        "Stable Diffusion XL",
        "give it with models.family: sdxl",
    ),
    r"^(params(_ema)?\.)?(model\.1\.sub\.|body\.\d+\.|RRDB_trunk\.|conv_first\.)": (
        "an upscaler",
        "give a base that draws from text",
    ),
    r"\.SelfAttention\.|^transformer\.resblocks\.": (
        "a text encoder alone",
        "give the whole model that it is a part of",
    ),
}
# How all names in a file begin that holds one part of a model, in diffusers' and the first format.
ALONE = {
    "a VAE": "encoder. decoder. quant_conv. post_quant_conv. first_stage_model. loss.",
    "a UNet": "model.diffusion_model. model_ema. conv_in. conv_out. conv_norm_out. time_embedding. "
    "time_proj. add_embedding. down_blocks. mid_block. up_blocks.",
    "a text encoder": "text_model. text_projection. cond_stage_model.",
    "a CLIP": "text_model. vision_model. text_projection. visual_projection. logit_",
}
# Of the UNet in one file: by how many channels it takes, and by the width of its text.
FIRST = "model.diffusion_model.input_blocks.0.0.weight"
CHANNELS = {5: "depth", 7: "upscaling", 8: "editing", 9: "inpainting"}
TEXT = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


def part(tensors: dict[str, Any]) -> tuple[str, str]:
    """(what a file with these tensors is, what to give instead) of what is no base in one file.

    Two empty texts for one, and for what is not known.
    """
    names = list(tensors)
    shapes = {name: [*tensor["shape"]] for name, tensor in tensors.items()}
    channels = (shapes.get(FIRST, []) + [0, 4])[1]
    if channels in CHANNELS:
        what = f"a model of {CHANNELS[channels]}, whose UNet takes {channels} channels"
        return what, "give a base that draws from text alone"
    for pattern, (what, remedy) in NAMED.items():
        if any(re.search(pattern, name) for name in names):
            return what, remedy
    if 0 < len(names) <= 2 and all(len(shape) <= 2 for shape in shapes.values()):
        return (
            "a textual inversion, which holds the embedding of a word",
            "give the base model that it was made for",
        )
    for what, beginnings in ALONE.items():
        if names and all(name.startswith(tuple(beginnings.split())) for name in names):
            return f"{what} alone", "give the whole model that it is a part of"
    if shapes.get(TEXT, [])[1:] == [1024]:
        return "Stable Diffusion 2.x in one file", "give its diffusers folder"
    return "", ""


def described(folder: Path | None, names: Iterable[str]) -> str:
    """ ": this is …" of what is no pipeline and whose files tell what it is; otherwise "".

    names: of its files, relative to `folder`, or of a repository's (None), which are not read.
    """
    own = {name for name in names if "/" not in name}
    if own & {"pytorch_lora_weights.safetensors", "adapter_config.json"}:
        return ": this is a LoRA"
    if any(name.endswith(".gguf") for name in own):
        return ": this is a GGUF file"
    for name in sorted(own) if folder else ():
        if name.endswith(".safetensors"):
            with suppress(UserError):
                if what := part(check_safetensors(folder / name))[0]:
                    return f": this is {what}"
    return ""

"""The components of a model folder in diffusers' format: loaded one by one, written as a whole."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.errors import UserError
from vlg.files import atomic_folder, link, read_json, write_manifest

if TYPE_CHECKING:
    import torch

Tensors = dict[str, "torch.Tensor"]


def load_component(kind: Any, folder: Path | str, name: str, **options: Any) -> Any:
    """`kind.from_pretrained` of one component of a diffusers folder; UserError names what fails."""
    if not (Path(folder) / "model_index.json").is_file():
        raise UserError(f"{folder}: no model_index.json; it must be a diffusers model folder")
    try:
        return kind.from_pretrained(folder, subfolder=name, local_files_only=True, **options)
    except Exception as error:
        raise UserError(f"{folder}/{name}: cannot be loaded ({error}); restore it") from error


def load_network(kind: Any, folder: Path | str, name: str, **options: Any) -> Any:
    """The same of one with weights, all of which the files must have: what lacks, the libraries
    draw at random or leave empty."""
    network, found = load_component(kind, folder, name, output_loading_info=True, **options)
    if lacking := sorted(found["missing_keys"]):
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise UserError(
            f"{folder}/{name}: its weights lack {lacking[0]}{more}; get the model again"
        )
    return network


def save_tensors(path: Path, tensors: Tensors) -> None:
    """Write a safetensors file. A full disk is an OSError here, as for every other file."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        if "os error 28" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


def write_model(
    base: Path, folder: Path, network: str, weights: Tensors, lora: Tensors, **facts: Any
) -> None:
    """Write a diffusers folder: `base` with other weights of one component, and a manifest.

    network: the component's name, as `unet`. If `lora` is not empty, pytorch_lora_weights lies
    beside; `base` with `load_lora_weights` gives the same model. `facts` stand in the manifest.

    All other components are hard links to the base's files where the file system allows it, so a
    checkpoint of SD 1.5 takes 3.4 GB (860 M weights of 4 bytes) and not 4.3.
    """
    index = read_json(base / "model_index.json")
    with atomic_folder(folder) as temporary:
        shutil.copy(base / "model_index.json", temporary)
        for name, value in index.items():
            if isinstance(value, list) and value[0] and name != network:
                shutil.copytree(base / name, temporary / name, copy_function=link)
        (temporary / network).mkdir()
        shutil.copy(base / network / "config.json", temporary / network)
        save_tensors(temporary / network / "diffusion_pytorch_model.safetensors", weights)
        if lora:
            save_tensors(temporary / "pytorch_lora_weights.safetensors", lora)
        write_manifest(temporary, **facts)

"""Model folders in diffusers' format, and the training state from which a run continues exactly."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.errors import UserError
from vlg.files import (
    MANIFEST,
    atomic_folder,
    check_manifest,
    checksums,
    link,
    read_json,
    sha256,
    write_json,
    write_manifest,
    write_text,
)

if TYPE_CHECKING:
    import torch

log = logging.getLogger("vlg")

Tensors = dict[str, "torch.Tensor"]


def load_component(kind: Any, folder: Path | str, name: str, **options: Any) -> Any:
    """`kind.from_pretrained` of one component of a diffusers folder; UserError names what fails."""
    if not (Path(folder) / "model_index.json").is_file():
        raise UserError(f"{folder}: no model_index.json; it must be a diffusers model folder")
    try:
        return kind.from_pretrained(folder, subfolder=name, local_files_only=True, **options)
    except Exception as error:
        raise UserError(f"{folder}/{name}: cannot be loaded ({error}); restore it") from error


def load_unet(folder: Path | str) -> Any:
    """The UNet of a diffusers folder in float32, whatever precision its file has."""
    import torch
    from diffusers import UNet2DConditionModel

    return load_component(UNet2DConditionModel, folder, "unet", torch_dtype=torch.float32)


def load_vae(folder: Path | str, device: str) -> Any:
    """The VAE of a diffusers folder in float32, frozen."""
    import torch
    from diffusers import AutoencoderKL

    vae = load_component(AutoencoderKL, folder, "vae", torch_dtype=torch.float32)
    return vae.to(device).eval().requires_grad_(False)


def load_tiny_decoder(folder: Path | str, device: str) -> Any:
    """An `AutoencoderTiny` folder (TAESD), frozen: a decoder of 1.2 M weights against 49.5 M."""
    from diffusers import AutoencoderTiny

    try:
        decoder = AutoencoderTiny.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise UserError(f"{folder}: no AutoencoderTiny ({error}); check --decoder") from error
    return decoder.to(device).float().eval().requires_grad_(False)


def identity(folder: Path | str) -> str:
    """A hash by which a folder's content is recognised: of its manifest, or of all its files."""
    folder = Path(folder)
    if (folder / MANIFEST).is_file():
        return sha256(folder / MANIFEST)
    return hashlib.sha256(json.dumps(checksums(folder), sort_keys=True).encode()).hexdigest()


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


def write_model(base: Path, folder: Path, unet: Tensors, lora: Tensors, **facts: Any) -> None:
    """Write a diffusers folder: `base` with other UNet weights, and a manifest with `facts`.

    If `lora` is not empty, pytorch_lora_weights.safetensors lies beside; `base` with
    `load_lora_weights` gives the same model.

    All other components are hard links to the base's files where the file system allows it, so a
    checkpoint of SD 1.5 takes 3.4 GB (860 M weights of 4 bytes) and not 4.3.
    """
    index = read_json(base / "model_index.json")
    with atomic_folder(folder) as temporary:
        shutil.copy(base / "model_index.json", temporary)
        for name, value in index.items():
            if isinstance(value, list) and value[0] and name != "unet":
                shutil.copytree(base / name, temporary / name, copy_function=link)
        (temporary / "unet").mkdir()
        shutil.copy(base / "unet" / "config.json", temporary / "unet")
        save_tensors(temporary / "unet" / "diffusion_pytorch_model.safetensors", unet)
        if lora:
            save_tensors(temporary / "pytorch_lora_weights.safetensors", lora)
        write_manifest(temporary, **facts)


# The state of a run is a folder: one safetensors file per group of tensors (weights, ema, and
# AdamW's exp_avg and exp_avg_sq), counters.json, the logs so far, and a manifest with checksums.


def write_state(
    folder: Path, groups: dict[str, Tensors], counters: dict[str, Any], texts: dict[str, str]
) -> None:
    """Write a whole state folder or, when the disk is full or the process is killed, nothing."""
    with atomic_folder(folder) as temporary:
        for name, tensors in groups.items():
            save_tensors(temporary / f"{name}.safetensors", tensors)
        for name, text in texts.items():
            write_text(temporary / name, text)
        write_json(temporary / "counters.json", counters)
        write_manifest(temporary)


def read_state(folder: Path) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """(groups, counters) of a state folder. Raises UserError when it is incomplete or damaged."""
    from safetensors.torch import load_file

    check_manifest(folder)
    groups = {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}
    return groups, read_json(folder / "counters.json")


def saved_states(folder: Path) -> list[Path]:
    """The states in a resume folder, newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def read_if_fits(state: Path, fingerprint: dict[str, Any]) -> Path | None:
    """`state` if it is whole and of the run that `fingerprint` describes, else None."""
    try:
        check_manifest(state)
        counters = read_json(state / "counters.json")
    except UserError:
        return None
    fits = all(counters.get(key) == value for key, value in fingerprint.items())
    return state if fits else None


def newest_state(folder: Path, fingerprint: dict[str, Any]) -> Path | None:
    """The newest whole state in a resume folder that belongs to this very run, or None.

    `fingerprint` says what the run is made of (settings, inputs, code). Damaged states and those
    of another run are of no use any more: they are deleted, with a warning.
    """
    for state in saved_states(folder):
        try:
            check_manifest(state)
            counters = read_json(state / "counters.json")
        except UserError as error:
            log.warning("damaged state %s (%s); trying the one before it", state.name, error)
            shutil.rmtree(state)
            continue
        changed = [key for key, value in fingerprint.items() if counters.get(key) != value]
        if changed:
            log.warning("%s is of another run (%s differs); deleted", state, ", ".join(changed))
            shutil.rmtree(state)
            continue
        return state
    return None


def make_clean(resume: Path, *targets: Path) -> None:
    """Make the resume folder and remove what killed processes left half-written.

    Only one process writes these paths, so temporary folders of theirs (see `files.atomic_folder`)
    belong to nobody any more.
    """
    resume.mkdir(parents=True, exist_ok=True)
    leftovers = list(resume.glob(".tmp-*"))
    for target in targets:
        leftovers += target.parent.glob(f".tmp-{target.name}-*")
    for leftover in leftovers:
        shutil.rmtree(leftover, ignore_errors=True)

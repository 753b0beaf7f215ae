"""State dicts in one file: safetensors, or what torch has pickled, read as tensors alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vlg.errors import UserError
from vlg.files import sha256
from vlg.models import headers

if TYPE_CHECKING:
    import torch


def check(path: Path, begin: str, checksum: str | None) -> None:
    """UserError beginning with `begin` unless there is such a file, whole as far as its header
    tells; a pickled one needs its checksum."""
    if not path.is_file():
        raise UserError(f"{begin}: no file {path.name}; give a .safetensors or .pt file of weights")
    if path.suffix == ".safetensors":
        headers.check_safetensors(path)
    elif path.suffix not in headers.PICKLES:
        raise UserError(f"{begin}: not a .safetensors or .pt file; give a file of weights")
    elif checksum is None:
        raise UserError(
            f"{headers.pickled(path)}; or write its checksum, as its publisher tells it, into "
            "sha256"
        )


def read(path: Path, begin: str, checksum: str | None) -> dict[str, torch.Tensor]:
    """The tensors of a file by name, those in `state_dict` where it has one.

    checksum: SHA-256 that the file must have; None for any, of safetensors only. Nothing in a
    pickled file is run: torch reads it with `weights_only`. UserError as of `check`, for another
    checksum, and for what holds other things than tensors.
    """
    check(path, begin, checksum)
    if checksum is not None and (found := sha256(path)) != checksum:
        raise UserError(f"{begin}: sha256: {path.name} has the checksum {found}; get it again")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{begin}: {path.name} holds more than plain weights ({type(error).__name__}); get it "
            "in safetensors"
        ) from error
    content = content.get("state_dict", content) if isinstance(content, dict) else {}
    tensors = {name: each for name, each in content.items() if torch.is_tensor(each)}
    if not tensors:
        raise UserError(f"{begin}: {path.name} holds no tensors by name; get it in safetensors")
    return tensors

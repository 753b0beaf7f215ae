"""Rows of tensors in files that training maps into memory: `<name>-000.safetensors`, ..."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vlg.errors import UserError
from vlg.models.components import save_tensors
from vlg.models.device import Parts

if TYPE_CHECKING:
    import torch

SHARD = 2048  # rows a file: 0.27 GB of latents or 0.48 GB of captions at 512 px


def write_shards(
    folder: Path,
    name: str,
    items: list[str],
    function: Callable[[list[str]], dict[str, torch.Tensor]],
    batch: int,
    dtype: torch.dtype,
) -> None:
    """Apply `function` to batches of `items`; write the rows of its answers as `name`-*.

    A batch that does not fit into memory is halved. dtype: of what is not whole numbers.
    """
    import torch

    parts = Parts(f"encoding {name}")
    for number, first in enumerate(range(0, len(items), SHARD)):
        shard, answers = items[first : first + SHARD], []
        for begin in range(0, len(shard), batch):
            answers += parts(function, shard[begin : begin + batch])
        tensors = {key: torch.cat([answer[key] for answer in answers]) for key in answers[0]}
        tensors = {k: t.to(dtype) if t.is_floating_point() else t for k, t in tensors.items()}
        save_tensors(folder / f"{name}-{number:03d}.safetensors", tensors)


def load_shards(folder: Path, name: str) -> list[dict[str, torch.Tensor]]:
    """The shards of one kind, memory-mapped; UserError when there is none or one is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    paths = sorted(folder.glob(f"{name}-*.safetensors"))
    if not paths:
        raise UserError(f"{folder}: no {name}-*.safetensors; delete the folder and rerun encode")
    try:
        return [load_file(path) for path in paths]
    except SafetensorError as error:
        raise UserError(f"{folder}/{name}: {error}; delete the folder and rerun encode") from None


def gather(shards: list[dict[str, torch.Tensor]], rows: list[int], keys: list[str]) -> torch.Tensor:
    """Stack row by row, float32: row i of shard i // SHARD under its key."""
    import torch

    # Float32 before stacking: autocast to bf16 on a CPU cannot stack float16.
    return torch.stack(
        [shards[i // SHARD][key][i % SHARD].float() for i, key in zip(rows, keys, strict=True)]
    )

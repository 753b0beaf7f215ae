"""Random numbers as pure functions of a key: who asks, when or in which batch changes nothing."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def generator(*key: str | int) -> torch.Generator:
    """A CPU generator whose stream is a function of `key` alone, the same on every machine.

    Put the purpose first, as in ("latents", prompt, seed) or ("train", seed, step), so that no two
    purposes share a stream. The key is hashed as JSON, in which ("a", 11) and ("a1", 1) differ.

    torch's CPU generator (a Mersenne twister) keeps 32 bits of its seed. Among n keys about
    n^2 / 2^33 pairs are therefore equal: 0.01 of a pair for 10,000 pictures, and such a pair would
    only mean that two prompts begin from the same noise.
    """
    import torch

    digest = hashlib.sha256(json.dumps(list(key)).encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:4], "big"))


def latents(
    prompt: str, seed: int, shape: tuple[int, ...], purpose: str = "latents"
) -> torch.Tensor:
    """Standard normal float32 noise of `shape`, without a batch dimension, for one picture.

    All models see the same noise for (prompt, seed); another draw for the same picture, as in a
    refinement round, is another `purpose`.
    """
    import torch

    return torch.randn(shape, generator=generator(purpose, prompt, seed))

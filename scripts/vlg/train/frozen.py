"""Frozen weights in fewer bits, for a LoRA on a card that cannot hold them in 32.

`bf16`, `fp16`  each number in 16 bits
`int8`          each row of a matrix as integers of 8 bits and one scale, its largest number / 127
`nf4`           4 bits: blocks of 64 numbers, each the nearest of 16 quantiles of a normal
                distribution times the block's largest (QLoRA, Dettmers et al., arXiv:2305.14314, 3)

The last two are of matrices; convolutions then have 16 bits, as `bf16`. A layer makes its weights
whole where it needs them, forward and backward, and keeps none. It computes in the precision of
what it is given, or of autocast: a float32 step beside `bf16` weights differs from one beside
float32 ones by that rounding alone, and a step under autocast to bfloat16, which rounds them
itself, does not differ at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

BLOCK = 64  # numbers with one scale, of nf4
# The quantiles, as QLoRA's authors give them (appendix E).
QUANTILES = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip
# kind: what packs a weight of that shape into tensors, and what makes it of these again, in a dtype
Pack = Callable[[torch.Tensor], Sequence[torch.Tensor]]
Unpack = Callable[[Sequence[torch.Tensor], Sequence[int], torch.dtype], torch.Tensor]


def _rounded(dtype: torch.dtype) -> tuple[Pack, Unpack]:
    return (lambda weight: [weight.to(dtype)]), (lambda kept, shape, into: kept[0].to(into))


def _to_int8(weight: torch.Tensor) -> Sequence[torch.Tensor]:
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    return [(weight / scale.where(scale > 0, 1)).round().to(torch.int8), scale]


def _of_int8(kept: Sequence[torch.Tensor], shape: Sequence[int], into: torch.dtype) -> torch.Tensor:
    return (kept[0] * kept[1]).to(into)


def _to_nf4(weight: torch.Tensor) -> Sequence[torch.Tensor]:
    numbers = functional.pad(weight.flatten(), (0, -weight.numel() % BLOCK)).view(-1, BLOCK)
    scale = numbers.abs().amax(dim=1, keepdim=True)
    levels = torch.tensor(QUANTILES, device=weight.device)
    nearest = torch.bucketize(
        numbers / scale.where(scale > 0, 1), (levels[1:] + levels[:-1]) / 2
    ).to(torch.uint8)
    return [nearest[:, 0::2] << 4 | nearest[:, 1::2], scale]


def _of_nf4(kept: Sequence[torch.Tensor], shape: Sequence[int], into: torch.dtype) -> torch.Tensor:
    codes, scale = kept
    levels = torch.tensor(QUANTILES, device=codes.device)
    both = torch.stack([codes >> 4, codes & 15], dim=-1).flatten(1)
    numbers = levels[both.int()] * scale
    return numbers.flatten()[: shape[0] * shape[1]].view(*shape).to(into)


KINDS: dict[str, tuple[Pack, Unpack]] = {
    "bf16": _rounded(torch.bfloat16),
    "fp16": _rounded(torch.float16),
    "int8": (_to_int8, _of_int8),
    "nf4": (_to_nf4, _of_nf4),
}


class Frozen(nn.Module):
    """A `Linear` or `Conv2d` whose weight is kept in fewer bits and gets no gradient."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, kind: str) -> None:
        super().__init__()
        self.pack, self.unpack = KINDS[kind]
        self.shape = tuple(layer.weight.shape)
        self.convolution = None
        if isinstance(layer, nn.Conv2d):
            self.convolution = layer.stride, layer.padding, layer.dilation, layer.groups
        kept = self.pack(layer.weight.detach())
        self.kept = nn.ParameterList(nn.Parameter(each, requires_grad=False) for each in kept)
        self.bias = layer.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dtype = x.dtype
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
        bias = None if self.bias is None else self.bias.to(dtype)
        return _Apply.apply(x.to(dtype), bias, self, *self.kept)  # type: ignore[no-any-return]

    @property
    def weight(self) -> torch.Tensor:
        """Made whole, in float32, for a network that looks at a layer's weight."""
        return self.unpack([*self.kept], self.shape, torch.float32)

    def __repr__(self) -> str:
        return f"Frozen{self.shape}"


class _Apply(torch.autograd.Function):
    """The layer, of which only the packed weight is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, bias: Any, layer: Frozen, *kept: Any) -> torch.Tensor:
        ctx.save_for_backward(*kept)
        ctx.layer, ctx.size = layer, x.shape
        weight = layer.unpack(kept, layer.shape, x.dtype)
        if layer.convolution is None:
            return functional.linear(x, weight, bias)
        return functional.conv2d(x, weight, bias, *layer.convolution)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        layer, kept, found = ctx.layer, ctx.saved_tensors, None
        if ctx.needs_input_grad[0]:
            weight = layer.unpack(kept, layer.shape, gradient.dtype)
            if layer.convolution is None:
                found = gradient @ weight
            else:
                found = nn.grad.conv2d_input(ctx.size, weight, gradient, *layer.convolution)
        return found, None, None, *(None for _ in kept)


def pack(net: nn.Module, kind: str) -> None:
    """Keep the matrices and convolutions of a network that are not trained as `kind` says."""
    for module in list(net.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, nn.Linear | nn.Conv2d) and not layer.weight.requires_grad:
                matrix = isinstance(layer, nn.Linear) or kind in ("bf16", "fp16")
                setattr(module, name, Frozen(layer, kind if matrix else "bf16"))

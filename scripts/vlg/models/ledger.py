"""What a run computes, counted and not timed: samples through each model, and FLOPs.

A ledger watches models by hooks: each sample (a row of a batch) that goes forward through one
counts, and each whose gradient comes back. What one sample costs is counted once per model and
shape by torch's own counter, on zeros, or, of a large model, on the meta device, where nothing is
computed: the number is the same on every machine. A multiplication and an addition are two FLOPs;
convolutions, matrix products and attention count, all else is small beside them.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

KINDS = ("forward", "backward", "flops")
# All ledgers of this process: what an attempt computes that memory does not suffice for is no cost,
# or a picture's cost would depend on the machine (`vlg.models.device.Parts`).
LEDGERS: weakref.WeakSet[Ledger] = weakref.WeakSet()
# Weights of a model from which on one pass takes longer than what the meta device does for it.
LARGE = 20_000_000


@dataclass
class Cost:
    """parts: {part: {"forward": samples, "backward": samples, "flops": of both}}."""

    parts: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def flops(self) -> float:
        """Of all parts together."""
        return sum(part["flops"] for part in self.parts.values())

    def of(self, part: str, kind: str = "forward") -> float:
        """A part's `forward`, `backward` or `flops`; 0 for a part that was not used."""
        return self.parts.get(part, {}).get(kind, 0)

    def __add__(self, other: Cost) -> Cost:
        names = sorted({*self.parts, *other.parts})
        return Cost({n: {k: self.of(n, k) + other.of(n, k) for k in KINDS} for n in names})

    def each(self, number: int) -> Cost:
        """The share of one of `number` pictures; whole numbers stay whole."""

        def share(value: float) -> float:
            return value // number if value % number == 0 else value / number

        return Cost({n: {k: share(v) for k, v in part.items()} for n, part in self.parts.items()})

    def json(self) -> dict[str, Any]:
        """{"flops": of all, part: its numbers, ...}; `Cost.read` is the way back."""
        return {"flops": self.flops, **self.parts}

    @classmethod
    def read(cls, values: dict[str, Any]) -> Cost:
        """From what `json` gave."""
        return cls({name: part for name, part in values.items() if name != "flops"})


class Ledger:
    """Counts what the models it watches compute.

    The parts are called `network`, `decoder`, `encoder`, `guide` and `judge`; several modules may
    be one part, as the decoders of two autoencoders are.
    """

    def __init__(self) -> None:
        self._parts: list[str] = []  # of each module that is watched
        self._samples: Counter[tuple[int, Any, str]] = Counter()  # by module, shape, direction
        self._examples: dict[tuple[int, Any], tuple[torch.nn.Module, Any, Any]] = {}
        self._flops: dict[tuple[int, Any], tuple[int, int]] = {}
        self._paused = False
        LEDGERS.add(self)

    def watch(self, part: str, module: torch.nn.Module) -> None:
        """Count what goes through `module`, called as a module, under the name `part`.

        Of an autoencoder watch `.encoder` and `.decoder`, of a CLIP its image tower: their methods
        `decode` and `encode_image` are no calls of the whole module.
        """

        number = len(self._parts)
        self._parts.append(part)
        # (what is counted, samples) of the call that goes on; a call may change its arguments.
        called: list[tuple[Any, int]] = []

        def before(module: Any, args: Any, kwargs: Any) -> None:
            called.clear()
            for tree, n in () if self._paused else _batches((args, kwargs)):
                shape = _shape(_tensors(tree), n)
                self._samples[number, shape, "forward"] += n
                called.append(((number, shape, "backward"), n))
                if (number, shape) not in self._examples:
                    self._examples[number, shape] = module, *_one_sample(tree, n)

        def after(module: Any, args: Any, kwargs: Any, output: Any) -> None:
            back = [tensor for tensor in _tensors(output) if tensor.requires_grad]
            for (key, n), tensor in zip(called, back, strict=False):
                tensor.register_hook(lambda gradient, key=key, n=n: self._samples.update({key: n}))

        module.register_forward_pre_hook(before, with_kwargs=True)
        module.register_forward_hook(after, with_kwargs=True)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Within: nothing counts."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def take(self) -> Cost:
        """What was counted since the last call, which is forgotten."""
        total: dict[str, dict[str, float]] = {}
        for (number, shape, direction), samples in self._samples.items():
            if (number, shape) not in self._flops:
                with self.paused():
                    self._flops[number, shape] = count_flops(*self._examples[number, shape])
            row = total.setdefault(self._parts[number], dict.fromkeys(KINDS, 0))
            row[direction] += samples
            row["flops"] += samples * self._flops[number, shape][direction == "backward"]
        self._samples.clear()
        return Cost(total)


@contextlib.contextmanager
def forgotten_on_error() -> Iterator[None]:
    """What is counted within is forgotten when the block ends in an error."""
    before = [(ledger, ledger._samples.copy()) for ledger in LEDGERS]
    try:
        yield
    except BaseException:
        for ledger, samples in before:
            ledger._samples = samples
        raise


def count_flops(module: torch.nn.Module, args: Any, kwargs: Any) -> tuple[int, int]:
    """(forward, backward) FLOPs of `module(*args, **kwargs)`; tensors may be of the meta device.

    The backward pass is that to the weights and inputs that require a gradient, 0 where none does;
    it contains what gradient checkpointing computes twice.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils._pytree import tree_map_only
    from torch.utils.flop_counter import FlopCounterMode

    class Count(torch.nn.Module):
        """Counts one pass each way, while its weights are replaced, without the module's hooks."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
            with FlopCounterMode(display=False) as there:
                output = self.inner.forward(*args, **kwargs)
            ends = [tensor for tensor in _tensors(output) if tensor.requires_grad]
            with FlopCounterMode(display=False) as back:
                if ends:
                    torch.autograd.backward(ends, [torch.empty_like(end) for end in ends])
            return there.get_total_flops(), back.get_total_flops()

    count = Count()
    tensors = dict((*count.named_parameters(), *count.named_buffers()))
    weights = sum(tensor.numel() for tensor in tensors.values())
    device = "cpu" if weights < LARGE else "meta"

    def empty(tensor: torch.Tensor) -> torch.Tensor:
        """In float32 as all others: FLOPs do not depend on precision, and autocast mixes them."""
        dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
        asked = tensor.requires_grad
        return torch.zeros_like(tensor, device=device, dtype=dtype, requires_grad=asked)

    # What modules, and helpers of diffusers' that are none, keep of a call, as tables of places, is
    # put back: it may be of the meta device.
    owners = list(module.modules())
    owners += [
        held
        for each in owners
        for held in vars(each).values()
        if type(held).__module__.startswith("diffusers.models")
    ]
    kept = [(each, dict(vars(each))) for each in owners]
    state = {name: empty(tensor) for name, tensor in tensors.items()}
    args, kwargs = tree_map_only(torch.Tensor, empty, (args, kwargs))
    plain = sdpa_kernel(SDPBackend.MATH)  # of the others not all are known to the counter
    try:
        with torch.enable_grad(), torch.compiler.set_stance("force_eager"), plain:
            return torch.func.functional_call(count, state, args, kwargs)
    finally:
        for each, attributes in kept:
            vars(each).clear()
            vars(each).update(attributes)


def _batches(tree: tuple[Any, Any]) -> list[tuple[Any, int]]:
    """[(arguments of a call, samples)]; of one that takes a list, a tensor a sample, those of each
    sample, which may have another size than the others."""
    args, kwargs = tree
    first: Any = next(iter((*args, *kwargs.values())))
    if not isinstance(first, list):
        return [(tree, len(_tensors(tree)[0]))]

    def one(value: Any, i: int) -> Any:
        same = isinstance(value, list) or getattr(value, "ndim", 0)
        return value[i : i + 1] if same and len(value) == len(first) else value

    return [
        ((tuple(one(each, i) for each in args), {k: one(v, i) for k, v in kwargs.items()}), 1)
        for i in range(len(first))
    ]


def _tensors(tree: Any) -> list[torch.Tensor]:
    """The tensors among arguments or outputs, in their order."""
    import torch
    from torch.utils._pytree import tree_leaves

    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _shape(tensors: list[torch.Tensor], n: int) -> tuple[Any, ...]:
    """What the cost of one of n samples depends on: sizes, and what a gradient is wanted of."""
    return tuple(
        (tuple(t.shape[1:]) if t.ndim and len(t) == n else tuple(t.shape), t.requires_grad)
        for t in tensors
    )


def _one_sample(tree: Any, n: int) -> Any:
    """Arguments for n samples as those for one, without their content."""
    import torch
    from torch.utils._pytree import tree_map_only

    def cut(tensor: torch.Tensor) -> torch.Tensor:
        one = tensor[:1] if tensor.ndim and len(tensor) == n else tensor
        return torch.empty_like(one, device="meta", requires_grad=tensor.requires_grad)

    return tree_map_only(torch.Tensor, cut, tree)

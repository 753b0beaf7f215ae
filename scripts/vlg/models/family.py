"""What a family of base models is: all that depends on how its networks are built and called.

The file `models/families/<name>.py` is the family `<name>`; it holds the literals

    CLASSES     pipeline classes of model_index.json that it serves
    PARTS       components of a folder that it needs; WEIGHTED: those with weights

and a subclass of `Family`, and is all that the family consists of. Training, sampling and arms know
this class alone: packing of latents, further inputs of the network and signs of its output stay
inside. A folder's family is found by the class that its model_index.json names
(`vlg.models.families`).
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg import plugins
from vlg.errors import UserError
from vlg.models.device import at_least_float32
from vlg.models.families import INDEX, name_of

if TYPE_CHECKING:
    import torch

    from vlg.config.sections import Denoising, Sampling
    from vlg.models.ledger import Ledger

Condition = dict[str, "torch.Tensor"]
# (what predicts for a condition, number of the step, its timestep, the network) -> the prediction
Guidance = Callable[
    [Callable[[Condition], "torch.Tensor"], int, "torch.Tensor", Any], "torch.Tensor"
]


@dataclass
class Step:
    """One step of a drawing, before it is taken.

    index: its number, from 0. t: the timestep, on the device; a whole number or, of flow, T sigma.
    z: latents [n, ...]. predicted: the network's output, guided. Both may be replaced, and the step
    goes on from them. net: the network; one that is put in its place serves the steps after this.
    """

    family: Family
    index: int
    t: torch.Tensor
    z: torch.Tensor
    predicted: torch.Tensor
    net: Callable[..., Any] | None = None
    rows: torch.Tensor | None = None  # which samples go on, where `resample` has been called

    @property
    def estimate(self) -> torch.Tensor:
        """The one-step estimate of the clean latents, in float32."""
        return self.family.estimate(self.z, at_least_float32(self.predicted), self._times)

    @property
    def _times(self) -> torch.Tensor:
        return self.t.expand(len(self.z))

    def shift(self, score: torch.Tensor) -> None:
        """Add to the score of p(z_t), in float32, by which the prediction changes accordingly.

        By Tweedie's formula the estimate of the clean latents moves by sigma^2 / a times it, with
        z_t = a z_0 + sigma noise. The estimate is linear in the prediction, whatever this means.
        Where z_t holds nothing of a picture (a = 0), nothing changes.
        """
        import torch

        with torch.no_grad():
            one = torch.ones_like(self.z, dtype=torch.float32)
            none = torch.zeros_like(one)
            a = self.family.noised(one, none, self._times)
            sigma = self.family.noised(none, one, self._times)
            slope = self.family.estimate(none, one, self._times)
            moved = (sigma.square() / a * score / slope).where(a > 0, none)
            self.predicted = self.predicted.detach() + moved.to(self.predicted.dtype)

    def resample(self, rows: torch.Tensor) -> None:
        """Go on with these samples, [n] indices, in the places of all."""
        self.z, self.predicted, self.rows = self.z[rows], self.predicted[rows], rows


class Family(ABC):
    """A model folder, its components loaded when they are first used.

    dtype: of all components (None: float32; networks are trained in that whatever it is).
    network_name: the component that is trained. lora_targets: the layers that LoRA changes.
    latent_shape: of one picture's latents, (channels, height, width). resolution: side of a picture
    in pixels. timesteps: number of them, T; t runs from 0 (clean) to T - 1 (noise). sized: whether
    the network is told sizes and crops. lora_only: why not all weights are trained, if they are
    not; the same as the literal LORA_ONLY of the file, which is asked before any job.
    """

    sized = False
    lora_only = ""

    network_name: str
    lora_targets: Sequence[str]
    latent_shape: tuple[int, ...]
    resolution: int
    timesteps: int

    def __init__(
        self, folder: Path | str, device: str = "cpu", dtype: torch.dtype | None = None
    ) -> None:
        import torch

        self.folder, self.device = Path(folder), device
        self.dtype = torch.float32 if dtype is None else dtype
        self.checkpointing = False  # recompute the decoder's activations in the backward pass
        self._watched: list[tuple[str, torch.nn.Module]] = []
        self._ledgers: list[Ledger] = []

    @classmethod  # noqa: B027
    def check(cls, folder: Path) -> None:
        """UserError when a folder's JSON files say that it cannot be drawn with or trained.

        Asked before any job and whenever Snakemake starts: it reads nothing else and imports
        nothing large. What it says begins with the file, relative to the folder.
        """

    @classmethod  # noqa: B027
    def check_guidance(cls, folder: Path, scale: float) -> None:
        """UserError when a folder's JSON files say that its network cannot be drawn with at this
        guidance scale. As `check`, of a folder that is here when Snakemake starts."""

    @classmethod
    def shaped(cls, tensors: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """{JSON file of a folder: {key: value}} that the weights of a checkpoint in one file say of
        its shape, over those of the folder that ONE_FILE names.

        tensors: {name: {"shape": ...}}, its header.
        """
        return {}

    # --- components ---

    @abstractmethod
    def network(self) -> torch.nn.Module:
        """The network that is trained, read anew, in float32, as it is in the folder."""

    @property
    @abstractmethod
    def net(self) -> torch.nn.Module:
        """The folder's own network, frozen, for drawing."""

    @abstractmethod
    def load(self) -> None:
        """Load now all that drawing needs, so that what is broken is told before work begins."""

    @abstractmethod
    def use_decoder(self, folder: Path) -> None:
        """Let gradients go through the small decoder in `folder`."""

    @abstractmethod
    def tile(self) -> None:
        """Decode in overlapping tiles of half the side, whose seams are blended: less memory."""

    def watch(self, ledger: Ledger) -> None:
        """Let a ledger count what goes through network, encoder and decoder, now and later."""
        self._ledgers.append(ledger)
        for part, module in self._watched:
            ledger.watch(part, module)

    def _loaded(self, part: str, module: Any) -> None:
        """Have the ledgers watch a module that has just been loaded."""
        self._watched.append((part, module))
        for ledger in self._ledgers:
            ledger.watch(part, module)

    # --- texts and pictures ---

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Within: what reads texts is on the device, for several calls of `condition` together."""
        yield

    @abstractmethod
    def condition(self, texts: Sequence[str]) -> Condition:
        """What the network is told of texts: named tensors, the first dimension the texts'."""

    def placed(self, sizes: torch.Tensor, corners: torch.Tensor, side: int) -> Condition:
        """What the network is told of pictures of a data set beside their texts, if the family is
        `sized`. Whole numbers, none of a row all zero: those of zeros are of own samples.

        sizes: [n, 2], height and width of their files in pixels. corners: [n, 2], the top and left
        edges of the squares that are cut out, after resizing; side: of these, in pixels.
        """
        return {}

    @abstractmethod
    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(mean, std) of the posterior of pictures [n, 3, h, w] in 0..1, as the network takes them,
        without gradient."""

    @abstractmethod
    def decode(self, latents: torch.Tensor, exactly: bool = False) -> torch.Tensor:
        """Latents to pictures [n, 3, h, w] in 0..1, differentiable.

        exactly: by the folder's own decoder, even if a small one serves the gradient.
        """

    # --- noise; all of whole batches, t [n] ---

    @abstractmethod
    def noised(self, z0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """z_t."""

    @abstractmethod
    def target(self, z0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """What the network should predict for z_t."""

    @abstractmethod
    def estimate(self, z_t: torch.Tensor, predicted: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The one-step estimate of z_0 from the network's prediction."""

    @abstractmethod
    def share(self, t: torch.Tensor) -> torch.Tensor:
        """Share of the picture in z_t, [n] in 0..1: abar_t, the share of its variance."""

    @abstractmethod
    def min_snr(self, error: torch.Tensor, t: torch.Tensor, gamma: float) -> torch.Tensor:
        """Errors [n] of a denoising loss with min-SNR weights."""

    def draw_timesteps(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """Timesteps [n] int64 to train at, on the CPU: each as likely as any other."""
        import torch

        return torch.randint(self.timesteps, (n,), generator=generator)

    def denoising(
        self,
        predicted: torch.Tensor,
        target: torch.Tensor,
        t: torch.Tensor,
        min_snr_gamma: float | None = None,
    ) -> torch.Tensor:
        """Mean squared error of each sample, [n], in float32; weighted if a gamma is given."""
        error = (at_least_float32(predicted) - target).square().mean(dim=(1, 2, 3))
        return error if min_snr_gamma is None else self.min_snr(error, t, min_snr_gamma)

    # --- the network ---

    @abstractmethod
    def predict(
        self, net: Callable[..., Any], z_t: torch.Tensor, t: torch.Tensor, condition: Condition
    ) -> torch.Tensor:
        """The prediction of `net`, a network of this family or what stands for it.

        t: [n], or a single one for all.
        """

    @abstractmethod
    def sample(
        self,
        condition: Condition,
        latents: torch.Tensor,
        settings: Denoising,
        *,
        negative: Condition | None = None,
        net: Callable[..., Any] | None = None,
        begin: int = 0,
        end: int | None = None,
        on_step: Callable[[Step], None] | None = None,
        grad: bool | int | str = False,
        guidance: Guidance | None = None,
        noise: Callable[[int], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Denoise latents, standard normal or from step `begin` on, to those of a picture.

        settings: steps, scheduler, guidance_scale. negative: what guidance leads away from, of the
        empty text as a rule; needed for a scale above 1. net: another network than the folder's
        own, as the one that is trained. begin, end: the steps to take, all by default. on_step sees
        each step before it is taken and may change it.
        grad: False, no gradient; True, through all steps, to latents and weights; a number K,
        through the last K steps; "step", through each alone: its z is a leaf, of which `on_step`
        may take the gradient of `step.estimate`.
        guidance: what makes the prediction of a step of those for the condition and for others, in
        place of classifier-free guidance; the negative condition is then not asked for.
        noise: the fresh noise [n, ...] of a step by its number, with which the path is the
        stochastic one of the same scheduler (DDIM at eta 1, SDE-DPM-Solver++).
        """

    @abstractmethod
    def renoised(
        self,
        pixels: torch.Tensor,
        generators: Sequence[torch.Generator],
        settings: Sampling,
        strength: float,
    ) -> tuple[torch.Tensor, int]:
        """(latents, begin) from which `sample` redraws pictures [n, 3, h, w] in 0..1.

        Noised to the share `strength` of the steps (SDEdit, arXiv:2108.01073), each by its own
        generator.
        """

    @abstractmethod
    def path(self, settings: Denoising) -> list[int]:
        """The timestep of each step that `sample` takes, from noise on."""


def gradient_steps(grad: bool | int | str, steps: int) -> int:
    """Of `sample`'s `grad`: how many of the last steps have a gradient along the path."""
    if isinstance(grad, str) or grad is False:
        return 0
    return steps if grad is True else min(int(grad), steps)


def open_family(
    folder: Path | str, device: str = "cpu", dtype: torch.dtype | None = None
) -> Family:
    """A model folder as its family; nothing is loaded yet."""
    if not (Path(folder) / INDEX).is_file():
        raise UserError(f"{folder}: no {INDEX}; it must be a diffusers model folder")
    family: Family = plugins.own(plugins.FAMILIES, name_of(folder))(folder, device, dtype)
    return family

"""What families have in common whose network denoises the latents of an autoencoder."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.errors import UserError
from vlg.files import read_json
from vlg.models.components import load_network
from vlg.models.device import place, take_turns, waiting
from vlg.models.family import Condition, Family, Guidance, Step, gradient_steps

if TYPE_CHECKING:
    import torch

    from vlg.config.sections import Denoising, Sampling


class LatentFamily(Family):
    """A diffusers folder with a network, a VAE and a scheduler that draws with it.

    A family says how its texts, its network and its noise are, and makes a scheduler. vae_kind:
    diffusers' class of the VAE. shifted: whether a latent is the encoder's output less the VAE's
    `shift_factor`, times `scaling_factor`, or that times `scaling_factor` alone.
    """

    vae_kind = "AutoencoderKL"
    shifted = False
    _reads = False  # whether `reading` has been entered

    @property
    @abstractmethod
    def schedule(self) -> Any:
        """The schedule of the noise, on the device (`vlg.models.schedule`, `vlg.models.flow`)."""

    @property
    @abstractmethod
    def text(self) -> list[tuple[Any, Any]]:
        """[(tokenizer, text encoder)]."""

    @abstractmethod
    def _network(self, dtype: torch.dtype) -> Any:
        """The network, read anew."""

    @abstractmethod
    def _scheduler(self, settings: Denoising, begin: int, stochastic: bool = False) -> Any:
        """A new scheduler with its timesteps set, about to take step `begin`.

        A new one for each drawing, as they remember steps. stochastic: its steps take fresh noise.
        """

    def told_scale(self, condition: Condition, scale: float, z: torch.Tensor) -> Condition | None:
        """The condition with the guidance scale in it, for a network that is told it: one into
        which guidance was distilled. None for all others."""
        return None

    @property
    def vae_dtype(self) -> torch.dtype:
        """Of the autoencoder."""
        return self.dtype

    @cached_property
    def config(self) -> dict[str, Any]:
        """The network's."""
        return read_json(self.folder / self.network_name / "config.json")

    @property
    def latent_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (self.config["in_channels"], *[square_side(self.config["sample_size"])] * 2)

    @cached_property
    def resolution(self) -> int:  # type: ignore[override]
        return self.latent_shape[-1] * 2**self.halvings

    @cached_property
    def vae_config(self) -> dict[str, Any]:
        return read_json(self.folder / "vae" / "config.json")

    @property
    def halvings(self) -> int:
        """How often the VAE halves the sides of a picture."""
        return len(self.vae_config["block_out_channels"]) - 1

    @property
    def timesteps(self) -> int:  # type: ignore[override]
        return len(self.schedule)

    # --- components ---

    def load(self) -> None:
        self.text, self.net, self.decoder, self.schedule  # noqa: B018

    def network(self) -> torch.nn.Module:
        import torch

        return self._network(torch.float32)

    @cached_property
    def net(self) -> torch.nn.Module:
        net = self._network(self.dtype).eval().requires_grad_(False)
        return place(net, self.device, compiled=True)

    @cached_property
    def vae(self) -> Any:
        """The autoencoder, frozen."""
        import diffusers

        kind = getattr(diffusers, self.vae_kind)
        vae = load_network(kind, self.folder, "vae", torch_dtype=self.vae_dtype)
        vae = place(vae.to(self.device).eval().requires_grad_(False), self.device)
        self._loaded("encoder", vae.encoder)
        self._loaded("decoder", vae.decoder)
        return vae

    @cached_property
    def decoder(self) -> Any:
        """The autoencoder that `decode` takes; of `use_decoder` or the folder's own."""
        if self.checkpointing and self.vae._supports_gradient_checkpointing:
            self.vae.enable_gradient_checkpointing()
        return self.vae

    def use_decoder(self, folder: Path) -> None:
        """An `AutoencoderTiny` (TAESD): a decoder of 1.2 M weights against 49.5 M."""
        from diffusers import AutoencoderTiny

        try:
            tiny = AutoencoderTiny.from_pretrained(folder, local_files_only=True)
        except Exception as error:
            raise UserError(f"{folder}: no AutoencoderTiny ({error}); give another one") from error
        if (channels := tiny.config.latent_channels) != self.latent_shape[0]:
            raise UserError(
                f"{folder}: decodes {channels} channels, and this base's latents have "
                f"{self.latent_shape[0]}; give the tiny decoder of its family"
            )
        if (halvings := len(tiny.config.decoder_block_out_channels) - 1) != self.halvings:
            raise UserError(
                f"{folder}: decodes a latent to {2**halvings} pixels a side, and this base's VAE "
                f"to {2**self.halvings}; give the tiny decoder of its family"
            )
        tiny = tiny.to(self.device).float().eval().requires_grad_(False)
        self.decoder = place(tiny, self.device)
        self._loaded("decoder", tiny.decoder)
        if self.checkpointing:
            tiny.enable_gradient_checkpointing()

    def tile(self) -> None:
        if hasattr(self.vae, "tile_sample_min_height"):  # a VAE with tiles of any shape
            side = self.resolution // 2
            self.vae.enable_tiling(side, side, side * 3 // 4, side * 3 // 4)
            return
        self.vae.enable_tiling()
        self.vae.tile_sample_min_size = self.resolution // 2
        self.vae.tile_latent_min_size = self.latent_shape[-1] // 2

    # --- texts and pictures ---

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Where `gpu.offload` asks for it, network and VAE are away from the device meanwhile."""
        if waiting(self.device) == self.device or self._reads:
            yield
            return
        texts = [encoder for _, encoder in self.text]
        others = [self.__dict__[name] for name in ("net", "vae") if name in self.__dict__]
        self._reads = True
        try:
            take_turns(others, texts, self.device)
            yield
        finally:
            take_turns(texts, others, self.device)
            self._reads = False

    def _ids(self, tokenizer: Any, texts: Sequence[str], length: int) -> torch.Tensor:
        """Tokens [n, length], padded and cut to the length."""
        found = tokenizer(
            list(texts), padding="max_length", max_length=length, truncation=True,
            return_tensors="pt",
        )  # fmt: skip
        return found.input_ids.to(self.device)

    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        with torch.no_grad():
            posterior = self._posterior(pixels.to(self.device) * 2 - 1)
        return self._scaled(posterior.mean), posterior.std * self._scaling(self.vae)[1]

    def decode(self, latents: torch.Tensor, exactly: bool = False) -> torch.Tensor:
        """Clamped as the pipeline does; what overflowed is nan, as a clamp would hide it."""
        vae = self.vae if exactly else self.decoder
        shift, scale = self._scaling(vae)
        z = latents.to(vae.dtype) / scale
        pictures = self._pictures(vae, z if shift is None else z + shift)
        return (pictures / 2 + 0.5).clamp(0, 1).masked_fill(pictures.isinf(), math.nan)

    def _posterior(self, pixels: torch.Tensor) -> Any:
        """What the VAE says of pictures in -1..1: a distribution of [n, c, h, w]."""
        return self.vae.encode(pixels).latent_dist

    def _pictures(self, vae: Any, z: torch.Tensor) -> torch.Tensor:
        """In -1..1, of what the decoder of `vae`, the folder's own or a small one, takes."""
        return vae.decode(z).sample  # type: ignore[no-any-return]

    def _scaling(self, vae: Any) -> tuple[Any, Any]:
        """(shift or None, scale): a latent is what the encoder gives, less the one, times the
        other; numbers, or tensors of the VAE's dtype."""
        return (vae.config.shift_factor if self.shifted else None), vae.config.scaling_factor

    def _scaled(self, encoded: torch.Tensor) -> torch.Tensor:
        """Latents of what the encoder gives."""
        shift, scale = self._scaling(self.vae)
        return (encoded if shift is None else encoded - shift) * scale

    # --- noise ---

    def noised(self, z0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.schedule.add_noise(z0, noise, t)

    def target(self, z0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.schedule.target(z0, noise, t)

    def estimate(self, z_t: torch.Tensor, predicted: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.schedule.estimate(z_t, predicted, t)

    def share(self, t: torch.Tensor) -> torch.Tensor:
        return self.schedule.share(t)

    def min_snr(self, error: torch.Tensor, t: torch.Tensor, gamma: float) -> torch.Tensor:
        return self.schedule.min_snr(error, t, gamma)

    # --- the network ---

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
        """The arithmetic of diffusers' pipelines, step by step."""
        import torch

        net = self.net if net is None else net
        scheduler = self._scheduler(settings, begin, noise is not None)
        guided, scale = settings.guidance_scale > 1, settings.guidance_scale
        told = self.told_scale(condition, scale, latents)
        if told is not None:
            guided, condition = False, told
        if guidance:
            guided = False
        if guided:
            if negative is None:
                raise ValueError("guidance needs a negative condition")
            condition = {k: torch.cat([negative[k], condition[k]]) for k in condition}
        timesteps = scheduler.timesteps[begin:end]
        free = len(timesteps) - gradient_steps(grad, len(timesteps))
        z = latents * scheduler.init_noise_sigma if begin == 0 else latents
        for index, t in enumerate(timesteps):
            with torch.set_grad_enabled(grad == "step" or index >= free):
                if grad == "step":
                    z = z.detach().requires_grad_()
                both = scheduler.scale_model_input(torch.cat([z] * 2) if guided else z, t)
                if guidance:
                    predict = functools.partial(self._unguided, net, both, t)
                    predicted = guidance(predict, begin + index, t, net)
                else:
                    predicted = self.predict(net, both, t, condition)
                if guided:
                    without, text = predicted.chunk(2)
                    predicted = self._guided(without, text, scale)
                step = Step(self, begin + index, t, z, predicted, net)
                if on_step:
                    on_step(step)
                    net = step.net
                if step.rows is not None:  # what a multistep solver remembers
                    known = getattr(scheduler, "model_outputs", [])
                    known[:] = [each if each is None else each[step.rows] for each in known]
                more = {} if noise is None else self._fresh(scheduler, noise(begin + index))
                z = scheduler.step(step.predicted, t, step.z, return_dict=False, **more)[0]
                if grad == "step":
                    z = z.detach()
        return z

    def _guided(self, without: torch.Tensor, text: torch.Tensor, scale: float) -> torch.Tensor:
        """Classifier-free guidance: what is made of the predictions without and with the text."""
        return without + scale * (text - without)

    def _unguided(
        self, net: Callable[..., Any], z_t: torch.Tensor, t: torch.Tensor, condition: Condition
    ) -> torch.Tensor:
        """The prediction where something else guides: a network that is told a scale is told 1."""
        told = self.told_scale(condition, 1.0, z_t)
        return self.predict(net, z_t, t, condition if told is None else told)

    def renoised(
        self,
        pixels: torch.Tensor,
        generators: Sequence[torch.Generator],
        settings: Sampling,
        strength: float,
    ) -> tuple[torch.Tensor, int]:
        """The arithmetic of diffusers' pipelines of pictures to pictures."""
        import torch
        from diffusers.utils.torch_utils import randn_tensor

        begin = settings.steps - min(int(settings.steps * strength), settings.steps)
        scheduler = self._scheduler(settings, begin)
        pixels = (2.0 * pixels - 1.0).to(self.device, self.vae_dtype)
        with torch.no_grad():
            drawn = [
                self._posterior(picture[None]).sample(generator)
                for picture, generator in zip(pixels, generators, strict=True)
            ]
        z = self._scaled(torch.cat(drawn).to(self.dtype))
        device = torch.device(self.device)
        noise = randn_tensor(z.shape, generator=list(generators), device=device, dtype=self.dtype)
        t = scheduler.timesteps[begin : begin + 1].repeat(len(z))
        return scheduler.add_noise(z, noise, t), begin

    def path(self, settings: Denoising) -> list[int]:
        return [int(t) for t in self._scheduler(settings, 0).timesteps]

    @staticmethod
    def _fresh(scheduler: Any, noise: torch.Tensor) -> dict[str, Any]:
        """What a scheduler's step is told of fresh noise."""
        eta = {"eta": 1.0} if "eta" in inspect.signature(scheduler.step).parameters else {}
        return {"variance_noise": noise, **eta}


def square_side(size: Any) -> int:
    """The side of a `sample_size`, a number or two equal ones; ValueError for all else."""
    height, width = size if isinstance(size, list) and len(size) == 2 else (size, size)
    whole = isinstance(height, int) and not isinstance(height, bool)
    if not whole or height < 1 or height != width:
        raise ValueError(size)
    return height

"""Qwen-Image: a transformer that predicts flow, Qwen2.5-VL for texts, a VAE of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.errors import UserError
from vlg.models.family import Condition
from vlg.models.flow import check_stated
from vlg.models.flowing import SquaresFlow, check_parts, check_scheduler, check_side
from vlg.models.language import LanguageFlow, check_same, check_text
from vlg.models.stated import told

if TYPE_CHECKING:
    import torch

CLASSES = ("QwenImagePipeline",)
PARTS = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
WEIGHTED = ("transformer", "vae", "text_encoder")
# Why not all weights are trained.
LORA_ONLY = "20.4 billion weights with gradients and AdamW's moments take 327 GB"
SERVED = {
    "transformer": "QwenImageTransformer2DModel",
    "vae": "AutoencoderKLQwenImage",
    "text_encoder": "Qwen2_5_VLForConditionalGeneration",
}
# What diffusers takes where a config says nothing.
USUAL = {"in_channels": 64, "out_channels": 16, "joint_attention_dim": 3584}
USUAL |= {"attention_head_dim": 128, "axes_dims_rope": [16, 56, 56]}
VAE = {"z_dim": 16, "temperal_downsample": [False, True, True]}
# Of networks that take more than a text and latents.
PLAIN = {"patch_size": 2, "guidance_embeds": False, "zero_cond_t": False}
PLAIN |= {"use_additional_t_cond": False, "use_layer3d_rope": False}
TOKENS = 512  # of a text, as the pipeline has them; fewer where its tokenizer says fewer
# What a text is put into, of which the first tokens are left out again, as in the pipeline.
TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, "
    "quantity, text, spatial relationships of the objects and background:<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
BEFORE = 34


class QwenImage(LanguageFlow, SquaresFlow):
    """A `QwenImagePipeline` folder. Pictures have the side that `sample_size` in vae/config.json
    says, a key that diffusers does not know, or 1024 pixels.

    What guidance makes of the predictions is as long as that for the text, square by square. The
    VAE is one of films: of one frame here.
    """

    kind, usual, lora_only = "QwenImageTransformer2DModel", USUAL, LORA_ONLY
    vae_kind = "AutoencoderKLQwenImage"
    reader, words = "Qwen2_5_VLForConditionalGeneration", "Qwen2TokenizerFast"
    # As in diffusers' train_dreambooth_lora_qwen_image.py.
    lora_targets = ("to_k", "to_q", "to_v", "to_out.0")

    @classmethod
    def check(cls, folder: Path) -> None:
        check_parts(folder, SERVED)
        net = USUAL | told(folder, "transformer/config.json")
        vae = VAE | told(folder, "vae/config.json")
        file, channels = "transformer/config.json", vae["z_dim"]
        check_same(file, net, PLAIN, "Qwen-Image")
        for key, wanted in (("in_channels", 4 * channels), ("out_channels", channels)):
            if net[key] != wanted:
                raise UserError(
                    f"{file}: {key} is {net[key]} and the VAE's latents have {channels} channels; "
                    "give a base that draws from text alone"
                )
        axes, head = net["axes_dims_rope"], net["attention_head_dim"]
        if len(axes) != 3 or sum(axes) != head:
            raise UserError(
                f"{file}: axes_dims_rope {axes} are not the {head} of attention_head_dim; get the "
                "model again"
            )
        check_side(vae, len(vae["temperal_downsample"]) + 1)
        for key in ("latents_mean", "latents_std"):
            found = vae.get(key, [1.0] * channels)
            if not isinstance(found, list) or len(found) != channels:
                raise UserError(
                    f"vae/config.json: {key} is not one number for each of {channels} channels; "
                    "get the model again"
                )
        if min(vae.get("latents_std", [1])) <= 0:
            raise UserError(
                "vae/config.json: latents_std has a number that is not above 0; get the model again"
            )
        check_text(folder, net, "joint_attention_dim", "Qwen2.5-VL's")
        check_scheduler(folder, check_stated, by_size=True)

    # --- components ---

    @property
    def halvings(self) -> int:
        return len((VAE | self.vae_config)["temperal_downsample"])

    # --- texts and pictures ---

    def _read(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        words, qwen = self.text[0]
        most = min(TOKENS, words.model_max_length)
        ids, mask = self._tokens([TEMPLATE.format(each) for each in texts], BEFORE + most)
        seen = qwen(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        return seen.hidden_states[-1][:, BEFORE:], mask[:, BEFORE:]

    def _posterior(self, pixels: torch.Tensor) -> Any:
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

        film = self.vae.encode(pixels[:, :, None]).latent_dist
        return DiagonalGaussianDistribution(film.parameters[:, :, 0])

    def _pictures(self, vae: Any, z: torch.Tensor) -> torch.Tensor:
        if vae is not self.vae:
            return super()._pictures(vae, z)
        return vae.decode(z[:, :, None]).sample[:, :, 0]  # type: ignore[no-any-return]

    def _scaling(self, vae: Any) -> tuple[Any, Any]:
        """Of each channel, [1, c, 1, 1]; a small decoder says its own."""
        import torch

        if vae is not self.vae:
            return super()._scaling(vae)
        mean, std = (
            torch.tensor(each, device=self.device).view(1, -1, 1, 1)
            for each in (vae.config.latents_mean, vae.config.latents_std)
        )
        return mean.to(vae.dtype), (1.0 / std).to(vae.dtype)

    # --- the network ---

    def predict(
        self, net: Callable[..., Any], z_t: torch.Tensor, t: torch.Tensor, condition: Condition
    ) -> torch.Tensor:
        """t: whole timesteps, or T sigma in floating point."""
        packed, shape = self._packed(z_t)
        flow = net(
            packed, condition["states"], condition["mask"],
            self._sigmas(t, z_t.dtype).expand(len(z_t)), [[(1, *shape)]] * len(z_t),
            return_dict=False,
        )[0]  # fmt: skip
        return self._unpacked(flow, shape)

    def _guided(self, without: torch.Tensor, text: torch.Tensor, scale: float) -> torch.Tensor:
        import torch

        (found, shape), (plain, _) = (
            self._packed(each) for each in (super()._guided(without, text, scale), text)
        )
        wanted, length = (each.norm(dim=-1, keepdim=True) for each in (plain, found))
        least = torch.finfo(length.dtype).tiny  # what is 0 stays so
        return self._unpacked(found * (wanted / length.clamp(min=least)), shape)

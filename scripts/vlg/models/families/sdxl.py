"""Stable Diffusion XL: a UNet that is told of sizes and crops, two CLIP text encoders, a VAE."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vlg.errors import UserError
from vlg.files import read_json
from vlg.models.families.sd import StableDiffusion
from vlg.models.family import Condition

if TYPE_CHECKING:
    import torch

CLASSES = ("StableDiffusionXLPipeline",)
PARTS = (
    "unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler",
)  # fmt: skip
WEIGHTED = ("unet", "vae", "text_encoder", "text_encoder_2")
ONE_FILE = {
    "name": "Stable Diffusion XL",
    "shape": "sdxl",
    "parts": {
        "model.diffusion_model.": "UNet",
        "first_stage_model.": "VAE",
        "conditioner.embedders.0.": "text encoder",
        "conditioner.embedders.1.": "second text encoder",
    },
}
SERVED = {
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModel",
    "text_encoder_2": "CLIPTextModelWithProjection",
}
FURTHER = {
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "encoder_hid_dim_type": (None, "text_proj"),
}
EMBEDDED = "projection_class_embeddings_input_dim"
TIME_IDS = 6  # height and width of the file, top and left of the crop, height and width of that


class StableDiffusionXL(StableDiffusion):
    """A `StableDiffusionXLPipeline` folder (Podell et al. 2023, arXiv:2307.01952).

    Its condition is `states` [n, tokens, width], the last but one layers of both text encoders side
    by side, and `pooled` [n, width of the second]; of pictures of a data set also `time_ids`
    [n, 6]. Without these, and where they are 0, a picture is as it is drawn: of the size of its
    latents, uncut.
    """

    served = SERVED
    sized = True
    further = FURTHER
    encoders = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}

    @classmethod
    def _check_unet(cls, unet: dict[str, Any], channels: int) -> None:
        super()._check_unet(unet, channels)
        if (found := unet.get("addition_embed_type")) != "text_time":
            raise UserError(
                f"unet/config.json: addition_embed_type is {found!r} and Stable Diffusion XL's "
                "text_time; give a base of that family"
            )

    @staticmethod
    def _check_texts(unet: dict[str, Any], texts: list[dict[str, Any]]) -> None:
        StableDiffusion._check_texts(unet, texts)
        pooled, each = texts[-1].get("projection_dim", 512), unet.get("addition_time_embed_dim")
        wanted = unet.get(EMBEDDED)
        if not isinstance(each, int) or wanted != pooled + TIME_IDS * each:
            raise UserError(
                f"unet/config.json: {EMBEDDED} is {wanted}, and {pooled} of the second text "
                f"encoder and {TIME_IDS} of sizes at {each} make another number (the refiner?); "
                "give a Stable Diffusion XL base"
            )

    @property
    def vae_dtype(self) -> torch.dtype:
        """The VAE overflows in 16 bits, unless its config says otherwise."""
        import torch

        told = read_json(self.folder / "vae" / "config.json")
        return torch.float32 if told.get("force_upcast", True) else self.dtype

    # --- texts and pictures ---

    @cached_property
    def _empty_is_zero(self) -> bool:
        index = read_json(self.folder / "model_index.json")
        return index.get("force_zeros_for_empty_prompt", True)

    def condition(self, texts: Sequence[str]) -> Condition:
        """As StableDiffusionXLPipeline has it; the empty text is that of its negative prompt, which
        is all zero unless the folder says otherwise."""
        import torch

        said = self._encoded(texts, output_hidden_states=True)
        told = {
            "states": torch.cat([each.hidden_states[-2] for each in said], dim=-1),
            "pooled": said[-1].text_embeds,
        }
        if self._empty_is_zero:
            for row, text in enumerate(texts):
                if not text:
                    for values in told.values():
                        values[row] = 0
        return told

    def placed(self, sizes: torch.Tensor, corners: torch.Tensor, side: int) -> Condition:
        import torch

        return {"time_ids": torch.cat([sizes, corners, torch.full_like(sizes, side)], dim=1)}

    # --- the network ---

    def _told(self, z_t: torch.Tensor, condition: Condition) -> dict[str, Any]:
        import torch

        pooled = condition["pooled"]
        side = self.resolution // self.latent_shape[-1] * z_t.shape[-1]
        ids = torch.tensor([[side, side, 0, 0, side, side]], dtype=torch.float32)
        ids = ids.to(pooled.device)
        if "time_ids" in condition:
            placed = condition["time_ids"]
            ids = placed.where(placed.any(dim=1, keepdim=True), ids)
        added = {"text_embeds": pooled, "time_ids": ids.expand(len(pooled), -1)}
        return {**super()._told(z_t, condition), "added_cond_kwargs": added}

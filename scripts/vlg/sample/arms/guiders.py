"""diffusers' own guiders in place of classifier-free guidance: controls that no guide sees.

Adaptive projected guidance (arXiv:2410.02416), the scale of CFG-Zero* (arXiv:2503.18886) and
skip-layer guidance (Stable Diffusion 3.5; arXiv:2411.18664). Pictures begin from the noise of the
plain ones.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from vlg.config import sections
from vlg.errors import UserError
from vlg.sample.arm import Arm, Before, Drawn

if TYPE_CHECKING:
    import torch

    from vlg.models.guide import Guide
    from vlg.sample.sampler import Sampler

NEEDS = ()
ROUNDS = 1
DOSE = ("guidance_scale", None)


class Settings(sections.OneRound):
    """Which guider, and its keys; of another guider they mean nothing."""

    guider: Literal["apg", "cfg_zero", "skip_layer"] = Field(
        "apg",
        description=(
            "Adaptive projected guidance, CFG-Zero* or skip-layer guidance. The second has its "
            "scale alone: leaving out the first prediction is meant for models of flow."
        ),
    )
    guidance_scale: float | None = Field(
        None, ge=1, description="Of the guider; null: `generate.guidance_scale`."
    )
    eta: sections.Share = Field(
        0.0,
        description="Of `apg`: share that stays of what is parallel to the prediction; 0 in the "
        "paper.",
    )
    norm_threshold: float = Field(
        15.0,
        ge=0,
        description="Of `apg`: length to which the difference is shortened; 0 leaves it. 15 in the "
        "paper for Stable Diffusion XL.",
    )
    momentum: float = Field(
        -0.5,
        gt=-1,
        lt=1,
        description="Of `apg`: weight of the differences of the steps before; -0.5 in the paper.",
    )
    skip_scale: float = Field(
        2.8,
        ge=0,
        description="Of `skip_layer`: weight of the difference to the prediction without the "
        "skipped blocks; 2.8 as for Stable Diffusion 3.5.",
    )
    skip_window: tuple[sections.Share, sections.Share] = Field(
        (0.01, 0.2),
        description="Of `skip_layer`: share of the steps between which it counts, as for Stable "
        "Diffusion 3.5; the first step is never among them.",
    )
    skip_blocks: str = Field(
        "mid_block.attentions.0.transformer_blocks",
        min_length=1,
        description="Of `skip_layer`: a list of transformer blocks in the network; that of Stable "
        "Diffusion 3, FLUX.1 and Qwen-Image is `transformer_blocks`, of Z-Image `layers`; those of "
        "Sana cannot be skipped.",
    )
    skip_layers: list[sections.Whole] = Field(
        [0], min_length=1, description="Of `skip_layer`: which blocks of the list are skipped."
    )


class Guiders(Arm):
    """The guider says what is predicted with which condition, and what becomes of it."""

    settings: Settings

    def draw(self, sampler: Sampler, guide: Guide | None, before: Before) -> Drawn:
        def steer(texts: list[str], seeds: list[int]) -> Mapping[str, Any]:
            return {"guidance": self.guidance(sampler, texts)}

        return Drawn(sampler.draw(before.texts, before.seeds, before.noise, steer=steer))

    def guidance(self, sampler: Sampler, texts: list[str]) -> Callable[..., torch.Tensor]:
        """What guides one drawing of these texts; it remembers the steps before."""
        both = sampler.conditions(texts)
        guider, steps = self.guider(sampler.settings.guidance_scale), sampler.settings.steps

        def guided(
            predict: Callable[..., torch.Tensor], index: int, t: torch.Tensor, net: Any
        ) -> torch.Tensor:
            guider.set_state(step=index, num_inference_steps=steps, timestep=t)
            asked = guider.prepare_inputs({"condition": both})
            for each in asked:
                try:
                    guider.prepare_models(net)
                except (ValueError, AttributeError) as error:
                    blocks = self.settings.skip_blocks
                    raise UserError(
                        f"refine.arms: skip_blocks: {blocks} {self.settings.skip_layers} cannot be "
                        f"skipped in this network ({error}); name blocks that it has"
                    ) from error
                turned = mended_skips(net)
                try:
                    each.noise_pred = predict(each.condition)
                finally:
                    for hook in turned:
                        hook.remove()
                    guider.cleanup_models(net)
            return guider(asked).pred

        return guided

    def guider(self, usual: float) -> Any:
        """A new one of diffusers'; usual: the scale where the arm has none of its own."""
        from diffusers import guiders
        from diffusers.hooks import LayerSkipConfig

        s = self.settings
        scale = usual if s.guidance_scale is None else s.guidance_scale
        log = logging.getLogger("diffusers.guiders.guider_utils")
        before, log.disabled = log.disabled, True  # each new one says that it is experimental
        try:
            if s.guider == "apg":
                return guiders.AdaptiveProjectedGuidance(
                    guidance_scale=scale,
                    eta=s.eta,
                    adaptive_projected_guidance_rescale=s.norm_threshold,
                    adaptive_projected_guidance_momentum=s.momentum,
                )
            if s.guider == "cfg_zero":
                return guiders.ClassifierFreeZeroStarGuidance(scale, zero_init_steps=0)
            return guiders.SkipLayerGuidance(
                guidance_scale=scale,
                skip_layer_guidance_scale=s.skip_scale,
                skip_layer_guidance_start=s.skip_window[0],
                skip_layer_guidance_stop=s.skip_window[1],
                skip_layer_config=LayerSkipConfig(list(s.skip_layers), fqn=s.skip_blocks),
            )
        finally:
            log.disabled = before


def mended_skips(net: Any) -> list[Any]:
    """Hooks on the blocks that are skipped now, by which they give texts and latents in the order
    of Stable Diffusion 3's: what diffusers has in a skipped block's place gives latents first,
    whatever the block does. It also looks for latents by a name that those of Z-Image lack, whose
    first argument they are."""
    from diffusers.hooks.layer_skip import TransformerBlockSkipHook

    found = []
    for module in net.modules():
        hooks = getattr(module, "_diffusers_hook", None)
        for hook in hooks.hooks.values() if hooks else ():
            if not isinstance(hook, TransformerBlockSkipHook):
                continue
            if "hidden_states" not in inspect.signature(type(module).forward).parameters:
                hook._metadata._cached_parameter_indices = {"hidden_states": 0}
            if hook._metadata.return_hidden_states_index == 1:
                found.append(module.register_forward_hook(lambda block, given, out: out[::-1]))
    return found

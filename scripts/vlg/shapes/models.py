"""The tiny models' architectures: genuine classes of diffusers, transformers and open_clip.

Guide and judge differ in architecture (ResNet against ViT), weights, training seed and data draw.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.files import write_json
from vlg.shapes.captions import NUMBERS, WORDS, plural
from vlg.shapes.world import BACKGROUNDS, COLOURS, SHAPES, SIDE

if TYPE_CHECKING:
    import torch

CONTEXT = 24  # tokens of the longest caption and its two ends, with some room
TEXT_WIDTH = 96
FLOW_WIDTH = 96  # of the transformer, of T5, and of the two CLIPs together


def words() -> list[str]:
    """Every word of the captions' language."""
    text = [*COLOURS, *BACKGROUNDS, "an", "and", "background", "picture", "drawing", "of", "on"]
    for forms in (*WORDS.values(), *NUMBERS.values()):
        text += [word for form in forms for word in form.split()]
    text += [plural(form) for shape in SHAPES for form in WORDS[shape]]
    return sorted(set(text))


@cache
def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-level BPE in which every word of ours is one token.

    Any other text falls back to bytes, as in CLIP's own tokenizer. The end token has the highest
    id, because open_clip pools at the arg-max.
    """
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    tokens = letters + [letter + "</w>" for letter in letters]
    merges: list[tuple[str, str]] = []

    def encode(word: str) -> list[str]:
        parts = [*word[:-1], word[-1] + "</w>"]
        ranks = {merge: rank for rank, merge in enumerate(merges)}
        while pairs := [p for p in zip(parts, parts[1:], strict=False) if p in ranks]:
            first = min(pairs, key=ranks.__getitem__)
            at = next(i for i in range(len(parts)) if tuple(parts[i : i + 2]) == first)
            parts[at : at + 2] = ["".join(first)]
        return parts

    for word in words():
        # New merges rank behind all earlier ones, so words already whole stay whole.
        while len(parts := encode(word)) > 1:
            merges.append((parts[0], parts[1]))
            if (token := parts[0] + parts[1]) not in tokens:
                tokens.append(token)
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: index for index, token in enumerate(tokens)}, merges


def tokenizer() -> Any:
    """The CLIPTokenizer of all bases (of `shapes-flow` the first two texts), of guide and judge."""
    from transformers import CLIPTokenizer

    vocab, merges = vocabulary()
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=CONTEXT)


def pieces() -> list[tuple[str, float]]:
    """T5's vocabulary with log probabilities: every word of ours, and letters for any other text.

    A unigram model takes the likeliest split, so a word is one token and not its letters; of a
    character that is not in printable ASCII it knows nothing.
    """
    letters = [chr(code) for code in range(33, 127)]
    return [
        *(("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)),
        *((f"\u2581{word}", -4.0) for word in words()),
        *((letter, -8.0) for letter in ["\u2581", *letters]),
    ]


def t5_tokenizer() -> Any:
    """A T5TokenizerFast of the same words."""
    from transformers import T5TokenizerFast

    return T5TokenizerFast(vocab=pieces(), extra_ids=0, model_max_length=CONTEXT)


def text_config(width: int = TEXT_WIDTH) -> dict[str, Any]:
    """Settings of a tiny CLIP text tower in transformers' names."""
    size = len(vocabulary()[0])
    return {
        "vocab_size": size,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": size - 2,
        "eos_token_id": size - 1,
        "pad_token_id": size - 1,
    }


def vae() -> Any:
    """AutoencoderKL, 32 x 32 pixels to 4 x 8 x 8 latents, 0.65 M parameters."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=SIDE,
        # Mean and scale of the latents are folded into the quant convolutions.
        scaling_factor=1.0,
    )


def unet() -> Any:
    """UNet2DConditionModel with cross attention at both levels, 2.8 M parameters."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIDE // 4,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(64, 96),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def scheduler() -> Any:
    """Stable Diffusion's noise schedule."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def text_encoder() -> Any:
    """CLIPTextModel, 2 layers of width 96."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(**text_config()))


def transformer() -> Any:
    """SD3Transformer2DModel, a token for each of 64 latents, 2.0 M parameters.

    What modulates a block and what leaves the network begin at zero, so each block begins as the
    identity (adaLN-Zero; Peebles and Xie, arXiv:2212.09748). Attention begins as `attend_near`
    with positions as `waves`, by which it learns faster.
    """
    import torch
    from diffusers import SD3Transformer2DModel
    from torch.nn.init import zeros_

    heads = 4
    net = SD3Transformer2DModel(
        sample_size=SIDE // 4,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=6,
        num_attention_heads=heads,
        attention_head_dim=FLOW_WIDTH // heads,
        caption_projection_dim=FLOW_WIDTH,
        joint_attention_dim=FLOW_WIDTH,
        pooled_projection_dim=FLOW_WIDTH,
        pos_embed_max_size=SIDE // 4,
        qk_norm="rms_norm",
    )
    blocks = net.transformer_blocks
    modulations = [norm.linear for block in blocks for norm in (block.norm1, block.norm1_context)]
    for layer in (*modulations, net.norm_out.linear, net.proj_out):
        zeros_(layer.weight)
        zeros_(layer.bias)
    with torch.no_grad():
        net.pos_embed.pos_embed.copy_(waves(SIDE // 4, FLOW_WIDTH))
    for block in blocks:
        own = block.attn
        attend_near(own.to_q, own.to_k, own.to_v, own.to_out[0], heads)
    return net


def flow_texts() -> tuple[Any, Any, Any]:
    """Stable Diffusion 3's text encoders: two CLIPTextModelWithProjection and a T5EncoderModel.

    2 layers each; the CLIPs are half as wide as the transformer, T5 is as wide.
    """
    from transformers import (
        CLIPTextConfig,
        CLIPTextModelWithProjection,
        T5Config,
        T5EncoderModel,
    )

    half = FLOW_WIDTH // 2
    config = CLIPTextConfig(**text_config(half), projection_dim=half)
    t5 = T5Config(
        vocab_size=len(pieces()),
        d_model=FLOW_WIDTH,
        d_kv=FLOW_WIDTH // 4,
        d_ff=2 * FLOW_WIDTH,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
    )
    clips = (CLIPTextModelWithProjection(config), CLIPTextModelWithProjection(config))
    return (*clips, T5EncoderModel(t5))


def flow_scheduler() -> Any:
    """Flow matching without a shift: 64 latents soon drown in noise (arXiv:2403.03206, 5.3.2)."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(shift=1.0)


def guide_config() -> dict[str, Any]:
    """open_clip's configuration of the guide: a small ResNet and a small text transformer."""
    return {
        "model_cfg": {
            "embed_dim": 64,
            "vision_cfg": {"image_size": SIDE, "layers": [1, 1, 1, 1], "width": 20},
            "text_cfg": {
                "context_length": CONTEXT,
                "vocab_size": len(vocabulary()[0]),
                "hf_tokenizer_name": "CLIPTokenizer",
                "width": TEXT_WIDTH,
                "heads": 4,
                "layers": 2,
            },
        },
        "preprocess_cfg": {
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }


def guide() -> Any:
    """open_clip's CLIP in the guide's configuration."""
    from open_clip.model import CLIP

    config = guide_config()["model_cfg"]
    text = {k: v for k, v in config["text_cfg"].items() if k != "hf_tokenizer_name"}
    return CLIP(config["embed_dim"], config["vision_cfg"], text)


def waves(side: int, width: int) -> torch.Tensor:
    """Positions [side x side, width] of a square of tokens, as waves along both axes."""
    import torch

    phases = torch.arange(side)[:, None] * torch.linspace(0.25, 2, width // 4) * math.pi / 4
    along = torch.cat([phases.sin(), phases.cos()], dim=1)
    down, right = (along.unsqueeze(axis).expand(side, side, -1) for axis in (1, 0))
    return torch.cat([down, right], dim=-1).flatten(0, 1)


def attend_near(query: Any, key: Any, value: Any, out: Any, heads: int) -> None:
    """Begin the linear layers of an attention of tokens to themselves where they look at what is
    alike and near: query and key alike, value and output opposed (arXiv:2305.09828)."""
    import torch

    width = query.in_features
    with torch.no_grad():
        for part in range(heads):
            rows = slice(part * width // heads, (part + 1) * width // heads)
            some = torch.linalg.qr(torch.randn(width, width))[0][rows]
            query.weight[rows] = 0.9 * some
            key.weight[rows] = 0.9 * some
        turn = torch.linalg.qr(torch.randn(width, width))[0]
        value.weight.copy_(0.6 * turn)
        out.weight.copy_(0.02 * torch.randn(width, width) - 0.6 * turn.T)


def begin(vision: Any) -> None:
    """Begin a ViT, transformers' CLIP or SigLIP vision tower, where it learns from few pictures."""
    import torch

    embeddings = vision.embeddings
    width = embeddings.patch_embedding.out_channels
    side = SIDE // embeddings.patch_embedding.kernel_size[0]
    with torch.no_grad():
        embeddings.position_embedding.weight[-side * side :] = 0.15 * waves(side, width)
    for layer in vision.encoder.layers:
        own = layer.self_attn
        attend_near(own.q_proj, own.k_proj, own.v_proj, own.out_proj, own.num_heads)


def judge() -> Any:
    """transformers' CLIPModel: a ViT with patches of 4 pixels and a small text transformer."""
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    model = CLIPModel(
        CLIPConfig(
            text_config=CLIPTextConfig(**text_config()).to_dict(),
            vision_config=CLIPVisionConfig(
                hidden_size=128,
                intermediate_size=512,
                num_hidden_layers=3,
                num_attention_heads=4,
                image_size=SIDE,
                patch_size=4,
            ).to_dict(),
            projection_dim=128,
        )
    )
    begin(model.vision_model)
    return model


def judge_processor() -> Any:
    """CLIPProcessor for 32 x 32 pictures."""
    from transformers import CLIPImageProcessor, CLIPProcessor

    size = {"height": SIDE, "width": SIDE}
    images = CLIPImageProcessor(
        size={"shortest_edge": SIDE},
        crop_size=size,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return CLIPProcessor(images, tokenizer())


def siglip() -> Any:
    """transformers' SiglipModel: patches of 4 pixels, pooled by attention; its own text tower."""
    import torch
    from transformers import SiglipConfig, SiglipModel

    common = {"intermediate_size": 384, "num_attention_heads": 4}
    text = {
        "vocab_size": len(pieces()),
        "hidden_size": TEXT_WIDTH,
        "num_hidden_layers": 2,
        "max_position_embeddings": CONTEXT,
        "projection_size": TEXT_WIDTH,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 1,
    }
    vision = {
        "hidden_size": TEXT_WIDTH,
        "num_hidden_layers": 3,
        "image_size": SIDE,
        "patch_size": 4,
    }
    model = SiglipModel(SiglipConfig(text_config=text | common, vision_config=vision | common))
    begin(model.vision_model)
    words = model.text_model.embeddings
    with torch.no_grad():
        # Its words see all others, so only positions tell which of two stands before a third.
        phases = torch.arange(CONTEXT)[:, None] * torch.logspace(-1, 0.5, TEXT_WIDTH // 2)
        words.position_embedding.weight.copy_(0.3 * torch.cat([phases.sin(), phases.cos()], 1))
        words.token_embedding.weight.normal_(0, 0.3)
        # Where the paper begins (arXiv:2303.15343, 3.2).
        model.logit_scale.fill_(math.log(10))
        model.logit_bias.fill_(-10)
    return model


def siglip_processor() -> Any:
    """SiglipProcessor for 32 x 32 pictures."""
    from transformers import SiglipImageProcessor, SiglipProcessor

    half = [0.5, 0.5, 0.5]
    images = SiglipImageProcessor(
        size={"height": SIDE, "width": SIDE}, image_mean=half, image_std=half
    )
    return SiglipProcessor(images, t5_tokenizer())


def save_guide(model: Any, folder: Path) -> None:
    """Write an open_clip `local-dir:` folder: configuration, weights, tokenizer."""
    from safetensors.torch import save_file

    tokenizer().save_pretrained(folder)
    write_json(folder / "open_clip_config.json", guide_config())
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")


def pipeline(vae: Any, unet: Any, text_encoder: Any) -> Any:
    """A StableDiffusionPipeline of the given parts with our tokenizer and noise schedule."""
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer(),
        unet=unet,
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def flow_pipeline(vae: Any, transformer: Any, texts: tuple[Any, Any, Any]) -> Any:
    """A StableDiffusion3Pipeline of the given parts with our tokenizers and flow."""
    from diffusers import StableDiffusion3Pipeline

    vae.register_to_config(shift_factor=0.0)
    return StableDiffusion3Pipeline(
        transformer=transformer,
        vae=vae,
        scheduler=flow_scheduler(),
        text_encoder=texts[0],
        text_encoder_2=texts[1],
        text_encoder_3=texts[2],
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        tokenizer_3=t5_tokenizer(),
    )

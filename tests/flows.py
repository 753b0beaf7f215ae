"""Random base models whose texts a language model reads; `tests.tiny` has those of CLIP and T5."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests import tiny
from tests.tiny import SIZE, WORDS

TOKENS = 48  # of a text, of Z-Image and Qwen-Image; a text of one word has 9 with what is around it
LONG = "a big red circle on the small blue square of white " * 3  # more than 32 of them
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SHIFT = {"use_dynamic_shifting": True, "shift": 1.0, "base_image_seq_len": 256}
SHIFT |= {"base_shift": 0.5, "max_image_seq_len": 8192, "max_shift": 0.9, "shift_terminal": 0.02}


def qwen_tokenizer() -> Any:
    """A Qwen2Tokenizer for which a word is one token, those of the template of Qwen-Image too."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2TokenizerFast

    from vlg.models.families.qwen_image import TEMPLATE

    vocab = {letter: i for i, letter in enumerate(sorted(ByteLevel.alphabet()))}
    plain = re.findall(r"[A-Za-z]+", TEMPLATE) + [*WORDS, "user", "assistant"]
    merges = tiny.merged(vocab, [form for word in plain for form in (f"\u0120{word}", word)])
    tokens = Qwen2TokenizerFast(
        vocab=vocab, merges=merges, model_max_length=TOKENS, chat_template=CHAT
    )
    tokens.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    return tokens


def gemma_tokenizer() -> Any:
    """A GemmaTokenizer for which a word of the instruction of Sana is one token."""
    from transformers import GemmaTokenizerFast

    from vlg.models.families.sana import instruction

    text = "\n".join(instruction())
    letters = sorted({*text, *"abcdefghijklmnopqrstuvwxyz"} - {" "})
    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\u2581", *letters]
    vocab = {name: i for i, name in enumerate(names)}
    words = [*re.findall(r"[A-Za-z]+", text), *WORDS]
    merges = tiny.merged(vocab, [form for word in words for form in (f"\u2581{word}", word)])
    return GemmaTokenizerFast(vocab=vocab, merges=merges, add_bos_token=True)


def stirred(model: Any, scale: float = 3.0) -> Any:
    """A random language model whose states depend on what they read, as at first they hardly do."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(scale)
    return model


def save_z_image(folder: Path, shift: float = 3.0, seed: int = 0) -> Path:
    """Write a random ZImagePipeline folder, made as Z-Image-Turbo is."""
    import torch
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        ZImagePipeline,
        ZImageTransformer2DModel,
    )
    from transformers import Qwen3Config, Qwen3Model

    torch.manual_seed(seed)
    tokens = qwen_tokenizer()
    text = Qwen3Config(
        vocab_size=len(tokens), hidden_size=16, intermediate_size=32, num_hidden_layers=3,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, pad_token_id=tokens.pad_token_id,
        eos_token_id=tokens.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    transformer = ZImageTransformer2DModel(
        in_channels=16, dim=16, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2,
        cap_feat_dim=16, axes_dims=[4, 2, 2], axes_lens=[1024, 64, 64],
    )  # fmt: skip
    for name in ("x_pad_token", "cap_pad_token"):
        torch.nn.init.normal_(getattr(transformer, name))
    vae = tiny.wide_vae(scaling_factor=0.3611, shift_factor=0.1159)
    ZImagePipeline(
        transformer=transformer, vae=vae, scheduler=FlowMatchEulerDiscreteScheduler(shift=shift),
        text_encoder=stirred(Qwen3Model(text)), tokenizer=tokens,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def save_qwen_image(folder: Path, seed: int = 0) -> Path:
    """Write a random QwenImagePipeline folder, whose VAE says the side of its pictures."""
    import json

    import torch
    from diffusers import (
        AutoencoderKLQwenImage,
        FlowMatchEulerDiscreteScheduler,
        QwenImagePipeline,
        QwenImageTransformer2DModel,
    )
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(seed)
    tokens = qwen_tokenizer()
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    config = Qwen2_5_VLConfig(
        text_config=small | {"vocab_size": len(tokens), "num_attention_heads": 2,
                             "num_key_value_heads": 1, "rope_parameters": rope,
                             "pad_token_id": tokens.pad_token_id},
        vision_config={"depth": 1, "intermediate_size": 32, "num_heads": 2, "patch_size": 8,
                       "hidden_size": 32, "out_hidden_size": 32, "fullatt_block_indexes": [0]},
    )  # fmt: skip
    transformer = QwenImageTransformer2DModel(
        in_channels=64, out_channels=16, num_layers=3, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=32, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    vae = AutoencoderKLQwenImage(
        base_dim=8, z_dim=16, dim_mult=[1, 2, 2], num_res_blocks=1,
        temperal_downsample=[False, True],
    )  # fmt: skip
    QwenImagePipeline(
        transformer=transformer, vae=vae, scheduler=FlowMatchEulerDiscreteScheduler(**SHIFT),
        text_encoder=stirred(Qwen2_5_VLForConditionalGeneration(config)), tokenizer=tokens,
    ).save_pretrained(folder)  # fmt: skip
    file = folder / "vae/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sample_size": SIZE}))
    return folder


def save_sana(folder: Path, scheduler: Any = None, seed: int = 0) -> Path:
    """Write a random SanaPipeline folder; scheduler: another one than that of the published."""
    import torch
    from diffusers import (
        AutoencoderDC,
        DPMSolverMultistepScheduler,
        SanaPipeline,
        SanaTransformer2DModel,
    )
    from transformers import Gemma2Config, Gemma2Model

    torch.manual_seed(seed)
    tokens = gemma_tokenizer()
    text = Gemma2Config(
        vocab_size=len(tokens), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, pad_token_id=tokens.pad_token_id,
        eos_token_id=tokens.eos_token_id, bos_token_id=tokens.bos_token_id,
    )  # fmt: skip
    transformer = SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, num_layers=2,
        num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16,
        caption_channels=16, sample_size=SIZE // 4,
    )  # fmt: skip
    three: dict[str, Any] = {}
    for side in ("encoder", "decoder"):
        three[f"{side}_block_types"] = "ResBlock"
        three[f"{side}_block_out_channels"] = (8, 8, 8)
        three[f"{side}_layers_per_block"] = (1, 1, 1)
        three[f"{side}_qkv_multiscales"] = ((), (), ())
    vae = AutoencoderDC(latent_channels=4, attention_head_dim=4, scaling_factor=0.41407, **three)
    scheduler = scheduler or DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    SanaPipeline(
        transformer=transformer, vae=vae, scheduler=scheduler,
        text_encoder=stirred(Gemma2Model(text)), tokenizer=tokens,
    ).save_pretrained(folder)  # fmt: skip
    return folder


SAVE = {"z_image": save_z_image, "qwen_image": save_qwen_image, "sana": save_sana}

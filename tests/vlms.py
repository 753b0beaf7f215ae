"""Random vision-language models small enough for tests, in the folders that transformers reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests import tiny

WORDS = """
    Does this figure show ? Please answer yes or no . Yes No a the red blue green circle square
    user assistant Is there are How many Answer in one word two three 2 3 Three image left of
""".split()  # noqa: SIM905
CHAT = (
    "{% for m in messages %}{{ m['role'] }} {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %} assistant{% endif %}"
)
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
         "num_attention_heads": 2}  # fmt: skip
TEXT = SMALL | {"num_key_value_heads": 1}
KINDS = ("qwen2_5_vl", "qwen3_vl", "idefics3", "paligemma", "internvl")


def tokenizer(**special: str) -> Any:
    """A byte-level tokenizer: a word with or without a space before it is one token, all else
    bytes. special: names of further special tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = pre_tokenizers.ByteLevel.alphabet()
    vocab = {letter: i for i, letter in enumerate(sorted(letters))}
    merges = tiny.merged(vocab, [form for word in WORDS for form in (f"\u0120{word}", word)])
    own = Tokenizer(models.BPE(vocab, merges))
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = decoders.ByteLevel()
    names = ["<pad>", "<s>", "</s>", *special.values()]
    own.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    return PreTrainedTokenizerFast(
        tokenizer_object=own, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        extra_special_tokens=special, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def save(folder: Path, kind: str, seed: int = 0) -> Path:
    """Write a random model of one of KINDS with its processor; returns the folder."""
    import torch
    from transformers import AutoModelForImageTextToText

    torch.manual_seed(seed)
    config, processor = globals()[f"_{kind}"]()
    model = AutoModelForImageTextToText.from_config(config)
    with torch.no_grad():  # answers that differ from picture to picture
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _qwen2_5_vl() -> tuple[Any, Any]:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLProcessor

    return _qwen(
        Qwen2_5_VLConfig,
        Qwen2_5_VLProcessor,
        {"fullatt_block_indexes": [1], "window_size": 32, "out_hidden_size": 32, "hidden_size": 32},
    )


def _qwen3_vl() -> tuple[Any, Any]:
    from transformers import Qwen3VLConfig, Qwen3VLProcessor

    return _qwen(
        Qwen3VLConfig,
        Qwen3VLProcessor,
        {
            "deepstack_visual_indexes": [0],
            "out_hidden_size": 32,
            "hidden_size": 32,
            "num_position_embeddings": 64,
        },
    )


def _qwen(of: Any, processor: Any, vision: dict[str, Any]) -> tuple[Any, Any]:
    from transformers import Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    tokens = tokenizer(
        image_token="<|image_pad|>", video_token="<|video_pad|>",
        vision_start="<|vision_start|>", vision_end="<|vision_end|>",
    )  # fmt: skip
    ids = {name: tokens.convert_tokens_to_ids(f"<|{name[:-9]}|>") for name in
           ("vision_start_token_id", "vision_end_token_id")}  # fmt: skip
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    config = of(
        text_config=TEXT | {"vocab_size": len(tokens), "head_dim": 16, "rope_parameters": rope,
                            "pad_token_id": tokens.pad_token_id},
        vision_config={"depth": 2, "intermediate_size": 64, "num_heads": 2, "patch_size": 8,
                       "spatial_merge_size": 2, "temporal_patch_size": 2} | vision,
        image_token_id=tokens.image_token_id, video_token_id=tokens.video_token_id, **ids,
    )  # fmt: skip
    size = {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}
    shape = {"patch_size": 8, "merge_size": 2, "temporal_patch_size": 2, "size": size}
    chat = CHAT.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    return config, processor(
        Qwen2VLImageProcessor(**shape), tokens, Qwen2VLVideoProcessor(**shape), chat_template=chat
    )


def _idefics3() -> tuple[Any, Any]:
    from transformers import Idefics3Config, Idefics3ImageProcessor, Idefics3Processor

    tokens = tokenizer(
        image_token="<image>", fake_image_token="<fake_token_around_image>",
        global_image_token="<global-img>", end_of_utterance_token="<end_of_utterance>",
    )  # fmt: skip
    config = Idefics3Config(
        text_config=TEXT | {"model_type": "llama", "vocab_size": len(tokens),
                            "pad_token_id": tokens.pad_token_id},
        vision_config=SMALL | {"image_size": 32, "patch_size": 8},
        image_token_id=tokens.image_token_id, scale_factor=2, pad_token_id=tokens.pad_token_id,
    )  # fmt: skip
    pictures = Idefics3ImageProcessor(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 32}, do_image_splitting=False
    )
    chat = CHAT.replace("IMAGE", "<image>")
    return config, Idefics3Processor(pictures, tokens, image_seq_len=4, chat_template=chat)


def _paligemma() -> tuple[Any, Any]:
    from transformers import PaliGemmaConfig, PaliGemmaProcessor, SiglipImageProcessor

    tokens = tokenizer(image_token="<image>")
    pictures = SiglipImageProcessor(size={"height": 32, "width": 32})
    pictures.image_seq_length = 16
    processor = PaliGemmaProcessor(pictures, tokens)
    config = PaliGemmaConfig(
        text_config=TEXT | {"model_type": "gemma", "vocab_size": len(processor.tokenizer),
                            "head_dim": 16, "pad_token_id": tokens.pad_token_id},
        vision_config=SMALL | {"model_type": "siglip_vision_model", "image_size": 32,
                               "patch_size": 8, "vision_use_head": False},
        image_token_index=tokens.image_token_id, projection_dim=32,
    )  # fmt: skip
    return config, processor


def _internvl() -> tuple[Any, Any]:
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLProcessor,
        InternVLVideoProcessor,
    )

    tokens = tokenizer(
        start_image_token="<img>", end_image_token="</img>", context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )  # fmt: skip
    config = InternVLConfig(
        text_config=TEXT | {"model_type": "qwen2", "vocab_size": len(tokens),
                            "pad_token_id": tokens.pad_token_id},
        vision_config=SMALL | {"image_size": [32, 32], "patch_size": [8, 8]},
        image_token_id=tokens.context_image_token_id, image_seq_length=4,
    )  # fmt: skip
    pictures = GotOcr2ImageProcessor(size={"height": 32, "width": 32}, crop_to_patches=False)
    videos = InternVLVideoProcessor(size={"height": 32, "width": 32})
    chat = CHAT.replace("IMAGE", "<IMG_CONTEXT>")
    return config, InternVLProcessor(
        pictures, tokens, videos, image_seq_length=4, chat_template=chat
    )

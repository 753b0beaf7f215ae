"""Random models small enough for tests, in the same formats as the real ones.

Nothing here is trained: 32x32 pictures, 8x8 latents, a UNet of 0.1 M parameters. `build(folder)`
writes a base model, a guide and a captioned image folder in about two seconds. `save_...` writes
one of these small models, `write_...` one of any size, as `bench/sd15.py` has them.
"""

from __future__ import annotations

import atexit
import functools
import io
import json
import math
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SIZE = 32  # pixels; the VAE below halves twice, so latents are 4 x 8 x 8
LENGTH = 12  # tokens of a caption, start and end included
START, END = "<|startoftext|>", "<|endoftext|>"
COLOURS = {"red": (220, 40, 40), "green": (40, 160, 60), "blue": (50, 70, 220)}
SHAPES = ("circle", "square")
WORDS = ("a", "the", "on", "white", "picture", "of", "big", "small", *COLOURS, *SHAPES)


def vocabulary(words: tuple[str, ...] = WORDS) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A byte-pair vocabulary and merges under which each of `words` is exactly one token.

    A word is split by the merges made so far and its first two pieces are then merged until one
    piece is left; merges added later have lower priority, so finished words stay whole. The end
    token has the highest id, because open_clip pools the text at the arg-max of the ids.
    """
    merges: list[tuple[str, str]] = []

    def split(word: str) -> list[str]:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while pairs := [pair for pair in zip(pieces, pieces[1:], strict=False) if pair in merges]:
            first = min(pairs, key=merges.index)
            at = next(i for i in range(len(pieces)) if tuple(pieces[i : i + 2]) == first)
            pieces[at : at + 2] = ["".join(first)]
        return pieces

    for word in words:
        while len(pieces := split(word)) > 1:
            merges.append((pieces[0], pieces[1]))
    letters = sorted({letter for word in words for letter in word})
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(m) for m in merges)]
    tokens = list(dict.fromkeys(tokens))
    return {token: i for i, token in enumerate([*tokens, START, END])}, merges


def tokenizer():
    """A transformers CLIPTokenizer over `vocabulary()`."""
    from transformers import CLIPTokenizer

    vocab, merges = vocabulary()
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=LENGTH)


def save_base(folder: Path, prediction: str = "epsilon", seed: int = 0) -> Path:
    """Write a random StableDiffusionPipeline folder; `prediction` as in its scheduler config."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    tokens = tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(tokens), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=LENGTH, projection_dim=16,
        bos_token_id=tokens.bos_token_id, eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.eos_token_id,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=SIZE // 4, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16, attention_head_dim=2,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(4, 8, 8), layers_per_block=1, norm_num_groups=2, sample_size=SIZE,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4, scaling_factor=0.5, mid_block_add_attention=False,
    )  # fmt: skip
    return write_base(folder, unet, vae, CLIPTextModel(text), tokens, prediction)


def wide_vae(scaling_factor: float, shift_factor: float) -> Any:
    """A random VAE of 16 channels, as those of Stable Diffusion 3 and after are."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(4, 8, 8), layers_per_block=1, norm_num_groups=2, sample_size=SIZE,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=16, scaling_factor=scaling_factor, shift_factor=shift_factor,
        use_quant_conv=False, use_post_quant_conv=False, mid_block_add_attention=False,
    )  # fmt: skip


def merged(vocab: dict[str, int], words: Any) -> list[tuple[str, str]]:
    """Byte pairs under which each word is one token, merged from the left; adds to `vocab`."""
    merges = []
    for word in dict.fromkeys(words):
        piece = word[0]
        for letter in word[1:]:
            if piece + letter not in vocab:
                merges.append((piece, letter))
                vocab[piece + letter] = len(vocab)
            piece += letter
    return merges


def save_sd3(folder: Path, t5: bool = True, seed: int = 0) -> Path:
    """Write a random StableDiffusion3Pipeline folder, made as Stable Diffusion 3.5 is; `t5`: with
    its third text encoder."""
    import torch
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )
    from transformers import (
        CLIPTextConfig,
        CLIPTextModelWithProjection,
        CLIPTokenizer,
        T5Config,
        T5EncoderModel,
    )

    torch.manual_seed(seed)
    vocab, merges = vocabulary()
    pads = {"_2": START}  # the second one's own, as in the published model
    tokenizers = {
        f"tokenizer{end}": CLIPTokenizer(
            vocab=vocab, merges=merges, model_max_length=LENGTH, pad_token=pads.get(end, END)
        )
        for end in ("", "_2")
    }
    clip = CLIPTextConfig(
        vocab_size=len(vocab), hidden_size=12, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=LENGTH, projection_dim=16,
        bos_token_id=vocab[START], eos_token_id=vocab[END], pad_token_id=vocab[END],
    )  # fmt: skip
    words = t5_tokenizer(512)
    config = T5Config(
        vocab_size=len(words), d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    transformer = SD3Transformer2DModel(
        sample_size=SIZE // 4, in_channels=16, out_channels=16, num_layers=2,
        attention_head_dim=8, num_attention_heads=2, caption_projection_dim=16,
        joint_attention_dim=32, pooled_projection_dim=32, pos_embed_max_size=8,
        dual_attention_layers=(0,), qk_norm="rms_norm",
    )  # fmt: skip
    vae = wide_vae(scaling_factor=1.5305, shift_factor=0.0609)
    StableDiffusion3Pipeline(
        transformer=transformer, vae=vae, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        text_encoder=CLIPTextModelWithProjection(clip),
        text_encoder_2=CLIPTextModelWithProjection(clip),
        text_encoder_3=T5EncoderModel(config) if t5 else None,
        tokenizer_3=words if t5 else None, **tokenizers,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def save_flux(
    folder: Path, guidance: bool = True, seed: int = 0, shift: dict[str, Any] | None = None
) -> Path:
    """Write a random FluxPipeline folder, made as FLUX.1 dev is, or, without `guidance`, schnell.
    shift: what its scheduler is told of it, by default as published."""
    import torch
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        FluxPipeline,
        FluxTransformer2DModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    torch.manual_seed(seed)
    vocab, _ = vocabulary()
    clip = CLIPTextConfig(
        vocab_size=len(vocab), hidden_size=12, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=LENGTH, projection_dim=16,
        bos_token_id=vocab[START], eos_token_id=vocab[END], pad_token_id=vocab[END],
    )  # fmt: skip
    words = t5_tokenizer(LENGTH)
    config = T5Config(
        vocab_size=len(words), d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    transformer = FluxTransformer2DModel(
        in_channels=64, num_layers=2, num_single_layers=2, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=12,
        guidance_embeds=guidance, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    vae = wide_vae(scaling_factor=0.3611, shift_factor=0.1159)
    by_size = {"use_dynamic_shifting": True, "shift": 3.0} if guidance else {"shift": 1.0}
    FluxPipeline(
        transformer=transformer, vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(**(by_size if shift is None else shift)),
        text_encoder=CLIPTextModel(clip), tokenizer=tokenizer(),
        text_encoder_2=T5EncoderModel(config), tokenizer_2=words,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def t5_tokenizer(length: int):
    """A T5TokenizerFast of `WORDS`."""
    from transformers import T5TokenizerFast

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -2.0)]
    pieces += [(f"\u2581{word}", -3.0) for word in WORDS]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=length)


def write_base(
    folder: Path, unet: Any, vae: Any, text: Any, tokens: Any, prediction: str = "epsilon"
) -> Path:
    """Write networks of any size as a StableDiffusionPipeline folder with SD's noise schedule."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1, prediction_type=prediction,
    )  # fmt: skip
    StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokens, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def save_sdxl(folder: Path, prediction: str = "epsilon", seed: int = 0) -> Path:
    """Write a random StableDiffusionXLPipeline folder, made as the published base is."""
    import torch
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTextModelWithProjection,
        CLIPTokenizer,
    )

    torch.manual_seed(seed)
    vocab, merges = vocabulary()
    tokenizers = {  # the second one pads with a token of its own
        f"tokenizer{end}": CLIPTokenizer(
            vocab=vocab, merges=merges, model_max_length=LENGTH, pad_token=pad
        )
        for end, pad in (("", END), ("_2", START))
    }
    text = {
        "vocab_size": len(vocab), "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": LENGTH, "projection_dim": 16,
        "bos_token_id": vocab[START], "eos_token_id": vocab[END], "pad_token_id": vocab[END],
    }  # fmt: skip
    one = CLIPTextModel(CLIPTextConfig(hidden_size=12, **text))
    two = CLIPTextModelWithProjection(CLIPTextConfig(hidden_size=20, hidden_act="gelu", **text))
    unet = UNet2DConditionModel(
        sample_size=SIZE // 4, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=(1, 2),
        cross_attention_dim=32, attention_head_dim=(2, 4), use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=16 + 6 * 8,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(4, 8, 8), layers_per_block=1, norm_num_groups=2, sample_size=SIZE,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4, scaling_factor=0.5, mid_block_add_attention=False, force_upcast=True,
    )  # fmt: skip
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
        timestep_spacing="leading", prediction_type=prediction,
    )  # fmt: skip
    StableDiffusionXLPipeline(
        vae=vae, text_encoder=one, text_encoder_2=two, unet=unet, scheduler=scheduler,
        add_watermarker=False, **tokenizers,
    ).save_pretrained(folder)  # fmt: skip
    file = folder / "scheduler/scheduler_config.json"  # where the published one has this, too
    file.write_text(json.dumps(json.loads(file.read_text()) | {"clip_sample": False}))
    return folder


# What the JSON files of a base say, as far as it is looked at before any job.
SAID: dict[str, dict[str, Any]] = {
    "model_index.json": {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    },
    "unet/config.json": {"in_channels": 4, "sample_size": 8, "cross_attention_dim": 16},
    "vae/config.json": {"latent_channels": 4, "block_out_channels": [4, 8, 8], "sample_size": 32},
    "text_encoder/config.json": {"hidden_size": 16, "max_position_embeddings": LENGTH},
    "scheduler/scheduler_config.json": {"_class_name": "DDIMScheduler", "beta_start": 0.00085},
    "tokenizer/tokenizer.json": {"model": {"vocab": {"<|endoftext|>": 49407}}},
}
NETWORKS = ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model")


def file_of(*names: str, shape: tuple[int, ...] = (1, 1, 1)) -> bytes:
    """A safetensors file of tensors with these names, all zero."""
    size = math.prod(shape)
    said = {
        name: {"dtype": "U8", "shape": shape, "data_offsets": [i * size, (i + 1) * size]}
        for i, name in enumerate(names)
    }
    header = json.dumps(said).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size * len(names))


HOLLOW = file_of("weight")


def hollow(prefix: str = "", **changes: dict[str, Any]) -> dict[str, bytes]:
    """{file: content} of a base folder whose weights are next to none.

    changes: {part of it, or `index`: {key: another value}}.
    """
    files = {}
    for name, said in SAID.items():
        part = name.partition("/")[0] if "/" in name else "index"
        files[prefix + name] = json.dumps(said | changes.get(part, {})).encode()
    return files | {f"{prefix}{name}.safetensors": HOLLOW for name in NETWORKS}


def hollow_judge(prefix: str = "", weights: str = "b") -> dict[str, bytes]:
    """{file: content} of a judge's folder, by transformers' defaults, with one weight."""
    said = {"config": {}, "tokenizer": SAID["tokenizer/tokenizer.json"], "preprocessor_config": {}}
    files = {f"{prefix}{name}.json": json.dumps(each).encode() for name, each in said.items()}
    return files | {f"{prefix}model.safetensors": file_of(weights)}


def one_file(*names: str) -> bytes:
    """A base in one file, as far as the names of its tensors tell, with these besides."""
    return file_of("model.diffusion_model.a", "first_stage_model.a", "cond_stage_model.a", *names)


def table(**columns: list[Any]) -> bytes:
    """A parquet file."""
    import pyarrow
    from pyarrow import parquet

    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), buffer)
    return buffer.getvalue()


def save_decoder(folder: Path, channels: int = 4) -> Path:
    """Write a random AutoencoderTiny that decodes latents of the tiny base, or of so many
    channels."""
    import torch
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    AutoencoderTiny(
        encoder_block_out_channels=(4, 4, 4), decoder_block_out_channels=(4, 4, 4),
        num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1), latent_channels=channels,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def save_guide(folder: Path, size: int | tuple[int, int] = 16, seed: int = 1) -> Path:
    """Write a random open_clip model as a `local-dir:` folder with a working tokenizer.

    `size` is the guide's input size in pixels; other than SIZE, pictures must be resized for it.
    """
    import torch

    torch.manual_seed(seed)
    tokens = tokenizer()
    model = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": size, "patch_size": 4, "layers": 1, "width": 16,
                       "head_width": 8},
        "text_cfg": {"context_length": LENGTH, "vocab_size": len(tokens), "width": 16, "heads": 2,
                     "layers": 1, "hf_tokenizer_name": "local"},
    }  # fmt: skip
    preprocess = {"mean": [0.5, 0.4, 0.6], "std": [0.25, 0.2, 0.3], "interpolation": "bicubic"}
    return write_guide(folder, guide_of(model), model, preprocess, tokens)


def guide_of(config: dict[str, Any]) -> Any:
    """open_clip's CLIP of a `model_cfg`, with random weights."""
    from open_clip.model import CLIP

    text = {k: v for k, v in config["text_cfg"].items() if k != "hf_tokenizer_name"}
    return CLIP(config["embed_dim"], config["vision_cfg"], text)


def write_guide(
    folder: Path, clip: Any, model: dict[str, Any], preprocess: dict[str, Any], tokens: Any = None
) -> Path:
    """Write an open_clip model of any size; without `tokens` its tokenizer is open_clip's own."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": model, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2))
    weights = {name: tensor.contiguous() for name, tensor in clip.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    if tokens is not None:
        tokens.save_pretrained(folder)
    return folder


def save_judge(folder: Path, seed: int = 3) -> Path:
    """Write a random Hugging Face CLIP that looks at 16 x 16 pixels."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(seed)
    tokens = tokenizer()
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
             "num_attention_heads": 2}  # fmt: skip
    text = {**small, "vocab_size": len(tokens), "max_position_embeddings": LENGTH,
            "eos_token_id": tokens.eos_token_id}  # fmt: skip
    vision = {**small, "image_size": 16, "patch_size": 4}
    return write_judge(
        folder, CLIPModel(CLIPConfig(text_config=text, vision_config=vision)), tokens
    )


def write_judge(folder: Path, clip: Any, tokens: Any) -> Path:
    """Write a Hugging Face CLIP of any size with what prepares pictures and prompts for it."""
    from transformers import CLIPImageProcessor, CLIPProcessor

    side = clip.config.vision_config.image_size
    size = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    clip.save_pretrained(folder)
    CLIPProcessor(CLIPImageProcessor(**size), tokens).save_pretrained(folder)
    return folder


def save_pictures(folder: Path, count: int = 24) -> Path:
    """Write `count` captioned pictures as an image folder; some have two captions, some one."""
    from PIL import Image, ImageDraw

    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(count):
        colour, shape = list(COLOURS)[i % 3], SHAPES[i // 3 % 2]
        picture = Image.new("RGB", (SIZE, SIZE), "white")
        x, y = 4 + i % 7, 4 + i % 5
        draw = getattr(ImageDraw.Draw(picture), "ellipse" if shape == "circle" else "rectangle")
        draw((x, y, x + 16, y + 16), fill=COLOURS[colour])
        picture.save(folder / f"{i:03d}.png")
        text = [f"a {colour} {shape}", f"a picture of the {colour} {shape} on white"]
        rows.append({"file_name": f"{i:03d}.png", "text": text if i % 2 else text[0]})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_text(lines, encoding="utf-8")
    return folder


def build(folder: Path, prediction: str = "epsilon") -> dict[str, Path]:
    """Write {"base", "guide", "data"} below `folder` and return their paths.

    prediction: what the base predicts, `epsilon` or `v_prediction`; or `xl`, that is SDXL, `flow`,
    that is Stable Diffusion 3, `flux`, or one of `tests.flows`.
    """
    from tests import flows

    others = {"xl": save_sdxl, "flow": save_sd3, "flux": save_flux, **flows.SAVE}
    save = others.get(prediction)
    return {
        "base": save(folder / "base") if save else save_base(folder / "base", prediction),
        "guide": save_guide(folder / "guide"),
        "data": save_pictures(folder / "data"),
    }


def world(prediction: str = "epsilon") -> dict[str, Path]:
    """What `build` writes, and the data set as "cache" and "embeddings"; made once a test run."""
    return _world(prediction)


@functools.cache
def _world(prediction: str) -> dict[str, Path]:
    from vlg.data.embedded import encode_guide
    from vlg.data.encoded import encode
    from vlg.models.guide import load_guide

    folder = Path(tempfile.mkdtemp(prefix="vlg-tiny-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    paths = build(folder, prediction)
    guide = load_guide(paths["guide"])
    encode(paths["data"], paths["base"], folder / "cache", {}, "cpu", 8)
    encode_guide(paths["data"], guide, folder / "embeddings", "cpu", 8)
    return {**paths, "cache": folder / "cache", "embeddings": folder / "embeddings"}


SETTINGS = {
    "batch_size": 4, "learning_rate": 1e-3, "warmup_steps": 3, "weight_decay": 0.01,
    "max_grad_norm": 1.0, "ema_decay": 0.9, "caption_dropout": 0.2, "seed": 5, "start": 0,
    "evaluate_every": 3,
}  # fmt: skip
# Of methods that draw own samples, and of those that do in rounds.
DRAWN = {"sampling": {"steps": 4, "guidance_scale": 2.0, "scheduler": "dpm++"}}
ROUNDS = {"round_captions": 3, "round_samples": 2, "round_steps": 2}


@functools.cache
def pairs(prediction: str = "epsilon") -> Path:
    """What the rule `pairs` writes of the tiny world, drawn as `DRAWN` says; once a test run."""
    from vlg.config import sections
    from vlg.train.pairs import draw

    paths = world(prediction)
    given = {name: paths[name] for name in ("base", "cache", "guide", "embeddings")}
    out = paths["cache"].parent / "pairs"
    if not out.is_dir():  # another process of this test run may have drawn them
        draw(
            given,
            sections.Pairs(pair_captions=5, pair_samples=3, **DRAWN["sampling"]),
            out,
            "code",
            "cpu",
            4,
        )
    return out


OF_METHODS = {
    "normal": {},
    "embed": {"guide_scale": 0.3, "window": [0, 700]},
    **dict.fromkeys(("refl", "draft", "imagerefl", "dpo"), DRAWN),
    **dict.fromkeys(("raft", "nft", "ddpo"), DRAWN | ROUNDS),
}


def values(method: str = "embed", **own) -> dict:
    """Settings of a method for the tiny world, `own` over them."""
    return {**SETTINGS, **OF_METHODS.get(method, {}), **own}


def begin(method: str = "embed", prediction: str = "epsilon", **own):
    """A run of the tiny world before its first step (`vlg.train.loop.Run`)."""
    from vlg.train import loop
    from vlg.train.method import settings_of

    settings = settings_of(method, values(method, **{"step": 9, **own}))
    folders = (
        {**world(prediction), "pairs": pairs(prediction)} if method == "dpo" else world(prediction)
    )
    return loop.begin(method, settings, loop.needed(method, settings, folders))


def finetune(out: Path, name: str = "embed", step: int = 2, start: int = 0, **options) -> Path:
    """Run `vlg.train.loop.finetune` on the tiny world; returns the model folder.

    The method is the variant's name unless one is given. Options of that function go to it, folders
    (None: not given) to its folders, all others are settings.
    """
    from vlg.train.loop import finetune

    prediction = options.pop("prediction", "epsilon")
    paths = world(prediction)
    method = options.pop("method", name)
    names = ("base", "guide", "embeddings", "cache", "data", "decoder", "pairs", "stop_judge")
    chosen = {each: paths.get(each) for each in ("base", "guide", "embeddings", "cache")}
    chosen |= {"pairs": pairs(prediction)} if method == "dpo" else {}
    chosen |= {each: options.pop(each) for each in names if each in options}
    of_function = (
        "previous",
        "device",
        "save_every",
        "save_minutes",
        "stop",
        "draw_samples",
        "development",
    )
    arguments = {
        "method": method,
        "folders": {each: folder for each, folder in chosen.items() if folder},
        "previous": out / "training" / f"{name}-{start}" if start else None,
        "out_model": out / "models" / f"{name}-{step}",
        "out_training": out / "training" / f"{name}-{step}",
        **{each: options.pop(each) for each in of_function if each in options},
        "values": values(method, start=start, step=step, **options),
    }
    finetune(**arguments)
    return arguments["out_model"]

"""A checkpoint in one file becomes the diffusers folder that it was made from."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from vlg.errors import UserError
from vlg.models import folders

PARTS = ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model")
PARTS = tuple(f"{name}.safetensors" for name in PARTS)
SAMPLE = Path(__file__).parent / "data/parti_sample.tsv"


def renamed(name, rules):
    for old, new in rules:
        name = re.sub(old, new, name)
    return name


def one_vae(base):
    """The tensors of a diffusers folder's VAE as a checkpoint in the original format has them."""
    last = len(json.loads((base / "vae/config.json").read_text())["block_out_channels"]) - 1
    vae_rules = [
        (r"down_blocks\.(\d)\.resnets\.", r"down.\1.block."),
        (r"down_blocks\.(\d)\.downsamplers\.0\.", r"down.\1.downsample."),
        (r"up_blocks\.(\d)\.resnets\.", lambda found: f"up.{last - int(found[1])}.block."),
        (r"up_blocks\.(\d)\.upsamplers\.0\.", lambda found: f"up.{last - int(found[1])}.upsample."),
        (r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}"),
        (r"conv_shortcut", "nin_shortcut"),
        (r"conv_norm_out", "norm_out"),
        (r"mid_block\.attentions\.0\.", "mid.attn_1."),
        (r"(attn_1)\.group_norm", r"\1.norm"),
        (r"(attn_1)\.to_([qkv])\.", r"\1.\2."),
        (r"(attn_1)\.to_out\.0\.", r"\1.proj_out."),
    ]
    tensors = {}
    for name, tensor in load_file(base / "vae/diffusion_pytorch_model.safetensors").items():
        name = renamed(name, vae_rules)
        if "attn_1" in name and tensor.ndim == 2:
            tensor = tensor[:, :, None, None].clone()  # there it is a convolution
        tensors["first_stage_model." + name] = tensor
    return tensors


def as_one_file(base, path):
    """Write a diffusers folder of the tiny models as a checkpoint in the original format.

    Names are those of the CompVis code: blocks are counted through, and the VAE's upward ones from
    the other end.
    """
    unet = json.loads((base / "unet/config.json").read_text())
    per = unet["layers_per_block"] + 1

    def down(found):
        block, kind, layer = int(found[1]), found[2], int(found[3])
        if kind == "downsamplers":
            return f"input_blocks.{block * per + per}.0.op"
        return f"input_blocks.{1 + block * per + layer}.{int(kind == 'attentions')}"

    def up(found):
        block, kind, layer = int(found[1]), found[2], int(found[3])
        attends = unet["up_block_types"][block].startswith("CrossAttn")
        if kind == "upsamplers":
            return f"output_blocks.{block * per + per - 1}.{1 + attends}.conv"
        return f"output_blocks.{block * per + layer}.{int(kind == 'attentions')}"

    part = r"_blocks\.(\d+)\.(resnets|attentions|{})\.(\d+)(?:\.conv(?=\.))?"
    unet_rules = [
        (r"^down" + part.format("downsamplers"), down),
        (r"^up" + part.format("upsamplers"), up),
        (r"^mid_block\.attentions\.0", "middle_block.1"),
        (r"^mid_block\.resnets\.(\d)", lambda found: f"middle_block.{2 * int(found[1])}"),
        (r"^time_embedding\.linear_(\d)", lambda f: f"time_embed.{2 * int(f[1]) - 2}"),
        (r"^conv_in\.", "input_blocks.0.0."),
        (r"^conv_norm_out\.", "out.0."),
        (r"^conv_out\.", "out.2."),
        (r"\.conv1\.", ".in_layers.2."),
        (r"\.time_emb_proj\.", ".emb_layers.1."),
        (r"\.conv2\.", ".out_layers.3."),
        (r"\.conv_shortcut\.", ".skip_connection."),
    ]
    tensors = {}
    for name, tensor in load_file(base / "unet/diffusion_pytorch_model.safetensors").items():
        # The blocks of a transformer have norms of the same names, which they keep.
        norms = [(r"\.norm1\.", ".in_layers.0."), (r"\.norm2\.", ".out_layers.0.")]
        rules = unet_rules + norms * ("resnets" in name)
        tensors["model.diffusion_model." + renamed(name, rules)] = tensor
    tensors |= one_vae(base)
    for name, tensor in load_file(base / "text_encoder/model.safetensors").items():
        text = name if name.startswith("text_model.") else f"text_model.{name}"
        tensors["cond_stage_model.transformer." + text] = tensor
    save_file(tensors, path)
    return path


def thinned(folder, part, **changes):
    """The configuration of a part, with changes that are written."""
    path = folder / part / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return json.loads(path.read_text())


def save_thin_vae(folder):
    from diffusers import AutoencoderKL

    vae = thinned(folder, "vae", norm_num_groups=4, block_out_channels=[8, 16, 32, 32])
    AutoencoderKL.from_config(vae).save_pretrained(folder / "vae")


def save_thin_clips(folder):
    """{part: model} of both text encoders."""
    import transformers

    small, made = {"intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}, {}
    for part, width in (("text_encoder", 24), ("text_encoder_2", 32)):
        told = thinned(folder, part, hidden_size=width, projection_dim=width, **small)
        kind = getattr(transformers, told["architectures"][0])
        made[part] = kind(transformers.CLIPTextConfig.from_dict(told))
        made[part].save_pretrained(folder / part)
    return made


def save_thin(folder):
    """Stable Diffusion 1.5 with all its blocks and a sixteenth of its channels, as shipped."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    shutil.copytree(folders.RESOURCES / "sd15", folder)

    small = {"norm_num_groups": 4, "block_out_channels": [16, 32, 64, 64]}
    unet = thinned(folder, "unet", cross_attention_dim=24, attention_head_dim=2, **small)
    UNet2DConditionModel.from_config(unet).save_pretrained(folder / "unet")
    save_thin_vae(folder)
    text = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2}
    text = thinned(folder, "text_encoder", num_attention_heads=2, vocab_size=49408, **text)
    CLIPTextModel(CLIPTextConfig.from_dict(text)).save_pretrained(folder / "text_encoder")
    return folder


def test_a_checkpoint_in_one_file_becomes_the_same_model(tmp_path):
    base = save_thin(tmp_path / "base")
    file = as_one_file(base, tmp_path / "model.safetensors")
    folders.unfold(file, tmp_path / "out", shape=base)
    for name in PARTS:
        given, made = load_file(base / name), load_file(tmp_path / "out" / name)
        assert set(given) == set(made)
        assert all(torch.equal(given[key], made[key]) for key in given), name
    folders.take(tmp_path / "out", "base", tmp_path / "taken")
    tokens = CLIPTokenizer.from_pretrained(tmp_path / "taken/tokenizer")
    assert tokens("a cat", padding="max_length").input_ids[:5] == [49406, 320, 2368, 49407, 49407]
    with pytest.raises(UserError, match="is no Stable Diffusion 1.x checkpoint .*; give a"):
        folders.unfold(file, tmp_path / "large")
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        folders.unfold(file, tmp_path / "cut", shape=base)


def test_the_tokenizer_is_open_clips():
    import open_clip

    texts = [
        "bond",
        "U.S. 101",
        "Salvador Dalí",
        '"G I G G L E" painted',
        "中文 é",
    ]
    ours = folders.clip_tokenizer()(texts, padding="max_length", truncation=True).input_ids
    theirs = open_clip.get_tokenizer("ViT-B-32")(texts).tolist()
    long = next(text for text in SAMPLE.read_text("utf-8").split("\t") if "Oil-on-canvas" in text)
    assert len(folders.clip_tokenizer()(long.rpartition("\n")[2]).input_ids) == 84
    cut = [[i for i in ids if i not in (0, 49407)] for ids in theirs]
    assert [[i for i in ids if i != 49407] for ids in ours] == cut


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ("sd15", {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}),
        ("sdxl", {"unet": 2_567_463_684, "vae": 83_653_863, "text_encoder": 123_060_480,
                  "text_encoder_2": 694_659_840}),
        ("sd3", {"transformer": 2_243_171_520, "vae": 83_819_683, "text_encoder": 123_650_304,
                 "text_encoder_2": 694_659_840}),
    ],
)  # fmt: skip
def test_the_shapes_that_are_shipped_are_the_published_models(shape, wanted):
    import diffusers
    import transformers
    from accelerate import init_empty_weights

    found, root = {}, folders.RESOURCES / shape
    with init_empty_weights():
        for part in wanted:
            if part.startswith("text"):
                config = transformers.CLIPTextConfig.from_pretrained(root / part)
                model = getattr(transformers, config.architectures[0])(config)
            else:
                told = json.loads((root / part / "config.json").read_text())
                kind = getattr(diffusers, told["_class_name"])
                model = kind.from_config(kind.load_config(root / part))
            found[part] = sum(each.numel() for each in model.parameters())
    assert found == wanted


def save_thin_xl(folder):
    """Stable Diffusion XL with all its blocks and a sixteenth of its channels, as shipped."""
    from diffusers import UNet2DConditionModel

    shutil.copytree(folders.RESOURCES / "sdxl", folder)

    unet = thinned(
        *(folder, "unet"),
        cross_attention_dim=56,
        attention_head_dim=[2, 4, 4],
        norm_num_groups=4,
        block_out_channels=[16, 32, 64],
        addition_time_embed_dim=8,
        transformer_layers_per_block=[1, 2, 3],
        projection_class_embeddings_input_dim=48 + 32,
    )
    UNet2DConditionModel.from_config(unet).save_pretrained(folder / "unet")
    save_thin_vae(folder)
    save_thin_clips(folder)
    return folder


def as_one_xl_file(base, path):
    """As `as_one_file`, with both text encoders and the embedding of sizes as that of XL has them:
    the second text encoder as open_clip names it."""
    tensors = load_file(as_one_file(base, path))
    for name in list(tensors):
        if name.startswith("cond_stage_model."):
            new = name.replace("cond_stage_model.", "conditioner.embedders.0.")
            tensors[new] = tensors.pop(name)
        elif ".add_embedding.linear_" in name:
            number = 2 * int(name.split("linear_")[1][0]) - 2
            end = name.rpartition(".")[2]
            new = f"model.diffusion_model.label_emb.0.{number}.{end}"
            tensors[new] = tensors.pop(name)
    rules = [
        (r"^text_model\.", ""),
        (r"encoder\.layers\.", "transformer.resblocks."),
        (r"embeddings\.token_embedding", "token_embedding"),
        (r"final_layer_norm", "ln_final"),
        (r"layer_norm(\d)", r"ln_\1"),
        (r"mlp\.fc1", "mlp.c_fc"),
        (r"mlp\.fc2", "mlp.c_proj"),
        (r"self_attn\.out_proj", "attn.out_proj"),
    ]
    start, joined = "conditioner.embedders.1.model.", {}
    for name, tensor in load_file(base / "text_encoder_2/model.safetensors").items():
        if found := re.search(r"layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", name):
            key = f"transformer.resblocks.{found[1]}.attn.in_proj_{found[3]}"
            joined.setdefault(key, {})[found[2]] = tensor
        elif "position_embedding" in name:
            tensors[f"{start}positional_embedding"] = tensor
        elif name == "text_projection.weight":
            tensors[f"{start}text_projection"] = tensor.T.contiguous()
        else:
            tensors[start + renamed(name, rules)] = tensor
    for key, three in joined.items():
        tensors[start + key] = torch.cat([three[letter] for letter in "qkv"])
    save_file(tensors, path)
    return path


def test_a_checkpoint_of_xl_in_one_file_becomes_the_same_model(tmp_path):
    base = save_thin_xl(tmp_path / "base")
    file = as_one_xl_file(base, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="this is Stable Diffusion XL; give it with models.family"):
        folders.unfold(file, tmp_path / "other")
    folders.unfold(file, tmp_path / "out", "sdxl", shape=base)
    for name in (*PARTS, "text_encoder_2/model.safetensors"):
        given, made = load_file(base / name), load_file(tmp_path / "out" / name)
        assert set(given) == set(made)
        assert all(torch.equal(given[key], made[key]) for key in given), name
    folders.take(tmp_path / "out", "base", tmp_path / "taken", "sdxl")
    for name, pad in (("tokenizer", 49407), ("tokenizer_2", 0)):
        tokens = CLIPTokenizer.from_pretrained(tmp_path / "taken" / name)
        ids = tokens("a cat", padding="max_length").input_ids
        assert ids[:5] == [49406, 320, 2368, 49407, pad]
    tensors = load_file(file)
    save_file({k: v for k, v in tensors.items() if ".embedders.0." not in k}, file)
    with pytest.raises(UserError, match="has no text encoder .*; give a whole Stable Diffusion XL"):
        folders.unfold(file, tmp_path / "refiner", "sdxl", shape=base)


def save_thin_sd3(folder, qk_norm="rms_norm", dual=(0,)):
    """Stable Diffusion 3.5 as shipped with few blocks and channels; 3 with neither norm nor dual
    attention."""
    from diffusers import SD3Transformer2DModel

    shutil.copytree(folders.RESOURCES / "sd3", folder)

    net = thinned(folder, "transformer", num_layers=3, num_attention_heads=2, qk_norm=qk_norm,
                 attention_head_dim=8 if qk_norm else 64, dual_attention_layers=list(dual),
                 caption_projection_dim=16 if qk_norm else 128, joint_attention_dim=60,
                 pooled_projection_dim=56, pos_embed_max_size=70)  # fmt: skip
    SD3Transformer2DModel.from_config(net).save_pretrained(folder / "transformer")
    save_thin_vae(folder)
    one = save_thin_clips(folder)["text_encoder"]  # the published one is not projected
    one.text_projection.weight.data = torch.eye(len(one.text_projection.weight))
    one.save_pretrained(folder / "text_encoder")
    return folder


SD3_BLOCK = [
    (r"\.attn(2?)\.norm_added_([qk])\.", r".context_block.attn\1.ln_\2."),
    (r"\.attn(2?)\.norm_([qk])\.", r".x_block.attn\1.ln_\2."),
    (r"\.attn\.to_add_out\.", ".context_block.attn.proj."),
    (r"\.attn(2?)\.to_out\.0\.", r".x_block.attn\1.proj."),
    (r"\.norm1_context\.linear\.", ".context_block.adaLN_modulation.1."),
    (r"\.norm1\.linear\.", ".x_block.adaLN_modulation.1."),
    (r"\.ff_context\.net\.0\.proj\.", ".context_block.mlp.fc1."),
    (r"\.ff_context\.net\.2\.", ".context_block.mlp.fc2."),
    (r"\.ff\.net\.0\.proj\.", ".x_block.mlp.fc1."),
    (r"\.ff\.net\.2\.", ".x_block.mlp.fc2."),
    (r"^transformer_blocks\.", "joint_blocks."),
    (r"^pos_embed\.proj\.", "x_embedder.proj."),
    (r"^pos_embed\.pos_embed$", "pos_embed"),
    (r"^time_text_embed\.timestep_embedder\.linear_1\.", "t_embedder.mlp.0."),
    (r"^time_text_embed\.timestep_embedder\.linear_2\.", "t_embedder.mlp.2."),
    (r"^time_text_embed\.text_embedder\.linear_1\.", "y_embedder.mlp.0."),
    (r"^time_text_embed\.text_embedder\.linear_2\.", "y_embedder.mlp.2."),
    (r"^proj_out\.", "final_layer.linear."),
    (r"^norm_out\.linear\.", "final_layer.adaLN_modulation.1."),
]
SD3_THREE = {"to_q": "x_block q", "to_k": "x_block k", "to_v": "x_block v",
             "add_q_proj": "context_block q", "add_k_proj": "context_block k",
             "add_v_proj": "context_block v"}  # fmt: skip


def as_one_sd3_file(base, path, texts=True):
    """A base as Stability publishes it: the names of its own code, q, k and v in one matrix, what
    modulates the last layers as shift before scale; the CLIPs as transformers has them."""
    tensors, joined = {}, {}
    parts = load_file(base / "transformer/diffusion_pytorch_model.safetensors")
    last = max(int(name.split(".")[1]) for name in parts if name.startswith("transformer_blocks"))
    for name, tensor in parts.items():
        found = re.match(
            r"transformer_blocks\.(\d+)\.(attn2?)\.(to_[qkv]|add_[qkv]_proj)\.(.+)", name
        )
        if found:
            block, letter = SD3_THREE[found[3]].split()
            key = f"joint_blocks.{found[1]}.{block}.{found[2]}.qkv.{found[4]}"
            joined.setdefault(key, {})[letter] = tensor
            continue
        if name.startswith((f"transformer_blocks.{last}.norm1_context", "norm_out")):
            tensor = torch.cat(tensor.chunk(2)[::-1])
        tensors["model.diffusion_model." + renamed(name, SD3_BLOCK)] = tensor
    for key, three in joined.items():
        tensors[f"model.diffusion_model.{key}"] = torch.cat([three[letter] for letter in "qkv"])
    tensors |= one_vae(base)
    for part, name in (("text_encoder", "clip_l"), ("text_encoder_2", "clip_g")) * texts:
        for key, tensor in load_file(base / part / "model.safetensors").items():
            if name == "clip_g" or key != "text_projection.weight":
                tensors[f"text_encoders.{name}.transformer.{key}"] = tensor
    tensors["text_encoders.t5xxl.transformer.shared.weight"] = torch.zeros(4, 2)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


SD3_PARTS = ("transformer/diffusion_pytorch_model", "vae/diffusion_pytorch_model",
             "text_encoder/model", "text_encoder_2/model")  # fmt: skip


@pytest.mark.parametrize("kind", ["3", "3.5"])
def test_a_checkpoint_of_3_in_one_file_becomes_the_same_model(tmp_path, kind):
    """Whatever its size, which its weights say; T5, whose vocabulary is in no file, is left out."""
    told = {"qk_norm": None, "dual": ()} if kind == "3" else {}
    base = save_thin_sd3(tmp_path / "base", **told)
    file = as_one_sd3_file(base, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="this is Stable Diffusion 3; give it with models.family"):
        folders.unfold(file, tmp_path / "other")
    shape = shutil.copytree(
        base, tmp_path / "shape", ignore=shutil.ignore_patterns("*.safetensors")
    )
    shutil.copy(folders.RESOURCES / "sd3/transformer/config.json", shape / "transformer")
    folders.unfold(file, tmp_path / "out", "sd3", shape=shape)
    for name in SD3_PARTS:
        given, made = (load_file(f / f"{name}.safetensors") for f in (base, tmp_path / "out"))
        assert set(given) == set(made)
        assert all(torch.equal(given[key], made[key]) for key in given), name
    folders.take(tmp_path / "out", "base", tmp_path / "taken", "sd3")
    from vlg.models.family import open_family

    family = open_family(tmp_path / "taken")
    ids = [tokenizer("a cat").input_ids for tokenizer, _ in family.text]
    assert ids == [[49406, 320, 2368, 49407]] * 2 and family.resolution == 1024
    z, t = torch.randn(1, 16, 8, 8), torch.tensor([500])
    assert family.predict(family.net, z, t, family.condition(["a cat"])).isfinite().all()
    small = as_one_sd3_file(base, tmp_path / "small.safetensors", texts=False)
    with pytest.raises(UserError, match=r"has no text encoder .*includes both CLIPs, or the diff"):
        folders.unfold(small, tmp_path / "small", "sd3", shape=base)
    tensors = load_file(file)
    del tensors["text_encoders.clip_g.transformer.text_model.final_layer_norm.bias"]
    save_file(tensors, file)
    with pytest.raises(UserError, match="1 weights are not there, as text_encoder_2.*; give a"):
        folders.unfold(file, tmp_path / "lacking", "sd3", shape=base)

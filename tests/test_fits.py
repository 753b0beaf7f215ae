"""A LoRA whose layers are of another width than its base's is told from headers."""

import json
import re
import types

import pytest
import torch
from diffusers.loaders import lora_conversion_utils
from safetensors import safe_open
from safetensors.torch import save_file

from tests import tiny
from vlg.errors import UserError
from vlg.models import fits, kohya

TABLES = re.compile(r"(token|position)_embedding")
SAVES = {"sd": tiny.save_base, "sdxl": tiny.save_sdxl, "sd3": tiny.save_sd3}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    return {name: save(tmp_path_factory.mktemp(name)) for name, save in SAVES.items()}


def modules(base):
    """{part: {module: shape of its weights}} of what a LoRA can change."""
    result = {}
    for part in ("unet", "transformer", "text_encoder", "text_encoder_2"):
        for file in (base / part).glob("*.safetensors"):
            with safe_open(file, "pt") as weights:
                shapes = {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118
            result[part] = {
                name.removesuffix(".weight"): shape
                for name, shape in shapes.items()
                if name.endswith(".weight") and len(shape) > 1 and not TABLES.search(name)
            }
    return result


def first_names(base):
    """{module of a UNet: its name in the first code}, as diffusers reads it of a LoRA."""
    own = fits._widths(base, "unet")
    said = json.loads((base / "unet/config.json").read_text())
    blocks = types.SimpleNamespace(layers_per_block=said["layers_per_block"])
    starts = ("input_blocks", "middle_block", "output_blocks", "time_embed_", "label_emb", "out_2")
    result = {}
    for name in own:
        if name.startswith(starts):
            key = {f"lora_unet_{name}.lora_down.weight": 0}
            (made,) = lora_conversion_utils._maybe_map_sgm_blocks_to_diffusers(key, blocks)
            made = lora_conversion_utils._convert_unet_lora_key(made).partition(".down.")[0]
            made = made.replace(".processor", "").removesuffix(".lora").removesuffix("_lora")
            result[f"{made}.0" if made.endswith("to_out") else made] = name
    return result


KOHYA = {"unet": "lora_unet", "transformer": "lora_transformer"}
KOHYA |= {"text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}
LAYOUTS = {
    "diffusers": lambda part, name: [f"{part}.{name}.lora_{half}.weight" for half in "AB"],
    "older": lambda part, name: [
        f"{part}.{name}.lora_linear_layer.{half}.weight" for half in ("down", "up")
    ],
    "kohya": lambda part, name: [
        f"{KOHYA[part]}_{name.replace('.', '_')}.lora_{half}.weight" for half in ("down", "up")
    ],
}


def pair(shape):
    """The two matrices of a layer of such weights."""
    return torch.zeros(2, *shape[1:]), torch.zeros(shape[0], 2, *[1] * (len(shape) - 2))


def refused(base, path, tensors, name, wide):
    """What is said where one tensor has twice its width in a dimension."""
    save_file(tensors | {name: torch.cat([tensors[name]] * 2, wide)}, path)
    with pytest.raises(UserError) as raised:
        fits.check(path, base)
    said, width = str(raised.value), tensors[name].shape[wide]
    assert f" {2 * width} channels, and that layer of this base {width}; give" in said
    assert str(path) in said and "\n" not in said
    return said


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", SAVES)
def test_every_layer_is_held_against_its_base(bases, tmp_path, family, layout):
    path, base, tensors = tmp_path / "one.safetensors", bases[family], {}
    for part, own in modules(base).items():
        for name, shape in own.items():
            tensors |= dict(zip(LAYOUTS[layout](part, name), pair(shape), strict=True))
    save_file(tensors, path)
    fits.check(path, base)
    names = [*tensors]
    for place in range(0, len(names), max(2, len(names) // 20 * 2)):
        assert " takes " in refused(base, path, tensors, names[place], 1)
        assert " gives " in refused(base, path, tensors, names[place + 1], 0)


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_names_of_the_first_code_are_those_that_diffusers_reads(bases, family):
    own, known = modules(bases[family])["unet"], first_names(bases[family])
    # Of an upsampler without attention before it diffusers takes it for attention.
    lacking = {name for name in own if name not in known and "upsamplers" not in name}
    assert not lacking, lacking
    widths = fits._widths(bases[family], "unet")
    for name in {*own} & {*known}:
        assert widths[known[name]] == (own[name][1], own[name][0])


def test_layers_that_are_three_are_held_against_all(bases, tmp_path):
    path, own = tmp_path / "one.safetensors", modules(bases["sd3"])["transformer"]
    tensors = {}
    count = 1 + max(int(n.split(".")[1]) for n in own if n.startswith("transformer_blocks."))
    for name, others in kohya.layers(count).items():
        if all(other in own for other in others):
            key = f"lora_unet_{name.replace('.', '_')}"
            shape = [sum(own[other][0] for other in others), *own[others[0]][1:]]
            down, up = pair(shape)
            tensors |= {f"{key}{kohya.DOWN}": down, f"{key}{kohya.UP}": up}
    name = "lora_unet_joint_blocks_0_x_block_attn_qkv"
    save_file(tensors, path)
    fits.check(path, bases["sd3"])
    assert name in refused(bases["sd3"], path, tensors, f"{name}{kohya.UP}", 0)


def test_old_names_of_attention_are_known(bases, tmp_path):
    name = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora"
    tensors = {f"{name}.down.weight": torch.zeros(2, 8), f"{name}.up.weight": torch.zeros(8, 2)}
    refused(bases["sd"], tmp_path / "one.safetensors", tensors, f"{name}.up.weight", 0)


def test_what_the_base_has_not_is_left_to_merging(bases, tmp_path):
    save_file({"unet.nowhere.lora_A.weight": torch.zeros(2, 4)}, tmp_path / "x.safetensors")
    fits.check(tmp_path / "x.safetensors", bases["sd"])
    fits.check(tmp_path / "x.safetensors", tmp_path)

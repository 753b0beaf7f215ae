"""Finished models beside the base: LoRAs of both layouts, and what is refused."""

import json
import subprocess
import sys
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import tiny
from tests.pipeline import ROOT, command
from vlg.errors import UserError
from vlg.models import lora

RANK = 2
ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.save_base(tmp_path_factory.mktemp("base"))


def layers(base):
    """{module of the UNet: (A, B)} of a LoRA of its attention."""
    weights = load_file(base / "unet/diffusion_pytorch_model.safetensors")
    generator = torch.Generator().manual_seed(0)
    names = [
        n.removesuffix(".weight") for n in weights if n.endswith(("to_q.weight", "to_v.weight"))
    ]
    return {
        name: tuple(
            torch.randn(shape, generator=generator)
            for shape in ((RANK, weights[f"{name}.weight"].shape[1]),
                          (weights[f"{name}.weight"].shape[0], RANK))
        )
        for name in names
    }  # fmt: skip


def diffusers_layout(own):
    tensors = {}
    for name, (down, up) in own.items():
        tensors |= {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}
    return tensors


def kohya_layout(own, alpha=1.0):
    tensors = {}
    for name, (down, up) in own.items():
        key = f"lora_unet_{name.replace('.', '_')}"
        tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
        tensors[f"{key}.alpha"] = torch.tensor(alpha)
    return tensors


def saved(path, tensors):
    save_file({name: each.contiguous() for name, each in tensors.items()}, path)
    return path


def change(before, after):
    """{module of the UNet: difference of its weights}, of those that differ."""
    old, new = (
        load_file(each / "unet/diffusion_pytorch_model.safetensors") for each in (before, after)
    )
    assert old.keys() == new.keys()
    found = {name: new[name] - old[name] for name in old if not torch.equal(new[name], old[name])}
    return {name.removesuffix(".weight"): each for name, each in found.items()}


@pytest.mark.parametrize(
    ("layout", "factor"),
    [(diffusers_layout, 1.0), (kohya_layout, 1.0 / RANK)],
    ids=["diffusers", "kohya"],
)
def test_a_lora_is_merged_by_its_scale(tmp_path, base, layout, factor):
    own = layers(base)
    file = saved(tmp_path / "one.safetensors", layout(own))
    lora.merge(base, [file], [0.5], tmp_path / "out")
    found = change(base, tmp_path / "out")
    assert found.keys() == own.keys()
    for name, (down, up) in own.items():
        assert torch.allclose(found[name], 0.5 * factor * up @ down, atol=1e-5)


def test_several_loras_add_up(tmp_path, base):
    own = layers(base)
    file = saved(tmp_path / "one.safetensors", diffusers_layout(own))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # a second one is nothing to warn of
        lora.merge(base, [file, file], [1.0, -0.25], tmp_path / "out")
    for name, difference in change(base, tmp_path / "out").items():
        down, up = own[name]
        assert torch.allclose(difference, 0.75 * up @ down, atol=1e-5)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"lora_te2_x.lora_down.weight": torch.zeros(2, 4)}, "another family (lora_te2_"),
        ({"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": torch.zeros(2, 4)},
         "another family (lora_unet_double_"),
        ({"lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight": torch.zeros(2, 4)},
         "another family (lora_unet_joint_"),
        ({f"unet.{ATTENTION}.to_k.lora_A.weight": torch.zeros(2, 2048)},
         "takes 2048 channels, and that layer of this base"),
        ({"unet.conv_in.weight": torch.zeros(2, 4)}, "give a LoRA"),
        ({"lora_unet_x.hada_w1_a": torch.zeros(2, 4)}, "LyCORIS"),
    ],
    ids=range(6),
)  # fmt: skip
def test_what_is_no_lora_of_this_base_is_told_from_its_header(tmp_path, base, tensors, said):
    file = saved(tmp_path / "x.safetensors", tensors)
    with pytest.raises(UserError) as raised:
        lora.check(file, base)
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_layers_that_fit_nowhere_are_refused(tmp_path, base):
    own = layers(base)
    strange = {name.replace("down_blocks.0", "down_blocks.9"): each for name, each in own.items()}
    file = saved(tmp_path / "x.safetensors", diffusers_layout(strange))
    with pytest.raises(UserError, match="made for this base") as raised:
        lora.merge(base, [file], [1.0], tmp_path / "out")
    assert str(base) not in str(raised.value)  # of a job it is a folder that is gone by then


def test_other_files_are_refused(tmp_path, base):
    (tmp_path / "x.pt").write_bytes(b"PK")
    (tmp_path / "x.safetensors").write_bytes(b"no weights at all")
    for name, said in [("gone.safetensors", "no such file"), ("x.pt", "pickled"),
                       ("x.safetensors", "not a whole safetensors file")]:  # fmt: skip
        with pytest.raises(UserError, match=said):
            lora.check(tmp_path / name, base)


def step(tmp_path, base, tensors):
    """What the step does with a LoRA over this base."""
    file = saved(tmp_path / "one.safetensors", tensors)
    words = command("compared", {"name": "mine", "source": "base", "scales": [1.0]}, source=base,
                    lora=file, base=base, out=tmp_path / "out")  # fmt: skip
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True)


def test_layers_of_another_width_are_one_line(tmp_path, base, monkeypatch):
    wide = {name: (down, up.repeat(2, 1)) for name, (down, up) in layers(base).items()}
    done = step(tmp_path, base, diffusers_layout(wide))
    (line,) = (line for line in done.stderr.splitlines() if "made for another base" in line)
    assert done.returncode and "error: models.compare.mine: " in line, done.stderr
    assert " gives " in line and "Traceback" not in done.stderr
    # layers whose names no header check knows
    monkeypatch.setattr(lora.fits, "check", lambda file, base: None)
    with pytest.raises(UserError, match="does not fit its base.*mismatch") as raised:
        lora.merge(base, [tmp_path / "one.safetensors"], [1.0], tmp_path / "out")
    assert "\n" not in str(raised.value)


def test_the_step_says_whether_both_draw_from_the_same_noise(tmp_path, base):
    done = step(tmp_path, base, diffusers_layout(layers(base)))
    assert done.returncode == 0, done.stderr
    assert "LoRA keys" not in done.stderr  # which diffusers warns of, and asks to report
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["latent_shape"] == manifest["base_latent_shape"] == [4, 8, 8]
    assert sys.executable and {*map(str, (tmp_path / "out").glob("*"))}
    assert not list(tmp_path.glob(".tmp-*"))

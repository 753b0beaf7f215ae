"""Files that others wrote, for every family: forms of weights, configs with fields of a later
library, LoRAs in the layouts that trainers write."""

import json
import re
import subprocess
import sys

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file

from tests import flows, tiny
from tests.drawing import TEXTS, noise
from tests.pipeline import ROOT
from vlg.errors import UserError
from vlg.models import folders, kohya, lora
from vlg.models.family import open_family

NAMES = {"epsilon": "sd", "xl": "sdxl", "flow": "sd3", "flux": "flux"}
NAMES |= {name: name for name in flows.SAVE}
NETWORK = {name: "unet" if name in ("epsilon", "xl") else "transformer" for name in NAMES}
ONE_LAYOUT = ("flux", "sana")  # diffusers reads kohya's of Flux at the published width alone
FLOW = "diffusion_pytorch_model.safetensors"


def predicted(folder):
    """What a folder's network says of some latents and texts."""
    family = open_family(folder)
    z = noise(len(TEXTS), channels=family.latent_shape[0])
    with torch.no_grad():
        return family.predict(family.net, z, torch.tensor([400]), family.condition(TEXTS))


@pytest.mark.parametrize("form", ["fp16", "shards", "fp16 in shards", "later fields"])
@pytest.mark.parametrize("prediction", NAMES)
def test_a_folder_in_another_form_is_the_same_model(prediction, form, tmp_path):
    base, given = tiny.world(prediction)["base"], tmp_path / "given"
    pipe = DiffusionPipeline.from_pretrained(base)
    if form.startswith("fp16"):
        size = {"max_shard_size": "30KB"} if "shards" in form else {}
        pipe.to(torch.float16).save_pretrained(given, variant="fp16", **size)
    else:
        pipe.save_pretrained(given, **({"max_shard_size": "60KB"} if form == "shards" else {}))
    if form == "later fields":
        for path in given.rglob("*config.json"):
            told = json.loads(path.read_text())
            path.write_text(json.dumps(told | {"_later_version": "9.9", "later": {"a": [1]}}))
    folders.take(given, "base", tmp_path / "out", NAMES[prediction])
    files = list((tmp_path / "out" / NETWORK[prediction]).glob("*.safetensors"))
    assert (len(files) > 1) == ("shards" in form)
    limit = 3e-2 if form.startswith("fp16") else 1e-6
    assert torch.allclose(predicted(tmp_path / "out"), predicted(base), atol=limit)


# --- LoRAs --------------------------------------------------------------------------------------


def weights(folder, prediction):
    """Of a folder's network."""
    return load_file(folder / NETWORK[prediction] / FLOW)


@pytest.mark.parametrize("prediction", NAMES)
def test_a_lora_of_a_training_goes_out_and_in_by_both_layouts(prediction, tmp_path):
    base = tiny.world(prediction)["base"]
    options = {"prediction": prediction, "lora_rank": 2, "learning_rate": 0.05}
    out = tiny.finetune(tmp_path, "normal", **options)
    wanted, before = weights(out, prediction), weights(base, prediction)
    own = out / "pytorch_lora_weights.safetensors"
    other = tmp_path / "kohya.safetensors"
    words = [sys.executable, "tools/convert.py", own, other]
    done = subprocess.run(list(map(str, words)), cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode != 0) == ("reads none of it" in done.stderr) == (prediction == "sana")
    if prediction != "sana":
        assert all(name.startswith("lora_unet_") for name in load_file(other))
    for number, file in enumerate((own, other)[: 1 + (prediction not in ONE_LAYOUT)]):
        lora.merge(base, [file], [1.0], tmp_path / str(number))
        found = weights(tmp_path / str(number), prediction)
        assert any(not torch.equal(found[name], before[name]) for name in found)
        assert all(torch.allclose(found[name], wanted[name], atol=1e-5) for name in found)


def flow_lora(path, layout, alpha=1.0):
    """A LoRA of all layers of Stable Diffusion 3 and of text encoders; {layer of the folder: the
    change of its weight}."""
    base = tiny.world("flow")["base"]
    before, g = weights(base, "flow"), torch.Generator().manual_seed(0)
    rank, tensors, changes = 2, {}, {}
    for name, others in kohya.layers(2).items():
        shapes = [before[f"{o}.weight"].shape for o in others if f"{o}.weight" in before]
        if len(shapes) != len(others):
            continue  # the last block's texts go nowhere
        down = torch.randn(rank, shapes[0][1], generator=g)
        up = torch.randn(sum(shape[0] for shape in shapes), rank, generator=g)
        parts = up.split([shape[0] for shape in shapes])
        if layout == "kohya":
            key = f"lora_unet_{name.replace('.', '_')}"
            tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
            tensors[f"{key}.alpha"] = torch.tensor(alpha)
        for other, part in zip(others, parts, strict=True):
            change = part @ down
            if layout == "kohya" and (other == "norm_out.linear" or re.search(
                    r"1\.norm1_context", other)):  # fmt: skip
                change = torch.cat(change.chunk(2)[::-1])  # there shift comes before scale
            changes[f"transformer.{other}"] = change * alpha / rank
            if layout == "onetrainer":
                key = f"lora_transformer_{other.replace('.', '_')}"
                tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": part}
                tensors[f"{key}.alpha"] = torch.tensor(alpha)
            if layout == "diffusers":
                tensors |= {f"transformer.{other}.lora_A.weight": down}
                tensors |= {f"transformer.{other}.lora_B.weight": part * (alpha / rank)}
    for number, part in enumerate(("text_encoder", "text_encoder_2"), start=1):
        name = "text_model.encoder.layers.1.self_attn.q_proj"
        down, up = torch.randn(rank, 12, generator=g), torch.randn(12, rank, generator=g)
        changes[f"{part}.{name}"] = up @ down * alpha / rank
        if layout == "diffusers":
            tensors |= {f"{part}.{name}.lora_A.weight": down}
            tensors |= {f"{part}.{name}.lora_B.weight": up * (alpha / rank)}
        else:
            key = f"lora_te{number}_{name.replace('.', '_')}"
            tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
            tensors[f"{key}.alpha"] = torch.tensor(alpha)
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path)
    return changes


@pytest.mark.parametrize("layout", ["diffusers", "kohya", "onetrainer"])
def test_a_lora_of_3_is_merged_whatever_its_layout(layout, tmp_path):
    base, file = tiny.world("flow")["base"], tmp_path / "one.safetensors"
    wanted = flow_lora(file, layout)
    lora.merge(base, [file], [0.5], tmp_path / "out")
    found = {}
    for part in ("transformer", "text_encoder", "text_encoder_2"):
        name = FLOW if part == "transformer" else "model.safetensors"
        old, new = (load_file(each / part / name) for each in (base, tmp_path / "out"))
        for key in old:
            if not torch.equal(old[key], new[key]):
                found[f"{part}.{key}".removesuffix(".weight")] = new[key] - old[key]
    assert found.keys() == wanted.keys() and len(found) > 20
    for name, change in found.items():
        assert torch.allclose(change, 0.5 * wanted[name], atol=1e-5), name


def test_layers_of_a_larger_transformer_are_refused_in_one_line(tmp_path):
    base, file = tiny.world("flow")["base"], tmp_path / "x.safetensors"
    key = "lora_unet_joint_blocks_9_x_block_attn_qkv"
    save_file({f"{key}.lora_down.weight": torch.zeros(2, 16),
               f"{key}.lora_up.weight": torch.zeros(48, 2)}, file)  # fmt: skip
    with pytest.raises(UserError, match=f"does not fit .*no layer {key}.; give a LoRA that"):
        lora.merge(base, [file], [1.0], tmp_path / "out")


def test_what_is_no_lora_of_a_training_is_not_converted(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    words = [sys.executable, "tools/convert.py", tmp_path / "a.safetensors", tmp_path / "b"]
    done = subprocess.run(list(map(str, words)), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode and "not a LoRA as a training" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "b").exists()

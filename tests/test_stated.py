"""What a model folder or file says of itself is settled before any job, in one line."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tiny
from tools import convert
from vlg.errors import UserError
from vlg.models import folders, headers, schedule, stated


class Touch:
    """What a pickle does to whoever loads it."""

    def __reduce__(self):
        return (open, ("executed", "w"))


FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0, "use_flow_sigmas": True}
# {what is wrong: (what the JSON files of a base say instead, what the line says)}
BASES = {
    "inpainting": ({"unet": {"in_channels": 9}}, "unet/config.json: in_channels is 9 and the VAE"),
    "learned variance": ({"unet": {"out_channels": 8}}, "out_channels is 8 and the VAE's latents"),
    "a VAE of 16 channels": ({"vae": {"latent_channels": 16}}, "in_channels is 4 and the VAE's"),
    "no size": ({"unet": {"sample_size": None}}, "sample_size is null; write the side of square"),
    "not square": ({"unet": {"sample_size": [8, 12]}}, "sample_size is [8, 12]; write the side"),
    "no number": ({"unet": {"sample_size": "8"}}, 'sample_size is "8"; write the side of square'),
    "a wider text": (
        {"text_encoder": {"hidden_size": 24}},
        "cross_attention_dim is 16 and the text encoder's hidden_size 24; give a base whose parts",
    ),
    "widths of blocks": (
        {"unet": {"cross_attention_dim": [16, 24]}},
        "cross_attention_dim is [16, 24] and the text encoder's hidden_size 16",
    ),
    "class labels": ({"unet": {"num_class_embeds": 1000}}, "num_class_embeds is 1000, the UNet"),
    "more than text": (
        {"unet": {"addition_embed_type": "text_time"}},
        "addition_embed_type is 'text_time', the UNet takes more than text",
    ),
    "flow matching": (
        {"scheduler": FLOW},
        "scheduler/scheduler_config.json: FlowMatchEulerDiscreteScheduler is no noise schedule",
    ),
    "flow matching, betas left over": (
        {"scheduler": {"_class_name": "FlowMatchEulerDiscreteScheduler", "beta_start": 0.1}},
        "FlowMatchEulerDiscreteScheduler is no noise schedule",
    ),
    "betas of no known shape": (
        {"scheduler": {"beta_start": 0.1, "beta_schedule": "foo"}},
        "scheduler/scheduler_config.json: beta_schedule is 'foo'; set it to the one",
    ),
    "beta of 2": ({"scheduler": {"beta_end": 2.0}}, "beta_end is 2.0; set a number in 0 to 1"),
    "spacing": (
        {"scheduler": {"beta_start": 0.1, "timestep_spacing": "foo"}},
        "timestep_spacing is 'foo'; set it to",
    ),
    "a size that is true": ({"unet": {"sample_size": True}}, "sample_size is true; write the side"),
    "no scale of latents": ({"vae": {"scaling_factor": None}}, "scaling_factor is null; set the"),
    "shifted latents": ({"vae": {"shift_factor": 0.1}}, "vae/config.json: shift_factor is set"),
    "predicts the sample": (
        {"scheduler": {"prediction_type": "sample"}},
        "scheduler/scheduler_config.json: prediction_type sample is not supported; use a base",
    ),
    "another text encoder": (
        {"index": {"text_encoder": ["transformers", "T5EncoderModel"]}},
        "model_index.json: text_encoder is a T5EncoderModel; give a base with a CLIPTextModel",
    ),
}


def save(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


def refused(kind, folder):
    with pytest.raises(UserError) as error:
        stated.check(kind, folder, "models.x: given", "sd")
    line = str(error.value)
    assert line.startswith("models.x: given: ") and "; " in line and "\n" not in line
    return line


@pytest.mark.parametrize("case", BASES)
def test_a_base_that_cannot_serve_is_told_by_its_json(tmp_path, case):
    changes, told = BASES[case]
    save(tmp_path, tiny.hollow(**changes))
    assert told in refused("base", tmp_path)
    with pytest.raises(UserError, match="models.base: .*; "):
        folders.take(tmp_path, "base", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", tiny.SAID)
@pytest.mark.parametrize("content", [None, b"[]", b"{", b"\xff"])
def test_a_json_file_that_is_missing_or_damaged_is_named(tmp_path, name, content):
    save(tmp_path, tiny.hollow())
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    missing = name.startswith("tokenizer") and content is None
    part = "tokenizer: has no vocab" if missing else f": given: {name}: not"
    assert part in refused("base", tmp_path)


def test_bases_that_can_serve_pass(tmp_path):
    for changes in (
        {"unet": {"sample_size": [8, 8]}},
        {"unet": {"cross_attention_dim": [16, 16], "time_cond_proj_dim": 32}},
        {"unet": {"encoder_hid_dim": 16, "encoder_hid_dim_type": "text_proj",
                  "cross_attention_dim": 32}},
        {"scheduler": {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}},
        {"index": {"text_encoder": ["transformers", "CLIPTextModelWithProjection"]}},
    ):  # fmt: skip
        stated.check("base", save(tmp_path, tiny.hollow(**changes)), "", "sd")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
PLACES = [(name, key) for name, said in tiny.SAID.items() for key in [*said, "text_config"]]


@settings(max_examples=150, deadline=None)
@given(place=st.sampled_from(PLACES), value=VALUES)
def test_whatever_the_json_holds_is_served_or_refused_in_one_line(tmp_path_factory, place, value):
    folder = save(tmp_path_factory.getbasetemp() / "fuzz", tiny.hollow())
    name, key = place
    (folder / name).write_text(json.dumps(tiny.SAID[name] | {key: value}))
    try:
        stated.check("base", folder, "models.base: given", "sd")
    except UserError as error:
        assert str(error).startswith("models.base: given: ") and "; " in str(error)


def test_two_equal_sides_are_a_square():
    from vlg.models.latent import square_side

    assert square_side(8) == square_side([8, 8]) == 8


def test_a_guide_needs_the_tokenizer_that_it_names(tmp_path):
    model = {"model_cfg": {"text_cfg": {"hf_tokenizer_name": "someone/words"}}}
    save(tmp_path, {"open_clip_config.json": json.dumps(model)})
    line = refused("guide", tmp_path)
    assert "names the Hugging Face tokenizer 'someone/words', whose files are not there" in line
    (tmp_path / "tokenizer.json").touch()
    assert "tokenizer.json: not valid JSON" in refused("guide", tmp_path)
    save(tmp_path, {"tokenizer.json": tiny.hollow()["tokenizer/tokenizer.json"]})
    stated.check("guide", tmp_path, "", "sd")
    save(tmp_path, {"open_clip_config.json": "{}"})
    assert "open_clip_config.json: has no model_cfg" in refused("guide", tmp_path)


def test_a_judge_is_a_clip_with_a_tokenizer(tmp_path):
    save(tmp_path, tiny.hollow_judge() | {"config.json": '{"model_type": "blip"}'})
    assert "config.json: model_type is 'blip'; give a CLIP or SigLIP" in refused("judge", tmp_path)
    save(tmp_path, {"config.json": "{}"})
    stated.check("judge", tmp_path, "", "sd")
    (tmp_path / "tokenizer.json").unlink()
    assert "has no tokenizer" in refused("judge", tmp_path)
    save(tmp_path, {"vocab.json": '{"<|endoftext|>": 49407}', "merges.txt": ""})
    stated.check("judge", tmp_path, "", "sd")
    (tmp_path / "model.safetensors").rename(tmp_path / "open_clip_model.safetensors")
    assert "has open_clip_model.safetensors and no model.safetensors" in refused("judge", tmp_path)


PROCESSOR, TOKENIZER = "preprocessor_config.json", "tokenizer.json"
END = {"<|endoftext|>": 49407}
# {what is wrong with a judge: (its file, what it holds, what the line says)}; None: not there
JUDGES = {
    "no processor": (PROCESSOR, None, f"has no {PROCESSOR}; save the model's own image processor"),
    "no JSON": (PROCESSOR, "{", f"{PROCESSOR}: not valid JSON"),
    "another side": (
        PROCESSOR,
        {"size": 336, "crop_size": 336},
        f"{PROCESSOR}: crop_size is 336 and the vision model takes 224 pixels; save",
    ),
    "resized smaller": (PROCESSOR, {"size": {"shortest_edge": 112}}, 'size is {"shortest_edge": 1'),
    "not cropped": (
        PROCESSOR,
        {"size": {"height": 256, "width": 256}, "do_center_crop": False},
        'size is {"height": 256, "width": 256} and the vision',
    ),
    "a side in words": (PROCESSOR, {"crop_size": {"height": "224"}}, "crop_size is"),
    "std of 0": (PROCESSOR, {"image_std": [0.2, 0, 0.2]}, "image_std is [0.2, 0, 0.2]; save"),
    "mean of NaN": (PROCESSOR, '{"image_mean": [NaN, 0, 0]}', "image_mean is [NaN, 0, 0]; save"),
    "four channels": (PROCESSOR, {"image_mean": [0, 0, 0, 0]}, "image_mean has 4 numbers and pic"),
    "not scaled": (PROCESSOR, {"rescale_factor": 1}, "rescale_factor is 1, not 1/255; save the"),
    "no filter": (PROCESSOR, {"resample": 9}, "resample is 9, which is none; save"),
    "nested": (
        "processor_config.json",
        {"image_processor": {"crop_size": 336}},
        "processor_config.json: crop_size is 336",
    ),
    "of another type": (PROCESSOR, {"size": [["a"]]}, "another type than it should"),
    "no vocabulary": (TOKENIZER, {}, "tokenizer.json: has no vocabulary; save the model's own"),
    "empty": (TOKENIZER, "", "tokenizer.json: not valid JSON"),
    "a larger model's": (
        TOKENIZER,
        {"model": {"vocab": END}, "added_tokens": [{"content": "a", "id": 49408}]},
        "tokenizer.json: has the id 49408 and the text model 49408 tokens, it is another model's",
    ),
    "BERT's": (
        TOKENIZER,
        {"model": {"vocab": {"[PAD]": 0, "[SEP]": 102}}},
        "pools at the token 49407 and a text ends with '<|endoftext|>' (which the tokenizer lacks)",
    ),
    "another end": (
        "tokenizer_config.json",
        {"eos_token": {"content": "</s>"}},
        "a text ends with '</s>' (which the tokenizer lacks); save the model's own tokenizer",
    ),
    "settings in no JSON": ("tokenizer_config.json", "[", "tokenizer_config.json: not valid JSON"),
    "an odd vocabulary": (TOKENIZER, {"model": {"vocab": {"a": "b"}}}, "another type than it"),
}


@pytest.mark.parametrize("case", JUDGES)
def test_a_judge_whose_pictures_or_prompts_are_not_prepared_as_it_wants(tmp_path, case):
    name, content, told = JUDGES[case]
    save(tmp_path, tiny.hollow_judge())
    stated.check("judge", tmp_path, "", "sd")
    (tmp_path / name).unlink(missing_ok=True)
    if content is not None:
        save(tmp_path, {name: content if isinstance(content, str) else json.dumps(content)})
    assert told in refused("judge", tmp_path)


def test_judges_that_can_serve_pass(tmp_path):
    siglip = {"config.json": '{"model_type": "siglip", "vision_config": {"image_size": 384}}'}
    siglip |= {PROCESSOR: '{"size": {"height": 384, "width": 384}, "image_mean": [0.5, 0.5, 0.5]}'}
    siglip |= {TOKENIZER: '{"model": {"vocab": [["a", -1.5], ["b", -2]]}}'}
    first = {"config.json": '{"text_config": {"eos_token_id": 2}}'}
    other = {"tokenizer_config.json": '{"eos_token": "."}'}
    other |= {"config.json": '{"text_config": {"eos_token_id": 5}}'}
    other |= {TOKENIZER: '{"model": {"vocab": {".": 5, "a": 6}}}'}
    large = {TOKENIZER: '{"model": {"vocab": {}}}'.ljust(stated.LONGEST + 1)}
    resized = {PROCESSOR: '{"size": {"shortest_edge": 256}, "crop_size": 224}'}
    for number, files in enumerate(({}, siglip, first, other, large, resized)):
        folder = save(tmp_path / str(number), tiny.hollow_judge() | files)
        stated.check("judge", folder, "", "sd")


def test_a_base_with_the_tokenizer_of_another_model_is_refused(tmp_path):
    other = {"tokenizer/tokenizer.json": '{"model": {"vocab": {"a": 49408}}}'}
    save(tmp_path, tiny.hollow() | other)
    assert "tokenizer/tokenizer.json: has the id 49408 and the" in refused("base", tmp_path)


def test_the_shipped_models_pass():
    shapes = folders.RESOURCES / "shapes"
    for kind in ("base", "guide", "judge"):
        stated.check(kind, shapes / kind, "", "sd")


def test_nothing_large_is_imported():
    program = (
        "import sys; sys.path.insert(0, 'scripts'); from pathlib import Path; "
        "from vlg.models import stated; "
        "stated.check('base', Path('resources/shapes/base'), '', 'sd'); "
        "print([m for m in ('torch', 'numpy', 'diffusers', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


# --- a base in one file -------------------------------------------------------------------------

FILES = {
    "diffusers' LoRA": (("unet.down_blocks.0.attn1.to_q.lora_A.weight",), "this is a LoRA"),
    "an older LoRA": (("down_blocks.0.attn1.processor.to_q_lora.up.weight",), "this is a LoRA"),
    "a LoRA of the UNet": (("unet.mid_block.to_k.lora.down.weight",), "this is a LoRA"),
    "kohya's LoRA": (
        ("lora_unet_mid_block_to_k.lora_down.weight", "lora_unet_mid_block_to_k.alpha"),
        "this is a LoRA, which holds changes to a base and not the base; give its base model",
    ),
    "a LoHa": (("lycoris_mid_block.hada_w1_a",), "this is a LoRA"),
    "a VAE": (("encoder.conv_in.weight", "decoder.a", "quant_conv.b"), "this is a VAE alone"),
    "the first format's VAE": (("first_stage_model.decoder.a",), "this is a VAE alone; give the"),
    "a UNet": (("conv_in.weight", "down_blocks.0.a", "up_blocks.0.a"), "this is a UNet alone"),
    "a ControlNet": (("controlnet_cond_embedding.a", "down_blocks.0.a"), "this is a ControlNet"),
    "a text encoder": (("text_model.embeddings.a",), "this is a text encoder alone"),
    "T5": (
        ("encoder.block.0.layer.0.SelfAttention.q.weight", "shared.weight"),
        "this is a text encoder",
    ),
    "open_clip's text encoder": (
        ("transformer.resblocks.0.a", "ln_final.b"),
        "this is a text encoder",
    ),
    "an IP-Adapter": (
        ("image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"),
        "this is an IP-Adapter",
    ),
    "a ControlNet of the first format": (
        ("control_model.input_hint_block.0.a", "model.diffusion_model.a"),
        "this is a ControlNet; give the base that it is made for",
    ),
    "a motion module": (("down_blocks.0.motion_modules.0.a",), "this is a motion module"),
    "SDXL": (
        ("conditioner.embedders.0.a", "model.diffusion_model.label_emb.a", "first_stage_model.a"),
        "this is Stable Diffusion XL; give it with models.family: sdxl",
    ),
    "XL of another schedule": (
        ("v_pred", "ztsnr", "conditioner.embedders.0.a", "model.diffusion_model.label_emb.a"),
        "this is a model with another schedule",
    ),
    "EDM": (("edm_mean", "edm_std", "conditioner.embedders.0.a"), "this is a model with another"),
    "SD 3": (
        ("model.diffusion_model.joint_blocks.0.a",),
        "this is Stable Diffusion 3; give it with models.family: sd3",
    ),
    "Flux": (
        ("double_blocks.0.img_attn.a", "single_blocks.0.a"),
        "this is Flux; give its diffusers folder",
    ),
    "Z-Image": (("layers.0.a", "cap_pad_token"), "this is Z-Image; give its diffusers folder"),
    "Z-Image within": (("model.diffusion_model.cap_pad_token",), "this is Z-Image; give its"),
    "Qwen-Image": (
        ("transformer_blocks.0.img_mod.1.weight",),
        "this is Qwen-Image or a model like it; give its",
    ),
    "Sana": (("blocks.0.mlp.inverted_conv.conv.weight",), "this is Sana; give its diffusers"),
    "a transformer": (
        ("transformer_blocks.0.a", "pos_embed.b"),
        "this is a diffusion transformer alone",
    ),
    "an upscaler": (
        ("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"),
        "this is an upscaler; give",
    ),
    "a newer upscaler": (("conv_first.weight", "body.0.rdb1.conv1.weight"), "this is an upscaler"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_whole_model_is_recognised(tmp_path, case):
    names, told = FILES[case]
    path = tmp_path / "given.safetensors"
    path.write_bytes(tiny.file_of(*names))
    with pytest.raises(UserError, match="; give ") as error:
        headers.check_base_file(path)
    assert told in str(error.value)
    with pytest.raises(UserError, match="this is "):
        folders.unfold(path, tmp_path / "out")
    folder = save(tmp_path / "folder", {"given.safetensors": path.read_bytes()})
    also = told.partition(";")[0]
    with pytest.raises(UserError, match=f"has no model_index.json: {also}") as error:
        folders.take(folder, "base", tmp_path / "out")


def test_a_textual_inversion_is_recognised(tmp_path):
    for name in ("<cat-toy>", "emb_params"):
        (tmp_path / "one.safetensors").write_bytes(tiny.file_of(name, shape=(1, 16)))
        with pytest.raises(UserError, match="this is a textual inversion.*; give the base model"):
            headers.check_base_file(tmp_path / "one.safetensors")


# {name of a tensor of the UNet: its shape}: what a whole file is.
SHAPES = {
    "inpainting": (
        headers.FIRST,
        (320, 9, 1, 1),
        "a model of inpainting, whose UNet takes 9 chann",
    ),
    "editing": (
        headers.FIRST,
        (320, 8, 1, 1),
        "a model of editing, whose UNet takes 8 channels; g",
    ),
    "an upscaler": (headers.FIRST, (320, 7, 1, 1), "a model of upscaling"),
    "depth": (headers.FIRST, (320, 5, 1, 1), "a model of depth"),
    "SD 2": (headers.TEXT, (320, 1024), "Stable Diffusion 2.x in one file; give its diffusers fol"),
    "SD 1": (headers.TEXT, (320, 768), None),
    "SD 1's first layer": (headers.FIRST, (320, 4, 3, 3), None),
}


@pytest.mark.parametrize("case", SHAPES)
def test_a_whole_file_of_another_model_is_told_by_its_shapes(tmp_path, case):
    name, shape, what = SHAPES[case]
    (tmp_path / "one.safetensors").write_bytes(
        tiny.file_of("first_stage_model.a", "cond_stage_model.a", name, shape=shape)
    )
    if what is None:
        headers.check_base_file(tmp_path / "one.safetensors")
        return
    with pytest.raises(UserError, match=f"this is {what}"):
        headers.check_base_file(tmp_path / "one.safetensors")


WHOLE = headers.one_file("sd", "")["parts"]


@pytest.mark.parametrize("lacks", WHOLE)
def test_a_checkpoint_without_one_of_its_parts_is_refused(tmp_path, lacks):
    """What is not in the file would be drawn at random, or end in a traceback."""
    names = [f"{start}a" for start in WHOLE if start != lacks]
    (tmp_path / "one.safetensors").write_bytes(tiny.file_of(*names))
    with pytest.raises(UserError, match=f"has no {WHOLE[lacks]} .*; give a whole"):
        headers.check_base_file(tmp_path / "one.safetensors")


def zipped(name):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, "x")
    return buffer.getvalue()


OTHERS = {
    "GGUF": (b"GGUF\3\0\0\0" + bytes(50), "a GGUF file, whose weights are quantised; get the safe"),
    "a zip": (zipped("unet/config.json"), "a zip archive; unpack it and give what is in it"),
    "a pickle": (zipped("archive/data.pkl"), "a pickled checkpoint, which could run code when it"),
    "a web page": (b"<!DOCTYPE html><html>", "a web page and no weights; download the file itself"),
    "JSON": (b'{"weight_map": {}}', "JSON and no weights; give the .safetensors"),
    "packed": (b"\x1f\x8b\x08\0\0\0\0\0\0", "a packed archive; unpack it"),
    "a pointer": (b"version https://git-lfs", "a pointer of Git LFS and no weights; git lfs pull"),
    "nothing": (b"", "not a whole safetensors file (empty); get it again"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_file_of_another_kind_is_told_by_how_it_begins(tmp_path, case):
    content, told = OTHERS[case]
    (tmp_path / "one.safetensors").write_bytes(content)
    with pytest.raises(UserError) as error:
        headers.check_base_file(tmp_path / "one.safetensors")
    assert f"one.safetensors: {told}" in str(error.value)


def test_whole_checkpoints_are_let_through(tmp_path):
    (tmp_path / "one.safetensors").write_bytes(tiny.one_file("alphas", "model_ema.decay"))
    headers.check_base_file(tmp_path / "one.safetensors")
    assert headers.described(None, ["pytorch_lora_weights.safetensors"]) == ": this is a LoRA"
    assert headers.described(None, ["a-Q4.gguf"]) == ": this is a GGUF file"


@pytest.mark.parametrize("new", [True, False])
def test_a_pickled_checkpoint_says_how_it_is_converted(tmp_path, new):
    """The command that the line tells makes a file of the same tensors."""
    from safetensors.torch import load_file

    weights = {"model.a": torch.arange(6.0).reshape(2, 3).T, "model.b": torch.ones(2)}
    weights["model.c"] = weights["model.b"]  # one storage, as tied weights are
    given, made = tmp_path / "x.ckpt", tmp_path / "x.safetensors"
    torch.save({"state_dict": weights, "epoch": 3}, given, _use_new_zipfile_serialization=new)
    with pytest.raises(UserError, match="a pickled checkpoint, which could run code") as error:
        folders.unfold(given, tmp_path / "out")
    assert str(error.value).endswith(f"convert it: python tools/convert.py {given} {made}")
    convert.main(given, made)
    headers.check_safetensors(made)
    found = load_file(made)
    assert set(found) == set(weights)
    assert all(torch.equal(found[name], weights[name]) for name in weights)


@pytest.mark.parametrize("content", [{"a": Touch()}, [1, 2], {"a": 1}])
def test_what_is_no_plain_weights_is_not_converted(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    torch.save(content, "x.ckpt")
    with pytest.raises(SystemExit, match=r"error: x.ckpt: .*; get it in safetensors"):
        convert.main(Path("x.ckpt"), Path("x.safetensors"))
    assert {path.name for path in tmp_path.iterdir()} == {"x.ckpt"}


# --- schedules ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("prediction", "limit"), [("epsilon", 1.0), ("v_prediction", 0.0)])
def test_min_snr_has_its_limit_where_a_schedule_ends_at_nothing(prediction, limit):
    abar = torch.tensor([0.9, 0.5, 0.0])
    error = torch.full((3,), 2.0, requires_grad=True)
    weighted = schedule.Schedule(abar, prediction).min_snr(error, torch.arange(3), 5.0)
    assert weighted[2].item() == pytest.approx(2 * limit)
    weighted.sum().backward()
    assert torch.isfinite(error.grad).all() and error.grad[2] == pytest.approx(limit)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_window_that_reaches_where_nothing_is_left_is_refused(prediction):
    """For epsilon: an estimate of z_0 from noise alone divides by 0. From v it is finite."""
    from types import SimpleNamespace

    from vlg.train import method

    noise = schedule.Schedule(torch.tensor([0.9, 0.5, 0.0]), prediction)
    shape = {"latent_shape": (1, 2, 2), "timesteps": 3, "device": "cpu"}
    family = SimpleNamespace(**shape, estimate=noise.estimate)
    for window, reaches in (([0, 1], False), ([0, 2], prediction == "epsilon")):
        embed = method.load(
            "embed", method.settings_of("embed", tiny.values(window=window, step=1)), family
        )
        told = "finetune.window: at timestep 2 .*; end it" if reaches else "--guide: missing"
        with pytest.raises(UserError, match=told):
            embed.prepare(None, {}, None)

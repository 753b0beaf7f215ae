"""Stable Diffusion XL draws and trains as diffusers has it, on a tiny model made as the base is."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from peft import LoraConfig
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from torch.nn.functional import mse_loss

from tests import tiny
from tests.drawing import TEXTS, conditions, noise, sampling
from tests.test_guidance import KINDS, close, draw
from vlg.data.encoded import encode
from vlg.data.source import Cache, LiveCache
from vlg.errors import UserError
from vlg.files import write_manifest
from vlg.models import families, folders, lora, stated
from vlg.models.family import open_family
from vlg.models.guide import load_guide
from vlg.models.ledger import Ledger, count_flops
from vlg.models.noise import generator
from vlg.sample.sampler import Sampler
from vlg.train import loop
from vlg.train.method import settings_of
from vlg.train.step import backward


@pytest.fixture(scope="module")
def folder():
    base = tiny.world("xl")["base"]
    write_manifest(base)
    return base


def pipeline(folder, scheduler="ddim", kind="StableDiffusionXLPipeline", **options):
    import diffusers

    pipe = getattr(diffusers, kind).from_pretrained(folder, **options)
    pipe.set_progress_bar_config(disable=True)
    kind = {"ddim": "DDIMScheduler", "dpm++": "DPMSolverMultistepScheduler"}[scheduler]
    pipe.scheduler = getattr(diffusers, kind).from_config(pipe.scheduler.config)
    return pipe


def changed(folder, to, name, **values):
    """A copy of a folder in which a JSON file says something else."""
    copy = shutil.copytree(folder, to)
    path = copy / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return copy


# --- drawing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++"])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_sampled_latents_are_the_pipelines(folder, scheduler, scale):
    assert families.name_of(folder) == "sdxl"
    family = open_family(folder)
    wanted = pipeline(folder, scheduler)(
        TEXTS, latents=noise(), num_inference_steps=4, guidance_scale=scale, output_type="latent"
    ).images
    settings = sampling(scheduler=scheduler, guidance_scale=scale)
    found = family.sample(latents=noise(), settings=settings, **conditions(family))
    assert torch.equal(found, wanted)


def test_the_empty_text_is_zero_unless_the_folder_says_otherwise(folder, tmp_path):
    told = changed(folder, tmp_path / "told", "model_index.json",
                   force_zeros_for_empty_prompt=False)  # fmt: skip
    for each, zero in ((folder, True), (told, False)):
        pipe, family = pipeline(each), open_family(each)
        _, negative, _, pooled = pipe.encode_prompt(TEXTS[0])
        found = family.condition([TEXTS[0], ""])
        assert torch.allclose(found["states"][1:], negative, atol=1e-5)
        assert torch.allclose(found["pooled"][1:], pooled, atol=1e-5)
        assert (not found["states"][1].any()) == (not found["pooled"][1].any()) == zero
        assert found["states"][0].any() and found["pooled"][0].any()


def test_a_picture_is_the_pipelines_within_one_grey_level(folder):
    """At noise keyed by prompt and seed."""
    family, seeds = open_family(folder), [3, 4, 5]
    sampler = Sampler(folder, sampling(), "cpu")
    pictures = sampler.draw(TEXTS, seeds)
    start = sampler.latents(TEXTS, seeds, "latents")
    wanted = pipeline(folder)(
        TEXTS, latents=start, num_inference_steps=4, guidance_scale=4.0, output_type="np"
    ).images
    apart = np.abs(pictures.astype(int) - np.round(wanted * 255).astype(int))
    assert pictures.std() > 1 and apart.max() <= 1
    alone = sampler.draw(TEXTS[1:2], seeds[1:2])
    assert np.abs(alone[0].astype(int) - pictures[1]).max() <= 1
    assert family.resolution == 32


def test_redrawing_is_the_pipelines(folder):
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    sampler = Sampler(folder, sampling(), "cpu")
    found = sampler.redraw(images, TEXTS[:2], [1, 2], 0.5, "redraw")
    generators = [generator("redraw", *key) for key in zip(TEXTS, [1, 2], strict=False)]
    wanted = pipeline(folder, kind="StableDiffusionXLImg2ImgPipeline")(
        TEXTS[:2], image=images.astype(np.float32) / 255, strength=0.5, num_inference_steps=4,
        guidance_scale=4.0, generator=generators, output_type="np",
    ).images  # fmt: skip
    assert np.abs(found.astype(int) - np.round(wanted * 255).astype(int)).max() <= 1


@pytest.mark.parametrize("steps", [1, 2])
def test_few_steps_without_guidance_are_as_the_scheduler_says(folder, tmp_path, steps):
    """Turbo and Lightning: timesteps from the end of the schedule, and no guidance."""
    told = changed(folder, tmp_path / "turbo", "scheduler/scheduler_config.json",
                   _class_name="EulerAncestralDiscreteScheduler",
                   timestep_spacing="trailing")  # fmt: skip
    family = open_family(told)
    given = {"num_inference_steps": steps, "guidance_scale": 0.0, "output_type": "latent"}
    wanted = pipeline(told, "dpm++")(TEXTS, latents=noise(), **given).images
    how = sampling(steps=steps, scheduler="dpm++", guidance_scale=1.0)
    assert family.path(how)[0] == 999
    found = family.sample(family.condition(TEXTS), noise(), how)
    assert torch.equal(found, wanted)


def test_the_vae_stays_in_float32_where_its_config_asks_for_it(folder, tmp_path):
    fixed = changed(folder, tmp_path / "fixed", "vae/config.json", force_upcast=False)
    for each, dtype in ((folder, torch.float32), (fixed, torch.bfloat16)):
        family = open_family(each, dtype=torch.bfloat16)
        assert family.vae.dtype == dtype and family.net.dtype == torch.bfloat16
        assert family.decode(noise(1).bfloat16()).isfinite().all()


def test_latents_of_another_size_are_told_that_size(folder):
    family, z = open_family(folder), torch.randn(3, 4, 6, 6)
    t, told = torch.tensor([500]), family.condition(TEXTS)
    ids = family.placed(torch.full((3, 2), 24), torch.zeros(3, 2, dtype=torch.int64), 24)
    with torch.no_grad():
        plain = family.predict(family.net, z, t, told)
        same = family.predict(family.net, z, t, told | {"time_ids": ids["time_ids"].float()})
        own = family.predict(family.net, z, t, told | {"time_ids": torch.zeros(3, 6)})
        ids["time_ids"][0, 0] = 200
        other = family.predict(family.net, z, t, told | {"time_ids": ids["time_ids"].float()})
    assert torch.equal(plain, same) and torch.equal(plain, own)
    assert torch.equal(plain[1:], other[1:]) and not torch.allclose(plain[0], other[0], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_arm_draws_whatever_the_batch(folder, kind):
    base = folder if kind == "combined" else None
    sampler, guide = Sampler(folder, sampling(), "cpu", base), load_guide(tiny.world("xl")["guide"])
    together = draw(kind, sampler, guide, **KINDS[kind]).images
    alone = draw(kind, sampler, guide, rows=slice(1, 2), **KINDS[kind]).images
    assert together.std() > 1 and close(alone, together[1:2])


# --- training -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """An image folder whose pictures are of several sizes, one of them turned by its EXIF."""
    data = tiny.save_pictures(tmp_path_factory.mktemp("sizes") / "data", 8)
    rng = np.random.default_rng(1)
    for i, (width, height) in enumerate([(90, 41), (33, 50), (64, 64), (32, 47), (300, 200)]):
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6 if i == 4 else 1
        image.save(data / f"{i:03d}.png", exif=exif)
    return data


@pytest.fixture(scope="module", params=["cache", "live"])
def source(request, pictures, folder, tmp_path_factory):
    if request.param == "live":
        return {"data": pictures}, {"cached": False, "crop": 1.0}
    cache = tmp_path_factory.mktemp("cache") / "cache"
    encode(pictures, folder, cache, {}, "cpu", 3)
    return {"cache": cache}, {}


class Example:
    """What diffusers' train_text_to_image_lora_sdxl.py computes of a batch, written anew."""

    def __init__(self, folder, data, resolution=32):
        self.pipe, self.data, self.side = pipeline(folder), data, resolution
        self.noise = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")

    def picture(self, path):
        """(pixels in -1..1, original size, top left corner)"""
        image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        size, least = (image.height, image.width), min(image.size)
        # torchvision's Resize of the shorter side, and its middle
        wide, high = (int(self.side * each / least) for each in image.size)
        top = max(0, round((high - self.side) / 2.0))
        left = max(0, round((wide - self.side) / 2.0))
        return size, (top, left)

    def told(self, paths, texts):
        """What the UNet is told: states, {text_embeds, time_ids}."""
        states, pooled = [], None
        for tokenizer, encoder in ((self.pipe.tokenizer, self.pipe.text_encoder),
                                   (self.pipe.tokenizer_2, self.pipe.text_encoder_2)):  # fmt: skip
            ids = tokenizer(texts, padding="max_length", max_length=tokenizer.model_max_length,
                            truncation=True, return_tensors="pt").input_ids  # fmt: skip
            with torch.no_grad():
                said = encoder(ids, output_hidden_states=True, return_dict=False)
            pooled = said[0]
            states.append(said[-1][-2])
        rows = [[*size, *corner, self.side, self.side] for size, corner in map(self.picture, paths)]
        return torch.cat(states, -1), {"text_embeds": pooled, "time_ids": torch.tensor(rows)}

    def loss(self, unet, z0, eps, t, paths, texts):
        states, added = self.told(paths, texts)
        noisy = self.noise.add_noise(z0, eps, t)
        predicted = unet(noisy, t, states, added_cond_kwargs=added).sample
        return mse_loss(predicted.float(), eps.float(), reduction="mean"), added


@pytest.mark.parametrize("rank", [0, 4], ids=["full", "lora"])
def test_a_training_step_is_that_of_diffusers_example(source, pictures, folder, rank):
    given, values = source
    folders = {"base": folder, **given}
    settings = settings_of("normal", tiny.values(
        "normal", step=3, caption_dropout=0.0, lora_rank=rank, **values))  # fmt: skip
    run = loop.begin("normal", settings, folders)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():  # away from B = 0, where A has no gradient
        for weight in run.state.weights.values():
            weight += 0.02 * torch.randn(weight.shape, generator=g)
    batch = run.method.batch(run.data, 0)
    theirs = Example(folder, pictures)
    unet = theirs.pipe.unet
    if rank:
        unet.requires_grad_(False)
        unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian",
                         target_modules=["to_k", "to_q", "to_v", "to_out.0"]))  # fmt: skip
    unet.load_state_dict(run.state.net.state_dict())
    listing = run.data.listing
    paths = [pictures / listing.files[i] for i in batch.pictures]
    texts = [listing.captions[i] for i in batch.captions]
    z0 = batch.latents("cpu")
    wanted, added = theirs.loss(unet, z0, batch.noise, batch.timesteps, paths, texts)
    assert torch.equal(batch.condition("cpu")["time_ids"], added["time_ids"].float())
    wanted.backward()
    found = run.method.terms(run.state.net, batch)["denoising"].values.mean()
    backward(run, batch)
    assert found.item() == pytest.approx(wanted.item(), abs=1e-4)
    known = {n: p for n, p in unet.named_parameters() if p.requires_grad}
    assert known.keys() == run.state.weights.keys() and len(known) > 10
    ours = {n: p.grad for n, p in run.state.weights.items()}
    norm = torch.cat([p.grad.flatten() for p in known.values()]).norm()
    apart = torch.cat([(ours[n] - p.grad).flatten() for n, p in known.items()]).norm()
    assert norm > 1e-2 and apart / norm < 1e-4
    sizes = {tuple(row) for row in added["time_ids"].tolist()}
    assert len(sizes) > 1


def test_a_crop_that_is_mirrored_is_told_where_it_lies(pictures, folder):
    family = open_family(folder)
    data = LiveCache(pictures, family, crop=0.5, flip=True)
    wide = data.listing.files.index("000.png")  # 90 x 41: half of it is 20.5 pixels
    augment = torch.tensor([[0.0, 1.0, 0.0, 0.5, 0.5, 0.5]])
    rows = [data.placed([wide], [flip], augment)["time_ids"][0].tolist() for flip in (False, True)]
    assert rows == [[41, 90, 0, 140 - 32, 32, 32], [41, 90, 0, 0, 32, 32]]


def test_ddim_clips_no_estimate_where_the_folder_says_nothing_of_it(folder, tmp_path):
    """Euler's schedulers, which such folders name, know nothing of clipping."""
    shutil.copytree(folder, tmp_path / "base")
    file = tmp_path / "base/scheduler/scheduler_config.json"
    told = json.loads(file.read_text())
    assert told.pop("clip_sample") is False
    file.write_text(json.dumps(told))
    one, two = (open_family(each) for each in (folder, tmp_path / "base"))
    found = [
        each.sample(latents=noise(), settings=sampling(), **conditions(each)) for each in (one, two)
    ]
    assert torch.equal(*found) and found[0].abs().max() > 1


OTHERS = [pytest.param(name, marks=pytest.mark.slow)
          for name in ("refl", "imagerefl", "raft", "nft", "ddpo")]  # fmt: skip


@pytest.mark.parametrize("method", ["embed", "draft", "dpo", *OTHERS])
def test_every_method_trains_it(method, tmp_path):
    own = {"prediction": "xl", "lora_rank": 2 if method in ("draft", "nft", "dpo") else 0}
    out = tiny.finetune(tmp_path, method, **own)
    before, after = (
        load_file(each / "unet/diffusion_pytorch_model.safetensors")
        for each in (tiny.world("xl")["base"], out)
    )
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(weight.isfinite().all() for weight in after.values())
    assert open_family(out).condition(["a red circle"])["pooled"].shape == (1, 16)


def test_own_samples_are_told_as_they_are_drawn():
    run = tiny.begin("raft", "xl")
    run.method.before(run.state.net, run.data, 0)
    batch = run.method.batch(run.data, 0)
    own, data = batch.rows(chosen=True), batch.rows(chosen=False)
    ids = batch.condition("cpu")["time_ids"]
    assert own and data
    assert not ids[own].any() and ids[data].all(dim=1).sum() == 0 and ids[data].any(dim=1).all()


def test_a_lora_of_a_training_is_one_that_the_pipeline_loads(folder, tmp_path):
    out = tiny.finetune(tmp_path, "normal", prediction="xl", lora_rank=2, learning_rate=0.1)
    given = {"latents": noise(), "num_inference_steps": 2, "output_type": "latent"}
    merged = pipeline(out)(TEXTS, **given).images
    pipe = pipeline(folder)
    plain = pipe(TEXTS, **given).images
    pipe.load_lora_weights(out)
    loaded = pipe(TEXTS, **given).images
    assert torch.allclose(loaded, merged, atol=1e-4) and not torch.allclose(
        plain, merged, atol=1e-2
    )


def test_sizes_stay_whole_numbers_in_a_cache_of_half_precision(pictures, folder, tmp_path):
    data = shutil.copytree(pictures, tmp_path / "data")
    Image.new("RGB", (4099, 32)).save(data / "000.png")
    encode(data, folder, tmp_path / "cache", {"dtype": "float16", "flip": True}, "cpu", 3)
    cache = Cache(tmp_path / "cache")
    wide = cache.listing.files.index("000.png")
    assert cache.placed([wide], [True])["time_ids"].tolist() == [[32, 4099, 0, 2034, 32, 32]]
    assert cache.condition([0])["pooled"].dtype == torch.float32


def test_what_it_costs_is_counted(folder):
    family, ledger = open_family(folder), Ledger()
    family.watch(ledger)
    given = conditions(family)
    family.sample(latents=noise(), settings=sampling(), **given)
    cost = ledger.take()
    assert cost.of("network") == 2 * 3 * 4
    one = count_flops(family.network(), *family_call(family))[0]
    assert cost.of("network", "flops") == 24 * one > 0


def family_call(family):
    """What the UNet is called with for one sample."""
    told = family.condition(TEXTS[:1])
    ids = torch.tensor([[32.0, 32, 0, 0, 32, 32]])
    more = {"added_cond_kwargs": {"text_embeds": told["pooled"], "time_ids": ids}}
    return (noise(1), torch.tensor(1), told["states"]), more | {"return_dict": False}


# --- what cannot be drawn or trained ------------------------------------------------------------


REFUSED = {
    "of the refiner": (
        ("unet/config.json", {"projection_class_embeddings_input_dim": 16 + 5 * 8}),
        "projection_class_embeddings_input_dim is 56, and 16 of the second text encoder and 6",
    ),
    "without sizes": (("unet/config.json", {"addition_embed_type": None}), "addition_embed_type"),
    "of another width": (
        ("text_encoder_2/config.json", {"hidden_size": 24}),
        "cross_attention_dim is 32 and the text encoders' hidden_size 12 + 24",
    ),
    "of inpainting": (("unet/config.json", {"in_channels": 9}), "in_channels is 9"),
    "with one text encoder": (
        ("model_index.json", {"text_encoder": [None, None]}),
        "model_index.json: text_encoder is a None; give a base with a CLIPTextModel",
    ),
    "of EDM": (
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}),
        "scheduler/scheduler_config.json: prediction_type sample",
    ),
    "with another VAE's latents": (("vae/config.json", {"latents_mean": [1.0]}), "latents_mean"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_drawn_is_told_from_its_folder(folder, tmp_path, case):
    (name, values), said = REFUSED[case]
    stated.check("base", folder, "models.base", "sdxl")
    copy = changed(folder, tmp_path / "base", name, **values)
    with pytest.raises(UserError) as error:
        stated.check("base", copy, "models.base", "sdxl")
    assert said in str(error.value) and "; " in str(error.value) and "\n" not in str(error.value)


def test_a_tokenizer_that_lacks_is_named(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "base")
    shutil.rmtree(copy / "tokenizer_2")
    with pytest.raises(UserError, match="models.base: tokenizer_2: has no vocabulary"):
        stated.check("base", copy, "models.base", "sdxl")
    with pytest.raises(UserError, match="set models.family to sdxl"):
        folders.check_family(folder, "sd")


# --- LoRAs of others ----------------------------------------------------------------------------


SAME = {  # a layer as diffusers names it, as kohya does, and as kohya does by the first names
    "unet.down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k": (
        "lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn2_to_k",
        "lora_unet_input_blocks_3_1_transformer_blocks_1_attn2_to_k",
    )
}
for number, part in enumerate(("text_encoder", "text_encoder_2"), start=1):
    for layer in ("q_proj", "v_proj", "out_proj"):  # by the last diffusers knows whose layout it is
        name = f"text_model.encoder.layers.1.self_attn.{layer}"
        SAME[f"{part}.{name}"] = (f"lora_te{number}_{name.replace('.', '_')}",) * 2
WIDTHS = {"unet": (32, 16), "text_encoder": (12, 12), "text_encoder_2": (20, 20)}


def matrices(layer):
    """(down, up) of rank 2."""
    wide, high = WIDTHS[layer.partition(".")[0]]
    g = torch.Generator().manual_seed(len(layer))
    return torch.randn(2, wide, generator=g), torch.randn(high, 2, generator=g)


def lora_file(path, layout):
    tensors = {}
    for layer, others in SAME.items():
        down, up = matrices(layer)
        if layout == "diffusers":
            tensors |= {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up}
        else:
            key = others[layout == "kohya, first names"]
            tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up,
                        f"{key}.alpha": torch.tensor(2.0)}  # fmt: skip
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


@pytest.mark.parametrize("layout", ["diffusers", "kohya", "kohya, first names"])
def test_a_lora_is_merged_into_the_unet_and_both_text_encoders(folder, tmp_path, layout):
    file = lora_file(tmp_path / "one.safetensors", layout)
    lora.merge(folder, [file], [0.5], tmp_path / "out")
    found = {}
    for part, name in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model"),
                       ("text_encoder_2", "model")):  # fmt: skip
        old, new = (load_file(each / part / f"{name}.safetensors") for each in
                    (folder, tmp_path / "out"))  # fmt: skip
        for key in old:
            if not torch.equal(old[key], new[key]):
                found[f"{part}.{key}".removesuffix(".weight")] = new[key] - old[key]
    known = {name.replace("text_model.", ""): name for name in SAME}
    assert {name.replace("text_model.", "") for name in found} == set(known)
    for name, change in found.items():
        down, up = matrices(known[name.replace("text_model.", "")])
        assert torch.allclose(change, 0.5 * up @ down, atol=1e-5)


@pytest.mark.parametrize("name", ["lora_te_text_model_x", "lora_te3_x", "transformer.x"])
def test_a_lora_of_another_family_is_told_from_its_names(folder, tmp_path, name):
    save_file({f"{name}.lora_down.weight": torch.zeros(2, 4)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="a LoRA of another family .*; give one"):
        lora.check(tmp_path / "x.safetensors", folder)

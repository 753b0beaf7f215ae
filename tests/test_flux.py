"""FLUX.1: what the family draws and trains is what diffusers' own code does."""

import json
import shutil

import numpy as np
import pytest
import torch

from tests import drawing, tiny
from tests.drawing import TEXTS, conditions, sampling
from tests.test_guidance import KINDS, PICTURES
from vlg import plugins
from vlg.config.load import load
from vlg.errors import UserError
from vlg.files import write_manifest
from vlg.models import families, folders, kohya, lora, stated
from vlg.models.family import open_family
from vlg.sample import arm
from vlg.sample.listing import Picture
from vlg.sample.sampler import Sampler
from vlg.train.step import backward

STEEP = {"use_dynamic_shifting": True, "base_image_seq_len": 4, "max_image_seq_len": 20}


def noise(n=3, seed=0):
    return drawing.noise(n, seed, channels=16)


@pytest.fixture(scope="module")
def folder():
    return tiny.world("flux")["base"]


@pytest.fixture(scope="module")
def family(folder):
    return open_family(folder)


@pytest.fixture(scope="module")
def schnell(tmp_path_factory):
    return tiny.save_flux(tmp_path_factory.mktemp("schnell") / "base", guidance=False)


@pytest.fixture(scope="module")
def steep(tmp_path_factory):
    """A base whose shift of 16 squares is far from that of the usual ones."""
    return tiny.save_flux(tmp_path_factory.mktemp("steep") / "base", shift=STEEP)


def sealed(folder):
    """The folder, with the manifest that what is drawn with has."""
    if not (folder / "manifest.json").exists():
        write_manifest(folder)
    return folder


def pipeline(folder, kind="FluxPipeline"):
    import diffusers

    pipe = getattr(diffusers, kind).from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


SIZE = {"height": 32, "width": 32, "max_sequence_length": tiny.LENGTH}


def packed(z):
    from diffusers import FluxPipeline

    return FluxPipeline._pack_latents(z, *z.shape)


def unpacked(z):
    from diffusers import FluxPipeline

    return FluxPipeline._unpack_latents(z, 32, 32, 4)


# ---------------------------------------------------------------------------------------- drawing


def test_a_folder_of_it_is_found_and_is_whole(folder, schnell):
    for each in (folder, schnell):
        assert families.name_of(each) == "flux"
        stated.check("base", each, "it", "flux")
        files = [path.relative_to(each).as_posix() for path in each.rglob("*.*")]
        assert not stated.absent(each) and not stated.left_out(files, "flux")
    family = open_family(folder)
    assert family.latent_shape == (16, 8, 8) and family.resolution == 32
    assert family.timesteps == 1000


@pytest.mark.parametrize(
    ("base", "scale"), [("folder", 1.0), ("folder", 4.0), ("schnell", 1.0), ("steep", 4.0)]
)
def test_sampled_latents_are_the_pipelines(base, scale, request):
    chosen = request.getfixturevalue(base)
    family = open_family(chosen)
    wanted = pipeline(chosen)(
        TEXTS, latents=packed(noise()), num_inference_steps=4, guidance_scale=scale,
        output_type="latent", **SIZE,
    ).images  # fmt: skip
    calls = []
    net = family.net
    hook = net.register_forward_pre_hook(lambda *_: calls.append(1))
    found = family.sample(
        latents=noise(), settings=sampling(guidance_scale=scale), **conditions(family)
    )
    hook.remove()
    assert torch.equal(found, unpacked(wanted)) and len(calls) == 4, "one call a step"


def test_the_scale_and_the_size_of_a_picture_matter(folder, steep):
    """As they would not if the network were not told, or the shift the same for all sizes."""
    family, told = open_family(folder), {}
    for scale in (1.0, 4.0):
        told[scale] = family.sample(
            family.condition(TEXTS), noise(), sampling(guidance_scale=scale)
        )
    assert not torch.allclose(told[1.0], told[4.0], atol=1e-3)
    sigmas = [open_family(f)._scheduler(sampling(), 0).inner.sigmas[1] for f in (folder, steep)]
    shifts = [0.5 + 0.65 * (16 - a) / (b - a) for a, b in ((256, 4096), (4, 20))]
    for sigma, mu in zip(sigmas, shifts, strict=True):
        assert float(sigma) == pytest.approx(np.exp(mu) / (np.exp(mu) + (1 / 0.75 - 1)), rel=1e-5)


def test_pictures_are_the_pipelines(folder):
    sampler, seeds = Sampler(sealed(folder), sampling(), "cpu"), [0, 1, 2]
    ours = sampler.draw(TEXTS, seeds)
    theirs = pipeline(folder)(
        TEXTS, latents=packed(sampler.latents(TEXTS, seeds, "latents")), num_inference_steps=4,
        guidance_scale=4.0, output_type="np", **SIZE,
    ).images  # fmt: skip
    apart = np.abs(ours.astype(int) - np.rint(theirs * 255).astype(int))
    assert apart.max() <= 1 and ours.std() > 1
    alone = sampler.draw(TEXTS[1:2], [1])[0].astype(int)
    assert np.abs(alone - ours[1]).max() <= 1, "of a prompt and its seed, whatever the batch"


def test_a_refinement_is_the_pipelines(folder, family):
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    theirs = pipeline(folder, "FluxImg2ImgPipeline")(
        TEXTS[:2], image=pixels, strength=0.5, num_inference_steps=4, guidance_scale=4.0,
        generator=[torch.Generator().manual_seed(i) for i in (5, 6)], output_type="np", **SIZE,
    ).images  # fmt: skip
    generators = [torch.Generator().manual_seed(i) for i in (5, 6)]
    z, begin = family.renoised(pixels, generators, sampling(), 0.5)
    found = family.sample(
        latents=z, begin=begin, settings=sampling(), **conditions(family, TEXTS[:2])
    )
    ours = family.decode(found).permute(0, 2, 3, 1).numpy()
    assert begin == 2 and np.abs(np.rint(ours * 255) - np.rint(theirs * 255)).max() <= 1
    assert np.allclose(ours, theirs, atol=1e-5) and ours.std() > 0.01


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++"])
def test_pictures_are_drawn_and_redrawn_in_bf16(folder, scheduler):
    own = Sampler(sealed(folder), sampling(scheduler=scheduler, precision="bf16"), "cpu", folder)
    drawn = own.draw(TEXTS[:2], [0, 1])
    again = own.redraw(drawn, TEXTS[:2], [0, 1], 0.5, "again")
    assert drawn.std() > 0 and again.std() > 0 and (again != drawn).any()


def test_a_score_moves_the_estimate_as_tweedie_says(family):
    score, moved = noise(seed=2), []

    def shift(step):
        before = step.estimate
        step.shift(score)
        moved.append((float(step.t / 1000), step.estimate - before))

    family.sample(latents=noise(), on_step=shift, settings=sampling(), **conditions(family))
    assert len(moved) == 4 and moved[0][0] == 1 and not moved[0][1].any()
    for sigma, found in moved[1:]:
        assert torch.allclose(found, sigma**2 / (1 - sigma) * score, rtol=1e-3, atol=1e-4)


def test_halves_resampling_and_gradients(family):
    """What arms ask of a drawing."""
    net, latents = family.network(), noise().requires_grad_()
    same = {"condition": family.condition([TEXTS[0]] * 3)}
    given = {"settings": sampling(scheduler="dpm++"), **same}
    whole = family.sample(latents=noise(), **given)

    def turn(step):
        if step.index == 2:
            step.resample(torch.tensor([2, 2, 0]))

    chosen = family.sample(latents=noise(), on_step=turn, **given)
    assert torch.allclose(chosen, whole[[2, 2, 0]], atol=1e-4)
    given = {"settings": sampling(), **same}
    half = family.sample(latents=noise(), end=2, **given)
    whole = family.sample(latents=noise(), **given)
    assert torch.equal(family.sample(latents=half, begin=2, **given), whole)
    family.sample(latents=latents, grad=True, net=net, **given).square().sum().backward()
    assert latents.grad.abs().amax(dim=(1, 2, 3)).min() > 0
    assert sum(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters()) > 20


def test_a_posterior_and_its_picture_are_the_pipelines(folder, family):
    vae = pipeline(folder).vae
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        told = vae.encode(pixels * 2 - 1).latent_dist
        back = vae.decode(noise(2) / 0.3611 + 0.1159).sample
    mean, std = family.encode(pixels)
    assert torch.allclose(mean, (told.mean - 0.1159) * 0.3611, atol=1e-6)
    assert torch.allclose(std, told.std * 0.3611, atol=1e-6)
    assert torch.allclose(family.decode(noise(2)), (back / 2 + 0.5).clamp(0, 1), atol=1e-6)


def test_what_is_kept_of_texts_is_what_the_pipeline_tells_the_network(folder):
    from vlg.data.source import Cache

    cache = Cache(tiny.world("flux")["cache"])
    rows = [1, 2, 3]
    told = cache.condition(rows)
    texts = [cache.listing.captions[i] for i in rows]
    states, pooled, ids = pipeline(folder).encode_prompt(
        texts, max_sequence_length=tiny.LENGTH, device="cpu"
    )
    assert told.keys() == {"t5", "pooled"} and not ids.any()
    assert torch.allclose(told["t5"].float(), states, atol=1e-5)
    assert torch.allclose(told["pooled"].float(), pooled, atol=1e-5)


def test_long_texts_are_cut_where_dev_and_schnell_cut_them(folder, schnell, tmp_path):
    for base, most in ((folder, 512), (schnell, 256)):
        copy = shutil.copytree(base, tmp_path / str(most))
        tiny.t5_tokenizer(1000).save_pretrained(copy / "tokenizer_2")
        assert open_family(copy).condition(TEXTS[:1])["t5"].shape[1] == most


def test_a_cost_is_that_of_its_calls(folder):
    from torch.utils.flop_counter import FlopCounterMode

    from vlg.models.ledger import Ledger

    family, ledger = open_family(folder), Ledger()
    family.watch(ledger)
    n = 28  # as many as the network is told places
    told = {k: v.repeat(n, *[1] * (v.ndim - 1)) for k, v in family.condition(TEXTS[:1]).items()}
    family.sample(told, noise(n), sampling(guidance_scale=4.0))
    cost = ledger.take()
    assert cost.of("network") == 4 * n
    one = {k: v[:1] for k, v in told.items()}
    with FlopCounterMode(display=False) as count, torch.no_grad():
        family.predict(family.net, noise(1), torch.tensor([500]), one)
    assert cost.of("network", "flops") >= 4 * n * count.get_total_flops() > 0


# --------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("base", ["flux", "schnell"])
def test_a_step_is_that_of_diffusers_example(base, schnell, monkeypatch):
    """train_dreambooth_lora_flux.py as it is set by default: uniform timesteps of the scheduler as
    it is loaded, the flow, no weights, a guidance of 3.5 where the network takes one; at weights
    of a LoRA that have moved."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from peft import LoraConfig

    rank, world = 4, tiny.world("flux")
    chosen = world["base"]
    if base == "schnell":
        chosen = schnell
        monkeypatch.setattr(tiny, "world", lambda _: {**world, "base": schnell})
    run = tiny.begin("normal", "flux", caption_dropout=0, lora_rank=rank)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in run.state.weights.values():
            weight += 0.05 * torch.randn(weight.shape, generator=g)
    transformer = FluxTransformer2DModel.from_pretrained(chosen, subfolder="transformer")
    transformer.requires_grad_(False)
    layers = ["attn.to_k", "attn.to_q", "attn.to_v", "attn.to_out.0", "attn.add_k_proj"]
    layers += ["attn.add_q_proj", "attn.add_v_proj", "attn.to_add_out", "ff.net.0.proj"]
    layers += ["ff.net.2", "ff_context.net.0.proj", "ff_context.net.2"]
    transformer.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=layers))
    transformer.load_state_dict(run.state.net.state_dict())
    batch = run.method.batch(run.data, 0)

    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(chosen, subfolder="scheduler")
    told = run.data.condition(batch.captions)
    mean, std = run.data.latents(batch.pictures, batch.flipped)
    model_input, noise = mean + std * batch.posterior, batch.noise
    timesteps = scheduler.timesteps[scheduler.config.num_train_timesteps - 1 - batch.timesteps]
    sigmas = torch.stack([scheduler.sigmas[scheduler.timesteps == t] for t in timesteps])
    sigmas = sigmas[:, :, None, None]
    noisy = (1.0 - sigmas) * model_input + sigmas * noise
    guidance = torch.tensor([3.5]).expand(len(noisy)) if base == "flux" else None
    predicted = transformer(
        hidden_states=FluxPipeline._pack_latents(noisy, *noisy.shape),
        timestep=timesteps / 1000, guidance=guidance, pooled_projections=told["pooled"],
        encoder_hidden_states=told["t5"], txt_ids=torch.zeros(told["t5"].shape[1], 3),
        img_ids=FluxPipeline._prepare_latent_image_ids(len(noisy), 4, 4, "cpu", torch.float32),
        return_dict=False,
    )[0]  # fmt: skip
    target = noise - model_input
    loss = ((unpacked(predicted) - target) ** 2).reshape(len(target), -1).mean(1).mean()
    loss.backward()

    _, numbers = backward(run, batch)
    assert numbers[0].item() == pytest.approx(loss.item(), rel=1e-4)
    drawing.same_gradients(transformer.named_parameters(), run.state.weights)


def test_noise_estimates_and_shares_are_those_of_flow(family):
    z0, eps, t = noise(), noise(seed=1), torch.tensor([0, 499, 999])
    sigma = torch.tensor([0.001, 0.5, 1.0])
    z_t, target = family.noised(z0, eps, t), family.target(z0, eps, t)
    wide = sigma[:, None, None, None]
    assert torch.allclose(z_t, (1 - wide) * z0 + wide * eps, atol=1e-6)
    assert torch.allclose(family.estimate(z_t, target, t), z0, atol=1e-5)
    share = (1 - sigma) ** 2 / ((1 - sigma) ** 2 + sigma**2)
    assert torch.allclose(family.share(t), share, atol=1e-6)
    assert torch.allclose(family.denoising(target + 2, target, t), torch.full((3,), 4.0))
    weight = sigma**2 * ((1 - sigma) ** 2 / sigma**2).clamp(max=5.0)
    assert torch.allclose(family.denoising(target + 2, target, t, 5.0), 4 * weight, rtol=1e-4)


def test_whole_timesteps_of_a_path_are_the_nearest(family):
    path, exact = family.path(sampling(steps=7)), family._scheduler(sampling(steps=7), 0).timesteps
    assert path[0] == 999 and path == sorted(path, reverse=True)
    assert (family.schedule.sigma(torch.tensor(path)) * 1000 - exact).abs().max() <= 0.51


@pytest.mark.parametrize("method", plugins.names(plugins.METHODS))
def test_every_method_trains_a_lora_of_it(method, tmp_path):
    """What it writes is a model that draws, and a LoRA that diffusers loads."""
    out, base = drawing.trained(tmp_path, method, "flux"), tiny.world("flux")["base"]
    drawing.draws_as_trained(out, base, noise(), sampling(), pipeline(base))


def test_all_weights_are_not_trained():
    with pytest.raises(UserError, match="lora_rank: is 0, and 11.9 billion weights .*set it to 16"):
        tiny.begin("normal", "flux")


def config(tmp_path, **changes):
    """A config over a base of it, read as Snakemake reads it."""
    values = {
        "models": {"family": "flux", "base": str(tiny.world("flux")["base"])},
        "finetune": {"lora_rank": 4, "variants": {"normal": {"guide_scale": 0}}},
        "generate": {"guidance_scale": 3.5},
    }
    for section, own in changes.items():
        values[section] = {**values[section], **own}
    return load(values, tmp_path)


def test_a_config_is_refused_before_any_job(schnell, tmp_path):
    config(tmp_path)
    with pytest.raises(UserError) as error:
        config(tmp_path, finetune={"lora_rank": 0})
    assert str(error.value) == (
        "config: finetune.lora_rank: is 0, and all of flux's weights cannot be trained: "
        "11.9 billion weights with gradients and AdamW's moments take 190 GB; set it to 16"
    )
    with pytest.raises(UserError) as error:
        config(tmp_path, models={"base": str(schnell)})
    assert str(error.value) == (
        "config: generate: guidance_scale is 3.5, and this network is told none (FLUX.1 schnell); "
        "set it to 1"
    )
    config(tmp_path, models={"base": str(schnell)}, generate={"guidance_scale": 1})
    with pytest.raises(UserError, match="models.compare.fast.source: guidance_scale is 3.5"):
        config(tmp_path, models={"compare": {"fast": str(schnell)}})


def test_a_scale_that_schnell_is_not_told_is_refused(schnell):
    family = open_family(schnell)
    with pytest.raises(UserError, match="guidance_scale is 4, and this network is told none"):
        family.sample(latents=noise(), settings=sampling(), **conditions(family))


# ------------------------------------------------------------------------------------------- arms


@pytest.fixture(scope="module")
def sampler(folder):
    return Sampler(sealed(folder), sampling(scheduler="dpm++"), "cpu", folder)


@pytest.mark.parametrize("kind", KINDS)
def test_every_arm_draws_with_it(kind, sampler):
    drawing.draws(arm.load(kind, KINDS[kind]), kind, sampler, PICTURES[:2])


def test_a_guider_is_true_guidance_of_a_network_that_is_told_1(folder):
    """FluxPipeline's `true_cfg_scale`, which calls the network twice; the projection left out."""
    sampler, seeds = Sampler(sealed(folder), sampling(), "cpu"), [0, 1, 2]
    keys = {"guider": "apg", "eta": 1.0, "norm_threshold": 0.0, "momentum": 0.0}
    pictures = [Picture(str(i), text, i, "study") for i, text in enumerate(TEXTS)]
    ours = arm.load("guiders", keys).draw(sampler, None, arm.Before(1, pictures)).images
    theirs = pipeline(folder)(
        TEXTS, negative_prompt=[""] * 3, latents=packed(sampler.latents(TEXTS, seeds, "latents")),
        num_inference_steps=4, guidance_scale=1.0, true_cfg_scale=4.0, output_type="np", **SIZE,
    ).images  # fmt: skip
    assert np.abs(ours.astype(int) - np.rint(theirs * 255)).max() <= 1
    assert np.abs(ours.astype(int) - sampler.draw(TEXTS, seeds)).max() > 1


def test_a_skipped_block_hands_texts_and_latents_on_as_they_are(folder):
    """As a network without the block predicts."""
    sampler = Sampler(sealed(folder), sampling(steps=2), "cpu")
    keys = {"guider": "skip_layer", "skip_blocks": "transformer_blocks", "skip_layers": [1]}
    keys |= {"skip_window": (0.0, 1.0), "skip_scale": 2.0, "guidance_scale": 3.0}
    pictures = [Picture(str(i), text, i, "study") for i, text in enumerate(TEXTS)]
    ours = arm.load("guiders", keys).draw(sampler, None, arm.Before(1, pictures)).images
    family, told = sampler.family, sampler.family.condition(TEXTS)
    empty, without = family.condition([""] * 3), family.network()
    del without.transformer_blocks[1]

    def guided(predict, index, t, net):
        z_t, text, none = predict.args[1], predict(told), predict(empty)
        found = none + 3 * (text - none)
        if not index:  # the guider never skips in the first step
            return found
        skipped = family.predict(without, z_t, t, {**told, "guidance": torch.ones(len(z_t))})
        return found + 2 * (text - skipped)

    z = sampler.latents(TEXTS, [0, 1, 2], "latents")
    with torch.no_grad():
        wanted = family.decode(family.sample(told, z, sampling(steps=2), guidance=guided))
    wanted = wanted.permute(0, 2, 3, 1).numpy()
    assert np.abs(ours - np.rint(wanted * 255)).max() <= 1


# ------------------------------------------------------------------------------------------ LoRAs


def of_flux(path, layout, alpha=1.0):
    """A LoRA of layers of both kinds of blocks and of CLIP; {layer of the folder: its change}."""
    g, rank, tensors, changes = torch.Generator().manual_seed(0), 2, {}, {}
    one, two = "transformer_blocks.1", "single_transformer_blocks.0"
    for own, others, out, width in (
        ("double_blocks.1.img_attn.qkv", [f"{one}.attn.to_{n}" for n in "qkv"], 16, 16),
        ("double_blocks.1.txt_attn.proj", [f"{one}.attn.to_add_out"], 16, 16),
        ("double_blocks.1.img_mlp.0", [f"{one}.ff.net.0.proj"], 64, 16),
        ("single_blocks.0.linear2", [f"{two}.proj_out"], 16, 80),
        ("te1", ["text_model.encoder.layers.1.self_attn.out_proj"], 12, 12),
    ):
        down = torch.randn(rank, width, generator=g)
        parts = [torch.randn(out, rank, generator=g) for _ in others]
        of_text = own == "te1"
        for other, up in zip(others, parts, strict=True):
            name = f"{'text_encoder' if of_text else 'transformer'}.{other}"
            changes[name.replace(".text_model", "")] = up @ down * (alpha / rank)
            if layout == "diffusers":
                tensors[f"{name}.lora_A.weight"] = down.clone()
                tensors[f"{name}.lora_B.weight"] = up * (alpha / rank)
        if layout == "kohya":
            key = f"lora_te1_{others[0]}" if of_text else f"lora_unet_{own}"
            key = key.replace(".", "_")
            tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": torch.cat(parts)}
            tensors[f"{key}.alpha"] = torch.tensor(alpha)
    from safetensors.torch import save_file

    save_file(tensors, path)
    return changes


@pytest.mark.parametrize("layout", ["diffusers", "kohya"])
def test_a_lora_is_merged_whatever_its_layout(layout, folder, tmp_path):
    from safetensors.torch import load_file

    file = tmp_path / "one.safetensors"
    wanted, found = of_flux(file, layout), {}
    lora.check(file, folder)
    lora.merge(folder, [file], [0.5], tmp_path / "out")
    for part in ("transformer", "text_encoder"):
        name = "diffusion_pytorch_model" if part == "transformer" else "model"
        old, new = (
            load_file(each / part / f"{name}.safetensors") for each in (folder, tmp_path / "out")
        )
        found |= {
            f"{part}.{key}".removesuffix(".weight"): new[key] - old[key]
            for key in old
            if not torch.equal(old[key], new[key])
        }
    assert found.keys() == wanted.keys() and len(found) == 7
    for name, change in found.items():
        assert torch.allclose(change, 0.5 * wanted[name], atol=1e-5), name


@pytest.mark.parametrize("rank", [3, 4])
def test_a_lora_of_a_training_is_diffusers_own_by_way_of_kohyas_layout(rank):
    """At the published width, which diffusers takes for granted."""
    from diffusers import FluxPipeline

    g, tensors, width = torch.Generator().manual_seed(0), {}, 3072
    one = ["attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "ff.net.0.proj", "ff.net.2"]
    one += ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"]
    one += ["ff_context.net.0.proj", "ff_context.net.2"]
    for block, names in (("transformer_blocks.7", one), ("single_transformer_blocks.37", one[:3])):
        for name in names:
            out = 4 * width if name.endswith("proj") and "ff" in name else width
            down = 4 * width if name.endswith("net.2") else width
            key = f"transformer.{block}.{name}"
            tensors[f"{key}.lora_A.weight"] = torch.randn(rank, down, generator=g)
            tensors[f"{key}.lora_B.weight"] = torch.randn(out, rank, generator=g)
    other = kohya.written(tensors)
    assert all(name.startswith("lora_unet_") for name in other) and len(other) == 3 * 9
    found = FluxPipeline.lora_state_dict(other)
    still = "transformer.single_transformer_blocks.37.proj_mlp.lora_B.weight"
    assert not found.pop(still).any() and found.pop(still.replace("_B.", "_A.")) is not None
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], each) for name, each in tensors.items())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lora_unet_joint_blocks_0_x_block_attn_qkv", "a LoRA of another family"),
        ("lora_unet_down_blocks_0", "a LoRA of another family"),
        ("lora_te2_encoder_block_0_layer_0_SelfAttention_q", "changes T5"),
    ],
)
def test_a_lora_of_another_family_is_told(name, said, folder, tmp_path):
    other = tmp_path / "other.safetensors"
    other.write_bytes(tiny.file_of(f"{name}.lora_down.weight"))
    with pytest.raises(UserError, match=said):
        lora.check(other, folder)


def test_a_lora_of_it_is_told_beside_other_bases(tmp_path):
    file = tmp_path / "flux.safetensors"
    for layout in ("diffusers", "kohya"):
        of_flux(file, layout)
        for prediction in ("epsilon", "flow"):
            with pytest.raises(UserError, match="a LoRA of another family"):
                lora.check(file, tiny.world(prediction)["base"])


# ------------------------------------------------------------------------------- what is refused


REFUSED = {
    "scheduler/scheduler_config.json": [
        ({"_class_name": "DDIMScheduler"}, "is of a DDIMScheduler"),
        ({"max_image_seq_len": 256}, "base_image_seq_len is 256 and max_image_seq_len 256"),
        ({"base_shift": None}, "base_shift is None; set that of the base (0.5)"),
        ({"invert_sigmas": True}, "invert_sigmas is set"),
    ],
    "transformer/config.json": [
        ({"in_channels": 384}, "in_channels is 384 and 2 x 2 of the VAE's latents have 64"),
        ({"pooled_projection_dim": 64}, "pooled_projection_dim is 64 and CLIP's hidden_size 12"),
        ({"joint_attention_dim": 16}, "joint_attention_dim is 16 and T5's d_model 32"),
        ({"axes_dims_rope": [2, 2, 2, 2]}, "axes_dims_rope [2, 2, 2, 2]"),
    ],
    "vae/config.json": [
        ({"shift_factor": None}, "shift_factor is null; set the number"),
        ({"sample_size": 36}, "sample_size is 36; write the side of square pictures there"),
    ],
    "model_index.json": [
        ({"transformer": ["diffusers", "SD3Transformer2DModel"]}, "is a SD3Transformer2DModel"),
    ],
    "text_encoder_2/config.json": [({"vocab_size": 3}, "tokenizer_2/")],
}


@pytest.mark.parametrize(
    ("file", "change", "said"), [(f, *each) for f, some in REFUSED.items() for each in some]
)
def test_what_cannot_be_drawn_is_refused_in_one_line(folder, tmp_path, file, change, said):
    copy = tmp_path / "base"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.safetensors"))
    told = json.loads((copy / file).read_text())
    (copy / file).write_text(json.dumps(told | change))
    with pytest.raises(UserError) as error:
        stated.check("base", copy, "it", "flux")
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["Flux2Pipeline", "FluxFillPipeline", "FluxKontextPipeline"])
def test_a_pipeline_of_no_family_is_named_beside_those_there_are(kind, folder, tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    known = rf"is a {kind}; families there are: flux \(FluxPipeline\), qwen_image \("
    with pytest.raises(UserError, match=known) as error:
        folders.check_family(tmp_path, "flux")
    assert "\n" not in str(error.value)


def test_one_file_is_refused_for_the_folder(tmp_path):
    file = tmp_path / "flux1-dev.safetensors"
    file.write_bytes(tiny.file_of("double_blocks.0.img_attn.qkv.weight", "single_blocks.0.a"))
    with pytest.raises(UserError, match="one file; of flux give a diffusers folder"):
        folders.unfold(file, tmp_path / "out", "flux")
    with pytest.raises(UserError, match="this is Flux; give its diffusers folder, with models.fam"):
        folders.unfold(file, tmp_path / "out", "sd")
    file.write_bytes(tiny.file_of("double_stream_modulation_img.lin.weight", "double_blocks.0.a"))
    with pytest.raises(UserError, match="this is FLUX.2; no family here draws it"):
        folders.unfold(file, tmp_path / "out", "sd")

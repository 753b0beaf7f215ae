"""Stable Diffusion 3: what the family draws and trains is what diffusers' own code does."""

import json
import shutil

import numpy as np
import pytest
import torch

from tests import drawing, tiny
from tests.drawing import TEXTS, conditions, sampling
from tests.test_guidance import KINDS, PICTURES
from vlg import plugins
from vlg.errors import UserError
from vlg.files import write_manifest
from vlg.models import families, folders, lora, stated
from vlg.models.family import open_family
from vlg.sample import arm
from vlg.sample.listing import Picture
from vlg.sample.sampler import Sampler
from vlg.train.step import backward


def noise(n=3, seed=0):
    return drawing.noise(n, seed, channels=16)


@pytest.fixture(scope="module")
def folder():
    return tiny.world("flow")["base"]


@pytest.fixture(scope="module")
def family(folder):
    return open_family(folder)


@pytest.fixture(scope="module")
def without_t5(tmp_path_factory):
    return tiny.save_sd3(tmp_path_factory.mktemp("sd3") / "base", t5=False)


def sealed(folder):
    """The folder, with the manifest that what is drawn with has."""
    if not (folder / "manifest.json").exists():
        write_manifest(folder)
    return folder


def pipeline(folder, **options):
    from diffusers import StableDiffusion3Pipeline

    pipe = StableDiffusion3Pipeline.from_pretrained(folder, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


# ---------------------------------------------------------------------------------------- drawing


def test_a_folder_of_it_is_found_and_is_whole(folder, without_t5):
    for each in (folder, without_t5):
        assert families.name_of(each) == "sd3"
        stated.check("base", each, "it", "sd3")
    family = open_family(folder)
    assert family.latent_shape == (16, 8, 8) and family.resolution == 32
    assert family.timesteps == 1000


@pytest.mark.parametrize(("t5", "scale"), [(True, 1.0), (True, 4.0), (False, 4.0)])
def test_sampled_latents_are_the_pipelines(folder, without_t5, t5, scale):
    chosen = folder if t5 else without_t5
    family, empty = open_family(chosen), {"text_encoder_3": None, "tokenizer_3": None}
    wanted = pipeline(chosen, **({} if t5 else empty))(
        TEXTS, latents=noise(), num_inference_steps=4, guidance_scale=scale, output_type="latent"
    ).images
    settings = sampling(guidance_scale=scale)
    found = family.sample(latents=noise(), settings=settings, **conditions(family))
    assert torch.equal(found, wanted)


def test_pictures_are_the_pipelines(folder):
    sampler, seeds = Sampler(sealed(folder), sampling(), "cpu"), [0, 1, 2]
    ours = sampler.draw(TEXTS, seeds)
    theirs = pipeline(folder)(
        TEXTS, latents=sampler.latents(TEXTS, seeds, "latents"), num_inference_steps=4,
        guidance_scale=4.0, output_type="np",
    ).images  # fmt: skip
    apart = np.abs(ours.astype(int) - np.rint(theirs * 255).astype(int))
    assert apart.max() <= 1 and ours.std() > 1


def test_redrawn_pictures_begin_as_the_pipelines_do(folder, family):
    from diffusers import StableDiffusion3Img2ImgPipeline

    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    pipe = StableDiffusion3Img2ImgPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    wanted = pipe(
        TEXTS[:2], image=pixels, strength=0.5, num_inference_steps=4, guidance_scale=4.0,
        generator=[torch.Generator().manual_seed(i) for i in (5, 6)], output_type="latent",
    ).images  # fmt: skip
    generators = [torch.Generator().manual_seed(i) for i in (5, 6)]
    z, begin = family.renoised(pixels, generators, sampling(), 0.5)
    found = family.sample(
        latents=z, begin=begin, settings=sampling(), **conditions(family, TEXTS[:2])
    )
    assert begin == 2 and torch.allclose(found, wanted, atol=1e-5)


def written_out(family, order, fresh=None, steps=4):
    """Latents drawn by DPM-Solver++ (arXiv:2211.01095, algorithm 2; its stochastic form where
    there is fresh noise), written out for alpha = 1 - sigma, at the sigmas of the pipeline."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(
        family.folder, subfolder="scheduler"
    )
    scheduler.set_timesteps(steps)
    sigmas, told = scheduler.sigmas.double(), family.condition(TEXTS)
    lambdas = ((1 - sigmas) / sigmas).log()
    z, before = noise(), None
    for k, t in enumerate(scheduler.timesteps):
        with torch.no_grad():
            clean = z - sigmas[k].float() * family.predict(family.net, z, t, told)
        h, change = lambdas[k + 1] - lambdas[k], torch.zeros_like(clean)
        if order == 2 and 1 < k < steps - 1:  # behind a sigma of 1 the last change counts nothing
            change = (clean - before) * (h / (lambdas[k] - lambdas[k - 1])).float()
        x = clean + change / 2
        if fresh:
            e = torch.exp(-h)
            parts = (sigmas[k + 1] / sigmas[k] * e, (1 - sigmas[k + 1]) * (1 - e * e))
            more = (sigmas[k + 1] * (1 - e * e).sqrt()).float() * fresh[k]
        else:
            parts = (sigmas[k + 1] / sigmas[k], (1 - sigmas[k + 1]) * (1 - torch.exp(-h)))
            more = 0
        z = parts[0].float() * z + parts[1].float() * x + more
        before = clean
    return z


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize(("scheduler", "order"), [("ddim", 1), ("dpm++", 2)])
def test_every_solver_is_the_published_one(family, scheduler, order, stochastic):
    """Euler's step is DPM-Solver++'s of first order, the stochastic one DDIM's at eta 1."""
    fresh = [noise(seed=i) for i in range(10, 14)] if stochastic else None
    found = family.sample(
        family.condition(TEXTS), noise(), sampling(scheduler=scheduler, guidance_scale=1.0),
        noise=fresh and fresh.__getitem__,
    )  # fmt: skip
    assert torch.allclose(found, written_out(family, order, fresh), atol=1e-4)


def test_a_stochastic_step_leaves_picture_and_noise_their_shares(family):
    """With a network that knows the flow, z' is distributed as the forward process has it."""
    from vlg.models.flow import Solver

    z0, eps, fresh = (torch.randn(1, 1, 300, 300) for _ in range(3))
    for scheduler in ("ddim", "dpm++"):
        solver = Solver(family.folder, sampling(scheduler=scheduler), "cpu", 1, True)
        t, behind = solver.timesteps[1:3]
        z = family.noised(z0, eps, t[None])
        moved = solver.step(eps - z0, t, z, return_dict=False, variance_noise=fresh)[0]
        apart = moved - (1 - behind / 1000) * z0
        assert apart.std().item() == pytest.approx(float(behind) / 1000, rel=0.02)
        assert (apart * fresh).mean() > 0.3, "and much of the noise is fresh"


def test_a_score_moves_the_estimate_as_tweedie_says(family):
    score, moved = noise(seed=2), []

    def shift(step):
        before = step.estimate
        step.shift(score)
        sigma = step.t / 1000
        moved.append((float(sigma), step.estimate - before))

    given = {"settings": sampling(), **conditions(family)}
    family.sample(latents=noise(), on_step=shift, **given)
    assert len(moved) == 4 and moved[0][0] == 1 and not moved[0][1].any()
    for sigma, found in moved[1:]:
        wanted = sigma**2 / (1 - sigma) * score
        assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-4)


def test_halves_resampling_and_gradients(family):
    """What arms ask of a drawing."""
    net, latents = family.network(), noise().requires_grad_()
    same = {"condition": family.condition([TEXTS[0]] * 3)}
    for scheduler in ("ddim", "dpm++"):
        given = {"settings": sampling(scheduler=scheduler, guidance_scale=1.0), **same}
        whole = family.sample(latents=noise(), **given)

        def turn(step):
            if step.index == 2:
                step.resample(torch.tensor([2, 2, 0]))

        chosen = family.sample(latents=noise(), on_step=turn, **given)
        assert torch.allclose(chosen, whole[[2, 2, 0]], atol=1e-4)
    half = family.sample(latents=noise(), end=2, settings=sampling(guidance_scale=1.0), **same)
    given = {"settings": sampling(guidance_scale=1.0), **same}
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
        back = vae.decode(noise(2) / 1.5305 + 0.0609).sample
    mean, std = family.encode(pixels)
    assert torch.allclose(mean, (told.mean - 0.0609) * 1.5305, atol=1e-6)
    assert torch.allclose(std, told.std * 1.5305, atol=1e-6)
    assert torch.allclose(family.decode(noise(2)), (back / 2 + 0.5).clamp(0, 1), atol=1e-6)


# --------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("rank", [0, 4])
def test_a_step_is_that_of_diffusers_example(rank):
    """train_dreambooth_lora_sd3.py as it is set by default: timesteps of logit-normal density, its
    preconditioned prediction, no weights. Of LoRA its layers, at weights that have moved."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
    from peft import LoraConfig

    run = tiny.begin("normal", "flow", caption_dropout=0, lora_rank=rank)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in run.state.weights.values():
            weight += 0.05 * torch.randn(weight.shape, generator=g)
    base = tiny.world("flow")["base"]
    transformer = SD3Transformer2DModel.from_pretrained(base, subfolder="transformer")
    if rank:
        transformer.requires_grad_(False)
        layers = ["add_k_proj", "add_q_proj", "add_v_proj", "to_add_out"]
        layers += ["to_k", "to_out.0", "to_q", "to_v"]
        transformer.add_adapter(
            LoraConfig(r=rank, lora_alpha=rank, target_modules=[f"attn.{name}" for name in layers])
        )
    transformer.load_state_dict(run.state.net.state_dict())
    batch = run.method.batch(run.data, 0)

    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(base, subfolder="scheduler")
    pipe = pipeline(base)
    texts = [run.data.listing.captions[i] for i in batch.captions]
    with torch.no_grad():
        states, _, pooled, _ = pipe.encode_prompt(texts, None, None, device="cpu")
    mean, std = run.data.latents(batch.pictures, batch.flipped)
    model_input, noise = mean + std * batch.posterior, batch.noise
    timesteps = scheduler.timesteps[scheduler.config.num_train_timesteps - 1 - batch.timesteps]
    sigmas = torch.stack([scheduler.sigmas[scheduler.timesteps == t] for t in timesteps])
    sigmas = sigmas[:, :, None, None]
    noisy = (1.0 - sigmas) * model_input + sigmas * noise
    predicted = transformer(
        hidden_states=noisy, timestep=timesteps, encoder_hidden_states=states,
        pooled_projections=pooled, return_dict=False,
    )[0]  # fmt: skip
    predicted = predicted * (-sigmas) + noisy
    loss = ((predicted - model_input) ** 2).reshape(len(batch), -1).mean(1).mean()
    loss.backward()

    _, numbers = backward(run, batch)
    assert numbers[0].item() == pytest.approx(loss.item(), rel=1e-4)
    drawing.same_gradients(transformer.named_parameters(), run.state.weights)


def test_timesteps_are_drawn_of_the_examples_density(family):
    from diffusers.training_utils import compute_density_for_timestep_sampling

    torch.manual_seed(0)
    u = compute_density_for_timestep_sampling("logit_normal", 20000, 0.0, 1.0)
    drawn = family.draw_timesteps(20000, torch.Generator().manual_seed(0))
    assert drawn.dtype == torch.int64 and drawn.min() >= 0 and drawn.max() < 1000
    at = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9])
    assert torch.allclose((drawn / 1000).quantile(at), u.quantile(at), atol=0.01)


def test_noise_estimates_and_shares_are_those_of_flow(family):
    z0, eps, t = noise(), noise(seed=1), torch.tensor([0, 499, 999])
    u = torch.tensor([0.001, 0.5, 1.0])
    sigma = 3 * u / (1 + 2 * u)
    z_t, target = family.noised(z0, eps, t), family.target(z0, eps, t)
    wide = sigma[:, None, None, None]
    assert torch.allclose(z_t, (1 - wide) * z0 + wide * eps, atol=1e-6)
    assert torch.allclose(family.estimate(z_t, target, t), z0, atol=1e-5)
    share = (1 - sigma) ** 2 / ((1 - sigma) ** 2 + sigma**2)
    assert torch.allclose(family.share(t), share, atol=1e-6)
    assert torch.equal(family.noised(z0, eps, sigma * 1000), z_t), "T sigma in floating point"
    for gamma in (None, 5.0):
        error = family.denoising(target + 2, target, t, gamma)
        snr = (1 - sigma) ** 2 / sigma**2
        weight = sigma**2 if gamma is None else sigma**2 * snr.clamp(max=gamma)
        assert torch.allclose(error, 4 * weight, rtol=1e-4)


def test_whole_timesteps_of_a_path_are_the_nearest(family):
    settings = sampling(steps=7)
    path = family.path(settings)
    exact = family._scheduler(settings, 0).timesteps
    assert path[0] == 999 and path == sorted(path, reverse=True)
    apart = (family.schedule.sigma(torch.tensor(path)) * 1000 - exact).abs()
    assert apart.max() < 1.5  # half of the widest gap at a shift of 3


@pytest.mark.parametrize("method", plugins.names(plugins.METHODS))
def test_every_method_trains_it(method, tmp_path):
    """All weights and a LoRA in turn; what it writes is a model that draws."""
    rank = 2 * (plugins.names(plugins.METHODS).index(method) % 2)
    out, base = drawing.trained(tmp_path, method, "flow", rank), tiny.world("flow")["base"]
    given = sampling(guidance_scale=1.0)
    drawing.draws_as_trained(out, base, noise(), given, pipeline(base) if rank else None)


OWN = {"caption_dropout": 0, "batch_size": 4, "data_share": 0}


def predictions(run, *weights):
    """What networks with these weights predict of the run's first batch, and what of it is asked:
    (z_0, z_t, sigma, predictions, batch)."""
    batch, family = run.method.batch(run.data, 0), run.family
    sigma = family.schedule.sigmas[batch.timesteps][:, None, None, None]
    x0 = batch.own[:, 0]
    xt = (1 - sigma) * x0 + sigma * batch.noise
    told = run.data.condition(batch.captions)
    found = []
    for each in weights:
        net = family.network()
        net.load_state_dict(each)
        found.append(family.predict(net, xt, sigma.flatten() * 1000, told))
    return x0, xt, sigma, found, batch


def test_nft_is_the_released_code():
    """DiffusionNFT's train_nft_sd3.py, which is of flow."""
    run = tiny.begin("nft", "flow", **OWN, beta=0.5, own_guidance=1, kl_scale=0.01)
    base = {name: weight.clone() for name, weight in run.state.net.state_dict().items()}
    run.method.before(run.state.net, run.data, 0)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in run.state.weights.items():
            run.method.old[name] += 0.01 * torch.randn(weight.shape, generator=g)
            weight += 0.02 * torch.randn(weight.shape, generator=g)
    weights = (run.state.net.state_dict(), base | run.method.old, base)
    x0, xt, t_expanded, (forward, old, first), batch = predictions(run, *weights)
    positive, negative = 0.5 * forward + 0.5 * old, 1.5 * old - 0.5 * forward

    def loss(prediction):
        x0_prediction = xt - t_expanded * prediction
        weight = (x0_prediction - x0).abs().mean((1, 2, 3), keepdim=True).clip(1e-5)
        return ((x0_prediction - x0) ** 2 / weight).mean((1, 2, 3))

    policy = batch.score * loss(positive) / 0.5 + (1 - batch.score) * loss(negative) / 0.5
    terms = run.method.terms(run.state.net, batch)
    assert torch.allclose(terms["nft"].values, 5 * policy, rtol=1e-4)
    assert torch.allclose(terms["kl"].values, (forward - first).square().mean((1, 2, 3)), rtol=1e-4)


def test_ddpo_s_moves_are_gaussians_of_the_stochastic_step():
    run = tiny.begin("ddpo", "flow", **OWN, sampling={"steps": 4, "scheduler": "ddim"})
    run.method.before(run.state.net, run.data, 0)
    sigmas = run.family._scheduler(run.settings.path, 0).inner.sigmas.double()
    now, behind = sigmas[:-1], sigmas[1:]
    kept = (1 - now) * behind / (now * (1 - behind))
    wanted = behind * (1 - kept.square()).sqrt()
    assert run.method.deviations == pytest.approx(wanted.tolist(), abs=1e-5)
    batch = run.method.batch(run.data, 0)
    loss, logs = run.method.of_moves(run.state.net, batch)
    assert logs["own_kl"].max() < 1e-6, "the weights have not moved"
    assert torch.allclose(loss, -batch.score, atol=1e-3)


def test_a_lora_is_merged_into_a_base_without_t5(without_t5, tmp_path):
    from diffusers import StableDiffusion3Pipeline
    from peft import LoraConfig, get_peft_model_state_dict

    net = open_family(without_t5).network()
    net.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["attn.to_q", "attn.to_v"]))
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    StableDiffusion3Pipeline.save_lora_weights(
        tmp_path, transformer_lora_layers=get_peft_model_state_dict(net)
    )
    file = tmp_path / "pytorch_lora_weights.safetensors"
    lora.merge(without_t5, [file], [1.0], tmp_path / "merged")
    merged, told = open_family(tmp_path / "merged"), open_family(without_t5).condition(TEXTS)
    t = torch.tensor([100, 500, 900])
    with torch.no_grad():
        one, two = (merged.predict(each, noise(), t, told) for each in (merged.net, net))
    assert torch.allclose(one, two, atol=1e-4)

    for name in ("lora_unet_down_blocks_0", "lora_unet_double_blocks_0_img_attn_qkv"):
        other = tmp_path / "other.safetensors"
        other.write_bytes(tiny.file_of(f"{name}.lora_down.weight"))
        with pytest.raises(UserError, match=f"a LoRA of another family .{name}"):
            lora.check(other, without_t5)


def test_a_card_says_how_a_pipeline_without_t5_is_loaded(without_t5):
    from diffusers import StableDiffusion3Pipeline

    absent = dict.fromkeys(stated.absent(without_t5))
    assert set(absent) == {"text_encoder_3", "tokenizer_3"}
    files = [path.relative_to(without_t5).as_posix() for path in without_t5.rglob("*.*")]
    assert stated.left_out(files, "sd3") == list(absent)
    whole = [*files, "text_encoder_3/config.json", "tokenizer_3/spiece.model"]
    assert not stated.left_out(whole, "sd3")
    assert StableDiffusion3Pipeline.from_pretrained(without_t5, **absent).text_encoder_3 is None


def test_t5_without_its_weights_is_told(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "base")
    for file in (tmp_path / "base/text_encoder_3").glob("*.safetensors"):
        file.unlink()
    with pytest.raises(UserError, match="has no .*safetensors in text_encoder_3"):
        folders.take(tmp_path / "base", "base", tmp_path / "out", "sd3")


def test_a_small_decoder_has_as_many_channels_as_the_latents(family, folder, tmp_path):
    with pytest.raises(UserError, match="decodes 4 channels, and this base's latents have 16"):
        open_family(folder).use_decoder(tiny.save_decoder(tmp_path / "four"))
    own = open_family(folder)
    own.use_decoder(tiny.save_decoder(tmp_path / "own", channels=16))
    assert own.decode(noise()).shape == family.decode(noise(), exactly=True).shape


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++"])
def test_pictures_are_drawn_and_redrawn_in_bf16(folder, scheduler):
    own = Sampler(sealed(folder), sampling(scheduler=scheduler, precision="bf16"), "cpu", folder)
    drawn = own.draw(TEXTS[:2], [0, 1])
    again = own.redraw(drawn, TEXTS[:2], [0, 1], 0.5, "again")
    assert drawn.std() > 0 and again.std() > 0 and (again != drawn).any()


# ------------------------------------------------------------------------------------------- arms


@pytest.fixture(scope="module")
def sampler(folder):
    return Sampler(sealed(folder), sampling(scheduler="dpm++"), "cpu", folder)


@pytest.mark.parametrize("kind", KINDS)
def test_every_arm_draws_with_it(kind, sampler):
    drawing.draws(arm.load(kind, KINDS[kind]), kind, sampler, PICTURES[:2])


def test_skipped_layers_are_the_pipelines(folder):
    sampler, seeds = Sampler(sealed(folder), sampling(), "cpu"), [0, 1, 2]
    keys = {"guider": "skip_layer", "skip_blocks": "transformer_blocks", "skip_window": (0.0, 1.0)}
    pictures = [Picture(str(i), text, i, "study") for i, text in enumerate(TEXTS)]
    ours = arm.load("guiders", keys).draw(sampler, None, arm.Before(1, pictures)).images
    theirs = pipeline(folder)(
        TEXTS, latents=sampler.latents(TEXTS, seeds, "latents"), num_inference_steps=4,
        guidance_scale=4.0, skip_guidance_layers=[0], skip_layer_guidance_start=0.0,
        skip_layer_guidance_stop=1.0, output_type="np",
    ).images  # fmt: skip
    assert np.abs(ours.astype(int) - np.rint(theirs * 255)).max() <= 1
    plain = sampler.draw(TEXTS, seeds)
    assert np.abs(ours.astype(int) - plain).max() > 1, "and no hook stays behind"
    assert np.array_equal(sampler.draw(TEXTS, seeds), plain)


# ------------------------------------------------------------------------------- what is refused


REFUSED = {
    "scheduler/scheduler_config.json": [
        ({"use_dynamic_shifting": True}, "use_dynamic_shifting is set"),
        ({"_class_name": "DDIMScheduler"}, "is of a DDIMScheduler"),
        ({"shift": 0}, "shift is 0"),
    ],
    "transformer/config.json": [
        ({"in_channels": 33}, "in_channels is 33 and the VAE's latents have 16"),
        ({"sample_size": [8, 16]}, "sample_size is"),
        ({"sample_size": 18}, "a multiple of 2 up to 16"),
        ({"pooled_projection_dim": 64}, "pooled_projection_dim is 64"),
        ({"joint_attention_dim": 16}, "joint_attention_dim is 16 and the CLIPs'"),
        ({"joint_attention_dim": 64}, "joint_attention_dim is 64 and T5's d_model 32"),
    ],
    "vae/config.json": [
        ({"shift_factor": None}, "shift_factor is null; set the number"),
        ({"scaling_factor": 0}, "scaling_factor is 0"),
    ],
    "model_index.json": [
        ({"transformer": ["diffusers", "FluxTransformer2DModel"]}, "is a FluxTransformer2DModel"),
        ({"text_encoder_3": ["transformers", "UMT5EncoderModel"]}, "is a UMT5EncoderModel"),
    ],
    "text_encoder_3/config.json": [({"vocab_size": 3}, "tokenizer_3/")],
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
        stated.check("base", copy, "it", "sd3")
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_flow_under_the_class_of_stable_diffusion_stays_refused(folder, tmp_path):
    base = shutil.copytree(tiny.world()["base"], tmp_path / "base")
    shutil.copytree(folder / "scheduler", base / "scheduler", dirs_exist_ok=True)
    with pytest.raises(UserError, match="flow matching"):
        stated.check("base", base, "it", "sd")

"""A family draws what diffusers' own pipelines draw, differentiably, and is found by its folder."""

import json
import shutil

import pytest
import torch

from tests import tiny
from tests.drawing import TEXTS, conditions, noise, sampling
from vlg.errors import UserError
from vlg.models import families
from vlg.models.family import open_family


@pytest.fixture(scope="module")
def folder():
    return tiny.world()["base"]


@pytest.fixture(scope="module")
def family(folder):
    return open_family(folder)


def pipeline(folder, scheduler="ddim"):
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    kind = {"ddim": DDIMScheduler, "dpm++": DPMSolverMultistepScheduler}[scheduler]
    pipe.scheduler = kind.from_config(pipe.scheduler.config)
    return pipe


def test_a_family_is_found_by_the_class_that_a_folder_names(folder, tmp_path):
    assert families.name_of(folder) == "sd"
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "PixArtSigmaPipeline"}))
    with pytest.raises(UserError) as error:
        open_family(tmp_path)
    said = str(error.value)
    assert "is a PixArtSigmaPipeline; families there are: flux (FluxPipeline), qwen_image (" in said
    assert "\n" not in said
    with pytest.raises(UserError, match="no model_index.json"):
        open_family(tmp_path / "elsewhere")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_lack_are_not_drawn_at_random(folder, tmp_path, part):
    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(folder, tmp_path / "base")
    path = next((copy / part).glob("*.safetensors"))
    weights = load_file(path)
    first, second = sorted(weights)[:2]
    save_file(
        {n: w for n, w in weights.items() if n not in (first, second)}, path, {"format": "pt"}
    )
    family = open_family(copy)
    with pytest.raises(UserError, match=rf"base/{part}: its weights lack \S+ and 1 more; "):
        family.load()
        assert family.vae


def test_a_scheduler_that_draws_noise_of_its_own_does_not(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "base")
    path = copy / "scheduler/scheduler_config.json"
    told = json.loads(path.read_text()) | {"algorithm_type": "sde-dpmsolver++"}
    path.write_text(json.dumps(told))
    drawn = [
        open_family(each).sample(
            **conditions(open_family(each)), latents=noise(), settings=sampling(scheduler="dpm++")
        )
        for each in (folder, copy)
    ]
    assert torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++"])
@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_sampled_latents_are_the_pipelines(scheduler, scale, prediction):
    folder = tiny.world(prediction)["base"]
    family = open_family(folder)
    wanted = pipeline(folder, scheduler)(
        TEXTS, latents=noise(), num_inference_steps=4, guidance_scale=scale, output_type="latent"
    ).images
    settings = sampling(scheduler=scheduler, guidance_scale=scale)
    found = family.sample(latents=noise(), settings=settings, **conditions(family))
    assert torch.equal(found, wanted)


def test_a_network_with_guidance_distilled_into_it_is_told_the_scale(folder, tmp_path):
    import shutil

    from diffusers import UNet2DConditionModel

    distilled = shutil.copytree(folder, tmp_path / "distilled")
    config = json.loads((distilled / "unet" / "config.json").read_text())
    torch.manual_seed(5)
    UNet2DConditionModel.from_config({**config, "time_cond_proj_dim": 8}).save_pretrained(
        distilled / "unet"
    )
    pipe, family = pipeline(distilled), open_family(distilled)
    for scale in (2.0, 6.0):
        options = {"num_inference_steps": 4, "guidance_scale": scale, "output_type": "latent"}
        wanted = pipe(TEXTS, latents=noise(), **options).images
        settings = sampling(guidance_scale=scale)
        found = family.sample(latents=noise(), settings=settings, **conditions(family))
        assert torch.equal(found, wanted)


def test_a_drawing_in_two_halves_is_the_whole(family):
    given = {"settings": sampling(), **conditions(family)}
    whole = family.sample(latents=noise(), **given)
    half = family.sample(latents=noise(), end=2, **given)
    assert torch.equal(family.sample(latents=half, begin=2, **given), whole)
    assert not torch.equal(half, whole)


def test_a_step_may_be_seen_and_changed(family):
    seen = []

    def look(step):
        seen.append((step.index, int(step.t), len(step.z)))
        if step.index == 1:
            step.z, step.predicted = step.z.flip(0), step.predicted.flip(0)

    given = {"settings": sampling(guidance_scale=1.0)}
    same = {"condition": family.condition([TEXTS[0]] * 3)}
    plain = family.sample(latents=noise(), **given, **same)
    turned = family.sample(latents=noise(), on_step=look, **given, **same)
    assert seen == [(0, 751, 3), (1, 501, 3), (2, 251, 3), (3, 1, 3)]
    assert torch.allclose(turned, plain.flip(0), atol=1e-4)


def test_the_estimate_of_a_step_is_the_schedulers(family):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler.from_pretrained(family.folder, subfolder="scheduler")
    scheduler.set_timesteps(4)
    checked = []

    def look(step):
        told = scheduler.step(step.predicted, int(step.t), step.z).pred_original_sample
        checked.append(torch.allclose(step.estimate, told, rtol=1e-4, atol=1e-3))

    family.sample(latents=noise(), settings=sampling(), on_step=look, **conditions(family))
    assert checked == [True] * 4


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++"])
def test_gradients_reach_latents_and_weights(family, scheduler):
    net, latents = family.network(), noise().requires_grad_()
    given = {"settings": sampling(scheduler=scheduler), "net": net, **conditions(family)}
    plain = family.sample(latents=noise(), **given)
    assert not plain.requires_grad
    drawn = family.sample(latents=latents, grad=True, **given)
    assert torch.equal(drawn, plain)
    drawn.square().sum().backward()
    assert latents.grad.abs().amax(dim=(1, 2, 3)).min() > 0
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


def test_the_gradient_is_that_of_finite_differences(folder):
    family = open_family(folder, dtype=torch.float64)
    family.schedule.abar = family.schedule.abar.double()
    given = {"settings": sampling(steps=3, guidance_scale=2.0), **conditions(family)}
    latents, direction = noise(2).double()
    latents, direction = latents[None].requires_grad_(), direction[None]
    given |= {k: {"states": given[k]["states"][:1]} for k in ("condition", "negative")}

    def value(z):
        return family.sample(latents=z, grad=True, **given).square().sum()

    (gradient,) = torch.autograd.grad(value(latents), latents)
    h = 1e-5
    with torch.no_grad():
        slope = (value(latents + h * direction) - value(latents - h * direction)) / (2 * h)
    assert (gradient * direction).sum().item() == pytest.approx(slope.item(), rel=1e-5)


def test_the_last_steps_alone_may_have_a_gradient(family):
    given = {"settings": sampling(), **conditions(family)}
    gradients = []
    for grad, reached in ((1, False), (2, False), (4, True), (True, True)):
        net, latents = family.network(), noise().requires_grad_()
        family.sample(latents=latents, grad=grad, net=net, **given).sum().backward()
        gradients.append(net.conv_in.weight.grad)
        assert (latents.grad is not None) == reached
    assert torch.equal(gradients[2], gradients[3])
    # what one step gives, written out: the first three are constants
    net = family.network()
    with torch.no_grad():
        before = family.sample(latents=noise(), end=3, net=net, **given)
    family.sample(latents=before, begin=3, grad=True, net=net, **given).sum().backward()
    assert torch.allclose(gradients[0], net.conv_in.weight.grad, rtol=1e-4, atol=1e-6)


def test_each_step_may_have_a_gradient_of_its_own(family):
    norms = []

    def climb(step):
        (gradient,) = torch.autograd.grad(step.estimate.square().sum(), step.z)
        norms.append(gradient.norm().item())
        step.predicted = step.predicted + 0.1 * gradient

    given = {"settings": sampling(), **conditions(family)}
    plain = family.sample(latents=noise(), grad="step", **given)
    changed = family.sample(latents=noise(), grad="step", on_step=climb, **given)
    assert torch.equal(plain, family.sample(latents=noise(), **given))
    assert len(norms) == 4 and min(norms) > 0 and not torch.equal(plain, changed)
    assert not changed.requires_grad


def test_a_stochastic_path_is_the_pipelines(family, folder):
    wanted = pipeline(folder)(
        TEXTS, latents=noise(), num_inference_steps=4, guidance_scale=4.0, eta=1.0,
        generator=torch.Generator().manual_seed(9), output_type="latent",
    ).images  # fmt: skip
    random, asked = torch.Generator().manual_seed(9), []

    def fresh(index):
        asked.append(index)
        return torch.randn(3, 4, 8, 8, generator=random)

    given = {"settings": sampling(), **conditions(family)}
    assert torch.equal(family.sample(latents=noise(), noise=fresh, **given), wanted)
    assert asked == [0, 1, 2, 3]


def test_the_stochastic_form_of_the_other_scheduler_is_diffusers(family, folder):
    from diffusers import DPMSolverMultistepScheduler

    drawn = [noise(seed=i) for i in range(10, 14)]
    scheduler = DPMSolverMultistepScheduler.from_pretrained(
        folder, subfolder="scheduler", algorithm_type="sde-dpmsolver++"
    )
    scheduler.set_timesteps(4)
    z, states = noise(), family.condition(TEXTS)["states"]
    with torch.no_grad():
        for t, fresh in zip(scheduler.timesteps, drawn, strict=True):
            out = family.net(z, t, states, return_dict=False)[0]
            z = scheduler.step(out, t, z, variance_noise=fresh, return_dict=False)[0]
    settings = sampling(scheduler="dpm++", guidance_scale=1.0)
    given = {"settings": settings, "condition": {"states": states}}
    assert torch.equal(family.sample(latents=noise(), noise=drawn.__getitem__, **given), z)


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++"])
def test_samples_that_go_on_take_with_them_what_the_scheduler_remembers(family, scheduler):
    same = {"condition": family.condition([TEXTS[0]] * 3)}
    given = {"settings": sampling(scheduler=scheduler, guidance_scale=1.0), **same}

    def turn(step):
        if step.index == 2:
            step.resample(torch.tensor([2, 2, 0]))

    plain = family.sample(latents=noise(), **given)
    chosen = family.sample(latents=noise(), on_step=turn, **given)
    assert torch.allclose(chosen, plain[[2, 2, 0]], atol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_score_moves_the_estimate_as_tweedie_says(prediction):
    family = open_family(tiny.world(prediction)["base"])
    score, moved = noise(seed=2), []

    def shift(step):
        before = step.estimate
        step.shift(score)
        abar = family.share(step.t)
        moved.append((step.estimate - before, (1 - abar) / abar.sqrt() * score))

    given = {"settings": sampling(), **conditions(family)}
    family.sample(latents=noise(), on_step=shift, **given)
    assert len(moved) == 4
    for found, wanted in moved:
        assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-4)


def test_a_network_may_be_put_in_another_s_place(family):
    other, seen = family.network(), []
    torch.nn.init.zeros_(other.conv_out.weight)

    def swap(step):
        seen.append(step.net)
        step.net = other if step.index >= 1 else step.net

    given = {"settings": sampling(), **conditions(family)}
    swapped = family.sample(latents=noise(), on_step=swap, **given)
    assert seen == [family.net, family.net, other, other]
    half = family.sample(latents=noise(), end=2, **given)
    wanted = family.sample(latents=half, begin=2, net=other, **given)
    assert torch.equal(swapped, wanted)


def test_guidance_without_a_negative_condition_is_a_mistake(family):
    with pytest.raises(ValueError, match="negative"):
        family.sample(family.condition(TEXTS), noise(), sampling())


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noise_and_estimates_of_a_family_are_its_schedules(prediction):
    family = open_family(tiny.world(prediction)["base"])
    z0, eps, t = noise(), noise(seed=1), torch.tensor([10, 400, 990])
    z_t, target = family.noised(z0, eps, t), family.target(z0, eps, t)
    assert torch.allclose(family.estimate(z_t, target, t), z0, atol=1e-4)
    # abar of the scaled linear schedule from 0.00085 to 0.012, by hand
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    abar = torch.cumprod(1 - betas, 0)[t]
    assert torch.allclose(family.share(t).double(), abar, rtol=1e-4)
    assert family.timesteps == 1000 and family.latent_shape == (4, 8, 8)
    assert family.resolution == 32


def test_a_posterior_and_its_picture_are_the_pipelines(folder, family):
    pipe = pipeline(folder)
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        told = pipe.vae.encode(pixels * 2 - 1).latent_dist
    mean, std = family.encode(pixels)
    scale = pipe.vae.config.scaling_factor
    assert torch.equal(mean, told.mean * scale) and torch.equal(std, told.std * scale)
    z = noise(2).requires_grad_()
    pictures = family.decode(z)
    with torch.no_grad():
        told = pipe.image_processor.postprocess(pipe.vae.decode(z / scale).sample, "pt")
    assert torch.equal(pictures, told)
    pictures.sum().backward()
    assert z.grad.abs().max() > 0


def test_a_small_decoder_serves_the_gradient_and_the_own_one_stays(folder, tmp_path):
    from vlg.models.ledger import Ledger

    family, ledger = open_family(folder), Ledger()
    family.watch(ledger)
    exact = family.decode(noise())
    family.use_decoder(tiny.save_decoder(tmp_path / "decoder"))
    assert not torch.allclose(family.decode(noise()), exact)
    assert torch.equal(family.decode(noise(), exactly=True), exact)
    assert ledger.take().of("decoder") == 9
    with pytest.raises(UserError, match="no AutoencoderTiny"):
        open_family(folder).use_decoder(tmp_path)


@pytest.mark.parametrize("kind", ["DDIMScheduler", "PNDMScheduler", "EulerDiscreteScheduler"])
def test_a_sampler_reads_the_schedule_whichever_scheduler_a_folder_names(kind, tmp_path):
    """As the pipeline's scheduler would be changed: `from_config` of the one that it loaded."""
    import diffusers

    file = tmp_path / "scheduler" / "scheduler_config.json"
    file.parent.mkdir()
    file.write_text(
        json.dumps(
            {"_class_name": kind, "_diffusers_version": "0.6.0", "beta_start": 0.00085,
             "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
             "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
             "trained_betas": None, "clip_sample": False}
        )
    )  # fmt: skip
    loaded = getattr(diffusers, kind).from_pretrained(tmp_path, subfolder="scheduler")
    for other in (diffusers.DDIMScheduler, diffusers.DPMSolverMultistepScheduler):
        ours = other.from_pretrained(tmp_path, subfolder="scheduler")
        theirs = other.from_config(loaded.config)
        assert {k: v for k, v in ours.config.items() if k[0] != "_"} == {
            k: v for k, v in theirs.config.items() if k[0] != "_" and k in ours.config
        }

"""Ways to guide while drawing, each against its published arithmetic on the tiny models."""

import functools
import shutil

import numpy as np
import pytest
import torch

from tests import tiny
from vlg.errors import UserError
from vlg.files import write_manifest
from vlg.models.family import Step
from vlg.models.guide import load_guide
from vlg.models.noise import latents
from vlg.sample import arm
from vlg.sample.arms import noise_search, particles
from vlg.sample.listing import Picture
from vlg.sample.sampler import Sampler, as_images

TEXTS = ["a red circle", "the blue square", "a big green circle"]
SEEDS = [0, 1, 0]
KEYS = list(zip(TEXTS, SEEDS, strict=True))
PICTURES = [Picture(f"p{i}", text, seed, "study") for i, (text, seed) in enumerate(KEYS)]
SAMPLING = {"steps": 4, "guidance_scale": 3.0, "scheduler": "ddim"}
KINDS = {
    "refine": {},
    "best_of_n": {},
    "cfg": {},
    "clip_guidance": {},
    "combined": {"switch": 0.5},
    "noise_search": {"candidates": 2},
    "noise_opt": {"iterations": 3},
    "particles": {"particles": 3, "reward_scale": 50.0, "window": (0.25, 0.75)},
    "guiders": {},
}


@pytest.fixture(scope="module")
def guide():
    return load_guide(tiny.world()["guide"])


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A function that opens the tiny base, of a kind of prediction and with other sampling."""

    @functools.cache
    def folder(prediction):
        copy = tmp_path_factory.mktemp("guidance") / prediction
        write_manifest(shutil.copytree(tiny.world(prediction)["base"], copy))
        return copy

    def opened(prediction="epsilon", tuned=None, **values):
        settings = {**SAMPLING, **values}
        if tuned is None:
            return Sampler(folder(prediction), settings, "cpu")
        write_manifest(tuned)
        return Sampler(tuned, settings, "cpu", folder(prediction))

    return opened


@pytest.fixture(scope="module")
def sampler(opened, tmp_path_factory):
    """Of a fine-tuned model: the base but for its network."""
    other = tiny.save_base(tmp_path_factory.mktemp("other") / "base", seed=7)
    tuned = shutil.copytree(tiny.world()["base"], tmp_path_factory.mktemp("tuned") / "tuned")
    shutil.rmtree(tuned / "unet")
    shutil.copytree(other / "unet", tuned / "unet")
    return opened(tuned=tuned)


def draw(kind, sampler, guide, number=1, rows=slice(None), **keys):
    """What a kind makes of the plain pictures, or of nothing where it needs none."""
    made = arm.load(kind, keys)
    wanted = PICTURES[rows]
    before = arm.Before(number, wanted)
    if "pictures" in made.needs:
        images = sampler.draw(before.texts, before.seeds)
        before = arm.Before(number, wanted, images, scores(guide, images, before.texts))
    return made.draw(sampler, guide if "guide" in made.needs else None, before)


def scores(guide, images, texts):
    from vlg.models.cosines import guide_scores

    return guide_scores(guide, images, texts)


def close(images, wanted):
    """Whether pictures are equal up to the rounding of a grey level."""
    return np.abs(images.astype(int) - wanted.astype(int)).max() <= 1


# --- what holds for every arm -------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_does_not_depend_on_its_batch(kind, sampler, guide):
    together = draw(kind, sampler, guide, **KINDS[kind])
    for i in range(len(TEXTS)):
        alone = draw(kind, sampler, guide, rows=slice(i, i + 1), **KINDS[kind])
        assert close(alone.images, together.images[i : i + 1])


@pytest.mark.parametrize("kind", KINDS)
def test_two_runs_are_the_same_bytes_whatever_torch_s_own_random_state(kind, sampler, guide):
    torch.manual_seed(1)
    one = draw(kind, sampler, guide, **KINDS[kind])
    torch.manual_seed(2)
    two = draw(kind, sampler, guide, **KINDS[kind])
    assert np.array_equal(one.images, two.images) and one.scores == two.scores


@pytest.mark.parametrize("kind", KINDS)
def test_the_guide_s_score_is_that_of_the_picture_that_stands(kind, sampler, guide):
    drawn = draw(kind, sampler, guide, **KINDS[kind])
    if drawn.scores is not None:
        assert np.allclose(drawn.scores, scores(guide, drawn.images, TEXTS), atol=1e-3)


# --- classifier-free guidance -------------------------------------------------------------------


def test_another_scale_is_plain_drawing_with_it(opened):
    other = opened(guidance_scale=6.0)
    assert np.array_equal(
        draw("cfg", opened(), None, guidance_scale=6.0).images, other.draw(TEXTS, SEEDS)
    )
    unguided = opened(guidance_scale=1.0)
    assert np.array_equal(
        draw("cfg", unguided, None, guidance_scale=3.0).images, opened().draw(TEXTS, SEEDS)
    )


# --- guidance by the guide's gradient -----------------------------------------------------------


def universal(sampler, guide, scale, steps=range(4)):
    """Bansal et al., algorithm 1 without recurrence, with DDIM: the noise is what is guided."""
    family, texts = sampler.family, TEXTS
    abar = family.schedule.abar.double()
    condition, negative = sampler.conditions(texts)
    states = torch.cat([negative["states"], condition["states"]])
    wanted = guide.encode_text(texts)
    z = sampler.latents(texts, SEEDS, "latents")
    times = [751, 501, 251, 1]
    for index, t in enumerate(times):
        a = abar[t].float()
        before = abar[t - 250].float() if t >= 250 else abar[0].float()
        leaf = z.detach().requires_grad_()
        out = family.net(torch.cat([leaf] * 2), torch.tensor(t), states, return_dict=False)[0]
        without, text = out.chunk(2)
        out = without + 3.0 * (text - without)
        if family.schedule.prediction == "epsilon":
            eps = out
        else:  # v = sqrt(a) eps - sqrt(1 - a) z_0
            eps = a.sqrt() * out + (1 - a).sqrt() * leaf
        z0 = (leaf - (1 - a).sqrt() * eps) / a.sqrt()
        if index in steps:
            seen = guide.encode_image(family.decode(z0))
            score = 100 * (seen * wanted).sum()
            eps = eps - scale * (1 - a).sqrt() * torch.autograd.grad(score, leaf)[0]
        with torch.no_grad():
            z0 = (leaf - (1 - a).sqrt() * eps) / a.sqrt()
            z = before.sqrt() * z0 + (1 - before).sqrt() * eps
    return z.detach()


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("window", [(0.0, 1.0), (0.25, 0.75)])
def test_clip_guidance_is_forward_universal_guidance(
    prediction, window, opened, guide, monkeypatch
):
    sampler, seen = opened(prediction), []
    steps = range(round(4 * window[0]), round(4 * window[1]))
    wanted = universal(sampler, guide, 2.0, steps)
    plain = universal(sampler, guide, 0.0)
    decode = sampler.family.decode
    monkeypatch.setattr(sampler.family, "decode", lambda z: (seen.append(z), decode(z))[1])
    drawn = draw("clip_guidance", sampler, guide, scale=2.0, window=window)
    assert torch.allclose(seen[-1], wanted, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(wanted, plain, atol=1e-3)
    with torch.no_grad():
        assert close(drawn.images, as_images(decode(wanted)))


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++"])
def test_without_weight_clip_guidance_is_plain_drawing(scheduler, opened, guide):
    sampler = opened(scheduler=scheduler)
    drawn = draw("clip_guidance", sampler, guide, scale=0.0)
    assert close(drawn.images, sampler.draw(TEXTS, SEEDS))


def test_guidance_raises_what_the_guide_says(sampler, guide):
    plain = scores(guide, sampler.draw(TEXTS, SEEDS), TEXTS)
    assert np.mean(draw("clip_guidance", sampler, guide, scale=5.0).scores) > np.mean(plain)


# --- base and tuned model -----------------------------------------------------------------------


def test_the_base_draws_the_first_steps_and_the_tuned_model_the_last(sampler, opened):
    family, latents = sampler.family, sampler.latents(TEXTS, SEEDS, "latents")
    condition, negative = sampler.conditions(TEXTS)
    given = {"settings": sampler.settings, "negative": negative}
    with torch.no_grad():
        half = family.sample(condition, latents, net=sampler.base.net, end=2, **given)
        z = family.sample(condition, half, begin=2, **given)
        wanted = as_images(family.decode(z))
    assert close(draw("combined", sampler, None, switch=0.5).images, wanted)
    for switch, alone in ((0.0, sampler), (1.0, opened())):
        drawn = draw("combined", sampler, None, switch=switch)
        assert close(drawn.images, alone.draw(TEXTS, SEEDS))
        assert not close(drawn.images, wanted)


# --- search over noise --------------------------------------------------------------------------


def test_a_neighbour_is_that_of_the_released_search():
    """tt-scale-flux: the pivot's direction and a random one across it, in float64."""
    random = torch.Generator().manual_seed(3)
    pivot, drawn = torch.randn(2, 4, 8, 8, generator=random)
    flat, v = pivot.flatten().double(), drawn.flatten().double()
    u = flat / flat.norm()
    w = torch.nn.functional.normalize(v - (v @ u) * u, dim=0)
    wanted = flat.norm() * (0.95 * u + np.sqrt(1 - 0.95**2) * w)
    found = noise_search.neighbour(pivot, drawn, 0.95)
    assert torch.allclose(found.flatten().double(), wanted, atol=1e-4)
    cosine = torch.nn.functional.cosine_similarity(found.flatten(), pivot.flatten(), dim=0)
    assert cosine.item() == pytest.approx(0.95, abs=1e-4)
    assert found.norm().item() == pytest.approx(pivot.norm().item(), rel=1e-4)


@pytest.mark.parametrize("search", ["zero_order", "random"])
def test_a_search_keeps_the_best_and_goes_on_from_its_noise(search, opened, guide):
    sampler, candidates = opened(), 2
    made = arm.load("noise_search", {"search": search, "candidates": candidates})
    shape = sampler.family.latent_shape
    pivots = [latents(t, s, shape) for t, s in zip(TEXTS, SEEDS, strict=True)]
    images = sampler.draw(TEXTS, SEEDS)
    best, states, moved = scores(guide, images, TEXTS), None, 0
    for number in (1, 2, 3):
        before = arm.Before(number, PICTURES, images, best, states)
        drawn = made.draw(sampler, guide, before)
        pool = [(images, best, pivots)]
        for i in range(1, candidates + 1):
            fresh = [latents(t, s, shape, f"refine-{number}-{i}") for t, s in KEYS]
            if search == "zero_order":
                fresh = [
                    noise_search.neighbour(p, f, 0.95) for p, f in zip(pivots, fresh, strict=True)
                ]
            pictures = sampler.finish(TEXTS, SEEDS, torch.stack(fresh))
            pool.append((pictures, scores(guide, pictures, TEXTS), fresh))
        for k in range(len(TEXTS)):
            first = max(range(len(pool)), key=lambda j: pool[j][1][k])
            assert close(drawn.images[k], pool[first][0][k])
            assert drawn.accepted[k] == (first > 0)
            pivots = [*pivots[:k], pool[first][2][k], *pivots[k + 1 :]]
            moved += first > 0
        images, best, states = drawn.images, drawn.scores, drawn.states
    assert moved > 2


# --- ascent on the noise ------------------------------------------------------------------------


def reno(sampler, guide, text, seed, iterations):
    """ReNO's loop for one picture: SGD with Nesterov momentum, the norm of the gradient clipped."""
    family, given = sampler.family, {"settings": sampler.settings}
    condition, negative = sampler.conditions([text])
    noise = torch.nn.Parameter(sampler.latents([text], [seed], "latents"))
    optimizer = torch.optim.SGD([noise], lr=5.0, momentum=0.9, nesterov=True)
    wanted, seen = guide.encode_text([text]), []
    for _ in range(iterations):
        optimizer.zero_grad()
        z = family.sample(condition, noise, negative=negative, grad=True, **given)
        loss = 0.01 * (100 - 100 * (guide.encode_image(family.decode(z)) @ wanted.T).mean())
        seen.append((loss.item(), z.detach()))
        length = torch.linalg.vector_norm(noise)
        total = loss + 0.01 * (0.5 * length**2 - (noise.numel() - 1) * torch.log(length))
        total.backward()
        torch.nn.utils.clip_grad_norm_(noise, 0.1)
        optimizer.step()
    return min(seen, key=lambda pair: pair[0])[1], noise


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_noise_is_led_as_reno_leads_it(checkpointing, opened, guide, monkeypatch):
    sampler, seen = opened(), []
    wanted = [reno(sampler, guide, text, seed, 4) for text, seed in KEYS]
    twice = torch.cat([reno(sampler, guide, text, seed, 2)[1] for text, seed in KEYS])
    sample = sampler.family.sample

    def spied(condition, z, *args, **more):
        seen.append(z.detach().clone())
        return sample(condition, z, *args, **more)

    monkeypatch.setattr(sampler.family, "sample", spied)
    keys = {"iterations": 5, "checkpointing": checkpointing}
    drawn = draw("noise_opt", sampler, guide, **keys)
    # Steps of 5 carry the last bits, in which a batch of three differs from one, from update to
    # update: after two, momentum among them, 1e-4 is left on every processor, and 1e-3 after four.
    assert torch.allclose(seen[2], twice, atol=1e-4)
    assert torch.allclose(seen[-1], torch.cat([noise for _, noise in wanted]), atol=1e-3)
    assert not torch.allclose(seen[-1], seen[0], atol=1e-2)
    drawn = draw("noise_opt", sampler, guide, **keys | {"iterations": 4})
    with torch.no_grad():
        pictures = as_images(sampler.family.decode(torch.cat([z for z, _ in wanted])))
    assert close(drawn.images, pictures)


# --- particles ----------------------------------------------------------------------------------


def test_weights_of_particles_are_those_of_feynman_kac_steering():
    """The released class, for one population: `population_rs` is what is kept of each particle."""
    rewards = torch.tensor([[0.1, 0.4, 0.2], [0.3, 0.25, 0.2]])
    before = torch.tensor([[0.2, 0.1, 0.0], [0.1, 0.3, 0.2]])
    for kind, kept, exponent in (
        ("max", torch.max(rewards, before), torch.max(rewards, before)),
        ("sum", rewards + before, rewards + before),
        ("diff", rewards, rewards - before),
    ):
        w = torch.exp(10.0 * exponent)
        found = particles.potential(kind, 10.0, rewards, before)
        assert torch.allclose(found[0], kept) and torch.allclose(
            found[1], w / w.sum(1, keepdim=True), atol=1e-4
        )


def test_the_schedule_of_resampling_is_the_published_one():
    settings = arm.load("particles", {}).settings
    assert settings.steps(100) == [20, 40, 60, 80]
    assert settings.steps(10) == [2, 4, 6, 8]


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++"])
def test_resampling_goes_on_with_the_best_where_it_is_sharp(scheduler, opened, guide, monkeypatch):
    sampler, seen = opened(scheduler=scheduler), []
    resample = Step.resample

    def spied(step, rows):
        z = step.z.clone()
        resample(step, rows)
        seen.append((rows, z, step.z))

    monkeypatch.setattr(Step, "resample", spied)
    keys = {"particles": 3, "reward_scale": 1e6, "potential": "diff", "window": (0.5, 0.5)}
    drawn = draw("particles", sampler, guide, **keys)
    ((rows, before, after),) = seen
    assert torch.equal(rows.view(3, 3) // 3, torch.arange(3)[:, None].expand(3, 3))
    assert (rows.view(3, 3) == rows.view(3, 3)[:, :1]).all(), "one particle of each goes on"
    assert torch.equal(after, before[rows])
    free = draw("particles", sampler, guide, **keys | {"reward_scale": 0.0})
    assert not close(drawn.images, free.images)


def test_particles_are_batched_as_what_they_hold():
    assert arm.load("particles", {"particles": 6}).samples == 6


# --- diffusers' guiders -------------------------------------------------------------------------


def test_a_guider_that_projects_nothing_is_plain_guidance(opened):
    sampler = opened()
    plain = sampler.draw(TEXTS, SEEDS)
    keys = {"eta": 1.0, "norm_threshold": 0.0, "momentum": 0.0}
    assert close(draw("guiders", sampler, None, **keys).images, plain)
    other = {"guider": "skip_layer", "skip_scale": 0.0, "skip_window": (0.0, 1.0)}
    assert close(draw("guiders", sampler, None, **other).images, plain)
    skipped = draw("guiders", sampler, None, **other | {"skip_scale": 5.0})
    assert not close(skipped.images, plain)
    assert np.array_equal(sampler.draw(TEXTS, SEEDS), plain), "no hook stays behind"


@pytest.mark.parametrize("guider", ["apg", "cfg_zero"])
def test_guiders_compute_what_their_papers_say(guider, opened):
    sampler = opened()
    made = arm.load("guiders", {"guider": guider})
    guidance = made.guidance(sampler, TEXTS)
    random = torch.Generator().manual_seed(5)
    condition, _ = sampler.conditions(TEXTS)
    average = 0
    for index in range(3):
        cond, uncond = 3 * torch.randn(2, 3, 4, 8, 8, generator=random)
        told = {id(condition): cond}
        found = guidance(
            lambda c, told=told, other=uncond: told.get(id(c), other),
            index,
            torch.tensor(1),
            sampler.family.net,
        )
        c, u = cond.flatten(1).double(), uncond.flatten(1).double()
        if guider == "apg":
            average = (c - u) - 0.5 * average
            step = average * (15 / average.norm(dim=1, keepdim=True)).clamp(max=1)
            along = (step * c).sum(1, keepdim=True) / c.square().sum(1, keepdim=True) * c
            wanted = u + 3.0 * (step - along)
        else:
            scaled = (c * u).sum(1, keepdim=True) / u.square().sum(1, keepdim=True) * u
            wanted = scaled + 3.0 * (c - scaled)
        assert torch.allclose(found.flatten(1).double(), wanted, atol=1e-4)


def test_blocks_that_are_not_there_are_told_in_one_line(opened):
    keys = {"guider": "skip_layer", "skip_blocks": "nowhere.blocks", "skip_window": (0.0, 1.0)}
    with pytest.raises(UserError, match="skip_blocks: nowhere.blocks"):
        draw("guiders", opened(), None, **keys)

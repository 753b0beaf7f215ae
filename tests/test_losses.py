"""The losses against arithmetic written out by hand, and their gradients."""

import math
from types import SimpleNamespace

import pytest
import torch

from tests import tiny
from vlg.errors import UserError
from vlg.models.family import Family, open_family
from vlg.models.guide import load_guide
from vlg.models.schedule import Schedule
from vlg.train import losses


@pytest.fixture(scope="module")
def paths():
    return tiny.world()


def denoising(schedule, *args):
    """`Family.denoising` under a schedule of its own."""
    return Family.denoising(SimpleNamespace(min_snr=schedule.min_snr), *args)


def samples(n=3):
    g = torch.Generator().manual_seed(0)
    z0, noise, predicted = torch.randn(3, n, 4, 8, 8, generator=g)
    return z0, noise, predicted, torch.tensor([10, 400, 990][:n])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_perfect_prediction_gives_back_the_picture(prediction):
    schedule = Schedule(torch.linspace(0.999, 0.005, 1000), prediction)
    z0, noise, _, t = samples()
    z_t = schedule.add_noise(z0, noise, t)
    target = schedule.target(z0, noise, t)
    # float32, divided by sqrt(abar) = 0.12 at t = 990
    assert torch.allclose(schedule.estimate(z_t, target, t), z0, atol=1e-5)
    assert denoising(schedule, target, target, t).max() == 0


def test_an_unknown_prediction_type_is_refused():
    with pytest.raises(UserError, match="sample"):
        Schedule(torch.ones(10), "sample")


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("gamma", [None, 5.0])
def test_denoising_loss_by_hand(prediction, gamma):
    schedule = Schedule(torch.linspace(0.999, 0.005, 1000), prediction)
    z0, noise, predicted, t = samples()
    loss = denoising(schedule, predicted, schedule.target(z0, noise, t), t, gamma)
    for i in range(3):
        abar = schedule.abar[t[i]].item()
        e, z, p = noise[i].double(), z0[i].double(), predicted[i].double()
        v = math.sqrt(abar) * e - math.sqrt(1 - abar) * z
        expected = ((p - (e if prediction == "epsilon" else v)) ** 2).sum().item() / (4 * 8 * 8)
        snr = abar / (1 - abar)
        if gamma:
            expected *= min(snr, gamma) / (snr if prediction == "epsilon" else snr + 1)
        assert loss[i].item() == pytest.approx(expected, rel=1e-5)


def terms_of(run, step=0, batch=None):
    """(batch, denoising, clip, cosine) of a step."""
    batch = batch or run.method.batch(run.data, step)
    terms = run.method.terms(run.state.net, batch)
    clip = terms["clip"]
    return batch, terms["denoising"].values, clip.values, clip.logs["guide_cosine"]


def test_both_terms_of_a_batch_by_hand():
    """Also: the guide sees what the pipeline would write, and dropped captions are skipped."""
    run = tiny.begin(caption_dropout=0.4, batch_size=8)
    data, unet, guide, family = run.data, run.state.net, run.method.guide, run.family
    batch, denoising, clip, cosine = terms_of(run, 3)
    mean, std = data.latents(batch.pictures, batch.flipped)
    count = 0
    for i, t in enumerate(batch.timesteps.tolist()):
        abar = family.share(torch.tensor(t))
        z_t = abar.sqrt() * (mean[i] + std[i] * batch.posterior[i])
        z_t = z_t + (1 - abar).sqrt() * batch.noise[i]
        states = data.condition([batch.captions[i]])["states"]
        with torch.no_grad():
            predicted = unet(z_t[None], torch.tensor(t), states).sample[0]
            assert torch.allclose(
                denoising[i], ((predicted - batch.noise[i]) ** 2).mean(), rtol=1e-4
            )
            if batch.captions[i] == 0 or t > 700:
                continue
            z0 = (z_t - (1 - abar).sqrt() * predicted) / abar.sqrt()
            picture = family.vae.decode(z0[None] / 0.5).sample / 2 + 0.5
            seen = guide.encode_image(picture.clamp(0, 1))[0]
            wanted = guide.encode_text([data.listing.captions[batch.captions[i]]])[0]
        assert wanted.norm() == pytest.approx(1, abs=1e-5)
        assert torch.allclose(cosine[count], seen @ wanted, atol=1e-4)
        assert torch.allclose(clip[count], abar * (1 - seen @ wanted), atol=1e-4)
        count += 1
    assert count == len(clip) and 0 < count < 8 and 0 in batch.captions


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_gradient_of_the_clip_term_by_finite_differences(prediction):
    family = open_family(tiny.world(prediction)["base"], dtype=torch.float64)
    family.schedule.abar = family.schedule.abar.double()
    guide = load_guide(tiny.world()["guide"])
    guide.model.double()
    g = torch.Generator().manual_seed(1)
    z_t, direction = torch.randn(2, 1, 4, 8, 8, generator=g, dtype=torch.float64)
    predicted = torch.randn(1, 4, 8, 8, generator=g, dtype=torch.float64, requires_grad=True)
    e = torch.nn.functional.normalize(torch.randn(1, 8, generator=g, dtype=torch.float64), dim=1)

    def cosine(predicted):
        t = torch.tensor([300])
        return losses.guide_cosine(family, guide, z_t, predicted, t, e).sum()

    (gradient,) = torch.autograd.grad(cosine(predicted), predicted)
    h = 1e-5
    with torch.no_grad():
        above, below = (cosine(predicted + way * h * direction) for way in (1, -1))
    slope = (gradient * direction).sum()
    assert abs(slope) > 1e-6  # there is something to compare
    assert slope.item() == pytest.approx(((above - below) / (2 * h)).item(), rel=1e-4)


def test_only_the_network_gets_gradients():
    run = tiny.begin(batch_size=8)
    _, _, clip, _ = terms_of(run)
    clip.sum().backward()
    trained = run.state.net.parameters()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in trained)
    for frozen in (run.family.vae, run.method.guide.model):
        assert all(p.grad is None and not p.requires_grad for p in frozen.parameters())


@pytest.mark.parametrize("weighting", ["abar", "sqrt_abar", "uniform"])
def test_the_weight_of_the_clip_term(weighting):
    run = tiny.begin(weighting=weighting, caption_dropout=0.0)
    batch = run.method.batch(run.data, 0)
    batch.timesteps[:] = torch.tensor([5, 200, 400, 700])
    _, _, clip, cosine = terms_of(run, batch=batch)
    power = {"abar": 1, "sqrt_abar": 0.5, "uniform": 0}[weighting]
    abar = run.family.share(batch.timesteps)
    assert torch.allclose(clip, abar**power * (1 - cosine), rtol=1e-5)


def test_the_decoder_sees_only_samples_inside_the_window(monkeypatch):
    run = tiny.begin(batch_size=16, caption_dropout=0.0)
    decoded, decode = [], run.family.decode
    monkeypatch.setattr(
        run.family, "decode", lambda z, exactly: decoded.append(len(z)) or decode(z, exactly)
    )
    batch, *_ = terms_of(run)
    assert decoded == [sum(t <= 700 for t in batch.timesteps.tolist())]
    batch.timesteps[:] = 701
    _, denoising, clip, cosine = terms_of(run, batch=batch)
    assert len(decoded) == 1 and len(clip) == len(cosine) == 0
    (denoising.sum() + clip.sum()).backward()  # an empty term has a gradient, too


def test_the_window_has_both_its_ends_and_dropped_captions_are_out():
    t = torch.tensor([9, 10, 500, 501, 20])
    captioned = torch.tensor([True, True, True, True, False])
    assert losses.inside(t, captioned, (10, 500)).tolist() == [1, 2]


def test_normal_fine_tuning_loads_neither_guide_nor_decoder():
    run = tiny.begin("normal")
    terms = run.method.terms(run.state.net, run.method.batch(run.data, 0))
    assert list(terms) == ["denoising"] and run.method.watching is None
    assert "vae" not in vars(run.family) and not run.data.guided


def test_targets():
    run = tiny.begin()
    batch = run.method.batch(run.data, 0)

    def wanted(target):
        run.method.settings = run.settings.model_copy(update={"target": target})
        return run.method.wanted(batch, [0, 2])

    text, image, mix = map(wanted, ("text", "image", "mix"))
    assert torch.equal(text, run.data.guide_captions([batch.captions[i] for i in (0, 2)]))
    assert torch.equal(image, run.data.guide_pictures([batch.pictures[i] for i in (0, 2)]))
    half_way = torch.nn.functional.normalize((text + image) / 2, dim=1)
    assert torch.allclose(mix, half_way, atol=1e-6)


def test_min_snr_changes_only_low_timesteps():
    abar = torch.linspace(0.999, 0.005, 1000)
    predicted, target = torch.ones(1000, 1, 1, 1), torch.zeros(1000, 1, 1, 1)
    weight = denoising(Schedule(abar), predicted, target, torch.arange(1000), 5.0)
    low = abar / (1 - abar) > 5
    assert torch.all(weight[low] < 1) and torch.all(weight[~low] == 1) and low.any()

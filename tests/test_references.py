"""One step's gradient of each method equals that of a public implementation, written anew here.

Same weights, noise, captions and reward; the loop is the references' own: diffusers' scheduler, a
UNet called step by step, losses as their trainers have them.
"""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch.nn.functional import mse_loss

from tests import tiny
from vlg.models.guide import load_guide
from vlg.train.step import backward


def moved(run):
    """The run after its weights have left the base's, as in the midst of a training."""
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in run.state.weights.values():
            weight += 0.02 * torch.randn(weight.shape, generator=g)
    return run


class Reference:
    """Networks read anew, with the run's weights, and what a trainer does with them.

    steps: of the sampler.
    """

    def __init__(self, run, steps, prediction="epsilon"):
        self.base = base = tiny.world(prediction)["base"]
        run.method.before(run.state.net, run.data, 0)
        self.run, self.batch = run, run.method.batch(run.data, 0)
        self.unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet")
        self.unet.load_state_dict(run.state.net.state_dict())
        self.vae = AutoencoderKL.from_pretrained(base, subfolder="vae").requires_grad_(False)
        self.guide = load_guide(tiny.world()["guide"])
        self.scheduler = DDIMScheduler.from_pretrained(base, subfolder="scheduler")
        self.scheduler.set_timesteps(steps)
        self.states = run.data.condition(self.batch.captions)["states"]
        self.empty = run.data.condition([0] * len(self.batch))["states"]

    def predict(self, z, t, scale=1.0):
        if scale == 1:
            return self.unet(z, t, encoder_hidden_states=self.states).sample
        states = torch.cat([self.empty, self.states])
        without, text = self.unet(torch.cat([z] * 2), t, encoder_hidden_states=states).sample.chunk(
            2
        )
        return without + scale * (text - without)

    def reward(self, z, begin, end, scale=1.0):
        """Mean reward of the estimate at step `end`, reached from step `begin` without gradient."""
        times = self.scheduler.timesteps
        with torch.no_grad():
            for t in times[begin:end]:
                z = self.scheduler.step(self.predict(z, t, scale), t, z).prev_sample
        predicted = self.predict(z, times[end], scale)
        return self.seen(self.scheduler.step(predicted, times[end], z).pred_original_sample)

    def drawn(self, scale):
        """What the sampler ends in, with gradient through its last step."""
        z, (*before, last) = self.batch.start, self.scheduler.timesteps
        with torch.no_grad():
            for t in before:
                z = self.scheduler.step(self.predict(z, t, scale), t, z).prev_sample
        return self.scheduler.step(self.predict(z, last, scale), last, z).prev_sample

    def seen(self, clean):
        image = self.vae.decode(clean / self.vae.config.scaling_factor).sample
        image = (image / 2 + 0.5).clamp(0, 1)
        texts = self.run.data.guide_captions(self.batch.captions)
        return (self.guide.encode_image(image) * texts).sum(1).mean()

    def noised(self, timesteps):
        mean, std = self.run.data.latents(self.batch.pictures, self.batch.flipped)
        z0 = mean + std * self.batch.posterior
        return self.scheduler.add_noise(z0, self.batch.noise, timesteps)

    def mse(self, timesteps):
        return mse_loss(self.predict(self.noised(timesteps), timesteps), self.batch.noise)

    def equals(self, loss):
        """Whether the gradient of `loss` is that of our step."""
        loss.backward()
        backward(self.run, self.run.method.batch(self.run.data, 0))
        ours = self.run.state.weights
        theirs = dict(self.unet.named_parameters())
        norm = torch.cat([p.grad.flatten() for p in theirs.values()]).norm()
        apart = torch.cat([(ours[n].grad - p.grad).flatten() for n, p in theirs.items()]).norm()
        assert norm > 1e-3
        return float(apart / norm) < 1e-4


ALONE = {"caption_dropout": 0, "batch_size": 3, "own_share": 1, "own_every": 1}


def sampled(steps, scheduler="ddim", guidance=2.0):
    return {"sampling": {"steps": steps, "scheduler": scheduler, "guidance_scale": guidance}}


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_refl(guidance):
    """ImageReFL's ReFLTrainer, without and with guidance, and ImageReward's loss on the data."""
    run = tiny.begin("refl", **ALONE, **sampled(5), late_from=0.4, own_guidance=guidance)
    theirs = Reference(run, 5)
    late = theirs.batch.late[0]
    assert 2 <= late < 5
    reward = theirs.reward(theirs.batch.start, 0, late, guidance)
    assert theirs.equals(theirs.mse(theirs.batch.timesteps) - 100 * reward)


def test_imagerefl():
    """ImageReFL's ImageReFLTrainer at its released weights, 0.001 (0.01 mse - reward)."""
    run = tiny.begin("imagerefl", **ALONE, **sampled(8), data_from=0.25, late_from=0.5)
    theirs = Reference(run, 8)
    late, first = theirs.batch.late[0], theirs.scheduler.timesteps[2].repeat(3)
    assert 4 <= late < 8
    reward = theirs.reward(theirs.noised(first), 2, late)
    assert theirs.equals((0.01 * theirs.mse(first) - reward) * 0.001 * 1e5)


def test_draft():
    """ImageReFL's DraftKTrainer at K = 1. In two steps DPM-Solver++ is of first order, which is
    DDIM, and the last one ends in the estimate, as the trainer's does."""
    run = tiny.begin("draft", **ALONE, **sampled(2, "dpm++"), guide_scale=7)
    theirs = Reference(run, 2)
    first, last = run.family.path(run.settings.path)
    abar = theirs.scheduler.alphas_cumprod
    z = theirs.batch.start
    with torch.no_grad():
        noise = theirs.predict(z, first, 2.0)
        clean = (z - (1 - abar[first]).sqrt() * noise) / abar[first].sqrt()
        z = abar[last].sqrt() * clean + (1 - abar[last]).sqrt() * noise
    clean = theirs.scheduler.step(theirs.predict(z, last, 2.0), last, z).pred_original_sample
    loss = theirs.mse(theirs.batch.timesteps) - 7 * theirs.seen(clean)
    assert theirs.equals(loss)


def test_draft_with_low_variance():
    """Algorithm 1 of the paper: the finished latents noised again to the last step, n times."""
    run = tiny.begin("draft", **ALONE, **sampled(4), guide_scale=7, low_variance=2)
    theirs = Reference(run, 4)
    times = theirs.scheduler.timesteps
    z = theirs.drawn(2.0)
    rewards = [theirs.seen(z)]
    for number in range(2):
        noise = theirs.batch.again[:, number]
        z_t = theirs.scheduler.add_noise(z.detach(), noise, times[-1].repeat(3))
        predicted = theirs.predict(z_t, times[-1], 2.0)
        clean = theirs.scheduler.step(predicted, times[-1], z_t).pred_original_sample
        rewards.append(theirs.seen(clean))
    assert theirs.equals(theirs.mse(theirs.batch.timesteps) - 7 * sum(rewards) / 3)


OWN = {"caption_dropout": 0, "batch_size": 4, "data_share": 0}


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_dpo(prediction):
    """diffusers' train_diffusion_dpo.py, its loss over beta, as ours is."""
    run = moved(tiny.begin("dpo", prediction, **OWN))
    theirs = Reference(run, 4, prediction)
    batch, states = theirs.batch, theirs.states.repeat(2, 1, 1)
    latents = torch.cat([batch.own[:, 0], batch.own[:, 1]])
    noise, t = batch.noise.repeat(2, 1, 1, 1), batch.timesteps.repeat(2)
    noisy = theirs.scheduler.add_noise(latents, noise, t)
    target = noise if prediction == "epsilon" else theirs.scheduler.get_velocity(latents, noise, t)

    def difference(unet):
        predicted = unet(noisy, t, states).sample
        errors = (predicted - target).square().mean(dim=(1, 2, 3))
        better, worse = errors.chunk(2)
        return better - worse

    base = UNet2DConditionModel.from_pretrained(theirs.base, subfolder="unet")
    with torch.no_grad():
        logits = difference(base)
    logits = logits - difference(theirs.unet)
    assert theirs.equals(-torch.nn.functional.logsigmoid(2500 * logits).mean() / 2500)


@pytest.mark.parametrize("beta", [1.0, 0.1])
def test_nft(beta):
    """DiffusionNFT's train_nft_sd3.py, but for what a prediction says of z_0, which is of flow
    there and of noise here."""
    run = tiny.begin("nft", **OWN, beta=beta, own_guidance=1, kl_scale=0.01)
    run.method.before(run.state.net, run.data, 0)  # draws by the copy
    for weight in run.method.old.values():
        weight += 0.01 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
    theirs = Reference(moved(run), 4)
    batch = theirs.batch
    x0, t = batch.own[:, 0], batch.timesteps
    xt = theirs.scheduler.add_noise(x0, batch.noise, t)
    old, base = (UNet2DConditionModel.from_pretrained(theirs.base, subfolder="unet") for _ in "ab")
    old.load_state_dict(run.method.old)
    forward = theirs.predict(xt, t)
    with torch.no_grad():
        old, base = (each(xt, t, theirs.states).sample for each in (old, base))
    abar = theirs.scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)

    def loss(prediction):
        x0_prediction = (xt - (1 - abar).sqrt() * prediction) / abar.sqrt()
        weight = (x0_prediction - x0).detach().abs().mean((1, 2, 3), keepdim=True).clip(1e-5)
        return ((x0_prediction - x0) ** 2 / weight).mean((1, 2, 3))

    r = batch.score
    positive = beta * forward + (1 - beta) * old
    negative = (1 + beta) * old - beta * forward
    policy = r * loss(positive) / beta + (1 - r) * loss(negative) / beta
    assert theirs.equals((policy * 5).mean() + 0.01 * ((forward - base) ** 2).mean())


def test_nft_scores_are_the_references_advantages():
    """PerPromptStatTracker with the deviation of all rewards, clipped at 5 and brought to 0..1."""
    from vlg.train.methods.nft import better

    scores = torch.tensor([[0.2, 0.3, 0.7], [0.1, 0.1, 0.1], [-9.0, 0.0, 1.0]])
    flat, prompts = scores.flatten().double().numpy(), np.repeat(["a", "b", "c"], 3)
    advantages = np.array(
        [x - flat[prompts == p].mean() for x, p in zip(flat, prompts, strict=True)]
    )
    advantages /= np.std(flat) + 1e-4
    expected = np.clip(np.clip(advantages, -2, 2) / 2 / 2 + 0.5, 0, 1)
    assert better(scores, 2).flatten().tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_raft_trains_on_the_best_of_its_samples_as_if_they_were_data():
    run = tiny.begin("raft", **OWN)
    theirs = Reference(run, 4)
    batch = theirs.batch
    noisy = theirs.scheduler.add_noise(batch.own[:, 0], batch.noise, batch.timesteps)
    assert theirs.equals(mse_loss(theirs.predict(noisy, batch.timesteps), batch.noise))


@pytest.mark.parametrize("clip", [0.0001, 10.0])
def test_ddpo(clip):
    """ddpo-pytorch's train.py and ddim_step_with_logprob.py, a step of the sampler at a time."""
    run = tiny.begin("ddpo", **OWN, **sampled(4), clip_range=clip)
    run.method.before(run.state.net, run.data, 0)  # draws before the weights move
    theirs = Reference(moved(run), 4)
    batch, times, abars = theirs.batch, theirs.scheduler.timesteps, theirs.scheduler.alphas_cumprod
    late = batch.late[0]
    t, before = int(times[late]), int(times[late]) - 1000 // 4
    abar = abars[t]
    last = abars[before] if before >= 0 else theirs.scheduler.final_alpha_cumprod
    deviation = ((1 - last) / (1 - abar) * (1 - abar / last)).sqrt()
    z, after = batch.own.unbind(1)

    def log_prob(unet):
        theirs.unet = unet
        predicted = theirs.predict(z, t, 2.0)
        clean = (z - (1 - abar).sqrt() * predicted) / abar.sqrt()
        mean = last.sqrt() * clean + (1 - last - deviation**2).sqrt() * predicted
        found = -((after - mean) ** 2) / (2 * deviation**2) - deviation.log()
        return found.mean(dim=(1, 2, 3))

    now, base = theirs.unet, UNet2DConditionModel.from_pretrained(theirs.base, subfolder="unet")
    with torch.no_grad():
        drawn = log_prob(base)
    ratio = (log_prob(now) - drawn).exp()
    assert (ratio - 1).abs().max() > 1e-3
    unclipped = -batch.score * ratio
    clipped = -batch.score * ratio.clamp(1 - clip, 1 + clip)
    assert theirs.equals(torch.maximum(unclipped, clipped).mean())


def test_ddpo_rewards_what_scores_above_its_caption():
    """A step along the gradient makes moves with an advantage likelier, others less so."""
    run = tiny.begin("ddpo", **OWN, clip_range=0.5)
    run.method.before(run.state.net, run.data, 0)
    batch = run.method.batch(run.data, 0)
    backward(run, batch)
    with torch.no_grad():
        for weight in run.state.weights.values():
            weight -= 1e-3 * weight.grad / weight.grad.norm().clamp(min=1e-9)
    loss, _ = run.method.of_moves(run.state.net, batch)
    ratio = -loss.detach() / batch.score
    assert ((ratio - 1) * batch.score).mean() > 0

"""Z-Image, Qwen-Image and Sana: what is drawn and trained is what diffusers' own code does."""

import json
import shutil

import numpy as np
import pytest
import torch

from tests import drawing, flows, tiny
from tests.drawing import conditions, sampling
from tests.test_guidance import KINDS, PICTURES
from vlg import plugins
from vlg.config.load import load
from vlg.errors import UserError
from vlg.files import write_manifest
from vlg.models import families, folders, kohya, ledger, lora, stated
from vlg.models.families import sana
from vlg.models.family import open_family
from vlg.sample import arm
from vlg.sample.listing import Picture
from vlg.sample.sampler import Sampler
from vlg.train.step import backward

NAMES = tuple(flows.SAVE)
CLASSES = {"z_image": "ZImage", "qwen_image": "QwenImage", "sana": "Sana"}
CHANNELS = {"z_image": 16, "qwen_image": 16, "sana": 4}
SOLVER = {"z_image": "ddim", "qwen_image": "ddim", "sana": "dpm++"}  # that of the pipeline
TEXTS = ["a red circle", "the blue square", flows.LONG]
OF = {"latents_mean", "latents_std"}


def folder(name):
    """The base of the tiny world, with the manifest that what is drawn with has."""
    base = tiny.world(name)["base"]
    if not (base / "manifest.json").exists():
        write_manifest(base)
    return base


def noise(name, n=3, seed=0):
    return drawing.noise(n, seed, CHANNELS[name])


def settings(name, **values):
    """Few steps with guidance, by the solver of the pipeline."""
    return sampling(**{"scheduler": SOLVER[name], **values})


def pipeline(name, end="Pipeline"):
    import diffusers

    pipe = getattr(diffusers, CLASSES[name] + end).from_pretrained(folder(name))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def packed(z):
    from diffusers import QwenImagePipeline

    return QwenImagePipeline._pack_latents(z, *z.shape)


def unpacked(z):
    from diffusers import QwenImagePipeline

    return QwenImagePipeline._unpack_latents(z, 32, 32, 4)[:, :, 0]


def drawn(name, texts, scale=4.0, end="Pipeline", **given):
    """What a pipeline draws of texts, of pictures where they are given; the scale as it is here."""
    keys = {"height": 32, "width": 32, "num_inference_steps": 4, **given}
    if name == "z_image":
        keys |= {"guidance_scale": scale - 1, "max_sequence_length": flows.TOKENS}
    elif name == "qwen_image":
        keys |= {"true_cfg_scale": scale, "max_sequence_length": flows.TOKENS}
        keys |= {"negative_prompt": [""] * len(texts)} if scale > 1 else {}
        keys |= {"latents": packed(given["latents"])} if "latents" in given else {}
    else:
        keys |= {"guidance_scale": scale, "use_resolution_binning": False}
    found = pipeline(name, end)(list(texts), **keys).images
    whole = name == "qwen_image" and given["output_type"] == "latent"
    return unpacked(found) if whole else found


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


# ---------------------------------------------------------------------------------------- drawing


def test_a_folder_of_it_is_found_and_is_whole(name):
    base = folder(name)
    assert families.name_of(base) == name
    stated.check("base", base, "it", name)
    files = [path.relative_to(base).as_posix() for path in base.rglob("*.*")]
    assert not stated.absent(base) and not stated.left_out(files, name)
    family = open_family(base)
    assert family.latent_shape == (CHANNELS[name], 8, 8) and family.resolution == 32
    assert family.timesteps == 1000


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_sampled_latents_are_the_pipelines(name, scale):
    family = open_family(folder(name))
    wanted = drawn(name, TEXTS, scale, latents=noise(name), output_type="latent")
    found = family.sample(
        latents=noise(name),
        settings=settings(name, guidance_scale=scale),
        **conditions(family, TEXTS),
    )
    if scale == 1:
        assert torch.equal(found, wanted)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert (found - noise(name)).abs().amax(dim=(1, 2, 3)).min() > 0.3


def test_sana_is_drawn_by_eulers_steps_where_its_folder_says_so(tmp_path, monkeypatch):
    from diffusers import FlowMatchEulerDiscreteScheduler

    base = flows.save_sana(tmp_path / "base", FlowMatchEulerDiscreteScheduler(shift=3.0))
    monkeypatch.setattr(tiny, "world", lambda name: {"base": base})
    stated.check("base", base, "it", "sana")
    family, latents = open_family(base), noise("sana")
    wanted = drawn("sana", TEXTS, latents=latents, output_type="latent")
    found = family.sample(latents=latents, settings=sampling(), **conditions(family, TEXTS))
    assert torch.equal(found, wanted)


def test_texts_and_scales_matter(name):
    """As they would not if nothing that the network is told reached it."""
    family = open_family(folder(name))
    told, z = family.condition(TEXTS[:2]), noise(name, 1).repeat(2, 1, 1, 1)
    one, other = family.predict(family.net, z, torch.tensor(500), told)
    assert (one - other).abs().max() > 1e-3
    none = family.condition([""] * 2)
    weak, strong = (
        family.sample(told, z, settings(name, guidance_scale=scale), negative=none)
        for scale in (1.0, 8.0)
    )
    assert (weak - strong).abs().max() > 1e-2


def test_pictures_are_the_pipelines_whatever_the_batch(name):
    sampler, seeds = Sampler(folder(name), settings(name), "cpu"), [0, 1, 2]
    ours = sampler.draw(TEXTS, seeds)
    latents = sampler.latents(TEXTS, seeds, "latents")
    theirs = drawn(name, TEXTS, latents=latents, output_type="np")
    assert np.abs(ours.astype(int) - np.rint(theirs * 255)).max() <= 1 and ours.std() > 1
    for i, text in enumerate(TEXTS):
        alone = sampler.draw([text], [i])[0].astype(int)
        assert np.abs(alone - ours[i]).max() <= 1


def test_conditions_and_predictions_do_not_depend_on_the_batch(name):
    """A text of many tokens beside short ones and the empty one, in any order."""
    family = open_family(folder(name))
    texts = ["", *TEXTS]
    whole, z, t = family.condition(texts), noise(name, 4), torch.tensor([100, 400, 700, 999])
    predicted = family.predict(family.net, z, t, whole)
    turned = family.condition(texts[::-1])
    for i, text in enumerate(texts):
        alone = family.condition([text])
        for key, value in alone.items():
            assert value.shape[1] == whole[key].shape[1], "as many tokens whatever the text"
            assert torch.allclose(value[0], whole[key][i], atol=1e-5)
            assert torch.allclose(value[0], turned[key][3 - i], atol=1e-5)
        one = family.predict(family.net, z[i : i + 1], t[i : i + 1], alone)[0]
        assert torch.allclose(one, predicted[i], atol=1e-5)


@pytest.mark.parametrize("name", ["z_image", "qwen_image"])
def test_a_refinement_is_the_pipelines(name):
    family = open_family(folder(name))
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    theirs = drawn(
        name, TEXTS[:2], end="Img2ImgPipeline", image=pixels, strength=0.5, output_type="np",
        generator=[torch.Generator().manual_seed(i) for i in (5, 6)],
    )  # fmt: skip
    generators = [torch.Generator().manual_seed(i) for i in (5, 6)]
    z, begin = family.renoised(pixels, generators, settings(name), 0.5)
    found = family.sample(
        latents=z, begin=begin, settings=settings(name), **conditions(family, TEXTS[:2])
    )
    ours = family.decode(found).permute(0, 2, 3, 1).numpy()
    assert begin == 2 and np.abs(np.rint(ours * 255) - np.rint(theirs * 255)).max() <= 1
    assert np.allclose(ours, theirs, atol=1e-5) and ours.std() > 0.01


def test_a_refinement_of_sana_begins_where_its_solver_is():
    """diffusers has none to compare with: z_t of the step at which a drawing would go on."""
    family = open_family(folder("sana"))
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    generators = [torch.Generator().manual_seed(i) for i in (5, 6)]
    z, begin = family.renoised(pixels, generators, settings("sana"), 0.5)
    scheduler = pipeline("sana").scheduler
    scheduler.set_timesteps(4)
    sigma, clean = scheduler.sigmas[begin], family.encode(pixels)[0]
    noise = (z - (1 - sigma) * clean) / sigma
    assert begin == 2 and noise.std() == pytest.approx(1, abs=0.15)
    assert torch.equal(family.encode(pixels)[1], torch.zeros_like(clean))


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++"])
def test_pictures_are_drawn_and_redrawn_in_bf16(name, scheduler):
    base = folder(name)
    own = Sampler(base, sampling(scheduler=scheduler, precision="bf16"), "cpu", base)
    plain = own.draw(TEXTS[:2], [0, 1])
    again = own.redraw(plain, TEXTS[:2], [0, 1], 0.5, "again")
    assert plain.std() > 0 and again.std() > 0 and (again != plain).any()


def test_states_that_overflow_are_told(name, monkeypatch):
    family = open_family(folder(name), dtype=torch.float16)
    large = torch.full((1, 2, 4), 1e5), torch.ones(1, 2, dtype=torch.long)
    monkeypatch.setattr(type(family), "_read", lambda self, texts: large)
    with pytest.raises(UserError, match="too large for torch.float16; set the precision to bf16"):
        family.condition(["a"])


def test_language_models_are_read_in_bfloat16_where_pictures_are_drawn_in_float16(name):
    """In which their states overflow; diffusers' pages of Sana say the same."""
    family = open_family(folder(name), dtype=torch.float16)
    assert family.text[0][1].dtype == torch.bfloat16
    told = family.condition(TEXTS[:1])
    assert told["states"].dtype == torch.float16 and told["states"].isfinite().all()


def test_a_picture_and_its_latents_are_the_vaes(name):
    vae, family = pipeline(name).vae, open_family(folder(name))
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    z = noise(name, 2)
    mean, std = family.encode(pixels)
    with torch.no_grad():
        if name == "sana":
            told = vae.encode(pixels * 2 - 1).latent * 0.41407
            spread, back = torch.zeros_like(told), vae.decode(z / 0.41407).sample
        elif name == "z_image":
            seen = vae.encode(pixels * 2 - 1).latent_dist
            told, spread = (seen.mean - 0.1159) * 0.3611, seen.std * 0.3611
            back = vae.decode(z / 0.3611 + 0.1159).sample
        else:
            mu, sigma = (torch.tensor(vae.config[key])[None, :, None, None] for key in sorted(OF))
            seen = vae.encode((pixels * 2 - 1)[:, :, None]).latent_dist
            told, spread = (seen.mean[:, :, 0] - mu) / sigma, seen.std[:, :, 0] / sigma
            back = vae.decode((z * sigma + mu)[:, :, None]).sample[:, :, 0]
    assert torch.allclose(mean, told, atol=1e-5) and torch.allclose(std, spread, atol=1e-6)
    assert torch.allclose(family.decode(z), (back / 2 + 0.5).clamp(0, 1), atol=1e-5)


def test_a_score_moves_the_estimate_as_tweedie_says(name):
    family, score, moved = open_family(folder(name)), noise(name, seed=2), []

    def shift(step):
        before = step.estimate
        step.shift(score)
        moved.append((float(step.t / 1000), step.estimate - before))

    given = {"settings": settings(name), **conditions(family, TEXTS)}
    family.sample(latents=noise(name), on_step=shift, **given)
    assert len(moved) == 4
    for sigma, found in moved:
        wanted = sigma**2 / (1 - sigma) * score if sigma < 1 else torch.zeros_like(score)
        assert torch.allclose(found, wanted, rtol=1e-2, atol=1e-3)


def test_halves_resampling_and_gradients(name):
    """What arms ask of a drawing."""
    family = open_family(folder(name))
    net, latents = family.network(), noise(name).requires_grad_()
    same = {"condition": family.condition([TEXTS[0]] * 3)}
    given = {"settings": sampling(scheduler="dpm++", guidance_scale=1.0), **same}
    whole = family.sample(latents=noise(name), **given)

    def turn(step):
        if step.index == 2:
            step.resample(torch.tensor([2, 2, 0]))

    chosen = family.sample(latents=noise(name), on_step=turn, **given)
    assert torch.allclose(chosen, whole[[2, 2, 0]], atol=1e-4)
    given = {"settings": sampling(guidance_scale=1.0), **same}
    half = family.sample(latents=noise(name), end=2, **given)
    whole = family.sample(latents=noise(name), **given)
    assert torch.equal(family.sample(latents=half, begin=2, **given), whole)
    family.sample(latents=latents, grad=True, net=net, **given).square().sum().backward()
    assert latents.grad.abs().amax(dim=(1, 2, 3)).min() > 0
    assert sum(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters()) > 20


def test_what_is_kept_of_texts_is_what_the_pipeline_tells_the_network(name):
    from vlg.data.source import Cache

    cache = Cache(tiny.world(name)["cache"])
    rows = [0, 1, 2, 3]
    told, texts = cache.condition(rows), [cache.listing.captions[i] for i in rows]
    assert texts[0] == "" and told.keys() == {"states", "mask"}
    pipe = pipeline(name)
    for i, text in enumerate(texts):
        if name == "z_image":
            states = pipe.encode_prompt([text], "cpu", False, max_sequence_length=48)[0][0]
        elif name == "qwen_image":
            states = pipe.encode_prompt([text], "cpu", max_sequence_length=48)[0][0]
        else:
            keys = {"complex_human_instruction": sana.instruction() if text else None}
            states, mask, *_ = pipe.encode_prompt([text], False, device="cpu", **keys)
            states = states[0][mask[0].bool()]
        kept = told["mask"][i].bool()
        assert kept.sum() == len(states) > 0 and kept[: len(states)].all()
        assert torch.allclose(told["states"][i][kept], states, atol=1e-5)
        assert not told["states"][i][~kept].any()


def test_a_cost_is_that_of_its_calls_whatever_the_batch(name, monkeypatch):
    """Counted with tables that move to the meta device and back, as of a large model."""
    from torch.utils.flop_counter import FlopCounterMode

    family, book = open_family(folder(name)), ledger.Ledger()
    family.watch(book)
    told = family.condition(TEXTS)
    family.sample(told, noise(name), settings(name, guidance_scale=1.0))
    monkeypatch.setattr(ledger, "LARGE", 0)
    whole = book.take()
    assert whole.of("network") == 3 * 4
    costs = []
    for i in range(3):
        one = {key: value[i : i + 1] for key, value in told.items()}
        family.sample(one, noise(name)[i : i + 1], settings(name, guidance_scale=1.0))
        costs.append(book.take().of("network", "flops"))
        with FlopCounterMode(display=False) as count, torch.no_grad():
            family.predict(family.net, noise(name, 1), torch.tensor([500]), one)
        assert costs[-1] >= 4 * count.get_total_flops() > 0
        book.take()
    assert whole.of("network", "flops") == sum(costs)
    family.decode(noise(name).requires_grad_()).sum().backward()
    spent = book.take()
    assert spent.of("decoder") == spent.of("decoder", "backward") == 3


# --------------------------------------------------------------------------------------- training


def loss_of(name, run, transformer):
    """That of diffusers' train_dreambooth_lora_*.py as it is set by default, of a run's first
    batch: uniform timesteps of the scheduler as it is loaded, the flow, no weights."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    batch = run.method.batch(run.data, 0)
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder(name), subfolder="scheduler")
    told = run.data.condition(batch.captions)
    mean, std = run.data.latents(batch.pictures, batch.flipped)
    clean, eps = mean + std * batch.posterior, batch.noise
    timesteps = scheduler.timesteps[scheduler.config.num_train_timesteps - 1 - batch.timesteps]
    sigmas = torch.stack([scheduler.sigmas[scheduler.timesteps == t] for t in timesteps])
    noisy = (1 - sigmas[..., None, None]) * clean + sigmas[..., None, None] * eps
    masks = told["mask"].bool()
    if name == "z_image":
        texts = [states[mask] for states, mask in zip(told["states"], masks, strict=True)]
        latents = list(noisy.unsqueeze(2).unbind(dim=0))
        found = transformer(latents, (1000 - timesteps) / 1000, texts, return_dict=False)[0]
        predicted = -torch.stack(found, dim=0).squeeze(2)
    elif name == "qwen_image":
        longest = int(masks.sum(dim=1).max())  # of the batch, as the example pads it
        predicted = unpacked(
            transformer(
                hidden_states=packed(noisy), encoder_hidden_states=told["states"][:, :longest],
                encoder_hidden_states_mask=masks[:, :longest], timestep=timesteps / 1000,
                img_shapes=[(1, 4, 4)] * len(noisy), return_dict=False,
            )[0]
        )  # fmt: skip
    else:
        predicted = transformer(
            hidden_states=noisy, encoder_hidden_states=told["states"],
            encoder_attention_mask=masks, timestep=timesteps, return_dict=False,
        )[0]  # fmt: skip
    error = (predicted - (eps - clean)) ** 2
    return batch, error.reshape(len(error), -1).mean(1).mean()


def test_a_step_is_that_of_diffusers_example(name):
    """At weights of a LoRA that have moved."""
    import diffusers
    from peft import LoraConfig

    rank = 4
    run = tiny.begin("normal", name, caption_dropout=0.2, lora_rank=rank)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in run.state.weights.values():
            weight += 0.05 * torch.randn(weight.shape, generator=g)
    kind = getattr(diffusers, f"{CLASSES[name]}Transformer2DModel")
    transformer = kind.from_pretrained(folder(name), subfolder="transformer").requires_grad_(False)
    layers = ["to_k", "to_q", "to_v"] + (["to_out.0"] if name != "sana" else [])
    transformer.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=layers))
    transformer.load_state_dict(run.state.net.state_dict())
    batch, loss = loss_of(name, run, transformer)
    loss.backward()
    _, numbers = backward(run, batch)
    assert numbers[0].item() == pytest.approx(loss.item(), rel=1e-4)
    drawing.same_gradients(transformer.named_parameters(), run.state.weights)


@pytest.mark.parametrize("method", plugins.names(plugins.METHODS))
def test_every_method_trains_a_lora_of_it(name, method, tmp_path):
    """What it writes is a model that draws, and a LoRA that diffusers loads."""
    out = drawing.trained(tmp_path, method, name)
    given = settings(name, guidance_scale=1.0)
    drawing.draws_as_trained(out, folder(name), noise(name), given, pipeline(name), TEXTS)


def test_all_weights_are_trained_of_sana_alone(name, tmp_path):
    if name == "sana":
        out = tiny.finetune(tmp_path, "normal", step=2, prediction=name)
        assert not torch.equal(
            *(next(open_family(each).network().parameters()) for each in (out, folder(name)))
        )
        return
    with pytest.raises(UserError, match="lora_rank: is 0, and .* billion weights .*set it to 16"):
        tiny.begin("normal", name)
    values = {
        "models": {"family": name, "base": str(folder(name))},
        "finetune": {"lora_rank": 0, "variants": {"normal": {"guide_scale": 0}}},
    }
    with pytest.raises(UserError, match=f"lora_rank: is 0, and all of {name}'s weights cannot"):
        load(values, tmp_path)


def test_a_step_recomputes_activations_where_that_is_asked_for(name, tmp_path, monkeypatch):
    """Of the network; the VAEs of Qwen-Image and Sana keep theirs, as diffusers has them."""
    kind, asked = type(open_family(folder(name)).network()), []
    monkeypatch.setattr(kind, "enable_gradient_checkpointing", lambda net: asked.append(net))
    options = {"lora_rank": 2, "prediction": name, "gradient_checkpointing": True}
    tiny.finetune(tmp_path, "refl", step=2, **options)
    assert asked


def test_a_small_decoder_serves_where_it_decodes_to_the_same_size(name, tmp_path):
    family = open_family(folder(name))
    family.use_decoder(tiny.save_decoder(tmp_path / "small", CHANNELS[name]))
    z = noise(name).requires_grad_()
    small = family.decode(z)
    small.sum().backward()
    assert small.shape == (3, 3, 32, 32) and z.grad.abs().max() > 0
    assert not torch.equal(small, family.decode(z, exactly=True))


def test_a_small_decoder_to_another_size_is_refused(tmp_path, monkeypatch):
    """As that of Stable Diffusion beside Sana, of which a latent is 32 pixels."""
    small = tiny.save_decoder(tmp_path / "small", 4)
    monkeypatch.setattr(sana.Sana, "halvings", 5)
    with pytest.raises(UserError, match="to 4 pixels a side, and this base's VAE to 32; give"):
        open_family(folder("sana")).use_decoder(small)


def test_tiles_change_a_picture_little(name):
    whole, tiled = open_family(folder(name)), open_family(folder(name))
    tiled.tile()
    z = noise(name)
    one, other = whole.decode(z), tiled.decode(z)
    assert one.shape == other.shape and not torch.equal(one, other)
    assert (one - other).abs().mean() < 0.1


# ------------------------------------------------------------------------------------------- arms


@pytest.mark.parametrize("kind", KINDS)
def test_every_arm_draws_with_it(name, kind):
    base = folder(name)
    sampler = Sampler(base, sampling(scheduler="dpm++"), "cpu", base)
    drawing.draws(arm.load(kind, KINDS[kind]), kind, sampler, PICTURES[:2])


@pytest.mark.parametrize("name", ["z_image", "qwen_image"])
def test_a_skipped_block_hands_on_what_it_is_given(name):
    """As a network without the block predicts."""
    sampler = Sampler(folder(name), sampling(steps=2), "cpu")
    blocks = {"z_image": "layers", "qwen_image": "transformer_blocks"}[name]
    keys = {"guider": "skip_layer", "skip_blocks": blocks, "skip_layers": [1]}
    keys |= {"skip_window": (0.0, 1.0), "skip_scale": 2.0, "guidance_scale": 3.0}
    pictures = [Picture(str(i), text, i, "study") for i, text in enumerate(TEXTS)]
    ours = arm.load("guiders", keys).draw(sampler, None, arm.Before(1, pictures)).images
    family, told = sampler.family, sampler.family.condition(TEXTS)
    empty, without = family.condition([""] * 3), family.network()
    del getattr(without, blocks)[1]

    def guided(predict, index, t, net):
        z_t, text, none = predict.args[1], predict(told), predict(empty)
        found = none + 3 * (text - none)
        if not index:  # the guider never skips in the first step
            return found
        return found + 2 * (text - family.predict(without, z_t, t, told))

    z = sampler.latents(TEXTS, [0, 1, 2], "latents")
    with torch.no_grad():
        wanted = family.decode(family.sample(told, z, sampling(steps=2), guidance=guided))
    wanted = wanted.permute(0, 2, 3, 1).numpy()
    assert np.abs(ours - np.rint(wanted * 255)).max() <= 1


def test_no_block_of_sana_can_be_skipped():
    sampler = Sampler(folder("sana"), sampling(), "cpu")
    keys = {"guider": "skip_layer", "skip_blocks": "transformer_blocks", "skip_window": (0.0, 1.0)}
    with pytest.raises(UserError, match="transformer_blocks .* cannot be skipped") as error:
        arm.load("guiders", keys).draw(sampler, None, arm.Before(1, PICTURES[:1]))
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------------------ LoRAs


LAYERS = {
    "z_image": "layers.1.attention.to_q",
    "qwen_image": "transformer_blocks.1.attn.to_q",
    "sana": "transformer_blocks.1.attn1.to_q",
}


def of_one_layer(name, path, layout):
    """A LoRA of one layer; its change."""
    from safetensors.torch import save_file

    g, layer = torch.Generator().manual_seed(0), LAYERS[name]
    down, up = torch.randn(2, 16, generator=g), torch.randn(16, 2, generator=g)
    if layout == "diffusers":
        key = f"transformer.{layer}"
        tensors = {f"{key}.lora_A.weight": down, f"{key}.lora_B.weight": up}
    else:
        key = f"lora_unet_{layer.replace('.', '_')}"
        tensors = {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
        tensors[f"{key}.alpha"] = torch.tensor(2.0)
    save_file(tensors, path)
    return up @ down


@pytest.mark.parametrize(
    ("name", "layout"),
    [(name, "diffusers") for name in NAMES] + [("z_image", "kohya"), ("qwen_image", "kohya")],
)
def test_a_lora_is_merged_whatever_its_layout(name, layout, tmp_path):
    from safetensors.torch import load_file

    file = tmp_path / "one.safetensors"
    change = of_one_layer(name, file, layout)
    lora.check(file, folder(name))
    lora.merge(folder(name), [file], [0.5], tmp_path / "out")
    old, new = (
        load_file(each / "transformer/diffusion_pytorch_model.safetensors")
        for each in (folder(name), tmp_path / "out")
    )
    moved = [key for key in old if not torch.equal(old[key], new[key])]
    assert moved == [f"{LAYERS[name]}.weight"]
    assert torch.allclose(new[moved[0]] - old[moved[0]], 0.5 * change, atol=1e-5)


@pytest.mark.parametrize("name", ["z_image", "qwen_image"])
def test_a_lora_of_a_training_is_diffusers_own_by_way_of_kohyas_layout(name):
    run = tiny.begin("normal", name, lora_rank=2)
    wanted = {
        f"transformer.{key.replace('.default.', '.')}": torch.randn_like(each).detach()
        for key, each in run.state.weights.items()
    }
    found = pipeline(name).lora_state_dict(kohya.written(wanted))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], each) for key, each in wanted.items())


@pytest.mark.parametrize(
    "layer", ["lora_unet_double_blocks_0_img_attn_qkv", "lora_unet_joint_blocks_0_x_block_attn_qkv"]
)
def test_a_lora_of_another_family_is_told(name, layer, tmp_path):
    other = tmp_path / "other.safetensors"
    other.write_bytes(tiny.file_of(f"{layer}.lora_down.weight"))
    with pytest.raises(UserError, match="a LoRA of another family"):
        lora.check(other, folder(name))


# ------------------------------------------------------------------------------- what is refused


REFUSED = {
    "z_image": [
        ("transformer/config.json", {"in_channels": 4}, "in_channels is 4 and the VAE's latents"),
        ("transformer/config.json", {"siglip_feat_dim": 8}, "siglip_feat_dim is 8 and of Z-Image"),
        ("transformer/config.json", {"cap_feat_dim": 8}, "is 8 and Qwen3's hidden_size 16"),
        ("transformer/config.json", {"axes_dims": [4, 4, 4]}, "axes_dims [4, 4, 4] are not the 8"),
        ("transformer/config.json", {"axes_lens": [64, 64, 64]}, "axes_lens [64, 64, 64] have no"),
        ("vae/config.json", {"shift_factor": None}, "shift_factor is null; set the number"),
        ("vae/config.json", {"sample_size": 36}, "sample_size is 36; write the side of square"),
        ("scheduler/scheduler_config.json", {"_class_name": "DDIMScheduler"}, "a DDIMScheduler"),
        ("model_index.json", {"text_encoder": ["transformers", "CLIPTextModel"]}, "a CLIPText"),
    ],
    "qwen_image": [
        ("transformer/config.json", {"out_channels": 64}, "out_channels is 64 and the VAE's"),
        ("transformer/config.json", {"guidance_embeds": True}, "guidance_embeds is true and of Qw"),
        ("transformer/config.json", {"joint_attention_dim": 8}, "is 8 and Qwen2.5-VL's hidden_si"),
        ("transformer/config.json", {"axes_dims_rope": [2, 2, 2]}, "axes_dims_rope [2, 2, 2] are"),
        ("vae/config.json", {"sample_size": 36}, "sample_size is 36; write the side of square"),
        ("vae/config.json", {"latents_mean": [0.0] * 3}, "latents_mean is not one number for each"),
        ("vae/config.json", {"latents_std": [0.0] * 16}, "latents_std has a number that is not"),
        ("scheduler/scheduler_config.json", {"base_shift": None}, "base_shift is None; set that"),
        ("model_index.json", {"vae": ["diffusers", "AutoencoderKL"]}, "vae is a AutoencoderKL;"),
    ],
    "sana": [
        ("transformer/config.json", {"out_channels": 8}, "out_channels is 8 and the VAE's latents"),
        ("transformer/config.json", {"guidance_embeds": True}, "guidance_embeds is true and of Sa"),
        ("transformer/config.json", {"caption_channels": 8}, "is 8 and Gemma's hidden_size 16"),
        ("transformer/config.json", {"sample_size": [8, 4]}, "sample_size is [8, 4]; write the si"),
        ("vae/config.json", {"scaling_factor": 0}, "scaling_factor is 0; set the number"),
        ("scheduler/scheduler_config.json", {"prediction_type": "epsilon"}, "predicts flow"),
        ("scheduler/scheduler_config.json", {"use_flow_sigmas": False}, "use_flow_sigmas is False"),
        (
            "scheduler/scheduler_config.json",
            {"use_karras_sigmas": True},
            "use_karras_sigmas is True",
        ),
        ("scheduler/scheduler_config.json", {"solver_order": 3}, "solver_order is 3 and of this"),
        ("scheduler/scheduler_config.json", {"flow_shift": 0}, "flow_shift is 0; set that of the"),
        ("scheduler/scheduler_config.json", {"_class_name": "SCMScheduler"}, "of a SCMScheduler"),
        ("text_encoder/config.json", {"vocab_size": 3}, "tokenizer/"),
    ],
}


@pytest.mark.parametrize(
    ("name", "file", "change", "said"), [(n, *each) for n, some in REFUSED.items() for each in some]
)
def test_what_cannot_be_drawn_is_refused_in_one_line(name, file, change, said, tmp_path):
    copy = tmp_path / "base"
    shutil.copytree(folder(name), copy, ignore=shutil.ignore_patterns("*.safetensors"))
    told = json.loads((copy / file).read_text())
    (copy / file).write_text(json.dumps(told | change))
    with pytest.raises(UserError) as error:
        stated.check("base", copy, "it", name)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_tokenizer_without_a_template_of_chats_is_refused(tmp_path):
    copy = tmp_path / "base"
    shutil.copytree(folder("z_image"), copy, ignore=shutil.ignore_patterns("*.safetensors"))
    for file in (copy / "tokenizer").glob("chat_template*"):
        file.unlink()
    with pytest.raises(UserError, match=r"tokenizer_config.json: has no chat_template"):
        stated.check("base", copy, "it", "z_image")


@pytest.mark.parametrize(
    "kind", ["QwenImageEditPipeline", "SanaSprintPipeline", "ZImageOmniPipeline"]
)
def test_a_pipeline_of_no_family_is_named_beside_those_there_are(kind, tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    with pytest.raises(UserError, match=rf"is a {kind}; families there are: flux") as error:
        folders.check_family(tmp_path, "sana")
    assert "\n" not in str(error.value)

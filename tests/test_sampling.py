"""Pictures are what diffusers draws from noise keyed by (prompt, seed), and are drawn once."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

from tests import tiny
from vlg.errors import UserError
from vlg.files import write_manifest
from vlg.models import noise
from vlg.models.ledger import Ledger
from vlg.sample.sampler import Sampler

PROMPTS = ["a red circle", "the blue square", "a big green circle on white", "a small square"]
SETTINGS = {"steps": 3, "guidance_scale": 4.0, "scheduler": "ddim"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tiny.save_base(tmp_path_factory.mktemp("sampling") / "base")
    write_manifest(folder)
    return folder


@pytest.fixture(scope="module")
def sampler(base):
    return Sampler(base, SETTINGS, "cpu")


def latents(texts, seeds, purpose="latents"):
    return torch.stack(
        [
            noise.latents(text, seed, (4, 8, 8), purpose)
            for text, seed in zip(texts, seeds, strict=True)
        ]
    )


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++"])
def test_a_drawing_is_the_pipelines_own(base, scheduler):
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(base)
    pipe.set_progress_bar_config(disable=True)
    kind = {"ddim": DDIMScheduler, "dpm++": DPMSolverMultistepScheduler}[scheduler]
    pipe.scheduler = kind.from_config(pipe.scheduler.config)
    wanted = pipe(
        PROMPTS, num_inference_steps=3, guidance_scale=4.0, latents=latents(PROMPTS, [0, 1, 2, 3])
    ).images
    drawn = Sampler(base, {**SETTINGS, "scheduler": scheduler}, "cpu").draw(PROMPTS, [0, 1, 2, 3])
    assert drawn.shape == (4, 32, 32, 3) and drawn.dtype == np.uint8
    assert np.array_equal(drawn, np.stack([np.asarray(image) for image in wanted]))
    assert drawn.std() > 10  # not one grey: there was something to compare


def changed(base, folder, file, **keys):
    """The base with other values in one of its JSON files; None removes a key."""
    shutil.copytree(base, folder)
    said = json.loads((folder / file).read_text()) | keys
    said = {key: value for key, value in said.items() if value is not None}
    (folder / file).write_text(json.dumps(said))
    write_manifest(folder)
    return folder


def test_a_tokenizer_that_states_no_length_draws_the_same(base, sampler, tmp_path):
    file = "tokenizer/tokenizer_config.json"
    silent = changed(base, tmp_path / "base", file, model_max_length=None)
    assert CLIPTokenizer.from_pretrained(silent / "tokenizer").model_max_length > 10**9
    texts = [PROMPTS[0], " ".join(PROMPTS * 4)]
    expected = sampler.draw(texts, [0, 1])
    assert np.array_equal(Sampler(silent, SETTINGS, "cpu").draw(texts, [0, 1]), expected)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_vae_that_overflows_ends_in_one_line(base, value, precision):
    """Clamped and as bytes such a picture would be white or black."""
    sampler = Sampler(base, {**SETTINGS, "precision": precision}, "cpu")
    sampler.family.vae.decoder.conv_out.bias.data[1] = value
    with pytest.raises(UserError) as error:
        sampler.draw(PROMPTS[:2], [7, 8])
    told = f"{base}: the picture of 'a red circle', seed 7, is not finite, its latents are: the VAE"
    assert str(error.value).startswith(told) and "\n" not in str(error.value)
    assert ("set generate.precision: fp32 (it is bf16)" in str(error.value)) == (
        precision != "fp32"
    )


def test_a_schedule_that_is_not_the_models_ends_in_one_line(base, tmp_path):
    """Nothing can be told of a picture from noise alone, which such a schedule begins with."""
    file = "scheduler/scheduler_config.json"
    keys = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    folder = changed(base, tmp_path / "base", file, **keys)
    with pytest.raises(UserError, match="not finite, its latents are not either: .*prediction_ty"):
        Sampler(folder, SETTINGS, "cpu").draw(PROMPTS[:1], [0])
    other = changed(base, tmp_path / "v", file, **keys, prediction_type="v_prediction")
    assert Sampler(other, SETTINGS, "cpu").draw(PROMPTS[:1], [0]).std() > 5


def test_the_other_pictures_of_a_batch_change_at_most_a_grey_level(sampler):
    together = sampler.draw(PROMPTS, [7, 7, 8, 8])
    again = sampler.draw(PROMPTS, [7, 7, 8, 8])
    turned = sampler.draw(PROMPTS[::-1], [8, 8, 7, 7])[::-1]
    alone = np.concatenate([sampler.draw([PROMPTS[i]], [[7, 7, 8, 8][i]]) for i in range(4)])
    assert np.array_equal(together, again)
    for other in (turned, alone):
        assert np.abs(together.astype(int) - other).max() <= 1
    assert np.abs(together[0].astype(int) - together[1]).max() > 10
    assert np.abs(together.astype(int) - sampler.draw(PROMPTS, [9, 7, 8, 8]))[0].max() > 10


def test_sdedit_is_the_pipelines_own_with_noise_of_its_purpose(base, sampler):
    from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline

    images = sampler.draw(PROMPTS[:2], [0, 0])
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(base)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    generators = [noise.generator("refine-1", text, 0) for text in PROMPTS[:2]]
    wanted = pipe(
        PROMPTS[:2],
        image=torch.from_numpy(images).permute(0, 3, 1, 2) / 255,
        strength=0.7,
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=generators,
    ).images
    drawn = sampler.redraw(images, PROMPTS[:2], [0, 0], 0.7, "refine-1")
    assert np.array_equal(drawn, np.stack([np.asarray(image) for image in wanted]))
    other = sampler.redraw(images, PROMPTS[:2], [0, 0], 0.7, "refine-2")
    assert np.abs(drawn.astype(int) - other).max() > 5
    alone = sampler.redraw(images[1:], PROMPTS[1:2], [0], 0.7, "refine-1")
    assert np.abs(drawn[1].astype(int) - alone[0]).max() <= 1


@pytest.mark.parametrize(
    ("guidance", "scheduler", "full", "half"),
    [(5.0, "ddim", 20, 10), (1.0, "ddim", 10, 5), (5.0, "dpm++", 20, 10)],
)
def test_unet_calls_are_counted_a_picture(base, guidance, scheduler, full, half):
    values = {"steps": 10, "guidance_scale": guidance, "scheduler": scheduler}
    sampler, ledger = Sampler(base, values, "cpu"), Ledger()
    sampler.watch(ledger)
    images = sampler.draw(PROMPTS[:3], [0, 0, 0])
    cost = ledger.take().each(3)
    assert (cost.of("network"), cost.of("decoder"), cost.of("encoder")) == (full, 1, 0)
    sampler.redraw(images, PROMPTS[:3], [0, 0, 0], 0.5, "refine-1")
    cost = ledger.take().each(3)
    assert (cost.of("network"), cost.of("decoder"), cost.of("encoder")) == (half, 1, 1)


def test_a_strength_of_less_than_a_step_is_refused(sampler):
    images = np.zeros((1, 32, 32, 3), np.uint8)
    with pytest.raises(UserError, match="strength 0.3 of 3 steps is none"):
        sampler.redraw(images, PROMPTS[:1], [0], 0.3, "refine-1")


def test_a_model_that_changed_or_does_not_load_is_told_in_one_line(base, tmp_path):
    import shutil

    broken = shutil.copytree(base, tmp_path / "broken")
    weights = broken / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(UserError, match="diffusion_pytorch_model.safetensors: checksum differs"):
        Sampler(broken, SETTINGS, "cpu")
    weights.unlink()
    write_manifest(broken)
    with pytest.raises(UserError, match="broken/unet: cannot be loaded .*; restore it"):
        Sampler(broken, SETTINGS, "cpu")

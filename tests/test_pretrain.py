"""The tiny models: one token a word, folders their libraries load, the same weights for a seed."""

import copy
import json
import random
import runpy
import shutil
import sys
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from vlg.files import check_manifest, sha256, write_manifest
from vlg.models import folders
from vlg.shapes import captions, course, models, pretrain, world

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(scope="module")
def tokenizer():
    return models.tokenizer()


def scenes(number, seed=0):
    rng = random.Random(seed)
    return [world.sample(rng, pretrain.EVERYTHING) for _ in range(number)]


# ----------------------------------------------------------------------------------- tokenizer


def test_every_word_is_one_token(tokenizer):
    words = models.words()
    for word in words:
        assert len(tokenizer.tokenize(word)) == 1, word
        assert tokenizer.decode(tokenizer(word).input_ids, skip_special_tokens=True).strip() == word
    assert len({tokenizer(word).input_ids[1] for word in words}) == len(words)


def test_captions_and_prompts_are_made_of_these_words_and_fit(tokenizer):
    rng = random.Random(0)
    texts = [captions.caption(scene, rng) for scene in scenes(300)]
    texts += [row["Prompt"] for row in captions.prompts(100, 0)]
    assert {word for text in texts for word in text.split()} <= set(models.words())
    assert max(len(tokenizer(text).input_ids) for text in texts) <= models.CONTEXT
    # The longest sentence there is: lead-in, two full phrases, the longest relation, background.
    longest = (
        "a picture of a large red circle to the right of a small blue square on a gray background"
    )
    assert len(tokenizer(longest).input_ids) <= models.CONTEXT


def test_the_end_token_has_the_highest_id(tokenizer):
    ids = tokenizer("a red circle").input_ids
    assert ids[-1] == tokenizer.eos_token_id == max(tokenizer.get_vocab().values())
    assert len(tokenizer) == models.text_config()["vocab_size"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=40))
@example("é 日本 🟥 \u2028 “42”")
def test_any_text_is_encoded(tokenizer, text):
    ids = tokenizer(text, padding="max_length", truncation=True).input_ids
    assert len(ids) == models.CONTEXT and ids[0] == tokenizer.bos_token_id
    assert tokenizer.eos_token_id in ids
    assert all(0 <= i < len(tokenizer) for i in ids)


# --------------------------------------------------------------------------------------- the VAE


def test_folding_makes_latents_unit_normal_and_leaves_pictures_alone():
    torch.manual_seed(0)
    vae = models.vae().eval()
    with torch.no_grad():
        vae.quant_conv.bias[:4] += torch.tensor([3.0, -1.0, 0.5, 0.0])
    folded = copy.deepcopy(vae)
    pictures = pretrain.tensor([world.render(scene) for scene in scenes(32)])
    with torch.no_grad():
        before = vae.encode(pictures).latent_dist
        mean, deviation = before.mode().mean((0, 2, 3)), before.mode().std((0, 2, 3))
        pretrain.fold(folded, mean, deviation)
        after = folded.encode(pictures).latent_dist
        assert after.mode().mean((0, 2, 3)).abs().max() < 1e-4
        assert (after.mode().std((0, 2, 3)) - 1).abs().max() < 1e-4
        # The posterior is the same distribution in other units, and is decoded to the same.
        assert torch.allclose(after.std * deviation[:, None, None], before.std, rtol=1e-4)
        z = torch.randn(4, 4, 8, 8)
        unit = (z - mean[:, None, None]) / deviation[:, None, None]
        assert (folded.decode(unit).sample - vae.decode(z).sample).abs().max() < 1e-4


# ------------------------------------------------------------------------- training, much reduced

CLIP = {"read": 1, "look": 1, "negatives": 2, "steps": 2, "batch": 4, "lr": 1e-3}
RECIPES = {
    "vae": {"seed": 11, "steps": 3, "batch": 4, "lr": 3e-3},
    "guide": {**CLIP, "seed": 13, "read": 0, "look": 0, "negatives": 1},
    "judge": {**CLIP, "seed": 14},
    "siglip": {**CLIP, "seed": 17},
    "vqa": {
        "seed": 15,
        "look": 1,
        "steps": 2,
        "batch": 4,
        "questions": 2,
        "captions": 1,
        "lr": 1e-3,
    },
    "base": {
        "seed": 12,
        "read": 1,
        "steps": 4,
        "batch": 4,
        "lr": 1e-3,
        "scenes": 40,
        "early": 0.25,
        "middle": 0.5,
        "again": 2,
    },
    "flow": {"seed": 16, "read": 1, "steps": 3, "batch": 4, "lr": 1e-3, "scenes": 40, "again": 2},
}


def train(part, out, **recipe):
    """Run scripts/pretrain.py with a reduced recipe, as the command line does."""
    arguments = ["--part", part, "--out", str(out / part)]
    arguments += ["--settings", json.dumps({**RECIPES[part], **recipe})]
    arguments += ["--vae", str(out / "vae")] if part in ("base", "flow") else []
    call("pretrain", *arguments)
    return out / part


def call(script, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *map(str, arguments)])
        runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """All parts, rebuilt from nothing."""
    out = tmp_path_factory.mktemp("pretrain")
    for part in RECIPES:
        train(part, out)
    return out


def weights(folder):
    return {
        path.relative_to(folder).as_posix(): sha256(path)
        for path in sorted(folder.rglob("*.safetensors"))
    }


def test_each_part_says_how_it_was_made(trained):
    for part, recipe in RECIPES.items():
        for folder in [trained / part, *(trained / part).glob("base*")]:
            manifest = check_manifest(folder)
            assert manifest["recipe"] == recipe and manifest["threads"] == 1
            assert manifest["seconds"] >= 0 and manifest["files"]


def test_the_vae_has_unit_normal_latents(trained):
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(trained / "vae").eval()
    assert vae.config.scaling_factor == 1
    pictures = pretrain.tensor([world.render(scene) for scene in scenes(64, seed=5)])
    with torch.no_grad():
        latents = vae.encode(pictures).latent_dist.mode()
    assert latents.shape == (64, 4, 8, 8)
    assert latents.mean((0, 2, 3)).abs().max() < 0.3
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 0.3


def test_base_and_its_early_checkpoint_draw_different_pictures(trained):
    from vlg.sample.sampler import Sampler

    values = {"steps": 2, "guidance_scale": 2.0, "scheduler": "dpm++"}
    images = []
    for name in ("base", "base-early"):
        sampler = Sampler(trained / "base" / name, values, "cpu")
        assert sampler.family.resolution == world.SIDE
        images.append(sampler.draw(["a red circle", "two small blue squares"], [0, 0]))
    assert images[0].shape == (2, 32, 32, 3)
    assert (images[0] != images[1]).any()
    base, early = (weights(trained / "base" / name) for name in ("base", "base-early"))
    differ = {name.split("/")[0] for name in base if base[name] != early[name]}
    assert differ == {"unet"}  # both read alike
    assert base["vae/diffusion_pytorch_model.safetensors"] in weights(trained / "vae").values()


def test_the_flow_base_learns_and_is_told_what_the_family_tells_it(trained):
    """Texts are as in drawing, and every weight is reached by the loss."""
    from diffusers import StableDiffusion3Pipeline

    from vlg.models.family import open_family

    family = open_family(trained / "flow")
    pipeline = StableDiffusion3Pipeline.from_pretrained(trained / "flow")
    texts = ["", "two small red boxes", "a picture of a large red circle under a plus on pink"]
    with torch.no_grad():
        states, pooled = pretrain.told(pipeline, texts)
    told = family.condition(texts)
    assert torch.allclose(torch.cat([told["states"], told["t5"]], dim=1), states, atol=1e-5)
    assert torch.equal(told["pooled"], pooled) and states.shape[1] == 2 * models.CONTEXT
    begun = models.transformer().state_dict()
    for name in ("proj_out.weight", "norm_out.linear.weight"):
        assert not begun[name].any()
    learned = pipeline.transformer.state_dict()
    assert learned["proj_out.weight"].any() and learned["proj_out.bias"].any()


def test_t5_reads_every_word_as_one_token_and_other_text_in_letters(tokenizer):
    t5 = models.t5_tokenizer()
    assert all(len(t5.tokenize(word)) == 1 for word in models.words())
    assert t5.unk_token_id not in t5("Zebra-crossing, no. 7!").input_ids
    rng = random.Random(0)
    for scene in scenes(300):
        assert len(t5(captions.caption(scene, rng)).input_ids) <= models.CONTEXT


def test_guide_and_judge_load_with_their_libraries_and_differ(trained, tokenizer):
    from transformers import CLIPTokenizer

    from vlg.models.clip import Clip
    from vlg.models.guide import load_guide

    guide, judge = load_guide(trained / "guide"), Clip(trained / "judge", "cpu")
    images = np.stack([world.render(scene) for scene in scenes(3)])
    texts = ["a red circle", "three crosses on pink", "é 日本"]
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    assert guide.encode_image(pixels).shape == (3, 64)
    assert judge.encode_image(list(images)).shape == (3, 128)
    # Both take pictures to -1..1, as they were trained.
    assert torch.allclose(guide.preprocess(pixels), pixels * 2 - 1, atol=1e-6)
    given = judge.processor.image_processor(images=list(images), return_tensors="pt").pixel_values
    assert torch.allclose(given, pixels * 2 - 1, atol=1e-6)
    # And both, the base too, read the same ids.
    guide.encode_text(texts)
    texts += [captions.caption(scene, random.Random(0)) for scene in scenes(20)]
    padded = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
    wanted = tokenizer(texts, **padded).input_ids
    assert torch.equal(guide._tokenizer(texts), wanted)
    assert torch.equal(judge.processor.tokenizer(texts, **padded).input_ids, wanted)
    saved = CLIPTokenizer.from_pretrained(trained / "base" / "base" / "tokenizer")
    assert torch.equal(saved(texts, **padded).input_ids, wanted)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(trained, tmp_path):
    for part in ("vae", "judge", "siglip", "vqa"):
        torch.rand(3)  # somebody else's draws
        assert weights(train(part, tmp_path / "again")) == weights(trained / part), part
    assert weights(train("judge", tmp_path / "other", seed=15)) != weights(trained / "judge")
    for part in ("base", "flow"):
        (tmp_path / "again" / part).mkdir()
        assert weights(train(part, tmp_path / "again")) == weights(trained / part), part


class Killed(BaseException):
    pass


@pytest.mark.parametrize("part", ["vae", "base", "flow", "guide", "judge", "siglip", "vqa"])
def test_a_killed_training_goes_on_to_the_same_bits(trained, tmp_path, monkeypatch, part):
    """Killed after each step in turn, in both parts of those that have two."""
    if part in ("base", "flow"):
        shutil.copytree(trained / "vae", tmp_path / "vae")
    monkeypatch.setattr(course, "EVERY", 0.0)
    step, killed = course.Course.step, []

    def last(self, *arguments, **named):
        step(self, *arguments, **named)
        killed.append(arguments[:2])
        raise Killed

    monkeypatch.setattr(course.Course, "step", last)
    for _ in range(20):
        try:
            train(part, tmp_path)
        except Killed:
            torch.rand(3)
            continue
        break
    steps = sum(RECIPES[part].get(phase, 0) for phase in ("read", "look", "steps", "again"))
    assert len(killed) == len(set(killed)) == steps
    assert weights(tmp_path / part) == weights(trained / part)
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_the_state_of_another_recipe_is_not_continued(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(course, "EVERY", 0.0)
    state = course.Course(tmp_path / "state", {"recipe": 1})
    weight = [torch.nn.Parameter(torch.zeros(2))]
    weight[0].grad = torch.ones(2)
    optimizer = torch.optim.AdamW(weight)
    optimizer.step()
    state.step("part", 1, weight, optimizer)
    assert course.Course(tmp_path / "state", {"recipe": 1}).begin("part", weight, optimizer) == 1
    assert course.Course(tmp_path / "state", {"recipe": 2}).begin("part", weight, optimizer) == 0
    assert not list((tmp_path / "state").iterdir())


@pytest.mark.parametrize("part", ["base", "flow"])
def test_training_of_a_base_shows_no_pair_that_is_held_out(part, monkeypatch):
    drawn = []
    sample = world.sample

    def remembered(rng, allowed, kind=""):
        drawn.append(sample(rng, allowed, kind))
        return drawn[-1]

    monkeypatch.setattr(pretrain, "sample", remembered)
    torch.manual_seed(0)
    recipe, kept = {**RECIPES[part], "steps": 4, "scenes": 60}, []
    if part == "base":
        pretrain.train_base(recipe, models.vae().eval(), lambda name, unet, text: kept.append(name))
        assert kept == ["base-early", "base-middle", "base"]
    else:
        pretrain.train_flow(recipe, models.vae().eval())
    pairs = {(thing.shape, thing.colour) for scene in drawn for thing in scene.things}
    assert len(drawn) > 60 and pairs <= set(world.SEEN)  # what is read of, too


def test_shipping_one_part_leaves_the_others_as_they_are(trained, tmp_path, monkeypatch, caplog):
    """The flow base is shipped without what it shares, and comes back whole."""
    from vlg.shapes import quality

    for name in ("vae", "base", "clip", "sees", "draw"):
        monkeypatch.setattr(quality, name, lambda *_: {"fidelity": 0.5})
    pretrained, shipped = tmp_path / "pretrained", tmp_path / "shipped"
    shutil.copytree(trained, pretrained)
    (pretrained / "flow").rename(pretrained / "base-flow")
    words = ["--settings", "{}", "--pretrained", pretrained, "--out", shipped]
    words += ["--quality", tmp_path / "quality.json"]
    call("ship", *words)
    first = check_manifest(shipped)
    bases = {"base", "base-early", "base-middle", "base-flow"}
    assert set(first["parts"]) == {"vae", "guide", "judge"} | bases
    own = {name for name in first["files"] if name.startswith("base-flow/")}
    assert "base-flow/vae/config.json" in own and "base-flow/tokenizer_3/tokenizer.json" in own
    assert not any("base-flow/tokenizer/" in name or "/vae/diff" in name for name in own)
    assert not any("_name_or_path" in p.read_text() for p in shipped.rglob("config.json"))
    folders.unpack(shipped, "base-flow", tmp_path / "flow")
    whole = {p.relative_to(pretrained / "base-flow") for p in files_of(pretrained / "base-flow")}
    assert {p.relative_to(tmp_path / "flow") for p in files_of(tmp_path / "flow")} == whole - {
        Path("manifest.json")
    }

    vae = pretrained / "base/base/vae/diffusion_pytorch_model.safetensors"
    save_file({n: t + 1 for n, t in load_file(vae).items()}, vae, metadata={"format": "pt"})
    facts = check_manifest(trained / "base/base")
    facts.pop("files")
    (vae.parents[1] / "manifest.json").unlink()
    write_manifest(vae.parents[1], **facts)
    with pytest.raises(SystemExit):
        call("ship", *words, "--parts", "base")
    assert "base-early was trained over another VAE" in caplog.text
    with pytest.raises(SystemExit):
        call("ship", *words, "--parts", "guide", "--settings", '{"steps": 3}')
    assert "--settings: the other parts were measured as" in caplog.text
    assert check_manifest(shipped) == first

    shutil.rmtree(pretrained / "base-flow")
    train("flow", pretrained, seed=17).rename(pretrained / "base-flow")
    for part in ("vae", "base", "guide", "judge"):
        shutil.rmtree(pretrained / part)
    call("ship", *words, "--parts", "base-flow")
    second = check_manifest(shipped)
    changed = {name for name, told in second["files"].items() if told != first["files"][name]}
    assert changed and changed <= own
    assert second["parts"].pop("base-flow")["recipe"]["seed"] == 17
    assert second["parts"].items() <= first["parts"].items()


def files_of(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def differences(said, other):
    """In how many details two meanings differ; more than any detail where one tells of more."""
    if len(said.claims) != len(other.claims):
        return 99
    pairs = [(said.relation, other.relation), (said.background, other.background)]
    for one, two in zip(said.claims, other.claims, strict=True):
        pairs += zip(astuple(one), astuple(two), strict=True)
    return sum(a != b for a, b in pairs)


def test_negatives_of_the_clips_are_false():
    from vlg.shapes.verify import check

    pictures, texts, negatives = next(pretrain.contrastive_batches(random.Random(0), 40, 3))
    images = ((pictures + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    for index, (image, text) in enumerate(zip(images, texts, strict=True)):
        assert check(image, captions.parse(text))["strict"] == 1, text
        said = captions.parse(text)
        for negative in negatives[3 * index : 3 * index + 3]:
            assert check(image, captions.parse(negative))["strict"] == 0, negative
            # It is this picture's: one detail differs, or the colours of two things.
            assert (
                min(differences(said, each) for each in captions.same(captions.parse(negative))) < 3
            )

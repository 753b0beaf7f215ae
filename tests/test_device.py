"""How models run on a device, and that work goes on in smaller parts when its memory runs out."""

import logging

import numpy as np
import pytest
import torch

from tests import tiny
from vlg.data import embedded, encoded, pictures
from vlg.data.shards import load_shards
from vlg.data.source import Cache
from vlg.errors import UserError
from vlg.files import read_json, write_manifest
from vlg.models import device
from vlg.models.clip import Clip
from vlg.models.cosines import guide_scores
from vlg.models.device import Parts
from vlg.models.families.sd import StableDiffusion
from vlg.models.guide import load_guide
from vlg.models.ledger import Ledger
from vlg.sample.sampler import Sampler
from vlg.train import checkpoints
from vlg.train.methods.embed import Embed

PROMPTS = ["a red circle", "the blue square", "a big green circle on white", "a small square"]
SEEDS = [7, 7, 8, 8]
SETTINGS = {"steps": 2, "guidance_scale": 4.0, "scheduler": "dpm++"}
GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")
CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 9 bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tiny.save_base(tmp_path_factory.mktemp("device") / "base")
    write_manifest(folder)
    return folder


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return tiny.save_judge(tmp_path_factory.mktemp("device") / "judge")


def images(number=4):
    return list(np.random.default_rng(0).integers(0, 256, (number, 32, 32, 3), np.uint8))


def limit(monkeypatch, owner, name, most, error=GPU):
    """Let a method run out of memory on more than `most` rows; returns the sizes it was asked."""
    asked, method = [], getattr(owner, name)

    def limited(first, *args, **kwargs):
        asked.append(len(first))
        if len(first) > most:
            raise error
        return method(first, *args, **kwargs)

    monkeypatch.setattr(owner, name, limited)
    return asked


# ------------------------------------------------------------------------------ where it computes


def test_options_of_the_device_are_read_and_unknown_ones_refused(monkeypatch):
    monkeypatch.setattr(device, "OPTIONS", device.Options())
    assert device.set_up("cpu,channels_last,compile", torch.get_num_threads()) == "cpu"
    assert device.Options() == device.OPTIONS  # none of it counts on a CPU
    with pytest.raises(UserError, match="unknown option fast; one of channels_last, compile"):
        device.set_up("cpu,fast", 1)


def test_the_config_says_how_models_run():
    from vlg.config.load import load
    from vlg.config.plan import device as of

    assert of(load({}, ".")) == "auto,channels_last,vae_slicing"
    assert of(load({"device": "cuda", "gpu": {"compile": True}}, ".")) == (
        "cuda,channels_last,compile,vae_slicing"
    )


def test_fp32_is_float32_throughout_and_other_precisions_may_round():
    backends = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = [each.fp32_precision for each in backends]
    try:
        for name, kind, dtype in (
            ("tf32", "tf32", torch.float32), ("fp32", "ieee", torch.float32),
            ("bf16", "tf32", torch.bfloat16), ("fp16", "tf32", torch.float16),
        ):  # fmt: skip
            assert device.set_precision(name) == dtype
            assert [each.fp32_precision for each in backends] == [kind, kind]
    finally:
        for each, value in zip(backends, before, strict=True):
            each.fp32_precision = value


@pytest.mark.parametrize(("precision", "grey"), [("tf32", 0), ("bf16", 24), ("fp16", 4)])
def test_pictures_of_16_bits_are_nearly_those_of_32(base, precision, grey):
    exact = Sampler(base, SETTINGS, "cpu").draw(PROMPTS, SEEDS).astype(int)
    sampler = Sampler(base, {**SETTINGS, "precision": precision}, "cpu")
    drawn = sampler.draw(PROMPTS, SEEDS).astype(int)
    assert (sampler.family.net.dtype == torch.float32) == (precision == "tf32")
    assert np.abs(drawn - exact).max() <= grey < exact.std()
    again = sampler.redraw(drawn.astype(np.uint8), PROMPTS, SEEDS, 0.5, "refine-1")
    assert again.shape == drawn.shape and np.abs(again - drawn).max() > 5


def test_layout_slicing_and_compilation_change_at_most_a_grey_level(base, monkeypatch):
    exact = Sampler(base, SETTINGS, "cpu").draw(PROMPTS, SEEDS).astype(int)
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda f: compiled.append(f) or f)
    monkeypatch.setattr(device, "OPTIONS", device.Options(True, True, True))
    sampler = Sampler(base, SETTINGS, "cpu")
    unet, vae = sampler.family.net, sampler.family.vae
    assert unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert vae.use_slicing and compiled == [unet.forward]
    assert np.abs(sampler.draw(PROMPTS, SEEDS).astype(int) - exact).max() <= 1


@pytest.mark.parametrize("prediction", ["epsilon", "xl", "flow"])
def test_text_encoders_take_turns_with_what_draws(prediction, monkeypatch):
    """As on a card: `cpu:0` stands for one."""
    base = tiny.world(prediction)["base"]
    if not (base / "manifest.json").is_file():
        write_manifest(base)
    exact = Sampler(base, SETTINGS, "cpu").draw(PROMPTS, SEEDS)
    monkeypatch.setattr(device, "OPTIONS", device.Options(offload=True))
    sampler = Sampler(base, SETTINGS, "cpu:0")
    family, where, to = sampler.family, {}, torch.nn.Module.to

    def moved(module, *args, **options):
        where[id(module)] = args[0] if args else ""
        return to(module, *args, **options)

    monkeypatch.setattr(torch.nn.Module, "to", moved)
    texts, others = [text for _, text in family.text], [family.net, family.vae]

    def check(modules, place):
        def hook(*_):
            found = [where.get(id(module)) for module in (*texts, *others)]
            there, away = len(texts) * [place], len(others) * [({"cpu", "cpu:0"} - {place}).pop()]
            assert found == there + away

        for module in modules:
            module.register_forward_pre_hook(hook)

    check(texts, "cpu:0")
    check([family.net, family.vae.decoder], "cpu")
    assert np.array_equal(sampler.draw(PROMPTS, SEEDS), exact)


@pytest.mark.parametrize("prediction", ["xl", "flow"])
def test_tiles_are_of_every_family(prediction):
    base = tiny.world(prediction)["base"]
    if not (base / "manifest.json").is_file():
        write_manifest(base)
    exact = Sampler(base, SETTINGS, "cpu").draw(PROMPTS, SEEDS).astype(int)
    tiled = Sampler(base, {**SETTINGS, "vae_tiling": True}, "cpu").draw(PROMPTS, SEEDS)
    assert tiled.shape == exact.shape and 0 < np.abs(tiled - exact).mean() < exact.std()


def test_tiles_make_slightly_other_pictures(base):
    exact = Sampler(base, SETTINGS, "cpu").draw(PROMPTS, SEEDS).astype(int)
    tiled = Sampler(base, {**SETTINGS, "vae_tiling": True}, "cpu").draw(PROMPTS, SEEDS)
    assert tiled.shape == exact.shape and 0 < np.abs(tiled - exact).mean() < exact.std()


def test_a_model_trained_with_channels_last_is_stored_as_any_other(tmp_path, monkeypatch):
    from safetensors.torch import load_file

    name = "unet/diffusion_pytorch_model.safetensors"
    exact = load_file(tiny.finetune(tmp_path / "one") / name)
    monkeypatch.setattr(device, "OPTIONS", device.Options(channels_last=True))
    other = load_file(tiny.finetune(tmp_path / "two") / name)
    for key, weight in exact.items():
        torch.testing.assert_close(other[key], weight, rtol=0, atol=2e-3)  # two steps of 1e-3


# -------------------------------------------------------------------------- when memory runs out


@pytest.mark.parametrize("error", [GPU, CPU, MemoryError()])
def test_a_batch_that_does_not_fit_is_halved_and_the_size_kept(caplog, error):
    parts, done = Parts("drawing"), []

    def work(numbers, letters):
        done.append(len(numbers))
        if len(numbers) > 3:
            raise error
        return list(zip(numbers, letters, strict=True))

    with caplog.at_level(logging.WARNING):
        found = parts(work, range(10), "abcdefghij")
    assert sum(found, []) == list(zip(range(10), "abcdefghij", strict=True))
    assert done == [10, 5, 3, 3, 3, 1]
    assert [r.getMessage() for r in caplog.records] == [
        "out of memory in drawing 10 at a time; going on with 5",
        "out of memory in drawing 5 at a time; going on with 3",
    ]
    done.clear()
    parts(work, range(4), "abcd")
    assert done == [3, 1]


def test_what_does_not_fit_alone_is_an_error_of_one_line_and_other_errors_stay():
    def fails(error):
        def work(numbers):
            raise error

        return work

    with pytest.raises(UserError, match="in drawing one at a time .CUDA out of memory.; free"):
        Parts("drawing")(fails(GPU), range(3))
    with pytest.raises(RuntimeError, match="shapes"):
        Parts("drawing")(fails(RuntimeError("shapes differ")), range(3))


@pytest.mark.parametrize("error", [GPU, CPU])
def test_pictures_drawn_in_parts_are_the_same(base, monkeypatch, error):
    sampler = Sampler(base, SETTINGS, "cpu")
    exact = sampler.draw(PROMPTS, SEEDS)
    redrawn = sampler.redraw(exact, PROMPTS, SEEDS, 0.5, "refine-1")
    sampler.watch(ledger := Ledger())
    asked = limit(monkeypatch, sampler.family.net, "forward", 4, error)  # 2 with guidance
    assert np.abs(sampler.draw(PROMPTS, SEEDS).astype(int) - exact).max() <= 1
    assert asked == [8, *[4] * 4] and ledger.take().each(4).of("network") == 4
    again = sampler.redraw(exact, PROMPTS, SEEDS, 0.5, "refine-1")
    assert np.abs(again.astype(int) - redrawn).max() <= 1
    assert ledger.take().each(4).of("network") == 2


def test_scores_in_parts_are_the_same(judge, monkeypatch, tmp_path):
    model, guide = Clip(judge, "cpu"), load_guide(tiny.save_guide(tmp_path / "guide"))
    scores = model.scores(images(), PROMPTS)
    guided = guide_scores(guide, np.stack(images()), PROMPTS)
    asked = limit(monkeypatch, model.model, "get_image_features", 2)
    assert model.scores(images(), PROMPTS) == pytest.approx(scores, abs=1e-3)
    assert asked == [4, 2, 2]
    asked = limit(monkeypatch, guide, "encode_image", 1)
    found = guide_scores(guide, np.stack(images()), PROMPTS)
    assert found == pytest.approx(guided, abs=1e-3) and asked == [4, 2, 1, 1, 1, 1]
    half = Clip(judge, "cpu", "fp16")
    assert half.model.dtype == torch.float16
    assert half.scores(images(), PROMPTS) == pytest.approx(scores, abs=0.2)
    assert half.scores(images(), PROMPTS) != scores


def test_a_data_set_encoded_in_parts_is_the_same(tmp_path, monkeypatch):
    paths = tiny.world()
    whole = Cache(paths["cache"], paths["embeddings"])
    guide = load_guide(paths["guide"])
    asked = limit(monkeypatch, guide, "encode_image", 3)
    embedded.encode_guide(paths["data"], guide, tmp_path / "embeddings", "cpu", 8)
    assert asked[:3] == [8, 4, 2] and set(asked[3:]) == {2}
    encode = StableDiffusion.encode
    sizes = []

    def latents(self, pixels):
        sizes.append(len(pixels))
        if len(pixels) > 3:
            raise CPU
        return encode(self, pixels)

    monkeypatch.setattr(StableDiffusion, "encode", latents)
    encoded.encode(paths["data"], paths["base"], tmp_path / "cache", {}, "cpu", 8)
    assert sizes[:3] == [8, 4, 2] and set(sizes[3:]) == {2}
    parts = Cache(tmp_path / "cache", tmp_path / "embeddings")
    assert parts.rows == whole.rows
    files = ["latents", "captions"], ["guide-pictures", "guide-captions"]
    for folder, names in zip(("cache", "embeddings"), files, strict=True):
        for name in names:
            one, other = (load_shards(path, name)[0] for path in (paths[folder], tmp_path / folder))
            assert one.keys() == other.keys()
            for key, tensor in one.items():
                torch.testing.assert_close(other[key], tensor)


def losses_limited(monkeypatch, most, error=GPU, only=None):
    """Let the losses run out of memory on more than `most` samples (in the `only`-th call)."""
    calls, terms = [], Embed.terms

    def limited(self, net, batch):
        result = terms(self, net, batch)
        calls.append(len(batch))
        if len(batch) > most and only in (None, len(calls) - 1):
            raise error
        return result

    monkeypatch.setattr(Embed, "terms", limited)
    return calls


@pytest.mark.parametrize("error", [GPU, CPU])
def test_a_training_step_that_does_not_fit_is_repeated_in_parts(
    tmp_path, monkeypatch, caplog, error
):
    options = {"name": "embed", "step": 3, "evaluate_every": 100, "guide_scale": 0.3}
    tiny.finetune(tmp_path / "whole", **options)
    calls = losses_limited(monkeypatch, 1, error)
    with caplog.at_level(logging.WARNING):
        tiny.finetune(tmp_path / "parts", **options)
    assert calls[:3] == [4, 2, 1] and set(calls[3:]) == {1}
    assert "out of memory in training on 4 pictures at a time; going on with 2" in caplog.text
    one, two = (
        checkpoints.read_state(tmp_path / run / "training" / "embed-3" / "state")
        for run in ("whole", "parts")
    )
    assert one[1]["step"] == two[1]["step"] == 3
    for group, tensors in one[0].items():
        for name, tensor in tensors.items():
            torch.testing.assert_close(two[0][group][name], tensor, rtol=1e-2, atol=2e-3)
    grad = read_json(tmp_path / "whole/training/embed-3/summary.json")["last_step"]["grad_norm"]
    parts = read_json(tmp_path / "parts/training/embed-3/summary.json")["last_step"]["grad_norm"]
    assert float(parts) == pytest.approx(float(grad), rel=1e-3)
    costs = [
        read_json(tmp_path / run / "training/embed-3/summary.json")["cost"]
        for run in ("whole", "parts")
    ]
    assert costs[0] == costs[1]  # what did not fit counts nowhere


def test_a_gradient_half_computed_when_memory_ran_out_counts_once(tmp_path, monkeypatch):
    def gradient(run, only):
        with monkeypatch.context() as patch:
            calls = losses_limited(patch, 0, only=only)
            tiny.finetune(tmp_path / run, step=1, accumulate=2, ema_decay=0, evaluate_every=100)
        summary = read_json(tmp_path / run / "training/embed-1/summary.json")
        return float(summary["last_step"]["grad_norm"]), calls

    exact, calls = gradient("undisturbed", -1)
    step = len(calls) - 6  # where the training step begins; two evaluations look at gradients too
    assert set(calls) == {2} and step > 0
    for disturbed in (step, step + 1):
        again, calls = gradient(f"disturbed-{disturbed}", disturbed)
        assert 1 in calls and again == pytest.approx(exact, rel=1e-4)


def test_training_that_does_not_fit_at_all_says_what_to_try(tmp_path, monkeypatch):
    losses_limited(monkeypatch, 0)
    with pytest.raises(UserError, match="one picture at a time .*finetune.gradient_checkpointing"):
        tiny.finetune(tmp_path, step=1)


# ----------------------------------------------------------------- files, while the device computes


def test_pictures_are_whole_when_the_writer_is_done(tmp_path):
    with pytest.raises(KeyError), pictures.Writer() as writer:  # whatever ends it
        for number, image in enumerate(images(9)):
            writer.save(tmp_path / f"{number}.png", image, {"key": "k"})
        raise KeyError
    for number, image in enumerate(images(9)):
        assert pictures.kept(tmp_path / f"{number}.png", "k") == {"key": "k"}
        assert np.array_equal(pictures.load(tmp_path / f"{number}.png"), image)


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError), pictures.Writer() as writer:
        writer.save(tmp_path / "file" / "x.png", images(1)[0], {"key": "k"})


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_are_read_ahead_in_their_order(threads):
    read = []

    def function(batch):
        read.append(batch)
        return sum(batch)

    batches = [[number, 1] for number in range(7)]
    found = pictures.ahead(function, batches, threads)
    first = next(found)
    assert first == ([0, 1], 1)
    assert [first, *found] == [(batch, sum(batch)) for batch in batches]
    assert sorted(read) == batches

    def fails(batch):
        raise UserError("broken picture; remove it")

    with pytest.raises(UserError, match="broken picture"):
        list(pictures.ahead(fails, batches, threads))

"""The encoded data set holds what the models would say, and bad data is told in one line."""

import importlib
import json
import weakref

import pytest
import torch

from tests import flows, tiny
from vlg.data import captioned, shards
from vlg.data.captioned import read_captions
from vlg.data.embedded import encode_guide
from vlg.data.encoded import encode
from vlg.data.source import Cache, LiveCache
from vlg.errors import UserError
from vlg.files import check_manifest
from vlg.models import latent
from vlg.models.components import load_network
from vlg.models.family import open_family
from vlg.models.guide import load_guide


@pytest.fixture(scope="module")
def paths():
    return tiny.world()


def test_what_is_stored_is_what_the_pipeline_computes(paths):
    from diffusers import StableDiffusionPipeline

    cache = Cache(paths["cache"], paths["embeddings"])
    pipe = StableDiffusionPipeline.from_pretrained(paths["base"])
    picture = captioned.read_picture(paths["data"] / "003.png", 32)
    with torch.no_grad():
        posterior = pipe.vae.encode(picture[None] * 2 - 1).latent_dist
        scale = pipe.vae.config.scaling_factor
        texts = ["a picture of the red square on white", ""]
        states, _ = pipe.encode_prompt(texts[:1], "cpu", 1, True, negative_prompt=texts[1:])
    mean, std = cache.latents([3], [False])
    assert torch.allclose(mean, posterior.mean * scale, atol=1e-5)
    assert torch.allclose(std, posterior.std * scale, atol=1e-5)
    row = cache.listing.captions.index
    rows = [row("a red circle"), 0]
    _, empty = pipe.encode_prompt(["a red circle"], "cpu", 1, True, negative_prompt=[""])
    assert torch.allclose(cache.condition(rows)["states"][1], empty[0], atol=1e-5)
    assert torch.allclose(cache.condition([row(texts[0])])["states"][0], states[0], atol=1e-5)
    norms = torch.cat([cache.guide_captions(rows), cache.guide_pictures([0, 5])]).norm(dim=1)
    assert torch.allclose(norms, torch.ones(4), atol=1e-5)


def test_captions_are_stored_once_and_the_last_pictures_are_held_out(paths):
    cache = Cache(paths["cache"])
    captions = cache.listing.captions
    assert captions[0] == "" and len(set(captions)) == len(captions) < 24
    texts = [[captions[row] for row in rows] for rows in cache.rows]
    assert texts == [each for _, each in read_captions(paths["data"])]
    assert cache.held_out == [22, 23] and cache.pictures == 22
    check_manifest(paths["cache"])


def test_shards_and_precision_change_no_answer_but_by_rounding(paths, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 7)
    settings = {"dtype": "float16", "flip": True}
    encode(paths["data"], paths["base"], tmp_path / "small", settings, "cpu", 3)
    encode_guide(paths["data"], load_guide(paths["guide"]), tmp_path / "embedded", "cpu", 3)
    small = Cache(tmp_path / "small", tmp_path / "embedded")
    assert len(list((tmp_path / "small").glob("latents-*.safetensors"))) == 4
    rows, captions = [0, 6, 7, 23], [0, 3, 5]
    with torch.autocast("cpu", torch.bfloat16):  # as a training step does
        answers = (
            small.latents(rows, [False] * 4), small.condition(captions)["states"],
            small.guide_pictures(rows),
        )  # fmt: skip
    monkeypatch.undo()
    large = Cache(paths["cache"], paths["embeddings"])
    expected = (
        large.latents(rows, [False] * 4), large.condition(captions)["states"],
        large.guide_pictures(rows),
    )  # fmt: skip
    for ours, theirs in zip(
        (*answers[0], *answers[1:]), (*expected[0], *expected[1:]), strict=True
    ):
        assert ours.dtype == torch.float32
        assert torch.allclose(ours, theirs, rtol=2e-3, atol=2e-3)  # float16 has 11 bits
    monkeypatch.setattr(shards, "SHARD", 7)
    flipped, _ = small.latents([4, 5], [True, False])
    picture = captioned.read_picture(paths["data"] / "004.png", 32)
    mirrored, _ = open_family(paths["base"]).encode(picture.flip(-1)[None])
    assert torch.allclose(flipped[0], mirrored[0], atol=2e-3)


@pytest.mark.parametrize(
    ("prediction", "name"),
    [("xl", "families.sd"), ("flow", "families.sd3"), ("flux", "families.flux")]
    + [(name, "language") for name in flows.SAVE],
)
def test_text_encoders_in_16_bits_are_read_when_the_vae_is_gone(
    prediction, name, tmp_path, monkeypatch
):
    there, vaes, gone = tiny.world(prediction), [], []

    def vae(*args, **options):
        vaes.append(weakref.ref(found := load_network(*args, **options)))
        return found

    def text(*args, **options):
        gone.append(vaes[0]() is None)
        return load_network(*args, **options)

    monkeypatch.setattr(latent, "load_network", vae)
    monkeypatch.setattr(importlib.import_module(f"vlg.models.{name}"), "load_network", text)
    encode(there["data"], there["base"], tmp_path / "half", {"precision": "bf16"}, "cpu", 8)
    assert gone and all(gone)
    half, whole = Cache(tmp_path / "half"), Cache(there["cache"])
    pictures = [0, 9], [False, False]
    assert all(map(torch.equal, half.latents(*pictures), whole.latents(*pictures)))
    ours, theirs = (each.condition([1, 2]) for each in (half, whole))
    assert ours.keys() == theirs.keys()
    for key, values in theirs.items():
        apart = (ours[key] - values).abs().max()
        assert (0 < apart < 0.05 * values.abs().max()) if key != "mask" else not apart, key


def test_training_from_the_cache_equals_encoding_at_every_step(paths, tmp_path):
    from safetensors.torch import load_file

    cached = tiny.finetune(tmp_path / "cached", step=3)
    live = {"cached": False, "cache": None, "data": paths["data"]}
    encoded = tiny.finetune(tmp_path / "live", step=3, **live)
    name = "unet/diffusion_pytorch_model.safetensors"
    base, one, other = (load_file(p / name) for p in (paths["base"], cached, encoded))
    moved = max((one[key] - base[key]).abs().max() for key in one)
    apart = max((one[key] - other[key]).abs().max() for key in one)
    # Batches of other sizes differ by 1e-6 or so, and AdamW takes the sign of tiny gradients.
    assert apart < 0.05 * moved


def test_augmentations_are_functions_of_seed_and_step(paths):
    """Another step, another crop; the same step, the same; and what isn't trained on is whole."""
    from vlg.train.batches import held_out_batches

    run = tiny.begin("normal", batch_size=22)

    def live(**options):
        return LiveCache(paths["data"], run.family, **options)

    plain, augmented = live(), live(crop=0.5, jitter=0.4)
    answers = {}
    again = live(crop=0.5, jitter=0.4)
    for name, source in (("plain", plain), ("augmented", augmented), ("again", again)):
        for step in (0, 1):
            batch = run.method.batch(source, step)
            mean, _ = source.latents(batch.pictures, batch.flipped, batch.augment)
            answers[name, step] = mean[[batch.pictures.index(i) for i in range(22)]]
        batch = held_out_batches(source, 2, 1000)[0]
        mean, _ = source.latents(batch.pictures, batch.flipped, batch.augment)
        answers[name, "held out"] = mean
    assert torch.equal(answers["plain", 0], answers["plain", 1])
    assert torch.equal(answers["augmented", 0], answers["again", 0])
    assert torch.equal(answers["augmented", 1], answers["again", 1])
    changed = (answers["augmented", 0] - answers["augmented", 1]).abs().amax(dim=(1, 2, 3))
    assert torch.all(changed > 0)
    whole = answers["plain", "held out"], answers["augmented", "held out"]
    assert torch.allclose(*whole, atol=1e-5)


def test_flips_are_functions_of_seed_and_step(paths):
    source = LiveCache(paths["data"], open_family(paths["base"]), flip=True)

    def flips(seed):
        method = tiny.begin("normal", step=99, seed=seed).method
        return [flip for s in range(50) for flip in method.batch(source, s).flipped]

    assert flips(1) == flips(1) != flips(2)
    assert 70 < sum(flips(1)) < 130  # half of 200, standard error 7


def test_a_crop_keeps_its_share_and_jitter_its_bounds(paths, tmp_path):
    from PIL import Image

    picture = Image.new("RGB", (80, 40), "red")
    picture.paste("blue", (0, 0, 20, 20))
    picture.save(tmp_path / "wide.png")
    corner = captioned.read_picture(tmp_path / "wide.png", 10, (0.5, 0.0, 0.0))
    blue = torch.tensor([0.0, 0, 1])[:, None, None].expand(3, 9, 9)
    assert torch.equal(corner[:, :-1, :-1], blue)  # the kernel sees a little red at the edges
    far = captioned.read_picture(tmp_path / "wide.png", 10, (0.5, 1.0, 1.0))
    assert torch.equal(far, torch.tensor([1.0, 0, 0])[:, None, None].expand(3, 10, 10))
    grey = torch.full((3, 4, 4), 0.5)
    assert torch.allclose(captioned.jittered(grey, [1.2, 0.5, 2.0]), grey * 1.2)
    assert torch.allclose(captioned.jittered(far, [1.0, 1.0, 0.0]), torch.full((3, 10, 10), 0.299))


def test_embeddings_of_another_data_set_are_refused(paths, tmp_path):
    data = tiny.save_pictures(tmp_path / "data", 23)
    encode_guide(data, load_guide(paths["guide"]), tmp_path / "embeddings", "cpu")
    with pytest.raises(UserError, match="of other pictures or captions"):
        Cache(paths["cache"], tmp_path / "embeddings")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"file_name": "000.png", "text": " "}], ":1: empty caption"),
        ([{"file_name": "000.png", "text": []}], ":1: empty caption"),
        ([{"file_name": "000.png"}], ":1: must be"),
        (["nonsense"], ":1: must be"),
        ([{"file_name": "none.png", "text": "a"}], "none.png is missing"),
        ([{"file_name": "000.png", "text": "a"}], "1 pictures"),
    ],
)
def test_bad_metadata_is_named(paths, tmp_path, lines, message):
    (tmp_path / "000.png").write_bytes((paths["data"] / "000.png").read_bytes())
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (tmp_path / "metadata.jsonl").write_text(text)
    with pytest.raises(UserError, match=message):
        read_captions(tmp_path)
    with pytest.raises(UserError, match="metadata.jsonl: not found"):
        read_captions(tmp_path / "elsewhere")


def test_a_picture_cut_in_half_is_named_and_leaves_nothing(paths, tmp_path):
    data = tiny.save_pictures(tmp_path / "data", 4)
    whole = (data / "002.png").read_bytes()
    (data / "002.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"002\.png: not a whole picture"):
        encode(data, paths["base"], tmp_path / "out", {}, "cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_pictures_of_other_sizes_are_fitted(tmp_path):
    from PIL import Image

    picture = Image.new("RGB", (90, 50), "red")
    picture.paste("blue", (20, 0, 70, 50))  # the middle square
    picture.save(tmp_path / "wide.png")
    pixels = captioned.read_picture(tmp_path / "wide.png", 10)
    assert pixels.shape == (3, 10, 10)
    blue = torch.tensor([0.0, 0, 1])[:, None, None].expand(3, 10, 8)
    assert torch.equal(pixels[:, :, 1:-1], blue)  # the kernel sees a little red at the edges


@pytest.mark.parametrize("damage", ["folder", "config", "weights", "bytes"])
def test_a_missing_or_damaged_guide_is_named(tmp_path, damage):
    folder = tmp_path / "guide"
    if damage != "folder":
        tiny.save_guide(folder)
    weights = folder / "open_clip_model.safetensors"
    if damage == "config":
        (folder / "open_clip_config.json").unlink()
    elif damage == "weights":
        weights.unlink()
    elif damage == "bytes":
        weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match="guide"):
        load_guide(folder)

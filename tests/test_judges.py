"""Kinds of judge: CLIPs, quality, plug-ins; what one needs, and what editing one reaches."""

import json
import shutil
from logging import StreamHandler
from pathlib import Path

import numpy as np
import pytest

from tests import tiny
from vlg import plugins
from vlg.errors import UserError
from vlg.judge import kind
from vlg.models.ledger import Ledger
from vlg.workflow.codehash import code_hash

PLUG_IN = """
def bright(images, prompts):
    return [float(image.mean()) for image in images]

def short(images, prompts):
    return [1.0]

def wrong(images, prompts):
    return [float("nan")] * len(images)
"""
IMAGES = [np.full((32, 32, 3), shade, np.uint8) for shade in (0, 100, 255)]
TEXTS = ["a red circle", "a blue square", "a red circle"]


SHAPES = Path(__file__).parents[1] / "resources/shapes"
QUALITY = ("Good photo.", "Bad photo.")


def judge(name, source, root=Path(), **keys):
    """A judge of a kind, from a relative or absolute source."""
    return kind.load({"kind": name, "source": str(source), **keys}, "cpu", root)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/judge.py").write_text(PLUG_IN)
    return tmp_path


def test_a_plug_in_scores_pictures(root):
    score = judge("callable", "mine.judge.bright", root)
    assert score(IMAGES, TEXTS) == [0.0, 100.0, 255.0]
    before = score.fingerprint()
    (root / "mine/judge.py").write_text(PLUG_IN + "# another")
    assert score.fingerprint() != before


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("mine.judge.dark", "has no dark"),
        ("nobody.judge.bright", "is no function of a file"),
        ("bright", "is no function of a file"),
        ("../mine.judge", "is no function of a file"),
    ],
)
def test_a_plug_in_that_is_not_there(root, source, message):
    with pytest.raises(UserError, match=message):
        judge("callable", source, root)


@pytest.mark.parametrize("name", ["short", "wrong"])
def test_a_plug_in_must_return_a_finite_number_each(root, name):
    score = judge("callable", f"mine.judge.{name}", root)
    with pytest.raises(UserError, match="must return a finite number for each of 3 pictures"):
        score(IMAGES, TEXTS)


@pytest.mark.parametrize("stated", [{}, {"resize_mode": "squash"}, {"interpolation": "bilinear"}])
@pytest.mark.parametrize("size", [16, (16, 12)])
def test_an_open_clip_folder_judges_as_open_clip_does_and_shows_a_guide_the_same(
    tmp_path, size, stated
):
    import open_clip
    import torch
    from PIL import Image

    folder = tiny.save_guide(tmp_path / "guide", size)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["preprocess_cfg"] |= stated
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    rng = np.random.default_rng(0)
    smooth = [
        Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)).resize(
            shape, Image.Resampling.BICUBIC
        )
        for shape in ((57, 40), (32, 71), (90, 31), (16, 12), (61, 61))
    ]
    texts = ["a red circle", "a blue square", "a", "a red circle", "two"]
    own = judge("open_clip", folder)
    with torch.no_grad():
        pixels = torch.stack([transform(picture) for picture in smooth])
        seen = model.eval().encode_image(pixels, normalize=True)
        expected = (100 * (seen * own.encode_text(texts)).sum(1)).tolist()
    images = [np.asarray(picture) for picture in smooth]
    assert own(images, texts) == pytest.approx(expected, abs=1e-3)
    assert own(own.prepare(images), texts) == own(images, texts)
    for image, theirs in zip(images, pixels, strict=True):
        floats = torch.tensor(image)[None].permute(0, 3, 1, 2).float() / 255
        # PIL rounds to whole grey levels, twice at most: 1.5 / 255 / std (0.2)
        assert (own.guide.preprocess(floats)[0] - theirs).abs().max() < 1.5 / 255 / 0.2


@pytest.mark.parametrize("stated", [tiny.LENGTH, None, tiny.LENGTH - 4])
def test_siglip_judges_by_the_cosine(tmp_path, stated):
    """Padded to the text model's length, whatever its tokenizer states."""
    import json

    import torch
    from transformers import (
        SiglipConfig,
        SiglipImageProcessor,
        SiglipModel,
        SiglipTextConfig,
        SiglipVisionConfig,
    )

    torch.manual_seed(0)
    tokens = tiny.tokenizer()
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    text = SiglipTextConfig(
        vocab_size=len(tokens), max_position_embeddings=tiny.LENGTH, num_attention_heads=2,
        pad_token_id=tokens.pad_token_id, projection_size=16, **small,
    )  # fmt: skip
    vision = SiglipVisionConfig(image_size=32, patch_size=8, num_attention_heads=2, **small)
    config = SiglipConfig(text_config=text.to_dict(), vision_config=vision.to_dict())
    model = SiglipModel(config).eval()
    model.save_pretrained(tmp_path)
    tokens.save_pretrained(tmp_path)
    processor = SiglipImageProcessor(size={"height": 32, "width": 32})
    processor.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    said = json.loads(path.read_text()) | {"model_max_length": stated}
    path.write_text(json.dumps({k: v for k, v in said.items() if v is not None}))
    found = judge("clip", tmp_path)(IMAGES, TEXTS)
    padded = tokens(TEXTS, padding="max_length", truncation=True, return_tensors="pt")
    pixels = processor(images=IMAGES, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        answer = model(input_ids=padded.input_ids, pixel_values=pixels)
    expected = 100 * (answer.image_embeds * answer.text_embeds).sum(1)
    assert found == pytest.approx(expected.tolist(), abs=1e-3)


def test_clip_iqa_is_a_probability_that_the_prompt_does_not_change():
    from vlg.models.clip import Clip

    folder = "resources/shapes/judge"
    found = judge("clip_iqa", folder)(IMAGES, TEXTS)
    assert found == judge("clip_iqa", folder)(IMAGES, TEXTS[::-1])
    clip = Clip(Path(folder), "cpu")
    good, bad = (clip.scores(IMAGES, [text] * 3) for text in QUALITY)
    scale = clip.model.logit_scale.exp().item() / 100
    expected = [100 / (1 + np.exp((b - g) * scale)) for g, b in zip(good, bad, strict=True)]
    assert found == pytest.approx(expected, abs=1e-2) and all(0 < each < 100 for each in found)


@pytest.mark.parametrize("pair", [QUALITY, ("Sharp photo.", "Blurry photo.")])
def test_clip_iqa_is_that_of_torchmetrics(tmp_path, pair):
    import math

    import torch
    from torchmetrics.functional.multimodal import clip_image_quality_assessment

    from tests.test_clipscore import Adapter
    from vlg.models.clip import Clip
    from vlg.shapes import models

    torch.manual_seed(0)
    model = models.judge()
    model.logit_scale.data.fill_(math.log(100))  # which torchmetrics takes for granted
    model.save_pretrained(tmp_path)
    models.judge_processor().save_pretrained(tmp_path)
    found = judge("clip_iqa", tmp_path, pair=pair)(IMAGES, TEXTS)
    clip = Clip(tmp_path, "cpu")
    tensors = torch.from_numpy(np.stack(IMAGES)).permute(0, 3, 1, 2)
    theirs = clip_image_quality_assessment(
        tensors, lambda: (Adapter(clip), clip.processor), data_range=1, prompts=(tuple(pair),)
    )
    ours = np.array(found) / 100
    assert np.log(ours / (1 - ours)) == pytest.approx(torch.logit(theirs).numpy(), abs=1e-2)
    assert np.ptp(np.log(ours)) > 0.1


def test_the_studys_own_judge_is_one_of_the_kinds():
    from vlg.models.clip import Clip

    folder = Path("resources/shapes/judge")
    own = judge(kind.OWN, folder)
    assert own(own.prepare(IMAGES), TEXTS) == Clip(folder, "cpu").scores(IMAGES, TEXTS)
    assert own(IMAGES, TEXTS) == own(own.prepare(IMAGES), TEXTS)


@pytest.mark.parametrize("name", plugins.names(plugins.KINDS))
def test_a_kind_says_what_it_judges_by_before_any_job(name, tmp_path):
    import subprocess
    import sys

    heavy = "torch, transformers, open_clip, numpy"
    program = (
        "import sys; sys.path.insert(0, 'scripts'); from vlg.judge import kind; "
        f"found = kind.find({name!r}); found.files(kind.settings({{'kind': {name!r}, "
        f"'source': 'a.b'}})); print([m for m in {heavy.split(', ')} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
    with pytest.raises(UserError, match="nowhere"):
        kind.find(name).check(kind.settings({"kind": name, "source": "nowhere"}), tmp_path)


@pytest.mark.parametrize(("name", "mark"), [("clip", "config"), ("open_clip", "open_clip_config")])
def test_a_folder_is_judged_by_its_files(name, mark, tmp_path):
    settings = kind.settings({"kind": name, "source": "given"})
    (tmp_path / "given").mkdir()
    (tmp_path / f"given/{mark}.json").write_text("{}")
    with pytest.raises(UserError, match=f"has no {mark}.json with"):
        kind.find(name).check(settings, tmp_path)
    weights = tmp_path / "given/model.safetensors"
    weights.write_text("x")
    lacks = "has no tokenizer" if name == "clip" else "has no model_cfg"
    with pytest.raises(UserError, match=f"given: .*{lacks}"):
        kind.find(name).check(settings, tmp_path)
    for file, content in tiny.hollow_judge().items():
        if "token" in file or "processor" in file:
            (tmp_path / "given" / file).write_bytes(content)
    (tmp_path / f"given/{mark}.json").write_text('{"model_cfg": {}}')
    kind.find(name).check(settings, tmp_path)
    files = kind.find(name).files(settings, tmp_path)
    assert weights in files and tmp_path / "given/tokenizer.json" in files


@pytest.mark.parametrize("name", ["clip", "clip_iqa", "open_clip"])
def test_what_a_judge_computes_is_counted(name):
    ready, ledger = judge(name, SHAPES / ("guide" if name == "open_clip" else "judge")), Ledger()
    ready.watch(ledger)
    ready(ready.prepare(IMAGES), TEXTS)
    cost = ledger.take()
    assert (cost.of("judge"), cost.of("judge", "backward")) == (3, 0)
    assert cost.flops == cost.of("judge", "flops") > 3e6


def test_an_open_clip_can_guide():
    import torch

    guide = judge("open_clip", tiny.world()["guide"])
    pixels = torch.rand(2, 3, 32, 32, requires_grad=True)
    unit = guide.encode_image(pixels)
    (unit * guide.encode_text(TEXTS[:2])).sum().backward()
    assert guide.guides and pixels.grad.abs().sum() > 0
    assert unit.norm(dim=1).tolist() == pytest.approx([1, 1])


# --- what editing and adding a kind reaches ---


@pytest.fixture
def codes(tmp_path):
    """A function: the code hashes of scoring after edits {file of the package: text added}."""
    trees = iter(range(9))

    def codes(**edits):
        scripts = tmp_path / str(next(trees)) / "scripts"
        shutil.copytree("scripts", scripts, ignore=shutil.ignore_patterns("__pycache__"))
        for file, text in edits.items():
            with open(scripts / "vlg" / file.replace("__", "/"), "a+", encoding="utf-8") as out:
                out.write(text)
        kinds = {name: scripts / f"vlg/judge/kinds/{name}.py" for name in ("clip", "clip_iqa")}
        return {
            "score": code_hash(scripts / "score.py", kinds["clip"]),
            "clip_iqa": code_hash(scripts / "judge.py", kinds["clip_iqa"]),
            "diversity": code_hash(scripts / "diversity.py"),
        }

    return codes


@pytest.mark.parametrize(
    ("edited", "reached"),
    [
        ("judge/kinds/clip_iqa.py", {"clip_iqa"}),
        ("judge/kinds/clip.py", {"score"}),
        ("judge/kinds/new.py", set()),
        ("judge/scoring.py", {"score", "clip_iqa"}),
        ("sample/arms/refine.py", set()),
        ("sample/arm.py", set()),
        ("sample/drawing.py", set()),
        ("sample/sampler.py", set()),
        ("train/methods/embed.py", set()),
        ("models/clip.py", {"score", "clip_iqa", "diversity"}),
    ],
)
def test_an_edit_rescores_what_it_changes_and_nothing_else(codes, edited, reached):
    before, after = codes(), codes(**{edited: "\nEDITED = 1\n"})
    assert {name for name in before if before[name] != after[name]} == reached


def test_pictures_of_one_colour_are_counted_where_they_are_scored(tmp_path, caplog):
    from vlg.data import pictures
    from vlg.judge import scoring

    grey, other = np.full((32, 32, 3), 7, np.uint8), np.arange(3072, dtype=np.uint8)
    rows = [{"file_name": f"{i}.png", "prompt": "a", "set": "study", "key": ""} for i in range(3)]
    for row, image in zip(rows, (other.reshape(32, 32, 3), grey, grey), strict=True):
        pictures.save(tmp_path / row["file_name"], image, row)
    pictures.write_metadata(tmp_path, rows)
    own = judge("callable", "judge.one", write_one(tmp_path))
    guide = judge("open_clip", SHAPES / "guide").guide
    found = scoring.study([tmp_path], own, guide, {}, False, tmp_path, 2, 1)
    assert [row["blank"] for row in found] == [0, 1, 1]
    assert f"2 of 3 pictures are of one colour, {tmp_path}/1.png the first" in caplog.text


def write_one(root):
    (root / "judge.py").write_text("def one(images, prompts):\n    return [1.0] * len(images)\n")
    return root


# --- truth ---


def test_a_picture_of_another_side_than_the_worlds_has_its_facts():
    from vlg.judge import scoring
    from vlg.shapes.world import Scene, Thing, render

    verified = scoring.verifier()
    red, blue = Thing("circle", "red", "small", 8, 16), Thing("square", "blue", "small", 24, 16)
    picture = render(Scene("pair", "white", (red, blue), "left of"))
    prompt, wrong = (f"a red circle {side} a blue square" for side in ("left of", "right of"))
    for image in (picture, picture.repeat(4, 0).repeat(4, 1)):
        assert verified(image, prompt)["strict"] == 1
        assert verified(image, wrong)["relation"] == 0
    assert verified(picture, "a photograph of a cat") == {}


def test_the_shipped_siglip_is_loaded_without_a_warning(capfd):
    from transformers.utils import logging

    logging.warning_once.cache_clear()  # what another test was told is told again
    logging.add_handler(shown := StreamHandler())
    try:
        judge("clip", kind.RESOURCES / "shapes-siglip")
    finally:
        logging.remove_handler(shown)
    assert "Model config" not in capfd.readouterr().err

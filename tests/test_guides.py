"""Guides of other kinds, in views and of several are guides like the one open_clip."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from tests import tiny
from tests.pipeline import ROOT
from vlg.config import guides, plan
from vlg.config.load import load
from vlg.errors import UserError
from vlg.files import identity
from vlg.models.cosines import guide_scores
from vlg.models.guide import load_guide
from vlg.models.ledger import Ledger

TEXTS = ["a red circle", "the blue square", "a big green circle"]
COARSE = np.random.default_rng(0).integers(0, 255, (3, 5, 5, 3), np.uint8)
IMAGES = np.stack(
    [np.asarray(Image.fromarray(i).resize((32, 32), Image.Resampling.BILINEAR)) for i in COARSE]
)


def pixels(requires_grad=False):
    floats = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float() / 255
    return floats.requires_grad_(requires_grad)


def siglip(folder):
    """A random SigLIP that looks at 16 x 16 pixels, squashed."""
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    torch.manual_seed(4)
    tokens = tiny.tokenizer()
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
             "num_attention_heads": 2}  # fmt: skip
    text = {**small, "vocab_size": len(tokens), "max_position_embeddings": tiny.LENGTH}
    vision = {**small, "image_size": 16, "patch_size": 4}
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    SiglipImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    found = {"one": tiny.world()["guide"], "clip": tiny.save_judge(folder / "clip")}
    return found | {"siglip": siglip(folder / "siglip")}


def made(out, sources, **settings):
    """A guide's folder as scripts/guide.py writes it."""
    words = ["--settings", json.dumps(settings), "--source", *sources, "--out", out]
    command = [sys.executable, ROOT / "scripts/guide.py", *words]
    done = subprocess.run([str(w) for w in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def folders(sources, tmp_path_factory):
    """Guides as the rule makes them."""
    out = tmp_path_factory.mktemp("guides")
    one, clip, views, both = (out / name for name in ("one", "clip", "views", "both"))
    made(one, [sources["one"]], source="one")
    made(clip, [sources["clip"]], kind="clip", source="clip")
    made(views, [sources["one"]], source="one", views=3, crop=0.6, noise=0.1)
    made(both, [views, clip], members={"views": 3.0, "clip": 1.0})
    return {"one": one, "clip": clip, "views": views, "both": both}


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("shape", [(32, 32), (40, 24), (24, 41), (16, 16)])
def test_a_hugging_face_model_guides_as_it_judges(kind, shape, sources):
    """Up to what its processor rounds to bytes; the gradient reaches the pixels."""
    from vlg.models.clip import Clip

    clip = Clip(sources[kind], "cpu")
    images = [
        np.asarray(Image.fromarray(i).resize(shape[::-1], Image.Resampling.BICUBIC)) for i in IMAGES
    ]
    floats = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    floats.requires_grad_()
    assert torch.allclose(clip.preprocess(floats), clip.prepare(images), atol=0.06)
    seen = (clip.encode_pictures(floats) * clip.encode_text(TEXTS)).sum(1)
    assert 100 * seen.detach().numpy() == pytest.approx(clip.scores(images, TEXTS), abs=0.5)
    seen.sum().backward()
    assert floats.grad.abs().amax((1, 2, 3)).min() > 0


def test_an_open_clip_seen_once_is_its_folder_alone(folders, sources):
    assert not (folders["one"] / "guide.json").exists()
    assert guide_scores(load_guide(folders["one"]), IMAGES, TEXTS) == guide_scores(
        load_guide(sources["one"]), IMAGES, TEXTS
    )


def test_every_guide_has_a_gradient_a_side_and_an_identity(folders):
    known = set()
    for name, folder in folders.items():
        guide, ledger = load_guide(folder), Ledger()
        guide.watch(ledger)
        image = pixels(requires_grad=True)
        embedded = guide.encode_image(image)
        assert embedded.norm(dim=1).max() <= 1 + 1e-5
        (embedded * guide.encode_text(TEXTS)).sum().backward()
        assert image.grad.abs().amax((1, 2, 3)).min() > 0
        assert guide.size == (16, 16) and identity(guide.folder) not in known
        known.add(identity(guide.folder))
        looks = {"one": 1, "clip": 1, "views": 3, "both": 4}[name]
        cost = ledger.take()
        assert (cost.of("guide"), cost.of("guide", "backward")) == (3 * looks, 3 * looks)
        assert cost.of("judge") == 0


def test_views_are_averaged_and_the_same_for_every_picture(folders):
    guide, views = load_guide(folders["one"]), load_guide(folders["views"])
    text = guide.encode_text(TEXTS)
    with torch.no_grad():
        each = [(guide.encode_image(views.view(pixels(), i)) * text).sum(1) for i in range(3)]
        assert torch.allclose(
            (views.encode_image(pixels()) * views.encode_text(TEXTS)).sum(1),
            torch.stack(each).mean(0),
            atol=1e-6,
        )
    assert torch.equal(views.view(pixels(), 0), pixels())
    for number in (1, 2):
        seen = views.view(pixels(), number)
        assert torch.equal(views.view(pixels()[1:2], number), seen[1:2])
        assert 0.6 * 32 - 1 <= seen.shape[-1] <= 32 and seen.min() >= 0 and seen.max() <= 1
    assert not torch.equal(
        views.view(pixels(), 1)[..., :19, :19], views.view(pixels(), 2)[..., :19, :19]
    )


def test_several_guides_are_the_weighted_mean_of_their_cosines(folders):
    parts = [guide_scores(load_guide(folders[name]), IMAGES, TEXTS) for name in ("views", "clip")]
    both = guide_scores(load_guide(folders["both"]), IMAGES, TEXTS)
    assert both == pytest.approx(0.75 * np.array(parts[0]) + 0.25 * np.array(parts[1]), abs=1e-3)


def test_a_data_set_is_embedded_by_any_guide(folders, tmp_path):
    from vlg.data.embedded import encode_guide

    guide = load_guide(folders["both"])
    encode_guide(tiny.world()["data"], guide, tmp_path / "out", "cpu", 8)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["guide"] == identity(folders["both"])


def test_an_altered_file_of_a_member_is_told(folders, tmp_path):
    import shutil

    copy = shutil.copytree(folders["both"], tmp_path / "copy")
    said = copy / "views" / "guide.json"
    said.unlink()
    said.write_text("{}")
    with pytest.raises(UserError, match="checksum differs"):
        load_guide(copy)


# --- the config ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(sources, tmp_path_factory):
    """A folder with an open_clip `one`, a CLIP `clip`, and copies of both."""
    import shutil

    folder = tmp_path_factory.mktemp("root")
    for name in ("one", "clip"):
        shutil.copytree(sources[name], folder / name)
        shutil.copytree(sources[name], folder / f"{name}_copy")
    return folder


GUIDES = {
    "strong": {"source": "one"},
    "other": {"kind": "clip", "source": "clip"},
    "robust": {"source": "shapes", "views": 4, "noise": 0.05},
    "both": {"members": {"strong": 1.0, "guide": 0.5}},
}


def test_guides_of_a_config_and_where_they_are(root):
    arms = {"mine": {"kind": "clip_guidance", "guide": "both"}, "refine": {"guide": "robust"}}
    config = load({"models": {"guide": "robust"}, "guides": GUIDES, "refine": {"arms": arms}}, root)
    assert guides.folder(config) == guides.folder(config, "robust") == "guide"
    assert set(guides.made(config)) == {
        "guide",
        *(f"guide_{n}" for n in ("strong", "other", "both")),
    }
    assert guides.kinds(config, "other") == ["clip"] and guides.kinds(config, "both") == []
    assert all("guide" not in arm.settings.handed_on() for arm in plan.arms(config).values())


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"models": {"judge": "clip"}}, "models.judge: is the same model as guides.other"),
        ({"models": {"judge": "clip_copy"}}, "models.judge: has the weights of guides.other"),
        ({"judges": {"x": {"source": "clip_copy"}}}, "judges.x.source: has the weights of"),
        ({"judges": {"x": {"kind": "open_clip", "source": "one"}}}, "is the same model as"),
        ({"judges": {"x": {"kind": "open_clip", "source": str(ROOT / "resources/shapes/guide")}}},
         "is the same model as guides.robust"),
        ({"guides": {"a": {"kind": "clip_iqa", "source": "clip"}}}, "guides.a.kind: cannot guide"),
        ({"guides": {"a": {"source": "clip"}}}, "guides.a.source: 'clip' has no open_clip_config"),
        ({"guides": {"a": {"source": "nothing"}}}, "guides.a.source"),
        ({"guides": {"a": {}}}, "guides.a.source: stands beside members, or neither does"),
        ({"guides": {"a": {"members": {"nobody": 1}}}}, "guides.a.members: no such entry"),
        ({"guides": {"a": {"members": {"both": 1}}}}, "both is made of several itself"),
        ({"guides": {"a": {"members": {"guide": 1}}}, "models": {"guide": "both"}},
         "guide is made of several itself"),
        ({"guides": {"guide": {"source": "one"}}}, "guides.guide: is what models.guide is called"),
        ({"guides": {"a": {"source": "one", "view": 2}}}, "guides.a.view"),
        ({"refine": {"arms": {"x": {"guide": "nobody"}}}}, "refine.arms.x.guide: no such entry"),
    ],
)  # fmt: skip
def test_what_cannot_guide_or_judges_is_refused_in_one_line(config, said, root):
    merged = {**config, "guides": {**GUIDES, **config.get("guides", {})}}
    with pytest.raises(UserError) as error:
        load(merged, root)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_guide_of_the_hub_is_no_judge_of_the_hub(tmp_path):
    guides = {"a": {"kind": "clip", "source": "hub:me/clip@main"}}
    with pytest.raises(UserError, match="models.judge: is the same model as guides.a"):
        load({"guides": guides, "models": {"judge": "hub:Me/Clip"}}, tmp_path)


def test_the_shipped_judge_that_guides_is_told():
    config = {
        "models": {"guide": "seen"},
        "guides": {"seen": {"kind": "clip", "source": "resources/shapes-siglip"}},
        "judges": {"other": {"kind": "clip", "source": "shapes"}},
    }
    with pytest.raises(UserError, match="judges.other.source: is the same model as guides.seen"):
        load(config, ROOT)

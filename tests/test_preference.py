"""Judges of what people prefer, beside the originals' arithmetic on tiny random weights."""

import hashlib
import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests import tiny
from vlg.errors import UserError
from vlg.judge import kind
from vlg.models import weights

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 255, size, dtype=np.uint8) for size in ((40, 40, 3), (48, 30, 3))]
PROMPTS = ["a red circle", "the big blue square on white"]


def judge(name, source, **keys):
    return kind.load({"kind": name, "source": str(source), **keys}, "cpu")


def checksum(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_pickscore_is_that_of_its_model_card(tmp_path):
    from transformers import CLIPModel, CLIPProcessor

    folder = tiny.save_judge(tmp_path)
    model = CLIPModel.from_pretrained(folder).eval()
    model.logit_scale.data.fill_(math.log(73))
    model.save_pretrained(folder)
    processor = CLIPProcessor.from_pretrained(folder)
    expected = []
    for image, prompt in zip(IMAGES, PROMPTS, strict=True):
        given = processor(images=[image], text=[prompt], padding=True, return_tensors="pt")
        with torch.no_grad():
            out = model(**given)
            a, b = (F.normalize(each, dim=-1) for each in (out.image_embeds, out.text_embeds))
            expected.append(float((model.logit_scale.exp() * (b @ a.T))[0, 0]))
    assert judge("pickscore", folder)(IMAGES, PROMPTS) == pytest.approx(expected, abs=1e-3)


@pytest.fixture(scope="module")
def hps(tmp_path_factory):
    """A tiny open_clip architecture that open_clip knows by name, and its weights in .pt."""
    import open_clip

    folder = tmp_path_factory.mktemp("hps")
    config = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 16, "patch_size": 4, "layers": 1, "width": 16,
                       "head_width": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2,
                     "layers": 1},
    }  # fmt: skip
    (folder / "tiny-hps.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / "tiny-hps.json")
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-hps").eval()
    torch.save({"epoch": 3, "state_dict": model.state_dict()}, folder / "HPS_v2.pt")
    return folder / "HPS_v2.pt", model


def test_hpsv2_is_that_of_its_package(hps):
    """Longest side to the model's, padded with black, 100 times the cosine."""
    import open_clip
    from PIL import Image
    from torchvision.transforms import functional as tv

    file, model = hps
    tokens = open_clip.get_tokenizer("tiny-hps")
    images = [IMAGES[0], IMAGES[1][:, :27]]  # which cannot be padded evenly
    expected = []
    for image, prompt in zip(images, PROMPTS, strict=True):
        picture = Image.fromarray(image)
        scale = 16 / max(picture.size)
        size = [round(side * scale) for side in (picture.height, picture.width)]
        small = tv.resize(tv.to_tensor(picture), size, tv.InterpolationMode.BICUBIC)
        gap_h, gap_w = 16 - size[0], 16 - size[1]
        pads = [gap_w // 2, gap_h // 2, gap_w - gap_w // 2, gap_h - gap_h // 2]
        pixels = tv.pad(small, pads, fill=0)
        pixels = tv.normalize(pixels, (0.48145466, 0.4578275, 0.40821073),
                              (0.26862954, 0.26130258, 0.27577711))  # fmt: skip
        with torch.no_grad():
            seen, said, _ = model(pixels[None], tokens([prompt]))
        expected.append(100 * float(seen[0] @ said[0]))
    keys = {"architecture": "tiny-hps", "sha256": checksum(file)}
    own = judge("hps", file, **keys)
    assert own(images, PROMPTS) == pytest.approx(expected, abs=1e-3)
    assert own(own.prepare(images), PROMPTS) == own(images, PROMPTS)


def test_a_pickled_file_needs_its_checksum_and_runs_nothing(hps, tmp_path):
    file, _ = hps
    settings = kind.settings({"kind": "hps", "source": str(file)})
    with pytest.raises(UserError, match=r"could run code.*convert it: .*into sha256"):
        kind.find("hps").check(settings)
    with pytest.raises(UserError, match="has the checksum"):
        judge("hps", file, sha256="0" * 64)

    class Bad:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"a": Bad()}, tmp_path / "bad.pt")
    with pytest.raises(UserError, match="holds more than plain weights"):
        weights.read(tmp_path / "bad.pt", "x", checksum(tmp_path / "bad.pt"))
    assert not (tmp_path / "ran").exists()
    with pytest.raises(UserError, match="not the weights of open_clip's ViT-B-32"):
        judge("hps", file, sha256=checksum(file), architecture="ViT-B-32")


@pytest.mark.parametrize(("precision", "far"), [("bf16", 1.0), ("fp16", 0.1)])
@pytest.mark.parametrize(
    "name", ["clip", "clip_iqa", "open_clip", "pickscore", "hps", "image_reward"]
)
def test_scores_of_16_bits_are_nearly_those_of_32(request, tmp_path, name, precision, far):
    """By so many hundredths of a cosine at most; random rewards are large, of those by a share."""
    if name == "hps":
        source, _ = request.getfixturevalue("hps")
        keys = {"architecture": "tiny-hps", "sha256": checksum(source)}
    elif name == "image_reward":
        source, _ = request.getfixturevalue("reward")
        keys = {"sha256": checksum(source / "ImageReward.pt")}
    else:
        save = tiny.save_guide if name == "open_clip" else tiny.save_judge
        source, keys = save(tmp_path), {}
    whole, less = (judge(name, source, **keys, precision=each) for each in ("fp32", precision))
    expected, found = whole(whole.prepare(IMAGES), PROMPTS), less(less.prepare(IMAGES), PROMPTS)
    assert found == pytest.approx(expected, abs=far, rel=far / 100) and found != expected


def test_a_score_whose_weights_are_a_program_is_refused():
    with pytest.raises(UserError, match="no kind 'mps': its weights .*; use pickscore, hps"):
        kind.find("mps")


# --- ImageReward --------------------------------------------------------------------------------

W, D, VOCAB, SIDE, PATCH, LAYERS = 128, 64, 60, 32, 8, 2


def blip(seed=0):
    """Random weights under the names of the checkpoint."""
    torch.manual_seed(seed)
    shapes = {
        "visual_encoder.cls_token": (1, 1, W),
        "visual_encoder.pos_embed": (1, 1 + (SIDE // PATCH) ** 2, W),
        "visual_encoder.patch_embed.proj.weight": (W, 3, PATCH, PATCH),
        "visual_encoder.patch_embed.proj.bias": (W,),
        "visual_encoder.norm.weight": (W,),
        "visual_encoder.norm.bias": (W,),
        "text_encoder.embeddings.word_embeddings.weight": (VOCAB, D),
        "text_encoder.embeddings.position_embeddings.weight": (40, D),
        "text_encoder.embeddings.LayerNorm.weight": (D,),
        "text_encoder.embeddings.LayerNorm.bias": (D,),
        "vision_proj.weight": (4, W),  # which rewards do not use
    }

    def linear(name, rows, columns):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (rows, columns), (rows,)

    for i in range(LAYERS):
        at = f"visual_encoder.blocks.{i}"
        for norm in ("norm1", "norm2"):
            shapes[f"{at}.{norm}.weight"] = shapes[f"{at}.{norm}.bias"] = (W,)
        linear(f"{at}.attn.qkv", 3 * W, W)
        linear(f"{at}.attn.proj", W, W)
        linear(f"{at}.mlp.fc1", 2 * W, W)
        linear(f"{at}.mlp.fc2", W, 2 * W)
        at = f"text_encoder.encoder.layer.{i}"
        for block, inner in (("attention", D), ("crossattention", W)):
            linear(f"{at}.{block}.self.query", D, D)
            linear(f"{at}.{block}.self.key", D, inner)
            linear(f"{at}.{block}.self.value", D, inner)
            linear(f"{at}.{block}.output.dense", D, D)
            linear(f"{at}.{block}.output.LayerNorm", D, D)
            shapes[f"{at}.{block}.output.LayerNorm.weight"] = (D,)
        linear(f"{at}.intermediate.dense", 2 * D, D)
        linear(f"{at}.output.dense", D, 2 * D)
        shapes[f"{at}.output.LayerNorm.weight"] = shapes[f"{at}.output.LayerNorm.bias"] = (D,)
    tensors = {}
    for name, shape in shapes.items():
        wide = 1 + 0.2 * torch.randn(shape) if name.lower().endswith("norm.weight") else None
        tensors[f"blip.{name}"] = 0.15 * torch.randn(shape) if wide is None else wide
    sizes = {0: (16, D), 2: (8, 16), 4: (8, 8), 6: (4, 8), 7: (1, 4)}
    for place, (rows, columns) in sizes.items():
        tensors[f"mlp.layers.{place}.weight"] = torch.randn(rows, columns)
        tensors[f"mlp.layers.{place}.bias"] = torch.randn(rows)
    return tensors


def original(tensors, pixels, ids, mask):
    """The original's forward pass of one picture and prompt, layer by layer."""

    def lin(x, name):
        return F.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    def norm(x, name, eps):
        return F.layer_norm(
            x, x.shape[-1:], tensors[f"{name}.weight"], tensors[f"{name}.bias"], eps
        )

    def attend(q, k, v, bias=0.0):
        heads = [each.unflatten(-1, (-1, 64)).transpose(0, 1) for each in (q, k, v)]
        share = (heads[0] @ heads[1].transpose(1, 2) / 8 + bias).softmax(dim=-1)
        return (share @ heads[2]).transpose(0, 1).flatten(1)

    eye = "blip.visual_encoder"
    proj = f"{eye}.patch_embed.proj"
    x = F.conv2d(pixels[None], tensors[f"{proj}.weight"], tensors[f"{proj}.bias"], stride=PATCH)
    x = (
        torch.cat([tensors[f"{eye}.cls_token"][0], x[0].flatten(1).T])
        + tensors[f"{eye}.pos_embed"][0]
    )
    for i in range(LAYERS):
        at = f"{eye}.blocks.{i}"
        qkv = lin(norm(x, f"{at}.norm1", 1e-6), f"{at}.attn.qkv").chunk(3, dim=-1)
        x = x + lin(attend(*qkv), f"{at}.attn.proj")
        x = x + lin(F.gelu(lin(norm(x, f"{at}.norm2", 1e-6), f"{at}.mlp.fc1")), f"{at}.mlp.fc2")
    seen = norm(x, f"{eye}.norm", 1e-6)
    words = "blip.text_encoder"
    x = tensors[f"{words}.embeddings.word_embeddings.weight"][ids]
    x = x + tensors[f"{words}.embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x, f"{words}.embeddings.LayerNorm", 1e-12)
    hidden = torch.where(mask.bool(), 0.0, -10000.0)[None, None]
    for i in range(LAYERS):
        at = f"{words}.encoder.layer.{i}"
        for block, other, bias in (("attention", None, hidden), ("crossattention", seen, 0.0)):
            source = x if other is None else other
            q = lin(x, f"{at}.{block}.self.query")
            k, v = (lin(source, f"{at}.{block}.self.{n}") for n in ("key", "value"))
            out = lin(attend(q, k, v, bias), f"{at}.{block}.output.dense")
            x = norm(x + out, f"{at}.{block}.output.LayerNorm", 1e-12)
        wide = F.gelu(lin(x, f"{at}.intermediate.dense"))
        x = norm(x + lin(wide, f"{at}.output.dense"), f"{at}.output.LayerNorm", 1e-12)
    reward = x[0]
    for place in (0, 2, 4, 6, 7):
        reward = lin(reward, f"mlp.layers.{place}")
    return float((reward - 0.16717362830052426) / 1.0333394966054072)


@pytest.fixture(scope="module")
def reward(tmp_path_factory):
    """A folder with ImageReward.pt and a tokenizer, and its tensors."""
    from transformers import BertTokenizer

    folder = tmp_path_factory.mktemp("reward")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *tiny.WORDS]
    BertTokenizer(vocab={w: i for i, w in enumerate(vocabulary)}).save_pretrained(folder)
    tensors = blip()
    torch.save(tensors, folder / "ImageReward.pt")
    return folder, tensors


def test_image_reward_is_that_of_its_package(reward):
    folder, tensors = reward
    own = judge("image_reward", folder, sha256=checksum(folder / "ImageReward.pt"))
    words = own.tokenizer(PROMPTS, padding="max_length", max_length=35, return_tensors="pt")
    assert words.attention_mask.sum(dim=1).tolist() == [5, 8], "words are tokens of their own"
    pixels = own.prepare(IMAGES)
    expected = [
        original(tensors, *given)
        for given in zip(pixels, words.input_ids, words.attention_mask, strict=True)
    ]
    assert own(IMAGES, PROMPTS) == pytest.approx(expected, abs=1e-3)
    assert abs(expected[0] - expected[1]) > 1e-2


def test_a_folder_that_is_no_image_reward(reward, tmp_path):
    import shutil

    folder, tensors = reward
    of, keys = kind.find("image_reward"), {"kind": "image_reward", "sha256": "0" * 64}
    shutil.copy(folder / "ImageReward.pt", tmp_path)
    with pytest.raises(UserError, match="has no tokenizer"):
        of.check(kind.settings({**keys, "source": str(tmp_path)}))
    shutil.copytree(folder, tmp_path / "cut")
    less = {name: each for name, each in tensors.items() if "blocks.1.attn.proj" not in name}
    torch.save(less, tmp_path / "cut/ImageReward.pt")
    with pytest.raises(UserError, match="not the weights of ImageReward"):
        judge("image_reward", tmp_path / "cut", sha256=checksum(tmp_path / "cut/ImageReward.pt"))

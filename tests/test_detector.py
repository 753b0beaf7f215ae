"""GenEval's rules and the judge that follows them with a detector of transformers."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tiny
from vlg.errors import UserError
from vlg.judge import geneval, kind
from vlg.judge.geneval import Rules

places = st.integers(0, 40)
box = st.tuples(places, places, st.integers(1, 30), st.integers(1, 30)).map(
    lambda b: np.array([b[0], b[1], b[0] + b[2], b[1] + b[3]], float)
)


@settings(max_examples=150, deadline=None)
@given(box, box)
def test_relations_are_those_of_genevals_formula(one, other):
    """Written out a second time, a coordinate at a time."""
    expected = set()
    dx = (one[0] + one[2] - other[0] - other[2]) / 2
    dy = (one[1] + one[3] - other[1] - other[3]) / 2
    length = (dx * dx + dy * dy) ** 0.5
    rest = []
    for d, axis in ((dx, 0), (dy, 1)):
        sides = (one[axis + 2] - one[axis]) + (other[axis + 2] - other[axis])
        cut = max(abs(d) - 0.1 * sides, 0)
        rest.append(cut if d > 0 else -cut)
    if max(map(abs, rest)) >= 1e-3:
        named = (
            ("right of", rest[0]),
            ("left of", -rest[0]),
            ("below", rest[1]),
            ("above", -rest[1]),
        )
        expected = {name for name, part in named if part / length > 0.5}
    assert Rules().relations(one, other) == expected


def test_which_boxes_count():
    boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 8], [50, 50, 60, 60]], float)
    scores = np.array([0.5, 0.95, 0.3])
    assert [list(b) for b in Rules().kept(boxes, scores, "")] == [[0, 0, 9, 8], [0, 0, 9, 9]]
    assert len(Rules().kept(boxes, scores, "counting")) == 1
    assert len(Rules(overlap=0.9).kept(boxes, scores, "")) == 1, "their overlap is 0.9"
    assert len(Rules(most=1).kept(boxes, scores, "")) == 1
    assert geneval.iou(boxes[0], boxes[1]) == pytest.approx(0.9)


LEFT, RIGHT = np.array([0.0, 0, 10, 10]), np.array([50.0, 0, 60, 10])
DOG, CUP = {"class": "dog", "count": 1}, {"class": "cup", "count": 1}


@pytest.mark.parametrize(
    ("said", "found", "right"),
    [
        ({"include": [DOG]}, {"dog": [LEFT]}, True),
        ({"include": [DOG, CUP]}, {"dog": [LEFT]}, False),
        ({"include": [{**DOG, "count": 2}]}, {"dog": [LEFT]}, False),
        ({"include": [DOG], "exclude": [{**DOG, "count": 2}]}, {"dog": [LEFT, RIGHT]}, False),
        ({"include": [{**DOG, "color": "red"}]}, {"dog": [LEFT]}, True),
        ({"include": [{**DOG, "color": "red"}]}, {"dog": [RIGHT]}, False),
        ({"include": [CUP, {**DOG, "position": ["left of", 0]}]},
         {"dog": [LEFT], "cup": [RIGHT]}, True),
        ({"include": [CUP, {**DOG, "position": ["above", 0]}]},
         {"dog": [LEFT], "cup": [RIGHT]}, False),
        ({"include": [CUP, {**DOG, "position": ["left of", 0]}]}, {"dog": [LEFT]}, False),
    ],
)  # fmt: skip
def test_what_a_picture_must_show(said, found, right):
    def colours(boxes, name):
        return ["red" if each is LEFT else "blue" for each in boxes]

    assert Rules().shows(said, found, colours) is right


SAID = [
    {"tag": "two_object", "prompt": "a red circle", "include":
     [{"class": "circle", "count": 1}]},
    {"tag": "colors", "prompt": "a blue square", "include":
     [{"class": "square", "count": 1, "color": "blue"}]},
]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A random OWLv2, a random CLIP for colours, and metadata of two prompts."""
    import torch
    from transformers import (
        Owlv2Config,
        Owlv2ForObjectDetection,
        Owlv2ImageProcessor,
        Owlv2Processor,
    )

    root = tmp_path_factory.mktemp("detector")
    torch.manual_seed(0)
    tokens = tiny.tokenizer()
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
             "num_attention_heads": 2}  # fmt: skip
    text = small | {"vocab_size": len(tokens), "max_position_embeddings": tiny.LENGTH,
                    "eos_token_id": tokens.eos_token_id, "pad_token_id": 0,
                    "bos_token_id": tokens.bos_token_id}  # fmt: skip
    config = Owlv2Config(
        text_config=text, vision_config=small | {"image_size": 32, "patch_size": 8},
        projection_dim=16,
    )  # fmt: skip
    Owlv2ForObjectDetection(config).save_pretrained(root / "owl")
    pictures = Owlv2ImageProcessor(size={"height": 32, "width": 32})
    Owlv2Processor(pictures, tokens).save_pretrained(root / "owl")
    tiny.save_judge(root / "clip")
    (root / "said.jsonl").write_text("\n".join(map(json.dumps, SAID)))
    return root


def judge(root, **keys):
    entry = {"kind": "detector", "source": "owl", "metadata": "said.jsonl", "colours": "clip"}
    return kind.load(entry | keys, "cpu", root)


def test_a_detector_judges_by_its_own_boxes(root):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (48, 40, 3), dtype=np.uint8) for _ in range(2)]
    prompts = [each["prompt"] for each in SAID]
    own = judge(root, threshold=0.0)
    (boxes, scores), _ = own._detected(images, ["circle", "square"])
    assert boxes.shape == (16, 4) and (scores > 0).all()
    found = own.rules.kept(*own._detected(images[1:], ["square"])[0], "")
    colour = own._colours(images[1], found[:1], "square")
    assert own(images, prompts) == [100.0, 100.0 * (colour == ["blue"])]
    assert judge(root, threshold=float(scores.max()))(images[:1], prompts[:1]) == [0.0]
    with pytest.raises(UserError, match="says nothing of the prompt 'a cat'"):
        own(images[:1], ["a cat"])


@pytest.fixture(scope="module", params=["grounding-dino", "mm-grounding-dino"])
def dino(request, root):
    """Random weights of a Grounding DINO in `root`, by its model_type."""
    import torch
    from transformers import (
        BertConfig,
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        MMGroundingDinoConfig,
        MMGroundingDinoForObjectDetection,
        SwinConfig,
    )

    mm = request.param == "mm-grounding-dino"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *tiny.WORDS]
    tokens = BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    torch.manual_seed(3)
    config = (MMGroundingDinoConfig if mm else GroundingDinoConfig)(
        backbone_config=SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[1] * 4,
                                   num_heads=[1, 2, 2, 2], window_size=2, out_indices=[2, 3, 4]),
        text_config=BertConfig(vocab_size=len(words), hidden_size=16, num_hidden_layers=1,
                               num_attention_heads=2, intermediate_size=32,
                               max_position_embeddings=64),
        num_queries=12, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=32,
        decoder_ffn_dim=32, encoder_attention_heads=2, decoder_attention_heads=2, d_model=32,
        max_text_len=32,
    )  # fmt: skip
    of = MMGroundingDinoForObjectDetection if mm else GroundingDinoForObjectDetection
    model = of(config).eval()
    model.save_pretrained(root / request.param)
    pictures = GroundingDinoImageProcessor(size={"shortest_edge": 96, "longest_edge": 192})
    GroundingDinoProcessor(pictures, tokens).save_pretrained(root / request.param)
    return request.param, model


def test_grounding_dino_finds_what_transformers_finds_of_it(root, dino):
    """A picture and a thing at a time, where the judge takes pictures of two sizes at once."""
    import torch
    from transformers import AutoProcessor

    name, model = dino
    own, ready = judge(root, source=name), AutoProcessor.from_pretrained(root / name)
    rng = np.random.default_rng(0)
    sizes = ((48, 40, 3), (40, 60, 3), (48, 40, 3))
    images = [rng.integers(0, 255, size, dtype=np.uint8) for size in sizes]
    things = ["circle", "Square", "red square"]
    found = own._detected(images, things)
    for image, thing, (boxes, scores) in zip(images, things, found, strict=True):
        given = ready(images=[image], text=[[thing]], return_tensors="pt")
        with torch.no_grad():
            outputs = model(**given)
        rising = np.sort(scores)
        gap = int(np.diff(rising).argmax())
        middle = float(rising[gap : gap + 2].mean())
        (told,) = ready.post_process_grounded_object_detection(
            outputs, threshold=middle, target_sizes=[image.shape[:2]]
        )
        assert 0 < len(told["scores"]) < len(scores) == 12
        kept = scores > middle
        assert np.allclose(scores[kept], told["scores"].numpy(), atol=1e-4)
        assert np.allclose(boxes[kept], told["boxes"].numpy(), atol=1e-2)


@pytest.mark.parametrize(("precision", "far"), [("bf16", 0.1), ("fp16", 0.01)])
def test_confidences_of_16_bits_are_nearly_those_of_32(root, dino, precision, far):
    image = np.random.default_rng(0).integers(0, 255, (48, 40, 3), dtype=np.uint8)
    for source in ("owl", dino[0]):
        whole, less = (
            judge(root, source=source, precision=each)._detected([image], ["circle"])[0][1]
            for each in ("fp32", precision)
        )
        assert np.allclose(np.sort(whole), np.sort(less), atol=far), source
        assert not np.array_equal(np.sort(whole), np.sort(less))


def test_a_colour_is_the_nearest_averaged_text(root):
    """As GenEval's zero-shot classifier has it, with transformers' own calls."""
    import torch
    from torch.nn.functional import normalize
    from transformers import CLIPModel, CLIPProcessor

    own = judge(root)
    model, ready = (each.from_pretrained(root / "clip") for each in (CLIPModel, CLIPProcessor))
    rng = np.random.default_rng(2)
    image = rng.integers(0, 255, (48, 40, 3), dtype=np.uint8)
    boxes = [np.array([3.0, 5, 20, 30]), np.array([10.0, 10, 39, 47])]
    weights = []
    for colour in geneval.COLOURS:
        texts = [f"a photo of a {colour} square", f"a photo of a {colour}-colored square",
                 f"a photo of a {colour} object"]  # fmt: skip
        given = ready.tokenizer(
            texts, padding=True, truncation=True, max_length=12, return_tensors="pt"
        )
        with torch.no_grad():
            each = normalize(model.get_text_features(**given).pooler_output, dim=-1)
        weights.append(normalize(each.mean(dim=0), dim=0))
    crops = [image[5:30, 3:20], image[10:47, 10:39]]
    pixels = ready.image_processor(crops, return_tensors="pt").pixel_values
    with torch.no_grad():
        seen = normalize(model.get_image_features(pixels).pooler_output, dim=-1)
    best = (100 * seen @ torch.stack(weights).T).argmax(dim=1)
    assert own._colours(image, boxes, "square") == [geneval.COLOURS[i] for i in best]


def test_what_a_detector_lacks_is_told_before_any_job(root, tmp_path):
    of = kind.find("detector")

    def refused(match, **keys):
        entry = {"kind": "detector", "source": "owl", "metadata": "said.jsonl", **keys}
        with pytest.raises(UserError, match=match):
            of.check(kind.settings(entry), root)
            of.check_beside(kind.settings(entry), root)

    refused("names colours .*give the folder of a Hugging Face CLIP")
    refused("model_type is 'clip'", source="clip")
    refused("metadata: no file", metadata="none.jsonl")
    (root / "bad.jsonl").write_text('{"prompt": "a", "include": [{"class": "b"}]}')
    refused("line 1: not of GenEval's metadata", metadata="bad.jsonl")

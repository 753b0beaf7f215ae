"""Judges that ask a vision-language model: beside the original's loop, and whatever the batch."""

import json

import numpy as np
import pytest

from tests import vlms
from vlg.errors import UserError
from vlg.judge import kind
from vlg.models import vlm

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 255, (48, 48, 3), dtype=np.uint8) for _ in range(3)]
PROMPTS = ["a red circle", "a blue square left of the green circle", "a"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A function: the folder of a random model of a kind, made once."""
    made = {}

    def folder(name):
        if name not in made:
            made[name] = vlms.save(tmp_path_factory.mktemp("vlm") / name, name)
        return made[name]

    return folder


def judge(source, name="vqa", **keys):
    return kind.load({"kind": name, "source": str(source), **keys}, "cpu")


def generated(reader, image, question):
    """The softmax over the first token that `generate` would draw from, as the original has it."""
    from PIL import Image

    given = reader.processor(
        text=[reader.asked(question)], images=[[Image.fromarray(image)]], return_tensors="pt"
    )
    given.pop("labels", None)
    out = reader.model.generate(
        **given, max_new_tokens=1, do_sample=False, output_scores=True, return_dict_in_generate=True
    )
    return out.scores[0][0].softmax(dim=-1)


@pytest.mark.parametrize("name", vlms.KINDS)
def test_a_score_is_the_probability_that_generation_gives_yes(folder, name):
    own = judge(folder(name))
    words = ("Yes", " Yes", "yes", " yes")
    ids = [own.reader.processor.tokenizer.encode(word, add_special_tokens=False) for word in words]
    yes = {each[0] for each in ids if len(each) == 1}
    expected = []
    for image, prompt in zip(IMAGES, PROMPTS, strict=True):
        asked = f'Does this figure show "{prompt}"? Please answer yes or no.'
        expected.append(100 * float(generated(own.reader, image, asked)[sorted(yes)].sum()))
    found = own(IMAGES, PROMPTS)
    assert found == pytest.approx(expected, abs=1e-3) and np.ptp(found) > 1e-3
    alone = [own([i], [p])[0] for i, p in zip(IMAGES, PROMPTS, strict=True)]
    assert found == pytest.approx(alone, abs=1e-4)
    assert found == own(IMAGES, PROMPTS)


def test_yes_among_yes_and_no_and_another_template(folder):
    usual, other = judge(folder("idefics3")), judge(folder("idefics3"), among="yes_no")
    logits = other.reader.logits(
        IMAGES[:1], ['Does this figure show "a"? Please answer yes or no.']
    )
    yes, no = (logits[0, each].exp().sum() for each in (other.yes, other.no))
    assert other(IMAGES[:1], ["a"]) == pytest.approx([100 * float(yes / (yes + no))], abs=1e-3)
    asked = judge(folder("idefics3"), template="Is there {prompt}?")
    assert asked(IMAGES, PROMPTS) != usual(IMAGES, PROMPTS)
    with pytest.raises(UserError, match=r"template: does not name \{prompt\}"):
        kind.settings({"kind": "vqa", "source": "a", "template": "Is it?"})


def test_an_answer_without_a_token_of_its_own_is_refused(folder):
    reader = vlm.Reader(folder("idefics3"), "cpu")
    said = {reader.processor.tokenizer.decode([each]) for each in reader.tokens("two")}
    assert "2" in said and said <= {"two", " two", "Two", " Two", "2", " 2"}
    with pytest.raises(UserError, match="no single token for the answer 'traffic light'"):
        reader.tokens("traffic light")


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", {"image_token_id": None}, "has no token for a picture"),
        ("config.json", {"is_encoder_decoder": True}, "an encoder with a decoder"),
        ("preprocessor_config.json", None, "has no processor"),
        ("tokenizer.json", None, "has no tokenizer"),
    ],
)
def test_what_cannot_answer_is_refused_before_any_job(tmp_path, file, change, message):
    given = {"config.json": {"image_token_id": 3}, "preprocessor_config.json": {}}
    given |= {"tokenizer.json": {}, "model.safetensors": {}}
    for name, content in given.items():
        (tmp_path / name).write_text(json.dumps(content))
    of = kind.find("vqa")
    settings = kind.settings({"kind": "vqa", "source": str(tmp_path)})
    of.check(settings)
    (tmp_path / file).unlink()
    if change is not None:
        (tmp_path / file).write_text(json.dumps(given[file] | change))
    with pytest.raises(UserError, match=message):
        of.check(settings)


def test_a_processor_that_shows_no_picture_is_refused(folder, tmp_path):
    import shutil

    shutil.copytree(folder("idefics3"), tmp_path / "blind")
    (tmp_path / "blind/chat_template.jinja").write_text("{{ messages[0]['content'][1]['text'] }}")
    with pytest.raises(UserError, match="does not take a picture|becomes no token"):
        vlm.Reader(tmp_path / "blind", "cpu")

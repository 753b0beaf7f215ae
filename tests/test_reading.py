"""The model of the shapes world that answers questions, and what it is taught."""

import random

import numpy as np
import pytest
import torch

from vlg.judge import kind
from vlg.judge.questions import of_shapes
from vlg.models.vlm import Reader
from vlg.shapes import asked, captions, pretrain, reader, verify, world

SHIPPED = kind.RESOURCES / "shapes-vqa"
RNG = random.Random(4)
SCENES = reader.scenes(RNG, 300)


def test_what_is_said_of_a_scene_is_true_of_it_and_one_wrong_detail_is_not():
    for scene in SCENES:
        said = captions.meaning(scene)
        assert {asked.truth(each.text, scene) for each in of_shapes(said)} == {True}, scene
        wrong = captions.wrong(said, RNG)
        false = [asked.truth(each.text, scene) for each in of_shapes(wrong)]
        # A single thing's number is not asked about.
        one = [claim.number for claim in wrong.claims] == [1] != [said.claims[0].number]
        assert one or False in false or None in false, scene


def test_of_things_that_differ_nothing_is_claimed():
    red, blue = (world.Thing("circle", colour, "small", x, 10) for colour, x in
                 (("red", 8), ("blue", 24)))  # fmt: skip
    scene = world.Scene("pair", "white", (red, blue), "left of")
    assert asked.truth("Is the circle red?", scene) is None
    assert asked.truth("Is the red circle small?", scene) is True
    assert asked.truth("Are there two circles?", scene) is True
    assert asked.truth("Are there two red circles?", scene) is False
    assert asked.truth("Is the red circle left of the blue circle?", scene) is True
    assert asked.truth("Is the red circle right of the blue circle?", scene) is False
    assert asked.truth("Is the square red?", scene) is False


def test_statements_are_answered_as_the_verifier_would():
    # Of two things of which the same is said, either may be the first.
    alike = (
        world.Thing("cross", colour, "small", 16, y) for colour, y in (("red", 8), ("blue", 24))
    )
    twins = world.Scene("pair", "white", tuple(alike), "above")
    for scene in [*SCENES, *[twins] * 300]:
        text, answer, _ = asked.ask(scene, RNG, "statements")
        begin, end = asked.STATEMENT.split("{prompt}")
        said = captions.parse(text.removeprefix(begin).removesuffix(end))
        strict = verify.check(world.render(scene), said)["strict"]
        assert answer == (asked.YES if strict else asked.NO), text


@pytest.mark.parametrize("name", asked.KINDS)
def test_every_question_and_answer_is_made_of_whole_words(name):
    words = reader.tokenizer()
    answers = set()
    for scene in SCENES:
        text, answer, _ = asked.ask(scene, RNG, name)
        assert words.unk_token_id not in words.encode(text), text
        assert len(words.encode(answer)) == 1 and answer in asked.ANSWERS
        answers.add(answer)
    assert len(answers) == 2 if name != "open" else len(answers) > 15


def test_what_is_false_is_so_from_a_word_on():
    asks = [asked.Asked("Is the circle red?", "yes"), asked.Asked("Is it blue?", "no", 6),
            asked.Asked("What shape is red?", "cross")]  # fmt: skip
    known, true = reader.truths(asks, 6)
    assert known.tolist() == [[True] * 5 + [False], [True] * 4 + [False] * 2, [False] * 6]
    assert true[1].tolist() == [1, 1, 0, 0, 1, 1] and true[0].all()
    for scene in SCENES:
        text, answer, place = asked.ask(scene, RNG, "statements")
        assert (place is None) == (answer == asked.YES)
        assert place is None or 0 < place < len(text)


def test_a_patch_shows_the_thing_that_covers_it():
    scene = world.Scene("single", "pink", (world.Thing("square", "blue", "large", 16, 16),))
    told = reader.patches(scene).reshape(8, 8, 5)
    assert (told[..., 3] == 3).all() and not told[0].any(axis=0)[:3].any()
    shape, colour, size = 2, 3, 2
    assert told[4, 4].tolist() == [shape, colour, size, 3, 1] and told[..., 4].sum() == 1
    # A token is of four patches that are a square.
    tokens = reader.tokens(scene).reshape(4, 4, 2, 2, 5)
    for row, column in np.ndindex(8, 8):
        own = tokens[row // 2, column // 2, row % 2, column % 2]
        assert (own == told[row, column]).all()


def test_it_is_trained_on_what_judges_show_it(tmp_path):
    """The same picture and question give the same answer in training and as a judge."""
    torch.manual_seed(0)
    own, reads = reader.model().eval(), reader.processor()
    own.save_pretrained(tmp_path)
    reads.save_pretrained(tmp_path)
    images = [world.render(scene) for scene in SCENES[:3]]
    asks = [asked.ask(scene, RNG)[0] for scene in SCENES[:3] for _ in range(2)]
    with torch.no_grad():
        _, states, ends = reader.read(own, reader.see(own, pretrain.tensor(images)), asks)
        trained = own.lm_head(states[torch.arange(len(asks)), ends])
    judged = Reader(tmp_path, "cpu").logits([image for image in images for _ in range(2)], asks)
    assert torch.allclose(trained, judged, atol=1e-4)
    assert not torch.allclose(judged[0], judged[1], atol=1e-2)


@pytest.mark.parametrize("name", ["vqa", "questions"])
def test_the_shipped_one_reads(name):
    judge = kind.load({"kind": name, "source": "shapes"}, "cpu")
    assert kind.find(name).files(judge.settings)[0].parent == SHIPPED
    images = [world.render(scene) for scene in SCENES[:60]]
    said = [captions.meaning(scene) for scene in SCENES[:60]]
    true = np.array(judge(images, [captions.sentence(each) for each in said]))
    false = np.array(judge(images, [captions.sentence(captions.wrong(each, RNG)) for each in said]))
    assert true.mean() > false.mean() + 10 and (true > false).mean() > 0.8

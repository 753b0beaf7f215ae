"""What captions say, as classes: by place, and from either side of a relation the same."""

import random

import torch

from vlg.shapes import captions, slots
from vlg.shapes.captions import parse
from vlg.shapes.world import SEEN


def test_things_have_their_place_however_the_relation_is_told():
    said = "a small red circle left of a square on a gray background"
    turned = "a square right of a small red circle on a gray background"
    assert slots.classes(parse(said)) == slots.classes(parse(turned))
    other = slots.classes(parse("a small red circle right of a square on a gray background"))
    assert other != slots.classes(parse(said))
    told = dict(zip(slots.PLACES, zip(*[iter(other[:15])] * 3, strict=True), strict=True))
    assert told["left"] == (1, slots.UNTOLD, slots.UNTOLD)  # a square, of no told colour or size
    assert told["right"] == (0, 0, 0) and set(told["only"]) == {slots.UNTOLD}


def test_what_is_wrong_in_one_detail_differs_in_a_class():
    rng = random.Random(0)
    for _ in range(200):
        said = captions.meaning(captions.shown(rng, SEEN))
        for detail in captions.details(said):
            assert slots.classes(captions.wrong(said, rng, detail)) != slots.classes(said), detail


def test_of_two_things_without_a_relation_it_is_known_which_is_red():
    said = parse("a small red circle and a square")
    told = dict(zip(slots.SHAPES, zip(*[iter(slots.bound(said))] * 2, strict=True), strict=True))
    assert told["circle"] == (0, 0) and set(told["square"] + told["cross"]) == {slots.UNTOLD}
    rng, swapped = random.Random(0), 0
    for _ in range(200):
        said = captions.meaning(captions.shown(rng, SEEN))
        if "swap" in captions.details(said):
            swapped += 1
            assert slots.bound(captions.wrong(said, rng, "swap")) != slots.bound(said)
    assert swapped > 20
    alike = parse("a red circle and a blue circle")  # which circle is asked of, no word tells
    assert set(slots.bound(alike)) == {slots.UNTOLD}


def test_heads_learn_from_vectors_that_hold_the_answer_and_ignore_what_is_untold():
    torch.manual_seed(0)
    said = [parse("a red circle"), parse("two boxes"), parse("a cross above a disc on pink")]
    vectors, heads = torch.eye(3), slots.Heads(3)
    optimizer = torch.optim.Adam(heads.parameters(), lr=0.1)
    for _ in range(200):
        loss = heads.loss(vectors, said)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    blank = parse("a drawing of a circle")
    before = heads.loss(vectors[:1], [blank])
    with torch.no_grad():  # a head that nobody is asked for
        heads.linear.bias[-1] += 5
    assert heads.loss(vectors[:1], [blank]) == before

"""Sentences mean what they say: worded, read back, made wrong in one detail, made into prompts."""

import random
import sys
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[1] / "bench"))

import overlap  # noqa: E402

from vlg.errors import UserError  # noqa: E402
from vlg.judge.kinds import vqa  # noqa: E402
from vlg.shapes import asked, captions, pretrain, verify, world  # noqa: E402
from vlg.shapes.captions import (  # noqa: E402
    Claim,
    Meaning,
    Told,
    meaning,
    parse,
    sentence,
    wrong,
)
from vlg.shapes.world import PAIRS  # noqa: E402

EVERYTHING = sum(PAIRS.values(), ())
seeds = st.integers(0, 2**32)
told = st.builds(Told, *[st.booleans()] * len(fields(Told)))


def a_scene(seed, kind=""):
    return world.sample(random.Random(seed), EVERYTHING, kind)


@settings(max_examples=150, deadline=None)
@given(seed=seeds, told=told, wording=seeds)
def test_any_wording_is_read_back(seed, told, wording):
    said = meaning(a_scene(seed), told)
    assert parse(sentence(said)) == said
    read = parse(sentence(said, random.Random(wording)))
    # With a relation, half of the wordings begin with the second thing.
    assert read == said or (said.relation and read in captions.same(said))


def test_synonyms_order_and_lead_are_drawn():
    said = parse("a large red cross left of two small blue boxes on a gray background")
    assert said == Meaning(
        (Claim("cross", "red", "large"), Claim("square", "blue", "small", 2)), "left of", "gray"
    )
    rng = random.Random(0)
    wordings = {sentence(said, rng) for _ in range(2000)}
    text = " | ".join(wordings)
    for form in ("big red plus", "little blue squares", "to the right of", "a drawing of two"):
        assert form in text
    assert any(each.endswith("on gray") for each in wordings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("an orange disc", Meaning((Claim("circle", "orange"),))),
        ("three pluses", Meaning((Claim("cross", number=3),))),
        ("A  Picture of one\nBOX ", Meaning((Claim("square"),))),
        ("a cross and a little cross on pink",
         Meaning((Claim("cross"), Claim("cross", size="small")), None, "pink")),
        ("a triangle under a box", Meaning((Claim("triangle"), Claim("square")), "below")),
    ],
)  # fmt: skip
def test_meanings_by_hand(text, said):
    assert parse(text) == said


@pytest.mark.parametrize(
    "text",
    ["", " ", "bond", "a", "small", "a red", "left of", "a circle left of", "and", "a circle and",
     "a circle and a square and a cross", "a mauve circle", "four circles", "a red circle on mauve",
     "a photo of a red circle", "a circle, a square", "red", "a left", "a circle left of above"],
)  # fmt: skip
def test_other_text_has_no_meaning(text):
    assert parse(text) is None


@settings(max_examples=150, deadline=None)
@given(
    text=st.one_of(
        st.text(max_size=60),
        st.lists(
            st.sampled_from([*" ".join(sum(captions.WORDS.values(), ())).split(), "a", "and", "on",
                             "two", "red", "white", "background", "a picture of"]),
            max_size=12,
        ).map(" ".join),
    )
)  # fmt: skip
@example("on white")
@example("a drawing of a picture of")
@example("İ \u2028 circle")
def test_reading_never_fails_and_what_is_read_can_be_said(text):
    said = parse(text)
    assert said is None or parse(sentence(said)) == said


@settings(max_examples=150, deadline=None)
@given(seed=seeds, told=told, draw=seeds)
def test_a_wrong_meaning_differs_in_one_detail_and_is_false(seed, told, draw):
    scene = a_scene(seed)
    # One of two things is never left out where negatives are made: "two circles" may be true then.
    said = meaning(scene, replace(told, second=True))
    # "a circle left of a circle" turned round is as true: only things told apart can be swapped.
    assume(len(set(said.claims)) == len(said.claims))
    false = wrong(said, random.Random(draw))
    changed = [
        (name, *values)
        for name in ("relation", "background")
        if (values := (getattr(said, name), getattr(false, name)))[0] != values[1]
    ]
    for index, (before, after) in enumerate(zip(said.claims, false.claims, strict=True)):
        for field in fields(Claim):
            values = getattr(before, field.name), getattr(after, field.name)
            if values[0] != values[1]:
                changed.append((f"{field.name} {index}", *values))
    if len(changed) == 2:  # the colours of two things exchanged
        (first, a, b), (second, c, d) = changed
        assert (first, second) == ("colour 0", "colour 1") and (a, b) == (d, c)
    else:
        assert len(changed) == 1
    assert all(None not in values for _, *values in changed)  # only what was told
    assert verify.check(world.render(scene), false)["strict"] == 0


def test_every_detail_is_made_wrong_now_and_then():
    rng = random.Random(0)
    said = meaning(a_scene(1, "pair"))
    assert said.claims[0].colour != said.claims[1].colour
    kinds = Counter(
        tuple(a != b for a, b in zip(
            (said.relation, said.background, *vars(said.claims[0]).values(),
             *vars(said.claims[1]).values()),
            (false.relation, false.background, *vars(false.claims[0]).values(),
             *vars(false.claims[1]).values()),
            strict=True,
        ))
        for false in (wrong(said, rng) for _ in range(500))
    )  # fmt: skip
    # shape, colour and size of either thing, background, relation; and the swap of colours
    assert len(kinds) >= 8 and min(kinds.values()) >= 10


def test_weak_captions_leave_out_as_much_as_they_say():
    rng = random.Random(0)
    counts = Counter()
    for seed in range(4000):
        scene = a_scene(seed, "pair")
        other = world.Scene("count", "pink", (world.Thing("circle", "red", "small", 9, 9),) * 3)
        text = captions.weak_caption(scene, other, rng)
        if not text:
            counts["empty"] += 1
            continue
        said = parse(text)
        if said.claims[0].number == 3:
            counts["mismatched"] += 1
            continue
        counts["own"] += 1
        counts["second"] += len(said.claims) == 2
        counts["relation"] += said.relation is not None and len(said.claims) == 2
        counts["colour"] += said.claims[0].colour is not None
        counts["size"] += said.claims[0].size is not None
        counts["background"] += said.background is not None
    own, pairs = counts["own"], counts["second"]
    # Standard errors are below 0.01.
    assert counts["empty"] / 4000 == pytest.approx(0.1, abs=0.03)
    assert counts["mismatched"] / 4000 == pytest.approx(0.1, abs=0.03)
    assert pairs / own == pytest.approx(0.85, abs=0.03)
    assert counts["relation"] / pairs == pytest.approx(0.7, abs=0.04)
    for part in ("colour", "size", "background"):
        assert counts[part] / own == pytest.approx(0.7, abs=0.04), part


@pytest.fixture(scope="module")
def prompts():
    return captions.prompts(400, 0)


def test_prompts_are_distinct_readable_and_in_parti_prompts_columns(prompts):
    assert len({row["Prompt"] for row in prompts}) == len(prompts) == 400
    for row in prompts:
        assert list(row) == ["Prompt", "Category", "Challenge", "Note", "split"]
        said = parse(row["Prompt"])
        category = "Count" if said.claims[0].number > 1 else "Single"
        assert row["Category"] == ("Pair" if len(said.claims) == 2 else category)
    assert captions.prompts(100, 0) == prompts[:100]  # a longer list only adds
    assert captions.prompts(20, 1) != prompts[:20]


def test_splits_name_the_pairs_they_are_about(prompts):
    assert Counter(row["split"] for row in prompts) == {"in": 200, "adapt": 100, "never": 100}
    for row in prompts:
        pairs = {(claim.shape, claim.colour) for claim in parse(row["Prompt"]).claims}
        named = {pair for pair in pairs if pair[1]}
        if row["split"] == "in":
            assert named <= set(PAIRS["in"])
        else:
            assert named == pairs <= set(PAIRS["in"] + PAIRS[row["split"]])
            assert pairs & set(PAIRS[row["split"]])


def test_challenges_say_what_is_hardest(prompts):
    for row in prompts:
        text, said = row["Prompt"], parse(row["Prompt"])
        if row["split"] != "in":
            wanted = {"adapt": "Unseen pair", "never": "Never seen"}[row["split"]]
        elif said.relation:
            wanted = "Relation"
        elif text.startswith(("two ", "three ")):
            wanted = "Quantity"
        elif any(word in text.split() for word in ("small", "large")):
            wanted = "Size"
        else:
            wanted = "Colour" if any(claim.colour for claim in said.claims) else "Basic"
        assert row["Challenge"] == wanted, text
    assert {row["Challenge"] for row in prompts} == {
        "Basic", "Colour", "Size", "Relation", "Quantity", "Unseen pair", "Never seen"
    }  # fmt: skip


@pytest.mark.parametrize("told", ["full", "weak", "half", "asked"])
def test_no_training_caption_says_what_a_prompt_says(told):
    """In whatever words, and from whichever side a relation is told."""
    rng, meant = random.Random(0), set()
    for row in captions.prompts(1000, 0):
        said = parse(row["Prompt"])
        assert all(map(captions.reserved, captions.same(said)))
        meant |= captions.same(said)
    texts = []
    for _ in range(1500):
        scene = captions.shown(rng, pretrain.EVERYTHING)
        if told == "full":
            texts.append(captions.caption(scene, rng))
        elif told == "weak":
            texts.append(captions.weak_caption(scene, world.sample(rng, world.SEEN), rng))
        elif told == "half":
            texts.append(captions.sentence(pretrain.captioned(rng)[1], rng))
        else:
            question = asked.ask(scene, rng, "statements")
            if question.answer == asked.YES:
                before, after = asked.STATEMENT.split(vqa.PLACE)
                texts.append(question.question.removeprefix(before).removesuffix(after))
    assert len(texts) > 500
    assert not meant & {parse(text) for text in texts if text}


def test_wrong_meanings_are_false_of_every_scene_they_are_of():
    """A relation turned round between two things of which the same is said would stay true."""
    rng = random.Random(1)
    for _ in range(1500):
        scene = world.sample(rng, pretrain.EVERYTHING)
        told = captions.Told(*(rng.random() < 0.5 for _ in range(4)))
        said = captions.meaning(scene, told)
        for detail in captions.details(said):
            false = captions.wrong(said, rng, detail)
            assert false not in captions.same(said)
            assert verify.check(world.render(scene), false)["strict"] == 0, (said, false)


def test_development_prompts_are_not_reported():
    from vlg.shapes.quality import development_prompts

    rows = development_prompts(400)
    rows += captions.prompts(400, 0, development=True)
    reported = [parse(row["Prompt"]) for row in captions.prompts(1000, 0)]
    meant = {*reported, *(each for said in reported for each in captions.same(said))}
    assert not meant & {parse(row["Prompt"]) for row in rows}
    assert all(captions.reserved(parse(row["Prompt"])) for row in rows)


@settings(max_examples=150, deadline=None)
@given(seed=seeds, more=told, less=told)
def test_a_meaning_entails_what_says_less_of_the_same(seed, more, less):
    scene = a_scene(seed)
    more, less = (replace(each, second=True) for each in (more, less))
    full, part = meaning(scene, more), meaning(scene, less)
    says_less = all(getattr(more, f.name) or not getattr(less, f.name) for f in fields(Told))
    if says_less:
        assert all(overlap.entails(each, part) for each in captions.same(full))
    if overlap.entails(full, part):
        picture = world.render(scene)
        assert verify.check(picture, part)["strict"] == 1
    for detail in captions.details(full):
        assert not overlap.entails(full, wrong(full, random.Random(seed), detail))


def test_where_prompts_run_out_it_is_told(monkeypatch):
    monkeypatch.setattr(captions, "MOST_AGAIN", 200)
    with pytest.raises(
        UserError,
        match="development.count: .* no 4000 different development prompts, .* ask for fewer",
    ):
        captions.prompts(4000, 0, development=True)


def test_what_training_says_of_prompts_is_counted():
    """Alike in words, in meaning, whichever end it is told from, and by what says more."""
    prompts = ["a red circle", "a blue square left of a green cross", "two circles"]
    told = overlap.row("some", prompts, {"one red disc", "a large red circle on pink"})
    assert told == "| some, 2 different | 0 | 1 | 1 |"
    told = overlap.row("some", prompts, {"a green plus right of a blue box", "two circles", "junk"})
    assert told == "| some, 3 different | 1 | 2 | 2 |"
    told = overlap.row("some", prompts, {"a disc and a circle", "a red circle over a small circle"})
    assert told == "| some, 2 different | 0 | 1 | 1 |"
    assert overlap.row("some", prompts, {"a circle"}) == "| some, 1 different | 0 | 0 | 0 |"

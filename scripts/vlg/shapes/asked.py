"""Questions about a drawn scene, with their answers: what a model that reads is trained on.

Statements are asked about as the judge kind `vqa` asks, facts as the kind `questions` does.
"""

from __future__ import annotations

import os
import random
import re
from dataclasses import replace
from typing import NamedTuple

from vlg.judge.kinds import questions as facts
from vlg.judge.kinds import vqa
from vlg.judge.questions import NUMBERS, of_shapes
from vlg.shapes import captions
from vlg.shapes.world import BACKGROUNDS, COLOURS, SHAPES, SIZES, Scene, Thing, holds

YES, NO = "yes", "no"
ANSWERS = (YES, NO, *COLOURS, *BACKGROUNDS, *SHAPES, *SIZES, *NUMBERS[1:4])
STATEMENT = vqa.Settings.model_fields["template"].default
QUESTION = facts.Settings.model_fields["template"].default

_NAMES = {captions.plural(shape): shape for shape in SHAPES} | {shape: shape for shape in SHAPES}
_NOUN = rf"(?:(\w+) )?({'|'.join(_NAMES)})"
_EXISTS = re.compile(rf"(?:Is there an?|Are there(?: (two|three))?) {_NOUN}\?")
_HAS = re.compile(rf"(?:Is|Are) the {_NOUN} ({'|'.join([*COLOURS, *SIZES])})\?")
_STANDS = re.compile(rf"(?:Is|Are) the {_NOUN} ({'|'.join(captions.INVERSE)}) the {_NOUN}\?")
_GROUND = re.compile(r"Is the background (\w+)\?")


def truth(question: str, scene: Scene) -> bool | None:
    """The answer to one of `of_shapes`; None where things that it means differ in it."""

    def meant(own: str | None, noun: str) -> list[Thing]:
        return [
            thing
            for thing in scene.things
            if thing.shape == _NAMES[noun] and own in (None, thing.colour, thing.size)
        ]

    def agreed(values: list[bool]) -> bool | None:
        return any(values) if len(set(values)) < 2 else None

    if match := _EXISTS.fullmatch(question):
        number, *name = match.groups()
        return len(meant(*name)) == NUMBERS.index(number) if number else bool(meant(*name))
    if match := _HAS.fullmatch(question):
        *name, word = match.groups()
        return agreed([word in (thing.colour, thing.size) for thing in meant(*name)])
    if match := _STANDS.fullmatch(question):
        own, noun, relation, *other = match.groups()
        return agreed(
            [
                holds(relation, a.x - b.x, a.y - b.y)
                for a in meant(own, noun)
                for b in meant(*other)
                if a is not b
            ]
        )
    if match := _GROUND.fullmatch(question):
        return match[1] == scene.background
    raise ValueError(question)


class Asked(NamedTuple):
    """A question as it is put to the model, and its answer, a word of ANSWERS.

    false_from: of a statement or fact that is false, how many letters of it could be of a true one.
    """

    question: str
    answer: str
    false_from: int | None = None


def ask(scene: Scene, rng: random.Random, kind: str = "") -> Asked:
    """A question about a scene.

    kind: a key of KINDS; without, two in five are statements, two facts and one is open.
    """
    kind = kind or rng.choices(list(KINDS), (0.4, 0.4, 0.2))[0]
    said = captions.meaning(scene)
    if rng.random() < 0.5 or captions.reserved(said):
        for _ in range(100):
            told = captions.Told(*(rng.random() >= 0.4 for _ in range(4)))
            if not captions.reserved(said := captions.meaning(scene, told)):
                break
    return KINDS[kind](scene, said, rng)


def stated(text: str) -> str:
    """The question whether a sentence is true of a picture."""
    return STATEMENT.replace(vqa.PLACE, text)


def _statement(scene: Scene, said: captions.Meaning, rng: random.Random) -> Asked:
    """Wrong is one with one wrong detail, and one that is silent about the second thing: what is
    there must be all that was asked for, as the verifier has it."""
    if rng.random() < 0.5:
        return Asked(stated(captions.sentence(said, rng)), YES)
    if len(said.claims) == 2 and rng.random() < 0.15:
        false = replace(said, claims=(rng.choice(said.claims),), relation=None)
    else:
        false = captions.wrong(said, rng)
    state = rng.getstate()
    true = stated(captions.sentence(said, rng))
    rng.setstate(state)  # the same choice of words
    text = stated(captions.sentence(false, rng))
    return Asked(text, NO, len(os.path.commonprefix([true, text])))


def _fact(scene: Scene, said: captions.Meaning, rng: random.Random) -> Asked:
    """One of the questions about what is said, or about something nearly so: as often true as
    not."""
    wanted = rng.random() < 0.5
    while True:
        asked = of_shapes(said if wanted else captions.wrong(said, rng))
        known = [(each.text, truth(each.text, scene)) for each in asked]
        fitting = [text for text, value in known if value is wanted]
        if fitting:
            text = rng.choice(fitting)
            question = QUESTION.replace(facts.PLACE, text)
            return Asked(question, YES) if wanted else Asked(question, NO, len(text) - 1)


def _open(scene: Scene, said: captions.Meaning, rng: random.Random) -> Asked:
    """A question whose answer is a colour, a shape, a size or a number."""
    thing = rng.choice(scene.things)
    name = captions.plural(thing.shape) if scene.kind == "count" else thing.shape
    verb = "are" if scene.kind == "count" else "is"
    same = {(each.shape, each.colour, each.size) for each in scene.things}
    made = [("What colour is the background?", scene.background)]
    number = sum(each.shape == thing.shape for each in scene.things)
    made += [(f"How many {captions.plural(thing.shape)} are there?", NUMBERS[number])]
    if len({shape for shape, _, _ in same}) == len(same):
        made += [(f"What colour {verb} the {name}?", thing.colour)]
        made += [(f"What size {verb} the {name}?", thing.size)]
    if len({colour for _, colour, _ in same}) == len(same):
        made += [(f"What shape is {thing.colour}?", thing.shape)]
    text, answer = rng.choice(made)
    return Asked(QUESTION.replace(facts.PLACE, text), answer)


KINDS = {"statements": _statement, "facts": _fact, "open": _open}


def texts() -> str:
    """All words in which the model is asked."""
    names = [form for forms in captions.WORDS.values() for form in forms]
    names += [captions.plural(form) for shape in SHAPES for form in captions.WORDS[shape]]
    lead = "a an one two three and on background What How many colour shape size is are there the"
    words = [*names, *COLOURS, *BACKGROUNDS, *(each.strip() for each in captions.LEADS), *ANSWERS]
    return " ".join([STATEMENT, QUESTION, lead, "Is Are Yes No", *words])

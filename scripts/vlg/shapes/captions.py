"""The language of the shapes world: what captions and prompts say, and what they mean.

`caption` words a scene, `parse` reads any such sentence back into the claims it makes. Training
captions and prompts share this grammar, so a prompt's truth can be checked against a picture.
"""

from __future__ import annotations

import functools
import hashlib
import random
import re
from dataclasses import dataclass, replace

from vlg.errors import UserError
from vlg.shapes.world import BACKGROUNDS, COLOURS, INVERSE, PAIRS, SHAPES, SIZES, Scene, sample

WORDS = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "cross": ("cross", "plus"),
    "small": ("small", "little"),
    "large": ("large", "big"),
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
RESERVED = 4  # of so many meanings one is of prompts,
DEVELOPMENT = 5  # and of so many of these one of development prompts
LEADS = ("", "", "a picture of ", "a drawing of ")
NUMBERS = {1: ("a", "one"), 2: ("two",), 3: ("three",)}
_PLURAL = {"box": "boxes", "cross": "crosses", "plus": "pluses"}


def plural(word: str) -> str:
    return _PLURAL.get(word, word + "s")


@dataclass(frozen=True)
class Claim:
    """What a sentence says of one kind of thing; None where it says nothing."""

    shape: str
    colour: str | None = None
    size: str | None = None
    number: int = 1


@dataclass(frozen=True)
class Meaning:
    """What a sentence claims: one or two kinds of things, their relation, the background."""

    claims: tuple[Claim, ...]
    relation: str | None = None
    background: str | None = None


@dataclass(frozen=True)
class Told:
    """Which attributes a caption mentions."""

    colour: bool = True
    size: bool = True
    relation: bool = True
    background: bool = True
    second: bool = True


FULL = Told()


def meaning(scene: Scene, told: Told = FULL) -> Meaning:
    """The claims of a scene that a caption with `told` makes."""
    kinds = scene.things if scene.kind == "pair" else scene.things[:1]
    claims = tuple(
        Claim(
            thing.shape,
            thing.colour if told.colour else None,
            thing.size if told.size else None,
            len(scene.things) if scene.kind == "count" else 1,
        )
        for thing in kinds
    )
    if scene.kind == "pair" and not told.second:
        claims = claims[:1]
    return Meaning(
        claims,
        scene.relation if told.relation and len(claims) == 2 else None,
        scene.background if told.background else None,
    )


def same(said: Meaning) -> set[Meaning]:
    """The meanings that say the same: from whichever side, and of two alike also one by one.

    >>> Meaning((Claim("circle", None, None),) * 2, None, None) in same(parse("two circles"))
    True
    """
    turned = said.relation and INVERSE[said.relation]
    found = {said, replace(said, claims=said.claims[::-1], relation=turned)}
    first = said.claims[0]
    if len(said.claims) == 1 and first.number == 2:
        found.add(replace(said, claims=(replace(first, number=1),) * 2))
    elif said.claims == (first, first) and first.number == 1 and not said.relation:
        found.add(replace(said, claims=(replace(first, number=2),)))
    return found


def reserved(said: Meaning) -> bool:
    """Whether a meaning belongs to prompts: no training caption has it, in whatever words.

    One meaning in RESERVED is. Of two alike, which can be said as one claim and as two, each is a
    meaning of its own here, and a reported prompt wants both (`prompt`).
    """
    return _digest(said)[0] % RESERVED == 0


def developing(said: Meaning) -> bool:
    """Whether a meaning that belongs to prompts belongs to development ones, and to no reported
    one: one in DEVELOPMENT does."""
    return _digest(said)[1] % DEVELOPMENT == 0


@functools.lru_cache(maxsize=2**16)
def _digest(said: Meaning) -> bytes:
    """A hash of a meaning; two things in a relation mean the same from either side."""
    claims, relation = said.claims, said.relation
    if len(claims) == 2 and repr(claims[0]) > repr(claims[1]):
        claims, relation = claims[::-1], INVERSE.get(relation or "")
    elif len(claims) == 2 and claims[0] == claims[1] and relation:
        relation = min(relation, INVERSE[relation])
    text = repr((claims, relation, said.background))
    return hashlib.sha256(text.encode()).digest()


def sentence(said: Meaning, rng: random.Random | None = None) -> str:
    """Word a meaning; `rng` draws synonyms, order and lead-in, without it the wording is plain."""

    def choose(options):
        return rng.choice(options) if rng else options[0]

    claims, relation = said.claims, said.relation
    if relation and rng and rng.random() < 0.5:
        claims, relation = claims[::-1], INVERSE[relation]

    def phrase(claim: Claim) -> str:
        noun = choose(WORDS[claim.shape])
        words = [choose(NUMBERS[claim.number])]
        words += [choose(WORDS[claim.size])] if claim.size else []
        words += [claim.colour] if claim.colour else []
        words += [plural(noun) if claim.number > 1 else noun]
        text = " ".join(words)
        return re.sub(r"^a (?=[aeiou])", "an ", text)

    text = phrase(claims[0])
    if len(claims) == 2:
        text += f" {choose(WORDS[relation])} " if relation else " and "
        text += phrase(claims[1])
    if said.background:
        text += f" on {choose(('a {} background', '{}', 'a {} background'))}".format(
            said.background
        )
    return choose(LEADS) + text


def shown(rng: random.Random, allowed: tuple[tuple[str, str], ...]) -> Scene:
    """A random scene, as `sample` draws them, whose full caption has no prompt's meaning."""
    while reserved(meaning(scene := sample(rng, allowed))):
        pass
    return scene


def caption(scene: Scene, rng: random.Random) -> str:
    """A full and true caption."""
    return sentence(meaning(scene), rng)


def weak_caption(scene: Scene, other: Scene, rng: random.Random) -> str:
    """A caption as the web writes them: empty, of another picture, or with things left out.

    One in ten is empty, one in ten describes `other`, and of the rest each attribute is left out
    with probability 0.3. None has the meaning of a prompt.
    """
    draw = rng.random()
    if draw < 0.1:
        return ""
    described = other if draw < 0.2 else scene
    for _ in range(100):
        told = Told(*(rng.random() >= 0.3 for _ in range(4)), second=rng.random() >= 0.15)
        if not reserved(said := meaning(described, told)):
            return sentence(said, rng)
    return ""  # all that can be said of it is of prompts


def details(said: Meaning) -> list[str]:
    """In which details a meaning can be wrong."""
    first, *others = said.claims
    found = ["shape"]
    found += ["colour"] * bool(first.colour)
    # Three large things do not exist, so their size cannot be wrong.
    found += ["size"] * bool(first.size and first.number < 3)
    found += ["background"] * bool(said.background)
    found += ["number"] * (not others)
    # Of two things of which the same is said either may be the first: turned round it is true.
    found += ["relation"] * bool(said.relation and first != others[0])
    if others and first.colour != others[0].colour and first.shape != others[0].shape:
        found += ["swap"]
    return found


def wrong(said: Meaning, rng: random.Random, detail: str = "") -> Meaning:
    """A meaning with exactly one told detail changed, so that it is false: a hard negative.

    detail: one of `details`; without, any.
    """
    detail = detail or rng.choice(details(said))
    if detail == "background":
        return replace(said, background=_other(BACKGROUNDS, said.background, rng))
    if detail == "relation":
        return replace(said, relation=INVERSE[said.relation])
    if detail == "swap":
        # Exchange the colours of two things: the words are the same, their binding is wrong.
        first, second = said.claims
        pair = (replace(first, colour=second.colour), replace(second, colour=first.colour))
        return replace(said, claims=pair)
    claims = list(said.claims)
    index = rng.randrange(len(claims))
    values = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "number": NUMBERS}[detail]
    changed = _other(values, getattr(claims[index], detail), rng)
    claims[index] = replace(claims[index], **{detail: changed})
    return replace(said, claims=tuple(claims))


def _other(values, value, rng: random.Random):
    return rng.choice([each for each in values if each != value])


_MEANS = {form: word for word, forms in WORDS.items() for form in forms}
_MEANS |= {plural(form): shape for shape in SHAPES for form in WORDS[shape]}
_RELATION = re.compile(
    r"\b("
    + "|".join(sorted((f for r in INVERSE for f in WORDS[r]), key=len, reverse=True))
    + r")\b"
)
_PHRASE = re.compile(
    r"(?:(?P<number>an?|one|two|three) )?(?:(?P<size>small|little|large|big) )?"
    rf"(?:(?P<colour>{'|'.join(COLOURS)}) )?(?P<noun>\w+)"
)
_BACKGROUND = re.compile(rf" on (?:a )?({'|'.join(BACKGROUNDS)})(?: background)?$")


def parse(text: str) -> Meaning | None:
    """Read a sentence of this language; None when it is not one.

    >>> parse("a large red circle left of a blue square").relation
    'left of'
    """
    text = " ".join(text.lower().split())
    for lead in LEADS:
        text = text.removeprefix(lead)
    background = _BACKGROUND.search(text)
    if background:
        text = text[: background.start()]
    relation = _RELATION.search(text)
    if relation:
        parts = [text[: relation.start()].strip(), text[relation.end() :].strip()]
    else:
        parts = text.split(" and ")
    if len(parts) > 2:
        return None
    claims = []
    for part in parts:
        match = _PHRASE.fullmatch(part)
        shape = _MEANS.get(match["noun"]) if match else None
        if shape not in SHAPES:
            return None
        number = {"two": 2, "three": 3}.get(match["number"] or "a", 1)
        claims.append(Claim(shape, match["colour"], _MEANS.get(match["size"]), number))
    return Meaning(
        tuple(claims),
        _MEANS[relation[1]] if relation else None,
        background[1] if background else None,
    )


def challenge(said: Meaning, split: str) -> str:
    """The Challenge column: what of a prompt is hard, hardest first."""
    if split != "in":
        return {"adapt": "Unseen pair", "never": "Never seen"}[split]
    if said.relation:
        return "Relation"
    if any(claim.number > 1 for claim in said.claims):
        return "Quantity"
    if any(claim.size for claim in said.claims):
        return "Size"
    if any(claim.colour for claim in said.claims):
        return "Colour"
    return "Basic"


CATEGORIES = {"single": "Single", "pair": "Pair", "count": "Count"}


SPLITS = ("in", "adapt", "in", "never")  # of prompts, by turns
MOST_AGAIN = 2000


def prompts(number: int, seed: int, development: bool = False) -> list[dict[str, str]]:
    """Distinct prompts in PartiPrompts' columns, with the split each belongs to.

    Half of them name only pairs the base has seen, a quarter each name pairs of `adapt` and
    `never` (for two things, at least one of them). The order is random; the more are asked for,
    the fewer of the later ones speak of one thing alone, of which there is less to say.
    UserError where there are no more.
    """
    rng = random.Random(f"prompts {seed}")
    rows: dict[str, dict[str, str]] = {}
    again = 0  # times in a row that a prompt was there already
    while len(rows) < number:
        row = prompt(rng, SPLITS[len(rows) % len(SPLITS)], development)
        again = again + 1 if row["Prompt"] in rows else 0
        if again == MOST_AGAIN:
            what, key = ("development ", "development.count") if development else ("", "prompts")
            raise UserError(
                f"config: {key}: the shapes world has no {number} different {what}prompts, "
                f"{len(rows)} were found; ask for fewer"
            )
        rows.setdefault(row["Prompt"], row)
    return list(rows.values())


def prompt(rng: random.Random, split: str, development: bool = False) -> dict[str, str]:
    """A random prompt of a split in PartiPrompts' columns.

    Sizes, backgrounds and colours are named in some prompts and not in others, as people write
    prompts. No training caption has the meaning of one (`reserved`), and no reported prompt that
    of a development one.
    """
    allowed = PAIRS[split] if split == "in" else PAIRS["in"] + PAIRS[split]
    while True:
        scene = sample(rng, allowed)
        if split != "in" and not any((t.shape, t.colour) in PAIRS[split] for t in scene.things):
            continue
        told = Told(
            colour=split != "in" or rng.random() < 0.85,
            size=rng.random() < 0.5,
            background=rng.random() < 0.5,
        )
        said = meaning(scene, told)
        forms = {said} if development else same(said)
        if all(map(reserved, forms)) and developing(said) == development:
            return {
                "Prompt": sentence(said),
                "Category": CATEGORIES[scene.kind],
                "Challenge": challenge(said, split),
                "Note": "",
                "split": split,
            }

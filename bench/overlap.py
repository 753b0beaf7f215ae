"""How near the prompts of the shapes world are to what its models are trained on.

Counts, of the first prompts of the study, those that a training caption words alike, means alike
or entails: fine-tuning captions, full and true, and the weak ones of the base. Prints a Markdown
table.

    .venv/bin/python bench/overlap.py --prompts 160 --captions 30000
"""

import argparse
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from vlg.errors import UserError  # noqa: E402
from vlg.shapes import captions, world  # noqa: E402


def finetuning(rng: random.Random) -> str:
    scene = captions.shown(rng, world.SEEN + world.ADAPT)
    return captions.caption(scene, rng)


def base(rng: random.Random) -> str:
    scene, other = (world.sample(rng, world.SEEN) for _ in range(2))
    return captions.weak_caption(scene, other, rng)


def entails(said: captions.Meaning, other: captions.Meaning) -> bool:
    """Whether `other` is true of every picture of which `said` is."""
    if other.background not in (None, said.background):
        return False

    def covers(one: captions.Meaning, two: captions.Meaning) -> bool:
        if len(one.claims) != len(two.claims) or two.relation not in (None, one.relation):
            return False
        return all(
            getattr(b, detail) in (None, getattr(a, detail))
            for a, b in zip(one.claims, two.claims, strict=True)
            for detail in ("shape", "colour", "size", "number")
        )

    return any(covers(one, two) for one in captions.same(said) for two in captions.same(other))


def row(name: str, prompts: list[str], texts: set[str]) -> str:
    meanings = {said for text in texts if (said := captions.parse(text))}
    said = {text: captions.parse(text) for text in prompts}
    worded = sum(text in texts for text in prompts)
    meant = sum(bool(captions.same(each) & meanings) for each in said.values())
    entailed = sum(any(entails(m, each) for m in meanings) for each in said.values())
    return f"| {name}, {len(texts):,} different | {worded} | {meant} | {entailed} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=160)
    parser.add_argument("--captions", type=int, default=30000, help="drawn, of each kind")
    args = parser.parse_args()
    try:
        prompts = [each["Prompt"] for each in captions.prompts(args.prompts, 0)]
    except UserError as error:
        sys.exit(f"error: {error}")
    print(f"| of {args.prompts} prompts, by captions of | worded alike | meant alike | entailed |")
    print("|---|---:|---:|---:|")
    for name, make in {"fine-tuning": finetuning, "the base": base}.items():
        rng = random.Random(f"overlap {name}")
        print(row(name, prompts, {make(rng) for _ in range(args.captions)}))


if __name__ == "__main__":
    main()

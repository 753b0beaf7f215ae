"""GenEval's rules (Ghosh et al., arXiv:2310.11513): from boxes to right or wrong.

As in its code: boxes of a class above a confidence count, at most so many of the most confident,
with an optional suppression of those that overlap. A class must have at least the wanted number;
colour and place are looked at in the most confident ones alone. What is excluded must be fewer than
said. One thing is left of another when the distance of their centres, less a tenth of the sum of
their sides in each direction, points there for more than half of its length.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vlg.errors import UserError
from vlg.judge.questions import key

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
# {colour} of a {thing}, averaged as open_clip's zero-shot classifiers are.
TEMPLATES = ("a photo of a {c} {t}", "a photo of a {c}-colored {t}", "a photo of a {c} object")
# Of boxes [left, top, right, bottom], those of a class from the most confident on.
Boxes = Mapping[str, Sequence[np.ndarray]]


@dataclass(frozen=True)
class Rules:
    """Which boxes count. threshold: least confidence, `counting` for prompts of that tag. most:
    boxes of a class. overlap: intersection over union from which the less confident of two boxes
    is dropped; 1 drops none. apart: as the tenth above."""

    threshold: float = 0.3
    counting: float = 0.9
    most: int = 16
    overlap: float = 1.0
    apart: float = 0.1

    def kept(self, boxes: np.ndarray, scores: np.ndarray, tag: str) -> list[np.ndarray]:
        """The boxes (n, 4) that count, from the most confident on; scores (n,) in 0..1."""
        least = self.counting if tag == "counting" else self.threshold
        order = [i for i in np.argsort(-scores, kind="stable") if scores[i] > least][: self.most]
        result: list[np.ndarray] = []
        for place in order:
            box = boxes[place]
            if self.overlap == 1 or all(iou(box, other) < self.overlap for other in result):
                result.append(box)
        return result

    def shows(
        self,
        said: Mapping[str, Any],
        found: Boxes,
        colours: Callable[[Sequence[np.ndarray], str], list[str]],
    ) -> bool:
        """Whether a picture shows what a line of the metadata says. colours: of boxes, by class."""
        groups: list[Sequence[np.ndarray] | None] = []
        for each in said.get("include", []):
            own = found.get(each["class"], [])[: each["count"]]
            right = len(own) >= each["count"]
            if right and "color" in each:
                right = colours(own, each["class"]).count(each["color"]) >= each["count"]
            if right and "position" in each:
                where, target = each["position"]
                others = groups[target]
                right = others is not None and all(
                    where in self.relations(one, other) for one in own for other in others
                )
            groups.append(own if right else None)
        excluded = any(
            len(found.get(each["class"], [])) >= each["count"] for each in said.get("exclude", [])
        )
        return not excluded and all(group is not None for group in groups)

    def relations(self, one: np.ndarray, other: np.ndarray) -> set[str]:
        """Where one box is as seen from another."""
        a, b = one.reshape(2, 2), other.reshape(2, 2)
        offset = a.mean(axis=0) - b.mean(axis=0)
        sides = np.abs(a[1] - a[0]) + np.abs(b[1] - b[0])
        clear = np.maximum(np.abs(offset) - self.apart * sides, 0) * np.sign(offset)
        if (np.abs(clear) < 1e-3).all():
            return set()
        dx, dy = clear / np.linalg.norm(offset)
        told = {"left of": dx < -0.5, "right of": dx > 0.5, "above": dy < -0.5, "below": dy > 0.5}
        return {name for name, yes in told.items() if yes}


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes whose last pixels belong to them."""

    def area(box: np.ndarray) -> float:
        return max(box[2] - box[0] + 1, 0) * max(box[3] - box[1] + 1, 0)

    both = area(np.concatenate([np.maximum(one, other)[:2], np.minimum(one, other)[2:]]))
    either = area(one) + area(other) - both
    return both / either if either else 0.0


def read(path: Path) -> dict[str, dict[str, Any]]:
    """{prompt: what it says} of an evaluation_metadata.jsonl; UserError names a wrong line."""
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read ({type(error).__name__}); give GenEval's "
            "evaluation_metadata.jsonl"
        ) from None
    found = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            said = json.loads(line)
            for each in [*said["include"], *said.get("exclude", [])]:
                if not isinstance(each["class"], str) or not isinstance(each["count"], int):
                    raise ValueError("a class is a name and a count a number")
            for place, each in enumerate(said["include"]):
                if "position" in each and not 0 <= each["position"][1] < place:
                    raise ValueError("a position refers to one that stands before it")
                if each.get("color", COLOURS[0]) not in COLOURS:
                    raise ValueError(f"a color is one of {', '.join(COLOURS)}")
            found[key(said["prompt"])] = said
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}: line {number}: not of GenEval's metadata (prompt, tag, include) "
                f"({type(error).__name__}: {error}); mend it"
            ) from None
    if not found:
        raise UserError(f"{path}: is empty; give GenEval's evaluation_metadata.jsonl")
    return found


def names(said: Mapping[str, Any]) -> list[str]:
    """The classes that a line speaks of."""
    both = [*said.get("include", []), *said.get("exclude", [])]
    return list(dict.fromkeys(each["class"] for each in both))

"""What the manifest says of the shapes world's models is what was drawn and scored."""

import json

import numpy as np
import pytest

from vlg.shapes import captions, quality, verify


def drawn(said, found):
    """Pictures of prompts, in each of which the verifier finds what `found` says."""
    rows = [{"Prompt": text, "split": "in"} for text in said]
    images = [np.full((32, 32, 3), i, np.uint8) for i in range(len(said))]
    checks = [dict.fromkeys((*verify.PARTS, "fidelity", "strict")) | each for each in found]
    return quality.Drawn(rows, images, checks)


@pytest.mark.parametrize(
    "scores, strict, area",
    [
        ([3, 2, 1, 0], [1, 1, 0, 0], 1),
        ([0, 1, 2, 3], [1, 1, 0, 0], 0),
        ([1, 1, 1, 1], [1, 0, 0, 1], 0.5),
        ([2, 0, 1], [1, 1, 0], 0.5),
        ([2, 0, 1], [1, 1, 1], None),
        ([2, 0, 1], [0, 0, 0], None),
    ],
)
def test_the_area_is_how_often_the_true_one_scores_higher(scores, strict, area):
    pictures = drawn(["a circle"] * len(scores), [{"strict": each} for each in strict])

    def score(images, texts):
        assert texts == ["a circle"]
        return np.array([[scores[int(images[0][0, 0, 0])]]], float).squeeze()

    assert quality.sees(score, pictures) == {"auc_of_drawn": area}


def test_relations_are_told_of_pictures_that_have_both_things_and_counts_of_three():
    relation = {"relation": 1.0, "shape": 1.0, "fidelity": 1.0, "strict": 1.0}
    found = [
        relation,
        relation | {"relation": 0.0, "fidelity": 0.5, "strict": 0.0},
        relation | {"relation": 0.0, "shape": 0.5, "fidelity": 0.0, "strict": 0.0},
        {"count": 1.0, "fidelity": 1.0, "strict": 1.0},
        {"count": 0.0, "fidelity": 0.5, "strict": 0.0},
        {"count": 0.0, "fidelity": 0.0, "strict": 0.0},
    ]
    pair, three = "a circle left of a cross", "three circles"
    told = quality.base(drawn([pair] * 3 + [three] * 2 + ["two circles"], found))
    assert told["relation"] == round(1 / 3, 4) and told["relation_of_both"] == 0.5
    assert told["count"] == round(1 / 3, 4) and told["count_of_three"] == 0.5
    assert told["fidelity"] == 0.5 and told["strict"] == told["strict_in"] == round(1 / 3, 4)
    assert told["strict_never"] is told["size"] is None
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_a_clip_that_knows_one_kind_of_fact_beats_wrong_details_of_that_kind(monkeypatch):
    """Scored by whether background and number, as told, are the picture's."""

    def known(text):
        said = captions.parse(text)
        return said.background, sum(claim.number for claim in said.claims)

    def scorer(which, folder):
        def scores(images, texts):
            import torch

            def agrees(seen, told):
                return (told[0] in (None, seen[0])) + (told[1] <= len(seen[1]))

            told, read = [known(text) for text in texts], [verify.read(image) for image in images]
            return torch.tensor([[float(agrees(seen, each)) for each in told] for seen in read])

        return scores

    monkeypatch.setattr(quality, "scorer", scorer)
    told = quality.clip("judge", None, 64)
    assert told["beats_background"] == 1
    for detail in ("colour", "shape", "size", "relation", "swap"):
        assert told[f"beats_{detail}"] == 0, detail
    assert 0 < told["beats_hard_negative"] < 1


def test_development_prompts_are_by_turns_of_all_splits():
    rows = quality.development_prompts(8)
    assert [row["split"] for row in rows] == [*captions.SPLITS] * 2
    assert rows == quality.development_prompts(8) and len({row["Prompt"] for row in rows}) > 4

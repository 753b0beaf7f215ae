"""An arm is one file: what it needs is made, it has rounds of its own, and touches no other's."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from tests.pipeline import JOB, WILDCARDS
from vlg.files import identity

FRESH = '''"""One more sample of each picture, of another purpose; nothing chooses."""

from pydantic import Field

from vlg.config import sections
from vlg.sample.arm import Arm, Drawn

NEEDS = ()


class Settings(sections.ArmKeys):
    """Which sample."""

    number: int = Field(1, ge=1, description="Of all that could be drawn.")


class Fresh(Arm):
    def draw(self, sampler, guide, before):
        purpose = f"{before.purpose}-fresh-{self.settings.number}"
        return Drawn(sampler.draw(before.texts, before.seeds, purpose))
'''
ARMS = {"refine": {}, "best_of_n": {}}
CONFIG = {
    "study": "arms",
    "prompts": "{study: 2, pool: 3}",
    "generate": "{steps: 2, shard_size: 3}",
}
OUT = "results/arms"


def run(checkout, *words, arms, **more):
    given = {**CONFIG, "refine": json.dumps({"rounds": 2, "arms": arms}), **more}
    done = checkout.snakemake(*words, **given)
    assert done.code == 0, done.output
    return done.output


def scores(*arms):
    return [f"{OUT}/scores/refined/base/{arm}.csv" for arm in arms]


def planned(checkout, *arms, config, **more):
    """The jobs that would run for the scores of arms."""
    output = run(checkout, "--dry-run", *scores(*arms), arms=config, **more)
    jobs = [(rule, WILDCARDS.search(details)) for rule, details in JOB.findall(output)]
    return {f"{rule} {found[1] if found else ''}".strip() for rule, found in jobs} - {"all"}


@pytest.fixture(scope="module")
def refined(checkout):
    """A copy of the checkout in which two arms have been drawn and scored."""
    run(checkout, *scores(*ARMS), arms=ARMS)
    assert planned(checkout, *ARMS, config=ARMS) == set()
    return checkout


def of_arm(arm):
    shards = {f"refine model=base, arm={arm}, shard={shard}" for shard in (0, 1)}
    return {*shards, f"score_refined model=base, arm={arm}"}


def test_an_edit_of_an_arm_redraws_its_own_pictures(refined):
    path = refined.root / "scripts/vlg/sample/arms/refine.py"
    before = path.read_text("utf-8")
    try:
        path.write_text(before.replace("strength == 1", "strength >= 1"), "utf-8")
        assert path.read_text("utf-8") != before
        assert planned(refined, *ARMS, config=ARMS) == of_arm("refine")
    finally:
        path.write_text(before, "utf-8")


def test_an_edit_of_what_arms_share_scores_no_plain_picture(refined):
    path = refined.root / "scripts/vlg/sample/arm.py"
    before = path.read_text("utf-8")
    try:
        path.write_text(before.replace("always or", "bool(always) or"), "utf-8")
        jobs = planned(refined, *ARMS, config=ARMS)
        assert not [job for job in jobs if job.startswith("score ")]
    finally:
        path.write_text(before, "utf-8")


def test_an_added_arm_draws_what_it_says_and_reruns_nothing(refined):
    path = refined.root / "scripts/vlg/sample/arms/fresh.py"
    arms = {**ARMS, "fresh": {"rounds": 1}}
    try:
        path.write_text(FRESH, "utf-8")
        jobs = planned(refined, *arms, config=arms)
        assert {job.split()[0] for job in jobs} == {"refine_1_rounds", "score_refined"}
        assert not [job for job in jobs if "arm=fresh" not in job]
        run(refined, *scores(*arms), arms=arms)
        other = {**arms, "fresh": {"rounds": 1, "number": 2}}
        assert len(planned(refined, *arms, config=other)) == 3, "two shards and their scores"
    finally:
        path.unlink()
    folder = refined.root / OUT / "refined/base"
    assert not (folder / "round-2/fresh").exists()
    for shard, number in ((0, 3), (1, 1)):
        lines = (folder / f"round-1/fresh/shard-{shard}/metadata.jsonl").read_text().split("\n")
        rows = [json.loads(line) for line in lines if line]
        assert len(rows) == number
        for row in rows:
            assert (row["unet_calls"], row["cost"]["decoder"]["forward"]) == (4, 1)
            assert "guide" not in row["cost"] and "accepted" not in row
            places = [
                folder / f"round-1/{arm}/shard-{shard}" / row["file_name"]
                for arm in ("fresh", "best_of_n")
            ]
            one, two = (np.asarray(Image.open(place), int) for place in places)
            assert np.abs(one - two).max() > 10


def test_an_arm_follows_a_guide_of_its_own_and_reruns_nothing(refined):
    arms = {**ARMS, "mine": {"kind": "clip_guidance", "scale": 2, "guide": "robust"}}
    more = {"guides": "{robust: {source: shapes, views: 2}}"}
    made = {job.replace("refine ", "refine_1_rounds ") for job in of_arm("mine")}
    assert planned(refined, *arms, config=arms, **more) == {*made, "guide guide=guide_robust"}
    run(refined, *scores(*arms), arms=arms, **more)
    assert planned(refined, *arms, config=arms, **more) == set()
    folder = refined.root / OUT / "refined/base/round-1/mine/shard-0"
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    assert {row["chosen_by"] for row in rows} == {
        identity(refined.root / OUT / "models/guide_robust")
    }
    for (
        row
    ) in rows:  # two steps, each with the text and without; a look at each step and at the end
        assert row["cost"]["network"]["forward"] == row["cost"]["network"]["backward"] == 4
        assert row["cost"]["decoder"]["backward"] == 2 and row["cost"]["guide"]["forward"] == 6
    other = {"guides": "{robust: {source: shapes, views: 3}}"}
    assert planned(refined, *arms, config=arms, **other) == {*made, "guide guide=guide_robust"}


def test_controls_among_guides_are_followed_and_rerun_nothing(refined):
    """The verifier ranks what is drawn; a shuffled guide leads towards other captions."""
    arms = {
        **ARMS,
        "best_true": {"kind": "best_of_n", "guide": "oracle"},
        "wrongly": {"kind": "clip_guidance", "guide": "wrong"},
    }
    more = {"guides": "{oracle: {kind: verifier}, wrong: {kind: shuffled}}"}
    made = {job.replace("refine ", "refine_1_rounds ") for job in of_arm("wrongly")}
    made |= of_arm("best_true") | {
        "control_guide guide=guide_oracle",
        "control_guide guide=guide_wrong",
    }
    small = {"dataset": "{size: 20}", **more}
    assert planned(refined, *arms, config=arms, **small) - {"dataset"} == made
    run(refined, *scores(*arms), arms=arms, **small)
    assert planned(refined, *arms, config=arms, **small) == set()
    with open(refined.root / scores("best_true")[0], newline="", encoding="utf-8") as file:
        scored = {(row["round"], row["picture"]): row for row in csv.DictReader(file)}
    folder = refined.root / OUT / "refined/base/round-2/best_true"
    for path in folder.glob("shard-*/metadata.jsonl"):
        for row in map(json.loads, path.read_text().splitlines()):
            place = f"refined/base/round-2/best_true/{path.parent.name}/{row['file_name']}"
            assert row["guide"] == pytest.approx(
                100 * float(scored["2", place]["fidelity"]), abs=0.01
            )

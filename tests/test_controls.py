"""The oracle, a guide that is shown other texts, and the table that says what controls did."""

import json
import random
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import synthetic
import tiny
import torch
from test_tables import build, load

import control_guide
from vlg.analysis.tables import controls
from vlg.config.sections import GuideKeys
from vlg.files import identity, write_manifest
from vlg.judge.kinds import shuffled, verifier
from vlg.models.cosines import guide_scores, latent_cosines
from vlg.models.guide import load_guide
from vlg.shapes import captions, world


def made(out, guide=None, data=None, **settings):
    """What scripts/control_guide.py makes."""
    keys = GuideKeys.parse(settings, "guides")
    control_guide.main(SimpleNamespace(settings=keys, guide=guide, data=data, out=out))
    return out


def drawn(number=6):
    """Pictures of the drawn world and what they show."""
    scenes = [world.sample(random.Random(i), world.PAIRS["in"], "single") for i in range(number)]
    images = np.stack([np.round(world.render(scene)).astype(np.uint8) for scene in scenes])
    return images, [captions.caption(scene, random.Random(0)) for scene in scenes]


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    return load_guide(made(tmp_path_factory.mktemp("oracle") / "guide", kind="verifier"))


def test_the_oracle_scores_by_the_facts(oracle):
    images, texts = drawn()
    assert guide_scores(oracle, images, texts) == [100.0] * len(texts)
    empty = np.full_like(images, 255)
    found = guide_scores(oracle, empty, texts)
    assert found == [round(100 * verifier.true(empty[0], text), 4) for text in texts]
    assert max(found) < 100


def test_the_oracle_looks_at_latents_and_at_chosen_rows(oracle):
    """As arms ask it: what latents decode to, with texts repeated for each particle."""
    images, texts = drawn(3)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255

    class Family:
        dtype = torch.float32

        def decode(self, latents):
            return latents

    wanted = oracle.encode_text(texts).repeat_interleave(2, 0)
    seen = latent_cosines(Family(), oracle, pixels.repeat_interleave(2, 0) + 1e-3, wanted)
    assert seen.tolist() == [1.0] * 6
    assert latent_cosines(Family(), oracle, pixels, oracle.encode_text(texts[::-1]))[0] < 1


def test_the_oracle_knows_the_sentences_of_its_world_alone(oracle):
    with pytest.raises(verifier.UserError, match="cannot read 'a photo'"):
        guide_scores(oracle, drawn(1)[0], ["a photo"])


@pytest.fixture(scope="module")
def wrong(tmp_path_factory):
    """(a guide, the same shown other texts, its texts)."""
    root = tmp_path_factory.mktemp("wrong")
    guide, data = tiny.save_guide(root / "one"), tiny.save_pictures(root / "data")
    write_manifest(guide)
    out = made(root / "wrong", guide, data, kind="shuffled")
    return load_guide(guide), load_guide(out), json.loads((out / "texts.json").read_text())


def test_a_shuffled_guide_is_shown_another_text(wrong):
    guide, other, known = wrong
    texts = [*known, "a caption that is none of the data"]
    stand = [other.judge.other(text) for text in texts]
    assert set(stand) <= set(known) and all(a != b for a, b in zip(texts, stand, strict=True))
    assert len(set(stand)) > 1
    assert torch.equal(other.encode_text(texts), guide.encode_text(stand))
    assert [other.judge.other(text) for text in texts[::-1]] == stand[::-1]
    pictures = torch.rand(2, 3, 16, 16, requires_grad=True)
    assert torch.equal(other.encode_image(pictures), guide.encode_image(pictures))
    other.encode_image(pictures).sum().backward()
    assert pictures.grad.abs().sum() > 0
    assert other.judge.other("") == ""  # what stands for no caption
    assert identity(guide.folder) != identity(other.folder)


def test_texts_are_chosen_about_evenly():
    texts = [f"text {i}" for i in range(20)]
    stand = pd.Series([shuffled.other(f"prompt {i}", texts) for i in range(4000)]).value_counts()
    assert len(stand) == 20 and stand.min() > 140 and stand.max() < 270


# p: of judge, guide, facts, each with the sign of its difference, and before correction
@pytest.mark.parametrize(
    ("kind", "judge", "guide", "facts", "single", "word"),
    [
        ("positive", 0.9, +0.01, -0.01, None, "yes"),
        ("positive", +0.01, +0.06, +0.01, 0.01, "no"),
        ("positive", +0.01, -0.01, +0.01, None, "no"),
        ("oracle", -0.01, -0.01, +0.01, None, "yes"),
        ("oracle", +0.01, +0.01, +0.06, 0.01, "no"),
        ("oracle", +0.01, +0.01, None, None, "too few prompts to tell"),
        ("shuffled", -0.01, -0.01, -0.01, None, "yes"),
        ("shuffled", +0.5, -0.01, +0.01, None, "no: facts more"),
        ("shuffled", +0.01, +0.01, None, None, "no: judge, guide more"),
        ("shuffled", +0.06, -0.9, -0.9, 0.01, "yes (judge more before correction)"),
        ("shuffled", None, None, None, None, "too few prompts to tell"),
    ],
)
def test_the_rule(kind, judge, guide, facts, single, word):
    row = {"kind": kind}
    for who, p in {"judge": judge, "guide": guide, "facts": facts}.items():
        difference, column = controls.SIGNS[who]
        row[difference] = np.nan if p is None else np.sign(p)
        row[column] = np.nan if p is None else abs(p)
        row[column.removesuffix("_corrected")] = row[column] if single is None else single
    assert controls.did(pd.Series(row), 0.05) == word


CONTROLS = [
    {"kind": "oracle", "name": "raft_true", "variant": True, "twin": "raft"},
    {"kind": "shuffled", "name": "wrong", "variant": False, "twin": None},
    {"kind": "positive", "name": "best_of_n", "variant": False},
    {"kind": "oracle", "name": "of_a_sweep", "variant": True},
]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("controls")
    shape = synthetic.Study(
        pictures=False,
        prompts=60,
        variants=("normal", "raft", "raft_true"),
        steps=(5, 10),
        rounds=2,
        refined=("base", "raft_true-10"),
        arms={"best_of_n": 1.0, "wrong": 1.0},
        gains={"raft": 0.5, "raft_true": 20.0, "best_of_n": 1.8, "wrong": -2.0},
    )
    return load(root, synthetic.write(root, shape), controls=CONTROLS)


def test_a_row_says_what_a_control_must_do_and_did(study):
    frame = build(study, "controls").frame
    rows = frame[["kind", "model", "arm", "round", "did"]].to_numpy().tolist()
    assert rows == [
        ["positive", "base", "best_of_n", 2, "yes"],
        ["positive", "raft_true-10", "best_of_n", 2, "yes"],
        ["oracle", "raft_true-10", "plain", 0, "yes"],
        ["shuffled", "base", "wrong", 2, "yes"],
        ["shuffled", "raft_true-10", "wrong", 2, "yes"],
    ]
    keys = [("raft_true-10", "", 0), ("raft-10", "", 0), ("base", "", 0)]
    facts = study.values(keys, study.ids, study.seeds, ["fidelity"]).mean(axis=(0, 1, 2, 4))
    assert frame["fidelity_delta"][2] == pytest.approx(facts[0] - facts[2])
    assert frame["lost"][2] == pytest.approx(facts[0] - facts[1])
    assert frame["lost"].notna().tolist() == [False, False, True, False, False]
    assert frame["lost_p_corrected"][2] < 0.05


@pytest.mark.parametrize("name", ["finetune", "refinement", "equal_compute", "methods", "by_fact"])
def test_every_table_marks_its_controls_and_calls_none_of_them_best(study, name):
    table = build(study, name)
    frame = table.frame
    arms = frame["arm"] if "arm" in frame else pd.Series("", frame.index)
    tuned = frame["model"].str.startswith("raft_true")
    expected = np.where(tuned, "oracle", np.where(arms == "wrong", "shuffled", ""))
    assert (frame["control"] == expected)[arms != "wrong"].all()
    assert frame["control"][arms == "wrong"].ne("").all()
    assert "(oracle)" in table.caption and "Control" in table.texts(name)["md"]
    best = [bold for bold, _ in table.marks]
    assert not (np.array(best) & frame["control"].ne("").to_numpy()).any()


def test_the_leaderboard_marks_arms_and_models(study):
    frame = build(study, "compare").frame
    rows = frame[frame["kind"] == "row"].set_index("model")["control"]
    for name, found in rows.items():
        of = "oracle" if name.startswith("raft_true") else ""
        of = "shuffled" if name == "base wrong round 2" else of
        assert found == of or " wrong " in name and found, name
    assert frame.loc[frame["kind"] == "pair", "control"].eq("").all()


def test_a_study_without_controls_has_no_such_column(study):
    import dataclasses

    plain = study.settings.model_copy(update={"controls": []})
    table = build(dataclasses.replace(study, settings=plain), "finetune")
    assert "control" not in table.frame and "Control" not in table.texts("finetune")["md"]

"""Traps that move ClipScores without a word: each is set once, and seen."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny
from vlg.errors import UserError
from vlg.judge import kind, traps
from vlg.models.clip import Clip
from vlg.models.guide import load_guide

SHAPES = Path(__file__).parents[1] / "resources/shapes"


@pytest.fixture
def judge():
    return Clip(SHAPES / "judge", "cpu")


@pytest.fixture
def guide():
    return load_guide(SHAPES / "guide")


def both(judge, guide):
    return {"judge": judge, "guide": guide}.items()


def test_the_shipped_models_are_in_no_trap_and_a_look_changes_no_score(judge, guide):
    images, texts = [np.full((32, 32, 3), 90, np.uint8)], ["a red circle"]
    before = judge.scores(images, texts), guide.encode_text(texts)
    for name, own in both(judge, guide):
        traps.check(name, own)
        found = traps.look(own, moves=True)
        assert [trap.name for trap in found] == list(traps.REMEDIES)
        assert all(trap.fine for trap in found), found
        moves = {trap.name: trap.moves for trap in found}
        assert moves[traps.END] > 1, "the trap that moves most"
        assert all(0 < each < 100 for each in moves.values()), moves
    assert before[0] == judge.scores(images, texts)
    assert torch.equal(before[1], guide.encode_text(texts))


def test_a_long_prompt_without_its_end_token_is_refused(judge, guide, monkeypatch):
    real, other = judge.processor.tokenizer, guide.tokens

    def cut(texts, **options):
        options |= {"truncation": False, "padding": False, "return_tensors": None}
        ids = [each[: judge._length] for each in real(texts, **options).input_ids]
        return real.pad({"input_ids": ids}, return_tensors="pt")

    monkeypatch.setattr(judge.processor, "tokenizer", cut)
    monkeypatch.setattr(guide, "tokens", lambda texts: other([f"{t} a" for t in texts])[:, :-1])
    for name, own in both(judge, guide):
        with pytest.raises(
            UserError, match=f"{name}: long prompts: cut to .* without the end token"
        ):
            traps.check(name, own)


def test_another_gelu_than_the_config_states_is_refused(judge, guide, tmp_path):
    guide.folder = shutil.copytree(SHAPES / "guide", tmp_path / "guide")
    path = guide.folder / "open_clip_config.json"
    said = json.loads(path.read_text())
    said["model_cfg"]["quick_gelu"] = True  # and the model was made without
    path.write_text(json.dumps(said))
    with traps._exchanged(judge.model):
        for name, own in both(judge, guide):
            with pytest.raises(UserError, match=f"{name}: activation: computes with"):
                traps.check(name, own)
    traps.check("judge", judge)
    with traps._exchanged(guide.model):
        traps.check("guide", guide)


def test_a_resize_without_antialiasing_is_told(judge, guide, monkeypatch, caplog):
    from torch.nn import functional

    resize = functional.interpolate
    monkeypatch.setattr(
        functional,
        "interpolate",
        lambda *args, **options: resize(*args, **options | {"antialias": False}),
    )
    judge.processor.image_processor.resample = 0  # nearest
    for name, own in both(judge, guide):
        caplog.clear()
        traps.check(name, own)
        assert f"{name}: resize: without antialiasing" in caplog.text


def test_sixteen_bits_that_nobody_asked_for_are_refused(judge):
    judge.model.bfloat16()
    with pytest.raises(UserError, match="16 bits: computes in bfloat16"):
        traps.check("judge", judge)
    traps.check("judge", Clip(SHAPES / "judge", "cpu", "bf16"))


def test_a_judge_is_looked_at_when_it_is_loaded(monkeypatch, tmp_path):
    looked = []
    monkeypatch.setattr(traps, "check", lambda name, inside: looked.append((name, inside)))
    folder = str(tiny.world()["guide"])
    kind.load({"kind": "open_clip", "source": folder}, "cpu")
    (tmp_path / "one_judge.py").write_text(
        "def one(images, prompts):\n    return [1.0] * len(images)\n"
    )
    kind.load({"kind": "callable", "source": "one_judge.one"}, "cpu", tmp_path)
    assert [name for name, _ in looked] == [folder, "one_judge.one"]
    assert looked[0][1].folder == Path(folder) and looked[1][1] is None

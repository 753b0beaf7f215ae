"""What the demo draws, keeps and asks, without a page: it needs no Gradio."""

from __future__ import annotations

import threading
import time
from collections import Counter

import numpy as np
import pytest

from tests import demo
from tests.demo import TUNED
from vlg.config.layout import BASE
from vlg.demo.engine import Engine, Estimate, Picture, Waiting
from vlg.demo.study import LONGEST, Request
from vlg.errors import UserError
from vlg.sample.sampler import Sampler

PROMPT = "a large red circle on a white background"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return demo.with_models(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def engine(study):
    engine = Engine(study, "cpu")
    yield engine
    engine.close()


def pictures(events, side=0):
    return [each for each in events if isinstance(each, Picture) and each.side == side]


# --- drawing --------------------------------------------------------------------------------------


def test_two_models_draw_turn_by_turn_what_the_study_would_draw(engine, study):
    events = list(engine.draw(Request(PROMPT, (BASE, TUNED), steps=4)))
    assert [type(each) for each in events] == [Estimate] * 8 + [Picture] * 2
    assert [(each.side, each.step) for each in events[:8]] == [(i % 2, i // 2) for i in range(8)]
    settings = study.sampling.model_copy(update={"steps": 4})
    for side, model in enumerate((BASE, TUNED)):
        image = Sampler(study.model(model), settings, "cpu").draw([PROMPT], [0])[0]
        assert np.array_equal(pictures(events, side)[0].image, image)
    assert not np.array_equal(*(each.image for each in events[-2:]))


def test_the_noise_of_both_is_the_same(engine):
    events = list(engine.draw(Request(PROMPT, (BASE, TUNED), strengths=(1, 0), steps=2)))
    assert np.array_equal(pictures(events, 0)[0].image, pictures(events, 1)[0].image)


def test_strength_leads_from_the_base_to_the_checkpoint_and_beyond(engine):
    def drawn(strength):
        request = Request(PROMPT, (TUNED,), (strength,), steps=2)
        return pictures(engine.draw(request))[0].image.astype(float)

    own, half, base = drawn(1), drawn(0.5), drawn(0)
    assert np.array_equal(base, pictures(engine.draw(Request(PROMPT, steps=2)))[0].image)
    far = np.abs(own - base).mean()
    assert 0 < np.abs(half - base).mean() < far < np.abs(drawn(1.5) - base).mean()
    assert np.array_equal(own, drawn(1)), "mixing leaves the checkpoint as it is"


def test_rounds_follow_each_other_and_only_get_better_for_the_guide(engine):
    request = Request(PROMPT, steps=3, way="refine", rounds=3, watch=True)
    events = list(engine.draw(request))
    rounds = pictures(events)
    assert [each.round for each in rounds] == [0, 1, 2, 3]
    guided = [each.scores.guide for each in rounds]
    assert guided == sorted(guided)
    assert [each.accepted for each in rounds] == [
        None,
        *(a < b for a, b in zip(guided, guided[1:], strict=False)),
    ]
    assert all(each.scores for each in events), "estimates are judged, too"


def test_every_way_draws_at_once(engine, study):
    assert {"plain", "refine", "best_of_n", "particles", "clip_guidance"} <= study.ways.keys()
    for way in study.ways:
        found = pictures(engine.draw(Request(PROMPT, (TUNED,), steps=2, way=way)))
        assert found[-1].image.shape == (32, 32, 3), way


def test_scores_and_facts_are_those_of_the_study(engine):
    picture = np.full((32, 32, 3), 255, np.uint8)
    scores = engine.score(picture, PROMPT)
    facts = {fact.name: fact.true for fact in scores.facts}
    assert facts == {
        "count": False,
        "shape": False,
        "colour": False,
        "size": False,
        "background": True,
    }
    assert scores.seen == "nothing on white"
    assert engine.score(picture, "a horse").facts == ()
    assert -100 < scores.clipscore < 100 and scores.clipscore != scores.guide


def test_a_drawing_waits_for_those_before_it_and_a_cancelled_one_ends(engine):
    long = engine.draw(Request(PROMPT, steps=50), "one")
    events = iter(long)
    assert isinstance(next(events), Estimate)
    second = iter(engine.draw(Request(PROMPT, steps=1), "two"))
    assert next(second) == Waiting(1)
    engine.leave("one")
    assert len(list(events)) < 50 and not pictures(events)
    assert pictures(second)


def test_who_asks_again_or_closes_the_stream_frees_the_engine(engine):
    first = engine.draw(Request(PROMPT, steps=50), "one")
    events = iter(first)
    next(events)
    again = engine.draw(Request(PROMPT, steps=1), "one")
    assert pictures(again) and first.done
    left = engine.draw(Request(PROMPT, steps=50), "two")
    stream = iter(left)
    next(stream)
    stream.close()
    assert pictures(engine.draw(Request(PROMPT, steps=1))) and left.done


def test_one_heavy_computation_at_a_time(engine, monkeypatch):
    busy, most = Counter(), []
    scores = Engine._scores

    def counted(self, *given):
        busy["now"] += 1
        most.append(busy["now"])
        time.sleep(0.01)
        busy["now"] -= 1
        return scores(self, *given)

    monkeypatch.setattr(Engine, "_scores", counted)
    ask = [Request(PROMPT, (BASE, TUNED), seed=seed, steps=1) for seed in range(4)]
    threads = [threading.Thread(target=lambda r=r: list(engine.draw(r))) for r in ask]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 8 and max(most) == 1


def test_an_error_reaches_who_asked_and_nobody_else(engine, monkeypatch):
    def broken(self, *given):
        raise RuntimeError("no judge")

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "_scores", broken)
        with pytest.raises(RuntimeError, match="no judge"):
            list(engine.draw(Request(PROMPT, (BASE, TUNED), steps=1)))
    assert pictures(engine.draw(Request(PROMPT, steps=1)))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"prompt": " "}, "prompt"),
        ({"prompt": "a" * (LONGEST + 1)}, "prompt"),
        ({"prompt": "a\nb"}, "prompt"),
        ({"models": ("../../etc",)}, "model"),
        ({"models": ()}, "models"),
        ({"way": "__import__"}, "way"),
        ({"steps": 10**6}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"rounds": 100}, "rounds"),
        ({"seed": -1}, "seed"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"strengths": (9.0,)}, "strength"),
        ({"strengths": (0.5,)}, "strength"),  # of the base
    ],
)
def test_what_no_page_may_ask_for_is_refused(engine, changes, named):
    with pytest.raises(UserError, match=f"^{named}.*; "):
        engine.draw(Request(**{"prompt": PROMPT, **changes}))

"""Every way to guide a training: stopped and continued, in parts, by several processes, its cost,
its settings; and early stopping, which all have."""

import csv
import multiprocessing

import pytest
import torch

from tests import children, tiny
from tests.test_training import UNET, survive, weights
from vlg.config import variants
from vlg.config.load import load
from vlg.config.sections import Sampling
from vlg.errors import UserError
from vlg.files import read_json
from vlg.train import loop, own, rounds
from vlg.train.step import backward, train_step

WAYS = ("refl", "draft", "imagerefl", "raft", "dpo", "nft", "ddpo")
# Half of a batch drawn in every other step, so that both kinds of steps and rows are there.
HALF = {"own_share": 0.5, "own_every": 2}
OWN = {
    "refl": HALF,
    "draft": {**HALF, "last_steps": 2},
    "imagerefl": {**HALF, "refl_every": 3},
    "raft": {},
    "dpo": {"margin": 0.001},
    "nft": {},
    "ddpo": {"clip_range": 0.1},
}
SLOW = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def runner():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.children"])
    return context


def rows(out, model, name="log.csv"):
    with open(out / "training" / model / name) as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("way", "rank"),
    [
        *((way, 0) for way in ("refl", "raft", "nft", "ddpo")),
        *((way, 2) for way in ("draft", "dpo", "nft")),
    ]
    + [pytest.param(way, 2, marks=SLOW) for way in ("refl", "imagerefl", "raft", "ddpo")]
    + [pytest.param(way, 0, marks=SLOW) for way in ("draft", "imagerefl", "dpo")],
)
def test_chained_checkpoints_equal_one_straight_run(tmp_path, way, rank):
    """Checkpoints lie within a round and at its edge; all weights, and a LoRA."""
    options = {"lora_rank": rank, **OWN[way]}
    tiny.finetune(tmp_path / "one", way, step=4, **options)
    for start, step in ((0, 1), (1, 2), (2, 4)):
        tiny.finetune(tmp_path / "two", way, start=start, step=step, **options)
    one, two = (weights(tmp_path / out, f"{way}-4") for out in ("one", "two"))
    assert one == two
    costs = [read_json(tmp_path / out / f"training/{way}-4/summary.json")["cost"]["training"]
             for out in ("one", "two")]  # fmt: skip
    assert costs[0] == costs[1]


@pytest.mark.parametrize(
    "way", ["nft", *(pytest.param(way, marks=SLOW) for way in WAYS if way != "nft")]
)
def test_killed_runs_end_in_the_same_bits(runner, tmp_path, way):
    tiny.pairs()
    options = {"name": way, **OWN[way]}
    tiny.finetune(tmp_path / "whole", step=4, **options)
    assert survive(runner, tmp_path / "killed", [9], save_every=1, **options, step=4) == 1
    assert weights(tmp_path / "killed", f"{way}-4") == weights(tmp_path / "whole", f"{way}-4")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("saving", [{"accumulate": 4}, {"gradient_checkpointing": True}])
def test_saving_memory_gives_the_same_gradient(way, saving):
    gradients = []
    for options in ({}, saving):
        run = tiny.begin(way, **OWN[way], **options)
        run.method.before(run.state.net, run.data, 0)
        _, sums = backward(run, run.method.batch(run.data, 0))
        gradients.append((sums, *(p.grad for p in run.state.weights.values())))
    for whole, parts in zip(*gradients, strict=True):
        assert torch.allclose(whole, parts, rtol=1e-3, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize(
    ("way", "most"),
    [("nft", None), ("draft", 1)]
    + [pytest.param(way, 1, marks=SLOW) for way in WAYS if way != "draft"],
)
def test_two_processes_equal_one(runner, tmp_path, way, most):
    """Where `most` is 1, the second runs out of memory on more than one sample at once."""
    from safetensors.torch import load_file

    tiny.pairs()
    options = {"name": way, "step": 3, **OWN[way]}
    pair = [
        runner.Process(
            target=children.share, args=(tmp_path, tiny.world(), rank, {**options, "most": most})
        )
        for rank in (0, 1)
    ]
    for child in pair:
        child.start()
    for child in pair:
        child.join(300)
    assert [child.exitcode for child in pair] == [0, 0]
    tiny.finetune(tmp_path / "one", **options)
    base = load_file(tiny.world()["base"] / UNET)
    two, one = (load_file(out / f"models/{way}-3" / UNET) for out in (tmp_path, tmp_path / "one"))
    one, two, base = (torch.cat([each[key].flatten() for key in base]) for each in (one, two, base))
    # Sums in another order; AdamW takes the sign of tiny gradients.
    assert (one - two).norm() < 0.05 * (one - base).norm()


def test_a_round_does_not_depend_on_how_many_are_drawn_at_once(monkeypatch):
    draw, pools = own.draw, []

    def limited(family, net, data, captions, *rest, **options):
        if len(captions) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return draw(family, net, data, captions, *rest, **options)

    for each in (draw, limited):
        monkeypatch.setattr(rounds.own, "draw", each)
        run = tiny.begin("raft")
        run.method.before(run.state.net, run.data, 0)
        pools.append(run.method.pool)
    assert torch.equal(pools[0]["captions"], pools[1]["captions"])
    assert torch.allclose(pools[0]["latents"], pools[1]["latents"], atol=1e-4)


COUNTS = {  # of a step: forwards and backwards of 4 pictures; 2 own samples, 4 guided steps
    "refl": ((4 + 2 * 2 * 4, 4 + 2 * 2), (2, 2), (2, 2)),
    "draft": ((4 + 2 * 2 * 4, 4 + 2 * 2 * 2), (2, 2), (2, 2)),
    "imagerefl": ((4 + 2 * 2 * 1, 4 + 2 * 2), (2, 2), (2, 2)),
    "raft": (
        (4 + 6 * 2 * 4, 4),
        (6, 0),
        (6, 0),
    ),  # 6 own samples a round, of which 2 are trained on
    "dpo": ((4 + 2 + 4, 4 + 2), (0, 0), (0, 0)),  # both of a pair, and the base's predictions
    "nft": ((4 + 2 * 2 + 6 * 4, 4), (6, 0), (6, 0)),  # the copy's and the base's; no guidance
    "ddpo": ((2 + 2 * 2 + 6 * 2 * 4, 2 + 2 * 2), (6, 0), (6, 0)),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_cost_of_a_step_is_counted_by_hand(way):
    more = {"late_from": 0.75, "own_guidance": 2.0} if way in ("refl", "imagerefl") else {}
    run = tiny.begin(way, **OWN[way], **more, caption_dropout=0)
    train_step(run)
    cost = run.ledger.take()
    parts = ("network", "decoder", "guide")
    assert tuple((cost.of(p), cost.of(p, "backward")) for p in parts) == COUNTS[way]


def test_logs_have_the_terms(tmp_path):
    tiny.finetune(tmp_path, "draft", step=2, **OWN["draft"])
    first, second = rows(tmp_path, "draft-2")
    assert list(first)[:5] == ["step", "loss", "denoising", "reward", "reward_cosine"]
    assert first["reward_cosine"] and not second["reward_cosine"]  # nothing was drawn in the second
    loss = float(first["denoising"]) + 2 * 100 * float(first["reward"])
    assert float(first["loss"]) == pytest.approx(loss, rel=1e-4)
    (look, *_) = rows(tmp_path, "draft-2", "held_out.csv")
    assert list(look) == ["step", "denoising", "guide_cosine", "grad_denoising", "grad_reward"]
    assert float(look["grad_reward"]) > 0


@pytest.mark.parametrize("way", WAYS)
def test_a_method_lowers_its_own_term(way):
    """On one batch, over and over."""
    run = tiny.begin(way, **OWN[way], denoising_scale=0, learning_rate=3e-3, warmup_steps=0)
    run.method.before(run.state.net, run.data, 0)
    batch, found = run.method.batch(run.data, 0), []
    if way in ("nft", "ddpo"):  # all better than others; random models draw nothing that is
        batch.score.fill_(1)
    for _ in range(8):
        _, numbers = backward(run, batch)
        run.state.update()
        found.append(numbers[1].item())  # of its first term behind the denoising loss
    assert min(found[-2:]) < found[0] - 0.001


@pytest.mark.parametrize(
    ("way", "values", "message"),
    [
        ("draft", {"last_steps": 9}, "finetune.last_steps.*9 of the 4 steps"),
        ("draft", {"last_steps": 2, "low_variance": 1}, "finetune.low_variance"),
        ("imagerefl", {"data_from": 0.9}, "finetune.data_from"),
        ("raft", {"data_share": 0.9}, "finetune.data_share.*leaves no own sample"),
        ("raft", {"round_samples": 1}, "finetune.round_samples"),
        ("nft", {"beta": 0}, "finetune.beta"),
        ("dpo", {"margin": 5.0}, "finetune.margin.*above all differences"),
        ("dpo", {"pairs": None}, "--folder pairs=PATH: missing"),
        ("refl", {"guide": None}, "--guide: missing"),
        ("raft", {"reward": "verifyer"}, "'verifyer' is no function of a file"),
        ("raft", {"reward": "verifier"}, "finetune.reward.*cannot read the caption"),
    ],
)
def test_bad_settings_are_named(tmp_path, way, values, message):
    with pytest.raises(UserError, match=message) as error:
        tiny.finetune(tmp_path, way, step=1, **values)
    assert "\n" not in str(error.value)


def test_any_function_may_rank_own_samples(tmp_path, monkeypatch):
    (tmp_path / "darkest.py").write_text(
        "def score(images, prompts):\n"
        "    assert all(prompts) and images[0].dtype == 'uint8'\n"
        "    return [-float(image.mean()) for image in images]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    run = tiny.begin("raft", reward="darkest.score")
    run.method.before(run.state.net, run.data, 0)
    dark = run.method.pool
    latents, scores = run.method.drawn(run.state.net, run.data, dark["captions"].tolist(), 0)
    best = scores.argmax(dim=1)
    assert torch.equal(dark["latents"], latents[range(len(best)), best])
    pixels = run.family.decode(latents.flatten(0, 1)).mean(dim=(1, 2, 3)).view(scores.shape)
    assert torch.allclose(-255 * pixels, scores, atol=0.6)
    assert dark["score"].tolist() == scores.max(dim=1).values.tolist()
    bad = "def score(images, prompts):\n    return [0.0]\n"
    (tmp_path / "careless.py").write_text(bad)
    other = tiny.begin("raft", reward="careless.score")
    with pytest.raises(UserError, match="finetune.reward: careless.score: must return a finite"):
        other.method.before(other.state.net, other.data, 0)
    named = [str(file) for file in run.settings.files()]
    assert named == ["darkest.py"]


def test_the_oracle_ranks_by_the_facts():
    import random
    from types import SimpleNamespace

    from vlg.data.source import Listing
    from vlg.shapes import captions, world
    from vlg.train.score import scorer

    scene = world.sample(random.Random(0), world.PAIRS["in"], "single")
    said = captions.caption(scene, random.Random(0))
    data = SimpleNamespace(listing=Listing([], ["", said], []))
    right = torch.from_numpy(world.render(scene)).permute(2, 0, 1).float() / 255
    empty = torch.ones_like(right)
    score = scorer("verifier", None)(data, [1, 1], torch.stack([right, empty]))
    assert score[0] == 1 > score[1]


# --- pairs --------------------------------------------------------------------------------------


def test_variants_share_pairs_that_are_drawn_alike(tmp_path):
    """And own samples are drawn as the study draws, unless a variant says otherwise."""
    given = {
        "one": {"method": "dpo"},
        "two": {"method": "dpo", "beta": 100, "margin": 0.1, "lora_rank": 2},
        "three": {"method": "dpo", "pair_samples": 2},
        "four": {"method": "dpo", "own_guidance": 1},
        "mine": {"method": "draft", "last_steps": 1},
    }
    config = load({"finetune": {"variants": given}, "generate": {"steps": 7}}, tmp_path)
    found = variants.entries(config)
    one, two, three, four = (found[name].pairs for name in ("one", "two", "three", "four"))
    assert one == two and len({one[0], three[0], four[0]}) == 3
    assert one[1].steps == 7 and four[1].guidance_scale == 1
    assert found["mine"].pairs is None
    assert found["mine"].handed_on(5)["sampling"]["steps"] == 7


@pytest.mark.parametrize(
    ("variant", "more", "message"),
    [
        ({"method": "draft", "last_steps": 11}, {}, "variants.mine.last_steps: 11 of the 10 steps"),
        ({"method": "raft", "reward": "mine.score"}, {}, "variants.mine.reward: 'mine.score'"),
        ({"method": "raft", "sampling": {}}, {}, "variants.mine.sampling: unknown key"),
        ({"stop_judge": "none"}, {}, "variants.mine.stop_judge: 'none' has no config.json"),
        ({"stop_judge": "clip"}, {"judges": {"further": {"source": "clip"}}},
         "variants.mine.stop_judge: is the same model as judges.further"),
        ({"stop_judge": "clip"}, {"development": {"count": 0}}, "development.count: is 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_told_before_any_job(tmp_path, variant, more, message):
    tiny.save_judge(tmp_path / "clip")
    with pytest.raises(UserError, match=message) as error:
        load({"finetune": {"variants": {"mine": variant}}, **more}, tmp_path)
    assert "\n" not in str(error.value)


def test_pairs_are_drawn_on_after_a_kill(tmp_path, monkeypatch):
    """What was drawn before is kept, and the folder is that of one straight run."""
    from vlg.config.sections import Pairs
    from vlg.train import pairs

    world, draw, calls = tiny.world(), own.draw, []
    given = {name: world[name] for name in ("base", "cache", "guide", "embeddings")}
    how = Pairs(pair_captions=3, pair_samples=2, **tiny.DRAWN["sampling"])

    def dying(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return draw(*arguments, **options)

    whole = pairs.draw(given, how, tmp_path / "whole", "code", "cpu", 2)
    monkeypatch.setattr(pairs.own, "draw", dying)
    with pytest.raises(KeyboardInterrupt):
        pairs.draw(given, how, tmp_path / "killed", "code", "cpu", 2)
    again = pairs.draw(given, how, tmp_path / "killed", "code", "cpu", 2)
    assert len(calls) == 4  # three batches of two, one of them tried twice
    assert again == whole
    one, two = (tmp_path / name / pairs.SAMPLES for name in ("whole", "killed"))
    assert one.read_bytes() == two.read_bytes()
    assert not list(tmp_path.glob(".resume*"))


# --- early stopping -----------------------------------------------------------------------------


@pytest.fixture
def stopped_by(tmp_path, monkeypatch):
    """Options of a training whose judge finds these scores, look by look."""
    from vlg.train import stop

    def options(*scores):
        found = dict(enumerate(scores))
        monkeypatch.setattr(
            stop.Stopping, "_score", lambda self, run: found.get(run.state.step, 0.0)
        )
        judge = tmp_path / "stop-judge"
        if not judge.is_dir():
            tiny.save_judge(judge, seed=9)
        wanted = loop.Wanted(["a red circle"], [0], Sampling(steps=2, guidance_scale=1.0))
        return {"stop_judge": judge, "development": wanted, "evaluate_every": 1}

    return options


def test_a_training_stops_where_a_held_out_judge_sees_no_gain(tmp_path, stopped_by):
    options = {**stopped_by(0.1, 0.3, 0.4, 0.2, 0.4, 0.3), "stop_patience": 2}
    tiny.finetune(tmp_path / "one", "normal", step=5, **options)
    tiny.finetune(tmp_path / "best", "normal", step=2, **options)
    one, best = (tmp_path / name / "models" for name in ("one", "best"))
    assert (one / "normal-5" / UNET).read_bytes() == (best / "normal-2" / UNET).read_bytes()
    summary = read_json(tmp_path / "one/training/normal-5/summary.json")
    assert summary["early_stop"] == {"best": 0.4, "step": 2, "since": 2, "stopped": 4}
    assert summary["step"] == 5 and len(rows(tmp_path / "one", "normal-5")) == 4
    looks = rows(tmp_path / "one", "normal-5", "held_out.csv")
    assert [float(look["stop_score"]) for look in looks] == [0.1, 0.3, 0.4, 0.2, 0.4]
    # chained checkpoints are the same, and those behind a stop train nothing
    for start, step in ((0, 3), (3, 4), (4, 5)):
        tiny.finetune(tmp_path / "two", "normal", start=start, step=step, **options)
    assert weights(tmp_path / "two", "normal-5") == weights(tmp_path / "one", "normal-5")


def test_the_judge_draws_what_the_finished_model_would(tmp_path):
    """The score of a look is that of the pictures of the model that is written."""
    from vlg.models.clip import Clip
    from vlg.sample.sampler import Sampler

    judge = tiny.save_judge(tmp_path / "stop-judge", seed=9)
    how, texts = Sampling(steps=2, guidance_scale=2.0), ["a red circle", "a blue square"]
    wanted = loop.Wanted(texts, [0, 1], how)
    options = {"stop_judge": judge, "development": wanted, "evaluate_every": 2}
    model = tiny.finetune(tmp_path, "normal", step=2, **options)
    sampler = Sampler(model, how, "cpu")
    scores = []
    for seed in (0, 1):
        pictures = sampler.draw(texts, [seed] * 2)
        scores += Clip(judge, "cpu").scores(list(pictures), texts)
    look = rows(tmp_path, "normal-2", "held_out.csv")[-1]
    assert float(look["stop_score"]) == pytest.approx(sum(scores) / 4, abs=0.02)
    assert read_json(tmp_path / "training/normal-2/summary.json")["cost"]["looks"]["judge"]


def test_stopping_early_wants_prompts_to_look_at(tmp_path):
    judge = tiny.save_judge(tmp_path / "stop-judge", seed=9)
    with pytest.raises(UserError, match="--development: missing"):
        tiny.finetune(tmp_path, "normal", step=2, stop_judge=judge)

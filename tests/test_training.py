"""Runs that are chained, killed, damaged or told to stop end where a straight run ends."""

import csv
import hashlib
import math
import multiprocessing
import random
import shutil
import signal

import pytest
import torch

from tests import children, tiny
from vlg.errors import UserError
from vlg.files import check_manifest, read_json
from vlg.models.family import Family
from vlg.train import checkpoints, log, loop
from vlg.train.state import clip
from vlg.train.step import backward

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The folder of a run of six steps that nothing disturbed."""
    out = tmp_path_factory.mktemp("straight")
    tiny.finetune(out, step=6)
    return out


def weights(out, name="embed-6"):
    """{file: sha256} of every safetensors file of a checkpoint: the model's and the state's."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for kind in ("models", "training")
        for path in sorted((out / kind / name).rglob("*.safetensors"))
    }


MACHINES = ("pictures_per_second", "memory_gb", "seconds")  # columns that runs may differ in


def rows(out, name="log.csv", model="embed-6", without=MACHINES):
    with open(out / "training" / model / name) as file:
        return [{k: v for k, v in r.items() if k not in without} for r in csv.DictReader(file)]


def test_chained_checkpoints_equal_one_straight_run(straight, tmp_path):
    tiny.finetune(tmp_path, step=2)
    tiny.finetune(tmp_path, start=2, step=4)
    tiny.finetune(tmp_path, start=4, step=6)
    assert weights(tmp_path) == weights(straight)
    assert len(weights(straight)) == 7  # unet, vae, text encoder; weights, ema and two moments
    assert rows(tmp_path) == rows(straight) and len(rows(tmp_path)) == 6
    assert (
        weights(tmp_path, "embed-2")["models/embed-2/" + UNET]
        != weights(tmp_path)["models/embed-6/" + UNET]
    )


def test_without_ema_and_guide_too(tmp_path):
    options = {"ema_decay": 0, "min_snr_gamma": 5.0}
    for out in ("one", "two"):
        if out == "two":
            tiny.finetune(tmp_path / out, "normal", step=1, **options)
        tiny.finetune(tmp_path / out, "normal", step=3, start=int(out == "two"), **options)
    one, two = (weights(tmp_path / out, "normal-3") for out in ("one", "two"))
    assert one == two and len(one) == 6


@pytest.fixture(scope="module")
def runner():
    """Processes forked from a clean one that has imported all libraries once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.children"])
    return context


def survive(runner, out, kills, **options):
    """Run to the end through SIGKILLs at the given events; returns how many struck."""
    struck = 0
    for kill_at in [*kills, 10**6]:
        child = runner.Process(
            target=children.kill, args=(out, tiny.world(), kill_at, {"step": 6, **options})
        )
        child.start()
        child.join(300)
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
        struck += 1
    assert child.exitcode == 0
    return struck


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_runs_end_in_the_same_bits(straight, runner, tmp_path, seed):
    # About 30 events lie between start and end with a save every second step.
    kills = [random.Random(seed).randrange(1, 24) for _ in range(3)]
    assert survive(runner, tmp_path, kills, save_every=2) >= 2
    assert weights(tmp_path) == weights(straight)
    assert rows(tmp_path) == rows(straight)
    assert rows(tmp_path, "held_out.csv") == rows(straight, "held_out.csv")
    leftovers = [p.name for p in tmp_path.rglob(".*")]
    assert leftovers == []  # neither resume folder nor temporary files


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_killed_runs_at_many_moments(straight, runner, tmp_path, seed):
    rng = random.Random(f"many {seed}")
    kills = [rng.randrange(0, 60) for _ in range(rng.randrange(1, 6))]
    struck = survive(runner, tmp_path, kills, save_every=rng.randrange(1, 4))
    print(f"killed {struck} times")  # pytest -rP shows it
    assert weights(tmp_path) == weights(straight)
    assert rows(tmp_path) == rows(straight)


def interrupted(out, monkeypatch, after=5, **options):
    """Stop a run of six steps by a signal; returns its resume folder."""
    stop, step = loop.Stop(), loop.train_step

    def wrapped(run):
        if run.state.step == after - 1:
            stop.note(signal.SIGTERM, None)
        return step(run)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", wrapped)
        with pytest.raises(UserError, match=f"SIGTERM after step {after}"):
            tiny.finetune(out, step=6, save_every=1, stop=stop, **options)
    return out / "training" / ".resume-embed-6"


def count_steps(monkeypatch):
    done, step = [], loop.train_step
    monkeypatch.setattr(loop, "train_step", lambda run: done.append(run.state.step) or step(run))
    return done


def test_sigterm_keeps_the_state_and_the_next_call_goes_on(straight, tmp_path, monkeypatch):
    resume = interrupted(tmp_path, monkeypatch)
    assert sorted(p.name for p in resume.glob("step-*")) == ["step-00000004", "step-00000005"]
    assert not (tmp_path / "models").exists() or not list((tmp_path / "models").iterdir())
    done = count_steps(monkeypatch)
    tiny.finetune(tmp_path, step=6)
    assert done == [5]
    assert weights(tmp_path) == weights(straight)
    assert not resume.exists()


@pytest.mark.parametrize("damage", ["bytes", "cut", "missing", "manifest"])
def test_a_damaged_newest_state_is_passed_over(straight, tmp_path, monkeypatch, caplog, damage):
    resume = interrupted(tmp_path, monkeypatch)
    victim = resume / "step-00000005" / "ema.safetensors"
    if damage == "bytes":
        content = bytearray(victim.read_bytes())
        content[-3] ^= 1  # one bit of one weight
        victim.write_bytes(content)
    elif damage == "cut":
        victim.write_bytes(victim.read_bytes()[:1000])
    elif damage == "missing":
        victim.unlink()
    else:
        victim.with_name("manifest.json").write_text("{")
    done = count_steps(monkeypatch)
    tiny.finetune(tmp_path, step=6)
    assert done == [4, 5]
    assert "damaged state step-00000005" in caplog.text
    assert weights(tmp_path) == weights(straight)


def test_a_state_of_other_settings_is_not_continued(tmp_path, monkeypatch, caplog):
    interrupted(tmp_path, monkeypatch)
    done = count_steps(monkeypatch)
    tiny.finetune(tmp_path, step=6, guide_scale=0.2)
    assert done == [0, 1, 2, 3, 4, 5]
    assert "settings differs" in caplog.text


def test_a_full_disk_loses_nothing_saved(straight, tmp_path, monkeypatch):
    resume = interrupted(tmp_path, monkeypatch)
    write = checkpoints.write_json

    def full(path, value):
        if path.name == "counters.json":
            raise OSError(28, "No space left on device", str(path))
        write(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_json", full)
        with pytest.raises(OSError, match="No space left"):
            tiny.finetune(tmp_path, step=6)
    assert sorted(p.name for p in resume.glob("*step-*")) == ["step-00000004", "step-00000005"]
    tiny.finetune(tmp_path, step=6)
    assert weights(tmp_path) == weights(straight)


def test_the_checkpoint_before_must_be_the_right_one_and_whole(straight, tmp_path):
    shutil.copytree(straight / "training", tmp_path / "training")
    wrong = tmp_path / "training" / "embed-6"
    with pytest.raises(UserError, match="is at step 6, not at 7"):
        tiny.finetune(tmp_path, start=7, step=8, previous=wrong)
    with pytest.raises(UserError, match="was trained with guide_scale 0.3, not 0.2"):
        tiny.finetune(tmp_path, start=6, step=8, guide_scale=0.2)
    with pytest.raises(UserError, match="--previous: is at step 0, not at 6"):
        tiny.finetune(tmp_path, start=6, step=8, previous=None)
    (wrong / "state" / "weights.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="weights.safetensors: checksum differs"):
        tiny.finetune(tmp_path, start=6, step=8)
    shutil.rmtree(wrong / "state")
    remedy = "state: was deleted.*delete .*training/embed-6/manifest.json and rerun"
    with pytest.raises(UserError, match=remedy):
        tiny.finetune(tmp_path, start=6, step=8)


def test_nan_stops_the_run_with_term_and_step(tmp_path, monkeypatch):
    denoising = Family.denoising
    calls = []

    def poisoned(*args):
        calls.append(1)
        loss = denoising(*args)
        return loss * math.nan if len(calls) == 4 else loss

    monkeypatch.setattr(Family, "denoising", poisoned)
    with pytest.raises(UserError, match="denoising is nan at step 3"):
        tiny.finetune(tmp_path, "normal", step=6, guide=None, evaluate_every=100, save_every=1)
    states = (tmp_path / "training" / ".resume-normal-6").glob("step-*")
    assert sorted(p.name for p in states) == ["step-00000001", "step-00000002"]
    for terms, norm, told in (
        ({"denoising": 1.0, "clip": math.inf}, 1.0, "clip is inf at step 9"),
        ({"denoising": 1000.0}, 1.0, "denoising is 1000 at step 9"),
        ({"reward": -1e4}, math.nan, "grad_norm is nan at step 9"),
    ):
        with pytest.raises(UserError, match=told):
            log.check(9, terms, norm)


def test_the_guide_is_watched_where_it_is_wanted(tmp_path):
    for watched in (False, True):
        out = tmp_path / str(watched)
        tiny.finetune(out, "normal", step=1, watch_guide=watched)
        looks = rows(out, "held_out.csv", "normal-1")
        assert len(looks) == 2
        assert all(bool(row.get("guide_cosine")) == watched for row in looks)
    unets = [tmp_path / str(watched) / "models/normal-1" / UNET for watched in (False, True)]
    assert unets[0].read_bytes() == unets[1].read_bytes()


def test_a_model_folder_is_whole_and_draws(straight):
    from diffusers import StableDiffusionPipeline

    folder = straight / "models" / "embed-6"
    manifest = check_manifest(folder)
    assert manifest["variant"] == "embed" and manifest["step"] == 6
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    picture = pipe("a red circle", num_inference_steps=2, output_type="np").images
    assert picture.shape == (1, 32, 32, 3)
    base = tiny.world()["base"]
    assert (folder / "vae/config.json").samefile(base / "vae/config.json")  # a link, not a copy
    assert not (folder / UNET).samefile(base / UNET)
    ema = checkpoints.read_state(straight / "training/embed-6/state")[0]["ema"]
    assert all(torch.equal(p, ema[name]) for name, p in pipe.unet.named_parameters())


def test_the_training_folder_says_what_happened(straight):
    folder = straight / "training" / "embed-6"
    check_manifest(folder)
    log = rows(straight, without=())
    assert [int(row["step"]) for row in log] == [1, 2, 3, 4, 5, 6]
    assert [float(row["learning_rate"]) for row in log[:4]] == pytest.approx(
        [1e-3 / 3, 2e-3 / 3, 1e-3, 1e-3], rel=1e-4
    )
    for row in log:
        terms = float(row["denoising"]) + 0.3 * float(row["clip"])
        assert float(row["loss"]) == pytest.approx(terms, rel=1e-4)
    held_out = rows(straight, "held_out.csv")
    assert [row["step"] for row in held_out] == ["0", "3", "6"]
    summary = read_json(folder / "summary.json")
    assert summary["variant"] == "embed" and summary["step"] == 6
    assert summary["settings"]["method"] == "embed" and summary["settings"]["window"] == [0, 700]
    assert summary["train_seconds"] == pytest.approx(float(log[-1]["seconds"]), rel=1e-3)
    assert summary["held_out"]["denoising"] == float(held_out[-1]["denoising"])
    assert -1 <= summary["held_out"]["guide_cosine"] <= 1
    columns = list(log[0]), list(held_out[0])
    assert columns == (
        ["step", "loss", "denoising", "clip", "guide_cosine", "grad_norm", "learning_rate",
         "pictures_per_second", "memory_gb", "seconds"],
        ["step", "denoising", "guide_cosine", "grad_denoising", "grad_clip"],
    )  # fmt: skip


def test_columns_are_the_terms_of_a_method(tmp_path):
    tiny.finetune(tmp_path, "normal", step=1)
    (row,) = rows(tmp_path, model="normal-1")
    assert list(row) == ["step", "loss", "denoising", "grad_norm", "learning_rate"]
    assert row["loss"] == row["denoising"]
    assert list(rows(tmp_path, "held_out.csv", "normal-1")[0]) == ["step", "denoising"]


def test_tensorboard_shows_every_step(straight):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(straight / "training/embed-6/tensorboard"))
    events.Reload()
    curve = [(event.step, event.value) for event in events.Scalars("train/loss")]
    expected = [(int(row["step"]), float(row["loss"])) for row in rows(straight)]
    assert [step for step, _ in curve] == [step for step, _ in expected]
    assert [v for _, v in curve] == pytest.approx([v for _, v in expected], rel=1e-5)
    assert [event.step for event in events.Scalars("held_out/denoising")] == [0, 3, 6]


def drawn(step, **own):
    run = tiny.begin("normal", **own)
    return run.method.batch(run.data, step)


@pytest.mark.parametrize("size", [1e-3, 1 - 1e-6, 1.0, 1 + 1e-6, 10.0, math.inf, math.nan])
@pytest.mark.parametrize("most", [1.0, math.inf])
def test_clipping_is_that_of_torch_to_the_bit(size, most):
    def gradients():
        weights = [torch.zeros(3, 5), torch.zeros(7)]
        drawn = [torch.randn(w.shape, generator=torch.Generator().manual_seed(1)) for w in weights]
        total = torch.nn.utils.get_total_norm(drawn)
        for weight, gradient in zip(weights, drawn, strict=True):
            weight.grad = gradient / total * size
        return weights

    ours, theirs = gradients(), gradients()
    norm, wanted = clip(ours, most), torch.nn.utils.clip_grad_norm_(theirs, most)
    for a, b in zip(
        [norm, *(w.grad for w in ours)], [wanted, *(w.grad for w in theirs)], strict=True
    ):
        assert a.numpy().tobytes() == b.numpy().tobytes()


def test_data_order_walks_every_picture_once_an_epoch():
    run = tiny.begin("normal", step=50)
    walk = [i for s in range(22) for i in run.method.batch(run.data, s).pictures]
    epochs = [walk[i : i + 22] for i in range(0, 88, 22)]  # 22 steps of 4 are 4 epochs of 22
    assert all(sorted(epoch) == list(range(22)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert not set(walk) & set(run.data.held_out)


def test_one_draw_does_not_disturb_another():
    plain, dropped = (drawn(7, caption_dropout=rate) for rate in (0.0, 0.9))
    assert 0 not in plain.captions and 0 in dropped.captions
    assert torch.equal(plain.noise, dropped.noise)
    assert torch.equal(plain.timesteps, dropped.timesteps)
    run = tiny.begin("normal", step=50)
    batches = [run.method.batch(run.data, s) for s in range(50)]
    share = sum(b.captions.count(0) for b in batches) / 200
    assert 0.1 < share < 0.3  # caption_dropout 0.2, standard error 0.03
    captions = run.data.rows
    second = [b.captions[i] != captions[p][0]
              for b in batches for i, p in enumerate(b.pictures)
              if len(captions[p]) == 2 and b.captions[i]]  # fmt: skip
    assert 0.3 < sum(second) / len(second) < 0.7  # either caption of two


@pytest.mark.parametrize("saving", [{"accumulate": 3}, {"gradient_checkpointing": True}])
def test_saving_memory_gives_the_same_gradient(saving):
    gradients = []
    for options in ({}, saving):
        run = tiny.begin(batch_size=8, **options)
        _, sums = backward(run, run.method.batch(run.data, 0))
        gradients.append((sums, *(p.grad for p in run.state.weights.values())))
    for whole, parts in zip(*gradients, strict=True):
        assert torch.allclose(whole, parts, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("most", [None, 1])  # the second of them runs out of memory
def test_two_processes_equal_one(straight, runner, tmp_path, most):
    from safetensors.torch import load_file

    options = {"step": 6, "most": most}
    pair = [
        runner.Process(target=children.share, args=(tmp_path, tiny.world(), rank, options))
        for rank in (0, 1)
    ]
    for child in pair:
        child.start()
    for child in pair:
        child.join(300)
    assert [child.exitcode for child in pair] == [0, 0]
    one, two = (load_file(out / "models/embed-6" / UNET) for out in (straight, tmp_path))
    base = load_file(tiny.world()["base"] / UNET)
    moved = max((one[key] - base[key]).abs().max() for key in one)
    apart = max((one[key] - two[key]).abs().max() for key in one)
    assert apart < 0.05 * moved  # sums in another order; AdamW takes the sign of tiny gradients
    for ours, theirs in zip(rows(tmp_path), rows(straight), strict=True):
        assert ours["guide_cosine"] or not theirs["guide_cosine"]
        assert float(ours["loss"]) == pytest.approx(float(theirs["loss"]), rel=1e-3)


def test_lora_trains_few_weights_and_writes_a_whole_model(tmp_path):
    from diffusers import StableDiffusionPipeline
    from safetensors.torch import load_file

    options = {"lora_rank": 2, "learning_rate": 0.01}
    tiny.finetune(tmp_path, step=1, **options)
    model = tiny.finetune(tmp_path, start=1, step=3, **options)
    straight = tiny.finetune(tmp_path / "straight", step=3, **options)
    tensors, base = load_file(model / UNET), load_file(tiny.world()["base"] / UNET)
    assert tensors.keys() == base.keys()
    changed = {name for name in base if not torch.equal(base[name], tensors[name])}
    assert changed and all(".attn" in name and ".to_" in name for name in changed)
    name = "pytorch_lora_weights.safetensors"
    for file in (UNET, name):
        assert (model / file).read_bytes() == (straight / file).read_bytes()
    # the base with the LoRA file is the model that was written
    pipe = StableDiffusionPipeline.from_pretrained(tiny.world()["base"])
    pipe.load_lora_weights(model, weight_name=name)
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    for key, tensor in pipe.unet.state_dict().items():
        assert torch.allclose(tensor, tensors[key], atol=1e-6)
    assert read_json(tmp_path / "training/embed-3/summary.json")["parameters"] < 5000


def test_a_tiny_decoder_serves_the_gradient_only(straight, tmp_path):
    tiny.finetune(tmp_path, step=6, decoder=tiny.save_decoder(tmp_path / "decoder"))
    ours, theirs = (rows(out, "held_out.csv")[0] for out in (tmp_path, straight))
    assert ours["guide_cosine"] == theirs["guide_cosine"]  # of the base, through the VAE
    assert ours["grad_clip"] != theirs["grad_clip"]


def test_v_prediction_and_checkpointing_train(tmp_path):
    model = tiny.finetune(
        tmp_path, step=2, prediction="v_prediction", gradient_checkpointing=True, target="mix"
    )
    assert read_json(model / "scheduler/scheduler_config.json")["prediction_type"] == "v_prediction"


def test_bfloat16_computes_over_float32_weights(tmp_path):
    from safetensors.torch import load_file

    model = tiny.finetune(tmp_path, step=2, precision="bf16")
    tensors = load_file(model / UNET)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    log = rows(tmp_path, model="embed-2")
    exact = tiny.finetune(tmp_path / "exact", step=2)
    assert float(log[0]["denoising"]) == pytest.approx(
        float(rows(tmp_path / "exact", model="embed-2")[0]["denoising"]), rel=0.02
    )
    assert not torch.equal(load_file(exact / UNET)["conv_in.weight"], tensors["conv_in.weight"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"guide_scal": 1}, "finetune.guide_scal: unknown"),
        ({"batch_size": 0}, "finetune.batch_size.*0"),
        ({"step": 0}, "finetune.step.*0"),
        ({"target": "txt"}, "finetune.target.*txt"),
        ({"window": [800, 700]}, "finetune.window"),
        ({"window": [0, 1000]}, "finetune.window"),
    ],
)
def test_bad_settings_are_named(tmp_path, values, message):
    with pytest.raises(UserError, match=message) as error:
        tiny.finetune(tmp_path, **values)
    assert "\n" not in str(error.value)


def test_a_method_that_is_not_there_is_told_with_those_that_are(tmp_path):
    with pytest.raises(UserError, match="no method 'embd'; did you mean embed"):
        tiny.finetune(tmp_path, "embd")


def test_a_method_that_follows_a_guide_wants_one(tmp_path):
    with pytest.raises(UserError, match="--guide: missing"):
        tiny.finetune(tmp_path, guide=None)
    with pytest.raises(UserError, match="--embeddings: missing"):
        tiny.finetune(tmp_path, embeddings=None)


# ------------------------------------------------------------------ what a training has computed


def cost(out, model):
    return read_json(out / "training" / model / "summary.json")["cost"]


def test_the_cost_of_training_is_counted_by_hand(straight):
    """Six steps of 4 pictures; looks at 2 held-out pictures at steps 0, 3 and 6."""
    found, run = cost(straight, "embed-6"), tiny.begin()
    inside = 0
    for step in range(6):
        batch = run.method.batch(run.data, step)
        rows = zip(batch.captions, batch.timesteps.tolist(), strict=True)
        inside += sum(caption != 0 and t <= 700 for caption, t in rows)
    counts = {
        name: (part["forward"], part["backward"])
        for name, part in found["training"].items()
        if name != "flops"
    }
    assert counts == {
        "network": (24, 24), "decoder": (inside, inside), "guide": (inside, inside),
    }  # fmt: skip
    parts = [part["flops"] for name, part in found["training"].items() if name != "flops"]
    assert found["training"]["flops"] == sum(parts) > 0
    # a look predicts 2 pictures, and the two terms' gradients are those of a batch of 4 each
    assert found["looks"]["network"]["forward"] == 3 * (2 + 2 * 4)
    assert found["looks"]["network"]["backward"] == 3 * 2 * 4


def test_a_normal_step_costs_the_network_alone(tmp_path):
    tiny.finetune(tmp_path, "normal", step=3)
    found = cost(tmp_path, "normal-3")
    assert set(found["training"]) == {"flops", "network"}
    assert set(found["looks"]["network"]) == {"forward", "backward", "flops"}
    assert found["looks"]["network"]["backward"] == 0


def test_cost_adds_up_along_the_chain_and_over_stops(straight, tmp_path, monkeypatch):
    tiny.finetune(tmp_path, step=2)
    tiny.finetune(tmp_path, start=2, step=6)
    chained, whole = cost(tmp_path, "embed-6"), cost(straight, "embed-6")
    assert chained["training"] == whole["training"]
    assert chained["looks"] != whole["looks"]  # there is one more, at step 2
    resume = interrupted(tmp_path / "stopped", monkeypatch)
    tiny.finetune(tmp_path / "stopped", step=6)
    assert not resume.exists() and cost(tmp_path / "stopped", "embed-6") == whole

"""Rounds keep the best by the guide, cost what they cost, and are never drawn twice."""

import subprocess
import sys

import numpy as np
import pytest

from tests import tiny
from vlg import plugins
from vlg.data import pictures
from vlg.errors import UserError
from vlg.files import write_manifest
from vlg.models.cosines import guide_scores
from vlg.models.guide import load_guide
from vlg.sample import arm, drawing
from vlg.sample.drawing import Models
from vlg.sample.listing import Picture
from vlg.sample.sampler import Sampler

PROMPTS = ["a red circle", "the blue square", "a big green circle", "a small square", "a picture"]
SETTINGS = {"steps": 10, "guidance_scale": 4.0, "scheduler": "ddim"}
KEYS = {"strength": 0.5, "accept": "best"}


class FakeGuide:
    """Likes bright pictures."""

    device = "cpu"

    def __init__(self):
        import torch

        self.tower = torch.nn.Identity()

    def watch(self, ledger):
        ledger.watch("guide", self.tower)

    def encode_image(self, pixels):
        return self.tower(pixels).mean((1, 2, 3))[:, None]

    def encode_text(self, texts):
        import torch

        return torch.ones(len(texts), 1)


def score(image):
    return image.astype(float).mean() / 2.55


class FakeSampler:
    """Draws noise of a random brightness that (purpose, text, seed) determine; counts its calls."""

    def __init__(self):
        import torch

        self.calls = []
        self.network = torch.nn.Identity()

    def watch(self, ledger):
        ledger.watch("network", self.network)

    def use_network(self, texts, times):
        import torch

        for _ in range(times):
            self.network(torch.zeros(len(texts), 1))

    def image(self, text, seed, purpose):
        rng = np.random.default_rng([*text.encode(), seed, *purpose.encode()])
        return rng.integers(0, rng.integers(20, 255), (8, 8, 3), np.uint8)

    def draw(self, texts, seeds, purpose="latents", times=20):
        self.calls.append(purpose)
        self.use_network(texts, times)
        return np.stack([self.image(t, s, purpose) for t, s in zip(texts, seeds, strict=True)])

    def redraw(self, images, texts, seeds, strength, purpose):
        fresh = self.draw(texts, seeds, purpose, times=10)
        return (images * (1 - strength) + fresh * strength).astype(np.uint8)


@pytest.fixture
def start(tmp_path):
    """Round 0: five pictures in a folder, two of them with seed 1."""
    folder = tmp_path / "start"
    folder.mkdir()
    rows = []
    for index, prompt in enumerate(PROMPTS):
        seed = index // 3
        row = {
            "file_name": f"{seed}-p{index:04}.png", "id": f"p{index:04}", "prompt": prompt,
            "seed": seed, "set": "study", "model": "base", "arm": "", "round": 0,
            "unet_calls": 20, "cost": {"network": {"forward": 20, "backward": 0, "flops": 7}},
            "key": f"key {index}",
        }  # fmt: skip
        image = FakeSampler().image(prompt, seed, "latents")
        pictures.save(folder / row["file_name"], image, row)
        rows.append(row)
    pictures.write_metadata(folder, [{**row, "seconds": 0.5} for row in rows])
    return [(folder, row) for row in pictures.read_metadata(folder)]


def refine(start, models, out, weights=("model", "guide"), rounds=4, size=2, kind="refine",
           settings=SETTINGS, code="", **keys):  # fmt: skip
    """Take pictures through the rounds of an arm, into out/1 and so on."""
    made = drawing.Made(
        "base", dict(zip(("weights", "chosen_by"), weights, strict=True)),
        {**settings, "kind": kind, "arm": KEYS | keys}, "arm", code,
    )  # fmt: skip
    folders = {number: out / f"{number}" for number in range(1, rounds + 1)}
    begin = [
        drawing.Start(Picture(*(row[k] for k in ("id", "prompt", "seed", "set"))), row, folder)
        for folder, row in start
    ]
    drawing.draw(arm.load(kind, KEYS | keys), begin, models, folders, made, size)


def run(start, out, **options):
    """Refine with fakes; returns the purposes of what was drawn, a batch each."""
    fake = FakeSampler()
    refine(start, lambda: Models(fake, FakeGuide()), out, **options)
    return fake.calls


def rounds(out, number=4):
    """[rows of round 1, ...], each row with its picture under "image"."""
    return [
        [
            {**row, "image": pictures.load_checked(folder, row)}
            for row in pictures.read_metadata(folder)
        ]
        for folder in (out / f"{n}" for n in range(1, number + 1))
    ]


def bytes_of(out):
    return {
        path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*.png"))
    }


@pytest.mark.parametrize("strength", [0.5, 1])
def test_the_best_is_kept_and_never_worse(start, tmp_path, strength):
    run(start, tmp_path / "out", strength=strength)
    for index, (folder, row) in enumerate(start):
        incumbent = pictures.load(folder / row["file_name"])
        for number, done in enumerate(rounds(tmp_path / "out"), start=1):
            now = done[index]
            fresh = FakeSampler().image(row["prompt"], row["seed"], f"refine-{number}")
            if strength < 1:
                fresh = (incumbent * 0.5 + fresh * 0.5).astype(np.uint8)
            assert now["accepted"] == (score(fresh) > score(incumbent))
            incumbent = fresh if now["accepted"] else incumbent
            assert np.array_equal(now["image"], incumbent)
            assert now["guide"] == pytest.approx(score(incumbent), abs=1e-3)
    accepted = [row["accepted"] for done in rounds(tmp_path / "out") for row in done]
    assert 0 < sum(accepted) < len(accepted)


def test_always_replaces_even_with_worse(start, tmp_path):
    run(start, tmp_path / "out", strength=1, accept="always")
    worse = 0
    before = [pictures.load(folder / row["file_name"]) for folder, row in start]
    for number, done in enumerate(rounds(tmp_path / "out"), start=1):
        for index, row in enumerate(done):
            fresh = FakeSampler().image(row["prompt"], row["seed"], f"refine-{number}")
            assert row["accepted"] and np.array_equal(row["image"], fresh)
            worse += score(fresh) < score(before[index])
            before[index] = fresh
    assert worse


def test_rows_say_what_a_picture_is_and_costs(start, tmp_path):
    run(start, tmp_path / "out")
    spent = [row["seconds"] for _, row in start]
    for number, done in enumerate(rounds(tmp_path / "out"), start=1):
        assert [r["file_name"] for r in done] == [row["file_name"] for _, row in start]
        assert all(row["seconds"] >= before for row, before in zip(done, spent, strict=True))
        spent = [row["seconds"] for row in done]
        for row in done:
            assert (row["model"], row["arm"], row["round"], row["set"]) == (
                "base", "arm", number, "study",
            )  # fmt: skip
            assert row["unet_calls"] == 20 + 10 * number
            assert isinstance(row["accepted"], bool)
    run(start, tmp_path / "fresh", strength=1)
    assert rounds(tmp_path / "fresh")[3][0]["unet_calls"] == 20 + 4 * 20


def test_a_second_run_draws_nothing(start, tmp_path):
    run(start, tmp_path / "out")
    before = bytes_of(tmp_path / "out")

    def never():
        raise AssertionError("a model was loaded")

    refine(start, never, tmp_path / "out")
    assert bytes_of(tmp_path / "out") == before
    assert [row["accepted"] for row in rounds(tmp_path / "out")[3]]


def test_more_rounds_continue_the_finished_ones(start, tmp_path):
    run(start, tmp_path / "long")
    run(start, tmp_path / "out", rounds=2)
    assert set(run(start, tmp_path / "out", rounds=4)) == {"refine-3", "refine-4"}
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "long")


def test_a_lost_or_damaged_picture_is_made_again_with_its_batch(start, tmp_path):
    run(start, tmp_path / "out")
    before = bytes_of(tmp_path / "out")
    (tmp_path / "out/2/1-p0003.png").unlink()
    cut = tmp_path / "out/3/0-p0000.png"
    cut.write_bytes(cut.read_bytes()[:-3])
    assert run(start, tmp_path / "out") == ["refine-3", "refine-2"]
    assert bytes_of(tmp_path / "out") == before
    for number in (1, 3):  # round 2 is kept between them, and round 3 begins from it
        (tmp_path / f"out/{number}/0-p0000.png").unlink()
    assert run(start, tmp_path / "out") == ["refine-1", "refine-3"]
    assert bytes_of(tmp_path / "out") == before


@pytest.mark.parametrize(
    "change",
    [{"strength": 0.6}, {"accept": "always"}, {"weights": ("other", "guide")},
     {"settings": {**SETTINGS, "steps": 9}}, {"weights": ("model", "other")}, {"code": "other"}],
)  # fmt: skip
def test_other_settings_or_weights_start_again(start, tmp_path, change):
    run(start, tmp_path / "out")
    assert len(run(start, tmp_path / "out", **change)) == 4 * 3


def test_another_start_starts_again(start, tmp_path):
    run(start, tmp_path / "out")
    start[4] = (start[4][0], {**start[4][1], "key": "of another picture"})
    assert run(start, tmp_path / "out") == [f"refine-{n}" for n in range(1, 5)]
    run(start[:4], tmp_path / "out")
    assert len(list((tmp_path / "out/1").glob("*.png"))) == 4  # what is not wanted goes


def test_a_start_that_is_not_what_was_drawn_is_refused(start, tmp_path):
    folder, row = start[1]
    pictures.save(folder / row["file_name"], np.zeros((8, 8, 3), np.uint8), row)
    with pytest.raises(UserError, match="0-p0001.png: checksum differs"):
        run(start, tmp_path / "out")


def test_an_empty_shard_has_all_its_rounds(tmp_path):
    run([], tmp_path / "out")
    assert rounds(tmp_path / "out") == [[], [], [], []]


def test_a_picture_has_its_own_cost(start, tmp_path):
    """A draw and a look of the guide each round, and a look at what it began with."""
    run(start, tmp_path / "out")
    for number, done in enumerate(rounds(tmp_path / "out"), start=1):
        for row in done:
            counted = {part: facts["forward"] for part, facts in row["cost"].items()}
            assert counted == {"network": 20 + 10 * number, "guide": 1 + number}
            assert row["flops"] == 7  # of round 0: an identity multiplies nothing
            assert row["unet_calls"] == row["cost"]["network"]["forward"]


def test_best_of_n_is_refinement_from_noise_alone(start, tmp_path):
    run(start, tmp_path / "one", kind="refine", strength=1.0)
    run(start, tmp_path / "two", kind="best_of_n", strength=1.0)
    for one, two in zip(rounds(tmp_path / "one"), rounds(tmp_path / "two"), strict=True):
        for a, b in zip(one, two, strict=True):
            assert np.array_equal(a["image"], b["image"])
            assert (a["guide"], a["accepted"]) == (b["guide"], b["accepted"])


@pytest.mark.parametrize("keys", [{"strength": 0.5}, {"accept": "always"}, {"scale": 1}])
def test_best_of_n_is_nothing_else(keys):
    with pytest.raises(UserError, match=f"refine.arms.{next(iter(keys))}"):
        arm.load("best_of_n", keys)


@pytest.mark.parametrize("kind", plugins.names(plugins.ARMS))
def test_an_arm_is_read_by_the_rules_without_what_is_heavy(kind):
    program = (
        f"import sys; sys.path.insert(0, 'scripts'); from vlg.sample import arm; arm.load({kind!r}"
        ", {}); print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


class Fan(arm.Arm):
    """Three samples of each picture from noise alone, the brightest of which stays; no guide."""

    needs = frozenset()
    samples = 3

    def draw(self, sampler, guide, before):
        assert guide is None and before.scores is None
        assert (before.images is None) == (before.number == 1)
        many = np.stack(
            [sampler.draw(before.texts, before.seeds, f"{before.purpose}-{i}") for i in range(3)]
        )
        best = many.astype(int).mean((2, 3, 4)).argmax(0)
        return arm.Drawn(np.stack([many[k, i] for i, k in enumerate(best)]))


def test_an_arm_may_need_neither_guide_nor_pictures(tmp_path):
    wanted = [Picture(f"p{i:04}", prompt, 0, "study") for i, prompt in enumerate(PROMPTS)]
    made = drawing.Made("base", {"weights": "w"}, SETTINGS, "fan")

    def fan(rounds, batch_size):
        fake = FakeSampler()
        folders = {number: tmp_path / f"{number}" for number in range(1, rounds + 1)}
        begin = drawing.from_nothing(wanted)
        drawing.draw(Fan(None), begin, lambda: Models(fake), folders, made, batch_size)
        return fake.calls

    assert len(fan(1, batch_size=6)) == 3 * 3  # batches of two pictures, six samples
    assert len(fan(2, batch_size=6)) == 3 * 3, "round 1 stands"
    for number, done in enumerate(rounds(tmp_path, 2), start=1):
        for row in done:
            assert (row["arm"], row["round"], row["weights"]) == ("fan", number, "w")
            assert not {"guide", "accepted", "chosen_by"} & row.keys()
            assert row["unet_calls"] == 60 * number, "what was not begun with costs nothing"
            drawn = [
                FakeSampler().image(row["prompt"], 0, f"refine-{number}-{i}") for i in range(3)
            ]
            assert np.array_equal(row["image"], max(drawn, key=np.mean))


class Follow(arm.Arm):
    """Looks at the guide while it draws, and chooses nothing."""

    needs = frozenset(("guide",))

    def draw(self, sampler, guide, before):
        assert guide is not None and before.scores is None
        return arm.Drawn(sampler.draw(before.texts, before.seeds, before.purpose))


def test_an_arm_may_follow_the_guide_and_choose_nothing(tmp_path):
    begin = drawing.from_nothing([Picture("p0000", "a red circle", 0, "study")])
    made = drawing.Made("base", {"weights": "w", "chosen_by": "g"}, SETTINGS, "follow")
    for last in (1, 3):  # what stands after a round that was kept is read from its file
        folders = {number: tmp_path / f"{number}" for number in range(1, last + 1)}
        models = Models(FakeSampler(), FakeGuide())
        drawing.draw(Follow(None), begin, lambda models=models: models, folders, made, 2)
    found = [row for (row,) in rounds(tmp_path, 3)]
    assert not [row for row in found if {"guide", "accepted"} & row.keys()]
    assert [row["unet_calls"] for row in found] == [20, 40, 60]


def test_an_arm_without_what_it_needs_is_refused_in_one_line(tmp_path):
    words = ["--model", tmp_path, "--out", tmp_path / "1", "--settings", '{"kind": "best_of_n"}']
    done = subprocess.run(
        [sys.executable, "scripts/refine.py", *words], capture_output=True, text=True
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "an arm of kind best_of_n needs guide" in done.stderr


def test_starts_are_the_study_pictures_of_folders(start):
    found = drawing.from_folders([start[0][0]])
    assert [each.picture.file_name for each in found] == [row["file_name"] for _, row in start]
    assert [each.folder for each in found] == [folder for folder, _ in start]


# ---------------------------------------------------------------------------- with genuine models


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refinement")
    write_manifest(tiny.save_base(folder / "base"))
    tiny.save_guide(folder / "guide")
    settings = {**SETTINGS, "steps": 4}
    return Models(Sampler(folder / "base", settings, "cpu"), load_guide(folder / "guide"))


@pytest.fixture
def drawn(models, tmp_path):
    """Round 0 by the tiny model."""
    folder = tmp_path / "drawn"
    rows = []
    for index, image in enumerate(models.sampler.draw(PROMPTS[:3], [0, 0, 0])):
        row = {
            "file_name": f"0-p{index:04}.png", "id": f"p{index:04}", "prompt": PROMPTS[index],
            "seed": 0, "set": "study", "model": "base", "unet_calls": 8,
            "cost": {"network": {"forward": 8, "backward": 0, "flops": 7}}, "key": f"{index}",
        }  # fmt: skip
        pictures.save(folder / row["file_name"], image, row)
        rows.append(row)
    pictures.write_metadata(folder, [{**row, "seconds": 0.5} for row in rows])
    return [(folder, row) for row in pictures.read_metadata(folder)]


def test_strength_one_is_a_fresh_independent_sample(models, drawn, tmp_path):
    out = tmp_path / "out"
    refine(drawn, lambda: models, out, rounds=2, size=3, strength=1, accept="always")
    sampler, guide = models.sampler, models.guide
    for number, done in enumerate(rounds(out, 2), start=1):
        fresh = sampler.draw(PROMPTS[:3], [0, 0, 0], f"refine-{number}")
        for image, row in zip(fresh, done, strict=True):
            assert np.array_equal(row["image"], image)
            before = pictures.load(drawn[0][0] / row["file_name"])
            assert np.abs(before.astype(int) - image).max() > 10
            assert row["unet_calls"] == 8 + 8 * number
        scores = guide_scores(guide, fresh, PROMPTS[:3])
        assert row["cost"]["decoder"]["forward"] == row["cost"]["guide"]["forward"] - 1
        assert row["flops"] > row["cost"]["network"]["flops"] > 0
        assert [row["guide"] for row in done] == scores
    first, second = ([row["image"] for row in done] for done in rounds(out, 2))
    assert np.abs(np.stack(first).astype(int) - np.stack(second)).max() > 10


def test_a_resumed_refinement_has_the_same_bytes(models, drawn, tmp_path):
    for out, number in (("straight", 3), ("resumed", 1), ("resumed", 3)):
        refine(drawn, lambda: models, tmp_path / out, rounds=number)
    assert bytes_of(tmp_path / "resumed") == bytes_of(tmp_path / "straight")
    done = rounds(tmp_path / "straight", 3)
    assert done[2][0]["unet_calls"] == 8 + 3 * 4  # half of four steps, guided
    assert all(b["guide"] >= a["guide"] for a, b in zip(done[0], done[2], strict=True))


def test_guide_scores_are_a_hundred_cosines(models):
    import torch

    guide = models.guide
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    found = guide_scores(guide, images, PROMPTS[:3])
    for image, text, value in zip(images, PROMPTS, found, strict=False):
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            a, b = guide.encode_image(pixels)[0], guide.encode_text([text])[0]
        assert value == pytest.approx(100 * float(a @ b / a.norm() / b.norm()), abs=1e-3)

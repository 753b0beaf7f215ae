"""Which pictures are drawn, in which shard; what is finished is kept, all else drawn again."""

import numpy as np
import pytest
import torch

from vlg.data import pictures
from vlg.sample import drawing, listing
from vlg.sample.drawing import Made
from vlg.sample.listing import Picture, Stage, shard

PROMPTS = ["a red circle", "the blue square", "a big green circle on white", "a small square"]
SETTINGS = {"steps": 3, "guidance_scale": 4.0, "scheduler": "ddim"}
MADE = Made("base", {"weights": "weights"}, SETTINGS)

# ------------------------------------------------------------------- which pictures, which shard


def row(number, group="study"):
    return {"id": f"p{number:04}", "Prompt": f"prompt {number}", "set": group}


STUDY, REST = [row(0), row(1), row(2)], [row(3, "rest"), row(4, "rest")]
HARD = [REST[1], STUDY[0]]
SEEDS = {"selection": [0, 1], "fresh": [2]}


def listed(stage, model):
    found = listing.listing(STUDY + REST, HARD, Stage(**SEEDS, stage=stage, model=model))
    return [(each.seed, each.id, each.set) for each in found]


def test_the_base_draws_every_prompt_on_the_selection_seeds():
    assert listed("selection", "base") == [
        (seed, f"p{i:04}", "study" if i < 3 else "rest") for seed in (0, 1) for i in range(5)
    ]


def test_hard_prompts_are_drawn_again_on_fresh_seeds():
    assert listed("final", "base") == [(2, "p0004", "hard"), (2, "p0000", "hard")]


def test_other_models_draw_what_is_reported_once():
    found = listed("final", "embed-200")
    study = [(seed, f"p{i:04}", "study") for seed in (0, 1) for i in range(3)]
    # p0000 is hard too, but on the selection seeds its study pictures are there already.
    also = [(seed, "p0004", "hard") for seed in (0, 1)]
    assert found == study + also + [(2, "p0004", "hard"), (2, "p0000", "hard")]
    assert len({(seed, name) for seed, name, _ in found}) == len(found)


def test_the_study_pictures_are_where_every_listing_has_them():
    study = listing.study(STUDY + REST, [0, 1])
    whole = listing.listing(STUDY + REST, HARD, Stage(**SEEDS, stage="final", model="embed-2"))
    assert study == whole[:6]


@pytest.mark.parametrize("size", [1, 3, 7, 10, 50])
def test_shards_cover_everything_once(size):
    wanted = [Picture(f"p{i}", "", 0, "study") for i in range(10)]
    parts = [shard(wanted, index, size) for index in range(-(-10 // size))]
    assert sum(parts, []) == wanted and all(len(part) == size for part in parts[:-1])
    assert shard(wanted, len(parts), size) == []


# --------------------------------------------------------------------- generation keeps and redraws


class Fake:
    """Draws a picture that its text and seed determine, and remembers what it drew."""

    def __init__(self):
        self.drawn = []
        self.network = torch.nn.Identity()

    def watch(self, ledger):
        ledger.watch("network", self.network)

    def draw(self, texts, seeds):
        self.drawn += texts
        for _ in range(20):
            self.network(torch.zeros(len(texts), 1))
        return np.stack(
            [
                np.random.default_rng([*text.encode(), seed]).integers(0, 255, (8, 8, 3), np.uint8)
                for text, seed in zip(texts, seeds, strict=True)
            ]
        )


WANTED = [Picture(f"p{i:04}", text, 3, "study") for i, text in enumerate([*PROMPTS, "a/b\n“é”"])]


def drawn(out, wanted=WANTED, settings=SETTINGS, model_key="weights"):
    """What a run of generation into `out` draws."""
    fake = Fake()
    drawing.plain(wanted, lambda: fake, out, Made("base", {"weights": model_key}, settings), 2)
    return fake.drawn


def bytes_of(out):
    return {path.name: path.read_bytes() for path in out.glob("*.png")}


def test_a_picture_set_is_drawn_and_described(tmp_path):
    assert drawn(tmp_path) == [each.prompt for each in WANTED]
    rows = pictures.read_metadata(tmp_path)
    assert [r["file_name"] for r in rows] == [f"3-p000{i}.png" for i in range(5)]
    assert rows[4]["prompt"] == "a/b\n“é”"
    for each in rows:
        assert (each["model"], each["arm"], each["round"], each["unet_calls"]) == (
            "base",
            "",
            0,
            20,
        )
        assert each["set"] == "study" and each["seconds"] >= 0
        picture = pictures.load_checked(tmp_path, each)
        assert np.array_equal(picture, Fake().draw([each["prompt"]], [3])[0])


def test_pictures_of_one_colour_are_counted_where_they_are_drawn(tmp_path, monkeypatch, caplog):
    draw = Fake.draw

    def partly(self, texts, seeds):
        shade = {"a red circle": 0, "a small square": 9}
        return np.stack(
            [
                np.full_like(image, shade[text]) if text in shade else image
                for text, image in zip(texts, draw(self, texts, seeds), strict=True)
            ]
        )

    drawn(tmp_path / "right")
    assert "one colour" not in caplog.text
    monkeypatch.setattr(Fake, "draw", partly)
    drawn(tmp_path / "wrong")
    assert f"{tmp_path / 'wrong'}: 2 pictures are of one colour; look at them" in caplog.text


def test_one_colour_is_all_three_channels_everywhere():
    images = np.zeros((4, 8, 8, 3), np.uint8)
    images[1] = (250, 3, 9)
    images[2, 7, 7, 2] = 1
    images[3, :, :4] = 1
    assert pictures.one_coloured(images) == [True, True, False, False]


def test_a_second_run_loads_no_model_and_changes_nothing(tmp_path):
    drawn(tmp_path)
    before = bytes_of(tmp_path)

    def never():
        raise AssertionError("a model was loaded")

    drawing.plain(WANTED, never, tmp_path, MADE, 2)
    assert bytes_of(tmp_path) == before
    assert [r["prompt"] for r in pictures.read_metadata(tmp_path)] == [w.prompt for w in WANTED]


def test_only_the_batch_of_a_damaged_picture_is_drawn_again(tmp_path):
    drawn(tmp_path)
    before = bytes_of(tmp_path)
    damaged = tmp_path / "3-p0002.png"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert drawn(tmp_path) == PROMPTS[2:4]
    assert bytes_of(tmp_path) == before
    (tmp_path / "3-p0004.png").unlink()
    assert drawn(tmp_path) == ["a/b\n“é”"]
    assert bytes_of(tmp_path) == before


def test_other_settings_or_weights_draw_all_again(tmp_path):
    drawn(tmp_path)
    assert len(drawn(tmp_path, settings={**SETTINGS, "guidance_scale": 4.5})) == 5
    assert len(drawn(tmp_path, model_key="others")) == 5
    # The same settings in another order are the same.
    turned = dict(reversed(SETTINGS.items()))
    assert drawn(tmp_path, settings=turned, model_key="others") == []


def test_a_changed_prompt_or_set_is_drawn_again_and_what_is_not_wanted_goes(tmp_path):
    drawn(tmp_path)
    other = [WANTED[0], Picture("p0001", "a new prompt", 3, "study"), *WANTED[2:4]]
    assert drawn(tmp_path, other) == [PROMPTS[0], "a new prompt"]
    assert sorted(bytes_of(tmp_path)) == [f"3-p000{i}.png" for i in range(4)]
    hard = [*other[:2], *(Picture(w.id, w.prompt, w.seed, "hard") for w in other[2:])]
    drawn(tmp_path, hard)
    assert [r["set"] for r in pictures.read_metadata(tmp_path)] == ["study"] * 2 + ["hard"] * 2


def test_an_interrupted_run_keeps_what_it_had(tmp_path):
    class Dying(Fake):
        def draw(self, texts, seeds):
            if self.drawn:
                raise KeyboardInterrupt
            return super().draw(texts, seeds)

    with pytest.raises(KeyboardInterrupt):
        drawing.plain(WANTED, Dying, tmp_path, MADE, 2)
    assert len(bytes_of(tmp_path)) == 2 and not (tmp_path / "metadata.jsonl").exists()
    assert drawn(tmp_path) == [each.prompt for each in WANTED[2:]]
    assert bytes_of(tmp_path).keys() == {each.file_name for each in WANTED}


def test_an_empty_shard_is_a_finished_folder(tmp_path):
    drawing.plain([], Fake, tmp_path / "empty", MADE, 2)
    assert pictures.read_metadata(tmp_path / "empty") == []


def test_the_file_name_is_never_made_from_the_prompt():
    assert Picture("p0001", "../../x/é“\n", 12, "study").file_name == "12-p0001.png"

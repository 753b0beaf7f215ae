"""Development prompts are none of the study's, and samples of a checkpoint cost no training."""

import json

import pytest

from tests import tiny
from vlg.data import pictures
from vlg.errors import UserError
from vlg.files import check_manifest
from vlg.sample import development
from vlg.shapes import captions
from vlg.train import loop

WANTED = {"count": 8, "prompts": None, "seed": 0}
SAMPLING = development.Drawing(steps=2, guidance_scale=1.0, scheduler="ddim", seeds=[0, 7])


def rows(texts):
    return [{"Prompt": text} for text in texts]


def texts(chosen):
    return [row["Prompt"] for row in chosen]


def test_of_the_shapes_world_there_are_always_enough_new_ones():
    chosen = development.choose([], WANTED, None)
    assert [row["id"] for row in chosen] == [f"d{i:04d}" for i in range(8)]
    assert {row["set"] for row in chosen} == {"development"}
    # had the study just these, there would be eight others
    others = development.choose(rows(texts(chosen)), WANTED, None)
    assert len(others) == 8 and not set(texts(others)) & set(texts(chosen))
    study = captions.prompts(500, 0)
    assert not {row["Prompt"] for row in study} & set(
        texts(development.choose(study, WANTED, None))
    )


def test_elsewhere_they_are_captions_of_held_out_pictures():
    from vlg.data.encoded import read_listing

    data = tiny.world()["data"]
    listing = read_listing(data)
    held_out = [listing.captions[i] for rows in listing.rows[-2:] for i in rows]
    chosen = development.choose([], WANTED, data)
    assert len(chosen) == 2 and set(texts(chosen)) < set(held_out)
    assert texts(development.choose(rows(texts(chosen)[:1]), WANTED, data)) == texts(chosen)[1:]


def test_a_list_of_ones_own_may_hold_no_reported_prompt():
    wanted = {**WANTED, "prompts": ["a cat", "a dog"]}
    assert texts(development.choose(rows(["a horse"]), wanted, None)) == ["a cat", "a dog"]
    with pytest.raises(UserError, match="'a dog' is a prompt of the study; choose another"):
        development.choose(rows(["a dog"]), wanted, None)


def test_samples_are_an_image_folder_and_others_cost_no_step(tmp_path, monkeypatch):
    def sampled(names):
        chosen = development.choose([], {**WANTED, "prompts": names}, None)

        def draw(model, out):
            development.draw(chosen, SAMPLING, 4, "cpu", model, out)

        return draw

    done, step = [], loop.train_step
    monkeypatch.setattr(loop, "train_step", lambda run: done.append(run.state.step) or step(run))
    tiny.finetune(tmp_path, step=2, draw_samples=sampled(["a red circle", "a big square"]))
    training_folder = tmp_path / "training/embed-2"
    first = pictures.read_metadata(training_folder / "samples")
    assert [(row["prompt"], row["seed"], row["file_name"]) for row in first] == [
        ("a red circle", 0, "0-d0000.png"),
        ("a big square", 0, "0-d0001.png"),
        ("a red circle", 7, "7-d0000.png"),
        ("a big square", 7, "7-d0001.png"),
    ]
    assert {row["model"] for row in first} == {"embed-2"}
    for row in first:
        pictures.load_checked(training_folder / "samples", row)
    model = (tmp_path / "models/embed-2/manifest.json").read_bytes()
    summary = json.loads((training_folder / "summary.json").read_text())

    tiny.finetune(tmp_path, step=2, draw_samples=sampled(["a blue circle"]))
    again = pictures.read_metadata(training_folder / "samples")
    assert [row["prompt"] for row in again] == ["a blue circle"] * 2
    assert done == [0, 1]
    assert (tmp_path / "models/embed-2/manifest.json").read_bytes() == model
    assert json.loads((training_folder / "summary.json").read_text()) == summary
    check_manifest(training_folder)
    # the next checkpoint goes on from a state that other samples have not changed
    tiny.finetune(tmp_path, start=2, step=3)
    tiny.finetune(tmp_path, step=2, draw_samples=sampled(["a red square"]))
    tiny.finetune(tmp_path, start=2, step=3, draw_samples=sampled(["a red square"]))
    assert done == [0, 1, 2]

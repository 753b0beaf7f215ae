"""Further judges: other CLIPs, quality, plug-ins; their tables, and that of diversity."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests import tiny
from vlg.analysis import agreement
from vlg.errors import UserError
from vlg.judge import further
from vlg.report import figures

PLUG_IN = """
def bright(images, prompts):
    return [float(image.mean()) for image in images]

def short(images, prompts):
    return [1.0]

def wrong(images, prompts):
    return [float("nan")] * len(images)
"""
IMAGES = [np.full((32, 32, 3), shade, np.uint8) for shade in (0, 100, 255)]
TEXTS = ["a red circle", "a blue square", "a red circle"]
OPTIONS = {"draws": 200, "confidence": 0.95, "seed": 0}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/judge.py").write_text(PLUG_IN)
    return tmp_path


def test_a_plug_in_scores_pictures(root):
    score = further.load("callable", "mine.judge.bright", "cpu", root)
    assert score(IMAGES, TEXTS) == [0.0, 100.0, 255.0]
    before = further.fingerprint("callable", "mine.judge.bright", root)
    (root / "mine/judge.py").write_text(PLUG_IN + "# another")
    assert further.fingerprint("callable", "mine.judge.bright", root) != before


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("mine.judge.dark", "has no dark"),
        ("nobody.judge.bright", "no file"),
        ("bright", "no file"),
        ("../mine.judge", "no file"),
    ],
)
def test_a_plug_in_that_is_not_there(root, source, message):
    with pytest.raises(UserError, match=message):
        further.load("callable", source, "cpu", root)


@pytest.mark.parametrize("name", ["short", "wrong"])
def test_a_plug_in_must_return_a_finite_number_each(root, name):
    score = further.load("callable", f"mine.judge.{name}", "cpu", root)
    with pytest.raises(UserError, match="must return a finite number for each of 3 pictures"):
        score(IMAGES, TEXTS)


def test_an_open_clip_folder_judges_as_the_guide_scores():
    from vlg.models.guide import guide_scores, load_guide

    folder = tiny.world()["guide"]
    expected = guide_scores(load_guide(folder), np.stack(IMAGES), TEXTS)
    assert further.load("open_clip", str(folder), "cpu")(IMAGES, TEXTS) == expected


def test_siglip_judges_by_the_cosine(tmp_path):
    import torch
    from transformers import (
        SiglipConfig,
        SiglipImageProcessor,
        SiglipModel,
        SiglipTextConfig,
        SiglipVisionConfig,
    )

    torch.manual_seed(0)
    tokens = tiny.tokenizer()
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    text = SiglipTextConfig(
        vocab_size=len(tokens), max_position_embeddings=tiny.LENGTH, num_attention_heads=2,
        pad_token_id=tokens.pad_token_id, projection_size=16, **small,
    )  # fmt: skip
    vision = SiglipVisionConfig(image_size=32, patch_size=8, num_attention_heads=2, **small)
    config = SiglipConfig(text_config=text.to_dict(), vision_config=vision.to_dict())
    model = SiglipModel(config).eval()
    model.save_pretrained(tmp_path)
    tokens.save_pretrained(tmp_path)
    processor = SiglipImageProcessor(size={"height": 32, "width": 32})
    processor.save_pretrained(tmp_path)
    found = further.load("clip", str(tmp_path), "cpu")(IMAGES, TEXTS)
    padded = tokens(TEXTS, padding="max_length", truncation=True, return_tensors="pt")
    pixels = processor(images=IMAGES, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        answer = model(input_ids=padded.input_ids, pixel_values=pixels)
    expected = 100 * (answer.image_embeds * answer.text_embeds).sum(1)
    assert found == pytest.approx(expected.tolist(), abs=1e-3)


def test_clip_iqa_is_a_probability_that_the_prompt_does_not_change():
    from vlg.models.clip import Clip

    folder = "resources/shapes/judge"
    found = further.load("clip_iqa", folder, "cpu")(IMAGES, TEXTS)
    assert found == further.load("clip_iqa", folder, "cpu")(IMAGES, TEXTS[::-1])
    judge = Clip(Path(folder), "cpu")
    good, bad = (judge.scores(IMAGES, [text] * 3) for text in further.QUALITY)
    scale = judge.model.logit_scale.exp().item() / 100
    expected = [100 / (1 + np.exp((b - g) * scale)) for g, b in zip(good, bad, strict=True)]
    assert found == pytest.approx(expected, abs=1e-2) and all(0 < each < 100 for each in found)


@pytest.mark.parametrize("pair", [further.QUALITY, ("Sharp photo.", "Blurry photo.")])
def test_clip_iqa_is_that_of_torchmetrics(tmp_path, pair):
    import math

    import torch
    from torchmetrics.functional.multimodal import clip_image_quality_assessment

    from tests.test_clipscore import Adapter
    from vlg.models.clip import Clip
    from vlg.shapes import models

    torch.manual_seed(0)
    model = models.judge()
    model.logit_scale.data.fill_(math.log(100))  # which torchmetrics takes for granted
    model.save_pretrained(tmp_path)
    models.judge_processor().save_pretrained(tmp_path)
    found = further.load("clip_iqa", str(tmp_path), "cpu", pair=pair)(IMAGES, TEXTS)
    judge = Clip(tmp_path, "cpu")
    tensors = torch.from_numpy(np.stack(IMAGES)).permute(0, 3, 1, 2)
    theirs = clip_image_quality_assessment(
        tensors, lambda: (Adapter(judge), judge.processor), data_range=1, prompts=(tuple(pair),)
    )
    ours = np.array(found) / 100
    assert np.log(ours / (1 - ours)) == pytest.approx(torch.logit(theirs).numpy(), abs=1e-2)
    assert np.ptp(np.log(ours)) > 0.1


# --- tables -------------------------------------------------------------------------------------

MODELS = ["base", "normal-2", "embed-2"]


def made(prompts=8, seeds=(0, 1), gains=(0, 1, 2), models=MODELS):
    """Scores in which embed gains 2 and normal 1 on every picture."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(prompts):
        for seed in seeds:
            noise = rng.normal(50, 5)
            for gain, model in zip(gains, models, strict=True):
                rows.append(
                    {
                        "model": model, "arm": "", "set": "study", "id": f"p{number:04d}",
                        "seed": seed, "sha256": f"{model}{number}{seed}",
                        "clipscore": noise + gain + rng.normal(0, 0.1),
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def written(scores, folder, column):
    folder.mkdir(parents=True)
    for model, rows in scores.groupby("model"):
        rows = rows.assign(score=column(rows))[["model", "id", "seed", "sha256", "score"]]
        rows.to_csv(folder / f"{model}.csv", index=False)
    return folder


def test_judges_that_agree_and_one_that_does_not(tmp_path):
    scores = made()
    files = {
        "same": written(scores, tmp_path / "same", lambda rows: 3 * rows["clipscore"] + 7),
        "against": written(scores, tmp_path / "against", lambda rows: -rows["clipscore"]),
    }
    frame = agreement.judges(scores, files, MODELS, OPTIONS).frame.set_index(["judge", "model"])
    assert list(dict.fromkeys(frame.index.get_level_values(0))) == ["judge", "same", "against"]
    assert frame.loc[("judge", "embed-2"), "delta"] == pytest.approx(2, abs=0.1)
    assert frame.loc[("same", "embed-2"), "delta"] == pytest.approx(6, abs=0.3)
    assert (
        frame.loc[("same", "embed-2"), "delta_low"]
        > 0
        > frame.loc[("against", "embed-2"), "delta_high"]
    )
    assert frame.loc["same", "kendall"].iloc[0] == frame.loc["same", "spearman"].iloc[0] == 1
    assert frame.loc["against", "kendall"].iloc[0] == -1
    assert frame.loc["same", "rank"].tolist() == frame.loc["against", "rank"].tolist()[::-1]


def test_further_trainings_are_averaged_and_widen_the_interval(tmp_path):
    names = [*MODELS, "normal-2-s5", "embed-2-s5"]
    scores = made(gains=(0, 1, 2, 1, 6), models=names)
    files = {"same": written(scores, tmp_path / "same", lambda rows: rows["clipscore"])}
    rows = scores[["model", "id", "seed", "sha256"]].assign(spread=0.4, drift=0.2)
    rows.loc[rows["model"] == "embed-2-s5", "spread"] = 0.2
    rows.to_csv(tmp_path / "diversity.csv", index=False)
    alone = agreement.judges(scores, files, MODELS, OPTIONS).frame.set_index(["judge", "model"])
    table = agreement.judges(scores, files, MODELS, OPTIONS, [0, 5])
    both = table.frame.set_index(["judge", "model"])
    assert "Means over 2 trainings" in table.caption
    assert both.loc["same", "trainings"].tolist() == [0, 2, 2]
    for judge in ("judge", "same"):
        assert both.loc[(judge, "embed-2"), "delta"] == pytest.approx(4, abs=0.1)
        width = [
            each.loc[(judge, "embed-2"), "delta_high"] - each.loc[(judge, "embed-2"), "delta_low"]
            for each in (alone, both)
        ]
        assert width[1] > 5 * width[0]
    found = agreement.diversity(tmp_path / "diversity.csv", scores, MODELS, OPTIONS, [0, 5]).frame
    assert found["spread"].tolist() == pytest.approx([0.4, 0.4, 0.3])
    (tmp_path / "same/embed-2-s5.csv").unlink()
    with pytest.raises(UserError, match="embed-2-s5.csv: not found"):
        agreement.judges(scores, files, MODELS, OPTIONS, [0, 5])


def test_a_score_of_another_picture_is_refused(tmp_path):
    scores = made()
    folder = written(scores, tmp_path / "old", lambda rows: rows["clipscore"])
    path = folder / "embed-2.csv"
    path.write_text(path.read_text().replace("embed-201", "other", 1))
    with pytest.raises(UserError, match=r"embed-2.csv: line 3 is of another picture"):
        agreement.judges(scores, {"old": folder}, MODELS, OPTIONS)
    path.unlink()
    with pytest.raises(UserError, match="embed-2.csv: not found"):
        agreement.judges(scores, {"old": folder}, MODELS, OPTIONS)


def test_a_collapse_shows(tmp_path):
    scores = made()
    spread = {"base": 0.4, "normal-2": 0.4, "embed-2": 0.01}
    rows = scores[["model", "id", "seed", "sha256"]].assign(
        spread=scores["model"].map(spread), drift=(scores["model"] != "base") * 0.2
    )
    rows.to_csv(tmp_path / "diversity.csv", index=False)
    found = agreement.diversity(tmp_path / "diversity.csv", scores, MODELS, OPTIONS).frame
    found = found.set_index("model")
    assert found.loc["embed-2", "delta"] == pytest.approx(-0.39)
    assert found.loc["embed-2", "delta_high"] < 0 and found.loc["normal-2", "delta"] == 0
    assert found["drift"].tolist() == pytest.approx([0, 0.2, 0.2])


def test_judges_and_diversity_are_drawn(tmp_path):
    scores = made()
    files = {"other": written(scores, tmp_path / "other", lambda rows: rows["clipscore"])}
    rows = scores[["model", "id", "seed", "sha256"]].assign(spread=0.4, drift=0.2)
    rows.to_csv(tmp_path / "diversity.csv", index=False)
    both = figures.judges(agreement.judges(scores, files, MODELS, OPTIONS).frame, OPTIONS)
    assert [axis.get_title() for axis in both.axes] == ["Δ ClipScore", "Δ other"]
    found = agreement.diversity(tmp_path / "diversity.csv", scores, MODELS, OPTIONS).frame
    drift = figures.diversity(found, OPTIONS).axes[1]
    drawn = [line.get_xdata()[0] for line in drift.lines if line.get_marker() in "sD"]
    assert drawn == pytest.approx([20, 20])
    alone = found[found["model"] == "base"]
    assert "one model only" in [text.get_text() for text in figures.diversity(alone, OPTIONS).texts]

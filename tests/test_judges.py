"""Further judges: other CLIPs, quality, plug-ins; their tables, and that of diversity."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests import tiny
from vlg.analysis import agreement
from vlg import plugins
from vlg.errors import UserError
from vlg.judge import kind
from vlg.report import figures
from vlg.workflow.codehash import code_hash

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


QUALITY = ("Good photo.", "Bad photo.")


def judge(name, source, root=Path(), **keys):
    """A judge of a kind, from a relative or absolute source."""
    return kind.load({"kind": name, "source": str(source), **keys}, "cpu", root)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/judge.py").write_text(PLUG_IN)
    return tmp_path


def test_a_plug_in_scores_pictures(root):
    score = judge("callable", "mine.judge.bright", root)
    assert score(IMAGES, TEXTS) == [0.0, 100.0, 255.0]
    before = score.fingerprint()
    (root / "mine/judge.py").write_text(PLUG_IN + "# another")
    assert score.fingerprint() != before


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("mine.judge.dark", "has no dark"),
        ("nobody.judge.bright", "is no function of a file"),
        ("bright", "is no function of a file"),
        ("../mine.judge", "is no function of a file"),
    ],
)
def test_a_plug_in_that_is_not_there(root, source, message):
    with pytest.raises(UserError, match=message):
        judge("callable", source, root)


@pytest.mark.parametrize("name", ["short", "wrong"])
def test_a_plug_in_must_return_a_finite_number_each(root, name):
    score = judge("callable", f"mine.judge.{name}", root)
    with pytest.raises(UserError, match="must return a finite number for each of 3 pictures"):
        score(IMAGES, TEXTS)


def test_an_open_clip_folder_judges_as_the_guide_scores():
    from vlg.models.guide import guide_scores, load_guide

    folder = tiny.world()["guide"]
    expected = guide_scores(load_guide(folder), np.stack(IMAGES), TEXTS)
    assert judge("open_clip", folder)(IMAGES, TEXTS) == expected


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
    found = judge("clip", tmp_path)(IMAGES, TEXTS)
    padded = tokens(TEXTS, padding="max_length", truncation=True, return_tensors="pt")
    pixels = processor(images=IMAGES, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        answer = model(input_ids=padded.input_ids, pixel_values=pixels)
    expected = 100 * (answer.image_embeds * answer.text_embeds).sum(1)
    assert found == pytest.approx(expected.tolist(), abs=1e-3)


def test_clip_iqa_is_a_probability_that_the_prompt_does_not_change():
    from vlg.models.clip import Clip

    folder = "resources/shapes/judge"
    found = judge("clip_iqa", folder)(IMAGES, TEXTS)
    assert found == judge("clip_iqa", folder)(IMAGES, TEXTS[::-1])
    clip = Clip(Path(folder), "cpu")
    good, bad = (clip.scores(IMAGES, [text] * 3) for text in QUALITY)
    scale = clip.model.logit_scale.exp().item() / 100
    expected = [100 / (1 + np.exp((b - g) * scale)) for g, b in zip(good, bad, strict=True)]
    assert found == pytest.approx(expected, abs=1e-2) and all(0 < each < 100 for each in found)


@pytest.mark.parametrize("pair", [QUALITY, ("Sharp photo.", "Blurry photo.")])
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
    found = judge("clip_iqa", tmp_path, pair=pair)(IMAGES, TEXTS)
    clip = Clip(tmp_path, "cpu")
    tensors = torch.from_numpy(np.stack(IMAGES)).permute(0, 3, 1, 2)
    theirs = clip_image_quality_assessment(
        tensors, lambda: (Adapter(clip), clip.processor), data_range=1, prompts=(tuple(pair),)
    )
    ours = np.array(found) / 100
    assert np.log(ours / (1 - ours)) == pytest.approx(torch.logit(theirs).numpy(), abs=1e-2)
    assert np.ptp(np.log(ours)) > 0.1


def test_the_studys_own_judge_is_one_of_the_kinds():
    from vlg.models.clip import Clip

    folder = Path("resources/shapes/judge")
    own = judge(kind.OWN, folder)
    assert own(own.prepare(IMAGES), TEXTS) == Clip(folder, "cpu").scores(IMAGES, TEXTS)
    assert own(IMAGES, TEXTS) == own(own.prepare(IMAGES), TEXTS)


@pytest.mark.parametrize("name", plugins.names(plugins.KINDS))
def test_a_kind_says_what_it_judges_by_before_any_job(name, tmp_path):
    import subprocess
    import sys

    heavy = "torch, transformers, open_clip, numpy"
    program = (
        "import sys; sys.path.insert(0, 'scripts'); from vlg.judge import kind; "
        f"found = kind.find({name!r}); found.files(kind.settings({{'kind': {name!r}, "
        f"'source': 'a.b'}})); print([m for m in {heavy.split(', ')} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
    with pytest.raises(UserError, match="nowhere"):
        kind.find(name).check(kind.settings({"kind": name, "source": "nowhere"}), tmp_path)


@pytest.mark.parametrize(("name", "mark"), [("clip", "config"), ("open_clip", "open_clip_config")])
def test_a_folder_is_judged_by_its_weights(name, mark, tmp_path):
    settings = kind.settings({"kind": name, "source": "given"})
    (tmp_path / "given").mkdir()
    (tmp_path / f"given/{mark}.json").write_text("{}")
    with pytest.raises(UserError, match=f"has no {mark}.json with"):
        kind.find(name).check(settings, tmp_path)
    weights = tmp_path / "given/model.safetensors"
    weights.write_text("x")
    kind.find(name).check(settings, tmp_path)
    assert kind.find(name).files(settings, tmp_path) == [weights]


def test_an_open_clip_can_guide():
    import torch

    guide = judge("open_clip", tiny.world()["guide"])
    pixels = torch.rand(2, 3, 32, 32, requires_grad=True)
    unit = guide.encode_image(pixels)
    (unit * guide.encode_text(TEXTS[:2])).sum().backward()
    assert guide.guides and pixels.grad.abs().sum() > 0
    assert unit.norm(dim=1).tolist() == pytest.approx([1, 1])


# --- what editing and adding a kind reaches ---


@pytest.fixture
def codes(tmp_path):
    """A function: the code hashes of scoring after edits {file of the package: text added}."""
    trees = iter(range(9))

    def codes(**edits):
        scripts = tmp_path / str(next(trees)) / "scripts"
        shutil.copytree("scripts", scripts, ignore=shutil.ignore_patterns("__pycache__"))
        for file, text in edits.items():
            with open(scripts / "vlg" / file.replace("__", "/"), "a+", encoding="utf-8") as out:
                out.write(text)
        kinds = {name: scripts / f"vlg/judge/kinds/{name}.py" for name in ("clip", "clip_iqa")}
        return {
            "score": code_hash(scripts / "score.py", kinds["clip"]),
            "clip_iqa": code_hash(scripts / "judge.py", kinds["clip_iqa"]),
            "diversity": code_hash(scripts / "diversity.py"),
        }

    return codes


@pytest.mark.parametrize(
    ("edited", "reached"),
    [
        ("judge/kinds/clip_iqa.py", {"clip_iqa"}),
        ("judge/kinds/clip.py", {"score"}),
        ("judge/kinds/new.py", set()),
        ("judge/scoring.py", {"score", "clip_iqa"}),
        ("sample/arms/refine.py", set()),
        ("sample/arm.py", set()),
        ("sample/drawing.py", set()),
        ("sample/sampler.py", set()),
        ("train/methods/embed.py", set()),
        ("models/clip.py", {"score", "clip_iqa", "diversity"}),
    ],
)
def test_an_edit_rescores_what_it_changes_and_nothing_else(codes, edited, reached):
    before, after = codes(), codes(**{edited: "\nEDITED = 1\n"})
    assert {name for name in before if before[name] != after[name]} == reached


# --- truth ---


def test_a_picture_of_another_side_than_the_worlds_has_its_facts():
    from vlg.judge import scoring
    from vlg.shapes.world import Scene, Thing, render

    verified = scoring.verifier()
    red, blue = Thing("circle", "red", "small", 8, 16), Thing("square", "blue", "small", 24, 16)
    picture = render(Scene("pair", "white", (red, blue), "left of"))
    prompt, wrong = (f"a red circle {side} a blue square" for side in ("left of", "right of"))
    for image in (picture, picture.repeat(4, 0).repeat(4, 1)):
        assert verified(image, prompt)["strict"] == 1
        assert verified(image, wrong)["relation"] == 0
    assert verified(picture, "a photograph of a cat") == {}


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

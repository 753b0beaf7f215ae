"""ClipScore is torchmetrics' CLIPScore, picture by picture."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vlg.errors import UserError
from vlg.files import write_manifest
from vlg.models.clip import Clip
from vlg.shapes import models

PROMPTS = ["a red circle", "two small blue squares on a gray background", "", "bond, é “42”",
           "a large orange cross to the left of a little green triangle on pink"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A judge with random weights whose cosines spread enough to compare."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("judge")
    model = models.judge()
    with torch.no_grad():
        model.text_model.embeddings.token_embedding.weight.mul_(50)
    model.save_pretrained(path)
    models.judge_processor().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def judge(folder):
    return Clip(folder, "cpu")


def pictures(number, side=32):
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(number)]


class Adapter(torch.nn.Module):
    """transformers 5 returns objects where torchmetrics 1.9 expects tensors."""

    def __init__(self, judge):
        super().__init__()
        self.inner, self.config = judge.model, judge.model.config

    def get_image_features(self, *args):
        return self.inner.get_image_features(*args).pooler_output

    def get_text_features(self, *args):
        return self.inner.get_text_features(*args).pooler_output


def by_torchmetrics(judge, images, texts):
    """(scores before averaging, the metric's own value)."""
    from torchmetrics.multimodal import CLIPScore

    metric = CLIPScore(lambda: (Adapter(judge), judge.processor))
    single = []
    for image, text in zip(images, texts, strict=True):
        metric.reset()
        metric.update([torch.from_numpy(image).permute(2, 0, 1)], [text])
        single.append(metric.score.item())  # the sum so far; compute() would clamp it at 0
    metric.reset()
    metric.update([torch.from_numpy(image).permute(2, 0, 1) for image in images], list(texts))
    return single, metric.compute().item()


@pytest.mark.parametrize("side", [32, 48])
def test_scores_are_those_of_torchmetrics(judge, side):
    images = pictures(len(PROMPTS), side)
    single, mean = by_torchmetrics(judge, images, PROMPTS)
    found = judge.scores(images, PROMPTS)
    assert found == pytest.approx(single, abs=1e-3)
    assert max(found) - min(found) > 1  # a constant would be no test
    assert max(0, np.mean(found)) == pytest.approx(mean, abs=1e-3)


def test_scores_below_zero_stay_below_zero(folder, judge):
    images = pictures(len(PROMPTS))
    found = judge.scores(images, PROMPTS)
    assert min(found) > 0
    turned = Clip(folder, "cpu")
    turned.model.text_projection.weight.data.neg_()
    assert turned.scores(images, PROMPTS) == pytest.approx([-score for score in found], abs=1e-3)


def test_a_long_prompt_is_cut_with_its_end_token_kept(judge):
    words = ["a red circle and", "two blue squares on", "three large green pluses"] * 8
    long = " ".join(words)
    cut = " ".join(long.split()[: models.CONTEXT - 2])  # a word is a token here
    assert len(judge.processor.tokenizer(long).input_ids) > models.CONTEXT
    images = pictures(2)
    single, _ = by_torchmetrics(judge, images, [cut, cut])
    assert judge.scores(images, [long, long]) == pytest.approx(single, abs=1e-3)
    other, _ = by_torchmetrics(judge, images[:1], [" ".join(long.split()[: models.CONTEXT - 8])])
    assert abs(other[0] - single[0]) > 0.01  # where it is cut makes a difference


def test_a_tokenizer_that_states_no_length_changes_no_score(folder, judge, tmp_path):
    shutil.copytree(folder, tmp_path / "judge")
    path = tmp_path / "judge/tokenizer_config.json"
    said = json.loads(path.read_text())
    del said["model_max_length"]
    path.write_text(json.dumps(said))
    silent, texts = Clip(tmp_path / "judge", "cpu"), [*PROMPTS[:2], "a red circle and " * 20]
    assert silent.processor.tokenizer.model_max_length > 10**9
    images = pictures(3)
    assert silent.scores(images, texts) == pytest.approx(judge.scores(images, texts), abs=1e-3)


def test_company_changes_no_score(judge):
    images = pictures(len(PROMPTS))
    together = judge.scores(images, PROMPTS)
    alone = [judge.scores([i], [t])[0] for i, t in zip(images, PROMPTS, strict=True)]
    fresh = Clip.scores(judge, images[::-1], PROMPTS[::-1])[::-1]
    assert together == pytest.approx(alone, abs=1e-3)
    assert together == pytest.approx(fresh, abs=1e-3)


def test_each_prompt_is_encoded_once(folder, monkeypatch):
    judge = Clip(folder, "cpu")
    seen = []
    tokenizer = judge.processor.tokenizer

    def counted(texts, **options):
        seen.extend(texts)
        return tokenizer(texts, **options)

    monkeypatch.setattr(judge, "processor", SimpleNamespace(tokenizer=counted))
    first = judge.encode_text(["a", "b", "a"])
    second = judge.encode_text(["b", "a"])
    assert sorted(seen) == ["a", "b"]
    assert torch.equal(first[0], first[2]) and torch.equal(second, first[[1, 0]])
    assert torch.allclose(first.norm(dim=1), torch.ones(3))


def test_a_broken_judge_is_told_in_one_line(folder, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "broken")
    weights = broken / "model.safetensors"
    data = weights.read_bytes()
    write_manifest(broken)
    weights.write_bytes(data[:-4])
    with pytest.raises(UserError, match="model.safetensors: checksum differs"):
        Clip(broken, "cpu")
    (broken / "manifest.json").unlink()
    with pytest.raises(UserError, match="broken: transformers cannot load a CLIP"):
        Clip(broken, "cpu")
    weights.unlink()
    with pytest.raises(UserError, match="broken: transformers cannot load a CLIP"):
        Clip(broken, "cpu")


def test_weights_that_lack_a_part_do_not_measure(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    half = shutil.copytree(folder, tmp_path / "half")
    tensors = load_file(half / "model.safetensors")
    tensors.pop("text_projection.weight")
    save_file(tensors, half / "model.safetensors", metadata={"format": "pt"})
    assert json.loads((half / "config.json").read_text())["model_type"] == "clip"
    with pytest.raises(UserError, match="half: its weights lack text_projection.weight"):
        Clip(half, "cpu")

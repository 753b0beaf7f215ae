"""What the tests of each family of models draw with."""

import csv
import json

import numpy as np
import torch

from tests import tiny
from vlg.config.sections import Sampling
from vlg.models.cosines import guide_scores
from vlg.models.family import open_family
from vlg.models.guide import load_guide
from vlg.sample import arm

TEXTS = ["a red circle", "the blue square", "a big green circle on white"]


def sampling(**values):
    """Few steps with guidance."""
    return Sampling(**{"steps": 4, "guidance_scale": 4.0, "scheduler": "ddim", **values})


def noise(n=3, seed=0, channels=4):
    """Standard normal latents of `tests.tiny`'s models."""
    return torch.randn(n, channels, 8, 8, generator=torch.Generator().manual_seed(seed))


def conditions(family, texts=TEXTS):
    """What `sample` is told of texts, and of the empty one."""
    return {
        "condition": family.condition(texts),
        "negative": family.condition([""] * len(texts)),
    }


def draws(chosen, kind, sampler, pictures):
    """An arm draws these pictures anew, and a guided one no worse ones."""
    guide = load_guide(tiny.world()["guide"])
    texts, seeds = [p.prompt for p in pictures], [p.seed for p in pictures]
    plain = sampler.draw(texts, seeds)
    before = arm.Before(1, pictures)
    if "pictures" in chosen.needs:
        before = arm.Before(1, pictures, plain, guide_scores(guide, plain, texts))
    drawn = chosen.draw(sampler, guide, before)
    assert drawn.images.shape == plain.shape
    same = np.abs(drawn.images.astype(int) - plain).max() <= 1
    if kind in ("combined", "cfg", "guiders", "clip_guidance"):
        assert same == (kind == "combined"), "which has one and the same model here"
    if drawn.scores and before.scores:
        assert all(new >= old - 0.05 for new, old in zip(drawn.scores, before.scores, strict=True))


def same_gradients(parameters, weights):
    """A network's gradients are those of a run's weights."""
    theirs = {n: p.grad for n, p in parameters if p.grad is not None}
    ours = {n: p.grad for n, p in weights.items() if p.grad is not None}
    assert theirs.keys() == ours.keys() and len(theirs) > 20
    norm = torch.cat([each.flatten() for each in theirs.values()]).norm()
    apart = torch.cat([(ours[n] - each).flatten() for n, each in theirs.items()]).norm()
    assert norm > 1e-3 and apart / norm < 1e-4


# Of methods' own settings, so that three steps take each way that a method has.
SMALL = {
    "draft": {"last_steps": 2, "own_every": 1},
    "imagerefl": {"refl_every": 2},
    "embed": {"min_snr_gamma": 5.0},
    "ddpo": {"clip_range": 0.1},
}


def trained(folder, method, prediction, rank=2):
    """The model that three steps of a method make, whose log and costs are looked at. rank: of a
    LoRA, for `embed` beside weights of 16 bits; 0 trains all weights."""
    options = {"lora_rank": rank, "prediction": prediction, **SMALL.get(method, {})}
    options |= {"frozen": "bf16"} if rank and method == "embed" else {}
    out = tiny.finetune(folder, method, step=3, **options)
    training = folder / "training" / f"{method}-3"
    with open(training / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 and all(np.isfinite(float(row["loss"])) for row in rows)
    assert float(rows[-1]["grad_norm"]) > 0
    summary = json.loads((training / "summary.json").read_text())
    assert summary["cost"]["training"]["network"]["flops"] > 0
    return out


def draws_as_trained(out, base, z, settings, pipe=None, texts=TEXTS):
    """A trained model draws otherwise than its base, and as a pipeline of the base into which
    diffusers loads its LoRA."""
    made, plain = open_family(out), open_family(base)
    told = plain.condition(texts)
    one, two = (plain.sample(told, z, settings, net=net) for net in (made.net, plain.net))
    assert one.isfinite().all() and not torch.equal(one, two)
    if pipe is not None:
        pipe.load_lora_weights(out, weight_name="pytorch_lora_weights.safetensors")
        three = plain.sample(told, z, settings, net=pipe.transformer)
        assert torch.allclose(one, three, atol=1e-4), "its LoRA alone, as diffusers reads it"

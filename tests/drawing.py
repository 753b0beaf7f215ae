"""What the tests of each family of models draw with."""

import torch

from vlg.config.sections import Sampling

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

"""Noise is a function of its key and of nothing else."""

import hashlib

import pytest
import torch

from vlg.models import noise


def test_a_prompt_has_the_same_latents_alone_and_among_others():
    shape = (4, 8, 8)
    alone = noise.latents("a red circle", 3, shape)
    torch.rand(100)  # somebody else's draws from the global generator
    among = [noise.latents(prompt, 3, shape) for prompt in ("bond", "a red circle", "0")]
    assert torch.equal(alone, among[1])
    assert not torch.equal(alone, among[0])


def test_seed_and_purpose_give_other_latents():
    first = noise.latents("bond", 1, (64,))
    assert not torch.equal(first, noise.latents("bond", 2, (64,)))
    assert not torch.equal(first, noise.latents("bond", 1, (64,), purpose="round-1"))


def test_keys_that_look_alike_when_joined_differ():
    keys = [("a", 11), ("a1", 1), ("a11",), ("a", "11"), ('a", 11',), ("a", 1, 1)]
    seeds = {noise.generator(*key).initial_seed() for key in keys}
    assert len(seeds) == len(keys)


def test_the_numbers_are_the_same_in_every_process_and_release():
    key = '["latents", "\\u00e9 \\u201c42\\u201d", 7]'
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
    assert noise.generator("latents", "é “42”", 7).initial_seed() == seed
    assert noise.latents("é “42”", 7, (3,)).tolist() == pytest.approx(
        [-0.6215, -0.0311, -1.1427], abs=1e-4
    )


def test_latents_are_standard_normal():
    drawn = torch.stack([noise.latents(f"prompt {i}", 0, (4, 8, 8)) for i in range(200)])
    # 51,200 numbers: the standard error of the mean is 0.0044, of the variance 0.0063
    assert abs(drawn.mean()) < 0.02
    assert abs(drawn.var() - 1) < 0.03
    # and pictures are independent: 19,900 pairs, each correlation has standard deviation 1/16
    correlation = torch.corrcoef(drawn.flatten(1)).triu(1)
    assert correlation.abs().max() < 0.35

"""FLOPs against counts by hand; forwards and backwards of what ran; no bit of a result changes."""

import pytest
import torch
from torch import nn

from tests import tiny
from vlg.models.ledger import Cost, Ledger, count_flops, forgotten_on_error


def test_a_convolution_by_hand():
    module = nn.Conv2d(3, 5, kernel_size=3, padding=1)
    forward, backward = count_flops(module, (torch.zeros(1, 3, 8, 6),), {})
    assert forward == 2 * 5 * 3 * 9 * 8 * 6
    assert backward == forward  # to the weights alone: the input wants no gradient
    both = count_flops(module, (torch.zeros(1, 3, 8, 6, requires_grad=True),), {})
    assert both == (forward, 2 * forward)


def test_a_linear_layer_by_hand():
    module = nn.Linear(7, 11)
    asked = torch.zeros(1, 4, 7, requires_grad=True)
    assert count_flops(module, (asked,), {}) == (2 * 4 * 7 * 11, 2 * 2 * 4 * 7 * 11)
    module.requires_grad_(False)
    assert count_flops(module, (asked,), {}) == (2 * 4 * 7 * 11, 2 * 4 * 7 * 11)
    assert count_flops(module, (asked.detach(),), {}) == (2 * 4 * 7 * 11, 0)


class Attention(nn.Module):
    def forward(self, q, k, v):
        return nn.functional.scaled_dot_product_attention(q, k, v)


@pytest.mark.parametrize("module", [Attention(), nn.MultiheadAttention(8, 2, batch_first=True)])
def test_attention_by_hand_wherever_its_tensors_are(module):
    """Also on a CPU, whose own kernel torch's counter has no formula for."""
    tokens, width, heads = 5, 8, 2
    products = 2 * 2 * tokens * tokens * width  # q k^T, and its product with v
    if isinstance(module, Attention):
        shape, outside = (1, heads, tokens, width // heads), 0
    else:  # four matrices of width x width
        shape, outside = (1, tokens, width), 4 * 2 * tokens * width * width
    for device in ("cpu", "meta"):
        asked = [torch.zeros(shape, requires_grad=True, device=device) for _ in range(3)]
        forward, backward = count_flops(module, tuple(asked), {})
        assert forward == products + outside
        assert backward == 2 * (products + outside)


def test_samples_are_counted_forward_and_backward():
    module, ledger = nn.Linear(3, 2), Ledger()
    ledger.watch("network", module)
    module(torch.zeros(4, 3)).sum().backward()
    with torch.no_grad():
        module(torch.zeros(5, 3))
    with ledger.paused():
        module(torch.zeros(6, 3))
    flops = 9 * 2 * 3 * 2 + 4 * 2 * 3 * 2
    cost = ledger.take()
    assert cost.parts == {"network": {"forward": 9, "backward": 4, "flops": flops}}
    assert cost.flops == flops and ledger.take() == Cost()


def test_precision_does_not_change_a_count():
    exact, half = nn.Conv2d(3, 5, kernel_size=3), nn.Conv2d(3, 5, kernel_size=3).half()
    x = torch.zeros(1, 3, 8, 8)
    assert count_flops(exact, (x,), {}) == count_flops(half, (x.half(),), {})
    assert count_flops(exact, (x,), {}) == count_flops(exact, (x.bfloat16(),), {})  # autocast


def test_what_gradient_checkpointing_computes_again_is_part_of_the_backward_pass():
    from diffusers import UNet2DConditionModel

    folder = tiny.world()["base"]
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet").train()
    args = torch.zeros(1, 4, 8, 8), torch.tensor([1]), torch.zeros(1, 12, 16)
    forward, backward = count_flops(unet, args, {})
    unet.enable_gradient_checkpointing()
    again = count_flops(unet, args, {})
    assert again[0] == forward and backward + 0.5 * forward < again[1] < backward + forward


def test_two_modules_may_be_one_part():
    small, large, ledger = nn.Linear(3, 2), nn.Linear(3, 20), Ledger()
    for module in (small, large):
        ledger.watch("decoder", module)
        module(torch.zeros(2, 3))
    cost = ledger.take()
    assert cost.of("decoder") == 4 and cost.flops == 2 * 2 * 3 * 2 + 2 * 2 * 3 * 20


def test_an_attempt_that_fails_does_not_count():
    module, ledger = nn.Linear(3, 2), Ledger()
    ledger.watch("network", module)
    module(torch.zeros(1, 3))
    with pytest.raises(MemoryError), forgotten_on_error():
        module(torch.zeros(8, 3))
        raise MemoryError
    with forgotten_on_error():
        module(torch.zeros(4, 3))
    assert ledger.take().of("network") == 5


def test_what_is_computed_twice_counts_twice():
    from torch.utils.checkpoint import checkpoint

    module, ledger = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), Ledger()
    ledger.watch("network", module)
    checkpoint(module, torch.zeros(2, 3, requires_grad=True), use_reentrant=False).sum().backward()
    cost = ledger.take()
    assert (cost.of("network"), cost.of("network", "backward")) == (4, 2)


def test_costs_add_up_and_are_shared_out():
    one = Cost({"network": {"forward": 4, "backward": 2, "flops": 60}})
    two = Cost({"guide": {"forward": 3, "backward": 0, "flops": 9}})
    both = one + two + one
    assert both.of("network") == 8 and both.of("guide", "flops") == 9 and both.flops == 129
    assert both.of("judge") == 0
    assert Cost.read(both.json()) == both and both.json()["flops"] == 129
    assert both.each(4).parts["network"] == {"forward": 2, "backward": 1, "flops": 30}
    assert both.each(2).of("guide") == 1.5


def test_the_models_of_a_study_are_counted_on_any_input():
    """The UNet with its condition, both halves of the VAE, the text encoder, the guide's tower."""
    from diffusers import StableDiffusionPipeline

    from vlg.models.guide import load_guide

    paths, ledger = tiny.world(), Ledger()
    pipe = StableDiffusionPipeline.from_pretrained(paths["base"])
    guide = load_guide(paths["guide"])
    for part, module in (
        ("network", pipe.unet), ("decoder", pipe.vae.decoder), ("encoder", pipe.vae.encoder),
        ("text", pipe.text_encoder), ("guide", guide.model.visual),
    ):  # fmt: skip
        ledger.watch(part, module)
    with torch.no_grad():
        pipe.vae.encode(torch.zeros(2, 3, 32, 32))
        states, _ = pipe.encode_prompt(["a red circle"] * 3, "cpu", 1, False)
    latents = torch.zeros(3, 4, 8, 8)
    t = torch.tensor([1, 2, 3])
    predicted = pipe.unet(latents, t, states, return_dict=False)[0]
    pictures = pipe.vae.decode(predicted).sample
    guide.encode_image(pictures).sum().backward()
    cost = ledger.take()
    counted = {name: (part["forward"], part["backward"]) for name, part in cost.parts.items()}
    # the VAE's weights are not frozen here; no gradient was asked for within no_grad
    assert counted == {
        "encoder": (2, 0), "text": (3, 0), "network": (3, 3), "decoder": (3, 3),
        "guide": (3, 3),
    }  # fmt: skip
    assert all(part["flops"] > 0 for part in cost.parts.values())
    forward, backward = count_flops(pipe.unet, (latents[:1], t[:1], states[:1]), {})
    assert cost.of("network", "flops") == 3 * (forward + backward)
    assert 1.9 * forward < backward < 2.1 * forward


def test_watching_changes_no_bit():
    torch.manual_seed(0)
    module, x = nn.Sequential(nn.Linear(9, 9), nn.Tanh(), nn.Linear(9, 9)), torch.randn(5, 9)

    def gradients():
        module.zero_grad()
        module(x).square().sum().backward()
        return [parameter.grad.clone() for parameter in module.parameters()]

    before = gradients()
    ledger = Ledger()
    ledger.watch("network", module)
    after = gradients()
    ledger.take()
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert all(torch.equal(*pair) for pair in zip(before, gradients(), strict=True))

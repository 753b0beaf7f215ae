"""A LoRA beside weights that are kept in fewer bits: what is trained, what it costs, what is
written."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from tests import flows, tiny
from tests.test_training import interrupted, one_thread, weights  # noqa: F401
from vlg.train import frozen
from vlg.train.step import backward, train_step

FAMILIES = {"epsilon": "unet", "xl": "unet", "flow": "transformer", "flux": "transformer"}
FAMILIES |= dict.fromkeys(flows.SAVE, "transformer")
KINDS = [*frozen.KINDS]
ERROR = {"bf16": 2**-9, "fp16": 2**-12, "int8": 0.01, "nf4": 0.1}  # of a normal weight, in squares


def layer(kind, convolution=False, trained=False):
    torch.manual_seed(0)
    one = nn.Conv2d(6, 10, 3, stride=2, padding=1) if convolution else nn.Linear(50, 33)
    net = nn.Sequential(one.requires_grad_(trained))
    frozen.pack(net, kind)
    x = torch.randn((2, 6, 8, 8) if convolution else (2, 5, 50), requires_grad=True)
    return one, net[0], x


@pytest.mark.parametrize("convolution", [False, True], ids=["matrix", "convolution"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_that_of_its_weight_in_fewer_bits(kind, convolution):
    one, packed, x = layer(kind, convolution)
    whole = packed.unpack([*packed.kept], packed.shape, torch.float32)
    limit = ERROR["bf16"] if convolution and kind not in ("fp16",) else ERROR[kind]
    apart = (whole - one.weight).square().mean().sqrt() / one.weight.square().mean().sqrt()
    assert 0 < apart < 1.5 * limit
    if convolution:
        wanted = functional.conv2d(x, whole, one.bias, one.stride, one.padding)
    else:
        wanted = functional.linear(x, whole, one.bias)
    toward = torch.randn_like(wanted)
    (theirs,) = torch.autograd.grad(wanted, x, toward)
    found = packed(x)
    (ours,) = torch.autograd.grad(found, x, toward)
    assert torch.allclose(found, wanted, atol=1e-6) and torch.allclose(ours, theirs, atol=1e-6)
    assert not any(each.requires_grad for each in packed.kept)


def test_numbers_of_each_kind():
    row = torch.tensor([[0.0, -0.5, 1.0, 0.25], [0.0] * 4])
    kept = frozen.KINDS["int8"][0](row)
    assert kept[0].tolist() == [[0, -64, 127, 32], [0] * 4]
    one, packed, _ = layer("nf4")
    codes, scale = packed.kept
    assert codes.dtype == torch.uint8 and codes.numel() == -(-one.weight.numel() // 64) * 32
    back = packed.unpack([codes, scale], packed.shape, torch.float32).flatten()
    first = one.weight.flatten()[:64]
    levels = torch.tensor(frozen.QUANTILES) * first.abs().max()
    nearest = levels[(first[:, None] - levels).abs().argmin(dim=1)]
    assert torch.allclose(back[:64], nearest.detach())


def test_what_is_trained_stays_as_it_is():
    one, packed, _ = layer("nf4", trained=True)
    assert packed is one


@pytest.mark.parametrize("prediction", FAMILIES)
def test_under_autocast_bf16_changes_no_bit(prediction):
    """Autocast rounds the same weights at each step."""
    states = []
    for kind in ("fp32", "bf16"):
        run = tiny.begin("normal", prediction, lora_rank=2, precision="bf16", frozen=kind)
        numbers = [train_step(run)[1] for _ in range(3)]
        states.append((run.state.weights, numbers))
    (one, losses), (two, others) = states
    assert one.keys() == two.keys() and len(one) > 5
    assert all(torch.equal(a, b) for a, b in zip(losses, others, strict=True))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert all(weight.dtype == torch.float32 for weight in two.values())


TRAINED = [("bf16", "flow", "fp32"), ("fp16", "xl", "fp32"), ("int8", "epsilon", "bf16")]
TRAINED += [("int8", "xl", "fp32"), ("nf4", "xl", "bf16"), ("nf4", "flow", "fp32")]


@pytest.mark.parametrize(("kind", "prediction", "precision"), TRAINED)
def test_every_family_trains_beside_every_kind(kind, prediction, precision):
    """The loss and its gradient are nearly those beside whole weights, and cost as much."""
    found, again = {}, precision == "bf16"
    for each in ("fp32", kind):
        options = {"lora_rank": 2, "precision": precision, "gradient_checkpointing": again}
        run = tiny.begin("embed", prediction, frozen=each, **options)
        g = torch.Generator().manual_seed(1)
        with torch.no_grad():  # away from B = 0, where A has no gradient
            for weight in run.state.weights.values():
                weight += 0.05 * torch.randn(weight.shape, generator=g)
        loss = backward(run, run.method.batch(run.data, 0))[1][0].item()
        run.settle("training")
        gradient = torch.cat([w.grad.flatten() for w in run.state.weights.values()])
        found[each] = loss, gradient, run.cost["training"].json()["network"]
    (loss, gradient, cost), (other, near, same) = found["fp32"], found[kind]
    assert other == pytest.approx(loss, rel=0.1 if kind == "nf4" else 0.02)
    alike = torch.cosine_similarity(gradient, near, dim=0)
    assert alike > {"nf4": 0.9, "int8": 0.99}.get(kind, 0.999)
    # What is computed again ends with a block's last layer, which otherwise is left out.
    assert cost["flops"] > 0 and cost["flops"] <= same["flops"] <= cost["flops"] * (1 + again / 20)


@pytest.mark.parametrize("prediction", FAMILIES)
def test_a_checkpoint_is_the_base_as_it_is_with_the_lora_merged(prediction, tmp_path):
    options = {"prediction": prediction, "lora_rank": 2, "learning_rate": 0.05, "frozen": "nf4"}
    out = tiny.finetune(tmp_path, "normal", **options)
    part = FAMILIES[prediction]
    base, made = (
        load_file(each / part / "diffusion_pytorch_model.safetensors")
        for each in (tiny.world(prediction)["base"], out)
    )
    lora = load_file(out / "pytorch_lora_weights.safetensors")
    assert base.keys() == made.keys() and lora
    changed = {name for name in base if not torch.equal(base[name], made[name])}
    layers = sorted({name.rpartition(".lora_")[0] for name in lora})
    added = {each: lora[f"{each}.lora_B.weight"] @ lora[f"{each}.lora_A.weight"] for each in layers}
    # The last block of a transformer has layers that reach no picture, and learn nothing.
    moved = {f"{each.removeprefix(f'{part}.')}.weight" for each in layers if added[each].any()}
    assert changed == moved and len(moved) > len(layers) / 2
    for name in changed:
        more = added[f"{part}.{name.removesuffix('.weight')}"]
        assert torch.allclose(made[name], base[name] + more, atol=1e-6)


def test_a_killed_training_ends_in_the_same_bits(tmp_path, monkeypatch):
    options = {"lora_rank": 2, "frozen": "int8"}
    tiny.finetune(tmp_path / "one", step=6, **options)
    interrupted(tmp_path / "two", monkeypatch, **options)
    tiny.finetune(tmp_path / "two", step=6, **options)
    assert weights(tmp_path / "one") == weights(tmp_path / "two")

"""The study on Stable Diffusion 2.1, XL, 3.5, FLUX.1 and newer transformers: their overlays from
download to tables."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen3ForCausalLM, Qwen3Model, T5EncoderModel

from tests import flows, tiny
from tests.overlays import COUNTS, names, rows, run, served, sources, unwanted
from tests.pipeline import Checkout

SMALL = COUNTS | {"finetune": {"steps": [2], "accumulate": 1}, "refine": {"rounds": 1}}


def save_sd21(folder):
    """A base that predicts v, as its scheduler says."""
    base = tiny.save_base(folder)
    file = base / "scheduler/scheduler_config.json"
    told = json.loads(file.read_text()) | {"prediction_type": "v_prediction"}
    file.write_text(json.dumps(told))
    unwanted(base, "v2-1_768-ema-pruned")
    return base


def save_sdxl(folder):
    """With half precision, one file and another VAE beside."""
    base = tiny.save_sdxl(folder)
    unwanted(base, "sd_xl_base_1.0", "vae_1_0/diffusion_pytorch_model")
    unwanted(base, "text_encoder_2/model.fp16", "unet/diffusion_pytorch_model.fp16")
    return base


def save_sd35(folder):
    """T5 in pieces, other copies beside."""
    base = tiny.save_sd3(folder)
    t5 = base / "text_encoder_3"
    whole = T5EncoderModel.from_pretrained(t5)
    (t5 / "model.safetensors").unlink()
    whole.save_pretrained(t5, max_shard_size="6KB")
    assert len(list(t5.glob("model-0000*"))) > 1
    unwanted(base, "sd3.5_medium", "text_encoders/t5xxl_fp16")
    unwanted(base, "text_encoder_3/model.fp16-00001-of-00002")
    return base


def save_flux(folder):
    """T5 in pieces, the transformer in one file and half precision beside."""
    base = tiny.save_flux(folder)
    t5 = base / "text_encoder_2"
    whole = T5EncoderModel.from_pretrained(t5)
    (t5 / "model.safetensors").unlink()
    whole.save_pretrained(t5, max_shard_size="6KB")
    unwanted(base, "flux1-dev", "ae", "transformer/diffusion_pytorch_model.fp16")
    return base


def save_z_image(folder):
    """Qwen3 as a language model and in pieces, as it is published."""
    base = flows.save_z_image(folder)
    text, whole = base / "text_encoder", Qwen3Model.from_pretrained(base / "text_encoder")
    chat = Qwen3ForCausalLM(whole.config)
    chat.model = whole
    (text / "model.safetensors").unlink()
    chat.save_pretrained(text, max_shard_size="6KB")
    assert len(list(text.glob("model-0000*"))) > 1
    unwanted(base, "transformer/diffusion_pytorch_model.fp16")
    return base


def save_sana(folder):
    """With half precision beside, and a scheduler that has a number which is none in JSON."""
    base = flows.save_sana(folder)
    assert "Infinity" in (base / "scheduler/scheduler_config.json").read_text()
    unwanted(base, "transformer/diffusion_pytorch_model.fp16", "vae/diffusion_pytorch_model.fp16")
    return base


def look_at_flow(results):
    assert (results / "models/embed-2/pytorch_lora_weights.safetensors").is_file()
    encoded = load_file(results / "latents/captions-000.safetensors")
    assert encoded.keys() == {"states", "mask"} and encoded["mask"][0].sum() > 0
    card = (results / "models/embed-2/README.md").read_text()
    assert "DiffusionPipeline.from_pretrained" in card and "=None" not in card


def look_at_sd21(results):
    told = json.loads((results / "models/embed-2/scheduler/scheduler_config.json").read_text())
    assert told["prediction_type"] == "v_prediction"


def look_at_sdxl(results):
    got = names(results / "models/base")
    assert {name.partition("/")[0] for name in got} == {
        "manifest.json", "model_index.json", "unet", "vae", "text_encoder", "text_encoder_2",
        "tokenizer", "tokenizer_2", "scheduler",
    }  # fmt: skip
    encoded = load_file(results / "latents/latents-000.safetensors")
    assert encoded["mean"].dtype == torch.float16 and encoded["time_ids"].dtype == torch.int64
    assert {tuple(row) for row in encoded["time_ids"][:, 2:].tolist()} <= {
        (0, x, 32, 32) for x in range(2)
    } and (encoded["time_ids"][:, 0] == 256).all()
    assert (results / "models/embed-2/pytorch_lora_weights.safetensors").is_file()
    card = (results / "models/embed-2/README.md").read_text()
    assert "DiffusionPipeline.from_pretrained" in card and "StableDiffusionPipeline" not in card


def look_at_sd35(results):
    got = names(results / "downloads/base")
    assert len([name for name in got if name.startswith("text_encoder_3/model-0")]) > 1
    assert (results / "models/embed-2/pytorch_lora_weights.safetensors").is_file()


def look_at_flux(results):
    got = names(results / "downloads/base")
    assert len([name for name in got if name.startswith("text_encoder_2/model-0")]) > 1
    assert "flux1-dev.safetensors" not in got and "ae.safetensors" not in got
    assert (results / "models/embed-2/pytorch_lora_weights.safetensors").is_file()
    encoded = load_file(results / "latents/captions-000.safetensors")
    assert encoded.keys() == {"t5", "pooled"}
    card = (results / "models/embed-2/README.md").read_text()
    assert "DiffusionPipeline.from_pretrained" in card and "=None" not in card


OVERLAYS = {
    "sd21": (save_sd21, look_at_sd21),
    "sdxl": (save_sdxl, look_at_sdxl),
    "sd35": (save_sd35, look_at_sd35),
    "flux": (save_flux, look_at_flux),
    "z_image": (save_z_image, look_at_flow),
    "qwen_image": (flows.save_qwen_image, look_at_flow),
    "sana": (save_sana, look_at_flow),
}


@pytest.mark.slow
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_runs_whole(overlay, tmp_path):
    save, look = OVERLAYS[overlay]
    checkout, named = Checkout(tmp_path / "copy"), sources(overlay)
    with served(overlay, tmp_path, save) as server:
        run(checkout, server, overlay=overlay, counts=SMALL)
    results = checkout.root / "results" / overlay
    finetune = {row["model"]: row for row in rows(results / "tables/finetune.csv")}
    assert list(finetune) == ["base", "normal-2", "embed-2", "shuffled"]
    assert all(row["clipscore"] and row["prompts"] == "3" for row in finetune.values())
    for table in ("refinement", "hard_prompts", "claims", "by_category"):
        assert rows(results / f"tables/{table}.csv"), table
    base = json.loads((results / "provenance.json").read_text())["downloads"]["base"]
    assert base["id"] == named["base"] and base["commit"] == (named["commit"] or base["commit"])
    got = " ".join(names(results / "downloads/base"))
    assert not [word for word in ("fp16", "ema-pruned", "sd_xl", "sd3.5", "vae_1_0") if word in got]
    cost = json.loads((results / "training/embed-2/summary.json").read_text())["cost"]["training"]
    assert all(cost[part]["flops"] > 0 for part in ("network", "decoder", "guide"))
    look(results)
    done = checkout.run("python", "scripts/verify.py", "--study", f"results/{overlay}")
    assert done.code == 0, done.output

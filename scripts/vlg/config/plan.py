"""What a config asks for: variants and sweeps, models and their trainings, devices."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

from vlg.config.schema import Key, fail
from vlg.workflow import slots

# Keys of `finetune` that are not settings of a variant.
NOT_OF_A_VARIANT = (
    *("steps", "variants", "sweeps", "save_every", "save_minutes"),
    *("processes", "nodes", "launcher"),
)
# How a sweep's key stands in the names of its members, in this order.
SHORT = {
    "guide_scale": "gs",
    "window": "w",
    "weighting": "",
    "target": "",
    "learning_rate": "lr",
    "batch_size": "bs",
    "warmup_steps": "warmup",
    "weight_decay": "wd",
    "max_grad_norm": "norm",
    "ema_decay": "ema",
    "caption_dropout": "drop",
    "min_snr_gamma": "snr",
    "lora_rank": "rank",
    "precision": "",
    "cached": "cached_",
    "crop": "crop",
    "jitter": "jitter",
}
# What leaves a fine-tuning as it is (`vlg.train.loop.Settings` has the same defaults).
NEUTRAL = {
    "weighting": "abar",
    "decoder": None,
    "lora_rank": 0,
    "precision": "fp32",
    "accumulate": 1,
    "gradient_checkpointing": False,
    "evaluate_every": 100,
    "watch_guide": False,
    "cached": True,
    "crop": 1.0,
    "jitter": 0.0,
    "resolution": None,
    "flip": False,
}


def variants(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{variant: its settings}: the shared fine-tuning keys with the variant's own over them.

    What means nothing to a variant, or is at the value that changes nothing, is left out, so that
    neither changing it nor a new key of that kind reruns anything. With pixels (`cached: false`)
    how they are read belongs to the variant.
    """
    shared = {k: v for k, v in config["finetune"].items() if k not in NOT_OF_A_VARIANT}
    result = {}
    for name, (own, _) in entries(config).items():
        settings = {**shared, **own}
        if not settings["cached"]:
            settings["resolution"] = config["dataset"]["resolution"]
            settings["flip"] = config["encode"]["flip"]
        if settings["guide_scale"] == 0:
            unused = ("target", "window", "weighting", "decoder")
        else:
            unused = ("watch_guide",)  # it is logged in any case
        neutral = [key for key, value in NEUTRAL.items() if settings.get(key) == value]
        result[name] = {k: v for k, v in settings.items() if k not in (*unused, *neutral)}
    return result


def entries(config: Mapping[str, Any]) -> dict[str, tuple[dict[str, Any], Key]]:
    """{variant: (its own settings, the key they stand under)}, sweeps after the named ones."""
    tuning = config["finetune"]
    result = {
        name: (own, ("finetune", "variants", name)) for name, own in tuning["variants"].items()
    }
    for sweep, grid in tuning["sweeps"].items():
        key = ("finetune", "sweeps", sweep)
        for values in itertools.product(*grid.values()):
            own = dict(zip(grid, values, strict=True))
            name = swept_name(sweep, own)
            # A member that has been named a variant, with the same values, is that variant.
            if name in result and result[name][0] != own:
                fail(key, f"gives a second variant the name {name}", "rename the sweep")
            result.setdefault(name, (own, key))
    return result


def swept_name(sweep: str, own: Mapping[str, Any]) -> str:
    """The name of a sweep's member: the sweep's, then each swept key, shortened, with its value.

    It depends on the member's own values only, so values may be added to a sweep, and its keys
    reordered. `strength` with guide_scale 0.05 and window [0, 600] is `strength_gs0_05_w0_600`.
    """
    words = [sweep]
    for key in sorted(own, key=list(SHORT).index):
        value = own[key]
        values = value if isinstance(value, list) else [value]
        text = "_".join(str(v).lower().replace("+", "") for v in values)
        words.append(SHORT[key] + re.sub("[.-]", "_", text))
    return "_".join(words)


def models(config: Mapping[str, Any]) -> list[str]:
    """Names of all models that draw pictures: `base`, then `<variant>-<step>` in config order."""
    tuning = config["finetune"]
    return ["base", *(f"{name}-{step}" for name in tuning["variants"] for step in tuning["steps"])]


def training_seeds(config: Mapping[str, Any]) -> list[int]:
    """The seeds each variant is trained with; the first is that of the models with plain names."""
    seeds = config["seeds"]["train"]
    return seeds if isinstance(seeds, list) else [seeds]


def runs(config: Mapping[str, Any], names: list[str] | None = None) -> list[str]:
    """All models to be trained and drawn: `names` (`models(config)`), each followed by its further
    trainings, `<variant>-<step>-s<seed>`."""
    further = training_seeds(config)[1:]
    return [
        run
        for name in (models(config) if names is None else names)
        for run in (name, *(f"{name}-s{seed}" for seed in further if name != "base"))
    ]


def device(config: Mapping[str, Any]) -> str:
    """Where and how models run, as `models.device.set_up` reads it, for example `auto,compile`."""
    return ",".join([config["device"], *(name for name, on in config["gpu"].items() if on)])


def gpus(config: Mapping[str, Any]) -> int:
    """GPUs that each process of a job asks for, if it computes with a model.

    With `device: auto` that depends on whether this machine has one: asked of the driver, as the
    Snakefile must not load torch.
    """
    asked = config["resources"]["gpus"]
    if asked is not None:
        return asked
    return int(config["device"] == "cuda" or (config["device"] == "auto" and bool(slots.here())))

"""Model cards: what a fine-tuned model is, how it was trained and what it scored, for the Hub."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlg.errors import UserError

# Licences of models that are known by name; of others only their owner can speak.
LICENCES = {
    "shapes": "apache-2.0",
    "shapes-early": "apache-2.0",
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "creativeml-openrail-m",
}
WHOLE = ("batch_size", "learning_rate", "guide_scale", "target", "window", "lora_rank", "precision")
WHOLE += ("ema_decay", "caption_dropout", "min_snr_gamma", "seed")


def card(model: str, table: Path, summary: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """The README.md of models/<model>, with the front matter that the Hugging Face Hub reads.

    table: tables/finetune.csv. summary: training/<model>/summary.json. settings: study, base,
    dataset and judge, as the Hub or the config names them; confidence of the intervals. A further
    training, `<model>-s<seed>`, has the row of all trainings. UserError when the model has no row.
    """
    with open(table, newline="", encoding="utf-8") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    trained = re.sub(r"-s[0-9]+$", "", model)
    if trained not in rows:
        raise UserError(f"{table}: has no row of {trained}; delete it and rerun")
    row, base = rows[trained], settings["base"]
    trainings = int(row["trainings"])
    variant, step = row["variant"], int(row["step"])
    guided = float(summary["settings"].get("guide_scale", 0)) > 0
    how = "with a CLIP term in its loss" if guided else "with the denoising loss alone"
    sections = [
        _front(model, row, settings),
        f"# {model}\n",
        f"A Stable Diffusion model: `{base}` fine-tuned {how} (variant `{variant}`, {step:,} "
        f"steps). It was made by the study `{settings['study']}`, which measures what "
        "vision-language guidance gains.\n",
        "## Use\n",
        "```python\nfrom diffusers import StableDiffusionPipeline\n\n"
        'pipeline = StableDiffusionPipeline.from_pretrained("path/to/this/folder")\n'
        'pipeline("a prompt").images[0]\n```\n',
        "## Training\n",
        _list(
            {
                "pictures": f"`{settings['dataset']}`",
                "steps": f"{step:,}",
                "time": f"{float(summary['train_seconds']):,.0f} s on {summary['device']}",
                "trained parameters": f"{summary['parameters']:,}",
                **{k: v for k in WHOLE if (v := summary["settings"].get(k)) is not None},
            }
        ),
        "## What it scored\n",
        f"{row['prompts']} prompts, {row['seeds']} seeds each; judge `{settings['judge']}`. "
        + (f"The mean of {trainings} trainings, of which this is one. " if trainings > 1 else "")
        + f"In brackets: {100 * settings['confidence']:g} % intervals.\n",
        _list(
            {
                "ClipScore": _interval(row, "clipscore"),
                "against the base, paired": _interval(row, "delta"),
                "fidelity, share of true statements": row.get("fidelity") or "not known",
            }
        ),
        "`manifest.json` holds the checksum of every file of this folder.\n",
        "## Limits\n",
        "It inherits what its base can and cannot do, and the base's licence and terms of use. A "
        "higher ClipScore is what a CLIP model prefers, not proof of a better picture.\n",
    ]
    return "\n".join(sections)


def _front(model: str, row: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """The YAML front matter. JSON is YAML, too, and takes whatever a path holds."""
    base, data = settings["base"], settings["dataset"]
    facts: dict[str, Any] = {
        "base_model": base,
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "license": LICENCES.get(base, "other"),
        "datasets": [data],
        "metrics": ["clip_score"],
        "tags": ["stable-diffusion", "text-to-image", "clip-guidance"],
        "model-index": [
            {
                "name": model,
                "results": [
                    {
                        "task": {"type": "text-to-image"},
                        "dataset": {"name": f"{row['prompts']} prompts", "type": "prompts"},
                        "metrics": [
                            {
                                "type": "clip_score",
                                "name": f"ClipScore by {settings['judge']}",
                                "value": round(float(row["clipscore"]), 2),
                            }
                        ],
                    }
                ],
            }
        ],
    }
    if facts["license"] == "other":
        facts["license_name"] = "that of the base model"
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in facts.items()]
    return "\n".join(["---", *lines, "---", ""])


def _interval(row: Mapping[str, str], column: str) -> str:
    """`64.21 [61.37, 66.87]`."""
    low, high = row.get(f"{column}_low"), row.get(f"{column}_high")
    value = f"{float(row[column]):.2f}"
    return f"{value} [{float(low):.2f}, {float(high):.2f}]" if low and high else value


def _list(facts: Mapping[str, Any]) -> str:
    return "".join(f"- {name.replace('_', ' ')}: {value}\n" for name, value in facts.items())

"""Model cards: what a fine-tuned model is, how it was trained and what it scored, for the Hub."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from vlg.config.keys import Keys
from vlg.errors import UserError
from vlg.models.folders import FAMILY

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

# Licences of models that are known by name; of others only their owner can speak.
LICENCES = {
    "shapes": "apache-2.0",
    "shapes-early": "apache-2.0",
    "shapes-middle": "apache-2.0",
    "shapes-flow": "apache-2.0",
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "creativeml-openrail-m",
}
# Settings of a training that say nothing of how it was done, or stand elsewhere in the card.
UNTOLD = {"start", "step", "samples", "evaluate_every", "cached"}
TEMPLATE = """\
---
{{ card_data }}
---

# {{ model }}

A text-to-image model: `{{ base }}` fine-tuned {{ how }} (variant `{{ variant }}`, {{ step }} \
steps). It was made by the study `{{ study }}`, which measures what vision-language guidance gains.

## Use

```python
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("path/to/this/folder"{{ absent }})
pipeline("a prompt").images[0]
```

## Training

{% for name, value in training.items() -%}
- {{ name.replace("_", " ") }}: {{ value }}
{% endfor %}
## What it scored

{{ prompts }} prompts, {{ seeds }} seeds each; judge `{{ judge }}`. \
{% if trainings > 1 %}The mean of {{ trainings }} trainings, of which this is one. {% endif %}\
In brackets: {{ confidence }} % intervals.

{% for name, value in scores.items() -%}
- {{ name }}: {{ value }}
{% endfor %}
`manifest.json` holds the checksum of every file of this folder.

## Limits

It inherits what its base can and cannot do, and the base's licence and terms of use. A higher \
ClipScore is what a CLIP model prefers, not proof of a better picture.
"""


class Settings(Keys):
    """What a card tells beside the training and its scores, as the Hub or the config names it."""

    study: str = Field("shapes", description="`study`.")
    base: str = Field("shapes", description="`models.base`.")
    family: str = Field(FAMILY, description="`models.family`.")
    judge: str = Field("shapes", description="`models.judge`.")
    dataset: str = Field("shapes", description="`dataset.source`.")
    confidence: float = Field(0.95, gt=0, lt=1, description="`statistics.confidence`.")


def card(
    model: str,
    table: Path,
    summary: Mapping[str, Any],
    settings: Settings,
    absent: Sequence[str] = (),
) -> str:
    """The README.md of models/<model>, with the front matter that the Hugging Face Hub reads.

    table: tables/finetune.csv. summary: training/<model>/summary.json. absent: parts that its
    pipeline must be told are not there (`vlg.models.stated.absent`). A further training,
    `<model>-s<seed>`, has the row of all trainings. UserError when the model has no row.
    """
    from huggingface_hub import ModelCard

    with open(table, newline="", encoding="utf-8") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    trained = re.sub(r"-s[0-9]+$", "", model)
    if trained not in rows:
        raise UserError(f"{table}: has no row of {trained}; delete it and rerun")
    row, given = rows[trained], summary["settings"]
    guided = float(given.get("guide_scale", 0)) > 0
    how = "with a CLIP term in its loss" if guided else "with the denoising loss alone"
    if given.get("method", "normal") not in ("normal", "embed"):
        how = f"by the method `{given['method']}`"
    written = ModelCard.from_template(
        _facts(model, row, settings),
        template_str=TEMPLATE,
        **{**settings.model_dump(), "confidence": f"{100 * settings.confidence:g}"},
        **{name: row[name] for name in ("variant", "prompts", "seeds")},
        model=model,
        how=how,
        absent="".join(f", {name}=None" for name in absent),
        step=f"{int(row['step']):,}",
        trainings=int(row["trainings"]),
        training={
            "pictures": f"`{settings.dataset}`",
            "steps": f"{int(row['step']):,}",
            "time": f"{float(summary['train_seconds']):,.0f} s on {summary['device']}",
            "trained parameters": f"{summary['parameters']:,}",
            **{
                k: given[k]
                for k in sorted(given.keys() - UNTOLD)
                if not (given[k] is None or given[k] is False)
            },
        },
        scores={
            "ClipScore": _interval(row, "clipscore"),
            "against the base, paired": _interval(row, "delta"),
            "fidelity, share of true statements": row.get("fidelity") or "not known",
        },
    )
    return f"{written.content.rstrip()}\n"


def _facts(model: str, row: Mapping[str, str], settings: Settings) -> ModelCardData:
    """What the Hub's search and pages read of a model."""
    from huggingface_hub import EvalResult, ModelCardData

    licence = LICENCES.get(settings.base, "other")
    return ModelCardData(
        base_model=settings.base,
        library_name="diffusers",
        pipeline_tag="text-to-image",
        license=licence,
        license_name="that of the base model" if licence == "other" else None,
        datasets=[settings.dataset],
        metrics=["clip_score"],
        tags=[
            "stable-diffusion" if settings.family.startswith("sd") else settings.family,
            *("text-to-image", "clip-guidance"),
        ],
        model_name=model,
        eval_results=[
            EvalResult(
                task_type="text-to-image",
                dataset_type="prompts",
                dataset_name=f"{row['prompts']} prompts",
                metric_type="clip_score",
                metric_name=f"ClipScore by {settings.judge}",
                metric_value=round(float(row["clipscore"]), 2),
            )
        ],
    )


def _interval(row: Mapping[str, str], column: str) -> str:
    """`64.21 [61.37, 66.87]`."""
    low, high = row.get(f"{column}_low"), row.get(f"{column}_high")
    value = f"{float(row[column]):.2f}"
    return f"{value} [{float(low):.2f}, {float(high):.2f}]" if low and high else value

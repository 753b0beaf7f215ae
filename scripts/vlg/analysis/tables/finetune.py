"""Every model on the study prompts, against base; under them what scores are held against."""

from __future__ import annotations

from vlg.analysis import markup, references, table
from vlg.analysis.comparison import compare, corrected
from vlg.analysis.study import Study
from vlg.config.layout import parse_model

NEEDS = ("scores", "references", "training")
ORDER = 1
WHEN = "base"


def build(study: Study) -> table.Table:
    frame = corrected(study, compare(study, study.models), "every checkpoint against base")
    names = [parse_model(model) for model in frame["model"]]
    frame.insert(1, "variant", [name.variant for name in names])
    frame.insert(2, "step", [name.step for name in names])
    frame["train_seconds"] = [study.train_seconds(model) for model in frame["model"]]
    frame["train_flops"] = [study.train_flops(model) for model in frame["model"]]
    frame["blank"] = [study.blank(key) for key in study.models]
    frame["published"] = table.published(study, "finetune", frame["model"])
    caption = (
        f"Fine-tuning. {table.sample(study.ids, study.seeds)} "
        f"{table.explained(study, frame, 'base')}{references.explained(study)}"
    )
    frame = references.beneath(study, frame)
    blank, words = table.blank(frame)
    seconds = markup.Column("Training, s", "train_seconds", digits=0)
    columns = [markup.MODEL, *table.scores(*blank, seconds)]
    return table.of(study, frame, caption + words, columns)

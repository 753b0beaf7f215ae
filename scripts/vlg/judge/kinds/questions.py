"""Fidelity by questions that a vision-language model is asked: TIFA, DSG and GenEval 2's Soft-TIFA.

Sources: TIFA arXiv:2303.11897, DSG arXiv:2310.18235, Soft-TIFA arXiv:2512.16853.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from vlg.config import sections
from vlg.config.keys import disagree
from vlg.judge.questions import Questions, pruned
from vlg.judge.reading import Reading

if TYPE_CHECKING:
    import numpy as np

PLACE = "{question}"


class Settings(sections.ModelJudgeKeys):
    """Which questions, how they are asked, and what number answers become."""

    questions: str = Field(
        "shapes",
        min_length=1,
        description=(
            "What is asked: a .csv or .tsv with the columns prompt, question, answer (one word; "
            "yes where it is empty), number and parent; DSG's published .csv; GenEval 2's .jsonl; "
            "GenEval's `evaluation_metadata.jsonl`; `prompts`, the file of the benchmark that "
            "`prompts.source` names; or `shapes`, made of that world's grammar."
        ),
    )
    summary: Literal["am", "gm", "hard", "strict"] = Field(
        "am",
        description=(
            "Of a picture's questions: `am` the mean probability of their answers and `gm` its "
            "geometric mean (Soft-TIFA), `hard` the share answered right, `strict` 100 if all are."
        ),
    )
    dependencies: bool = Field(
        True,
        description=(
            "Count a question as not answered where one of its parents is not answered right, as "
            "DSG does."
        ),
    )
    template: str = Field(
        "{question} Answer in one word.",
        description="What the model is asked; `{question}` stands for the question.",
    )

    @model_validator(mode="after")
    def _names_the_question(self) -> Self:
        if PLACE not in self.template:
            raise disagree("template", f"does not name {PLACE}", "put it where questions belong")
        return self


class VQAQuestions(Reading):
    """0..100. An answer is right when the most probable token of all says it."""

    settings: Settings

    def load(self) -> None:
        super().load()
        self.questions = Questions(self.settings.questions, self.root)

    @classmethod
    def beside(cls, settings: Settings, root: Path = Path()) -> list[Path]:
        return [] if settings.questions == "shapes" else [root / settings.questions]

    @classmethod
    def check_beside(cls, settings: Settings, root: Path = Path()) -> None:
        Questions(settings.questions, root)

    def __call__(self, images: list[np.ndarray], prompts: list[str]) -> list[float]:
        import torch

        of = [self.questions.of(prompt) for prompt in prompts]
        asked = [(image, each) for image, own in zip(images, of, strict=True) for each in own]
        texts = [self.settings.template.replace(PLACE, each.text) for _, each in asked]
        answers = [self.reader.tokens(each.answer) for _, each in asked]
        chances, right = [], []
        size = max(len(images), 1)  # as many at once as the scorer has chosen
        for start in range(0, len(asked), size):
            some = slice(start, start + size)
            logits = self.reader.logits([image for image, _ in asked[some]], texts[some])
            best = logits.argmax(dim=1).tolist()
            for row, token, own in zip(torch.softmax(logits, 1), best, answers[some], strict=True):
                chances.append(float(row[own].sum()))
                right.append(token in own)
        result, start = [], 0
        for own in of:
            part = slice(start, start := start + len(own))
            result.append(100 * self._summary(own, chances[part], right[part]))
        return result

    def _summary(self, questions: list, chances: list[float], right: list[bool]) -> float:
        """The number of a picture, 0..1."""
        if self.settings.dependencies:
            counts = pruned(questions, right)
            chances = [p if yes else 0.0 for p, yes in zip(chances, counts, strict=True)]
            right = [both and yes for both, yes in zip(right, counts, strict=True)]
        if self.settings.summary == "gm":
            known = min(chances) > 0
            return math.exp(sum(map(math.log, chances)) / len(chances)) if known else 0.0
        if self.settings.summary == "am":
            return sum(chances) / len(chances)
        return sum(right) / len(right) if self.settings.summary == "hard" else float(all(right))

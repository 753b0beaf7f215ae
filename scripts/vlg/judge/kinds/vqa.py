"""VQAScore: the probability of Yes when a vision-language model is asked (arXiv:2404.01291)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from vlg.config import sections
from vlg.config.keys import disagree
from vlg.judge.reading import Reading

if TYPE_CHECKING:
    import numpy as np

PLACE = "{prompt}"


class Settings(sections.ModelJudgeKeys):
    """What is asked, and what of the answer counts."""

    template: str = Field(
        'Does this figure show "{prompt}"? Please answer yes or no.',
        description="The question; `{prompt}` stands for the prompt.",
    )
    among: Literal["all", "yes_no"] = Field(
        "all",
        description=(
            "Yes among `all` tokens, as in the paper, or among yes and no (`yes_no`), which is 50 "
            "for a model that knows neither."
        ),
    )

    @model_validator(mode="after")
    def _names_the_prompt(self) -> Self:
        if PLACE not in self.template:
            raise disagree("template", f"does not name {PLACE}", "put it where the prompt belongs")
        return self


class VQAScore(Reading):
    """100 times the probability of Yes, in any writing that is one token (`Reader.tokens`)."""

    settings: Settings

    def load(self) -> None:
        super().load()
        self.yes, self.no = (self.reader.tokens(answer) for answer in ("yes", "no"))

    def __call__(self, images: list[np.ndarray], prompts: list[str]) -> list[float]:
        questions = [self.settings.template.replace(PLACE, prompt) for prompt in prompts]
        logits = self.reader.logits(images, questions)
        if self.settings.among == "yes_no":
            logits = logits[:, [*self.yes, *self.no]]
            return (100 * logits.softmax(dim=1)[:, : len(self.yes)].sum(dim=1)).tolist()
        return (100 * logits.softmax(dim=1)[:, self.yes].sum(dim=1)).tolist()

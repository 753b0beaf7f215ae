"""What families of flow have in common whose texts are read by a language model."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.errors import UserError
from vlg.models.components import load_component, load_network
from vlg.models.device import waiting
from vlg.models.family import Condition
from vlg.models.flowing import FlowFamily
from vlg.models.stated import APART, check_words, told

if TYPE_CHECKING:
    import torch

TEMPLATES = ("chat_template.jinja", "chat_template.json")


class LanguageFlow(FlowFamily):
    """Its condition is `states` [n, tokens, width] and `mask` [n, tokens], 1 for the tokens of a
    text, which come first, and 0 for those behind, whose states are 0: as many tokens whatever the
    text and the batch, so that neither what is predicted nor what it costs depends on a batch.

    reader: transformers' class of the text encoder. words: and of the tokenizer.
    """

    reader: str
    words: str

    @property
    def wide_dtype(self) -> torch.dtype:
        """The dtype, bfloat16 in place of float16: language models overflow in that."""
        import torch

        return torch.bfloat16 if self.dtype == torch.float16 else self.dtype

    @cached_property
    def text(self) -> list[tuple[Any, Any]]:
        import transformers
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        kind, words = getattr(transformers, self.reader), getattr(transformers, self.words)
        text = load_network(kind, self.folder, "text_encoder", dtype=self.wide_dtype)
        text = text.to(waiting(self.device)).eval().requires_grad_(False)
        return [(load_component(words, self.folder, "tokenizer"), text)]

    def condition(self, texts: Sequence[str]) -> Condition:
        import torch

        with self.reading(), torch.no_grad():
            states, mask = self._read(list(texts))
        states = (states * mask[..., None]).to(self.dtype)
        if not states.isfinite().all():
            raise UserError(
                f"{self.folder}: the states of a text are too large for {self.dtype}; set the "
                "precision to bf16"
            )
        return {"states": states, "mask": mask.to(self.dtype)}

    @abstractmethod
    def _read(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """(states [n, tokens, width], mask [n, tokens] of whole numbers) of texts, as the pipeline
        tokenizes them."""

    def _tokens(self, texts: Sequence[str], most: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(ids, mask), [n, most] each."""
        found = self.text[0][0](
            list(texts), padding="max_length", max_length=most, truncation=True,
            padding_side="right", return_tensors="pt",
        )  # fmt: skip
        return found.input_ids.to(self.device), found.attention_mask.to(self.device)


def check_text(
    folder: Path, net: Mapping[str, Any], key: str, whose: str, chat: bool = False
) -> None:
    """UserError unless the states of the text encoder, which is called `whose`, are as wide as the
    network's config says under `key`, and its tokenizer is its own and, for `chat`, has a template
    of chats."""
    text = told(folder, "text_encoder/config.json")
    text = text.get("text_config") or text
    if net[key] != (width := text.get("hidden_size")):
        raise UserError(
            f"transformer/config.json: {key} is {json.dumps(net[key])} and {whose} hidden_size "
            f"{json.dumps(width)}; {APART}"
        )
    check_words(folder, "tokenizer", text.get("vocab_size", 0))
    if not chat or any((folder / "tokenizer" / name).is_file() for name in TEMPLATES):
        return
    if not told(folder, "tokenizer/tokenizer_config.json").get("chat_template"):
        raise UserError(
            "tokenizer/tokenizer_config.json: has no chat_template, in which texts are put; save "
            "the model's own tokenizer into the folder"
        )


def check_same(file: str, config: Mapping[str, Any], wanted: Mapping[str, Any], name: str) -> None:
    """UserError where a config says another value than the one with which a family, which is called
    `name`, is drawn here."""
    for key, value in wanted.items():
        if (found := config.get(key, value)) != value:
            raise UserError(
                f"{file}: {key} is {json.dumps(found)} and of {name} {json.dumps(value)}; give a "
                "base that draws from text alone"
            )

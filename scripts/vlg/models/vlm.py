"""A vision-language model that is asked about pictures: how probable is an answer?

Any folder that transformers loads as image-text-to-text: Qwen2.5-VL and Qwen3-VL, SmolVLM and
Idefics3, PaliGemma, InternVL, and so on. A question is asked once and one token of the answer is
looked at, as VQAScore (arXiv:2404.01291) and Soft-TIFA (arXiv:2512.16853) do; nothing is generated.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.errors import UserError
from vlg.files import MANIFEST, check_manifest
from vlg.models import stated
from vlg.models.device import Parts, place, set_precision

if TYPE_CHECKING:
    import numpy as np
    import torch

PROCESSORS = ("processor_config.json", "preprocessor_config.json")
PLACES = ("image_token_id", "image_token_index")  # where a config says what stands for a picture
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def check(folder: Path, begin: str) -> None:
    """UserError beginning with `begin` when a folder's JSON says that it cannot answer questions
    about pictures."""
    try:
        config = stated.told(folder, "config.json")
        if all(config.get(name) is None for name in PLACES):
            kind = config.get("model_type")
            raise UserError(
                f"config.json: model_type {kind!r} has no token for a picture ({PLACES[0]}); give "
                "a vision-language model that transformers loads as image-text-to-text"
            )
        if config.get("is_encoder_decoder"):
            raise UserError("is an encoder with a decoder; give a decoder-only model")
        if not any((folder / name).is_file() for name in PROCESSORS):
            raise UserError(
                f"has no processor ({PROCESSORS[1]}); save the model's own into the folder"
            )
        if not stated.has_tokenizer(folder):
            raise UserError(
                "has no tokenizer (tokenizer.json); save the model's own into the folder"
            )
    except UserError as error:
        raise UserError(f"{begin}: {error}") from None


class Reader:
    """A frozen vision-language model.

    precision: as in `vlg.models.device.set_precision`; probabilities are taken in float32 whatever
    it is. UserError when the folder cannot be loaded whole, and when a picture does not reach it.
    """

    def __init__(self, folder: Path, device: str, precision: str = "fp32") -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        check(folder, str(folder))
        if (folder / MANIFEST).is_file():
            check_manifest(folder)
        dtype = set_precision(precision)
        try:
            self.processor: Any = AutoProcessor.from_pretrained(folder, local_files_only=True)
            model, report = AutoModelForImageTextToText.from_pretrained(
                folder,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                dtype=dtype,
            )
        except Exception as error:
            why = " ".join(str(error).split())[:200]
            raise UserError(
                f"{folder}: transformers cannot load a vision-language model from it ({why}); "
                "restore it, or install what it names"
            ) from error
        # transformers draws what a file lacks at random, and would answer with that.
        if missing := sorted(report["missing_keys"]):
            raise UserError(f"{folder}: its weights lack {missing[0]}; give a whole model")
        self.folder, self.device = folder, device
        self.model: Any = place(model.eval().requires_grad_(False), device)
        self._keeps = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        self._parts = Parts("asking about pictures")
        self._tokens: dict[str, list[int]] = {}
        self._check_sees()

    def tokens(self, answer: str) -> list[int]:
        """The tokens that say `answer`: with and without a space before it, capitalised or not, a
        number also in digits. Of each writing that is one token; UserError when none is."""
        if answer not in self._tokens:
            words = [answer, answer.lower(), answer.capitalize()]
            if answer.lower() in NUMBERS:
                words.append(str(NUMBERS.index(answer.lower())))
            tokenizer, found = self.processor.tokenizer, []
            for word in dict.fromkeys([*words, *(f" {each}" for each in words)]):
                ids = tokenizer.encode(word, add_special_tokens=False)
                # A tokenizer may have one token for all that it does not know.
                if len(ids) == 1 and tokenizer.decode(ids).strip() == word.strip():
                    found += ids
            if not found:
                raise UserError(
                    f"{self.folder}: its tokenizer has no single token for the answer {answer!r}, "
                    "so its probability cannot be read; ask so that yes or no is the answer"
                )
            self._tokens[answer] = sorted(set(found))
        return self._tokens[answer]

    def asked(self, question: str) -> str:
        """What the model is given of a question and a picture: by its chat template, if it has one,
        else the picture's token and the question."""
        if getattr(self.processor, "chat_template", None):
            content = [{"type": "image"}, {"type": "text", "text": question}]
            chat = [{"role": "user", "content": content}]
            return self.processor.apply_chat_template(
                chat, add_generation_prompt=True, tokenize=False
            )
        return f"{getattr(self.processor, 'image_token', '')}{question}"

    def logits(self, images: list[np.ndarray], questions: list[str]) -> torch.Tensor:
        """float32 logits [n, vocabulary] of the first token of the answer to each question about
        its picture (h, w, 3) uint8. What does not fit into memory at once is asked in parts."""
        import torch

        return torch.cat(self._parts(self._logits, images, questions))

    def _logits(self, images: list[np.ndarray], questions: list[str]) -> torch.Tensor:
        import torch

        given = self._given(images, questions)
        last = given["attention_mask"].sum(dim=1) - 1
        with torch.no_grad():
            if self._keeps:  # a vocabulary of 150,000 for each token of each picture is much
                kept, last = last.unique(return_inverse=True)
                given["logits_to_keep"] = kept
            logits = self.model(**given, use_cache=False).logits
        return logits[torch.arange(len(last), device=last.device), last].float()

    def _given(self, images: list[np.ndarray], questions: list[str]) -> dict[str, Any]:
        """The arguments of the model."""
        import torch
        from PIL import Image

        given = self.processor(
            text=[self.asked(question) for question in questions],
            images=[[Image.fromarray(image)] for image in images],
            padding=True,
            # Behind the last token nothing is seen by those before it, so their places and hence
            # the answer are those of a question that is asked alone. Some processors pad on the
            # left whatever their tokenizer says, unless they are told here.
            padding_side="right",
            return_tensors="pt",
        )
        return {
            name: value.to(self.device, self.model.dtype if value.is_floating_point() else None)
            for name, value in given.items()
            if torch.is_tensor(value) and name != "labels"
        }

    def _check_sees(self) -> None:
        """UserError unless a picture becomes tokens and a question is kept whole."""
        import numpy as np

        config = self.model.config
        token = next(value for name in PLACES if (value := getattr(config, name, None)) is not None)
        grey, words = np.full((64, 64, 3), 128, np.uint8), "word " * 300
        try:
            short, long = (
                self._given([grey], [question])["input_ids"][0] for question in ("Yes?", words)
            )
        except Exception as error:
            why = " ".join(str(error).split())[:200]
            raise UserError(
                f"{self.folder}: its processor does not take a picture and a question ({why}); "
                "save the model's own processor and chat template into the folder"
            ) from error
        if not (short == token).any():
            raise UserError(
                f"{self.folder}: a picture becomes no token {token} of its input; save the model's "
                "own processor and chat template into the folder"
            )
        if len(long) - len(short) < 200:
            raise UserError(
                f"{self.folder}: its processor cuts a question of 300 words; save the model's own "
                "processor into the folder"
            )

"""GenEval with an open-vocabulary detector of transformers: things, numbers, colours, places.

The rules are GenEval's (`vlg.judge.geneval`); the detector is not. GenEval's finds all of COCO's 80
classes at once and gives masks; here OWLv2 or Grounding DINO is asked for each class that a prompt
names, and colours are read from the box, without a mask. Its confidences differ, so its thresholds
are keys, with GenEval's as defaults, and its scores are no GenEval scores.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from vlg.config import sections
from vlg.errors import UserError
from vlg.judge.kind import Judge, parts
from vlg.models import stated
from vlg.models.device import Parts, place, set_precision

if TYPE_CHECKING:
    import numpy as np
    import torch

# `model_type` of what transformers detects by words, and how each is asked for a thing.
ASKED = {
    "owlv2": "a photo of a {}",
    "owlvit": "a photo of a {}",
    "grounding-dino": "{}.",
    "mm-grounding-dino": "{}.",
}


class Settings(sections.ModelJudgeKeys):
    """What prompts say, what sees colours, and which boxes count."""

    metadata: str = Field(
        "evaluation_metadata.jsonl",
        min_length=1,
        description=(
            "GenEval's evaluation_metadata.jsonl, which says what each prompt names; `prompts` "
            "where `prompts.source` is geneval."
        ),
    )
    colours: str | None = Field(
        None,
        description="Folder of the Hugging Face CLIP that tells colours; needed where they count.",
    )
    threshold: float = Field(0.3, ge=0, le=1, description="Confidence from which a box counts.")
    counting_threshold: float = Field(
        0.9, ge=0, le=1, description="The same for prompts with the tag counting."
    )
    max_objects: int = Field(16, ge=1, description="Boxes of a class that count at most.")
    max_overlap: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Intersection over union from which the weaker of two boxes is dropped.",
    )
    position_threshold: float = Field(
        0.1, ge=0, description="Share of two things' sides by which their centres must differ."
    )


class Detector(Judge):
    """100 for a picture that shows all that its prompt names, otherwise 0."""

    settings: Settings

    def load(self) -> None:
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

        from vlg.judge import geneval
        from vlg.models.clip import Clip

        own, folder = self.settings, self.root / self.settings.source
        self.check(own, self.root)
        self.check_beside(own, self.root)
        self.said = geneval.read(self.root / own.metadata)
        try:
            self.processor: Any = AutoProcessor.from_pretrained(folder, local_files_only=True)
            model, report = AutoModelForZeroShotObjectDetection.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
        except Exception as error:
            why = " ".join(str(error).split())[:200]
            raise UserError(
                f"{own.source}: transformers cannot load a detector from it ({why}); restore it"
            ) from error
        if missing := sorted(report["missing_keys"]):
            raise UserError(f"{own.source}: its weights lack {missing[0]}; give a whole model")
        self.dtype = set_precision(self.precision)
        self.model: Any = place(model.to(self.dtype).eval().requires_grad_(False), self.device)
        self.asked = ASKED[self.model.config.model_type]
        colours = self.root / own.colours if own.colours else None
        self.clip = Clip(colours, self.device, self.precision) if colours else None
        self.rules = geneval.Rules(
            own.threshold,
            own.counting_threshold,
            own.max_objects,
            own.max_overlap,
            own.position_threshold,
        )
        self._parts = Parts("detecting")
        self._known: dict[str, torch.Tensor] = {}

    @property
    def inside(self) -> Any:
        return self.clip

    @classmethod
    def check(cls, settings: Settings, root: Path = Path()) -> None:
        super().check(settings, root)
        folder = root / settings.source
        kind = stated.told(folder, "config.json").get("model_type")
        if kind not in ASKED:
            raise UserError(
                f"{settings.source}: config.json: model_type is {kind!r}; give one of "
                f"{', '.join(ASKED)}"
            )
        if not stated.has_tokenizer(folder):
            raise UserError(f"{settings.source}: has no tokenizer; save the model's own into it")

    @classmethod
    def check_beside(cls, settings: Settings, root: Path = Path()) -> None:
        if not (root / settings.metadata).is_file():
            raise UserError(
                f"metadata: no file {settings.metadata!r}; give GenEval's evaluation_metadata.jsonl"
            )
        if settings.colours:
            stated.check("judge", root / settings.colours, f"colours: {settings.colours}")
        else:
            from vlg.judge import geneval

            for prompt, said in geneval.read(root / settings.metadata).items():
                if any("color" in each for each in said["include"]):
                    raise UserError(
                        f"colours: {settings.metadata} names colours ({prompt!r}); give the folder "
                        "of a Hugging Face CLIP, which tells them"
                    )

    @classmethod
    def beside(cls, settings: Settings, root: Path = Path()) -> list[Path]:
        colours = parts(root / settings.colours) if settings.colours else []
        return [root / settings.metadata, *colours]

    def __call__(self, images: list[np.ndarray], prompts: list[str]) -> list[float]:
        from vlg.judge import geneval
        from vlg.judge.questions import key

        said = []
        for prompt in prompts:
            if (own := self.said.get(key(prompt))) is None:
                raise UserError(
                    f"{self.settings.metadata}: says nothing of the prompt {prompt!r}; add it, or "
                    "leave this judge out"
                )
            said.append(own)
        pairs = [(i, name) for i, own in enumerate(said) for name in geneval.names(own)]
        found: list[dict[str, list[np.ndarray]]] = [{} for _ in images]
        seen = self._detected([images[i] for i, _ in pairs], [name for _, name in pairs])
        for (i, name), (boxes, scores) in zip(pairs, seen, strict=True):
            found[i][name] = self.rules.kept(boxes, scores, said[i].get("tag", ""))
        result = []
        for image, own, boxes in zip(images, said, found, strict=True):
            colours = functools.partial(self._colours, image)
            result.append(100.0 * self.rules.shows(own, boxes, colours))
        return result

    def _detected(
        self, images: list[np.ndarray], names: list[str]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """(boxes (n, 4) in pixels, scores (n,)) of one class in each picture.

        Size by size: Grounding DINO sees what smaller pictures of a batch are padded with.
        """
        sizes: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            sizes.setdefault(image.shape, []).append(i)
        found = {}
        for places in sizes.values():
            columns = [images[i] for i in places], [names[i] for i in places]
            told = [each for part in self._parts(self._boxes, *columns) for each in part]
            found |= dict(zip(places, told, strict=True))
        return [found[i] for i in range(len(images))]

    def _boxes(
        self, images: list[np.ndarray], names: list[str]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        import torch
        from PIL import Image

        texts = [self.asked.format(name.lower()) for name in names]
        nested = [[text] for text in texts] if "owl" in self.model.config.model_type else texts
        given = self.processor(
            text=nested,
            images=[Image.fromarray(image) for image in images],
            padding=True,
            return_tensors="pt",
        ).to(self.device, self.dtype)
        with torch.no_grad():
            outputs = self.model(**given)
        outputs.logits, outputs.pred_boxes = outputs.logits.float(), outputs.pred_boxes.float()
        sizes = [image.shape[:2] for image in images]
        told = self.processor.post_process_grounded_object_detection(
            outputs, threshold=0.0, target_sizes=sizes
        )
        return [(each["boxes"].cpu().numpy(), each["scores"].cpu().numpy()) for each in told]

    def _classes(self, name: str) -> torch.Tensor:
        """Unit embeddings of a thing in each of COLOURS, (colours, d)."""
        import torch

        from vlg.judge.geneval import COLOURS, TEMPLATES

        if name not in self._known:
            texts = [each.format(c=colour, t=name) for colour in COLOURS for each in TEMPLATES]
            mean = self.clip.encode_text(texts).unflatten(0, (len(COLOURS), -1)).mean(dim=1)
            self._known[name] = torch.nn.functional.normalize(mean, dim=-1)
        return self._known[name]

    def _colours(self, image: np.ndarray, boxes: list[np.ndarray], name: str) -> list[str]:
        """The colour of what is in each box: the nearest of a CLIP's averaged texts."""
        import numpy as np
        from PIL import Image

        from vlg.judge.geneval import COLOURS

        classes = self._classes(name)
        whole, crops = Image.fromarray(image), []
        for left, top, right, bottom in boxes:
            box = (left, top, max(right, left + 1), max(bottom, top + 1))
            crops.append(np.array(whole.crop(box)))
        best = (self.clip.encode_image(crops) @ classes.T).argmax(dim=1)
        return [COLOURS[i] for i in best.tolist()]

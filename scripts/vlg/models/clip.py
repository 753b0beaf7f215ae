"""A Hugging Face CLIP, for ClipScore: 100 cos between a picture and its prompt.

The metric of Hessel et al. (arXiv:2104.08718) as torchmetrics computes it, but per picture and in
batches: not clamped at 0, and prompts over the text model's length are cut in the tokenizer, which
keeps the end token that CLIP pools at.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlg.errors import UserError
from vlg.files import MANIFEST, check_manifest, read_json
from vlg.models.device import Parts, place, send, set_precision

if TYPE_CHECKING:
    import torch

    from vlg.models.ledger import Ledger


@contextlib.contextmanager
def _silent_warnings() -> Iterator[None]:
    """Within: transformers says of errors alone."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


class Clip:
    """A Hugging Face CLIP (or SigLIP) folder that only measures.

    precision: as in `vlg.models.device.set_precision`; cosines are taken in float32 whatever it is.
    scale: what the model multiplies cosines by.
    """

    def __init__(self, folder: Path, device: str, precision: str = "fp32") -> None:
        from types import SimpleNamespace

        from transformers import (
            AutoImageProcessor,
            AutoTokenizer,
            CLIPModel,
            CLIPProcessor,
            SiglipModel,
        )

        if (folder / MANIFEST).is_file():
            check_manifest(folder)
        try:
            siglip = read_json(folder / "config.json").get("model_type", "clip") == "siglip"
            with _silent_warnings():  # transformers finds its own default of SigLIP's tokens odd
                model, report = (SiglipModel if siglip else CLIPModel).from_pretrained(
                    folder, use_safetensors=True, local_files_only=True, output_loading_info=True
                )
            if siglip:
                kinds = {"tokenizer": AutoTokenizer, "image_processor": AutoImageProcessor}
                parts = {
                    k: v.from_pretrained(folder, local_files_only=True) for k, v in kinds.items()
                }
                self.processor: Any = SimpleNamespace(**parts)
            else:
                self.processor = CLIPProcessor.from_pretrained(folder, local_files_only=True)
        except Exception as error:
            raise UserError(
                f"{folder}: transformers cannot load a CLIP from it ({error}); restore it"
            ) from error
        # transformers draws what a file lacks at random, and would measure with that.
        if missing := sorted(report["missing_keys"]):
            raise UserError(f"{folder}: its weights lack {missing[0]}; give a whole CLIP")
        # 16 bits would round it, and all that is multiplied by it, by a percent.
        self.scale = float(model.logit_scale.detach().float().exp())
        self.folder, self.dtype = folder, set_precision(precision)
        self.model: Any = place(model.to(self.dtype).eval().requires_grad_(False), device)
        self.device = device
        # SigLIP was trained on captions that are all of one length.
        self._padding = "max_length" if siglip else True
        # Not the tokenizer's, which may state none (and then says 10^30) or another one.
        self._length = model.config.text_config.max_position_embeddings
        self._parts = Parts("scoring pictures")
        self._texts: dict[str, Any] = {}

    def watch(self, ledger: Ledger, part: str = "judge") -> None:
        """Let a ledger count the pictures that are looked at, as `part`."""
        ledger.watch(part, self.model.vision_model)

    @property
    def side(self) -> int:
        """Side in pixels of what the model looks at."""
        return self.model.config.vision_config.image_size

    def encode_text(self, texts: list[str]) -> Any:
        """Unit embeddings (n, d) of prompts; each distinct prompt is encoded once."""
        import torch

        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        for start in range(0, len(new), 256):
            part = new[start : start + 256]
            tokens = self.tokens(part)
            if self._padding == "max_length":
                tokens.pop("attention_mask", None)  # SigLIP reads the padding too
            with torch.no_grad():
                features = self.model.get_text_features(**tokens).pooler_output
            unit = torch.nn.functional.normalize(features.float(), dim=-1)
            self._texts.update(zip(part, unit, strict=True))
        return torch.stack([self._texts[text] for text in texts])

    def tokens(self, texts: list[str]) -> Any:
        """What the text model is given of texts, `input_ids` (n, length) among it."""
        return self.processor.tokenizer(
            texts,
            padding=self._padding,
            truncation=True,
            max_length=self._length,
            return_tensors="pt",
        ).to(self.device)

    def prepare(self, images: list[np.ndarray]) -> Any:
        """Pixels (n, 3, height, width) as the model wants them, of pictures (h, w, 3) uint8."""
        return self.processor.image_processor(images=images, return_tensors="pt")["pixel_values"]

    def encode_image(self, images: list[np.ndarray] | Any) -> Any:
        """Unit embeddings (n, d) of pictures, or of what `prepare` has made of them.

        What does not fit into memory at once is encoded in parts.
        """
        import torch

        pixels = self.prepare(images) if isinstance(images, list) else images
        return torch.cat(self._parts(self._encode_pixels, pixels))

    def _encode_pixels(self, pixels: Any) -> Any:
        import torch

        with torch.no_grad():
            sent = send(pixels.to(self.model.dtype), self.device)
            features = self.model.get_image_features(sent).pooler_output
        return torch.nn.functional.normalize(features.float(), dim=-1)

    def encode_pictures(self, pictures: torch.Tensor) -> torch.Tensor:
        """Unit embeddings [n, d] of pictures [n, 3, height, width] in 0..1, differentiable."""
        import torch

        pixels = self.preprocess(pictures).to(self.device, self.model.dtype)
        features = self.model.get_image_features(pixels).pooler_output
        return torch.nn.functional.normalize(features.float(), dim=-1)

    def preprocess(self, pictures: torch.Tensor) -> torch.Tensor:
        """What `prepare` does to picture files, differentiably, up to its rounding to bytes.

        The clamp stands for their 0..255. UserError for a way to resize that is not known here.
        """
        import torch
        from torch.nn.functional import interpolate

        said = self.processor.image_processor.to_dict()
        mode = {2: "bilinear", 3: "bicubic"}.get(int(said["resample"]))
        size, crop = said["size"], said.get("crop_size") if said.get("do_center_crop") else None
        height, width = pictures.shape[-2:]
        if "shortest_edge" in size:
            side = size["shortest_edge"]
            short, long = sorted((height, width))
            resized = (side, int(side * long / short))
            target = resized if height <= width else resized[::-1]
        else:
            target = (size["height"], size["width"])
        if mode is None or not said.get("do_resize", True):
            raise UserError(
                "guides: its preprocessor_config.json resizes neither bicubically nor bilinearly; "
                "such a model cannot guide"
            )
        if target != (height, width):
            pictures = interpolate(pictures, target, mode=mode, antialias=True).clamp(0, 1)
        if crop:
            top, left = (target[0] - crop["height"]) // 2, (target[1] - crop["width"]) // 2
            pictures = pictures[..., top : top + crop["height"], left : left + crop["width"]]
        mean, std = (
            torch.tensor(said[name]).to(pictures)[:, None, None]
            for name in ("image_mean", "image_std")
        )
        return (pictures - mean) / std

    def scores(self, images: list[np.ndarray] | Any, texts: list[str]) -> list[float]:
        """100 cos of each (picture, prompt)."""
        cosines = (self.encode_image(images) * self.encode_text(texts)).sum(1)
        return (100 * cosines).tolist()

"""ImageReward: a BLIP that reads picture and prompt together (Xu et al., arXiv:2304.05977)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from vlg.config import sections
from vlg.errors import UserError
from vlg.judge.kind import Judge, parts
from vlg.models import stated, weights
from vlg.models.device import Parts, place, send, set_precision

if TYPE_CHECKING:
    import numpy as np
    import torch

    from vlg.models.ledger import Ledger

# Of the published model: the mean and deviation of its rewards, how long a prompt may be.
MEAN, DEVIATION, LENGTH = 0.16717362830052426, 1.0333394966054072, 35
HEAD = 64  # width of an attention head, in both of BLIP's networks
PIXELS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
# Names in the checkpoint, which are BLIP's, and in transformers.
VISION = {
    r"cls_token": "embeddings.class_embedding",
    r"pos_embed": "embeddings.position_embedding",
    r"patch_embed\.proj\.": "embeddings.patch_embedding.",
    r"blocks\.(\d+)\.norm([12])\.": r"encoder.layers.\1.layer_norm\2.",
    r"blocks\.(\d+)\.attn\.qkv\.": r"encoder.layers.\1.self_attn.qkv.",
    r"blocks\.(\d+)\.attn\.proj\.": r"encoder.layers.\1.self_attn.projection.",
    r"blocks\.(\d+)\.mlp\.": r"encoder.layers.\1.mlp.",
    r"norm\.": "post_layernorm.",
}


class Settings(sections.ModelJudgeKeys):
    """Which weights."""

    sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="Checksum of the file of weights; a pickled one (.pt) needs it.",
    )


class ImageReward(Judge):
    """`source` is a folder with ImageReward.pt, or the same as safetensors, and the tokenizer of
    bert-base-uncased. The scale is the original's, about -2 to 2."""

    settings: Settings

    def load(self) -> None:
        import torch
        from transformers import AutoTokenizer, BlipTextConfig, BlipVisionConfig
        from transformers.models.blip.modeling_blip import BlipVisionModel
        from transformers.models.blip.modeling_blip_text import BlipTextModel

        own, folder = self.settings, self.root / self.settings.source
        self.check(own, self.root)
        tensors = weights.read(_file(folder), own.source, own.sha256)
        try:
            vision = _part(tensors, "blip.visual_encoder.", VISION)
            text = _part(tensors, "blip.text_encoder.")
            head = _part(tensors, "mlp.")
            width, _, patch, _ = vision["embeddings.patch_embedding.weight"].shape
            self._side = patch * round(
                (vision["embeddings.position_embedding"].shape[1] - 1) ** 0.5
            )
            eye = BlipVisionConfig(
                hidden_size=width, image_size=self._side, patch_size=patch, layer_norm_eps=1e-6,
                intermediate_size=len(vision["encoder.layers.0.mlp.fc1.bias"]),
                num_hidden_layers=_layers(vision), num_attention_heads=width // HEAD,
            )  # fmt: skip
            vocabulary, size = text["embeddings.word_embeddings.weight"].shape
            places = len(text["embeddings.position_embeddings.weight"])
            words = BlipTextConfig(
                vocab_size=vocabulary, hidden_size=size, encoder_hidden_size=width,
                intermediate_size=len(text["encoder.layer.0.intermediate.dense.bias"]),
                num_hidden_layers=_layers(text), num_attention_heads=size // HEAD,
                max_position_embeddings=places, layer_norm_eps=1e-12, is_decoder=True,
            )  # fmt: skip
            self.eye: Any = BlipVisionModel(eye)
            self.text: Any = BlipTextModel(words, add_pooling_layer=False)
            self.head: Any = torch.nn.Sequential(
                *(torch.nn.Linear(*reversed(head[n].shape)) for n in _linears(head))
            )
            for module, named in (
                (self.eye, vision),
                (self.text, text),
                (self.head, _counted(head)),
            ):
                module.load_state_dict(named)
            self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (KeyError, ValueError, RuntimeError, OSError) as error:
            why = " ".join(str(error).split())[:200]
            raise UserError(
                f"{own.source}: not the weights of ImageReward ({why}); get them again"
            ) from error
        self.dtype = set_precision(self.precision)
        for name, dtype in (("eye", self.dtype), ("text", self.dtype), ("head", torch.float32)):
            module = getattr(self, name).to(dtype).eval().requires_grad_(False)
            setattr(self, name, place(module, self.device))
        self._parts = Parts("scoring pictures")

    @property
    def side(self) -> int:
        return self._side

    @classmethod
    def check(cls, settings: Settings, root: Path = Path()) -> None:
        folder = root / settings.source
        weights.check(_file(folder), settings.source, settings.sha256)
        if not stated.has_tokenizer(folder):
            raise UserError(
                f"{settings.source}: has no tokenizer (vocab.txt); save that of bert-base-uncased "
                "into the folder"
            )

    @classmethod
    def files(cls, settings: Settings, root: Path = Path()) -> list[Path]:
        folder = root / settings.source
        texts = [path for path in parts(folder) if path.suffix != ".safetensors"]
        return [_file(folder), *texts]

    def watch(self, ledger: Ledger, part: str = "judge") -> None:
        ledger.watch(part, self.eye)

    def prepare(self, images: list[np.ndarray]) -> torch.Tensor:
        """Pixels (n, 3, side, side): the shorter side resized (bicubic), the middle cut out."""
        import torch
        from PIL import Image
        from torchvision.transforms import v2

        ways = v2.Compose(
            [
                v2.Resize(self.side, interpolation=v2.InterpolationMode.BICUBIC),
                v2.CenterCrop(self.side),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(*PIXELS),
            ]
        )
        return torch.stack([ways(Image.fromarray(image)) for image in images])

    def __call__(self, images: Any, prompts: list[str]) -> list[float]:
        pixels = self.prepare(images) if isinstance(images, list) else images
        return [each for part in self._parts(self._rewards, pixels, prompts) for each in part]

    def _rewards(self, pixels: torch.Tensor, prompts: list[str]) -> list[float]:
        import torch

        words = self.tokenizer(
            prompts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
        ).to(self.device)
        with torch.no_grad():
            seen = self.eye(send(pixels.to(self.dtype), self.device)).last_hidden_state
            read = self.text(
                input_ids=words.input_ids,
                attention_mask=words.attention_mask,
                encoder_hidden_states=seen,
                encoder_attention_mask=torch.ones(seen.shape[:2], device=seen.device).long(),
            ).last_hidden_state[:, 0]
            return ((self.head(read.float())[:, 0] - MEAN) / DEVIATION).tolist()


def _file(folder: Path) -> Path:
    """The file of weights in a folder: safetensors before what is pickled."""
    found = [*sorted(folder.glob("*.safetensors")), *sorted(folder.glob("*.pt"))]
    return found[0] if found else folder / "ImageReward.pt"


def _part(
    tensors: dict[str, torch.Tensor], prefix: str, names: dict[str, str] | None = None
) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with `prefix`, without it, in the names of transformers."""
    found = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix) and not name.endswith("position_ids"):
            name = name.removeprefix(prefix)
            for pattern, ours in (names or {}).items():
                if re.match(pattern, name):
                    name = re.sub(f"^{pattern}", ours, name)
                    break
            found[name] = tensor
    return found


def _layers(tensors: dict[str, torch.Tensor]) -> int:
    """How many layers a network has."""
    found = [re.match(r"encoder\.layers?\.(\d+)\.", name) for name in tensors]
    return 1 + max(int(each[1]) for each in found if each)


def _linears(head: dict[str, torch.Tensor]) -> list[str]:
    """The names of the weights of the reward's layers, in their order."""
    return sorted(
        (name for name in head if name.endswith(".weight")), key=lambda n: int(n.split(".")[1])
    )


def _counted(head: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The reward's layers counted without the dropouts between them, which judge nothing."""
    result = {}
    for at, name in enumerate(_linears(head)):
        result[f"{at}.weight"] = head[name]
        result[f"{at}.bias"] = head[name.removesuffix("weight") + "bias"]
    return result

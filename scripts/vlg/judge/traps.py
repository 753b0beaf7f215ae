"""Traps that move ClipScores without a word, looked for in each judge when it is loaded.

- A prompt longer than the tokenizer takes loses its end token, at which a CLIP pools.
- Weights trained with QuickGELU are run with GELU, or the other way round.
- Pictures are made smaller without antialiasing.
- Weights stored in 16 bits are also computed with in 16 bits.

`check` costs no forward pass and changes no score: it raises or warns. `look` can also say how far
each trap would move the scores of a few plain pictures.
"""

from __future__ import annotations

import contextlib
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vlg.errors import UserError
from vlg.files import read_json

if TYPE_CHECKING:
    import torch

    from vlg.models.clip import Clip
    from vlg.models.guide import Guide

log = logging.getLogger("vlg")

COLUMNS = ("judge", "trap", "found", "moves", "fine")
END, ACTIVATION, RESIZE, PRECISION = "long prompts", "activation", "resize", "16 bits"
REMEDIES = {
    END: "save the model's own tokenizer into the folder",
    ACTIVATION: "have its config name the activation it was trained with",
    RESIZE: "have its preprocessing resize with antialiasing",
    PRECISION: "set its precision to what is wanted",
}
LONG = "a red circle on a white background and " * 200
SMALLER = 4  # times
# Share of its contrast that noise keeps when it is made smaller: filters with antialiasing leave
# 0.1 to 0.3 of it, and those without 0.5 to 1.
LEFT = 0.4
COLOURS = {"red": (214, 39, 40), "green": (44, 150, 44), "blue": (38, 80, 210)}
PICTURES = [(colour, shape) for colour in COLOURS for shape in ("circle", "square")]


@dataclass(frozen=True)
class Trap:
    """What was found of one trap. moves: by how much the trap would move the ClipScore of a plain
    picture at most; NaN where it was not tried or says nothing of such a model."""

    name: str
    found: str
    fine: bool
    moves: float = math.nan


def check(name: str, inside: Clip | Guide | None) -> None:
    """Refuse a judge that is in a trap by a UserError that begins with `name`; warn of a resize,
    which may be meant. inside: as `Judge.inside`; None cannot be looked into."""
    for trap in look(inside) if inside else ():
        if not trap.fine and trap.name == RESIZE:
            log.warning("%s: %s: %s; %s", name, trap.name, trap.found, REMEDIES[trap.name])
        elif not trap.fine:
            raise UserError(f"{name}: {trap.name}: {trap.found}; {REMEDIES[trap.name]}")


def look(inside: Clip | Guide, moves: bool = False) -> list[Trap]:
    """What there is of each trap. moves: also try what it would do."""
    import torch

    from vlg.models.clip import Clip

    towers = HuggingFace(inside) if isinstance(inside, Clip) else OpenClip(inside)
    with torch.no_grad():
        return [trap(towers, moves) for trap in (_end, _activation, _resize, _precision)]


# --- both kinds of CLIPs ------------------------------------------------------------------------


class Towers(ABC):
    """The same of both kinds: texts and pictures to what the models take, and on to embeddings.

    model: with both towers. dtype: what it should compute in. end: the token that a text is pooled
    at; None where it is a place and no token. stated: the activations that its config names.
    """

    model: torch.nn.Module
    dtype: torch.dtype
    end: int | None
    stated: set[str]

    @abstractmethod
    def ids(self, texts: list[str]) -> torch.Tensor:
        """Token ids [n, length]."""

    @abstractmethod
    def texts(self, ids: torch.Tensor) -> torch.Tensor:
        """Embeddings of token ids."""

    @abstractmethod
    def prepared(self, images: list[np.ndarray]) -> torch.Tensor:
        """What the image tower takes of pictures (h, w, 3) uint8."""

    @abstractmethod
    def images(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embeddings of what `prepared` returns."""

    def cosines(self, images: list[np.ndarray], ids: torch.Tensor) -> torch.Tensor:
        """100 cos of each picture (rows) with each text."""
        from torch.nn.functional import normalize

        pictures, texts = self.images(self.prepared(images)), self.texts(ids)
        return 100 * normalize(pictures.float(), dim=-1) @ normalize(texts.float(), dim=-1).T

    def scores(self, images: list[np.ndarray] | None = None) -> torch.Tensor:
        """The ClipScore of each of PICTURES with its own text."""
        texts = [f"a {colour} {shape} on a white background" for colour, shape in PICTURES]
        images = [_drawn(*each, 64) for each in PICTURES] if images is None else images
        return self.cosines(images, self.ids(texts)).diagonal().cpu()


class HuggingFace(Towers):
    """A `Clip`."""

    def __init__(self, clip: Clip) -> None:
        self.clip, self.model, self.dtype = clip, clip.model, clip.dtype
        config = clip.model.config
        text, end = config.text_config, config.text_config.eos_token_id
        # SigLIP reads its last place. Configs of an earlier transformers say 2 where the highest
        # token is meant.
        self.end = (
            None if config.model_type == "siglip" else text.vocab_size - 1 if end == 2 else end
        )
        told = read_json(clip.folder / "config.json")
        found = {
            (told.get(f"{tower}_config") or {}).get("hidden_act") for tower in ("text", "vision")
        }
        self.stated = {each for each in found if each}

    def ids(self, texts: list[str]) -> torch.Tensor:
        return self.clip.tokens(texts).input_ids

    def texts(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model.get_text_features(input_ids=ids).pooler_output

    def prepared(self, images: list[np.ndarray]) -> torch.Tensor:
        return self.clip.prepare(images)

    def images(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.clip.encode_image(pixels)


class OpenClip(Towers):
    """A `Guide`."""

    def __init__(self, guide: Guide) -> None:
        import torch

        self.guide, self.model = guide, guide.model
        self.dtype = getattr(guide, "dtype", torch.float32)
        pool = getattr(guide.model, "text_pool_type", None)
        self.end = int(self.ids(["a"]).max()) if pool == "argmax" else None
        told = read_json(guide.folder / "open_clip_config.json")["model_cfg"].get("quick_gelu")
        self.stated = set() if told is None else {"quick_gelu" if told else "gelu"}

    def ids(self, texts: list[str]) -> torch.Tensor:
        return self.guide.tokens(texts)

    def texts(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model.encode_text(ids)

    def prepared(self, images: list[np.ndarray]) -> torch.Tensor:
        import torch

        pixels = torch.from_numpy(np.stack(images)).to(self.guide.device)
        return self.guide.preprocess(pixels.permute(0, 3, 1, 2).float() / 255)

    def images(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.encode_image(pixels.to(self.dtype))


# --- the traps ----------------------------------------------------------------------------------


def _end(towers: Towers, moves: bool) -> Trap:
    ids = towers.ids([LONG])
    if towers.end is None:
        return Trap(END, "does not pool at an end token", True)
    if int(ids[0, -1]) != towers.end:
        return Trap(END, f"cut to {ids.shape[1]} tokens without the end token", False)
    moved = math.nan
    if moves:
        lost = ids.clone()
        lost[0, -1] = ids[0, -2]
        images = [_drawn(*each, 64) for each in PICTURES]
        whole, cut = (towers.cosines(images, each) for each in (ids, lost))
        moved = float((whole - cut).abs().max())
    return Trap(END, f"cut to {ids.shape[1]} tokens, end token kept", True, moved)


def _activation(towers: Towers, moves: bool) -> Trap:
    used = {kind for *_, kind in _gelus(towers.model)}
    words = " and ".join(sorted(used)) or "no GELU"
    # Other names than of these two are of further kinds, among which nothing is mixed up.
    if (stated := towers.stated & {"gelu", "quick_gelu"}) and used != stated:
        told = " and ".join(sorted(stated))
        return Trap(ACTIVATION, f"computes with {words}, its config states {told}", False)
    moved = math.nan
    if moves and used:
        before = towers.scores()
        with _exchanged(towers.model):
            moved = float((towers.scores() - before).abs().max())
    told = "as its config states" if towers.stated else "the default: its config states none"
    return Trap(ACTIVATION, f"{words}, {told}", True, moved)


def _resize(towers: Towers, moves: bool) -> Trap:
    side = towers.prepared([np.zeros((32, 32, 3), np.uint8)]).shape[-1] * SMALLER
    noise = np.random.default_rng(0).integers(0, 2, (side, side, 1), dtype=np.uint8)
    images = [np.repeat(255 * noise, 3, axis=2)]
    images += [np.full((side, side, 3), level, np.uint8) for level in (0, 255)]
    seen = towers.prepared(images).float()
    left = float(2 * seen[0].std(dim=(1, 2)).mean() / (seen[2] - seen[1]).abs().mean())
    moved = math.nan
    if moves:
        large = [_drawn(*each, side) for each in PICTURES]
        small = [each[::SMALLER, ::SMALLER].copy() for each in large]
        moved = float((towers.scores(large) - towers.scores(small)).abs().max())
    fine = left < LEFT
    words = f"{'with' if fine else 'without'} antialiasing, {100 * left:.0f} % of noise left"
    return Trap(RESIZE, words, fine, moved)


def _precision(towers: Towers, moves: bool) -> Trap:
    import torch

    found = {parameter.dtype for parameter in towers.model.parameters()}
    words = " and ".join(sorted(str(each).removeprefix("torch.") for each in found))
    moved = math.nan
    if moves and found == {torch.float32}:
        before = towers.scores()
        kept = [parameter.data for parameter in towers.model.parameters()]
        for parameter in towers.model.parameters():
            parameter.data = parameter.data.bfloat16().float()
        moved = float((towers.scores() - before).abs().max())
        for parameter, data in zip(towers.model.parameters(), kept, strict=True):
            parameter.data = data
    return Trap(PRECISION, f"computes in {words}", found == {towers.dtype}, moved)


# --- what they are tried on ---------------------------------------------------------------------


def _drawn(colour: str, shape: str, side: int) -> np.ndarray:
    """A plain picture (side, side, 3) uint8 of one thing in the middle of a white square."""
    ys, xs = np.mgrid[0:side, 0:side] / side - 0.5
    far = np.hypot(xs, ys) if shape == "circle" else np.maximum(abs(xs), abs(ys))
    picture = np.full((side, side, 3), 245, np.uint8)
    picture[far < 0.22] = COLOURS[colour]
    return picture


def _gelus(model: torch.nn.Module) -> Iterator[tuple[Any, str, str]]:
    """(parent, name, kind) of each GELU."""
    for parent in model.modules():
        for name, child in parent.named_children():
            kind = type(child).__name__
            if kind in ("QuickGELU", "QuickGELUActivation"):
                yield parent, name, "quick_gelu"
            elif kind in ("GELU", "GELUActivation"):
                yield parent, name, "gelu"


@contextlib.contextmanager
def _exchanged(model: torch.nn.Module) -> Iterator[None]:
    """Within: each GELU is a QuickGELU, and the other way round."""
    import torch
    from open_clip.transformer import QuickGELU

    others: dict[str, Callable[[], Any]] = {"gelu": QuickGELU, "quick_gelu": torch.nn.GELU}
    before = [(parent, name, getattr(parent, name), kind) for parent, name, kind in _gelus(model)]
    for parent, name, _, kind in before:
        setattr(parent, name, others[kind]())
    try:
        yield
    finally:
        for parent, name, own, _ in before:
            setattr(parent, name, own)

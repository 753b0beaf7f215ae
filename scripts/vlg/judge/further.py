"""Further judges, by which the judge of the study is judged: other CLIPs, quality, plug-ins.

A judge is a function of pictures, a list of (height, width, 3) uint8 arrays, and as many prompts;
it returns as many numbers, the higher the better. HPSv2, ImageReward, PickScore or VQAScore become
such functions in a module of one's own (`kind: callable`).
"""

from __future__ import annotations

import hashlib
import importlib
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vlg.errors import UserError
from vlg.files import sha256

if TYPE_CHECKING:
    import numpy as np

Score = Callable[[list["np.ndarray"], list[str]], list[float]]
# CLIP-IQA's pair for overall quality. Others in its paper: Sharp / Blurry, Natural / Synthetic,
# Clean / Noisy, Colorful / Dull photo.
QUALITY = ("Good photo.", "Bad photo.")


def load(
    kind: str,
    source: str,
    device: str,
    root: Path = Path(),
    pair: Sequence[str] = QUALITY,
) -> Score:
    """The judge of this kind and source (config: judges), ready to score.

    clip: 100 cos by a Hugging Face CLIP or SigLIP folder; open_clip: the same by an open_clip
    folder; clip_iqa: 100 times the probability that a CLIP folder gives to the first of `pair`
    against the second, whatever the prompt (CLIP-IQA, Wang, Chan & Loy 2023, arXiv:2207.12396);
    callable: `module.function`, found from `root`. Raises UserError when it cannot be loaded.
    """
    if kind == "callable":
        return plug_in(source, root)
    if kind == "open_clip":
        import numpy as np

        from vlg.models.guide import load_guide
        from vlg.sample.refinement import guide_scores

        guide = load_guide(source, device)
        return lambda images, prompts: guide_scores(guide, np.stack(images), prompts)
    from vlg.models.clip import Judge

    judge = Judge(Path(source), device)
    if kind == "clip":
        return judge.scores

    def quality(images: list[np.ndarray], prompts: list[str]) -> list[float]:
        cosines = judge.encode_image(images) @ judge.encode_text(list(pair)).T
        logits = cosines * judge.model.logit_scale.exp().float()
        return (100 * logits.softmax(dim=1)[:, 0]).tolist()

    return quality


def plug_in_file(source: str, root: Path = Path()) -> Path:
    """The file of the module of `module.function`; UserError when there is none below `root`."""
    module, _, function = source.rpartition(".")
    path = root / Path(*module.split(".")).with_suffix(".py") if module and function else root
    if not path.is_file():
        raise UserError(
            f"config: judges: {source}: no file {path}; write module.function, the module in the "
            "folder in which Snakemake runs"
        )
    return path


def plug_in(source: str, root: Path = Path()) -> Score:
    """A user's own function, checked at every call: as many finite numbers as pictures."""
    plug_in_file(source, root)
    module, _, name = source.rpartition(".")
    sys.path.insert(0, str(root.resolve()))
    try:
        function = getattr(importlib.import_module(module), name)
    except AttributeError:
        raise UserError(
            f"config: judges: {source}: the module has no {name}; mend the name"
        ) from None
    except ImportError as error:
        raise UserError(
            f"config: judges: {source}: cannot be imported ({error}); install what it needs"
        ) from error

    def checked(images: list[np.ndarray], prompts: list[str]) -> list[float]:
        found = [float(number) for number in function(images, prompts)]
        if len(found) != len(images) or not all(map(math.isfinite, found)):
            raise UserError(
                f"config: judges: {source}: must return a finite number for each of "
                f"{len(images)} pictures, returned {found[:3]} ({len(found)}); mend it"
            )
        return found

    return checked


def fingerprint(kind: str, source: str, root: Path = Path()) -> str:
    """What identifies a judge: the hash of its weights, or of the plug-in's file."""
    if kind == "callable":
        files = [plug_in_file(source, root)]
    else:
        files = sorted(Path(source).glob("*.safetensors"))
    sums = "".join(sha256(file) for file in files)
    return hashlib.sha256(sums.encode()).hexdigest()[:16]

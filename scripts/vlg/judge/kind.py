"""What a kind of judge is: something that gives each picture and its prompt a number.

The file `judge/kinds/<name>.py` is the kind `<name>`; it holds

    class Settings(sections.JudgeKeys)  # its own keys, with meaning, range and default
    class <Name>(Judge)                 # how it judges

and is all that the kind consists of: `judges.<judge>: {kind: <name>, source: ...}` uses it. Reading
pictures, batches and rows are the scorer's (`vlg.judge.scoring`). The file is imported whenever the
Snakefile is read, which asks it for `files`; what is heavy is imported when a judge is made.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from vlg import plugins
from vlg.config import sections
from vlg.errors import UserError
from vlg.files import MANIFEST, sha256
from vlg.models.folders import RESOURCES

if TYPE_CHECKING:
    import numpy as np
    import torch

    from vlg.models.clip import Clip
    from vlg.models.guide import Guide
    from vlg.models.ledger import Ledger


SHAPES = "shapes"  # the source that means a model of the shapes world
OWN = "clip"  # the kind of the study's own judge
PARTS = frozenset({".safetensors", ".json", ".txt", ".jinja", ".model"})  # suffixes of its files


class Judge(ABC):
    """A judge that is ready to score; the higher a number, the better.

    form: which files of a repository of the Hub it reads, as `vlg.models.folders.wanted` knows
    them. guides: whether it has `side`, `encode_image` and `encode_text`, so that it can guide.
    shapes: which of the models of `pretrain` the source `shapes` is, if it is one.
    """

    form: ClassVar[str] = "judge"
    mark: ClassVar[str] = "config.json"  # by which a folder is known to be of this kind
    guides: ClassVar[bool] = False
    shapes: ClassVar[str] = ""

    def __init__(
        self,
        settings: sections.JudgeKeys,
        device: str = "cpu",
        root: Path = Path(),
        precision: str | None = None,
    ) -> None:
        """root: the folder from which a relative source starts. precision: in place of what its
        settings say. UserError when nothing can be loaded."""
        self.settings, self.device, self.root = settings, device, root
        self.precision = precision or getattr(settings, "precision", "fp32")
        self.load()

    @abstractmethod
    def load(self) -> None:
        """Make ready what scores."""

    def watch(self, ledger: Ledger, part: str = "judge") -> None:  # noqa: B027
        """Let a ledger count the pictures that are looked at, as `part`; what has no model of its
        own, or one that cannot be seen into, counts nothing."""

    @abstractmethod
    def __call__(self, images: Any, prompts: list[str]) -> list[float]:
        """A finite number for each picture with its prompt.

        images: a list of (height, width, 3) uint8 arrays, or what `prepare` has made of one.
        """

    @property
    def inside(self) -> Clip | Guide | None:
        """The CLIP that it judges by, which is looked at when it is loaded (`vlg.judge.traps`);
        None where it has none, or none that can be seen into."""
        return None

    def prepare(self, images: list[np.ndarray]) -> Any:
        """What can be done to pictures ahead, in a thread, while those before are being scored."""
        return images

    @property
    def side(self) -> int:
        """Side in pixels of what the model looks at."""
        raise NotImplementedError

    def encode_image(self, pictures: torch.Tensor) -> torch.Tensor:
        """Unit embeddings [n, d] of pictures [n, 3, height, width] in 0..1, with their gradient."""
        raise NotImplementedError

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        """Unit embeddings [n, d] of texts, without gradient."""
        raise NotImplementedError

    @classmethod
    def folder(cls, settings: sections.JudgeKeys, root: Path = Path()) -> Path:
        """Where its source is; the shipped model where that is `shapes`."""
        shipped = cls.shapes and settings.source == SHAPES
        return RESOURCES / f"shapes-{cls.shapes}" if shipped else root / settings.source

    @classmethod
    def check(cls, settings: sections.JudgeKeys, root: Path = Path()) -> None:
        """UserError when its source does not hold what it must; not asked of one on the Hub."""
        folder = cls.folder(settings, root)
        if not (folder / cls.mark).is_file() or not list(folder.glob("*.safetensors")):
            raise UserError(
                f"{settings.source!r} has no {cls.mark} with *.safetensors; give a folder of this "
                "kind, or hub:owner/name"
            )

    @classmethod
    def files(cls, settings: sections.JudgeKeys, root: Path = Path()) -> list[Path]:
        """The files that it judges by: other bytes in them are another judge."""
        return [*parts(cls.folder(settings, root)), *cls.beside(settings, root)]

    @classmethod
    def beside(cls, settings: sections.JudgeKeys, root: Path = Path()) -> list[Path]:
        """Those of them that its source does not hold."""
        return []

    @classmethod
    def check_beside(cls, settings: sections.JudgeKeys, root: Path = Path()) -> None:
        """UserError when what it needs beside its source is not there."""
        return

    def fingerprint(self) -> str:
        """What identifies it: 16 hex digits of the hash of its files."""
        sums = "".join(sha256(file) for file in self.files(self.settings, self.root))
        return hashlib.sha256(sums.encode()).hexdigest()[:16]


def parts(folder: Path) -> list[Path]:
    """Weights of a model's folder, and what says how pictures and texts reach them."""
    found = (path for path in folder.glob("*") if path.suffix in PARTS and path.name != MANIFEST)
    return sorted(found)


def find(kind: str) -> type[Judge]:
    """The class of a kind; UserError when there is none."""
    return plugins.own(plugins.KINDS, kind)


def settings(values: Mapping[str, Any]) -> sections.JudgeKeys:
    """The settings of a judge from its entry of the config, `kind` among them."""
    module = plugins.load(plugins.KINDS, values["kind"])
    return module.Settings.parse(values, "judges")


def load(
    values: Mapping[str, Any], device: str, root: Path = Path(), precision: str | None = None
) -> Judge:
    """The judge of an entry of the config, ready to score; UserError for one in a trap."""
    from vlg.judge import traps

    ready = find(values["kind"])(settings(values), device, root, precision)
    traps.check(values["source"], ready.inside)
    return ready

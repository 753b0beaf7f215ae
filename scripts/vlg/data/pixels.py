"""The one place where picture files become pixels: upright, 8 bits a channel, without holes.

Whatever a picture is stored as, all that look at it (the data set, training, scoring, refinement,
gallery, sheets) see the same colours. Modes of 8 bits are taken as Pillow converts them; of the
others,

- alpha, in any mode that has it, shows a colour behind the picture, and never what lies hidden
  under it;
- 16 bits of grey (12 in a TIFF that says so) are scaled by their depth, and signed ones, of 8 bits
  too, by their positive half;
- floating-point numbers are read in 0..1, white at 1;
- whole numbers of 32 bits say nothing of their depth, and are read as 16 bits where they show it.

What fits none of these is of an unknown kind, and refused rather than clipped.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlg.files import POINTER, is_pointer

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

KINDS = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
)
WHITE = "white"
# What an Unreadable picture is.
BROKEN, UNKNOWN, LFS = "broken", "of an unknown kind", "a pointer of Git LFS"
# The one transparent colour of a PNG is stored in the file's own depth: times this, in 8 bits.
KEYS = {"L;2": 85.0, "L;4": 17.0, "RGB;16B": 1 / 256}


class Unreadable(Exception):
    """Why a file gives no pixels. kind: BROKEN, UNKNOWN or LFS."""

    def __init__(self, what: object, kind: str = BROKEN) -> None:
        super().__init__(" ".join(str(what).split()))
        self.kind = kind


def read(source: Path | bytes, background: str = WHITE) -> Image.Image:
    """A picture as mode RGB, turned as its EXIF orientation says; `format` is the file's.

    background: what shows through transparent places, as Pillow names colours.
    Raises Unreadable, and FileNotFoundError.
    """
    picture = _upright(source)
    result = _on(picture, background)
    result.format = picture.format
    return result


def size(source: Path | bytes) -> tuple[int, int]:
    """(width, height) of a picture as `read` gives it, from its header alone; raises as that."""

    def upright(file: Any) -> tuple[int, int]:
        quarter = 5 <= file.getexif().get(0x0112, 1) <= 8
        turned = quarter and file.format != "TIFF"  # which Pillow has turned already
        return file.size[::-1] if turned else file.size

    return _opened(source, upright)


def without_holes(source: Path | bytes, background: str) -> bytes | None:
    """The picture on a background, as a PNG; None where nothing of it is transparent.

    Raises as `read` does.
    """
    if not _opened(source, lambda file: file.has_transparency_data):  # without decoding it
        return None
    picture = _upright(source)
    if picture.convert("RGBA").getchannel("A").getextrema()[0] == 255:
        return None
    buffer = io.BytesIO()
    _on(picture, background).save(buffer, "PNG")
    return buffer.getvalue()


def is_plain(source: Path | bytes, formats: Collection[str]) -> bool:
    """Whether every program shows the same of a picture in one of formats, as Pillow names them.

    RGB of 8 bits, upright, one frame, nothing transparent. Raises as `read` does.
    """

    def plain(file: Any) -> bool:
        turned = file.getexif().get(0x0112, 1) not in (0, 1)
        alone = getattr(file, "n_frames", 1) == 1 and not file.has_transparency_data
        return file.format in formats and file.mode == "RGB" and alone and not turned

    return _opened(source, plain)


def _opened(source: Path | bytes, function: Any) -> Any:
    """`function` of the opened file. A broken one can raise anything in one of forty decoders."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            return function(file)
    except (FileNotFoundError, Unreadable):
        raise
    except Exception as error:
        start = source[:99] if isinstance(source, bytes) else b""
        if start.startswith(POINTER) or (not start and is_pointer(source)):
            raise Unreadable("not the file; git lfs pull", LFS) from None
        raise Unreadable(error) from None


def _upright(source: Path | bytes) -> Image.Image:
    """A picture of 8 bits a channel in any mode, perhaps with alpha."""
    from PIL import ImageOps

    def upright(file: Any) -> Image.Image:
        factor = KEYS.get(str(file.tile[0][3])) if file.tile else None
        key = file.info.get("transparency")
        if factor and key is not None:
            scaled = [int(value * factor) for value in (key if isinstance(key, tuple) else [key])]
            file.info["transparency"] = tuple(scaled) if len(scaled) > 1 else scaled[0]
        tags = getattr(file, "tag_v2", {})
        bits, inverted = tags.get(258, (16,))[0], tags.get(262) == 0
        signed = tags.get(339, (1,))[0] == 2 and bits <= 16
        picture = ImageOps.exif_transpose(file)
        if picture.mode[0] in "IF" or signed:
            picture = _of_8_bits(picture, file.format, bits - signed, inverted)
        picture.format = file.format
        return picture

    return _opened(source, upright)


def _of_8_bits(picture: Image.Image, form: str | None, bits: int, inverted: bool) -> Image.Image:
    """A grey picture of more than 8 bits as mode L or LA.

    bits: of its depth, where they are 16 or fewer, without that of the sign. inverted: whether 0 is
    white.
    """
    import numpy as np
    from PIL import Image

    levels = np.asarray(picture)
    low, high = float(levels.min()), float(levels.max())
    if picture.mode == "F":
        known, white = low >= 0 and high <= 1, 1.0  # not-a-number is in no range
    elif picture.mode == "I" and (form != "TIFF" or bits > 16):
        # Pillow reads PGM of more than 8 bits so, scaled to 16.
        known, white = low >= 0 and (form == "PPM" or high > 255) and high <= 65535, 65535.0
    else:
        known, white = low >= 0 and high < 2**bits, 2.0**bits - 1
    if not known:
        raise Unreadable(f"mode {picture.mode} from {low:g} to {high:g}: no known depth", UNKNOWN)
    shares = levels / white
    grey = Image.fromarray(_bytes(1 - shares if inverted else shares))
    key = picture.info.get("transparency")
    if isinstance(key, int):
        grey.putalpha(Image.fromarray(_bytes(levels != key)))
    return grey


def _bytes(shares: np.ndarray) -> np.ndarray:
    """Numbers in 0..1 as 0..255."""
    import numpy as np

    return np.round(shares * 255.0).astype(np.uint8)


def _on(picture: Image.Image, background: str) -> Image.Image:
    """A picture as RGB, what is transparent of it on a colour."""
    from PIL import Image

    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    paper = Image.new("RGBA", layer.size, background)
    return Image.alpha_composite(paper, layer).convert("RGB")

"""Pictures of several sizes, for what looks at those of one size alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from vlg.models.guide import Guide


def guided(guide: Guide, images: Sequence[np.ndarray], texts: Sequence[str]) -> list[float]:
    """`vlg.models.cosines.guide_scores`, size by size."""
    import numpy as np

    from vlg.models.cosines import guide_scores

    sizes: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        sizes.setdefault(image.shape, []).append(place)
    result = [0.0] * len(images)
    for places in sizes.values():
        same = np.stack([images[place] for place in places])
        scores = guide_scores(guide, same, [texts[place] for place in places])
        for place, score in zip(places, scores, strict=True):
            result[place] = score
    return result


def of_the_world(image: np.ndarray) -> np.ndarray:
    """A picture (height, width, 3) uint8 of the side that the shapes world's verifier reads."""
    import numpy as np
    from PIL import Image

    from vlg.shapes.world import SIDE

    if image.shape[:2] == (SIDE, SIDE):
        return image
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX))

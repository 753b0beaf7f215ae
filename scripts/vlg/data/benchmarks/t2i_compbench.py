"""T2I-CompBench++ (arXiv:2307.06350): the 2,400 validation prompts, 300 of each category."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vlg.data.benchmark import read_text

SOURCE = "github:Karine-Huang/T2I-CompBench@1b7094991a57f3c22abdd4f6e8ba6c1a15517073"
FILES = {
    "examples/dataset/color_val.txt": (
        "1634259756dbc77d13093d907d414480080ec9790a8c97ad09efaea7b2534f2d"
    ),
    "examples/dataset/shape_val.txt": (
        "37e1a276906c7ea9516cbd7ac8501be896006c0c17ca7344f260562834455bae"
    ),
    "examples/dataset/texture_val.txt": (
        "fbb5363515b4a28009e360afaaaf389d2dd2289e50dbb0c6ef4ea0c7fe4f3d4f"
    ),
    "examples/dataset/spatial_val.txt": (
        "8707a1d7e42ce3002d95363cf55f74bd043c843ae27108f5125aaaa7840ca988"
    ),
    "examples/dataset/3d_spatial_val.txt": (
        "c9953597315f36a5fcb41291bb19bdc6ab5f64a0fa760d691b4854a73f5d1fe9"
    ),
    "examples/dataset/non_spatial_val.txt": (
        "04c56cc9ac441dc9ea6c5157652058bd1635b5308526dd31bb29a1caab9a758d"
    ),
    "examples/dataset/numeracy_val.txt": (
        "dad8df141604b70ba7554bec724e3db0a80023680769b5c514854ea2d2527bbe"
    ),
    "examples/dataset/complex_val.txt": (
        "1b808018b8d9916db3d47d5aa2ef18377a3549a56901a474156f799824cdf3b4"
    ),
}
NUMBERS = {
    "color": 300,
    "shape": 300,
    "texture": 300,
    "spatial": 300,
    "3d_spatial": 300,
    "non_spatial": 300,
    "numeracy": 300,
    "complex": 300,
}


def rows(files: list[Path]) -> Iterator[tuple[int, dict[str, str]]]:
    """A prompt a line, a file for each category."""
    number = 0
    for path in files:
        category = path.stem.removesuffix("_val")
        for line in read_text(path).split("\n"):
            number += 1
            if line.strip():
                yield number, {"Prompt": line, "Category": category}

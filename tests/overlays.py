"""Overlays of the config run as they are shipped, with tiny models behind the real names.

Only counts of steps, prompts and pictures are lowered. The downloads come from a stand-in for the
Hub, which is gone when the other rules run.
"""

import contextlib
import csv
import io
import os
import shutil

import torch
import yaml
from PIL import Image

from tests import tiny
from tests.hub_server import Hub
from tests.pipeline import ROOT
from vlg.shapes import models as shapes

COUNTS = {
    "prompts": {"study": 3, "pool": 5},
    "dataset": {"size": 12},
    "finetune": {"steps": [2]},
    "generate": {"steps": 2},
    "statistics": {"draws": 200},
}
SIZE, CAPTIONS = 256, 5
FILES = [f"data/train-0000{n}-of-00003-0123456789abcdef.parquet" for n in range(3)]


def picture(number, side):
    """A PNG picture as bytes; no two numbers look alike."""
    file = io.BytesIO()
    colour = (number * 37 % 256, number * 91 % 256, number * 53 % 256)
    Image.new("RGB", (side + number % 3, side), colour).save(file, "PNG")
    return file.getvalue()


def save_coco(folder):
    """Parquet files as jxie/coco_captions has them: a row a caption, pictures inside.

    The first two pictures cannot be used.
    """
    import pyarrow
    from pyarrow import parquet

    for number, name in enumerate(FILES):
        rows = []
        for index in range(number * 10, number * 10 + 10):
            data = picture(index, SIZE if index else SIZE - 1)
            data = data[: len(data) // 2] if index == 1 else data
            image = {"bytes": data, "path": f"{index}.png"}
            for caption in range(CAPTIONS):
                words = (tiny.WORDS[(index + caption) % len(tiny.WORDS)], tiny.SHAPES[caption % 2])
                rows.append({"image": image, "caption": f"{caption} a {' '.join(words)}"})
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    (folder / "data/test-00000-of-00001.parquet").write_bytes(b"not wanted")


def sources(overlay):
    """{key: repository of the Hub} of what an overlay downloads; the base's commit as `commit`,
    empty where none is pinned."""
    told = yaml.safe_load((ROOT / f"config/{overlay}.yaml").read_text())
    named = told["models"] | {what: told[what]["source"] for what in ("dataset", "prompts")}
    found = {what: name.removeprefix("hub:") for what, name in named.items() if "hub:" in name}
    found["base"], _, found["commit"] = found["base"].partition("@")
    return found


def save_judge(folder):
    """A judge as Hugging Face's repositories have it."""
    shapes.judge().save_pretrained(folder)
    shapes.judge_processor().save_pretrained(folder)
    return folder


@contextlib.contextmanager
def served(overlay, root, save_base, prepare=lambda base, judge, guide: None):
    """A Hub with what an overlay asks for, the models tiny. save_base: writes the base to a folder.
    prepare: adds to the saved models what the real repositories have beside."""
    torch.manual_seed(3)
    base, judge = save_base(root / "base"), save_judge(root / "judge")
    guide, named = tiny.save_guide(root / "guide"), sources(overlay)
    prepare(base, judge, guide)
    save_coco(root / "coco")
    (root / "parti").mkdir()
    shutil.copy(ROOT / "tests/data/parti_sample.tsv", root / "parti/PartiPrompts.tsv")
    with Hub() as hub:
        hub.add("model", named["base"], base, commit=named["commit"])
        hub.add("model", named["guide"], guide)
        hub.add("model", named["judge"], judge)
        hub.add("dataset", named["dataset"], root / "coco")
        hub.add("dataset", named["prompts"], root / "parti")
        yield hub


def unwanted(base, *names):
    """Put files into a base's folder that nothing should download."""
    for name in names:
        file = base / f"{name}.safetensors"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"not wanted")


def run(checkout, server, *words, overlay="sd15", counts=COUNTS):
    """Fetch from the server what is asked for, then run the rest with no way to any Hub."""
    lowered = checkout.root / "counts.yaml"
    lowered.write_text(yaml.safe_dump(counts))
    command = ("snakemake", *words, "--cores", 2, "--configfile", f"config/{overlay}.yaml", lowered)
    home = str(checkout.root / "hub")
    online = {"HF_ENDPOINT": server.url, "HF_HOME": home, "HF_HUB_OFFLINE": "0"}
    online["NO_PROXY"] = "127.0.0.1"
    done = checkout.run(*command, "--until", "fetch", **online)
    assert done.code == 0, done.output
    done = checkout.run(*command, HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=os.devnull)
    assert done.code == 0, done.output
    assert "rule fetch" not in done.output


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

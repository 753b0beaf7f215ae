"""A study for tests of the demo: made-up scores with pictures, and the shipped tiny models."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tests import synthetic
from vlg.config.layout import BASE
from vlg.config.load import load
from vlg.demo.study import Study
from vlg.files import write_manifest

ROOT = Path(__file__).resolve().parents[1]
NAME = "demo"
TUNED = "embed-500"


def write(top: Path) -> Study:
    """A finished study under top/results, without its models, and its config as top/config.yaml."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    arms = {"refine": {"strength": 0.5}, "best_of_n": {}}
    config |= {"study": NAME, "refine": {"rounds": 2, "models": [BASE], "arms": arms}}
    (top / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    study = Study(load(config, ROOT), top)
    synthetic.write(study.root, synthetic.Study(steps=(500,), rounds=2))
    return study


def with_models(top: Path) -> Study:
    """The same with `base`, a checkpoint whose network differs, guide and judge."""
    from safetensors.torch import load_file, save_file

    study = write(top)
    for name in (BASE, TUNED, "guide", "judge"):
        folder = study.model(name)
        shutil.copytree(ROOT / "resources/shapes" / (BASE if name == TUNED else name), folder)
        if name == TUNED:
            path = folder / "unet/diffusion_pytorch_model.safetensors"
            weights = {name: 1.03 * each for name, each in load_file(path).items()}
            save_file(weights, path, {"format": "pt"})
        write_manifest(folder)
    return study


class Server:
    """The demo of the study under `top`, as its command line starts it."""

    def __init__(self, top: Path, port: int = 0, threads: int = 0) -> None:
        words = [sys.executable, ROOT / "scripts/demo.py", "--configfile", "config.yaml"]
        self.process = subprocess.Popen(
            [*words, "--port", str(port), "--device", "cpu", "--threads", str(threads)],
            cwd=top,
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        found = re.search(r"http://\S+:(\d+)", line)
        assert found, line
        self.url, self.port = found[0], int(found[1])

    def kill(self) -> None:
        """As a crash would."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

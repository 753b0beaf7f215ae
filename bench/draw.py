"""Drawing side by side: the plain diffusers pipeline, ours, and the UNet alone.

In one process, on the shapes base, as many pictures at once, in turns:

    floor     the UNet alone, without gradient, as often as a drawing calls it
    pipeline  diffusers' StableDiffusionPipeline with the same scheduler, steps and scale
    ours      `vlg.sample.sampler.Sampler.draw`, as generate.py calls it

Prints a Markdown table of medians and ratios, on a CPU of processor time, and how far the pixels of
the two are apart. --folder takes the one of bench/train.py.

    .venv/bin/python bench/draw.py
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import train

KINDS = {
    "floor": "UNet alone",
    "pipeline": "StableDiffusionPipeline",
    "ours": "ours",
}


class Drawing:
    """The three ways, on the same prompts and noise."""

    def __init__(self, base: Path, args: argparse.Namespace, device: str) -> None:
        import torch
        from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

        from vlg.sample.sampler import Sampler

        settings = {
            "steps": args.steps, "guidance_scale": 5.0, "scheduler": "dpm++", "precision": "fp32",
        }  # fmt: skip
        self.sampler = Sampler(base, settings, device)
        self.settings = self.sampler.settings
        names = ("circle", "square", "triangle", "cross")
        self.texts = [f"a small red {names[i % 4]} number {i}" for i in range(args.batch)]
        self.seeds = list(range(args.batch))
        self.latents = self.sampler.latents(self.texts, self.seeds, "latents")
        condition, negative = self.sampler.conditions(self.texts)
        self.states = torch.cat([negative["states"], condition["states"]])
        pipe = StableDiffusionPipeline.from_pretrained(base, safety_checker=None)
        pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
        pipe.set_progress_bar_config(disable=True)
        self.pipe = pipe.to(device)

    def floor(self) -> None:
        import torch

        net, both = self.sampler.family.net, torch.cat([self.latents] * 2)
        timesteps = self.pipe.scheduler.timesteps
        with torch.no_grad():
            for t in timesteps[: self.settings.steps]:
                net(both, t, self.states, return_dict=False)

    def pipeline(self) -> Any:
        s = self.settings
        return self.pipe(
            self.texts, latents=self.latents, num_inference_steps=s.steps,
            guidance_scale=s.guidance_scale, output_type="np",
        ).images  # fmt: skip

    def ours(self) -> Any:
        self.sampler._embedded = ([], {}, None)  # each drawing its own texts, as a job does
        return self.sampler.draw(self.texts, self.seeds)


def measure(args: argparse.Namespace) -> None:
    """Draw in turns and print the table."""
    import numpy as np

    from vlg.models.device import set_up

    device = set_up(args.device, args.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        if not (folder / "models/base").is_dir():
            train.shapes_model(folder / "models", "base")
        drawing, clock = Drawing(folder / "models/base", args, device), train.Clock(device)
        plain, ours = drawing.pipeline(), drawing.ours()
        drawing.floor()
        seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for _ in range(args.turns):
            for kind in KINDS:
                started = clock.now()
                getattr(drawing, kind)()
                seconds[kind].append(clock.now() - started)
    train.print_ratios(seconds, KINDS, tuple(KINDS))
    apart = np.abs(np.rint(plain * 255) - ours).max()
    print(f"{args.batch} pictures, {args.steps} steps; grey levels apart: at most {apart:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--batch", type=int, default=16, help="pictures at once")
    add("--steps", type=int, default=10, help="of the schedule")
    add("--turns", type=int, default=8, help="drawings of each kind")
    add("--device", default="auto", help="as in scripts/*.py")
    add("--threads", type=int, default=1, help="CPU threads")
    add("--folder", type=Path, help="keep models here; default: a temporary folder")
    measure(parser.parse_args())


if __name__ == "__main__":
    main()

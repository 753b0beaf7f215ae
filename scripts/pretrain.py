"""Train one of the shapes world's tiny models from nothing.

--part vae writes an AutoencoderKL. --part base reads it and writes two Stable Diffusion folders,
base and base-early (the same training, stopped sooner); --part flow reads it and writes a Stable
Diffusion 3 folder. --part guide writes an open_clip folder, --part judge a transformers CLIP one,
--part vqa a transformers vision-language model. Each gets a manifest.json with its recipe and the
time it took.
"""

import time
from pathlib import Path

from vlg.config import sections
from vlg.files import atomic_folder, write_manifest
from vlg.workflow import cli

PARTS = ("vae", "base", "flow", "guide", "judge", "vqa")


def main(args):
    import torch

    from vlg.shapes import models, pretrain

    torch.set_num_threads(args.threads)
    keys = sections.Pretrain.model_fields[args.part].default_factory
    recipe = keys.parse(args.settings, f"pretrain.{args.part}").model_dump()
    started = time.monotonic()

    def finish(folder: Path) -> None:
        seconds = round(time.monotonic() - started)
        write_manifest(folder, recipe=recipe, seconds=seconds, threads=args.threads)

    with atomic_folder(args.out) as out:
        if args.part == "vae":
            pretrain.train_vae(recipe).save_pretrained(out)
        elif args.part == "guide":
            models.save_guide(pretrain.train_clip("guide", recipe), out)
        elif args.part == "vqa":
            from vlg.shapes import reader

            reader.train(recipe).save_pretrained(out)
            reader.processor().save_pretrained(out)
        elif args.part == "judge":
            pretrain.train_clip("judge", recipe).save_pretrained(out)
            models.judge_processor().save_pretrained(out)
        else:
            from diffusers import AutoencoderKL

            vae = AutoencoderKL.from_pretrained(args.vae).eval()

            def keep(name, unet, text_encoder):
                models.pipeline(vae, unet, text_encoder).save_pretrained(out / name)
                finish(out / name)

            if args.part == "flow":
                pretrain.train_flow(recipe, vae).save_pretrained(out)
            else:
                pretrain.train_base(recipe, vae, keep)
        finish(out)


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    arguments.add_argument("--part", required=True, choices=PARTS)
    arguments.add_argument("--vae", type=Path, help="the trained VAE's folder, for a base")
    arguments.add_argument("--out", type=Path, required=True, help="folder to write")
    arguments.add_argument(
        "--threads", type=int, default=1, help="CPU threads (changes the result)"
    )
    cli.run(main, arguments)

"""Train one of the shapes world's tiny models from nothing.

--part vae writes an AutoencoderKL. --part base reads it and writes three Stable Diffusion folders,
base, base-middle and base-early (the same training, stopped sooner); --part flow reads it and
writes a Stable Diffusion 3 folder. --part guide writes an open_clip folder, --part judge a
transformers CLIP one, --part siglip a SigLIP one, --part vqa a transformers vision-language model.
Each gets a manifest.json with its recipe and the time it took. A training that was killed goes on
from the state that it keeps beside --out, to the same bits.
"""

import shutil
from pathlib import Path

from vlg.config import sections
from vlg.errors import UserError
from vlg.files import atomic_folder, check_manifest, write_manifest
from vlg.workflow import cli
from vlg.workflow.codehash import code_hash

PARTS = ("vae", "base", "flow", "guide", "judge", "siglip", "vqa")


def main(args):
    import torch

    from vlg.shapes import models, pretrain
    from vlg.shapes.course import Course

    torch.set_num_threads(args.threads)
    keys = sections.Pretrain.model_fields[args.part].default_factory
    recipe = keys.parse(args.settings, f"pretrain.{args.part}").model_dump()
    state = args.out.parent / f".training-{args.part}"
    made_of = {"recipe": recipe, "code": code_hash(Path(__file__)), "threads": args.threads}
    if args.part in ("base", "flow"):
        if not args.vae:
            raise UserError(f"--part {args.part} needs --vae, the folder of a trained VAE")
        made_of["vae"] = check_manifest(args.vae)["sha256"]
    course = Course(state, made_of)

    def finish(folder: Path) -> None:
        seconds = round(course.spent)
        write_manifest(folder, recipe=recipe, seconds=seconds, threads=args.threads)

    with atomic_folder(args.out) as out:
        if args.part == "vae":
            pretrain.train_vae(recipe, course).save_pretrained(out)
        elif args.part == "guide":
            models.save_guide(pretrain.train_clip("guide", recipe, course), out)
        elif args.part == "vqa":
            from vlg.shapes import reader

            reader.train(recipe, course).save_pretrained(out)
            reader.processor().save_pretrained(out)
        elif args.part in ("judge", "siglip"):
            pretrain.train_clip(args.part, recipe, course).save_pretrained(out)
            processor = {"judge": models.judge_processor, "siglip": models.siglip_processor}
            processor[args.part]().save_pretrained(out)
        else:
            from diffusers import AutoencoderKL

            vae = AutoencoderKL.from_pretrained(args.vae).eval()

            def keep(name, unet, text_encoder):
                with atomic_folder(state / name) as folder:
                    models.pipeline(vae, unet, text_encoder).save_pretrained(folder)
                    finish(folder)

            if args.part == "flow":
                pretrain.train_flow(recipe, vae, course).save_pretrained(out)
            else:
                pretrain.train_base(recipe, vae, keep, course)
                for name in ("base-early", "base-middle", "base"):
                    shutil.copytree(state / name, out / name)
        finish(out)
    shutil.rmtree(state)


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    arguments.add_argument("--part", required=True, choices=PARTS)
    arguments.add_argument("--vae", type=Path, help="the trained VAE's folder, for a base")
    arguments.add_argument("--out", type=Path, required=True, help="folder to write")
    arguments.add_argument(
        "--threads", type=int, default=1, help="CPU threads (changes the result)"
    )
    cli.run(main, arguments)

"""Fine-tune a base model to one checkpoint, normally or with the CLIP term (guide_scale > 0).

Reads a diffusers model, the folder that encode.py wrote (or, with `cached: false`, the pictures),
for a CLIP term an open_clip guide and the folder that encode_guide.py wrote, and for all but the
first checkpoint of a variant the training folder of the one before. Writes a diffusers model and a
training folder: log.csv, held_out.csv, tensorboard/, summary.json, in samples/ the pictures of the
development prompts, and in state/ all that the next checkpoint continues from. Run it again after
it was killed: it goes on from its last saved state.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from vlg.workflow import cli


def main(args: Namespace) -> None:
    import functools
    import os

    from vlg.data import prompts
    from vlg.models.device import set_up
    from vlg.sample import development
    from vlg.train.loop import finetune
    from vlg.workflow.processes import Stop, end_with_parent

    end_with_parent()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # processes that share this node's threads
    device = set_up(args.device, max(1, args.threads // local))
    sampling = args.settings.pop("samples", None)
    draw_samples = None
    if args.development:
        rows = prompts.read_table(args.development)
        draw_samples = functools.partial(development.draw, rows, sampling, args.batch_size, device)
    finetune(
        base=args.base,
        guide=args.guide,
        embeddings=args.embeddings,
        cache=args.cache,
        data=args.data,
        previous=args.previous,
        out_model=args.out_model,
        out_training=args.out_training,
        values=args.settings,
        decoder=args.decoder,
        device=device,
        save_every=args.save_every,
        save_minutes=args.save_minutes,
        stop=Stop().listen(),
        draw_samples=draw_samples,
    )


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    add = arguments.add_argument
    add("--base", type=Path, required=True, help="diffusers folder to start from")
    add("--guide", type=Path, help="open_clip folder; needed unless guide_scale is 0")
    add("--embeddings", type=Path, help="folder that encode_guide.py wrote; needed with --guide")
    add("--cache", type=Path, help="folder that encode.py wrote; needed unless cached is false")
    add("--data", type=Path, help="image folder; needed if cached is false")
    add("--decoder", type=Path, help="AutoencoderTiny folder for the CLIP gradient only")
    add("--previous", type=Path, help="training folder of the checkpoint before")
    add("--development", type=Path, help="development.tsv, whose prompts to draw at the end")
    add("--batch-size", type=int, default=40, help="development prompts drawn at once")
    add("--out-model", type=Path, required=True, help="diffusers folder to write")
    add("--out-training", type=Path, required=True, help="training folder to write")
    add("--save-every", type=int, default=500, help="steps between saved states")
    add("--save-minutes", type=float, default=10, help="minutes between saved states")
    add("--device", default="auto", help="auto, cpu or cuda, and options: auto,channels_last")
    add("--threads", type=int, default=1, help="CPU threads; other counts give other last bits")
    cli.run(main, arguments)

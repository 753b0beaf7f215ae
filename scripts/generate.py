"""Draw one shard of a model's pictures.

Reads a diffusers folder, prompts.tsv and, at the stage `final`, hard_prompts.tsv; writes PNG files
and metadata.jsonl, an image folder that `datasets` loads.
"""

from pathlib import Path

from vlg.data import prompts
from vlg.workflow import cli


def main(args):
    from vlg.data import pictures
    from vlg.models.device import set_up
    from vlg.sample import sampler

    settings = args.settings
    hard = prompts.read_table(args.hard) if args.hard else []
    wanted = sampler.listing(prompts.read_table(args.prompts), hard, settings)
    names = ("steps", "guidance_scale", "scheduler", "precision", "vae_tiling")
    sample = {name: settings[name] for name in names}
    sampler.generate(
        sampler.shard(wanted, settings["shard"], settings["shard_size"]),
        lambda: sampler.Sampler(args.model, sample, set_up(args.device, args.threads)),
        args.out,
        settings["model"],
        pictures.model_hash(args.model),
        sample,
        args.batch_size,
    )


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    add = arguments.add_argument
    add("--model", type=Path, required=True, help="diffusers folder")
    add("--prompts", type=Path, required=True, help="prompts.tsv")
    add("--hard", type=Path, help="hard_prompts.tsv, for the stage final")
    add("--out", type=Path, required=True, help="folder to write")
    add("--batch-size", type=int, default=40, help="pictures drawn at once")
    add("--device", default="auto", help="auto, cpu or cuda, and options: auto,channels_last")
    add("--threads", type=int, default=1, help="CPU threads")
    cli.run(main, arguments)

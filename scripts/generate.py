"""Draw one shard of a model's pictures.

Reads a diffusers folder, prompts.tsv and, at the stage `final`, hard_prompts.tsv; writes PNG files
and metadata.jsonl, an image folder that `datasets` loads.
"""

from pathlib import Path

from vlg.data import prompts
from vlg.workflow import cli


def main(args):
    from vlg.models.device import set_up
    from vlg.sample import drawing, listing
    from vlg.sample.sampler import Sampler

    settings = listing.Stage.parse(args.settings, "generate")
    hard = prompts.read_table(args.hard) if args.hard else []
    wanted = listing.listing(prompts.read_table(args.prompts), hard, settings)
    drawing.plain(
        listing.shard(wanted, settings.shard, settings.shard_size),
        lambda: Sampler(args.model, settings.sampling, set_up(args.device, args.threads)),
        args.out,
        drawing.made_by(args.model, settings.model, settings.sampling),
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

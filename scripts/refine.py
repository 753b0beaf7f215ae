"""Refine one shard of a model's study pictures through all rounds of one arm.

Reads a diffusers folder, an open_clip guide and the folders of round 0; writes, for each round, a
folder of PNG files with metadata.jsonl (which picture was kept, its guide score and its cost).
"""

from pathlib import Path

from vlg.workflow import cli


def main(args):
    from vlg.data import pictures
    from vlg.models.device import set_up
    from vlg.models.guide import load_guide
    from vlg.sample import refinement
    from vlg.sample.sampler import Sampler

    settings = args.settings
    start = [
        (folder, row)
        for folder in args.start
        for row in pictures.read_metadata(folder)
        if row["set"] == "study"
    ]
    recipe = {k: v for k, v in settings.items() if k not in ("arm", "shard", "shard_size")}

    def models():
        device = set_up(args.device, args.threads)
        return Sampler(args.model, recipe, device), load_guide(args.guide, device)

    refinement.refine(
        start[args.skip : args.skip + settings["shard_size"]],
        models,
        lambda number: (
            args.out / f"round-{number}" / settings["arm"] / f"shard-{settings['shard']}"
        ),
        settings["arm"],
        [pictures.model_hash(args.model), pictures.model_hash(args.guide)],
        recipe,
        args.batch_size,
    )


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    add = arguments.add_argument
    add("--model", type=Path, required=True, help="diffusers folder")
    add("--guide", type=Path, required=True, help="open_clip folder; it chooses what is kept")
    add("--start", type=Path, nargs="+", required=True, help="picture folders of round 0")
    add("--skip", type=int, default=0, help="study pictures in these that another shard refines")
    add("--out", type=Path, required=True, help="refined/<model>, to which rounds are written")
    add("--batch-size", type=int, default=40, help="pictures drawn at once")
    add("--device", default="auto", help="auto, cpu or cuda, and options: auto,channels_last")
    add("--threads", type=int, default=1, help="CPU threads")
    cli.run(main, arguments)

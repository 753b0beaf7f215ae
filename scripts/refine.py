"""Draw one shard of a model's study pictures through all rounds of one arm.

Reads a diffusers folder and what the arm needs: an open_clip guide, the picture folders of round 0,
or prompts.tsv where it draws from noise alone. Writes, for each round, a folder of PNG files with
metadata.jsonl (which picture was kept, its guide score and its cost).
"""

from pathlib import Path

from vlg.data import prompts
from vlg.errors import UserError
from vlg.workflow import cli


def main(args):
    from vlg.models.device import set_up
    from vlg.models.guide import load_guide
    from vlg.sample import arm as arms
    from vlg.sample import drawing, listing
    from vlg.sample.sampler import Sampler

    settings = arms.Job.parse(args.settings, "refine")
    arm = arms.load(settings.kind, settings.keys)
    guided = "guide" in arm.needs
    base = args.base if "base" in arm.needs else None
    given = {"guide": args.guide, "pictures": args.start, "base": args.base}
    if missing := [name for name in sorted(arm.needs) if not given[name]]:
        raise UserError(f"refine: an arm of kind {settings.kind} needs {missing[0]}; see --help")
    if "pictures" in arm.needs:
        start = drawing.from_folders(args.start)[args.skip : args.skip + settings.shard_size]
    else:
        study = listing.study(prompts.read_table(args.prompts), settings.seeds)
        start = drawing.from_nothing(listing.shard(study, settings.shard, settings.shard_size))

    def models():
        device = set_up(args.device, args.threads)
        guide = load_guide(args.guide, device) if guided else None
        return drawing.Models(Sampler(args.model, settings.sampling, device, base), guide)

    made = drawing.made_by(
        args.model,
        settings.model,
        settings.sampling,
        settings.arm,
        settings.kind,
        arm.settings.handed_on(),
        args.guide if guided else None,
        base,
    )
    drawing.draw(arm, start, models, dict(enumerate(args.out, start=1)), made, args.batch_size)


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    add = arguments.add_argument
    add("--model", type=Path, required=True, help="diffusers folder")
    add("--guide", type=Path, help="open_clip folder, for an arm that is guided")
    add("--base", type=Path, help="the base's folder, for an arm that draws with it too")
    add("--start", type=Path, nargs="+", help="picture folders of round 0, for an arm that redraws")
    add("--skip", type=int, default=0, help="study pictures in these that another shard refines")
    add("--prompts", type=Path, help="prompts.tsv, for an arm that draws from noise alone")
    add("--out", type=Path, nargs="+", required=True, help="folders to write, one for each round")
    add("--batch-size", type=int, default=40, help="pictures drawn at once")
    add("--device", default="auto", help="auto, cpu or cuda, and options: auto,channels_last")
    add("--threads", type=int, default=1, help="CPU threads")
    cli.run(main, arguments)

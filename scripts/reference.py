"""Make pictures to hold scores against: one kind of ceiling or floor for all study prompts.

The kind is a file of scripts/vlg/sample/references/, whose NEEDS say which of the inputs it reads.
Writes PNG files and metadata.jsonl, an image folder that `datasets` loads. Settings: seeds, the
selection seeds.
"""

from pathlib import Path

from vlg import plugins
from vlg.data import pictures, prompts
from vlg.sample import listing, reference
from vlg.workflow import cli


def main(args):
    device = "cpu"
    if args.base:
        from vlg.models.device import set_up

        device = set_up(args.device, args.threads)
    sources = [
        (folder, row)
        for folder, row in pictures.listed(args.pictures)
        if row["set"] in ("study", reference.SET)
    ]
    wanted = listing.study(prompts.read_table(args.prompts), args.settings["seeds"])
    given = reference.Given(wanted, sources, args.base, device, args.batch_size)
    reference.write(args.name, given, args.out)


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    add = arguments.add_argument
    add("name", help="which kind: " + ", ".join(plugins.names(plugins.REFERENCES)))
    add("--prompts", type=Path, required=True, help="prompts.tsv")
    add("--pictures", type=Path, nargs="*", default=[], help="picture folders it is made from")
    add("--base", type=Path, help="diffusers folder")
    add("--out", type=Path, required=True, help="folder to write")
    add("--batch-size", type=int, default=32, help="pictures encoded at once")
    add("--device", default="auto", help="auto, cpu or cuda, and options: auto,channels_last")
    add("--threads", type=int, default=1, help="CPU threads")
    cli.run(main, arguments)

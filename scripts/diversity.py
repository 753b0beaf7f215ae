"""Measure how a model's or arm's pictures of a prompt differ from each other, and from base's.

Reads the study pictures of all models, those of the arms and the judge, in whose embedding
distances (1 - cos) are taken; writes one CSV: spread, the mean distance of a picture to those of
the same prompt on the other seeds (empty with one seed), and drift, its distance to base's plain
one of the same prompt and seed.
"""

from pathlib import Path

from vlg.files import write_rows
from vlg.judge import diversity
from vlg.workflow import cli


def main(args):
    from vlg.config.sections import Score
    from vlg.models.clip import Clip
    from vlg.models.device import set_up

    settings = Score.parse(args.settings, "score")
    clip = Clip(args.judge, set_up(args.device, args.threads), settings.precision)
    write_rows(args.out, diversity.COLUMNS, diversity.measure(args.pictures, clip, args.batch_size))


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    add = arguments.add_argument
    add(
        "--pictures", type=Path, nargs="+", required=True, help="picture folders, base's among them"
    )
    add("--judge", type=Path, required=True, help="Hugging Face CLIP folder")
    add("--out", type=Path, required=True, help="CSV to write")
    add("--batch-size", type=int, default=64, help="pictures embedded at once")
    add("--device", default="auto", help="auto, cpu or cuda, and options: auto,channels_last")
    add("--threads", type=int, default=1, help="CPU threads")
    cli.run(main, arguments)

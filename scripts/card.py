"""Write the card of a fine-tuned model: what it is, how it was trained, what it scored.

Reads the table of fine-tuning, the model's manifest and its training summary, and not the model,
which need not be on the machine that writes its card; writes README.md with the front matter that
the Hugging Face Hub reads. Settings: study, base, family (of the base), dataset, judge, confidence
(of the table's intervals).
"""

from pathlib import Path

from vlg.files import MANIFEST, read_json, write_checksum, write_text
from vlg.models import stated
from vlg.report import cards
from vlg.workflow import cli


def main(args):
    model, summary = args.training.parent.name, read_json(args.training)
    files = read_json(args.out.parent / MANIFEST)["files"]
    absent = stated.left_out(files, args.settings.family)
    write_text(args.out, cards.card(model, args.table, summary, args.settings, absent))
    write_checksum(args.out)


if __name__ == "__main__":
    arguments = cli.parser(__doc__, cards.Settings, "card")
    add = arguments.add_argument
    add("--table", type=Path, required=True, help="tables/finetune.csv")
    add("--training", type=Path, required=True, help="training/<model>/summary.json")
    add("--out", type=Path, required=True, help="models/<model>/README.md to write")
    cli.run(main, arguments)

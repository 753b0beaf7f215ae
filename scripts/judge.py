"""Score a model's study pictures by one further judge, a row each.

Reads picture folders (metadata.jsonl and PNG, checksums compared); writes one CSV. Settings: the
judge's entry of the config (section judges): kind, source and the kind's own keys. A plug-in's
module is imported from the working folder.
"""

from pathlib import Path

from vlg.files import write_rows
from vlg.judge.columns import FURTHER
from vlg.workflow import cli


def main(args):
    from vlg.judge import kind, scoring
    from vlg.models.device import set_up
    from vlg.models.ledger import Ledger

    judge, ledger = kind.load(args.settings, set_up(args.device, args.threads)), Ledger()
    judge.watch(ledger)
    rows = scoring.further(args.pictures, judge, args.root, args.batch_size, args.threads)
    write_rows(args.out, FURTHER, rows)
    args.computed = ledger.take().json()


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    add = arguments.add_argument
    add("--pictures", type=Path, nargs="+", required=True, help="picture folders")
    add("--root", type=Path, required=True, help="results/<study>, to which paths are relative")
    add("--out", type=Path, required=True, help="CSV to write")
    add("--batch-size", type=int, default=64, help="pictures scored at once")
    add("--device", default="auto", help="auto, cpu or cuda, and options: auto,channels_last")
    add("--threads", type=int, default=1, help="CPU threads")
    cli.run(main, arguments)

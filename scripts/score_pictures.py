"""Score a set of finished pictures, one row each: as score.py scores what models draw, of any size
and without a guide where there is none.

Reads picture folders (metadata.jsonl, checksums compared), a Hugging Face CLIP and, if given, a
guide's folder; writes one CSV.
"""

from pathlib import Path
from statistics import fmean

from vlg.files import identity, write_rows
from vlg.judge.columns import COLUMNS
from vlg.record.integrity import NO_GUIDE
from vlg.workflow import cli


def main(args):
    from vlg.judge import given, kind, scoring, traps
    from vlg.models.device import set_up
    from vlg.models.ledger import Ledger

    settings = scoring.Settings.parse(args.settings, "score")
    device = set_up(args.device, args.threads)
    entry = {"kind": kind.OWN, "source": str(args.judge)}
    judge = kind.load(entry, device, precision=settings.precision)
    guide, ledger = None, Ledger()
    if args.guide:
        from vlg.models.guide import load_guide

        guide = load_guide(args.guide, device)
        traps.check(str(args.guide), guide)
        guide.watch(ledger)
    judge.watch(ledger)
    weights = {"judge_weights": identity(args.judge)}
    weights["guide_weights"] = identity(args.guide) if args.guide else NO_GUIDE
    options = (settings.truth, args.root, args.batch_size, args.threads)
    rows = list(given.study(args.pictures, judge, guide, weights, *options))
    write_rows(args.out, COLUMNS, rows)
    args.computed = ledger.take().json()
    mean = fmean(float(row["clipscore"]) for row in rows)
    args.found = f"ClipScore {rows[0]['model']} {mean:.1f}"


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    add = arguments.add_argument
    add("--pictures", type=Path, nargs="+", required=True, help="picture folders")
    add("--judge", type=Path, required=True, help="Hugging Face CLIP folder")
    add("--guide", type=Path, help="open_clip folder")
    add("--root", type=Path, required=True, help="results/<study>, to which paths are relative")
    add("--out", type=Path, required=True, help="CSV to write")
    add("--batch-size", type=int, default=64, help="pictures scored at once")
    add("--device", default="auto", help="auto, cpu or cuda, and options: auto,channels_last")
    add("--threads", type=int, default=1, help="CPU threads")
    cli.run(main, arguments)

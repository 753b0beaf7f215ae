"""Score pictures, one row each: ClipScore by the judge, the guide's cosine and, where the world is
drawn, fidelity as the verifier reads it from the pixels.

Reads picture folders (metadata.jsonl and pictures, checksums compared), a Hugging Face CLIP and,
where there is one, an open_clip folder; writes one CSV.
"""

from pathlib import Path
from statistics import fmean

from vlg.files import identity, write_rows
from vlg.judge.columns import COLUMNS
from vlg.record.integrity import NO_GUIDE
from vlg.workflow import cli


def main(args):
    from vlg.judge import kind, scoring, traps
    from vlg.models.device import set_up
    from vlg.models.guide import load_guide
    from vlg.models.ledger import Ledger

    settings = scoring.Settings.parse(args.settings, "score")
    device = set_up(args.device, args.threads)
    entry = {"kind": kind.OWN, "source": str(args.judge)}
    judge = kind.load(entry, device, precision=settings.precision)
    guide, ledger = None, Ledger()
    weights = {"judge_weights": identity(args.judge), "guide_weights": NO_GUIDE}
    if args.guide:
        guide = load_guide(args.guide, device)
        traps.check(str(args.guide), guide)
        guide.watch(ledger)
        weights["guide_weights"] = identity(args.guide)
    judge.watch(ledger)
    options = (settings.truth, args.root, args.batch_size, args.threads)
    rows = list(scoring.study(args.pictures, judge, guide, weights, *options))
    write_rows(args.out, COLUMNS, rows)
    args.computed = ledger.take().json()
    args.found = found(rows)


def found(rows):
    """The mean ClipScore of each model's study pictures, or of what else there is of it; of an arm
    that of its last round."""
    final = max(int(row["round"]) for row in rows)
    means = []
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model and int(row["round"]) == final]
        study = [row for row in own if row["set"] == "study"]
        other = {row["set"] for row in own} - {"reference"} if not study else set()
        words = [model, own[0]["arm"], *sorted(other)]
        mean = fmean(float(row["clipscore"]) for row in study or own)
        means.append(f"{' '.join(word for word in words if word)} {mean:.1f}")
    return f"ClipScore {', '.join(means)}"


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

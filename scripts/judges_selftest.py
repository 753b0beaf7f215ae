"""Look for traps that move ClipScores without a word, in the judge, the guide and further judges.

Writes a CSV and beside it the same as Markdown: what was found of each trap, and by how much the
trap would move the ClipScore of a plain picture. Settings: the entries of the config's section
judges.
"""

from pathlib import Path

from vlg.files import write_checksum, write_rows, write_text
from vlg.workflow import cli


def main(args):
    from vlg.judge import kind, traps
    from vlg.models.device import set_up
    from vlg.models.guide import load_guide

    device = set_up(args.device, args.threads)
    entries = {"judge": {"kind": kind.OWN, "source": str(args.judge)}, **args.settings["judges"]}
    inside = {"guide": load_guide(args.guide, device)}
    for name, entry in entries.items():
        precision = args.settings["precision"] if name == "judge" else None
        own = kind.settings(entry)
        inside[name] = kind.find(own.kind)(own, device, precision=precision).inside
    rows = []
    for name in (*entries, "guide"):
        if inside[name] is None:
            rows.append({"judge": name, "trap": "all", "found": "has no CLIP to be looked into"})
        for trap in traps.look(inside[name], moves=True) if inside[name] else ():
            moves = "" if trap.moves != trap.moves else f"{trap.moves:.2f}"
            fine = "yes" if trap.fine else "no"
            values = (name, trap.name, trap.found, moves, fine)
            rows.append(dict(zip(traps.COLUMNS, values, strict=True)))
    write_rows(args.out, traps.COLUMNS, rows)
    beside = args.out.with_suffix(".md")
    write_text(beside, markdown(rows))
    write_checksum(beside)
    if bad := [row for row in rows if row.get("fine") == "no"]:
        cli.log.warning("%d traps: %s", len(bad), beside)


def markdown(rows):
    """The rows as a table, with what its columns mean."""
    from tabulate import tabulate

    titles = ("Judge", "Trap", "Found", "Would move a ClipScore by", "Fine")
    cells = [list(row.values()) for row in rows]
    table = tabulate(cells, titles, tablefmt="pipe", disable_numparse=True)
    return (
        f"{table}\n\nWould move: at most, the ClipScore of six plain pictures: the end token lost, "
        "the other GELU, every fourth pixel instead of a resize, weights rounded to bfloat16.\n"
    )


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    add = arguments.add_argument
    add("--judge", type=Path, required=True, help="Hugging Face CLIP folder")
    add("--guide", type=Path, required=True, help="open_clip folder")
    add("--out", type=Path, required=True, help="CSV to write")
    add("--device", default="auto", help="auto, cpu or cuda, and options: auto,channels_last")
    add("--threads", type=int, default=1, help="CPU threads")
    cli.run(main, arguments)

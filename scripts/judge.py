"""Score a model's study pictures by one further judge, a row each.

Reads picture folders (metadata.jsonl and PNG, checksums compared); writes one CSV. Settings: kind,
source and pair of the judge (config: judges). A plug-in's module is imported from the working
folder.
"""

from pathlib import Path

from vlg.files import write_rows
from vlg.workflow import cli

COLUMNS = ("model", "id", "seed", "picture", "sha256", "judge", "score")


def main(args):
    from tqdm import tqdm

    from vlg.data import pictures
    from vlg.data.encoded import chunks
    from vlg.judge import further
    from vlg.models.device import set_up

    kind, source = args.settings["kind"], args.settings["source"]
    score = further.load(**args.settings, device=set_up(args.device, args.threads))
    known = further.fingerprint(kind, source)
    wanted = [
        (folder, row)
        for folder in args.pictures
        for row in pictures.read_metadata(folder)
        if row["set"] == "study"
    ]
    rows = []
    for batch in tqdm(list(chunks(wanted, args.batch_size)), f"judge {kind}", mininterval=5):
        images = [pictures.load_checked(folder, row) for folder, row in batch]
        numbers = score(images, [row["prompt"] for _, row in batch])
        for (folder, row), number in zip(batch, numbers, strict=True):
            same = {name: row[name] for name in ("model", "id", "seed", "sha256")}
            picture = (folder / row["file_name"]).relative_to(args.root).as_posix()
            rows.append({**same, "picture": picture, "judge": known, "score": f"{number:.6g}"})
    write_rows(args.out, COLUMNS, rows)


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

"""Measure how a model's pictures of a prompt differ from each other, and from base's.

Reads the study pictures of all models and the judge, in whose embedding distances (1 - cos) are
taken; writes one CSV: spread, the mean distance of a picture to those of the same prompt on the
other seeds (empty with one seed), and drift, its distance to base's of the same prompt and seed.
"""

from pathlib import Path

from vlg.files import write_rows
from vlg.workflow import cli

COLUMNS = ("model", "id", "seed", "sha256", "spread", "drift")


def main(args):
    import torch
    from tqdm import tqdm

    from vlg.data import pictures
    from vlg.data.encoded import chunks
    from vlg.models.clip import Judge
    from vlg.models.device import set_up

    judge = Judge(args.judge, set_up(args.device, args.threads), args.settings["precision"])
    found: dict[str, dict[tuple[str, int], tuple[str, torch.Tensor]]] = {}
    for folder in tqdm(args.pictures, "diversity", mininterval=5):
        rows = [row for row in pictures.read_metadata(folder) if row["set"] == "study"]
        for batch in chunks(rows, args.batch_size):
            images = [pictures.load_checked(folder, row) for row in batch]
            for row, unit in zip(batch, judge.encode_image(images).cpu(), strict=True):
                own = found.setdefault(row["model"], {})
                own[row["id"], row["seed"]] = (row["sha256"], unit)
    base = found["base"]
    rows = []
    for model, own in found.items():
        seeds = {seed for _, seed in own}
        for (name, seed), (checksum, unit) in own.items():
            others = [own[name, each][1] for each in seeds if each != seed and (name, each) in own]
            spread = (1 - torch.stack(others) @ unit).mean().item() if others else None
            drift = (1 - base[name, seed][1] @ unit).item()
            rows.append(
                {
                    **{"model": model, "id": name, "seed": seed, "sha256": checksum},
                    "spread": "" if spread is None else f"{spread:.6f}",
                    "drift": f"{drift:.6f}",
                }
            )
    write_rows(args.out, COLUMNS, rows)


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

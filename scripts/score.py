"""Score pictures, one row each: ClipScore by the judge, the guide's cosine and, where the world is
drawn, fidelity as the verifier reads it from the pixels.

Reads picture folders (metadata.jsonl and PNG, checksums compared), a Hugging Face CLIP and an
open_clip folder; writes one CSV.
"""

from pathlib import Path

from vlg.analysis import scores
from vlg.files import write_rows
from vlg.workflow import cli


def main(args):
    import numpy as np
    from tqdm import tqdm

    from vlg.data import pictures
    from vlg.models.clip import Judge
    from vlg.models.device import set_up
    from vlg.models.guide import load_guide
    from vlg.sample.refinement import guide_scores

    device = set_up(args.device, args.threads)
    judge = Judge(args.judge, device, args.settings["precision"])
    guide = load_guide(args.guide, device)
    if args.settings["truth"]:
        from vlg.shapes.captions import parse
        from vlg.shapes.verify import check
    wanted = [(folder, row) for folder in args.pictures for row in pictures.read_metadata(folder)]
    root = args.root
    scored_by = {
        "judge_weights": pictures.model_hash(args.judge),
        "guide_weights": pictures.model_hash(args.guide),
    }
    rows = []

    def read(batch):
        images = [pictures.load_checked(folder, row) for folder, row in batch]
        return images, judge.prepare(images)

    size = args.batch_size
    batches = [wanted[begin : begin + size] for begin in range(0, len(wanted), size)]
    ready = pictures.ahead(read, batches, args.threads)
    for batch, (images, pixels) in tqdm(ready, "score", len(batches), mininterval=5):
        texts = [row["prompt"] for _, row in batch]
        by_judge = judge.scores(pixels, texts)
        by_guide = guide_scores(guide, np.stack(images), texts)
        for (folder, row), image, clipscore, guided in zip(
            batch, images, by_judge, by_guide, strict=True
        ):
            said = parse(row["prompt"]) if args.settings["truth"] else None
            truth = check(image, said) if said else {}
            rows.append(
                {
                    **{name: row.get(name) for name in scores.COLUMNS},
                    **scored_by,
                    "clipscore": f"{clipscore:.4f}",
                    "guide": f"{guided:.4f}",
                    **{name: round(v, 4) for name, v in truth.items() if v is not None},
                    "picture": (folder / row["file_name"]).relative_to(root).as_posix(),
                }
            )
    write_rows(args.out, scores.COLUMNS, rows)


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    add = arguments.add_argument
    add("--pictures", type=Path, nargs="+", required=True, help="picture folders")
    add("--judge", type=Path, required=True, help="Hugging Face CLIP folder")
    add("--guide", type=Path, required=True, help="open_clip folder")
    add("--root", type=Path, required=True, help="results/<study>, to which paths are relative")
    add("--out", type=Path, required=True, help="CSV to write")
    add("--batch-size", type=int, default=64, help="pictures scored at once")
    add("--device", default="auto", help="auto, cpu or cuda, and options: auto,channels_last")
    add("--threads", type=int, default=1, help="CPU threads")
    cli.run(main, arguments)

"""How fast judges score, side by side in one run: as here, and one picture at a time.

CLIP kinds against a loop over torchmetrics' CLIPScore, and `vqa` batched against one picture at a
time, both through the code of scoring; models are random and small, or of CLIP ViT-B/32's size
(`--size full`). Prints a Markdown table of pictures a second and their ratio: the median of several
rounds that take turns, so that what else a machine does slows both. Threads: OMP_NUM_THREADS.

    OMP_NUM_THREADS=1 .venv/bin/python bench/judges.py --pictures 128 --rounds 5
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT)]

import numpy as np  # noqa: E402

from tests import tiny, vlms  # noqa: E402
from vlg.judge import kind  # noqa: E402


def clip_folder(folder: Path, size: str) -> Path:
    """A random Hugging Face CLIP: the shapes world's tiny one, or of ViT-B/32's size."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    if size == "tiny":
        return tiny.save_judge(folder)
    torch.manual_seed(0)
    tokens = tiny.tokenizer()
    text = {"vocab_size": len(tokens), "eos_token_id": tokens.eos_token_id}
    return tiny.write_judge(folder, CLIPModel(CLIPConfig(text_config=text)), tokens)


def by_torchmetrics(judge, images: list[np.ndarray], prompts: list[str]) -> None:
    """A score for each picture, as a loop over the metric gives it."""
    import torch
    from torchmetrics.multimodal import CLIPScore

    from tests.test_clipscore import Adapter

    metric = CLIPScore(lambda: (Adapter(judge.clip), judge.clip.processor))
    for image, prompt in zip(images, prompts, strict=True):
        metric.reset()
        metric(torch.from_numpy(image).permute(2, 0, 1), prompt)


def batched(judge, images: list[np.ndarray], prompts: list[str], size: int) -> None:
    """As `vlg.judge.scoring` asks a judge, but for reading files."""
    for start in range(0, len(images), size):
        some = slice(start, start + size)
        judge(judge.prepare(images[some]), prompts[some])


def side_by_side(ways: dict, rounds: int, number: int) -> list[float]:
    """Pictures a second of each way: the median of rounds, each of which does all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():  # what is only done once
        way(min(4, number))
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way(number)
            seconds[name].append(time.perf_counter() - start)
    return [number / median(each) for each in seconds.values()]


def main(number: int, rounds: int, size: int, model: str, side: int) -> list[str]:
    """The lines of the table."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (side, side, 3), dtype=np.uint8) for _ in range(number)]
    words = [f"a {colour} {shape}" for colour in tiny.COLOURS for shape in tiny.SHAPES]
    prompts = [words[i % len(words)] for i in range(number)]
    lines = [
        "| judge | one at a time, pictures/s | batched, pictures/s | ratio |",
        "|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        clip_folder(at / "clip", model)
        tiny.save_guide(at / "open_clip")
        for name in ("qwen3_vl", "idefics3"):
            vlms.save(at / name, name)
        clip = kind.load({"kind": "clip", "source": str(at / "clip")}, "cpu")
        entries = {
            "clip": ("clip", "clip"),
            "pickscore": ("pickscore", "clip"),
            "clip_iqa": ("clip_iqa", "clip"),
            "open_clip": ("open_clip", "open_clip"),
            "vqa (Qwen3-VL)": ("vqa", "qwen3_vl"),
            "vqa (Idefics3)": ("vqa", "idefics3"),
        }
        for title, (of, source) in entries.items():
            judge = kind.load({"kind": of, "source": str(at / source)}, "cpu")

            def slow(n, judge=judge, of=of):
                if of == "vqa":
                    batched(judge, images[:n], prompts[:n], 1)
                else:
                    by_torchmetrics(clip, images[:n], prompts[:n])

            def fast(n, judge=judge):
                batched(judge, images[:n], prompts[:n], size)

            one, many = side_by_side({"slow": slow, "fast": fast}, rounds, number)
            lines.append(f"| {title} | {one:.1f} | {many:.1f} | {many / one:.1f} |")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--pictures", type=int, default=128, help="how many are scored")
    add("--rounds", type=int, default=5, help="how often")
    add("--batch-size", type=int, default=64, help="pictures scored at once")
    add("--size", choices=("tiny", "full"), default="tiny", help="of the CLIP")
    add("--side", type=int, default=32, help="of the pictures, in pixels")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    table = main(args.pictures, args.rounds, args.batch_size, args.size, args.side)
    print(
        f"{torch.get_num_threads()} threads, {args.pictures} pictures, batches of {args.batch_size}"
    )
    print("\n".join(table))

"""A made-up study of a few prompts: everything the tables, figures and gallery read, no models.

`write(root)` lays out `root` as `results/<study>` is laid out: prompts, hard prompts, pictures
(crude drawings of what the prompt says), scores, training logs. Scores follow a known model,
score = 70 + prompt + (prompt, seed) noise + gain of the row, so that tests know the truth.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

COLOURS = {"red": "#d22", "green": "#2a4", "blue": "#24d", "yellow": "#ec2"}
SHAPES = ("circle", "square", "triangle")
RELATIONS = ("left of", "right of", "above", "below")
FACTS = ("count", "shape", "colour", "size", "relation", "background")
AWKWARD = (
    '"red" <b>circle</b></script><script>document.title = "broken"</script>',
    "été: 100 % & más",
)
SCORES = ("model", "set", "arm", "round", "id", "seed", "clipscore", "guide", "fidelity", "strict")
SCORES += (*FACTS, "unet_calls", "seconds", "flops", "blank", "picture", "sha256")
SCORES += ("weights", "judge_weights", "guide_weights")
WEIGHTS = {"weights": "0" * 16, "judge_weights": "1" * 16, "guide_weights": "2" * 16}
PROMPTS = ("Prompt", "Category", "Challenge", "Note", "id", "split", "set")
CALLS = 20  # UNet calls of a plain picture: 10 guided steps


@dataclass(frozen=True)
class Study:
    """What a made-up study holds; the defaults are small."""

    prompts: int = 24  # of which the first two thirds are set `study`
    selection: tuple[int, ...] = (0, 1)
    fresh: tuple[int, ...] = (100, 101)
    steps: tuple[int, ...] = (200, 500, 1000)
    variants: tuple[str, ...] = ("normal", "embed")
    rounds: int = 4
    train_seeds: tuple[int, ...] = (0,)
    training_sd: float = 0.0  # between trainings of a variant
    refined: tuple[str, ...] = ("base",)
    arms: dict[str, float] = field(default_factory=lambda: {"refine": 0.5, "best_of_n": 1.0})
    hard: int = 6
    truth: bool = True  # False: no fidelity, as for photographs
    pictures: bool = True
    seed: int = 0
    gains: dict[str, float] = field(
        default_factory=lambda: {"normal": 0.5, "embed": 1.5, "refine": 1.5, "best_of_n": 1.8}
    )

    @property
    def models(self) -> list[str]:
        return ["base", *(f"{v}-{s}" for v in self.variants for s in self.steps)]

    @property
    def runs(self) -> list[str]:
        """The models and their further trainings."""
        further = [f"-s{seed}" for seed in self.train_seeds[1:]]
        return [*self.models, *(f"{model}{end}" for model in self.models[1:] for end in further)]


def write(root: Path, study: Study | None = None) -> Study:
    """Write the study into the folder `root` and return its description."""
    study = study or Study()
    rng = np.random.default_rng(study.seed)
    prompts = _prompts(study, rng)
    levels = rng.normal(0, 6, len(prompts))
    scores = _Scores(root, study, levels)
    plain = {row["id"]: row for row in prompts if row["set"] == "study"}
    rest = {row["id"]: row for row in prompts if row["set"] == "rest"}
    for model in study.runs:
        scores.add(plain, study.selection, model, "study")
    scores.add(rest, study.selection, "base", "rest")
    hard = scores.hardest(prompts, study.hard)
    unseen = {row["id"]: row for row in hard if row["id"] in rest}
    for model in study.runs:
        scores.add(unseen, study.selection, model, "hard")
        scores.add({row["id"]: row for row in hard}, study.fresh, model, "hard")
    for arm in study.arms:
        for number in range(1, study.rounds + 1):
            for model in study.refined:
                scores.add(plain, study.selection, model, "study", arm, number)
    scores.write()
    _write_table(root / "prompts.tsv", prompts, PROMPTS)
    _write_table(root / "hard_prompts.tsv", hard, (*PROMPTS, "clipscore"))
    for variant in study.variants:
        for seed in study.train_seeds:
            end = "" if seed == study.train_seeds[0] else f"-s{seed}"
            _write_training(root, study, variant, rng, end)
    return study


def score_files(root: Path) -> list[Path]:
    """All score files below `root`."""
    return sorted((root / "scores").rglob("*.csv"))


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rewrite(path: Path, table: list[dict[str, str]]) -> None:
    """Write rows back as a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


class _Scores:
    """Collects score rows, drawing each picture once."""

    def __init__(self, root: Path, study: Study, levels: np.ndarray) -> None:
        self.root, self.study, self.levels = root, study, levels
        self.files: dict[str, list[dict]] = {}

    def add(self, prompts, seeds, model, set_name, arm="", number=0) -> None:
        refined = f"refined/{model}/round-{number}/{arm}" if arm else f"images/{model}/{set_name}"
        target = f"refined/{model}" if arm else f"images/{model}/{set_name}"
        for name, prompt in prompts.items():
            for seed in seeds:
                path = f"{refined}/shard-0/{seed}-{name}.png"
                row = self._row(prompt, seed, model, arm, number)
                drawing = _drawing(prompt, seed, row["strict"]) if self.study.pictures else b""
                if drawing:
                    (self.root / path).parent.mkdir(parents=True, exist_ok=True)
                    (self.root / path).write_bytes(drawing)
                digest = hashlib.sha256(drawing or path.encode()).hexdigest()
                row |= {"set": set_name, "picture": path, "sha256": digest, **WEIGHTS}
                self.files.setdefault(target, []).append(row)

    def _row(self, prompt, seed, model, arm, number) -> dict:
        position = int(prompt["id"][1:])
        # The same noise for every model, and a little of a row's own.
        shared = np.random.default_rng([self.study.seed, 1, position, seed])
        key = hashlib.sha256(f"{model} {arm} {number} {prompt['id']} {seed}".encode()).digest()
        own = np.random.default_rng([self.study.seed, *key[:4]])
        variant = model.partition("-")[0]
        gain = self.study.gains.get(variant, 0) + self.study.gains.get(arm, 0) * np.sqrt(number)
        luck = hashlib.sha256(f"training {model.partition('-s')[2]}".encode()).digest()
        if variant != "base":
            luck = np.random.default_rng([self.study.seed, *luck[:4]])
            gain += self.study.training_sd * luck.normal()
        score = 70 + self.levels[position] + shared.normal(0, 4) + gain + own.normal(0, 1)
        chance = 1 / (1 + np.exp(-(score - 70) / 8))
        names = [n for n in FACTS if n not in ("relation", "size") or " of " in prompt["Prompt"]]
        facts = {n: int(own.random() < 0.5 + 0.5 * chance) for n in names}
        truth = {
            "fidelity": round(float(np.mean(list(facts.values()))), 4),
            "strict": int(all(facts.values())),
            **facts,
        }
        strength = self.study.arms.get(arm, 0)
        return {
            **dict.fromkeys(SCORES, ""),
            "model": model,
            "arm": arm,
            "round": number,
            "id": prompt["id"],
            "seed": seed,
            "clipscore": round(float(score), 4),
            "guide": round(float(score * 0.4 + gain * 0.5 + own.normal(0, 0.5)), 4),
            **(truth if self.study.truth else dict.fromkeys(truth, "")),
            "unet_calls": int(CALLS * (1 + strength * number)),
            "seconds": round(0.01 * CALLS * (1 + strength * number), 4),
            "blank": 0,
            "flops": 10**9 * CALLS * (1 + strength * number),
        }

    def hardest(self, prompts, count) -> list[dict]:
        base = [r for name in ("study", "rest") for r in self.files.get(f"images/base/{name}", [])]
        means = {
            row["id"]: np.mean([r["clipscore"] for r in base if r["id"] == row["id"]])
            for row in prompts
        }
        lowest = sorted(prompts, key=lambda row: means[row["id"]])[:count]
        return [{**row, "clipscore": f"{means[row['id']]:.4f}"} for row in lowest]

    def write(self) -> None:
        for target, table in self.files.items():
            path = self.root / "scores" / f"{target}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            rewrite(path, [{name: row[name] for name in SCORES} for row in table])


def _prompts(study: Study, rng: np.random.Generator) -> list[dict[str, str]]:
    result = []
    for i in range(study.prompts):
        one, two = (
            f"{rng.choice(['big', 'small'])} {rng.choice([*COLOURS])} {rng.choice(SHAPES)}"
            for _ in range(2)
        )
        pair = i % 3 != 0
        text = f"a {one} {rng.choice(RELATIONS)} a {two}" if pair else f"a {one} on white ({i})"
        split = ("in", "adapt", "never")[i % 3]
        challenge = {"in": "Relation" if pair else "Basic", "adapt": "Unseen pair"}
        result.append(
            {
                "Prompt": AWKWARD[i - 1] if 1 <= i <= len(AWKWARD) else f"{text} on white",
                "Category": "Pair" if pair else "Single",
                "Challenge": challenge.get(split, "Never seen"),
                "Note": "",
                "id": f"p{i:04d}",
                "split": split if study.truth else "",
                "set": "study" if i < study.prompts * 2 // 3 else "rest",
            }
        )
    return result


def _drawing(prompt: dict[str, str], seed: int, right: int | str) -> bytes:
    """A crude 32x32 PNG of the prompt; blurred when it is not `right`."""
    from PIL import Image, ImageDraw, ImageFilter

    words = prompt["Prompt"].split()
    picture = Image.new("RGB", (32, 32), "white")
    draw = ImageDraw.Draw(picture)
    places = {
        "left": ((3, 12), (20, 12)),
        "right": ((20, 12), (3, 12)),
        "above": ((11, 3), (11, 20)),
    }
    relation = next((w for w in ("left", "right", "above") if w in words), "")
    spots = places.get(relation, ((11, 20), (11, 3)))
    found = [(words[i], words[i + 1]) for i in range(len(words) - 1) if words[i] in COLOURS]
    for (colour, shape), (x, y) in zip(found, spots, strict=False):
        box = (x, y + seed % 2, x + 9, y + 9 + seed % 2)
        if shape == "circle":
            draw.ellipse(box, fill=COLOURS[colour])
        elif shape == "square":
            draw.rectangle(box, fill=COLOURS[colour])
        else:
            draw.polygon([(x + 4, y), (x, y + 9), (x + 9, y + 9)], fill=COLOURS[colour])
    if right == 0:
        picture = picture.filter(ImageFilter.GaussianBlur(1.5))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _write_table(path: Path, table: list[dict[str, str]], columns: tuple[str, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(columns), *("\t".join(row[c] for c in columns) for row in table)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _write_training(
    root: Path, study: Study, variant: str, rng: np.random.Generator, end: str
) -> None:
    second, flops = (0.2, 16 * 10**8) if variant == "embed" else (0.135, 10**9)
    start = 0
    for step in study.steps:
        folder = root / "training" / f"{variant}-{step}{end}"
        folder.mkdir(parents=True)
        table = []
        for s in range(start + 1, step + 1):
            denoising = 0.1 + 0.1 * np.exp(-s / 200) + rng.normal(0, 0.01)
            clip = 0.6 - 0.2 * (1 - np.exp(-s / 300)) + rng.normal(0, 0.03)
            embed = variant == "embed"
            table.append(
                {
                    "step": s,
                    "loss": round(denoising + 0.05 * clip * embed, 6),
                    "denoising": round(denoising, 6),
                    "clip": round(clip, 6) if embed else "",
                    "guide_cosine": round(1 - clip, 6) if embed else "",
                    "grad_norm": round(0.5 + rng.random(), 4),
                    "learning_rate": 1e-4 * min(1, s / 50),
                    "pictures_per_second": round(16 / second, 2),
                }
            )
        rewrite(folder / "log.csv", table)
        summary = {
            "train_seconds": step * second,
            "cost": {"training": {"flops": step * flops}, "looks": {"flops": 0}},
            "steps": step,
            "variant": variant,
        }
        (folder / "summary.json").write_text(json.dumps(summary))
        start = step

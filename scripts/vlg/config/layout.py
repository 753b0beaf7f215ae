"""Every name and path of a study, made and parsed here and nowhere else.

`<model>` is `base`, `<variant>-<step>` or the name of a finished model or set of pictures; a
further training of a variant, by another seed than the first of `seeds.train`, ends in `-s<seed>`.
Functions take wildcards (`"{model}"`) as well as values, so rules and scripts share them. Nothing
heavy is imported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

NAME = r"[a-z][a-z0-9_]*"  # of a variant, arm, judge
BASE = "base"
MANIFEST = "manifest.json"
METADATA = "metadata.jsonl"

# Of Snakemake's wildcards.
WILDCARDS = {
    "model": rf"{NAME}(-[0-9]+(-s[0-9]+)?)?",
    "variant": NAME,
    "step": r"[0-9]+",
    "run": r"(-s[0-9]+)?",
    "arm": NAME,
    "judge": NAME,
    "reference": NAME,
    "table": NAME,
    "stage": r"selection|final",
    "shard": r"[0-9]+",
    "kind": r"base|guide|judge",
    "guide": rf"guide(_{NAME})?",
    "part": NAME,
    "pairs": r"[0-9a-f]{12}",
    "what": rf"base|guide|judge|dataset|prompts|(judge|guide|compare)_{NAME}",
}


class Model(NamedTuple):
    """What a model's name says. step: 0 for what is not trained here. seed: of a further training;
    None for the first one."""

    variant: str
    step: int = 0
    seed: int | None = None

    @property
    def name(self) -> str:
        """`base`, `embed-500` or `embed-500-s1`."""
        if not self.step:
            return self.variant
        further = "" if self.seed is None else f"-s{self.seed}"
        return f"{self.variant}-{self.step}{further}"


def parse_model(name: str) -> Model:
    """What the name of a model says; ValueError when it is none.

    >>> parse_model("embed-500-s1")
    Model(variant='embed', step=500, seed=1)
    """
    found = re.fullmatch(rf"({NAME})(?:-(\d+)(?:-s(\d+))?)?", name)
    if not found:
        raise ValueError(f"{name!r} is not a name or <variant>-<step>[-s<seed>]")
    variant, step, seed = found.groups()
    return Model(variant, int(step or 0), None if seed is None else int(seed))


def shards(number: int, size: int) -> range:
    """Numbers of the shards of `number` pictures, `size` in each but the last."""
    return range(-(-number // size))


def folder(path: str) -> str:
    """The folder of a file."""
    return str(PurePosixPath(path).parent)


def bundle(path: str) -> str:
    """All of the folder that a file is in, as one file beside it (`vlg.workflow.bundle`)."""
    return f"{folder(path)}.tar"


def record(log: str) -> str:
    """The copy of a job's log that other jobs may read."""
    return log.replace("/logs/", "/records/", 1)


@dataclass(frozen=True)
class Layout:
    """The paths of a study. Each names the file by which Snakemake knows the thing."""

    study: str

    @property
    def root(self) -> str:
        return f"results/{self.study}"

    def log(self, *parts: str) -> str:
        """A job's log, for example log("score", "images", "{model}-{stage}")."""
        return f"{self.root}/logs/{'/'.join(parts)}.log"

    # --- what a study is made from ---

    @property
    def prompts(self) -> str:
        return f"{self.root}/prompts.tsv"

    @property
    def hard_prompts(self) -> str:
        return f"{self.root}/hard_prompts.tsv"

    @property
    def development(self) -> str:
        return f"{self.root}/development.tsv"

    @property
    def dataset(self) -> str:
        return f"{self.root}/dataset/{MANIFEST}"

    @property
    def latents(self) -> str:
        return f"{self.root}/latents/{MANIFEST}"

    @property
    def embeddings(self) -> str:
        return f"{self.root}/embeddings/{MANIFEST}"

    def embeddings_of(self, guide: str) -> str:
        """What a guide says of the data, by its folder below models/."""
        return self.embeddings if guide == "guide" else f"{self.root}/embeddings_{guide}/{MANIFEST}"

    def pairs(self, pairs: str) -> str:
        """Own samples of the base; the name is a digest of how they are drawn."""
        return f"{self.root}/pairs/{pairs}/{MANIFEST}"

    def download(self, what: str) -> str:
        return f"{self.root}/downloads/{what}/{MANIFEST}"

    def benchmark(self, file: str = MANIFEST) -> str:
        """A file of the benchmark that the prompts are of."""
        return f"{self.root}/downloads/benchmark/{file}"

    def pretrained(self, part: str) -> str:
        return f"{self.root}/pretrained/{part}/{MANIFEST}"

    @property
    def pretrained_quality(self) -> str:
        return f"{self.root}/pretrained/quality.json"

    # --- models ---

    def model(self, model: str) -> str:
        """The manifest of a model's folder, guide and judge among them."""
        return f"{self.root}/models/{model}/{MANIFEST}"

    def card(self, model: str) -> str:
        return f"{self.root}/models/{model}/README.md"

    def training(self, model: str, file: str = MANIFEST) -> str:
        """A file of a model's training folder: its manifest, summary.json, log.csv."""
        return f"{self.root}/training/{model}/{file}"

    def samples(self, model: str) -> str:
        """What a checkpoint drew of the development prompts."""
        return self.training(model, f"samples/{METADATA}")

    # --- pictures and their scores ---

    def images(self, model: str, stage: str, shard: str | int) -> str:
        return f"{self.root}/images/{model}/{stage}/shard-{shard}/{METADATA}"

    def refined(self, model: str, number: str | int, arm: str, shard: str | int) -> str:
        """The pictures of round `number` of an arm."""
        return f"{self.root}/refined/{model}/round-{number}/{arm}/shard-{shard}/{METADATA}"

    def reference(self, reference: str) -> str:
        """Pictures to hold scores against."""
        return f"{self.root}/references/{reference}/{METADATA}"

    def image_scores(self, model: str, stage: str) -> str:
        return f"{self.root}/scores/images/{model}/{stage}.csv"

    def refined_scores(self, model: str, arm: str) -> str:
        return f"{self.root}/scores/refined/{model}/{arm}.csv"

    @property
    def reference_scores(self) -> str:
        return f"{self.root}/scores/references.csv"

    def sample_scores(self, model: str) -> str:
        return f"{self.root}/scores/samples/{model}.csv"

    def judge_scores(self, judge: str, model: str) -> str:
        return f"{self.root}/judges/{judge}/{model}.csv"

    @property
    def judges_selftest(self) -> str:
        return f"{self.root}/judges/selftest.csv"

    @property
    def diversity(self) -> str:
        return f"{self.root}/judges/diversity.csv"

    # --- what is reported ---

    def table(self, table: str, form: str) -> str:
        return f"{self.root}/tables/{table}.{form}"

    def figure(self, figure: str, form: str) -> str:
        return f"{self.root}/figures/{figure}.{form}"

    def page(self, table: str) -> str:
        return f"{self.root}/report/{table}.html"

    def sheet(self, name: str) -> str:
        return f"{self.root}/sheets/{name}.jpg"

    @property
    def gallery(self) -> str:
        return f"{self.root}/gallery/index.html"

    @property
    def votes(self) -> str:
        """People's votes, which the demo writes; no step does."""
        return f"{self.root}/votes.csv"

    @property
    def provenance(self) -> str:
        return f"{self.root}/provenance.json"

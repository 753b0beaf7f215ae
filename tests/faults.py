"""Faults: a finished study, part of it taken away, disturbed while it is made anew, and repaired.

Each fault works on a copy of the finished reduced study, of which the outputs of one stage and all
tables were deleted, so that what is disturbed takes seconds. `Fault.check` disturbs, types what the
documents say, and compares pictures, scores and tables with the undisturbed study byte for byte.
Measured seconds, which no two runs share, are those of the undisturbed study in both.
"""

from __future__ import annotations

import contextlib
import copy
import csv
import functools
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.pipeline import Checkout, Done
from vlg.files import HALF, read_json, sha256, write_json

RESULTS = Path("results/reduced")
VERIFY = [sys.executable, "scripts/verify.py", "--study", RESULTS]
# What is deleted of a stage, and the files by which it is asked for again.
STAGES = {
    "prompts": ["prompts.tsv"],
    "dataset": ["dataset/manifest.json"],
    "model": ["models/guide/manifest.json"],
    "encode": ["latents/manifest.json"],
    "finetune": ["models/embed-4/manifest.json", "training/embed-4/manifest.json"],
    "generate": ["images/embed-4/final/shard-1/metadata.jsonl"],
    "refine": [f"refined/base/round-{r}/best_of_n/shard-0/metadata.jsonl" for r in (1, 2)],
    "score": ["scores/images/embed-4/final.csv"],
    "tables": ["tables/finetune.csv"],
}
LIGHT = ("prompts", "dataset", "model", "tables")  # stages of a second or two
SPARE = {"generate": 16, "score": 4, "finetune": 12_000}  # kB of a disk that is too small for it
KILLS = {  # what is hit, and by which signal
    "kill run": ("run", signal.SIGKILL),
    "kill all": ("all", signal.SIGKILL),
    "kill job": ("job", signal.SIGKILL),
    "end run": ("run", signal.SIGTERM),
    "end all": ("all", signal.SIGTERM),
    "end job": ("job", signal.SIGTERM),
    "power cut": ("all", signal.SIGKILL),
}
# What is damaged in a finished study.
FINISHED = {
    "picture": "images/embed-4/final/shard-0/*.png",
    "refined picture": "refined/base/round-1/refine/shard-0/*.png",
    "metadata": "images/base/selection/shard-1/metadata.jsonl",
    "score": "scores/images/base/selection.csv",
    "prompts": "prompts.tsv",
    "hard prompts": "hard_prompts.tsv",
    "table": "tables/claims.csv",
    "page": "gallery/index.html",
    "figure": "figures/finetune.svg",
    "data": "dataset/0000*.png",
    "latents": "latents/*.safetensors",
    "base weights": "models/base/vae/diffusion_pytorch_model.safetensors",
    "weights": "models/embed-4/unet/diffusion_pytorch_model.safetensors",
    "judge": "models/judge/model.safetensors",
    "manifest": "models/guide/manifest.json",
    "state": "training/normal-4/state/exp_avg.safetensors",
    "checksum": "scores/images/base/final.csv.sha256",
    "provenance": "provenance.json",
}


@dataclass(frozen=True)
class Fault:
    """kind: a key of KILLS, "full disk", "read-only", "no records", or "flip", "cut", "lose" with
    a key of FINISHED as the stage. seed: of the moment or the place."""

    kind: str
    stage: str
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.kind}, {self.stage}, {self.seed}".replace(" ", "_")

    def check(self, clean: Checkout, folder: Path) -> list[str]:
        """Disturb a copy of the study in `folder`, repair it, compare it; what was typed for it
        beyond running the study again."""
        study = twin(clean, folder / "study")
        rng = random.Random(str(self))
        typed: list[str] = []
        if self.kind in ("flip", "cut", "lose"):
            place = rng.choice(sorted((study.root / RESULTS).glob(FINISHED[self.stage])))
            damage(place, self.kind, rng)
            typed = repaired(study, place)
        else:
            targets = take_away(study, self.stage)
            if self.kind in KILLS:
                kill(study, targets, self, rng)
            elif self.kind == "no records":
                kill(study, targets, Fault("kill all", self.stage), rng)
                shutil.rmtree(study.root / ".snakemake")
            else:
                told = out_of_order(study, targets, self)
                typed = ["free space" if self.kind == "full disk" else "make it writable"]
                said = (
                    "no space left; free" if self.kind == "full disk" else "cannot be written; make"
                )
                assert said in told and "Traceback" not in told, told
            # Alone first: in one run, all that depends on it would count as changed.
            done = study.snakemake(*targets)
            assert done.code == 0, done.output
        done = study.snakemake("tables")
        assert done.code == 0, done.output
        compare(study, clean)
        whole = study.run(*VERIFY)
        assert whole.code == 0, whole.output
        return typed


def twin(clean: Checkout, root: Path) -> Checkout:
    """A copy of a checkout with its results."""
    root.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", clean.root, root], check=True)
    other = copy.copy(clean)
    other.root = root
    return other


def take_away(study: Checkout, stage: str) -> list[str]:
    """Delete the outputs of a stage and, if they hold its seconds, the tables; what to ask for."""
    marks = [RESULTS / name for name in STAGES[stage]]
    for place in (study.root / mark for mark in marks):
        whole = place.name in ("manifest.json", "metadata.jsonl")
        shutil.rmtree(place.parent) if whole else place.unlink()
    if stage not in ("prompts", "dataset", "model", "encode"):
        shutil.rmtree(study.root / RESULTS / "tables", ignore_errors=True)
    return [str(mark) for mark in marks]


def snakemake(targets: list[str]) -> list[str]:
    line = [sys.executable, "-m", "snakemake", *targets, "--cores", "2"]
    return [*line, "--configfile", "tests/reduced.yaml"]


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {
        **os.environ,
        "PATH": path,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": "",
    }


def kill(study: Checkout, targets: list[str], fault: Fault, rng: random.Random) -> None:
    """Start the run and hit it, or a job of it, at a random moment while the stage's job runs."""
    whom, number = KILLS[fault.kind]
    script = f"scripts/{'table' if fault.stage == 'tables' else fault.stage}.py"
    with open(study.root / "disturbed.log", "w") as log:
        run = subprocess.Popen(
            snakemake(targets),
            cwd=study.root,
            env=environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        began = time.time()
        jobs: list[int] = []
        while run.poll() is None and not jobs:
            time.sleep(0.05)
            jobs = processes(study.root, script)
        # Importing torch takes most of a job's seconds: the moments are drawn from all of them.
        wait = rng.uniform(0, 1.5 if fault.stage in LIGHT else 6)
        if whom == "job":
            wait = min(wait, 4)
        until = time.time() + wait
        while run.poll() is None and time.time() < until:
            time.sleep(0.02)
        if whom == "job":
            for job in processes(study.root, script):
                send(job, number)
        elif run.poll() is None:
            (os.killpg if whom == "all" else os.kill)(run.pid, number)
        if fault.kind == "power cut":
            cut_what_was_not_flushed(study.root / RESULTS, began, rng)
        run.wait()


def processes(root: Path, part: str) -> list[int]:
    """Processes that work in `root` with `part` on their command line."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            line = (place / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if os.path.realpath(place / "cwd") == str(root.resolve()) and part in line:
                found.append(int(place.name))
        except OSError:
            continue
    return found


def send(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def cut_what_was_not_flushed(results: Path, since: float, rng: random.Random) -> None:
    """Cut short what a power cut may: files of which nothing has waited to be on the disk.

    Pictures are flushed before their metadata is written, the rest before it gets its name.
    """
    for path in results.rglob("*"):
        if not path.is_file() or path.stat().st_mtime < since or path.suffix == ".sha256":
            continue
        half = any(part.startswith(HALF) for part in path.relative_to(results).parts)
        loose = path.suffix == ".png" and not (path.parent / "metadata.jsonl").exists()
        if half or loose or path.suffix == ".log":
            os.truncate(path, rng.randrange(path.stat().st_size + 1))


def damage(path: Path, kind: str, rng: random.Random) -> None:
    """Flip a bit of a file, cut it short or lose it."""
    if kind == "lose":
        path.unlink()
    elif kind == "cut":
        os.truncate(path, rng.randrange(path.stat().st_size))
    else:
        data = bytearray(path.read_bytes())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        # In place: hard links share the damage, as they do on a failing disk.
        with open(path, "r+b") as file:
            file.write(data)


def repaired(study: Checkout, damaged: Path) -> list[str]:
    """Type what `make verify` says until it finds nothing; what was typed."""
    told = study.run(*VERIFY)
    name = damaged.relative_to(study.root).as_posix()
    assert told.code == 1 and name.removesuffix(".sha256") in told.output, told.output
    typed = []
    for _ in range(2):
        done = study.run(*VERIFY, "--repair")
        typed.append("make verify ARGS=--repair")
        line = re.search(r"^To repair all: (.*?)(; then verify again)?$", done.output, re.MULTILINE)
        for command in line[1].split(" && ") if line else []:
            targets = [w.removeprefix("ARGS=") for w in shlex.split(command) if "ARGS=" in w]
            ran = study.snakemake(*(shlex.split(targets[0]) if targets else ["all"]))
            assert ran.code == 0, ran.output
        again = study.run(*VERIFY)
        if again.code == 0:
            return typed
    raise AssertionError(again.output)


def out_of_order(study: Checkout, targets: list[str], fault: Fault) -> str:
    """Run on a disk that fills up, or with a folder that cannot be written; what the user is told.

    The results end up where they were, as the failed run left them.
    """
    results = study.root / "results"
    line = shlex.join(snakemake(targets))
    if fault.kind == "full disk":
        used = int(subprocess.check_output(["du", "-sk", results]).split()[0])
        program = (
            f"mv results saved && mkdir results && "
            f"mount -t tmpfs -o size={used + 20_000}k none results && cp -a saved/. results/ && "
            f"spare=$(df --output=avail -k results | tail -1) && "
            f"head -c $((spare - {SPARE[fault.stage]}))k /dev/zero > results/filler && "
            f"{line}; code=$?; rm -rf saved results/filler && mkdir saved && "
            "cp -a results/. saved/ && umount results && rmdir results && mv saved results; "
            "exit $code"
        )
    else:
        place = shlex.quote(str(RESULTS / Path(STAGES[fault.stage][0]).parent))
        program = (
            f"mkdir -p {place} && mount --bind {place} {place} && "
            f"mount -o remount,ro,bind {place} && {line}; exit $?"
        )
    done = study.run("unshare", "--map-root-user", "--mount", "sh", "-c", program)
    assert done.code != 0, done.output
    return done.output


def can_mount() -> bool:
    """Whether this system lets us mount something in a name space of our own."""
    words = ["unshare", "--map-root-user", "--mount", "true"]
    return bool(shutil.which("unshare")) and subprocess.run(words).returncode == 0


# --- comparing ----------------------------------------------------------------------------------


def compare(study: Checkout, clean: Checkout) -> None:
    """Pictures, scores and tables are those of the undisturbed study."""
    ours, theirs = study.root / RESULTS, clean.root / RESULTS
    for part in ("images", "refined"):
        assert checksums(ours / part, "*.png") == checksums(theirs / part, "*.png")
    assert without_seconds(ours) == without_seconds(theirs)
    tables = made_tables(study, clean) if timed(ours) != timed(theirs) else contents(ours)
    assert tables == contents(theirs)


def timed(results: Path) -> list[str]:
    """Checksums of the files that hold measured seconds of which tables are made."""
    return [
        sha256(path)
        for pattern in ("scores/**/*.csv", "training/*/summary.json")
        for path in sorted(results.glob(pattern))
    ]


def contents(results: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (results / "tables").glob("*.*")}


def checksums(folder: Path, pattern: str) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256(p) for p in folder.rglob(pattern)}


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def without_seconds(results: Path) -> dict[str, list]:
    """Every score file but for what it took."""
    return {
        str(path.relative_to(results)): [{**row, "seconds": ""} for row in rows(path)]
        for path in sorted((results / "scores").rglob("*.csv"))
    }


@functools.cache
def table_commands(root: Path) -> list[tuple[str, ...]]:
    """The words of the commands that make the tables."""
    words = ["--dry-run", "--printshellcmds", "--forcerun", "table"]
    done = subprocess.run(
        snakemake(["tables", *words]), cwd=root, env=environment(), capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    lines = re.findall(r"^.*?(python .*table\.py .*)$", said, re.MULTILINE)
    assert lines, said
    return [tuple(shlex.split(line)) for line in dict.fromkeys(lines)]


def made_tables(study: Checkout, clean: Checkout) -> dict[str, bytes]:
    """The tables of the study's own scores, with the measured seconds of the undisturbed one."""
    timed = study.root / "timed"
    for words in table_commands(clean.root):
        done: Done = study.run(*with_seconds_of(list(words), study, clean, timed))
        assert done.code == 0, done.output
    return {path.name: path.read_bytes() for path in (timed / "tables").glob("*.*")}


def with_seconds_of(words: list[str], study: Checkout, clean: Checkout, timed: Path) -> list[str]:
    """A table's command over copies of its inputs, below `timed`, with the seconds of `clean`."""
    for number, word in enumerate(words):
        ours, theirs = study.root / word, clean.root / word
        target = timed / word
        if word.endswith(".csv"):
            target.parent.mkdir(parents=True, exist_ok=True)
            known = {row["picture"]: row["seconds"] for row in rows(theirs)}
            table = [{**row, "seconds": known[row["picture"]]} for row in rows(ours)]
            with open(target, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(table)
        elif word.endswith("summary.json"):
            taken = {"train_seconds": read_json(theirs)["train_seconds"]}
            write_json(target, {**read_json(ours), **taken})
        else:
            continue
        words[number] = str(target.relative_to(study.root))
    words[words.index("--out") + 1] = "timed/tables"
    words[words.index("--page") + 1] = "timed/page.html"
    words[words.index("--log") + 1] = "timed/log"
    return words

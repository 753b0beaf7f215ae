"""How long the whole study takes, and how much of that is start-up.

Runs one after the other: the study as configured; the study again, which does nothing; its tables
from cached scores; the same DAG, job for job, with next to nothing to compute (two steps, two
prompts), which is what start-up, scheduling and files cost; and that with each job importing its
packages itself (VLG_WARM=0). Prints a Markdown table: seconds by the clock,
and of processor time with all processes that a run starts.

    .venv/bin/python bench/study.py --cores 2
"""

import argparse
import contextlib
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
# As many jobs as the default study has, each with as little to compute as it can have.
EMPTY = {
    "prompts": {"study": 2},
    "dataset": {"size": 8},
    "finetune": {"steps": [1, 2, 3], "batch_size": 1, "warmup_steps": 1},
    "generate": {"steps": 2},  # of which refinement takes the half
    "refine": {"rounds": 1},
    "hard": {"count": 1},
    "statistics": {"draws": 10},
    "gallery": {"prompts": 1},
}


def processor() -> float:
    """Seconds of processor time of all that this process started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(folder: str, cores: str, *arguments: str, **variables: str) -> tuple[float, float, str]:
    """Seconds by the clock, of processor time, and output of one Snakemake run in `folder`."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--configfile", str(ROOT / "config.yaml")]
    command += ["--cores", cores, "--directory", folder, *arguments]
    before, started = processor(), time.monotonic()
    done = subprocess.run(
        command,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    seconds = time.monotonic() - started
    with contextlib.suppress(ChildProcessError):  # what outlives the run for a moment
        while True:
            os.wait()
    if done.returncode:
        sys.exit(done.stdout)
    return seconds, processor() - before, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cores", default="2")
    cores = parser.parse_args().cores
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphans are waited for here
    changes = [f"{key}={json.dumps(value)}" for key, value in EMPTY.items()]
    folders = [tempfile.TemporaryDirectory() for _ in range(3)]
    with folders[0] as whole, folders[1] as warm, folders[2] as cold:
        study = run(whole, cores)
        again = run(whole, cores)
        tables = run(whole, cores, "tables", "--forcerun", "table")
        shared = run(warm, cores, "--config", *changes)
        alone = run(cold, cores, "--config", *changes, VLG_WARM="0")
    counts = [output.count("Finished jobid") for *_, output in (study, shared, alone)]
    if len(set(counts)) > 1 or "Nothing to be done" not in again[2]:
        sys.exit(f"not comparable: {counts} jobs")
    print("| what | seconds | processor time, s | of the study's |\n|---|---:|---:|---:|")
    for name, (seconds, used, _) in {
        f"the study, {counts[0]} jobs on {cores} cores": study,
        "the same jobs with next to nothing to compute": shared,
        "those, each importing its packages itself": alone,
        "a second run, which does nothing": again,
        "the tables again from cached scores": tables,
    }.items():
        print(f"| {name} | {seconds:.1f} | {used:.1f} | {used / study[1]:.0%} |")


if __name__ == "__main__":
    main()

"""How long the whole study takes, and how much of that is start-up.

Runs three things one after the other, each in a folder of its own: the study as configured; the
same DAG, job for job, with next to nothing to compute (one step, two prompts), which is what
start-up, scheduling and files cost; and the study again, which does nothing. Prints a Markdown
table.

    .venv/bin/python bench/study.py --cores 2
"""

import argparse
import json
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
    "generate": {"steps": 1},
    "refine": {"rounds": 1},
    "hard": {"count": 1},
    "statistics": {"draws": 10},
    "gallery": {"prompts": 1},
}


def run(folder: str, cores: str, *arguments: str) -> tuple[float, str]:
    """Seconds and output of one Snakemake run in `folder`."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--cores", cores, "--directory", folder, *arguments]
    started = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seconds = time.monotonic() - started
    if done.returncode:
        sys.exit(done.stdout)
    return seconds, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cores", default="2")
    cores = parser.parse_args().cores
    changes = [f"{key}={json.dumps(value)}" for key, value in EMPTY.items()]
    with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as empty:
        study, output = run(whole, cores)
        again, nothing = run(whole, cores)
        tables, _ = run(whole, cores, "tables", "--forcerun", "table")
        start_up, other = run(empty, cores, "--config", *changes)
    jobs, others = (text.count("Finished jobid") for text in (output, other))
    if jobs != others or "Nothing to be done" not in nothing:
        sys.exit(f"not comparable: {jobs} and {others} jobs")
    print("| what | seconds |\n|---|---:|")
    print(f"| the study, {jobs} jobs on {cores} cores | {study:.0f} |")
    print(f"| the same jobs with next to nothing to compute | {start_up:.0f} |")
    print(f"| share of the study that is not start-up | {1 - start_up / study:.0%} |")
    print(f"| a second run, which does nothing | {again:.1f} |")
    print(f"| the tables again from cached scores | {tables:.1f} |")


if __name__ == "__main__":
    main()

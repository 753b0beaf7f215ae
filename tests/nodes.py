"""Machines that share no disk, as a cluster of this one: each job gets an empty folder of its own.

    python nodes.py FOLDER JOBSCRIPT

Starts a job's script in FOLDER/<number>, prints the number, and does not wait: what a scheduler's
submit command does.
"""

import subprocess
import sys
import tempfile
from pathlib import Path


def main(folder, script):
    Path(folder).mkdir(parents=True, exist_ok=True)
    node = Path(tempfile.mkdtemp(dir=folder))
    with open(node.with_suffix(".log"), "w") as said:
        subprocess.Popen(
            ["sh", script],
            cwd=node,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    print(node.name)


if __name__ == "__main__":
    main(*sys.argv[1:])

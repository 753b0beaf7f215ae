"""Machines that share no disk, as a cluster of this one: each job gets an empty folder of its own.

    python nodes.py submit FOLDER JOBSCRIPT
    python nodes.py status FOLDER JOB

The first starts a job's script in FOLDER/<job>, prints <job> and does not wait; the second prints
running, success or failed. They are what a scheduler's commands do.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ENDED = ".ended"  # beside a job's folder: its exit status
RUN = 'sh "$1"; echo $? > "$2.new"; mv "$2.new" "$2"'


def submit(folder, script):
    folder.mkdir(parents=True, exist_ok=True)
    node = Path(tempfile.mkdtemp(dir=folder, prefix="node-"))
    with open(node.with_suffix(".log"), "w") as said:
        subprocess.Popen(
            ["sh", "-c", RUN, "node", script, str(node.with_suffix(ENDED))],
            cwd=node,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    return node.name


def status(folder, job):
    ended = (folder / job).with_suffix(ENDED)
    if not ended.exists():
        return "running"
    return "success" if ended.read_text().strip() == "0" else "failed"


if __name__ == "__main__":
    what, where, other = sys.argv[1:]
    print({"submit": submit, "status": status}[what](Path(where), other))

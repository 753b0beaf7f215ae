"""What is tried again when it fails, and what is not."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reduced import edited
from vlg.workflow import retries

SCRIPTS = Path(__file__).parents[1] / "scripts"
DATA = "results/refused/dataset/manifest.json"


class Log(str):
    """A job's log as Snakemake knows it, on this disk."""

    is_storage = False


@pytest.mark.parametrize(
    ("error", "final"),
    [
        ("UserError('a.png: broken; mend it')", True),
        ("UserError('embed-4: stopped by SIGTERM after step 3; run it again')", False),
        ("UserError('out of memory in drawing one at a time (CUDA); free some')", False),
        ("OSError(28, 'No space left on device')", False),
        ("ValueError('a defect of ours')", False),
    ],
)
def test_only_what_the_user_must_mend_is_final(tmp_path, error, final):
    program = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\n"
        "from vlg.errors import UserError\nfrom vlg.workflow import cli\n"
        f"def main(args):\n    raise {error}\ncli.run(main, cli.parser(''))"
    )
    log = tmp_path / "log"
    done = subprocess.run([sys.executable, "-c", program, "--log", log], capture_output=True)
    assert done.returncode
    assert retries.refused(None, Log(log), 0.0) == final
    assert not retries.refused(None, Log(log), log.stat().st_mtime + 1), "of an earlier run"


def test_no_log_is_no_refusal(tmp_path):
    assert not retries.refused(None, Log(tmp_path / "none"), 0.0)


def tries(done):
    """How often the job of the data set was started."""
    return len(re.findall(r"^(?:local)?rule dataset:", done.output, re.MULTILINE))


def test_a_mistake_is_told_once(checkout):
    """Under a profile with retries, as those of clusters."""
    pictures = checkout.root / "broken"
    pictures.mkdir(exist_ok=True)
    (pictures / "a.png").write_bytes(b"no picture")
    (pictures / "a.txt").write_text("a red circle")
    done = checkout.snakemake(DATA, "--retries", 2, study="refused", dataset="{source: broken}")
    done.refused("broken")
    assert tries(done) == 1, done.output


def test_what_was_killed_is_tried_again(checkout):
    killed = ("def main(args):", "def main(args):\n    raise SystemExit(137)")
    with edited(checkout.root / "scripts/dataset.py", killed):
        done = checkout.snakemake(DATA, "--retries", 1, study="refused")
    assert done.code and tries(done) == 2, done.output

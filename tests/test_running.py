"""A run that was killed leaves neither a lock in the way nor jobs that work for nobody."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlg.workflow import warm

SCRIPTS = Path(__file__).parents[1] / "scripts"
HOLD = (
    "import sys, time; from pathlib import Path; from vlg.workflow import running; "
    "running.hold(Path())"
)
WAIT = "; print('ready', flush=True); time.sleep(60)"
linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it has no /proc")


def python(program, folder, **options):
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.fixture
def locked(tmp_path):
    """A working folder that a killed run has locked."""
    run = python(HOLD + WAIT, tmp_path)
    assert run.stdout.readline() == "ready\n"
    lock = tmp_path / ".snakemake/locks/0.input.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("a\n")
    yield tmp_path, run, lock
    run.kill()
    run.communicate()


def test_a_lock_goes_once_its_run_is_dead_and_not_before(locked):
    folder, run, lock = locked
    python(HOLD, folder).communicate()
    assert lock.exists(), "its run is alive"
    run.kill()
    run.wait()
    python(HOLD, folder).communicate()
    assert not lock.exists()


def test_a_lock_of_another_host_stays(locked):
    """Whether that run is alive cannot be seen from here."""
    folder, run, lock = locked
    assert (folder / ".snakemake/run").read_text() == socket.gethostname()
    (folder / ".snakemake/run").write_text("another")
    run.kill()
    run.wait()
    python(HOLD, folder).communicate()
    assert lock.exists()


def test_a_lock_of_a_run_that_was_not_seen_stays(tmp_path):
    lock = tmp_path / ".snakemake/locks/0.input.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("a\n")
    python(HOLD, tmp_path).communicate()
    assert lock.exists()


def test_a_reader_leaves_the_run_alone(locked):
    """A dry run beside a run: the next run must still see that the first one is alive."""
    folder, _, lock = locked
    reader = python(HOLD + WAIT, folder)
    assert reader.stdout.readline() == "ready\n"
    reader.kill()
    reader.communicate()
    python(HOLD, folder).communicate()
    assert lock.exists()


@linux
def test_a_job_ends_after_its_run(tmp_path):
    job = "import time; from vlg.workflow import running; running.watch(); time.sleep(60)"
    run = python(
        "import subprocess, sys, time; from vlg.workflow import running; running.announce(); "
        f"job = subprocess.Popen([sys.executable, '-c', {job!r}]); print(job.pid, flush=True); "
        "time.sleep(60)",
        tmp_path,
    )
    number = int(run.stdout.readline())
    time.sleep(1)
    assert warm.started(number), "it works as long as its run"
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=30)  # its standard output closes when the job ends, too
    # A process that ends closes its files first: for a moment it is still there.
    until = time.time() + 30
    while warm.started(number) and time.time() < until:
        time.sleep(0.05)
    assert not warm.started(number)


@linux
@pytest.mark.parametrize("run", ["", "elsewhere 1 5", f"{socket.gethostname()} 999999999 5"])
def test_a_job_that_sees_no_run_goes_on(tmp_path, run):
    program = "import time; from vlg.workflow import running; running.watch(); time.sleep(1.5)"
    job = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(SCRIPTS), "VLG_RUN": run},
    )
    assert job.returncode == 0

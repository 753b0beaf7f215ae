"""Jobs that share a machine's GPUs: each takes its own, and a killed one gives it back."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vlg.workflow import slots

SCRIPTS = Path(__file__).parents[1] / "scripts"
# Takes argv[1] GPUs, says which, and keeps them until its input ends.
JOB = """
import sys
sys.path.insert(0, {scripts!r})
from vlg.workflow import slots
print(",".join(slots.take(int(sys.argv[1]), seconds=0.02)), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start(tmp_path):
    """Start a job on a machine whose GPUs are `visible`; kill what is left at the end."""
    jobs = []

    def start(count, visible):
        environment = {**os.environ, "VLG_SLOTS": str(tmp_path), slots.VISIBLE: visible}
        program = JOB.format(scripts=str(SCRIPTS))
        job = subprocess.Popen(
            [sys.executable, "-c", program, str(count)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        jobs.append(job)
        return job

    yield start
    for job in jobs:
        job.kill()
        job.wait()


def took(job):
    return job.stdout.readline().strip().split(",")


def test_each_job_has_a_gpu_of_its_own(start):
    taken = [took(start(1, "2,5,7")) for _ in range(3)]
    assert sorted(sum(taken, [])) == ["2", "5", "7"]


def test_a_job_may_have_several(start):
    first, second = took(start(2, "0,1,2,3")), took(start(2, "0,1,2,3"))
    assert len(first) == len(second) == 2 and set(first) | set(second) == set("0123")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None])
def test_a_gpu_is_free_again_when_its_job_ends(start, how):
    first, second = start(1, "0,1"), start(1, "0,1")
    used = took(first)
    assert set(used) | set(took(second)) == {"0", "1"}
    waiting = start(1, "0,1")
    if how:
        first.send_signal(how)
    else:
        first.stdin.close()
    first.wait(20)
    assert took(waiting) == used, "it waited for the one that ended"


def test_a_waiting_job_holds_nothing_that_it_cannot_use(start):
    """One of two is not enough: who waits for both must not keep the other from working."""
    one = start(1, "0,1,2")
    took(one)
    start(3, "0,1,2")  # as many as there are: nothing to choose
    two = start(2, "0,1,2")
    assert len(took(two)) == 2
    waiting = start(2, "0,1,2")
    one.kill()
    two.kill()
    assert len(took(waiting)) == 2


def test_where_the_cluster_has_chosen_nothing_is_locked(start, tmp_path):
    """Two jobs may both see a GPU named 0 that is another one for each."""
    assert took(start(1, "0")) == took(start(1, "0")) == ["0"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "seen"),
    [("2,5", ["2", "5"]), ("", []), ("-1", []), ("0,-1", ["0"]), ("GPU-8, MIG", ["GPU-8", "MIG"])],
)  # fmt: skip
def test_a_value_that_is_set_is_heeded(given, seen):
    assert slots.here({slots.VISIBLE: given}) == seen


def test_gpus_are_counted_without_a_library(tmp_path):
    assert slots.here({}, tmp_path / "none") == []
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    assert slots.here({}, tmp_path) == ["0", "1"]


def test_the_config_says_how_many_a_job_wants(monkeypatch):
    from vlg.config import plan

    def wanted(device, gpus=None):
        return plan.gpus({"device": device, "resources": {"gpus": gpus}})

    for seen, auto in (([], 0), (["0"], 1)):
        monkeypatch.setattr(slots, "here", lambda seen=seen: seen)
        assert [wanted(device) for device in ("cpu", "auto", "cuda")] == [0, auto, 1]
        assert [wanted(device, 1) for device in ("cpu", "auto", "cuda")] == [1, 1, 1]

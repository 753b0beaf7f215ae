"""Jobs as forks of a process that has the large packages: as if each had been started anew."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.pipeline import ROOT
from vlg.workflow import warm

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the server is for Linux alone")
WARM = [sys.executable, "-S", ROOT / "scripts/vlg/workflow/warm.py", "tables"]
TELL = """
import json, os, sys
print(json.dumps({
    "words": sys.argv, "folder": os.getcwd(), "mine": os.environ.get("MINE"), "path": sys.path[0],
    "warm": "pandas" in sys.modules, "name": __name__, "input": sys.stdin.read(),
}))
print("error: told", file=sys.stderr)
sys.exit(3)
"""
WAIT = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def run():
    """A run on this host, and the environment that its jobs get."""
    with subprocess.Popen(["sleep", "600"]) as process:
        began = warm.started(process.pid)
        mark = f"{socket.gethostname()} {process.pid} {began}"
        yield process, {**os.environ, warm.RUN: mark}
        process.kill()


def script(folder, text):
    path = folder / "it's a script.py"
    path.write_text(text)
    return path


def until(true):
    for _ in range(200):
        if true():
            return True
        time.sleep(0.05)
    return False


def alive(process):
    return warm.started(process) != ""


def servers(mark):
    """The servers of a run."""
    address = f"vlg-{mark.split()[1]}-"
    found = []
    for place in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            words = Path(f"/proc/{place}/cmdline").read_text().split("\0")
        except OSError:
            continue
        if "--serve" in words and any(word.startswith(address) for word in words) and alive(place):
            found.append(place)
    return [place for place in found if parent(place) not in found]  # a job is a fork of one


def parent(process):
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_job_is_what_it_would_be_alone(tmp_path, run):
    path = script(tmp_path, TELL)
    environment = {**run[1], "MINE": "a\nb"}
    told = []
    for off in ("0", "1"):
        done = subprocess.run(
            [*WARM, path, "one", "", "*"],
            cwd=tmp_path,
            env={**environment, warm.OFF: off},
            input="read",
            capture_output=True,
            text=True,
        )
        assert done.returncode == 3 and "error: told" in done.stderr
        told.append(eval(done.stdout.replace("true", "True").replace("false", "False")))
    assert [each.pop("warm") for each in told] == [False, True]
    assert told[0] == told[1] and told[1]["words"][1:] == ["one", "", "*"]


def test_an_edit_counts_for_the_next_job(tmp_path, run):
    for word in ("before", "after"):
        (tmp_path / "part.py").write_text(f"WORD = {word!r}")
        path = script(tmp_path, "import part; print(part.WORD)")
        assert subprocess.check_output([*WARM, path], env=run[1], text=True).strip() == word
    assert len(servers(run[1][warm.RUN])) == 1


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 7), (signal.SIGINT, -2), (signal.SIGKILL, -9)]
)
def test_a_signal_reaches_the_job(tmp_path, run, number, code):
    with subprocess.Popen(
        [*WARM, script(tmp_path, WAIT)],
        env=run[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell starts what shall run in the background deaf to it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as started:
        job = int(started.stdout.readline())
        assert job != started.pid
        started.send_signal(number)
        ended = started.wait(20)
    assert ended == (130 if number == signal.SIGINT and ended > 0 else code)
    assert until(lambda: not alive(job))


def test_a_job_that_dies_by_a_signal_is_seen_to(tmp_path, run):
    path = script(tmp_path, "import os; os.kill(os.getpid(), 11)")
    assert subprocess.run([*WARM, path], env=run[1]).returncode == -11


def test_server_and_jobs_end_with_the_run(tmp_path, run):
    process, environment = run
    with subprocess.Popen(
        [*WARM, script(tmp_path, WAIT)], env=environment, stdout=subprocess.PIPE
    ) as started:
        job = int(started.stdout.readline())
        assert len(servers(environment[warm.RUN])) == 1
        process.kill()
        process.wait()
        assert started.wait(20) == 7
    assert until(lambda: not servers(environment[warm.RUN]))
    assert not alive(job)


def test_a_job_whose_server_dies_is_told_to_stop(tmp_path, run):
    with subprocess.Popen(
        [*WARM, script(tmp_path, WAIT)], env=run[1], stdout=subprocess.PIPE
    ) as started:
        job = int(started.stdout.readline())
        (server,) = servers(run[1][warm.RUN])
        os.kill(server, signal.SIGKILL)
        assert started.wait(20) == 1
    assert not alive(job)


def test_no_job_is_a_fork_of_a_process_that_has_used_cuda(tmp_path, run):
    """Which could not use it; the script starts as it is."""
    import _ctypes

    library = tmp_path / "libcuda.so.1"
    library.write_bytes(Path(_ctypes.__file__).read_bytes())
    (tmp_path / "tabulate.py").write_text(f"import ctypes; ctypes.CDLL({str(library)!r})")
    path = script(tmp_path, "import sys; print('pandas' in sys.modules)")
    environment = {**run[1], "PYTHONPATH": str(tmp_path)}
    for _ in range(2):
        assert subprocess.check_output([*WARM, path], env=environment, text=True) == "False\n"
    assert len(servers(run[1][warm.RUN])) == 1


def test_jobs_of_other_environments_share_no_server(tmp_path, run):
    path = script(tmp_path, "import os; print(os.environ['HF_HOME'])")
    for home in ("one", "two"):
        environment = {**run[1], "HF_HOME": home}
        assert subprocess.check_output([*WARM, path], env=environment, text=True).strip() == home
    assert len(servers(run[1][warm.RUN])) == 2


@pytest.mark.parametrize("mark", ["", "elsewhere 1 1", "nonsense"])
def test_without_a_run_the_script_starts_as_it_is(tmp_path, mark):
    path = script(tmp_path, "import sys; print('pandas' in sys.modules)")
    environment = {**os.environ, warm.RUN: mark}
    assert subprocess.check_output([*WARM, path], env=environment, text=True).strip() == "False"


def test_a_job_that_its_run_did_not_live_to_see_is_not_started(tmp_path, run):
    """It would work beside the same job of the next run."""
    process, environment = run
    path = script(tmp_path, f"open({str(tmp_path / 'made')!r}, 'w')")
    with subprocess.Popen([*WARM, path], env=environment, stderr=subprocess.PIPE) as started:
        assert until(lambda: servers(environment[warm.RUN]))
        process.kill()  # while the server imports
        process.wait()
        _, said = started.communicate(timeout=60)
    assert started.returncode and b"the run that started this job is gone" in said
    assert not (tmp_path / "made").exists()


def test_what_is_said_to_no_server_is_no_job(tmp_path, run):
    """A server that is asked nonsense goes on."""
    path = script(tmp_path, "print('done')")
    assert subprocess.check_output([*WARM, path], env=run[1], text=True).strip() == "done"
    (server,) = servers(run[1][warm.RUN])
    words = Path(f"/proc/{server}/cmdline").read_text().split("\0")
    address = words[words.index("--serve") + 1]
    for message in (b"", b"\0" * 8, b"\5" + b"\0" * 7 + b"{", b"x"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(f"\0{address}")
            connection.sendall(message)
    assert subprocess.check_output([*WARM, path], env=run[1], text=True).strip() == "done"
    assert servers(run[1][warm.RUN]) == [server]

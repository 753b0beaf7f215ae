"""What every command line shares."""

import json
import re
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from vlg.workflow import cli, processes

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.mark.parametrize(("system", "unit"), [("linux", 1), ("darwin", 1024)])
def test_memory_is_the_same_wherever_it_is_read(monkeypatch, system, unit):
    """The system's number is in kB on Linux and in bytes on macOS."""
    most = {resource.RUSAGE_SELF: 3 * 2**20, resource.RUSAGE_CHILDREN: 5 * 2**20}  # kB
    usage = lambda who: SimpleNamespace(ru_maxrss=most[who] * unit)  # noqa: E731
    monkeypatch.setattr(processes.sys, "platform", system)
    monkeypatch.setattr(processes.resource, "getrusage", usage)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert processes.memory_mb() == 3 * 2**10
    assert cli.peak_memory() == "3.0 GB"
    assert cli.cost(1.25)["memory_mb"] == 5 * 2**10


def test_a_job_logs_what_it_cost(tmp_path):
    program = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); from vlg.workflow import cli; "
        "cli.run(lambda args: bytearray(2**26), cli.parser(''))"
    )
    log = tmp_path / "log"
    subprocess.run([sys.executable, "-c", program, "--log", log], check=True)
    cost = json.loads(re.search(r" cost: (\{.*\})", log.read_text())[1])
    assert set(cost) == {"seconds", "processor_seconds", "memory_mb"}
    assert cost["memory_mb"] >= 2**6 and cost["processor_seconds"] > 0

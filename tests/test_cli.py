"""What every command line shares."""

import json
import os
import re
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools import lock
from vlg.workflow import cli, processes, versions

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


def job(log, body="pass", **environment):
    """What a job that does `body` has logged after ` cost: ` and ` packages: `."""
    program = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); from vlg.workflow import cli\n"
        f"def main(args):\n    {body}\ncli.run(main, cli.parser(''))"
    )
    words = [sys.executable, "-c", program, "--log", log]
    subprocess.run(words, check=True, env={**os.environ, **environment})
    return [
        json.loads(re.search(rf" {what}: (\{{.*\}})", log.read_text())[1])
        for what in ("cost", "packages")
    ]


def test_a_job_logs_what_it_cost(tmp_path):
    cost, _ = job(tmp_path / "log", "bytearray(2**26)")
    assert set(cost) == {"seconds", "processor_seconds", "memory_mb"}
    assert cost["memory_mb"] >= 2**6 and cost["processor_seconds"] > 0


def test_a_job_logs_the_packages_it_imported_and_no_others(tmp_path):
    _, packages = job(tmp_path / "log", "import numpy, PIL, json", VLG_SNAKEMAKE="9")
    assert {"numpy", "pillow"} <= set(packages) and not {"json", "torch"} & set(packages)
    assert packages["numpy"] == metadata.version("numpy") and packages["snakemake"] == "9"


def test_each_package_that_steps_import_is_found_by_its_module():
    """A package whose module has another name would never be recorded."""
    modules = metadata.packages_distributions()
    for name in {name for each in lock.ENVIRONMENTS.values() for name in each.packages}:
        module = versions.MODULES.get(name, name.replace("-", "_"))
        assert module in modules, f"{name}: say in versions.MODULES what it is imported as"

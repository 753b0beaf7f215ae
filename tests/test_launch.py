"""Fine-tuning in several processes, through the command line that the rule uses."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import tiny
from vlg.files import check_manifest, sha256

ROOT = Path(__file__).resolve().parents[1]
UNET = "unet/diffusion_pytorch_model.safetensors"


def command(out, step, *launch, save_every=100, threads=2, **settings):
    """The words of a fine-tuning of the tiny world below `out`."""
    paths = tiny.world()
    values = {"method": "embed", **tiny.values(step=step, **settings)}
    options = {"base": paths["base"], "guide": paths["guide"], "cache": paths["cache"]}
    options |= {"embeddings": paths["embeddings"], "log": out / "log", "device": "cpu"}
    options |= {"out-model": out / "models/m", "out-training": out / "training/m"}
    words = [sys.executable, ROOT / "scripts/launch.py", *launch, ROOT / "scripts/finetune.py"]
    words += ["--settings", json.dumps(values), "--save-every", save_every]
    words += ["--threads", threads]
    words += [word for key, value in options.items() for word in (f"--{key}", value)]
    return [str(word) for word in words]


def start(words, **environment):
    return subprocess.Popen(
        words,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(words, **environment):
    process = start(words, **environment)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def close(one, other):
    """Whether two fine-tuned UNets are the same but for rounding."""
    from safetensors.torch import load_file

    one, other, base = (load_file(path / UNET) for path in (one, other, tiny.world()["base"]))
    moved = max((one[key] - base[key]).abs().max() for key in one)
    return max((one[key] - other[key]).abs().max() for key in one) < 0.05 * moved


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The model folder of four steps by one process."""
    return tiny.finetune(tmp_path_factory.mktemp("alone"), step=4)


def test_two_processes_give_the_result_of_one(alone, tmp_path):
    code, output = run(command(tmp_path, 4, "--processes", 2))
    assert code == 0, output
    assert close(alone, tmp_path / "models/m")
    check_manifest(tmp_path / "training/m")
    assert (tmp_path / "log").read_text().count("step 4: held-out") == 1  # one process writes
    assert not list(tmp_path.rglob(".resume*"))


def test_a_mistake_is_one_line_and_no_traceback(tmp_path):
    code, output = run(command(tmp_path, 4, "--processes", 2, target="txt"))
    lines = {line.partition(" error: ")[2] for line in output.splitlines() if " error: " in line}
    assert code == 1 and len(lines) == 1 and "finetune.target" in lines.pop(), output
    assert "Traceback" not in output


def test_nodes_need_something_that_starts_them(tmp_path):
    environment = {"SLURM_JOB_ID": "", "MASTER_ADDR": ""}
    kept = {k: v for k, v in os.environ.items() if k not in environment}
    words = command(tmp_path, 4, "--nodes", 2)
    done = subprocess.run(words, env=kept, capture_output=True, text=True)
    assert done.returncode == 1 and "finetune.launcher" in done.stderr
    assert "Traceback" not in done.stderr


# A command that runs what follows it once on each of two nodes, which are both here.
NODES = """\
import subprocess, sys
nodes = [subprocess.Popen(sys.argv[1:]) for _ in range(2)]
sys.exit(max(node.wait() for node in nodes))
"""


@pytest.mark.slow
def test_two_nodes_give_the_result_of_one_process(alone, tmp_path):
    (tmp_path / "nodes.py").write_text(NODES)
    launcher = f"{sys.executable} {tmp_path / 'nodes.py'}"
    words = command(tmp_path, 4, "--nodes", 2, "--launcher", launcher)
    code, output = run(words, MASTER_ADDR="127.0.0.1", MASTER_PORT="29617")
    assert code == 0, output
    assert close(alone, tmp_path / "models/m")


@pytest.mark.slow
def test_slurm_starts_the_processes_of_all_nodes(alone, tmp_path):
    """srun and scontrol as far as they are used: what they are told is what Slurm understands."""
    (tmp_path / "nodes.py").write_text(NODES)
    (tmp_path / "bin").mkdir()
    for name, line in (
        ("srun", f'shift 7; exec {sys.executable} {tmp_path / "nodes.py"} "$@"'),
        ("scontrol", "echo 127.0.0.1; echo other"),
    ):
        (tmp_path / "bin" / name).write_text(
            f"#!/bin/sh\necho {name} $@ >> {tmp_path}/said\n{line}\n"
        )
        (tmp_path / "bin" / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    environment |= {"SLURM_JOB_ID": "9617", "SLURM_JOB_NODELIST": "n[1-2]"}
    code, output = run(command(tmp_path, 4, "--nodes", 2), **environment)
    assert code == 0, output
    said = (tmp_path / "said").read_text()
    assert "scontrol show hostnames n[1-2]" in said
    assert "srun --overlap --nodes 2 --ntasks 2 --ntasks-per-node 1" in said
    assert close(alone, tmp_path / "models/m")


@pytest.mark.slow
def test_a_command_killed_at_random_times_ends_in_the_same_bits(tmp_path):
    """SIGKILL from outside, at any time after the first row of the log."""
    settings = {"save_every": 10, "threads": 1, "batch_size": 8}
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    code, output = run(command(straight, 120, **settings))
    assert code == 0, output
    rng, kills = random.Random(0), 0
    while True:
        process = start(command(killed, 120, **settings))
        log = killed / "training/.resume-m/log.csv"
        while process.poll() is None and not (log.is_file() and log.read_text().count("\n") > 1):
            time.sleep(0.05)
        if kills < 6:
            time.sleep(rng.uniform(0, 3))
        else:
            process.wait(300)
        if process.poll() is not None:
            break
        process.kill()
        process.communicate()
        kills += 1
        log.unlink(missing_ok=True)
    assert process.returncode == 0 and kills >= 3
    print(f"killed {kills} times")  # pytest -rP shows it
    sums = [
        {str(p.relative_to(out)): sha256(p) for p in sorted(out.rglob("*.safetensors"))}
        for out in (straight, killed)
    ]
    assert sums[0] == sums[1] and len(sums[0]) == 7


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_sigterm_saves_the_state_and_the_next_call_goes_on(tmp_path, processes):
    words = command(tmp_path, 3000, "--processes", processes)
    process = start(words)
    log = tmp_path / "training/.resume-m/log.csv"
    while not (log.is_file() and log.read_text().count("\n") > 5):
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in output, output
    states = sorted((tmp_path / "training/.resume-m").glob("step-*"))
    assert len(states) == 1, output
    check_manifest(states[0])
    step = int(states[0].name.removeprefix("step-"))
    words = command(tmp_path, 3000, "--processes", processes)
    process = start(words)
    while "going on from" not in (tmp_path / "log").read_text():
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert states[0].name in (tmp_path / "log").read_text() and step >= 5

"""The study on a real Slurm of one node, through profiles/slurm: undisturbed, and not.

`make test-slurm` runs all of it in minutes; the few jobs of the smoke test are among all tests.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import faults, slurm
from tests.pipeline import Checkout
from tests.reduced import RESULTS

pytestmark = pytest.mark.skipif(bool(slurm.lacking()), reason=slurm.lacking() or "-")

# What a user sets for a cluster without accounts; and jobs are looked at more often than usual.
HERE = ["--slurm-no-account", "--slurm-status-command", "squeue"]
HERE += ["--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "1"]
HERE += ["--latency-wait", "20", "--configfile", "tests/reduced.yaml"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with slurm.cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A checkout whose jobs run on the cluster."""
    return Checkout(tmp_path_factory.mktemp("cluster") / "a copy")


def command(*words):
    profile = ["--workflow-profile", "profiles/slurm"]
    return [sys.executable, "-m", "snakemake", *words, *profile, *HERE]


def variables(cluster):
    """The environment of who submits: no network, one thread a process, this Python first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), cluster.environment["PATH"]])
    return {**cluster.environment, "PATH": path}


def test_a_few_jobs(cluster, there):
    target = "results/reduced/prompts.tsv"
    done = there.run(*command(target), **variables(cluster))
    assert done.code == 0, done.output + cluster.logs()
    assert (there.root / target).stat().st_size > 0
    finished = cluster.jobs("COMPLETED")
    assert [comment for comment in finished.values() if comment.startswith("rule_prompts")]
    again = there.run(*command(target), **variables(cluster))
    assert "Nothing to be done" in again.output and cluster.jobs("COMPLETED") == finished


def test_each_job_asks_for_what_its_rule_says(cluster, there):
    """The plugin turns the rules' resources into Slurm's words."""
    changes = "resources={light: {mem_mb: 1234, runtime: 17}}"
    target = "results/reduced/dataset/manifest.json"
    done = there.run(*command(target, "--config", changes), **variables(cluster))
    assert done.code == 0, done.output + cluster.logs()
    number = next(n for n, c in cluster.jobs("COMPLETED").items() if c.startswith("rule_dataset"))
    said = cluster.call("scontrol", "show", "job", number)
    assert "TimeLimit=00:17:00" in said and "mem=1234M" in said, said


@pytest.mark.slow
def test_a_job_that_computes_asks_for_its_gpu(cluster, there):
    """The cluster's GPUs are none, so the job is told to compute on the processor."""
    target = "results/reduced/latents/manifest.json"
    words = [target, "--config", "device=cpu", "resources={gpus: 1}"]
    done = there.run(*command(*words), **variables(cluster))
    assert done.code == 0, done.output + cluster.logs()
    asked = {
        comment: cluster.call("scontrol", "show", "job", number)
        for number, comment in cluster.jobs("COMPLETED").items()
    }
    assert len(asked) >= 3  # more where tests before it have run
    assert {c for c, said in asked.items() if re.search("gres[:/]gpu:1$", said, re.M)} == {
        c for c in asked if c.startswith("rule_encode")
    }, asked


def test_any_submit_command(cluster, there):
    """profiles/cluster-generic, whose example is sbatch."""
    target = "results/other/prompts.tsv"
    words = [sys.executable, "-m", "snakemake", target, "--latency-wait", "20", "--config"]
    words += ["study=other", "--workflow-profile", "profiles/cluster-generic"]
    done = there.run(*words, "--configfile", "tests/reduced.yaml", **variables(cluster))
    assert done.code == 0, done.output + cluster.logs()
    assert (there.root / target).stat().st_size > 0


def test_a_mistake_is_submitted_once(cluster, there):
    """The profile has retries; what the job was told is in its log, which Snakemake asks."""
    pictures = there.root / "broken"
    pictures.mkdir()
    (pictures / "a.png").write_bytes(b"no picture")
    (pictures / "a.txt").write_text("a red circle")
    words = ["results/refused/dataset/manifest.json", "--config", "study=refused"]
    words += ["dataset={source: broken}"]
    before = cluster.jobs("FAILED")
    done = there.run(*command(*words), **variables(cluster))
    done.refused("broken")
    assert len(cluster.jobs("FAILED")) == len(before) + 1, done.output


@pytest.mark.slow
def test_nodes_with_disks_of_their_own(cluster, there, study, tmp_path):
    """The checkout is shared, as a home is; results are on a node's disk while a job runs."""
    pytest.importorskip("snakemake_storage_plugin_fs")
    if not shutil.which("rsync"):
        pytest.skip("no rsync, which snakemake-storage-plugin-fs calls")
    shutil.rmtree(there.root / "results", ignore_errors=True)
    node, storage = tmp_path / "node", tmp_path / "storage"
    words = ["--default-storage-provider", "fs", "--default-storage-prefix", str(storage)]
    words += ["--shared-fs-usage", "sources", "source-cache", "software-deployment", "persistence"]
    words += ["--remote-job-local-storage-prefix", f"{node}/$SLURM_JOB_ID"]
    there.run(*command(*words), **variables(cluster)).refused("slurm-array-jobs: generate,refine")
    words += ["--slurm-array-jobs", "none"]
    environment = {**variables(cluster), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = there.run(*command(*words), **environment)
    assert done.code == 0, done.output[-5000:] + cluster.logs()
    assert not (there.root / RESULTS).exists() and len(list(node.iterdir())) > 20
    shutil.rmtree(node)
    shutil.copytree(storage / "results", there.root / "results", dirs_exist_ok=True)
    unpacked = there.run("python", "scripts/unpack.py", "--study", RESULTS)
    assert unpacked.code == 0, unpacked.output
    whole = there.run(*faults.VERIFY)
    assert whole.code == 0, whole.output
    faults.compare(there, study)


@pytest.mark.slow
def test_a_cancelled_job_and_a_lost_node_change_nothing(cluster, there, study):
    """The documented command, again where it has to be, ends in the files of an undisturbed run."""
    out = there.root / "said"
    environment = {
        **os.environ,
        **variables(cluster),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }

    def start():
        return subprocess.Popen(
            command("--rerun-incomplete"), cwd=there.root, env=environment,
            stdout=open(out, "a"), stderr=subprocess.STDOUT,  # noqa: SIM115
        )  # fmt: skip

    run = start()
    try:
        cancelled = cluster.wait("rule_encode_")
        cluster.call("scancel", cancelled)
        lost = cluster.wait("rule_finetune")
        cluster.call("scontrol", "update", f"nodename={slurm.NODE}", "state=down", "reason=test")
        time.sleep(3)
        with contextlib.suppress(RuntimeError):  # it may have come back by itself
            cluster.call("scontrol", "update", f"nodename={slurm.NODE}", "state=resume")
        assert cancelled in cluster.jobs("CANCELLED")
        said = cluster.call("scontrol", "show", "job", lost)
        assert "JobState=NODE_FAIL" in said or "Restarts=1" in said, said
        tries = 1
        while run.wait(1200) and tries < 4:
            run = start()
            tries += 1
    finally:
        run.kill()
    assert run.returncode == 0, out.read_text()[-5000:] + cluster.logs()
    faults.compare(there, study)

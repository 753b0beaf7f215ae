"""The study where machines share no disk: files come from a storage and go there.

Each run ends in the pictures, scores and tables of one on a disk, and `make verify` finds it whole.
"""

import json
import re
import shlex
import shutil
import sys

import pytest

from tests import faults, kubernetes_server
from tests.pipeline import JOB, ROOT, Checkout
from tests.reduced import RESULTS
from vlg.workflow import bundle

pytest.importorskip("snakemake_storage_plugin_fs")
CONFIG = ["--configfile", "tests/reduced.yaml", "--cores", 2]
BASE = RESULTS / "models/base/manifest.json"


@pytest.fixture
def there(tmp_path):
    return Checkout(tmp_path / "a copy")


@pytest.fixture
def disk(tmp_path):
    """What a folder is to the plug-in fs: options, and where the results are afterwards."""
    if not shutil.which("rsync"):
        pytest.skip("no rsync, which snakemake-storage-plugin-fs calls")
    folder = tmp_path / "storage"
    words = ["--default-storage-provider", "fs", "--default-storage-prefix", folder]
    return words, folder / "results"


@pytest.fixture
def bucket():
    """A stand-in for S3: options, variables, and the bucket."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    boto3 = pytest.importorskip("boto3")
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    names = {"endpoint_url": endpoint, "access_key": "test", "secret_key": "test"}
    storage = boto3.resource(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    ).Bucket("studies")
    words = ["--default-storage-provider", "s3", "--default-storage-prefix", "s3://studies/ours"]
    yield words, {f"SNAKEMAKE_STORAGE_S3_{n.upper()}": v for n, v in names.items()}, storage
    storage.objects.all().delete()  # servers of one process share what they hold
    server.stop()


def nodes(folder):
    """Options for jobs that start in empty folders and find there what Snakemake brings."""
    words = ["--executor", "cluster-generic"]
    for what in ("submit", "status"):
        command = [sys.executable, str(ROOT / "tests/nodes.py"), what, str(folder)]
        words += [f"--cluster-generic-{what}-cmd", shlex.join(command)]
    words += ["--shared-fs-usage", "none", "--job-deploy-sources", "--jobs", 2]
    return [*words, "--local-cores", 2]


def snakemake(there, *words, **variables):
    return there.run(sys.executable, "-m", "snakemake", *words, *CONFIG, **variables)


def fetched(there):
    """Do what docs/running.md says once results/ was copied from the storage."""
    done = there.run("python", "scripts/unpack.py", "--study", RESULTS)
    assert done.code == 0, done.output
    whole = there.run(*faults.VERIFY)
    assert whole.code == 0, whole.output


def planned(there, words):
    """(rule, inputs, outputs) of each job, as paths below the storage."""
    done = snakemake(there, "--dry-run", *words)
    assert done.code == 0, done.output
    jobs = []
    for rule, details in JOB.findall(done.output):
        lines = dict(line.strip().split(": ", 1) for line in details.splitlines() if ": " in line)
        inputs, outputs = (
            {
                each.split(" (")[0].partition(f"/{RESULTS}/")[2]
                for each in lines.get(what, "").split(", ")
                if f"/{RESULTS}/" in each
            }
            for what in ("input", "output")
        )
        jobs.append((rule, inputs, outputs))
    return jobs


def test_what_a_rule_leaves_is_declared_whole(there, disk):
    """By a bundle of its folder, or its checksum; who reads a folder asks for its bundle."""
    jobs = planned(there, disk[0])
    assert len(jobs) > 50
    marks = ("manifest.json", "metadata.jsonl", "index.html")
    reading = {"encode", "encode_guide", "finetune", "generate", "refine", "score"}
    for rule, inputs, outputs in jobs:
        if rule == "all":
            continue
        packed = {file.removesuffix(".tar") for file in outputs if file.endswith(".tar")}
        assert any(file.startswith("records/") for file in outputs), rule
        for file in outputs:
            inside = any(file.startswith(f"{folder}/") for folder in packed)
            beside = file.startswith("records/") or file.endswith((".tar", ".sha256"))
            alone = f"{file}.sha256" in outputs or rule == "sheets"
            assert inside or beside or alone, (rule, file)
        if rule.partition("_samples")[0].partition("_refined")[0] in reading:
            for file in inputs:
                folder = file.rpartition("/")[0].removesuffix("/samples")
                assert not file.endswith(marks) or f"{folder}.tar" in inputs, (rule, file)


def test_a_storage_gets_whole_folders(there, disk):
    """Weights come with their manifest, and a second machine goes on from the storage alone."""
    words, results = disk
    done = snakemake(there, BASE, *words)
    assert done.code == 0, done.output
    assert not (there.root / "results").exists()
    # What was unpacked for jobs is removed with the run.
    assert not list((there.root / ".snakemake/storage").rglob("*.safetensors"))
    shutil.rmtree(there.root / ".snakemake")
    again = snakemake(there, BASE, *words)
    assert "Nothing to be done" in again.output, again.output
    # Who needs a lost bundle has it made again.
    (results / "reduced/models/base.tar").unlink()
    done = snakemake(there, RESULTS / "models/base.tar", *words)
    assert done.code == 0, done.output
    shutil.copytree(results, there.root / "results")
    fetched(there)
    assert list((there.root / RESULTS / "models/base/unet").glob("*.safetensors"))


@pytest.mark.slow
def test_machines_without_a_shared_disk(there, disk, study, tmp_path):
    """Jobs find sources and inputs in the storage, and nothing else."""
    words, results = disk
    done = snakemake(there, *words, *nodes(tmp_path / "nodes"))
    logs = "".join(path.read_text() for path in (tmp_path / "nodes").glob("*.log"))
    assert done.code == 0, done.output[-5000:] + logs[-5000:]
    assert not (there.root / "results").exists()
    shutil.copytree(results, there.root / "results")
    fetched(there)
    faults.compare(there, study)


@pytest.mark.slow
def test_a_bucket(there, bucket, study):
    words, variables, storage = bucket
    done = snakemake(there, *words, **variables)
    assert done.code == 0, done.output[-5000:]
    again = snakemake(there, *words, **variables)
    assert "Nothing to be done" in again.output, again.output[-5000:]
    for item in storage.objects.filter(Prefix="ours/results/"):
        path = there.root / item.key.removeprefix("ours/")
        path.parent.mkdir(parents=True, exist_ok=True)
        item.Object().download_file(path)
    fetched(there)
    faults.compare(there, study)


@pytest.mark.slow
def test_kubernetes(there, bucket, tmp_path):
    """There is no cluster: what would be sent to one, and jobs that run as it says."""
    pytest.importorskip("snakemake_executor_plugin_kubernetes")
    words, variables, storage = bucket
    target = RESULTS / "latents/manifest.json"
    with kubernetes_server.cluster(tmp_path / "kubernetes") as cluster:
        done = snakemake(
            *(there, target, "--workflow-profile", "profiles/kubernetes", *words),
            *("--config", "device=cpu", "resources={gpus: 1, light: {mem_mb: 1234}}"),
            *("--seconds-between-status-checks", 1),
            **cluster.environment,
            **variables,
        )
        assert done.code == 0, done.output[-5000:] + cluster.logs()[-5000:]
    stored = {item.key for item in storage.objects.filter(Prefix="ours/results/")}
    assert f"ours/{RESULTS}/latents.tar" in stored
    jobs = {}
    for manifest in cluster.manifests:
        spec = manifest["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        rule = re.search(r"--allowed-rules (\w+)", container["args"][1])[1]
        jobs[rule] = container["resources"]
        assert container["image"] == "registry.example.org/vlg:latest"
        # Keys are secrets, and nobody's to read in a manifest.
        assert variables["SNAKEMAKE_STORAGE_S3_ENDPOINT_URL"] not in json.dumps(manifest)
        assert manifest["spec"]["backoffLimit"] == 0 and spec["restartPolicy"] == "Never"
    # The model is one of this machine; so that job ran here.
    assert set(jobs) == {"dataset", "encode"}
    assert jobs["encode"]["limits"]["nvidia.com/gpu"] == "1"
    assert jobs["dataset"]["limits"]["nvidia.com/gpu"] == "0"
    assert jobs["dataset"]["limits"]["memory"] == "1234M"


@pytest.mark.slow
def test_a_mistake_in_a_job_elsewhere_is_told_once(there, disk, tmp_path):
    """Its log is in the storage, where its line is fetched from; no retry is spent on it."""
    words, results = disk
    cluster = nodes(tmp_path / "nodes")
    assert snakemake(there, RESULTS / "dataset/manifest.json", *words, *cluster).code == 0
    packed = results / "reduced/dataset.tar"
    picture = sorted(bundle.unpack(packed).glob("*.png"))[0]
    picture.write_bytes(b"no picture")
    bundle.pack(picture.parent)
    before = {path.name for path in (tmp_path / "nodes").iterdir()}
    target = RESULTS / "latents/manifest.json"
    done = snakemake(there, target, *words, *cluster, "--retries", 2)
    done.refused(picture.name)
    assert len(re.findall(r"^error: .*", done.output, re.MULTILINE)) == 1, done.output
    rule = re.compile("rule encode:")
    logs = [path for path in (tmp_path / "nodes").glob("*.log") if path.name not in before]
    assert sum(bool(rule.search(path.read_text())) for path in logs) == 1

"""A Slurm cluster of one node on this machine: real daemons on the loopback, in their own folder.

Needs Debian's slurmctld, slurmd, slurm-client and munge, and root, who starts the daemons.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

# Within a job the plugin forgets SLURM_CONF, so the config must be where Slurm looks by itself.
USUAL = Path("/etc/slurm/slurm.conf")
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "runuser")
NODE = "localhost"
# Files that pass for GPUs: jobs wait for them and get them, as CUDA_VISIBLE_DEVICES says.
GPUS = "".join(f"NodeName={{node}} Name=gpu File=/dev/{name}\n" for name in ("null", "zero"))
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=600
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
GresTypes=gpu
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=32000 Gres=gpu:2
PartitionName=main Nodes={node} Default=YES MaxTime=INFINITE State=UP
"""


def lacking() -> str:
    """Why there can be no cluster here; empty if there can."""
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
    missing = [name for name in PROGRAMS if not shutil.which(name, path=path)]
    if missing:
        return f"no {', '.join(missing)}; apt-get install slurmctld slurmd slurm-client munge"
    if USUAL.is_symlink() and not _alive(USUAL.resolve().parent):
        USUAL.unlink()  # of a test run that was killed
    if os.path.lexists(USUAL):
        return f"{USUAL} is there: this machine has a Slurm of its own"
    return "" if os.geteuid() == 0 else "the daemons are started by root"


def _alive(folder: Path) -> bool:
    """Whether the controller of a cluster in this folder is still running."""
    try:
        number = int((folder / "slurmctld.pid").read_text())
        return "slurmctld" in Path(f"/proc/{number}/comm").read_text()
    except (OSError, ValueError):
        return False


class Cluster:
    """The running cluster; `environment` is what a command needs to talk to it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment

    def call(self, *words: str) -> str:
        """Run one of Slurm's commands; returns what it prints."""
        done = subprocess.run(
            words, env={**os.environ, **self.environment}, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stdout}{done.stderr}{self.logs()}")
        return done.stdout

    def jobs(self, state: str) -> dict[str, str]:
        """{job id: comment} of the jobs in a state; the comment begins with the name of a rule."""
        lines = self.call("squeue", "--noheader", "--states", state, "--format", "%i %k")
        return dict(line.split(None, 1) for line in lines.splitlines() if " " in line.strip())

    def wait(self, rule: str, seconds: float = 600) -> str:
        """The id of a running job of a rule, as soon as there is one."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for number, comment in self.jobs("RUNNING").items():
                if comment.startswith(rule):
                    return number
            time.sleep(0.1)
        raise TimeoutError(f"no job of {rule} within {seconds} s{self.logs()}")

    def logs(self) -> str:
        """The end of what the daemons say."""
        parts = []
        for path in sorted(self.folder.glob("*.log")):
            parts += [f"\n{path.name}:", *path.read_text(errors="replace").splitlines()[-10:]]
        return "\n".join(parts)


@contextlib.contextmanager
def cluster(folder: Path, cpus: int = 2) -> Iterator[Cluster]:
    """Start munged, slurmctld and slurmd, wait for the node, and end them with the block."""
    munge = folder / "munge"
    for path in (folder, folder / "state", folder / "spool", munge):
        path.mkdir(parents=True, exist_ok=True)
    (munge / "key").write_bytes(secrets.token_bytes(128))
    (munge / "key").chmod(0o600)
    # munged refuses to run as root and in folders that others may write.
    for path in (munge, munge / "key"):
        shutil.chown(path, "munge", "munge")
    for path in (munge, *munge.parents):
        if path != path.parent and path.stat().st_mode & 0o001 == 0:
            path.chmod(path.stat().st_mode | 0o011)
    host = socket.gethostname().split(".")[0]
    text = CONFIG.format(folder=folder, host=host, node=NODE, cpus=cpus, ports=_free_ports(2))
    (folder / "slurm.conf").write_text(text)
    (folder / "gres.conf").write_text(GPUS.format(node=NODE))
    environment = {
        "SLURM_CONF": str(folder / "slurm.conf"),
        "PATH": os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"]),
    }
    names = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log"}
    names |= {"seed-file": "seed"}
    munged = ["runuser", "-u", "munge", "--", "/usr/sbin/munged", "--foreground"]
    munged += [f"--{option}={munge / name}" for option, name in names.items()]
    daemons = [munged, ["slurmctld", "-D"], ["slurmd", "-D", "-N", NODE]]
    running: list[subprocess.Popen] = []
    result = Cluster(folder, environment)
    USUAL.parent.mkdir(exist_ok=True)
    USUAL.symlink_to(folder / "slurm.conf")
    try:
        for number, words in enumerate(daemons):
            with open(folder / f"daemon-{number}.log", "w") as log:
                running.append(
                    subprocess.Popen(
                        words, env={**os.environ, **environment}, stdout=log, stderr=log
                    )
                )
            if number == 0:
                _until(lambda: (munge / "socket").exists(), result)
        _until(lambda: "idle" in _quietly(result), result)
        yield result
    finally:
        USUAL.unlink()
        for daemon in reversed(running):
            daemon.terminate()
        for daemon in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            daemon.kill()


def _quietly(cluster: Cluster) -> str:
    try:
        return cluster.call("sinfo", "--noheader", "--format", "%t")
    except RuntimeError:
        return ""


def _until(true, cluster: Cluster, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"Slurm did not start{cluster.logs()}")
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports

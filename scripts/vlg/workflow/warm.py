"""Start a job's script from a process that has imported the large packages already.

    python -S warm.py {models,tables} SCRIPT [ARGUMENT...]

Importing torch, diffusers and transformers takes longer than many a job computes. The first job of
a run starts a server, which imports them and nothing of this pipeline; each job is then a fork of
it, with the job's own arguments, environment, working folder and standard streams. For whoever
started this program nothing differs: it ends as the script ends, hands signals on, and takes the
job with it when it is killed. The server listens on a socket that only this user's processes may
use, and ends with the run.

Without a run on this host (`vlg.workflow.running`), without Linux, or with VLG_WARM=0 the script is
started as it is. Only the standard library is imported here: this program starts for every job.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import sys
import time

RUN, OFF = "VLG_RUN", "VLG_WARM"
EVERY = ("numpy", "pydantic.fields", "pydantic.functional_validators", "pydantic.json_schema")
EVERY += ("pydantic.main", "pydantic.types", "importlib.metadata", "encodings.utf_8_sig")
EVERY += ("PIL.Image", "PIL.BmpImagePlugin", "PIL.GifImagePlugin", "PIL.JpegImagePlugin")
EVERY += ("PIL.PngImagePlugin", "PIL.PpmImagePlugin")
DIFFUSERS = ("pipelines.stable_diffusion.pipeline_stable_diffusion", "training_utils")
DIFFUSERS += ("pipelines.stable_diffusion.pipeline_stable_diffusion_img2img",)
DIFFUSERS += ("schedulers.scheduling_dpmsolver_multistep", "schedulers.scheduling_ddim")
DIFFUSERS += ("schedulers.scheduling_unipc_multistep", "schedulers.scheduling_ddpm")
CLIP = ("modeling_clip", "tokenization_clip", "image_processing_clip", "processing_clip")
PACKAGES = {
    "models": (
        *EVERY,
        *("torch", "torch.utils.flop_counter", "torch.utils.tensorboard", "safetensors.torch"),
        *(f"diffusers.{name}" for name in DIFFUSERS),
        *(f"transformers.models.clip.{name}" for name in CLIP),
        *("transformers.conversion_mapping", "open_clip"),
    ),
    "tables": (
        *EVERY,
        *("pandas", "scipy.special", "jinja2", "tabulate", "huggingface_hub.repocard"),
        *("matplotlib.figure", "matplotlib.pyplot", "matplotlib.backends.backend_agg"),
        *("matplotlib.backends.backend_svg", "PIL.ImageFont"),
    ),
}
# Variables that differ from job to job and that nothing reads while it is imported.
OWN = {"PWD", "OLDPWD", "SHLVL", "_", "TMPDIR"}
SECONDS = 60.0  # for a server to listen; it imports after that
LOOK = 0.5  # seconds between two looks at whether the run is alive


def main() -> None:
    """Run a script in a fork of the server, or in this process where there can be none."""
    group, *words = sys.argv[1:]
    code = None
    address = _address(group)
    if address:
        with socket.socket(socket.AF_UNIX) as connection:
            if _reach(connection, address, group):
                code = _follow(connection, words)
    if code is None:  # no job was started
        if address and gone():  # meanwhile: the next run may do the same job already
            sys.exit("the run that started this job is gone")
        os.execv(sys.executable, [sys.executable, *words])
    if code < 0:  # as the job ended
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def _address(group: str) -> str:
    """The name of the socket on which this run's server of a group is found; empty for none.

    It holds whatever decides what an import does, so that no job gets another one's.
    """
    process, began = run()
    if not process or os.environ.get(OFF) == "0" or started(process) != began:
        return ""
    import hashlib

    given = sorted(item for item in os.environ.items() if item[0] not in OWN)
    words = repr((group, sys.executable, os.getuid(), given)).encode()
    return f"\0vlg-{process}-{began}-{hashlib.sha256(words).hexdigest()}"


def run() -> tuple[str, str]:
    """Process and start of the run that a job is of; empty without one, on another host (whose
    processes cannot be seen), and where the system does not show processes as Linux does."""
    host, process, began = (*os.environ.get(RUN, "").split(), "", "", "")[:3]
    here = host == socket.gethostname() and sys.platform.startswith("linux")
    return (process, began) if here and began else ("", "")


def gone() -> bool:
    """Whether this is a job of a run that has ended."""
    process, began = run()
    return bool(process) and started(process) != began


def _reach(connection: socket.socket, address: str, group: str) -> bool:
    """Connect to the server, which is started if there is none; False if it cannot be reached."""
    until = time.monotonic() + SECONDS
    serving = False
    while time.monotonic() < until:
        try:
            connection.connect(address)
        except OSError:
            if not serving:
                _serve_apart(address, group)
                serving = True
            time.sleep(0.01)
        else:
            return _user(connection) == os.getuid()
    return False


def _user(connection: socket.socket) -> int:
    """The user whose process is at the other end."""
    size = struct.calcsize("3i")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int(struct.unpack("3i", credentials)[1])


def _follow(connection: socket.socket, words: list[str]) -> int | None:
    """Ask for a job and wait for it: its exit status, or minus the signal that ended it; None if it
    was not started. Signals are handed on."""
    import json

    job = 0
    waiting: list[int] = []

    def hand_on(number: int, frame: object) -> None:
        if job:
            _send(job, number)
        else:
            waiting.append(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, hand_on)
    mask = os.umask(0o077)
    os.umask(mask)
    asked = {"words": words, "folder": os.getcwd(), "mask": mask, "environment": dict(os.environ)}
    message = json.dumps(asked).encode("utf-8", "surrogateescape")
    try:
        socket.send_fds(connection, [struct.pack("Q", len(message))], [0, 1, 2])
        connection.sendall(message)
        job = _number(connection)
        for number in waiting:
            _send(job, number)
        return _number(connection)
    except (OSError, EOFError):  # the server is gone
        if not job:
            return None
        _send(job, signal.SIGTERM)
        while started(job):
            time.sleep(LOOK)
        return 1


def _send(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def _number(connection: socket.socket) -> int:
    return int(struct.unpack("q", _exactly(connection, 8))[0])


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def started(process: int | str) -> str:
    """When a process started, in ticks; empty when there is none, or it is a zombie."""
    try:
        with open(f"/proc/{process}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _serve_apart(address: str, group: str) -> None:
    """Start a server that outlives this job and is no child of it."""
    import subprocess

    line = [sys.executable, __file__, "--serve", address[1:], group]
    nothing = subprocess.DEVNULL
    subprocess.Popen(
        line, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True, cwd="/"
    )


def serve(address: str, group: str) -> None:
    """Import a group's packages once and fork a job for each that asks, until the run is gone."""
    import gc
    import importlib
    import selectors

    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(f"\0{address}")
    except OSError:  # another one was first
        return
    listener.listen(128)
    process, began = run()
    # Whether there is a GPU is asked of its driver's monitor: asking CUDA would spoil it for forks.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    for name in PACKAGES[group]:
        with contextlib.suppress(Exception):  # the job that needs it says so
            importlib.import_module(name)
    with contextlib.suppress(Exception):  # a table of patterns that each load of a model would make
        sys.modules["transformers.conversion_mapping"].get_checkpoint_conversion_mapping("clip")
    with open("/proc/self/maps") as file:
        spoilt = "libcuda.so" in file.read()  # something has asked CUDA all the same
    gc.freeze()

    jobs: dict[int, socket.socket] = {}  # process: who waits for it
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        gone = False
        while jobs or not gone:
            if not gone and started(process) != began:
                gone = True
                for job in jobs:  # with the run, after they have saved what they can
                    _send(job, signal.SIGTERM)
            for key, _ in selector.select(LOOK):
                if key.fileobj is listener:
                    connection = listener.accept()[0]
                    job = 0 if gone or spoilt else _start(connection, selector, listener, jobs)
                    if job:
                        jobs[job] = connection
                        selector.register(connection, selectors.EVENT_READ, job)
                    else:
                        connection.close()
                elif key.fileobj == wake:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake, 4096)
                elif key.data in jobs:  # nothing more is said: who waited for the job was killed
                    _send(key.data, signal.SIGKILL)
                    selector.unregister(key.fileobj)
            _reap(jobs, selector)


def _reap(jobs: dict[int, socket.socket], selector) -> None:
    """Tell whoever waits for a job that has ended how it did."""
    while True:
        try:
            job, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not job:
            return
        connection = jobs.pop(job)
        with contextlib.suppress(KeyError):
            selector.unregister(connection)
        with contextlib.suppress(OSError):
            connection.sendall(struct.pack("q", os.waitstatus_to_exitcode(status)))
        connection.close()


def _start(connection: socket.socket, selector, listener, jobs) -> int:
    """Fork the job that a connection asks for; its process, or 0 if nothing sensible was asked."""
    import json

    if _user(connection) != os.getuid():
        return 0
    connection.settimeout(10)
    streams: list[int] = []
    try:
        head, streams, *_ = socket.recv_fds(connection, 8, 3)
        asked = json.loads(_exactly(connection, struct.unpack("Q", head)[0]))
    except (OSError, EOFError, struct.error, ValueError):
        for stream in streams:
            os.close(stream)
        return 0
    job = os.fork()
    if not job:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            selector.close()
            for other in (listener, connection, *jobs.values()):
                other.close()
            code = _become(asked, streams)
        except BaseException:
            code = 70
        os._exit(code)
    for stream in streams:
        os.close(stream)
    connection.settimeout(None)
    with contextlib.suppress(OSError):  # killed meanwhile: its end is seen when it is read
        connection.sendall(struct.pack("q", job))
    return job


def _become(asked: dict, streams: list[int]) -> int:
    """Be the job, as if the script had been started anew; its exit status."""
    import atexit
    import runpy
    import threading
    import traceback

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(asked["folder"])
    os.umask(asked["mask"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    words = asked["words"]
    sys.argv = words
    sys.path[0] = os.path.dirname(os.path.abspath(words[0]))
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - as long as the process lives
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    code = 0
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except KeyboardInterrupt:
        traceback.print_exc()
        code = 130
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return code


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(*sys.argv[2:])
    else:
        main()

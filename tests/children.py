"""Fine-tuning in processes of its own, for tests of killed and of distributed runs."""

import os
import signal
from pathlib import Path

import open_clip  # noqa: F401  imported once for all: see `runner` in test_training.py
import torch
import torch.utils.tensorboard  # noqa: F401
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel  # noqa: F401

from tests import tiny
from vlg import files, plugins
from vlg.models import components
from vlg.train import checkpoints, loop


def kill(out: Path, world: dict[str, Path], kill_at: int, options: dict) -> None:
    """Fine-tune below `out`, and SIGKILL this process at its event number `kill_at`.

    Events are each training step, each file of tensors half and fully written, each rename of a
    finished file or folder, and each manifest: between two of them nothing on disk changes.
    """
    torch.set_num_threads(1)
    tiny.world = lambda prediction="epsilon": world
    events = iter(range(kill_at, -1, -1))

    def event() -> None:
        if next(events, 0) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(function):
        def wrapped(*args, **kwargs):
            event()
            return function(*args, **kwargs)

        return wrapped

    save = components.save_tensors

    def save_in_halves(path, tensors):
        half = dict(list(tensors.items())[: len(tensors) // 2])
        save(path, half)
        event()
        save(path, tensors)
        event()

    loop.train_step = before(loop.train_step)
    components.save_tensors = checkpoints.save_tensors = save_in_halves
    for module in (components, checkpoints, loop):
        module.write_manifest = before(files.write_manifest)
    files.os.replace = before(os.replace)
    tiny.finetune(out, **options)


def share(out: Path, world: dict[str, Path], rank: int, options: dict) -> None:
    """Fine-tune below `out` as process `rank` of two, which meet in the file `out`/meeting.

    With the option `most` the second runs out of memory on more than so many samples at once.
    """
    torch.set_num_threads(1)
    chosen = plugins.own(plugins.METHODS, options.get("name", "embed"))
    most, terms = options.pop("most", None), chosen.terms
    if most and rank == 1:

        def limited(self, net, batch):
            if len(batch) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return terms(self, net, batch)

        chosen.terms = limited
    tiny.world = lambda prediction="epsilon": world
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2"}
    meeting = f"file://{out}/meeting"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    tiny.finetune(out, **options)
    torch.distributed.destroy_process_group()

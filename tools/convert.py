"""Write a pickled checkpoint (.ckpt, .pt, .pth, .bin) as safetensors and run nothing in it, or a
LoRA that a training has written in kohya's layout.

    python tools/convert.py model.ckpt model.safetensors
    python tools/convert.py pytorch_lora_weights.safetensors kohya.safetensors

torch reads it with `weights_only`, which builds tensors and nothing else. Of a checkpoint of a
training the weights (`state_dict`) are taken. `models.base` takes the new file.
"""

import argparse
import re
import sys
import warnings
from pathlib import Path


def main(source: Path, target: Path) -> None:
    import torch
    from safetensors.torch import save_file

    if source.suffix == ".safetensors":
        save_file(as_kohya(source), target, metadata={"format": "pt"})
        return
    warnings.simplefilter("ignore")  # of versions of pickle
    try:
        found = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:
        # Not torch's own words, which advise to run what is in the file.
        other = re.search(r"GLOBAL (\S+)", str(error))
        why = f"it holds a {other[1]}" if other else type(error).__name__
        sys.exit(f"error: {source}: no plain weights ({why}); get it in safetensors")
    found = found.get("state_dict", found) if isinstance(found, dict) else {}
    # A copy of each: tied weights share memory, which safetensors refuses.
    tensors = {
        name: value.clone(memory_format=torch.contiguous_format)
        for name, value in found.items()
        if torch.is_tensor(value)
    }
    if not tensors:
        sys.exit(f"error: {source}: holds no tensors by name; get it in safetensors")
    save_file(tensors, target, metadata={"format": "pt"})


def as_kohya(source: Path) -> dict:
    """The tensors of a LoRA in kohya's layout."""
    from safetensors.torch import load_file

    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
    from vlg.models import kohya

    try:
        return kohya.written(load_file(source))
    except Exception as error:
        why = " ".join(str(error).split())[:200]
        sys.exit(f"error: {source}: {why}; give the pytorch_lora_weights.safetensors of a training")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="the checkpoint")
    parser.add_argument("target", type=Path, help="the .safetensors file to write")
    arguments = parser.parse_args()
    main(arguments.source, arguments.target)

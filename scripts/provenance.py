"""Record how a study was made: versions, commit, config, checksums, hardware, seeds and cost.

Reads the manifests of the study's models and downloads and its training summaries; writes
provenance.json.
"""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from vlg import cli
from vlg.files import read_json, sha256, write_checksum, write_json

PACKAGES = [
    "snakemake",
    "torch",
    "torchvision",
    "diffusers",
    "transformers",
    "open_clip_torch",
    "torchmetrics",
    "datasets",
    "accelerate",
    "safetensors",
    "numpy",
    "scipy",
    "pandas",
    "statsmodels",
    "matplotlib",
    "pillow",
]


def versions() -> dict[str, str | None]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def commit(root: Path) -> dict[str, str | bool | None]:
    """The git commit of the pipeline and whether files differ from it; None outside a checkout."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *words], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    changes = git("status", "--porcelain")
    return {
        "commit": git("rev-parse", "HEAD"),
        "modified": bool(changes) if changes is not None else None,
    }


def hardware() -> dict[str, object]:
    """Processor, cores and memory, and what GPU the driver reports."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        pass
    pages = {name: os.sysconf(name) for name in ("SC_PHYS_PAGES", "SC_PAGE_SIZE")}
    driver = Path("/proc/driver/nvidia/gpus")
    gpus = sorted(p.name for p in driver.iterdir()) if driver.is_dir() else []
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gb": round(pages["SC_PHYS_PAGES"] * pages["SC_PAGE_SIZE"] / 2**30, 1),
        "gpus": gpus,
        "system": platform.platform(),
    }


def main(args):
    manifests = {path.parent.name: read_json(path) for path in args.models}
    write_json(
        args.out,
        {
            "config": args.settings,
            "pipeline": commit(Path(__file__).parent.parent),
            "python": sys.version.split()[0],
            "packages": versions(),
            "hardware": hardware(),
            "models": {
                name: {
                    "source": manifest.get("source"),
                    "files": {n: f["sha256"] for n, f in manifest["files"].items()},
                }
                for name, manifest in manifests.items()
            },
            "downloads": {path.parent.name: read_json(path) for path in args.downloads},
            "training": {path.parent.name: read_json(path) for path in args.training},
            "scores": {path.as_posix(): sha256(path) for path in args.scores},
            "tables": {path.name: sha256(path) for path in args.tables},
        },
    )
    write_checksum(args.out)


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    add = arguments.add_argument
    add("--models", type=Path, nargs="+", required=True, help="manifest.json of each model")
    add("--downloads", type=Path, nargs="*", default=[], help="manifest.json of each download")
    add("--training", type=Path, nargs="*", default=[], help="summary.json of each checkpoint")
    add("--scores", type=Path, nargs="+", required=True, help="score files")
    add("--tables", type=Path, nargs="+", required=True, help="tables")
    add("--out", type=Path, required=True, help="provenance.json to write")
    cli.run(main, arguments)

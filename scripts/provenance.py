"""Record how a study was made: versions, commit, config, checksums, hardware, seeds and cost.

Reads the manifests of the study's folders, its training summaries and logs; writes provenance.json.
"""

from pathlib import Path

from vlg.files import read_json, sha256, write_checksum, write_json
from vlg.record import provenance
from vlg.workflow import cli


def main(args):
    manifests = {path.parent.name: read_json(path) for path in args.models}
    write_json(
        args.out,
        {
            **provenance.record(args.settings, Path(__file__).parent.parent, args.logs),
            "models": {
                name: {
                    "source": manifest.get("source"),
                    "files": {n: f["sha256"] for n, f in manifest["files"].items()},
                }
                for name, manifest in manifests.items()
            },
            "downloads": {path.parent.name: read_json(path) for path in args.downloads},
            "training": {path.parent.name: read_json(path) for path in args.training},
            "inputs": {name(path, args.out): sha256(path) for path in args.inputs},
            "scores": {name(path, args.out): sha256(path) for path in args.scores},
            "tables": {path.name: sha256(path) for path in args.tables},
        },
    )
    write_checksum(args.out)


def name(path, beside):
    """What a study calls a file of it, wherever the job finds it: results/<study>/..."""
    study = beside.parent
    return (Path("results") / study.name / path.relative_to(study)).as_posix()


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    add = arguments.add_argument
    add("--models", type=Path, nargs="+", required=True, help="manifest.json of each model")
    add("--downloads", type=Path, nargs="*", default=[], help="manifest.json of each download")
    add("--training", type=Path, nargs="*", default=[], help="summary.json of each checkpoint")
    add("--inputs", type=Path, nargs="*", default=[], help="prompt tables, the data's manifest")
    add("--scores", type=Path, nargs="+", required=True, help="score files")
    add("--tables", type=Path, nargs="+", required=True, help="tables")
    add("--logs", type=Path, required=True, help="folder of the logs, which hold each job's cost")
    add("--out", type=Path, required=True, help="provenance.json to write")
    cli.run(main, arguments)

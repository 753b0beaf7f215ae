"""Write one archive of a finished study: tables, figures, pages, scores, prompts, config, record.

Reads results/<study>; refuses one that differs from its checksums. The same study gives the same
bytes. Weights are left out unless --models is given; their checksums and cards are always in it.
"""

from pathlib import Path

from vlg.errors import UserError
from vlg.workflow import cli

ROOT = Path(__file__).parents[1]


def main(args):
    import yaml

    from vlg.record import archive, integrity

    files = set(archive.members(args.study, args.models))
    wrong = [p for p in integrity.check(args.study).problems if p.path in files]
    if wrong:
        raise UserError(f"{wrong[0].path}: {wrong[0].what}; run make verify ARGS=--repair first")
    shipped = yaml.safe_load((ROOT / "config.yaml").read_text("utf-8"))
    count = archive.write(args.study, args.out, args.models, shipped)
    size = args.out.stat().st_size / 1e6
    cli.log.info("%s: %d files, %.1f MB", args.out, count, size)


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    add = arguments.add_argument
    add("--study", type=Path, required=True, help="results/<study>")
    add("--models", action="store_true", help="with the weights")
    add("--out", type=Path, required=True, help=".tar.gz to write")
    cli.run(main, arguments)

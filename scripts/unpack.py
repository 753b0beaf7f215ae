"""Make a study that comes from a storage the study that it would be on a disk.

Where machines share no disk, each folder of a study travels as FOLDER.tar. Once results/<study> was
copied here from the storage, this puts the folders in place of their bundles; afterwards the study
can be looked at, verified and archived as one that was made here.
"""

import os
from pathlib import Path

from vlg.errors import UserError
from vlg.workflow import bundle, cli


def main(args):
    if not args.study.is_dir():
        raise UserError(f"{args.study}: not found; copy results/<study> from the storage first")
    # A folder before those inside it, which its bundle holds, too.
    for packed in sorted(args.study.rglob(f"*{bundle.END}"), key=lambda path: len(path.parts)):
        if packed.is_file():
            bundle.unpack(packed)
            packed.unlink()
    # The logs themselves are there, but for those that only the machine of a job had.
    for record in sorted((args.study / "records").rglob("*.log")):
        log = args.study / "logs" / record.relative_to(args.study / "records")
        log.parent.mkdir(parents=True, exist_ok=True)
        record.unlink() if log.exists() else os.replace(record, log)
    for folder, _, _ in os.walk(args.study / "records", topdown=False):
        os.rmdir(folder)


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    arguments.add_argument("--study", type=Path, required=True, help="results/<study>")
    cli.run(main, arguments)

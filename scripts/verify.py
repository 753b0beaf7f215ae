"""Hash a study again and name every file that differs, is missing or is too much.

Reads results/<study> and changes nothing, unless --repair: then what is there a second time is
restored, and what must be made anew is deleted. Each line says what to type instead. The exit
status is 1 when anything is left to be done.
"""

import shlex
import sys
from pathlib import Path

from vlg.errors import UserError
from vlg.workflow import cli


def main(args):
    from vlg.record import integrity

    if not args.study.is_dir():
        raise UserError(f"{args.study}: not found; give results/<study>, or make the study first")
    report = integrity.check(args.study)
    targets = report.targets()
    # What is made anew comes alone first: in one run, Snakemake takes all that depends on it for
    # changed, and would train again; in the next it sees that the content is the same.
    single = f"{args.files} ARGS={shlex.quote(shlex.join(map(str, targets)))}"
    run = f"{single} && {args.run}" if targets else args.run
    for problem in report.problems:
        print(f"{problem.path}: {problem.what}; {_remedy(report, problem, run)}")
    if args.repair:
        print(*integrity.repair(report), sep="\n", end="\n" * bool(report.problems))
    count = len(report.problems)
    print(f"{args.study}: {report.files} checksums compared, {count or 'no'} problems")
    if report.problems:
        again = "; then verify again" if any(map(report.waits, report.problems)) else ""
        first = "" if args.repair else f"{args.verify} ARGS=--repair && "
        print(f"To repair all: {first}{run}{again}")
        sys.exit(1)


def _remedy(report, problem, run):
    """The command for one problem."""
    source = report.source(problem)
    if source:
        return f"cp {shlex.quote(str(source))} {shlex.quote(str(problem.path))}"
    if report.waits(problem):
        return "is restored from models/base once that is whole"
    delete = f"rm -r {shlex.join(map(str, report.deleted(problem)))}"
    if not problem.mark:
        return delete
    return f"{delete} && {run}" if report.deleted(problem) else run


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    add = arguments.add_argument
    add("--study", type=Path, required=True, help="results/<study>")
    add("--repair", action="store_true", help="restore or delete what differs")
    add("--run", default="make study", help="the command that runs the study, to be told")
    add("--files", default="make files", help="the command that makes files of it, to be told")
    add("--verify", default="make verify", help="the command that verifies it, to be told")
    cli.run(main, arguments)

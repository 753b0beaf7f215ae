"""Say what the claims of the published study came to, for the report's first page.

Reads tables/claims.csv; writes a piece of HTML in which each claim stands under its verdict.
"""

import csv
from argparse import Namespace
from pathlib import Path

from vlg.errors import UserError
from vlg.report import pages
from vlg.workflow import cli


def main(args: Namespace) -> None:
    try:
        with open(args.claims, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise UserError(f"{args.claims}: not found; make the tables first") from None
    pages.write(args.out, pages.findings(rows))


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    arguments.add_argument("--claims", type=Path, required=True, help="tables/claims.csv")
    arguments.add_argument("--out", type=Path, required=True, help="findings.html to write")
    cli.run(main, arguments)

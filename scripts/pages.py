"""Make the pages of the report from the tables of a study.

Writes into --out, for each table named, a page that opens from disk, can be sorted and searched
and holds the CSV, Markdown and LaTeX to be copied; and findings.html, what claims.csv says, for the
report's first page. Settings: names (of the tables).
"""

from argparse import Namespace
from pathlib import Path

from vlg.files import write_manifest
from vlg.report import pages
from vlg.workflow import cli


def main(args: Namespace) -> None:
    for path in pages.write(args.tables, args.settings["names"], args.out):
        cli.log.info("%s", path)
    write_manifest(args.out)


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    arguments.add_argument("--tables", type=Path, required=True, help="folder of the tables")
    arguments.add_argument("--out", type=Path, required=True, help="folder for the pages")
    cli.run(main, arguments)

"""Run a command in a terminal of a given width and take a picture of what it shows.

.venv/bin/python tools/terminal.py --columns 100 --at score --out docs/terminal.png make study

The picture is of the moment at which a line that begins with --at has come. Everything that the
terminal was sent goes to standard output. Needs Chromium with its driver (Debian: chromium,
chromium-driver).
"""

import argparse
import fcntl
import html
import os
import pty
import struct
import sys
import tempfile
import termios
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.browser import Browser  # noqa: E402
from tools.screenshots import shrink  # noqa: E402

CLEAR = "\r\033[K"  # as vlg.workflow.screen writes it
PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #1e1e1e }}
pre {{ margin: 0; padding: 14px 18px; width: {columns}ch }}
pre {{ color: #d8d8d8; font: 14px/1.35 monospace }}
</style><pre>$ {command}
{text}</pre>"""


def screen(sent: str) -> str:
    """What a terminal shows that was sent this."""
    lines = sent.replace("\r\n", "\n").split("\n")
    return "\n".join(line.rpartition(CLEAR)[2] for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--at", required=True, help="how the line begins that must have come")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    process, end = pty.fork()
    if not process:
        os.execvp(args.command[0], args.command)
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("4H", 40, args.columns, 0, 0))
    sent, shown = "", ""
    while True:
        try:
            part = os.read(end, 65536).decode("utf-8", "replace")
        except OSError:  # the command has ended
            break
        sys.stdout.write(part)
        sys.stdout.flush()
        sent += part
        now = screen(sent)
        last = now.split("\n")[-1]
        if not shown and last and any(line.startswith(args.at) for line in now.split("\n")):
            shown = now
    _, status = os.waitpid(process, 0)
    text = shown or screen(sent)
    page = PAGE.format(
        columns=args.columns, command=html.escape(" ".join(args.command)), text=html.escape(text)
    )
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "page.html"
        place.write_text(page, encoding="utf-8")
        browser = Browser(Path(folder) / "profile")
        try:
            browser.open(place)
            size = browser.run(
                "const b = document.querySelector('pre').getBoundingClientRect();"
                "return [Math.ceil(b.width), Math.ceil(b.height)]"
            )
            browser.width(*size)
            browser.picture(args.out)
        finally:
            browser.close()
    shrink(args.out.resolve())
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()

"""How long the demo takes from the click: until the first estimate, and until both pictures.

Opens the demo of a made-up study with the shapes world's models in headless Chromium, draws `base`
and a checkpoint side by side with the study's settings, and prints the median and the worst of
several clicks. `--pages N --minutes M` then opens N pages that draw all the while, and prints how
much memory the server takes.

    .venv/bin/python bench/demo.py --clicks 15 --pages 8 --minutes 10

Needs what `make demo` installs, and Chromium with its driver. On two cores the browser computes
beside the server.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT)]

from tests import demo  # noqa: E402
from tools.browser import Browser, programs  # noqa: E402

READY = "return document.querySelector('#draw-go')"
# Milliseconds from the click to the first estimate and to the end, as the page itself sees them.
CLICK = """
window.times = {};
const begun = performance.now();
const looks = new MutationObserver(() => {
  const left = document.querySelector('#draw-left .estimate');
  if (left && times.first === undefined) times.first = performance.now() - begun;
  if (/Done/.test(document.querySelector('#draw-status').textContent) && times.first) {
    times.last = performance.now() - begun;
    looks.disconnect();
  }
});
const all = {attributes: true, characterData: true, childList: true, subtree: true};
looks.observe(document.body, all);
document.querySelector('#draw-go').click();
"""
# A page that draws again as soon as it has drawn.
AGAIN = """
window.drawn = 0;
let begun = false;
const draw = () => document.querySelector('#draw-go').click();
setInterval(() => {
  const over = /Done/.test(document.querySelector('#draw-status').textContent);
  if (begun && over) { drawn += 1; draw(); }
  begun = !over;
}, 50);
draw();
"""


def clicks(url: str, number: int, folder: Path) -> list[dict[str, float]]:
    """Times of so many drawings, one after the other, in milliseconds."""
    browser = Browser(folder)
    try:
        browser.open(url)
        browser.until(READY)
        time.sleep(2)
        result = []
        for _ in range(number + 1):
            browser.run(CLICK)
            browser.until("return times.last", 120)
            result.append(browser.run("return times"))
        return result[1:]  # the first one warms up
    finally:
        browser.close()


def megabytes(process: int) -> float:
    """Resident memory of a process."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def crowd(server: demo.Server, pages: int, minutes: float, folder: Path) -> tuple[list[float], int]:
    """Memory every few seconds while so many pages draw one picture after the other, and how many
    drawings they got."""
    browsers, memory = [], []
    try:
        # A browser each: one has six connections to a server, and a page takes two.
        for number in range(pages):
            browsers.append(Browser(folder / str(number)))
            browsers[-1].open(server.url)
            browsers[-1].until(READY)
        for browser in browsers:
            browser.run(AGAIN)
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            memory.append(megabytes(server.process.pid))
            time.sleep(5)
        return memory, sum(browser.run("return drawn") for browser in browsers)
    finally:
        for browser in browsers:
            browser.close()


def main():
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--clicks", type=int, default=15)
    arguments.add_argument("--pages", type=int, default=0)
    arguments.add_argument("--minutes", type=float, default=10)
    arguments.add_argument("--threads", type=int, default=0, help="0: as the demo chooses")
    args = arguments.parse_args()
    if not all(programs()):
        sys.exit("error: no chromium with chromedriver; on Debian: apt-get install chromium-driver")
    with tempfile.TemporaryDirectory() as name:
        demo.with_models(Path(name))
        server = demo.Server(Path(name), threads=args.threads)
        try:
            found = clicks(server.url, args.clicks, Path(name) / "browser")
            for what, key in (("first estimate", "first"), ("both pictures", "last")):
                times = [each[key] / 1000 for each in found]
                print(f"{what}: {median(times):.2f} s, at worst {max(times):.2f} s")
            if args.pages:
                memory, drawn = crowd(server, args.pages, args.minutes, Path(name) / "crowd")
                third = max(1, len(memory) // 3)
                print(
                    f"{args.pages} pages, {args.minutes:g} minutes, {drawn} drawings: "
                    f"{memory[0]:.0f} MB at first, {median(memory[:third]):.0f} MB in the first "
                    f"third, {median(memory[-third:]):.0f} MB in the last, {max(memory):.0f} MB "
                    "at most"
                )
        finally:
            server.kill()


if __name__ == "__main__":
    main()

"""Write docs/demo.webp, the moving picture of the demo that draws a prompt with two models.

    .venv/bin/python tools/demo_picture.py [--configfile config.yaml]

of a study whose models are there (`make demo` adds the packages). The drawing is slowed down so
that each step is seen. Needs Chromium with its driver (Debian: chromium, chromium-driver).
"""

import argparse
import io
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from PIL import Image  # noqa: E402

from scripts.demo import open_study  # noqa: E402
from tools.browser import Browser, programs  # noqa: E402
from vlg.demo import app  # noqa: E402
from vlg.demo.engine import Engine  # noqa: E402

WIDTH, HEIGHT = 1000, 760
PACE = 0.5  # seconds from event to event
FRAME, LAST = 160, 2500  # milliseconds


class Slow(Engine):
    """Draws no faster than a screenshot is taken."""

    def draw(self, request, owner=""):
        for event in super().draw(request, owner):
            yield event
            time.sleep(PACE)


def frames(browser, folder):
    """What is seen until the drawing is done, each change once."""
    shots = []
    browser.run("document.querySelector('#draw-go').click()")
    done = "return /Done/.test(document.querySelector('#draw-status').textContent)"
    while True:
        over = browser.run(done)
        browser.picture(folder / "shot.png")
        shot = Image.open(io.BytesIO((folder / "shot.png").read_bytes())).convert("RGB")
        if not shots or shot.tobytes() != shots[-1].tobytes():
            shots.append(shot)
        if over:
            return shots


def main():
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    config = ROOT / "config.yaml"
    arguments.add_argument("--configfile", type=Path, nargs="+", default=[config])
    arguments.add_argument("--out", type=Path, default=ROOT / "docs/demo.webp")
    args = arguments.parse_args()
    if not all(programs()):
        sys.exit("error: no chromium with chromedriver; on Debian: apt-get install chromium-driver")
    study = open_study(args.configfile)
    engine = Slow(study, "cpu", 1)
    engine.load(*study.models[:1], *study.models[-1:])
    served = app.application(study, engine)
    ready = threading.Event()
    where = []

    def told(url):
        where.append(url)
        ready.set()

    serving = threading.Thread(target=app.serve, args=(served, "127.0.0.1", 0, told), daemon=True)
    serving.start()
    ready.wait()
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(Path(folder) / "profile")
        try:
            browser.width(WIDTH, HEIGHT)
            browser.open(where[0])
            browser.until("return document.querySelector('#draw-go')")
            time.sleep(1)
            shots = frames(browser, Path(folder))
        finally:
            browser.close()
    times = [FRAME] * (len(shots) - 1) + [LAST]
    shots[0].save(
        args.out,
        save_all=True,
        append_images=shots[1:],
        duration=times,
        loop=0,
        quality=70,
        method=6,
    )
    print(f"{args.out}: {len(shots)} frames, {args.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()

"""Take the README's pictures of the gallery and of the report of a finished study.

.venv/bin/python tools/screenshots.py [results/shapes] [report.zip]

Writes docs/gallery.png, docs/report.png (its first page and a table).
Needs Chromium with its driver (Debian: chromium, chromium-driver).
"""

import sys
import tempfile
import time
import zipfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.browser import Browser, programs  # noqa: E402

WIDTH, HEIGHT = 1280, 760
OPEN = """
const item = [...document.querySelectorAll("#app li")].find((e) => e.textContent.trim() === %r);
item.querySelector("a").click();
"""
VIEW = """
const row = [...document.querySelectorAll("#app tbody tr")].find((e) => e.textContent.includes(%r));
row.querySelector("td:last-child a").click();
"""
CHANGE = """
const bar = document.getElementById("bar");
bar.elements.sort.value = "gain";
bar.dispatchEvent(new Event("input", {bubbles: true}));
"""


def shrink(path: Path) -> None:
    """Few colours are enough, and a README should open fast."""
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB")


def gallery(browser: Browser, page: Path, out: Path) -> None:
    """All models and rounds, on the prompts that gain most."""
    browser.open(page)
    browser.run(CHANGE)
    time.sleep(1)
    browser.picture(out)
    shrink(out)


def report(browser: Browser, page: Path, out: Path) -> None:
    """The report's first page above, one of its tables below."""
    views = []
    for names in ((), ("Tables", "finetune")):
        browser.open(page)
        time.sleep(2)
        if names:
            browser.run(OPEN % names[0])
            time.sleep(1)
            browser.run(VIEW % names[1])
        time.sleep(2)
        browser.picture(out)
        with Image.open(out) as view:
            views.append(view.convert("RGB"))
    both = Image.new("RGB", (WIDTH, 2 * HEIGHT + 12), "white")
    for number, view in enumerate(views):
        both.paste(view, (0, number * (HEIGHT + 12)))
    both.save(out)
    shrink(out)


def main() -> None:
    study = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "results/shapes"
    archive = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "report.zip"
    if not all(programs()):
        sys.exit("error: no chromium with chromedriver; on Debian: apt-get install chromium-driver")
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(archive) as content:
            content.extractall(folder)
        browser = Browser(Path(folder) / "profile")
        try:
            browser.width(WIDTH, HEIGHT)
            gallery(browser, study / "gallery/index.html", ROOT / "docs/gallery.png")
            (page,) = Path(folder).glob("*/report.html")
            report(browser, page, ROOT / "docs/report.png")
        finally:
            browser.close()


if __name__ == "__main__":
    main()

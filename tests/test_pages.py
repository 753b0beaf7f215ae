"""Do the report's pages and contact sheets show what tables and scores say, and work offline?"""

import html
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import synthetic
from test_tables import build, load, made

from vlg import plugins
from vlg.analysis import markup, scores
from vlg.analysis.table import FORMS, Table
from vlg.errors import UserError
from vlg.report import pages, sheets

SCRIPTS = plugins.PACKAGE.parent
NAMES = ["finetune", "refinement", "hard_prompts", "claims"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return made(tmp_path_factory.mktemp("study"), prompts=36)[0]


@pytest.fixture(scope="module")
def written(tmp_path_factory, results):
    """The pages of the made-up study, and its findings by their script."""
    out = results / "report"
    loaded = load(results, synthetic.Study(pictures=False, prompts=36))
    for name in NAMES:
        made_table = build(loaded, name)
        pages.write(out / f"{name}.html", pages.table(name, made_table, made_table.texts(name)))
    arguments = ["--claims", results / "tables/claims.csv", "--out", out / "findings.html"]
    subprocess.run([sys.executable, SCRIPTS / "findings.py", *arguments], check=True)
    return out


def views(path):
    """{view: (header, rows of texts)} of a page."""
    text = path.read_text(encoding="utf-8")
    return {name: grid(found) for name, found in re.findall(VIEW, text, re.DOTALL)}


VIEW = r'<table id="view-(\w+)".*?>(.*?)</table>'


def grid(text):
    header = re.findall(r"<button type=\"button\">(.*?)</button>", text)
    rows = [re.findall(r"<td.*?>(.*?)</td>", row) for row in re.findall(r"<tr>(<td.*)</tr>", text)]
    return [html.unescape(title) for title in header], rows


def plain(cell):
    return html.unescape(cell.removeprefix("<b>").removesuffix("</b>"))


def test_a_page_holds_the_table_in_all_forms(written, results):
    frame = synthetic.rows(results / "tables/finetune.csv")
    text = (written / "finetune.html").read_text("utf-8")
    for form, title in FORMS.items():
        source = re.search(rf"<summary>{title}</summary>.*?<pre>\n(.*?)</pre>", text, re.DOTALL)[1]
        assert html.unescape(source) == (results / f"tables/finetune.{form}").read_text("utf-8")
    header, rows = views(written / "finetune.html")["shown"]
    assert [plain(row[0]) for row in rows] == [row["model"] for row in frame]
    place = header.index("ClipScore")
    for cells, row in zip(rows, frame, strict=True):
        assert plain(cells[place]).startswith(f"{float(row['clipscore']):.2f} [")
    strong = [plain(row[0]) for row in rows if row[0].startswith("<b>")]
    marked = (results / "tables/finetune.md").read_text("utf-8")
    assert strong == re.findall(r"^\| \*\*([\w-]+)\*\*", marked, re.MULTILINE) != []
    assert '<p class="caption">Fine-tuning. 24 prompts' in text
    header, rows = views(written / "finetune.html")["all"]
    assert header == list(frame[0])
    assert [plain(cell) for cell in rows[1]] == list(frame[1].values())


def test_a_table_of_anything_has_a_page(tmp_path):
    """Words that are not safe in HTML, numbers with gaps, a column of both."""
    frame = pd.DataFrame(
        {"name": ["<b>&</script>", "b", "c"], "value": [1.5, np.nan, -2], "both": ["x", np.nan, ""]}
    )
    columns = [markup.Column("Name", "name"), markup.Column("Value <", "value", scale=10)]
    made_table = Table(frame, "A <caption>.", columns)
    text = pages.table("my_table", made_table, made_table.texts("my_table"))
    assert "<title>My table</title>" in text and "A &lt;caption&gt;." in text
    (tmp_path / "page.html").write_text(text)
    header, rows = views(tmp_path / "page.html")["shown"]
    assert header == ["Name", "Value <"]
    assert [[plain(cell) for cell in row] for row in rows] == [
        ["<b>&</script>", "15.00"], ["b", "–"], ["c", "−20.00"],
    ]  # fmt: skip
    assert text.count("</script>") == 1
    numbers = re.findall(r'data-value="(.*?)"', text)
    assert numbers == ["1.5", "-2.0"] * 2  # in either view, and none for what is empty or words


def test_an_empty_table_has_a_page(tmp_path):
    shape = synthetic.Study(pictures=False, prompts=12, rounds=1, hard=0)
    root, _ = made(tmp_path, prompts=12, rounds=1, hard=0)
    nothing = build(load(root, shape), "hard_prompts")
    text = pages.table("hard_prompts", nothing, nothing.texts("hard_prompts"))
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    header, rows = views(tmp_path / "page.html")["shown"]
    assert header == [column.title for column in nothing.columns] and rows == []


def test_findings_are_the_rows_of_the_claims(written, results):
    text = (written / "findings.html").read_text(encoding="utf-8")
    claims = synthetic.rows(results / "tables/claims.csv")
    assert len(re.findall("<li>", text)) == len(claims)
    for verdict in {row["verdict"] for row in claims}:
        part = re.search(rf"<b>{verdict.capitalize()}</b></p><ul>(.*?)</ul>", text)[1]
        own = [row for row in claims if row["verdict"] == verdict]
        for item, row in zip(re.findall("<li>(.*?)</li>", part), own, strict=True):
            assert html.unescape(item).startswith(row["statement"])
            assert f"{float(row['effect']):+.2f}".replace("-", "−") in item


def test_a_claim_that_was_not_measured_says_why(tmp_path):
    root, _ = made(tmp_path, prompts=12, rounds=1, arms={})
    text = pages.findings(synthetic.rows(root / "tables/claims.csv"))
    assert "equal compute (not measured: there is no arm best_of_n" in text
    assert "no claims" in pages.findings([])


def test_pages_ask_for_nothing_from_elsewhere(written):
    for path in written.glob("*.html"):
        assert not re.search(
            r"https?://|@import|<link[^>]+href=\"(?!data:)", path.read_text("utf-8")
        )


def test_missing_claims_are_named(tmp_path):
    words = ["--claims", tmp_path / "claims.csv", "--out", tmp_path / "findings.html"]
    command = [sys.executable, SCRIPTS / "findings.py", *words]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "claims.csv: not found; make the tables first" in ended.stderr


def test_browser_sorts_filters_and_copies(written, browser):
    browser.width(1280)
    browser.open(written / "finetune.html")
    column = (
        "return [...document.querySelectorAll('table:not([hidden]) tbody tr:not([hidden])')]"
        ".map((row) => row.cells[0].textContent)"
    )
    header, rows = views(written / "finetune.html")["shown"]
    asked = [plain(row[0]) for row in rows]
    assert browser.run(column) == asked
    # By ClipScore: largest first, then smallest, then as written.
    title = "[...document.querySelectorAll('th button')].find((b) => b.textContent === 'ClipScore')"
    place = header.index("ClipScore")
    scored = {plain(row[0]): float(plain(row[place]).split(" ")[0]) for row in rows}
    falling = sorted(asked, key=scored.get, reverse=True)
    for order in (falling, falling[::-1], asked):
        browser.run(f"{title}.click()")
        assert browser.run(column) == order
    browser.run("search.value = 'EMBED'; search.dispatchEvent(new Event('input'))")
    assert browser.run(column) == [name for name in asked if name.startswith("embed")]
    assert browser.run("return document.getElementById('count').textContent") == "3 of 7 rows"
    browser.run("search.value = ''; all.click()")
    shown = "return [...document.querySelectorAll('table:not([hidden]) th')]"
    everything = views(written / "finetune.html")["all"][0]
    assert browser.run(f"{shown}.map((c) => c.textContent)") == everything
    latex = "[...document.querySelectorAll('details')].find((d) => d.textContent[0] === 'L')"
    text = browser.run(f"return {latex}.querySelector('pre').textContent")
    assert text.startswith("% \\usepackage{booktabs")
    browser.width(360)
    assert browser.run("return document.documentElement.scrollWidth") == 360
    assert browser.messages() == []


# --- contact sheets ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictured(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictured")
    return root, synthetic.write(root, synthetic.Study(prompts=15, rounds=1, steps=(20,), hard=2))


def draw(root, wanted):
    prompts = scores.read_prompts(root / "prompts.tsv")
    table = scores.read(synthetic.score_files(root), prompts)
    return sheets.write(
        root, table, prompts, sheets.Settings.parse({"sheets": wanted}, "sheets"), root / "sheets"
    )


def test_a_sheet_shows_the_pictures_of_its_model(pictured):
    from PIL import Image, ImageChops, ImageStat

    root, _ = pictured
    wanted = {"embed-20": ["embed-20", "", 0], "base-refine-1": ["base", "refine", 1]}
    files = ("images/embed-20/study", "refined/base")
    for path, source in zip(draw(root, wanted), files, strict=True):
        own = synthetic.rows(root / f"scores/{source}.csv")
        shown = [row for row in own if row["seed"] == "0" and row["arm"] != "best_of_n"]
        assert len(shown) == 10  # all study prompts, in their order
        with Image.open(path) as sheet:
            for i, row in enumerate(shown):
                x = sheets.GAP + i % sheets.COLUMNS * (sheets.PICTURE + sheets.GAP)
                y = sheets.HEAD + i // sheets.COLUMNS * sheets.HEIGHT
                part = sheet.crop((x, y, x + sheets.PICTURE, y + sheets.PICTURE)).resize((32, 32))
                with Image.open(root / row["picture"]) as picture:
                    difference = ImageChops.difference(part, picture.convert("RGB"))
                assert max(ImageStat.Stat(difference).mean) < 15, row["picture"]


def test_a_sheet_without_pictures_is_named(pictured):
    with pytest.raises(UserError, match="no picture of base refine round 9"):
        draw(pictured[0], {"it": ["base", "refine", 9]})

"""Do the report's pages and contact sheets show what tables and scores say, and work offline?"""

import html
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest
import synthetic
from test_tables import build, command, load, made

from vlg import plugins
from vlg.analysis import scores
from vlg.analysis.table import FORMS
from vlg.errors import UserError
from vlg.report import pages, sheets

SCRIPTS = plugins.PACKAGE.parent
NAMES = ["finetune", "refinement", "hard_prompts", "claims"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return made(tmp_path_factory.mktemp("study"), prompts=36)


@pytest.fixture(scope="module")
def results(study):
    return study[0]


@pytest.fixture(scope="module")
def written(study):
    """The pages as the rules have them made."""
    root, shape = study
    for name in NAMES:
        subprocess.run(command(root, shape, name), check=True, capture_output=True)
    words = [sys.executable, SCRIPTS / "findings.py", "--claims", root / "tables/claims.csv"]
    out = root / "by_script/findings.html"
    subprocess.run([*words, "--out", out], check=True, capture_output=True)
    return root / "by_script"


def view(page, name):
    """A table of a page as a reader sees it: titles, and rows of (text, strong)."""
    text = page.read_text(encoding="utf-8")
    (table,) = re.findall(rf'<table id="view-{name}".*?</table>', text, re.DOTALL)
    head, *rows = ElementTree.fromstring(re.sub(" hidden(?=[ >])", "", table)).iter("tr")
    cells = [[("".join(c.itertext()), c.find("b") is not None) for c in row] for row in rows]
    return ["".join(cell.itertext()) for cell in head], cells


def sources(page):
    """The forms of a page that can be copied, by title."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"<summary>(\w+)</summary>.*?<pre>\n(.*?)</pre>", text, re.DOTALL)
    return {title: html.unescape(form) for title, form in found}


def test_a_page_holds_the_table_in_all_forms(written, results):
    page, frame = written / "finetune.html", synthetic.rows(results / "tables/finetune.csv")
    forms = sources(page)
    for form, title in FORMS.items():
        assert forms[title] == (results / f"tables/finetune.{form}").read_text("utf-8")
    header, rows = view(page, "shown")
    assert [row[0][0].rstrip("†") for row in rows] == [row["model"] for row in frame]
    place = header.index("ClipScore")
    for cells, row in zip(rows, frame, strict=True):
        assert cells[place][0].startswith(f"{float(row['clipscore']):.2f} [")
    strong = [row[0][0] for row in rows if row[0][1]]
    assert strong == re.findall(r"^\| \*\*([\w-]+)\*\*", forms["Markdown"], re.MULTILINE)
    assert '<p class="caption">Fine-tuning. 24 prompts' in page.read_text("utf-8")
    header, rows = view(page, "all")
    assert header == list(frame[0])
    assert [text for text, _ in rows[1]] == list(frame[1].values())


def test_words_of_a_table_are_text(study):
    made_of = build(load(*study))
    made_of.caption = made_of.frame.loc[1, "model"] = "<b>&</b></script>"
    text = pages.table("finetune", made_of, made_of.texts("finetune"))
    assert "&lt;b&gt;&amp;&lt;/b&gt;&lt;/script&gt;" in text
    assert "<b>&" not in text and text.count("</script>") == 1


def test_an_empty_table_has_a_page(tmp_path):
    root, shape = made(tmp_path, prompts=12, rounds=1, hard=0)
    table = build(load(root, shape), "hard_prompts")
    page = tmp_path / "page.html"
    pages.write(page, pages.table("hard_prompts", table, table.texts("hard_prompts")))
    header, rows = view(page, "shown")
    assert header == [column.title for column in table.columns] and rows == []


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


def test_a_missing_table_is_named(tmp_path):
    words = [sys.executable, SCRIPTS / "findings.py", "--claims", tmp_path / "claims.csv"]
    words += ["--out", tmp_path / "findings.html"]
    ended = subprocess.run([*map(str, words)], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "claims.csv: not found; make the tables first" in ended.stderr


def test_browser_sorts_filters_and_copies(written, browser):
    page = written / "finetune.html"
    browser.width(1280)
    browser.open(page)
    table = "document.querySelector('.wide table:not([hidden])')"
    column = (
        f"return [...{table}.tBodies[0].rows].filter((row) => !row.hidden)"
        ".map((row) => row.cells[0].textContent)"
    )
    header, rows = view(page, "shown")
    asked = [row[0][0] for row in rows]
    assert browser.run(column) == asked
    # By ClipScore: largest first, then smallest, then as written.
    title = "[...document.querySelectorAll('th button')].find((b) => b.textContent === 'ClipScore')"
    place = header.index("ClipScore")
    scored = {row[0][0]: float(row[place][0].split(" ")[0].rstrip("†")) for row in rows}
    falling = sorted(asked, key=scored.get, reverse=True)
    for order in (falling, falling[::-1], asked):
        browser.run(f"{title}.click()")
        assert browser.run(column) == order
    browser.run("search.value = 'EMBED'; search.dispatchEvent(new Event('input'))")
    assert browser.run(column) == [name for name in asked if name.startswith("embed")]
    browser.run("search.value = ''; all.click()")
    titles = f"return [...{table}.tHead.rows[0].cells].map((c) => c.textContent)"
    assert browser.run(titles) == view(page, "all")[0]
    assert len(browser.run(column)) == len(asked)
    latex = "[...document.querySelectorAll('details')].find((d) => d.textContent[0] === 'L')"
    text = browser.run(f"return {latex}.querySelector('pre').textContent")
    assert text == sources(page)["LaTeX"]
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
    return sheets.write(root, table, prompts, {"sheets": wanted}, root / "sheets")


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

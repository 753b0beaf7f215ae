"""Do the report's pages and contact sheets show what tables and scores say, and work offline?"""

import html
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import synthetic
from test_tables import made

from vlg.analysis import scores
from vlg.errors import UserError
from vlg.report import pages, sheets

SCRIPTS = Path(pages.__file__).parents[1]
NAMES = ["finetune", "refinement", "hard_prompts", "claims"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return made(tmp_path_factory.mktemp("study"), prompts=36)[0]


@pytest.fixture(scope="module")
def written(results):
    arguments = ["--settings", json.dumps({"names": NAMES})]
    arguments += ["--tables", results / "tables", "--out", results / "report"]
    subprocess.run([sys.executable, SCRIPTS / "pages.py", *arguments], check=True)
    return results / "report"


def data(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text)[1])


def test_a_page_holds_the_table_in_all_forms(written, results):
    page, frame = data(written / "finetune.html"), synthetic.rows(results / "tables/finetune.csv")
    for form, title in pages.FORMS.items():
        assert page["sources"][title] == (results / f"tables/finetune.{form}").read_text("utf-8")
    shown = page["views"]["shown"]
    assert [row[0]["text"] for row in shown["rows"]] == [row["model"] for row in frame]
    place = shown["header"].index("ClipScore")
    for cells, row in zip(shown["rows"], frame, strict=True):
        assert cells[place]["text"].startswith(f"{float(row['clipscore']):.2f} [")
    strong = [row[0]["text"] for row in shown["rows"] if row[0]["strong"]]
    assert strong == re.findall(r"^\| \*\*([\w-]+)\*\*", page["sources"]["Markdown"], re.MULTILINE)
    assert page["caption"].startswith("Fine-tuning. 24 prompts")
    everything = page["views"]["all"]
    assert everything["header"] == list(frame[0])
    assert [cell["text"] for cell in everything["rows"][1]] == list(frame[1].values())


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
    text = pages.findings(root / "tables")
    assert "equal compute (not measured: there is no arm best_of_n" in text


def test_pages_ask_for_nothing_from_elsewhere(written):
    for path in written.glob("*.html"):
        assert not re.search(
            r"https?://|@import|<link[^>]+href=\"(?!data:)", path.read_text("utf-8")
        )


def test_a_missing_table_is_named(results, tmp_path):
    with pytest.raises(UserError, match="finetune.md: not found; make the tables first"):
        (tmp_path / "finetune.csv").write_text("model\n")
        pages.table(tmp_path, "finetune")


def test_browser_sorts_filters_and_copies(written, browser):
    browser.width(1280)
    browser.open(written / "finetune.html")
    column = (
        "return [...document.querySelectorAll('tbody td:first-child')].map((c) => c.textContent)"
    )
    asked = [row[0]["text"] for row in data(written / "finetune.html")["views"]["shown"]["rows"]]
    assert browser.run(column) == asked
    # By ClipScore: largest first, then smallest, then as written.
    title = "[...document.querySelectorAll('th button')].find((b) => b.textContent === 'ClipScore')"
    scored = {
        row[0]["text"]: float(row[1]["text"].split(" ")[0])
        for row in data(written / "finetune.html")["views"]["shown"]["rows"]
    }
    falling = sorted(asked, key=scored.get, reverse=True)
    for order in (falling, falling[::-1], asked):
        browser.run(f"{title}.click()")
        assert browser.run(column) == order
    browser.run("search.value = 'EMBED'; search.dispatchEvent(new Event('input'))")
    assert browser.run(column) == [name for name in asked if name.startswith("embed")]
    browser.run("search.value = ''; all.click()")
    header = "return [...document.querySelectorAll('th')].map((c) => c.textContent)"
    assert browser.run(header) == data(written / "finetune.html")["views"]["all"]["header"]
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

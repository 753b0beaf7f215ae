"""The report of a study in one file, in a browser that has no network."""

import time
import zipfile
from pathlib import Path

import pytest

from tests.reduced import ARMS, MODELS, RESULTS, ROUNDS, TABLES, rows

CLICK = """
const found = [...document.querySelectorAll("#app li")].filter((e) => e.textContent.trim() === %r);
found[0].querySelector("a").click();
"""
VIEW = "document.querySelector('#app tbody tr td:last-child a').click()"


def look(browser, page, *names):
    """Open the report, click on `names` one after the other, then on the first result's eye."""
    browser.open(page)
    for name in names:
        wait(browser, f"return document.querySelector('#app').textContent.includes({name!r})")
        browser.run(CLICK % name)
    if names:
        wait(browser, "return document.querySelector('#app tbody tr')")
        browser.run(VIEW)


def wait(browser, program):
    for _ in range(100):
        if found := browser.run(program):
            return found
        time.sleep(0.1)
    raise AssertionError(f"not in time: {program}")


def complaints(browser):
    """Errors of the console; a warning of Snakemake's own style sheet is none."""
    return [message for message in browser.messages() if message["level"] != "WARNING"]


@pytest.mark.parametrize("form", ["zip", "html"])
def test_the_report_is_whole_and_opens_without_a_network(study, browser, tmp_path, form):
    done = study.snakemake("--report", tmp_path / f"it.{form}")
    assert done.code == 0, done.output
    assert "Missing metadata" not in done.output
    page = tmp_path / "it.html"
    if form == "zip":
        with zipfile.ZipFile(tmp_path / "it.zip") as archive:
            archive.extractall(tmp_path)
        page = tmp_path / "it/report.html"
    browser.width(1400)
    look(browser, page)
    listed = {
        f"{category}/{Path(path).name}"
        for category, groups in browser.run("return categories").items()
        for paths in groups.values()
        for path in paths
    }
    expected = {
        *(f"Tables/{table}.html" for table in TABLES),
        *(f"Tables to paste/{t}.{form}" for t in TABLES for form in ("csv", "md", "tex")),
        *(f"Figures/{f}.{form}" for f in ("finetune", "training") for form in ("svg", "png")),
        *(f"Pictures/{model}.jpg" for model in MODELS),
        *(f"Pictures/base-{arm}-{r}.jpg" for arm in ARMS for r in range(1, ROUNDS + 1)),
        "Gallery/hard-prompts.html",
        "Provenance/provenance.json",
    }
    assert expected <= listed
    captions = browser.run("return Object.values(results).map((result) => result.caption)")
    assert all("scripts/" in caption for caption in captions)
    text = wait(browser, "return document.querySelector('#app .prose')?.textContent")
    claims = rows(study.root / RESULTS / "tables/claims.csv")
    assert all(claim["statement"] in text for claim in claims)
    # What is seen, is seen inside the report.
    look(browser, page, "Figures")
    wait(browser, "return document.querySelector('#app .p-3 > img')?.naturalWidth > 500")
    look(browser, page, "Pictures", "Refinement")
    wait(browser, "return document.querySelector('#app .p-3 > img')?.naturalWidth > 500")
    for category, inside in (("Tables", "td"), ("Gallery", "article img")):
        look(browser, page, category)
        wait(browser, "return document.querySelector('#app iframe')")
        browser.frame("#app iframe")
        wait(browser, f"return document.querySelector('{inside}')")
        if category == "Gallery":
            wait(browser, "return document.querySelector('article img').naturalWidth === 32")
        browser.frame()
        asked = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
        assert all(name.startswith(("file:", "data:")) for name in browser.run(asked))
    assert complaints(browser) == []

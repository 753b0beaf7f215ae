"""The demo as people and programs meet it: over HTTP, through its API, in a browser."""

from __future__ import annotations

import json
import re
import socket
import time
from pathlib import Path

import axe_core_python
import pytest

from tests import demo
from tests.demo import TUNED
from tools.browser import Browser
from vlg.demo.votes import Votes

WHY = "the demo's packages are not installed: `make demo` or `make test` adds them"
pytest.importorskip("gradio", reason=WHY)
DOCS = Path(__file__).parents[1] / "docs/demo.md"

PROMPT = "a large red circle on a white background"
STATUS = "return document.querySelector('#draw-status')?.textContent.trim()"
DONE = "return /Done/.test(document.querySelector('#draw-status')?.textContent)"
CLICK = "document.querySelector('{0}').click()"
# What a text box holds is the page's own matter: it is told as if somebody had typed.
TYPE = """
const box = [...document.querySelectorAll('label')].find(
  (label) => label.offsetParent && label.textContent.trim().startsWith({label})
).querySelector('input, textarea');
Object.getOwnPropertyDescriptor(Object.getPrototypeOf(box), 'value').set.call(box, {value});
box.dispatchEvent(new Event('input', {{bubbles: true}}));
"""
TABS = [
    ("Draw", "#draw-go", "/Done/.test(document.querySelector('#draw-status').textContent)"),
    ("Watch", "#watch-go", "/Done/.test(document.querySelector('#watch-status').textContent)"),
    ("Compare", "#compare-go", "document.querySelector('.sliding')"),
    ("Vote", "#vote-next", "!document.querySelector('#vote-tie').disabled"),
]
BOX = "document.querySelector('input[aria-label=\"number input for Steps\"]')"
SLIDE = (
    f"const box = {BOX};"
    + """
Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(box, 50);
box.dispatchEvent(new Event('input', {bubbles: true}));
box.dispatchEvent(new Event('blur', {bubbles: true}));
"""
)
TAB = """
[...document.querySelectorAll('button[role=tab]')].find(
  (tab) => tab.textContent.trim() === {0}).click()
"""


@pytest.fixture(scope="module")
def top(tmp_path_factory):
    top = tmp_path_factory.mktemp("served")
    demo.with_models(top)
    return top


@pytest.fixture(scope="module")
def server(top):
    server = demo.Server(top)
    yield server
    server.kill()


@pytest.fixture
def votes(top):
    votes = Votes(top / f"results/{demo.NAME}/votes.csv")
    votes.path.unlink(missing_ok=True)
    return votes


# --- over HTTP ------------------------------------------------------------------------------------


def asked(server, path="/", method="GET", **headers):
    """(status, headers, body) of a request whose headers are exactly these."""
    with socket.create_connection(("127.0.0.1", server.port), 60) as line:
        named = {"Host": f"127.0.0.1:{server.port}", "Connection": "close", **headers}
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in named.items())
        line.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode())
        answer = b"".join(iter(lambda: line.recv(2**16), b"")).decode("utf-8", "replace")
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), head.lower(), body


@pytest.mark.parametrize(
    ("path", "changes", "status"),
    [
        ("/", {}, 200),
        ("/", {"Host": "localhost"}, 200),
        ("/", {"Host": "evil.example"}, 421),
        ("/config", {"Host": "127.0.0.1.evil.example:7860"}, 421),
        ("/", {"Origin": "http://evil.example"}, 403),
        ("/", {"Origin": "null"}, 403),
        ("/", {"Origin": "http://127.0.0.1:1"}, 403),
        ("/", {"Host": "localhost:7860", "Origin": "http://localhost:7860"}, 200),
        ("/gradio_api/queue/join", {"method": "POST", "Content_Length": 10**9}, 413),
        ("/gradio_api/upload", {"method": "POST", "Content_Length": 0}, 404),
        ("/gradio_api/file=/etc/passwd", {}, 404),
        ("/gradio_api/file/etc/passwd", {}, 404),
        ("/gradio_api/proxy=http://evil.example/", {}, 404),
        ("/gradio_api/mcp/sse", {}, 404),
        ("/monitoring", {}, 404),
        ("/docs", {}, 404),
        ("/openapi.json", {}, 404),
    ],
)
def test_who_may_ask_for_what(server, path, changes, status):
    assert asked(server, path, **changes)[0] == status


def test_a_browser_is_told_to_load_nothing_from_outside(server):
    _, head, body = asked(server)
    assert "content-security-policy: default-src 'self'" in head
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=.https?://(?!127\.0\.0\.1)", body)


# --- through the API ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(server):
    client = pytest.importorskip("gradio_client", reason=WHY).Client(server.url, verbose=False)
    yield client
    client.close()


def test_the_example_of_the_docs_runs(server, tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert "http://127.0.0.1:7860" in code
    monkeypatch.chdir(tmp_path)
    exec(code.replace("http://127.0.0.1:7860", server.url), {})
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert "clipscore" in capsys.readouterr().out


def test_a_program_draws_and_scores(client):
    assert client.predict(api_name="/models")["models"] == ["base", TUNED]
    drawn = client.predict(PROMPT, TUNED, 3, "refine", 2, 2, api_name="/draw")
    assert [each["round"] for each in drawn["rounds"]] == [0, 1, 2]
    scored = client.predict(drawn["picture"], PROMPT, api_name="/score")
    assert scored["clipscore"] == pytest.approx(drawn["clipscore"], abs=0.01)
    assert scored["facts"] == drawn["facts"] and "background" in scored["facts"]


@pytest.mark.parametrize(
    ("given", "named"),
    [(("x" * 1000,), "prompt"), ((PROMPT, "../guide"), "model"), ((PROMPT, "base", -1), "seed")],
)
def test_what_is_wrong_is_said_in_a_line(client, given, named):
    with pytest.raises(Exception, match=f"^{named}.*; "):
        client.predict(*given, api_name="/draw")
    with pytest.raises(Exception, match="^picture: "):
        client.predict("/etc/passwd", PROMPT, api_name="/score")


def test_pages_keep_their_own_ways_to_themselves(client):
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert named.keys() == {"/draw", "/score", "/models"}


# --- in a browser ---------------------------------------------------------------------------------


@pytest.fixture
def page(browser, server):
    browser.width(1280, 900)
    opened(browser, server)
    return browser


def opened(browser, server):
    browser.open(server.url)
    browser.until("return document.querySelector('#draw-go')")


def typed(browser, label, value):
    browser.run(TYPE.format(label=json.dumps(label), value=json.dumps(value)))


def many_steps(browser):
    browser.run(
        "[...document.querySelectorAll('button')].find((b) => b.offsetParent && "
        "b.textContent.trim().startsWith('Settings')).click()"
    )
    browser.until(f"return {BOX}")
    browser.run(SLIDE)


def drawn(browser, prompt=PROMPT):
    typed(browser, "Prompt", prompt)
    time.sleep(0.3)
    browser.run(CLICK.format("#draw-go"))
    browser.until(DONE, 120)


def tab(browser, name, there):
    browser.run(TAB.format(json.dumps(name)))
    browser.until(f"return document.querySelector('{there}')?.offsetParent")


def test_two_models_are_drawn_as_they_are_denoised(page):
    page.run(
        "window.seen = new Set(); new MutationObserver(() => { const now = "
        "document.querySelector('#draw-left .estimate img'); if (now) seen.add(now.src); })"
        ".observe(document.body, {attributes: true, childList: true, subtree: true})"
    )
    drawn(page)
    assert page.run("return seen.size") > 2
    for side, model in (("left", "base"), ("right", TUNED)):
        text = page.run(f"return document.querySelector('#draw-{side}').textContent")
        assert model in text and "ClipScore" in text and "background" in text
    both = page.run("return [...document.querySelectorAll('.picture img')].map((i) => i.alt)")
    assert len(both) == 2 and all(PROMPT in alt for alt in both)
    outside = page.run("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert all(name.startswith((page.run("return location.origin"), "data:")) for name in outside)
    assert [each for each in page.messages() if each["level"] == "SEVERE"] == []


def test_a_page_that_has_loaded_left_no_stream_to_close(page, votes):
    """Gradio's stream of answers closes with the last one: a drawing that is asked for in that
    moment would wait for ever. So nothing but a drawing opens it."""
    tab(page, "Compare", "#compare-go")
    page.until("return /Choose two/.test(document.querySelector('#compare-status').textContent)")
    page.run(CLICK.format("#compare-go"))
    page.until("return document.querySelector('.sliding')")
    tab(page, "Vote", "#vote-next")
    page.run(CLICK.format("#vote-next"))
    page.until("return !document.querySelector('#vote-tie').disabled")
    streams = (
        "return performance.getEntriesByType('resource')"
        ".filter((e) => /queue[/]/.test(e.name)).map((e) => e.name)"
    )
    assert page.run(streams) == []
    tab(page, "Draw", "#draw-go")
    drawn(page)
    assert page.run(streams) != []


def test_what_a_user_writes_is_shown_as_it_is(page):
    drawn(page, "<img src=x onerror=document.title='broken'>")
    assert page.run("return document.title") != "broken"
    assert "<img src=x" in page.run("return document.querySelector('.picture img').alt")


def test_users_do_not_see_each_other(page, server, tmp_path_factory):
    other = Browser(tmp_path_factory.mktemp("other"))
    try:
        opened(other, server)
        drawn(page, "a small blue cross")
        assert (
            "blue cross"
            not in other.run("return document.documentElement.outerHTML").split(
                "window.gradio_config"
            )[0]
        )
        drawn(other)
        assert "blue cross" in page.run("return document.querySelector('.picture img').alt")
        assert PROMPT in other.run("return document.querySelector('.picture img').alt")
    finally:
        other.close()


def test_a_vote_is_blind_then_told_then_taken_back(page, votes):
    tab(page, "Vote", "#vote-next")
    page.run(CLICK.format("#vote-next"))
    page.until("return document.querySelectorAll('#vote-one img, #vote-two img').length === 2")
    shown = "return document.querySelector('#vote-one').innerHTML + "
    shown += "document.querySelector('#vote-two').innerHTML"
    before = page.run(shown)
    assert "base" not in before.replace("base64", "") and TUNED not in before
    page.run(CLICK.format("#vote-left"))
    page.until("return /better/.test(document.querySelector('#vote-said').textContent)")
    (row,) = votes.rows()
    assert row["vote"] == "left" and row["rater"].startswith("guest-")
    assert all(row[f"{side}_model"] in page.run(shown) for side in ("left", "right"))
    assert "of 1" in page.run("return document.querySelector('#vote-tally').textContent")
    page.run(CLICK.format("#vote-back"))
    page.until("return /Taken back/.test(document.querySelector('#vote-prompt').textContent)")
    assert votes.rows() == []


def test_votes_can_be_given_by_keys(page, votes):
    tab(page, "Vote", "#vote-next")
    typed(page, "Your name", "ann")
    page.run(CLICK.format("#vote-keys input"))
    for number, key in enumerate(("\ue014", "\ue015", "\ue013"), start=1):  # right, down, up
        page.keys("\ue007")
        page.until("return !document.querySelector('#vote-tie').disabled")
        page.keys(key)
        page.until("return !document.querySelector('#vote-back').disabled")
        assert len(votes.rows()) == number
    assert [row["vote"] for row in votes.rows()] == ["right", "tie", "both_bad"]
    assert {row["rater"] for row in votes.rows()} == {"ann"}


def test_pictures_of_the_study_are_compared(page):
    tab(page, "Compare", "#compare-go")
    page.until("return /Choose two/.test(document.querySelector('#compare-status').textContent)")
    typed(page, "Words of the prompt", "circle")
    page.run(CLICK.format("#compare-go"))
    page.until("return document.querySelector('.sliding')")
    every = "return [...document.querySelectorAll('.pairs figcaption')].map((c) => c.textContent)"
    titles = page.run(every)
    assert titles and all("circle" in title for title in titles)
    page.run(
        "const s = document.querySelector('.sliding input'); s.value = 20; "
        "s.dispatchEvent(new Event('input'))"
    )
    at = "return getComputedStyle(document.querySelector('.sliding')).getPropertyValue('--at')"
    assert page.run(at) == "20%"


def test_the_guide_is_watched(page):
    tab(page, "Watch", "#watch-go")
    page.run(CLICK.format("#watch-go"))
    page.until("return /Done/.test(document.querySelector('#watch-status').textContent)", 120)
    label = page.run("return document.querySelector('#watch-plot svg').getAttribute('aria-label')")
    assert label.startswith("judge from") and "guide from" in label


def test_the_server_dies_in_mid_picture_and_comes_back(page, server, top, votes):
    many_steps(page)
    page.run(CLICK.format("#draw-go"))
    page.until("return document.querySelector('#draw-left .estimate')")
    tab(page, "Vote", "#vote-next")
    page.run(CLICK.format("#vote-next"))
    page.until("return !document.querySelector('#vote-tie').disabled")
    page.run(CLICK.format("#vote-tie"))
    page.until("return !document.querySelector('#vote-back').disabled")
    server.kill()
    server.__init__(top, server.port)
    assert len(votes.rows()) == 1
    opened(page, server)
    drawn(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_and_can_be_read(page, server, scheme, width, request):
    page.colours(scheme)
    page.width(width)
    opened(page, server)
    drawn(page)
    assert page.run("return document.documentElement.scrollWidth") <= width
    assert page.run("return document.body.classList.contains('dark')") == (scheme == "dark")
    assert violations(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_tab_can_be_read(page, server, scheme):
    """Labels, roles and contrast, as axe checks them."""
    page.colours(scheme)
    opened(page, server)
    for name, button, there in TABS:
        tab(page, name, button)
        page.run(CLICK.format(button))
        page.until(f"return {there}", 120)
        assert violations(page) == [], name


def violations(page):
    """What axe finds serious, with the elements that it is about."""
    source = Path(axe_core_python.__path__[0]) / "axe.min.js"
    page.run(source.read_text(encoding="utf-8") + "; window.axe = window.axe || axe")
    page.run("window.found = null; axe.run().then((r) => { window.found = r.violations })")
    found = page.until("return window.found && {all: window.found}")["all"]
    return [
        (each["id"], [node["html"][:200] for node in each["nodes"]])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]

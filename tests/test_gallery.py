"""Does the gallery hold what was scored, and does it work in a browser, from disk?"""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import synthetic

from vlg.analysis import scores
from vlg.data import pictures
from vlg.errors import UserError
from vlg.report import gallery

SCRIPT = Path(gallery.__file__).parents[2] / "gallery.py"


def settings(study, **changes):
    values = {"study": "made <up>", "prompts": 12, "models": study.models}
    return gallery.Settings.parse(values | changes, "gallery")


def write(root, study, out, **changes):
    prompts = scores.read_prompts(root / "prompts.tsv")
    table = scores.read(synthetic.score_files(root), prompts)
    hard = scores.read_prompts(root / "hard_prompts.tsv")
    judges = {path.name: path for path in (root / "judges").glob("*")}
    gallery.write(root, table, prompts, hard, settings(study, **changes), out, judges)
    return out


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    study = synthetic.write(root, synthetic.Study(prompts=18, rounds=2, steps=(20, 50), hard=4))
    samples(root, study.models[1:])
    judged(root, "embed-20")
    return root, study


@pytest.fixture(scope="module")
def page(results):
    root, study = results
    return write(root, study, root / "gallery")


@pytest.fixture
def fresh(tmp_path):
    shape = synthetic.Study(prompts=9, rounds=1, steps=(20,), hard=2, variants=("embed",))
    return tmp_path, synthetic.write(tmp_path, shape)


def data(page):
    text = (page if page.suffix else page / "index.html").read_text(encoding="utf-8")
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1]
    )


def judged(root, model):
    """What a further judge says of one model: a number that its checksum begins with."""
    rows = scores.read(synthetic.score_files(root), scores.read_prompts(root / "prompts.tsv"))
    rows = rows[(rows["model"] == model) & (rows["arm"] == "")]
    rows = rows.assign(score=[int(text[:3], 16) for text in rows["sha256"]])
    rows = rows[["model", "id", "seed", "sha256", "score"]]
    (root / "judges/sig_lip").mkdir(parents=True)
    rows.to_csv(root / f"judges/sig_lip/{model}.csv", index=False)


def samples(root, models):
    """Pictures that checkpoints drew of development prompts."""
    for number, model in enumerate(models):
        folder = root / "training" / model / "samples"
        rows = [
            {"file_name": f"0-{key}.png", "id": key, "prompt": text, "seed": 0}
            for key, text in (("d0000", "a <b>grey</b> square"), ("d0001", "a black square"))
        ]
        for place, row in enumerate(rows):
            shade = np.full((32, 32, 3), 40 * number + 20 * place, np.uint8)
            pictures.save(folder / row["file_name"], shade, row)
        pictures.write_metadata(folder, rows, weights="w")


# --- contents ------------------------------------------------------------------------------------


def test_pictures_named_by_the_page_are_the_pictures_there(page):
    cells = [prompt["cells"].values() for prompt in data(page)["prompts"]]
    named = {cell[0] for lines in cells for line in lines for cell in line if cell}
    named |= {name for row in data(page)["samples"]["rows"] for name in row["cells"]}
    assert named == {f"pictures/{path.name}" for path in (page / "pictures").iterdir()}


def test_scores_stand_beside_their_pictures(page, results):
    import hashlib

    root, _ = results
    shown = data(page)
    column = [c["name"] for c in shown["columns"]].index("embed-50")
    by_id = {prompt["id"]: prompt for prompt in shown["prompts"]}
    checked = 0
    for row in synthetic.rows(root / "scores/images/embed-50/study.csv"):
        if row["id"] not in by_id:
            continue
        picture, clipscore, guide, fidelity, strict, *facts = by_id[row["id"]]["cells"][
            row["seed"]
        ][column]
        assert clipscore == pytest.approx(float(row["clipscore"]), abs=0.006)
        assert guide == pytest.approx(float(row["guide"]), abs=0.006)
        assert strict == int(row["strict"])
        assert facts[4] == (None if row["relation"] == "" else int(row["relation"]))
        assert hashlib.sha256((page / picture).read_bytes()).hexdigest() == row["sha256"]
        checked += 1
    assert checked > 10


def test_what_further_judges_say_stands_last(page):
    found = data(page)
    assert found["judges"] == ["sig lip"]
    place = [column["name"] for column in found["columns"]].index("embed-20")
    lines = [line for prompt in found["prompts"] for line in prompt["cells"].values()]
    own = [line[place] for line in lines]
    assert own == [[*cell[:-1], int(Path(cell[0]).name[:3], 16)] for cell in own]
    assert {line[0][-1] for line in lines} <= {None, *(cell[-1] for cell in own)}


def test_columns_are_models_then_rounds(page):
    names = [column["name"] for column in data(page)["columns"]]
    tuned = ["normal-20", "normal-50", "embed-20", "embed-50"]
    arms = [f"base {arm} round {i}" for arm in ("refine", "best_of_n") for i in (1, 2)]
    assert names == ["base", *tuned, *arms]


def test_samples_of_checkpoints_stand_in_a_strip(page, results):
    root, study = results
    shown = data(page)["samples"]
    names = [f"{column['group']}-{column['label'].split()[0]}" for column in shown["columns"]]
    assert names == study.models[1:]
    assert [row["text"] for row in shown["rows"]] == ["a <b>grey</b> square", "a black square"]
    for key, row in zip(("d0000", "d0001"), shown["rows"], strict=True):
        for model, name in zip(names, row["cells"], strict=True):
            drawn = root / f"training/{model}/samples/0-{key}.png"
            assert (page / name).read_bytes() == drawn.read_bytes()


def test_a_study_without_samples_has_no_strip(fresh):
    root, study = fresh
    assert data(write(root, study, root / "gallery"))["samples"] is None


def test_report_pages_hold_their_pictures_and_say_what_is_left_out(page, fresh, monkeypatch):
    names = [path.stem for path in sorted((page / "pages").iterdir())]
    assert names == ["hard-prompts", "pair", "single"]
    everything = {prompt["id"]: prompt for prompt in data(page)["prompts"]}
    for path in (page / "pages").iterdir():
        part = data(path)
        for prompt in part["prompts"]:
            assert prompt == everything[prompt["id"]]
            cells = [cell for line in prompt["cells"].values() for cell in line if cell]
            assert all(part["pictures"][c[0]].startswith("data:image/webp;base64,") for c in cells)
        assert "note" not in part
    root, study = fresh
    whole = write(root, study, root / "gallery") / "pages/pair.html"
    count, limit = len(data(whole)["prompts"]), whole.stat().st_size - 300
    monkeypatch.setattr(gallery, "LIMIT", limit)
    small = write(root, study, root / "gallery") / "pages/pair.html"
    part = data(small)
    assert small.stat().st_size <= limit + len(part["note"]) + 20
    assert 0 < len(part["prompts"]) < count
    assert part["note"].startswith(f"of {count} here")


def test_hard_prompts_come_first_and_leave_room(results):
    root, _ = results
    prompts, hard = (scores.read_prompts(root / f"{n}.tsv") for n in ("prompts", "hard_prompts"))
    assert list(gallery.choose(prompts, hard, 6)["rank"]) == [1, 2, 3, 0, 0, 0]
    assert list(gallery.choose(prompts, hard, 8).index[:4]) == list(hard["id"])
    everything = gallery.choose(prompts, hard, 100)
    assert set(everything.index) == set(hard["id"]) | set(prompts["id"][prompts["set"] == "study"])
    assert everything.index.is_unique


def test_nothing_in_a_prompt_can_end_the_data(page):
    text = (page / "index.html").read_text(encoding="utf-8")
    assert text.count("</script>") == 2
    assert synthetic.AWKWARD[0] in [prompt["text"] for prompt in data(page)["prompts"]]
    assert "<title>made &lt;up&gt;" in text


def test_the_page_asks_for_nothing_from_elsewhere(page):
    text = (page / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|<link[^>]+href=\"(?!data:)", text)


def test_the_gallery_is_the_same_each_time_and_the_script_makes_it(page, results):
    root, study = results
    again = root / "again"
    arguments = ["--settings", settings(study).model_dump_json(), "--root", root, "--out", again]
    arguments += ["--prompts", root / "prompts.tsv", "--hard", root / "hard_prompts.tsv"]
    arguments += ["--scores", *synthetic.score_files(root)[::-1]]
    arguments += ["--judges", root / "judges/sig_lip"]
    subprocess.run([sys.executable, SCRIPT, *arguments], check=True, capture_output=True)
    first, second = (
        {p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()}
        for f in (page, again)
    )
    assert first == second


def test_large_pictures_become_thumbnails(fresh):
    import hashlib

    from PIL import Image

    root, study = fresh
    path = root / "scores/images/base/study.csv"
    table = synthetic.rows(path)
    picture = root / table[0]["picture"]
    Image.effect_noise((512, 384), 50).convert("RGB").save(picture)
    table[0]["sha256"] = hashlib.sha256(picture.read_bytes()).hexdigest()
    synthetic.rewrite(path, table)
    out = write(root, study, root / "gallery")
    with Image.open(out / "pictures" / f"{table[0]['sha256'][:20]}.jpg") as small:
        assert small.size == (256, 192)
    assert data(out)["small"] is False


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "not found"),
        (lambda path: path.write_bytes(path.read_bytes()[:50]), "not the picture that was scored"),
    ],
)
def test_a_missing_or_other_picture_is_named_and_leaves_no_gallery(fresh, spoil, message):
    root, study = fresh
    row = synthetic.rows(root / "scores/images/base/study.csv")[0]
    spoil(root / row["picture"])
    with pytest.raises(UserError, match=f"{Path(row['picture']).name}.*{message}"):
        write(root, study, root / "gallery")
    assert not (root / "gallery").exists()


# --- in a browser --------------------------------------------------------------------------------


@pytest.fixture
def opened(browser, page):
    """The page freshly opened at a laptop's width; no message in the console at the end."""
    browser.width(1280)
    browser.open(page / "index.html")
    yield browser
    assert browser.messages() == []


TAB, ENTER, ESCAPE, DOWN, RIGHT = "\ue004", "\ue007", "\ue00c", "\ue015", "\ue014"
IDS = "return [...document.querySelectorAll('article')].map((a) => a.dataset.id)"


def choose(browser, name, value):
    browser.run(
        f"const c = document.getElementById('bar').elements['{name}'];"
        f"if (c.type === 'checkbox') c.checked = {json.dumps(bool(value))};"
        f"else c.value = {json.dumps(value)};"
        "c.dispatchEvent(new Event('input', {bubbles: true}));"
    )


def test_browser_shows_all_prompts_and_texts_as_written(opened, page):
    shown = data(page)["prompts"]
    assert opened.run(IDS) == [prompt["id"] for prompt in shown if "0" in prompt["cells"]]
    texts = opened.run("return [...document.querySelectorAll('h2')].map((h) => h.textContent)")
    assert synthetic.AWKWARD[0] in texts
    assert opened.run("return document.title") == "made <up> · gallery"
    pictures = "const i = [...document.querySelectorAll('article img')];"
    opened.run(pictures + "i.forEach((x) => x.loading = 'eager')")
    for _ in range(100):
        if opened.run(pictures + "return i.every((x) => x.complete)"):
            break
        time.sleep(0.1)
    assert opened.run(pictures + "return i.length > 50 && i.every((x) => x.naturalWidth === 32)")
    loaded = opened.run("return performance.getEntriesByType('resource').map((r) => r.name)")
    assert all(name.startswith(("file:", "data:")) for name in loaded)


def test_browser_shows_the_samples_of_checkpoints(opened):
    opened.run("document.querySelector('#samples summary').click()")
    texts = "return [...document.querySelectorAll('#samples h2')].map((h) => h.textContent)"
    assert opened.run(texts) == ["a <b>grey</b> square", "a black square"]
    strip = "document.querySelector('#samples .strip')"
    heads = opened.run(f"return [...{strip}.querySelectorAll('h3')].map((h) => h.textContent)")
    assert heads == ["normal", "embed"]
    assert opened.run(f"return {strip}.querySelectorAll('img').length") == 4


def test_browser_filters(opened, page):
    prompts = [prompt for prompt in data(page)["prompts"] if "0" in prompt["cells"]]
    choose(opened, "split", "never")
    assert opened.run(IDS) == [p["id"] for p in prompts if p["split"] == "never"]
    choose(opened, "category", "Pair")
    choose(opened, "q", "RED")
    wanted = [p for p in prompts if p["split"] == "never" and p["category"] == "Pair"]
    assert opened.run(IDS) == [p["id"] for p in wanted if "red" in p["text"].lower()]
    # The view is in the address, and the address gives the view.
    address = opened.run("return location.hash")
    before = opened.run(IDS)
    opened.run("location.hash = ''")
    time.sleep(0.3)
    assert len(opened.run(IDS)) == len(prompts)
    opened.run(f"location.hash = {json.dumps(address)}")
    time.sleep(0.3)
    assert opened.run(IDS) == before


def test_browser_sorts_by_gain_and_compares_any_two(opened):
    choose(opened, "a", "1")
    choose(opened, "b", "6")
    choose(opened, "sort", "gain")
    gains = opened.run(
        "return [...document.querySelectorAll('article')].map((a) => a.dataset.gain ?? null)"
    )
    known = [float(gain) for gain in gains if gain is not None]
    assert len(known) > 5
    assert known == sorted(known, reverse=True)
    assert gains[: len(known)] == [gain for gain in gains if gain is not None]  # unknown ones last
    choose(opened, "pair", True)
    names = opened.run(
        "return [...document.querySelectorAll('article:first-child figure b')]"
        ".map((b) => b.textContent)"
    )
    assert names == ["20 steps", "round 2"]
    scores_ = opened.run(
        "return [...document.querySelectorAll('article:first-child .score')]"
        ".map((s) => Number(s.textContent.split(' ')[1]))"
    )
    assert scores_[1] - scores_[0] == pytest.approx(known[0], abs=0.011)


def test_browser_switches_seeds(opened, page):
    choose(opened, "seed", "100")
    hard = [prompt["id"] for prompt in data(page)["prompts"] if prompt["hard"]]
    assert opened.run(IDS) == hard
    assert "hard prompts only" in opened.run("return document.getElementById('status').textContent")


def test_browser_is_reachable_by_keyboard(opened):
    for _ in range(20):
        opened.keys(TAB)
        if opened.run("return document.activeElement.matches('figure button')"):
            break
    where = "const b = document.activeElement; return [b.dataset.prompt, b.dataset.column]"
    first, second = opened.run(IDS)[:2]
    assert opened.run(where) == [first, "0"]
    opened.keys(RIGHT, RIGHT)
    assert opened.run(where) == [first, "2"]
    opened.keys(DOWN)
    assert opened.run(where) == [second, "2"]
    opened.keys(ENTER)
    title = (
        "return document.getElementById('zoom').open"
        " && document.getElementById('zoom-title').textContent"
    )
    assert opened.run(title) == "normal-50"
    opened.keys(RIGHT)
    assert opened.run(title) == "embed-20"
    terms = dict(re.findall(r"(.+)\n(.+)", opened.run(SCORES)))
    assert float(terms["sig lip"]) > 0
    opened.keys(ESCAPE)
    assert opened.run(title) is False
    assert opened.run(where) == [second, "2"]


SCORES = """
    const texts = [...document.getElementById('zoom-scores').children].map((e) => e.textContent);
    return texts.join('\\n');
"""


def test_browser_has_no_overflow_at_a_phones_width(opened):
    opened.width(360)
    assert opened.run("return document.documentElement.scrollWidth") == 360
    # A row scrolls within itself.
    strip = "const s = document.querySelector('article .strip');"
    assert opened.run(f"{strip} s.scrollLeft = 50; return s.scrollLeft") == 50
    sizes = opened.run(
        "return [...document.querySelectorAll('h2, figcaption, label')]"
        ".map((e) => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 12

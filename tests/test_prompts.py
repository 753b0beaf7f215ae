"""Prompt files: PartiPrompts' quirks, other formats, selections, and everything that is wrong."""

import csv
import hashlib
import io
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlg.data import prompts
from vlg.data.wordless import is_blank, is_data
from vlg.errors import UserError

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "tests" / "data" / "parti_sample.tsv"
PARTI = ROOT.parent / "shared" / "data" / "PartiPrompts.tsv"
PARTI_SHA256 = "fab29e41bb512a169b56acab4cf2a41dcb675e285df2efcde6640c7dd3c440eb"
needs_parti = pytest.mark.skipif(not PARTI.exists(), reason=f"{PARTI} is not here")


CATEGORIES = {
    "Animals": 314, "Artifacts": 287, "World Knowledge": 214, "People": 177,
    "Outdoor Scenes": 131, "Illustrations": 124, "Vehicles": 104, "Food & Beverage": 74,
    "Arts": 66, "Abstract": 51, "Produce & Plants": 50, "Indoor Scenes": 40,
}  # fmt: skip
CHALLENGES = {
    "Fine-grained Detail": 312, "Basic": 272, "Simple Detail": 232, "Style & Format": 206,
    "Imagination": 150, "Complex": 113, "Writing & Symbols": 91, "Quantity": 90,
    "Perspective": 70, "Linguistic Structures": 61, "Properties & Positioning": 35,
}  # fmt: skip


def rows_of(tmp_path, content: str | bytes, name: str = "p.tsv"):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return prompts.read(path)


# --- PartiPrompts -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [SAMPLE, pytest.param(PARTI, marks=needs_parti)])
def test_quirks_of_partiprompts(path):
    rows = prompts.read(path)
    texts = [row["Prompt"] for row in rows]
    assert len(rows) == path.read_bytes().count(b"\n") - 1
    assert len(set(texts)) == len(texts)
    assert {"bond", "42", "0", "U.S. 101", "Salvador Dalí"} <= set(texts)
    assert [text for text in texts if text.startswith('"')] == [
        '"G I G G L E" painted in thick colorful lettering as graffiti on a faded red brick wall '
        "with a splotch of exploding white paint."
    ]
    assert any(text.startswith("A sloth in a go kart") for text in texts)  # had a space before
    assert any(text.endswith("flying over the city of Mars.") for text in texts)  # and after
    assert max(map(len, texts)) == 389
    assert rows[0] == {
        "Prompt": "bond",
        "Category": "Abstract",
        "Challenge": "Basic",
        "Note": "Biology-inspired concepts with multiple meanings",
        "id": "p0000",
        "split": "",
        "set": "",
    }
    assert rows[-1]["id"] == f"p{len(rows) - 1:04d}"


@needs_parti
def test_the_whole_of_partiprompts():
    assert hashlib.sha256(PARTI.read_bytes()).hexdigest() == PARTI_SHA256
    rows = prompts.read(PARTI)
    assert len(rows) == 1632
    assert sum(not row["Prompt"].isascii() for row in rows) == 17
    assert rows[1560]["Prompt"].startswith('"G I G G L E"') and rows[1560]["id"] == "p1560"
    raw = [line.partition("\t")[0] for line in PARTI.read_text("utf-8").split("\n")]
    assert sum(text != text.strip() for text in raw) == 10
    first = rows[:100]  # not typical
    assert {row["Challenge"] for row in first} == {"Basic"}
    assert sum(row["Category"] == "Abstract" for row in first) == 45
    words = Counter(len(row["Prompt"].split()) for row in first)
    assert (words[1], words[2]) == (41, 38)
    assert Counter(row["Category"] for row in rows) == CATEGORIES
    assert Counter(row["Challenge"] for row in rows) == CHALLENGES


@needs_parti
def test_every_selection_of_partiprompts():
    rows = prompts.read(PARTI)
    ids = [row["id"] for row in rows]

    def chosen(study, pool=None, **wanted):
        found = prompts.select(rows, study, pool, **wanted)
        assert [row["set"] for row in found[:study]] == ["study"] * study
        assert {row["set"] for row in found[study:]} <= {"rest"}
        return [row["id"] for row in found]

    assert chosen(1632) == ids  # all
    assert chosen(100) == ids and chosen(100, 100) == ids[:100]  # first
    assert sorted(chosen(100, order="stratified")) == ids
    for column, counts in (("category", CATEGORIES), ("challenge", CHALLENGES)):
        for name, number in counts.items():
            found = set(chosen(1, **{column: [name]}))
            assert found == {r["id"] for r in rows if r[column.title()] == name}
            assert len(found) == number


@needs_parti
def test_stratified_beginning_of_partiprompts():
    rows = prompts.select(prompts.read(PARTI), 100, order="stratified")
    study = Counter(row["Challenge"] for row in rows if row["set"] == "study")
    whole = Counter(row["Challenge"] for row in rows)
    for name, number in whole.items():
        assert abs(study[name] - number * 100 / 1632) < 5, name


# --- formats ------------------------------------------------------------------------------------


def test_tsv_takes_quotes_literally(tmp_path):
    rows = rows_of(tmp_path, 'Prompt\n"a" cat\n"\n\'a\' dog\n')
    assert [row["Prompt"] for row in rows] == ['"a" cat', '"', "'a' dog"]


def test_csv_reads_quotes(tmp_path):
    text = 'prompt,note,source\n"a red, round ball","he said ""hi""",me\na cat,,\n'
    rows = rows_of(tmp_path, text, "p.csv")
    assert [row["Prompt"] for row in rows] == ["a red, round ball", "a cat"]
    assert rows[0]["Note"] == 'he said "hi"' and rows[0]["source"] == "me"


def test_txt_has_one_prompt_a_line(tmp_path):
    rows = rows_of(tmp_path, '\na cat\n\n  a dog, "big"\n', "p.txt")
    assert [(row["id"], row["Prompt"]) for row in rows] == [
        ("p0000", "a cat"),
        ("p0001", 'a dog, "big"'),
    ]


@pytest.mark.parametrize("name", ["p.tsv", "p.csv", "p.TSV"])
def test_windows_files(tmp_path, name):
    """A byte order mark, CRLF and no end of the last line, as spreadsheets and editors write."""
    rows = rows_of(tmp_path, "\ufeffPROMPT\r\na cat\r\n\r\nein größerer Hund".encode(), name)
    assert [row["Prompt"] for row in rows] == ["a cat", "ein größerer Hund"]


def test_unusual_prompts_stay_as_they_are(tmp_path):
    texts = [
        "$(rm -rf /) `ls` ; echo 'x' && \\n %s {prompt}",
        "../../etc/passwd",
        "a 🦊 and a 👩‍🚀",
        "x" * 10_000,
        "non\u00a0breaking and\u2028separator",
        "=1+1",
    ]
    rows = rows_of(tmp_path, "Prompt\n" + "\n".join(texts))
    assert [row["Prompt"] for row in rows] == texts
    assert [row["id"] for row in rows] == [f"p{i:04d}" for i in range(len(texts))]
    prompts.write(tmp_path / "out.tsv", rows)
    assert prompts.read_table(tmp_path / "out.tsv") == rows


def test_extra_columns_are_kept_and_ours_are_set(tmp_path):
    (row,) = rows_of(tmp_path, "id\tPrompt\tauthor\tset\tsplit\nmine\ta cat\tme\tx\tnever\n")
    assert row["author"] == "me" and row["split"] == "never"
    assert row["id"] == "p0000" and row["set"] == ""


INVALID = {
    "no column Prompt": (
        "p.tsv",
        "Text\tNote\na cat\t\n",
        "has no column Prompt, its header is 'Text, Note'; name the columns in the first line",
    ),
    "a CSV named .tsv": (
        "p.tsv",
        "Prompt,Note\na cat,\n",
        "has no column Prompt, its header is 'Prompt,Note'; name the columns in the first line",
    ),
    "no header": (
        "p.csv",
        "a cat\na dog\n",
        "has no column Prompt, its header is 'a cat'; name the columns in the first line",
    ),
    "empty tsv": ("p.tsv", "", "is empty; name the columns in the first line"),
    "empty csv": ("p.csv", "\n\n", "is empty; name the columns in the first line"),
    "empty txt": ("p.txt", " \n\n", "has no prompts; write at least one"),
    "header only": ("p.tsv", "Prompt\tNote\n", "has no prompts; write at least one"),
    "empty prompt": (
        "p.tsv",
        "Prompt\tNote\na cat\t\n \tx\n",
        "line 3: the prompt is empty; write one or delete the line",
    ),
    "row of tabs": (
        "p.tsv",
        "Prompt\tNote\n\n\t\n",
        "line 3: the prompt is empty; write one or delete the line",
    ),
    "row of commas": (
        "p.csv",
        "Prompt,Note\n,\n",
        "line 2: the prompt is empty; write one or delete the line",
    ),
    "twice": (
        "p.tsv",
        "Prompt\na cat\na dog\n a cat \n",
        "lines 2 and 4 have the same prompt ('a cat'); delete one",
    ),
    "twice and long": (
        "p.txt",
        "x" * 61 + "\n" + "x" * 61,
        f"lines 1 and 2 have the same prompt ('{'x' * 57}...'); delete one",
    ),
    "twice, composed otherwise": (
        "p.tsv",
        "Prompt\na cafe\u0301\na dog\na caf\xe9\n",
        "lines 2 and 4 have the same prompt ('a caf\xe9', in other code points); delete one",
    ),
    "too few tabs": (
        "p.tsv",
        "Prompt\tNote\na cat\n",
        "line 2: 1 cells where the header has 2; check its tabs",
    ),
    "too many tabs": (
        "p.tsv",
        "Prompt\tNote\na cat\t\n\na dog\t\t\n",
        "line 4: 3 cells where the header has 2; check its tabs",
    ),
    "unquoted comma": (
        "p.csv",
        "Prompt\na red, round ball\n",
        "line 2: 2 cells where the header has 1; check its commas; quote a prompt that has one",
    ),
    "open quote": (
        "p.csv",
        'Prompt\n"a cat\n',
        "line 2: not valid CSV (unexpected end of data); check its quotes",
    ),
    "line break in a prompt": (
        "p.csv",
        'Prompt\n"a\ncat"\n',
        "line 3: has a line break inside a cell; remove it",
    ),
    "tab in a prompt": ("p.csv", "Prompt\na\tcat\n", "line 2: has a tab inside a cell; remove it"),
    "tab in a text": ("p.txt", "a\tcat\n", "line 1: has a tab inside a cell; remove it"),
    "carriage return": (
        "p.tsv",
        "Prompt\na\rcat\n",
        "line 2: has a line break inside a cell; remove it",
    ),
    "NUL": ("p.tsv", "Prompt\na\0cat\n", "line 2: has a NUL inside a cell; remove it"),
    "escape": (
        "p.txt",
        "a cat\n\x1b[31m\n",
        "line 2: has the control character '\\x1b' inside a cell; remove it",
    ),
    "Latin-1": (
        "p.tsv",
        "Prompt\na cat\nDalí\n".encode("latin-1"),
        "line 3: not UTF-8 text; save the file as UTF-8",
    ),
    "UTF-16": (
        "p.csv",
        "Prompt\na cat\n".encode("utf-16"),
        "line 1: not UTF-8 text; save the file as UTF-8",
    ),
    "column twice": (
        "p.tsv",
        "Prompt\tprompt\na\tb\n",
        "two columns are named 'Prompt'; rename or delete one",
    ),
    "column without name": (
        "p.csv",
        "Prompt,\na cat,\n",
        "column 2 has no name; name or delete it",
    ),
    "spreadsheet": (
        "p.xlsx",
        "",
        "not a .tsv, .csv or .txt file; save the prompts as one of these",
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_a_mistake_is_told_in_one_line(case, tmp_path):
    name, content, expected = INVALID[case]
    with pytest.raises(UserError) as error:
        rows_of(tmp_path, content, name)
    assert str(error.value) == f"{tmp_path / name}: {expected}"


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match=r"a\.tsv: not found; check the path$"):
        prompts.read(tmp_path / "a.tsv")
    (tmp_path / "b.tsv").mkdir()
    with pytest.raises(UserError, match=r"b\.tsv: Is a directory; give a readable file$"):
        prompts.read(tmp_path / "b.tsv")


# --- choosing -----------------------------------------------------------------------------------


def made(*strata: str) -> list[prompts.Row]:
    """A row per letter: its category, its challenge (upper or lower), numbered."""
    return [
        {"Prompt": f"{s}{i}", "Category": s.lower(), "Challenge": "hard" if s.isupper() else "easy"}
        for i, s in enumerate(strata)
    ]


def names(rows, part=None):
    return [row["Prompt"] for row in rows if part in (None, row.get("set"))]


def test_study_and_rest():
    rows = prompts.select(made(*"aaaa"), 2, 3)
    assert names(rows, "study") == ["a0", "a1"] and names(rows, "rest") == ["a2"]
    assert names(prompts.select(made(*"aaaa"), 4), "rest") == []


def test_category_and_challenge():
    rows = made(*"aBbA")
    assert names(prompts.select(rows, 2, category=["a"])) == ["a0", "A3"]
    assert names(prompts.select(rows, 1, category=["a"], challenge=["hard"])) == ["A3"]


def test_categories_are_the_same_however_their_letters_are_composed():
    rows = [{"Prompt": "x", "Category": "Cafe\u0301", "Challenge": ""}]
    assert names(prompts.select(rows, 1, category=["Caf\xe9"])) == ["x"]


def test_order_of_strata():
    rows = made(*"aaaaaaabbb")
    mixed = prompts.select(rows, 10, order="stratified")
    assert sorted(names(mixed)) == sorted(names(rows))
    for number in range(1, 11):
        beginning = names(mixed)[:number]
        assert abs(sum(name[0] == "b" for name in beginning) - 0.3 * number) < 1
    assert [name for name in names(mixed) if name[0] == "a"] == names(rows)[:7]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"study": 5}, "prompts.study: asks for 5 prompts, the source has 4 that fit"),
        ({"study": 1, "pool": 5}, "prompts.pool: asks for 5 prompts, the source has 4 that fit"),
        ({"study": 1, "category": ["c"]}, "prompts.category: no prompt has 'c'; there are a, b"),
        ({"study": 1, "challenge": ["eazy"]}, "no prompt has 'eazy'; did you mean easy?"),
    ],
)
def test_selections_that_cannot_be(wanted, expected):
    with pytest.raises(UserError) as error:
        prompts.select(made(*"aabb"), **wanted)
    assert expected in str(error.value) and str(error.value).startswith("config: prompts.")


# --- the study's table --------------------------------------------------------------------------


def test_the_table_has_the_columns_it_says(tmp_path):
    prompts.write(tmp_path / "prompts.tsv", prompts.select(prompts.read(SAMPLE), 5))
    rows = prompts.read_table(tmp_path / "prompts.tsv")
    assert len(rows) == 14
    for number, row in enumerate(rows):
        assert tuple(row) == prompts.COLUMNS
        assert row["Prompt"] == row["Prompt"].strip() != ""
        assert re.fullmatch(r"p[0-9]{4,}", row["id"])
        assert row["set"] == ("study" if number < 5 else "rest")


def test_written_bytes(tmp_path):
    row = {"Prompt": '"é" cat', "id": "p0007", "set": "study", "clipscore": 21.5}
    prompts.write(tmp_path / "t.tsv", [row])
    assert (tmp_path / "t.tsv").read_bytes() == (
        "Prompt\tCategory\tChallenge\tNote\tid\tsplit\tset\tclipscore\n"
        '"é" cat\t\t\t\tp0007\t\tstudy\t21.5\n'
    ).encode()


def test_ids_survive_a_selection(tmp_path):
    """A hard prompt keeps the number it has in the source."""
    chosen = prompts.read(SAMPLE)[5:7]
    prompts.write(tmp_path / "hard_prompts.tsv", chosen)
    assert prompts.read_table(tmp_path / "hard_prompts.tsv") == chosen
    assert chosen[0]["id"] == "p0005"
    prompts.write(tmp_path / "hard_prompts.tsv", [])
    assert prompts.read_table(tmp_path / "hard_prompts.tsv") == []


def test_a_source_is_no_table():
    with pytest.raises(UserError, match="has no column id"):
        prompts.read_table(SAMPLE)


@pytest.mark.parametrize("character", ["\t", "\n", "\r", "\0", "\x7f", "\ud800"])
def test_cells_that_no_line_can_hold_are_not_written(tmp_path, character):
    rows = [{"Prompt": "a cat"}, {"Prompt": "a dog", "Note": f"x{character}y"}]
    with pytest.raises(UserError, match=r"t\.tsv: line 3: has .* inside a cell; remove it$"):
        prompts.write(tmp_path / "t.tsv", rows)
    assert list(tmp_path.iterdir()) == []


CELL = st.text(
    st.characters(
        exclude_categories=("Cs",), exclude_characters=[chr(i) for i in (*range(32), 127)]
    )
)
LIMITS = settings(max_examples=200, deadline=None)


@LIMITS
@given(
    cells=st.lists(st.tuples(*[CELL] * len(prompts.COLUMNS), CELL), max_size=5),
)
def test_written_tables_are_read_back(tmp_path_factory, cells):
    path = tmp_path_factory.mktemp("table") / "prompts.tsv"
    rows = [dict(zip([*prompts.COLUMNS, "extra"], row, strict=True)) for row in cells]
    prompts.write(path, rows)
    assert prompts.read_table(path) == rows


PROMPT = CELL.map(str.strip).filter(lambda text: not is_blank(text) and not is_data(text))


@LIMITS
@given(
    texts=st.lists(PROMPT, min_size=1, max_size=5, unique=True), kind=st.sampled_from(["t", "c"])
)
def test_sources_are_read_as_written(tmp_path_factory, texts, kind):
    path = tmp_path_factory.mktemp("source") / f"prompts.{kind}sv"
    if kind == "t":
        content = "".join(f"{text}\tx\n" for text in ["Prompt", *texts])
    else:
        out = io.StringIO()
        csv.writer(out).writerows([text, "x"] for text in ["Prompt", *texts])
        content = out.getvalue()
    path.write_bytes(content.encode())
    rows = prompts.read(path)
    assert [row["Prompt"] for row in rows] == texts
    assert [row["x"] for row in rows] == ["x"] * len(texts)


@LIMITS
@given(
    content=st.binary(max_size=200)
    | st.lists(
        st.sampled_from(
            ["Prompt", "Note", "\t", ",", "\n", "\r", '"', " ", "a", "\ufeff", "\0", "é"]
        ),
        max_size=40,
    ).map(lambda parts: "".join(["Prompt", *parts]).encode()),
    suffix=st.sampled_from([".tsv", ".csv", ".txt"]),
)
def test_any_bytes_give_rows_or_one_line(tmp_path_factory, content, suffix):
    path = tmp_path_factory.mktemp("fuzz") / f"p{suffix}"
    path.write_bytes(content)
    try:
        rows = prompts.read(path)
    except UserError as error:
        assert len(str(error).splitlines()) == 1
        return
    assert rows and all(row["Prompt"] == row["Prompt"].strip() != "" for row in rows)
    prompts.write(path.with_name("out.tsv"), rows)
    assert prompts.read_table(path.with_name("out.tsv")) == rows

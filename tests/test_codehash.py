"""The hash changes with code that makes a result, and with nothing else."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from vlg.workflow import codehash

ROOT = Path(__file__).parents[1]

FILES = {
    "train.py": '''"""Train."""
from pathlib import Path
from vlg import losses
from vlg.workflow import cli

def main(args):
    """Run."""
    from vlg.shapes import world  # only where it is needed

    return losses.total(Path(args.out), world)
''',
    "table.py": "import vlg.tables\nfrom vlg.files import atomic\n",
    "vlg/__init__.py": '"""The package."""\n',
    "vlg/workflow/cli.py": "from vlg import unused\nLEVEL = 1\n",
    "vlg/files.py": "def atomic(path): ...\n",
    "vlg/losses.py": """import math
from .noise import draw

def total(x, y):
    return draw(x) + 0.5 * y
""",
    "vlg/noise.py": "def draw(x):\n    return x\n",
    "vlg/tables.py": "import numpy\n\nMEAN = f'{numpy.pi:.3f}'\n",
    "vlg/unused.py": "X = 1\n",
    "vlg/shapes/__init__.py": "",
    "vlg/shapes/world.py": "from . import colours\nfrom ..noise import draw\n",
    "vlg/shapes/colours.py": "RED = (1, 0, 0)\n",
}


IN_A_PROCESS = (
    f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r}); from pathlib import Path; "
    "from vlg.workflow.codehash import code_hash; print(code_hash(Path(sys.argv[1])))"
)


@pytest.fixture
def hashes(tmp_path):
    """A function: hash of `script` after `edits` {file: new source} of FILES."""
    trees = iter(range(100))

    def hashes(script="train.py", **edits):
        folder = tmp_path / str(next(trees))  # results are cached by path
        for name, source in {**FILES, **edits.get("edits", {})}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(source, encoding="utf-8")
        return codehash.code_hash(folder / script)

    return hashes


def edited(name: str, old: str, new: str) -> dict[str, str]:
    assert old in FILES[name]
    return {name: FILES[name].replace(old, new)}


def test_form(hashes):
    value = hashes()
    assert len(value) == 16 and int(value, 16) >= 0
    assert value == hashes()  # another folder


@pytest.mark.parametrize(
    "edit",
    [
        edited("vlg/losses.py", "0.5 * y", "0.25 * y"),
        edited("vlg/noise.py", "return x", "return -x"),
        edited("vlg/shapes/colours.py", "(1, 0, 0)", "(1, 0, 1)"),
        edited("vlg/shapes/__init__.py", "", "X = 1\n"),
        edited("train.py", "args.out", "args.into"),
        edited("train.py", "    return", "    await_ = 1\n    return"),
        edited("vlg/losses.py", "import math", "import math\nRATE = 2.0"),
    ],
    ids=lambda edit: next(iter(edit)),
)
def test_an_edit_of_code_changes_the_hash(hashes, edit):
    assert hashes(edits=edit) != hashes()


@pytest.mark.parametrize(
    "edit",
    [
        edited("vlg/losses.py", "    return draw", "    # a comment\n\n    return draw"),
        edited("vlg/losses.py", "def total(x, y):", 'def total(x, y):\n    """The loss."""'),
        edited(
            "vlg/losses.py", "draw(x) + 0.5 * y", "(\n        draw(x)\n        + 0.5 * y\n    )"
        ),
        edited("vlg/losses.py", "import math", '"""Losses."""\nimport math'),
        edited("train.py", '"""Train."""', '"""Fine-tune."""'),
        edited("train.py", "# only where it is needed", ""),
        edited("vlg/workflow/cli.py", "LEVEL = 1", "LEVEL = 2"),  # cannot change a result
        edited("vlg/unused.py", "X = 1", "X = 2"),  # imported by cli alone
        edited("vlg/tables.py", "MEAN", "MEDIAN"),  # not imported here
        edited("vlg/losses.py", "import math", "import math\nDOSE = ('scale', 2.0)"),  # for tables
    ],
    ids=range(10),
)
def test_any_other_edit_does_not(hashes, edit):
    assert hashes(edits=edit) == hashes()


def test_a_script_has_only_its_own_modules(hashes):
    loss = edited("vlg/losses.py", "0.5", "0.6")
    assert hashes("table.py", edits=loss) == hashes("table.py")
    table = edited("vlg/tables.py", ".3f", ".4f")
    assert hashes("table.py", edits=table) != hashes("table.py")


@pytest.mark.parametrize(
    "statement",
    [
        "import vlg.noise",
        "import vlg.noise as n",
        "from vlg import noise",
        "from vlg import noise as n",
        "from vlg.noise import draw",
        "from vlg.noise import *",
        "import os, vlg.noise",
        "def f():\n    try:\n        import vlg.noise\n    except ImportError:\n        pass",
        "import vlg.losses",  # which imports it relatively
        "from vlg.shapes.world import draw",
    ],
)
def test_ways_to_import(hashes, statement):
    before, after = (
        hashes("s.py", edits={"s.py": statement + "\n", "vlg/noise.py": source})
        for source in (FILES["vlg/noise.py"], "def draw(x):\n    return 2 * x\n")
    )
    assert before != after


def test_a_missing_module_or_a_cycle_is_no_trouble(hashes):
    cycle = {"vlg/noise.py": "from vlg import losses\nfrom vlg.gone import x\n"}
    assert hashes(edits=cycle) != hashes()


def test_a_syntax_error_is_raised(hashes):
    with pytest.raises(SyntaxError, match="losses.py"):
        hashes(edits={"vlg/losses.py": "def total(:\n"})


def test_distinct_code_has_distinct_text():
    """Things that a careless dump would take for the same."""
    sources = [
        *("f(1)", "f('1')", "f(1.0)", "f(True)", "f(b'1')", "f(x=1)", "f(*a)", "f(**a)", "f()"),
        *("f([])", "f(())", "f({})", "f(None)", "f('')", "f('None')", "f(a, b)", "f([a, b])"),
        *("f(a - b)", "f(b - a)", "f(a[b])", "f(a.b)", "f(lambda: 0)", "f(f'{a}')", "f(f'{a!r}')"),
        *("f(a if b else c)", "f(b if a else c)", "f(a[b:])", "f(a[:b])", "f(a[::b])"),
        *("async def f(): pass", "def f(): pass", "def f(a): pass", "def f(*, a): pass"),
        *("def f(a, /): pass", "def f(a=None): pass", "x = 1", "x: int = 1", "x: int", "x += 1"),
    ]
    texts = []
    for source in sources:
        parts: list[str] = []
        codehash._dump(ast.parse(source), parts)
        texts.append("".join(parts))
    assert len(set(texts)) == len(sources)


TEXT = """
from vlg.errors import UserError
from vlg.workflow import cli
import logging, math
log = logging.getLogger("vlg")

def f(x, rows, path):
    {}
    return math.sqrt(x)
"""


def in_body(statement: str) -> str:
    return TEXT.replace("{}", statement.replace("\n", "\n    "))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # what is said
        ("raise UserError('a: b; c')", "raise UserError('a: d; e')"),
        ("raise UserError('a: b; c')", "raise UserError(f'{path}: {len(rows)} rows; c')"),
        ("raise UserError(f'{path}: b' ' c')", "raise UserError(f'{path}: b '\n'd')"),
        ("raise UserError(f'{find(x)}: b')", "raise UserError(f'{find(x)}: c')"),
        ("raise ValueError('a')", "raise ValueError('b')"),
        ("raise ValueError(f'a {x}')", "raise ValueError(f'{x:.2f} b')"),
        (
            "raise OSError(5, 'a', str(path)) from None",
            "raise OSError(5, 'b', str(path)) from None",
        ),
        ("log.info('a %d', x)", "log.info('b %.3f of %d', 100 * x, len(rows))"),
        ("log.warning('a')", "log.error('a %s', ', '.join(sorted(rows)))"),
        ("cli.log.info('a')", "cli.log.info(f'{path} {rows[0].name} {x.mean().item()}')"),
        # what is said or not
        ("log.info('%d', x)", ""),
        ("cli.log.exception('a')", ""),
        ("if x > len(rows):\n    log.warning('a')", ""),
        ("if x:\n    if rows:\n        log.warning('a')\n    log.info('b')", ""),
        ("if x:\n    log.warning('a')\nelif rows:\n    log.info('b')", ""),
        # how options and keys are told
        ("a.add_argument('--x', help='b', type=int)", "a.add_argument('--x', type=int)"),
        ("add('--x', help='b', metavar='X')", "add('--x', help='c', metavar='Y')"),
        ("k = Field(1, ge=0, description='a')", "k = Field(1, ge=0, description='b' 'c')"),
        ("p = argparse.ArgumentParser(description=__doc__)", "p = argparse.ArgumentParser()"),
        ("for y in tqdm(rows, desc='a'): y()", "for y in tqdm(rows, desc=f'b {x}'): y()"),
        # what is for type checkers alone
        ("if TYPE_CHECKING:\n    from vlg import tables\n    Y = 1", ""),
        ("if typing.TYPE_CHECKING:\n    import torch\nelse:\n    torch = x", "torch = x"),
    ],
)
def test_words_do_not_count(hashes, before, after):
    one, other = (hashes("s.py", edits={"s.py": in_body(each)}) for each in (before, after))
    assert one == other


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # whether, and by what, a step ends
        ("if x: raise UserError('a')", "if not x: raise UserError('a')"),
        ("raise UserError('a')", ""),
        ("raise UserError('a')", "raise ValueError('a')"),
        ("raise UserError('a')", "raise UserError(rows.pop())"),
        ("raise UserError(f'a {find(x)}')", "raise UserError(f'a {find(path)}')"),
        ("raise OSError(5, 'a')", "raise OSError(6, 'a')"),
        ("raise NotMeasured('a')", "raise NotMeasured('b')"),  # its text stands in a table
        ("raise found('a')", "raise found('b')"),
        # a line of the log that does something
        ("log.info('%s', rows.pop())", ""),
        ("log.info('%s', draw(x))", "log.info('%s', draw(rows))"),
        ("log.info('%s', next(rows))", ""),
        ("log.info('%s', (x := 2))", ""),
        ("x = log.info('a')", "x = log.info('b')"),
        ("log.write('a')", "log.write('b')"),
        ("other.info('a')", "other.info('b')"),
        ("logs[rows.pop()].log.info('a')", ""),
        ("if rows.pop():\n    log.info('a')", ""),
        ("if x:\n    log.info('a')\nelse:\n    x = 1", "x = 1"),
        ("if x:\n    log.info('a')\n    return 1", "log.info('a')"),
        ("while x:\n    log.info('a')", ""),
        # options and keys themselves
        ("a.add_argument('--x', default=1)", "a.add_argument('--x', default=2)"),
        ("a.add_argument('--x', help='b')", "a.add_argument('--y', help='b')"),
        ("k = Field(1, description='a')", "k = Field(2, description='a')"),
        ("k = Field(1, description='a')", "k = Field(1, description=draw(x))"),
        ("plot(x, description='a')", "plot(x, description='b')"),  # may stand in a page
        ("row(desc='a', help='b')", "row(desc='a', help='c')"),
        # strings anywhere else
        ("y = f'a {x}'", "y = f'b {x}'"),
        ("if TYPE_CHECKING:\n    y = 1\nelse:\n    y = 2", "y = 3"),
        ("if not TYPE_CHECKING:\n    y = 1", ""),
        ("from vlg import losses", "from vlg import tables"),
    ],
)
def test_what_does_something_counts(hashes, before, after):
    one, other = (hashes("s.py", edits={"s.py": in_body(each)}) for each in (before, after))
    assert one != other


def test_modules_imported_for_type_checkers_do_not_count(hashes):
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from vlg import tables\n"
    table = edited("vlg/tables.py", ".3f", ".4f")
    before, after = (hashes("s.py", edits={"s.py": source, **each}) for each in ({}, table))
    assert before == after


def test_the_room_of_the_config_does_not_count(hashes):
    source = {
        "s.py": "from vlg.config import sections, keys\nfrom vlg.config.layout import Layout\n"
    }
    before, after = (
        hashes(
            "s.py",
            edits={
                **source,
                "vlg/config/__init__.py": "",
                "vlg/config/sections.py": f"from vlg import noise\nA = {value}\n",
                "vlg/noise.py": f"B = {value}\n",
            },
        )
        for value in (1, 2)
    )
    assert before == after


def test_what_is_found_by_name_counts_with_what_it_imports(hashes, tmp_path):
    room = {"vlg/room/__init__.py": "", "vlg/room/one.py": "from vlg.noise import draw\n"}
    room |= {"vlg/room/two.py": "X = 1\n", "s.py": "from vlg import plugins\n"}
    values = []
    for number, edits in enumerate(({}, {"vlg/noise.py": "Y = 2\n"}, {"vlg/room/two.py": ""})):
        hashes("s.py", edits={**room, **edits})
        folder = tmp_path / str(number)
        values.append(codehash.code_hash(folder / "s.py", folder / "vlg/room/one.py"))
    assert values[0] != values[1] and values[0] == values[2]


def test_ignored_modules_and_rooms_exist():
    """A renamed one would silently start to count."""
    for name in codehash.IGNORED:
        place = ROOT / "scripts" / name.replace(".", "/")
        assert place.with_suffix(".py").is_file() or (place / "__init__.py").is_file(), name


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").glob("*.py")), ids=lambda p: p.name)
def test_every_script_has_a_hash(script):
    assert len(codehash.code_hash(script)) == 16


def test_another_process_finds_the_same():
    """No hash seed, no working directory, no cache enters: what is kept is not looked at."""
    path = ROOT / "scripts" / "vlg" / "data" / "prompts.py"
    root = ROOT / "scripts"
    code = (
        f"import sys; sys.path.insert(0, {str(root)!r}); from pathlib import Path; "
        f"from vlg.workflow.codehash import _hash; "
        f"print(_hash(Path({str(path)!r}), Path({str(root)!r}), ()))"
    )
    out = subprocess.check_output([sys.executable, "-c", code], cwd="/", text=True)
    assert out.strip() == codehash._hash(path, root, ()) == codehash.code_hash(path)


def in_a_process(path):
    command = [sys.executable, "-c", IN_A_PROCESS, path]
    return subprocess.check_output(command, cwd="/", text=True).strip()


@pytest.mark.parametrize("changed", ["train.py", "vlg/noise.py", "vlg/shapes/colours.py"])
def test_what_is_kept_is_of_these_very_sources(hashes, tmp_path, changed):
    before, script, file = hashes(), tmp_path / "0/train.py", tmp_path / "0" / changed
    assert in_a_process(script) == before
    source = file.read_text(encoding="utf-8")
    file.write_text(source + "MORE = 1\n", encoding="utf-8")
    assert in_a_process(script) != before
    file.write_text(source, encoding="utf-8")
    assert in_a_process(script) == before


@pytest.mark.parametrize("kept", [b"", b"[]", b'{"sources": 1}', b"\xff"])
def test_what_was_half_kept_is_no_matter(hashes, tmp_path, kept):
    before = hashes()
    (tmp_path / "0" / codehash.KEPT).write_bytes(kept)
    assert in_a_process(tmp_path / "0/train.py") == before


def test_nothing_is_kept_while_somebody_edits(hashes, tmp_path, monkeypatch):
    before = hashes()
    script, kept = tmp_path / "0/train.py", tmp_path / "0" / codehash.KEPT
    kept.unlink()
    codehash.code_hash.cache_clear()
    monkeypatch.setattr(codehash, "_hash", lambda *_: noise.write_text("X = 2\n") and "late")
    noise = tmp_path / "0/vlg/noise.py"
    source = noise.read_text(encoding="utf-8")
    assert codehash.code_hash(script) == "late" and not kept.exists()
    noise.write_text(source, encoding="utf-8")
    assert in_a_process(script) == before


def test_what_is_kept_saves_the_reading(hashes, tmp_path):
    hashes()
    kept = tmp_path / "0" / codehash.KEPT
    told = json.loads(kept.read_text(encoding="utf-8"))
    told["hashes"] = dict.fromkeys(told["hashes"], "kept")
    kept.write_text(json.dumps(told), encoding="utf-8")
    assert in_a_process(tmp_path / "0/train.py") == "kept"

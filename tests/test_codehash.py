"""The hash changes with code that makes a result, and with nothing else."""

import ast
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
    ],
    ids=range(9),
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


def test_ignored_modules_exist():
    """A renamed module would silently start to count."""
    for name in codehash.IGNORED:
        assert (ROOT / "scripts" / name.replace(".", "/")).with_suffix(".py").is_file(), name


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").glob("*.py")), ids=lambda p: p.name)
def test_every_script_has_a_hash(script):
    assert len(codehash.code_hash(script)) == 16


def test_another_process_finds_the_same():
    """No hash seed, no working directory, no cache enters."""
    path = ROOT / "scripts" / "vlg" / "data" / "prompts.py"
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r}); from pathlib import Path; "
        f"from vlg.workflow.codehash import code_hash; print(code_hash(Path({str(path)!r})))"
    )
    out = subprocess.check_output([sys.executable, "-c", code], cwd="/", text=True)
    assert out.strip() == codehash.code_hash(path)

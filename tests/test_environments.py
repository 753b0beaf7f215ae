"""The locks, the conda environments and what the code imports agree with one another."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from tools import lock
from vlg import plugins

ROOT = Path(__file__).resolve().parent.parent
FILES = lock.LOCK, lock.DEV, lock.DEMO
LOCKS = {path.name: lock.pins(path.read_text(encoding="utf-8")) for path in FILES}
LOCKED, DEV, DEMO = LOCKS.values()
WANTED, DEV_WANTED, DEMO_WANTED = (
    lock.requirements(path.with_suffix(".in").read_text(encoding="utf-8")) for path in FILES
)
DEMO_ROOM, DEMO_BENCH = ROOT / "scripts/vlg/demo", ROOT / "bench/demo.py"
DISTRIBUTIONS = importlib.metadata.packages_distributions()


def pip_pins(name: str) -> dict[str, Requirement]:
    """The pip pins of envs/<name>.yaml by canonical name, as pip would read them."""
    content = yaml.safe_load((ROOT / "envs" / f"{name}.yaml").read_text(encoding="utf-8"))
    (inline,) = [item["pip"] for item in content["dependencies"] if isinstance(item, dict)]
    return {lock.canonical(Requirement(line).name): Requirement(line) for line in inline}


def test_locks_hold_every_requirement():
    by_name = {name for name, pin in LOCKED.items() if "-r requirements.in" in pin.wanted_by}
    assert by_name and by_name == WANTED, "run `make lock`"
    by_name = {name for name, pin in DEV.items() if "-r requirements-dev.in" in pin.wanted_by}
    # What a study has already is only named for what tests do with it.
    assert by_name and by_name == DEV_WANTED - LOCKED.keys(), "run `make lock`"
    by_name = {name for name, pin in DEMO.items() if "-r requirements-demo.in" in pin.wanted_by}
    assert by_name and by_name == DEMO_WANTED - LOCKED.keys(), "run `make lock`"


def test_no_package_is_in_both_locks():
    """So they cannot say different things of one."""
    assert not LOCKED.keys() & (DEV.keys() | DEMO.keys())
    assert {DEMO[name].version for name in DEMO.keys() & DEV.keys()} <= {
        each.version for each in DEV.values()
    }


def test_the_demo_is_no_part_of_a_study():
    assert {"gradio", "uvicorn"} <= DEMO.keys() and not {"gradio", "uvicorn"} & LOCKED.keys()


def test_the_second_lock_has_what_its_packages_need():
    """What they need stands in it or in the first, as their installed metadata state it."""
    for name, pin in DEV.items():
        assert {each.removeprefix("-r ") for each in pin.wanted_by} <= {
            *LOCKED,
            *DEV,
            "requirements-dev.in",
        }
        needs = map(Requirement, importlib.metadata.requires(name) or [])
        here = [each for each in needs if not each.marker or each.marker.evaluate({"extra": ""})]
        lacking = {lock.canonical(each.name) for each in here} - LOCKED.keys() - DEV.keys()
        assert not lacking, f"{name} needs {lacking}"


def test_a_study_installs_no_tools_of_ours():
    """pytest and the like are for who works on the pipeline."""
    assert {"pytest", "hypothesis", "ruff", "snakefmt", "uv"} <= DEV.keys()


@pytest.mark.parametrize("name", LOCKS)
def test_each_pin_is_exact_and_hashed(name):
    for pin in LOCKS[name].values():
        (specifier,) = Requirement(str(pin)).specifier
        assert specifier.operator == "==" and "*" not in specifier.version, pin
        assert pin.hashes, f"{pin}: no hash"


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_packages_and_hashes_and_nothing_else(name):
    """No address, index, find-links or editable line: those differ between machines."""
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        content = line.strip().removesuffix("\\").strip()
        assert content.startswith(("#", "--hash=sha256:")) or Requirement(content), line
        assert "://" not in line and "@" not in line, line


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_each_python_gets_one_version_of_each_requirement(version):
    there = {"python_version": version, "python_full_version": f"{version}.0"}
    for name in WANTED:
        marker = Requirement(str(LOCKED[name])).marker
        assert marker is None or marker.evaluate(there), name


def test_ordinary_torch():
    """A build such as +cpu would not find a torchvision that goes with it."""
    assert "+" not in LOCKED["torch"].version + LOCKED["torchvision"].version


@pytest.mark.parametrize("name", lock.ENVIRONMENTS)
def test_environment_pins_equal_the_lock(name):
    pins = pip_pins(name)
    assert {lock.canonical(package) for package in lock.ENVIRONMENTS[name].packages} <= set(pins)
    assert pins == {package: Requirement(str(LOCKED[package])) for package in pins}


@pytest.mark.parametrize("name", lock.ENVIRONMENTS)
def test_environment_is_what_the_lock_gives(name):
    path = ROOT / "envs" / f"{name}.yaml"
    assert path.read_text(encoding="utf-8") == lock.environment(name, LOCKED), "run `make lock`"


@pytest.mark.parametrize("name", lock.ENVIRONMENTS)
def test_environment_needs_nothing_beyond_its_pins(name):
    """Every dependency of every pin, as its installed metadata states it, is pinned too."""
    pins = pip_pins(name)
    for pin in pins.values():
        if pin.marker and not pin.marker.evaluate():
            continue
        for line in importlib.metadata.requires(pin.name) or []:
            needed = Requirement(line)
            if needed.marker and not needed.marker.evaluate({"extra": ""}):
                continue
            assert lock.canonical(needed.name) in pins, f"{pin.name} needs {needed.name}"


def test_tables_need_no_torch():
    assert "torch" in pip_pins("models")
    assert not {"torch", "torchvision", "transformers"} & set(pip_pins("tables"))


def test_every_environment_file_is_known():
    assert {path.stem for path in (ROOT / "envs").glob("*.y*ml")} == set(lock.ENVIRONMENTS)


@functools.cache
def imported(path: Path) -> set[str]:
    """Full names of all that a Python file imports, wherever in it: modules, or names in them;
    but not what only type checkers read, nor what a package loads for who asks it by name."""
    names, todo = set(), [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        asked = path.name == "__init__.py" and getattr(node, "name", "") == "__getattr__"
        todo += [] if typing or asked else ast.iter_child_nodes(node)
    return names


def foreign(names: set[str], own: set[str]) -> set[str]:
    """Top-level modules among `names` that are neither Python's nor our own."""
    return {name.split(".")[0] for name in names} - own - sys.stdlib_module_names


def providers(module: str) -> set[str]:
    """Canonical names of the installed packages that provide a top-level module."""
    return {lock.canonical(name) for name in DISTRIBUTIONS.get(module, [])}


# What plans and guards a run; of these a job calls nothing that needs a package.
OF_THE_RUN = {ROOT / "scripts/vlg/config/plan.py", ROOT / "scripts/vlg/workflow/running.py"}


def reached(script: Path) -> set[str]:
    """What a script of scripts/ imports, directly or through the package, and what it finds there
    by name."""
    names, seen, todo = set(), set(OF_THE_RUN), {script}
    while todo:
        path = todo.pop()
        seen.add(path)
        found = imported(path)
        names |= found
        # What it loads by name: any file of that room.
        for room in re.findall(r"plugins\.load\(plugins\.([A-Z]+)", path.read_text("utf-8")):
            todo |= set(plugins.folder(getattr(plugins, room)).glob("*.py")) - seen
        places = [ROOT / "scripts" / name.replace(".", "/") for name in found]
        ours = {
            file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")
        }
        todo |= {file for file in ours - seen if file.is_file()}
    return names


@pytest.mark.parametrize(
    ("folders", "wanted", "file"),
    [
        (("scripts", "tools"), WANTED, "requirements.in"),
        (("tests", "bench"), WANTED | DEV_WANTED, "requirements-dev.in"),
        (("scripts/vlg/demo",), WANTED | DEMO_WANTED, "requirements-demo.in"),
    ],
)
def test_each_import_is_required_by_name(folders, wanted, file):
    """What code imports stands in an .in file, not only among what others happen to need."""
    places = [ROOT, *(ROOT / name for name in ("scripts", "tests", "tools", "bench"))]
    own = {path.stem for place in places for path in place.glob("*")}
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    files += [DEMO_BENCH] * (file == "requirements-demo.in")
    if file == "requirements-demo.in":
        pytest.importorskip("gradio", reason="what the demo needs is not installed (`make demo`)")
    else:
        files = [path for path in files if DEMO_ROOM not in path.parents and path != DEMO_BENCH]
    names = set().union(*map(imported, files))
    for module in foreign(names, own):
        assert providers(module) & wanted, f"{module}: add its package to {file}"


# A stage's rules, with the functions and the command lines that they use.
RULES = {
    path.stem: "".join(each.read_text("utf-8") for each in (ROOT / "rules").rglob(path.name))
    for path in (ROOT / "rules").glob("*.smk")
}
STEPS = [
    (stage, script)
    for stage, text in RULES.items()
    for script in sorted(set(re.findall(r"\bpython\(\"(\w+)\"\)", text)))
]


def test_steps_are_found():
    """Guards the reading of rules/ above."""
    assert {("generate", "generate"), ("score", "score")} <= set(STEPS) and (
        "tables",
        "table",
    ) in STEPS


@pytest.mark.parametrize(("stage", "script"), STEPS)
def test_environment_of_a_stage_has_what_its_scripts_import(stage, script):
    modules = foreign(reached(ROOT / "scripts" / f"{script}.py"), {"vlg"})
    lacking = {
        name: {module for module in modules if not providers(module) & set(pip_pins(name))}
        for name in re.findall(r"envs/(\w+)\.yaml", RULES[stage])
    }
    assert set() in lacking.values(), f"no environment of rules/{stage}.smk suits: {lacking}"


def test_damaged_lock_is_refused():
    with pytest.raises(ValueError, match="not one exact pin: numpy>=2"):
        lock.pins("numpy>=2 \\\n    --hash=sha256:" + "0" * 64 + "\n")


def test_unknown_package_of_an_environment_is_named():
    with pytest.raises(KeyError, match="no-such-package"):
        lock.closure(("no_such.Package",), LOCKED)


def test_closure_follows_needs_of_needs():
    def pin(name: str, *wanted_by: str) -> lock.Pin:
        return lock.Pin(name, "1", "", ("0" * 64,), frozenset(wanted_by))

    chain = [pin("a", "-r requirements.in"), pin("b", "a"), pin("c", "b", "z"), pin("d", "z")]
    direct, indirect = lock.closure(("A",), {each.name: each for each in chain})
    assert [each.name for each in direct] == ["a"]
    assert [each.name for each in indirect] == ["b", "c"]


def test_environments_are_written_from_the_lock_without_a_network(tmp_path):
    (tmp_path / "envs").mkdir()
    (tmp_path / "tools").mkdir()
    for name in ("requirements.lock", "tools/lock.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    subprocess.run([sys.executable, tmp_path / "tools" / "lock.py", "--envs"], check=True)
    for name in lock.ENVIRONMENTS:
        written = (tmp_path / "envs" / f"{name}.yaml").read_bytes()
        assert written == (ROOT / "envs" / f"{name}.yaml").read_bytes()

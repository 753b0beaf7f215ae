"""A hash of the code that makes a result, so that a step reruns when that code changes.

Rules pass `code_hash(script)` as a param. It covers the script and every module of this package
that it imports, directly or not, as syntax trees without docstrings: a comment, a docstring or a
new line changes nothing, a changed expression does. Imports are read from the source, wherever in
a function they stand; only `importlib` calls go unseen.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "vlg"

# Modules that cannot change a result: how a command line looks, fails and ends, how files are
# written and compared, and how the config is read (its values reach a step as settings, which are
# compared themselves).
IGNORED = frozenset(
    {
        "vlg.workflow.cli",
        "vlg.workflow.codehash",
        "vlg.config.checks",
        "vlg.config.schema",
        "vlg.errors",
        "vlg.files",
        "vlg.record.integrity",
        "vlg.config.plan",
        "vlg.config.keys",
        "vlg.config.read",
        "vlg.config.reference",
        "vlg.config.sections",
        "vlg.config.layout",
        "vlg.plugins",
        "vlg.workflow.running",
    }
)


@functools.cache
def code_hash(script: Path, *chosen: Path) -> str:
    """16 hex digits for a script and all modules of the package it imports.

    chosen: files of the package that the script finds by name (`vlg.plugins`), which count with
    what they import.

    The package is the folder `vlg` beside the script or beside a parent of it. The hash does not
    depend on where the files are, on line numbers, or on Python's minor version.
    Raises SyntaxError for a file that is not Python.
    """
    script = Path(script).resolve()
    root = next((p for p in script.parents if (p / PACKAGE).is_dir()), script.parent)
    text, names = _module(script, root, "")
    digest = hashlib.sha256(text.encode())
    modules: dict[str, str] = {}
    todo = set(names)
    for file in chosen:
        parts = file.resolve().relative_to(root).with_suffix("").parts
        todo |= {name for name in _with_parents(".".join(parts)) if name not in IGNORED}
    while todo:
        name = todo.pop()
        modules[name], names = _module(_file(root, name), root, name)
        todo |= names - modules.keys()
    for name in sorted(modules):
        digest.update(f"\0{name}\0{modules[name]}".encode())
    return digest.hexdigest()[:16]


@functools.cache
def _module(file: Path, root: Path, name: str) -> tuple[str, frozenset[str]]:
    """(its tree as text, the modules of the package it imports) of one source file."""
    tree = ast.parse(file.read_bytes(), filename=str(file))
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    modules = {
        module
        for target in _imports(tree, package)
        for module in _with_parents(target)
        if module not in IGNORED and _file(root, module)
    }
    parts: list[str] = []
    _dump(tree, parts)
    return "".join(parts), frozenset(modules)


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Dotted names that may be modules of the package: what is imported, and from where."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                origin = ".".join([*above, origin] if origin else above)
            names = [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == PACKAGE)


def _with_parents(target: str) -> list[str]:
    """`a.b.c` and what importing it runs before: `a`, `a.b`."""
    parts = target.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]


def _file(root: Path, name: str) -> Path | None:
    """The source file of a module; None when the name is an attribute and no module."""
    path = root.joinpath(*name.split("."))
    files = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in files if file.is_file()), None)


def _dump(node: object, parts: list[str]) -> None:
    """Append the text of a syntax tree: no positions, no empty fields, no bare strings.

    Like ast.dump, whose form differs between Python versions, as do the empty fields of nodes.
    """
    if isinstance(node, ast.AST):
        parts.append(type(node).__name__)
        parts.append("(")
        for field in sorted(node._fields):
            value = getattr(node, field, None)
            if isinstance(node, ast.JoinedStr):  # Python 3.12.1 adds empty pieces to f-strings
                value = [piece for piece in node.values if getattr(piece, "value", None) != ""]
            if value is not None and value != [] and field != "type_comment":
                parts.append(field)
                parts.append("=")
                _dump(value, parts)
        parts.append(")")
    elif isinstance(node, list):
        parts.append("[")
        for item in node:
            if not _is_bare_string(item):
                _dump(item, parts)
                parts.append(",")
        parts.append("]")
    else:
        parts.append(ascii(node))  # repr would depend on the Unicode version of Python


def _is_bare_string(node: object) -> bool:
    """A docstring, or a string that stands alone elsewhere and does nothing either."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )

"""A hash of the code that makes a result, so that a step reruns when that code changes.

Rules pass `code_hash(script)` as a param. It covers the script and every module of this package
that it imports, directly or not, as syntax trees without what cannot change a result:

- comments, docstrings, line numbers;
- imports and code under `if TYPE_CHECKING:`;
- what a message says: the strings in the `raise` of a UserError or of one of Python's own
  exceptions, and a UserError's arguments altogether where they only read values;
- statements that log (`log.info(...)`) where their arguments only read values, and an `if` that
  does nothing else;
- what a package offers to others when they ask for it: `__getattr__` of a module;
- help texts: `description=` of a settings key's Field, `help=` of an option, `desc=` of a bar;
- what a file says at its top to the plan and to tables alone (SAID).

A changed expression anywhere else changes the hash. Imports are read from the source, wherever in
a function they stand; only `importlib` calls go unseen, so what is found by name (`vlg.plugins`)
is named by the rule.

Reading syntax trees takes a good part of a plan that finds nothing to do, so hashes are kept in
`__pycache__` beside the package, and hold for the very sources, to the byte, that they are of.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from vlg.files import atomic

PACKAGE = "vlg"
KEPT = "__pycache__/code-hashes.json"

# Modules, and rooms with all they hold, that cannot change a result: how a command line looks,
# fails and ends, what a model is refused for, how files are written and compared, how what is found
# by name is found, and how the config is read (its values reach a step as settings, which are
# compared themselves).
IGNORED = frozenset(
    {
        "vlg.config",
        "vlg.errors",
        "vlg.files",
        "vlg.judge.traps",
        "vlg.models.headers",
        "vlg.models.stated",
        "vlg.plugins",
        "vlg.record.integrity",
        "vlg.workflow.bundle",
        "vlg.workflow.cli",
        "vlg.workflow.codehash",
        "vlg.workflow.running",
        "vlg.workflow.slots",
    }
)

# Exceptions that end a step, or whose text at most is told: never a result.
TOLD = {"UserError"} | {
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
}
LEVELS = {"debug", "info", "warning", "error", "exception"}
# Functions and methods that read their arguments and change nothing.
FUNCTIONS = {"abs", "bool", "dict", "float", "int", "len", "list", "max", "min", "repr", "round"}
FUNCTIONS |= {"set", "sorted", "str", "sum", "tuple", "type"}
METHODS = {"as_posix", "format", "item", "items", "join", "keys", "lower", "mean", "removeprefix"}
METHODS |= {"removesuffix", "rpartition", "split", "strip", "tolist", "upper", "values"}
METHODS |= {"with_name", "with_suffix"}
# Constants at the top of a method's or arm's file that no step reads (`vlg.plugins.constant`).
SAID = {"BLACK_BOX", "DOSE"}
# Keywords that hold words for people, by the function that takes them.
WORDS = {
    "Field": {"description", "title", "examples"},
    "ArgumentParser": {"description", "epilog"},
    "add_argument": {"help", "metavar"},
    "add": {"help", "metavar"},  # add = parser.add_argument
    "tqdm": {"desc", "unit", "mininterval"},
}


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
    names = [str(file.resolve().relative_to(root)) for file in (script, *chosen)]
    of = " ".join([*names, hashlib.sha256(script.read_bytes()).hexdigest()])
    if found := _kept(root).get(of):
        return found
    found = _hash(script, root, chosen)
    if _state.__wrapped__(root) == _state(root):  # else somebody edits them just now
        kept = {"sources": _state(root), "hashes": _kept(root) | {of: found}}
        with contextlib.suppress(OSError), atomic(root / KEPT, durable=False) as new:
            new.write_text(json.dumps(kept), encoding="utf-8")
    return found


def _kept(root: Path) -> dict[str, str]:
    """The hashes that are kept of the sources as they are now, by script and chosen files."""
    try:
        kept = json.loads((root / KEPT).read_text(encoding="utf-8"))
        return kept["hashes"] if kept["sources"] == _state(root) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


@functools.cache
def _state(root: Path) -> str:
    """A hash of all that a code hash depends on: the package, scripts beside it, this file."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for file in sorted([*root.glob("*.py"), *(root / PACKAGE).rglob("*.py")]):
        digest.update(f"\0{file.relative_to(root)}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _hash(script: Path, root: Path, chosen: tuple[Path, ...]) -> str:
    text, names = _module(script, root, "")
    digest = hashlib.sha256(text.encode())
    modules: dict[str, str] = {}
    todo = set(names)
    for file in chosen:
        parts = file.resolve().relative_to(root).with_suffix("").parts
        todo |= {name for name in _with_parents(".".join(parts)) if not _ignored(name)}
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
    tree = _Counting().visit(ast.parse(file.read_bytes(), filename=str(file)))
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    modules = {
        module
        for target in _imports(tree, package)
        for module in _with_parents(target)
        if not _ignored(module) and _file(root, module)
    }
    parts: list[str] = []
    _dump(tree, parts)
    return "".join(parts), frozenset(modules)


def _ignored(name: str) -> bool:
    return not IGNORED.isdisjoint(_with_parents(name))


class _Counting(ast.NodeTransformer):
    """A tree without what cannot change a result."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST | None:
        if node.name == "__getattr__" and len(node.args.args) == 1:  # a class's has self, too
            return None
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt] | None:
        if _name(node.test) == "TYPE_CHECKING":
            return [each for old in node.orelse for each in _as_list(self.visit(old))]
        self.generic_visit(node)
        if not node.body and not node.orelse and _reads(node.test):
            return None
        return node

    def visit_Module(self, node: ast.Module) -> ast.AST:
        node.body = [each for each in node.body if not _said(each)]
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None  # a docstring, or a string that stands alone and does nothing either
        call = node.value
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr in LEVELS
            and _name(call.func.value) == "log"
            and _reads(call.func.value)
            and _arguments_read(call)
        ):
            return None
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        self.generic_visit(node)
        name = _name(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)
        if name in TOLD and isinstance(node.exc, ast.Call):
            if name == "UserError" and _arguments_read(node.exc):
                node.exc = node.exc.func
            else:
                node.exc = _Wordless().visit(node.exc)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        words = WORDS.get(_name(node.func), ())
        node.keywords = [k for k in node.keywords if k.arg not in words or not _reads(k.value)]
        return node


class _Wordless(ast.NodeTransformer):
    """A tree whose strings say nothing: of one with values in it, the values stay."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        values = [self.visit(each.value) for each in node.values if hasattr(each, "conversion")]
        return ast.Tuple(values, ast.Load()) if values else ast.Constant("")


def _said(node: ast.stmt) -> bool:
    """Whether a statement says nothing but one of SAID."""
    if not isinstance(node, ast.Assign) or not _reads(node.value):
        return False
    return all(isinstance(each, ast.Name) and each.id in SAID for each in node.targets)


def _name(node: ast.AST | None) -> str:
    """The last name of `a` or `a.b`; empty for anything else."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _as_list(nodes: ast.AST | list[ast.AST] | None) -> list[ast.AST]:
    return nodes if isinstance(nodes, list) else [nodes] if nodes else []


def _arguments_read(call: ast.Call) -> bool:
    return all(map(_reads, [*call.args, *(keyword.value for keyword in call.keywords)]))


def _reads(node: ast.AST) -> bool:
    """Whether an expression only reads: it calls nothing but what changes nothing."""
    for each in ast.walk(node):
        if isinstance(each, ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom):
            return False
        if isinstance(each, ast.Call):
            known = METHODS if isinstance(each.func, ast.Attribute) else FUNCTIONS
            if _name(each.func) not in known:
                return False
    return True


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
    """Append the text of a syntax tree: no positions, no empty fields.

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
            _dump(item, parts)
            parts.append(",")
        parts.append("]")
    else:
        parts.append(ascii(node))  # repr would depend on the Unicode version of Python

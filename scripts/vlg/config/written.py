"""What was written where Snakemake and YAML saw another value: `study=0815`, `0100` in a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vlg.config.sections import Config
from vlg.errors import UserError

# What YAML 1.1 counts to the base of 8, and to that of 60 as hours and minutes are.
OCTAL = re.compile(r"[+-]?0[0-7_]+")
SIXTIETHS = re.compile(r"[+-]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
DECIMAL = re.compile(r"0|[1-9][0-9]*")


def named(config: Mapping[str, Any], arguments: Iterable[str] | str) -> Mapping[str, Any]:
    """The config with the study's name as it was typed after `--config study=`.

    Snakemake makes numbers and more of what looks so: 815 of 0815, 1000 of 1e3. arguments: all that
    followed `--config`. A value that is from elsewhere stays.
    """
    typed = [] if isinstance(arguments, str) else [*arguments]
    texts = [text for name, _, text in (word.partition("=") for word in typed) if name == "study"]
    text = texts[-1].strip("'\"") if texts else ""  # as Snakemake strips it
    if not text or "study" not in config:
        return config
    from snakemake.cli import parse_config

    read, value = parse_config([f"study={text}"])["study"], config["study"]
    # As text: not-a-number does not equal itself.
    same = type(read) is type(value) and str(read) == str(value)
    return {**config, "study": text} if same and isinstance(read, int | float) else config


def check_files(files: Iterable[Path | str]) -> None:
    """UserError for what YAML reads otherwise than it looks in a config file.

    A key that stands twice, of which YAML takes the last; a number that it counts to the base of 8
    or 60; a number as the study's name that another text would give. What is no key of ours, or no
    YAML, is not looked at.
    """
    import yaml

    for path in files:
        try:
            text = Path(path).read_text("utf-8")
            whole = yaml.compose(text, Loader=yaml.SafeLoader)
        except (OSError, ValueError, RecursionError, yaml.YAMLError):
            continue  # Snakemake says what is wrong with it
        if isinstance(whole, yaml.MappingNode):
            _check_twice(path, whole, only=True)
            for key, value in whole.value:
                if key.value in Config.model_fields:
                    _check_below(path, value, key.value == "study")


def _check_below(path: Path | str, top: Any, name: bool) -> None:
    import yaml

    for node in _nodes(top):
        if isinstance(node, yaml.MappingNode):
            _check_twice(path, node)
        elif isinstance(node, yaml.ScalarNode) and node.style is None:
            number = node.tag.endswith((":int", ":float"))
            strange = OCTAL.fullmatch(node.value) or SIXTIETHS.fullmatch(node.value)
            if number and (strange or (name and not DECIMAL.fullmatch(node.value))):
                value = yaml.safe_load(node.value)
                remedy = "a name in quotes" if name else f"{value}, or without its zeros or colons"
                raise UserError(
                    f"{path}: line {node.start_mark.line + 1}: {node.value} is {value} to YAML; "
                    f"write {remedy}"
                )


def _check_twice(path: Path | str, node: Any, only: bool = False) -> None:
    """only: among the keys of ours."""
    seen: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key.value, str) or (only and key.value not in Config.model_fields):
            continue
        line = key.start_mark.line + 1
        before = seen.setdefault(key.value, line)
        if before != line and key.value != "<<":
            raise UserError(
                f"{path}: lines {before} and {line} both say {key.value}, of which YAML takes the "
                "last; join them"
            )


def _nodes(top: Any) -> Iterator[Any]:
    """All nodes of a YAML document in order, each once, whatever refers to what."""
    seen, waiting = set(), [top]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node.value, list):
            children = [one if isinstance(one, tuple) else (one,) for one in node.value]
            waiting += [each for pair in reversed(children) for each in reversed(pair)]

"""YAML as strings with line numbers: no surprise types, no aliases, no doubled keys; the only door to `yaml`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fhir_screen.errors import MappingError

Steps = tuple[str | int, ...]

_LARGEST = 2_000_000
_DEEPEST = 60
_SHOWN = 30


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML file: ``content`` has only mappings, lists and strings (null is the empty string)."""

    path: Path
    content: Any
    lines: Mapping[Steps, int]

    def where(self, steps: Iterable[str | int] = ()) -> str:
        """file:line and the path inside, for an error message; the nearest enclosing line where there is none."""
        path = tuple(steps)
        line = next((self.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.lines), 1)
        return f"{self.path}:{line}" + (f", {shown(path)}" if path else "")

    def error(self, what: str, steps: Iterable[str | int], remedy: str) -> MappingError:
        return MappingError(what, where=self.where(steps), remedy=remedy)


def shown(steps: Iterable[str | int]) -> str:
    text = ""
    for step in steps:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A remedy for a misspelt name; empty where nothing is near."""
    near = difflib.get_close_matches(word, sorted(known), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(repr(n) for n in near)}?" if near else ""


def one_of(word: str, what: str, known: Iterable[str]) -> str:
    """The remedy for a name that does not exist: what is near, else what there is."""
    names = sorted(known)
    more = ", …" if len(names) > _SHOWN else ""
    return did_you_mean(word, names) or f"{what}: {', '.join(names[:_SHOWN]) or 'none'}{more}"


def read_yaml(path: Path) -> Document:
    """Reads one file; every mistake is a MappingError with file and line."""
    try:
        raw = path.read_bytes()
    except OSError as cause:
        raise MappingError(f"cannot be read: {cause.strerror}", where=str(path), remedy="check the path") from cause
    if len(raw) > _LARGEST:
        raise MappingError("larger than 2 MB", where=str(path), remedy="split it")
    try:
        text = raw.decode("utf-8-sig")
        node = yaml.compose(text, Loader=yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader)
        _refuse_aliases(text, path)
    except UnicodeDecodeError as cause:
        raise MappingError("is not UTF-8", where=str(path), remedy="save it as UTF-8") from cause
    except yaml.MarkedYAMLError as cause:
        line = cause.problem_mark.line + 1 if cause.problem_mark else 1
        remedy = "look at the columns: entries of one list begin in the same one, and what belongs to a key stands deeper"
        raise MappingError(f"is not YAML: {cause.problem}", where=f"{path}:{line}", remedy=remedy) from cause
    except yaml.YAMLError as cause:
        raise MappingError("is not YAML", where=str(path), remedy="one document a file, without signs that YAML does not know") from cause
    lines: dict[Steps, int] = {}
    content = _plain(node, (), lines, path) if node is not None else {}
    return Document(path, content, lines)


def _refuse_aliases(text: str, path: Path) -> None:
    if not any(sign in text for sign in "&*!"):
        return
    for token in yaml.scan(text, Loader=yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):
        if isinstance(token, yaml.AnchorToken | yaml.AliasToken | yaml.TagToken):
            line = token.start_mark.line + 1
            raise MappingError("anchors, aliases and tags are not allowed", where=f"{path}:{line}", remedy="write it out")


def _plain(node: yaml.Node, steps: Steps, lines: dict[Steps, int], path: Path) -> Any:
    lines[steps] = node.start_mark.line + 1
    if len(steps) > _DEEPEST:
        raise MappingError("nested too deeply", where=f"{path}:{node.start_mark.line + 1}", remedy="count the brackets")
    if isinstance(node, yaml.ScalarNode):
        return "" if node.tag == "tag:yaml.org,2002:null" and node.style is None else str(node.value)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*steps, n), lines, path) for n, item in enumerate(node.value)]
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise MappingError("a key has to be a word", where=f"{path}:{line}", remedy="write `key: value`, a list as the value")
        key = str(key_node.value)
        if key in result:
            raise MappingError(f"key {key!r} stands twice", where=f"{path}:{line}, {shown((*steps, key))}", remedy="keep one")
        result[key] = _plain(value_node, (*steps, key), lines, path)
        lines[(*steps, key)] = line
    return result

"""Where things lie in a FHIR resource: JSONPath with equality filters, parsed once and compiled to a closure.

The grammar is that of `jsonpath-ng`; this module is its only door.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from jsonpath_ng.exceptions import JSONPathError

Step = Callable[[Any], Iterator[Any]]
Path = Callable[[Any], list[Any]]

_LONGEST, _MOST_STEPS = 300, 20


class PathError(ValueError):
    """A path that is not JSONPath, or more of it than a nightly run should trust."""


@lru_cache(maxsize=4096)
def compiled(text: str) -> Path:
    """Compiles a path to a function from JSON to the list of what lies there.

    Allowed are fields, indexes, slices, wildcards and `[?(@.url == 'x')]` with equality; refused are regular
    expressions (one of 27 letters ran for 39 seconds), arithmetic and recursive descent.
    """
    if len(text) > _LONGEST:
        raise PathError(f"longer than {_LONGEST} characters")
    if "=~" in text or ".." in text:
        raise PathError("neither regular expressions nor '..' are allowed in a path")
    steps = _steps(parsed(text))
    if len(steps) > _MOST_STEPS:
        raise PathError(f"more than {_MOST_STEPS} steps")

    def find(document: Any) -> list[Any]:
        found = [document]
        for step in steps:
            found = [value for one in found for value in step(one)]
            if not found:
                break
        return found

    return find


def parsed(text: str) -> Any:
    """The tree of `jsonpath-ng` for a path."""
    from jsonpath_ng.ext.parser import parse
    from jsonpath_ng.ext.string import DefintionInvalid

    try:
        return parse(text)
    except (JSONPathError, DefintionInvalid) as cause:
        raise PathError(f"not a JSONPath: {re.sub(chr(10), ' ', str(cause))[:120]}") from cause


def _steps(tree: Any) -> list[Step]:
    kind = type(tree).__name__
    if kind == "Root" or kind == "This":
        return []
    if kind == "Child":
        return [*_steps(tree.left), *_steps(tree.right)]
    if kind == "Fields":
        return [_fields(tuple(tree.fields))]
    if kind == "Index":
        return [_index(tuple(tree.indices))]
    if kind == "Slice":
        return [_slice(tree)]
    if kind == "Wildcard":
        return [_every]
    if kind == "Filter":
        return [_filter(tree)]
    raise PathError(f"{kind} is not allowed in a path")


def _fields(names: Sequence[str]) -> Step:
    if len(names) == 1 and names[0] != "*":
        name = names[0]

        def one(value: Any) -> Iterator[Any]:
            if isinstance(value, dict) and name in value:
                yield value[name]

        return one

    def several(value: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            yield from (value[n] for n in (value if "*" in names else names) if n in value)

    return several


def _index(indices: Sequence[int]) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from (value[n] for n in indices if -len(value) <= n < len(value))

    return step


def _every(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()


def _slice(tree: Any) -> Step:
    if tree.step == 0:
        raise PathError("a slice has to step forward or back")
    cut = slice(tree.start, tree.end, tree.step)

    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from value[cut]

    return step


def _filter(tree: Any) -> Step:
    if not all(_is_plain(expression) for expression in tree.expressions):
        raise PathError("only equality with a value is allowed in a filter")
    tests = [(_steps(e.target), e.op, e.value) for e in tree.expressions]

    def holds(item: Any) -> bool:
        return all(_meets(item, steps, op, wanted) for steps, op, wanted in tests)

    def step(value: Any) -> Iterator[Any]:
        items = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
        yield from (item for item in items if holds(item))

    return step


def _is_plain(expression: Any) -> bool:
    """`@.path == value`, or `@.path` alone; no other place of the document may be looked at."""
    if type(expression).__name__ != "Expression" or expression.op not in ("=", "==", None):
        return False
    target = expression.target
    while type(target).__name__ == "Child":
        target = target.left
    return type(target).__name__ == "This" and isinstance(expression.value, str | int | float | None)


def _meets(item: Any, steps: Sequence[Step], op: str | None, wanted: Any) -> bool:
    found = [item]
    for step in steps:
        found = [value for one in found for value in step(one)]
    return bool(found) if op is None else any(_equal(value, wanted) for value in found)


def _equal(value: Any, wanted: Any) -> bool:
    """A boolean is no number: true is not 1."""
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    return bool(value == wanted)

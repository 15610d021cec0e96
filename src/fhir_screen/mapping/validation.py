"""From a YAML document to its pydantic model; every mistake ends as file, line, path and remedy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fhir_screen.errors import MappingError
from fhir_screen.mapping.mistakes import Collected
from fhir_screen.mapping.yamlfile import Document, Steps, one_of

Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], document: Document, content: Any = None, steps: Steps = ()) -> Model:
    """Checks a document, or the part of it at ``steps``."""
    value = document.content if content is None else content
    if not isinstance(value, dict):
        shape, remedy = _SHAPES["dict_type"]
        raise document.error(f"should be {shape} (found {_brief(value)})", steps, remedy)
    try:
        return model.model_validate(value)
    except ValidationError as cause:
        mistakes = Collected()
        for mistake in _one_a_place(value, cause.errors()):
            with mistakes.part():
                raise _told(model, document, value, steps, mistake) from None
        mistakes.tell()
        raise AssertionError("a refused document has a mistake") from cause


def _one_a_place(content: Any, errors: Iterable[ErrorDetails]) -> Iterator[ErrorDetails]:
    """Of all that is said about one entry (a key, a code, a criterion) what tells most; entries in their order.

    Where a key is unknown, the one that is missing beside it is the same mistake.
    """
    said = list(errors)
    misspelt = {error["loc"][:-1] for error in said if error["type"] == "extra_forbidden"}
    by_place: dict[Steps, list[ErrorDetails]] = {}
    for error in said:
        if error["type"] == "missing" and error["loc"][:-1] in misspelt:
            continue
        by_place.setdefault(_existing(content, error["loc"])[:_ENTRY], []).append(error)
    for of_entry in by_place.values():
        yield min(of_entry, key=lambda error: _telling(content, error))


_ENTRY = 2
"""Entries of a document stand two steps deep: codes[3], criteria.I07, parameters.lab_validity_days."""


def _told(
    model: type[BaseModel], document: Document, content: Any, steps: Steps, mistake: ErrorDetails
) -> MappingError:
    inside = _existing(content, mistake["loc"])
    where = (*steps, *inside)
    key = str(mistake["loc"][-1])
    match mistake["type"]:
        case "extra_forbidden":
            known = _keys_of(model, mistake["loc"][:-1])
            return document.error(f"unknown key {key!r}", where, one_of(key, "known here", known))
        case "missing":
            return document.error(f"key {key!r} is missing", where, f"add {key!r}")
        case "literal_error":
            words = mistake["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            what = f"{mistake['input']!r} is not one of {mistake['ctx']['expected']}"
            return document.error(what, where, one_of(str(mistake["input"]), "words here", filter(None, words)))
        case kind if kind in _SHAPES:
            shape, remedy = _SHAPES[kind]
            return document.error(f"should be {shape} (found {_brief(mistake['input'])})", where, remedy)
        case _:
            what = f"{mistake['msg'].lower()} (found {_brief(mistake['input'])})"
            return document.error(what, where, "docs/writing-a-trial.md shows each key by example")


_SHAPES = {
    "tuple_type": ("a list", "write [one, another], or lines that begin with -"),
    "dict_type": ("`key: value` lines", "write each on a line of its own"),
    "model_type": ("`key: value` lines", "write each on a line of its own"),
    "int_parsing": ("a whole number", "write it in digits"),
    "string_type": ("a text", "put it in quotes"),
    "string_pattern_mismatch": ("a name of letters, digits, dots and dashes", "such as north-clinic"),
}
"""What pydantic calls by its Python names."""


def _telling(content: Any, error: ErrorDetails) -> tuple[bool, int, bool]:
    """Misspelt keys first, then the deepest place: of several shapes that fit not, the one that was meant fits longest."""
    return (error["type"] != "extra_forbidden", -len(_existing(content, error["loc"])), error["type"] != "literal_error")


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "..."


def _existing(content: Any, loc: tuple[str | int, ...]) -> Steps:
    """The part of an error's location that is a path in the document (pydantic adds names of union members)."""
    steps: list[str | int] = []
    inside: Any = content
    for step in loc:
        if step in _steps_into(inside):
            inside = inside[step]
            steps.append(step)
    return tuple(steps)


def _steps_into(content: Any) -> Iterable[Any]:
    match content:
        case dict():
            return content.keys()
        case list() | tuple():
            return range(len(content))
        case _:
            return ()


def _keys_of(model: type[BaseModel], loc: tuple[str | int, ...]) -> set[str]:
    current: Any = model
    for step in loc:
        current = _into(current, step)
    return {field.alias or name for m in _models(current) for name, field in m.model_fields.items()}


def _into(current: Any, step: str | int) -> Any:
    for model in _models(current):
        for name, field in model.model_fields.items():
            if step in (name, field.alias):
                return field.annotation
    return current


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]

"""Where a rule of the mapping stands, and all that it may name: documents, concepts, parameters, shared rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import BaseModel

from fhir_screen.errors import MappingError
from fhir_screen.mapping.shapes import ResourceShape
from fhir_screen.mapping.validation import validated
from fhir_screen.mapping.vocabulary import Terms
from fhir_screen.mapping.yamlfile import Document, Steps, one_of

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Shared:
    """A rule or derived value of the library, with the document it stands in."""

    document: Document
    steps: Steps
    content: Any


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a rule stands, and all that it may name."""

    document: Document
    steps: Steps
    terms: Terms
    shapes: Mapping[str, ResourceShape]
    parameters: Mapping[str, str]
    atoms: frozenset[str] = frozenset()
    library: Mapping[str, Shared] = field(default_factory=dict)
    derived: Mapping[str, Shared] = field(default_factory=dict)
    proxy: bool = False
    absence: str = ""
    least_conditions: int = 1
    used: set[str] = field(default_factory=set)
    """The parameters that rules have named so far: one that nobody names is a mistake."""
    asked_for: set[str] = field(default_factory=set)
    """The concepts that rules have named so far, in trials compiled before this one too."""
    depth: int = 0

    def at(self, *steps: str | int) -> Scope:
        return replace(self, steps=(*self.steps, *steps))

    def error(self, what: str, remedy: str) -> MappingError:
        return self.document.error(what, self.steps, remedy)


def filled(scope: Scope, content: Any) -> Any:
    """Puts parameters where ``$name`` stands."""
    if isinstance(content, str):
        if content.startswith("$") and content[1:].isidentifier() and content[1:] in scope.parameters:
            scope.used.add(content[1:])
            return scope.parameters[content[1:]]
        return re.sub(r"\$(\w+)", lambda m: _parameter(scope, m.group(1)), content)
    if isinstance(content, list):
        return [filled(scope.at(n), item) for n, item in enumerate(content)]
    if isinstance(content, dict):
        return {key: filled(scope.at(key), value) for key, value in content.items()}
    return content


def _parameter(scope: Scope, name: str) -> str:
    if name not in scope.parameters:
        raise scope.error(f"unknown parameter ${name}", one_of(name, "parameters", scope.parameters))
    scope.used.add(name)
    return str(scope.parameters[name])


def checked(model: type[Model], scope: Scope, body: Any) -> Model:
    return validated(model, scope.document, body, scope.steps)

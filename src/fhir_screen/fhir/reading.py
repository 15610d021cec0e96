"""Where things lie while one patient is read: in a resource, behind its references, or in what refers to it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any

from fhir_screen.core.facts import Coding, Person
from fhir_screen.fhir.datatypes import flat, items, objects, string
from fhir_screen.fhir.identity import is_own
from fhir_screen.fhir.raw import Json, RawPatient
from fhir_screen.mapping.paths import Path
from fhir_screen.mapping.shapes import Place, Shapes
from fhir_screen.mapping.vocabulary import Terms

_REFERENCE = re.compile(r"([A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64})(?:/_history/[^/]+)?")


@dataclass(frozen=True, slots=True)
class Reading:
    """What reading any element may need: the patient's resources by reference, the terms, and what was read before."""

    raw: RawPatient
    shapes: Shapes
    terms: Terms
    zone: tzinfo
    person: Person
    resources: tuple[tuple[str, Json], ...]
    known: dict[tuple[str, str, str], Coding | None] = field(default_factory=dict)
    reports: dict[tuple[str, Path], dict[int, list[Json]]] = field(default_factory=dict)


def ordered(resources: Iterable[Json], shapes: Shapes) -> tuple[tuple[str, Json], ...]:
    """Each resource once, with its reference, in an order that does not hang on the source's."""
    grouped: dict[str, list[Json]] = {}
    for resource in resources:
        kind = resource.get("resourceType")
        if isinstance(kind, str) and kind in shapes.resources and not is_own(resource):
            reference = f"{kind}/{string(resource.get('id'))}"
            grouped.setdefault(reference, []).append(resource)
            for part in objects(resource.get("contained")):
                if part.get("resourceType") in shapes.resources[kind].contains:
                    grouped.setdefault(f"{reference}#{string(part.get('id'))}", []).append(part)
    return tuple(pair for reference in sorted(grouped) for pair in _told_apart(reference, grouped[reference]))


def _told_apart(reference: str, resources: list[Json]) -> Iterator[tuple[str, Json]]:
    nameless = reference.endswith("/")
    distinct = resources if len(resources) == 1 else [one for _, one in sorted(_by_content(resources).items())]
    for number, resource in enumerate(distinct, start=1):
        yield f"{reference}?{number}" if nameless else reference, resource


def _by_content(resources: Iterable[Json]) -> dict[str, Json]:
    return {json.dumps(one, sort_keys=True, default=str): one for one in resources}


# Where things lie


def found_at(reading: Reading, place: Place, resource: Json) -> list[Any]:
    """What lies at a place: in this resource, behind a reference of it, or in what refers to it."""
    if place.reported_by and place.via:
        reporters = _reports(reading, place.reported_by, place.via).get(id(resource), ())
        return [value for reporter in reporters for value in items(place.path(reporter))]
    if place.through is None:
        return flat(place.path(resource))
    targets = _behind(reading, place.through, resource)
    if place.then is not None:
        targets = [further for target in targets for further in _behind(reading, place.then, target)]
    return [value for target in targets for value in items(place.path(target))]


def all_found(reading: Reading, places: Iterable[Place], resource: Json) -> list[Any]:
    """The same for several places, in their order."""
    return [value for place in places for value in found_at(reading, place, resource)]


def _behind(reading: Reading, path: Path, resource: Json) -> list[Json]:
    """The resources that the references at a path lead to; one that leads nowhere is left out."""
    references = (reference_text(one) for one in items(path(resource)))
    targets = (reading.raw.resolve(text, resource) for text in references if text)
    return [target for target in targets if target is not None]


def _reports(reading: Reading, kind: str, via: Path) -> dict[int, list[Json]]:
    """Which resources of a kind refer to which resource of this patient; looked up once."""
    key = (kind, via)
    if key not in reading.reports:
        table: dict[int, list[Json]] = {}
        for _, reporter in reading.resources:
            for target in _behind(reading, via, reporter) if reporter["resourceType"] == kind else ():
                table.setdefault(id(target), []).append(reporter)
        reading.reports[key] = table
    return reading.reports[key]


def reference_text(value: object) -> str:
    """The literal reference, also where a CodeableReference of R5 wraps it."""
    if isinstance(value, dict):
        inner = value.get("reference")
        return string(inner.get("reference")) if isinstance(inner, dict) else string(inner)
    return string(value)


def links_of(reading: Reading, links: Mapping[str, tuple[Place, ...]], resource: Json) -> dict[str, tuple[str, ...]]:
    """The references of each link, by its name; a link without any is left out."""
    found = {
        name: tuple(
            dict.fromkeys(_link(reading, one, resource) for p in places for one in found_at(reading, p, resource))
        )
        for name, places in links.items()
    }
    return {name: references for name, references in found.items() if references}


def _link(reading: Reading, value: object, resource: Json) -> str:
    """A reference as "Kind/id"; what leads to no resource of the record is kept as it came: it is a link still."""
    text = reference_text(value)
    if relative := _REFERENCE.fullmatch(text):
        return relative[1]
    target = reading.raw.resolve(text, resource) if text and not text.startswith("#") else None
    if target is not None and string(target.get("id")):
        return f"{target.get('resourceType')}/{target['id']}"
    return text or "?"

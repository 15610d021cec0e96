"""Asks a terminology server for the descendants that code sets stand for (ValueSet/$expand, filter is-a)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from fhir_screen.errors import PreflightError
from fhir_screen.fhir.raw import Json
from fhir_screen.fhir.server import FhirServer
from fhir_screen.mapping.vocabulary import Terms


@dataclass(frozen=True, slots=True)
class Descendant:
    """A code that lies below a listed one, and the concept that it thereby belongs to."""

    concept: str
    system: str
    code: str
    display: str


def expand(server: FhirServer, terms: Terms, systems: Iterable[str]) -> Iterator[Descendant]:
    """All descendants of the sets that the mapping marks with `descendants`, set by set, without the listed codes.

    ``systems`` are the URIs whose hierarchy the server knows (SNOMED CT). Raises PreflightError where the server
    does not expand.
    """
    known = frozenset(systems)
    for concept in sorted(terms.descended):
        listed = {(system, code) for system, code in terms.codes_of[concept] if system in known}
        for system, parent in sorted(listed):
            for found in _below(server, system, parent):
                if (system, found.code) not in listed:
                    yield Descendant(concept, system, found.code, found.display)


@dataclass(frozen=True, slots=True)
class _Contained:
    code: str
    display: str


def _below(server: FhirServer, system: str, parent: str) -> Iterator[_Contained]:
    include = {"system": system, "filter": [{"property": "concept", "op": "is-a", "value": parent}]}
    value_set = {"resourceType": "ValueSet", "status": "draft", "compose": {"include": [include]}}
    offset = 0
    while True:
        expansion = server.operation("ValueSet/$expand", _parameters(value_set, offset)).get("expansion")
        if not isinstance(expansion, Mapping):
            raise PreflightError("the server's answer to $expand holds no expansion", where=server.base)
        contained = [one for one in expansion.get("contains", ()) if isinstance(one, Mapping) and one.get("code")]
        yield from (_Contained(str(one["code"]), str(one.get("display", ""))) for one in contained)
        offset += len(contained)
        total = expansion.get("total")
        if not contained or not isinstance(total, int) or offset >= total:
            return


def _parameters(value_set: Json, offset: int) -> Json:
    parts: list[dict[str, object]] = [{"name": "valueSet", "resource": value_set}]
    if offset:
        parts.append({"name": "offset", "valueInteger": offset})
    return {"resourceType": "Parameters", "parameter": parts}


def as_overlay(found: Iterable[Descendant], source: str, day: str) -> str:
    """A file for a site's `include`: dated, with a hash over its rows, so that a change shows."""
    rows = sorted({(d.concept, d.system, d.code, d.display) for d in found})
    digest = hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()
    lines = [f"# Descendants by {source}, {day}; {len(rows)} codes, sha256 {digest}", "codes:"]
    lines += [
        f"  - {{system: {_quoted(system)}, code: {_quoted(code)}, concept: {concept}, display: {_quoted(display)}}}"
        for concept, system, code, display in rows
    ]
    return "\n".join(lines if rows else [lines[0], "codes: []"]) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)

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

_LARGEST = 1_900_000
"""Bytes: a mapping file may have two million, and then the names of the codes are left out."""


@dataclass(frozen=True, slots=True)
class Descendant:
    """A code that lies below a listed one, and the concept that it thereby belongs to."""

    concept: str
    system: str
    code: str
    display: str


@dataclass(frozen=True, slots=True)
class NotExpanded:
    """A listed code whose descendants the server did not give, and why, in its own words."""

    concept: str
    system: str
    code: str
    why: str


def parents(terms: Terms, systems: Iterable[str]) -> list[tuple[str, str, str]]:
    """Concept, system and code of every row that the mapping marks with `descendants`, of these systems (URIs)."""
    known = frozenset(systems)
    return sorted((c, s, code) for c in terms.descended for s, code in set(terms.codes_of[c]) if s in known)


def expand(server: FhirServer, terms: Terms, systems: Iterable[str]) -> Iterator[Descendant | NotExpanded]:
    """All descendants of the sets that the mapping marks with `descendants`, row by row, without the listed codes.

    ``systems`` are the URIs whose hierarchy the server knows (SNOMED CT). What it does not expand comes as NotExpanded.
    """
    rows = parents(terms, systems)
    listed = frozenset(rows)
    for concept, system, parent in rows:
        try:
            for found in _below(server, system, parent):
                if (concept, system, found.code) not in listed:
                    yield Descendant(concept, system, found.code, found.display)
        except PreflightError as refused:
            yield NotExpanded(concept, system, parent, refused.what)


@dataclass(frozen=True, slots=True)
class _Contained:
    code: str
    display: str


def _below(server: FhirServer, system: str, parent: str) -> Iterator[_Contained]:
    """Page after page; a server that does not know `offset` gives the same page again, and that ends it."""
    include = {"system": system, "filter": [{"property": "concept", "op": "is-a", "value": parent}]}
    value_set = {"resourceType": "ValueSet", "status": "active", "compose": {"include": [include]}}
    seen: set[str] = set()
    offset = 0
    while True:
        expansion = server.operation("ValueSet/$expand", _parameters(value_set, offset)).get("expansion")
        if not isinstance(expansion, Mapping):
            raise PreflightError("the server's answer to $expand holds no expansion", where=server.base)
        contained = list(_flat(expansion.get("contains")))
        new = [one for one in contained if one.code not in seen]
        yield from new
        seen |= {one.code for one in new}
        offset += len(contained)
        total = expansion.get("total")
        if not isinstance(total, int) or offset >= total:
            return
        if not new:
            raise PreflightError(f"the server gave {len(seen)} of {total} descendants and no more", where=server.base)


def _flat(contains: object) -> Iterator[_Contained]:
    """The codes of an expansion, nested ones too; what may not be chosen (abstract) is a descendant all the same."""
    for one in contains if isinstance(contains, list) else ():
        if isinstance(one, Mapping):
            if one.get("code"):
                yield _Contained(str(one["code"]), str(one.get("display", "")))
            yield from _flat(one.get("contains"))


def _parameters(value_set: Json, offset: int) -> Json:
    parts: list[dict[str, object]] = [{"name": "valueSet", "resource": value_set}]
    if offset:
        parts.append({"name": "offset", "valueInteger": offset})
    return {"resourceType": "Parameters", "parameter": parts}


def as_overlay(found: Iterable[Descendant], source: str, day: str) -> str:
    """A file for a site's `include`: dated, with a hash over its rows, so that a change shows."""
    concepts: dict[tuple[str, str], set[str]] = {}
    names: dict[tuple[str, str], str] = {}
    for one in found:
        concepts.setdefault((one.system, one.code), set()).add(one.concept)
        names[one.system, one.code] = max(names.get((one.system, one.code), ""), one.display)
    rows = [(system, code, names[system, code], sorted(of)) for (system, code), of in sorted(concepts.items())]
    named = [_line(system, code, of, f", display: {_quoted(name)}") for system, code, name, of in rows]
    bare = [_line(system, code, of, "") for system, code, _, of in rows]
    lines = named if len("\n".join(named).encode()) < _LARGEST else bare
    digest = hashlib.sha256("\n".join(bare).encode()).hexdigest()
    head = [f"# Descendants, from {source} on {day}: {len(rows)} codes, sha256 {digest}"]
    return "\n".join([*head, "codes:", *lines]) + "\n"


def _line(system: str, code: str, concepts: list[str], display: str) -> str:
    return f"  - {{system: {_quoted(system)}, code: {_quoted(code)}, concept: [{', '.join(concepts)}]{display}}}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)

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
    """A code that lies below a listed one, and the concept that it thereby belongs to.

    ``depth`` counts the listed codes that the one above it lies below, from 1: where two sets meet in one code, the
    deeper one says more of it.
    """

    concept: str
    system: str
    code: str
    display: str
    depth: int


@dataclass(frozen=True, slots=True)
class NotExpanded:
    """A listed code whose descendants the server did not give, and why, in its own words."""

    concept: str
    system: str
    code: str
    why: str


@dataclass(frozen=True, slots=True)
class Expansion:
    found: tuple[Descendant, ...]
    refused: tuple[NotExpanded, ...]


_Row = tuple[str, str, str]
"""Concept, system, code."""


def expand(server: FhirServer, terms: Terms, systems: Iterable[str]) -> Expansion:
    """All descendants of the sets that the mapping marks with `descendants`, row by row, without the listed codes.

    ``systems`` are the URIs whose hierarchy the server knows (SNOMED CT).
    """
    known = frozenset(systems)
    rows = sorted({(c, s, code) for c in terms.descended for s, code in terms.codes_of[c] if s in known})
    below: dict[_Row, list[_Contained]] = {}
    refused: list[NotExpanded] = []
    for row in rows:
        try:
            below[row] = list(_below(server, row[1], row[2]))
        except PreflightError as cause:
            refused.append(NotExpanded(*row, cause.what))
    return Expansion(tuple(_descendants(below, frozenset(rows))), tuple(refused))


def _descendants(below: Mapping[_Row, list[_Contained]], listed: frozenset[_Row]) -> Iterator[Descendant]:
    codes = {(system, parent): {one.code for one in found} for (_, system, parent), found in below.items()}
    for (concept, system, parent), found in below.items():
        above = [p for (s, p), lower in codes.items() if s == system and p != parent and parent in lower]
        for one in found:
            if (concept, system, one.code) not in listed:
                yield Descendant(concept, system, one.code, one.display, 1 + len(above))


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
            raise PreflightError(
                "the server's answer to $expand holds no expansion", where=server.base, remedy="ask another terminology server"
            )
        contained = list(_flat(expansion.get("contains")))
        new = [one for one in contained if one.code not in seen]
        yield from new
        seen |= {one.code for one in new}
        offset += len(contained)
        total = expansion.get("total")
        if not isinstance(total, int) or offset >= total:
            return
        if not new:
            raise PreflightError(
                f"the server gave {len(seen)} of {total} descendants and no more",
                where=server.base,
                remedy="ask a terminology server that pages through an expansion (offset), or gives it whole",
            )


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
    depths: dict[tuple[str, str, str], int] = {}
    names: dict[tuple[str, str], str] = {}
    for one in found:
        place = (one.system, one.code, one.concept)
        depths[place] = max(depths.get(place, 1), min(one.depth, _DEEPEST))
        names[one.system, one.code] = max(names.get((one.system, one.code), ""), one.display)
    rows: dict[tuple[str, str, int], list[str]] = {}
    for (system, code, concept), depth in sorted(depths.items()):
        rows.setdefault((system, code, depth), []).append(concept)
    bare = [_line(*row, concepts, "") for row, concepts in rows.items()]
    named = [_line(*row, of, f", display: {_quoted(names[row[0], row[1]])}") for row, of in rows.items()]
    lines = named if len("\n".join(named).encode()) < _LARGEST else bare
    digest = hashlib.sha256("\n".join(bare).encode()).hexdigest()
    head = f"# Descendants, from {source} on {day}: {len(names)} codes, sha256 {digest}"
    return "\n".join([head, "codes:", *lines]) + "\n"


_DEEPEST = 4


def _line(system: str, code: str, depth: int, concepts: list[str], display: str) -> str:
    named = f"concept: [{', '.join(concepts)}], descends: {depth}{display}"
    return f"  - {{system: {_quoted(system)}, code: {_quoted(code)}, {named}}}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)

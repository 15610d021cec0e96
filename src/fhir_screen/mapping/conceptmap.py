"""A FHIR ConceptMap as site overlay: a local code equals a known one where the map says so, else a person decides."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from fhir_screen.core.codes import Code, Codebook, canonical_uri
from fhir_screen.errors import MappingError

Json = Mapping[str, Any]


class Likeness(Enum):
    """What a map says of source and target (ConceptMap.group.element.target.equivalence in R4, relationship in R5)."""

    SAME = "same"
    WITHIN = "within"
    """The source is one kind of the target."""
    OTHER = "other"
    """The target is narrower, or merely related: a person has to look."""
    DIFFERENT = "different"


_LIKENESS = {
    "equal": Likeness.SAME,
    "equivalent": Likeness.SAME,
    "wider": Likeness.WITHIN,
    "subsumes": Likeness.WITHIN,
    "source-is-narrower-than-target": Likeness.WITHIN,
    "unmatched": Likeness.DIFFERENT,
    "disjoint": Likeness.DIFFERENT,
    "not-related-to": Likeness.DIFFERENT,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One source code and one target; ``likeness`` as the map has it, ``said`` in its own word."""

    system: str
    code: str
    display: str
    equals: str
    likeness: Likeness
    said: str
    conditional: bool


@dataclass(frozen=True, slots=True)
class Imported:
    """What of a map can be used: ``sure`` rows hold, ``open`` ones a person decides, and counts of the rest."""

    name: str
    sure: tuple[Row, ...]
    open: tuple[Row, ...]
    unknown_targets: int
    unmatched: int


def import_codes(content: object, codebook: Codebook, where: str) -> Imported:
    """Reads a ConceptMap (R4 or R5). Targets that no concept holds can mean nothing here and are counted.

    Raises MappingError where it is none, or a group does not say its code systems.
    """
    if not isinstance(content, Mapping) or content.get("resourceType") != "ConceptMap":
        raise MappingError("is not a FHIR ConceptMap", where=where, remedy="name a JSON file with one ConceptMap")
    sure: dict[Row, None] = {}
    doubted: dict[Row, None] = {}
    unknown = unmatched = 0
    for row in _rows(content, codebook, where):
        if row.likeness is Likeness.DIFFERENT:
            unmatched += 1
        elif not _means(row.equals, codebook):
            unknown += 1
        elif row.likeness is Likeness.SAME and not row.conditional:
            sure[row] = None
        else:
            doubted[row] = None
    name = str(content.get("url") or content.get("name") or content.get("id") or where)
    return Imported(name, tuple(sure), tuple(doubted), unknown, unmatched)


def _rows(content: Json, codebook: Codebook, where: str) -> Iterator[Row]:
    for number, group in enumerate(_objects(content.get("group"))):
        source, target = (_bare(group.get(side)) for side in ("source", "target"))
        if not source or not target:
            raise MappingError(
                "the group does not say its code systems", where=f"{where}, group[{number}]",
                remedy="add `source` and `target`",
            )  # fmt: skip
        known = codebook.systems.get(canonical_uri(target))
        key = known.key if known else target
        for element in _objects(group.get("element")):
            for one in _objects(element.get("target")):
                said = str(one.get("equivalence") or one.get("relationship") or "")
                code, target_code = str(element.get("code", "")), str(one.get("code", ""))
                if code and (target_code or said in ("unmatched", "disjoint")):
                    yield Row(
                        source, code, str(element.get("display", "")), f"{key}|{target_code}",
                        _LIKENESS.get(said, Likeness.OTHER), said or "nothing",
                        bool(one.get("dependsOn") or one.get("product")),
                    )  # fmt: skip


def _objects(value: object) -> Iterator[Json]:
    for one in value if isinstance(value, list) else ():
        if isinstance(one, Mapping):
            yield one


def _bare(uri: object) -> str:
    """A system without the version that a canonical may carry."""
    return str(uri or "").partition("|")[0].strip()


def _means(equals: str, codebook: Codebook) -> bool:
    key, _, code = equals.partition("|")
    return key in codebook.systems and bool(codebook.memberships(Code(key, code)))


def as_overlay(found: Imported, day: str) -> str:
    """A file for a site's `include`: the sure rows hold, the others are comments until a person has looked."""
    lines = [
        f"# Codes of {found.name}, imported {day}: {len(found.sure)} hold, {len(found.open)} are for a person.",
        f"# Left out: {found.unknown_targets} whose target no concept here holds, {found.unmatched} without a match.",
        "codes:",
        *(f"  - {_entry(row)}" for row in found.sure),
    ]
    if found.open:
        lines.append("  # The map does not say that these are the same. Take the # away from what a person confirms.")
    for row in found.open:
        more = ", on a condition" if row.conditional else ""
        lines.append(f"  #- {_entry(row)}  # {row.said}{more}")
    return "\n".join(lines) + "\n"


def _entry(row: Row) -> str:
    return (
        f"{{system: {_quoted(row.system)}, code: {_quoted(row.code)}, equals: {_quoted(row.equals)}, "
        f"display: {_quoted(row.display)}}}"
    )


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)

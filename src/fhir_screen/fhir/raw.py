"""A patient as the source gave him: FHIR JSON, not yet read, with the holes that the source admits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fhir_screen.core.gaps import Gap

Json = Mapping[str, Any]
"""One parsed FHIR resource, or a part of one. Nobody behind `fhir.reader` sees this type."""

Resolve = Callable[[str, Json], Json | None]
"""Finds what a reference in a resource points to: `resolve("Medication/m1", resource)`; None where it is not here."""


@dataclass(frozen=True, slots=True)
class RawPatient:
    """Everything that one source holds about one patient.

    ``resources`` has each resource once, its newest version, without the Patient; the order means nothing.
    ``duplicates`` names ("Observation/o1") what came twice, differs, and could not be ordered: both are kept.
    """

    id: str
    patient: Json
    resources: tuple[Json, ...]
    resolve: Resolve
    gaps: tuple[Gap, ...] = ()
    duplicates: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Found:
    """One resource as it came, with what is needed to say whose it is (rule R19).

    ``full_url`` is Bundle.entry.fullUrl; ``base`` the FHIR base it was read from, "" for a file;
    ``scope`` names the Bundle or file, within which a `urn:uuid` fullUrl has its meaning.
    """

    resource: Json
    full_url: str = ""
    base: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Deletion:
    """An entry that says that a resource is gone: "Observation/o1".

    ``version`` and ``when`` (an instant) are those of the deletion where the source tells them: a resource that is
    newer was created again. Without them the deletion has the last word.
    """

    reference: str
    base: str = ""
    version: str = ""
    when: str = ""


@dataclass(frozen=True, slots=True)
class Damage:
    """Something of the source that could not be read, or that the source itself says was left out (rule R4).

    ``kind`` is the type it named; where it named none, the ``scope_kinds`` are incomplete, the types of the Bundle
    that says so, and where there are none either, every type. ``patient`` is the id of the one patient it is about,
    else None (everybody in the source). ``what`` is for stderr and the report: file, line and cause, no contents.
    ``counts`` is false for what is told and is no failure of the run (exit code 0).
    """

    what: str
    kind: str | None = None
    patient: str | None = None
    counts: bool = True
    scope_kinds: frozenset[str] = frozenset()


@dataclass(slots=True)
class Haul:
    """All that one reading of a source brought home, before it is sorted by patient."""

    found: list[Found] = field(default_factory=list)
    deletions: list[Deletion] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)

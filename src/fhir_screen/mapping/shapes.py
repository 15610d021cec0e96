"""Where the elements of each FHIR resource type lie, compiled from `resources.yaml`: what the reader follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fhir_screen.core.truth import Truth
from fhir_screen.mapping.paths import Path


class Take(StrEnum):
    """Which end of a period a date is; ``ALL``: from the first to the last of all that stand there, if each has one."""

    WHOLE = "whole"
    START = "start"
    END = "end"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Place:
    """One place to look: a path, perhaps in the resource that a reference leads to, or that refers to this one."""

    path: Path
    through: Path | None = None
    then: Path | None = None
    reported_by: str = ""
    via: Path | None = None
    take: Take = Take.WHOLE
    flag: str = ""
    system: str = ""
    inner: Path | None = None
    beside: Path | None = None


class Said(StrEnum):
    """What a status code makes of its statement (rule R5)."""

    HOLDS = "holds"
    FLAGGED = "flagged"
    PENDING = "pending"
    UNSURE = "unsure"
    DENIED = "denied"
    PLANNED = "planned"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class StatusTest:
    paths: tuple[Path, ...]
    says: Mapping[str, Said]
    otherwise: Said
    missing: Said
    flag: str = ""
    missing_flag: str = ""


@dataclass(frozen=True, slots=True)
class Going:
    """Whether a statement goes on: by the first codes found, or ended where ``ended_when`` finds anything; ``missing`` without a code."""

    paths: tuple[Path, ...]
    yes: frozenset[str]
    no: frozenset[str]
    ended_when: Path | None = None
    missing: Truth = Truth.UNKNOWN


@dataclass(frozen=True, slots=True)
class ValueShape:
    quantity: tuple[Place, ...] = ()
    number: tuple[Place, ...] = ()
    unit: tuple[Place, ...] = ()
    coded: tuple[Place, ...] = ()
    text: tuple[Place, ...] = ()
    boolean: tuple[Place, ...] = ()
    range: tuple[Place, ...] = ()
    ratio: tuple[Place, ...] = ()
    absent: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class RangesShape:
    at: Path
    high: Path
    text: Path
    type: Path
    applies_to: Path
    age: Path


@dataclass(frozen=True, slots=True)
class DosesShape:
    """``single``: each statement is one intake on its day (an administration)."""

    at: Path
    amount: tuple[Path, ...]
    repeat: tuple[Path, ...]
    timing_code: tuple[Path, ...]
    as_needed: tuple[Path, ...]
    maximum: tuple[Path, ...]
    single: bool = False


@dataclass(frozen=True, slots=True)
class PartShape:
    """A component of a resource: a statement of its own, with the dates and status of the whole."""

    at: Path
    code: tuple[Place, ...]
    text: tuple[Place, ...] = ()
    value: ValueShape | None = None
    ranges: RangesShape | None = None
    facets: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResourceShape:
    kind: str
    code: tuple[Place, ...]
    text: tuple[Place, ...] = ()
    when: tuple[Place, ...] = ()
    start: tuple[Place, ...] = ()
    end: tuple[Place, ...] = ()
    recorded: tuple[Place, ...] = ()
    asserted: tuple[Place, ...] = ()
    """When somebody stated it, which a rule may date it by."""
    supply: tuple[Place, ...] = ()
    """How long what was handed out lasts, where nothing else says for how long it was taken."""
    newest: tuple[str, str] | None = None
    """Of the entries of the first element only the one that began last, by the second, is in force."""
    about_others: tuple[Path, ...] = ()
    """References that take the record away where they lead to another person than the subject."""
    not_when: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Concepts of a facet that take the record away."""
    contains: frozenset[str] = frozenset()
    """Types whose contained resources are records of their own."""
    status: tuple[StatusTest, ...] = ()
    states: tuple[Path, ...] = ()
    ongoing: Going | None = None
    value: ValueShape | None = None
    ranges: RangesShape | None = None
    components: PartShape | None = None
    doses: DosesShape | None = None
    facets: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
    links: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
    rank: int = 0
    flags: frozenset[str] = frozenset()
    also: frozenset[str] = frozenset()
    """Further types that reading this one needs (a specimen has the date of its result)."""


@dataclass(frozen=True, slots=True)
class PersonShape:
    born: tuple[Place, ...]
    sex: tuple[Place, ...]
    died: tuple[Place, ...]
    death: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Shapes:
    """All resource types that are read; what is in none of them is ignored (FamilyMemberHistory, CarePlan, Goal …)."""

    person: PersonShape
    resources: Mapping[str, ResourceShape]

"""What one statement of a health record says, once it is read: its concepts, its date, its standing and its value."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date
from enum import StrEnum

from fhir_screen.core.codes import Code, Codebook, Membership
from fhir_screen.core.dates import Period, Span
from fhir_screen.core.gaps import Gap
from fhir_screen.core.quantities import Interval, Quantity
from fhir_screen.core.truth import Reason, Truth


class Standing(StrEnum):
    """What a statement's status makes of it (rule R5). Void statements never become facts."""

    HOLDS = "holds"
    UNSURE = "unsure"
    """Suspected, on hold, masked or modified by something we do not understand: neither yes nor no."""
    DENIED = "denied"
    """An explicit no: refuted, not taken."""
    PENDING = "pending"
    """Preliminary: not used, but shown."""
    PLANNED = "planned"
    """Not done yet: no evidence of anything; kept apart from what was done."""


@dataclass(frozen=True, slots=True)
class Coding:
    """A code of the record with the concepts it belongs to; ``conclusive`` where an unlisted code means another thing.

    ``beside`` are the concepts of what the record writes beside it: of which kind a stage is.
    """

    code: Code
    concepts: tuple[Membership, ...] = ()
    conclusive: bool = False
    beside: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        return frozenset(m.concept for m in self.concepts)


def coded(codebook: Codebook, code: Code) -> Coding:
    return Coding(code, codebook.memberships(code), codebook.says_what_it_is(code))


@dataclass(frozen=True, slots=True)
class Value:
    """What was found: an amount, a coded answer, a text, or a yes and no; ``absent`` says that there is none, on purpose."""

    quantity: Quantity | None = None
    codings: tuple[Coding, ...] = ()
    text: str | None = None
    boolean: bool | None = None
    absent: bool = False

    @property
    def shown(self) -> str:
        if self.quantity is not None:
            return self.quantity.shown
        if self.text:
            return self.text
        for coding in self.codings:
            if coding.code.display:
                return coding.code.display
        if self.codings:
            return self.codings[0].code.code
        return "" if self.boolean is None else "yes" if self.boolean else "no"


@dataclass(frozen=True, slots=True)
class ReferenceRange:
    """A laboratory's own range on one result (rule R11); ``meaning`` and ``applies_to`` as concept names or raw codes."""

    high: Quantity | None = None
    text: str | None = None
    meanings: frozenset[str] = frozenset()
    applies_to: tuple[Coding, ...] = ()
    ages: tuple[Interval, ...] = ()


@dataclass(frozen=True, slots=True)
class Dose:
    """One dosage line: ``amount`` of mass per intake, ``per_day`` intakes; None where it cannot be told.

    ``as_needed`` doses have no known daily amount. ``bounds`` limit the line within its statement (tapers).
    """

    amount: Quantity | None
    per_day: tuple[int, int] | None
    as_needed: bool = False
    bounds: Period | None = None
    per_kilogram: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Fact:
    """One statement, from one resource or one component of it.

    ``period`` is when it was so (None: no date at all); ``ongoing`` whether it goes on now; ``states`` are the
    clinical states by the names of `resources.yaml`. ``facets`` are further codings by role (route, method, …),
    ``links`` references by role (focus, specimen, …). ``rank`` orders sources of one exposure, best first (rule R15).
    """

    kind: str
    reference: str
    version: str | None = None
    codings: tuple[Coding, ...] = ()
    texts: tuple[str, ...] = ()
    standing: Standing = Standing.HOLDS
    why_unsure: Reason = Reason.STATUS
    period: Period | None = None
    ongoing: Truth = Truth.FALSE
    states: frozenset[str] = frozenset()
    value: Value | None = None
    ranges: tuple[ReferenceRange, ...] = ()
    facets: Mapping[str, tuple[Coding, ...]] = field(default_factory=dict)
    links: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    doses: tuple[Dose, ...] = ()
    flags: frozenset[str] = frozenset()
    rank: int = 0
    amounts: Mapping[str, Value] = field(default_factory=dict)
    recorded: Span | None = None
    asserted: Span | None = None
    part: int = 0

    @property
    def concepts(self) -> frozenset[str]:
        return frozenset(m.concept for coding in self.codings for m in coding.concepts)

    @property
    def conclusive(self) -> bool:
        """Whether some code says what this is, so that its words need not be looked at (rule R14)."""
        return any(coding.conclusive for coding in self.codings)

    @property
    def sort_key(self) -> tuple[str, str, str, int]:
        return (self.kind, self.reference, self.version or "", self.part)


@dataclass(frozen=True, slots=True)
class Person:
    """Who the record is about, as far as a criterion may ask."""

    born: Span | None = None
    sex: str | None = None
    died: Truth = Truth.FALSE
    death: Span | None = None
    source: str = ""
    version: str | None = None

    def dead_by(self, day: date) -> bool:
        """Dead by the record: a date of death after ``day`` is not evidence."""
        if self.death is not None:
            return self.death.first <= day
        return self.died is Truth.TRUE


@dataclass(frozen=True, slots=True)
class PatientRecord:
    """All facts about one patient, in a fixed order, and the holes in what was read."""

    patient: str
    person: Person = Person()
    facts: tuple[Fact, ...] = ()
    gaps: tuple[Gap, ...] = ()
    by_concept: Mapping[str, tuple[Fact, ...]] = field(default_factory=dict)
    by_kind: Mapping[str, tuple[Fact, ...]] = field(default_factory=dict)
    by_reference: Mapping[str, tuple[Fact, ...]] = field(default_factory=dict)
    began: date | None = None
    planned: tuple[Fact, ...] = ()
    """What is only planned: in no index, so that nothing takes it for done."""

    @staticmethod
    def of(patient: str, person: Person, facts: Iterator[Fact] | tuple[Fact, ...], gaps: tuple[Gap, ...] = ()) -> PatientRecord:
        """Sorts and indexes; the order in which facts come changes nothing, and neither does saying one twice."""
        everything = _said_once(sorted(facts, key=lambda f: f.sort_key))
        ordered = tuple(fact for fact in everything if fact.standing is not Standing.PLANNED)
        concepts: dict[str, list[Fact]] = {}
        kinds: dict[str, list[Fact]] = {}
        references: dict[str, list[Fact]] = {}
        for fact in ordered:
            for concept in fact.concepts:
                concepts.setdefault(concept, []).append(fact)
            kinds.setdefault(fact.kind, []).append(fact)
            references.setdefault(fact.reference, []).append(fact)
        starts = [f.period.start.last for f in ordered if f.period and f.period.start.last < date.max]
        return PatientRecord(
            patient, person, ordered, tuple(sorted(gaps, key=lambda g: (g.kind or "", g.reason, g.detail))),
            {k: tuple(v) for k, v in concepts.items()},
            {k: tuple(v) for k, v in kinds.items()},
            {k: tuple(v) for k, v in references.items()},
            min(starts, default=None),
            tuple(fact for fact in everything if fact.standing is Standing.PLANNED),
        )  # fmt: skip

    def with_preliminary(self) -> PatientRecord:
        """The same record, where what is preliminary counts like what is final (parameter `use_preliminary`)."""
        taken = tuple(
            flagged(replace(fact, standing=Standing.HOLDS), "preliminary_pending") if fact.standing is Standing.PENDING else fact
            for fact in self.facts
        )
        return PatientRecord.of(self.patient, self.person, (*taken, *self.planned), self.gaps)

    def gap(self, kinds: frozenset[str]) -> Gap | None:
        """The first hole of these resource types in which something may be that nobody sees: silence proves nothing."""
        return self._first(gap for gap in self.gaps for kind in kinds if gap.touches(kind))

    def lost(self, kinds: frozenset[str]) -> Gap | None:
        """The first hole in which whole records of these types may be: what is here may not be the newest."""
        return self._first(gap for gap in self.gaps for kind in kinds if gap.touches(kind) and not gap.of_silence)

    @staticmethod
    def _first(touching: Iterable[Gap]) -> Gap | None:
        return min(touching, key=lambda g: (g.reason.rank, g.kind or "", g.detail), default=None)


def _said_once(ordered: Sequence[Fact]) -> tuple[Fact, ...]:
    """Each statement once; two that differ under one reference both stay."""
    kept: list[Fact] = []
    for fact in ordered:
        key = fact.sort_key
        rivals = itertools.takewhile(lambda other, key=key: other.sort_key == key, reversed(kept))  # type: ignore[misc]
        if not any(_content(fact) == _content(other) for other in rivals):
            kept.append(fact)
    return tuple(kept)


def _content(fact: Fact) -> list[object]:
    return [getattr(fact, column.name) for column in fields(Fact)]


def flagged(fact: Fact, *flags: str) -> Fact:
    return replace(fact, flags=fact.flags | set(flags))

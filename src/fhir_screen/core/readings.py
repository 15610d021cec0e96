"""One result of the record as an amount in the canonical unit of its analyte, or why it is none (rules R5, R10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from fhir_screen.core.answers import Evidence, EvidenceKind
from fhir_screen.core.chart import Chart, evidence_of
from fhir_screen.core.dates import BEGINNING, Span
from fhir_screen.core.facts import Fact, Standing
from fhir_screen.core.quantities import Interval, Quantity, Relation, number_text
from fhir_screen.core.ranges import age_between
from fhir_screen.core.rules import (
    Latest,
    Selector,
)
from fhir_screen.core.selecting import matches
from fhir_screen.core.truth import Reason, Truth, first_reason
from fhir_screen.core.units import Amount, Analyte, amount


@dataclass(frozen=True, slots=True)
class Reading:
    """One amount that may be the one that counts, or the reason why it cannot be used.

    ``interval`` in the canonical unit of ``analyte``; ``fact`` None where it was computed from several.
    """

    analyte: str
    interval: Interval | None
    reason: Reason | None
    when: Span
    shown: str
    evidence: tuple[Evidence, ...]
    flags: frozenset[str] = frozenset()
    fact: Fact | None = None
    molar: bool = False
    kind: EvidenceKind = EvidenceKind.POSITIVE
    vague: Reason = Reason.CENSORED
    """Why the amount is an interval where it is one."""


def latest_readings(chart: Chart, source: Latest) -> tuple[list[Reading], list[Span]]:
    readings, pending = readings_of(chart, source.select, source.analyte)
    grown = readings if source.since_age is None else _grown(chart, readings, source.since_age)
    return [_remarked(reading, source) for reading in grown], pending


def _grown(chart: Chart, readings: Sequence[Reading], years: int) -> list[Reading]:
    """The readings from an age on; one that may be older is doubtful."""
    born = chart.record.person.born
    if born is None:
        return list(readings)
    aged = [(r, age_between(born, r.when).compare(Relation.AT_LEAST, Fraction(years))) for r in readings]
    doubtful = Reason.PARTIAL_DATE
    return [
        r if old is Truth.TRUE else replace(r, reason=first_reason((r.reason, doubtful)))
        for r, old in aged
        if old is not Truth.FALSE
    ]


def _remarked(reading: Reading, source: Latest) -> Reading:
    """With the flags of the kind of test it is, and doubtful where its notes say so."""
    fact = reading.fact
    if fact is None:
        return reading
    flags = {flag for concept, flag in source.flags if concept in fact.concepts}
    notes = [coding.code.display or coding.code.code for coding in fact.facets.get("note", ())]
    doubt = Reason.POLICY if source.doubted_by is not None and source.doubted_by.find(notes) else None
    return replace(reading, flags=reading.flags | flags, reason=first_reason((reading.reason, doubt)))


def readings_of(chart: Chart, selector: Selector, analyte: str) -> tuple[list[Reading], list[Span]]:
    """All valid results, and the dates of preliminary ones. A result without a value is none (rule R5)."""
    readings: list[Reading] = []
    pending: list[Span] = []
    for match in matches(chart, selector):
        fact = match.fact
        period = chart.period(fact)
        when = period.end if period else Span(BEGINNING, chart.horizon)
        if fact.standing is Standing.PENDING:
            pending.append(when)
            continue
        if (reading := _reading(chart, fact, analyte, when)) is None:
            continue
        doubt = match.reason if match.truth is Truth.UNKNOWN else None
        readings.append(
            replace(reading, reason=first_reason((doubt, reading.reason)), flags=reading.flags | match.flags)
        )
    return readings, pending


def _reading(chart: Chart, fact: Fact, analyte: str, when: Span) -> Reading | None:
    value = fact.value
    if value is None or value.absent:
        return _coded_reading(fact, analyte, when, chart) if value is None else None
    if value.boolean is False:
        return None  # "ECOG grade 1: no"
    evidence = (evidence_of(fact),)
    known = chart.vocabulary.analytes[analyte]
    quantity = value.quantity
    if quantity is None and (graded := _coded_reading(fact, analyte, when, chart)):
        return graded
    if quantity is None and value.text:
        quantity = Quantity.from_text(_without_prefix(value.text, known))
    if quantity is None:
        reason = Reason.UNMAPPED_CODE if value.codings else Reason.UNIT_UNMAPPABLE
        return Reading(analyte, None, reason, when, value.shown, evidence, fact=fact)
    converted = amount(quantity, known, chart.vocabulary.units)
    if converted.interval is not None and _contradicted(chart, fact, converted.interval, known):
        converted = Amount(None, Reason.UNIT_SUSPECT)
    return _converted(analyte, converted, when, value.shown or quantity.shown, evidence, fact)


def _contradicted(chart: Chart, fact: Fact, interval: Interval, known: Analyte) -> bool:
    """Whether a part of the same resource is not on the side of it where it has to be."""
    if not (known.less_than or known.more_than):
        return False
    for other in chart.record.by_reference.get(fact.reference, ()):
        mate = (
            amount(other.value.quantity, known, chart.vocabulary.units).interval
            if other.value and other.value.quantity
            else None
        )
        if mate is None or mate.low is None:
            continue
        if known.less_than in other.concepts and interval.compare(Relation.AT_LEAST, mate.low) is Truth.TRUE:
            return True
        if known.more_than in other.concepts and interval.compare(Relation.AT_MOST, mate.low) is Truth.TRUE:
            return True
    return False


def _converted(
    analyte: str, converted: Amount, when: Span, shown: str, evidence: tuple[Evidence, ...], fact: Fact
) -> Reading:
    flags = frozenset({"unit_rescaled"}) if converted.rescaled else frozenset[str]()
    return Reading(
        analyte, converted.interval, converted.reason, when, shown, evidence, flags, fact, molar=converted.molar
    )


def _coded_reading(fact: Fact, analyte: str, when: Span, chart: Chart) -> Reading | None:
    """A score given as a coded answer: the number is the one its code set assigns, never a digit of the code."""
    codings = fact.value.codings if fact.value else fact.codings
    numbers = {m.value for coding in codings for m in coding.concepts if m.value is not None}
    if not numbers:
        return None
    known = chart.vocabulary.analytes[analyte]
    values = sorted(Fraction(number) for number in numbers)
    interval = Interval(values[0], values[-1])
    shown = " or ".join(number_text(v) for v in values)
    if not known.unit.startswith("{"):
        shown = f"{shown} {known.unit}"
    return Reading(analyte, interval, None, when, shown, (evidence_of(fact),), fact=fact)


def _without_prefix(text: str, analyte: Analyte) -> str:
    lowered = text.strip()
    for prefix in analyte.prefixes:
        if lowered.lower().startswith(prefix.lower()):
            return lowered[len(prefix) :].lstrip(" :=")
    return lowered

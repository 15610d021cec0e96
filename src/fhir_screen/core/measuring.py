"""Amounts: which results may be the one that counts, and what they decide in canonical units (rules R9 to R12)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from fractions import Fraction
from itertools import product

from fhir_screen.core.answers import Answer, Evidence, EvidenceKind, any_of, joined, no, unknown
from fhir_screen.core.chart import Chart, evidence_of
from fhir_screen.core.dates import BEGINNING, END_OF_TIME, Length, Span, Window, next_day
from fhir_screen.core.facts import Fact, Standing
from fhir_screen.core.formulas import compute
from fhir_screen.core.gaps import Gap
from fhir_screen.core.quantities import Interval, Quantity, Relation, hull, interval_text, number_text
from fhir_screen.core.ranges import age_between, site_limit, upper_limits
from fhir_screen.core.rules import (
    Absence,
    AgeYears,
    Amounts,
    Bound,
    Derived,
    FirstOf,
    Largest,
    Latest,
    MeanOf,
    Measure,
    Selector,
    Threshold,
    TimesUpperLimit,
)
from fhir_screen.core.selecting import matches
from fhir_screen.core.truth import Reason, Truth, first_reason
from fhir_screen.core.units import Amount, Analyte, amount, limit


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


@dataclass(frozen=True, slots=True)
class Estimate:
    """The readings that may be the one that counts; none of them, and why."""

    readings: tuple[Reading, ...]
    reason: Reason | None = None
    because: str = ""
    evidence: tuple[Evidence, ...] = ()
    flags: frozenset[str] = frozenset()
    edges: frozenset[date] = frozenset()
    gap: Gap | None = None


def evaluate_measure(chart: Chart, rule: Measure) -> Answer:
    estimate = estimated(chart, rule.amount, (rule.relation, rule.limit))
    return _decided(chart, rule, estimate).with_flags(*estimate.flags).with_edges(estimate.edges)


def _decided(chart: Chart, rule: Measure, estimate: Estimate) -> Answer:
    if not estimate.readings:
        if estimate.gap is not None:
            return _incomplete(estimate.gap, rule.what)
        if rule.absence is Absence.SILENT:
            return no(estimate.because, estimate.evidence, kind=EvidenceKind.NO_EVIDENCE)
        return unknown(estimate.reason or Reason.NO_DATA, estimate.because, estimate.evidence)
    answers = [_decide(chart, rule, reading) for reading in estimate.readings]
    any_counts = isinstance(rule.amount, Largest) and rule.relation in (Relation.AT_LEAST, Relation.ABOVE)
    reaching = [answer for answer in answers if any_counts and answer.truth is Truth.TRUE]
    answer = any_of(reaching or answers) if any_counts else _agreed(answers, estimate)
    if estimate.gap is not None and not (any_counts and answer.truth is Truth.TRUE):
        return replace(_incomplete(estimate.gap, rule.what), evidence=answer.evidence)
    return answer.with_flags(*_nearby(chart, rule, estimate.readings))


def _incomplete(gap: Gap, what: str) -> Answer:
    because = (
        f"the latest {what} may be among what is missing: {gap.detail or 'a part of the record could not be read'}"
    )
    return unknown(gap.reason, because)


def _agreed(answers: Sequence[Answer], estimate: Estimate) -> Answer:
    """Readings that cannot be ordered have to decide alike, else nobody knows which one counts (rule R9)."""
    truths = {answer.truth for answer in answers}
    first = answers[0]
    evidence = tuple(sorted({e for a in answers for e in a.evidence}))
    flags = frozenset[str]().union(*(a.flags for a in answers))
    because = joined(a.because for a in answers)
    if len(truths) == 1:
        reason = first_reason(a.reason for a in answers)
        return Answer(first.truth, first.truth, reason, because, evidence, flags, first.kind)
    given = first_reason(a.reason for a in answers if a.reason is not None)
    exact = all(reading.when.exact for reading in estimate.readings)
    reason = first_reason((given, Reason.CONFLICTING if exact else Reason.PARTIAL_DATE)) or Reason.CONFLICTING
    return unknown(reason, because, evidence).with_flags(*flags)


def _decide(chart: Chart, rule: Measure, reading: Reading) -> Answer:
    told = f"{rule.what} {reading.shown}" if rule.what else reading.shown
    told += f" on {reading.when}" if reading.when != _UNDATED else ""
    if reading.interval is None or reading.reason is not None:
        reason = reading.reason or Reason.NO_DATA
        answer = unknown(reason, f"{told} ({_WHY.get(reason, str(reason))})", reading.evidence)
    elif isinstance(rule.limit, Threshold):
        answer = _against_threshold(chart, rule, rule.limit, reading, told)
    else:
        answer = _against_upper_limit(chart, rule, rule.limit, reading, told)
    kind = reading.kind if answer.truth is not Truth.UNKNOWN else None
    return replace(answer, kind=kind).with_flags(*reading.flags)


_WHY = {
    Reason.UNIT_UNMAPPABLE: "its unit is not one that is known for this test",
    Reason.UNIT_SUSPECT: "not a possible number in this unit",
    Reason.STATUS: "its status leaves it open",
    Reason.POLICY: "a kind of result that a person has to judge",
    Reason.MASKED: "masked in the record",
    Reason.PARTIAL_DATE: "its date is not exact enough",
    Reason.STALE: "too old",
    Reason.CENSORED: "the reported bound does not settle it",
    Reason.NO_DATA: "without a value",
}

_VAGUE = {
    Reason.CENSORED: "the reported bounds do not settle it",
    Reason.PARTIAL_DATE: "an inexact birth date does not settle it",
    Reason.NO_DATA: "it hangs on the sex, which is not recorded",
    Reason.PROXY: "it only bounds the value from one side",
}

_NEEDED = {
    Relation.AT_LEAST: "{} or more needed",
    Relation.ABOVE: "more than {} asked",
    Relation.AT_MOST: "{} or less needed",
    Relation.BELOW: "less than {} asked",
    Relation.EQUAL: "{} asked",
}


def _against_threshold(chart: Chart, rule: Measure, bar: Threshold, reading: Reading, told: str) -> Answer:
    analyte = chart.vocabulary.analytes[reading.analyte]
    bound = limit(bar.number, bar.unit, analyte)
    interval = reading.interval
    assert interval is not None and bound is not None
    needed = _NEEDED[rule.relation].format(f"{number_text(bar.number)} {bar.unit}".strip())
    answer = _settled(interval.compare(rule.relation, bound), reading, f"{told}, {needed}")
    near = reading.molar and interval.low is not None and abs(interval.low - bound) <= bound / 200
    return answer.with_flags("borderline_conversion") if near else answer


def _settled(truth: Truth, reading: Reading, told: str) -> Answer:
    if truth is Truth.UNKNOWN:
        return unknown(reading.vague, f"{told} ({_VAGUE[reading.vague]})", reading.evidence)
    return Answer(truth, truth, None, told, reading.evidence)


def _against_upper_limit(chart: Chart, rule: Measure, bar: TimesUpperLimit, reading: Reading, told: str) -> Answer:
    fact, interval = reading.fact, reading.interval
    times = f"{number_text(bar.factor)} x the upper limit of normal"
    if fact is None or interval is None:
        return unknown(Reason.NO_REFERENCE_RANGE, f"{told}, without a reference range", reading.evidence)
    analyte = chart.vocabulary.analytes[reading.analyte]
    highs = upper_limits(chart, fact, analyte)
    if not highs and (of_site := site_limit(chart, fact, analyte)):
        highs, reading = [of_site], replace(reading, flags=reading.flags | {"uln_source=site_table"})
    if not highs:
        return _by_interpretation(chart, bar, fact, told, reading)
    truths = {interval.compare_interval(rule.relation, high.times(bar.factor)) for high in highs}
    shown = " or ".join(dict.fromkeys(interval_text(high) for high in highs))
    because = f"{told}, {_NEEDED[rule.relation].format(times)} ({shown} {analyte.unit})"
    if len(truths) > 1:
        return unknown(Reason.NO_REFERENCE_RANGE, f"{because}; the ranges on it disagree", reading.evidence)
    answer = _settled(truths.pop(), reading, because)
    return answer.with_flags(*(f for f in reading.flags if f.startswith("uln_source")))


def _by_interpretation(chart: Chart, bar: TimesUpperLimit, fact: Fact, told: str, reading: Reading) -> Answer:
    """Without a range the laboratory's own flag may still tell (rule R11)."""
    names = {name for coding in fact.facets.get("interpretation", ()) for name in coding.names}
    truth = Truth.UNKNOWN
    if names & {"interpretation-normal", "interpretation-low"} and bar.factor >= 1:
        truth = Truth.TRUE
    elif "interpretation-high" in names and bar.factor == 1:
        truth = Truth.FALSE
    if truth is Truth.UNKNOWN:
        return unknown(Reason.NO_REFERENCE_RANGE, f"{told}, without a reference range of its own", reading.evidence)
    because = f"{told}, reported as {'high' if truth is Truth.FALSE else 'not high'}"
    return Answer(truth, truth, None, because, reading.evidence).with_flags("uln_source=interpretation")


def estimated(chart: Chart, source: Amounts, bar: _Bar | None = None) -> Estimate:
    """The readings of a source that may count; ``bar`` lets bounds step aside where they cannot decide."""
    match source:
        case Latest():
            return _newest(chart, source, _latest_readings(chart, source))
        case Largest():
            return _largest(chart, source)
        case MeanOf():
            return _mean(chart, source)
        case AgeYears():
            return _age(chart, chart.anchor(source.at))
        case Derived():
            return _derived(chart, source)
        case Bound():
            inner = estimated(chart, source.source, bar)
            return replace(inner, readings=tuple(_bounding(r, lower=source.lower) for r in inner.readings))
        case FirstOf():
            return _first_of(chart, source, bar)


def _bounding(reading: Reading, *, lower: bool) -> Reading:
    """All that an amount may be of which this one is only a bound."""
    interval = reading.interval
    if interval is None:
        return reading
    one_sided = replace(interval, high=None, high_open=False) if lower else replace(interval, low=None, low_open=False)
    return replace(reading, interval=one_sided, vague=Reason.PROXY)


_Bar = tuple[Relation, Threshold | TimesUpperLimit]


def _first_of(chart: Chart, source: FirstOf, bar: _Bar | None) -> Estimate:
    tried: list[Estimate] = []
    for alternative in source.sources:
        estimate = estimated(chart, alternative, bar)
        tried.append(estimate)
        if not estimate.readings:
            continue
        if isinstance(alternative, Bound) and not _bound_decides(chart, estimate, bar):
            continue
        return _with_doubts_of(estimate, tried)
    best = next((e for e in tried if e.readings), None) or min(
        tried, key=lambda e: e.reason.rank if e.reason is not None else 99
    )
    return _with_doubts_of(best, tried)


def _with_doubts_of(estimate: Estimate, tried: Sequence[Estimate]) -> Estimate:
    edges = frozenset[date]().union(*(e.edges for e in tried))
    flags = frozenset(f for e in tried for f in e.flags if f == "preliminary_pending") | estimate.flags
    return replace(estimate, edges=edges, flags=flags, gap=next((e.gap for e in tried if e.gap), None))


def _bound_decides(chart: Chart, estimate: Estimate, bar: _Bar | None) -> bool:
    if bar is None or not isinstance(bar[1], Threshold):
        return False
    relation, threshold = bar[0], bar[1]
    for reading in estimate.readings:
        height = limit(threshold.number, threshold.unit, chart.vocabulary.analytes[reading.analyte])
        if reading.interval is None or height is None or reading.interval.compare(relation, height) is Truth.UNKNOWN:
            return False
    return True


_UNDATED = Span(BEGINNING, END_OF_TIME)


def _latest_readings(chart: Chart, source: Latest) -> tuple[list[Reading], list[Span]]:
    readings, pending = _readings(chart, source.select, source.analyte)
    return [_remarked(reading, source) for reading in readings], pending


def _remarked(reading: Reading, source: Latest) -> Reading:
    """With the flags of the kind of test it is, and doubtful where its notes say so."""
    fact = reading.fact
    if fact is None:
        return reading
    flags = {flag for concept, flag in source.flags if concept in fact.concepts}
    notes = [coding.code.display or coding.code.code for coding in fact.facets.get("note", ())]
    doubt = Reason.POLICY if source.doubted_by is not None and source.doubted_by.find(notes) else None
    return replace(reading, flags=reading.flags | flags, reason=first_reason((reading.reason, doubt)))


def _readings(chart: Chart, selector: Selector, analyte: str) -> tuple[list[Reading], list[Span]]:
    """All valid results, and the dates of preliminary ones. A result without a value is none (rule R5)."""
    readings: list[Reading] = []
    pending: list[Span] = []
    for match in matches(chart, selector):
        fact = match.fact
        period = chart.period(fact)
        when = period.end if period else _UNDATED.not_after(chart.horizon)
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


def _newest(chart: Chart, source: Latest, found: tuple[list[Reading], list[Span]]) -> Estimate:
    """The readings that may be the newest, each placed against the validity window (rules R7, R9)."""
    readings, pending = found
    anchor = chart.anchor(source.anchor)
    gap = chart.record.gap(source.select.kinds)
    label = chart.vocabulary.label(source.select.find)
    if anchor is None:
        return Estimate((), Reason.ANCHOR_MISSING, f"no date planned yet for {source.anchor}", gap=gap)
    window = Window(source.valid_for.before(anchor) if source.valid_for else BEGINNING, max(anchor, chart.on))
    return _in_window(readings, pending, window, source, label, gap)


def _in_window(
    readings: Sequence[Reading], pending: Sequence[Span], window: Window, source: Latest, label: str, gap: Gap | None
) -> Estimate:
    flags = {"preliminary_pending"} if any(span.within(window) is not Truth.FALSE for span in pending) else set()
    if (
        source.retests is not None
        and len({r.when for r in readings if r.when.within(window) is Truth.TRUE}) > source.retests + 1
    ):
        flags.add("retest_count")
    usable = [r for r in readings if r.when.first <= window.last]
    if not usable:
        return Estimate((), Reason.NO_DATA, f"none on record: {label}", flags=frozenset(flags), gap=gap)
    newest, frontier = _frontier(usable, source)
    edges = _stale_edges(newest, source.valid_for) if source.valid_for else frozenset[date]()
    placed = [_placed(reading, frontier, window) for reading in newest]
    if all(reading.reason is Reason.STALE for reading in placed):
        shown = joined(f"{label} {r.shown} on {r.when} is too old" for r in newest)
        evidence = tuple(sorted({e for r in newest for e in r.evidence}))
        return Estimate((), Reason.STALE, shown, evidence, frozenset(flags), edges, gap)
    current = tuple(r for r in placed if r.reason is not Reason.STALE or len(placed) > 1)
    return Estimate(current, flags=frozenset(flags), edges=edges, gap=gap)


def _frontier(readings: Sequence[Reading], source: Latest) -> tuple[list[Reading], datetime]:
    """All readings that may be the newest: those that may lie after the one that surely lies latest."""
    frontier = max(r.when.earliest for r in readings)
    if source.same_day:
        return [r for r in readings if r.when.last >= frontier.date()], frontier
    return [r for r in readings if r.when.latest >= frontier], frontier


def _placed(reading: Reading, frontier: datetime, window: Window) -> Reading:
    """If this reading is the newest, it is not older than the frontier: that much is known of its date."""
    when = Span(max(reading.when.first, min(frontier.date(), reading.when.last)), reading.when.last)
    match when.within(window):
        case Truth.FALSE:
            return replace(reading, reason=Reason.STALE, interval=None)
        case Truth.UNKNOWN:
            return replace(reading, reason=first_reason((reading.reason, Reason.PARTIAL_DATE)))
        case Truth.TRUE:
            return reading


def _stale_edges(readings: Iterable[Reading], valid_for: Length) -> frozenset[date]:
    bounds = {day for r in readings for day in (r.when.first, r.when.last)} - {BEGINNING, END_OF_TIME}
    return frozenset(next_day(valid_for.after(day)) for day in bounds)


def _largest(chart: Chart, source: Largest) -> Estimate:
    readings, pending = _readings(chart, source.select, source.analyte)
    anchor = chart.anchor(source.anchor)
    anchor = chart.on if anchor is None else anchor
    label = chart.vocabulary.label(source.select.find)
    window = Window(source.valid_for.before(anchor), max(anchor, chart.on))
    flags = frozenset({"preliminary_pending"} if any(s.within(window) is not Truth.FALSE for s in pending) else set())
    gap = chart.record.gap(source.select.kinds)
    edges = _stale_edges(readings, source.valid_for)
    inside = [(r, r.when.within(window)) for r in readings]
    counted = [r for r, truth in inside if truth is Truth.TRUE]
    counted += [replace(r, reason=Reason.PARTIAL_DATE) for r, truth in inside if truth is Truth.UNKNOWN]
    if not counted:
        reason = Reason.STALE if readings else Reason.NO_DATA
        told = joined(f"{label} {r.shown} on {r.when} is too old" for r in readings) or f"none on record: {label}"
        return Estimate((), reason, told, flags=flags, edges=edges, gap=gap)
    sized = [r for r in counted if r.interval is not None and r.reason is None]
    doubtful = [r for r in counted if r not in sized]
    top = max(sized, key=lambda r: r.interval.low if r.interval and r.interval.low is not None else 0, default=None)
    return Estimate(_without_hopeless(top, doubtful), flags=flags, edges=edges, gap=gap)


def _without_hopeless(top: Reading | None, doubtful: Sequence[Reading]) -> tuple[Reading, ...]:
    """The largest sure size, then the doubtful ones; `_agreed` lets a sure one that reaches the limit stand alone."""
    return ((top,) if top else ()) + tuple(doubtful)


def _mean(chart: Chart, source: MeanOf) -> Estimate:
    readings, pending = _latest_readings(chart, source.latest)
    newest = _newest(chart, source.latest, (readings, pending))
    if not newest.readings:
        return newest
    usable = sorted((r for r in readings if r.interval is not None and r.reason is None), key=lambda r: r.when.earliest)
    last = usable[-source.count :]
    if len(last) < source.count:
        return newest
    intervals = [r.interval for r in last if r.interval is not None]
    lows, highs = [i.low for i in intervals], [i.high for i in intervals]
    if None in lows or None in highs:
        return newest
    mean = Interval(
        sum((n for n in lows if n is not None), Fraction(0)) / source.count,
        sum((n for n in highs if n is not None), Fraction(0)) / source.count,
    )
    evidence = tuple(sorted({e for r in last for e in r.evidence}))
    unit = chart.vocabulary.analytes[source.latest.analyte].unit
    shown = f"{interval_text(mean)} {unit} (mean of the last {source.count})"
    combined = Reading(source.latest.analyte, mean, None, last[-1].when, shown, evidence, kind=EvidenceKind.INFERRED)
    return replace(newest, readings=(combined,))


def _age(chart: Chart, day: date | None) -> Estimate:
    return _age_at(chart, Span.on(day if day is not None else chart.on))


def _age_at(chart: Chart, when: Span) -> Estimate:
    person = chart.record.person
    if person.born is None:
        return Estimate((), Reason.NO_DATA, "no birth date on record")
    years = age_between(person.born, when)
    evidence = (Evidence(person.source, person.version, "", f"age {interval_text(years)}", ""),)
    shown = f"{interval_text(years)} years"
    return Estimate((Reading("age", years, None, when, shown, evidence, vague=Reason.PARTIAL_DATE),))


def _derived(chart: Chart, source: Derived) -> Estimate:
    if source.together:
        return _derived_together(chart, source)
    rows: list[dict[str, Reading]] = [{}]
    estimates: list[Estimate] = []
    for name, amounts in source.inputs:
        grown: list[dict[str, Reading]] = []
        for row in rows:
            estimate = _input(chart, amounts, row)
            estimates.append(estimate)
            grown += [row | {name: reading} for reading in estimate.readings]
        rows = grown
    edges = frozenset[date]().union(*(e.edges for e in estimates))
    flags = frozenset[str]().union(*(e.flags for e in estimates))
    gap = next((e.gap for e in estimates if e.gap), None)
    if not rows:
        missing = [e for e in estimates if not e.readings]
        reason = first_reason(e.reason for e in missing) or Reason.NO_DATA
        told = f"{source.name} cannot be computed: {joined(e.because for e in missing)}"
        return Estimate((), reason, told, flags=flags, edges=edges, gap=gap)
    readings = tuple(_computed(chart, source, row) for row in rows)
    return Estimate(readings, flags=flags, edges=edges, gap=gap)


def _input(chart: Chart, amounts: Amounts, row: dict[str, Reading]) -> Estimate:
    """An input may hang on one found before it: age at the creatinine, weight near it."""
    if isinstance(amounts, AgeYears) and amounts.at in row:
        return _age_at(chart, row[amounts.at].when)
    if isinstance(amounts, FirstOf):
        estimates = [_input(chart, alternative, row) for alternative in amounts.sources]
        best = next((e for e in estimates if e.readings), estimates[0])
        return replace(best, edges=frozenset[date]().union(*(e.edges for e in estimates)))
    if isinstance(amounts, Latest) and amounts.near in row and amounts.valid_for:
        centre = row[amounts.near].when
        window = Window(
            amounts.valid_for.before(centre.first), min(amounts.valid_for.after(centre.last), chart.horizon)
        )
        readings, pending = _latest_readings(chart, amounts)
        label = chart.vocabulary.label(amounts.select.find)
        return _in_window(readings, pending, window, amounts, label, chart.record.gap(amounts.select.kinds))
    return estimated(chart, amounts)


def _derived_together(chart: Chart, source: Derived) -> Estimate:
    """Inputs of one specimen, or of one point in time; the newest such set counts."""
    latest = [(name, amounts) for name, amounts in source.inputs if isinstance(amounts, Latest)]
    tables = [(name, _latest_readings(chart, amounts)) for name, amounts in latest]
    first_name, (first_readings, pending) = tables[0]
    rows: list[dict[str, Reading]] = []
    for reading in first_readings:
        mates = [[r for r in readings if _same_specimen(reading, r)] for _, (readings, _) in tables[1:]]
        for combination in product(*mates):
            names = [name for name, _ in tables[1:]]
            rows.append({first_name: reading, **dict(zip(names, combination, strict=True))})
    computed = [_computed(chart, source, row) for row in rows]
    leader = latest[0][1]
    estimate = _newest(chart, leader, (computed, pending))
    if not estimate.readings and estimate.reason is Reason.NO_DATA:
        return replace(
            estimate, because=f"{source.name} cannot be computed: not all of its parts are on record together"
        )
    return estimate


def _same_specimen(one: Reading, other: Reading) -> bool:
    if one.fact is None or other.fact is None:
        return False
    mine, theirs = one.fact.links.get("specimen", ()), other.fact.links.get("specimen", ())
    if mine and theirs:
        return bool(set(mine) & set(theirs))
    return one.when.exact and one.when == other.when


def _computed(chart: Chart, source: Derived, row: dict[str, Reading]) -> Reading:
    """The formula's result; where the sex is not known, all that it may be for either (rule R12)."""
    evidence = tuple(sorted({e for reading in row.values() for e in reading.evidence}))
    flags = frozenset[str]().union(*(r.flags for r in row.values()))
    reason = first_reason(r.reason for r in row.values())
    lead = next(iter(row.values()))
    parts = ", ".join(f"{name} {reading.shown}" for name, reading in row.items())
    base = Reading(source.analyte, None, reason, lead.when, f"({parts})", evidence, flags, kind=source.kind)
    base = replace(base, flags=flags | ({source.kind.value} if source.kind is not EvidenceKind.POSITIVE else set()))
    if reason is not None:
        return base
    intervals = {name: reading.interval for name, reading in row.items() if reading.interval is not None}
    results = compute(source.value, intervals, chart.record.person.sex)
    whole = hull(results)
    if whole is None:
        return replace(base, reason=Reason.NO_DATA)
    vague = first_reason(r.vague for r in row.values() if r.interval is not None and not r.interval.exact)
    if len(results) > 1:
        vague = first_reason((vague, Reason.NO_DATA))
    shown = f"{interval_text(whole)} {source.unit} ({parts})"
    return replace(
        base, interval=whole, shown=shown, molar=any(r.molar for r in row.values()), vague=vague or base.vague
    )


def _nearby(chart: Chart, rule: Measure, readings: Sequence[Reading]) -> set[str]:
    flags: set[str] = set()
    for nearby in rule.flags_near:
        for reading in readings:
            window = Window(nearby.within.before(reading.when.first), reading.when.last)
            found = (chart.period(m.fact) for m in matches(chart, nearby.select))
            if any(period is not None and period.overlaps(window) is not Truth.FALSE for period in found):
                flags.add(nearby.flag)
    return flags

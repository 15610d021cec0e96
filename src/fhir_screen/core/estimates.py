"""Which amounts may be the one that counts: the latest, the largest, a mean, a formula (rules R7, R9)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from fractions import Fraction
from itertools import product

from fhir_screen.core.answers import Evidence, EvidenceKind, in_order, joined
from fhir_screen.core.chart import Chart, a_record_of, days_of, none_on_record
from fhir_screen.core.dates import BEGINNING, END_OF_TIME, Length, Span, Window, next_day
from fhir_screen.core.formulas import compute
from fhir_screen.core.gaps import Gap
from fhir_screen.core.quantities import Interval, Relation, hull, interval_text
from fhir_screen.core.ranges import age_between
from fhir_screen.core.readings import Reading, latest_readings, readings_of
from fhir_screen.core.rules import (
    AgeYears,
    Amounts,
    Bound,
    Derived,
    FirstOf,
    Largest,
    Latest,
    MeanOf,
    Threshold,
    TimesUpperLimit,
)
from fhir_screen.core.truth import Reason, Truth, first_reason
from fhir_screen.core.units import limit

Bar = tuple[Relation, Threshold | TimesUpperLimit]


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
    wanted: str = ""


def estimated(chart: Chart, source: Amounts, bar: Bar | None = None) -> Estimate:
    """The readings of a source that may count; ``bar`` lets bounds step aside where they cannot decide."""
    match source:
        case Latest():
            return _newest(chart, source, latest_readings(chart, source))
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
    return replace(reading, interval=one_sided, vague=Reason.CENSORED)


def _first_of(chart: Chart, source: FirstOf, bar: Bar | None) -> Estimate:
    tried: list[Estimate] = []
    for alternative in source.sources:
        estimate = estimated(chart, alternative, bar)
        tried.append(estimate)
        if not estimate.readings:
            continue
        if isinstance(alternative, Bound) and _told(chart, estimate, bar) is Truth.UNKNOWN:
            continue
        if source.older_stands:
            return _with_doubts_of(estimate, tried)
        later = [estimated(chart, other, bar) for other in source.sources[len(tried) :]]
        return _with_doubts_of(_outdated(chart, estimate, later, bar), [*tried, *later])
    best = next((e for e in tried if e.readings), None) or min(
        tried, key=lambda e: e.reason.rank if e.reason is not None else 99
    )
    return _with_doubts_of(best, tried)


def _with_doubts_of(estimate: Estimate, tried: Sequence[Estimate]) -> Estimate:
    edges = frozenset[date]().union(*(e.edges for e in tried))
    flags = frozenset(f for e in tried for f in e.flags if f == "preliminary_pending") | estimate.flags
    return replace(estimate, edges=edges, flags=flags, gap=next((e.gap for e in tried if e.gap), None))


def _outdated(chart: Chart, estimate: Estimate, others: Iterable[Estimate], bar: Bar | None) -> Estimate:
    """A better source that is older than a lesser one which says otherwise: which of them counts, a person decides."""
    said = _told(chart, estimate, bar)
    last = max(reading.when.last for reading in estimate.readings)
    for other in others:
        newer = any(reading.when.last > last for reading in other.readings)
        if newer and said is not Truth.UNKNOWN and _told(chart, other, bar) is ~said:
            both = (*estimate.readings, *other.readings)
            return replace(
                estimate,
                readings=tuple(replace(reading, reason=Reason.CONFLICTING) for reading in both),
                flags=estimate.flags | {"conflicting"},
            )
    return estimate


def _told(chart: Chart, estimate: Estimate, bar: Bar | None) -> Truth:
    """What an estimate says of a fixed bar, where all that may count says the same."""
    if bar is None or not isinstance(bar[1], Threshold):
        return Truth.UNKNOWN
    relation, threshold = bar[0], bar[1]
    said: set[Truth] = set()
    for reading in estimate.readings:
        height = limit(threshold.number, threshold.unit, chart.vocabulary.analytes[reading.analyte])
        if reading.interval is None or height is None or reading.reason is not None:
            return Truth.UNKNOWN
        said.add(reading.interval.compare(relation, height))
    return said.pop() if len(said) == 1 else Truth.UNKNOWN


def _newest(chart: Chart, source: Latest, found: tuple[list[Reading], list[Span]]) -> Estimate:
    """The readings that may be the newest, each placed against the validity window (rules R7, R9)."""
    readings, pending = found
    anchor = chart.anchor(source.anchor)
    gap = chart.record.lost(source.select.kinds)
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
    wanted = a_record_of(label, window.first)
    if not usable:
        told = none_on_record(label, source.select.kinds)
        return Estimate((), Reason.NO_DATA, told, flags=frozenset(flags), gap=gap, wanted=wanted)
    newest, frontier = _frontier(usable, source)
    edges = _stale_edges(newest, source.valid_for) if source.valid_for else frozenset[date]()
    placed = [_placed(reading, frontier, window) for reading in newest]
    if all(reading.reason is Reason.STALE for reading in placed):
        shown = joined(f"{label} {r.shown} {r.when.told} is too old, {source.valid_for} count" for r in newest)
        evidence = in_order(e for r in newest for e in r.evidence)
        return Estimate((), Reason.STALE, shown, evidence, frozenset(flags), edges, gap, wanted)
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
    computed = {day for r in readings if r.fact is None for day in (r.when.first, r.when.last)} - {BEGINNING, END_OF_TIME}
    bounds = computed.union(*(days_of(r.fact.period) for r in readings if r.fact is not None))
    vague = computed.union(*(days_of(r.fact.period) for r in readings if r.fact is not None and not r.when.exact))
    return frozenset(next_day(valid_for.after(day)) for day in bounds) | {next_day(day) for day in vague}


def _largest(chart: Chart, source: Largest) -> Estimate:
    readings, pending = readings_of(chart, source.select, source.analyte)
    anchor = chart.anchor(source.anchor)
    anchor = chart.on if anchor is None else anchor
    label = chart.vocabulary.label(source.select.find)
    window = Window(source.valid_for.before(anchor), max(anchor, chart.on))
    flags = frozenset({"preliminary_pending"} if any(s.within(window) is not Truth.FALSE for s in pending) else set())
    gap = chart.record.lost(source.select.kinds)
    edges = _stale_edges(readings, source.valid_for)
    inside = [(r, r.when.within(window)) for r in readings]
    counted = [r for r, truth in inside if truth is Truth.TRUE]
    counted += [replace(r, reason=Reason.PARTIAL_DATE) for r, truth in inside if truth is Truth.UNKNOWN]
    if not counted:
        reason = Reason.STALE if readings else Reason.NO_DATA
        old = joined(f"{label} {r.shown} {r.when.told} is too old, {source.valid_for} count" for r in readings)
        told = old or none_on_record(label, source.select.kinds)
        wanted = a_record_of(label, window.first)
        return Estimate((), reason, told, flags=flags, edges=edges, gap=gap, wanted=wanted)
    sized = [(r, r.interval) for r in counted if r.interval is not None and r.reason is None]
    least, top = max(((i.low or Fraction(0), r) for r, i in sized), key=lambda pair: pair[0], default=(Fraction(0), None))
    perhaps = [r for r, i in sized if r is not top and (i.high is None or i.high > least)]
    doubtful = [r for r in counted if r.interval is None or r.reason is not None]
    # the largest sure size, then those that may be larger: a sure one that reaches the limit stands alone
    return Estimate((*([top] if top else []), *perhaps, *doubtful), flags=flags, edges=edges, gap=gap)


def _mean(chart: Chart, source: MeanOf) -> Estimate:
    readings, pending = latest_readings(chart, source.latest)
    newest = _newest(chart, source.latest, (readings, pending))
    if not newest.readings:
        return newest
    anchor = chart.anchor(source.latest.anchor) or chart.on
    window = Window(source.latest.valid_for.before(anchor) if source.latest.valid_for else BEGINNING, max(anchor, chart.on))
    inside = sorted((r for r in readings if r.when.within(window) is not Truth.FALSE), key=lambda r: r.when.earliest)
    last = inside[-source.count :]
    doubtful = tuple(r for r in last if r.interval is None or r.reason is not None)
    if len(last) < source.count or doubtful:
        return replace(newest, readings=doubtful or newest.readings)
    mean = _mean_of([r.interval for r in last if r.interval is not None])
    evidence = in_order(e for r in last for e in r.evidence)
    unit = chart.vocabulary.analytes[source.latest.analyte].unit
    shown = f"{interval_text(mean)} {unit} (mean of the last {source.count})"
    combined = Reading(source.latest.analyte, mean, None, last[-1].when, shown, evidence, kind=EvidenceKind.INFERRED)
    return replace(newest, readings=(combined,))


def _mean_of(intervals: Sequence[Interval]) -> Interval:
    """From the mean of all lower bounds to that of all upper ones; without an end where one of them has none."""
    lows, highs = [i.low for i in intervals if i.low is not None], [i.high for i in intervals if i.high is not None]
    low = sum(lows, Fraction(0)) / len(intervals) if len(lows) == len(intervals) else None
    high = sum(highs, Fraction(0)) / len(intervals) if len(highs) == len(intervals) else None
    return Interval(low, high, any(i.low_open for i in intervals), any(i.high_open for i in intervals))


def _age(chart: Chart, day: date | None) -> Estimate:
    return _age_at(chart, Span.on(day if day is not None else chart.on))


def _age_at(chart: Chart, when: Span) -> Estimate:
    person = chart.record.person
    if person.born is None:
        return Estimate((), Reason.NO_DATA, "no birth date on record")
    if person.born.first > chart.on:
        told = "the birth date on record lies ahead"
        return Estimate((), Reason.NO_DATA, told, edges=frozenset({person.born.first}))
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
        wanted = joined(e.wanted for e in missing)
        return Estimate((), reason, told, flags=flags, edges=edges, gap=gap, wanted=wanted)
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
        readings, pending = latest_readings(chart, amounts)
        label = chart.vocabulary.label(amounts.select.find)
        return _in_window(readings, pending, window, amounts, label, chart.record.lost(amounts.select.kinds))
    return estimated(chart, amounts)


def _derived_together(chart: Chart, source: Derived) -> Estimate:
    """Inputs of one specimen, or of one point in time; the newest such set counts."""
    latest = [(name, amounts) for name, amounts in source.inputs if isinstance(amounts, Latest)]
    tables = [(name, latest_readings(chart, amounts)) for name, amounts in latest]
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
    evidence = in_order(e for reading in row.values() for e in reading.evidence)
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

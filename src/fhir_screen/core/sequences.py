"""Order in time: an event after an exposure, and a state that held from one end of a period to the other."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from fhir_screen.core.answers import Answer, joined, no, unknown, yes
from fhir_screen.core.chart import (
    Chart,
    a_record_of,
    days_of,
    evidence_of,
    name_of,
    none_on_record,
    window_edges,
    with_gap,
)
from fhir_screen.core.dates import END_OF_TIME, Period, Span, Window, next_day
from fhir_screen.core.facts import Fact, Standing
from fhir_screen.core.rules import Selector, Stable, Then
from fhir_screen.core.selecting import Match, matches
from fhir_screen.core.truth import Reason, Truth, first_reason

_Seen = Sequence[tuple[Match, Period]]


def evaluate_then(chart: Chart, rule: Then) -> Answer:
    """TRUE where an event surely lies after the first exposure and on it, or at most ``by`` after its last day.

    FALSE never: an event that nobody wrote down may have been. What only may be new, or after, is a question.
    """
    exposures = _held(chart, rule.first)
    if not exposures:
        nothing = f"{rule.what}: nothing on record that it could have followed"
        untreated = unknown(Reason.NO_DATA, nothing, wanted=a_record_of(rule.what))
        return with_gap(chart, rule.first.kinds, untreated)
    sought = rule.first.kinds.union(*(selector.kinds for selector in rule.event))
    return with_gap(chart, sought, _followed(chart, rule, exposures)).with_edges(_edges(chart, rule, exposures))


def _followed(chart: Chart, rule: Then, exposures: Sequence[Match]) -> Answer:
    events = [match for selector in rule.event for match in _held(chart, selector)]
    if not events:
        kinds = frozenset[str]().union(*(selector.kinds for selector in rule.event))
        return unknown(Reason.NO_DATA, none_on_record(rule.what, kinds), wanted=a_record_of(rule.what))
    placed = [(event, _after(chart, exposures, event, rule)) for event in events]
    after = [event for event, (truth, _) in placed if truth is Truth.TRUE]
    if after:
        told = joined(f"{name_of(e.fact)} {_begun(chart, e.fact)}" for e in after)
        evidence = [evidence_of(m.fact) for m in (*after, *exposures)]
        return yes(f"{told}, after {_exposed(chart, exposures)}", evidence)
    open_ = [(event, reason) for event, (truth, reason) in placed if truth is Truth.UNKNOWN]
    if open_:
        reason = first_reason(reason for _, reason in open_) or Reason.POLICY
        told = joined(f"{name_of(e.fact)} {_begun(chart, e.fact)}" for e, _ in open_)
        return unknown(reason, f"{told}; {_exposed(chart, exposures)}", [evidence_of(e.fact) for e, _ in open_])
    return unknown(Reason.NO_DATA, f"none on record: {rule.what} after {_exposed(chart, exposures)}")


def _edges(chart: Chart, rule: Then, exposures: Sequence[Match]) -> frozenset[date]:
    """Of what is known to the month or the year, more becomes known as time goes by without more of it."""
    events = [match for selector in rule.event for match in _held(chart, selector)]
    periods = [m.fact.period for m in (*exposures, *events) if m.fact.period is not None]
    if all(period.start.exact and period.end.exact for period in periods):
        return frozenset()
    days = frozenset[date]().union(*(days_of(period) for period in periods))
    return frozenset(next_day(day) for bound in days for day in (bound, rule.by.after(bound)))


def _held(chart: Chart, selector: Selector) -> list[Match]:
    return [m for m in matches(chart, selector) if m.fact.standing in (Standing.HOLDS, Standing.UNSURE)]


def _begun(chart: Chart, fact: Fact) -> str:
    period = chart.period(fact)
    return period.start.told if period else "undated"


def _exposed(chart: Chart, exposures: Sequence[Match]) -> str:
    return joined(f"{name_of(m.fact)} {chart.period(m.fact) or ''}".strip() for m in exposures)


def _after(chart: Chart, exposures: Sequence[Match], event: Match, rule: Then) -> tuple[Truth, Reason | None]:
    period = chart.period(event.fact)
    spans = [(m, p) for m in exposures if (p := chart.period(m.fact)) is not None]
    if period is None or not spans:
        return Truth.UNKNOWN, Reason.PARTIAL_DATE
    at = period.start
    starts = [p.end if rule.after_end else p.start for _, p in spans]
    begun, first = min(s.last for s in starts), min(s.first for s in starts)
    if at.last < first or (at.last == first and not rule.first_day_counts):
        return Truth.FALSE, None
    if at.first < begun or (at.first == begun and not rule.first_day_counts):
        return Truth.UNKNOWN, Reason.PARTIAL_DATE
    doubt = event.reason if event.truth is Truth.UNKNOWN else None
    if doubt is None and rule.newly and _known_before(chart, event, at, rule):
        doubt = Reason.POLICY
    if doubt is not None:
        return Truth.UNKNOWN, doubt
    if rule.after_end and any(p.end.last == END_OF_TIME for _, p in spans):
        return Truth.UNKNOWN, Reason.PARTIAL_DATE
    sure = [m for m, p in spans if m.truth is Truth.TRUE and _reaches(p, at, rule)]
    return (Truth.TRUE, None) if sure else (Truth.UNKNOWN, Reason.POLICY)


def _known_before(chart: Chart, event: Match, at: Span, rule: Then) -> bool:
    """Whether the same was on record already: an old finding that is written down again is no new one."""
    others = [m.fact for selector in rule.event for m in _held(chart, selector) if m.fact is not event.fact]
    named = _codes(event.fact)
    alike = [chart.period(fact) for fact in others if _codes(fact) & named]
    return any(period is None or period.start.first < at.first for period in alike)


def _codes(fact: Fact) -> frozenset[str]:
    """What it is called by, however it is spelt and whatever is displayed beside it."""
    return frozenset(coding.code.code.upper().replace(".", "") for coding in fact.codings)


def _reaches(exposure: Period, at: Span, rule: Then) -> bool:
    begun = exposure.start.last < at.first or (rule.first_day_counts and exposure.start.last == at.first)
    return begun and at.last <= rule.by.after(max(exposure.end.first, exposure.start.last))


def evaluate_stable(chart: Chart, rule: Stable) -> Answer:
    """TRUE where the good state was seen on or before the window's first day and again in it, and nothing bad since."""
    if gap := chart.record.lost(rule.select.kinds):
        return unknown(gap.reason, f"{rule.what}: {gap.told}")
    anchor = chart.anchor(rule.anchor) or chart.on
    window = Window(rule.length.before(anchor), max(anchor, chart.on))
    seen = [(m, p) for m in _held(chart, rule.select) if (p := chart.period(m.fact)) is not None]
    edges = frozenset(d for _, p in seen for d in window_edges(p, rule.length, moving=chart.moves(rule.anchor)))
    good = [(m, p) for m, p in _from(chart, rule, seen) if _says(m.fact, rule.good) and m.truth is Truth.TRUE]
    bad = [(m, p) for m, p in seen if _says(m.fact, rule.bad)]
    dark = [(m, p) for m, p in seen if _unreadable(m.fact, rule) and p.start.last >= window.first]
    undated = [m for m in _held(chart, rule.select) if chart.period(m.fact) is None and _says(m.fact, rule.bad)]
    answer = _spoilt(bad, window) or _somewhen(undated) or _unread(dark) or _seen_twice(chart, rule, good, bad, window)
    return answer.with_edges(edges)


def _from(chart: Chart, rule: Stable, seen: _Seen) -> _Seen:
    """What was seen of it since it began: nothing was stable before it was there."""
    if not rule.since:
        return seen
    periods = [chart.period(m.fact) for selector in rule.since for m in _held(chart, selector)]
    began = [period.start.last for period in periods if period is not None]
    if not began or len(began) < len(periods):
        return []  # of one nobody knows when it began
    return [(m, p) for m, p in seen if p.start.first >= max(began)]


def _unreadable(fact: Fact, rule: Stable) -> bool:
    """Whether it says something that is neither good nor bad: in words alone, in a code that nobody knows, or undetermined."""
    value = fact.value
    return value is not None and not value.absent and not (_says(fact, rule.good) or _says(fact, rule.bad))


def _somewhen(bad: Sequence[Match]) -> Answer | None:
    """A bad state that nobody dated may lie within the window."""
    if not bad:
        return None
    told = joined(f"{name_of(m.fact)}: {_value(m)}, undated" for m in bad)
    return unknown(Reason.PARTIAL_DATE, told, [evidence_of(m.fact) for m in bad])


def _unread(dark: _Seen) -> Answer | None:
    if not dark:
        return None
    told = joined(f"{name_of(m.fact)}: {_value(m)}" for m, _ in dark)
    named = all(coding.names for m, _ in dark for coding in (m.fact.value.codings if m.fact.value else ()))
    return unknown(Reason.POLICY if named else Reason.UNMAPPED_CODE, told, [evidence_of(m.fact) for m, _ in dark])


def _spoilt(bad: _Seen, window: Window) -> Answer | None:
    """A bad state within the window, or one that may lie in it."""
    within = [m for m, p in bad if p.start.first >= window.first and m.truth is Truth.TRUE]
    if within:
        return no(joined(f"{name_of(m.fact)}: {_value(m)}" for m in within), [evidence_of(m.fact) for m in within])
    perhaps = [m for m, p in bad if p.start.last >= window.first]
    if not perhaps:
        return None
    reason = first_reason(m.reason for m in perhaps) or Reason.PARTIAL_DATE
    told = joined(f"{name_of(m.fact)}: {_value(m)}" for m in perhaps)
    return unknown(reason, told, [evidence_of(m.fact) for m in perhaps])


def _seen_twice(chart: Chart, rule: Stable, good: _Seen, bad: _Seen, window: Window) -> Answer:
    last_bad = max((p.start.last for _, p in bad), default=None)
    since = [(m, p) for m, p in good if last_bad is None or p.start.first > last_bad]
    before = [m for m, p in since if p.start.last <= window.first]
    within = [m for m, p in since if p.start.first >= window.first]
    if not before or not within or {m.fact.reference for m in before} == {m.fact.reference for m in within}:
        return unknown(Reason.NO_DATA, f"{rule.what} is not documented at both ends of the period")
    shown = [*before, *(m for m in within if m not in before)]
    told = joined(f"{_value(m)} {_begun(chart, m.fact)}" for m in shown)
    return yes(told, [evidence_of(m.fact) for m in shown])


def _says(fact: Fact, concepts: frozenset[str]) -> bool:
    return fact.value is not None and any(coding.names & concepts for coding in fact.value.codings)


def _value(match: Match) -> str:
    return match.fact.value.shown if match.fact.value else name_of(match.fact)

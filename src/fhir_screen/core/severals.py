"""Whether several facts tell of more than one thing: a second primary is not another entry of the first."""

from __future__ import annotations

from itertools import combinations

from fhir_screen.core.answers import Answer, EvidenceKind, joined, no, unknown, yes
from fhir_screen.core.chart import Chart, evidence_of, name_of, none_on_record
from fhir_screen.core.dates import BEGINNING, END_OF_TIME, Length, Span
from fhir_screen.core.facts import Fact, Standing
from fhir_screen.core.placing import Placed, place
from fhir_screen.core.rules import Several
from fhir_screen.core.selecting import Match, matches
from fhir_screen.core.truth import Reason, Truth, first_reason

_Held = tuple[Match, Placed]


def evaluate_several(chart: Chart, rule: Several) -> Answer:
    """TRUE where a pair of facts is surely two things and one of them lies in the window; FALSE where no pair may be."""
    meant = (m for m in matches(chart, rule.select) if m.fact.standing in (Standing.HOLDS, Standing.UNSURE))
    held = [(match, place(chart, match.fact, rule.timing)) for match in meant]
    edges = frozenset(day for _, placed in held for day in placed.edges)
    pairs = [(_truth(chart, rule, one, other), one, other) for one, other in combinations(held, 2)]
    truth, one, other = max(pairs, key=lambda pair: pair[0].value, default=(Truth.FALSE, None, None))
    if truth is Truth.FALSE or one is None or other is None:
        return _none(chart, rule).with_edges(edges)
    told = joined(_told(chart, match.fact) for match, _ in (one, other))
    evidence = [evidence_of(match.fact) for match, _ in (one, other)]
    if truth is Truth.TRUE:
        return yes(told, evidence).with_edges(edges)
    reason = first_reason(r for match, placed in (one, other) for r in (match.reason, placed.reason))
    return unknown(reason or Reason.PARTIAL_DATE, told, evidence).with_edges(edges)


def _none(chart: Chart, rule: Several) -> Answer:
    if gap := chart.record.gap(rule.select.kinds):
        return unknown(gap.reason, f"whether there are {rule.what} cannot be told: {gap.told}")
    return no(none_on_record(rule.what, rule.select.kinds), kind=EvidenceKind.NO_EVIDENCE)


def _truth(chart: Chart, rule: Several, one: _Held, other: _Held) -> Truth:
    both = one[0].truth & other[0].truth
    return both & (one[1].truth | other[1].truth) & _apart(chart, rule, one[0].fact, other[0].fact)


def _apart(chart: Chart, rule: Several, one: Fact, other: Fact) -> Truth:
    if rule.begun_apart is not None:
        return _begun_apart(_begun(chart, one), _begun(chart, other), rule.begun_apart)
    first, second = one.concepts & rule.told_apart_by, other.concepts & rule.told_apart_by
    return Truth.of(bool(first and second) and not first & second)


def _begun(chart: Chart, fact: Fact) -> Span | None:
    """When it began, where the record says so: a date of recording only bounds it."""
    period = chart.period(fact)
    born = chart.record.person.born
    unbounded = period is None or period.start.first <= (born.first if born else BEGINNING)
    return None if period is None or unbounded else period.start


def _begun_apart(one: Span | None, other: Span | None, length: Length) -> Truth:
    if one is None or other is None:
        return Truth.FALSE
    if length.after(one.last) < other.first or length.after(other.last) < one.first:
        return Truth.TRUE
    widest = max(other.last, one.last) > length.after(min(one.first, other.first))
    return Truth.UNKNOWN if widest else Truth.FALSE


def _told(chart: Chart, fact: Fact) -> str:
    period = chart.period(fact)
    return f"{name_of(fact)} {period.start if period and period.start.last != END_OF_TIME else 'without a date'}"

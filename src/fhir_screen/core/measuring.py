"""What the amounts that may count decide against a limit, alone or together (rules R9, R11, R12)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction

from fhir_screen.core.answers import Answer, EvidenceKind, any_of, joined, merged, no, unknown
from fhir_screen.core.chart import Chart
from fhir_screen.core.estimates import Estimate, estimated
from fhir_screen.core.facts import Fact
from fhir_screen.core.gaps import Gap
from fhir_screen.core.placing import flags_near
from fhir_screen.core.quantities import Interval, Relation, interval_text, number_text
from fhir_screen.core.ranges import site_limit, upper_limits
from fhir_screen.core.readings import Reading
from fhir_screen.core.rules import (
    Absence,
    Largest,
    Measure,
    Threshold,
    TimesUpperLimit,
)
from fhir_screen.core.truth import Reason, Truth, first_reason
from fhir_screen.core.units import limit, unit_text


def evaluate_measure(chart: Chart, rule: Measure) -> Answer:
    estimate = estimated(chart, rule.amount, (rule.relation, rule.limit))
    return _decided(chart, rule, estimate).with_flags(*estimate.flags).with_edges(estimate.edges)


def _decided(chart: Chart, rule: Measure, estimate: Estimate) -> Answer:
    if not estimate.readings:
        if estimate.gap is not None:
            return _incomplete(estimate.gap, rule.what)
        if rule.absence is Absence.SILENT:
            return no(estimate.because, estimate.evidence, kind=EvidenceKind.NO_EVIDENCE)
        reason = estimate.reason or Reason.NO_DATA
        return unknown(reason, estimate.because, estimate.evidence, wanted=estimate.wanted)
    answers = [_decide(chart, rule, reading) for reading in estimate.readings]
    any_counts = isinstance(rule.amount, Largest) and rule.relation in (Relation.AT_LEAST, Relation.ABOVE)
    answer = any_of(answers) if any_counts else _agreed(answers, estimate)
    if estimate.gap is not None and not (any_counts and answer.truth is Truth.TRUE):
        return replace(_incomplete(estimate.gap, rule.what), evidence=answer.evidence)
    return answer.with_flags(*flags_near(chart, rule.flags_near, (reading.when for reading in estimate.readings)))


def _incomplete(gap: Gap, what: str) -> Answer:
    because = (
        f"the latest {what} may be among what is missing: {gap.told}"
    )
    return unknown(gap.reason, because)


def _agreed(answers: Sequence[Answer], estimate: Estimate) -> Answer:
    """Readings that cannot be ordered have to decide alike, else nobody knows which one counts (rule R9)."""
    truths = {answer.truth for answer in answers}
    first = answers[0]
    evidence = merged(answers)
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
    undated = reading.fact is not None and reading.fact.period is None
    told = f"{rule.what} {reading.shown} {'undated' if undated else reading.when.told}".lstrip()
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
    Reason.CENSORED: "bounds that do not settle it",
    Reason.PARTIAL_DATE: "an inexact birth date does not settle it",
    Reason.NO_DATA: "it hangs on the sex, which is not recorded",
}

_NEEDED = {
    Relation.AT_LEAST: "{} or more needed",
    Relation.ABOVE: "the criterion: more than {}",
    Relation.AT_MOST: "{} or less needed",
    Relation.BELOW: "the criterion: less than {}",
    Relation.EQUAL: "the criterion: {}",
}


def _against_threshold(chart: Chart, rule: Measure, bar: Threshold, reading: Reading, told: str) -> Answer:
    analyte = chart.vocabulary.analytes[reading.analyte]
    bound = limit(bar.number, bar.unit, analyte)
    interval = reading.interval
    assert interval is not None and bound is not None
    answer = _settled(interval.compare(rule.relation, bound), reading, f"{told}, {_needed(rule, bar, bound, analyte.unit)}")
    near = reading.molar and interval.low is not None and abs(interval.low - bound) <= bound / 200
    return answer.with_flags("borderline_conversion") if near else answer


def _needed(rule: Measure, bar: Threshold, bound: Fraction, canonical: str) -> str:
    """The limit as the protocol writes it, and in the unit in which values are compared where that is another."""
    same = "" if bound == bar.number else f" ({number_text(bound)} {unit_text(canonical)})"
    return _NEEDED[rule.relation].format(f"{bar.written or number_text(bar.number)} {unit_text(bar.unit)}".strip() + same)


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
    normal, most = (_or(highs), _or(high.times(bar.factor) for high in highs))
    unit = unit_text(analyte.unit)
    because = f"{told}, {_NEEDED[rule.relation].format(f'{most} {unit}')} ({times}, {normal} {unit})"
    if len(truths) > 1:
        return unknown(Reason.NO_REFERENCE_RANGE, f"{because}; the ranges on it disagree", reading.evidence)
    answer = _settled(truths.pop(), reading, because)
    return answer.with_flags(*(f for f in reading.flags if f.startswith("uln_source")))


def _or(intervals: Iterable[Interval]) -> str:
    return " or ".join(dict.fromkeys(interval_text(one) for one in intervals))


def _by_interpretation(chart: Chart, bar: TimesUpperLimit, fact: Fact, told: str, reading: Reading) -> Answer:
    """Without a range the laboratory's own flag may still tell (rule R11)."""
    names = {name for coding in fact.facets.get("interpretation", ()) for name in coding.names}
    truth = Truth.UNKNOWN
    high, not_high = "interpretation-high" in names, bool(names & {"interpretation-normal", "interpretation-low"})
    if not_high and not high and bar.factor >= 1:
        truth = Truth.TRUE
    elif high and not not_high and bar.factor == 1:
        truth = Truth.FALSE
    if truth is Truth.UNKNOWN:
        return unknown(Reason.NO_REFERENCE_RANGE, f"{told}, without a reference range of its own", reading.evidence)
    because = f"{told}, reported as {'high' if truth is Truth.FALSE else 'not high'}"
    return Answer(truth, truth, None, because, reading.evidence).with_flags("uln_source=interpretation")

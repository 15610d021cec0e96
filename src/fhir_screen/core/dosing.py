"""The highest daily dose in a window as an equivalent of one drug, in exact fractions (rule R15)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction

from fhir_screen.core.answers import Answer, EvidenceKind, joined, no, unknown, yes
from fhir_screen.core.chart import Chart, evidence_of, name_of, window_edges
from fhir_screen.core.dates import BEGINNING, Period, Span, Window
from fhir_screen.core.existence import place
from fhir_screen.core.facts import Dose, Fact, Standing
from fhir_screen.core.quantities import Interval, Relation, number_text
from fhir_screen.core.rules import DailyDose
from fhir_screen.core.selecting import matches
from fhir_screen.core.truth import Reason, Truth, first_reason
from fhir_screen.core.units import amount


@dataclass(frozen=True, slots=True)
class Intake:
    """One dosage line on the days it covers: milligrams of the reference drug a day, None where nobody can tell."""

    fact: Fact
    per_day: Interval | None
    period: Period
    truth: Truth
    reason: Reason | None


def evaluate_daily_dose(chart: Chart, rule: DailyDose) -> Answer:
    found: list[Intake] = []
    edges: set[date] = set()
    flags: set[str] = set()
    for match in matches(chart, rule.select):
        fact = match.fact
        if fact.standing in (Standing.DENIED, Standing.PENDING):
            continue
        placed = place(chart, fact, rule.timing)
        edges |= placed.edges | window_edges(chart.period(fact), rule.timing.length, moving=chart.moves(rule.timing.anchor))
        if placed.truth is Truth.FALSE:
            continue
        flags |= match.flags | placed.flags
        truth = match.truth & placed.truth
        found += _intakes(chart, rule, fact, truth, first_reason((match.reason, placed.reason)))
    answer = _decided(chart, rule, _best_told(found))
    return answer.with_flags(*flags).with_edges(edges)


def _best_told(intakes: list[Intake]) -> list[Intake]:
    """Administration before statement before order, where they speak of the same drug on the same days (rule R15)."""
    kept: list[Intake] = []
    for one in sorted(intakes, key=lambda i: (i.fact.rank, i.fact.sort_key)):
        same = [k for k in kept if k.fact.rank < one.fact.rank and k.fact.concepts & one.fact.concepts]
        if not any(_covers(k.period, one.period) for k in same):
            kept.append(one)
    return kept


def _covers(outer: Period, inner: Period) -> bool:
    return outer.start.first <= inner.start.first and outer.end.last >= inner.end.last


def _intakes(chart: Chart, rule: DailyDose, fact: Fact, truth: Truth, reason: Reason | None) -> list[Intake]:
    period = chart.period(fact)
    if period is None:
        return [Intake(fact, None, Period.at(_whole(chart)), truth, reason)]
    if not fact.doses:
        return [Intake(fact, None, period, truth, reason or Reason.NO_DATA)]
    factor = _equivalent(rule, fact)
    return [Intake(fact, _per_day(chart, dose, factor), _bounded(dose, period), truth, reason) for dose in fact.doses]


def _whole(chart: Chart) -> Span:
    return Span(BEGINNING, chart.horizon)


def _bounded(dose: Dose, period: Period) -> Period:
    if dose.bounds is None:
        return period
    start = dose.bounds.start if dose.bounds.start.first > period.start.first else period.start
    end = dose.bounds.end if dose.bounds.end.last < period.end.last else period.end
    return Period(start, end)


def _equivalent(rule: DailyDose, fact: Fact) -> Fraction | None:
    """The one factor of the drug; None where it is not known, or where two codings disagree."""
    factors = {factor for concept, factor in rule.per_milligram if concept in fact.concepts}
    return factors.pop() if len(factors) == 1 else None


def _per_day(chart: Chart, dose: Dose, factor: Fraction | None) -> Interval | None:
    if dose.amount is None or dose.per_day is None or dose.as_needed or dose.per_kilogram or factor is None:
        return None
    mass = amount(dose.amount, chart.vocabulary.analytes["drug-mass"], chart.vocabulary.units)
    if mass.interval is None:
        return None
    times, days = dose.per_day
    return mass.interval.times(factor * Fraction(times, days) if times >= days else factor * 1)


def _decided(chart: Chart, rule: DailyDose, intakes: Sequence[Intake]) -> Answer:
    what = rule.what or chart.vocabulary.label(rule.select.find)
    gap = chart.record.gap(rule.select.kinds)
    evidence = [evidence_of(i.fact, _dose_text(i)) for i in intakes]
    sure = [i for i in intakes if i.truth is Truth.TRUE and i.per_day is not None and i.per_day.low is not None]
    worst = _worst_day(chart, rule, sure)
    if worst is not None and Interval.exactly(worst).compare(rule.relation, rule.limit) is Truth.TRUE:
        return yes(f"{what} {number_text(worst)} mg a day, {_asked(rule)}", evidence)
    if gap is not None:
        return unknown(gap.reason, f"{what}: {gap.detail or 'a part of the record could not be read'}", evidence)
    if not intakes:
        return no(f"no {what} on record", kind=EvidenceKind.NO_EVIDENCE)
    doubtful = [i for i in intakes if i not in sure]
    highest = _worst_day(chart, rule, [i for i in intakes if i.per_day is not None], _high)
    untold = [i for i in doubtful if i.per_day is None]
    if untold or (highest is not None and Interval.exactly(highest).compare(rule.relation, rule.limit) is Truth.TRUE):
        reason = first_reason([*(i.reason for i in doubtful), Reason.NO_DATA if untold else Reason.CENSORED])
        because = joined(f"{name_of(i.fact)}: {_dose_text(i)}" for i in doubtful) or what
        return unknown(reason or Reason.NO_DATA, because, evidence)
    told = joined(f"{name_of(i.fact)} {_dose_text(i)}" for i in intakes)
    return no(f"{told}: at most {number_text(highest or Fraction(0))} mg a day, {_asked(rule)}", evidence)


End = Callable[[Interval], Fraction]


def _low(interval: Interval) -> Fraction:
    return interval.low if interval.low is not None else Fraction(0)


def _high(interval: Interval) -> Fraction:
    return interval.high if interval.high is not None else Fraction(10**9)


def _worst_day(chart: Chart, rule: DailyDose, intakes: Sequence[Intake], end: End = _low) -> Fraction | None:
    """The greatest daily sum inside the window; sums change only where a line starts or ends."""
    if not intakes:
        return None
    anchor = chart.anchor(rule.timing.anchor) or chart.on
    window = Window(rule.timing.length.before(anchor), anchor)
    days = {window.first, window.last} | {i.period.start.first for i in intakes} | {i.period.start.last for i in intakes}
    sums = [
        sum((end(i.per_day) for i in intakes if i.per_day is not None and _takes(i, day, end)), Fraction(0))
        for day in days
        if day in window
    ]
    return max(sums, default=None)


def _takes(intake: Intake, day: date, end: End) -> bool:
    if end is _low:
        return intake.period.start.last <= day <= intake.period.end.first
    return intake.period.start.first <= day <= intake.period.end.last


def _dose_text(intake: Intake) -> str:
    if intake.per_day is None:
        return "a dose that cannot be told"
    return f"equal to {number_text(_high(intake.per_day))} mg a day"


def _asked(rule: DailyDose) -> str:
    words = {Relation.ABOVE: "more than", Relation.AT_LEAST: "at least", Relation.AT_MOST: "at most", Relation.BELOW: "less than"}
    return f"{words.get(rule.relation, str(rule.relation))} {number_text(rule.limit)} mg asked"


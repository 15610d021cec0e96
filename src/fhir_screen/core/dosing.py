"""The highest daily dose in a window as an equivalent of one drug, in exact fractions (rule R15)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction

from fhir_screen.core.answers import Answer, Evidence, EvidenceKind, joined, no, unknown, yes
from fhir_screen.core.chart import Chart, evidence_of, name_of, none_on_record
from fhir_screen.core.dates import BEGINNING, Period, Span, next_day
from fhir_screen.core.facts import Dose, Fact, Standing
from fhir_screen.core.placing import during, looked_back, place
from fhir_screen.core.quantities import Interval, Relation, number_text
from fhir_screen.core.rules import DailyDose
from fhir_screen.core.selecting import carried_out, drug_names, matches, not_exempt
from fhir_screen.core.truth import Reason, Truth, first_reason
from fhir_screen.core.units import amount

_NONE = Interval.exactly(0)
_ANY = Interval(Fraction(0), None)


@dataclass(frozen=True, slots=True)
class Intake:
    """One dosage line on the days it covers: milligrams of the reference drug a day, None where nobody can tell."""

    fact: Fact
    drug: frozenset[str]
    per_day: Interval | None
    period: Period
    truth: Truth
    reason: Reason | None

    def surely_on(self, day: date) -> bool:
        return self.truth is Truth.TRUE and self.period.start.last <= day <= self.period.end.first

    def perhaps_on(self, day: date) -> bool:
        return self.period.start.first <= day <= self.period.end.last


def evaluate_daily_dose(chart: Chart, rule: DailyDose) -> Answer:
    found: list[Intake] = []
    edges: set[date] = set()
    flags: set[str] = set()
    denied: list[Fact] = []
    for match in not_exempt(chart, carried_out(matches(chart, rule.select)), rule.exempt):
        fact = match.fact
        if fact.standing is Standing.PENDING:
            continue
        placed = place(chart, fact, rule.timing)
        if fact.standing is Standing.DENIED:
            denied += [fact] if placed.truth is not Truth.FALSE else []
            continue
        edges |= placed.edges
        if placed.truth is Truth.FALSE:
            continue
        flags |= (match.flags - {"order_only"}) | placed.flags
        found += _intakes(chart, rule, fact, match.truth & placed.truth, first_reason((match.reason, placed.reason)))
    answer = _decided(chart, rule, found, denied)
    return answer.with_flags(*flags).with_edges(edges | _steps(found, rule))


def _intakes(chart: Chart, rule: DailyDose, fact: Fact, truth: Truth, reason: Reason | None) -> list[Intake]:
    drug, factor = _equivalent(rule, fact)
    period = chart.period(fact) or Period.at(Span(BEGINNING, chart.on))
    if not fact.doses:
        return [Intake(fact, drug, None, period, truth, reason)]
    return [
        Intake(fact, drug, _per_day(chart, rule, dose, factor), _bounded(dose, period), truth, reason)
        for dose in fact.doses
    ]


def _equivalent(rule: DailyDose, fact: Fact) -> tuple[frozenset[str], Fraction | None]:
    """Which drug it is, and its one factor; None where that is not known, or where two codings disagree."""
    named = {concept: factor for concept, factor in rule.per_milligram if concept in fact.concepts}
    factors = set(named.values())
    return frozenset(named) or drug_names(fact), factors.pop() if len(factors) == 1 else None


def _bounded(dose: Dose, period: Period) -> Period:
    """The days of a line within its statement: from the later of the two starts to the earlier of the two ends."""
    if dose.bounds is None:
        return period
    starts, ends = (dose.bounds.start, period.start), (dose.bounds.end, period.end)
    return Period(
        Span(max(s.first for s in starts), max(s.last for s in starts)),
        Span(min(e.first for e in ends), min(e.last for e in ends)),
    )


def _per_day(chart: Chart, rule: DailyDose, dose: Dose, factor: Fraction | None) -> Interval | None:
    """What is taken on a day of intake: every other day 30 mg are 30 mg on that day."""
    if dose.amount is None or dose.per_day is None or dose.as_needed or dose.per_kilogram or factor is None:
        return None
    mass = amount(dose.amount, chart.vocabulary.analytes["drug-mass"], chart.vocabulary.units)
    if mass.interval is None:
        return None
    times, days = dose.per_day
    taken = mass.interval.times(factor * max(Fraction(times, days), Fraction(1)))
    window = during(chart, rule.timing)
    seldom = days > times * ((window.last - window.first).days + 1)
    return Interval(Fraction(0), taken.high) if seldom else taken


def _steps(intakes: Iterable[Intake], rule: DailyDose) -> frozenset[date]:
    """The days on which a step of a taper leaves a window that moves along."""
    ends = {day for i in intakes for day in (i.period.end.first, i.period.end.last) if day < date.max}
    return frozenset(next_day(rule.timing.length.after(day)) for day in ends)


# The highest day


def _highest(chart: Chart, rule: DailyDose, intakes: Sequence[Intake]) -> Interval:
    """The greatest daily sum in the window, from what is surely taken to what may be."""
    window = during(chart, rule.timing)
    days = {window.first, window.last}
    for intake in intakes:
        start, end = intake.period.start, intake.period.end
        days |= {start.first, start.last, end.first, end.last, next_day(end.first), next_day(end.last)}
    sums = [_on(day, _by_drug(intakes)) for day in days if day in window]
    lows = [one.low for one in sums if one.low is not None]
    highs = [one.high for one in sums if one.high is not None]
    return Interval(max(lows), max(highs) if len(highs) == len(sums) else None)


def _by_drug(intakes: Iterable[Intake]) -> Mapping[frozenset[str], list[Intake]]:
    drugs: dict[frozenset[str], list[Intake]] = {}
    for intake in intakes:
        drugs.setdefault(intake.drug, []).append(intake)
    return drugs


def _on(day: date, drugs: Mapping[frozenset[str], Sequence[Intake]]) -> Interval:
    doses = [_dose_on(day, intakes) for intakes in drugs.values()]
    highs = [dose.high for dose in doses if dose.high is not None]
    low = sum((dose.low for dose in doses if dose.low is not None), Fraction(0))
    return Interval(low, sum(highs, Fraction(0)) if len(highs) == len(doses) else None)


def _dose_on(day: date, intakes: Sequence[Intake]) -> Interval:
    """Of one drug the best source speaks for a day: its administration before a statement before an order (rule R15).

    Where the better source only may be about that day, the next one may be right as well.
    """
    possible: list[Interval] = []
    for rank in sorted({i.fact.rank for i in intakes if i.perhaps_on(day)}):
        told = [i for i in intakes if i.fact.rank == rank and i.perhaps_on(day)]
        possible.append(_sum(day, told))
        if any(i.surely_on(day) for i in told):
            return _hull(possible)
    return _hull([*possible, _NONE])


def _sum(day: date, intakes: Sequence[Intake]) -> Interval:
    doses = [i.per_day or _ANY for i in intakes]
    sure = (i.per_day.low for i in intakes if i.per_day and i.per_day.low is not None and i.surely_on(day))
    highs = [dose.high for dose in doses if dose.high is not None]
    return Interval(sum(sure, Fraction(0)), sum(highs, Fraction(0)) if len(highs) == len(doses) else None)


def _hull(intervals: Sequence[Interval]) -> Interval:
    highs = [one.high for one in intervals if one.high is not None]
    return Interval(
        min(one.low for one in intervals if one.low is not None), max(highs) if len(highs) == len(intervals) else None
    )


# The answer


def _decided(chart: Chart, rule: DailyDose, intakes: Sequence[Intake], denied: Sequence[Fact]) -> Answer:
    what = rule.what or chart.vocabulary.label(rule.select.find)
    gap = chart.record.gap(rule.select.kinds)
    evidence = [evidence_of(i.fact, _dose_text(i)) for i in intakes]
    highest = _highest(chart, rule, intakes) if intakes else _NONE
    truth = highest.compare(rule.relation, rule.limit) if intakes else Truth.FALSE
    more_is_worse = Truth.of(rule.relation in (Relation.ABOVE, Relation.AT_LEAST))
    if gap is not None and truth is not more_is_worse:
        return unknown(gap.reason, f"{what}: {gap.told}", evidence)
    if denied and not intakes:
        told = joined(f"{name_of(fact)}: an explicit no" for fact in denied)
        return no(told, [evidence_of(fact) for fact in denied], kind=EvidenceKind.EXPLICIT_NEGATIVE)
    if not intakes:
        return no(none_on_record(what, rule.select.kinds, looked_back(chart, rule.timing)), kind=EvidenceKind.NO_EVIDENCE)
    if truth is Truth.UNKNOWN:
        return _untold(intakes, evidence)
    told = joined(f"{name_of(i.fact)} {_dose_text(i)}" for i in intakes)
    because = f"{told}: {what} {_most(highest)} mg a day, {_asked(rule)}"
    only_ordered = all("order_only" in i.fact.flags for i in intakes)
    kind = EvidenceKind.ORDER_ONLY if only_ordered and truth is Truth.TRUE else EvidenceKind.POSITIVE
    return (yes if truth is Truth.TRUE else no)(because, evidence, kind=kind)


def _untold(intakes: Sequence[Intake], evidence: Sequence[Evidence]) -> Answer:
    doubtful = [i for i in intakes if i.truth is not Truth.TRUE or i.per_day is None or not i.per_day.exact]
    reasons = [i.reason for i in doubtful if i.truth is not Truth.TRUE]
    if any(i.per_day is None for i in doubtful):
        reasons.append(Reason.NO_DATA)
    because = joined(f"{name_of(i.fact)}: {_dose_text(i)}" for i in (doubtful or intakes))
    reason = first_reason(reasons) or (Reason.CENSORED if doubtful else Reason.PARTIAL_DATE)
    wanted = "the dose, and how often it is taken" if reason is Reason.NO_DATA else ""
    return unknown(reason, because, evidence, wanted=wanted)


def _most(highest: Interval) -> str:
    if highest.high is not None and highest.high == highest.low:
        return number_text(highest.high)
    return (
        f"at least {number_text(highest.low or Fraction(0))}"
        if highest.high is None
        else f"at most {number_text(highest.high)}"
    )


def _dose_text(intake: Intake) -> str:
    if intake.per_day is None or intake.per_day.high is None:
        return "a dose that cannot be told"
    return f"equal to {number_text(intake.per_day.high)} mg a day"


def _asked(rule: DailyDose) -> str:
    words = {
        Relation.ABOVE: "more than",
        Relation.AT_LEAST: "at least",
        Relation.AT_MOST: "at most",
        Relation.BELOW: "less than",
    }
    return f"the criterion: {words.get(rule.relation, str(rule.relation))} {number_text(rule.limit)} mg"

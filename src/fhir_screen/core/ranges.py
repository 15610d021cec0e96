"""The reference ranges on one result: which of them are for this patient, and what their upper limit is (rule R11)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from fhir_screen.core.chart import Chart
from fhir_screen.core.dates import Span, completed_years
from fhir_screen.core.facts import Fact, ReferenceRange
from fhir_screen.core.quantities import Interval, Quantity
from fhir_screen.core.units import Analyte, amount, limit


def own_limits(chart: Chart, fact: Fact) -> Iterator[Quantity]:
    """The upper limits on this very result that are for this patient, as they are written there."""
    for entry in fact.ranges:
        if _for_this_patient(chart, fact, entry):
            high = entry.high or (Quantity.from_text(entry.text) if entry.text else None)
            if high is not None and high.interval.high is not None:
                yield _with_unit(high, fact)


def upper_limits(chart: Chart, fact: Fact, analyte: Analyte) -> list[Interval]:
    """The same in the canonical unit of what is measured; without those in a unit that it does not come in."""
    loose = replace(analyte, plausible=(), steps=None)
    highs = (amount(high, loose, chart.vocabulary.units).interval for high in own_limits(chart, fact))
    return [Interval(high.high, high.high) for high in highs if high is not None and high.high]


def site_limit(chart: Chart, fact: Fact, analyte: Analyte) -> Interval | None:
    """The one limit of the site's table for this test, sex and day; None where none or several apply."""
    day = str(fact.period.end.first) if fact.period else ""
    sex = chart.record.person.sex
    limits = {
        number
        for entry in chart.vocabulary.upper_limits
        if entry.concept in fact.concepts and entry.sex in (None, sex)
        and (not entry.since or entry.since <= day) and (not entry.until or day <= entry.until)
        and (number := limit(entry.high, entry.unit, analyte)) is not None
    }  # fmt: skip
    return Interval.exactly(limits.pop()) if len(limits) == 1 else None


def age_between(born: Span, at: Span) -> Interval:
    """Completed years at a day, as an interval where either date is not exact."""
    return Interval(
        Fraction(completed_years(min(born.last, at.first), at.first)),
        Fraction(completed_years(born.first, max(at.last, born.first))),
    )


def _with_unit(high: Quantity, fact: Fact) -> Quantity:
    """A range without a unit is in the unit of its result."""
    if high.unit_code or high.unit_text or fact.value is None or fact.value.quantity is None:
        return high
    value = fact.value.quantity
    return replace(high, unit_code=value.unit_code, unit_text=value.unit_text)


def _for_this_patient(chart: Chart, fact: Fact, entry: ReferenceRange) -> bool:
    if entry.meanings and "normal" not in entry.meanings:
        return False
    sex, born = chart.record.person.sex, chart.record.person.born
    if entry.applies_to and not _meant(entry, sex):
        return False
    if entry.ages and born is not None and fact.period is not None:
        ages = age_between(born, fact.period.start)
        return any(_may_lie_in(ages, allowed) for allowed in entry.ages)
    return True


def _may_lie_in(ages: Interval, allowed: Interval) -> bool:
    """Of somebody whose age is not exactly known several ranges may be the right one; they have to decide alike."""
    below = allowed.low is not None and ages.high is not None and ages.high < allowed.low
    above = allowed.high is not None and ages.low is not None and ages.low > allowed.high
    return not (below or above)


def _meant(entry: ReferenceRange, sex: str | None) -> bool:
    """Whether a range for some people is for this one; a population that nobody knows is not his."""
    named = {coding.code.code.lower() for coding in entry.applies_to} | {
        c.code.display.lower() for c in entry.applies_to
    }
    named |= {name for coding in entry.applies_to for name in coding.names}
    men, women = named & {"male", "m", "sex-male"}, named & {"female", "f", "sex-female"}
    if not (men or women):
        return "population-adult" in named
    return bool(women if sex == "female" else men if sex == "male" else True)

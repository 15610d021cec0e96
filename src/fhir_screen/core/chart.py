"""A patient's record as one trial looks at it on one day: anchors, horizon, vocabulary and the trial's other rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from fractions import Fraction
from typing import Final

from fhir_screen.core.answers import Answer, Evidence, joined, unknown
from fhir_screen.core.codes import Codebook
from fhir_screen.core.dates import BEGINNING, END_OF_TIME, Length, Period, next_day
from fhir_screen.core.facts import Fact, PatientRecord
from fhir_screen.core.rules import Rule
from fhir_screen.core.truth import Reason, Truth, first_reason
from fhir_screen.core.units import Analyte, UnitTable

AS_OF = "as_of"
FOLLOWS_AS_OF = frozenset({AS_OF, "screening_date"})
"""Anchors that are the day of the screening itself as long as nobody sets them."""


@dataclass(frozen=True, slots=True)
class UpperLimit:
    """A site's own upper limit of normal for a test, for results that come without a range (rule R11).

    ``since`` and ``until`` are ISO days between which it holds, empty where it always does.
    """

    concept: str
    high: Fraction
    unit: str
    sex: str | None = None
    since: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What codes, units and analytes mean; shared by all trials of a study."""

    codebook: Codebook
    units: UnitTable
    analytes: Mapping[str, Analyte]
    labels: Mapping[str, str] = field(default_factory=dict)
    upper_limits: tuple[UpperLimit, ...] = ()

    def label(self, concepts: Iterable[str]) -> str:
        names = sorted(concepts)
        return ", ".join(dict.fromkeys(self.labels.get(name, name) for name in names))


@dataclass(frozen=True, slots=True)
class Chart:
    """``on`` is the day of the question, ``horizon`` the last day whose entries are evidence (they differ only
    where a later day is tried on today's record, to find the day on which an answer changes)."""

    record: PatientRecord
    on: date
    horizon: date
    anchors: Mapping[str, date]
    vocabulary: Vocabulary
    rules: Mapping[str, Rule] = field(default_factory=dict)
    study: frozenset[str] = frozenset()
    closed_from_days: int | None = None
    instance: Fact | None = None
    ahead: tuple[Fact, ...] = ()
    """What is dated after the horizon: no evidence, but told (rule R7)."""
    memo: dict[str, Answer] = field(default_factory=dict)

    def anchor(self, name: str) -> date | None:
        """The day of an anchor; None while it is not set."""
        if name in self.anchors:
            return self.anchors[name]
        return self.on if name in FOLLOWS_AS_OF else None

    def moves(self, name: str) -> bool:
        """Whether a window on this anchor moves with the day of the screening."""
        return name not in self.anchors

    def about(self, instance: Fact) -> Chart:
        return replace(self, instance=instance, memo={})

    def tomorrow(self, day: date) -> Chart:
        """The same record, asked on a later day: nothing dated after the horizon becomes evidence."""
        return replace(self, on=day, memo={})

    def period(self, fact: Fact) -> Period | None:
        """When the fact was so, as far as it is known on the day of the question: what is evidence has begun by then,
        and what is over has ended."""
        if fact.period is None:
            return None
        start = fact.period.start.not_after(self.on)
        end = fact.period.end
        if fact.ongoing is Truth.FALSE and end.first <= self.on:
            end = end.not_after(self.on)
        return Period(start, end)

    @property
    def tells(self) -> bool:
        """Whether silence of it may mean no: a chart with neither an encounter nor a diagnosis closes nothing (rule R4 d)."""
        seen = (fact for kind in ("Encounter", "Condition") for fact in self.record.by_kind.get(kind, ()))
        return any(not self.future(fact) for fact in seen)

    def future(self, fact: Fact) -> bool:
        """Whether it is dated after the horizon, by its own start, or by its recording where that is all that dates it."""
        if fact.period is None:
            return False
        recorded_later = fact.recorded is not None and fact.recorded.first > self.horizon
        return fact.period.start.first > self.horizon or (recorded_later and fact.period.start.last > self.horizon)


def evidence_of(fact: Fact, value: str | None = None) -> Evidence:
    coding = next((c for c in fact.codings if c.concepts), fact.codings[0] if fact.codings else None)
    when = "" if fact.period is None else str(fact.period.start if fact.value else fact.period)
    said = shown(fact) if value is None else value
    return Evidence(fact.reference, fact.version, str(coding.code) if coding else "", said, when)


_LONGEST = 80
"""So much of a text is shown; a report is no evidence by its length."""


def shown(fact: Fact) -> str:
    """What a fact says, shortened where it is a long text; its name where it has no value."""
    text = fact.value.shown if fact.value else _name(fact)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def none_on_record(what: str, kinds: Iterable[str], looked_back: str = "") -> str:
    """That nothing was found, and where it was looked for."""
    return f"none on record{looked_back}: {what} ({' or '.join(sorted(kinds))})"


A_RECORD_OF: Final = "a record of "


def a_record_of(what: str, since: date | None = None) -> str:
    """What would settle the question."""
    dated = f" of {since.isoformat()} or later" if since is not None and since > BEGINNING else ""
    return f"{A_RECORD_OF}{what}{dated}"


def untold(what: str) -> Answer:
    """A chart that holds nothing says nothing by its silence (rule R4 d)."""
    told = f"none on record: {what}, but the chart holds no encounter and no diagnosis at all"
    return unknown(Reason.NO_DATA, told, wanted="a chart that holds a visit or a diagnosis")


def with_gap(chart: Chart, kinds: frozenset[str], answer: Answer) -> Answer:
    """A doubt that what is missing of these resource types might settle is told as missing first (rule R4)."""
    gap = chart.record.lost(kinds)
    if gap is None or answer.truth is not Truth.UNKNOWN:
        return answer
    reason = first_reason((gap.reason, answer.reason)) or gap.reason
    told = joined((answer.because, gap.told))
    return unknown(reason, told, answer.evidence).with_flags(*answer.flags).with_edges(answer.edges)


def name_of(fact: Fact) -> str:
    """What the record calls it: the display of a code, else its text, else the code."""
    return _name(fact) or (fact.codings[0].code.code if fact.codings else fact.kind)


def _name(fact: Fact) -> str:
    for coding in fact.codings:
        if coding.code.display:
            return coding.code.display
    return fact.texts[0] if fact.texts else fact.codings[0].code.code if fact.codings else ""


def days_of(period: Period | None) -> frozenset[date]:
    """The days that bound a period, as they are recorded."""
    if period is None:
        return frozenset()
    return frozenset({period.start.first, period.start.last, period.end.first, period.end.last} - {BEGINNING, END_OF_TIME})


def window_edges(period: Period | None, length: Length, *, moving: bool) -> frozenset[date]:
    """Days on which a window of this length, ending on the day of the screening, may win or lose the period."""
    if period is None or not moving:
        return frozenset()
    return frozenset(day for bound in days_of(period) for day in _around(bound, length))


def _around(bound: date, length: Length) -> Iterable[date]:
    """Calendar lengths are not symmetric (28 February plus a year, 29 February minus one): try the days around."""
    leaves = length.after(bound)
    yield bound
    yield next_day(bound)
    yield from (leaves, next_day(leaves), next_day(next_day(leaves)), next_day(next_day(next_day(leaves))))

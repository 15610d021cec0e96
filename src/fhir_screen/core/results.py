"""Qualitative results: positive, negative or neither, by coded answer, whole text, or cut-off (rule R13)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from fhir_screen.core.answers import Answer, EvidenceKind, joined, no, unknown, yes
from fhir_screen.core.chart import Chart, a_record_of, days_of, evidence_of, name_of, none_on_record, shown, untold
from fhir_screen.core.dates import BEGINNING, Length, Span, Window, next_day
from fhir_screen.core.facts import Coding, Fact, Standing
from fhir_screen.core.placing import flags_near
from fhir_screen.core.quantities import Quantity, Relation
from fhir_screen.core.ranges import own_limits
from fhir_screen.core.rules import Absence, Pick, Result
from fhir_screen.core.selecting import matches
from fhir_screen.core.truth import Reason, Truth, first_reason


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one test result says: TRUE for what the rule asks about, FALSE for its contrary."""

    fact: Fact
    truth: Truth
    reason: Reason | None
    when: Span
    flags: frozenset[str] = frozenset()


def evaluate_result(chart: Chart, rule: Result) -> Answer:
    outcomes: list[Outcome] = []
    pending = False
    for match in matches(chart, rule.select):
        if match.fact.standing is Standing.PENDING:
            pending = True
            continue
        if match.fact.standing is Standing.DENIED:
            continue
        truth, reason = outcome(chart, match.fact, rule)
        if reason is Reason.NO_DATA:
            continue
        doubt = match.reason if match.truth is Truth.UNKNOWN else None
        when = _when(chart, match.fact)
        outcomes.append(
            Outcome(
                match.fact, truth if doubt is None else Truth.UNKNOWN, first_reason((doubt, reason)), when, match.flags
            )
        )
    answer = _any(chart, rule, outcomes) if rule.pick is Pick.ANY else _latest(chart, rule, outcomes)
    flags = {"preliminary_pending"} if pending else set()
    if answer.truth is Truth.TRUE:
        flags |= flags_near(chart, rule.flags_near, (o.when for o in outcomes if o.truth is Truth.TRUE))
    return answer.with_flags(*flags).with_edges(_edges(rule, outcomes))


def outcome(chart: Chart, fact: Fact, rule: Result) -> tuple[Truth, Reason | None]:
    """The answer of one result; NO_DATA where it holds no value at all (rule R5: fall back to the one before)."""
    value = fact.value
    if (
        value is None
        or value.absent
        or not (value.codings or value.text or value.quantity or value.boolean is not None)
    ):
        return _coded(fact.facets.get("interpretation", ()), rule) or (Truth.UNKNOWN, Reason.NO_DATA)
    if said := _coded(value.codings, rule):
        return said
    if value.boolean is not None:
        return _asked(rule, Truth.of(value.boolean)), None
    quantity = value.quantity or (Quantity.from_text(value.text) if value.text else None)
    if quantity is None:
        return Truth.UNKNOWN, Reason.UNMAPPED_CODE
    positive = _detected(quantity) if rule.number == "detected" else _beyond_cutoff(chart, fact, quantity, rule)
    if positive is not None and positive is not Truth.UNKNOWN:
        return _asked(rule, positive), None
    reason = Reason.NO_REFERENCE_RANGE if positive is None else Reason.CENSORED
    return _coded(fact.facets.get("interpretation", ()), rule) or (Truth.UNKNOWN, reason)


def _asked(rule: Result, positive: Truth) -> Truth:
    """A positive finding as an answer to what the rule asks for, which may be a negative one."""
    return ~positive if _NEGATIVE in rule.among else positive


def _coded(codings: Sequence[Coding], rule: Result) -> tuple[Truth, Reason | None] | None:
    names = {name for coding in codings for name in coding.names}
    says = {Truth.TRUE for _ in names & rule.among} | {Truth.FALSE for _ in names & rule.against}
    if len(says) == 1:
        return says.pop(), None
    if len(says) == 2:
        return Truth.UNKNOWN, Reason.CONFLICTING
    return (Truth.UNKNOWN, Reason.POLICY) if "qual-indeterminate" in names else None


def _detected(quantity: Quantity) -> Truth:
    """A count of copies: none is negative, any is positive, below what can be counted it may be either (rule R12)."""
    interval = quantity.interval
    if interval.low is not None and (interval.low > 0 or (interval.low == 0 and interval.low_open)):
        return Truth.TRUE
    return Truth.FALSE if interval.exact else Truth.UNKNOWN


def _beyond_cutoff(chart: Chart, fact: Fact, quantity: Quantity, rule: Result) -> Truth | None:
    """A signal against the cut-off that the laboratory printed with it; None where it printed none (rule R13)."""
    if rule.number != "cutoff":
        return None
    truths = {
        quantity.interval.compare(Relation.AT_LEAST if high.interval.high_open else Relation.ABOVE, high.interval.high)
        for high in own_limits(chart, fact)
        if high.interval.high is not None and _same_unit(high, quantity)
    }
    if not truths:
        return None
    return truths.pop() if len(truths) == 1 else Truth.UNKNOWN


def _same_unit(one: Quantity, other: Quantity) -> bool:
    return {one.unit_code, one.unit_text} & {other.unit_code, other.unit_text} != set()


def _begun(chart: Chart, fact: Fact) -> Span:
    period = chart.period(fact)
    return period.start if period else _when(chart, fact)


def _when(chart: Chart, fact: Fact) -> Span:
    period = chart.period(fact)
    return period.end if period else Span(BEGINNING, chart.horizon)


def _any(chart: Chart, rule: Result, outcomes: Sequence[Outcome]) -> Answer:
    negative = [o for o in outcomes if o.truth is Truth.FALSE]
    positive = [
        (o, _fresh(chart, rule, o, rule.valid_for))
        for o in outcomes
        if o.truth is not Truth.FALSE and not (_borderline(o) and any(n.when.earliest > o.when.latest for n in negative))
    ]
    sure = [o for o, fresh in positive if o.truth is Truth.TRUE and fresh is Truth.TRUE]
    if sure:
        return yes(_told(sure), [evidence_of(o.fact) for o in sure], kind=_asked_for(rule)).with_flags(*_flags(sure))
    doubtful = [o for o, fresh in positive if fresh is not Truth.FALSE]
    if doubtful:
        reason = first_reason(o.reason or Reason.PARTIAL_DATE for o in doubtful) or Reason.PARTIAL_DATE
        return unknown(reason, _told(doubtful), [evidence_of(o.fact) for o in doubtful]).with_flags(
            *_flags(doubtful)
        )
    gap = chart.record.gap if rule.absence is Absence.CLOSED else chart.record.lost
    if hole := gap(rule.select.kinds):
        return unknown(hole.reason, f"{_what(chart, rule)}: {hole.told}")
    return _negatives(chart, rule, negative)


def _borderline(one: Outcome) -> bool:
    """A result that lies between positive and negative by its own word: the next test tells."""
    value = one.fact.value
    return one.truth is Truth.UNKNOWN and value is not None and any("qual-indeterminate" in coding.names for coding in value.codings)


def _latest(chart: Chart, rule: Result, outcomes: Sequence[Outcome]) -> Answer:
    if gap := chart.record.lost(rule.select.kinds):
        return unknown(gap.reason, f"{_what(chart, rule)}: {gap.told}")
    if not outcomes:
        return _none(chart, rule)
    frontier = max(o.when.earliest for o in outcomes)
    newest = [o for o in outcomes if o.when.latest >= frontier]
    evidence = [evidence_of(o.fact) for o in newest]
    truths = {o.truth for o in newest}
    if len(truths) > 1:
        exact = all(o.when.exact for o in newest)
        return unknown(Reason.CONFLICTING if exact else Reason.PARTIAL_DATE, _told(newest), evidence)
    truth = truths.pop()
    if truth is Truth.UNKNOWN:
        reason = first_reason(o.reason for o in newest) or Reason.POLICY
        return unknown(reason, _told(newest), evidence).with_flags(*_flags(newest))
    if truth is Truth.FALSE:
        return _negatives(chart, rule, newest)
    fresh = _agreed_fresh(chart, rule, newest, rule.valid_for)
    overtaken = first_reason(_overtaken(chart, rule, one) for one in newest)
    if overtaken is Reason.STALE:
        return unknown(overtaken, f"{_told(newest)}, but something newer speaks against it", evidence)
    if overtaken is not None:
        return unknown(overtaken, f"{_told(newest)}, and something that may be newer", evidence)
    if fresh is Truth.TRUE:
        return yes(_told(newest), evidence, kind=_asked_for(rule)).with_flags(*_flags(newest))
    return _not_fresh(chart, rule, newest, rule.valid_for, fresh)


def _negatives(chart: Chart, rule: Result, negatives: Sequence[Outcome]) -> Answer:
    if not negatives:
        return _none(chart, rule)
    length = rule.negative_valid_for or rule.valid_for
    placed = [(o, _fresh(chart, rule, o, length)) for o in negatives]
    fresh = [o for o, truth in placed if truth is Truth.TRUE]
    if fresh:
        return no(_told(fresh), [evidence_of(o.fact) for o in fresh], kind=_contrary(rule)).with_flags(*_flags(fresh))
    if rule.absence is not Absence.OPEN:
        return no(_told(negatives), [evidence_of(o.fact) for o in negatives], kind=EvidenceKind.NO_EVIDENCE)
    return _not_fresh(chart, rule, negatives, length, max((truth for _, truth in placed), key=lambda truth: truth.value))


def _asked_for(rule: Result) -> EvidenceKind:
    """A negative test is an explicit no (rule R3), also where it is what a proof rests on."""
    return EvidenceKind.EXPLICIT_NEGATIVE if _NEGATIVE in rule.among else rule.kind


def _contrary(rule: Result) -> EvidenceKind:
    return EvidenceKind.EXPLICIT_NEGATIVE if _NEGATIVE in rule.against else EvidenceKind.POSITIVE


_NEGATIVE = "qual-negative"


def _not_fresh(
    chart: Chart, rule: Result, outcomes: Sequence[Outcome], length: Length | None, fresh: Truth
) -> Answer:
    """Results that are too old, or of which nobody knows whether they are."""
    evidence, wanted = [evidence_of(o.fact) for o in outcomes], _wanted(chart, rule, length)
    if fresh is Truth.FALSE:
        return unknown(Reason.STALE, f"{_told(outcomes)}: too old, {length} count", evidence, wanted=wanted)
    return unknown(Reason.PARTIAL_DATE, f"{_told(outcomes)}: the date is not exact enough", evidence, wanted=wanted)


def _wanted(chart: Chart, rule: Result, length: Length | None) -> str:
    since = length.before(chart.anchor(rule.anchor) or chart.on) if length else None
    return a_record_of(_what(chart, rule), since)


def _overtaken(chart: Chart, rule: Result, negative: Outcome) -> Reason | None:
    """Why this negative may not be the last word: something newer speaks against it; of what lasts, its beginning counts.

    STALE where it surely does, else why that is not sure.
    """
    if rule.not_before is None:
        return None
    found = [(m, _begun(chart, m.fact)) for m in matches(chart, rule.not_before)]
    if any(m.fact.standing is Standing.HOLDS and when.earliest > negative.when.latest for m, when in found):
        return Reason.STALE
    if any(m.fact.standing is Standing.HOLDS and _may_be_newer(when, negative.when) for m, when in found):
        return Reason.PARTIAL_DATE
    unsure = [m for m, when in found if m.fact.standing is Standing.UNSURE and _may_be_newer(when, negative.when)]
    return first_reason(m.fact.why_unsure for m in unsure)


def _may_be_newer(one: Span, other: Span) -> bool:
    return one.latest > other.latest and one.last > other.first


def _none(chart: Chart, rule: Result) -> Answer:
    told = none_on_record(_what(chart, rule), rule.select.kinds)
    if rule.absence is Absence.OPEN:
        return unknown(Reason.NO_DATA, told, wanted=_wanted(chart, rule, rule.negative_valid_for or rule.valid_for))
    if rule.absence is Absence.CLOSED and not chart.tells:
        return untold(_what(chart, rule))
    return no(told, kind=EvidenceKind.NO_EVIDENCE)


def _fresh(chart: Chart, rule: Result, one: Outcome, length: Length | None) -> Truth:
    if length is None:
        return Truth.TRUE
    anchor = chart.anchor(rule.anchor) or chart.on
    return one.when.within(Window(length.before(anchor), max(anchor, chart.on)))


def _agreed_fresh(chart: Chart, rule: Result, outcomes: Sequence[Outcome], length: Length | None) -> Truth:
    truths = {_fresh(chart, rule, one, length) for one in outcomes}
    return truths.pop() if len(truths) == 1 else Truth.UNKNOWN


def _edges(rule: Result, outcomes: Sequence[Outcome]) -> frozenset[date]:
    lengths = [length for length in (rule.valid_for, rule.negative_valid_for) if length is not None]
    bounds = frozenset[date]().union(*(days_of(o.fact.period) for o in outcomes))
    vague = frozenset[date]().union(*(days_of(o.fact.period) for o in outcomes if not o.when.exact))
    return frozenset(next_day(length.after(day)) for length in lengths for day in bounds) | {next_day(day) for day in vague}


def _told(outcomes: Sequence[Outcome]) -> str:
    return joined(f"{name_of(o.fact)}: {_shown(o)} {o.when.told if o.fact.period else 'undated'}" for o in outcomes)


def _shown(one: Outcome) -> str:
    if one.fact.value and one.fact.value.shown:
        return shown(one.fact)
    codings = one.fact.facets.get("interpretation", ())
    return next((c.code.display or c.code.code for c in codings), "without a value")


def _flags(outcomes: Sequence[Outcome]) -> frozenset[str]:
    return frozenset[str]().union(*(o.flags for o in outcomes))


def _what(chart: Chart, rule: Result) -> str:
    return rule.what or chart.vocabulary.label(rule.select.find)

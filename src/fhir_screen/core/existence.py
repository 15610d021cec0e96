"""Whether the record holds a fact: found, denied, doubtful or absent (rules R3, R4, R14)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from fhir_screen.core.answers import Answer, EvidenceKind, in_order, joined, no, unknown, yes
from fhir_screen.core.chart import (
    Chart,
    a_record_of,
    evidence_of,
    name_of,
    none_on_record,
    shown,
    untold,
    window_edges,
    with_gap,
)
from fhir_screen.core.dates import Period, Span
from fhir_screen.core.facts import Fact, Standing
from fhir_screen.core.gaps import Gap
from fhir_screen.core.placing import Placed, looked_back, place, window_of
from fhir_screen.core.rules import Absence, During, Has, Now, Says, Selector, Timing, Unset
from fhir_screen.core.selecting import Match, carried_out, exempt, holds_where, matches, not_exempt, part_of
from fhir_screen.core.truth import Reason, Truth, first_reason


@dataclass(frozen=True, slots=True)
class Finding:
    """A match with its place in time."""

    match: Match
    truth: Truth
    reason: Reason | None
    flags: frozenset[str]


def instances(chart: Chart, rule: Has) -> list[tuple[Fact, Answer]]:
    """Each fact that may be meant, with its own answer, the uncoded ones whose words are hit included."""
    own: list[tuple[Fact, Answer]] = []
    held = [(m, place(chart, m.fact, rule.timing)) for m in _counted(chart, rule) if m.fact.standing in _SAID]
    days = _days(held)
    window = window_of(chart, rule.timing) or _ASKED_FOR
    for match, placed in held:
        outside = placed.truth is Truth.FALSE and not _questionable(match, rule)
        answer = None if outside else _found(_corroborated([_finding(match, placed)], days, rule), rule)
        own.append(
            (match.fact, (answer or no(f"{name_of(match.fact)} lies outside {window}")).with_edges(placed.edges))
        )
    for fact in _uncoded(chart, rule):
        if rule.select.words and (word := rule.select.words.find(_texts(fact))):
            own.append((fact, _worded(((fact, word),))))
    return own


_ASKED_FOR = "the time asked for"


def remainder(chart: Chart, rule: Has) -> Answer:
    """What is to be said of such facts beyond those on record: a no, or why even that cannot be told."""
    return _absent(chart, replace(rule, select=replace(rule.select, words=None)), (), ())


def beyond(chart: Chart, rule: Has) -> Answer:
    """The same, with what has no code and may be one by its words."""
    return _absent(chart, rule, (), ())


def evaluate_says(chart: Chart, rule: Says) -> Answer:
    """A report whose text hits the words; what is not said is not known, or a no where the rule says so."""
    said: list[Match] = []
    for match in matches(chart, rule.select):
        text = match.fact.value.text if match.fact.value else None
        sure = match.fact.standing is Standing.HOLDS and match.truth is Truth.TRUE
        if (sure or rule.silence_is_no) and match.fact.standing in _SAID and text and rule.words.find([text]):
            said.append(match)
    if not said:
        if gap := chart.record.gap(rule.select.kinds):
            return _incomplete(gap, rule.what)
        told = none_on_record(rule.what, rule.select.kinds)
        silent = no(told, kind=EvidenceKind.NO_EVIDENCE)
        return silent if rule.silence_is_no else unknown(Reason.NO_DATA, told, wanted=a_record_of(rule.what))
    told = joined(_named(m.fact) for m in said)
    return yes(told, [evidence_of(m.fact) for m in said])


def evaluate_has(chart: Chart, rule: Has) -> Answer:
    found: list[tuple[Match, Placed]] = []
    denied: list[Fact] = []
    older: list[Fact] = []
    pending: set[str] = set()
    edges: set[date] = set()
    for match in _counted(chart, rule):
        placed = place(chart, match.fact, rule.timing)
        edges |= placed.edges
        if match.fact.standing is Standing.PENDING:
            pending.add("preliminary_pending")
        elif not rule.denied_counts and (match.fact.standing is Standing.DENIED or _says_no(match, rule.select)):
            denied.append(match.fact)
        elif placed.truth is Truth.FALSE and not _questionable(match, rule):
            older.append(match.fact)
        else:
            found.append((match, placed))
    findings = _corroborated([_finding(match, placed) for match, placed in found], _days(found), rule)
    answer = _found(findings, rule)
    answer = _absent(chart, rule, denied, older) if answer is None else with_gap(chart, rule.select.kinds, answer)
    edges |= _edges_of_uncoded(chart, rule)
    return answer.with_flags(*pending, *_anchor_flags(chart, rule.timing, answer)).with_edges(edges)


def _says_no(match: Match, selector: Selector) -> bool:
    """A finding that is asked for by its code, surely, with the answer no."""
    value = match.fact.value
    if selector.valued or value is None or match.truth is not Truth.TRUE:
        return False
    return value.boolean is False or any("qual-negative" in coding.names for coding in value.codings)


_SAID = (Standing.HOLDS, Standing.UNSURE)


def _counted(chart: Chart, rule: Has) -> list[Match]:
    """What the selector means, without the trial's own doings, and without orders whose outcome is on record."""
    return not_exempt(chart, carried_out(matches(chart, rule.select)), rule.exempt)


def _questionable(match: Match, rule: Has) -> bool:
    """Whether a fact from outside the window is a question all the same."""
    return rule.older is not Truth.FALSE or bool(match.fact.states & rule.older_states)


def _days(found: Sequence[tuple[Match, Placed]]) -> frozenset[str]:
    """The days on which it was coded."""
    sure = (m.fact for m, placed in found if m.truth is Truth.TRUE and placed.truth is Truth.TRUE)
    return frozenset(str(f.recorded or (f.period.start if f.period else f.reference)) for f in sure)


def _corroborated(findings: list[Finding], days: frozenset[str], rule: Has) -> list[Finding]:
    """A diagnosis that nobody verified may be a billing code to rule it out: it has to come back (rule R6)."""
    if len(days) >= rule.least_conditions:
        return findings
    return [_once(f) if "verification_missing" in f.match.fact.flags else f for f in findings]


def _once(finding: Finding) -> Finding:
    if finding.truth is not Truth.TRUE:
        return finding
    return replace(finding, truth=Truth.UNKNOWN, reason=Reason.POLICY)


def _finding(match: Match, placed: Placed) -> Finding:
    if placed.truth is Truth.FALSE:
        return Finding(match, Truth.UNKNOWN, Reason.POLICY, match.flags)
    truth = match.truth & placed.truth
    reason = None if truth is Truth.TRUE else first_reason((match.reason, placed.reason))
    return Finding(match, truth, reason, match.flags | placed.flags)


def _found(found: Sequence[Finding], rule: Has) -> Answer | None:
    if not found:
        return None
    truth = max((f.truth for f in found), key=lambda t: t.value)
    deciding = [f for f in found if f.truth is truth]
    best_rank = min(f.match.fact.rank for f in deciding)
    kind = rule.kind
    if truth is Truth.TRUE and all("order_only" in f.flags for f in deciding):
        kind = EvidenceKind.ORDER_ONLY
    shown = [f for f in deciding if f.match.fact.rank == best_rank]
    reason = first_reason(f.reason for f in deciding) if truth is Truth.UNKNOWN else None
    base = unknown(reason, "", wanted=_wanted(rule, reason)) if reason else Answer(truth, truth)
    flags = base.flags.union(*(f.flags - {"order_only"} for f in deciding))
    return Answer(
        truth, truth, reason, joined(_told(f) for f in shown),
        in_order(evidence_of(f.match.fact) for f in deciding), flags, kind if truth is Truth.TRUE else None,
        wanted=base.wanted,
    )  # fmt: skip


def _wanted(rule: Has, reason: Reason) -> str:
    """The day that is not set, where nothing else is missing."""
    if reason is not Reason.ANCHOR_MISSING or not isinstance(rule.timing, During):
        return ""
    return f"the day of {rule.timing.anchor.removesuffix('_date').replace('_', ' ')}"


def _told(finding: Finding) -> str:
    doubt = f" ({_DOUBT.get(finding.reason, str(finding.reason))})" if finding.reason else ""
    return f"{_named(finding.match.fact)}{doubt}"


def _named(fact: Fact) -> str:
    """What it is called, what it says, and when."""
    value = f": {shown(fact)}" if fact.value is not None and fact.value.shown else ""
    return f"{name_of(fact)}{value}, {'undated' if fact.period is None else fact.period.told}"


_DOUBT = {
    Reason.POLICY: "for a person to judge",
    Reason.PARTIAL_DATE: "the date is not exact enough",
    Reason.STATUS: "status leaves it open",
    Reason.ANCHOR_MISSING: "no date planned yet",
    Reason.MASKED: "masked in the record",
    Reason.NO_DATA: "a detail is not recorded",
}


def _absent(chart: Chart, rule: Has, denied: Sequence[Fact], older: Sequence[Fact]) -> Answer:
    what = rule.what or chart.vocabulary.label(rule.select.find)
    if gap := chart.record.gap(rule.select.kinds):
        return _incomplete(gap, what)
    uncoded = _uncoded(chart, rule)
    flags = {"unmapped_in_window"} if uncoded else set()
    if (rule.absence is not Absence.OPEN or rule.denial_settles) and rule.select.words is not None:
        hits = [(fact, word) for fact in uncoded if (word := rule.select.words.find(_texts(fact)))]
        if hits:
            return _worded(hits)
    denying = [*denied, *_denying(chart, rule)]
    if rule.absence is Absence.OPEN and not (denying and rule.denial_settles):
        told = none_on_record(what, rule.select.kinds)
        return unknown(Reason.NO_DATA, told, wanted=a_record_of(what)).with_flags(*flags)
    if denying:
        because = joined(f"{name_of(fact)}: an explicit no" for fact in denying)
        answer = no(because, [evidence_of(f) for f in denying], kind=EvidenceKind.EXPLICIT_NEGATIVE)
        return answer.with_flags(*flags)
    if rule.absence is Absence.CLOSED and not chart.tells:
        return untold(what)
    return _closed(chart, rule, what, older).with_flags(*flags)


def _worded(hits: Sequence[tuple[Fact, str]]) -> Answer:
    told = joined(f"{name_of(fact)} has no code that the mapping knows, but says “{word}”" for fact, word in hits)
    return unknown(Reason.UNMAPPED_CODE, told, [evidence_of(f) for f, _ in hits]).with_flags("unmapped_in_window")


def _incomplete(gap: Gap, what: str) -> Answer:
    because = f"whether there is {what} cannot be told: {gap.told}"
    return unknown(gap.reason, because)


def _closed(chart: Chart, rule: Has, what: str, older: Sequence[Fact]) -> Answer:
    window = window_of(chart, rule.timing)
    told = none_on_record(what, rule.select.kinds, looked_back(chart, rule.timing))
    if older:
        last = max(older, key=lambda f: (f.period.end.last if f.period else date.min, f.sort_key))
        when = f" {last.period.told}" if last.period else ""
        told = f"{name_of(last)}{when} {'is over' if isinstance(rule.timing, Now) else f'lies outside {window or _ASKED_FOR}'}"
    answer = no(told, kind=EvidenceKind.NO_EVIDENCE)
    began = chart.record.began
    if window is None or (began is not None and began < window.first):
        return answer
    depth = chart.closed_from_days
    if depth is None or (began is not None and began <= chart.on - timedelta(days=depth)):
        return answer.with_flags("record_depth_short")
    short = unknown(Reason.NO_DATA, f"{told}, but the record is shorter than {depth} days")
    return short.with_flags("record_depth_short").with_edges(_deep_enough(chart, rule.timing, began, depth))


def _deep_enough(chart: Chart, timing: Timing, began: date | None, depth: int) -> frozenset[date]:
    """The days on which the record is as deep as the site demands, or as the window reaches back."""
    if began is None or not isinstance(timing, During):
        return frozenset()
    moving = chart.moves(timing.anchor)
    return window_edges(Period.at(Span.on(began)), timing.length, moving=moving) | {began + timedelta(days=depth)}


def _uncoded(chart: Chart, rule: Has) -> list[Fact]:
    """Facts of the deciding types, in the window, whose code says nothing to the mapping."""
    nameless = _nameless(chart, rule)
    if rule.older is Truth.UNKNOWN:
        return nameless
    return [fact for fact in nameless if place(chart, fact, rule.timing).truth is not Truth.FALSE]


def _nameless(chart: Chart, rule: Has) -> list[Fact]:
    selector = rule.select
    if selector.words is None:
        return []
    return [
        fact
        for kind in sorted(selector.kinds)
        for fact in chart.record.by_kind.get(kind, ())
        if not fact.conclusive
        and fact.standing in (Standing.HOLDS, Standing.UNSURE)
        and not chart.future(fact)
        and part_of(fact.codings, selector) is None
        and not (rule.exempt and exempt(chart, fact, rule.exempt) is Truth.TRUE)
        and not any(holds_where(fact, where) is Truth.FALSE for where in selector.where)
    ]


def _edges_of_uncoded(chart: Chart, rule: Has) -> frozenset[date]:
    """A record whose words raise a question leaves the window one day as well."""
    words = rule.select.words
    worded = [fact for fact in _nameless(chart, rule) if words is not None and words.find(_texts(fact))]
    return frozenset[date]().union(*(place(chart, fact, rule.timing).edges for fact in worded))


def _texts(fact: Fact) -> tuple[str, ...]:
    return (*fact.texts, *(coding.code.display for coding in fact.codings if coding.code.display))


def _denying(chart: Chart, rule: Has) -> list[Fact]:
    if not rule.denies:
        return []
    said = matches(chart, Selector(rule.select.kinds, rule.denies))
    return [match.fact for match in said if match.truth is Truth.TRUE and match.fact.standing is Standing.HOLDS]


def _anchor_flags(chart: Chart, timing: Timing, answer: Answer) -> tuple[str, ...]:
    if not isinstance(timing, During) or timing.unset is not Unset.WASH_OUT or chart.anchor(timing.anchor) is not None:
        return ()
    return ("reassess_at_anchor",) if answer.truth is Truth.FALSE else ()

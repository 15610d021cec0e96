"""Which facts of a chart a selector means, and how surely each of them is meant (rules R5, R14, R18)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from enum import IntEnum

from fhir_screen.core.chart import Chart
from fhir_screen.core.dates import BEGINNING, END_OF_TIME
from fhir_screen.core.facts import Coding, Fact, Standing
from fhir_screen.core.rules import Exemption, Link, Selector, Where
from fhir_screen.core.truth import Reason, Truth, first_reason


class Part(IntEnum):
    """What a set is to a selector; the greater wins where codes of one length compete."""

    REVIEW = 1
    FIND = 2
    MINUS = 3
    NEVER = 4


@dataclass(frozen=True, slots=True)
class Match:
    """A fact that a selector means; UNKNOWN with its reason where that cannot be told."""

    fact: Fact
    truth: Truth
    reason: Reason | None = None
    flags: frozenset[str] = frozenset()


def part_of(codings: Iterable[Coding], selector: Selector) -> Part | None:
    """The part of one coded statement: in each coding the longest row decides, over all of them the more telling.

    Where one coding is meant and another is left out, the statement tells of both (a colon cancer with its metastasis),
    or says the same twice, once in general: a question.
    """
    parts = {part for coding in codings if (part := _part_of_coding(coding, selector)) is not None}
    if {Part.MINUS, Part.FIND} <= parts and Part.NEVER not in parts:
        return Part.REVIEW
    for telling in (Part.NEVER, Part.MINUS, Part.FIND, Part.REVIEW):
        if telling in parts:
            return telling
    return None


def _part_of_coding(coding: Coding, selector: Selector) -> Part | None:
    best: tuple[int, Part] | None = None
    for membership in coding.concepts:
        name = membership.concept
        if name in selector.never:
            return Part.NEVER
        part = (
            Part.MINUS if name in selector.minus
            else Part.REVIEW if name in selector.review
            else Part.FIND if name in selector.find
            else None
        )  # fmt: skip
        if part is not None and (best is None or (membership.length, part) > best):
            best = (membership.length, part)
    return best[1] if best else None


def matches(chart: Chart, selector: Selector) -> Iterator[Match]:
    """All facts that may be meant, denied and pending ones included; a fact that is surely not meant is left out."""
    for fact in candidates(chart, selector):
        if chart.future(fact) and not selector.planned:
            continue
        part = part_of(fact.codings, selector) if selector.find else Part.FIND
        if part not in (Part.FIND, Part.REVIEW):
            continue
        match = _match(chart, fact, part, selector)
        if match.truth is not Truth.FALSE:
            yield match


def candidates(chart: Chart, selector: Selector) -> list[Fact]:
    record = chart.record
    if selector.planned:
        return [fact for fact in record.planned if fact.kind in selector.kinds and not _passed(chart, fact)]
    if not selector.find and not selector.review:
        return [fact for kind in sorted(selector.kinds) for fact in record.by_kind.get(kind, ())]
    seen: dict[int, Fact] = {}
    for concept in sorted(selector.find | selector.review):
        for fact in record.by_concept.get(concept, ()):
            if fact.kind in selector.kinds:
                seen.setdefault(id(fact), fact)
    return sorted(seen.values(), key=lambda fact: fact.sort_key)


def _passed(chart: Chart, fact: Fact) -> bool:
    return fact.period is not None and fact.period.end.last < chart.on


def dated_ahead(chart: Chart, selectors: Iterable[Selector]) -> bool:
    """Whether something that one of these would mean is dated after the day of the screening: no evidence (rule R7)."""
    if not chart.ahead:
        return False
    asked = [selector for selector in selectors if not selector.planned]
    return any(
        fact.kind in selector.kinds and (not selector.find or part_of(fact.codings, selector) in (Part.FIND, Part.REVIEW))
        for fact in chart.ahead
        for selector in asked
    )


def _match(chart: Chart, fact: Fact, part: Part, selector: Selector) -> Match:
    doubts: list[tuple[Truth, Reason | None]] = []
    flags: set[str] = set()
    if fact.standing is Standing.UNSURE:
        doubts.append((Truth.UNKNOWN, fact.why_unsure))
    if part is Part.REVIEW:
        doubts.append((Truth.UNKNOWN, Reason.POLICY))
    doubts += [(holds_where(fact, where), _why_open(fact, where)) for where in selector.where]
    doubts += [(_linked(chart, fact, link), Reason.NO_DATA) for link in selector.links]
    if selector.unlinked and fact.links.get(selector.unlinked):
        doubts.append((Truth.FALSE, None))
    if selector.valued:
        doubts.append(_valued(fact, selector))
    if selector.states:
        doubts.append((Truth.of(bool(fact.states & selector.states)), None) if fact.states else _NO_STATE)
    if fact.states & selector.doubtful_states:
        doubts.append((Truth.UNKNOWN, Reason.POLICY))
        flags.add(selector.doubt_flag or "needs_confirmation")
    if selector.doubtful_words is not None and selector.doubtful_words.find(sorted(drug_names(fact))):
        doubts.append((Truth.UNKNOWN, Reason.POLICY))
    if selector.end_recorded and (fact.period is None or fact.period.end.last == END_OF_TIME):
        doubts.append((Truth.UNKNOWN, Reason.NO_DATA))
    if selector.other_study:
        doubts.append(_other_study(chart, fact))
    if any(truth is Truth.FALSE for truth, _ in doubts):
        return Match(fact, Truth.FALSE)
    reason = first_reason(reason for truth, reason in doubts if truth is Truth.UNKNOWN)
    return Match(fact, Truth.TRUE if reason is None else Truth.UNKNOWN, reason, fact.flags | flags)


_NO_STATE = (Truth.UNKNOWN, Reason.STATUS)


def carried_out(found: Iterable[Match]) -> list[Match]:
    """Without the orders of which the record tells what became of them: an intake before an order (rule R15).

    An order that reaches, or may reach, beyond the last intake told of is a question: one administration says nothing of
    the next, and a statement that has ended contradicts it. Of one that is over and has no end, the intakes tell all.
    """
    listed = list(found)
    told = [m.fact for m in listed if _ORDER not in m.fact.flags and m.fact.standing is Standing.HOLDS]
    return [left for m in listed if (left := _left_of_order(m, told) if _ORDER in m.fact.flags else m) is not None]


_ORDER = "order_only"
_ADMINISTERED = 1
"""The rank of an administration."""


def _left_of_order(order: Match, told: Iterable[Fact]) -> Match | None:
    intakes = [fact for fact in told if _tells_of(fact, order.fact)]
    if not intakes:
        return order
    if _reach(order.fact) <= max(p.end.last for f in intakes if (p := f.period)):
        return None
    given = all(fact.rank == _ADMINISTERED for fact in intakes)
    reason = first_reason((order.reason, Reason.NO_DATA if given else Reason.CONFLICTING))
    return Match(order.fact, Truth.UNKNOWN, reason, order.flags | (frozenset() if given else {"conflicting"}))


def _reach(order: Fact) -> date:
    """The last day that an order may speak of."""
    if order.period is None:
        return BEGINNING
    end = order.period.end
    return end.first if end.last == END_OF_TIME else end.last


def _tells_of(intake: Fact, order: Fact) -> bool:
    """Whether an intake is one of the drug and of the time of an order."""
    if intake.period is None or order.period is None or not drug_names(intake) & drug_names(order):
        return False
    return intake.period.start.first <= order.period.end.last and intake.period.end.last >= order.period.start.first


def drug_names(fact: Fact) -> frozenset[str]:
    """All that a drug is called by, in codes and in words."""
    codes = {str(coding.code) for coding in fact.codings}
    words = {coding.code.display.lower() for coding in fact.codings} | {text.lower() for text in fact.texts}
    return frozenset(codes | words) - {""}


def not_exempt(chart: Chart, found: Iterable[Match], exemption: Exemption | None) -> list[Match]:
    """Without what belongs to the trial itself; what only speaks of the trial is a question."""
    if exemption is None:
        return list(found)
    judged = [(match, exempt(chart, match.fact, exemption)) for match in found]
    return [_questioned(m) if of_trial is Truth.UNKNOWN else m for m, of_trial in judged if of_trial is not Truth.TRUE]


def _questioned(match: Match) -> Match:
    return replace(match, truth=match.truth & Truth.UNKNOWN, reason=first_reason((match.reason, Reason.POLICY)))


def exempt(chart: Chart, fact: Fact, exemption: Exemption) -> Truth:
    """Whether the fact belongs to the trial itself: by its study, by its day, or because it is called like its product.

    A text that names the trial somewhere ("bridging before CT-SP") does not say so.
    """
    if any(coding.code.code.casefold() in chart.study for coding in fact.facets.get("study", ())):
        return Truth.TRUE
    since = chart.anchor(exemption.after) if exemption.after else None
    if since is not None and fact.period is not None and fact.period.start.first >= since:
        return Truth.TRUE
    named = [_named(text, name) for text in drug_names(fact) for name in chart.study]
    return max(named, key=lambda truth: truth.value, default=Truth.FALSE)


def _named(text: str, name: str) -> Truth:
    """TRUE for the name alone, or with what kind of thing it is behind a comma."""
    own = re.escape(name)
    if re.fullmatch(rf"{own}(?:\s*[,;:(].*)?", text.strip(), re.DOTALL):
        return Truth.TRUE
    return Truth.of(re.search(rf"(?<!\w){own}(?!\w)", text) is not None) & Truth.UNKNOWN


def holds_where(fact: Fact, where: Where) -> Truth:
    """Whether a further coding of the fact is one that the rule asks for."""
    codings = [one for one in fact.facets.get(where.facet, ()) if not one.beside & where.not_beside]
    if not codings:
        return Truth.UNKNOWN if fact.concepts & where.doubtful else where.missing
    if any(coding.names & where.concepts for coding in codings):
        mixed = any(not coding.names & where.concepts and (coding.conclusive or coding.concepts) for coding in codings)
        return where.mixed if mixed and where.mixed is not None else where.matched
    if any(coding.names & where.against for coding in codings):
        return Truth.FALSE
    if where.words is not None:
        return Truth.UNKNOWN if where.words.find(coding.code.display for coding in codings) else where.otherwise
    telling = where.matched is not Truth.TRUE or any(coding.conclusive or coding.concepts for coding in codings)
    return where.otherwise if telling else Truth.UNKNOWN


def _why_open(fact: Fact, where: Where) -> Reason:
    """What is on record and was made a question is handed to a person; what is not on record is missing."""
    said = any(coding.names & where.concepts for coding in fact.facets.get(where.facet, ()))
    return Reason.POLICY if said and Truth.UNKNOWN in (where.matched, where.mixed) else Reason.NO_DATA


def _linked(chart: Chart, fact: Fact, link: Link) -> Truth:
    references = fact.links.get(link.role, ())
    if not references:
        return link.missing
    targets = [target for reference in references for target in chart.record.by_reference.get(reference, ())]
    if link.to_instance and chart.instance is not None:
        return Truth.of(chart.instance.reference in references) if targets else link.missing
    if any(target.concepts & link.concepts for target in targets):
        return Truth.TRUE
    if not targets:
        return link.missing
    return Truth.UNKNOWN if any(not target.conclusive and not target.concepts for target in targets) else Truth.FALSE


def _valued(fact: Fact, selector: Selector) -> tuple[Truth, Reason | None]:
    if fact.value is None or fact.value.absent:
        return selector.unvalued, Reason.NO_DATA
    if any(coding.names & selector.valued for coding in fact.value.codings):
        return Truth.TRUE, None
    return Truth.FALSE, None


def _other_study(chart: Chart, fact: Fact) -> tuple[Truth, Reason | None]:
    names = {name.casefold() for name in (*(coding.code.code for coding in fact.codings), *fact.texts)}
    if names & chart.study:
        return Truth.FALSE, None
    return (Truth.TRUE, None) if names else (Truth.UNKNOWN, Reason.NO_DATA)

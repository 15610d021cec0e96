"""Puts a rule to a chart: one case for each construct of the language, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from fractions import Fraction
from typing import assert_never

from fhir_screen.core.answers import (
    Answer,
    Evidence,
    EvidenceKind,
    all_of,
    any_of,
    joined,
    merged,
    no,
    not_applicable,
    unknown,
    yes,
)
from fhir_screen.core.chart import Chart, evidence_of, name_of
from fhir_screen.core.dates import BEGINNING, Span, birthday
from fhir_screen.core.dosing import evaluate_daily_dose
from fhir_screen.core.existence import beyond, evaluate_has, evaluate_says
from fhir_screen.core.measuring import evaluate_measure
from fhir_screen.core.quantities import interval_text
from fhir_screen.core.ranges import age_between
from fhir_screen.core.results import evaluate_result
from fhir_screen.core.rules import (
    Age,
    Agree,
    All,
    Any,
    AppliesWhen,
    Ask,
    AtLeast,
    AtomRef,
    Coded,
    Constant,
    DailyDose,
    Decide,
    Doubt,
    Flagged,
    Has,
    InstanceIs,
    InstanceState,
    Judged,
    Measure,
    Not,
    Result,
    Review,
    Rule,
    Says,
    Selector,
    Several,
    Sex,
    Stable,
    Then,
    Unless,
)
from fhir_screen.core.selecting import Part, part_of
from fhir_screen.core.sequences import evaluate_stable, evaluate_then
from fhir_screen.core.severals import evaluate_several
from fhir_screen.core.truth import Reason, Truth, first_reason
from fhir_screen.core.walk import leaves, only_atoms


def evaluate(chart: Chart, rule: Rule) -> Answer:
    """The answer of a chart to a rule. Pure: the same chart gives the same answer."""
    match rule:
        case Has():
            return evaluate_has(chart, rule)
        case Says():
            return evaluate_says(chart, rule)
        case Measure():
            return evaluate_measure(chart, rule)
        case Result():
            return evaluate_result(chart, rule)
        case DailyDose():
            return evaluate_daily_dose(chart, rule)
        case Then():
            return evaluate_then(chart, rule)
        case Stable():
            return evaluate_stable(chart, rule)
        case Several():
            return evaluate_several(chart, rule)
        case Age():
            return _age(chart, rule)
        case Sex(is_):
            return _sex(chart, is_)
        case InstanceIs():
            return _instance_is(chart, rule)
        case InstanceState(states):
            return _instance_state(chart, states)
        case All(rules):
            return all_of([evaluate(chart, part) for part in rules])
        case Any(rules):
            return any_of([evaluate(chart, part) for part in rules])
        case Not(part):
            return ~evaluate(chart, part)
        case AtLeast(count, rules):
            return at_least(count, [evaluate(chart, part) for part in rules])
        case Agree(rules, flag):
            return agree([evaluate(chart, part) for part in rules], flag)
        case Decide():
            return _decide(chart, rule)
        case Unless():
            return _unless(chart, rule)
        case AppliesWhen(condition, part):
            applies = evaluate(chart, condition)
            if applies.truth is Truth.FALSE:
                return not_applicable(by_answers(condition, applies)).with_edges(applies.edges)
            return _if_it_applies(applies, evaluate(chart, part))
        case Coded(part):
            answer = evaluate(chart, part)
            return replace(answer, firm=answer.truth)
        case Judged(part, found_only):
            answer = evaluate(chart, part)
            return answer if found_only and answer.truth is not Truth.TRUE else answer.withheld()
        case Flagged(part, flag, when, truth):
            answer = evaluate(chart, part)
            return answer.with_flags(flag) if evaluate(chart, when).truth is truth else answer
        case Review(part, because):
            answer = evaluate(chart, part)
            if answer.truth is not Truth.TRUE:
                return answer
            return _doubted(answer, Reason.POLICY, because)
        case Doubt(part, because, unless):
            answer = evaluate(chart, part)
            if answer.truth is not Truth.FALSE or (unless is not None and evaluate(chart, unless).truth is Truth.TRUE):
                return answer
            return _doubted(answer, Reason.NO_DATA, because)
        case AtomRef(id_):
            return answer_of(chart, id_)
        case Ask(question):
            return unknown(Reason.MANUAL, question)
        case Constant(truth, because):
            return Answer(truth, truth, None, because)
        case _:
            assert_never(rule)


def answer_of(chart: Chart, atom: str) -> Answer:
    """The answer of another atom of the trial, computed once a chart."""
    if atom not in chart.memo:
        chart.memo[atom] = evaluate(chart, chart.rules[atom])
    return chart.memo[atom]


def by_answers(condition: Rule, answer: Answer) -> str:
    """Why a condition is false: the atoms that answer it, which stand beside it anyway, or what was found."""
    atoms = only_atoms(condition)
    return f"by the answer{'s' if len(atoms) > 1 else ''} to {' and '.join(atoms)}" if atoms else answer.because


def _if_it_applies(applies: Answer, answer: Answer) -> Answer:
    """Where it is not known either whether the question arises, the reason for that counts as well."""
    told = joined((answer.because, applies.because))
    if Truth.UNKNOWN is applies.truth is answer.truth:
        reason = first_reason((applies.reason, answer.reason)) or Reason.NO_DATA
        open_ = unknown(reason, told, merged((answer, applies)), wanted=joined((answer.wanted, applies.wanted)))
        return open_.with_flags(*answer.flags).with_edges(answer.edges | applies.edges)
    if answer.truth is Truth.TRUE and answer.kind is EvidenceKind.NO_EVIDENCE:
        # true since nothing speaks against it: it stands on what made the question arise
        answer = replace(answer, because=told, evidence=merged((answer, applies)), kind=applies.kind)
    return answer.with_edges(applies.edges)


def _doubted(answer: Answer, reason: Reason, because: str) -> Answer:
    told = joined((answer.because, because))
    return unknown(reason, told, answer.evidence).with_flags(*answer.flags).with_edges(answer.edges)


def at_least(count: int, answers: Sequence[Answer]) -> Answer:
    """TRUE where enough are true, FALSE where too few still can be."""
    applicable = [a for a in answers if a.truth is not None]
    if not applicable:
        return not_applicable("none of them applies")
    true = [a for a in applicable if a.truth is Truth.TRUE]
    possible = [a for a in applicable if a.truth is not Truth.FALSE]
    base = any_of(applicable)
    firm_true = sum(a.firm is Truth.TRUE for a in applicable)
    firm_possible = sum(a.firm is not Truth.FALSE for a in applicable)
    firm = Truth.TRUE if firm_true >= count else Truth.FALSE if firm_possible < count else Truth.UNKNOWN
    told = f"{len(true)} of {len(answers)}: {joined(a.because for a in (true or applicable))}"
    if len(true) >= count:
        return replace(base, truth=Truth.TRUE, firm=firm, reason=None, because=told, evidence=merged(true))
    if len(possible) < count:
        return replace(base, truth=Truth.FALSE, firm=firm, reason=None, because=told, evidence=merged(applicable))
    open_ = any_of([a for a in applicable if a.truth is Truth.UNKNOWN])
    return replace(base, truth=Truth.UNKNOWN, firm=Truth.UNKNOWN, reason=open_.reason, because=told, kind=None)


def agree(answers: Sequence[Answer], flag: str) -> Answer:
    """Both, or neither; where one side stands alone the protocol's "and" is a question for a person."""
    applicable = [a for a in answers if a.truth is not None]
    truths = {a.truth for a in applicable}
    whole = all_of(applicable) if truths == {Truth.TRUE} else any_of(applicable)
    if len(truths) == 1:
        firms = {a.firm for a in applicable}
        return replace(whole, firm=firms.pop() if len(firms) == 1 else Truth.UNKNOWN)
    lone = truths == {Truth.TRUE, Truth.FALSE}
    open_ = any_of([a for a in applicable if a.truth is Truth.UNKNOWN]) if not lone else whole
    reason = Reason.POLICY if lone else open_.reason or Reason.POLICY
    told = joined(a.because for a in applicable)
    answer = unknown(reason, told, merged(applicable), wanted=open_.wanted)
    answer = answer.with_edges(whole.edges).with_flags(*whole.flags)
    return answer.with_flags(flag) if sum(a.truth is Truth.TRUE for a in applicable) == 1 else answer


def _decide(chart: Chart, rule: Decide) -> Answer:
    shown = evaluate(chart, rule.shown_by)
    if shown.truth is not Truth.FALSE:
        return shown
    out = evaluate(chart, rule.ruled_out_by)
    if out.truth is Truth.TRUE:
        negative = replace(~out, kind=out.kind)
        return negative.with_flags(*shown.flags).with_edges(shown.edges)
    told = out.because if out.truth is Truth.UNKNOWN and out.because else f"nothing on record shows or rules out {rule.what}"
    reason = out.reason if out.truth is Truth.UNKNOWN and out.reason else Reason.NO_DATA
    evidence = out.evidence or shown.evidence
    open_ = unknown(reason, told, evidence, wanted=out.wanted or shown.wanted)
    return open_.with_flags(*shown.flags).with_edges(shown.edges | out.edges)


def _unless(chart: Chart, rule: Unless) -> Answer:
    answer = evaluate(chart, rule.rule)
    if answer.truth is Truth.FALSE or answer.truth is None:
        return answer
    taken_back = evaluate(chart, rule.unless)
    if taken_back.truth is Truth.TRUE and answer.reason not in _NOT_TAKEN_BACK:
        if (further := _further(chart, rule.rule)) is not None:
            return further.with_edges(answer.edges | taken_back.edges)
        flags = (rule.flag,) if rule.flag else ()
        kind = taken_back.kind or EvidenceKind.POSITIVE
        withdrawn = no(taken_back.because, taken_back.evidence, kind=kind).with_flags(*answer.flags, *flags)
        return withdrawn.with_edges(answer.edges | taken_back.edges)
    if answer.truth is Truth.TRUE and taken_back.truth is Truth.UNKNOWN and taken_back.reason not in _DOES_NOT_TELL:
        told = joined((answer.because, f"unless taken back: {taken_back.because}"))
        open_ = unknown(taken_back.reason or Reason.NO_DATA, told, answer.evidence).with_flags(*answer.flags)
        return open_.with_edges(answer.edges | taken_back.edges)
    return answer.with_edges(taken_back.edges)


def _further(chart: Chart, rule: Rule) -> Answer | None:
    """What may be there of the same finding beyond what was taken back: unread, masked, or without a code that anybody knows."""
    rests = (beyond(chart, leaf) for leaf in leaves(rule) if isinstance(leaf, Has))
    return next((rest for rest in rests if rest.truth is Truth.UNKNOWN and rest.reason in _NOT_TAKEN_BACK), None)


_NOT_TAKEN_BACK = (Reason.INCOMPLETE_FETCH, Reason.MASKED, Reason.UNMAPPED_CODE, Reason.STATUS)
"""Of what nobody read, coded or confirmed, nobody knows whether it came before what takes it back."""

_DOES_NOT_TELL = (Reason.NO_DATA, Reason.STALE)
"""Nothing that could take a finding back, or something too old to. All else that is unknown may do so."""


def _age(chart: Chart, rule: Age) -> Answer:
    born = chart.record.person.born
    at = chart.anchor(rule.anchor) or chart.on
    if born is None:
        return unknown(Reason.NO_DATA, "no birth date on record")
    if born.first > chart.on:
        return unknown(Reason.NO_DATA, "the birth date on record lies ahead").with_edges({born.first})
    years = age_between(born, Span.on(at))
    truth = years.compare(rule.relation, Fraction(rule.years))
    person = chart.record.person
    evidence = [Evidence(person.source, person.version, "", f"age {interval_text(years)}", "")]
    because = f"age {interval_text(years)} on {at.isoformat()}"
    edges = _birthdays(born, rule.years) if chart.moves(rule.anchor) or rule.anchor not in chart.anchors else frozenset[date]()
    if truth is Truth.UNKNOWN:
        return unknown(Reason.PARTIAL_DATE, f"{because}, by an inexact birth date", evidence).with_edges(edges)
    return (yes if truth is Truth.TRUE else no)(because, evidence).with_edges(edges)


def _birthdays(born: Span, years: int) -> frozenset[date]:
    if born.first == BEGINNING:
        return frozenset[date]()
    return frozenset(birthday(day, years + more) for day in (born.first, born.last) for more in (0, 1))


def _sex(chart: Chart, asked: str) -> Answer:
    person = chart.record.person
    if person.sex not in ("male", "female"):
        return unknown(Reason.NO_DATA, "sex not recorded as male or female")
    evidence = [Evidence(person.source, person.version, "", person.sex, "")]
    return (yes if person.sex == asked else no)(person.sex, evidence)


def _instance_is(chart: Chart, rule: InstanceIs) -> Answer:
    fact = chart.instance
    if fact is None:
        return not_applicable("nothing to except")
    selector = Selector(frozenset({fact.kind}), rule.find, review=rule.review, never=rule.never)
    told, evidence = name_of(fact), [evidence_of(fact)]
    match part_of(fact.codings, selector):
        case Part.FIND:
            return yes(told, evidence)
        case Part.REVIEW:
            return unknown(Reason.POLICY, f"{told} (for a person to judge)", evidence)
        case Part.NEVER | Part.MINUS:
            return no(told, evidence)
        case None:
            if fact.conclusive:
                return no(told, evidence)
            return unknown(Reason.UNMAPPED_CODE, f"{told} has no code that tells", evidence)


def _instance_state(chart: Chart, states: frozenset[str]) -> Answer:
    fact = chart.instance
    if fact is None:
        return not_applicable("nothing to except")
    if not fact.states:
        return unknown(Reason.NO_DATA, f"{name_of(fact)}: clinical status not recorded", [evidence_of(fact)])
    stated = ", ".join(sorted(fact.states))
    answer = yes if fact.states & states else no
    return answer(f"{name_of(fact)} recorded as {stated}", [evidence_of(fact)], kind=EvidenceKind.POSITIVE)

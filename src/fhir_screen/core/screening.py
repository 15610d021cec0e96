"""Puts every criterion of a trial to one patient's record, and decides (contract, row `verdict`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date

from fhir_screen.core.answers import Answer, Evidence, any_of, no, not_applicable, unknown, yes
from fhir_screen.core.chart import Chart, Vocabulary
from fhir_screen.core.dates import END_OF_TIME
from fhir_screen.core.decision import AtomClass, AtomResult, Change, CriterionResult, Decision, Effect, Role, Verdict
from fhir_screen.core.evaluating import by_answers, evaluate
from fhir_screen.core.existence import evaluate_has, instances, remainder
from fhir_screen.core.facts import Fact, PatientRecord
from fhir_screen.core.rules import named_instances
from fhir_screen.core.selecting import dated_ahead
from fhir_screen.core.trials import Atom, Criterion, Trial
from fhir_screen.core.truth import Reason, Truth
from fhir_screen.core.walk import polarities, selectors


@dataclass(frozen=True, slots=True)
class _Asked:
    """The answers to one criterion's atoms on one day, and the criterion's own."""

    atoms: Mapping[str, Answer]
    whole: Answer


def screen(
    trial: Trial, record: PatientRecord, vocabulary: Vocabulary, on: date, anchors: Mapping[str, date] | None = None
) -> Decision:
    """Screens one patient for one trial. ``on`` is the screening date, ``anchors`` the days that are known.

    Pure: the same record, trial, day and anchors give the same decision, whoever else is screened.
    """
    if trial.takes_preliminary:
        record = record.with_preliminary()
    names = frozenset(name.casefold() for name in trial.names)
    chart = Chart(record, on, on, dict(anchors or {}), vocabulary, trial.rules, names, trial.closed_from_days)
    chart = replace(chart, ahead=tuple(fact for fact in record.facts if chart.future(fact)))
    criteria = tuple(_criterion_result(chart, criterion) for criterion in trial.criteria)
    deceased = record.person.dead_by(on)
    death = record.person.death
    told = f"deceased {death.told}" if death is not None else "deceased, without a date"
    changes = [atom.changes_on for criterion in criteria for atom in criterion.atoms if atom.changes_on]
    return Decision(
        trial.identity,
        f"Patient/{record.patient}",
        on,
        _truth_of(criteria, trial.population),
        Verdict.NOT_ELIGIBLE if deceased else _verdict(criteria),
        criteria,
        "deceased" if deceased else None,
        min(changes, default=None),
        Evidence(record.person.source, record.person.version, "", told, str(death or "")) if deceased else None,
    )


def _truth_of(criteria: Iterable[CriterionResult], atom_id: str) -> Truth:
    for criterion in criteria:
        for atom in criterion.atoms:
            if atom.id == atom_id:
                return Truth.UNKNOWN if atom.answer.truth is None else atom.answer.truth
    raise KeyError(atom_id)


def _verdict(criteria: Iterable[CriterionResult]) -> Verdict:
    results = list(criteria)
    if any(c.effect is Effect.BLOCKS for c in results):
        return Verdict.NOT_ELIGIBLE
    return Verdict.NEEDS_REVIEW if any(c.open_question for c in results) else Verdict.LIKELY_ELIGIBLE


def _criterion_result(chart: Chart, criterion: Criterion) -> CriterionResult:
    asked = _ask(chart, criterion)
    changes = _changes(chart, criterion, asked)
    effect = _effect(criterion.role, asked.whole)
    atoms = tuple(_atom_result(chart, atom, asked.atoms[atom.id], changes.get(atom.id)) for atom in criterion.atoms)
    open_question = effect is not Effect.BLOCKS and _keeps_open(chart, criterion, asked, atoms)
    return CriterionResult(
        criterion.id, criterion.role, criterion.text, asked.whole, effect, atoms, open_question, criterion.text_ko
    )  # fmt: skip


def _atom_result(chart: Chart, atom: Atom, answer: Answer, change: Change | None) -> AtomResult:
    shown = answer.with_flags("needs_confirmation") if answer.judged else answer
    if dated_ahead(chart, selectors(atom.rule)):
        shown = shown.with_flags("dated_ahead")
    if shown.kind is not None and shown.truth is not None and shown.kind.value != "positive":
        shown = shown.with_flags(shown.kind.value)
    hints = tuple(h.text for h in atom.hints if h.rule is None or evaluate(chart, h.rule).truth is Truth.TRUE)
    asked = answer.reason is Reason.MANUAL
    return AtomResult(
        atom.id, atom.text, atom.question, atom.atom_class, shown, asked, hints, change, atom.text_ko, atom.question_ko
    )  # fmt: skip


def _ask(chart: Chart, criterion: Criterion) -> _Asked:
    if criterion.each is not None:
        return _ask_each(chart, criterion, criterion.each)
    answers = {atom.id: _answer(chart, atom) for atom in criterion.atoms}
    return _Asked(answers, _whole(chart, criterion, answers))


def _whole(chart: Chart, criterion: Criterion, answers: Mapping[str, Answer]) -> Answer:
    return evaluate(replace(chart, memo=chart.memo | dict(answers)), criterion.formula)


def _answer(chart: Chart, atom: Atom) -> Answer:
    if atom.asked_when is not None:
        guard = evaluate(chart, atom.asked_when)
        if guard.truth is Truth.FALSE or guard.truth is None:
            answer = not_applicable(f"not asked: {by_answers(atom.asked_when, guard)}").with_edges(guard.edges)
        elif guard.truth is Truth.UNKNOWN:
            reason = guard.reason or Reason.NO_DATA
            answer = unknown(reason, f"not asked yet: {guard.because}", wanted=guard.wanted).with_edges(guard.edges)
        else:
            answer = evaluate(chart, atom.rule).with_edges(guard.edges)
    else:
        answer = evaluate(chart, atom.rule)
    chart.memo[atom.id] = answer
    return answer


def _ask_each(chart: Chart, criterion: Criterion, each: str) -> _Asked:
    """One malignancy after the other: an exception excuses only the one it is about (rule R1, per instance)."""
    rule, further = named_instances(chart.rules[each])
    others = [evaluate(chart, part) for part in further]
    overall = any_of([evaluate_has(chart, rule), *others])
    chart.memo[each] = overall
    rows = [_about(chart, criterion, each, fact, answer) for fact, answer in instances(chart, rule)]
    beyond = any_of([remainder(chart, rule), *others])
    if not rows:
        missing = not_applicable("nothing to except")
        if overall.truth is Truth.UNKNOWN:
            missing = unknown(overall.reason or Reason.NO_DATA, overall.because)
        excused = {atom.id: missing for atom in criterion.atoms if atom.id != each}
        return _Asked({each: overall, **excused}, overall)
    deciding = max(rows, key=lambda row: (row.rank, row.latest))
    whole = any_of([*(row.whole for row in rows), beyond])
    if overall.truth is Truth.FALSE:
        shown = {atom.id: not_applicable("nothing to except") for atom in criterion.atoms}
    else:
        shown = dict(deciding.atoms)
    edges = frozenset[date]().union(*(a.edges for row in rows for a in row.atoms.values()))
    answers = {key: answer.with_edges(edges) for key, answer in shown.items()}
    return _Asked({**answers, each: overall.with_edges(edges)}, whole.with_flags(*overall.flags))


@dataclass(frozen=True, slots=True)
class _Row:
    atoms: Mapping[str, Answer]
    whole: Answer
    latest: tuple[date, str]

    @property
    def rank(self) -> int:
        return -1 if self.whole.truth is None else self.whole.truth.value


def _about(chart: Chart, criterion: Criterion, each: str, fact: Fact, answer: Answer) -> _Row:
    here = chart.about(fact)
    here.memo[each] = answer
    answers = {each: answer}
    for atom in criterion.atoms:
        if atom.id != each:
            answers[atom.id] = _answer(here, atom)
    begun = fact.period.start.last if fact.period else date.min
    return _Row(
        answers, evaluate(here, criterion.formula), (begun if begun < END_OF_TIME else date.min, fact.reference)
    )


def _effect(role: Role, answer: Answer) -> Effect:
    """An answer that rests on a proxy never blocks; one that supports, supports (rule R17)."""
    blocking = Truth.FALSE if role is Role.INCLUSION else Truth.TRUE
    if answer.truth is None or answer.truth is ~blocking:
        return Effect.SUPPORTS
    if answer.truth is blocking and answer.firm is blocking:
        return Effect.BLOCKS
    return Effect.UNDETERMINED


def _keeps_open(chart: Chart, criterion: Criterion, asked: _Asked, atoms: Iterable[AtomResult]) -> bool:
    manual = {atom.id for atom in atoms if atom.asked}
    guarded = {atom.id for atom in criterion.atoms if atom.asked_when is not None}
    if manual & guarded:
        return True
    favoured = {id_: answer for id_ in manual if (answer := _favourable(criterion, id_)) is not None}
    if _effect(criterion.role, _substituted(chart, criterion, asked, favoured)) is not Effect.SUPPORTS:
        return True
    left_out = {id_: not_applicable("left to a person") for id_ in manual}
    without = _substituted(chart, criterion, asked, left_out)
    return criterion.role is Role.EXCLUSION and without.truth is Truth.TRUE


def _substituted(chart: Chart, criterion: Criterion, asked: _Asked, answers: Mapping[str, Answer]) -> Answer:
    if not answers:
        return asked.whole
    return _whole(chart, criterion, {**asked.atoms, **answers})


def _favourable(criterion: Criterion, atom_id: str) -> Answer | None:
    """The answer of a person that helps the patient: it depends on the role, and on a `not` above the atom.

    None where one part of the formula wants a yes and another a no.
    """
    ways = polarities(criterion.formula, atom_id)
    if len(ways) > 1:
        return None
    helps = (criterion.role is Role.INCLUSION) is (ways != {False})
    return (yes if helps else no)("answered in the patient's favour")


def _changes(chart: Chart, criterion: Criterion, today: _Asked) -> dict[str, Change]:
    """For each atom the first later day on which its truth is another, with the record as it is."""
    if all(atom.atom_class is AtomClass.MANUAL and atom.asked_when is None for atom in criterion.atoms):
        return {}
    days = sorted({day for answer in today.atoms.values() for day in answer.edges if chart.on < day < END_OF_TIME})
    found: dict[str, Change] = {}
    for day in days:
        later = _ask(chart.tomorrow(day), criterion)
        for atom_id, answer in later.atoms.items():
            if atom_id not in found and answer.truth is not today.atoms[atom_id].truth:
                found[atom_id] = Change(day, answer.truth)
        if len(found) == len(today.atoms):
            break
    return found

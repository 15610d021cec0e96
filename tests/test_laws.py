"""What holds for every chart and both trials: order, repetition, refinement, unrelated records, evidence, time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_screen.core.decision import AtomResult, Decision, Effect
from fhir_screen.core.facts import PatientRecord
from fhir_screen.core.screening import screen
from fhir_screen.core.truth import Truth, text_of
from fhir_screen.fhir.reader import read
from generated import TODAY, Chart, Json, blurred, charts, coded, decided, raw, study

TRIALS = {trial.id: trial for trial in study().trials}
# More examples than a quick round draws: FHIR_SCREEN_EXAMPLES=1000.
ON_BOTH = pytest.mark.parametrize("trial", sorted(TRIALS))
COSTLY = settings(
    deadline=None,
    max_examples=int(os.environ.get("FHIR_SCREEN_EXAMPLES", "25")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def screened(trial: str, chart: Chart, on: date = TODAY) -> Decision:
    return decided(TRIALS[trial], chart, on)


def atoms(decision: Decision) -> Iterator[AtomResult]:
    for criterion in decision.criteria:
        yield from criterion.atoms


def truths(decision: Decision) -> dict[str, Truth | None]:
    return {a.id: a.answer.truth for a in atoms(decision)} | {c.id: c.answer.truth for c in decision.criteria}


def told(decision: Decision) -> dict[str, str]:
    return {key: text_of(truth) for key, truth in truths(decision).items()}


@ON_BOTH
@COSTLY
@given(st.data())
def test_the_order_of_what_is_on_record_changes_nothing(trial: str, data: st.DataObject) -> None:
    chart = data.draw(charts())
    shuffled = chart.with_resources(data.draw(st.permutations(chart.resources)))
    before, after = screened(trial, chart), screened(trial, shuffled)
    assert after == before
    assert after.digest == before.digest


@ON_BOTH
@COSTLY
@given(st.data())
def test_saying_a_thing_twice_changes_nothing(trial: str, data: st.DataObject) -> None:
    chart = data.draw(charts())
    terms = study().terms
    record = read(raw(chart), study().shapes, terms, TRIALS[trial].zone)
    size = len(record.facts)
    picked = data.draw(st.permutations([*range(size), *data.draw(st.lists(st.integers(0, size - 1), max_size=5))]))
    repeated = PatientRecord.of(
        record.patient, record.person, tuple(replace(record.facts[n]) for n in picked), record.gaps
    )
    before = screen(TRIALS[trial], record, terms.vocabulary, TODAY)
    after = screen(TRIALS[trial], repeated, terms.vocabulary, TODAY)
    assert after == before
    assert after.digest == before.digest


@ON_BOTH
@COSTLY
@given(charts())
def test_screening_twice_gives_the_same_bytes(trial: str, chart: Chart) -> None:
    def said() -> bytes:
        decision = screened(trial, chart)
        return repr(
            [decision.digest, told(decision), [sorted(a.flags) for a in atoms(decision)], decision.criteria[0]]
        ).encode()

    assert said() == said()


@ON_BOTH
@COSTLY
@given(st.data())
def test_learning_more_never_overturns_a_definite_answer(trial: str, data: st.DataObject) -> None:
    known = data.draw(charts())
    vague = data.draw(blurred(known))
    before, after = screened(trial, vague), screened(trial, known)
    shown_for_one = shown_per_instance(trial)
    overturned = {
        key: f"{text_of(truth)} -> {text_of(truths(after)[key])}"
        for key, truth in truths(before).items()
        if truth in (Truth.TRUE, Truth.FALSE) and truths(after)[key] is not truth and key not in shown_for_one
    }
    assert overturned == {}, _shown(vague, known, before, after, overturned)


def shown_per_instance(trial: str) -> set[str]:
    """Exceptions are printed for the one malignancy that decides (rule R1): with more known, that is another one."""
    each = [criterion for criterion in TRIALS[trial].criteria if criterion.each is not None]
    return {atom.id for criterion in each for atom in criterion.atoms if atom.id != criterion.each}


def _shown(vague: Chart, known: Chart, before: Decision, after: Decision, overturned: dict[str, str]) -> str:
    lines = [f"{vague.patient['birthDate']} -> {known.patient['birthDate']}, gaps {vague.gaps}"]
    lines += [json.dumps(r) for r in vague.resources] + ["->"] + [json.dumps(r) for r in known.resources]
    for decision in (before, after):
        lines += [
            f"{a.id}: {text_of(a.answer.truth)} {a.answer.because}" for a in atoms(decision) if a.id in overturned
        ]
    return "\n".join(lines)


def _test(id_: str, concept: str, answer: str, day: str) -> Json:
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": _concept(concept),
        "effectiveDateTime": day,
        "valueCodeableConcept": _concept(answer),
    }


def _concept(name: str) -> Json:
    system, code = coded(name)[0]
    return {"coding": [{"system": system, "code": code}]}


@pytest.mark.parametrize(("trial", "atom"), [("NCT07028008", "TIL-E05"), ("NCT00846833", "NK-E03a")])
def test_a_test_that_may_be_missing_or_too_vague_to_place_may_still_take_a_finding_back(trial: str, atom: str) -> None:
    positive = _test("ab", "lab-hiv-ab", "qual-positive", "2025-09-01")
    vague, exact = (_test("wb", "lab-hiv-confirm", "qual-negative", day) for day in ("2025", "2025-10-01"))
    person = {"resourceType": "Patient", "id": "p", "gender": "male", "birthDate": "1970-01-01"}

    def told_of(*resources: Json, gaps: tuple[str, ...] = ()) -> str:
        return told(screened(trial, Chart(person, resources, gaps)))[atom]

    assert told_of(positive) == "true"
    assert told_of(positive, gaps=("Observation",)) == "unknown"
    assert told_of(positive, vague) == "unknown"
    assert told_of(positive, exact) in ("false", "unknown")


UNRELATED: tuple[dict[str, Any], ...] = (
    {"resourceType": "FamilyMemberHistory", "status": "completed", "condition": [{"code": {"text": "melanoma"}}]},
    {"resourceType": "Goal", "lifecycleStatus": "active", "description": {"text": "organ transplant"}},
    {
        "resourceType": "Immunization",
        "status": "completed",
        "vaccineCode": {"text": "influenza"},
        "occurrenceDateTime": "2025-10-01",
    },
    {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "9279-1"}]},
        "effectiveDateTime": "2025-11-14",
        "valueQuantity": {"value": 16, "unit": "/min"},
    },
    {
        "resourceType": "Condition",
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "H52.1"}]},
        "clinicalStatus": {"coding": [{"code": "active"}]},
        "onsetDateTime": "2025-11-01",
    },
    {
        "resourceType": "MedicationStatement",
        "status": "active",
        "effectivePeriod": {"start": "2025-01-01"},
        "medicationCodeableConcept": {"coding": [{"system": "http://www.whocc.no/atc", "code": "A11CC05"}]},
    },
    {
        "resourceType": "Procedure",
        "status": "completed",
        "performedDateTime": "2025-11-10",
        "code": {"coding": [{"system": "urn:hospital:local", "code": "9"}], "text": "Haircut"},
    },
    {
        "resourceType": "AllergyIntolerance",
        "code": {"coding": [{"system": "http://www.whocc.no/atc", "code": "J01CA04"}]},
    },
    {
        "resourceType": "Condition",
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "C43.9"}]},
        "verificationStatus": {"coding": [{"code": "entered-in-error"}]},
        "onsetDateTime": "2020-01-01",
    },
    {
        "resourceType": "Observation",
        "status": "cancelled",
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
        "effectiveDateTime": "2025-11-14",
        "valueQuantity": {"value": 2, "unit": "g/dL"},
    },
)


@ON_BOTH
@COSTLY
@given(charts(), st.lists(st.sampled_from(range(len(UNRELATED))), min_size=1, max_size=4, unique=True))
def test_an_unrelated_record_changes_no_truth(trial: str, chart: Chart, picked: list[int]) -> None:
    more = [{**UNRELATED[n], "id": f"unrelated{n}"} for n in picked]
    assert told(screened(trial, chart.with_resources([*chart.resources, *more]))) == told(screened(trial, chart))


@ON_BOTH
@COSTLY
@given(charts())
def test_a_criterion_that_blocks_names_evidence_that_is_on_record(trial: str, chart: Chart) -> None:
    on_record = {f"{r['resourceType']}/{r['id']}" for r in chart.resources} | {"Patient/p"}
    decision = screened(trial, chart)
    for criterion in decision.criteria:
        named = {evidence.reference for evidence in criterion.answer.evidence}
        assert named <= on_record
        for atom in criterion.atoms:
            assert {evidence.reference for evidence in atom.answer.evidence} <= on_record
        if criterion.effect is Effect.BLOCKS and not named:
            # Silence has no source: it is told as what it is.
            assert any("no_evidence" in atom.flags for atom in criterion.atoms), criterion


@ON_BOTH
@COSTLY
@given(charts())
def test_the_population_and_the_verdict_follow_from_the_criteria(trial: str, chart: Chart) -> None:
    decision = screened(trial, chart)
    blocked = any(c.effect is Effect.BLOCKS for c in decision.criteria)
    assert (decision.verdict.value == "not-eligible") is blocked
    for criterion in decision.criteria:
        # A criterion that rests on a judgement never blocks (rule R17).
        assert criterion.effect is not Effect.BLOCKS or criterion.answer.firm is criterion.answer.truth


@ON_BOTH
@COSTLY
@given(charts())
def test_an_answer_changes_on_the_day_it_says_and_not_before(trial: str, chart: Chart) -> None:
    decision = screened(trial, chart)
    for atom in atoms(decision):
        if atom.changes_on is None:
            continue
        assert atom.changes_on > TODAY
        eve, day = (
            truths(screened(trial, chart, when))[atom.id]
            for when in (atom.changes_on - timedelta(days=1), atom.changes_on)
        )
        assert (atom.id, eve) == (atom.id, atom.answer.truth)
        assert (atom.id, day) != (atom.id, atom.answer.truth)


@ON_BOTH
@COSTLY
@given(charts(), st.integers(1, 100) | st.integers(1, 2500))
def test_no_answer_changes_by_time_alone_without_saying_so(trial: str, chart: Chart, days: int) -> None:
    later = TODAY + timedelta(days=days)
    then = truths(screened(trial, chart, later))
    changed = {
        a.id: (text_of(a.answer.truth), text_of(then[a.id]), a.answer.because)
        for a in atoms(screened(trial, chart))
        if then[a.id] is not a.answer.truth and (a.changes_on is None or a.changes_on > later)
    }
    assert changed == {}


@ON_BOTH
@COSTLY
@given(charts())
def test_the_next_change_is_the_first_of_all(trial: str, chart: Chart) -> None:
    decision = screened(trial, chart)
    days: list[date] = [a.changes_on for a in atoms(decision) if a.changes_on]
    assert decision.next_change == min(days, default=None)

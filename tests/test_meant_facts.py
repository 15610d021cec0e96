"""Finer points of which facts a rule means and which source speaks, found by planting mistakes that no story noticed."""

from __future__ import annotations

from typing import Any

import pytest

from chart import patient, resources
from fhir_screen.core import chart as core
from fhir_screen.core.answers import Answer, unknown
from fhir_screen.core.codes import Code
from fhir_screen.core.facts import Coding, PatientRecord, Person, Value
from fhir_screen.core.gaps import Gap
from fhir_screen.core.quantities import Interval, Quantity
from fhir_screen.core.truth import Reason, text_of
from generated import TODAY, Chart, decided, study

TRIALS = {trial.id: trial for trial in study().trials}


def answered(trial: str, atom: str, *given: dict[str, Any]) -> Answer:
    made = resources([{"encounter": "visit", "from": "2014-01-01", "to": "2014-01-01"}, *given])
    decision = decided(TRIALS[trial], Chart(patient({}), tuple(made)))
    answers = {a.id: a.answer for criterion in decision.criteria for a in criterion.atoms}
    return answers[atom]


def told(trial: str, atom: str, *given: dict[str, Any]) -> str:
    return text_of(answered(trial, atom, *given).truth)


STAGE = {"lab": "stage", "code": "LNC 21908-9", "answer": "SCT 2640006", "on": "2025-11-01", "focus": "Condition/it"}


@pytest.mark.parametrize(
    ("diagnosis", "expected"),
    [
        ({"diagnosis": "melanoma", "code": "WHO C43.5"}, "true"),
        ({"diagnosis": "a tumour of our own catalogue", "code": "LOCAL T7"}, "unknown"),
        ({"diagnosis": "colon cancer", "code": "WHO C18.0"}, "unknown"),
        ({"diagnosis": "myopia", "code": "WHO H52.1"}, "unknown"),
    ],
)
def test_a_stage_counts_unless_it_is_known_to_be_of_something_else(diagnosis: dict[str, Any], expected: str) -> None:
    melanoma = {"diagnosis": "melanoma", "code": "WHO C43.9", "since": "2020-01-01"}
    assert (
        told("NCT07028008", "TIL-I02c", melanoma, {**diagnosis, "id": "it", "since": "2023-01-01"}, STAGE) == expected
    )


SEGMENTED = {"lab": "segmented neutrophils 1.0 10*3/uL", "code": "LNC 768-2", "on": "2025-11-10"}
SHARE = (
    {"lab": "leukocytes 4.0 10*3/uL", "code": "LNC 6690-2", "on": "2025-11-01"},
    {"lab": "segmented neutrophils 40 %", "code": "LNC 26505-8", "on": "2025-11-01"},
)


def test_a_lower_bound_below_the_limit_leaves_the_word_to_the_next() -> None:
    assert told("NCT07028008", "TIL-I07b", SEGMENTED) == "unknown"
    assert told("NCT07028008", "TIL-I07b", *SHARE) == "true"
    assert told("NCT07028008", "TIL-I07b", SEGMENTED, *SHARE) == "true"


def test_the_last_of_what_lies_outside_the_window_is_named() -> None:
    old, older = (
        {"diagnosis": name, "code": code, "since": day}
        for name, code, day in (
            ("stomach cancer", "WHO C16.9", "2015-05-05"),
            ("colon cancer", "WHO C18.0", "2010-05-05"),
        )
    )
    because = answered("NCT07028008", "TIL-E02a", older, old).because
    assert "stomach cancer" in because
    assert "colon cancer" not in because


def test_what_has_no_date_is_called_undated() -> None:
    dated = answered(
        "NCT07028008", "TIL-E01", {"procedure": "renal transplantation", "code": "SCT 70536003", "on": "2012-01-05"}
    )
    undated = answered("NCT07028008", "TIL-E01", {"procedure": "renal transplantation", "code": "SCT 70536003"})
    assert (text_of(dated.truth), text_of(undated.truth)) == ("true", "true")
    assert "2012-01-05" in dated.because
    assert "undated" not in dated.because
    assert "undated" in undated.because


ONE, OTHER = (Coding(Code("LNC", code, display=display)) for code, display in (("LA1-1", ""), ("LA2-2", "Grade 2")))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Value(quantity=Quantity(Interval.exactly(5), "g/dL", None, "5 g/dL"), text="five"), "5 g/dL"),
        (Value(text="weakly positive", codings=(OTHER,)), "weakly positive"),
        (Value(codings=(ONE, OTHER)), "Grade 2"),
        (Value(codings=(ONE,)), "LA1-1"),
        (Value(boolean=True), "yes"),
        (Value(boolean=False), "no"),
        (Value(absent=True), ""),
    ],
)
def test_a_value_is_shown_in_the_words_of_the_record(value: Value, text: str) -> None:
    assert value.shown == text


PEMBROLIZUMAB = {"drug": "pembrolizumab", "code": "ATC L01FF02", "from": "2025-01-06", "to": "2025-06-02"}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"since": "2025-05-05"}, "true"),
        ({"since": "2025-05-05", "verified": "provisional"}, "unknown"),
        ({"since": "2025"}, "unknown"),
        ({"since": "2024-12-01"}, "unknown"),
    ],
)
def test_a_doubtful_event_after_a_treatment_is_no_failure_yet(event: dict[str, Any], expected: str) -> None:
    metastasis = {"diagnosis": "metastasis in the lung", "code": "WHO C78.0", **event}
    melanoma = {"diagnosis": "melanoma", "code": "WHO C43.9", "since": "2020-01-01"}
    assert told("NCT07028008", "TIL-I02e", melanoma, PEMBROLIZUMAB, metastasis) == expected


def test_only_what_was_ordered_and_nothing_else_is_flagged_as_an_order() -> None:
    order = {"order": "pembrolizumab", "code": "ATC L01FF02", "on": "2025-01-06", "status": "completed"}
    assert str(answered("NCT07028008", "TIL-I02d", order).kind) == "order_only"
    assert str(answered("NCT07028008", "TIL-I02d", PEMBROLIZUMAB).kind) == "positive"
    assert str(answered("NCT07028008", "TIL-I02d", PEMBROLIZUMAB, order).kind) == "positive"


@pytest.mark.parametrize(
    ("gap", "doubt", "reason"),
    [
        (Reason.MASKED, Reason.INCOMPLETE_FETCH, Reason.INCOMPLETE_FETCH),
        (Reason.INCOMPLETE_FETCH, Reason.MASKED, Reason.INCOMPLETE_FETCH),
        (Reason.MASKED, Reason.PARTIAL_DATE, Reason.MASKED),
    ],
)
def test_where_a_gap_meets_a_doubt_the_first_reason_is_told(gap: Reason, doubt: Reason, reason: Reason) -> None:
    record = PatientRecord.of("p", Person(), (), (Gap("Condition", gap),))
    looked_at = core.Chart(record, TODAY, TODAY, {}, study().terms.vocabulary)
    answer = core.with_gap(looked_at, frozenset({"Condition"}), unknown(doubt, "a doubt"))
    assert (text_of(answer.truth), answer.reason) == ("unknown", reason)


def test_of_several_gaps_what_is_missing_is_told_before_what_is_masked() -> None:
    gaps = (Gap("Condition", Reason.MASKED), Gap("Condition", Reason.INCOMPLETE_FETCH), Gap("Procedure", Reason.MASKED))
    record = PatientRecord.of("p", Person(), (), gaps)
    found = [record.gap(frozenset({kind})) for kind in ("Condition", "Procedure", "Observation")]
    assert [gap and gap.reason for gap in found] == [Reason.INCOMPLETE_FETCH, Reason.MASKED, None]

"""Decisions built by hand, and the signature under which tests write them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

from fhir_screen.core.answers import Answer, Evidence, no, not_applicable, unknown, yes
from fhir_screen.core.decision import (
    AtomClass,
    AtomResult,
    CriterionResult,
    Decision,
    Effect,
    Role,
    TrialIdentity,
    Verdict,
)
from fhir_screen.core.truth import Reason, Truth
from fhir_screen.fhir.writer import Signature

ALPHA = TrialIdentity(
    id="ALPHA-1",
    version="1",
    title="A study of alpha",
    identifiers=(("http://clinicaltrials.gov", "ALPHA-1"), ("https://hospital.example/irb", "2026-0042")),
    mapping_digest="m1",
)
BETA = TrialIdentity(id="BETA-2", version="3", title="A study of beta", mapping_digest="m2")

HEMOGLOBIN = Evidence("Observation/hb1", "2", "http://example.org|hb", "9.7 g/dL", "2026-11-14")
PILLS = Evidence("MedicationRequest/rx1", "1", "http://example.org|rx", "", "2026-11-01")

FIRST_NIGHT = Signature("north", "0.1.0", datetime(2026, 11, 21, 18, 0, tzinfo=UTC))
SECOND_NIGHT = replace(FIRST_NIGHT, recorded_at=datetime(2026, 11, 22, 18, 0, tzinfo=UTC))
THIRD_NIGHT = replace(FIRST_NIGHT, recorded_at=datetime(2026, 11, 23, 18, 0, tzinfo=UTC))

ENOUGH = yes("hemoglobin 9.7 g/dL on 2026-11-14, 9.0 g/dL or more needed", [HEMOGLOBIN])
TAKES_PILLS = yes("takes pills since 2026-11-01", [PILLS])
NO_PILLS = no("no pills on record")


def criterion(
    own_id: str, role: Role, answer: Answer, effect: Effect, *, text: str = "in the protocol's words"
) -> CriterionResult:
    atom = AtomResult(own_id, text, "", AtomClass.AUTOMATIC, answer)
    return CriterionResult(own_id, role, text, answer, effect, (atom,))


def decision(
    patient: str = "p1",
    trial: TrialIdentity = ALPHA,
    verdict: Verdict = Verdict.LIKELY_ELIGIBLE,
    *criteria: CriterionResult,
) -> Decision:
    return Decision(trial, patient, date(2026, 11, 21), Truth.TRUE, verdict, criteria or SUPPORTING)


SUPPORTING = (
    criterion("I01", Role.INCLUSION, ENOUGH, Effect.SUPPORTS, text="Hemoglobin ≥ 9.0 g/dL"),
    criterion("E01", Role.EXCLUSION, NO_PILLS, Effect.SUPPORTS),
    criterion("E02", Role.EXCLUSION, not_applicable("men do not get pregnant"), Effect.SUPPORTS),
    criterion("E03", Role.EXCLUSION, unknown(Reason.MANUAL, "a person has to ask"), Effect.UNDETERMINED),
)
BLOCKING = (SUPPORTING[0], criterion("E01", Role.EXCLUSION, TAKES_PILLS, Effect.BLOCKS), *SUPPORTING[2:])
VAGUE = (criterion("I01", Role.INCLUSION, unknown(Reason.STALE, "too old", [HEMOGLOBIN]), Effect.UNDETERMINED),)


def likely(patient: str = "p1", trial: TrialIdentity = ALPHA) -> Decision:
    return decision(patient, trial)


def review(patient: str = "p1", trial: TrialIdentity = ALPHA) -> Decision:
    return decision(patient, trial, Verdict.NEEDS_REVIEW, *VAGUE)


def refused(patient: str = "p1", trial: TrialIdentity = ALPHA) -> Decision:
    return decision(patient, trial, Verdict.NOT_ELIGIBLE, *BLOCKING)

"""The contract's `fhir-screen/screening/1`: one JSON line for each decision, fields in their fixed order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any, Final

import orjson

from fhir_screen.core.answers import Evidence
from fhir_screen.core.decision import AtomResult, CriterionResult, Decision
from fhir_screen.core.truth import text_of

SCHEMA: Final = "fhir-screen/screening/1"


def render(decisions: Iterable[Decision]) -> Iterator[str]:
    for decision in decisions:
        yield orjson.dumps(document(decision)).decode() + "\n"


def document(decision: Decision) -> dict[str, Any]:
    blocked = {"blocked_by": decision.blocked_by} if decision.blocked_by else {}
    return {
        "schema": SCHEMA,
        "trial": decision.trial.id,
        "trial_version": decision.trial.version,
        "patient": decision.patient,
        "as_of": decision.as_of.isoformat(),
        "population": str(decision.population),
        "verdict": str(decision.verdict),
        **blocked,
        "criteria": [_criterion(criterion) for criterion in decision.criteria],
        "next_change": _day(decision.next_change),
    }


def _criterion(criterion: CriterionResult) -> dict[str, Any]:
    return {
        "id": criterion.id,
        "role": str(criterion.role),
        "truth": text_of(criterion.answer.truth),
        "effect": str(criterion.effect),
        "flags": sorted(criterion.answer.flags),
        "atoms": [_atom(atom) for atom in criterion.atoms],
    }


def _atom(atom: AtomResult) -> dict[str, Any]:
    answer = atom.answer
    return {
        "id": atom.id,
        "class": str(atom.atom_class),
        "truth": text_of(answer.truth),
        "reason": str(answer.reason) if answer.reason else None,
        "flags": list(atom.flags),
        "evidence_kind": answer.kind.value if answer.kind else None,
        "because": answer.because,
        "evidence": [_evidence(one) for one in answer.evidence],
        "changes_on": _day(atom.changes_on),
        "changes_to": text_of(atom.change.to) if atom.change else None,
    }


def _evidence(evidence: Evidence) -> dict[str, Any]:
    return {
        "reference": evidence.reference,
        "version": evidence.version,
        "code": evidence.code,
        "value": evidence.value,
        "date": evidence.date,
    }


def _day(day: date | None) -> str | None:
    return day.isoformat() if day else None

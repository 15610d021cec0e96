"""For how many patients there is any data, fresh data, usable data, criterion by criterion and atom by atom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fhir_screen.core.answers import Answer
from fhir_screen.core.decision import AtomClass, AtomResult, Decision, Effect
from fhir_screen.core.facts import PatientRecord
from fhir_screen.core.rules import Selector
from fhir_screen.core.trials import Atom, Trial
from fhir_screen.core.truth import Reason, Truth
from fhir_screen.core.walk import selectors

_NOT_FRESH = {Reason.STALE, Reason.NO_DATA, Reason.ANCHOR_MISSING, Reason.INCOMPLETE_FETCH}


@dataclass(frozen=True, slots=True)
class AtomCoverage:
    """Counts of patients: with a record that the atom looks at, with one that is not too old, with one that decided it.

    ``unknown`` counts why it did not, ``not_applicable`` whom the atom is not about.
    """

    id: str
    text: str
    atom_class: str
    any_data: int
    fresh: int
    usable: int
    true: int
    false: int
    not_applicable: int
    unknown: Mapping[str, int]

    @property
    def manual(self) -> bool:
        return self.atom_class == AtomClass.MANUAL.value


@dataclass(frozen=True, slots=True)
class CriterionCoverage:
    """``blocks``: patients that this criterion keeps out; ``alone``: whom nothing else keeps out."""

    id: str
    text: str
    blocks: int
    alone: int
    undetermined: int
    atoms: tuple[AtomCoverage, ...]


@dataclass(frozen=True, slots=True)
class TrialCoverage:
    """``deceased`` of the ``patients`` are kept out whatever the criteria say."""

    trial: str
    title: str
    patients: int
    deceased: int
    criteria: tuple[CriterionCoverage, ...]


@dataclass(slots=True)
class _Atom:
    counts: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)

    def add(self, atom: AtomResult, there: bool) -> None:  # noqa: FBT001 - what is counted
        answer = atom.answer
        decided = answer.truth in (Truth.TRUE, Truth.FALSE)
        self.counts["any"] += there
        self.counts["fresh"] += there and answer.reason not in _NOT_FRESH
        self.counts["usable"] += there and decided
        self.counts["true"] += answer.truth is Truth.TRUE
        self.counts["false"] += answer.truth is Truth.FALSE
        self.counts["not-applicable"] += answer.truth is None
        if answer.truth is Truth.UNKNOWN and answer.reason is not None:
            self.unknown[answer.reason.value] += 1


@dataclass(slots=True)
class _Trial:
    patients: int = 0
    deceased: int = 0
    blocks: Counter[str] = field(default_factory=Counter)
    alone: Counter[str] = field(default_factory=Counter)
    undetermined: Counter[str] = field(default_factory=Counter)
    atoms: dict[str, _Atom] = field(default_factory=dict)

    def add(self, record: PatientRecord, decision: Decision, looked_at: Mapping[str, tuple[Selector, ...]]) -> None:
        self.patients += 1
        self.deceased += decision.blocked_by is not None
        keepers = [criterion.id for criterion in decision.criteria if criterion.effect is Effect.BLOCKS]
        self.blocks.update(keepers)
        if len(keepers) == 1 and decision.blocked_by is None:
            self.alone.update(keepers)
        for criterion in decision.criteria:
            self.undetermined[criterion.id] += criterion.effect is Effect.UNDETERMINED
            for atom in criterion.atoms:
                there = _is_there(atom.answer, record, looked_at[atom.id])
                self.atoms.setdefault(atom.id, _Atom()).add(atom, there)


def coverage(screened: Iterable[tuple[PatientRecord, Decision]], trials: Iterable[Trial]) -> tuple[TrialCoverage, ...]:
    """Counts over patients, one after the other; the result holds numbers alone, and no patient."""
    known = sorted(trials, key=lambda trial: trial.id)
    looked_at = {t.id: {a.id: tuple(selectors(a.rule)) for c in t.criteria for a in c.atoms} for t in known}
    counted = {trial.id: _Trial() for trial in known}
    for record, decision in screened:
        counted[decision.trial.id].add(record, decision, looked_at[decision.trial.id])
    return tuple(_of_trial(trial, counted[trial.id]) for trial in known)


def _is_there(answer: Answer, record: PatientRecord, looked_at: Iterable[Selector]) -> bool:
    """Whether the record has data on an atom. A melanoma alone says nothing about its recurrence, which looks at it too."""
    if answer.evidence:
        return True
    return answer.reason is not Reason.NO_DATA and any(_holds(record, one) for one in looked_at)


def _holds(record: PatientRecord, selector: Selector) -> bool:
    """Whether a record has anything that this selector names by its code, however old."""
    found = (fact for concept in selector.find for fact in record.by_concept.get(concept, ()))
    return any(fact.kind in selector.kinds for fact in found)


def _of_trial(trial: Trial, counted: _Trial) -> TrialCoverage:
    criteria = tuple(
        CriterionCoverage(
            criterion.id, criterion.text, counted.blocks[criterion.id], counted.alone[criterion.id],
            counted.undetermined[criterion.id],
            tuple(_of_atom(atom, counted.atoms.get(atom.id, _Atom())) for atom in criterion.atoms),
        )
        for criterion in trial.criteria
    )  # fmt: skip
    return TrialCoverage(trial.id, trial.identity.title, counted.patients, counted.deceased, criteria)


def _of_atom(atom: Atom, counted: _Atom) -> AtomCoverage:
    n = counted.counts
    return AtomCoverage(
        atom.id, atom.text, atom.atom_class.value, n["any"], n["fresh"], n["usable"], n["true"], n["false"],
        n["not-applicable"], dict(sorted(counted.unknown.items(), key=lambda item: (-item[1], item[0]))),
    )  # fmt: skip


def as_json(found: Iterable[TrialCoverage]) -> Mapping[str, Any]:
    return {
        "schema": "fhir-screen/coverage/1",
        "trials": [
            {
                "trial": t.trial,
                "patients": t.patients,
                "deceased": t.deceased,
                "criteria": [
                    {
                        "id": c.id, "blocks": c.blocks, "blocks_alone": c.alone, "undetermined": c.undetermined,
                        "atoms": [_atom_json(a) for a in c.atoms],
                    }
                    for c in t.criteria
                ],
            }
            for t in found
        ],
    }  # fmt: skip


def _atom_json(atom: AtomCoverage) -> Mapping[str, Any]:
    return {
        "id": atom.id, "class": atom.atom_class, "any_data": atom.any_data, "fresh": atom.fresh, "usable": atom.usable,
        "true": atom.true, "false": atom.false, "not_applicable": atom.not_applicable, "unknown": dict(atom.unknown),
    }  # fmt: skip

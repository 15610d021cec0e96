"""For how many patients there is any data, fresh data, usable data, criterion by criterion and atom by atom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fhir_screen.core.decision import AtomClass, Decision, Effect
from fhir_screen.core.truth import Reason, Truth

_UNSEEN = {Reason.NO_DATA, Reason.ANCHOR_MISSING, Reason.MANUAL, Reason.INCOMPLETE_FETCH}
_OLD = {Reason.STALE}


@dataclass(slots=True)
class _Tally:
    text: str
    atom_class: str
    any_data: int = 0
    fresh: int = 0
    usable: int = 0
    true: int = 0
    false: int = 0


@dataclass(frozen=True, slots=True)
class AtomCoverage:
    """Counts of patients: with any record that the atom looked at, with one in date, with one that decided it."""

    id: str
    text: str
    atom_class: str
    any_data: int
    fresh: int
    usable: int
    true: int
    false: int


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
    trial: str
    patients: int
    criteria: tuple[CriterionCoverage, ...]


def coverage(decisions: Iterable[Decision]) -> tuple[TrialCoverage, ...]:
    by_trial: dict[str, list[Decision]] = {}
    for decision in decisions:
        by_trial.setdefault(decision.trial.id, []).append(decision)
    return tuple(_of_trial(trial, found) for trial, found in sorted(by_trial.items()))


def _of_trial(trial: str, decisions: list[Decision]) -> TrialCoverage:
    tallies: dict[str, _Tally] = {}
    for decision in decisions:
        for criterion in decision.criteria:
            for atom in criterion.atoms:
                tally = tallies.setdefault(atom.id, _Tally(atom.text, atom.atom_class.value))
                answer = atom.answer
                if atom.atom_class is AtomClass.MANUAL:
                    continue
                seen = bool(answer.evidence) or answer.truth is Truth.TRUE
                tally.any_data += seen
                tally.fresh += seen and answer.reason not in _OLD | _UNSEEN
                tally.usable += seen and answer.truth in (Truth.TRUE, Truth.FALSE)
                tally.true += answer.truth is Truth.TRUE
                tally.false += answer.truth is Truth.FALSE
    keepers = [{c.id for c in d.criteria if c.effect is Effect.BLOCKS} for d in decisions]
    criteria = tuple(
        CriterionCoverage(
            criterion.id,
            criterion.text,
            sum(criterion.id in kept for kept in keepers),
            sum(kept == {criterion.id} for kept in keepers),
            sum(c.effect is Effect.UNDETERMINED for d in decisions for c in d.criteria if c.id == criterion.id),
            tuple(_frozen(a.id, tallies[a.id]) for a in criterion.atoms),
        )
        for criterion in decisions[0].criteria
    )
    return TrialCoverage(trial, len(decisions), criteria)


def _frozen(id_: str, tally: _Tally) -> AtomCoverage:
    return AtomCoverage(
        id_, tally.text, tally.atom_class, tally.any_data, tally.fresh, tally.usable, tally.true, tally.false
    )  # fmt: skip


def as_json(found: Iterable[TrialCoverage]) -> Mapping[str, Any]:
    return {
        "schema": "fhir-screen/coverage/1",
        "trials": [
            {
                "trial": t.trial,
                "patients": t.patients,
                "criteria": [
                    {
                        "id": c.id, "blocks": c.blocks, "blocks_alone": c.alone, "undetermined": c.undetermined,
                        "atoms": [
                            {
                                "id": a.id, "class": a.atom_class, "any_data": a.any_data, "fresh": a.fresh,
                                "usable": a.usable, "true": a.true, "false": a.false,
                            }
                            for a in c.atoms
                        ],
                    }
                    for c in t.criteria
                ],
            }
            for t in found
        ],
    }  # fmt: skip

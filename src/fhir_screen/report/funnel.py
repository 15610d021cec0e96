"""How the criteria of a trial narrow its candidates: whom each keeps out, it alone, leaves open, and who remains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from fhir_screen.core.decision import CriterionResult, Decision, Effect
from fhir_screen.report import wording


@dataclass(frozen=True, slots=True)
class Step:
    """``out``: whom the criterion keeps out; ``alone``: whom nothing else does; ``remain``: after it and all before it."""

    criterion: CriterionResult
    out: int
    alone: int
    open: int
    remain: int


@dataclass(frozen=True, slots=True)
class Funnel:
    """Of ``candidates``, ``blocked`` are out whatever the criteria say (the deceased)."""

    candidates: int
    blocked: int
    steps: tuple[Step, ...]


def funnel(decisions: Iterable[Decision]) -> Funnel:
    """The decisions of one trial, counted in the order of its protocol; a criterion counts wherever it stands."""
    rows = list(decisions)
    out, alone, still_open, first = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for decision in rows:
        keepers = [criterion.id for criterion in wording.blocking(decision)]
        out.update(keepers)
        still_open.update(criterion.id for criterion in decision.criteria if criterion.effect is Effect.UNDETERMINED)
        if not decision.blocked_by:
            first.update(keepers[:1])
            alone.update(keepers if len(keepers) == 1 else ())
    blocked = sum(decision.blocked_by is not None for decision in rows)
    remain = len(rows) - blocked
    steps: list[Step] = []
    for criterion in rows[0].criteria if rows else ():
        remain -= first[criterion.id]
        steps.append(Step(criterion, out[criterion.id], alone[criterion.id], still_open[criterion.id], remain))
    return Funnel(len(rows), blocked, tuple(steps))

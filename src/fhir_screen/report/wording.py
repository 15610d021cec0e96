"""How verdicts, truths, reasons and next steps are said to a person, in one place: another language is a catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fhir_screen.core.decision import AtomResult, CriterionResult, Decision, Effect, Role, Verdict
from fhir_screen.core.truth import Reason, Truth

VERDICT: Final = {
    Verdict.LIKELY_ELIGIBLE: "likely eligible",
    Verdict.NEEDS_REVIEW: "needs review",
    Verdict.NOT_ELIGIBLE: "not eligible",
}

EFFECT: Final = {Effect.BLOCKS: "blocks", Effect.SUPPORTS: "supports", Effect.UNDETERMINED: "open"}

SETTLES: Final = {
    Reason.INCOMPLETE_FETCH: "part of the record could not be fetched; screen again when it can",
    Reason.MASKED: "part of the record is masked; somebody who may see it has to look",
    Reason.CONFLICTING: "two entries contradict each other; a person has to say which one holds",
    Reason.UNIT_SUSPECT: "the value is not plausible in its unit; have the result checked",
    Reason.UNIT_UNMAPPABLE: "the unit is not understood; add its spelling to the site file",
    Reason.NO_REFERENCE_RANGE: "the result has no upper limit of normal; add the laboratory's to the site file",
    Reason.CENSORED: "the result is only a bound; an exact value would settle it",
    Reason.PARTIAL_DATE: "the date is incomplete; the full date would settle it",
    Reason.STATUS: "the entry's status leaves it open; confirm or withdraw the entry",
    Reason.UNMAPPED_CODE: "the entry's code is not known here; map it in the site file",
    Reason.STALE: "the last value is too old; a new one would settle it",
    Reason.ANCHOR_MISSING: "a planned date is not set; setting it (--anchors) would settle it",
    Reason.NO_DATA: "nothing on record; an entry would settle it",
    Reason.POLICY: "left to a person on purpose",
    Reason.PROXY: "the record speaks of it only indirectly; a person has to look",
    Reason.MANUAL: "a person has to answer",
}
"""What would settle an unknown, by its reason."""

KIND: Final = {
    "positive": "found on record",
    "explicit_negative": "the record says no",
    "no_evidence": "nothing on record",
    "inferred": "inferred",
    "order_only": "ordered; whether it was given is not recorded",
}


def answer(truth: Truth | None) -> str:
    if truth is None:
        return "does not apply"
    return {Truth.TRUE: "yes", Truth.FALSE: "no", Truth.UNKNOWN: "not known"}[truth]


def shortened(text: str, signs: int = 80) -> str:
    """The beginning of a long text, cut between words."""
    plain = " ".join(text.split())
    return plain if len(plain) <= signs else plain[: signs - 1].rpartition(" ")[0].rstrip(" ,;:") + " …"


def blocking(decision: Decision) -> tuple[CriterionResult, ...]:
    return tuple(c for c in decision.criteria if c.effect is Effect.BLOCKS)


def to_review(decision: Decision) -> tuple[CriterionResult, ...]:
    """What keeps the patient from being likely eligible although it does not block."""
    return tuple(c for c in decision.criteria if c.open_question and c.effect is not Effect.BLOCKS)


def open_atoms(criterion: CriterionResult) -> tuple[AtomResult, ...]:
    """What is unanswered where the criterion is: an unknown that changes nothing is not open."""
    if criterion.effect is not Effect.UNDETERMINED:
        return ()
    return tuple(a for a in criterion.atoms if a.answer.truth is Truth.UNKNOWN or a.answer.judged)


def questions(decision: Decision) -> int:
    return sum(len(open_atoms(criterion)) for criterion in decision.criteria)


def deciding(criterion: CriterionResult) -> tuple[AtomResult, ...]:
    """The atoms on which an answer that blocks or is open rests."""
    if criterion.effect is Effect.BLOCKS:
        return tuple(a for a in criterion.atoms if a.answer.truth is criterion.answer.truth)
    return open_atoms(criterion)


def why(decision: Decision, at_most: int = 3) -> str:
    """What decided, in the protocol's words, a line each."""
    if decision.blocked_by:
        return decision.blocked_by
    lines = list(_grounds(decision, at_most)) or ["only people's answers are open"]
    if decision.population is Truth.UNKNOWN:
        lines.insert(0, "whether the patient has the disease is not known")
    return "\n".join(lines)


def _grounds(decision: Decision, at_most: int) -> Iterator[str]:
    criteria = blocking(decision) or to_review(decision)
    named = [(a.id, a.text) for c in criteria for a in deciding(c) if not a.asked] or [(c.id, c.text) for c in criteria]
    yield from (f"{own_id} {shortened(text, 70)}" for own_id, text in named[:at_most])
    if len(named) > at_most:
        yield f"and {len(named) - at_most} more"


def settles(atom: AtomResult) -> str:
    """What would answer an open atom."""
    if atom.asked and atom.question:
        return atom.question
    if atom.answer.truth is not Truth.UNKNOWN:
        return "a person has to confirm it"
    return SETTLES[atom.answer.reason] if atom.answer.reason else ""


def next_step(decision: Decision) -> str:
    """What somebody would do next about this patient."""
    if decision.blocked_by:
        return f"nothing: {decision.blocked_by}"
    if decision.verdict is Verdict.NOT_ELIGIBLE:
        days = [a.changes_on for c in blocking(decision) for a in c.atoms if a.changes_on]
        return f"look again on {min(days).isoformat()}" if days else "nothing, unless the record changes"
    waiting = to_review(decision) or tuple(c for c in decision.criteria if c.effect is Effect.UNDETERMINED)
    atoms = [atom for criterion in waiting for atom in open_atoms(criterion)]
    first = next((atom for atom in atoms if atom.answer.truth is Truth.UNKNOWN), None)
    if first is None:
        return f"{atoms[0].id}: {settles(atoms[0])}" if atoms else "look at the whole record"
    return f"{first.id}: {first.question if first.asked else shortened(first.answer.because or settles(first), 100)}"


def role(criterion: CriterionResult) -> str:
    return "must hold" if criterion.role is Role.INCLUSION else "must not hold"


def ordered(decision: Decision) -> Iterator[CriterionResult]:
    """Criteria in the order in which a person wants them: what blocks, what to look at, what is open, the rest."""
    review = {c.id for c in to_review(decision)}
    ranks = {Effect.BLOCKS: 0, Effect.UNDETERMINED: 2, Effect.SUPPORTS: 3}
    yield from sorted(decision.criteria, key=lambda c: 1 if c.id in review else ranks[c.effect])

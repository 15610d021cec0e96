"""What is said of a decision to a person, in the words of one catalogue: what decided, what is open, what comes next."""

from __future__ import annotations

from collections.abc import Iterator

from fhir_screen.core.chart import A_RECORD_OF
from fhir_screen.core.decision import AtomResult, CriterionResult, Decision, Effect, Verdict
from fhir_screen.core.truth import Truth
from fhir_screen.report.catalogue import Catalogue


def shortened(text: str, signs: int = 80) -> str:
    """The beginning of a long text, cut between words."""
    plain = " ".join(text.split())
    return plain if len(plain) <= signs else plain[: signs - 1].rpartition(" ")[0].rstrip(" ,;:") + " …"


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


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


def why(decision: Decision, words: Catalogue, at_most: int = 3) -> str:
    """What decided, in the protocol's words, a line each."""
    if decision.blocked_by:
        return blocked(decision.blocked_by, words)
    lines = list(_grounds(decision, words, at_most)) or [words.only_people]
    if decision.population is Truth.UNKNOWN:
        lines.insert(0, words.disease_unknown)
    return "\n".join(lines)


def _grounds(decision: Decision, words: Catalogue, at_most: int) -> Iterator[str]:
    criteria = blocking(decision) or to_review(decision)
    atoms = [(a.id, a.text, words.label(a) or words.label(c)) for c in criteria for a in deciding(c) if not a.asked]
    named = atoms or [(c.id, c.text, words.label(c)) for c in criteria]
    said = ""
    for own_id, text, label in named[:at_most]:
        yield f"{own_id} {shortened(text, 70)}{f' ({label})' if label and label != said else ''}"
        said = label
    if len(named) > at_most:
        yield words.more.format(count=len(named) - at_most)


def blocked(why: str, words: Catalogue) -> str:
    """What ends a screening whatever the criteria say."""
    return words.blocked.get(why, why)


def settles(atom: AtomResult, words: Catalogue) -> str:
    """What would answer an open atom."""
    if atom.asked and atom.question:
        return words.question(atom)
    if atom.answer.truth is not Truth.UNKNOWN:
        return words.confirm
    by_reason = words.settles[atom.answer.reason] if atom.answer.reason else ""
    if not atom.answer.wanted:
        return by_reason
    first, *further = atom.answer.wanted.split("; ")
    return words.settled_by(by_reason, ", or ".join((first, *(one.removeprefix(A_RECORD_OF) for one in further))))


def flags(atom: AtomResult, words: Catalogue) -> tuple[str, ...]:
    """What stands beside an answer, in words; what the answer says itself is left out."""
    told = (words.flags.get(flag, words.flags.get(flag.partition("=")[0], flag.replace("_", " "))) for flag in atom.flags)
    return tuple(text for text in told if text)


def next_step(decision: Decision, words: Catalogue) -> str:
    """What somebody would do next about this patient."""
    if decision.blocked_by:
        return words.nothing_because.format(why=blocked(decision.blocked_by, words))
    if decision.verdict is Verdict.NOT_ELIGIBLE:
        days = [a.changes_on for c in blocking(decision) for a in c.atoms if a.changes_on]
        return words.look_again.format(day=min(days).isoformat()) if days else words.nothing_to_do
    waiting = to_review(decision) or tuple(c for c in decision.criteria if c.effect is Effect.UNDETERMINED)
    atoms = [atom for criterion in waiting for atom in open_atoms(criterion)]
    first = next((atom for atom in atoms if atom.answer.truth is Truth.UNKNOWN), None)
    if first is None:
        return f"{atoms[0].id}: {settles(atoms[0], words)}" if atoms else words.look_at_everything
    told = words.question(first) if first.asked else shortened(first.answer.because or settles(first, words), 100)
    return f"{first.id}: {told}"


def ordered(decision: Decision) -> Iterator[CriterionResult]:
    """Criteria in the order in which a person wants them: what blocks, what to look at, what is open, the rest."""
    review = {c.id for c in to_review(decision)}
    ranks = {Effect.BLOCKS: 0, Effect.UNDETERMINED: 2, Effect.SUPPORTS: 3}
    yield from sorted(decision.criteria, key=lambda c: 1 if c.id in review else ranks[c.effect])

"""One decision as a colleague's note: the protocol's words, the answer, what it stands on, and what would settle it."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Final

from fhir_screen.core.answers import Evidence
from fhir_screen.core.decision import AtomResult, CriterionResult, Decision, Effect, Role, Verdict
from fhir_screen.core.truth import Truth
from fhir_screen.report import wording

WIDTH: Final = 100


def note(decision: Decision, anchors: Mapping[str, date], criterion: str | None = None) -> Iterator[str]:
    """Line by line, the most important first; only one ``criterion`` where it (or an atom of it) is named.

    ``anchors`` are the known days that the answers rest on.
    """
    yield f"{decision.patient} in {decision.trial.id}, {decision.trial.title}"
    yield f"As of {decision.as_of.isoformat()}: {verdict(decision)}"
    if anchors:
        yield f"Known dates: {known_days(anchors)}"
    heading = ""
    for one in chosen(decision, criterion):
        if (title := group(decision, one)) != heading:
            heading = title
            yield from ("", title.upper())
        yield from ("", *_criterion(one, WIDTH))


def summary(decisions: Iterable[Decision]) -> str:
    """How many of each verdict, a line for each trial."""
    counted: dict[str, Counter[Verdict]] = {}
    for decision in decisions:
        counted.setdefault(decision.trial.id, Counter())[decision.verdict] += 1
    lines = (
        f"{trial}: " + ", ".join(f"{verdicts[one]} {wording.VERDICT[one]}" for one in Verdict)
        for trial, verdicts in sorted(counted.items())
    )
    return "\n".join(lines) or "Nobody here is in the population of these trials."


def known_days(anchors: Mapping[str, date]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {day.isoformat()}" for name, day in sorted(anchors.items()))


def chosen(decision: Decision, criterion: str | None) -> list[CriterionResult]:
    """The criteria to be told, in a person's order."""
    return [c for c in wording.ordered(decision) if criterion in (None, c.id, *(atom.id for atom in c.atoms))]


def verdict(decision: Decision) -> str:
    """The verdict with its ground, in one sentence."""
    blocked, review = wording.blocking(decision), wording.to_review(decision)
    match decision.verdict:
        case Verdict.NOT_ELIGIBLE if decision.blocked_by:
            return f"not eligible ({decision.blocked_by})."
        case Verdict.NOT_ELIGIBLE:
            return f"not eligible: {_ids(blocked)} {'blocks' if len(blocked) == 1 else 'block'}."
        case Verdict.NEEDS_REVIEW:
            return f"needs review: nothing blocks, but {_ids(review)} cannot be answered from the record."
        case Verdict.LIKELY_ELIGIBLE:
            return f"likely eligible: nothing blocks; {wording.questions(decision)} questions are left to people."


def group(decision: Decision, criterion: CriterionResult) -> str:
    if criterion.effect is Effect.BLOCKS:
        return "What blocks"
    if criterion in wording.to_review(decision):
        return "What the record leaves open"
    return "What people have to answer" if criterion.effect is Effect.UNDETERMINED else "What speaks for the patient"


def conclusion(criterion: CriterionResult) -> str:
    """What the criterion's answer means for the patient, said the way round that its role asks for."""
    truth = criterion.answer.truth
    if truth is None:
        return "does not apply"
    if truth is Truth.UNKNOWN:
        return "not known"
    holds = "holds" if truth is Truth.TRUE else "does not hold"
    if criterion.effect is Effect.UNDETERMINED:
        return f"probably {holds}; a person has to confirm"
    return f"{holds}, as it should" if criterion.effect is Effect.SUPPORTS else f"{holds}"


def source(evidence: Evidence) -> str:
    """One source, down to the version: value, date, code, resource."""
    version = f" version {evidence.version}" if evidence.version else ""
    parts = [evidence.value, evidence.date, evidence.code, f"{evidence.reference}{version}"]
    return ", ".join(part for part in parts if part)


def settled(criterion: CriterionResult, atom: AtomResult) -> str:
    """What would settle an atom that is open, and when its answer changes by itself; empty where neither is to say."""
    parts = []
    if atom in wording.open_atoms(criterion):
        parts.append(wording.settles(atom) if atom.asked else f"To settle it: {wording.settles(atom)}.")
    if atom.changes_on:
        parts.append(f"By time alone the answer changes on {atom.changes_on.isoformat()}.")
    return " ".join(part for part in parts if part)


def _criterion(criterion: CriterionResult, width: int) -> Iterator[str]:
    kind = "inclusion" if criterion.role is Role.INCLUSION else "exclusion"
    yield f"{criterion.id} ({kind}, {wording.role(criterion)}): {conclusion(criterion)}"
    yield from _wrapped(f"“{' '.join(criterion.text.split())}”", "  ", width)
    for atom in criterion.atoms:
        yield from _atom(criterion, atom, width)


def _atom(criterion: CriterionResult, atom: AtomResult, width: int) -> Iterator[str]:
    answer = atom.answer
    because = "" if atom.asked else f": {answer.because}" if answer.because else ""
    yield from _wrapped(f"{atom.id} – {wording.answer(answer.truth)}{because}", "  ", width, "    ")
    for evidence in answer.evidence:
        yield from _wrapped(f"· {source(evidence)}", "      ", width, "        ")
    for hint in atom.hints:
        yield from _wrapped(f"hint: {hint}", "      ", width)
    if flags := ", ".join(flag.replace("_", " ") for flag in atom.flags):
        yield from _wrapped(f"noted: {flags}", "      ", width)
    if words := settled(criterion, atom):
        yield from _wrapped(f"→ {words}", "      ", width, "        ")


def _wrapped(text: str, indent: str, width: int, further: str | None = None) -> list[str]:
    return textwrap.wrap(
        text, max(width, 40), initial_indent=indent, subsequent_indent=further or indent, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _ids(criteria: tuple[CriterionResult, ...]) -> str:
    names = [criterion.id for criterion in criteria]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + f" and {names[-1]}" if names else "all"

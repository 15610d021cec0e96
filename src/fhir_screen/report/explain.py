"""One decision as a colleague's note: the protocol's words, the answer, what it stands on, and what would settle it."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Final

from fhir_screen.core.answers import Evidence
from fhir_screen.core.decision import AtomResult, CriterionResult, Decision, Effect, Verdict
from fhir_screen.core.truth import Truth
from fhir_screen.report import wording
from fhir_screen.report.catalogue import Catalogue
from fhir_screen.report.english import ENGLISH

WIDTH: Final = 100


def note(
    decision: Decision, anchors: Mapping[str, date], criterion: str | None = None, words: Catalogue = ENGLISH
) -> Iterator[str]:
    """Line by line, the most important first; only one ``criterion`` where it (or an atom of it) is named.

    ``anchors`` are the known days that the answers rest on.
    """
    trial = decision.trial
    yield words.note_title.format(patient=decision.patient, trial=trial.id, title=trial.title)
    yield words.as_of.format(day=decision.as_of.isoformat(), verdict=verdict(decision, words))
    if anchors:
        yield known_days(anchors, words)
    if decision.death is not None:
        yield from ("", words.blocks.upper(), "", *_wrapped(f"· {source(decision.death, words)}", "  ", WIDTH, "    "))
    heading = ""
    for one in chosen(decision, criterion):
        if (title := group(decision, one, words)) != heading:
            heading = title
            yield from ("", title.upper())
        yield from ("", *_criterion(one, words, WIDTH))


def summary(decisions: Iterable[Decision], words: Catalogue = ENGLISH) -> str:
    """How many of each verdict, a line for each trial."""
    counted: dict[str, Counter[Verdict]] = {}
    for decision in decisions:
        counted.setdefault(decision.trial.id, Counter())[decision.verdict] += 1
    lines = (
        f"{trial}: " + ", ".join(words.sums.format(count=verdicts[one], verdict=words.verdict[one]) for one in Verdict)
        for trial, verdicts in sorted(counted.items())
    )
    return "\n".join(lines) or words.nobody


def known_days(anchors: Mapping[str, date], words: Catalogue) -> str:
    named = ((words.day_names.get(name, name.replace("_", " ")), day) for name, day in sorted(anchors.items()))
    return words.known_days.format(days=", ".join(f"{name} {day.isoformat()}" for name, day in named))


def chosen(decision: Decision, criterion: str | None) -> list[CriterionResult]:
    """The criteria to be told, in a person's order; of who has died none, unless one is asked for."""
    if decision.death is not None and criterion is None:
        return []
    return [c for c in wording.ordered(decision) if criterion in (None, c.id, *(atom.id for atom in c.atoms))]


def verdict(decision: Decision, words: Catalogue) -> str:
    """The verdict with its ground, in one sentence."""
    blocked, review = wording.blocking(decision), wording.to_review(decision)
    match decision.verdict:
        case Verdict.NOT_ELIGIBLE if decision.blocked_by:
            return words.refused_because.format(why=wording.blocked(decision.blocked_by, words))
        case Verdict.NOT_ELIGIBLE:
            sentence = words.refused_by_one if len(blocked) == 1 else words.refused_by_several
            return sentence.format(ids=_ids(blocked, words))
        case Verdict.NEEDS_REVIEW:
            return words.open_to_review.format(ids=_ids(review, words))
        case Verdict.LIKELY_ELIGIBLE:
            return words.left_to_people.format(count=wording.questions(decision))


def group(decision: Decision, criterion: CriterionResult, words: Catalogue) -> str:
    if criterion.effect is Effect.BLOCKS:
        return words.blocks
    if criterion in wording.to_review(decision):
        return words.open
    return words.people if criterion.effect is Effect.UNDETERMINED else words.speaks_for


def conclusion(criterion: CriterionResult, words: Catalogue) -> str:
    """What the criterion's answer means for the patient, said the way round that its role asks for."""
    truth = criterion.answer.truth
    if truth is None or truth is Truth.UNKNOWN:
        return words.answer[truth]
    holds = words.holds if truth is Truth.TRUE else words.does_not_hold
    if criterion.effect is Effect.UNDETERMINED:
        return words.probably.format(holds=holds)
    if criterion.effect is not Effect.SUPPORTS:
        return holds
    right = words.as_it_should.format(holds=holds)
    return words.to_confirm.format(conclusion=right) if criterion.answer.judged else right


def source(evidence: Evidence, words: Catalogue) -> str:
    """One source, down to the version: value, date, code, resource."""
    version = words.version.format(number=evidence.version) if evidence.version else ""
    parts = [evidence.value, evidence.date, evidence.code, f"{evidence.reference}{version}"]
    return ", ".join(part for part in parts if part)


def settled(criterion: CriterionResult, atom: AtomResult, words: Catalogue) -> str:
    """What would settle an atom that is open, and when its answer changes by itself; empty where neither is to say."""
    parts = []
    if atom in wording.open_atoms(criterion):
        what = wording.settles(atom, words)
        parts.append(what if atom.asked else words.to_settle.format(what=what))
    if atom.change:
        parts.append(words.by_time.format(answer=words.answer[atom.change.to], day=atom.change.day.isoformat()))
    return " ".join(part for part in parts if part)


def named(criterion: CriterionResult, one: AtomResult, words: Catalogue) -> str:
    """An atom's id with the protocol's words for it, where the criterion's are not its own; and the reader's label."""
    own = "" if len(criterion.atoms) == 1 else " ".join(one.text.split())
    return " ".join(part for part in (one.id, own, words.label(one)) if part)


def in_order(criterion: CriterionResult) -> list[AtomResult]:
    """The atoms on which an answer that blocks rests, before the others."""
    deciding = wording.deciding(criterion) if criterion.effect is Effect.BLOCKS else ()
    return sorted(criterion.atoms, key=lambda atom: atom not in deciding)


def _criterion(criterion: CriterionResult, words: Catalogue, width: int) -> Iterator[str]:
    kind, role = words.kind[criterion.role], words.role[criterion.role]
    yield f"{criterion.id} ({kind}, {role}): {conclusion(criterion, words)}"
    yield from _wrapped(f"“{' '.join(criterion.text.split())}”", "  ", width)
    if label := words.label(criterion):
        yield from _wrapped(label, "  ", width)
    for atom in in_order(criterion):
        yield from _atom(criterion, atom, words, width)


def _atom(criterion: CriterionResult, atom: AtomResult, words: Catalogue, width: int) -> Iterator[str]:
    answer = atom.answer
    because = "" if atom.asked else f": {answer.because}" if answer.because else ""
    yield from _wrapped(f"{named(criterion, atom, words)} – {words.answer[answer.truth]}{because}", "  ", width, "    ")
    for evidence in answer.evidence:
        yield from _wrapped(f"· {source(evidence, words)}", "      ", width, "        ")
    for hint in atom.hints:
        yield from _wrapped(words.hint.format(text=hint), "      ", width)
    if flags := "; ".join(wording.flags(atom, words)):
        yield from _wrapped(words.noted.format(flags=flags), "      ", width)
    if settling := settled(criterion, atom, words):
        yield from _wrapped(f"→ {settling}", "      ", width, "        ")


def _wrapped(text: str, indent: str, width: int, further: str | None = None) -> list[str]:
    return textwrap.wrap(
        text, max(width, 40), initial_indent=indent, subsequent_indent=further or indent, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _ids(criteria: tuple[CriterionResult, ...], words: Catalogue) -> str:
    names = [criterion.id for criterion in criteria]
    if len(names) < 2:
        return names[0] if names else words.everything
    return ", ".join(names[:-1]) + words.last_of_list.format(id=names[-1])

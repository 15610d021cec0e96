"""Answers that carry their because, their evidence and their reason through every composition (rules R1, R2, R17)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum

from fhir_screen.core.truth import Reason, Truth, all_true, any_true, first_reason, negated


class EvidenceKind(StrEnum):
    """What an answer stands on (rules R2, R3); the order is the order in which one hides another."""

    POSITIVE = "positive"
    INFERRED = "inferred"
    ORDER_ONLY = "order_only"
    EXPLICIT_NEGATIVE = "explicit_negative"
    NO_EVIDENCE = "no_evidence"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One source of an answer, down to the version of the resource."""

    reference: str
    version: str | None
    code: str
    value: str
    date: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One truth and everything that a person needs to dispute it.

    ``truth`` None is not applicable. ``firm`` is the truth with every judgement withheld: an answer rests on a proxy
    where ``firm`` is unknown and ``truth`` is not (rule R17). ``edges`` are the dates after which time alone may
    change the truth; they are candidates, and `screening` proves them.
    """

    truth: Truth | None
    firm: Truth | None
    reason: Reason | None = None
    because: str = ""
    evidence: tuple[Evidence, ...] = ()
    flags: frozenset[str] = frozenset()
    kind: EvidenceKind | None = None
    edges: frozenset[date] = frozenset()
    wanted: str = ""
    """What would settle an unknown, where the rule can say it."""

    def __invert__(self) -> Answer:
        return replace(self, truth=negated(self.truth), firm=negated(self.firm))

    @property
    def judged(self) -> bool:
        return self.truth is not self.firm

    def withheld(self) -> Answer:
        """The same answer as a judgement, which a person has to confirm."""
        return self if self.truth is None else replace(self, firm=Truth.UNKNOWN)

    def with_flags(self, *flags: str) -> Answer:
        return self if self.flags.issuperset(flags) else replace(self, flags=self.flags.union(flags))

    def with_edges(self, edges: Iterable[date]) -> Answer:
        days = frozenset(edges)
        return self if days <= self.edges else replace(self, edges=self.edges | days)


def yes(because: str, evidence: Sequence[Evidence] = (), *, kind: EvidenceKind = EvidenceKind.POSITIVE) -> Answer:
    return Answer(Truth.TRUE, Truth.TRUE, None, because, tuple(evidence), kind=kind)


def no(because: str, evidence: Sequence[Evidence] = (), *, kind: EvidenceKind = EvidenceKind.POSITIVE) -> Answer:
    return Answer(Truth.FALSE, Truth.FALSE, None, because, tuple(evidence), kind=kind)


_FLAG_OF = {
    Reason.STALE: "stale",
    Reason.CONFLICTING: "conflicting",
    Reason.CENSORED: "censored",
    Reason.UNIT_SUSPECT: "unit_suspect",
    Reason.UNIT_UNMAPPABLE: "unit_unmappable",
    Reason.PARTIAL_DATE: "partial_date",
    Reason.MASKED: "masked",
}


def unknown(reason: Reason, because: str, evidence: Sequence[Evidence] = (), *, wanted: str = "") -> Answer:
    """An unknown; the flag of the same meaning goes with its reason (rule R2)."""
    flags = frozenset({_FLAG_OF[reason]}) if reason in _FLAG_OF else frozenset[str]()
    return Answer(Truth.UNKNOWN, Truth.UNKNOWN, reason, because, tuple(evidence), flags, wanted=wanted)


def not_applicable(because: str) -> Answer:
    return Answer(None, None, None, because)


def all_of(answers: Sequence[Answer]) -> Answer:
    """Conjunction (strong Kleene, not-applicable left out)."""
    return _composed(answers, all_true)


def any_of(answers: Sequence[Answer]) -> Answer:
    """Disjunction (strong Kleene, not-applicable left out)."""
    return _composed(answers, any_true)


def _composed(answers: Sequence[Answer], combine: Callable[[Iterable[Truth | None]], Truth | None]) -> Answer:
    truth = combine(a.truth for a in answers)
    deciding = [a for a in answers if a.truth is truth]
    return Answer(
        truth,
        combine(a.firm for a in answers),
        first_reason(a.reason for a in deciding) if truth is Truth.UNKNOWN else None,
        joined(a.because for a in deciding),
        merged(deciding),
        frozenset[str]().union(*(a.flags for a in answers)),
        weakest(deciding),
        frozenset[date]().union(*(a.edges for a in answers)),
        joined(a.wanted for a in deciding) if truth is Truth.UNKNOWN else "",
    )


def joined(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(part for text in texts if text for part in text.split("; ")))


def merged(answers: Iterable[Answer]) -> tuple[Evidence, ...]:
    return in_order(e for answer in answers for e in answer.evidence)


def in_order(evidence: Iterable[Evidence]) -> tuple[Evidence, ...]:
    """Each source once, the earliest first; one without a version stands before its versions."""
    return tuple(sorted(set(evidence), key=_evidence_order))


def weakest(answers: Iterable[Answer]) -> EvidenceKind | None:
    """What a composed answer stands on: a found fact before an inferred one, an explicit no before mere silence."""
    kinds = {answer.kind for answer in answers if answer.kind is not None}
    return next((kind for kind in EvidenceKind if kind in kinds), None)


def _evidence_order(evidence: Evidence) -> tuple[str, str, str, str, str]:
    return (evidence.date, evidence.reference, evidence.version or "", evidence.code, evidence.value)

"""Truth has three values, and a missing one is never quietly a no (strong Kleene logic)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, StrEnum
from typing import NoReturn


class Truth(Enum):
    """FALSE < UNKNOWN < TRUE. Not-applicable is the absence of a truth, written ``None`` (rule R1)."""

    FALSE = 0
    UNKNOWN = 1
    TRUE = 2

    def __bool__(self) -> NoReturn:
        raise TypeError("a Truth is not a bool: compare it with `is Truth.TRUE`, unknown is an answer of its own")

    def __invert__(self) -> Truth:
        return Truth(2 - self.value)

    def __and__(self, other: Truth) -> Truth:
        return self if self.value <= other.value else other

    def __or__(self, other: Truth) -> Truth:
        return self if self.value >= other.value else other

    def __str__(self) -> str:
        return self.name.lower()

    @staticmethod
    def of(fact: bool) -> Truth:  # noqa: FBT001 - the one place where a bool becomes a Truth
        return Truth.TRUE if fact else Truth.FALSE


def all_true(truths: Iterable[Truth | None]) -> Truth | None:
    """Conjunction that leaves not-applicable operands out; nothing but those is itself not applicable."""
    applicable = [t for t in truths if t is not None]
    return min(applicable, key=lambda t: t.value) if applicable else None


def any_true(truths: Iterable[Truth | None]) -> Truth | None:
    """Disjunction that leaves not-applicable operands out; nothing but those is itself not applicable."""
    applicable = [t for t in truths if t is not None]
    return max(applicable, key=lambda t: t.value) if applicable else None


def negated(truth: Truth | None) -> Truth | None:
    """Negation; the negation of not-applicable is not applicable."""
    return None if truth is None else ~truth


def text_of(truth: Truth | None) -> str:
    """The word of the output contract: true, false, unknown or not-applicable."""
    return "not-applicable" if truth is None else str(truth)


class Reason(StrEnum):
    """Why an answer is unknown, in order of precedence: where several meet, the first one named here is told."""

    INCOMPLETE_FETCH = "incomplete-fetch"
    MASKED = "masked"
    CONFLICTING = "conflicting"
    UNIT_SUSPECT = "unit-suspect"
    UNIT_UNMAPPABLE = "unit-unmappable"
    NO_REFERENCE_RANGE = "no-reference-range"
    CENSORED = "censored"
    PARTIAL_DATE = "partial-date"
    STATUS = "status"
    UNMAPPED_CODE = "unmapped-code"
    STALE = "stale"
    ANCHOR_MISSING = "anchor-missing"
    NO_DATA = "no-data"
    POLICY = "policy"
    PROXY = "proxy"
    MANUAL = "manual"

    @property
    def rank(self) -> int:
        return _RANK[self]


_RANK: dict[Reason, int] = {reason: rank for rank, reason in enumerate(Reason)}


def first_reason(reasons: Iterable[Reason | None]) -> Reason | None:
    """The reason that takes precedence, or None where none was given."""
    given = [reason for reason in reasons if reason is not None]
    return min(given, key=lambda reason: reason.rank) if given else None

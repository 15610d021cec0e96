"""Amounts as intervals of exact numbers: "<5" is everything below five, and a comparison answers a Truth (rule R12)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from enum import StrEnum
from fractions import Fraction

from fhir_screen.core.truth import Truth


class Relation(StrEnum):
    """How a value is compared with its limit, as the protocol writes it."""

    BELOW = "<"
    AT_MOST = "<="
    AT_LEAST = ">="
    ABOVE = ">"
    EQUAL = "="


@dataclass(frozen=True, slots=True)
class Interval:
    """All numbers that a value may be; None is unbounded, an open end is not itself included."""

    low: Fraction | None
    high: Fraction | None
    low_open: bool = False
    high_open: bool = False

    @staticmethod
    def exactly(number: Fraction | int | str) -> Interval:
        value = Fraction(number)
        return Interval(value, value)

    @property
    def exact(self) -> bool:
        return self.low is not None and self.low == self.high

    def times(self, factor: Fraction) -> Interval:
        """Scaled by a positive factor, as a change of unit does."""
        return Interval(
            None if self.low is None else self.low * factor,
            None if self.high is None else self.high * factor,
            self.low_open,
            self.high_open,
        )

    def plus(self, offset: Fraction) -> Interval:
        """Moved by a number, as a change between scales with different zeros does."""
        low = None if self.low is None else self.low + offset
        high = None if self.high is None else self.high + offset
        return Interval(low, high, self.low_open, self.high_open)

    def compare(self, relation: Relation, limit: Fraction) -> Truth:
        """TRUE where every possible value stands in the relation, FALSE where none does."""
        match relation:
            case Relation.AT_LEAST:
                return _all_or_none(self._not_below(limit), self._wholly_below(limit))
            case Relation.ABOVE:
                return _all_or_none(self._wholly_above(limit), self._not_above(limit))
            case Relation.AT_MOST:
                return _all_or_none(self._not_above(limit), self._wholly_above(limit))
            case Relation.BELOW:
                return _all_or_none(self._wholly_below(limit), self._not_below(limit))
            case Relation.EQUAL:
                outside = self._wholly_below(limit) or self._wholly_above(limit)
                return _all_or_none(self.exact and self.low == limit, outside)

    def compare_interval(self, relation: Relation, limit: Interval) -> Truth:
        """The same against a limit that is itself known only as an interval of finite ends."""
        if limit.low is None or limit.high is None:
            return Truth.UNKNOWN
        if relation is Relation.EQUAL and not limit.exact:
            apart = self._wholly_below(limit.low) or self._wholly_above(limit.high)
            return Truth.FALSE if apart else Truth.UNKNOWN
        answers = {self.compare(relation, limit.low), self.compare(relation, limit.high)}
        return answers.pop() if len(answers) == 1 else Truth.UNKNOWN

    def compare_within(self, allowed: Interval) -> bool:
        """Whether every possible value lies inside ``allowed``."""
        above = allowed.low is None or self._not_below(allowed.low)
        return above and (allowed.high is None or self._not_above(allowed.high))

    def hull(self, other: Interval) -> Interval:
        return _span_of([self, other])

    def _not_below(self, limit: Fraction) -> bool:
        return self.low is not None and self.low >= limit

    def _wholly_above(self, limit: Fraction) -> bool:
        return self.low is not None and (self.low > limit or (self.low == limit and self.low_open))

    def _not_above(self, limit: Fraction) -> bool:
        return self.high is not None and self.high <= limit

    def _wholly_below(self, limit: Fraction) -> bool:
        return self.high is not None and (self.high < limit or (self.high == limit and self.high_open))


ANY_NUMBER = Interval(None, None)


def _all_or_none(all_inside: bool, none_inside: bool) -> Truth:  # noqa: FBT001 - two findings, not two switches
    return Truth.TRUE if all_inside else Truth.FALSE if none_inside else Truth.UNKNOWN


def hull(intervals: Sequence[Interval | None]) -> Interval | None:
    """The least interval that holds them all; None where one of them is no number."""
    known = [interval for interval in intervals if interval is not None]
    return _span_of(known) if len(known) == len(intervals) else None


def _span_of(parts: Sequence[Interval]) -> Interval:
    lows = [p.low for p in parts]
    highs = [p.high for p in parts]
    low = None if None in lows else min(n for n in lows if n is not None)
    high = None if None in highs else max(n for n in highs if n is not None)
    low_open = all(p.low_open for p in parts if p.low == low)
    return Interval(low, high, low_open, all(p.high_open for p in parts if p.high == high))


_COMPARATORS = {"<": Relation.BELOW, "<=": Relation.AT_MOST, "≤": Relation.AT_MOST, ">": Relation.ABOVE,
                ">=": Relation.AT_LEAST, "≥": Relation.AT_LEAST}  # fmt: skip


def compared(number: Fraction, comparator: str | None) -> Interval | None:
    """A number with the comparator of a FHIR Quantity; None for one that R4 does not know (rule R12).

    "<" means from zero on, since no laboratory quantity is negative.
    """
    match _COMPARATORS.get(comparator or "") if comparator else Relation.EQUAL:
        case Relation.EQUAL:
            return Interval(number, number)
        case Relation.BELOW:
            return Interval(min(Fraction(0), number), number, high_open=True)
        case Relation.AT_MOST:
            return Interval(min(Fraction(0), number), number)
        case Relation.ABOVE:
            return Interval(number, None, low_open=True)
        case Relation.AT_LEAST:
            return Interval(number, None)
        case _:
            return None


_NUMBER = r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+"
_TEXT = re.compile(
    rf"(?P<sign><=|>=|<|>|≤|≥)?\s*(?P<low>{_NUMBER})(?:\s*(?:-|~|–|—|to)\s*(?P<high>{_NUMBER}))?(?:\s*(?P<unit>[^\d\s.,].*)|\s+(?P<power>10(?:\*|\^|\(|[eE³⁴⁶⁹]).*))?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Quantity:
    """An amount as the record gives it. ``unit_code`` is a UCUM code, ``unit_text`` what the laboratory printed."""

    interval: Interval
    unit_code: str | None
    unit_text: str | None
    shown: str

    @staticmethod
    def from_text(text: str) -> Quantity | None:
        """Reads "<0.1", ">1,000 /uL", "50~55 %"; None for a text that is more or less than one amount."""
        match = _TEXT.fullmatch(text.strip())
        if not match:
            return None
        low = Fraction(match["low"].replace(",", ""))
        if match["high"] is None:
            interval = compared(low, match["sign"])
        else:
            high = Fraction(match["high"].replace(",", ""))
            interval = None if match["sign"] or high < low else Interval(low, high)
        return (
            None if interval is None else Quantity(interval, None, (match["unit"] or match["power"] or "").strip() or None, text.strip())
        )


def number_text(value: Fraction) -> str:
    """A number for people: exact where it has few digits, else four significant ones."""
    if value.denominator == 1:
        return str(value.numerator)
    decimal = Decimal(value.numerator) / Decimal(value.denominator)
    short = f"{decimal:.4g}"
    plain = f"{Decimal(short):f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def interval_text(interval: Interval) -> str:
    if interval.exact and interval.low is not None:
        return number_text(interval.low)
    if interval.low is None and interval.high is None:
        return "unknown"
    if interval.low is None or (interval.low == 0 and interval.high_open):
        return f"{'<' if interval.high_open else '<='} {number_text(interval.high or Fraction(0))}"
    if interval.high is None:
        return f"{'>' if interval.low_open else '>='} {number_text(interval.low)}"
    low, high = number_text(interval.low), number_text(interval.high)
    return low if low == high else f"{low} to {high}"


_UP = Context(prec=40, rounding=ROUND_CEILING)
_DOWN = Context(prec=40, rounding=ROUND_FLOOR)


def irrational(name: str, value: Fraction) -> Interval | None:
    """Square root, natural or decimal logarithm, enclosed between two decimals of 40 digits; None where undefined."""
    if value < 0 or (value == 0 and name != "sqrt"):
        return None

    def bound(context: Context) -> Fraction:
        decimal = context.divide(Decimal(value.numerator), Decimal(value.denominator))
        result = {"sqrt": context.sqrt, "ln": context.ln, "log10": context.log10}[name](decimal)
        return Fraction(result)

    if name == "sqrt":
        root = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
        if root * root == value:
            return Interval(root, root)
    low, high = bound(_DOWN), bound(_UP)
    slack = Fraction(1, 10**30)
    return Interval(low - slack, high + slack)

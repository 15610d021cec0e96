"""How FHIR writes amounts, dates, ages and dosage lines (R4 section 2.24), read into core values without ever failing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta, tzinfo
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any, Final

from fhir_screen.core.codes import canonical_uri
from fhir_screen.core.dates import BEGINNING, END_OF_TIME, Period, Span, add_months
from fhir_screen.core.facts import Dose
from fhir_screen.core.quantities import ANY_NUMBER, Interval, Quantity, compared
from fhir_screen.fhir.raw import Json

_UCUM = {"http://unitsofmeasure.org", "http://www.unitsofmeasure.org", "urn:oid:2.16.840.1.113883.6.8"}
_LONGEST_NUMBER = 40
_OLDEST = 200


def items(values: object) -> Iterator[Any]:
    """What was found, with lists taken apart and nulls left out: sites send one where FHIR has many, and the reverse."""
    if isinstance(values, list | tuple):
        for value in values:
            yield from items(value)
    elif values is not None:
        yield values


def flat(found: list[Any]) -> list[Any]:
    """The same as a list; mostly it is one already."""
    return list(items(found)) if any(one is None or isinstance(one, list) for one in found) else found


def objects(values: object) -> Iterator[Json]:
    return (value for value in items(values) if isinstance(value, dict))


def string(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def words_of(values: object) -> list[str]:
    """Codes as text; a JSON boolean by its name."""
    words = (str(one).lower() if isinstance(one, bool) else string(one) for one in items(values))
    return [word for word in words if word]


# Amounts


def number(value: object) -> Fraction | None:
    """A JSON number, exactly as it was printed; None for what is none, or has more digits than any measurement."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    decimal = Decimal(value) if isinstance(value, int) else Decimal(str(value))
    if not decimal.is_finite() or abs(decimal.adjusted()) > _LONGEST_NUMBER:
        return None
    return Fraction(decimal)


def quantity(value: Json) -> Quantity | None:
    """A FHIR Quantity; None where it has no value at all.

    A value that cannot be used (not a number, a comparator that R4 does not know) may be any number: it is there, and
    decides nothing (rule R12).
    """
    if value.get("value") is None:
        return None
    amount, comparator = number(value["value"]), value.get("comparator")
    known = comparator is None or isinstance(comparator, str)
    interval = compared(amount, comparator) if amount is not None and known else None
    code, text = _unit(value)
    shown = (
        f"{comparator or ''}{_few_digits(value['value'])} {text or ''}".strip()
        if isinstance(value["value"], str | int | float | Decimal)
        else ""
    )
    return Quantity(interval or ANY_NUMBER, code, text, shown)


_DECIMALS_SHOWN: Final = 6


def _few_digits(value: object) -> str:
    """A number as it was recorded; of computed ones with many decimals the first, and a sign that there are more.

    They are cut and not rounded: 8.9999999 must not be shown as 9.
    """
    text = str(value)
    whole, point, decimals = text.partition(".")
    if not decimals.isdigit() or not decimals[_DECIMALS_SHOWN:].strip("0"):
        return text
    return f"{whole}{point}{decimals[:_DECIMALS_SHOWN]}…"


def bare_number(value: object, unit: str = "") -> Quantity | None:
    amount = number(value)
    return None if amount is None else Quantity(Interval.exactly(amount), None, unit or None, f"{_few_digits(value)} {unit}".strip())


def quantity_range(value: Json) -> Quantity | None:
    """A FHIR Range: all numbers from low to high; None where it has neither, or they are in different units."""
    low, high = (_end(value.get(name)) for name in ("low", "high"))
    known = low or high
    if known is None or (low and high and (low.unit_code, low.unit_text) != (high.unit_code, high.unit_text)):
        return None
    shown = f"{low.shown if low else ''} - {high.shown if high else ''}".strip(" -")
    interval = Interval(low.interval.low if low else None, high.interval.high if high else None)
    if interval.low is not None and interval.high is not None and interval.low > interval.high:
        interval = ANY_NUMBER
    return Quantity(interval, known.unit_code, known.unit_text, shown)


def _end(value: object) -> Quantity | None:
    return quantity(value) if isinstance(value, dict) else None


def titre(value: Json) -> tuple[Quantity | None, str]:
    """A FHIR Ratio, and how it is written: 1:40 is the titre 40, any other ratio its quotient."""
    top, bottom = _end(value.get("numerator")), _end(value.get("denominator"))
    if top is None or bottom is None:
        return None, ""
    shown = f"{top.shown}:{bottom.shown}"
    over, under = top.interval, bottom.interval
    if not (over.exact and under.exact) or over.low is None or not under.low:
        return Quantity(ANY_NUMBER, None, None, shown), shown
    if over.low == 1 and not (top.unit_text or bottom.unit_text):
        return Quantity(under, None, None, shown), shown
    units = (top.unit_text, bottom.unit_text)
    unit = f"{units[0] or '1'}/{units[1]}" if units[1] else units[0]
    return Quantity(Interval.exactly(over.low / under.low), None, unit, shown), shown


def _unit(value: Json) -> tuple[str | None, str | None]:
    """The UCUM code, where the system says that it is one, and the text; a code of no system is only a text."""
    code, text = string(value.get("code")) or None, string(value.get("unit")) or None
    ucum = canonical_uri(string(value.get("system"))) in _UCUM
    return (code if ucum else None), text or code


def years(value: Json) -> Interval | None:
    """A FHIR Range of ages, in years; None where a bound cannot be read."""
    bounds = [_years(value[name]) if value.get(name) is not None else None for name in ("low", "high")]
    unread = any(
        value.get(name) is not None and bound is None for name, bound in zip(("low", "high"), bounds, strict=True)
    )
    return None if unread or bounds == [None, None] else Interval(bounds[0], bounds[1])


def _years(value: object) -> Fraction | None:
    amount, unit = _age(value)
    per_year = {"a": Fraction(1), "mo": Fraction(12), "wk": Fraction(36525, 700), "d": Fraction(36525, 100)}
    return None if amount is None or not unit else amount / per_year[unit]


# Dates


@dataclass(frozen=True, slots=True)
class Stretch:
    """A FHIR Period as it came: either end may be missing, not both."""

    start: Span | None
    end: Span | None

    @property
    def begins(self) -> Span:
        """Where no start was recorded it began at any time up to the end."""
        return self.start or Span(BEGINNING, self.end.last if self.end else END_OF_TIME)

    @property
    def ends(self) -> Span:
        """Where no end was recorded it ended at any time from the start on, if at all."""
        return self.end or Span(self.start.first if self.start else BEGINNING, END_OF_TIME)

    @property
    def whole(self) -> Span:
        """A point that lies anywhere in it."""
        return Span(self.begins.first, self.ends.last)


def dated(value: object, zone: tzinfo, born: Span | None) -> Span | Stretch | None:
    """A date, dateTime or instant, a Period, a Dosage with its Timing, an Age or a Range of ages (rule R7).

    None for what is none of them, or has no dates.
    """
    if isinstance(value, str):
        return Span.parse(value, zone)
    if not isinstance(value, dict):
        return None
    if isinstance(timing := value.get("timing"), dict):
        return _timed(timing, zone)
    if "start" in value or "end" in value:
        return stretch(value, zone)
    if "low" in value or "high" in value:
        return _age_range(value, born)
    return _at_age(value, born)


def _timed(timing: Json, zone: tzinfo) -> Stretch | None:
    """From the first event or bound of a Timing to the last."""
    events = timing.get("event")
    found: list[Span | Stretch] = [day for event in events if (day := Span.parse(event, zone))] if isinstance(events, list) else []
    repeat = timing.get("repeat")
    bounded = repeat.get("boundsPeriod") if isinstance(repeat, dict) else None
    if isinstance(bounded, dict) and (period := stretch(bounded, zone)):
        found.append(period)
    return hull(found) if found else None


def hull(many: Sequence[Span | Stretch]) -> Stretch:
    """From the first beginning to the last end; open where one of them is."""
    starts = [one if isinstance(one, Span) else one.start for one in many]
    ends = [one if isinstance(one, Span) else one.end for one in many]
    known_starts, known_ends = [s for s in starts if s], [e for e in ends if e]
    start = Span(min(s.first for s in known_starts), min(s.last for s in known_starts)) if len(known_starts) == len(many) else None
    end = Span(max(e.first for e in known_ends), max(e.last for e in known_ends)) if len(known_ends) == len(many) else None
    return Stretch(start, end)


def stretch(value: Json, zone: tzinfo) -> Stretch | None:
    """None where neither end can be read, or the end lies before the start: then nobody knows which one is right."""
    start, end = Span.parse(value.get("start"), zone), Span.parse(value.get("end"), zone)
    if start is None and end is None:
        return None
    return None if start and end and end.last < start.first else Stretch(start, end)


def _age_range(value: Json, born: Span | None) -> Span | None:
    low, high = (_at_age(value.get(name), born) for name in ("low", "high"))
    if born is None or (low is None and high is None):
        return None
    first, last = low.first if low else born.first, high.last if high else END_OF_TIME
    return Span(first, last) if first <= last else None


def _at_age(value: object, born: Span | None) -> Span | None:
    """All days on which somebody may have been that old; an age in years lasts a year."""
    amount, unit = _age(value)
    if born is None or amount is None or (isinstance(value, dict) and value.get("comparator")):
        return None
    if unit in ("a", "mo"):
        months = int(amount * 12) if unit == "a" else int(amount)
        return _shifted(born, months, 0, months + (12 if unit == "a" else 1), -1)
    length = 7 if unit == "wk" else 1
    days = int(amount * length)
    return _shifted(born, 0, days, 0, days + length - 1)


def _shifted(born: Span, months: int, days: int, last_months: int, last_days: int) -> Span | None:
    try:
        first = add_months(born.first, months) + timedelta(days=days)
        return Span(first, add_months(born.last, last_months) + timedelta(days=last_days))
    except (OverflowError, ValueError):
        return None


_AGE_UNITS: Final = {
    "a": "a", "y": "a", "yr": "a", "yrs": "a", "year": "a", "years": "a", "a_j": "a", "mo": "mo", "month": "mo", "months": "mo",
    "wk": "wk", "week": "wk", "weeks": "wk", "d": "d", "day": "d", "days": "d", "세": "a", "개월": "mo",
}  # fmt: skip


def _age(value: object) -> tuple[Fraction | None, str]:
    """The amount and its unit (a, mo, wk, d); None where it is no age that somebody can reach."""
    if not isinstance(value, dict):
        return None, ""
    amount = number(value.get("value"))
    names = (string(value.get(name)).lower() for name in ("code", "unit"))
    unit = next((_AGE_UNITS[name] for name in names if name in _AGE_UNITS), "")
    limit = {"a": 1, "mo": 12, "wk": 53, "d": 366}.get(unit, 0) * _OLDEST
    return (amount, unit) if amount is not None and 0 <= amount <= limit else (None, "")


# Dosage


PerDay = tuple[int, int]

_TIMES: Final[Mapping[str, PerDay]] = {
    "QD": (1, 1), "DAILY": (1, 1), "BID": (2, 1), "TID": (3, 1), "QID": (4, 1), "QOD": (1, 2),
    "AM": (1, 1), "PM": (1, 1), "BED": (1, 1), "HS": (1, 1), "QAM": (1, 1), "QPM": (1, 1), "QHS": (1, 1),
    "Q1H": (24, 1), "Q2H": (12, 1), "Q3H": (8, 1), "Q4H": (6, 1), "Q6H": (4, 1), "Q8H": (3, 1), "Q12H": (2, 1),
    "Q24H": (1, 1), "WK": (1, 7), "MO": (1, 30),
}  # fmt: skip
"""Intakes and in how many days, by FHIR GTSAbbreviation and the usual Latin ones."""

_DAYS: Final = {"d": Fraction(1), "wk": Fraction(7), "mo": Fraction(30), "a": Fraction(365),
                "h": Fraction(1, 24), "min": Fraction(1, 1440)}  # fmt: skip
_PER_BODY = re.compile(r"/\s*(?:kg|m2|m²|\{?m\^?2\}?)", re.IGNORECASE)
_PER_DAY = re.compile(r"\s*/\s*(?:d|day|24\.?h)$", re.IGNORECASE)


def times_of_code(text: str) -> PerDay | None:
    return _TIMES.get(text.strip().upper().rstrip("."))


def times_of(repeat: Json, *, least: bool = False) -> PerDay | None:
    """How often by Timing.repeat (R4 section 2.24.0.8), as intakes in days, at most or at ``least``; None where it does not say."""
    at_hours = max(_count(repeat.get("when")), _count(repeat.get("timeOfDay")))
    names = ("frequency",) if least else ("frequency", "frequencyMax")
    given = [n for n in (number(repeat.get(name)) for name in names) if n is not None and n > 0]
    length = (number(repeat.get("periodMax")) if least else None) or number(repeat.get("period"))
    if length is None:
        if given or at_hours:
            return _whole(max([*given, Fraction(at_hours)]))
        weekdays = _count(repeat.get("dayOfWeek"))
        return (weekdays, 7) if weekdays else None
    unit = _DAYS.get(string(repeat.get("periodUnit")))
    if unit is None or length <= 0:
        return None
    frequency = max(given, default=Fraction(1))
    if length * unit == 1:
        frequency = max(frequency, Fraction(at_hours))
    return _whole(frequency / (length * unit))


def course(repeat: Json) -> tuple[int, int] | None:
    """How many days a Timing.repeat covers, at least and at most: boundsDuration, boundsRange, or its count of intakes."""
    if isinstance(value := repeat.get("boundsDuration"), dict):
        days = duration(value)
        return None if days is None else (days, days)
    if isinstance(value := repeat.get("boundsRange"), dict):
        ends = [duration(one) for name in ("low", "high") if isinstance(one := value.get(name), dict)]
        known = [days for days in ends if days is not None]
        return (min(known) if len(known) > 1 else 1, max(known)) if known else None
    most = max((n for name in ("count", "countMax") if (n := number(repeat.get(name))) is not None), default=None)
    times = times_of(repeat)
    if most is None or times is None or not 0 < most <= _MOST_DAYS:
        return None
    days = ceil(most * times[1] / times[0])
    return days, days


_MOST_DAYS: Final = 36_500


def duration(value: Json) -> int | None:
    """A Duration in whole days, the last one counted even where it is not full; None where it is none."""
    amount = number(value.get("value"))
    units = (_DAYS.get(string(value.get(name)).lower().rstrip("s")) or _DAYS.get(string(value.get(name))) for name in ("code", "unit"))
    unit = next((one for one in units if one), None) or _LONG_UNITS.get(string(value.get("unit")).lower().rstrip("s"))
    if amount is None or unit is None or not 0 < amount * unit <= _MOST_DAYS:
        return None
    return ceil(amount * unit)


_LONG_UNITS: Final = {"day": Fraction(1), "week": Fraction(7), "month": Fraction(30), "year": Fraction(365), "hour": Fraction(1, 24)}


def ranging(amount: Quantity, least: PerDay, most: PerDay) -> Quantity:
    """A dose that is taken at least and at most so often, as one that is taken at least so often and may be more."""
    more = Fraction(most[0], most[1]) / Fraction(least[0], least[1])
    high = amount.interval.high
    widened = Interval(amount.interval.low, None if high is None else high * more)
    return Quantity(widened, amount.unit_code, amount.unit_text, amount.shown)


_MASS = re.compile(r"(?:k|m|u|µ|μ|mc|n)?g(?:ram)?s?", re.IGNORECASE)


def is_mass(amount: Quantity) -> bool:
    return bool(_MASS.fullmatch((amount.unit_code or amount.unit_text or "").strip()))


def _whole(rate: Fraction) -> PerDay | None:
    """A rate above once a day has to be a whole number, else no day is like the other."""
    return None if rate > 1 and rate.denominator != 1 else (rate.numerator, rate.denominator)


def _count(value: object) -> int:
    return len({str(one) for one in items(value)})


def dose_amount(value: Json) -> Quantity | None:
    """A dose, as Quantity or as Range."""
    return quantity_range(value) if "low" in value or "high" in value else quantity(value)


def dose(
    amount: Quantity | None, per_day: PerDay | None, *, as_needed: bool = False, bounds: Period | None = None
) -> Dose:
    """One dosage line; "mg/d" is a whole day's amount, "mg/kg" and "mg/m2" need a body to be an amount at all."""
    unit = "" if amount is None else amount.unit_code or amount.unit_text or ""
    per_kilogram = bool(_PER_BODY.search(unit))
    if amount is not None and _PER_DAY.search(unit):
        amount, per_day = _without_day(amount), (1, 1)
    return Dose(amount, per_day, as_needed, bounds, per_kilogram)


def _without_day(amount: Quantity) -> Quantity:
    code, text = (None if unit is None else _PER_DAY.sub("", unit) for unit in (amount.unit_code, amount.unit_text))
    return Quantity(amount.interval, code, text, amount.shown)


def bounds(repeat: Json, zone: tzinfo) -> Period | None:
    """Timing.repeat.boundsPeriod; an end that is not given does not bound."""
    value = repeat.get("boundsPeriod")
    found = stretch(value, zone) if isinstance(value, dict) else None
    if found is None:
        return None
    return Period(found.start or Span.on(BEGINNING), found.end or Span.on(date.max))

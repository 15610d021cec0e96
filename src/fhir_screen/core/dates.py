"""A date as far as we know it: every FHIR date is an interval of civil days, compared three-valued (rule R7)."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo

from fhir_screen.core.truth import Truth

BEGINNING, END_OF_TIME = date.min, date.max

_FHIR = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)"
    r"(?:T(?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d)(?P<fraction>\.\d+)?)?)?"
    r"(?P<zone>Z|[+-]\d\d:?\d\d)?)?)?)?"
)


@dataclass(frozen=True, slots=True)
class Window:
    """A closed interval of civil days: both ends lie inside."""

    first: date
    last: date

    def __contains__(self, day: date) -> bool:
        return self.first <= day <= self.last

    def __str__(self) -> str:
        return f"{self.first.isoformat()} to {self.last.isoformat()}"


@dataclass(frozen=True, slots=True)
class Span:
    """One point in time, known to lie between two civil days of the site's time zone, both included.

    ``moment`` is the local time where the source gave one; it orders results of one day.
    """

    first: date
    last: date
    moment: datetime | None = None

    @staticmethod
    def parse(text: object, zone: tzinfo) -> Span | None:
        """Reads FHIR date, dateTime and instant (R4 section 2.24.0.1); what is none of them gives None.

        A dateTime with an offset is converted to the civil day of ``zone``; one without is taken as local there.
        """
        match = _FHIR.fullmatch(text.strip()) if isinstance(text, str) else None
        return _span_of(match.groupdict(), zone) if match else None

    @staticmethod
    def on(day: date) -> Span:
        return Span(day, day)

    @property
    def exact(self) -> bool:
        return self.first == self.last

    @property
    def earliest(self) -> datetime:
        return self.moment or datetime.combine(self.first, time.min)

    @property
    def latest(self) -> datetime:
        return self.moment or datetime.combine(self.last, time.max)

    def not_after(self, day: date) -> Span:
        """The same point, now known not to lie after ``day``; unchanged where it can only lie after it."""
        return self if self.last <= day or self.first > day else Span(self.first, day, self.moment)

    def within(self, window: Window) -> Truth:
        if self.first >= window.first and self.last <= window.last:
            return Truth.TRUE
        return Truth.FALSE if self.last < window.first or self.first > window.last else Truth.UNKNOWN

    @property
    def told(self) -> str:
        """When it was, as a part of a sentence: "on 2025-11-10", "in 2025-11", "by 2025-11-15"."""
        text = str(self)
        return text if text[:1].isalpha() else f"in {text}" if len(text) < len("2025-01-01") else f"on {text}"

    def __str__(self) -> str:
        if self.exact:
            return self.first.isoformat()
        if self.first == BEGINNING:
            return f"by {self.last.isoformat()}" if self.last != END_OF_TIME else "unknown date"
        if self.last == END_OF_TIME:
            return f"after {self.first.isoformat()}"
        if self.first.day == 1 and (self.first.year, self.first.month) == (self.last.year, self.last.month):
            return f"{self.first:%Y-%m}"
        if (self.first.month, self.first.day) == (1, 1) and self.first.year == self.last.year:
            return str(self.first.year)
        # a bound that a recordedDate gives reaches back to the birth date, which must not be printed
        return f"by {self.last.isoformat()}"


@dataclass(frozen=True, slots=True)
class Period:
    """From one point to another, each known as far as it is; an event has the same point twice."""

    start: Span
    end: Span

    @staticmethod
    def at(point: Span) -> Period:
        return Period(point, point)

    def overlaps(self, window: Window) -> Truth:
        """Whether some day of the period lies in the window."""
        if self.end.last < window.first or self.start.first > window.last:
            return Truth.FALSE
        if self.start.last <= window.last and self.end.first >= window.first:
            return Truth.TRUE
        return Truth.UNKNOWN

    def not_after(self, day: date) -> Period:
        return Period(self.start.not_after(day), self.end.not_after(day))

    @property
    def told(self) -> str:
        """When it was, as a part of a sentence."""
        text = str(self)
        return self.start.told if self.start == self.end else text if text[:1].isalpha() else f"from {text}"

    def __str__(self) -> str:
        if self.start == self.end:
            return str(self.start)
        if self.end.first == END_OF_TIME:
            return f"since {self.start}"
        if self.end.last == END_OF_TIME:
            begun = str(self.start)
            return f"{'' if begun.startswith('by ') else 'from '}{begun}, end not recorded"
        return f"{self.start} to {self.end}"


@dataclass(frozen=True, slots=True)
class Length:
    """A length of time as protocols write it: weeks are seven days, months and years go by the calendar (rule R8)."""

    days: int = 0
    months: int = 0

    def __str__(self) -> str:
        years, months = divmod(self.months, 12)
        parts = ((years, "year"), (months, "month"), (self.days, "day"))
        return " and ".join(f"{count} {unit}{'' if count == 1 else 's'}" for count, unit in parts if count) or "0 days"

    def before(self, day: date) -> date:
        return self._shift(day, -1)

    def after(self, day: date) -> date:
        return self._shift(day, 1)

    def _shift(self, day: date, sign: int) -> date:
        try:
            return add_months(day, sign * self.months) + timedelta(days=sign * self.days)
        except (OverflowError, ValueError):
            return BEGINNING if sign < 0 else END_OF_TIME


def add_months(day: date, months: int) -> date:
    """Calendar arithmetic; 31 January and a month is the last of February, 29 February and a year the 28th."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def next_day(day: date) -> date:
    return day if day == END_OF_TIME else day + timedelta(days=1)


def birthday(born: date, years: int) -> date:
    """The day on which ``years`` are completed; born on 29 February, in common years that is 1 March (rule R8)."""
    if born.year + years > END_OF_TIME.year:
        return END_OF_TIME
    if (born.month, born.day) == (2, 29) and not calendar.isleap(born.year + years):
        return date(born.year + years, 3, 1)
    return born.replace(year=born.year + years)


def completed_years(born: date, on: date) -> int:
    """Age in completed civil years, never negative."""
    return max(0, on.year - born.year - (on < birthday(born, on.year - born.year)) if on >= born else 0)


def _span_of(parts: dict[str, str | None], zone: tzinfo) -> Span | None:
    year, month, day = (int(parts[name] or 0) for name in ("year", "month", "day"))
    try:
        if parts["month"] is None:
            return Span(date(year, 1, 1), date(year, 12, 31))
        if parts["day"] is None:
            return Span(date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1]))
        civil = date(year, month, day)
        if parts["hour"] is None:
            return Span(civil, civil)
        return _instant(civil, parts, zone)
    except (ValueError, OverflowError):
        return None


def _instant(civil: date, parts: dict[str, str | None], zone: tzinfo) -> Span:
    hour, minute, second = (int(parts[name] or 0) for name in ("hour", "minute", "second"))
    micro = int(float(parts["fraction"] or 0) * 1_000_000)
    moment = datetime.combine(civil, time(0, minute, min(second, 59), micro)) + timedelta(hours=min(hour, 24))
    if hour > 24 or minute > 59 or second > 60:
        raise ValueError("no time of day")
    if parts["zone"]:
        try:
            moment = moment.replace(tzinfo=_offset(parts["zone"])).astimezone(zone).replace(tzinfo=None)
        except OverflowError:
            return Span(civil, civil)
    return Span(moment.date(), moment.date(), moment)


def _offset(text: str) -> tzinfo:
    if text == "Z":
        return UTC
    digits = text[1:].replace(":", "")
    delta = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-delta if text[0] == "-" else delta)

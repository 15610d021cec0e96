"""When a statement holds: from when to when, for how many days, and whether it still goes on (rule R7)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from fhir_screen.core.dates import BEGINNING, END_OF_TIME, Period, Span
from fhir_screen.core.truth import Truth
from fhir_screen.fhir.datatypes import Stretch, course, dated, duration, hull, items, objects, words_of
from fhir_screen.fhir.dosage import is_stepwise, repeat_of
from fhir_screen.fhir.raw import Json
from fhir_screen.fhir.reading import Reading, all_found, found_at
from fhir_screen.mapping.shapes import Going, Place, ResourceShape, Take

_ORDER_ONLY = "order_only"


def dates_of(
    reading: Reading, shape: ResourceShape, resource: Json
) -> tuple[Period | None, Truth, Span | None, frozenset[str]]:
    """The period, whether it goes on, when it was recorded, and the flags of the places that were used."""
    going = _going(shape.ongoing, resource)
    when, flag = _first(reading, (*shape.when, *shape.start), resource)
    end, end_flag = _first(reading, shape.end, resource)
    recorded, _ = _first(reading, shape.recorded, resource)
    known = recorded if isinstance(recorded, Span) else recorded.ends if recorded else None
    ended = end if isinstance(end, Span) else end.ends if end else None
    if isinstance(when, Stretch) and shape.start:
        when = when.whole
    if ended and going is Truth.TRUE and shape.start:
        going = Truth.UNKNOWN  # recorded as going on, and as over
    elif ended or (isinstance(when, Stretch) and when.end):
        going = Truth.FALSE
    if isinstance(when, Span) and ended is None and (days := _course(reading, shape, resource, going)):
        return _for_days(when, days, going), Truth.FALSE, known, frozenset({flag} - {""})
    if isinstance(when, Span) and ended is None and _is_that_day(shape, going):
        return Period.at(when), _without_intake(shape, going), known, frozenset({flag} - {""})
    period = _period(reading, when, ended, known, going)
    return period, going, known, frozenset({flag, end_flag} - {""})


def when_asserted(reading: Reading, shape: ResourceShape, resource: Json) -> Span | None:
    """When it was asserted, where an element says just that; when it began is another question."""
    found, _ = _first(reading, shape.asserted, resource)
    return found.whole if isinstance(found, Stretch) else found


def _course(reading: Reading, shape: ResourceShape, resource: Json, going: Truth) -> tuple[int, int] | None:
    """For how many days it was to be taken, by all of its dosage lines; else how long the supply lasts at most."""
    if shape.doses is None:
        return None
    lines = list(objects(shape.doses.at(resource)))
    each = [course(repeat_of(shape.doses, line)) for line in lines]
    known = [days for days in each if days is not None]
    if known and len(known) == len(lines):
        joint = sum if is_stepwise(lines) else max
        return joint(low for low, _ in known), joint(high for _, high in known)
    supplies = [duration(one) for one in objects(all_found(reading, shape.supply, resource))]
    longest = max((days for days in supplies if days is not None), default=None)
    return None if longest is None or going is Truth.TRUE else (1, longest)


def _for_days(begun: Span, days: tuple[int, int], going: Truth) -> Period:
    """From its first day on; what is not active any more may have ended before its time."""
    low, high = (timedelta(days=count - 1) for count in days)
    return Period(begun, Span(begun.first + (low if going is Truth.TRUE else timedelta(0)), begun.last + high))


def _is_that_day(shape: ResourceShape, going: Truth) -> bool:
    """Whether a single date is the whole of it: an intake always, an event that does not go on (rule R15)."""
    lasts = bool(shape.start or shape.end)
    return _is_intake(shape) or not (lasts or going is Truth.TRUE)


def _is_intake(shape: ResourceShape) -> bool:
    return shape.doses is not None and _ORDER_ONLY not in shape.flags


def _without_intake(shape: ResourceShape, going: Truth) -> Truth:
    return Truth.FALSE if _is_intake(shape) else going


def _period(
    reading: Reading, when: Span | Stretch | None, ended: Span | None, recorded: Span | None, going: Truth
) -> Period | None:
    """From a start to an end; what was only recorded had begun by then, and what ended had begun before."""
    if isinstance(when, Stretch):
        return _consistent(when.begins, ended or when.end or _open_end(when.begins, going))
    if when is None and (recorded or ended):
        last = min(one.last for one in (recorded, ended) if one)
        first = reading.person.born.first if reading.person.born else BEGINNING
        when = Span(min(first, last), last)
    return None if when is None else _consistent(when, ended or _open_end(when, going))


def _open_end(start: Span, going: Truth) -> Span:
    """What goes on has not ended; all else may have ended at any time since."""
    return Span.on(END_OF_TIME) if going is Truth.TRUE else Span(start.first, END_OF_TIME)


def _consistent(start: Span, end: Span) -> Period | None:
    """Nothing ends before it starts: partial dates are narrowed by each other, and contradicting ones tell nothing."""
    if end.last < start.first:
        return None
    if start.last > end.last:
        start = Span(start.first, end.last)
    if end.first < start.first:
        end = Span(start.first, end.last)
    return Period(start, end)


def _first(reading: Reading, places: Iterable[Place], resource: Json) -> tuple[Span | Stretch | None, str]:
    """The first place that yields a date, and its flag."""
    for place in places:
        told = [dated(value, reading.zone, reading.person.born) for value in found_at(reading, place, resource)]
        found = [one for one in told if one is not None]
        if place.take is Take.ALL and found:
            whole = hull(found)  # where a line has no dates, nobody knows when the whole of it ends
            found = [whole if len(found) == len(told) else Stretch(whole.start, None)]
        if found:
            return _taken(found[0], place.take), place.flag
    return None, ""


def _taken(found: Span | Stretch, take: Take) -> Span | Stretch:
    if isinstance(found, Span) or take in (Take.WHOLE, Take.ALL):
        return found
    return found.begins if take is Take.START else found.ends


def _going(shape: Going | None, resource: Json) -> Truth:
    """Whether it goes on by its status; codes that contradict each other leave it open."""
    if shape is None:
        return Truth.FALSE
    if shape.ended_when is not None and any(True for _ in items(shape.ended_when(resource))):
        return Truth.FALSE
    words = next((found for path in shape.paths if (found := set(words_of(path(resource))))), set())
    if not words:
        return shape.missing
    yes, no = bool(words & shape.yes), bool(words & shape.no)
    return Truth.UNKNOWN if yes == no else Truth.of(yes)

"""Where a fact lies in time: in a rule's window, outside it, or not to be told (rules R7, R8)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from fhir_screen.core.chart import Chart, window_edges
from fhir_screen.core.dates import BEGINNING, END_OF_TIME, Length, Period, Span, Window, next_day
from fhir_screen.core.facts import Fact, Standing
from fhir_screen.core.rules import ASSERTED, During, Ever, Nearby, Now, Selector, Since, Timing, Touch, Unset, Until
from fhir_screen.core.selecting import matches
from fhir_screen.core.truth import Reason, Truth

_PARTIAL = frozenset({"partial_date"})
_PENDING = frozenset({"washout_pending"})


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a fact lies with respect to a rule's timing; ``edges`` are the days on which that may change."""

    truth: Truth
    reason: Reason | None = None
    flags: frozenset[str] = frozenset()
    edges: frozenset[date] = frozenset()


def place(chart: Chart, fact: Fact, timing: Timing) -> Placed:
    """Where a fact lies: inside the window, outside, or not to be told."""
    match timing:
        case Ever():
            return Placed(Truth.TRUE)
        case Now():
            return _now(chart, fact, timing)
        case Since():
            return _since(chart, chart.period(fact))
        case Until():
            return _until(chart, fact, timing)
        case During():
            return _during(chart, fact, timing)


def window_of(chart: Chart, timing: Timing) -> Window | None:
    """The days that the rule looks at; None where it looks at all of them."""
    return during(chart, timing) if isinstance(timing, During) else None


def during(chart: Chart, timing: During) -> Window:
    """The days of a window; counted back from today while its anchor is not set."""
    anchor = chart.anchor(timing.anchor) or chart.on
    return Window(timing.length.before(anchor), anchor)


def looked_back(chart: Chart, timing: Timing) -> str:
    """How far back from which day a rule looks, in words; empty where it looks at everything."""
    if isinstance(timing, Now):
        return " as going on today"
    if not isinstance(timing, During):
        return ""
    anchor = timing.anchor.removesuffix("_date").replace("_", " ")
    if chart.anchor(timing.anchor) is None:
        return f" in the {timing.length} before today (day of {anchor} not set)"
    return f" in the {timing.length} before {'today' if timing.anchor == 'as_of' else anchor}"


# Going on today


def _now(chart: Chart, fact: Fact, timing: Now) -> Placed:
    if fact.ongoing is Truth.TRUE:
        return Placed(Truth.TRUE)
    period = chart.period(fact)
    edges = _ends(fact)
    if fact.ongoing is Truth.FALSE:
        return Placed(Truth.of(period is not None and period.end.first > chart.on), edges=edges)
    if timing.assumed is not None and period is not None and period.end.last == END_OF_TIME:
        return _lasting(chart, period.start, timing.assumed)
    return Placed(Truth.UNKNOWN, Reason.STATUS, edges=edges)


def _ends(fact: Fact) -> frozenset[date]:
    if fact.period is None or fact.period.end.last == END_OF_TIME:
        return frozenset()
    return frozenset({fact.period.end.first, next_day(fact.period.end.last)})


def _lasting(chart: Chart, start: Span, assumed: Length) -> Placed:
    """What has begun and nobody has called over, as long as such things last."""
    truth = start.within(Window(assumed.before(chart.on), chart.on))
    edges = frozenset(next_day(assumed.after(day)) for day in (start.first, start.last))
    return Placed(truth, None if truth is not Truth.UNKNOWN else Reason.PARTIAL_DATE, edges=edges)


# Before and after something else


def _since(chart: Chart, period: Period | None) -> Placed:
    begun = chart.instance.period.start if chart.instance and chart.instance.period else None
    if period is None or begun is None:
        return Placed(Truth.UNKNOWN, Reason.PARTIAL_DATE)
    return _not_before(period.start, begun)


def _not_before(start: Span, begun: Span) -> Placed:
    if start.first >= begun.last:
        return Placed(Truth.TRUE)
    if start.last < begun.first:
        return Placed(Truth.FALSE)
    return Placed(Truth.UNKNOWN, Reason.PARTIAL_DATE, _PARTIAL)


def _until(chart: Chart, fact: Fact, timing: Until) -> Placed:
    """Both conditions of it; what is not over for so long yet will be on a day that can be told."""
    period = chart.period(fact)
    anchor = chart.anchor(timing.anchor)
    if period is None or anchor is None:
        return Placed(Truth.UNKNOWN, Reason.PARTIAL_DATE if anchor else Reason.ANCHOR_MISSING)
    over = Placed(Truth.TRUE) if timing.length is None else _over(chart, period, timing, timing.length.before(anchor))
    if not timing.since or over.truth is Truth.FALSE:
        return over
    begun = _begun(chart, timing.since, last=timing.since_last)
    after = Placed(Truth.UNKNOWN, Reason.NO_DATA) if begun is None else _not_before(period.start, begun)
    return Placed(over.truth & after.truth, over.reason or after.reason, over.flags | after.flags, over.edges)


def _over(chart: Chart, period: Period, timing: Until, last: date) -> Placed:
    edges = _moving_edges(chart, period, timing)
    if period.end.last <= last:
        return Placed(Truth.TRUE, edges=edges)
    if period.end.first > last:
        return Placed(Truth.FALSE, edges=edges)
    return Placed(Truth.UNKNOWN, Reason.PARTIAL_DATE, _PARTIAL, edges)


def _moving_edges(chart: Chart, period: Period, timing: Until) -> frozenset[date]:
    moving = chart.moves(timing.anchor)
    return frozenset() if timing.length is None else window_edges(period, timing.length, moving=moving)


def _begun(chart: Chart, selectors: Iterable[Selector], *, last: bool) -> Span | None:
    """When the first of these facts began, or the last; None where there is none with a date.

    None, too, where the last may be one that is not sure or has no date.
    """
    found = (match for selector in selectors for match in matches(chart, selector))
    meant = [m for m in found if m.fact.standing in (Standing.HOLDS, Standing.UNSURE)]
    if last and any(m.truth is not Truth.TRUE or chart.period(m.fact) is None for m in meant):
        return None
    held = (m.fact for m in meant if m.fact.standing is Standing.HOLDS)
    starts = [period.start for fact in held if (period := chart.period(fact))]
    return (max if last else min)(starts, key=lambda span: (span.last, span.first), default=None)


# In a window


def _dated(chart: Chart, fact: Fact, role: str) -> Period | None:
    """The fact's own period; or from the day it was asserted; or, where its own start is only a bound, that of its encounter."""
    period = chart.period(fact)
    if role == ASSERTED:
        return Period(fact.asserted, period.end if period else fact.asserted) if fact.asserted else period
    if not role or (period is not None and period.start.exact):
        return period
    stays = [
        p
        for ref in fact.links.get(role, ())
        for one in chart.record.by_reference.get(ref, ())
        if (p := chart.period(one))
    ]
    if len(stays) != 1 or (
        period is not None and not (period.start.first <= stays[0].start.first <= period.start.last)
    ):
        return period
    at = Span(stays[0].start.first, max(stays[0].start.last, stays[0].end.first))
    return Period(at, at if period is None else period.end)


def _during(chart: Chart, fact: Fact, timing: During) -> Placed:
    anchored = chart.anchor(timing.anchor)
    if anchored is None and timing.unset is Unset.UNKNOWN:
        return Placed(Truth.UNKNOWN, Reason.ANCHOR_MISSING)
    anchor = anchored or chart.on
    window = Window(timing.length.before(anchor), anchor)
    period = _dated(chart, fact, timing.dated_by)
    if period is None and timing.state and fact.ongoing is Truth.TRUE:
        period = Period(Span(BEGINNING, chart.on), Span.on(END_OF_TIME))
    if period is None:
        return Placed(Truth.UNKNOWN, Reason.PARTIAL_DATE, _PARTIAL)
    truth = _touched(chart, fact, period, timing.touch).overlaps(window)
    edges = _edges(chart, fact, timing, window)
    if truth is not Truth.FALSE and timing.touch is Touch.SPAN and len(fact.doses) > 1:
        lines = [line.bounds for line in fact.doses if line.bounds is not None]
        if len(lines) == len(fact.doses):  # between two lines of a prescription nothing is taken
            truth = max((line.overlaps(window) for line in lines), key=lambda one: one.value)
            moving = chart.moves(timing.anchor)
            edges |= frozenset[date]().union(*(window_edges(line, timing.length, moving=moving) for line in lines))
    if truth is Truth.FALSE:
        return Placed(truth, edges=edges)
    partial = truth is Truth.UNKNOWN
    if anchored is None:
        return Placed(Truth.UNKNOWN, Reason.PARTIAL_DATE if partial else Reason.ANCHOR_MISSING,
                      _PENDING | (_PARTIAL if partial else frozenset()), edges)  # fmt: skip
    if timing.touch is not Touch.START and not timing.state and _may_end_before(chart, fact, period, window):
        return Placed(Truth.UNKNOWN, Reason.NO_DATA, _PENDING, edges)
    return Placed(truth, Reason.PARTIAL_DATE, _PARTIAL, edges) if partial else Placed(truth, edges=edges)


def _touched(chart: Chart, fact: Fact, period: Period, touch: Touch) -> Period:
    """What of the fact has to lie in the window; what goes on has not ended before today."""
    match touch:
        case Touch.START:
            return Period.at(period.start)
        case Touch.END if fact.ongoing is not Truth.TRUE:
            return Period.at(period.end)
        case Touch.END:
            return Period(Span.on(chart.on), period.end)
        case Touch.SPAN:
            return period


def flags_near(chart: Chart, near: Iterable[Nearby], days: Iterable[Span]) -> frozenset[str]:
    """The flags of what lies shortly before one of these days, or may."""
    spans = tuple(days)
    return frozenset(
        nearby.flag
        for nearby in near
        for match in matches(chart, nearby.select)
        if (period := chart.period(match.fact)) is not None
        for day in spans
        if period.overlaps(Window(nearby.within.before(day.first), day.last)) is not Truth.FALSE
    )


def _edges(chart: Chart, fact: Fact, timing: During, window: Window) -> frozenset[date]:
    """Days on which the window may win or lose the fact, by its dates as they are recorded."""
    periods = (fact.period, _dated(chart, fact, timing.dated_by))
    moving = (window_edges(one, timing.length, moving=chart.moves(timing.anchor)) for one in periods)
    return frozenset[date]().union(*moving) | {window.first, next_day(window.last)}


def _may_end_before(chart: Chart, fact: Fact, period: Period, window: Window) -> bool:
    """Going on today, and the window has not begun: its end is not recorded, so nobody can tell yet (rule R8)."""
    return fact.ongoing is Truth.TRUE and window.first > chart.on and period.end.first > chart.on

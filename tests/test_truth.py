"""The small values all stands on (truth, dates, amounts, spellings, words), each against a second definition."""

from __future__ import annotations

import calendar
from datetime import date, datetime, timedelta
from fractions import Fraction
from functools import cache
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_screen.core.answers import Answer, EvidenceKind, all_of, any_of, no, not_applicable, unknown, yes
from fhir_screen.core.codes import canonical_uri
from fhir_screen.core.dates import (
    BEGINNING,
    END_OF_TIME,
    Length,
    Period,
    Span,
    Window,
    add_months,
    birthday,
    completed_years,
    next_day,
)
from fhir_screen.core.evaluating import agree, at_least
from fhir_screen.core.formulas import compute
from fhir_screen.core.quantities import Interval, Quantity, Relation, compared, interval_text, irrational, number_text
from fhir_screen.core.ranges import age_between
from fhir_screen.core.rules import Apply, BySex, Formula, Input, Number, Operation
from fhir_screen.core.truth import Reason, Truth, all_true, any_true, first_reason, negated, text_of
from fhir_screen.core.units import UnitTable, folded
from fhir_screen.core.words import Words
from fhir_screen.mapping.load import packaged_mappings
from fhir_screen.mapping.yamlfile import read_yaml

T, F, U = Truth.TRUE, Truth.FALSE, Truth.UNKNOWN
UTC, SEOUL, HONOLULU = ZoneInfo("UTC"), ZoneInfo("Asia/Seoul"), ZoneInfo("Pacific/Honolulu")

# --- truth -------------------------------------------------------------------------------------------------------


def may_be(truth: Truth) -> frozenset[bool]:
    """The second definition: a truth is the set of the two-valued answers that it may turn out to be."""
    return {T: frozenset({True}), F: frozenset({False}), U: frozenset({True, False})}[truth]


def meaning(answers: frozenset[bool]) -> Truth:
    return next(truth for truth in Truth if may_be(truth) == answers)


PAIRS = list(product(Truth, Truth))


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_and_is_true_only_where_every_reading_of_both_is(one: Truth, other: Truth) -> None:
    assert (one & other) is meaning(frozenset(a and b for a in may_be(one) for b in may_be(other)))


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_or_is_false_only_where_no_reading_of_either_is_true(one: Truth, other: Truth) -> None:
    assert (one | other) is meaning(frozenset(a or b for a in may_be(one) for b in may_be(other)))


@pytest.mark.parametrize("truth", Truth)
def test_not_turns_every_reading_around(truth: Truth) -> None:
    assert ~truth is meaning(frozenset(not a for a in may_be(truth)))


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_de_morgan_holds_in_three_values(one: Truth, other: Truth) -> None:
    assert ~(one & other) is (~one | ~other)
    assert ~(one | other) is (~one & ~other)


@pytest.mark.parametrize("truth", Truth)
def test_a_truth_is_never_used_as_a_bool(truth: Truth) -> None:
    with pytest.raises(TypeError, match="is not a bool"):
        bool(truth)


def test_truths_are_said_in_the_words_of_the_contract() -> None:
    assert [text_of(truth) for truth in (T, F, U, None)] == ["true", "false", "unknown", "not-applicable"]
    assert (Truth.of(True), Truth.of(False)) == (T, F)


TRUTHS = st.sampled_from([*Truth, None])


@given(st.lists(TRUTHS, max_size=5))
def test_what_is_not_applicable_is_left_out_of_every_composition(truths: list[Truth | None]) -> None:
    applicable = [truth for truth in truths if truth is not None]
    assert all_true(truths) is all_true(applicable)
    assert any_true(truths) is any_true(applicable)
    if not applicable:
        assert all_true(truths) is None
        assert any_true(truths) is None
    else:
        readings = list(product(*(may_be(truth) for truth in applicable)))
        assert all_true(truths) is meaning(frozenset(all(reading) for reading in readings))
        assert any_true(truths) is meaning(frozenset(any(reading) for reading in readings))


@given(st.lists(TRUTHS, max_size=5))
def test_de_morgan_holds_with_what_is_not_applicable(truths: list[Truth | None]) -> None:
    assert negated(all_true(truths)) is any_true([negated(truth) for truth in truths])


def test_the_first_reason_of_the_reference_is_told() -> None:
    said = "incomplete-fetch masked conflicting unit-suspect unit-unmappable no-reference-range censored partial-date"
    said += " status unmapped-code stale anchor-missing no-data policy proxy manual"
    assert [str(reason) for reason in Reason] == said.split()
    for one, other in product(Reason, Reason):
        assert first_reason([one, None, other]) is (one if said.index(one) <= said.index(other) else other)
    assert first_reason([None]) is None


# --- answers -----------------------------------------------------------------------------------------------------


def answered(truth: Truth | None, name: str = "x") -> Answer:
    match truth:
        case Truth.TRUE:
            return yes(name)
        case Truth.FALSE:
            return no(name)
        case Truth.UNKNOWN:
            return unknown(Reason.NO_DATA, name)
        case _:
            return not_applicable(name)


@given(st.lists(TRUTHS, min_size=1, max_size=5), st.integers(1, 5))
def test_at_least_counts_every_reading(truths: list[Truth | None], count: int) -> None:
    answer = at_least(count, [answered(truth) for truth in truths])
    applicable = [truth for truth in truths if truth is not None]
    if not applicable:
        # Rule R1: nothing but what is not applicable is not applicable itself.
        assert answer.truth is None
        return
    readings = product(*(may_be(truth) for truth in applicable))
    assert answer.truth is meaning(frozenset(sum(reading) >= count for reading in readings))
    assert answer.firm is answer.truth


@given(st.lists(TRUTHS, min_size=1, max_size=5), st.integers(1, 5))
def test_at_least_says_why_it_is_unknown_and_only_then(truths: list[Truth | None], count: int) -> None:
    answer = at_least(count, [answered(truth) for truth in truths])
    assert (answer.reason is Reason.NO_DATA) is (answer.truth is U)


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_agreement_asks_a_person_where_one_side_stands_alone(one: Truth, other: Truth) -> None:
    answer = agree([answered(one, "left"), answered(other, "right")], "and_reading")
    assert answer.truth is (one if one is other else U)
    assert ("and_reading" in answer.flags) is ({one, other} != {one} and T in (one, other))
    if {one, other} == {T, F}:
        assert answer.reason is Reason.POLICY


def test_agreement_of_two_unknowns_is_unknown_for_their_reason() -> None:
    answer = agree([unknown(Reason.STALE, "a"), unknown(Reason.NO_DATA, "b")], "and_reading")
    assert (answer.truth, answer.reason) == (U, Reason.STALE)


@given(st.lists(TRUTHS, max_size=4))
def test_a_composed_answer_has_the_truth_of_its_parts_and_the_words_of_those_that_decide(
    truths: list[Truth | None],
) -> None:
    parts = [answered(truth, f"part {n}") for n, truth in enumerate(truths)]
    for composed, combine in ((all_of(parts), all_true), (any_of(parts), any_true)):
        assert composed.truth is combine(truths)
        assert composed.because == "; ".join(f"part {n}" for n, t in enumerate(truths) if t is composed.truth)


def test_an_answer_rests_on_a_judgement_exactly_where_withholding_it_leaves_it_open() -> None:
    judged, sure = yes("treated").withheld(), yes("melanoma")
    assert judged.judged
    assert all_of([judged, sure]).judged
    assert not any_of([judged, sure]).judged
    assert not all_of([judged, no("none")]).judged
    assert not_applicable("no").withheld().firm is None
    assert (~judged).firm is U


def test_an_unknown_wears_the_flag_of_the_same_meaning() -> None:
    assert unknown(Reason.UNIT_SUSPECT, "").flags == {"unit_suspect"}
    assert unknown(Reason.POLICY, "").flags == frozenset()


def test_a_found_fact_hides_an_inferred_one_and_an_explicit_no_hides_silence() -> None:
    found, inferred = yes("a"), yes("b", kind=EvidenceKind.INFERRED)
    assert any_of([inferred, found]).kind is EvidenceKind.POSITIVE
    silent, explicit = no("a", kind=EvidenceKind.NO_EVIDENCE), no("b", kind=EvidenceKind.EXPLICIT_NEGATIVE)
    assert any_of([silent, explicit]).kind is EvidenceKind.EXPLICIT_NEGATIVE


# --- dates -------------------------------------------------------------------------------------------------------

DAYS = st.dates()


def span(first: str, last: str = "", moment: str = "") -> Span:
    when = datetime.fromisoformat(moment) if moment else None
    return Span(date.fromisoformat(first), date.fromisoformat(last or first), when)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026", span("2026-01-01", "2026-12-31")),
        ("0001", span("0001-01-01", "0001-12-31")),
        ("9999", span("9999-01-01", "9999-12-31")),
        ("2026-02", span("2026-02-01", "2026-02-28")),
        ("2024-02", span("2024-02-01", "2024-02-29")),
        ("2100-02", span("2100-02-01", "2100-02-28")),
        ("2000-02-29", span("2000-02-29")),
        ("9999-12-31", span("9999-12-31")),
        (" 2026-11-21 ", span("2026-11-21")),
        ("2026-11-21T10:30", span("2026-11-21", moment="2026-11-21T10:30")),
        ("2026-11-21T10:30:15", span("2026-11-21", moment="2026-11-21T10:30:15")),
        ("2026-11-21T10:30:15.25", span("2026-11-21", moment="2026-11-21T10:30:15.25")),
        ("2026-11-21T23:59:60", span("2026-11-21", moment="2026-11-21T23:59:59")),
        ("2026-11-21T24:00:00", span("2026-11-22", moment="2026-11-22T00:00")),
        ("2026-11-21T15:00:00Z", span("2026-11-22", moment="2026-11-22T00:00")),
        ("2026-11-21T14:59:59Z", span("2026-11-21", moment="2026-11-21T23:59:59")),
        ("2026-11-21T23:00:00-05:00", span("2026-11-22", moment="2026-11-22T13:00")),
        ("2026-11-21T00:30:00+14:00", span("2026-11-20", moment="2026-11-20T19:30")),
        ("2026-11-21T10:30:00+0900", span("2026-11-21", moment="2026-11-21T10:30")),
        ("2026-11-21T10:30:00.123456789+09:00", span("2026-11-21", moment="2026-11-21T10:30:00.123456")),
        ("9999-12-31T23:00:00Z", span("9999-12-31")),
    ],
)
def test_every_date_form_of_fhir_is_read_as_the_days_it_may_be_in_seoul(text: str, expected: Span) -> None:
    assert Span.parse(text, SEOUL) == expected


def test_an_instant_before_the_first_day_keeps_the_day_it_was_written_with() -> None:
    assert Span.parse("0001-01-01T00:00:00Z", HONOLULU) == span("0001-01-01")


def test_one_instant_lies_on_another_day_in_another_zone() -> None:
    text = "2026-03-01T05:00:00Z"
    days = [str(Span.parse(text, zone)) for zone in (HONOLULU, UTC, SEOUL)]
    assert days == ["2026-02-28", "2026-03-01", "2026-03-01"]


@pytest.mark.parametrize(
    "text",
    ["", "0000", "26", "2026-13", "2026-00", "2026-02-30", "2025-02-29", "2026-11-21T25:00", "2026-11-21T24:60",
     "2026-11-21T10:61", "2026-11-21T10:30:61", "2026-11-21 10:30", "2026/11/21", "21.11.2026", "2026-1-1",
     "2026-11-21T10:30:00+99:00", "about 2026", "2026-11-21T", "2026-Z", None, 2026, ["2026"], {}],
)  # fmt: skip
def test_what_is_no_fhir_date_is_no_date(text: object) -> None:
    assert Span.parse(text, UTC) is None


@given(DAYS)
def test_every_day_is_read_back_as_itself(day: date) -> None:
    assert Span.parse(day.isoformat(), SEOUL) == Span.on(day)
    month, year = Span.parse(f"{day:%Y}-{day:%m}".zfill(7), UTC), Span.parse(f"{day.year:04}", UTC)
    assert month is not None
    assert year is not None
    assert year.first <= month.first <= day <= month.last <= year.last
    assert (month.last - month.first).days + 1 == calendar.monthrange(day.year, day.month)[1]


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (span("2026-11-21"), "2026-11-21"),
        (span("2026-01-01", "2026-12-31"), "2026"),
        (span("2026-11-01", "2026-11-30"), "2026-11"),
        (span("2026-11-01", "2026-11-20"), "2026-11"),
        (span("2026-11-02", "2026-12-20"), "by 2026-12-20"),
        (span("2026-11-01", "2026-12-20"), "by 2026-12-20"),
        (span("2025-11-01", "2026-11-20"), "by 2026-11-20"),
        (span("2025-01-01", "2026-12-31"), "by 2026-12-31"),
        (Span(BEGINNING, date(2026, 1, 1)), "by 2026-01-01"),
        (Span(date(2026, 1, 1), END_OF_TIME), "after 2026-01-01"),
        (Span(BEGINNING, END_OF_TIME), "unknown date"),
    ],
)
def test_a_span_is_shown_as_exactly_as_it_is_known(one: Span, text: str) -> None:
    assert str(one) == text


SHORT_DAYS = st.integers(0, 9).map(lambda n: date(2026, 1, 1) + timedelta(days=n))
SHORT_SPANS = st.tuples(SHORT_DAYS, SHORT_DAYS).map(lambda pair: Span(min(pair), max(pair)))


def days_of(one: Span | Window) -> list[date]:
    return [one.first + timedelta(days=n) for n in range((one.last - one.first).days + 1)]


@given(SHORT_SPANS, SHORT_SPANS)
def test_a_span_lies_within_a_window_where_each_of_its_days_does(one: Span, bounds: Span) -> None:
    window = Window(bounds.first, bounds.last)
    inside = frozenset(window.first <= day <= window.last for day in days_of(one))
    assert one.within(window) is meaning(inside)
    assert all((day in window) is (window.first <= day <= window.last) for day in days_of(one))


@given(SHORT_SPANS, SHORT_SPANS, SHORT_SPANS)
def test_a_period_overlaps_a_window_where_each_way_it_may_have_lain_does(start: Span, end: Span, bounds: Span) -> None:
    ways = [(a, b) for a in days_of(start) for b in days_of(end) if a <= b]
    window = Window(bounds.first, bounds.last)
    truth = Period(start, end).overlaps(window)
    possible = frozenset(a <= window.last and b >= window.first for a, b in ways)
    if ways:
        # It may be unknown where a reader who knows that a start precedes its end could tell; never the contrary.
        assert truth is U or possible == may_be(truth)
    if start.last <= end.first:
        assert truth is meaning(possible)


@given(SHORT_SPANS, SHORT_DAYS)
def test_what_is_on_record_has_happened_unless_it_can_only_lie_ahead(one: Span, day: date) -> None:
    known = one.not_after(day)
    past = [each for each in days_of(one) if each <= day]
    assert days_of(known) == (past or days_of(one))


@given(SHORT_SPANS, SHORT_SPANS, SHORT_DAYS)
def test_both_ends_of_a_period_have_happened_unless_they_can_only_lie_ahead(start: Span, end: Span, day: date) -> None:
    assert Period(start, end).not_after(day) == Period(start.not_after(day), end.not_after(day))


@pytest.mark.parametrize(
    ("day", "months", "expected"),
    [
        (date(2026, 1, 31), 1, date(2026, 2, 28)),
        (date(2024, 1, 31), 1, date(2024, 2, 29)),
        (date(2024, 2, 29), 12, date(2025, 2, 28)),
        (date(2024, 2, 29), 48, date(2028, 2, 29)),
        (date(2026, 3, 31), -1, date(2026, 2, 28)),
        (date(2026, 1, 15), -1, date(2025, 12, 15)),
        (date(2026, 12, 15), 1, date(2027, 1, 15)),
        (date(2026, 11, 30), -12 * 2025, date(1, 11, 30)),
    ],
)
def test_months_go_by_the_calendar(day: date, months: int, expected: date) -> None:
    assert add_months(day, months) == expected


@given(DAYS, st.integers(0, 4000), st.integers(0, 2000))
def test_a_length_of_time_stops_at_the_ends_of_time(day: date, days: int, months: int) -> None:
    length = Length(days, months)
    assert BEGINNING <= length.before(day) <= day <= length.after(day) <= END_OF_TIME


def test_the_day_after_the_last_is_the_last() -> None:
    assert next_day(END_OF_TIME) == END_OF_TIME
    assert next_day(date(2024, 2, 28)) == date(2024, 2, 29)


def test_who_was_born_on_29_february_is_a_year_older_on_1_march_of_common_years() -> None:
    born = date(2004, 2, 29)
    assert birthday(born, 19) == date(2023, 3, 1)
    assert birthday(born, 20) == date(2024, 2, 29)
    assert [completed_years(born, day) for day in (date(2023, 2, 28), date(2023, 3, 1))] == [18, 19]
    assert birthday(date(9990, 1, 1), 100) == END_OF_TIME
    assert birthday(date(9990, 5, 5), 9) == date(9999, 5, 5)


@given(st.dates(date(1900, 1, 1), date(2100, 1, 1)), st.integers(0, 45000))
def test_completed_years_are_the_birthdays_that_have_been(born: date, later: int) -> None:
    on = born + timedelta(days=later)
    had = sum(birthday(born, n) <= on for n in range(1, 130))
    assert completed_years(born, on) == had


def test_nobody_is_younger_than_nothing() -> None:
    assert completed_years(date(2026, 5, 1), date(2026, 4, 30)) == 0


@given(SHORT_SPANS, st.integers(0, 3))
def test_an_age_is_every_age_that_the_birth_date_allows(born: Span, years: int) -> None:
    at = Span.on(date(2026 + years, 1, 5))
    ages = [completed_years(day, at.first) for day in days_of(born)]
    assert age_between(born, at) == Interval(Fraction(min(ages)), Fraction(max(ages)))


# --- amounts -----------------------------------------------------------------------------------------------------

ENDS = st.none() | st.integers(-4, 4).map(Fraction)
GRID = [Fraction(n, 2) for n in range(-14, 15)]
HOLDS = {
    Relation.BELOW: lambda a, b: a < b,
    Relation.AT_MOST: lambda a, b: a <= b,
    Relation.AT_LEAST: lambda a, b: a >= b,
    Relation.ABOVE: lambda a, b: a > b,
    Relation.EQUAL: lambda a, b: a == b,
}


@st.composite
def intervals(draw: st.DrawFn) -> Interval:
    low, high = draw(ENDS), draw(ENDS)
    if low is not None and high is not None and low > high:
        low, high = high, low
    wide = low is None or high is None or low < high
    return Interval(
        low, high, low is not None and wide and draw(st.booleans()), high is not None and wide and draw(st.booleans())
    )


def members(one: Interval) -> list[Fraction]:
    """The numbers of a grid of halves that lie in it; the grid reaches beyond every end that is drawn."""
    return [
        n for n in GRID
        if (one.low is None or n > one.low or (n == one.low and not one.low_open))
        and (one.high is None or n < one.high or (n == one.high and not one.high_open))
    ]  # fmt: skip


@given(intervals(), st.sampled_from(Relation), st.integers(-4, 4))
def test_a_comparison_is_that_of_every_number_it_may_be(one: Interval, relation: Relation, limit: int) -> None:
    expected = meaning(frozenset(HOLDS[relation](n, limit) for n in members(one)))
    assert one.compare(relation, Fraction(limit)) is expected


@given(intervals(), st.sampled_from(Relation), st.integers(-3, 3), st.integers(0, 2))
def test_a_comparison_with_a_vague_limit_is_that_of_every_pair(
    one: Interval, relation: Relation, low: int, more: int
) -> None:
    limit = Interval(Fraction(low), Fraction(low + more))
    truth = one.compare_interval(relation, limit)
    possible = frozenset(HOLDS[relation](n, m) for n in members(one) for m in members(limit))
    assert truth is U or may_be(truth) == possible
    if relation is not Relation.EQUAL:
        assert truth is meaning(possible)


def test_a_limit_without_an_end_settles_nothing() -> None:
    assert Interval.exactly(5).compare_interval(Relation.AT_MOST, Interval(Fraction(9), None)) is U


@given(intervals(), intervals())
def test_a_hull_holds_all_that_either_may_be(one: Interval, other: Interval) -> None:
    assert set(members(one)) | set(members(other)) <= set(members(one.hull(other)))


@given(intervals(), intervals())
def test_what_lies_within_an_interval_has_no_number_outside(one: Interval, allowed: Interval) -> None:
    closed = Interval(allowed.low, allowed.high)
    assert one.compare_within(closed) is (set(members(one)) <= set(members(closed)))


@pytest.mark.parametrize(
    ("comparator", "expected"),
    [
        (None, Interval.exactly(5)),
        ("", Interval.exactly(5)),
        ("<", Interval(Fraction(0), Fraction(5), high_open=True)),
        ("<=", Interval(Fraction(0), Fraction(5))),
        ("≤", Interval(Fraction(0), Fraction(5))),
        (">", Interval(Fraction(5), None, low_open=True)),
        (">=", Interval(Fraction(5), None)),
        ("≥", Interval(Fraction(5), None)),
        ("ad", None),
        ("~", None),
    ],
)
def test_a_comparator_is_the_interval_it_leaves_open(comparator: str | None, expected: Interval | None) -> None:
    assert compared(Fraction(5), comparator) == expected


@pytest.mark.parametrize(
    ("text", "interval", "unit"),
    [
        ("9.7", Interval.exactly("9.7"), None),
        ("9.7 g/dL", Interval.exactly("9.7"), "g/dL"),
        ("<0.1", Interval(Fraction(0), Fraction("0.1"), high_open=True), None),
        (">1,000 /uL", Interval(Fraction(1000), None, low_open=True), "/uL"),
        ("≥ 12", Interval(Fraction(12), None), None),
        ("50~55 %", Interval(Fraction(50), Fraction(55)), "%"),
        ("50 - 55%", Interval(Fraction(50), Fraction(55)), "%"),
        ("50 to 55", Interval(Fraction(50), Fraction(55)), None),
        (".5", Interval.exactly("0.5"), None),
        ("1,234,567.5 U/L", Interval.exactly("1234567.5"), "U/L"),
        (" 7 ", Interval.exactly(7), None),
    ],
)
def test_an_amount_is_read_from_a_whole_text(text: str, interval: Interval, unit: str | None) -> None:
    quantity = Quantity.from_text(text)
    assert quantity is not None
    assert (quantity.interval, quantity.unit_text, quantity.shown) == (interval, unit, text.strip())


@pytest.mark.parametrize("text", ["", "negative", "1.2.3", "5 6", "55-50", "<5-6", "about 5", "-5", "1,23", "12,5 g"])
def test_a_text_that_is_not_one_amount_is_none(text: str) -> None:
    assert Quantity.from_text(text) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(Fraction(9), "9"), (Fraction("9.70"), "9.7"), (Fraction(1, 3), "0.3333"), (Fraction("1234567.5"), "1235000"),
     (Fraction("0.00012345"), "0.0001234"), (Fraction("-2.5"), "-2.5")],
)  # fmt: skip
def test_a_number_is_shown_with_few_digits(value: Fraction, text: str) -> None:
    assert number_text(value) == text


@pytest.mark.parametrize(
    ("interval", "text"),
    [(Interval.exactly(5), "5"), (Interval(None, None), "unknown"), (compared(Fraction(5), "<"), "< 5"),
     (compared(Fraction(5), ">"), "> 5"), (compared(Fraction(5), ">="), ">= 5"), (Interval(None, Fraction(5)), "<= 5"),
     (Interval(Fraction(5), Fraction(6)), "5 to 6")],
)  # fmt: skip
def test_an_interval_is_shown_as_a_person_would_write_it(interval: Interval, text: str) -> None:
    assert interval_text(interval) == text


# --- formulas ----------------------------------------------------------------------------------------------------

POSITIVE = st.tuples(st.integers(0, 6), st.integers(0, 6)).map(lambda p: Interval(Fraction(min(p)), Fraction(max(p))))
PLAIN = {
    Operation.ADD: lambda a, b: a + b,
    Operation.SUBTRACT: lambda a, b: a - b,
    Operation.MULTIPLY: lambda a, b: a * b,
    Operation.DIVIDE: lambda a, b: a / b,
    Operation.MIN: min,
    Operation.MAX: max,
}


@given(st.sampled_from(list(PLAIN)), POSITIVE, POSITIVE)
def test_a_formula_holds_what_every_pair_of_inputs_gives(operation: Operation, one: Interval, other: Interval) -> None:
    results = compute(Apply(operation, (Input("a"), Input("b"))), {"a": one, "b": other}, "male")
    assert len(results) == 1
    result = results[0]
    pairs = [(a, b) for a in members(one) for b in members(other) if operation is not Operation.DIVIDE or b]
    if result is None:
        assert operation is Operation.DIVIDE
        assert other.high == 0
        return
    assert all(
        result.compare_within(result) and Interval.exactly(PLAIN[operation](a, b)).compare_within(result)
        for a, b in pairs
    )
    if operation is not Operation.DIVIDE or (other.low or 0) > 0:
        got = [PLAIN[operation](a, b) for a, b in pairs]
        assert (result.low, result.high) == (min(got), max(got))


def test_a_negative_divisor_gives_no_value_and_a_missing_input_none() -> None:
    negative = {"a": Interval.exactly(1), "b": Interval(Fraction(-1), Fraction(1))}
    assert compute(Apply(Operation.DIVIDE, (Input("a"), Input("b"))), negative, "male") == [None]
    assert compute(Apply(Operation.ADD, (Input("a"), Input("c"))), negative, "male") == [None]


def test_an_unbounded_input_leaves_the_result_unbounded_on_its_side() -> None:
    above = {"a": Interval(Fraction(2), None), "b": Interval.exactly(3)}

    def of(operation: Operation, *names: str) -> Interval | None:
        return compute(Apply(operation, tuple(Input(n) for n in names)), above, "male")[0]

    assert of(Operation.ADD, "a", "b") == Interval(Fraction(5), None)
    assert of(Operation.SUBTRACT, "b", "a") == Interval(None, Fraction(1))
    assert of(Operation.MULTIPLY, "a", "b") == Interval(Fraction(6), None)
    assert of(Operation.MULTIPLY, "b", "a") == Interval(Fraction(6), None)
    assert of(Operation.DIVIDE, "b", "a") == Interval(Fraction(0), Fraction(3, 2), low_open=True)
    assert of(Operation.MIN, "a", "b") == Interval(Fraction(2), Fraction(3))
    assert of(Operation.MAX, "a", "b") == Interval(Fraction(3), None)


def test_who_is_neither_man_nor_woman_on_record_has_both_results() -> None:
    formula: Formula = BySex(Fraction(1), Fraction("0.85"))
    assert compute(formula, {}, "male") == [Interval.exactly(1)]
    assert compute(formula, {}, "female") == [Interval.exactly("0.85")]
    assert compute(formula, {}, "other") == [Interval.exactly(1), Interval.exactly("0.85")]
    assert compute(Number(Fraction(3)), {}, None) == [Interval.exactly(3)]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("sqrt", "2", "1.41421356237309504880168872420969807857"),
     ("ln", "2", "0.693147180559945309417232121458176568076"),
     ("log10", "2", "0.301029995663981195213738894724493026768")],
)  # fmt: skip
def test_an_irrational_value_is_enclosed_far_closer_than_any_limit(name: str, value: str, expected: str) -> None:
    enclosed = irrational(name, Fraction(value))
    assert enclosed is not None
    assert enclosed.low is not None
    assert enclosed.high is not None
    assert enclosed.low <= Fraction(expected) <= enclosed.high
    assert enclosed.high - enclosed.low < Fraction(1, 10**28)


def test_exact_roots_are_exact_and_undefined_ones_are_none() -> None:
    assert irrational("sqrt", Fraction(9, 4)) == Interval.exactly("1.5")
    assert irrational("sqrt", Fraction(0)) == Interval.exactly(0)
    assert [irrational("ln", Fraction(0)), irrational("sqrt", Fraction(-1)), irrational("log10", Fraction(-1))] == [
        None
    ] * 3


@given(POSITIVE, st.sampled_from(["2", "-1", "0.5", "-0.302", "0.993"]))
def test_a_power_holds_what_every_base_gives(base: Interval, exponent: str) -> None:
    formula = Apply(Operation.POWER, (Input("a"), Number(Fraction(exponent))))
    result = compute(formula, {"a": base}, "male")[0]
    numbers = [n for n in members(base) if n or Fraction(exponent) > 0]
    if base.low == 0 and Fraction(exponent) < 0:
        assert result is None
        return
    assert result is not None
    assert result.low is not None
    assert result.high is not None
    for number in numbers:
        assert float(result.low) - 1e-9 <= float(number) ** float(Fraction(exponent)) <= float(result.high) + 1e-9


# --- units and words ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spellings", "form"),
    [
        (
            [
                "x10^9/L",
                "×10⁹/l",
                "10*9/L",
                "X 10^9 / L",
                "10(9)/L",
                "10^(9)/L",
                "10**9/L",
                "x10E9/L",
                "E9/L",
                "*10^9/L",
            ],
            "10^9/l",
        ),
        (["10^3/uL", "10³/µL", "10^3/μL", "x10(3)/mcL", "10e3/uL"], "10^3/ul"),
        (["cells/cumm", "cells/mm³", "cells/mm^3", "cells/cu.mm", "Cells / mm3"], "cells/mm3"),
        (["gm/dL", "g/dL", "G/DL", "gms/dL"], "g/dl"),
        (["µmol/L", "μmol/l", "umol/L", "mcmol/L"], "umol/l"),
        (["[IU]/L", "IU/L", "iu/l"], "iu/l"),
        (["µkat/L", "mckat/L"], "ukat/l"),
        (["％"], "%"),
        (["mL/min/1.73m²", "mL/min/1.73m^2", "ml / min / 1.73 m^2"], "ml/min/1.73m^2"),
    ],
)
def test_typography_is_no_difference_between_units(spellings: list[str], form: str) -> None:
    assert {spelling: folded(spelling) for spelling in spellings} == dict.fromkeys(spellings, form)


def test_folding_keeps_different_units_apart() -> None:
    units = [
        "10*9/L",
        "10*6/L",
        "10*3/uL",
        "g/dL",
        "g/L",
        "mg/dL",
        "mmol/L",
        "umol/L",
        "U/L",
        "mL/min",
        "mL/min/{1.73_m2}",
        "mg",
        "g",
    ]
    assert len({folded(unit) for unit in units}) == len(units)


@cache
def unit_table() -> UnitTable:
    content = read_yaml(packaged_mappings() / "units.yaml").content["units"]
    return UnitTable.of({ucum: tuple([names] if isinstance(names, str) else names) for ucum, names in content.items()})


def test_every_spelling_of_the_mapping_means_the_unit_it_is_listed_under() -> None:
    content: dict[str, Any] = read_yaml(packaged_mappings() / "units.yaml").content["units"]
    table = unit_table()
    for ucum, names in content.items():
        for text in (ucum, *names):
            assert (text, table.ucum(Quantity(Interval.exactly(1), None, text, ""))) == (text, ucum)
        assert table.ucum(Quantity(Interval.exactly(1), ucum, None, "")) == ucum


@pytest.mark.parametrize(
    ("code", "text", "ucum"),
    [
        ("g/dl", None, "g/dL"),
        ("mg/dL", "g/dL", "mg/dL"),
        (None, "K/µL", "10*3/uL"),
        ("K/uL", None, "10*3/uL"),
        ("weird", "g/dL", "g/dL"),
        (None, None, ""),
        ("", " ", ""),
        (None, "furlong", None),
        ("furlong", None, None),
        ("mL/min/1.73m2", None, "mL/min/{1.73_m2}"),
        ("ML/min", None, "mL/min"),
    ],
)
def test_a_unit_is_its_code_where_that_is_one_and_else_its_text(
    code: str | None, text: str | None, ucum: str | None
) -> None:
    assert unit_table().ucum(Quantity(Interval.exactly(1), code, text, "")) == ucum


WORDS = Words.of(
    ["surg-", "-ectomy", "-blastoma-", "graft", "이식", "brain metasta-", "cancer-", "암", "liver + tumor-", "!skin graft", "!cream"],
    ["family history ...", "... family history", "no evidence of ...", "... screening", "benign", "... 검진", "... ruled out"],
)


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        ("Surgery of the knee", "surg"),
        ("Neurosurgical consult", None),
        ("Total thyroidectomy", "ectomy"),
        ("Ectomy", "ectomy"),
        ("Thyroidectomies", None),
        ("hepatoblastomas", "blastoma"),
        ("Graft failure", "graft"),
        ("Grafts", "grafts"),
        ("Allograft", None),
        ("grafted", None),
        ("신장이식 후 상태", "이식"),
        ("brain metastases", "brain metasta"),
        ("Family history of surgery", None),
        ("NO EVIDENCE OF graft failure", None),
        ("skin graft", None),
        ("", None),
        ("Family history of breast and ovarian cancer", None),
        ("Family history of stroke; colon cancer", "cancer"),
        ("Cancer family history", None),
        ("Cancer in somebody whose family history is empty", "cancer"),
        ("Breast cancer screening", None),
        ("Breast cancers, screening", None),
        ("Breast cancer found by screening", "cancer"),
        ("Cancer was ruled out", None),
        ("Cancer of the lung, infection was ruled out", "cancer"),
        ("Prostate cancer with benign hyperplasia", "cancer"),
        ("Benign hyperplasia and prostate cancer", "cancer"),
        ("Benign hyperplasia of the prostate, cancer", "cancer"),
        ("Benign blastoma", None),
        ("위암 검진", None),
        ("위암검진", None),
        ("위암 (검진에서 발견)", "암"),
        ("검진에서 발견된 위암", "암"),
        ("graft, skin graft", "graft"),
        ("Graft cream", None),
        ("Graft and cream", "graft"),
        ("Tumor of the liver", "liver, tumor"),
        ("Liver with a benign tumor", None),
        ("Tumor. Liver normal", "liver, tumor"),
    ],
)
def test_words_are_found_as_stem_ending_part_or_whole(text: str, hit: str | None) -> None:
    assert WORDS.find([text]) == hit


def test_an_exception_takes_back_only_its_own_text() -> None:
    assert WORDS.find(["family history of cancer", "graft"]) == "graft"
    assert WORDS.find([]) is None


@pytest.mark.parametrize(
    ("one", "limit", "told"),
    [
        (Interval.exactly(4), Interval.exactly(4), Truth.TRUE),
        (Interval.exactly(5), Interval.exactly(4), Truth.FALSE),
        (Interval(Fraction(3), Fraction(5)), Interval.exactly(4), Truth.UNKNOWN),
        (Interval.exactly(4), Interval(Fraction(4), Fraction(5)), Truth.UNKNOWN),
        (Interval.exactly(6), Interval(Fraction(4), Fraction(5)), Truth.FALSE),
    ],
)
def test_what_is_equal_is_exactly_so(one: Interval, limit: Interval, told: Truth) -> None:
    assert one.compare_interval(Relation.EQUAL, limit) is told
    if limit.exact and limit.low is not None:
        assert one.compare(Relation.EQUAL, limit.low) is told


@pytest.mark.parametrize(
    "spelling",
    ["2.16.840.1.113883.6.1", "oid:2.16.840.1.113883.6.1", "urn:oid:2.16.840.1.113883.6.1", " URN:OID:2.16.840.1.113883.6.1/ "],
)
def test_an_oid_is_one_name_however_it_is_spelt(spelling: str) -> None:
    assert canonical_uri(spelling) == "urn:oid:2.16.840.1.113883.6.1"


def test_a_sum_with_an_open_end_has_an_open_end() -> None:
    below, exact = Interval(Fraction(0), Fraction(2), high_open=True), Interval.exactly(1)
    (total,) = compute(Apply(Operation.ADD, (Input("a"), Input("b"))), {"a": below, "b": exact}, "male")
    assert total == Interval(Fraction(1), Fraction(3), high_open=True)

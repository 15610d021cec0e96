"""Formula trees over intervals: every operation keeps all numbers that the inputs may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import product

from fhir_screen.core.quantities import Interval, irrational
from fhir_screen.core.rules import Apply, BySex, Formula, Input, Number, Operation


def compute(formula: Formula, inputs: Mapping[str, Interval], sex: str | None) -> list[Interval | None]:
    """The result for each sex the patient may have: one where the record knows, two where it does not.

    None where the formula has no value there (a division by what may be zero).
    """
    sexes = (sex,) if sex in ("male", "female") else ("male", "female")
    results: list[Interval | None] = []
    for one in sexes:
        result = _value(formula, inputs, one)
        if result not in results:
            results.append(result)
    return results


def _value(formula: Formula, inputs: Mapping[str, Interval], sex: str | None) -> Interval | None:
    match formula:
        case Number(value):
            return Interval(value, value)
        case BySex(male, female):
            chosen = male if sex == "male" else female
            return Interval(chosen, chosen)
        case Input(name):
            return inputs.get(name)
        case Apply(operation, operands):
            values = [_value(operand, inputs, sex) for operand in operands]
            known = [value for value in values if value is not None]
            return _apply(operation, known) if len(known) == len(values) else None


def _apply(operation: Operation, values: Sequence[Interval]) -> Interval | None:
    match operation:
        case Operation.ADD:
            return _fold(values, _add)
        case Operation.SUBTRACT:
            return _fold(values, lambda a, b: _add(a, _negative(b)))
        case Operation.MULTIPLY:
            return _fold(values, _multiply)
        case Operation.DIVIDE:
            return _fold(values, _divide)
        case Operation.POWER:
            return _power(values[0], values[1])
        case Operation.SQRT | Operation.LN | Operation.LOG10:
            return _monotone(operation.value, values[0])
        case Operation.MIN:
            return Interval(_least(v.low for v in values), _least_high(values))
        case Operation.MAX:
            return Interval(_greatest_low(values), _greatest(v.high for v in values))


def _fold(values: Sequence[Interval], step: object) -> Interval | None:
    result: Interval | None = values[0]
    for value in values[1:]:
        result = step(result, value) if result is not None else None  # type: ignore[operator]
    return result


def _add(one: Interval, other: Interval) -> Interval:
    low = None if one.low is None or other.low is None else one.low + other.low
    high = None if one.high is None or other.high is None else one.high + other.high
    return Interval(low, high, one.low_open or other.low_open, one.high_open or other.high_open)


def _negative(value: Interval) -> Interval:
    low, high = (None if end is None else -end for end in (value.high, value.low))
    return Interval(low, high, value.high_open, value.low_open)


_End = tuple[Fraction, bool]
"""The end of an interval, and whether it is open."""


def _multiply(one: Interval, other: Interval) -> Interval:
    ends = [_ends(one), _ends(other)]
    if len(ends[0]) == 2 and len(ends[1]) == 2:
        products = [_product(a, b) for a, b in product(*ends)]
        low, high = min(products), max(products, key=lambda end: (end[0], not end[1]))
        return Interval(low[0], high[0], low[1], high[1])
    if one.low is None or other.low is None or one.low < 0 or other.low < 0:
        return Interval(None, None)
    least = _product((one.low, one.low_open), (other.low, other.low_open))
    return Interval(least[0], None, least[1])


def _ends(value: Interval) -> list[_End]:
    ends = ((value.low, value.low_open), (value.high, value.high_open))
    return [(number, is_open) for number, is_open in ends if number is not None]


def _product(one: _End, other: _End) -> _End:
    """Open where an end is open, unless a zero that is reached makes a zero of anything."""
    reached = any(number == 0 and not is_open for number, is_open in (one, other))
    return one[0] * other[0], (one[1] or other[1]) and not reached


def _divide(one: Interval, other: Interval) -> Interval | None:
    if other.low is None or other.low < 0 or (other.low == 0 and other.high == 0):
        return None
    low = Fraction(0) if other.high is None else 1 / other.high
    high = None if other.low == 0 else 1 / other.low
    low_open = other.high is None or other.high_open
    return _multiply(one, Interval(low, high, low_open, high is not None and other.low_open))


def _power(base: Interval, exponent: Interval) -> Interval | None:
    if not exponent.exact or exponent.low is None or base.low is None or base.low < 0:
        return None
    ends = [_raised(end, exponent.low) for end in (base.low, base.high)]
    low, high = ends[0], ends[1]
    if low is None:
        return None
    if exponent.low < 0:
        low, high = (high if high is not None else Interval(Fraction(0), Fraction(0))), low
    return Interval(low.low, None if high is None else high.high)


def _raised(number: Fraction | None, exponent: Fraction) -> Interval | None:
    if number is None or (number == 0 and exponent < 0):
        return None
    if exponent.denominator == 1:
        value = number ** int(exponent)
        return Interval(Fraction(value), Fraction(value))
    return _enclosed_power(number, exponent)


def _enclosed_power(number: Fraction, exponent: Fraction) -> Interval:
    """A decimal of 40 digits with a margin far above its rounding and far below any clinical limit."""
    from decimal import Context, Decimal

    context = Context(prec=40)
    base = context.divide(Decimal(number.numerator), Decimal(number.denominator))
    power = context.divide(Decimal(exponent.numerator), Decimal(exponent.denominator))
    value = Fraction(context.power(base, power)) if base else Fraction(0)
    margin = Fraction(1, 10**30)
    return Interval(value - margin, value + margin)


def _monotone(name: str, value: Interval) -> Interval | None:
    if value.low is None or (low := irrational(name, value.low)) is None:
        return None
    high = irrational(name, value.high) if value.high is not None else None
    return Interval(low.low, high.high if high else None)


def _least(numbers: object) -> Fraction | None:
    known = list(numbers)  # type: ignore[call-overload]
    return None if None in known else min(known)


def _greatest(numbers: object) -> Fraction | None:
    known = list(numbers)  # type: ignore[call-overload]
    return None if None in known else max(known)


def _least_high(values: Sequence[Interval]) -> Fraction | None:
    known = [v.high for v in values if v.high is not None]
    return min(known) if known else None


def _greatest_low(values: Sequence[Interval]) -> Fraction | None:
    known = [v.low for v in values if v.low is not None]
    return max(known) if known else None

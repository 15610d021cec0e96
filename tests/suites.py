"""Public conformance suites: which of their cases we claim, what we answer, and why the others are left out.

`python tests/suites.py` writes the table of `docs/conformance.md` anew.
"""

from __future__ import annotations

import html
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

from fhir_screen.core.codes import Code
from fhir_screen.core.dates import BEGINNING, END_OF_TIME, Span, Window, next_day
from fhir_screen.core.quantities import Interval, Quantity, Relation
from fhir_screen.core.truth import Truth
from fhir_screen.core.units import Analyte, UnitTable, amount, limit
from fhir_screen.mapping.load import load
from fhir_screen.mapping.vocabulary import Terms

HERE = Path(__file__).parent / "conformance"
PAGE = Path(__file__).parents[1] / "docs" / "conformance.md"

T, F, U = Truth.TRUE, Truth.FALSE, Truth.UNKNOWN
_CQL: Mapping[str, Truth] = {"true": T, "false": F, "null": U}


@dataclass(frozen=True)
class Case:
    """One case of a suite. ``excluded`` says why it is not claimed; else ``ours`` has to be ``expected``."""

    suite: str
    name: str
    text: str
    expected: object = None
    ours: object = None
    excluded: str = ""

    @property
    def passed(self) -> bool:
        return not self.excluded and self.ours == self.expected


@cache
def terms() -> Terms:
    return load().terms


# --- CQL ---------------------------------------------------------------------------------------------------------


def _cql(file: str) -> Iterator[tuple[str, str, str, str]]:
    """Group, name, expression, expected output."""
    root = ElementTree.parse(HERE / "cql-tests" / file).getroot()
    space = "{http://hl7.org/fhirpath/tests}"
    for group in root.iter(f"{space}group"):
        for test in group.iter(f"{space}test"):
            expression, output = test.find(f"{space}expression"), test.find(f"{space}output")
            if expression is not None:
                yield (
                    group.get("name", ""),
                    test.get("name", ""),
                    html.unescape(expression.text or ""),
                    ("" if output is None else output.text or "").strip(),
                )


_BINARY: Mapping[str, Callable[[Truth, Truth], Truth]] = {
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: (a & ~b) | (~a & b),
    "implies": lambda a, b: ~a | b,
}


def logical() -> Iterator[Case]:
    """`xor` and `implies` are composed of and, or, not, as a mapping would have to write them."""
    for group, name, text, expected in _cql("CqlLogicalOperatorsTest.xml"):
        words = text.split()
        negated = words[0] == "not"
        ours = ~_CQL[words[1]] if negated else _BINARY[words[1]](_CQL[words[0]], _CQL[words[2]])
        yield Case("CQL logical operators", f"{group}/{name}", text, _CQL[expected], ours)


def nullological() -> Iterator[Case]:
    suite = "CQL null-logic operators"
    asked: Mapping[str, Truth] = {"IsTrue": T, "IsFalse": F, "IsNull": U}
    for group, name, text, expected in _cql("CqlNullologicalOperatorsTest.xml"):
        match = re.fullmatch(r"(IsTrue|IsFalse|IsNull)\((true|false|null)\)", text)
        if group == "Coalesce":
            yield Case(
                suite, name, text, excluded="no Coalesce: `first_of` chooses between amounts, not between truths"
            )
        elif match is None:
            yield Case(suite, name, text, excluded="asks about a string or a number, not about a truth")
        else:
            yield Case(suite, name, text, _CQL[expected], Truth.of(_CQL[match[2]] is asked[match[1]]))


_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)L?(?:\s*'(\w+)')?")
_DAY = re.compile(r"DateTime\((\d{4})(?:, (\d+))?(?:, (\d+))?\)")
_COMPARED = re.compile(r"(.+?) (<=|>=|!=|<|>|=) (.+)")
_WHY = (
    (r"~", "equivalence (~) makes null a value; we have no such operator"),
    (r"Tuple|\{", "tuples and lists are not compared"),
    (r"'\w+':|':", "ratios are not compared"),
    (r"@T|@\d|DateTime\(.*, \d+, \d+, \d+, \d+", "times of day are not compared: rules go by civil days"),
    (r"Today|DateTime\(.*null", "needs a clock or a date of null parts"),
    (
        r"\b(millisecond|second|minute|hour|day|week|month|year)s?\b",
        "durations as quantities: lengths of time only make windows",
    ),
    (r"\b(true|false|null)\b", "truths are not compared for equality; not-applicable and unknown stay apart"),
    (r"'", "strings are not compared"),
)  # fmt: skip


def comparison() -> Iterator[Case]:
    suite = "CQL comparison operators"
    for group, name, text, expected in _cql("CqlComparisonOperatorsTest.xml"):
        ours = _compared(text.strip())
        if ours is None:
            why = next((why for pattern, why in _WHY if re.search(pattern, text)), "not an expression of ours")
            yield Case(suite, f"{group}/{name}", text, excluded=why)
        else:
            yield Case(suite, f"{group}/{name}", text, _CQL[expected], ours)


def _compared(text: str) -> Truth | None:
    if between := re.fullmatch(r"(\S+) between (\S+) and (\S+)", text):
        low, high = _compared(f"{between[1]} >= {between[2]}"), _compared(f"{between[1]} <= {between[3]}")
        return None if low is None or high is None else low & high
    match = _COMPARED.fullmatch(text)
    if match is None:
        return None
    left, sign, right = match.groups()
    relation = Relation("=" if sign == "!=" else sign)
    truth = _numbers(left, relation, right)
    truth = _days(left, relation, right) if truth is None else truth
    return truth if truth is None or sign != "!=" else ~truth


def _numbers(left: str, relation: Relation, right: str) -> Truth | None:
    """A measured amount against a threshold; centimetres and metres are those of a height."""
    one, other = _NUMBER.fullmatch(left), _NUMBER.fullmatch(right)
    if one is None or other is None:
        return None
    if not one[2] and not other[2]:
        return Interval.exactly(one[1]).compare(relation, Fraction(other[1]))
    height = _unlimited("height")
    measured = amount(Quantity(Interval.exactly(one[1]), one[2], None, ""), height, terms().vocabulary.units)
    bound = limit(Fraction(other[1]), other[2] or "", height)
    return None if measured.interval is None or bound is None else measured.interval.compare(relation, bound)


def _unlimited(analyte: str) -> Analyte:
    """The analyte without its limits of plausibility: the suites know no bodies."""
    return replace(terms().vocabulary.analytes[analyte], plausible=(), steps=None)


def _days(left: str, relation: Relation, right: str) -> Truth | None:
    one, other = _DAY.fullmatch(left), _DAY.fullmatch(right)
    if one is None or other is None or not other[3]:
        return None
    parts = [int(part) for part in one.groups() if part]
    span = Span.parse("-".join([f"{parts[0]:04}", *(f"{part:02}" for part in parts[1:])]), ZoneInfo("UTC"))
    day = date(*(int(part) for part in other.groups()))
    if span is None:
        return None
    eve = date.fromordinal(day.toordinal() - 1)
    window = {
        Relation.BELOW: Window(BEGINNING, eve),
        Relation.AT_MOST: Window(BEGINNING, day),
        Relation.AT_LEAST: Window(day, END_OF_TIME),
        Relation.ABOVE: Window(next_day(day), END_OF_TIME),
        Relation.EQUAL: Window(day, day),
    }[relation]
    return span.within(window)


# --- UCUM --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Magnitude:
    """A unit's size in base units, and which: the second definition of our factors, read from the UCUM tables."""

    size: Fraction
    base: tuple[tuple[str, int], ...] = ()

    def times(self, other: Magnitude, power: int = 1) -> Magnitude:
        base = Counter(dict(self.base))
        for name, exponent in other.base:
            base[name] += exponent * power
        return Magnitude(self.size * other.size**power, tuple(sorted((n, e) for n, e in base.items() if e)))


_ONE = Magnitude(Fraction(1))


@cache
def _essence() -> tuple[Mapping[str, Fraction], Mapping[str, tuple[str, str, bool]], frozenset[str]]:
    """Prefixes; units as (in unit, value, metric); base units."""
    root = ElementTree.parse(HERE / "ucum" / "ucum-essence.xml").getroot()
    space = "{http://unitsofmeasure.org/ucum-essence}"

    def value(node: ElementTree.Element) -> ElementTree.Element:
        found = node.find(f"{space}value")
        return found if found is not None else ElementTree.Element("value")

    prefixes = {p.get("Code", ""): Fraction(value(p).get("value", "")) for p in root.iter(f"{space}prefix")}
    units = {
        u.get("Code", ""): (value(u).get("Unit", ""), value(u).get("value", ""), u.get("isMetric") == "yes")
        for u in root.iter(f"{space}unit")
        if u.get("isSpecial") != "yes"
    }
    return prefixes, units, frozenset(b.get("Code", "") for b in root.iter(f"{space}base-unit"))


class NotUcum(ValueError):
    """Not a unit of the UCUM tables, or one on a scale of its own (degrees, pH)."""


def magnitude(unit: str) -> Magnitude:
    """Evaluates a UCUM expression; annotations in braces count as one."""
    result, position, sign = _ONE, 0, 1
    if unit.startswith("/"):
        position, sign = 1, -1
    while True:
        term, position = _term(unit, position)
        result = result.times(term, sign)
        if position == len(unit):
            return result
        if unit[position] not in "./":
            raise NotUcum(unit)
        sign, position = (1 if unit[position] == "." else -1), position + 1


def _term(unit: str, position: int) -> tuple[Magnitude, int]:
    if unit[position : position + 1] == "(":
        depth, end = 1, position + 1
        while depth and end < len(unit):
            depth += {"(": 1, ")": -1}.get(unit[end], 0)
            end += 1
        return magnitude(unit[position + 1 : end - 1]), end
    match = re.compile(r"((?:\[[^\]]*\]|[^\[\]{}./()])*)((?:\{[^}]*\})?)").match(unit, position)
    if match is None or not match.group():
        raise NotUcum(unit)
    return (_component(match[1]) if match[1] else _ONE), match.end()


def _component(text: str) -> Magnitude:
    if text.isdigit():
        return Magnitude(Fraction(text))
    match = re.fullmatch(r"(10[*^]|.*?[^\d+-])([+-]?\d+)?", text)
    if match is None:
        raise NotUcum(text)
    return _ONE.times(_atom(match[1]), int(match[2] or 1))


@cache
def _atom(symbol: str) -> Magnitude:
    prefixes, units, base = _essence()
    if symbol in base:
        return Magnitude(Fraction(1), ((symbol, 1),))
    if symbol in units:
        inner, value, _ = units[symbol]
        return _ONE.times(magnitude(inner)).times(Magnitude(Fraction(value)))
    for prefix, factor in prefixes.items():
        rest = symbol.removeprefix(prefix)
        if rest != symbol and (rest in base or (rest in units and units[rest][2])):
            return Magnitude(factor).times(_atom(rest))
    raise NotUcum(symbol)


def _ucum_cases(part: str) -> Iterator[Mapping[str, str]]:
    root = ElementTree.parse(HERE / "ucum" / "UcumFunctionalTests.xml").getroot()
    for node in root.iterfind(f"{part}/case"):
        yield node.attrib


def _comes_in(*units: str) -> Iterator[str]:
    for name, analyte in terms().vocabulary.analytes.items():
        if all(unit in analyte.factors for unit in units):
            yield name


def ucum_conversions() -> Iterator[Case]:
    """Claimed are the conversions between two units in which one of our analytes comes."""
    suite = "UCUM functional tests: conversion"
    for case in _ucum_cases("conversion"):
        source, target = case["srcUnit"], case["dstUnit"]
        text = f"{case['value']} {source} in {target}"
        name = next(_comes_in(source, target), None)
        if name is None:
            yield Case(suite, case["id"], text, excluded="no analyte of ours comes in both units")
            continue
        analyte = _unlimited(name)
        measured = amount(
            Quantity(Interval.exactly(case["value"]), source, None, ""), analyte, terms().vocabulary.units
        )
        one = limit(Fraction(1), target, analyte)
        assert measured.interval is not None
        assert measured.interval.low is not None
        assert one is not None
        yield Case(
            suite, case["id"], text, case["outcome"], _rounded_like(measured.interval.low / one, case["outcome"])
        )


def _rounded_like(value: Fraction, shown: str) -> str:
    """With as many significant digits as the suite shows."""
    digits = len(shown.replace(".", "").lstrip("0"))
    return shown if abs(value - Fraction(shown)) * 10**digits <= abs(Fraction(shown)) * 5 else str(float(value))


def ucum_validity() -> Iterator[Case]:
    """Claimed: a valid unit that we know is taken as itself, and an invalid one never passes for a unit."""
    suite = "UCUM functional tests: validation"
    table: UnitTable = terms().vocabulary.units
    for case in _ucum_cases("validation"):
        unit, valid = case["unit"], case["valid"] == "true"
        known = table.ucum(Quantity(Interval.exactly(1), unit, None, ""))
        if valid and known is None:
            yield Case(suite, case["id"], unit, excluded="a valid unit in which no result of ours comes")
        elif not valid and known is not None:
            yield Case(suite, case["id"], unit, excluded="not UCUM, and known here as a spelling that laboratories use")
        elif valid:
            yield Case(suite, case["id"], unit, magnitude(unit), magnitude(known or ""))
        else:
            yield Case(suite, case["id"], unit, None, known)


_SAME_BY_CONVENTION = {
    "[IU]/L": "UCUM calls international units arbitrary; a catalytic unit is taken as one (rule R10)",
    "mmol/min/kPa": "a diffusion capacity in molar units needs the molar volume of a gas",
    "": "a bare number has no unit to look up",
}


def ucum_factors() -> Iterator[Case]:
    """Every factor of `analytes.yaml`, against the UCUM tables."""
    suite = "UCUM tables: our own factors"
    for name, analyte in sorted(terms().vocabulary.analytes.items()):
        for unit, factor in analyte.factors.items():
            text = f"{name}: 1 {unit} is {factor.factor} {analyte.unit}" + (
                f" + {offset}" if (offset := _offset(factor)) else ""
            )
            if factor.molar:
                yield Case(suite, text, text, excluded="molar: hangs on the substance, not on the unit")
            elif unit in _SAME_BY_CONVENTION or analyte.unit in _SAME_BY_CONVENTION:
                yield Case(suite, text, text, excluded=_SAME_BY_CONVENTION.get(unit, ""))
            else:
                there, here = magnitude(unit), magnitude(analyte.unit)
                same = (
                    here.base == there.base and abs(there.size / here.size - factor.factor) <= factor.factor / 200_000
                )
                yield Case(suite, text, text, factor.factor, factor.factor if same else there.size / here.size)


def _offset(factor: Any) -> Fraction:
    return Fraction(getattr(factor, "offset", 0))


# --- labunits ----------------------------------------------------------------------------------------------------


def labunits() -> Iterator[Case]:
    """A cross-check of factors: that table rounds to two to four digits."""
    suite = "labunits: conventional to SI"
    vocabulary = terms().vocabulary
    for code, entry in json.loads((HERE / "labunits" / "analytes.json").read_text(encoding="utf-8")).items():
        text = f"{entry['name']}: 1 {entry['traditional_units']} is {entry['conversion_factor']} {entry['si_units']}"
        concepts = [m.concept for m in vocabulary.codebook.memberships(Code("LNC", code))]
        names = {terms().analyte_of[concept] for concept in concepts if concept in terms().analyte_of}
        units = [
            vocabulary.units.ucum(Quantity(Interval.exactly(1), None, entry[k], ""))
            for k in ("traditional_units", "si_units")
        ]
        if not names:
            yield Case(suite, code, text, excluded="a test that no rule of ours reads")
            continue
        analyte = vocabulary.analytes[names.pop()]
        factors = [analyte.factors.get(unit or "?") for unit in units]
        if factors[0] is None or factors[1] is None:
            yield Case(suite, code, text, excluded="our analyte does not come in both units")
            continue
        ours = factors[0].factor / factors[1].factor
        shown = str(entry["conversion_factor"])
        step = Fraction(1, 10 ** len(shown.partition(".")[2]))
        close = abs(ours - Fraction(shown)) <= step / 2
        yield Case(suite, code, text, Fraction(shown), Fraction(shown) if close else ours)


# --- score -------------------------------------------------------------------------------------------------------

SUITES = (logical, nullological, comparison, ucum_conversions, ucum_validity, ucum_factors, labunits)


@cache
def cases() -> tuple[Case, ...]:
    return tuple(case for suite in SUITES for case in suite())


def table() -> str:
    """The score, and every reason for leaving cases out with their number."""
    lines = ["| suite | cases | claimed | passed | left out |", "|---|---|---|---|---|"]
    for suite in dict.fromkeys(case.suite for case in cases()):
        own = [case for case in cases() if case.suite == suite]
        claimed = [case for case in own if not case.excluded]
        lines.append(
            f"| {suite} | {len(own)} | {len(claimed)} | {sum(c.passed for c in claimed)} | {len(own) - len(claimed)} |"
        )
    lines += ["", "| left out of | because | cases |", "|---|---|---|"]
    reasons = Counter((case.suite, case.excluded) for case in cases() if case.excluded)
    lines += [f"| {suite} | {why} | {count} |" for (suite, why), count in reasons.items()]
    return "\n".join(lines)


BEGIN, END = "<!-- score: tests/suites.py -->", "<!-- end of score -->"


def written_table(page: str) -> str:
    return page.partition(BEGIN)[2].partition(END)[0].strip()


def main() -> int:
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

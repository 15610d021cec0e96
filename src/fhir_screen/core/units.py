"""Units in the clinic: which spellings mean a unit, and what an analyte's number is in its canonical one (rule R10)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from fhir_screen.core.quantities import Interval, Quantity
from fhir_screen.core.truth import Reason

_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_SUPERSCRIPTS = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_POWER = re.compile(r"^[x*·]?10(?:\^|\*\*|\*|e)\(?(\d{1,2})\)?|^[x*·]?10\((\d{1,2})\)|^[x*·]?e(\d{1,2})(?=/)")


def folded(spelling: str) -> str:
    """A unit's text without the differences of typography: case, blanks, × and ^, superscripts, micro, mcL, cumm."""
    text = _SUPERSCRIPTS.sub(lambda m: "^" + m.group().translate(_SUPERSCRIPT), spelling)
    text = unicodedata.normalize("NFKC", text).lower().replace("×", "x").replace("μ", "u").replace("µ", "u")
    text = re.sub(r"\s+", "", text)
    text = text.replace("mcl", "ul").replace("mcg", "ug").replace("mcmol", "umol").replace("mckat", "ukat")
    text = text.replace("cumm", "mm3").replace("cu.mm", "mm3").replace("mm^3", "mm3").replace("mm*3", "mm3")
    text = re.sub(r"^gm(?=/|$)", "g", text).replace("[iu]", "iu").replace("gms/", "g/")
    return _POWER.sub(lambda m: "10^" + str(int(m.group(1) or m.group(2) or m.group(3))), text)


def _same_litre(code: str) -> str:
    """A UCUM code with the litre always small: "L" and "l" are both in UCUM, everything else is exact."""
    return re.sub(r"(?<![A-Za-z])([munpd]?)L(?![A-Za-z])", r"\1l", code)


@dataclass(frozen=True, slots=True)
class UnitTable:
    """Spellings seen in the wild, folded, and the UCUM code each one means."""

    spellings: Mapping[str, str]
    codes: Mapping[str, str]

    @staticmethod
    def of(units: Mapping[str, tuple[str, ...]]) -> UnitTable:
        spelled = {folded(text): ucum for ucum, texts in units.items() for text in (ucum, *texts)}
        return UnitTable(spelled, {_same_litre(ucum): ucum for ucum in units})

    def ucum(self, quantity: Quantity) -> str | None:
        """The UCUM code of a quantity's unit: its code where it is one, else its text; None where neither is known.

        "" is the unit of a bare number.
        """
        for code in (quantity.unit_code, quantity.unit_text):
            if code and (known := self.codes.get(_same_litre(code.strip()))):
                return known
        for text in (quantity.unit_text, quantity.unit_code):
            if text and text.strip():
                return self.spellings.get(folded(text))
        return ""


@dataclass(frozen=True, slots=True)
class Factor:
    """What one of a unit is in the canonical unit; ``molar`` where it needs a molar mass, ``at_most`` bounds its use.

    ``offset`` is what none of it is there: not zero between scales of different zeros (HbA1c in mmol/mol and percent).
    """

    factor: Fraction
    molar: bool = False
    at_most: Fraction | None = None
    offset: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class Analyte:
    """What is measured: its canonical unit, the units it may come in, and which numbers are possible.

    ``plausible`` lists intervals in the canonical unit; a value that fits none is ``unit-suspect``, never rescaled.
    ``whole`` names units in which a fraction betrays a wrong unit (1.6 cells per microlitre).
    ``prefixes`` are words that may stand before the number in a text ("EF 50~55 %").
    """

    name: str
    unit: str
    factors: Mapping[str, Factor]
    plausible: tuple[Interval, ...] = ()
    whole: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    steps: Fraction | None = None
    less_than: str = ""
    """The concept that has to be greater in the same resource (a diastolic pressure lies below its systolic one)."""
    more_than: str = ""
    spelled: Mapping[str, str] = field(default_factory=dict)
    """Texts, case and all, that mean a unit here and another one elsewhere: cells in "G/l" are Giga, not grams."""


@dataclass(frozen=True, slots=True)
class Amount:
    """A quantity in its analyte's canonical unit, or the reason why it has none."""

    interval: Interval | None
    reason: Reason | None = None
    molar: bool = False
    rescaled: bool = False


def amount(quantity: Quantity, analyte: Analyte, table: UnitTable) -> Amount:
    """Converts exactly; an unknown unit, or a number that cannot be, gives a reason instead of a guess."""
    ucum = _spelled(quantity, analyte) or table.ucum(quantity)
    factor = analyte.factors.get(ucum) if ucum is not None else None
    if factor is None or ucum is None:
        return Amount(None, Reason.UNIT_UNMAPPABLE)
    native = quantity.interval
    if factor.at_most is not None and (native.high is None or native.high > factor.at_most):
        return Amount(None, Reason.UNIT_SUSPECT)
    if ucum in analyte.whole and any(n is not None and n.denominator != 1 for n in (native.low, native.high)):
        return Amount(None, Reason.UNIT_SUSPECT)
    interval = native.times(factor.factor).plus(factor.offset)
    if not _plausible(interval, analyte):
        return Amount(None, Reason.UNIT_SUSPECT)
    return Amount(interval, molar=factor.molar, rescaled=factor.at_most is not None)


def _spelled(quantity: Quantity, analyte: Analyte) -> str | None:
    texts = (quantity.unit_code, quantity.unit_text)
    return next((analyte.spelled[text.strip()] for text in texts if text and text.strip() in analyte.spelled), None)


def limit(number: Fraction, unit: str, analyte: Analyte) -> Fraction | None:
    """A threshold of a rule in the canonical unit; None where the analyte does not come in that unit."""
    factor = analyte.factors.get(unit)
    return None if factor is None else number * factor.factor + factor.offset


def _plausible(interval: Interval, analyte: Analyte) -> bool:
    if analyte.steps is not None and any(
        n is not None and (n / analyte.steps).denominator != 1 for n in (interval.low, interval.high)
    ):
        return False
    if not analyte.plausible:
        return True
    return any(_meets(interval, allowed) for allowed in analyte.plausible)


def _meets(interval: Interval, allowed: Interval) -> bool:
    """Whether the number, or the known end of a censored one, lies where this analyte's numbers lie."""
    if interval.exact:
        return interval.compare_within(allowed)
    ends = [n for n in (interval.low, interval.high) if n is not None and n != 0]
    return all(Interval(n, n).compare_within(allowed) for n in ends)


def unit_text(unit: str) -> str:
    """A UCUM unit as people write it: mmHg, 10^3/uL, mL/min/1.73 m2; a score has none."""
    if unit.startswith("{"):
        return ""
    return unit.replace("10*", "10^").replace("{1.73_m2}", "1.73 m2").translate(str.maketrans("", "", "[]{}"))

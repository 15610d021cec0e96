"""How codes of a system are written, check digits included: most slips of a finger are seen before any patient is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from fhir_screen.core.codes import ITSELF

_ATC = re.compile(r"[A-Z](?:\d\d(?:[A-Z](?:[A-Z](?:\d\d)?)?)?)?")
_ICD = re.compile(r"[A-Z](?:\d[0-9A-Z](?:\.?[0-9A-Z]{1,4})?)?")
_LOINC = re.compile(r"(\d{1,7})-(\d)")
_LOINC_ANSWER = re.compile(r"L[AP]\d{1,8}-\d")
_SCTID = re.compile(r"\d{6,18}")


def _loinc(code: str) -> bool:
    """LOINC's mod-10 check digit (LOINC Users' Guide, appendix on check digits); answers and parts have another one."""
    match = _LOINC.fullmatch(code)
    if match is None:
        return _LOINC_ANSWER.fullmatch(code) is not None
    total = 0
    for place, digit in enumerate(reversed(match[1])):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return (10 - total % 10) % 10 == int(match[2])


_MULTIPLY: Final = tuple(
    tuple(int(digit) for digit in row)
    for row in ("0123456789", "1234067895", "2340178956", "3401289567", "4012395678", "5987604321", "6598710432",
                "7659821043", "8765932104", "9876543210")
)  # fmt: skip
_PERMUTE: Final = tuple(
    tuple(int(digit) for digit in row)
    for row in ("0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415",
                "7046913258")
)  # fmt: skip


def _sctid(code: str) -> bool:
    """The Verhoeff check digit of a SNOMED CT identifier (SNOMED CT Release File Specification, section 6)."""
    if _SCTID.fullmatch(code) is None:
        return False
    check = 0
    for place, digit in enumerate(reversed(code)):
        check = _MULTIPLY[check][_PERMUTE[place % 8][int(digit)]]
    return check == 0


FORMS: Final[Mapping[str, tuple[Callable[[str], bool], str]]] = {
    "loinc": (_loinc, "a LOINC code (digits, a dash, a check digit that fits)"),
    "sctid": (_sctid, "a SNOMED CT identifier (digits, the last of which checks the others)"),
    "atc": (lambda code: _ATC.fullmatch(code.removeprefix(ITSELF)) is not None, "an ATC code such as L01FF02, or a part of one"),
    "icd": (lambda code: _ICD.fullmatch(code.removeprefix(ITSELF)) is not None, "an ICD-10 code such as C43.5, or a part of one"),
}

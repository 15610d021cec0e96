"""Days that the record does not hold (planned dates, a consent on paper): read from YAML, or from a spreadsheet as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

from fhir_screen.errors import MappingError
from fhir_screen.mapping.documents import AnchorsDoc
from fhir_screen.mapping.mistakes import Collected
from fhir_screen.mapping.scalars import day_of
from fhir_screen.mapping.selectors import ANCHORS
from fhir_screen.mapping.validation import validated
from fhir_screen.mapping.yamlfile import one_of, read_yaml

_PATIENT: Final = "patient"
_FOR_ALL: Final = ("", "*", "default")
"""What stands in the first column of the row that speaks for everybody."""


@dataclass(frozen=True, slots=True)
class Anchors:
    """Days that the record does not hold: for everybody, and patient by patient."""

    default: Mapping[str, date] = field(default_factory=dict)
    patients: Mapping[str, Mapping[str, date]] = field(default_factory=dict)

    def of(self, patient: str) -> dict[str, date]:
        return {**self.default, **self.patients.get(patient, {})}


def load_anchors(path: Path) -> Anchors:
    """Reads an anchors file (contract, row `--anchors`): YAML, or CSV where its name ends so. Raises MappingError."""
    return _of_csv(path) if path.suffix.lower() == ".csv" else _of_yaml(path)


def anchor_day(name: str, text: str, where: str) -> date:
    """The day of one anchor as a file gives it. Raises MappingError."""
    if name not in ANCHORS:
        raise MappingError(f"unknown anchor {name!r}", where=where, remedy=one_of(name, "anchors", ANCHORS))
    day = day_of(text)
    if day is None:
        raise MappingError(f"{text!r} is not a day", where=where, remedy="write YYYY-MM-DD")
    return day


def _of_yaml(path: Path) -> Anchors:
    document = read_yaml(path)
    doc = validated(AnchorsDoc, document)
    default = {n: anchor_day(n, t, document.where(("default", n))) for n, t in doc.default.items()}
    patients = {
        p.removeprefix("Patient/"): {n: anchor_day(n, t, document.where(("patients", p, n))) for n, t in days.items()}
        for p, days in doc.patients.items()
    }
    return Anchors(default, patients)


def _of_csv(path: Path) -> Anchors:
    """A column `patient` and a column for each anchor; an empty cell says nothing, a row without patient is for all."""
    rows = list(_rows(path))
    header = [cell.strip() for cell in rows[0][1]] if rows else []
    mistakes = Collected()
    with mistakes.part():
        _check_header(header, f"{path}:1")
    mistakes.tell()
    default: dict[str, date] = {}
    patients: dict[str, dict[str, date]] = {}
    for line, cells in rows[1:]:
        named = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        own = named.pop(_PATIENT, "").removeprefix("Patient/")
        with mistakes.part():
            if own in patients or (own in _FOR_ALL and default):
                raise MappingError(f"{own or 'everybody'} stands twice", where=f"{path}:{line}", remedy="one row for each")
            days = {name: anchor_day(name, text, f"{path}:{line}, {name}") for name, text in named.items() if text}
            if own in _FOR_ALL:
                default = days
            else:
                patients[own] = days
    mistakes.tell()
    return Anchors(default, patients)


def _check_header(header: Iterable[str], where: str) -> None:
    columns = list(header)
    if _PATIENT not in columns:
        what = f"there is no column {_PATIENT!r}"
        raise MappingError(what, where=where, remedy=f"the first line names the columns: {_PATIENT}, {', '.join(sorted(ANCHORS))}")
    for name in columns:
        if name != _PATIENT and name not in ANCHORS:
            raise MappingError(f"unknown anchor {name!r}", where=where, remedy=one_of(name, "anchors", ANCHORS))


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows that say anything, each with its line; commas or semicolons, as spreadsheets of both worlds write them."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as cause:
        raise MappingError(f"cannot be read: {cause.strerror}", where=str(path), remedy="check the path") from cause
    except UnicodeDecodeError as cause:
        raise MappingError("is not UTF-8", where=str(path), remedy="save it as CSV UTF-8") from cause
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=";" if first.count(";") > first.count(",") else ",")
    yield from ((reader.line_num, row) for row in reader if any(cell.strip() for cell in row))



"""Decisions in the form that was asked for, on the paper there is."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from shutil import get_terminal_size

from fhir_screen.core.decision import Decision
from fhir_screen.report import csv, html, ndjson, table
from fhir_screen.report.catalogue import Catalogue
from fhir_screen.report.table import Paper

FORMS = ["table", "ndjson", "csv", "html"]


def default_form(output: Path | None) -> str:
    return "table" if output is None and sys.stdout.isatty() else "ndjson"


def printed(found: Iterable[Decision], form: str, words: Catalogue, output: Path | None = None) -> Iterator[str]:
    match form:
        case "ndjson":
            return ndjson.render(found)
        case "csv":
            return csv.render(found, words)
        case "html":
            return html.render(found, words)
        case _:
            return table.render(found, paper(output), words)


def paper(output: Path | None) -> Paper:

    terminal = output is None and sys.stdout.isatty()
    return Paper(get_terminal_size((120, 24)).columns if terminal else 140, terminal)

"""Decisions as a spreadsheet takes them: one row each, and no cell that it would compute."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Final

from fhir_screen.core.decision import Decision
from fhir_screen.report import wording
from fhir_screen.report.catalogue import Catalogue
from fhir_screen.report.english import ENGLISH

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def render(decisions: Iterable[Decision], words: Catalogue = ENGLISH) -> Iterator[str]:
    yield words.csv_start + _line(words.csv_columns)
    for decision in decisions:
        yield _line(_row(decision, words))


def harmless(cell: str) -> str:
    """A cell that would start a formula is made text with an apostrophe (OWASP, CSV injection)."""
    return f"'{cell}" if cell.lstrip(" \u00a0").startswith(_FORMULA) else cell


def _row(decision: Decision, words: Catalogue) -> tuple[str, ...]:
    return (
        decision.trial.id,
        decision.trial.version,
        decision.patient,
        decision.as_of.isoformat(),
        words.csv_truth[decision.population],
        words.csv_verdict[decision.verdict],
        wording.blocked(decision.blocked_by, words) if decision.blocked_by else "",
        " ".join(c.id for c in wording.blocking(decision)),
        " ".join(c.id for c in wording.to_review(decision)),
        str(wording.questions(decision)),
        wording.why(decision, words),
        wording.next_step(decision, words),
        decision.next_change.isoformat() if decision.next_change else "",
    )


def _line(cells: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow([harmless(cell) for cell in cells])
    return out.getvalue()

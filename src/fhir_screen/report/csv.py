"""Decisions as a spreadsheet takes them: one row each, and no cell that it would compute."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Final

from fhir_screen.core.decision import Decision
from fhir_screen.report import wording

COLUMNS: Final = (
    "trial", "trial_version", "patient", "as_of", "population", "verdict", "blocked_by",
    "blocking", "to_review", "open_questions", "why", "next_step", "next_change",
)  # fmt: skip

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def render(decisions: Iterable[Decision]) -> Iterator[str]:
    yield _line(COLUMNS)
    for decision in decisions:
        yield _line(_row(decision))


def harmless(cell: str) -> str:
    """A cell that would start a formula is made text with an apostrophe (OWASP, CSV injection)."""
    return f"'{cell}" if cell.lstrip(" \u00a0").startswith(_FORMULA) else cell


def _row(decision: Decision) -> tuple[str, ...]:
    return (
        decision.trial.id,
        decision.trial.version,
        decision.patient,
        decision.as_of.isoformat(),
        str(decision.population),
        str(decision.verdict),
        decision.blocked_by or "",
        " ".join(c.id for c in wording.blocking(decision)),
        " ".join(c.id for c in wording.to_review(decision)),
        str(wording.questions(decision)),
        wording.why(decision),
        wording.next_step(decision),
        decision.next_change.isoformat() if decision.next_change else "",
    )


def _line(cells: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow([harmless(cell) for cell in cells])
    return out.getvalue()

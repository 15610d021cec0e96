"""Decisions as a table for a terminal: what was decided, why in the protocol's words, and what comes next."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fhir_screen.core.decision import Decision, Verdict
from fhir_screen.report import wording
from fhir_screen.report.catalogue import Catalogue
from fhir_screen.report.english import ENGLISH
from fhir_screen.report.explain import summary

_STYLE: Final = {Verdict.LIKELY_ELIGIBLE: "bold green", Verdict.NEEDS_REVIEW: "yellow", Verdict.NOT_ELIGIBLE: "dim"}


@dataclass(frozen=True, slots=True)
class Paper:
    """What a table is drawn on: so many columns, and with colours or without."""

    width: int = 120
    colour: bool = False


def render(decisions: Iterable[Decision], paper: Paper, words: Catalogue = ENGLISH) -> Iterator[str]:
    """One row for each patient and trial, in the order given, and how many there are of each verdict."""
    rows = list(decisions)
    if rows:
        yield _drawn(_table(rows, words), paper)
    yield summary(rows, words) + "\n"


def _table(decisions: Iterable[Decision], words: Catalogue) -> Table:
    drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
    *short, why, still_open, following = words.columns
    for column in short:
        drawn.add_column(column, overflow="fold")
    drawn.add_column(why, ratio=5, overflow="fold")
    drawn.add_column(still_open, justify="right")
    drawn.add_column(following, ratio=4, overflow="fold")
    for decision in decisions:
        refused = decision.verdict is Verdict.NOT_ELIGIBLE
        drawn.add_row(
            Text(decision.patient.removeprefix("Patient/")),
            Text(decision.trial.id),
            Text(words.verdict[decision.verdict], _STYLE[decision.verdict]),
            Text(wording.why(decision, words)),
            "" if refused else str(wording.questions(decision)),
            Text(wording.next_step(decision, words)),
        )
    return drawn


def _drawn(drawn: Table, paper: Paper) -> str:
    out = io.StringIO()
    console = Console(
        file=out, width=paper.width, force_terminal=paper.colour, no_color=not paper.colour, legacy_windows=False
    )
    console.print(drawn)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"

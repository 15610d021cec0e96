"""The coverage of a source as a table for a terminal: what the data can answer at all, criterion by criterion."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fhir_screen.report.coverage import AtomCoverage, CriterionCoverage, TrialCoverage
from fhir_screen.report.table import Paper
from fhir_screen.report.wording import counted, shortened

_COUNTS: Final = ("Any data", "Fresh", "Usable", "Keeps out", "It alone", "Open")


def render(found: Iterable[TrialCoverage], paper: Paper) -> Iterator[str]:
    """A table a trial: a line for each criterion, and one for each of its atoms where it has several."""
    for trial in found:
        yield f"{trial.trial}, {counted(trial.patients, 'patient')}\n"
        if trial.patients:
            yield _drawn(_table(trial), paper)
            yield from (f"Hardly any data: {line}\n" for line in _lowest(trial))
    yield LEGEND + "\n"


LEGEND: Final = (
    "Any data: patients with some record of it. Fresh: and it is not too old. Usable: and it decided.\n"
    "Where silence is a no, an atom decides without any data.\n"
    "Keeps out: whom the criterion excludes. It alone: whom nothing else excludes. Open: whom it leaves undecided."
)


def _table(trial: TrialCoverage) -> Table:
    drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
    drawn.add_column("Criterion", no_wrap=True)
    drawn.add_column("What it asks", ratio=1)
    for column in _COUNTS:
        drawn.add_column(column, justify="right", no_wrap=True)
    for criterion in trial.criteria:
        kept = (_number(criterion.blocks), _number(criterion.alone), _number(criterion.undetermined))
        if len(criterion.atoms) == 1:
            drawn.add_row(criterion.id, _text(criterion.text), *_counts(criterion.atoms[0], trial), *kept)
            continue
        drawn.add_row(criterion.id, _text(criterion.text), "", "", "", *kept)
        for atom in criterion.atoms:
            drawn.add_row(f"  {atom.id}", _text(atom.text), *_counts(atom, trial), "", "", "")
    return drawn


def _counts(atom: AtomCoverage, trial: TrialCoverage) -> tuple[Text, Text, Text]:
    if atom.manual:
        return Text("a person", "dim"), Text(""), Text("")
    low = "yellow" if atom.any_data < trial.patients / 10 else ""
    return Text(str(atom.any_data), low), Text(str(atom.fresh), low), Text(str(atom.usable), low)


def _number(count: int) -> Text:
    return Text(str(count), "" if count else "dim")


def _text(text: str) -> Text:
    return Text(shortened(text, 60))


def _lowest(trial: TrialCoverage) -> Iterator[str]:
    """The atoms for which hardly anybody has data: what to ask the hospital for first."""
    for criterion in trial.criteria:
        yield from (_said(criterion, atom, trial) for atom in criterion.atoms if _thin(atom, trial))


def _thin(atom: AtomCoverage, trial: TrialCoverage) -> bool:
    """Of an exclusion that hardly anybody has, little data is what one hopes for; an unknown answer is not."""
    return not atom.manual and 10 * atom.any_data < trial.patients < 2 * sum(atom.unknown.values())


def _said(criterion: CriterionCoverage, atom: AtomCoverage, trial: TrialCoverage) -> str:
    what = shortened(atom.text or criterion.text, 60)
    return f"{atom.id} “{what}”: data for {atom.any_data} of {trial.patients}, unknown for {sum(atom.unknown.values())}"


def _drawn(drawn: Table, paper: Paper) -> str:
    out = io.StringIO()
    console = Console(
        file=out, width=paper.width, force_terminal=paper.colour, no_color=not paper.colour, legacy_windows=False
    )
    console.print(drawn)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"

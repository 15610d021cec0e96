"""Writes docs/cases.md: which outcomes of each atom the stories show, and in which stories."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fhir_screen.core.decision import AtomClass
from fhir_screen.core.trials import Trial
from fhir_screen.mapping.load import load
from stories import Story, stories, truth_of

TABLE = Path(__file__).parents[1] / "docs" / "cases.md"
OUTCOMES = ("true", "false", "unknown", "not-applicable")

HEAD = """# What the stories show

Written by `python tests/case_table.py` from `tests/cases`; `tests/test_case_table.py` checks that it is current.
A number says in how many patients an atom comes out so; `·` says that no story shows it.
"""

Shown = Mapping[str, Mapping[str, int]]


def table(trials: Iterable[Trial], told: Iterable[Story]) -> str:
    """The whole document."""
    listed = list(told)
    counts = shown(listed)
    expected = sum(len(story.expect) for story in listed)
    files = len({story.file for story in listed})
    parts = [HEAD, f"{files} stories, {len(listed)} patients, {expected} expectations.\n"]
    for trial in trials:
        parts.append(f"## {trial.id}\n")
        parts.append("| atom | class | true | false | unknown | not applicable |\n|---|---|---|---|---|---|")
        parts.append("\n".join(_row(atom_id, atom_class, counts) for atom_id, atom_class in _atoms(trial)) + "\n")
    return "\n".join(parts)


def _atoms(trial: Trial) -> Iterator[tuple[str, AtomClass]]:
    for criterion in trial.criteria:
        yield from ((atom.id, atom.atom_class) for atom in criterion.atoms)


def _row(atom_id: str, atom_class: AtomClass, counts: Shown) -> str:
    row = counts.get(atom_id, {})
    return f"| {atom_id} | {atom_class} | " + " | ".join(str(row.get(outcome, "·")) for outcome in OUTCOMES) + " |"


def shown(told: Iterable[Story]) -> Shown:
    """How often each outcome of each atom and criterion is expected."""
    counts: dict[str, dict[str, int]] = {}
    for story in told:
        for key, wanted in story.expect.items():
            _count(counts.setdefault(key, {}), wanted)
    return counts


def _count(row: dict[str, int], wanted: Any) -> None:
    if (truth := truth_of(wanted)) is not None:
        row[truth] = row.get(truth, 0) + 1


def current() -> str:
    return table(load().trials, stories())


if __name__ == "__main__":
    TABLE.write_text(current(), encoding="utf-8")
    sys.exit(0)

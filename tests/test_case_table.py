"""The published table of cases is the one that the cases give, and every permitted outcome is shown."""

from __future__ import annotations

import pytest

from case_table import OUTCOMES, TABLE, current, shown
from fhir_screen.core.decision import AtomClass
from fhir_screen.mapping.load import load
from stories import stories

NEVER_FALSE = {
    "TIL-I02b": "a slide that states melanoma may always be elsewhere",
    "TIL-I02e": "failure may have happened where nobody recorded it",
    "TIL-E07b": "treatment of the brain may have been given elsewhere",
    "NK-I01b": "a slide may always be elsewhere",
    "NK-I01c": "what is not recorded may still have spread",
    "NK-I01d": "a relapse may have happened elsewhere",
    "NK-I02a": "treatment is often given elsewhere",
    "NK-I02b": "treatment is often given elsewhere",
}
"""Open-world atoms of which no record says no."""

MAY_NOT_APPLY = frozenset(
    {"TIL-E02b", "TIL-E02c", "TIL-E02d", "TIL-E03c", "TIL-E04a", "TIL-E04b", "TIL-E07b", "TIL-E07c", "TIL-E12d"}
    | {"NK-E07a", "NK-E07b"}
)

SHOWN = shown(stories())

DECIDED = [
    (trial.id, atom.id)
    for trial in load().trials
    for criterion in trial.criteria
    for atom in criterion.atoms
    if atom.atom_class is not AtomClass.MANUAL
]


def test_the_table_of_cases_is_current() -> None:
    """Run `python tests/case_table.py` after adding a story."""
    assert TABLE.read_text(encoding="utf-8") == current()


@pytest.mark.parametrize("atom", [atom for _, atom in DECIDED])
def test_every_outcome_that_the_protocol_permits_has_a_case(atom: str) -> None:
    permitted = {"true", "unknown"}
    permitted |= set() if atom in NEVER_FALSE else {"false"}
    permitted |= {"not-applicable"} if atom in MAY_NOT_APPLY else set()
    row = SHOWN.get(atom, {})
    assert [outcome for outcome in OUTCOMES if outcome in permitted and not row.get(outcome)] == []

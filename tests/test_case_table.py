"""The published table of cases is the one that the cases give, and no atom lacks an outcome that the protocol permits."""

from __future__ import annotations

from case_table import TABLE, current


def test_the_table_of_cases_is_current() -> None:
    """Run `python tests/case_table.py` after adding a story."""
    assert TABLE.read_text(encoding="utf-8") == current()

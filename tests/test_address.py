"""Spellings of one server's address: nobody who compares them takes the same server for two, or two for the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from fhir_screen.cli.access import write_access_of
from fhir_screen.fhir.address import same_place
from fhir_screen.fhir.assemble import assemble
from fhir_screen.fhir.pull import patient_of
from fhir_screen.fhir.raw import Found, Haul
from fhir_screen.settings import Settings

BASE = "https://h.example/r4"

SPELLINGS = [
    ("https://h.example/r4", True),
    ("https://h.example/r4/", True),
    ("http://h.example/r4", True),
    ("https://H.EXAMPLE/r4", True),
    ("https://h.example./r4", True),
    ("https://h.example:443/r4", True),
    ("http://h.example:80/r4", True),
    ("http://h.example:443/r4", True),
    ("https://h.example:8443/r4", False),
    ("https://h.example:4430/r4", False),
    ("https://h.example/R4", False),
    ("https://h.example/r4/r4", False),
    ("https://h.example", False),
    ("https://other.example/r4", False),
    ("https://h.example.org/r4", False),
]
"""How a server may write its own address in references, seen from one that was reached under BASE (rule R19)."""

spelled = pytest.mark.parametrize(("spelling", "same"), SPELLINGS)


@spelled
def test_a_base_is_the_same_in_all_its_spellings(spelling: str, *, same: bool) -> None:
    assert (same_place(spelling, BASE), same_place(BASE, spelling)) == (same, same)


@spelled
def test_a_pull_knows_whose_a_resource_is_in_every_spelling(spelling: str, *, same: bool) -> None:
    whose = f"{spelling.rstrip('/')}/Patient/p1"
    assert patient_of({"subject": {"reference": whose}}, BASE) == ("p1" if same else whose)


@spelled
def test_a_chart_is_assembled_from_every_spelling(spelling: str, *, same: bool) -> None:
    subject = {"reference": f"{spelling.rstrip('/')}/Patient/p1"}
    content = [{"resourceType": "Patient", "id": "p1"}, {"resourceType": "Condition", "id": "c1", "subject": subject}]
    (chart,), _ = assemble(Haul([Found(one, base=BASE, scope=BASE) for one in content]))
    assert [one["id"] for one in chart.resources] == (["c1"] if same else [])


@pytest.mark.parametrize(
    ("target", "entered_with"),
    [
        ("https://h.example/other", Path("reader")),
        ("https://H.example:443/r4", Path("reader")),
        ("https://h.example./r4", Path("reader")),
        ("http://h.example/r4", None),
        ("https://h.example:8443/r4", None),
        ("https://other.example/r4", None),
    ],
)
def test_the_readers_token_goes_to_the_readers_origin_alone(target: str, entered_with: Path | None) -> None:
    chosen = Settings(server=BASE, token_file=Path("reader"))
    assert write_access_of(chosen, target).token_file == entered_with

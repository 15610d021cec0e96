"""Whole nights against a real HAPI server: written once, never again while nothing changes, never over a person."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hapi.server import missing_tools, running
from hapi.written import WRITTEN, ask, ours, versions

SAMPLES = Path(__file__).parent.parent / "sample_bundles"
PROGRAM = Path(sys.executable).with_name("fhir-screen")

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("hapi")]


@pytest.fixture(scope="module")
def loaded() -> Iterator[str]:
    if missing_tools():
        pytest.skip("see the fixture `hapi`")
    with running(data=[SAMPLES]) as base:
        yield base


def night(base: str, day: str, *more: str) -> dict[str, Any]:
    done = subprocess.run(
        [PROGRAM, "run", base, "--as-of", day, "--json", "--no-state", *more], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_nights_write_what_changed_and_nothing_else(loaded: str) -> None:
    first = night(loaded, "2025-11-15")
    assert first["created"] == sum(sum(verdicts.values()) for verdicts in first["trials"].values()) > 40
    before = versions(loaded)
    assert {name.split("/")[0] for name in before} == set(WRITTEN)
    problems = [
        (name, issue["diagnostics"])
        for kind in WRITTEN
        for one in ours(loaded, kind)[:8]
        for name in [f"{kind}/{one['id']}"]
        for issue in ask(f"{loaded}/{kind}/$validate", "POST", one)["issue"]
        if issue["severity"] in ("error", "fatal")
    ]
    assert problems == []

    second = night(loaded, "2025-11-16")  # no local state is kept: what stands on the server decides
    moved = second["updated"] + second["created"]
    changed = {name for name, version in versions(loaded).items() if before.get(name) != version}
    assert (moved, changed) == (0, set())
    assert second["unchanged"] == first["created"]


def test_a_coordinators_status_survives_a_night_in_which_the_verdict_changes(loaded: str) -> None:
    night(loaded, "2025-11-15")
    subject = next(s for s in ours(loaded, "ResearchSubject") if s["individual"]["reference"] == "Patient/sample-01")
    assert subject["status"] == "candidate"
    ask(f"{loaded}/ResearchSubject/{subject['id']}", "PUT", {**subject, "status": "screening"})
    later = night(loaded, "2026-02-15")  # by then every laboratory value is too old
    assert later["kept_human"] >= 1
    assert later["updated"] >= 1
    assert ask(f"{loaded}/ResearchSubject/{subject['id']}")["status"] == "screening"


def test_a_forbidden_type_leaves_exactly_what_hangs_on_it_unknown() -> None:
    with running(data=[SAMPLES], forbidden=("Procedure",)) as base:
        done = subprocess.run(
            [PROGRAM, "screen", base, "--as-of", "2025-11-15", "--patient", "sample-01"], capture_output=True, check=False
        )
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    atoms = {atom["id"]: atom for line in lines for criterion in line["criteria"] for atom in criterion["atoms"]}
    for one in ("TIL-E01", "TIL-E08a"):
        assert (atoms[one]["truth"], atoms[one]["reason"]) == ("unknown", "incomplete-fetch")
    assert atoms["TIL-I07a"]["truth"] == "true"
    assert atoms["TIL-E13h"]["truth"] == "false"

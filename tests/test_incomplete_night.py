"""What a server did not deliver is unknown for exactly those patients and atoms, from the real trials to the last line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from commands import Ended, fhir_screen
from fake_fhir import Answer as Fault
from fake_fhir import Asked, FakeFhir, outcome
from fhir_screen.core.answers import Answer
from fhir_screen.core.gaps import Gap
from fhir_screen.core.screening import screen
from fhir_screen.core.trials import Trial
from fhir_screen.core.truth import Reason, Truth
from fhir_screen.fhir.assemble import assemble
from fhir_screen.fhir.files import read_files
from fhir_screen.fhir.raw import RawPatient
from fhir_screen.fhir.reader import read
from fhir_screen.mapping.load import load

SAMPLES = Path(__file__).parent.parent / "sample_bundles"
FIT = ("sample-01", "sample-05", "sample-10")
"""Three in whose records the first trial finds nothing against them."""
VICTIM = "sample-05"

NOT_FETCHED = (Truth.UNKNOWN, Reason.INCOMPLETE_FETCH)
STUDY = load()
PATIENTS, _ = assemble(read_files(SAMPLES))

Line = dict[str, Any]


@pytest.fixture
def fake(httpserver: HTTPServer) -> Iterator[FakeFhir]:
    fhir = FakeFhir(kinds=("Patient", *sorted(STUDY.kinds)))
    for path in sorted(SAMPLES.glob("*.json")):
        fhir.resources += [entry["resource"] for entry in json.loads(path.read_text("utf-8"))["entry"]]
    httpserver.expect_request(re.compile("^/fhir")).respond_with_handler(fhir)
    yield fhir


def no_procedure(asked: Asked) -> Any:
    return outcome(500, "exception") if asked.kind == "Procedure" and asked.about(VICTIM) else None


def second_page_torn(asked: Asked) -> Any:
    torn = asked.kind == "Observation" and asked.page >= 2 and asked.about(VICTIM)
    return outcome(502, "transient") if torn else None


def screened(url: str) -> tuple[Ended, dict[str, Line]]:
    named = [word for one in FIT for word in ("--patient", one)]
    ended = fhir_screen("screen", url, "--as-of", "2025-11-15", "--trial", "NCT07028008", "--all", *named)
    return ended, {line["patient"]: line for line in map(json.loads, ended.out.splitlines())}


def atoms(line: Line) -> dict[str, Line]:
    return {atom["id"]: atom for criterion in line["criteria"] for atom in criterion["atoms"]}


@pytest.mark.parametrize(
    ("fault", "lost"),
    [(no_procedure, {"TIL-E01", "TIL-E08a"}), (second_page_torn, {"TIL-I07a"})],
    ids=["Procedure answers 500", "the second page of Observation answers 502"],
)
def test_what_one_patient_lacks_is_unknown_for_him_alone(
    fake: FakeFhir, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, fault: Fault, lost: set[str]
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    url = httpserver.url_for("/fhir")
    whole_ended, whole = screened(url)
    assert (whole_ended.code, {line["verdict"] for line in whole.values()}) == (0, {"likely-eligible"})
    fake.faults.append(fault)
    ended, torn = screened(url)
    assert ended.code == 1
    others = set(FIT) - {VICTIM}
    assert {one: torn[f"Patient/{one}"] for one in others} == {one: whole[f"Patient/{one}"] for one in others}
    assert VICTIM in ended.err and not any(one in ended.err for one in others)
    assert torn[f"Patient/{VICTIM}"]["verdict"] == "needs-review"
    before, after = atoms(whole[f"Patient/{VICTIM}"]), atoms(torn[f"Patient/{VICTIM}"])
    moved = {own_id for own_id, atom in after.items() if atom["truth"] != before[own_id]["truth"]}
    assert lost <= moved
    assert {(after[own_id]["truth"], after[own_id]["reason"]) for own_id in moved} == {("unknown", "incomplete-fetch")}


@pytest.mark.parametrize("trial", STUDY.trials, ids=lambda trial: trial.id)
@pytest.mark.parametrize("kind", sorted(STUDY.kinds - {"Encounter"}))
def test_a_type_that_no_server_gave_leaves_open_what_it_decided_and_says_so(trial: Trial, kind: str) -> None:
    wrong = {}
    for raw in PATIENTS:
        torn = replace(
            raw,
            resources=tuple(one for one in raw.resources if one["resourceType"] != kind),
            gaps=(Gap(kind, detail=f"{kind} answered 403"),),
        )
        whole, lacking = whole_answers(trial.id, raw.id), answers(trial, torn)
        wrong |= {
            (raw.id, own_id): (whole[own_id].truth, found.truth, found.reason, found.because)
            for own_id, found in lacking.items()
            if found.truth is not whole[own_id].truth and (found.truth, found.reason) != NOT_FETCHED
        }
    assert wrong == {}


@cache
def whole_answers(trial_id: str, patient: str) -> dict[str, Answer]:
    (trial,) = (one for one in STUDY.trials if one.id == trial_id)
    (raw,) = (one for one in PATIENTS if one.id == patient)
    return answers(trial, raw)


def answers(trial: Trial, raw: RawPatient) -> dict[str, Answer]:
    record = read(raw, STUDY.shapes, STUDY.terms, STUDY.zone(trial))
    decision = screen(trial, record, STUDY.terms.vocabulary, date(2025, 11, 15))
    return {atom.id: atom.answer for criterion in decision.criteria for atom in criterion.atoms}

"""Consent and enrolment are taken from the record where no person gave them, and only what surely says so is taken."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_screen.core.anchors import anchors_of
from fhir_screen.core.trials import Trial
from fhir_screen.errors import MappingError
from fhir_screen.fhir.assemble import assemble
from fhir_screen.fhir.raw import Found, Haul
from fhir_screen.fhir.reader import read
from fhir_screen.mapping.anchors import load_anchors
from fhir_screen.mapping.load import Study, load

TODAY = date(2025, 11, 15)
STUDY = {"resourceType": "ResearchStudy", "id": "s", "status": "active", "identifier": [{"value": "NCT07028008"}]}
OTHER = {"resourceType": "ResearchStudy", "id": "o", "status": "active", "identifier": [{"value": "NCT99999999"}]}


@pytest.fixture(scope="module")
def study() -> Study:
    return load(trials=["NCT07028008"])


def consent(own_id: str, day: str, study: str = "s", status: str = "active", scope: str = "research") -> dict[str, Any]:
    return {
        "resourceType": "Consent",
        "id": own_id,
        "status": status,
        "patient": {"reference": "Patient/p"},
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": scope}]},
        "dateTime": day,
        "provision": {"data": [{"meaning": "instance", "reference": {"reference": f"ResearchStudy/{study}"}}]},
    }


def subject(status: str, start: str, study: str = "s", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "ResearchSubject",
        "id": f"rs-{study}",
        "status": status,
        "individual": {"reference": "Patient/p"},
        "study": {"reference": f"ResearchStudy/{study}"},
        "period": {"start": start},
        **more,
    }


def anchors(study: Study, *resources: dict[str, Any], given: dict[str, date] | None = None) -> dict[str, date]:
    patient = {"resourceType": "Patient", "id": "p", "birthDate": "1970-01-01"}
    (raw,), _ = assemble(Haul([Found(one) for one in (patient, STUDY, OTHER, *resources)]))
    (trial,) = study.trials
    assert isinstance(trial, Trial)
    return anchors_of(read(raw, study.shapes, study.terms, ZoneInfo("Asia/Seoul")), trial, given or {}, TODAY)


def test_an_active_research_consent_of_this_study_dates_the_consent(study: Study) -> None:
    assert anchors(study, consent("c", "2025-10-01")) == {"consent_date": date(2025, 10, 1)}


def test_the_first_of_two_consents_counts(study: Study) -> None:
    both = consent("c1", "2025-10-01"), consent("c2", "2025-09-01")
    assert anchors(study, *both) == {"consent_date": date(2025, 9, 1)}


@pytest.mark.parametrize(
    "none",
    [
        consent("c", "2025-10-01", study="o"),
        consent("c", "2025-10-01", status="proposed"),
        consent("c", "2025-10-01", scope="treatment"),
        consent("c", "2025-10"),
        consent("c", "2025-11-16"),
    ],
    ids=["of another study", "proposed", "to treatment", "in some month", "tomorrow"],
)
def test_a_consent_that_is_not_surely_this_one_sets_nothing(study: Study, none: dict[str, Any]) -> None:
    assert anchors(study, none) == {}


def test_being_on_study_dates_the_enrolment_and_its_consent_the_consent(study: Study) -> None:
    enrolled = subject("on-study", "2025-10-20", consent={"reference": "Consent/c"})
    general = consent("c", "2025-10-05")
    del general["provision"]
    assert anchors(study, enrolled, general) == {
        "enrolment_date": date(2025, 10, 20),
        "consent_date": date(2025, 10, 5),
    }


@pytest.mark.parametrize("status", ["candidate", "screening", "withdrawn", "pending-on-study"])
def test_who_is_not_on_study_is_not_enrolled(study: Study, status: str) -> None:
    assert anchors(study, subject(status, "2025-10-20")) == {}


def test_enrolment_in_another_study_is_none_in_this_one(study: Study) -> None:
    assert anchors(study, subject("on-study", "2025-10-20", study="o")) == {}


def test_what_a_person_gave_wins(study: Study) -> None:
    given = {"consent_date": date(2025, 8, 8), "planned_infusion_date": date(2026, 1, 1)}
    assert anchors(study, consent("c", "2025-10-01"), given=given) == given


# A spreadsheet of days

CSV = "patient,planned_infusion_date,consent_date\n*,2026-01-12,\nPatient/p1,,2025-11-02\np2,2026-02-01,\n,,\n"


@pytest.mark.parametrize("text", [CSV, CSV.replace(",", ";"), "\ufeff" + CSV.replace("\n", "\r\n")])
def test_days_come_from_a_spreadsheet_too(tmp_path: Path, text: str) -> None:
    path = tmp_path / "anchors.csv"
    path.write_bytes(text.encode())
    anchors = load_anchors(path)
    infusion, consent = date(2026, 1, 12), date(2025, 11, 2)
    assert anchors.of("p1") == {"planned_infusion_date": infusion, "consent_date": consent}
    assert anchors.of("p2") == {"planned_infusion_date": date(2026, 2, 1)}
    assert anchors.of("p3") == {"planned_infusion_date": infusion}


@pytest.mark.parametrize(
    ("text", "where", "what", "remedy"),
    [
        ("", "1", "there is no column 'patient'", "the first line names the columns"),
        ("id,consent_date\np1,2025-11-02\n", "1", "there is no column 'patient'", "consent_date"),
        ("patient,consent\np1,2025-11-02\n", "1", "unknown anchor 'consent'", "consent_date"),
        ("patient,consent_date\n\np1,02.11.2025\n", "3, consent_date", "'02.11.2025' is not a day", "YYYY-MM-DD"),
        ("patient,consent_date\np1,2025-11-02\nPatient/p1,2025-11-03\n", "3", "p1 stands twice", "one row for each"),
    ],
)
def test_a_mistake_in_a_spreadsheet_is_told_with_its_line(tmp_path: Path, text: str, where: str, what: str, remedy: str) -> None:
    path = tmp_path / "anchors.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(MappingError) as told:
        load_anchors(path)
    assert (told.value.where, told.value.what) == (f"{path}:{where}", what)
    assert remedy in told.value.remedy

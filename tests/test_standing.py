"""Whose the resources on a server are: a person's word is seen without anybody having to remember what was written."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from decisions import ALPHA, BETA, FIRST_NIGHT, likely, refused, review
from fhir_screen.core.decision import ClosedStudies, Decision, Standing, SubjectStanding, action
from fhir_screen.fhir.connection import Access
from fhir_screen.fhir.identity import study_identity, subject_identity
from fhir_screen.fhir.server import FhirServer, SearchFailed
from fhir_screen.fhir.standing import DuplicateIdentity, Ground, Held, held, survey, tail
from fhir_screen.fhir.writer import Part, entries
from versioned_fhir import VersionedFhir

Resource = dict[str, Any]


def written(*decisions: Decision) -> dict[str, Resource]:
    """What stands after the first night, by type, as a server holds it."""
    parts = [Part(one, Held(), action(one, Standing())) for one in decisions]
    made = entries(parts, Ground(), FIRST_NIGHT)
    return {
        entry.resource["resourceType"]: {**entry.resource, "meta": {**entry.resource["meta"], "versionId": "1"}}
        for entry in made
    }


def look(resources: dict[str, Resource], decision: Decision) -> Held:
    return held(decision, "north", Ground.of(resources.values()))


def test_nothing_stands_on_an_empty_server() -> None:
    assert held(likely(), "north", Ground()) == Held()


def test_what_the_machine_wrote_stands_as_its_own() -> None:
    resources = written(likely())
    assert look(resources, likely()) == Held(
        Standing(likely().digest, subject=SubjectStanding.OURS, subject_status="candidate"),
        result=resources["Observation"],
        result_version="1",
        subject_version="1",
        verdict="likely-eligible",
    )


def test_another_trial_or_patient_or_site_stands_for_itself() -> None:
    ground = Ground.of(written(likely()).values())
    assert held(likely(trial=BETA), "north", ground) == Held()
    assert held(likely("p2"), "north", ground) == Held()


def test_a_server_may_write_references_in_its_own_way() -> None:
    resources = written(likely())
    subject = resources["ResearchSubject"]
    subject["individual"] = {"reference": "http://127.0.0.1/fhir/Patient/p1/_history/7", "type": "Patient"}
    subject["text"] = {"status": "generated", "div": "<div/>"}
    assert look(resources, likely()).standing.subject is SubjectStanding.OURS


@pytest.mark.parametrize(
    ("touch", "kept"),
    [
        ({"status": "screening"}, "a person changed the status from candidate to screening"),
        ({"status": "potential-candidate"}, "a person changed the status from candidate to potential-candidate"),
        ({"extension": []}, "the ResearchSubject was saved by somebody who dropped our marks"),
        ({"meta": {"versionId": "2"}}, "the ResearchSubject was saved by somebody who dropped our marks"),
        ({"identifier": []}, "a person changed identifier of the ResearchSubject"),
        ({"consent": {"reference": "Consent/c"}}, "a person changed consent of the ResearchSubject"),
        (
            {"assignedArm": "A", "period": {"start": "2026"}},
            "a person changed assignedArm, period of the ResearchSubject",
        ),
        ({"study": {"reference": "ResearchStudy/x"}}, "a person changed study of the ResearchSubject"),
        ({"individual": {"reference": "Patient/p2"}}, "a person changed individual of the ResearchSubject"),
    ],
)
def test_a_subject_that_a_person_touched_is_the_persons(touch: Resource, kept: str) -> None:
    resources = written(likely())
    resources["ResearchSubject"] |= touch
    found = look(resources, likely())
    assert (found.standing.subject, found.kept) == (SubjectStanding.HUMAN, (kept,))


def test_an_extension_that_a_person_added_makes_the_subject_the_persons() -> None:
    resources = written(likely())
    resources["ResearchSubject"]["extension"] = [
        *resources["ResearchSubject"]["extension"],
        {"url": "https://hospital.example/note", "valueString": "called on Monday"},
    ]
    assert look(resources, likely()).kept == ("a person changed extension of the ResearchSubject",)


@pytest.mark.parametrize(
    ("touch", "kept"),
    [
        ({"status": "final"}, "the Observation is final"),
        ({"status": "amended"}, "the Observation is amended"),
        ({"status": "entered-in-error"}, "the Observation is entered-in-error"),
        ({"meta": {"versionId": "2"}}, "our mark was taken off the Observation"),
        ({"extension": []}, "the Observation was saved by somebody who dropped its decision"),
        ({"subject": {"reference": "Patient/p2"}}, "our Observation belongs to another patient now"),
    ],
)
def test_an_observation_that_a_person_took_is_the_persons(touch: Resource, kept: str) -> None:
    resources = written(likely())
    resources["Observation"] |= touch
    found = look(resources, likely())
    assert (found.standing.observation_human, found.kept) == (True, (kept,))
    assert found.result_version == resources["Observation"]["meta"]["versionId"]


def _theirs(**content: Any) -> Resource:
    return {
        "resourceType": "ResearchSubject",
        "id": "rs-7",
        "status": "on-study",
        "study": {"reference": "ResearchStudy/melanoma-2026"},
        "individual": {"reference": "Patient/p1"},
        **content,
    }


def _study(*identifiers: tuple[str, str]) -> Resource:
    return {
        "resourceType": "ResearchStudy",
        "id": "melanoma-2026",
        "status": "active",
        "identifier": [{"system": system, "value": value} for system, value in identifiers],
    }


@pytest.mark.parametrize(
    ("study", "theirs"),
    [
        (_study(("https://clinicaltrials.gov", "alpha-1 ")), _theirs()),
        (_study(("https://hospital.example/irb", "2026-0042")), _theirs()),
        (_study(), _theirs(study={"identifier": {"value": "ALPHA-1"}})),
        (_study(), _theirs(study={"reference": f"ResearchStudy/{study_identity('north', ALPHA).id}"})),
        (_study(), _theirs(study={"reference": "#s"}, contained=[_study(("", "ALPHA-1")) | {"id": "s"}])),
    ],
)
@pytest.mark.parametrize("ours", [{}, written(likely())], ids=["beside none of ours", "beside ours"])
def test_somebody_elses_subject_of_the_same_patient_and_study_is_respected(
    study: Resource, theirs: Resource, ours: dict[str, Resource]
) -> None:
    found = held(likely(), "north", Ground.of([study, theirs, *ours.values()]))
    assert found.standing.subject is SubjectStanding.HUMAN
    assert found.kept == ("ResearchSubject/rs-7 was made by somebody else",)


@pytest.mark.parametrize(
    "stands",
    [
        [_study(("https://clinicaltrials.gov", "OTHER-9")), _theirs()],
        [_study(("https://elsewhere.example/irb", "2026-0042")), _theirs()],
        [_theirs()],
        [_study(("", "ALPHA-1")), _theirs(individual={"reference": "Patient/p2"})],
        [_theirs(study={"display": "some study"}, individual={})],
    ],
)
def test_a_subject_of_another_study_or_patient_says_nothing(stands: list[Resource]) -> None:
    assert held(likely(), "north", Ground.of(stands)) == Held()


def test_two_observations_with_one_identity_stop_the_patient() -> None:
    resources = written(likely())
    copy = {**resources["Observation"], "id": "copy"}
    with pytest.raises(DuplicateIdentity, match="Observation/copy claims to be Observation/fs-ob-"):
        held(likely(), "north", Ground.of([*resources.values(), copy]))


def test_two_subjects_with_one_identity_stop_the_patient() -> None:
    copy = {**written(likely())["ResearchSubject"], "id": "copy"}
    with pytest.raises(DuplicateIdentity, match="duplicate identity: ResearchSubject/copy"):
        held(likely(), "north", Ground.of([copy]))


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ({"reference": "Patient/p1"}, "Patient/p1"),
        ({"reference": "https://x.example/fhir/Patient/p1/_history/3"}, "Patient/p1"),
        ({"reference": "#a"}, "#a"),
        ({"display": "x"}, ""),
        (None, ""),
    ],
)
def test_a_reference_means_the_same_in_all_its_forms(reference: object, expected: str) -> None:
    assert tail(reference) == expected


@pytest.fixture
def fhir(httpserver: HTTPServer) -> VersionedFhir:
    server = VersionedFhir()
    httpserver.expect_request("/fhir").respond_with_handler(server)
    httpserver.expect_request("/fhir/", method="POST").respond_with_handler(server)
    for kind in ("ResearchSubject", "Observation", "ResearchStudy", "Device"):
        httpserver.expect_request(f"/fhir/{kind}/_search").respond_with_handler(server)
    httpserver.expect_request(re.compile("/fhir/ResearchSubject/fs-.*"), method="GET").respond_with_handler(server)
    return server


def _survey(httpserver: HTTPServer, decisions: list[Decision], known: Ground | None = None) -> Ground:
    with FhirServer(Access(httpserver.url_for("/fhir"))) as server:
        return survey(server, decisions, "north", ClosedStudies.OBSERVATION_ONLY, known or Ground())


def test_a_settled_chunk_of_patients_costs_two_searches(fhir: VersionedFhir, httpserver: HTTPServer) -> None:
    decisions = [one for n in range(4) for one in (likely(f"p{n}"), refused(f"p{n}", BETA))]
    for decision in decisions:
        for resource in written(decision).values():
            fhir.put(resource)
    known = Ground()
    _survey(httpserver, decisions, known)
    fhir.searches.clear()
    ground = _survey(httpserver, decisions, known)
    assert [kind for kind, _ in fhir.searches] == ["ResearchSubject", "Observation"]
    stands = [held(one, "north", ground).verdict for one in decisions]
    assert stands == ["likely-eligible", "not-eligible"] * 4


def test_what_is_read_before_a_write_comes_from_no_store(fhir: VersionedFhir, httpserver: HTTPServer) -> None:
    _survey(httpserver, [likely()])
    assert fhir.cache_controls == {"no-cache, no-store"}


def test_an_id_that_would_be_created_is_looked_for_by_itself(fhir: VersionedFhir, httpserver: HTTPServer) -> None:
    for resource in written(likely()).values():
        fhir.put(resource)
    fhir.change("Observation", identifier=None, status="final")
    fhir.change("ResearchSubject", individual={"reference": "Patient/p9"})
    found = held(likely(), "north", _survey(httpserver, [likely()]))
    assert (found.standing.observation_human, found.standing.subject) == (True, SubjectStanding.HUMAN)


def test_only_a_subject_that_is_missing_beside_our_observation_is_asked_for_by_name(
    fhir: VersionedFhir, httpserver: HTTPServer
) -> None:
    known = likely("p1"), likely("p2"), refused("p3"), likely("p4")
    for resource in [one for decision in known[:3] for one in written(decision).values()]:
        fhir.put(resource)
    del fhir.stands[subject_identity("north", known[1]).reference]
    ground = _survey(httpserver, [*known[:2], likely("p3"), known[3]])
    asked = [subject_identity("north", one).reference for one in (known[1], known[2])]
    assert (fhir.reads, ground.deleted) == (asked, set())
    fhir.gone[asked[0]] = 2
    assert _survey(httpserver, [known[1]]).deleted == {asked[0]}


def test_a_hundred_and_one_decisions_are_asked_for_in_chunks(fhir: VersionedFhir, httpserver: HTTPServer) -> None:
    _survey(httpserver, [refused(f"p{n}") for n in range(101)])
    sizes = [(kind, next(iter(params.values())).count(",") + 1) for kind, params in fhir.searches]
    assert sizes == [
        ("ResearchSubject", 50),
        ("ResearchSubject", 50),
        ("ResearchSubject", 1),
        ("Observation", 100),
        ("Observation", 1),
        ("Observation", 100),
        ("Observation", 1),
    ]


def test_a_type_that_may_not_be_read_is_no_empty_answer(fhir: VersionedFhir, httpserver: HTTPServer) -> None:
    fhir.refuse_search = lambda kind: kind == "ResearchSubject"
    with pytest.raises(SearchFailed, match="403"):
        _survey(httpserver, [review()])


def test_the_study_of_somebody_elses_subject_is_read_and_remembered(
    fhir: VersionedFhir, httpserver: HTTPServer
) -> None:
    fhir.put(_study(("https://clinicaltrials.gov", "ALPHA-1")))
    fhir.put(_theirs())
    known = Ground()
    for _ in range(2):
        found = held(likely(), "north", _survey(httpserver, [likely()], known))
        assert found.standing.subject_status == "on-study"
    assert [kind for kind, _ in fhir.searches].count("ResearchStudy") == 1


def test_two_installations_respect_each_other() -> None:
    found = held(likely(), "south", Ground.of(written(likely()).values()))
    assert found.standing == Standing(subject=SubjectStanding.HUMAN, subject_status="candidate")
    assert found.kept == (f"ResearchSubject/{subject_identity('north', likely()).id} was made by another site of fhir-screen",)

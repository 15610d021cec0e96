"""What a real HAPI server makes of our writing: valid, once, and never over a person."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from decisions import ALPHA, BETA, FIRST_NIGHT, SECOND_NIGHT, THIRD_NIGHT, likely, refused, review
from fhir_screen.core.decision import Decision, Standing, SubjectStanding, action
from fhir_screen.fhir.connection import Access
from fhir_screen.fhir.identity import device_identity, result_identity, study_identity, subject_identity
from fhir_screen.fhir.server import Conflict, FhirServer, Rejected
from fhir_screen.fhir.sinks import Outcome, PlanSink, ServerSink, Trouble
from fhir_screen.fhir.standing import Ground, Held
from fhir_screen.fhir.writer import EvidenceLinks, Part, Signature, entries, transaction

pytestmark = pytest.mark.server

Resource = dict[str, Any]
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def call(url: str, method: str = "GET", body: Resource | None = None) -> tuple[int, Resource]:
    data = json.dumps(body).encode() if body is not None else None
    headers = {"Content-Type": "application/fhir+json", "Accept": "application/fhir+json"}
    try:
        with _direct.open(urllib.request.Request(url, data, headers, method=method), timeout=60) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def read(base: str, reference: str) -> Resource:
    status, resource = call(f"{base}/{reference}")
    assert status == 200, (reference, status)
    return resource


def put(base: str, resource: Resource) -> Resource:
    status, answer = call(f"{base}/{resource['resourceType']}/{resource['id']}", "PUT", resource)
    assert status in {200, 201}, answer
    return read(base, f"{resource['resourceType']}/{resource['id']}")


def deleted(base: str, reference: str) -> None:
    """A person's deletion; HAPI refuses it while a Provenance points there, so these go first."""
    _, bundle = call(f"{base}/Provenance?target={reference}")
    for one in [*(f"Provenance/{entry['resource']['id']}" for entry in bundle.get("entry", ())), reference]:
        status, answer = call(f"{base}/{one}", "DELETE")
        assert status == 200, answer


@pytest.fixture
def site(request: pytest.FixtureRequest) -> str:
    """Each test is an installation of its own, with a patient of its own."""
    return f"{request.node.name}-{uuid.uuid4().hex}"


@pytest.fixture
def patient(hapi: str, site: str) -> str:
    own_id = f"writing-{site[-32:]}"
    put(hapi, {"resourceType": "Patient", "id": own_id})
    for kind, evidence in (
        ("Observation", {"id": "hb1", "status": "final", "code": {"text": "hemoglobin"}}),
        (
            "MedicationRequest",
            {"id": "rx1", "status": "active", "intent": "order", "medicationCodeableConcept": {"text": "pills"}},
        ),
    ):
        put(hapi, {"resourceType": kind, **evidence, "subject": {"reference": f"Patient/{own_id}"}})
    return own_id


@pytest.fixture
def server(hapi: str) -> Iterator[FhirServer]:
    with FhirServer(Access(hapi)) as one:
        yield one


@pytest.fixture
def night(server: FhirServer, site: str) -> Callable[..., Outcome]:
    def run(signature: Signature, *decisions: Decision) -> Outcome:
        return Outcome.of(ServerSink(server, replace(signature, site=site)).record(decisions))

    return run


def versions(base: str, site: str, *decisions: Decision) -> dict[str, str]:
    """The versions of everything that the decisions put, but for their Provenances."""
    references = {device_identity(site, FIRST_NIGHT.tool).reference}
    for one in decisions:
        references |= {
            study_identity(site, one.trial).reference,
            result_identity(site, one).reference,
            subject_identity(site, one).reference,
        }
    return {one: read(base, one)["meta"]["versionId"] for one in sorted(references)}


def provenances(base: str, site: str, decision: Decision) -> list[Resource]:
    _, bundle = call(f"{base}/Provenance?target={result_identity(site, decision).reference}")
    return [entry["resource"] for entry in bundle.get("entry", ())]


def test_everything_that_is_written_is_valid(hapi: str, server: FhirServer, site: str, patient: str) -> None:
    signature = replace(FIRST_NIGHT, site=site)
    parts = [
        Part(one, Held(), action(one, Standing()))
        for one in (likely(patient), review(patient, BETA), refused(patient, replace(BETA, id="GAMMA-3")))
    ]
    bundle = transaction(entries(parts, Ground(), signature))
    for resource in [*(entry["resource"] for entry in bundle["entry"]), bundle]:
        status, found = call(f"{hapi}/{resource['resourceType']}/$validate", "POST", resource)
        issues = [one for one in found["issue"] if one["severity"] in {"error", "fatal"}]
        assert (status, issues) == (200, []), resource["resourceType"]
    server.transaction(bundle)
    for entry in bundle["entry"]:
        stands = read(hapi, entry["request"]["url"])
        _, found = call(f"{hapi}/{stands['resourceType']}/$validate", "POST", stands)
        assert [one for one in found["issue"] if one["severity"] in {"error", "fatal"}] == []


def test_a_night_without_change_makes_no_version(
    hapi: str, night: Callable[..., Outcome], site: str, patient: str
) -> None:
    decisions = [likely(patient), review(patient, BETA)]
    assert night(FIRST_NIGHT, *decisions) == Outcome(created=2)
    first = versions(hapi, site, *decisions)
    assert set(first.values()) == {"1"}
    assert night(SECOND_NIGHT, *decisions) == Outcome(unchanged=2)
    assert versions(hapi, site, *decisions) == first
    assert [len(provenances(hapi, site, one)) for one in decisions] == [1, 1]


def test_a_change_is_one_version_and_one_provenance(
    hapi: str, night: Callable[..., Outcome], site: str, patient: str
) -> None:
    night(FIRST_NIGHT, review(patient))
    assert night(SECOND_NIGHT, likely(patient)) == Outcome(updated=1)
    stands = versions(hapi, site, likely(patient))
    assert {reference.partition("/")[0]: number for reference, number in stands.items()} == {
        "Device": "1",
        "ResearchStudy": "1",
        "ResearchSubject": "2",
        "Observation": "2",
    }
    made = provenances(hapi, site, likely(patient))
    assert [one["meta"]["versionId"] for one in made] == ["1", "1"]
    assert {entity["what"]["identifier"]["value"] for one in made for entity in one["entity"]} == {
        "Observation/hb1/_history/2"
    }


def test_the_very_same_transaction_again_makes_no_version(
    hapi: str, server: FhirServer, site: str, patient: str
) -> None:
    part = Part(likely(patient), Held(), action(likely(patient), Standing()))
    bundle = transaction(entries([part], Ground(), replace(FIRST_NIGHT, site=site)))
    server.transaction(bundle)
    server.transaction(bundle)
    assert set(versions(hapi, site, likely(patient)).values()) == {"1"}


def test_a_coordinators_status_survives_a_night_that_decides_otherwise(
    hapi: str, night: Callable[..., Outcome], site: str, patient: str
) -> None:
    night(FIRST_NIGHT, review(patient))
    subject = subject_identity(site, likely(patient)).reference
    changed = put(hapi, {**read(hapi, subject), "status": "screening"})
    assert night(SECOND_NIGHT, review(patient)) == Outcome(unchanged=1, kept_human=1)
    assert night(THIRD_NIGHT, likely(patient)) == Outcome(updated=1, kept_human=1)
    assert read(hapi, subject) == changed


def test_a_coordinator_who_drops_our_extensions_is_a_person_too(
    hapi: str, night: Callable[..., Outcome], site: str, patient: str
) -> None:
    night(FIRST_NIGHT, review(patient))
    subject = subject_identity(site, likely(patient)).reference
    plain = {name: value for name, value in read(hapi, subject).items() if name not in {"extension", "meta"}}
    changed = put(hapi, plain)
    assert night(SECOND_NIGHT, likely(patient)) == Outcome(updated=1, kept_human=1)
    assert read(hapi, subject) == changed


def test_a_final_observation_is_kept(hapi: str, night: Callable[..., Outcome], site: str, patient: str) -> None:
    night(FIRST_NIGHT, likely(patient))
    result = result_identity(site, likely(patient)).reference
    changed = put(hapi, {**read(hapi, result), "status": "final"})
    assert night(SECOND_NIGHT, refused(patient)) == Outcome(unchanged=1, kept_human=1)
    assert read(hapi, result) == changed


def test_somebody_elses_subject_of_the_study_is_respected(
    hapi: str, night: Callable[..., Outcome], site: str, patient: str
) -> None:
    registry = [{"system": "https://clinicaltrials.gov", "value": "ALPHA-1"}]
    put(hapi, {"resourceType": "ResearchStudy", "id": "their-study", "status": "active", "identifier": registry})
    theirs = {
        "resourceType": "ResearchSubject",
        "id": f"theirs-{patient}",
        "status": "on-study",
        "study": {"reference": "ResearchStudy/their-study"},
        "individual": {"reference": f"Patient/{patient}"},
    }
    put(hapi, theirs)
    assert night(FIRST_NIGHT, likely(patient)) == Outcome(created=1, kept_human=1)
    assert call(f"{hapi}/{subject_identity(site, likely(patient)).reference}")[0] == 404


def test_a_candidate_whom_a_person_deleted_is_not_made_again(
    hapi: str, night: Callable[..., Outcome], site: str, patient: str
) -> None:
    night(FIRST_NIGHT, review(patient))
    subject = subject_identity(site, likely(patient)).reference
    deleted(hapi, subject)
    assert night(SECOND_NIGHT, likely(patient)) == Outcome(updated=1, kept_human=1)
    assert night(THIRD_NIGHT, likely(patient)) == Outcome(unchanged=1, kept_human=1)
    assert call(f"{hapi}/{subject}")[0] == 410


def test_a_deletion_between_read_and_write_is_a_conflict(
    hapi: str, server: FhirServer, site: str, patient: str
) -> None:
    signature = replace(FIRST_NIGHT, site=site)
    part = Part(review(patient), Held(), action(review(patient), Standing()))
    server.transaction(transaction(entries([part], Ground(), signature)))
    subject = subject_identity(site, likely(patient)).reference
    deleted(hapi, subject)
    stale = Held(_ours(patient), result_version="1", subject_version="1", result={})
    part = Part(likely(patient), stale, action(likely(patient), stale.standing))
    shared = Ground.of(read(hapi, one) for one in (_device(site), study_identity(site, ALPHA).reference))
    with pytest.raises(Conflict):
        server.transaction(transaction(entries([part], shared, replace(SECOND_NIGHT, site=site))))
    assert call(f"{hapi}/{subject}")[0] == 410


def test_a_stale_version_is_a_conflict(hapi: str, server: FhirServer, site: str, patient: str) -> None:
    signature = replace(FIRST_NIGHT, site=site)
    part = Part(review(patient), Held(), action(review(patient), Standing()))
    server.transaction(transaction(entries([part], Ground(), signature)))
    subject = subject_identity(site, likely(patient)).reference
    changed = put(hapi, {**read(hapi, subject), "status": "withdrawn"})
    stale = Held(_ours(patient), result_version="1", subject_version="1", result={})
    part = Part(likely(patient), stale, action(likely(patient), stale.standing))
    shared = Ground.of(read(hapi, one) for one in (_device(site), study_identity(site, ALPHA).reference))
    with pytest.raises(Conflict):
        server.transaction(transaction(entries([part], shared, replace(SECOND_NIGHT, site=site))))
    assert read(hapi, subject) == changed
    assert read(hapi, result_identity(site, likely(patient)).reference)["meta"]["versionId"] == "1"


def test_nights_that_run_at_once_leave_one_of_each(hapi: str, site: str, patient: str) -> None:
    def night(number: int) -> Outcome:
        signature = replace(FIRST_NIGHT, site=site, recorded_at=FIRST_NIGHT.recorded_at + timedelta(seconds=number))
        with FhirServer(Access(hapi)) as server:
            return Outcome.of(ServerSink(server, signature).record([likely(patient)]))

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(night, range(4)))
    assert all(one.created + one.unchanged + one.updated + one.conflicts == 1 for one in done)
    _, found = call(f"{hapi}/ResearchSubject?patient={patient}")
    assert len(found["entry"]) == 1
    assert night(9) == Outcome(unchanged=1)


def test_evidence_that_is_gone_fails_that_patient_alone(hapi: str, server: FhirServer, site: str, patient: str) -> None:
    put(hapi, {"resourceType": "Patient", "id": f"{patient}-b"})
    gone = review(patient)
    answer = gone.criteria[0].answer
    elsewhere = replace(answer, evidence=(replace(answer.evidence[0], reference="Observation/not-here"),))
    gone = replace(gone, criteria=(replace(gone.criteria[0], answer=elsewhere),))
    sink = ServerSink(server, replace(FIRST_NIGHT, site=site))
    first, second = sink.record([gone, refused(f"{patient}-b")])
    assert (first.trouble, type(first.error), second.trouble) == (Trouble.FAILED, Rejected, None)
    named = ServerSink(server, replace(FIRST_NIGHT, site=site, links=EvidenceLinks.NAMED))
    assert Outcome.of(named.record([gone])) == Outcome(created=1)


def test_a_second_observation_with_our_identifier_is_a_duplicate(
    hapi: str, night: Callable[..., Outcome], site: str, patient: str
) -> None:
    night(FIRST_NIGHT, likely(patient))
    result = result_identity(site, likely(patient)).reference
    put(hapi, {**read(hapi, result), "id": f"copy-{patient}", "meta": {}})
    assert night(SECOND_NIGHT, refused(patient)) == Outcome(conflicts=1)
    assert read(hapi, result)["meta"]["versionId"] == "1"


def test_a_study_with_a_new_state_is_put_once_more(
    hapi: str, night: Callable[..., Outcome], site: str, patient: str
) -> None:
    study = study_identity(site, ALPHA).reference
    done = replace(ALPHA, status="COMPLETED")
    night(FIRST_NIGHT, review(patient))
    night(SECOND_NIGHT, likely(patient, done))
    assert (read(hapi, study)["status"], read(hapi, study)["meta"]["versionId"]) == ("completed", "2")
    night(THIRD_NIGHT, review(patient, done))
    assert read(hapi, study)["meta"]["versionId"] == "2"


def test_a_plan_makes_no_version(hapi: str, server: FhirServer, site: str, patient: str) -> None:
    sink = PlanSink(ServerSink(server, replace(FIRST_NIGHT, site=site)))
    assert Outcome.of(sink.record([likely(patient)])) == Outcome(created=1)
    assert call(f"{hapi}/{result_identity(site, likely(patient)).reference}")[0] == 404


def _ours(patient: str) -> Standing:
    return Standing(review(patient).digest, subject=SubjectStanding.OURS, subject_status="potential-candidate")


def _device(site: str) -> str:
    return device_identity(site, FIRST_NIGHT.tool).reference

"""Writing twice writes once, a person's word stays, and what cannot be written is told."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from decisions import (
    ALPHA,
    BETA,
    FIRST_NIGHT,
    SECOND_NIGHT,
    THIRD_NIGHT,
    likely,
    refused,
    review,
)
from fake_fhir import fhir_json, outcome
from fhir_screen.core.decision import ClosedStudies, Decision, ObservationAction, SubjectAction
from fhir_screen.errors import UsageError
from fhir_screen.fhir.connection import Access
from fhir_screen.fhir.server import FhirServer
from fhir_screen.fhir.sinks import (
    FolderSink,
    Outcome,
    PlanSink,
    Recorded,
    ServerSink,
    Sink,
    Trouble,
)
from fhir_screen.fhir.writer import Signature
from versioned_fhir import VersionedFhir

Night = Callable[..., Outcome]


@pytest.fixture
def fhir(httpserver: HTTPServer) -> VersionedFhir:
    server = VersionedFhir()
    httpserver.expect_request("/fhir", method="POST").respond_with_handler(server)
    for kind in ("ResearchSubject", "Observation", "ResearchStudy", "Device"):
        httpserver.expect_request(f"/fhir/{kind}/_search").respond_with_handler(server)
    httpserver.expect_request(re.compile("/fhir/ResearchSubject/fs-.*"), method="GET").respond_with_handler(server)
    return server


@pytest.fixture
def server(httpserver: HTTPServer) -> Iterator[FhirServer]:
    with FhirServer(Access(httpserver.url_for("/fhir"))) as one:
        yield one


def told(sink: Sink, *decisions: Decision) -> list[Recorded]:
    return list(sink.record(decisions))


def counted(sink: Sink, *decisions: Decision) -> Outcome:
    return Outcome.of(told(sink, *decisions))


def test_a_first_night_creates_one_transaction_a_patient(fhir: VersionedFhir, server: FhirServer) -> None:
    decisions = [likely("p1"), review("p1", BETA), refused("p2")]
    assert counted(ServerSink(server, FIRST_NIGHT), *decisions) == Outcome(created=3)
    kinds = [[e["resource"]["resourceType"] for e in one["entry"]] for one in fhir.transactions]
    assert kinds == [
        [
            "Device",
            "ResearchStudy",
            "ResearchStudy",
            "ResearchSubject",
            "ResearchSubject",
            "Observation",
            "Observation",
            "Provenance",
            "Provenance",
        ],
        ["Observation", "Provenance"],
    ]


def test_a_second_night_without_change_writes_nothing(fhir: VersionedFhir, server: FhirServer) -> None:
    decisions = [likely("p1"), review("p1", BETA), refused("p2")]
    counted(ServerSink(server, FIRST_NIGHT), *decisions)
    versions, sent = fhir.versions(), len(fhir.transactions)
    assert counted(ServerSink(server, SECOND_NIGHT), *decisions) == Outcome(unchanged=3)
    assert (fhir.versions(), len(fhir.transactions)) == (versions, sent)


def test_a_changed_decision_is_one_new_version_of_what_changed(fhir: VersionedFhir, server: FhirServer) -> None:
    counted(ServerSink(server, FIRST_NIGHT), review())
    assert counted(ServerSink(server, SECOND_NIGHT), likely()) == Outcome(updated=1)
    assert {url.partition("/")[0]: version for url, version in fhir.versions().items()} == {
        "Device": "1",
        "ResearchStudy": "1",
        "ResearchSubject": "2",
        "Observation": "2",
        "Provenance": "1",
    }
    assert len(fhir.of("Provenance")) == 2
    assert fhir.only("ResearchSubject")["status"] == "candidate"
    assert fhir.only("Observation")["effectiveDateTime"] == "2026-11-22T18:00:00Z"


def test_a_patient_who_no_longer_matches_keeps_the_subject(fhir: VersionedFhir, server: FhirServer) -> None:
    counted(ServerSink(server, FIRST_NIGHT), likely())
    assert counted(ServerSink(server, SECOND_NIGHT), refused()) == Outcome(updated=1)
    assert fhir.only("ResearchSubject")["status"] == "candidate"
    assert fhir.only("Observation")["valueCodeableConcept"]["coding"][0]["code"] == "not-eligible"


def test_a_decision_that_comes_back_leaves_a_provenance_for_each_change(
    fhir: VersionedFhir, server: FhirServer
) -> None:
    for signature, decision in ((FIRST_NIGHT, likely()), (SECOND_NIGHT, refused()), (THIRD_NIGHT, likely())):
        counted(ServerSink(server, signature), decision)
    assert [one["meta"]["versionId"] for one in fhir.of("Provenance")] == ["1", "1", "1"]


def test_a_persons_status_survives_a_night_that_decides_otherwise(fhir: VersionedFhir, server: FhirServer) -> None:
    counted(ServerSink(server, FIRST_NIGHT), review())
    fhir.change("ResearchSubject", status="screening")
    standing = fhir.only("ResearchSubject")
    assert counted(ServerSink(server, SECOND_NIGHT), review()) == Outcome(unchanged=1, kept_human=1)
    assert counted(ServerSink(server, THIRD_NIGHT), likely()) == Outcome(updated=1, kept_human=1)
    assert fhir.only("ResearchSubject") == standing
    assert fhir.only("Observation")["meta"]["versionId"] == "2"


def test_a_subject_that_a_person_deleted_is_not_made_again(fhir: VersionedFhir, server: FhirServer) -> None:
    counted(ServerSink(server, FIRST_NIGHT), review())
    fhir.delete("ResearchSubject")
    (done,) = told(ServerSink(server, SECOND_NIGHT), likely())
    assert done.changes[0].kept == ("a person deleted the ResearchSubject",)
    assert Outcome.of([done]) == Outcome(updated=1, kept_human=1)
    assert (fhir.of("ResearchSubject"), fhir.only("Observation")["meta"]["versionId"]) == ([], "2")
    assert counted(ServerSink(server, THIRD_NIGHT), likely()) == Outcome(unchanged=1, kept_human=1)


def test_a_subject_that_is_deleted_between_read_and_write_stays_deleted(
    fhir: VersionedFhir, server: FhirServer
) -> None:
    counted(ServerSink(server, FIRST_NIGHT), review())
    fhir.before.append(lambda: fhir.delete("ResearchSubject"))
    assert counted(ServerSink(server, SECOND_NIGHT), likely()) == Outcome(updated=1, kept_human=1)
    assert (fhir.of("ResearchSubject"), fhir.only("Observation")["meta"]["versionId"]) == ([], "2")


def test_where_subject_and_observation_are_deleted_all_begins_anew(fhir: VersionedFhir, server: FhirServer) -> None:
    counted(ServerSink(server, FIRST_NIGHT), review())
    fhir.delete("ResearchSubject")
    fhir.delete("Observation")
    assert counted(ServerSink(server, SECOND_NIGHT), likely()) == Outcome(created=1)
    assert fhir.only("ResearchSubject")["status"] == "candidate"


def test_a_final_observation_stays_as_the_person_left_it(fhir: VersionedFhir, server: FhirServer) -> None:
    counted(ServerSink(server, FIRST_NIGHT), likely())
    fhir.change("Observation", status="final")
    standing = fhir.only("Observation")
    (done,) = told(ServerSink(server, SECOND_NIGHT), refused())
    assert done.changes[0].kept == ("the Observation is final",)
    assert Outcome.of([done]) == Outcome(unchanged=1, kept_human=1)
    assert fhir.only("Observation") == standing


def test_no_subject_is_made_beside_somebody_elses(fhir: VersionedFhir, server: FhirServer) -> None:
    fhir.put(
        {
            "resourceType": "ResearchStudy",
            "id": "s1",
            "status": "active",
            "identifier": [{"system": "https://clinicaltrials.gov", "value": "ALPHA-1"}],
        }
    )
    fhir.put(
        {
            "resourceType": "ResearchSubject",
            "id": "rs-7",
            "status": "on-study",
            "study": {"reference": "ResearchStudy/s1"},
            "individual": {"reference": "Patient/p1"},
        }
    )
    assert counted(ServerSink(server, FIRST_NIGHT), likely()) == Outcome(created=1, kept_human=1)
    assert fhir.only("ResearchSubject")["id"] == "rs-7"


def test_a_person_who_writes_between_read_and_write_wins(fhir: VersionedFhir, server: FhirServer) -> None:
    counted(ServerSink(server, FIRST_NIGHT), review())
    fhir.before.append(lambda: fhir.change("ResearchSubject", status="withdrawn"))
    assert counted(ServerSink(server, SECOND_NIGHT), likely()) == Outcome(updated=1, kept_human=1)
    assert fhir.only("ResearchSubject")["status"] == "withdrawn"
    assert fhir.only("Observation")["meta"]["versionId"] == "2"


@pytest.mark.parametrize("status", [409, 412])
def test_a_conflict_that_does_not_end_is_left_to_people(fhir: VersionedFhir, server: FhirServer, status: int) -> None:
    refusals: list[Callable[[], Response | None]] = [lambda: outcome(status, "conflict")] * 3
    fhir.before += refusals
    first, second = told(ServerSink(server, FIRST_NIGHT), likely("p1"), likely("p1", BETA), likely("p2"))
    assert (first.trouble, first.undone, second.trouble) == (Trouble.CONFLICT, 2, None)
    assert Outcome.of([first, second]) == Outcome(created=1, conflicts=2)


def test_a_refused_transaction_is_told_and_the_next_patient_goes_on(fhir: VersionedFhir, server: FhirServer) -> None:
    fhir.before.append(lambda: outcome(400, "processing", "HAPI-1094: p1 canary"))
    first, second = told(ServerSink(server, FIRST_NIGHT), likely("p1"), likely("p2"))
    assert (first.patient, first.trouble) == ("p1", Trouble.FAILED)
    assert str(first.error) == "the server refused the transaction (400) (processing, HAPI-1094)"
    assert second.trouble is None
    assert {"Device", "ResearchStudy"} <= {url.partition("/")[0] for url in fhir.stands}


def test_a_lost_answer_is_read_up_and_not_written_again(fhir: VersionedFhir, server: FhirServer) -> None:
    fhir.after.append(lambda: fhir_json({}, 500))
    assert counted(ServerSink(server, FIRST_NIGHT), likely()) == Outcome(created=1)
    assert set(fhir.versions().values()) == {"1"}
    assert len(fhir.transactions) == 1


def test_a_write_that_was_lost_on_the_way_is_made_again(fhir: VersionedFhir, server: FhirServer) -> None:
    fhir.before.append(lambda: fhir_json({}, 502))
    assert counted(ServerSink(server, FIRST_NIGHT), likely()) == Outcome(created=1)
    assert len(fhir.of("Provenance")) == 1


def test_a_last_answer_that_is_lost_is_still_read_up(fhir: VersionedFhir, server: FhirServer) -> None:
    lost: list[Callable[[], Response | None]] = [lambda: fhir_json({}, 502)] * 2
    fhir.before += lost
    fhir.before.append(lambda: None)
    fhir.after.append(lambda: fhir_json({}, 502))
    assert counted(ServerSink(server, FIRST_NIGHT), likely()) == Outcome(created=1)


def test_writes_of_which_nobody_knows_are_failures(fhir: VersionedFhir, server: FhirServer) -> None:
    lost: list[Callable[[], Response | None]] = [lambda: fhir_json({}, 502)] * 3
    fhir.before += lost
    assert counted(ServerSink(server, FIRST_NIGHT), likely()) == Outcome(failed=1)


def test_a_duplicate_identity_stops_that_patient_and_no_other(fhir: VersionedFhir, server: FhirServer) -> None:
    counted(ServerSink(server, FIRST_NIGHT), likely("p1"), likely("p2"))
    copy = {**fhir.of("Observation")[0], "id": "copy"}
    fhir.put(copy)
    sent = len(fhir.transactions)
    done = told(ServerSink(server, SECOND_NIGHT), refused("p1"), refused("p2"))
    assert Outcome.of(done) == Outcome(updated=1, conflicts=1)
    assert len(fhir.transactions) == sent + 1
    assert "Observation/copy claims to be" in next(str(one.error) for one in done if one.error)


def test_where_it_cannot_be_seen_what_stands_nothing_is_written(fhir: VersionedFhir, server: FhirServer) -> None:
    fhir.refuse_search = lambda kind: kind == "ResearchSubject"
    (done,) = told(ServerSink(server, FIRST_NIGHT), likely())
    assert (done.trouble, done.undone, fhir.transactions) == (Trouble.FAILED, 1, [])


def test_a_closed_study_gets_observations_only_unless_the_site_says_so(fhir: VersionedFhir, server: FhirServer) -> None:
    closed = likely(trial=replace(ALPHA, status="completed", closed=True))
    counted(ServerSink(server, FIRST_NIGHT), closed)
    assert fhir.of("ResearchSubject") == []
    assert counted(ServerSink(server, SECOND_NIGHT, ClosedStudies.CANDIDATES_TOO), closed) == Outcome(updated=1)
    assert fhir.only("ResearchSubject")["status"] == "candidate"
    assert fhir.only("Observation")["meta"]["versionId"] == "1"


def test_a_plan_tells_what_a_run_does_and_writes_nothing(fhir: VersionedFhir, server: FhirServer) -> None:
    counted(ServerSink(server, FIRST_NIGHT), review("p1"), likely("p2"))
    versions = fhir.versions()
    tonight = [likely("p1"), likely("p2"), refused("p3")]
    planned = told(PlanSink(ServerSink(server, SECOND_NIGHT)), *tonight)
    assert fhir.versions() == versions
    assert planned == told(ServerSink(server, SECOND_NIGHT), *tonight)
    (change,) = planned[0].changes
    assert (change.verdict_before, change.verdict) == ("needs-review", "likely-eligible")
    assert change.action.subject_status == "candidate"
    assert (change.action.observation, change.action.subject) == (ObservationAction.UPDATE, SubjectAction.UPDATE)


def test_many_patients_are_read_in_chunks_and_each_is_told_once(fhir: VersionedFhir, server: FhirServer) -> None:
    decisions = [refused(f"p{n}") for n in range(60)]
    done = told(ServerSink(server, FIRST_NIGHT), *decisions)
    assert [one.patient for one in done] == [f"p{n}" for n in range(60)]
    assert len([kind for kind, _ in fhir.searches if kind == "ResearchSubject"]) == 2


def folder_sink(folder: Path, signature: Signature = FIRST_NIGHT) -> FolderSink:
    return FolderSink(folder, signature)


def bundle_in(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def kinds_in(path: Path) -> list[str]:
    return [entry["resource"]["resourceType"] for entry in bundle_in(path)["entry"]]


def test_a_folder_gets_one_bundle_a_patient_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "tonight"
    assert counted(folder_sink(folder), likely("p1"), review("p1", BETA), refused("p2")) == Outcome(created=3)
    assert sorted(path.name for path in folder.iterdir()) == ["p1.json", "p2.json"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert kinds_in(folder / "p2.json") == ["Device", "ResearchStudy", "Observation", "Provenance"]
    assert bundle_in(folder / "p1.json")["type"] == "transaction"


def test_an_unchanged_decision_leaves_its_file_alone(tmp_path: Path) -> None:
    counted(folder_sink(tmp_path), likely())
    before = ((tmp_path / "p1.json").read_bytes(), (tmp_path / "p1.json").stat().st_mtime_ns)
    assert counted(folder_sink(tmp_path, SECOND_NIGHT), likely()) == Outcome(unchanged=1)
    assert ((tmp_path / "p1.json").read_bytes(), (tmp_path / "p1.json").stat().st_mtime_ns) == before


def test_the_same_decisions_make_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    counted(folder_sink(tmp_path / "a"), likely("p1"), review("p1", BETA))
    counted(folder_sink(tmp_path / "b"), review("p1", BETA), likely("p1"))
    assert (tmp_path / "a" / "p1.json").read_bytes() == (tmp_path / "b" / "p1.json").read_bytes()


def test_a_changed_decision_replaces_its_own_part_of_the_file(tmp_path: Path) -> None:
    counted(folder_sink(tmp_path), review("p1"), review("p1", BETA))
    assert counted(folder_sink(tmp_path, SECOND_NIGHT), likely("p1")) == Outcome(updated=1)
    found = bundle_in(tmp_path / "p1.json")
    assert kinds_in(tmp_path / "p1.json") == [
        "Device",
        "ResearchStudy",
        "ResearchStudy",
        "ResearchSubject",
        "ResearchSubject",
        "Observation",
        "Observation",
        "Provenance",
        "Provenance",
    ]
    resources = [entry["resource"] for entry in found["entry"]]
    assert sorted(one["status"] for one in resources if one["resourceType"] == "ResearchSubject") == [
        "candidate",
        "potential-candidate",
    ]
    assert {one["recorded"] for one in resources if one["resourceType"] == "Provenance"} == {
        "2026-11-21T18:00:00Z",
        "2026-11-22T18:00:00Z",
    }


def test_a_person_may_decide_in_a_file_too(tmp_path: Path) -> None:
    counted(folder_sink(tmp_path), review())
    path = tmp_path / "p1.json"
    path.write_text(path.read_text().replace('"status": "potential-candidate"', '"status": "withdrawn"'))
    assert counted(folder_sink(tmp_path, SECOND_NIGHT), likely()) == Outcome(updated=1, kept_human=1)
    (subject,) = [e["resource"] for e in bundle_in(path)["entry"] if e["resource"]["resourceType"] == "ResearchSubject"]
    assert subject["status"] == "withdrawn"


@pytest.mark.parametrize("text", ["{}", "not JSON", '{"resourceType": "Bundle", "type": "transaction", "entry": [{}]}'])
def test_a_file_that_somebody_else_wrote_is_never_written_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "p1.json").write_text(text)
    with pytest.raises(UsageError, match="did not write"):
        told(folder_sink(tmp_path), likely())
    assert (tmp_path / "p1.json").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["p1.json"]


def test_a_patients_own_record_is_not_written_over(tmp_path: Path) -> None:
    record = {"resourceType": "Patient", "id": "p1"}
    entry = {"resource": record, "request": {"method": "PUT", "url": "Patient/p1"}}
    text = json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
    (tmp_path / "p1.json").write_text(text)
    with pytest.raises(UsageError, match="did not write"):
        told(folder_sink(tmp_path), likely())


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="did not write, or that cannot be read"):
        told(folder_sink(tmp_path / "file"), likely())


@pytest.mark.parametrize("patient", ["../p1", "p 1", "a/b", ""])
def test_no_file_is_named_after_an_id_that_is_none(tmp_path: Path, patient: str) -> None:
    (done,) = told(folder_sink(tmp_path / "out"), likely(patient))
    assert done.trouble is Trouble.FAILED
    assert not (tmp_path / "out").exists()


def test_a_plan_for_a_folder_leaves_no_trace(tmp_path: Path) -> None:
    assert counted(PlanSink(folder_sink(tmp_path / "out")), likely()) == Outcome(created=1)
    assert not (tmp_path / "out").exists()


def test_counts_add_up() -> None:
    assert Outcome(1, 2, 3, 4, 5, 6) + Outcome(created=1) == Outcome(2, 2, 3, 4, 5, 6)

"""What a patient's transaction is: valid R4, each identity once, nothing that time alone changes."""

from __future__ import annotations

import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, get_args

import pytest

from decisions import (
    ALPHA,
    BETA,
    FIRST_NIGHT,
    HEMOGLOBIN,
    SECOND_NIGHT,
    SUPPORTING,
    criterion,
    decision,
    likely,
    refused,
    review,
)
from fhir_screen.core.answers import Evidence, unknown, yes
from fhir_screen.core.decision import (
    Action,
    Decision,
    Effect,
    ObservationAction,
    Role,
    Standing,
    SubjectAction,
    SubjectStanding,
    Verdict,
    action,
)
from fhir_screen.core.truth import Reason
from fhir_screen.fhir.identity import (
    device_identity,
    is_own,
    result_identity,
    study_identity,
    subject_identity,
)
from fhir_screen.fhir.standing import Ground, Held
from fhir_screen.fhir.valuesets import DATA_ABSENT_REASON, RESEARCH_STUDY_STATUS, NotWritable, check, complaints
from fhir_screen.fhir.writer import (
    EvidenceLinks,
    Part,
    Signature,
    entries,
    portable,
    summary,
    transaction,
)
from fhir_screen.mapping.documents import RegistryDoc


def new(*decisions: Decision, signature: Signature = FIRST_NIGHT) -> dict[str, Any]:
    """The transaction for decisions of which nothing stands."""
    parts = [Part(one, Held(), action(one, Standing())) for one in decisions]
    return transaction(entries(parts, Ground(), signature))


def resource(bundle: dict[str, Any], kind: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == kind]
    (one,) = found
    return one


def requests(bundle: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {e["resource"]["resourceType"]: e["request"] for e in bundle["entry"]}


def test_a_new_candidate_brings_everything_that_its_references_need() -> None:
    bundle = new(likely())
    assert [e["resource"]["resourceType"] for e in bundle["entry"]] == [
        "Device",
        "ResearchStudy",
        "ResearchSubject",
        "Observation",
        "Provenance",
    ]
    assert bundle["type"] == "transaction"
    assert {e["request"]["ifNoneMatch"] for e in bundle["entry"]} == {"*"}
    assert all(e["fullUrl"] == f"https://fhir-screen.org/fhir/{e['request']['url']}" for e in bundle["entry"])
    assert all(e["request"]["url"] == f"{e['resource']['resourceType']}/{e['resource']['id']}" for e in bundle["entry"])


def test_two_trials_of_a_patient_share_one_transaction_and_name_the_device_once() -> None:
    urls = [e["request"]["url"] for e in new(likely(), review(trial=BETA))["entry"]]
    assert len(urls) == 9
    assert len(set(urls)) == 9


def test_a_patient_who_is_not_eligible_gets_an_observation_and_no_subject() -> None:
    kinds = [e["resource"]["resourceType"] for e in new(refused())["entry"]]
    assert kinds == ["Device", "ResearchStudy", "Observation", "Provenance"]


def test_nothing_to_write_makes_no_entry() -> None:
    stands = Held(Standing(digest=likely().digest, subject=SubjectStanding.OURS, subject_status="candidate"))
    assert entries([Part(likely(), stands, action(likely(), stands.standing))], Ground(), FIRST_NIGHT) == ()


def test_the_subject_says_which_status_the_machine_wrote() -> None:
    assert resource(new(likely()), "ResearchSubject") == {
        "resourceType": "ResearchSubject",
        "id": subject_identity("north", likely()).id,
        "meta": {"tag": [{"system": "https://fhir-screen.org/tag", "code": "managed"}]},
        "extension": [{"url": "https://fhir-screen.org/status-written", "valueString": "candidate"}],
        "identifier": [{"system": "https://fhir-screen.org/subject", "value": subject_identity("north", likely()).key}],
        "status": "candidate",
        "study": {"reference": f"ResearchStudy/{study_identity('north', ALPHA).id}"},
        "individual": {"reference": "Patient/p1"},
    }


def test_the_observation_says_what_was_decided_for_whom_and_in_which_study() -> None:
    found = resource(new(refused()), "Observation")
    found.pop("component")
    assert found == {
        "resourceType": "Observation",
        "id": result_identity("north", refused()).id,
        "meta": {"tag": [{"system": "https://fhir-screen.org/tag", "code": "managed"}]},
        "extension": [
            {
                "url": "http://hl7.org/fhir/StructureDefinition/workflow-researchStudy",
                "valueReference": {"reference": f"ResearchStudy/{study_identity('north', ALPHA).id}"},
            },
            {"url": "https://fhir-screen.org/criteria", "valueString": "ALPHA-1|1"},
            {"url": "https://fhir-screen.org/decision", "valueString": refused().digest},
        ],
        "identifier": [{"system": "https://fhir-screen.org/result", "value": result_identity("north", refused()).key}],
        "status": "preliminary",
        "category": [{"coding": [{"system": "https://fhir-screen.org/category", "code": "research-screening"}]}],
        "code": {
            "coding": [
                {"system": "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl", "code": "C16112"},
                {"system": "https://fhir-screen.org/code", "code": "screening-result"},
            ],
            "text": "Trial pre-screening (software, not reviewed)",
        },
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2026-11-21T18:00:00Z",
        "issued": "2026-11-21T18:00:00Z",
        "valueCodeableConcept": {"coding": [{"system": "https://fhir-screen.org/outcome", "code": "not-eligible"}]},
        "note": [{"text": "not-eligible: 1 of 4 criteria block (E01); 1 undetermined."}],
        "device": {"reference": f"Device/{device_identity('north', '0.1.0').id}"},
        "derivedFrom": [{"reference": "Observation/hb1/_history/2"}],
    }


def test_each_criterion_is_a_component_with_its_words_its_answer_and_its_effect() -> None:
    first, second, third, fourth = resource(new(likely()), "Observation")["component"]
    assert first == {
        "code": {
            "coding": [
                {"system": "https://fhir-screen.org/criterion/ALPHA-1", "code": "I01"},
                {"system": "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl", "code": "C25532"},
            ],
            "text": "Hemoglobin ≥ 9.0 g/dL",
        },
        "valueBoolean": True,
        "interpretation": [
            {
                "coding": [{"system": "https://fhir-screen.org/effect", "code": "supports"}],
                "text": "hemoglobin 9.7 g/dL on 2026-11-14, 9.0 g/dL or more needed",
            }
        ],
    }
    assert (second["valueBoolean"], second["code"]["coding"][1]["code"]) == (False, "C25370")
    assert third["dataAbsentReason"]["coding"][0]["code"] == "not-applicable"
    assert fourth["dataAbsentReason"] == {
        "coding": [{"system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "not-performed"}],
        "text": "a person has to ask",
    }
    assert [part["interpretation"][0]["coding"][0]["code"] for part in (third, fourth)] == ["supports", "undetermined"]


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_for_not_knowing_has_a_code_of_data_absent_reason(reason: Reason) -> None:
    vague = criterion("I01", Role.INCLUSION, unknown(reason, "why"), Effect.UNDETERMINED)
    (component,) = resource(new(decision("p1", ALPHA, Verdict.NEEDS_REVIEW, vague)), "Observation")["component"]
    code = component["dataAbsentReason"]["coding"][0]["code"]
    assert code in DATA_ABSENT_REASON
    expected = {
        Reason.INCOMPLETE_FETCH: "error",
        Reason.MASKED: "masked",
        Reason.UNIT_SUSPECT: "unsupported",
        Reason.UNIT_UNMAPPABLE: "unsupported",
        Reason.POLICY: "not-performed",
        Reason.PROXY: "not-performed",
        Reason.MANUAL: "not-performed",
    }
    assert code == expected.get(reason, "unknown")


def test_the_provenance_keeps_the_version_of_each_source_twice() -> None:
    found = resource(new(refused()), "Provenance")
    assert found["entity"] == [
        {
            "role": "source",
            "what": {
                "reference": one,
                "identifier": {"system": "https://fhir-screen.org/version", "value": one},
            },
        }
        for one in ("MedicationRequest/rx1/_history/1", "Observation/hb1/_history/2")
    ]
    assert found["target"] == [{"reference": f"Observation/{result_identity('north', refused()).id}"}]
    assert found["activity"]["coding"][0]["code"] == "CREATE"


def test_on_another_server_evidence_is_only_named() -> None:
    bundle = new(refused(), signature=replace(FIRST_NIGHT, links=EvidenceLinks.NAMED))
    assert [one["what"] for one in resource(bundle, "Provenance")["entity"]] == [
        {"identifier": {"system": "https://fhir-screen.org/version", "value": one}}
        for one in ("MedicationRequest/rx1/_history/1", "Observation/hb1/_history/2")
    ]
    assert "derivedFrom" not in resource(bundle, "Observation")


def test_a_source_that_no_server_can_resolve_is_only_named() -> None:
    odd = replace(HEMOGLOBIN, reference="urn:uuid:5f1c", version=None)
    shown = criterion("I01", Role.INCLUSION, yes("seen", [odd]), Effect.SUPPORTS)
    found = resource(new(decision("p1", ALPHA, Verdict.LIKELY_ELIGIBLE, shown)), "Provenance")
    assert found["entity"][0]["what"] == {
        "identifier": {"system": "https://fhir-screen.org/version", "value": "urn:uuid:5f1c"}
    }


def test_a_change_names_the_version_that_it_is_made_from() -> None:
    stands = Held(
        Standing(digest="sha256-0", subject=SubjectStanding.OURS, subject_status="potential-candidate"),
        result_version="4",
        subject_version="2",
    )
    part = Part(likely(), stands, action(likely(), stands.standing))
    shared = Ground.of(e["resource"] for e in new(likely())["entry"][:2])
    bundle = transaction(entries([part], shared, SECOND_NIGHT))
    assert {kind: request.get("ifMatch") for kind, request in requests(bundle).items()} == {
        "ResearchSubject": 'W/"2"',
        "Observation": 'W/"4"',
        "Provenance": None,
    }
    assert resource(bundle, "Provenance")["activity"]["coding"][0]["code"] == "UPDATE"


def test_what_stands_without_a_version_is_not_written_over() -> None:
    part = Part(likely(), Held(Standing(digest="sha256-0")), Action(ObservationAction.UPDATE, SubjectAction.NOTHING))
    with pytest.raises(NotWritable, match="has no version"):
        transaction(entries([part], Ground(), SECOND_NIGHT))


def test_the_machine_gives_no_status_that_belongs_to_people() -> None:
    part = Part(likely(), Held(), Action(ObservationAction.CREATE, SubjectAction.CREATE, "eligible"))
    with pytest.raises(NotWritable, match="'eligible' is a status that only people give"):
        entries([part], Ground(), FIRST_NIGHT)


def test_another_night_changes_dates_and_the_provenance_and_nothing_else() -> None:
    first, second = new(likely()), new(likely(), signature=SECOND_NIGHT)
    for bundle in (first, second):
        resource(bundle, "Observation").pop("effectiveDateTime")
        resource(bundle, "Observation").pop("issued")
    kept = [e["resource"] for e in first["entry"][:-1]]
    assert kept == [e["resource"] for e in second["entry"][:-1]]
    assert resource(first, "Provenance")["id"] != resource(second, "Provenance")["id"]


def test_the_machines_zone_does_not_change_a_byte() -> None:
    in_seoul = replace(FIRST_NIGHT, recorded_at=FIRST_NIGHT.recorded_at.astimezone(timezone(timedelta(hours=9))))
    assert new(likely(), signature=in_seoul) == new(likely())


def test_a_moment_without_a_zone_is_no_moment() -> None:
    with pytest.raises(ValueError, match="recorded_at needs a time zone"):
        new(likely(), signature=replace(FIRST_NIGHT, recorded_at=datetime(2026, 11, 21, 18, 0)))  # noqa: DTZ001


def test_the_day_of_screening_alone_changes_no_byte() -> None:
    assert new(replace(likely(), as_of=date(2027, 1, 1))) == new(likely())


def test_ids_depend_on_site_trial_and_patient_and_on_no_server() -> None:
    ids = {
        result_identity(site, likely(patient, trial)).id
        for site in ("north", "south")
        for patient in ("p1", "p2")
        for trial in (ALPHA, BETA)
    }
    assert len(ids) == 8
    assert all(len(one) <= 64 and one.startswith("fs-ob-") for one in ids)
    assert result_identity("north", likely("Patient/p1")) == result_identity("north", likely("p1"))
    assert result_identity("north", likely()).id == "fs-ob-ponffa5xkzgaefi6a2sjlasej6i2mgcoods4wvorvfyhwifgqhhq"


def test_a_new_version_of_the_tool_is_a_new_device() -> None:
    assert device_identity("north", "0.1.0") != device_identity("north", "0.2.0")


def test_a_study_is_put_again_when_the_mapping_says_something_new_of_it() -> None:
    stands = {**resource(new(likely()), "ResearchStudy")}
    stands["meta"] = {**stands["meta"], "versionId": "3", "lastUpdated": "2026-11-21T18:00:01Z"}
    closed = replace(ALPHA, status="COMPLETED")
    part = Part(likely(trial=closed), Held(), action(likely(trial=closed), Standing()))
    found = {entry.url: entry for entry in entries([part], Ground.of([stands]), SECOND_NIGHT)}
    entry = found[f"ResearchStudy/{stands['id']}"]
    assert (entry.stands, entry.version, entry.resource["status"]) == (True, "3", "completed")


@pytest.mark.parametrize(
    "touched", [{"status": "withdrawn"}, {"phase": {"text": "2"}}, {"title": "Our melanoma study"}]
)
def test_a_study_that_a_person_has_changed_is_left_alone(touched: dict[str, Any]) -> None:
    stands = resource(new(likely()), "ResearchStudy") | touched
    closed = replace(ALPHA, status="completed")
    part = Part(likely(trial=closed), Held(), action(likely(trial=closed), Standing()))
    kinds = [entry.resource["resourceType"] for entry in entries([part], Ground.of([stands]), SECOND_NIGHT)]
    assert "ResearchStudy" not in kinds


@pytest.mark.parametrize(
    ("registry", "status"),
    [
        ("active", "active"),
        ("RECRUITING", "active"),
        ("Not yet recruiting", "approved"),
        ("ENROLLING_BY_INVITATION", "active"),
        ("Active, not recruiting", "closed-to-accrual"),
        ("ACTIVE_NOT_RECRUITING", "closed-to-accrual"),
        ("Suspended", "temporarily-closed-to-accrual"),
        ("TERMINATED", "administratively-completed"),
        ("Completed", "completed"),
        ("Withdrawn", "withdrawn"),
    ],
)
def test_the_registrys_words_for_a_study_become_codes_of_fhir(registry: str, status: str) -> None:
    assert resource(new(likely(trial=replace(ALPHA, status=registry))), "ResearchStudy")["status"] == status


@pytest.mark.parametrize("word", get_args(RegistryDoc.model_fields["status"].annotation))
def test_every_status_that_a_trial_file_may_have_can_be_written(word: str) -> None:
    assert resource(new(likely(trial=replace(ALPHA, status=word))), "ResearchStudy")["status"] in RESEARCH_STUDY_STATUS


def test_a_status_that_is_none_is_named_with_its_trial() -> None:
    with pytest.raises(NotWritable, match="trial ALPHA-1: 'opne' is no status of a study"):
        new(likely(trial=replace(ALPHA, status="opne")))


def test_a_note_names_at_most_five_criteria() -> None:
    many = [criterion(f"E{n}", Role.EXCLUSION, yes("so"), Effect.BLOCKS) for n in range(7)]
    assert summary(decision("p1", ALPHA, Verdict.NOT_ELIGIBLE, *many)) == (
        "not-eligible: 7 of 7 criteria block (E0, E1, E2, E3, E4 and 2 more); 0 undetermined."
    )


def test_a_note_says_what_a_person_should_look_at_first_and_who_has_died() -> None:
    open_question = replace(SUPPORTING[3], open_question=True)
    asked = decision("p1", ALPHA, Verdict.NEEDS_REVIEW, open_question)
    assert summary(asked) == ("needs-review: 0 of 1 criteria block; 1 undetermined; to be looked at first (E03).")
    assert summary(replace(refused(), blocked_by="deceased")) == (
        "not-eligible: 1 of 4 criteria block (E01); blocked by: deceased; 1 undetermined."
    )


def test_control_characters_of_the_record_do_not_reach_the_server() -> None:
    odd = criterion("I01", Role.INCLUSION, yes("a\x00b\x0bc\u200bd 만"), Effect.SUPPORTS)
    found = resource(new(decision("p1", ALPHA, Verdict.LIKELY_ELIGIBLE, odd)), "Observation")
    assert found["component"][0]["interpretation"][0]["text"] == "ab cd 만"


def test_what_it_writes_is_never_evidence() -> None:
    bundle = new(likely())
    assert all(is_own(e["resource"]) for e in bundle["entry"])
    without_tag = [{**e["resource"], "meta": {}} for e in bundle["entry"] if "identifier" in e["resource"]]
    assert len(without_tag) == 4
    assert all(is_own(one) for one in without_tag)


def test_a_subject_that_a_person_has_moved_on_is_evidence() -> None:
    assert not is_own(resource(new(likely()), "ResearchSubject") | {"status": "on-study"})


def test_what_others_wrote_is_evidence() -> None:
    assert not is_own({"resourceType": "Observation", "id": "fs-ob-x", "meta": {"tag": [{"code": "managed"}]}})
    assert not is_own({"resourceType": "Observation", "meta": None, "identifier": ["odd"]})


def test_a_portable_transaction_conditions_what_is_the_patients_own_only() -> None:
    bundle = portable(e["resource"] for e in reversed(new(likely())["entry"]))
    assert {kind: request.get("ifNoneMatch") for kind, request in requests(bundle).items()} == {
        "Device": None,
        "ResearchStudy": None,
        "ResearchSubject": "*",
        "Observation": "*",
        "Provenance": "*",
    }


def test_the_gate_lets_a_whole_transaction_pass() -> None:
    assert list(complaints(new(likely(), refused(trial=BETA)))) == []


def _subject(**content: Any) -> Any:
    return lambda bundle: resource(bundle, "ResearchSubject").update(content)


def _observation(**content: Any) -> Any:
    return lambda bundle: resource(bundle, "Observation").update(content)


def _request(**content: Any) -> Any:
    return lambda bundle: bundle["entry"][3]["request"].update(content)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_subject(status="enrolled"), "status is not one of candidate, eligible"),
        (_subject(study={"reference": "Group/g1"}), "study must not point to Group"),
        (_subject(individual={"reference": "http://other/Patient/p1"}), "individual is no relative reference"),
        (_subject(meta={"tag": []}), "the managed tag is missing"),
        (_observation(status="nonsense"), "status is not one of amended"),
        (_observation(issued="2026-11-21"), "issued is no instant"),
        (_observation(subject={"reference": "Device/d"}), "subject must not point to Device"),
        (_observation(id="12345"), "id is not 1 to 64"),
        (_observation(id="x" * 65), "id is not 1 to 64"),
        (_observation(note=[{"text": "  "}]), "note.text holds blanks"),
        (_observation(note=[]), "note is empty"),
        (_observation(derivedFrom=[{"reference": "MedicationRequest/rx"}]), "must not point to MedicationRequest"),
        (_observation(component=[{"code": {"text": "x"}}]), "component[0] needs either"),
        (lambda bundle: bundle["entry"][0].pop("fullUrl"), "fullUrl does not end in request.url"),
        (_request(method="POST"), "request.method is not PUT"),
        (_request(method="SAVE"), "request.method is no HTTP verb"),
        (_request(url="Observation/other"), "request.url does not name the resource"),
        (_request(ifMatch='W/"1"'), "both ifMatch and ifNoneMatch"),
        (_request(ifMatch="*"), "ifMatch is not of the form"),
        (lambda bundle: bundle.update(type="batch"), "Bundle.type is not transaction"),
        (lambda bundle: bundle.update(entry=[]), "the Bundle is empty"),
        (lambda bundle: bundle["entry"].append(deepcopy(bundle["entry"][0])), "an identity occurs twice"),
    ],
)
def test_the_gate_stops_what_fhir_or_the_rules_forbid(spoil: Any, complaint: str) -> None:
    bundle = new(likely())
    spoil(bundle)
    found = list(complaints(bundle))
    assert any(complaint in one for one in found), found
    with pytest.raises(NotWritable, match="the transaction would not be valid"):
        check(bundle)


def test_a_patient_id_that_is_none_stops_the_patient_and_is_not_told() -> None:
    with pytest.raises(NotWritable) as caught:
        new(likely("not an id, canary"))
    assert "canary" not in str(caught.value)


def test_the_models_of_fhir_are_not_loaded_before_something_is_written() -> None:
    code = "import sys, fhir_screen.fhir.writer; sys.exit('fhir.resources' in sys.modules or 'pydantic' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_evidence_that_says_the_same_twice_is_named_once() -> None:
    twice = [Evidence("Observation/hb1", "2", "c", "1", "d"), Evidence("Observation/hb1", "2", "c", "2", "d")]
    shown = criterion("I01", Role.INCLUSION, yes("seen", twice), Effect.SUPPORTS)
    found = resource(new(decision("p1", ALPHA, Verdict.LIKELY_ELIGIBLE, shown)), "Provenance")
    assert len(found["entity"]) == 1


def test_recorded_is_in_utc_to_the_second() -> None:
    moment = datetime(2026, 11, 21, 18, 0, 0, 999, tzinfo=UTC)
    assert replace(FIRST_NIGHT, recorded_at=moment).recorded == "2026-11-21T18:00:00Z"

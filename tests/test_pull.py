"""What a pull promises: whole charts, gaps for exactly the patients concerned, and nobody else's data ever."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from fake_fhir import Asked, FakeFhir, fhir_json, outcome, searchset
from fhir_screen.core.gaps import Gap
from fhir_screen.errors import NoInputError, PreflightError, SafetyStop, TemporaryError, UsageError
from fhir_screen.fhir.connection import Access, Limits
from fhir_screen.fhir.pull import ByCodes, ByGroup, ByPatients, Everyone, Progress, patient_of, pull
from fhir_screen.fhir.raw import Damage, RawPatient
from fhir_screen.fhir.search import Capabilities, Offer, Search, Unavailable, plan, population
from fhir_screen.fhir.server import FhirServer

ICD = "http://hl7.org/fhir/sid/icd-10"
KINDS = ("Condition", "Observation", "Procedure", "MedicationRequest", "ResearchSubject")


def resource(kind: str, own_id: str, whose: str = "", **content: Any) -> dict[str, Any]:
    element = {"ResearchSubject": "individual", "AllergyIntolerance": "patient"}.get(kind, "subject")
    subject = {element: {"reference": f"Patient/{whose}"}} if whose else {}
    return {"resourceType": kind, "id": own_id, "meta": {"versionId": "1"}, **subject, **content}


def condition(own_id: str, whose: str, code: str) -> dict[str, Any]:
    return resource("Condition", own_id, whose, code={"coding": [{"system": ICD, "code": code}]})


def chart(whose: str) -> list[dict[str, Any]]:
    """A patient with a melanoma, three results, an operation."""
    return [
        resource("Patient", whose),
        condition(f"{whose}-c", whose, "C43.5"),
        *(resource("Observation", f"{whose}-o{n}", whose) for n in range(3)),
        resource("Procedure", f"{whose}-op", whose),
    ]


@pytest.fixture
def fake(httpserver: HTTPServer) -> FakeFhir:
    people = [one for whose in ("p1", "p2", "p3") for one in chart(whose)]
    fhir = FakeFhir(people, kinds=("Patient", "Group", "Medication", "ResearchStudy", *KINDS))
    httpserver.expect_request(re.compile("^/fhir")).respond_with_handler(fhir)
    return fhir


@pytest.fixture
def server(httpserver: HTTPServer) -> Iterator[FhirServer]:
    limits = Limits(attempts=2, connect=2.0, silence=2.0)
    with FhirServer(Access(httpserver.url_for("/fhir"), limits=limits, sleep=lambda _: None)) as opened:
        yield opened


def names(raw: RawPatient) -> list[str]:
    return sorted(f"{one['resourceType']}/{one['id']}" for one in raw.resources)


def whole_chart(whose: str) -> list[str]:
    return sorted(f"{one['resourceType']}/{one['id']}" for one in chart(whose) if one["resourceType"] != "Patient")


def gaps(charts: list[RawPatient]) -> dict[str, tuple[Gap, ...]]:
    return {raw.id: raw.gaps for raw in charts}


def only(kind: str, fault: Callable[[Asked], Response | None]) -> Callable[[Asked], Response | None]:
    return lambda asked: fault(asked) if asked.kind == kind else None


# Whose


ALL = ByPatients(("p1", "p2", "p3"))


def test_charts_come_whole_over_all_pages_in_the_order_of_ids(fake: FakeFhir, server: FhirServer) -> None:
    charts = list(pull(server, KINDS, ByPatients(("Patient/p3", "p1", "p2", "p1"))))
    assert [(raw.id, names(raw), raw.gaps) for raw in charts] == [
        (whose, whole_chart(whose), ()) for whose in ("p1", "p2", "p3")
    ]


def test_portions_change_nothing_but_the_questions(fake: FakeFhir, server: FhirServer) -> None:
    told: list[Progress] = []
    charts = list(pull(server, KINDS, ALL, chunk=1, on_progress=told.append))
    assert [(raw.id, names(raw)) for raw in charts] == [(whose, whole_chart(whose)) for whose in ("p1", "p2", "p3")]
    assert told == [Progress(0, 3), Progress(1, 3), Progress(2, 3), Progress(3, 3)]
    asked = [one.params["patient"] for one in fake.searches("Procedure") if one.method == "POST"]
    assert asked == ["p1", "p2", "p3"]


def test_nothing_is_fetched_for_a_portion_before_it_is_wanted(fake: FakeFhir, server: FhirServer) -> None:
    charts = pull(server, KINDS, ALL, chunk=1)
    assert next(charts).id == "p1"
    assert [one.params["patient"] for one in fake.searches("Procedure")] == ["p1"]


def test_a_population_by_codes_is_found_through_conditions(fake: FakeFhir, server: FhirServer) -> None:
    fake.resources += [resource("Patient", "p4"), condition("c4", "p4", "I10")]
    charts = list(pull(server, KINDS, ByCodes(((ICD, "C43.5"), (ICD, "C43.9")))))
    assert [raw.id for raw in charts] == ["p1", "p2", "p3"]
    assert fake.searches("Condition")[0].params["code"] == f"{ICD}|C43.5,{ICD}|C43.9"


def test_a_server_that_ignores_codes_widens_no_population(fake: FakeFhir, server: FhirServer) -> None:
    fake.resources += [resource("Patient", "p4"), condition("c4", "p4", "I10")]
    everything = [one for one in fake.resources if one["resourceType"] == "Condition"]
    fake.faults.append(
        only("Condition", lambda asked: fhir_json(searchset(everything)) if "code" in asked.params else None)
    )
    assert [raw.id for raw in pull(server, ("Observation",), ByCodes(((ICD, "C43.5"),)))] == ["p1", "p2", "p3"]


def test_everyone_is_every_patient(fake: FakeFhir, server: FhirServer) -> None:
    assert [raw.id for raw in pull(server, KINDS, Everyone())] == ["p1", "p2", "p3"]


def test_a_group_is_its_active_patients(fake: FakeFhir, server: FhirServer) -> None:
    members = [
        {"entity": {"reference": "Patient/p2"}},
        {"entity": {"reference": f"{server.base}/Patient/p1/_history/3"}},
        {"entity": {"reference": "Patient/p3"}, "inactive": True},
        {"entity": {"reference": "Device/d1"}},
    ]
    fake.resources.append(resource("Group", "g1", member=members))
    assert [raw.id for raw in pull(server, KINDS, ByGroup("g1"))] == ["p1", "p2"]


def test_a_group_that_is_not_there_is_no_input(fake: FakeFhir, server: FhirServer) -> None:
    with pytest.raises(NoInputError, match="Group/g9 does not exist"):
        list(pull(server, KINDS, ByGroup("g9")))


def test_a_patient_who_is_not_there_is_told_and_stops_nobody(fake: FakeFhir, server: FhirServer) -> None:
    told: list[Damage] = []
    charts = list(pull(server, KINDS, ByPatients(("p1", "p9")), on_damage=told.append))
    assert [raw.id for raw in charts] == ["p1"]
    assert told == [
        Damage("Patient/p9: not on the server, or not for us to read", kind="Patient", patient="p9"),
    ]


@pytest.mark.parametrize("wrong", ["", "Patient/", "p1,p2", "../p1", "Group/g1"])
def test_what_is_no_patient_id_is_an_error(fake: FakeFhir, server: FhirServer, wrong: str) -> None:
    with pytest.raises(UsageError):
        list(pull(server, KINDS, ByPatients((wrong,))))


@pytest.mark.parametrize(("code", "error"), [(403, PreflightError), (500, TemporaryError)])
def test_a_population_that_is_not_known_whole_stops_the_night(
    fake: FakeFhir, server: FhirServer, code: int, error: type[Exception]
) -> None:
    fake.faults.append(only("Condition", lambda _: outcome(code, "exception")))
    with pytest.raises(error, match=f"who is to be screened cannot be found out: Condition answered {code}"):
        list(pull(server, KINDS, ByCodes(((ICD, "C43.5"),))))


def test_patients_that_may_not_be_read_stop_the_night(fake: FakeFhir, server: FhirServer) -> None:
    fake.faults.append(only("Patient", lambda _: outcome(403, "forbidden")))
    with pytest.raises(PreflightError, match="Patient answered 403"):
        list(pull(server, KINDS, ALL))


# Gaps


@pytest.mark.parametrize("code", [403, 404])
def test_a_closed_type_is_a_gap_for_everybody_and_nothing_else_is(
    fake: FakeFhir, server: FhirServer, code: int
) -> None:
    fake.faults.append(only("Procedure", lambda _: outcome(code, "forbidden")))
    charts = list(pull(server, KINDS, ALL))
    gap = Gap("Procedure", detail=f"Procedure answered {code}")
    assert gaps(charts) == {"p1": (gap,), "p2": (gap,), "p3": (gap,)}
    assert names(charts[0]) == [one for one in whole_chart("p1") if not one.startswith("Procedure")]
    assert {one.params["patient"] for one in fake.searches("Procedure")} == {"p1,p2,p3"}


def test_a_type_that_is_not_offered_is_a_gap_for_everybody(fake: FakeFhir, server: FhirServer) -> None:
    fake.kinds = tuple(kind for kind in fake.kinds if kind != "Procedure")
    gap = Gap("Procedure", detail="the server does not offer a search of Procedure")
    assert gaps(list(pull(server, KINDS, ALL))) == {"p1": (gap,), "p2": (gap,), "p3": (gap,)}
    assert fake.searches("Procedure") == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda _: outcome(500, "exception"), "Observation answered 500"),
        (lambda _: outcome(429, "throttled"), "Observation answered 429"),
        (lambda _: Response("<html>maintenance</html>"), "Observation answered with HTML"),
        (lambda _: fhir_json({"resourceType": "OperationOutcome"}), "Observation answered with a resource of type Op"),
        (lambda _: Response(""), "Observation answered with nothing"),
        (
            lambda _: fhir_json(searchset([{"resourceType": "OperationOutcome", "id": "x", "issue": [
                {"severity": "warning", "code": "incomplete"}]}])),
            "Observation: the server left something out",
        ),
    ],
)  # fmt: skip
def test_a_failure_of_one_patient_is_the_gap_of_that_patient(
    fake: FakeFhir, server: FhirServer, fault: Callable[[Asked], Response], words: str
) -> None:
    fake.faults.append(only("Observation", lambda asked: fault(asked) if asked.about("p2") else None))
    charts = list(pull(server, KINDS, ALL))
    by_patient = gaps(charts)
    assert (by_patient["p1"], by_patient["p3"]) == ((), ())
    assert [gap.kind for gap in by_patient["p2"]] == ["Observation"]
    assert by_patient["p2"][0].detail.startswith(words)
    assert [names(raw) for raw in charts if raw.id != "p2"] == [whole_chart("p1"), whole_chart("p3")]


def test_a_lost_second_page_keeps_the_first_and_is_a_gap(fake: FakeFhir, server: FhirServer) -> None:
    fake.resources = [one for one in fake.resources if one["id"] not in {"p1-o2", "p3-o2"}]
    fake.faults.append(only("Observation", lambda asked: Response("", 502) if asked.page > 1 else None))
    charts = list(pull(server, KINDS, ALL))
    assert gaps(charts) == {
        "p1": (),
        "p2": (Gap("Observation", detail="page 2 of Observation answered 502"),),
        "p3": (),
    }
    assert [one for one in names(charts[1]) if one.startswith("Observation")] == [
        "Observation/p2-o0",
        "Observation/p2-o1",
    ]


def test_a_failure_that_passes_leaves_no_gap(fake: FakeFhir, server: FhirServer) -> None:
    codes = iter([500, 500])
    fake.faults.append(only("Observation", lambda _: Response("", code) if (code := next(codes, 0)) else None))
    assert gaps(list(pull(server, KINDS, ALL))) == {"p1": (), "p2": (), "p3": ()}


def test_a_server_that_dies_on_the_way_stops_the_night_for_now(fake: FakeFhir, server: FhirServer) -> None:
    fake.faults.append(lambda asked: Response("", 503) if fake.searches("Observation") else None)
    with pytest.raises(TemporaryError, match="the server answers 503"):
        list(pull(server, KINDS, ALL))


def test_a_401_on_the_way_stops_the_night(fake: FakeFhir, server: FhirServer) -> None:
    fake.faults.append(only("Observation", lambda _: Response("", 401)))
    with pytest.raises(PreflightError, match="401"):
        list(pull(server, KINDS, ALL))


# Somebody else's


def test_another_patients_data_stop_the_night_before_anything_of_them_is_used(
    fake: FakeFhir, server: FhirServer
) -> None:
    fake.resources += chart("p4")
    everything = [one for one in fake.resources if one["resourceType"] == "Observation"]
    fake.faults.append(only("Observation", lambda _: fhir_json(searchset(everything))))
    with pytest.raises(SafetyStop, match="a search of Observation returned somebody not asked for") as stopped:
        next(pull(server, KINDS, ALL))
    assert stopped.value.exit_code == 4


def test_the_same_id_at_another_address_is_somebody_else(fake: FakeFhir, server: FhirServer) -> None:
    stray = resource("Observation", "x", subject={"reference": "http://internal:8080/fhir/Patient/p1"})
    fake.faults.append(only("Observation", lambda _: fhir_json(searchset([stray]))))
    with pytest.raises(SafetyStop, match=r"at another address \(http://internal:8080/fhir\)"):
        list(pull(server, KINDS, ByPatients(("p1",))))


def test_another_patient_for_an_id_is_a_safety_stop(fake: FakeFhir, server: FhirServer) -> None:
    fake.faults.append(only("Patient", lambda _: fhir_json(searchset([resource("Patient", "p3")]))))
    with pytest.raises(SafetyStop, match="a search of Patient"):
        list(pull(server, KINDS, ByPatients(("p1",))))


def test_what_merely_came_along_is_neither_used_nor_a_stop(fake: FakeFhir, server: FhirServer) -> None:
    page = searchset([resource("Observation", "own", "p1"), resource("Observation", "mothers", "p4")])
    page["entry"][1]["search"]["mode"] = "include"
    fake.faults.append(only("Observation", lambda _: fhir_json(page)))
    (raw,) = pull(server, ("Observation",), ByPatients(("p1",)))
    assert names(raw) == ["Observation/own"]


# What a chart points to


def medication_request(own_id: str, whose: str, reference: str) -> dict[str, Any]:
    return resource("MedicationRequest", own_id, whose, medicationReference={"reference": reference})


def test_drugs_and_studies_are_at_hand_where_the_chart_points(fake: FakeFhir, server: FhirServer) -> None:
    order = medication_request("m1", "p1", "Medication/mix/_history/2")
    subject = resource("ResearchSubject", "s1", "p1", study={"reference": f"{server.base}/ResearchStudy/t1"})
    mix = resource("Medication", "mix", ingredient=[{"itemReference": {"reference": "Medication/pure"}}])
    study, pure = resource("ResearchStudy", "t1"), resource("Medication", "pure")
    fake.resources += [order, subject, mix, study, pure]
    (raw,) = pull(server, KINDS, ByPatients(("p1",)))
    assert raw.gaps == ()
    assert raw.resolve("Medication/mix", order) == mix
    assert raw.resolve("Medication/pure", mix) == pure
    assert raw.resolve("ResearchStudy/t1", subject) == study


def test_a_drug_that_cannot_be_read_is_a_gap_of_whoever_gets_it(fake: FakeFhir, server: FhirServer) -> None:
    fake.resources += [
        medication_request("m1", "p1", "Medication/a"),
        medication_request("m2", "p2", "Medication/b"),
        medication_request("m3", "p3", "#inside"),
        resource("Medication", "a"),
        resource("Medication", "b"),
    ]
    fake.faults.append(only("Medication", lambda asked: Response("", 500) if "b" in asked.params["_id"] else None))
    detail = "what a MedicationRequest points to is missing: Medication answered 500"
    assert gaps(list(pull(server, KINDS, ALL))) == {
        "p1": (),
        "p2": (Gap("MedicationRequest", detail=detail),),
        "p3": (),
    }


def test_a_drug_that_is_not_there_is_a_gap_too(fake: FakeFhir, server: FhirServer) -> None:
    fake.resources += [
        medication_request("m1", "p1", "Medication/lost"),
        medication_request("m2", "p2", "http://elsewhere.example/fhir/Medication/1"),
    ]
    gap = Gap("MedicationRequest", detail="what a MedicationRequest points to is missing: Medication not on the server")
    assert gaps(list(pull(server, KINDS, ALL))) == {"p1": (gap,), "p2": (gap,), "p3": ()}


def test_a_server_without_medications_is_not_asked_for_them(fake: FakeFhir, server: FhirServer) -> None:
    fake.kinds = tuple(kind for kind in fake.kinds if kind != "Medication")
    fake.resources.append(medication_request("m1", "p1", "Medication/a"))
    gap = Gap(
        "MedicationRequest",
        detail="what a MedicationRequest points to is missing: the server does not offer Medication",
    )
    assert gaps(list(pull(server, KINDS, ALL))) == {"p1": (gap,), "p2": (), "p3": ()}


# Merged records


def merged(retired: str, survivor: str) -> dict[str, Any]:
    return resource("Patient", retired, link=[{"type": "replaced-by", "other": {"reference": f"Patient/{survivor}"}}])


@pytest.mark.parametrize("asked", [("old",), ("new",), ("old", "new")])
def test_a_merged_record_counts_for_the_survivor_whoever_is_asked_for(
    fake: FakeFhir, server: FhirServer, asked: tuple[str, ...]
) -> None:
    fake.search_params = {"Patient": ("_id", "link")}
    fake.resources = [
        merged("old", "new"),
        *chart("new"),
        resource("Procedure", "transplant", "old"),
    ]
    charts = list(pull(server, KINDS, ByPatients(asked), chunk=1))
    assert [(raw.id, names(raw)) for raw in charts] == [("new", sorted([*whole_chart("new"), "Procedure/transplant"]))]


def test_a_survivor_that_names_what_it_replaces_needs_no_search_by_link(fake: FakeFhir, server: FhirServer) -> None:
    link = {"type": "replaces", "other": {"reference": "Patient/old"}}
    fake.resources = [merged("old", "new"), resource("Patient", "new", link=[link]), resource("Procedure", "op", "old")]
    charts = list(pull(server, KINDS, ByPatients(("new",))))
    assert [(raw.id, names(raw)) for raw in charts] == [("new", ["Procedure/op"])]


def test_records_merged_twice_end_at_the_last_survivor(fake: FakeFhir, server: FhirServer) -> None:
    fake.resources = [merged("a", "b"), merged("b", "c"), resource("Patient", "c"), resource("Procedure", "op", "a")]
    charts = list(pull(server, KINDS, ByPatients(("a",))))
    assert [(raw.id, names(raw)) for raw in charts] == [("c", ["Procedure/op"])]


def test_a_hole_in_a_retired_record_is_a_hole_of_the_survivor(fake: FakeFhir, server: FhirServer) -> None:
    fake.resources = [merged("old", "new"), resource("Patient", "new"), resource("Patient", "p1")]
    fake.faults.append(only("Procedure", lambda asked: Response("", 500) if asked.about("old") else None))
    charts = list(pull(server, KINDS, ByPatients(("old", "p1"))))
    assert gaps(charts) == {"new": (Gap("Procedure", detail="Procedure answered 500"),), "p1": ()}


def test_a_retired_record_that_cannot_be_read_leaves_everything_open(fake: FakeFhir, server: FhirServer) -> None:
    link = {"type": "replaces", "other": {"reference": "Patient/old"}}
    fake.resources = [merged("old", "new"), resource("Patient", "new", link=[link])]
    fake.faults.append(only("Patient", lambda asked: Response("", 500) if asked.about("old") else None))
    (raw,) = pull(server, ("Condition",), ByPatients(("new",)))
    assert raw.gaps == (Gap(None, detail="records merged into this one could not be looked up"),)


def test_a_record_whose_survivor_is_not_there_is_told(fake: FakeFhir, server: FhirServer) -> None:
    fake.resources = [merged("old", "gone"), resource("Patient", "p1")]
    told: list[Damage] = []
    charts = list(pull(server, KINDS, ByPatients(("old", "p1")), on_damage=told.append))
    assert ("p1" in [raw.id for raw in charts], len(charts) + len(told)) == (True, 2)


def test_a_patient_who_vanishes_on_the_way_is_told(fake: FakeFhir, server: FhirServer) -> None:
    def once(asked: Asked) -> Response | None:
        seen = [one for one in fake.searches("Patient") if one.about("p2")]
        return fhir_json(searchset([resource("Patient", "p1")])) if len(seen) > 1 else None

    fake.faults.append(only("Patient", once))
    told: list[Damage] = []
    charts = list(pull(server, KINDS, ByPatients(("p1", "p2")), on_damage=told.append))
    assert [raw.id for raw in charts] == ["p1"]
    assert Damage("Patient/p2: vanished while it was being read", kind="Patient", patient="p2") in told


def test_merged_records_that_cannot_be_looked_up_leave_everything_open(fake: FakeFhir, server: FhirServer) -> None:
    fake.search_params = {"Patient": ("_id", "link")}
    fake.faults.append(only("Patient", lambda asked: Response("", 500) if "link" in asked.params else None))
    (raw,) = pull(server, ("Condition",), ByPatients(("p1",)))
    assert raw.gaps == (Gap(None, detail="records merged into this one could not be looked up"),)


# Planning


def offers(**parameters: tuple[str, ...]) -> Capabilities:
    types = {kind: Offer(frozenset({"search-type"}), frozenset(names)) for kind, names in parameters.items()}
    return Capabilities("4.0.1", types=types)


def test_a_plan_asks_by_patient_and_else_by_subject() -> None:
    offered = offers(
        Observation=("code", "patient", "subject"),
        Specimen=("subject",),
        AdverseEvent=(),
        Consent=(),
        ResearchSubject=("individual",),
        Library=("name",),
    )
    kinds = (
        "Specimen",
        "Observation",
        "AdverseEvent",
        "Consent",
        "ResearchSubject",
        "Library",
        "Flag",
        "Patient",
        "Medication",
    )
    assert plan(kinds, offered) == (
        Search("AdverseEvent", "subject"),
        Search("Consent", "patient"),
        Unavailable("Flag", "the server does not offer a search of Flag"),
        Unavailable("Library", "the server does not let Library be searched by patient"),
        Search("Observation", "patient"),
        Search("ResearchSubject", "individual"),
        Search("Specimen", "subject"),
    )


def test_a_type_that_cannot_be_searched_is_unavailable() -> None:
    read_only = Capabilities("4.0.1", types={"Procedure": Offer(frozenset({"read"}))})
    assert plan(["Procedure"], read_only) == (
        Unavailable("Procedure", "the server does not offer a search of Procedure"),
    )


def test_a_server_that_lists_no_type_is_asked_for_all() -> None:
    assert plan(["Procedure"], Capabilities("4.0.1")) == (Search("Procedure", "patient"),)


def test_a_search_names_its_patients_as_the_parameter_wants() -> None:
    assert Search("Observation", "patient").params(["a", "b"]) == [("patient", "a,b")]
    assert Search("Specimen", "subject").params(["a", "b"]) == [("subject", "Patient/a,Patient/b")]


def test_a_population_is_asked_for_in_portions_of_a_hundred_codes() -> None:
    codes = [(ICD, f"C{n:03}") for n in range(250)]
    searches = population(codes + codes)
    assert [len(value.split(",")) for ((_, value),) in searches] == [100, 100, 50]


def test_signs_with_a_meaning_in_searches_are_escaped() -> None:
    assert population([("http://x|y", "a,b$c\\d")]) == ([("code", "http://x\\|y|a\\,b\\$c\\\\d")],)


@pytest.mark.parametrize(
    ("content", "whose"),
    [
        ({"subject": {"reference": "Patient/p1"}}, "p1"),
        ({"patient": {"reference": "Patient/p1/_history/2"}}, "p1"),
        ({"individual": {"reference": "http://h/fhir/Patient/p1"}}, "p1"),
        ({"individual": {"reference": "https://H/fhir/Patient/p1/_history/4"}}, "p1"),
        ({"subject": {"reference": "http://other/fhir/Patient/p1"}}, "http://other/fhir/Patient/p1"),
        ({"subject": {"reference": "Group/g1"}, "patient": {"reference": "Patient/p2"}}, "p2"),
        ({"subject": {"identifier": {"value": "x"}}}, None),
        ({"subject": [{"reference": "Patient/p1"}]}, None),
        ({}, None),
    ],
)
def test_whose_a_resource_is_is_read_from_its_reference(content: dict[str, Any], whose: str | None) -> None:
    assert patient_of(content, "http://h/fhir") == whose


def test_the_same_server_gives_the_same_charts(fake: FakeFhir, server: FhirServer) -> None:
    first = [json.dumps(raw.resources) for raw in pull(server, KINDS, ALL)]
    assert first == [json.dumps(raw.resources) for raw in pull(server, KINDS, ALL)]

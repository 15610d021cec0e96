"""Whose record it is (rule R19), which version of it speaks, and what a hole in the source means (rule R4)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from fhir_screen.core.gaps import Gap
from fhir_screen.fhir.assemble import assemble
from fhir_screen.fhir.raw import Damage, Deletion, Found, Haul, Json, RawPatient

HERE = "http://his.example.org/fhir"
THERE = "https://elsewhere.example.net/fhir"


def at(base: str, resource: Mapping[str, Any], scope: str = "a.json") -> Found:
    return Found(resource, f"{base}/{resource['resourceType']}/{resource['id']}", "", scope)


def urn(name: str, resource: Mapping[str, Any], scope: str = "a.json") -> Found:
    return Found(resource, f"urn:uuid:{name}", "", scope)


def line(resource: Mapping[str, Any]) -> Found:
    """A resource of which nothing says where it stands: NDJSON, or a file of its own."""
    return Found(resource, scope="a.ndjson")


def patient(own_id: str = "p1", **more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": own_id, **more}


def condition(subject: str | Mapping[str, Any] = "Patient/p1", own_id: str = "c1", **more: Any) -> dict[str, Any]:
    reference = {"reference": subject} if isinstance(subject, str) else subject
    return {"resourceType": "Condition", "id": own_id, "subject": reference, **more}


def version(number: str | None = None, when: str | None = None) -> dict[str, Any]:
    return {"meta": {key: text for key, text in (("versionId", number), ("lastUpdated", when)) if text}}


def charts(*found: Found, **more: Any) -> dict[str, list[str]]:
    """Patient ids and the ids of what is in each chart."""
    return {raw.id: [str(one.get("id")) for one in raw.resources] for raw in assembled(*found, **more)}


def assembled(*found: Found, **more: Any) -> list[RawPatient]:
    return assemble(Haul(list(found), **more))[0]


def told(*found: Found, **more: Any) -> list[Damage]:
    return assemble(Haul(list(found), **more))[1]


# Whose record


@pytest.mark.parametrize(
    ("subject", "is_his"),
    [
        ("Patient/p1", True),
        (" Patient/p1 ", True),
        ("Patient/p1/_history/3", True),
        (f"{HERE}/Patient/p1", True),
        (f"{HERE}/Patient/p1/_history/3", True),
        ("https://his.example.org/fhir/Patient/p1", True),
        ("http://HIS.example.org/fhir/Patient/p1", True),
        (f"{THERE}/Patient/p1", False),
        (f"{THERE}/Patient/p1/_history/3", False),
        ("http://his.example.org/other/Patient/p1", False),
        ("http://his.example.org/Patient/p1", False),
        ("Patient/P1", False),
        ("Patient/p11", False),
        ("p1", False),
        ("Group/p1", False),
        ("Practitioner/p1", False),
        ("urn:uuid:p1", False),
        ("#p1", False),
        ("", False),
        ("Patient", False),
    ],
)
def test_a_reference_is_to_the_patient_or_it_is_not(subject: str, *, is_his: bool) -> None:
    assert charts(at(HERE, patient()), at(HERE, condition(subject))) == {"p1": ["c1"] if is_his else []}


@pytest.mark.parametrize(
    ("kind", "element"),
    [
        ("Observation", "subject"),
        ("AllergyIntolerance", "patient"),
        ("Immunization", "patient"),
        ("ResearchSubject", "individual"),
        ("ResearchSubject", "subject"),
        ("AdverseEvent", "subject"),
        ("Consent", "patient"),
        ("Consent", "subject"),
        ("FamilyMemberHistory", "patient"),
        ("Encounter", "subject"),
        ("Specimen", "subject"),
    ],
)
def test_each_type_says_whose_it_is_in_its_own_element(kind: str, element: str) -> None:
    resource = {"resourceType": kind, "id": "x", element: {"reference": "Patient/p1"}}
    assert charts(line(patient()), line(resource)) == {"p1": ["x"]}


@pytest.mark.parametrize("kind", ["RelatedPerson", "Group", "List", "Person"])
def test_some_types_are_in_nobodys_chart(kind: str) -> None:
    resource = {"resourceType": kind, "id": "x", "patient": {"reference": "Patient/p1"}}
    assert charts(line(patient()), line(resource)) == {"p1": []}


def test_an_account_may_name_its_subjects_in_a_list() -> None:
    account = {
        "resourceType": "Account",
        "id": "x",
        "subject": [{"reference": "Device/d"}, {"reference": "Patient/p1"}],
    }
    assert charts(line(patient()), line(account)) == {"p1": ["x"]}


def test_the_same_id_on_another_base_is_someone_else() -> None:
    found = [at(HERE, patient()), at(HERE, condition(own_id="here")), at(THERE, condition(own_id="there"))]
    assert charts(*found) == {"p1": ["here"]}
    assert [damage.what for damage in told(*found)] == [
        "1 Condition: records of nobody in the source (named by another address, by an unknown one, ambiguously, or not at all)"
    ]
    assert told(*found)[0].counts is False


def test_an_absolute_reference_needs_a_base_to_be_compared_with() -> None:
    assert charts(line(patient()), line(condition(f"{HERE}/Patient/p1"))) == {"p1": []}
    assert charts(urn("1", patient()), urn("2", condition(f"{HERE}/Patient/p1"))) == {"p1": []}


def test_a_stray_address_does_not_become_the_address_of_the_patients() -> None:
    assert charts(urn("1", patient()), at(THERE, condition(f"{THERE}/Patient/p1"))) == {"p1": []}


def test_a_server_says_on_which_base_it_is() -> None:
    found = [Found(patient(), base=HERE + "/"), Found(condition(f"{HERE}/Patient/p1"), base=HERE)]
    assert charts(*found) == {"p1": ["c1"]}
    assert charts(Found(patient(), base=HERE), Found(condition(f"{THERE}/Patient/p1"), base=HERE)) == {"p1": []}


def test_what_does_not_tell_its_base_stands_where_the_patients_stand() -> None:
    found = [at(HERE, patient()), line(condition()), line(condition(f"{HERE}/Patient/p1", "c2"))]
    assert charts(*found, at(THERE, {"resourceType": "Organization", "id": "x"})) == {"p1": ["c1", "c2"]}


def test_two_people_of_one_id_are_two_people() -> None:
    found = [at(HERE, patient()), at(THERE, patient()), at(HERE, condition()), at(THERE, condition(own_id="c2"))]
    patients, damage = assemble(Haul(found))
    assert [(raw.id, [one["id"] for one in raw.resources]) for raw in patients] == [("p1", ["c2"]), ("p1", ["c1"])]
    assert [(one.what, one.counts) for one in damage] == [
        ("Patient/p1: 2 different people of this id in the source", True)
    ]


def test_where_two_bases_have_the_id_a_line_without_base_belongs_to_nobody() -> None:
    found = [at(HERE, patient()), at(THERE, patient()), line(condition())]
    assert [raw.resources for raw in assembled(*found)] == [(), ()]


def test_an_urn_has_its_meaning_within_its_bundle_only() -> None:
    found = [
        urn("1", patient("a"), "one.json"),
        urn("2", condition("urn:uuid:1", "ca"), "one.json"),
        urn("1", patient("b"), "two.json"),
        urn("2", condition("urn:uuid:1", "cb"), "two.json"),
        urn("3", condition("urn:uuid:1", "cx"), "three.json"),
    ]
    assert charts(*found) == {"a": ["ca"], "b": ["cb"]}


def test_an_urn_is_the_same_in_capital_letters() -> None:
    assert charts(urn("ABC", patient()), urn("2", condition("URN:UUID:abc"))) == {"p1": ["c1"]}


def test_an_entry_with_an_urn_can_also_be_named_by_its_id() -> None:
    assert charts(urn("1", patient()), urn("2", condition())) == {"p1": ["c1"]}


def test_an_urn_of_two_entries_means_neither() -> None:
    found = [urn("1", patient("a")), urn("1", patient("b")), urn("2", condition("urn:uuid:1"))]
    assert charts(*found) == {"a": [], "b": []}


def test_a_patient_without_id_is_known_by_the_address_of_his_entry() -> None:
    nameless = {"resourceType": "Patient", "birthDate": "1960"}
    assert charts(urn("abc-1", nameless), urn("2", condition("urn:uuid:abc-1"))) == {"abc-1": ["c1"]}
    assert charts(Found(nameless, f"{HERE}/Patient/p1"), at(HERE, condition())) == {"p1": ["c1"]}


def test_a_patient_whom_nothing_can_name_is_told() -> None:
    damage = told(line({"resourceType": "Patient"}))
    assert damage == [Damage("a Patient without id: cannot be named and is not screened", "Patient")]
    assert assembled(line({"resourceType": "Patient"})) == []


MRN = {"system": "http://his.example.org/mrn", "value": "H1"}


@pytest.mark.parametrize(
    ("subject", "is_his"),
    [
        ({"identifier": MRN}, True),
        ({"identifier": {**MRN, "use": "old", "value": " H1 "}}, True),
        ({"identifier": MRN, "type": "Patient"}, True),
        ({"identifier": MRN, "type": "Group"}, False),
        ({"identifier": {**MRN, "value": "H2"}}, False),
        ({"identifier": {**MRN, "system": "http://other.example.org/mrn"}}, False),
        ({"identifier": {"value": "H1"}}, False),
        ({"identifier": {"system": MRN["system"]}}, False),
        ({"reference": "Patient?identifier=http://his.example.org/mrn|H1"}, True),
        ({"reference": "Patient?identifier=http%3A%2F%2Fhis.example.org%2Fmrn%7CH1"}, True),
        ({"reference": "Patient?identifier=H1"}, False),
        ({"reference": "Patient?name=x"}, False),
        # By address he is known, so that the identifier has nothing to say.
        ({"reference": "Patient/other", "identifier": MRN}, False),
        ({"reference": "Patient/unknown", "identifier": MRN}, True),
        ({"display": "H1"}, False),
    ],
)
def test_a_logical_identifier_names_its_one_carrier(subject: Mapping[str, Any], *, is_his: bool) -> None:
    found = [at(HERE, patient(identifier=[{"system": "urn:x", "value": "9"}, MRN])), at(HERE, patient("other"))]
    assert charts(*found, at(HERE, condition(subject)))["p1"] == (["c1"] if is_his else [])


def test_an_identifier_of_two_patients_names_nobody() -> None:
    found = [
        line(patient("a", identifier=[MRN])),
        line(patient("b", identifier=[MRN])),
        line(condition({"identifier": MRN})),
    ]
    assert charts(*found) == {"a": [], "b": []}
    assert told(*found)[0].what.startswith("1 Condition: records of nobody")


def test_an_identifier_of_a_retired_record_and_its_survivor_is_that_of_one_patient() -> None:
    retired = patient("a", identifier=[MRN], link=[{"other": {"reference": "Patient/b"}, "type": "replaced-by"}])
    found = [line(retired), line(patient("b", identifier=[MRN])), line(condition({"identifier": MRN}))]
    assert charts(*found) == {"b": ["c1"]}


def test_a_patient_who_is_only_referred_to_is_not_screened_and_that_is_told() -> None:
    found = [line(patient()), *(line(condition(f"Patient/x{number}", f"c{number}")) for number in range(7))]
    assert charts(*found) == {"p1": []}
    assert told(*found) == [
        Damage(
            "Patient/x0, Patient/x1, Patient/x2, Patient/x3, Patient/x4 and 2 more: "
            "records refer to them, but they are not in the source, so not screened",
            "Patient",
            counts=False,
        )
    ]
    assert assembled(*found)[0].gaps == ()


@pytest.mark.parametrize("subject", ["Patient/p1", 7, ["Patient/p1"], True])
def test_a_subject_that_is_no_reference_is_a_hole_in_every_chart(subject: object) -> None:
    resource = {"resourceType": "Condition", "id": "c1", "subject": subject}
    patients, damage = assemble(Haul([line(patient()), line(resource)]))
    what = "Condition/c1: its subject is no Reference, so that nobody knows whose it is"
    assert damage == [Damage(what, "Condition")]
    assert [raw.gaps for raw in patients] == [(Gap("Condition", detail=what),)]


def test_what_needs_no_patient_is_no_orphan() -> None:
    library: list[Json] = [
        {"resourceType": kind, "id": "x"} for kind in ("Medication", "Organization", "ResearchStudy")
    ]
    herd = {"resourceType": "Observation", "id": "o", "subject": {"reference": "Group/herd"}}
    assert told(line(patient()), line(herd), *map(line, library)) == []


# Which version


OLD, NEW = "2025-11-14T09:00:00+09:00", "2025-11-14T01:00:00Z"


@pytest.mark.parametrize(
    ("one", "other", "left"),
    [
        (version("9"), version("10"), ["other"]),
        (version("2", NEW), version("3", OLD), ["other"]),
        (version("2", OLD), version("2", NEW), ["other"]),
        (version(None, OLD), version(None, NEW), ["other"]),
        (version("a", OLD), version("b", NEW), ["other"]),
        (version("1", OLD), version(None, NEW), ["other"]),
        (version("3"), version("3"), ["one", "other"]),
        (version("1"), version(None, NEW), ["one", "other"]),
        (version("a"), version("b"), ["one", "other"]),
        (version(), version(), ["one", "other"]),
        ({}, {"meta": "x"}, ["one", "other"]),
        ({}, {"meta": {"versionId": 7, "lastUpdated": 9}}, ["one", "other"]),
        (version(None, "2025-11-14"), version(None, NEW), ["one", "other"]),
    ],
)
def test_the_newest_version_speaks_or_both_do(one: dict[str, Any], other: dict[str, Any], left: list[str]) -> None:
    copies = [line(condition(note="one", **one)), line(condition(note="other", **other))]
    for order in (copies, copies[::-1]):
        raw = assembled(line(patient()), *order)[0]
        assert sorted(resource["note"] for resource in raw.resources) == left
        assert raw.duplicates == (frozenset({"Condition/c1"}) if len(left) == 2 else frozenset())


def test_the_same_twice_is_one() -> None:
    again = dict(reversed(condition(note="x").items()))
    raw = assembled(line(patient()), line(patient()), line(condition(note="x")), line(again))[0]
    assert (len(raw.resources), raw.duplicates) == (1, frozenset())


def test_of_many_versions_the_last_is_left_and_stamps_that_contradict_order_nothing() -> None:
    many = [line(condition(note=str(number), **version(str(number)))) for number in (3, 12, 7, 1)]
    assert [one["note"] for one in assembled(line(patient()), *many)[0].resources] == ["12"]
    circle = [version("1", "2025-01-03"), version("2"), version(None, "2025-01-01"), version("x", "2025-01-02")]
    raw = assembled(line(patient()), *(line(condition(note=n, **stamp)) for n, stamp in enumerate(circle)))[0]
    assert [one["note"] for one in raw.resources] == [1]


def test_versions_of_two_bases_are_not_compared() -> None:
    found = [
        at(HERE, condition(f"{HERE}/Patient/p1", **version("1"))),
        at(THERE, condition(f"{HERE}/Patient/p1", **version("2"))),
    ]
    raw = assembled(at(HERE, patient()), *found)[0]
    assert sorted(one["meta"]["versionId"] for one in raw.resources) == ["1", "2"]


def test_type_and_id_together_are_the_key() -> None:
    kinds = ["Condition", "Encounter", "MedicationAdministration", "Observation"]
    found = [line({"resourceType": kind, "id": "p1", "subject": {"reference": "Patient/p1"}}) for kind in kinds]
    assert [one["resourceType"] for one in assembled(line(patient()), *found)[0].resources] == kinds


def test_each_resource_without_id_is_a_record_of_its_own() -> None:
    nameless = {"resourceType": "Condition", "subject": {"reference": "Patient/p1"}}
    assert charts(line(patient()), line(nameless), line(nameless)) == {"p1": ["None", "None"]}


def test_of_copies_of_a_patient_only_what_they_agree_on_is_known() -> None:
    copies = [
        patient(birthDate="1960-01-01", gender="male", deceasedBoolean=False),
        patient(birthDate="1961-01-01", gender="male", deceasedDateTime="2025-10-01"),
    ]
    for order in (copies, copies[::-1]):
        raw = assembled(*map(line, order))[0]
        assert raw.patient == {
            "resourceType": "Patient",
            "id": "p1",
            "gender": "male",
            "deceasedDateTime": "2025-10-01",
        }
        assert raw.duplicates == frozenset({"Patient/p1"})


def test_the_newest_patient_speaks_for_himself() -> None:
    found = [line(patient(gender="male", **version("1"))), line(patient(gender="female", **version("2")))]
    raw = assembled(*found)[0]
    assert (raw.patient["gender"], raw.duplicates) == ("female", frozenset())


# Deletions


@pytest.mark.parametrize(
    ("stamp", "deletion", "is_left"),
    [
        (version("1"), Deletion("Condition/c1"), False),
        (version("1"), Deletion("Condition/c1", version="2"), False),
        (version("3"), Deletion("Condition/c1", version="2"), True),
        (version("10"), Deletion("Condition/c1", version="9"), True),
        (version(None, NEW), Deletion("Condition/c1", when=OLD), True),
        (version("1", OLD), Deletion("Condition/c1", when=NEW), False),
        (version("3"), Deletion("Condition/c1", when=NEW), False),
        ({}, Deletion("Condition/c1", version="1"), False),
        (version("1"), Deletion("Condition/c1", HERE), False),
        (version("1"), Deletion("Condition/c1", THERE), True),
        (version("1"), Deletion("Condition/c2"), True),
        (version("1"), Deletion("Observation/c1"), True),
    ],
)
def test_a_deletion_takes_away_what_is_not_newer(stamp: dict[str, Any], deletion: Deletion, *, is_left: bool) -> None:
    found = [at(HERE, patient()), at(HERE, condition(**stamp))]
    assert charts(*found, deletions=[deletion]) == {"p1": ["c1"] if is_left else []}


def test_a_record_that_was_created_again_is_its_new_self() -> None:
    versions = [line(condition(note=number, **version(number))) for number in ("1", "3")]
    raw = assembled(line(patient()), *versions, deletions=[Deletion("Condition/c1", version="2")])[0]
    assert [one["note"] for one in raw.resources] == ["3"]


def test_a_deleted_patient_is_not_screened() -> None:
    assert charts(line(patient()), line(condition()), deletions=[Deletion("Patient/p1")]) == {}


# Merged records


def link(kind: str, other: str | Mapping[str, Any]) -> dict[str, Any]:
    reference = {"reference": other} if isinstance(other, str) else other
    return {"link": [{"other": reference, "type": kind}]}


@pytest.mark.parametrize(
    "people",
    [
        [patient("old", **link("replaced-by", "Patient/new")), patient("new")],
        [patient("old"), patient("new", **link("replaces", "Patient/old"))],
        [patient("old", **link("replaced-by", "Patient/new")), patient("new", **link("replaces", "Patient/old"))],
        [patient("old", **link("replaced-by", f"{HERE}/Patient/new/_history/1")), patient("new")],
        [patient("old", **link("replaced-by", {"identifier": MRN})), patient("new", identifier=[MRN])],
        [
            patient("old", identifier=[MRN], **link("replaced-by", {"identifier": MRN})),
            patient("new", identifier=[MRN]),
        ],
        [
            patient("old", **link("replaced-by", "Patient/mid")),
            patient("mid", **link("replaced-by", "Patient/new")),
            patient("new"),
        ],
        # The retired record itself need not be there.
        [patient("new", **link("replaces", "Patient/old"))],
    ],
)
def test_what_stands_on_the_retired_record_counts_for_the_survivor_alone(people: list[Json]) -> None:
    found = [at(HERE, one) for one in people]
    found += [at(HERE, condition("Patient/old", "c-old")), at(HERE, condition("Patient/new", "c-new"))]
    for order in (found, found[::-1]):
        assert charts(*order) == {"new": ["c-new", "c-old"]}
    assert told(*found) == []


@pytest.mark.parametrize("kind", ["seealso", "refer", "", None])
def test_other_links_merge_nobody(kind: Any) -> None:
    assert charts(line(patient("a", **link(kind, "Patient/b"))), line(patient("b"))) == {"a": [], "b": []}


def test_records_that_replace_each_other_are_one_patient() -> None:
    for ids in itertools.permutations(("a", "b", "c")):
        ring = [
            line(patient(one, **link("replaced-by", f"Patient/{other}")))
            for one, other in zip(ids, ids[1:] + ids[:1], strict=True)
        ]
        ring.append(line(patient("d", **link("replaced-by", f"Patient/{ids[2]}"))))
        found = [*ring, *(line(condition(f"Patient/{one}", f"c-{one}")) for one in "abcd")]
        assert charts(*found) == {"a": ["c-a", "c-b", "c-c", "c-d"]}
        assert told(*found) == [
            Damage("Patient/a: records that replace each other, screened as this one", "Patient", "a")
        ]


def test_who_replaces_himself_is_himself() -> None:
    assert charts(line(patient(**link("replaced-by", "Patient/p1"))), line(condition())) == {"p1": ["c1"]}


@pytest.mark.parametrize("other", ["Patient/gone", f"{THERE}/Patient/a", "urn:uuid:unknown", {"display": "somebody"}])
def test_without_the_survivor_nobody_is_screened_and_that_is_told(other: str | Mapping[str, Any]) -> None:
    found = [line(patient("a", **link("replaced-by", other))), line(condition("Patient/a"))]
    assert charts(*found) == {}
    assert told(*found) == [
        Damage("Patient/a: replaced by a record that is not in the source, so not screened", "Patient", "a")
    ]


def test_a_link_to_a_related_person_merges_nobody() -> None:
    assert charts(line(patient("a", **link("replaced-by", "RelatedPerson/r")))) == {"a": []}


def test_a_record_with_two_survivors_counts_for_none_and_leaves_a_hole_in_both() -> None:
    links = [{"other": {"reference": f"Patient/{one}"}, "type": "replaced-by"} for one in "bc"]
    found = [line(patient("a", link=links)), line(patient("b")), line(patient("c")), line(patient("d"))]
    patients = assembled(*found, line(condition("Patient/a")))
    assert [(raw.id, len(raw.resources), [gap.kind for gap in raw.gaps]) for raw in patients] == [
        ("b", 0, [None]),
        ("c", 0, [None]),
        ("d", 0, []),
    ]
    assert told(*found)[0] == Damage(
        "Patient/a: replaced by more than one record, so that it counts for none", "Patient", "a"
    )


# What a reference leads to


def drug(own_id: str = "m1", **more: Any) -> dict[str, Any]:
    return {"resourceType": "Medication", "id": own_id, "code": {"text": own_id}, **more}


def dose(**more: Any) -> dict[str, Any]:
    return {"resourceType": "MedicationAdministration", "id": "d1", "subject": {"reference": "Patient/p1"}, **more}


def led_to(reference: str, *found: Found) -> str | None:
    """The text of what a reference in the one dose leads to."""
    raw = next(one for one in assembled(*found) if one.id == "p1")
    target = raw.resolve(reference, raw.resources[-1])
    return None if target is None else str(target.get("code", {}).get("text", target["resourceType"]))


CONTAINED: list[Json] = [
    {"resourceType": "Substance", "id": "s", "code": {"text": "dacarbazine"}},
    drug("bag", ingredient=[{"itemReference": {"reference": "#s"}}]),
]


@pytest.mark.parametrize(
    ("reference", "target"),
    [
        ("Medication/m1", "m1"),
        ("Medication/m1/_history/2", "m1"),
        (f"{HERE}/Medication/m1", "m1"),
        ("https://his.example.org/fhir/Medication/m1", "m1"),
        (f"{THERE}/Medication/m1", None),
        ("Medication/m2", None),
        ("Substance/m1", None),
        ("Patient/p1", "Patient"),
        ("urn:uuid:m", None),
        ("#bag", "bag"),
        ("#s", "dacarbazine"),
        ("#m1", None),
        ("#", "MedicationAdministration"),
        ("", None),
        ("m1", None),
    ],
)
def test_a_reference_leads_to_the_one_that_is_meant(reference: str, target: str | None) -> None:
    found = [at(HERE, patient()), at(HERE, drug()), at(HERE, dose(contained=CONTAINED))]
    assert led_to(reference, *found) == target


def test_in_a_contained_resource_references_mean_its_container() -> None:
    raw = assembled(line(patient()), line(dose(contained=CONTAINED)))[0]
    bag = raw.resolve("#bag", raw.resources[0])
    assert bag is not None
    assert raw.resolve("#s", bag) == CONTAINED[0]
    assert raw.resolve("Patient/p1", bag) == patient()


def test_an_urn_leads_to_the_entry_of_the_same_bundle() -> None:
    found = [
        urn("m", drug("one"), "one.json"),
        urn("m", drug("two"), "two.json"),
        line(patient()),
        urn("d", dose(), "two.json"),
    ]
    assert led_to("urn:uuid:m", *found) == "two"


def test_an_address_that_is_no_restful_one_leads_to_its_entry() -> None:
    found = [Found(drug(), "http://a/b?c=1", "", "a.json"), line(patient()), urn("d", dose())]
    assert led_to("http://a/b?c=1", *found) == "m1"


def test_a_reference_leads_to_the_newest_version_and_never_to_a_deleted_one() -> None:
    found = [line(drug(code={"text": number}, **version(number))) for number in ("9", "10")]
    assert led_to("Medication/m1/_history/9", *found, line(patient()), line(dose())) == "10"
    raw = assembled(*found, line(patient()), line(dose()), deletions=[Deletion("Medication/m1")])[0]
    assert raw.resolve("Medication/m1", raw.resources[0]) is None


def test_a_reference_to_what_contradicts_itself_leads_nowhere_and_that_is_told() -> None:
    found = [line(drug(code={"text": text})) for text in ("a", "b")] + [line(patient()), line(dose())]
    assert led_to("Medication/m1", *found) is None
    assert told(*found) == [
        Damage("Medication/m1: twice and different, no version or time to order them, so not used", counts=False)
    ]


def test_a_reference_from_an_unknown_place_is_followed_by_type_and_id() -> None:
    raw = assembled(at(HERE, patient()), at(HERE, drug()))[0]
    assert raw.resolve("Medication/m1", {"resourceType": "Observation"}) == drug()
    assert raw.resolve("#x", {"resourceType": "Observation", "contained": [drug("x")]}) == drug("x")


# Holes


def holes(patients: Sequence[RawPatient]) -> dict[str, list[tuple[str | None, str]]]:
    return {raw.id: [(gap.kind, gap.detail) for gap in raw.gaps] for raw in patients}


def test_damage_is_a_hole_for_its_patient_or_for_everybody() -> None:
    damage = [
        Damage("x", "Observation", "a"),
        Damage("y", "Condition"),
        Damage("z", scope_kinds=frozenset({"Procedure", "Encounter"}), counts=False),
        Damage("of nobody here", "Observation", "ghost"),
    ]
    patients, told_again = assemble(Haul([line(patient("a")), line(patient("b"))], damage=damage))
    of_all = [("Condition", "y"), ("Encounter", "z"), ("Procedure", "z")]
    assert holes(patients) == {"a": [of_all[0], of_all[1], ("Observation", "x"), of_all[2]], "b": of_all}
    assert told_again == damage


def test_damage_without_type_is_a_hole_in_every_type() -> None:
    patients, _ = assemble(Haul([line(patient())], damage=[Damage("x")]))
    assert holes(patients) == {"p1": [(None, "x")]}


def test_a_hole_in_a_retired_record_is_one_in_that_of_the_survivor() -> None:
    found = [line(patient("old", **link("replaced-by", "Patient/new"))), line(patient("new"))]
    patients, _ = assemble(Haul(found, damage=[Damage("x", "Observation", "old")]))
    assert holes(patients) == {"new": [("Observation", "x")]}


# The whole


def test_neither_order_nor_repetition_changes_anything() -> None:
    found = [
        at(HERE, patient("b")),
        at(HERE, patient("a", **link("replaced-by", "Patient/b"))),
        at(HERE, condition("Patient/a", "c1", note="x")),
        at(HERE, condition("Patient/a", "c1", note="y")),
        at(HERE, condition("Patient/b", "c2", **version("2"))),
        line(condition("Patient/b", "c2", **version("1"))),
        urn("n", {"resourceType": "Condition", "subject": {"reference": "Patient/b"}, "note": "n"}),
        at(HERE, drug()),
    ]

    def answer(order: Sequence[Found]) -> list[Any]:
        return [(raw.id, raw.resources, raw.duplicates, raw.gaps) for raw in assembled(*order)] + told(*order)

    expected = answer(found)
    assert [raw.id for raw in assembled(*found)] == ["b"]
    for order in itertools.islice(itertools.permutations(found), 0, None, 977):
        assert answer(order) == expected
    assert answer([*found, *(one for one in found if one.resource.get("id"))]) == expected


def test_an_empty_source_has_no_patients() -> None:
    assert assemble(Haul()) == ([], [])


@pytest.mark.parametrize(
    "value", [None, 7, "text", [], {}, [None], [7], [[]], [{}], {"reference": 7}, {"identifier": 7}, True]
)
def test_no_shape_of_any_element_raises(value: object) -> None:
    shapes = [
        {**patient(f"x-{key}"), key: value} for key in ("identifier", "link", "meta", "deceasedBoolean", "contained")
    ]
    shapes += [
        patient("x-other", link=[{"type": "replaced-by", "other": value}]),
        patient("x-type", link=[{"type": value}]),
    ]
    shapes += [patient("x-id", identifier=[{"system": value, "value": value}])]
    shapes += [{**condition(own_id=f"c-{key}"), key: value} for key in ("subject", "patient", "meta", "contained")]
    shapes += [condition(own_id="c-v", meta={"versionId": value, "lastUpdated": value})]
    shapes += [condition({"reference": value, "identifier": value, "type": value}, "c-r")]
    found = [line(one) for one in shapes for _ in range(2)]
    assert "p1" in charts(*found, line(patient()))

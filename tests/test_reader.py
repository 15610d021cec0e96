"""What each element of a FHIR resource becomes in a patient's record, and that no JSON, however odd, stops the reading."""

from __future__ import annotations

import random
from datetime import date
from fractions import Fraction
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_screen.core.dates import END_OF_TIME, Period, Span
from fhir_screen.core.facts import Fact, PatientRecord, Standing, Value
from fhir_screen.core.gaps import Gap
from fhir_screen.core.quantities import ANY_NUMBER, Interval, Quantity
from fhir_screen.core.truth import Reason, Truth
from fhir_screen.fhir.assemble import assemble
from fhir_screen.fhir.raw import Found, Haul
from fhir_screen.fhir.reader import read
from fhir_screen.mapping.load import packaged_mappings
from fhir_screen.mapping.shapes import Shapes
from fhir_screen.mapping.shaping import compile_shapes
from fhir_screen.mapping.vocabulary import Terms, compile_terms
from fhir_screen.mapping.yamlfile import Document, read_yaml

Dict = dict[str, Any]

SEOUL = ZoneInfo("Asia/Seoul")
LOINC, SNOMED, ATC, UCUM = (
    "http://loinc.org",
    "http://snomed.info/sct",
    "http://www.whocc.no/atc",
    "http://unitsofmeasure.org",
)
PATIENT: Dict = {"resourceType": "Patient", "id": "p1", "birthDate": "1968-03-14", "gender": "female"}
ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"


@cache
def shapes() -> Shapes:
    return compile_shapes(read_yaml(packaged_mappings() / "resources.yaml"))


@cache
def terms() -> Terms:
    folder = packaged_mappings()

    def document(name: str) -> Document:
        return read_yaml(folder / name)

    concepts = [read_yaml(path) for path in sorted((folder / "concepts").glob("*.yaml"))]
    return compile_terms(
        document("systems.yaml"), concepts, document("analytes.yaml"), document("units.yaml"), document("words.yaml")
    )


def record(*resources: Any, patient: Dict = PATIENT, urls: tuple[str, ...] = ()) -> PatientRecord:
    """Reads resources as one file would give them, with the real assembly of a patient."""
    addresses = (*urls, *[""] * len(resources))
    found = [Found(patient), *(Found(one, url, "", "f") for one, url in zip(resources, addresses, strict=False))]
    (raw,) = assemble(Haul(found=found))[0]
    return read(raw, shapes(), terms(), SEOUL)


def fact(*resources: Any, patient: Dict = PATIENT) -> Fact:
    """The only fact about the first resource."""
    reference = f"{resources[0]['resourceType']}/{resources[0]['id']}"
    (found,) = record(*resources, patient=patient).by_reference[reference]
    return found


def concept(system: str, code: str, **more: Any) -> Dict:
    return {"coding": [{"system": system, "code": code}], **more}


def resource(kind: str, own_id: str, **more: Any) -> Dict:
    subject = "patient" if kind in {"AllergyIntolerance", "Consent"} else "subject"
    return {"resourceType": kind, "id": own_id, subject: {"reference": "Patient/p1"}, **more}


def observation(own_id: str = "o1", **more: Any) -> Dict:
    given: Dict = {"status": "final", "code": concept(LOINC, "718-7"), "effectiveDateTime": "2025-11-01"}
    return resource("Observation", own_id, **given | more)


def condition(own_id: str = "c1", **more: Any) -> Dict:
    return resource("Condition", own_id, **{"code": concept(SNOMED, "372244006")} | more)


def statement(own_id: str = "m1", **more: Any) -> Dict:
    return resource(
        "MedicationStatement",
        own_id,
        **{"status": "active", "medicationCodeableConcept": concept(ATC, "H02AB07")} | more,
    )


def order(own_id: str = "r1", **more: Any) -> Dict:
    given: Dict = {"status": "active", "intent": "order", "medicationCodeableConcept": concept(ATC, "H02AB07")}
    return resource("MedicationRequest", own_id, **given | more)


def value(**more: Any) -> Value:
    found = fact(observation(**more)).value
    assert found is not None
    return found


def amount(**more: Any) -> Quantity:
    found = value(**more).quantity
    assert found is not None
    return found


def period(one: Dict, *others: Dict) -> Period:
    found = fact(one, *others).period
    assert found is not None
    return found


def day(text: str) -> Span:
    found = Span.parse(text, SEOUL)
    assert found is not None
    return found


def between(first: str, last: str) -> Span:
    return Span(date.fromisoformat(first), date.fromisoformat(last))


def names(one: Fact) -> set[str]:
    return set(one.concepts)


def answers(found: Value) -> set[str]:
    return {name for coding in found.codings for name in coding.names}


# The person


def test_the_person_has_birth_sex_and_death_as_recorded() -> None:
    person = record(patient={**PATIENT, "meta": {"versionId": "7"}, "deceasedDateTime": "2025-12"}).person
    assert (person.born, person.sex, person.source, person.version) == (day("1968-03-14"), "female", "Patient/p1", "7")
    assert (person.died, person.death) == (Truth.TRUE, day("2025-12"))


def test_a_birth_date_that_is_only_an_absent_reason_is_unknown() -> None:
    born = {"_birthDate": {"extension": [{"url": ABSENT, "valueCode": "masked"}]}}
    person = record(patient={"resourceType": "Patient", "id": "p1", **born}).person
    assert (person.born, person.died) == (None, Truth.FALSE)


# Whose and which resources


def test_what_we_wrote_last_night_is_no_evidence_tonight() -> None:
    tag: Dict = {"meta": {"tag": [{"system": "https://fhir-screen.org/tag", "code": "managed"}]}}
    assert record(observation(**tag)).facts == ()


def test_types_without_a_shape_are_ignored() -> None:
    assert (
        record(resource("FamilyMemberHistory", "f", patient={"reference": "Patient/p1"}), resource("Goal", "g")).facts
        == ()
    )


def test_the_order_of_resources_changes_nothing() -> None:
    resources = [observation("a"), observation("b"), condition(), statement(), {**observation("x"), "id": None}]
    resources += [{**observation(valueString=text), "id": None} for text in ("one", "two")]
    expected = [(f.sort_key, f.value) for f in record(*resources).facts]
    for seed in range(5):
        shuffled = random.Random(seed).sample(resources, len(resources))
        assert [(f.sort_key, f.value) for f in record(*shuffled).facts] == expected


def test_resources_without_id_are_each_their_own_and_the_same_one_twice_is_one() -> None:
    nameless = {key: one for key, one in observation().items() if key != "id"}
    found = record(nameless, nameless, {**nameless, "effectiveDateTime": "2025-11-02"}).facts
    assert [f.reference for f in found] == ["Observation/?1", "Observation/?2"]


def test_two_versions_that_cannot_be_ordered_are_both_kept_and_flagged() -> None:
    found = record(observation(valueString="1"), observation(valueString="2")).facts
    assert [(f.reference, f.flags) for f in found] == [("Observation/o1", frozenset({"duplicate_id"}))] * 2


def test_a_fact_names_its_source_and_version() -> None:
    found = fact(observation(meta={"versionId": "3"}))
    assert (found.kind, found.reference, found.version) == ("Observation", "Observation/o1", "3")


# Codes and texts


def test_every_coding_is_tried_and_one_without_code_or_system_breaks_nothing() -> None:
    codings = [
        {"display": "no code"},
        {"code": "718-7"},
        {"system": "urn:local", "code": "HB"},
        {"system": LOINC, "code": "718-7"},
    ]
    found = fact(observation(code={"coding": codings, "text": "Hb"}))
    assert [str(c.code) for c in found.codings] == ["|718-7", "urn:local|HB", f"{LOINC}|718-7"]
    assert [bool(c.concepts) for c in found.codings] == [False, False, True]
    assert found.texts == ("Hb",)


def test_a_coding_that_is_only_an_absent_reason_matches_nothing() -> None:
    masked = {"system": LOINC, "code": "718-7", "extension": [{"url": ABSENT, "valueCode": "unknown"}]}
    reason = {"system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "unknown"}
    assert fact(observation(code={"coding": [masked, reason]})).codings == ()


def test_a_statement_is_never_coded_by_its_words() -> None:
    found = fact(condition(code={"text": "malignant melanoma"}))
    assert (found.codings, found.texts) == ((), ("malignant melanoma",))


def test_a_study_is_named_by_the_identifiers_behind_its_reference() -> None:
    study = {
        "resourceType": "ResearchStudy",
        "id": "s",
        "title": "A study",
        "identifier": [{"system": "urn:x", "value": "NCT1"}],
    }
    subject = {
        "resourceType": "ResearchSubject",
        "id": "rs",
        "individual": {"reference": "Patient/p1"},
        "status": "on-study",
    }
    found = fact(subject | {"study": {"reference": "ResearchStudy/s"}}, study)
    assert ([c.code.code for c in found.codings], found.texts) == (["NCT1"], ("A study",))
    assert found.links["study"] == ("ResearchStudy/s",)


@pytest.mark.parametrize("how", ["contained", "referenced", "r5"])
def test_a_drug_is_found_behind_its_reference_with_every_ingredient(how: str) -> None:
    codes: Dict = {
        "code": concept("urn:local", "KIT", text="Kit"),
        "ingredient": [{"itemCodeableConcept": concept(ATC, "L01FF02")}],
    }
    drug: Dict = {"resourceType": "Medication", "id": "d", **codes}
    reference = {"reference": "#d" if how == "contained" else "Medication/d"}
    said: Dict = {"medication": {"reference": reference}} if how == "r5" else {"medicationReference": reference}
    more: Dict = {"contained": [drug]} if how == "contained" else {}
    one = resource("MedicationStatement", "m1", status="active", **said, **more)
    found = fact(one) if more else fact(one, drug)
    assert [c.code.code for c in found.codings] == ["KIT", "L01FF02"]
    assert "Kit" in found.texts


def test_an_ingredient_may_be_a_reference_of_its_own() -> None:
    part = {"resourceType": "Medication", "id": "i", "code": concept(ATC, "L01FF02")}
    drug = {"resourceType": "Medication", "id": "d", "ingredient": [{"itemReference": {"reference": "Medication/i"}}]}
    one = resource("MedicationStatement", "m1", status="active", medicationReference={"reference": "Medication/d"})
    assert [c.code.code for c in fact(one, drug, part).codings] == ["L01FF02"]


def test_a_reference_that_leads_nowhere_leaves_its_display() -> None:
    one = resource(
        "MedicationStatement",
        "m1",
        status="active",
        medicationReference={"reference": "Medication/x", "display": "Taxol"},
    )
    assert (fact(one).codings, fact(one).texts) == ((), ("Taxol",))


# Status (R5)


@pytest.mark.parametrize(
    ("one", "standing", "flags"),
    [
        (observation(), Standing.HOLDS, set()),
        (observation(status="preliminary"), Standing.PENDING, set()),
        (observation(status="unheard-of"), Standing.UNSURE, set()),
        (observation(status=None), Standing.UNSURE, set()),
        (observation(status=["final"]), Standing.HOLDS, set()),
        (observation(status=7), Standing.UNSURE, set()),
        (condition(), Standing.HOLDS, {"verification_missing"}),
        (condition(verificationStatus=concept("urn:v", "refuted")), Standing.DENIED, set()),
        (condition(verificationStatus=concept("urn:v", "provisional")), Standing.UNSURE, set()),
        (statement(status="not-taken"), Standing.DENIED, set()),
        (statement(status="on-hold"), Standing.UNSURE, set()),
        (order(status="on-hold"), Standing.UNSURE, {"order_only"}),
        (observation(modifierExtension=[{"url": "urn:negated", "valueBoolean": True}]), Standing.UNSURE, set()),
        (observation(implicitRules="urn:rules"), Standing.UNSURE, set()),
        (observation(modifierExtension=[]), Standing.HOLDS, set()),
        (
            resource("AllergyIntolerance", "a", verificationStatus=concept("urn:v", "unconfirmed")),
            Standing.HOLDS,
            {"unconfirmed"},
        ),
        (resource("AllergyIntolerance", "a", type="intolerance"), Standing.UNSURE, set()),
    ],
)
def test_a_status_decides_how_a_statement_stands(one: Dict, standing: Standing, flags: set[str]) -> None:
    assert (fact(one).standing, set(fact(one).flags)) == (standing, flags)


@pytest.mark.parametrize(
    "one",
    [
        observation(status="entered-in-error"),
        observation(status="cancelled", modifierExtension=[{"url": "urn:x"}]),
        condition(verificationStatus=concept("urn:v", "entered-in-error")),
        order(intent="proposal"),
        order(doNotPerform=True),
        order(status="draft", intent="unheard-of"),
        resource("Procedure", "p", status="not-done"),
        resource("BodyStructure", "b", active=False, patient={"reference": "Patient/p1"}),
    ],
)
def test_a_void_statement_is_no_fact(one: Dict) -> None:
    found = record(one)
    assert (found.facts, found.gaps) == ((), ())


def test_a_refuted_statement_with_a_modifier_is_not_a_sure_no() -> None:
    one = condition(verificationStatus=concept("urn:v", "refuted"), modifierExtension=[{"url": "urn:x"}])
    assert fact(one).standing is Standing.UNSURE


def test_a_masked_statement_is_unsure_and_without_codes_a_gap() -> None:
    masked: Dict = {"meta": {"security": [{"system": "urn:any", "code": "MASKED"}]}}
    found = fact(condition(**masked))
    assert (found.standing, found.why_unsure) == (Standing.UNSURE, Reason.MASKED)
    nothing = record(condition(**masked, code={"text": "x"}))
    assert (nothing.facts, nothing.gaps) == ((), (Gap("Condition", Reason.MASKED, "a Condition is masked"),))
    hidden = record(observation(code={"extension": [{"url": ABSENT, "valueCode": "masked"}]}))
    assert hidden.gaps == (Gap("Observation", Reason.MASKED, "an Observation is masked"),)


# Dates (R7)


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        ({"effectiveDateTime": "2025-11"}, between("2025-11-01", "2025-11-30")),
        ({"effectiveDateTime": "2025-10-31T23:30:00Z"}, day("2025-10-31T23:30:00Z")),
        ({"effectiveDateTime": "soon", "issued": "2025-11-03"}, day("2025-11-03")),
        (
            {"effectiveDateTime": None, "effectivePeriod": {"start": "2025-10-01", "end": "2025-10-05"}},
            day("2025-10-05"),
        ),
        ({"effectiveDateTime": None, "effectivePeriod": {"start": "2025-10-01"}}, Span(date(2025, 10, 1), END_OF_TIME)),
    ],
)
def test_a_result_is_dated_by_the_first_element_that_gives_a_date(dates: Dict, expected: Span) -> None:
    assert period(observation(**dates)) == Period.at(expected)


def test_an_instant_lies_on_the_civil_day_of_the_site() -> None:
    assert period(observation(effectiveDateTime="2025-10-31T23:30:00Z")).start.first == date(2025, 11, 1)


def test_a_date_that_only_says_when_it_was_issued_is_flagged() -> None:
    assert fact(observation(effectiveDateTime=None, issued="2025-11-03T00:00:00Z")).flags == {"issued"}


def test_a_result_without_date_has_that_of_its_specimen_else_of_the_report_that_names_it() -> None:
    bare = observation(effectiveDateTime=None, specimen={"reference": "Specimen/s"}, issued="2025-11-09")
    specimen = resource("Specimen", "s", collection={"collectedDateTime": "2025-10-07"})
    report = resource(
        "DiagnosticReport",
        "d",
        status="final",
        effectiveDateTime="2025-10-08",
        result=[{"reference": "Observation/o1"}],
    )
    assert period(bare, specimen, report) == Period.at(day("2025-10-07"))
    assert period(bare, report) == Period.at(day("2025-10-08"))


@pytest.mark.parametrize(
    ("onset", "expected"),
    [
        ({"onsetDateTime": "2020"}, between("2020-01-01", "2020-12-31")),
        ({"onsetPeriod": {"start": "2020-02-01", "end": "2020-03-05"}}, between("2020-02-01", "2020-03-05")),
        ({"onsetAge": {"value": 50, "unit": "a"}}, between("2018-03-14", "2019-03-13")),
        ({"onsetAge": {"value": 6, "code": "mo", "unit": "months"}}, between("1968-09-14", "1968-10-13")),
        ({"onsetAge": {"value": 2, "code": "wk"}}, between("1968-03-28", "1968-04-03")),
        ({"onsetAge": {"value": 10, "code": "d"}}, between("1968-03-24", "1968-03-24")),
        (
            {"onsetRange": {"low": {"value": 40, "unit": "years"}, "high": {"value": 42, "unit": "years"}}},
            between("2008-03-14", "2011-03-13"),
        ),
        ({"onsetString": "childhood", "recordedDate": "2021-05-06"}, between("1968-03-14", "2021-05-06")),
        ({"onsetAge": {"value": 5000, "unit": "a"}, "recordedDate": "2021-05-06"}, between("1968-03-14", "2021-05-06")),
    ],
)
def test_a_disease_begins_where_its_onset_says_and_a_recording_only_bounds_it(onset: Dict, expected: Span) -> None:
    assert period(condition(**onset)).start == expected


def test_the_date_of_assertion_stands_beside_the_onset_and_in_its_place_where_there_is_none() -> None:
    asserted = [{"url": "http://hl7.org/fhir/StructureDefinition/condition-assertedDate", "valueDateTime": "2021-01-02"}]
    both = fact(condition(extension=asserted, onsetDateTime="2020-03-04"))
    assert (both.period and both.period.start, both.asserted) == (day("2020-03-04"), day("2021-01-02"))
    assert period(condition(extension=asserted, recordedDate="2022-01-01")).start == day("2021-01-02")


def test_an_encounter_bounds_a_disease_without_any_date_of_its_own() -> None:
    visit = resource("Encounter", "e", period={"start": "2021-01-01", "end": "2021-01-03"})
    assert period(condition(encounter={"reference": "Encounter/e"}), visit).start == between("1968-03-14", "2021-01-03")


ACTIVE: Dict = {"clinicalStatus": concept("urn:c", "active")}
RESOLVED: Dict = {"clinicalStatus": concept("urn:c", "resolved")}
SINCE_2020 = Span(date(2020, 5, 1), END_OF_TIME)


@pytest.mark.parametrize(
    ("more", "end", "ongoing"),
    [
        (ACTIVE, Span.on(END_OF_TIME), Truth.TRUE),
        (RESOLVED, SINCE_2020, Truth.FALSE),
        ({}, SINCE_2020, Truth.UNKNOWN),
        ({**RESOLVED, "abatementDateTime": "2021-02-03"}, day("2021-02-03"), Truth.FALSE),
        ({**ACTIVE, "abatementDateTime": "2021-02-03"}, day("2021-02-03"), Truth.UNKNOWN),
        ({**RESOLVED, "abatementPeriod": {"start": "2021-01-01", "end": "2021-02-03"}}, day("2021-02-03"), Truth.FALSE),
        ({**RESOLVED, "abatementDateTime": "2020"}, between("2020-05-01", "2020-12-31"), Truth.FALSE),
    ],
)
def test_a_disease_ends_where_it_abates_else_by_its_status(more: Dict, end: Span, ongoing: Truth) -> None:
    found = fact(condition(onsetDateTime="2020-05-01", **more))
    assert found.period is not None
    assert (found.period.end, found.ongoing) == (end, ongoing)


def test_a_disease_that_abates_before_it_begins_has_no_period() -> None:
    assert fact(condition(onsetDateTime="2020-05-01", abatementDateTime="2019")).period is None


def test_clinical_states_are_kept() -> None:
    assert fact(condition(**RESOLVED)).states == {"resolved"}


@pytest.mark.parametrize(
    ("one", "end", "ongoing"),
    [
        (statement(effectivePeriod={"start": "2025-01-01"}), Span.on(END_OF_TIME), Truth.TRUE),
        (statement(effectivePeriod={"start": "2025-01-01", "end": "2025-02-01"}), day("2025-02-01"), Truth.FALSE),
        (
            statement(status="stopped", effectivePeriod={"start": "2025-01-01"}),
            Span(date(2025, 1, 1), END_OF_TIME),
            Truth.FALSE,
        ),
        (statement(effectiveDateTime="2025-01-01"), day("2025-01-01"), Truth.FALSE),
        (order(authoredOn="2025-01-01"), Span.on(END_OF_TIME), Truth.TRUE),
        (order(status="completed", authoredOn="2025-01-01"), day("2025-01-01"), Truth.FALSE),
        (order(dispenseRequest={"validityPeriod": {"end": "2025-02-01"}}), day("2025-02-01"), Truth.FALSE),
    ],
)
def test_an_exposure_ends_by_its_period_and_without_one_by_its_status(one: Dict, end: Span, ongoing: Truth) -> None:
    assert (period(one).end, fact(one).ongoing) == (end, ongoing)


def test_a_statement_that_was_only_recorded_had_begun_by_then() -> None:
    assert period(statement(dateAsserted="2025-01-05")) == Period(
        between("1968-03-14", "2025-01-05"), Span.on(END_OF_TIME)
    )


def test_a_period_without_start_began_at_any_time_before_its_end() -> None:
    assert period(statement(effectivePeriod={"end": "2025-02-01"})).start == Span(date.min, date(2025, 2, 1))


def test_an_undated_statement_has_no_period() -> None:
    assert fact(statement()).period is None


# Values (R10 to R13)


def test_a_quantity_keeps_its_exact_number_ucum_code_and_printed_unit() -> None:
    found = amount(valueQuantity={"value": 8.7, "unit": "g/dl", "system": UCUM + "/", "code": "g/dL"})
    assert found == Quantity(Interval.exactly(Fraction(87, 10)), "g/dL", "g/dl", "8.7 g/dl")


def test_a_unit_code_of_no_system_is_only_a_text() -> None:
    found = amount(valueQuantity={"value": 9, "code": "g/dL"})
    assert (found.unit_code, found.unit_text) == (None, "g/dL")


@pytest.mark.parametrize(
    ("given", "interval"),
    [
        ({"value": 5, "comparator": "<"}, Interval(Fraction(0), Fraction(5), high_open=True)),
        ({"value": 5, "comparator": ">="}, Interval(Fraction(5), None)),
        ({"value": 5, "comparator": "ad"}, ANY_NUMBER),
        ({"value": 5, "comparator": 5}, ANY_NUMBER),
        ({"value": "5"}, ANY_NUMBER),
        ({"value": True}, ANY_NUMBER),
        ({"value": 1e300}, ANY_NUMBER),
        ({"value": -2}, Interval.exactly(-2)),
    ],
)
def test_a_value_that_cannot_be_used_may_be_any_number_and_keeps_its_unit(given: Dict, interval: Interval) -> None:
    found = amount(valueQuantity={**given, "unit": "g/dL"})
    assert (found.interval, found.unit_text) == (interval, "g/dL")


def test_numbers_ranges_and_titres_are_amounts() -> None:
    assert amount(valueInteger=2).interval == Interval.exactly(2)
    span = amount(valueRange={"low": {"value": 50, "unit": "%"}, "high": {"value": 55, "unit": "%"}})
    assert (span.interval, span.unit_text) == (Interval(Fraction(50), Fraction(55)), "%")
    found = value(valueRatio={"numerator": {"value": 1}, "denominator": {"value": 40}})
    assert found.quantity is not None
    assert (found.quantity.interval, found.text) == (Interval.exactly(40), "1:40")


@pytest.mark.parametrize(
    "more",
    [
        {"dataAbsentReason": concept("urn:d", "unknown")},
        {"dataAbsentReason": {"text": "clotted"}, "valueQuantity": {"value": 9}},
        {"valueQuantity": {"extension": [{"url": ABSENT, "valueCode": "unknown"}]}},
    ],
)
def test_a_value_that_is_said_to_be_missing_is_absent(more: Dict) -> None:
    assert value(**more) == Value(absent=True)


def test_a_result_without_any_value_has_none() -> None:
    assert fact(observation()).value is None


@pytest.mark.parametrize(
    ("text", "concepts"),
    [
        ("Not  Detected", {"qual-negative"}),
        ("<10 IU/mL, not detected", {"qual-negative"}),
        ("not detected; <10 IU/mL", set()),
        ("reactive, negative", set()),
        ("detected in trace amounts", set()),
        ("nonreactive (S/CO 0.1)", set()),
    ],
)
def test_a_text_is_an_answer_only_as_a_whole_or_in_its_last_part(text: str, concepts: set[str]) -> None:
    found = value(valueString=text)
    assert (answers(found), found.text) == (concepts, text)


def test_a_coded_answer_is_taken_by_its_code_before_its_words() -> None:
    coded = value(valueCodeableConcept=concept(SNOMED, "260385009", text="positive"))
    assert (answers(coded), coded.text) == ({"qual-negative"}, "positive")
    local = value(valueCodeableConcept={"coding": [{"system": "urn:local", "code": "1", "display": "Positive"}]})
    assert answers(local) == {"qual-positive"}


def test_a_boolean_is_an_answer() -> None:
    assert value(valueBoolean=False).boolean is False


def test_an_interpretation_is_read_by_code_or_word_and_an_unknown_word_is_not_missing() -> None:
    coded, word, odd = (
        [concept("http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation", "POS")],
        {"text": "neg"},
        {"text": "?!"},
    )
    found = [fact(observation(interpretation=one)).facets["interpretation"] for one in (coded, word, odd)]
    assert [{n for c in codings for n in c.names} for codings in found] == [{"qual-positive"}, {"qual-negative"}, set()]


def test_a_reference_range_keeps_its_limit_its_meaning_and_whom_it_is_for() -> None:
    high = {"value": 35, "unit": "U/L"}
    age = {"low": {"value": 18, "unit": "a"}, "high": {"value": 24, "code": "mo"}}
    kind = concept("urn:t", "Normal")
    entries = [{"high": high, "type": kind, "appliesTo": [{"text": "female"}], "age": age}, {"text": "< 40"}, "junk"]
    one, other = fact(observation(referenceRange=entries)).ranges
    assert one.high is not None
    assert (one.high.interval, one.high.unit_text, one.meanings) == (Interval.exactly(35), "U/L", frozenset({"normal"}))
    assert one.applies_to[0].code.display == "female"
    assert one.ages == (Interval(Fraction(18), Fraction(2)),)
    assert (other.high, other.text, other.meanings) == (None, "< 40", frozenset())


def test_a_component_is_a_fact_with_the_date_and_standing_of_its_panel() -> None:
    parts = [
        {"code": concept(LOINC, "8480-6"), "valueQuantity": {"value": 120}, "interpretation": [{"text": "high"}]},
        {"code": {"text": "uncoded"}, "valueInteger": 1},
        {"code": concept(LOINC, "8462-4"), "dataAbsentReason": {"text": "not done"}},
    ]
    panel = observation(
        code=concept(LOINC, "85354-9"),
        status="preliminary",
        component=parts,
        interpretation=[{"text": "low"}],
        method={"text": "cuff"},
    )
    whole, systolic, diastolic = record(panel).facts
    assert [f.part for f in (whole, systolic, diastolic)] == [0, 1, 3]
    assert whole.value is None and systolic.value is not None and diastolic.value == Value(absent=True)
    assert (systolic.period, systolic.standing, systolic.reference) == (
        whole.period,
        Standing.PENDING,
        "Observation/o1",
    )
    assert systolic.facets["method"] == whole.facets["method"]
    assert systolic.facets["interpretation"] != whole.facets["interpretation"]
    assert "interpretation" not in diastolic.facets


# Links


@pytest.mark.parametrize(
    ("reference", "link"),
    [
        ({"reference": "Specimen/s"}, "Specimen/s"),
        ({"reference": "Specimen/s/_history/2"}, "Specimen/s"),
        ({"reference": "urn:uuid:4a8a6a0e-0000-4000-8000-000000000001"}, "Specimen/s"),
        ({"reference": "https://elsewhere.example/Specimen/s"}, "https://elsewhere.example/Specimen/s"),
        ({"reference": "#s"}, "#s"),
        ({"display": "tumour"}, "?"),
    ],
)
def test_a_link_names_what_it_leads_to_and_is_kept_where_it_leads_nowhere(reference: Dict, link: str) -> None:
    found = record(
        resource("Specimen", "s"),
        observation(specimen=reference),
        urls=("urn:uuid:4a8a6a0e-0000-4000-8000-000000000001",),
    )
    assert found.by_reference["Observation/o1"][0].links == {"specimen": (link,)}


# Doses (R15)


def line(**more: Any) -> Dict:
    return {"doseAndRate": [{"doseQuantity": {"value": 5, "unit": "mg"}}], **more}


def timing(**repeat: Any) -> Dict:
    return {"timing": {"repeat": repeat}}


@pytest.mark.parametrize(
    ("more", "per_day"),
    [
        (timing(frequency=2, period=1, periodUnit="d"), (2, 1)),
        (timing(period=8, periodUnit="h"), (3, 1)),
        (timing(period=5, periodUnit="h"), None),
        (timing(frequency=1, period=2, periodUnit="d"), (1, 2)),
        (timing(frequency=1, period=1, periodUnit="wk"), (1, 7)),
        (timing(frequency=2), (2, 1)),
        (timing(when=["MORN", "EVE"]), (2, 1)),
        (timing(timeOfDay=["08:00:00"]), (1, 1)),
        (timing(dayOfWeek=["mon", "thu"]), (2, 7)),
        (timing(frequency="twice", period="1"), None),
        ({"timing": {"code": concept("urn:t", "BID")}}, (2, 1)),
        ({"timing": {"code": {"text": "qod"}}}, (1, 2)),
        ({"timing": {"code": {"text": "as directed"}}}, None),
        ({}, None),
    ],
)
def test_a_dosage_line_tells_how_often_or_that_it_does_not_say(more: Dict, per_day: tuple[int, int] | None) -> None:
    (dose,) = fact(statement(dosage=[line(**more)])).doses
    assert dose.amount is not None
    assert (dose.amount.interval, dose.amount.unit_text, dose.per_day) == (Interval.exactly(5), "mg", per_day)


@pytest.mark.parametrize(
    ("more", "high", "per_day"),
    [
        (timing(frequency=1, frequencyMax=3, period=1, periodUnit="d"), 15, (1, 1)),
        (timing(frequency=1, period=6, periodMax=8, periodUnit="h"), Fraction(20, 3), (3, 1)),
        (timing(frequency=2, frequencyMax=2, period=1, periodUnit="d"), 5, (2, 1)),
    ],
)
def test_a_dose_that_is_taken_so_often_or_oftener_is_a_range(more: Dict, high: Fraction, per_day: tuple[int, int]) -> None:
    (dose,) = fact(statement(dosage=[line(**more)])).doses
    assert dose.amount is not None
    assert (dose.amount.interval, dose.per_day) == (Interval(Fraction(5), Fraction(high)), per_day)


@pytest.mark.parametrize(
    ("more", "needed"),
    [
        ({"asNeededBoolean": True}, True),
        ({"asNeededCodeableConcept": {"text": "pain"}}, True),
        ({"asNeededBoolean": False}, False),
    ],
)
def test_a_dose_as_needed_is_marked(more: Dict, needed: bool) -> None:
    assert fact(statement(dosage=[line(**more)])).doses[0].as_needed is needed


def test_a_step_of_a_taper_is_bounded_and_one_of_unknown_place_has_no_daily_dose() -> None:
    daily: Dict = {"frequency": 1, "period": 1, "periodUnit": "d"}
    first = line(**timing(**daily, boundsPeriod={"start": "2025-01-01", "end": "2025-01-07"}))
    second = line(**timing(**daily, boundsDuration={"value": 7, "unit": "d"}))
    one, other = fact(statement(dosage=[first, second])).doses
    assert (one.bounds, one.per_day) == (Period(day("2025-01-01"), day("2025-01-07")), (1, 1))
    assert (other.bounds, other.per_day) == (None, None)


def test_units_of_a_dose_that_hold_a_body_or_a_day_are_understood() -> None:
    def dose(unit: str) -> Any:
        return fact(statement(dosage=[{"doseAndRate": [{"doseQuantity": {"value": 1, "unit": unit}}]}])).doses[0]

    assert (dose("mg/kg").per_kilogram, dose("mg/m2").per_kilogram, dose("mg").per_kilogram) == (True, True, False)
    assert (dose("mg/d").amount.unit_text, dose("mg/d").per_day) == ("mg", (1, 1))


def test_a_range_of_doses_is_an_interval() -> None:
    dosage = [
        {"doseAndRate": [{"doseRange": {"low": {"value": 5, "unit": "mg"}, "high": {"value": 10, "unit": "mg"}}}]}
    ]
    found = fact(statement(dosage=dosage)).doses[0].amount
    assert found is not None
    assert found.interval == Interval(Fraction(5), Fraction(10))


def test_an_administration_is_one_intake_on_its_day() -> None:
    one = resource(
        "MedicationAdministration", "a", status="completed", medicationCodeableConcept=concept(ATC, "L01FF02"),
        effectiveDateTime="2025-11-05", dosage={"dose": {"value": 200, "unit": "mg"}},
    )  # fmt: skip
    found = fact(one)
    assert (found.period, found.doses[0].per_day, found.rank) == (Period.at(day("2025-11-05")), (1, 1), 1)


# R5 shapes (R19)


def test_documents_in_r5_shape_are_read_like_r4() -> None:
    drug = {"concept": concept(ATC, "L01FF02", text="pembrolizumab")}
    given = resource(
        "MedicationAdministration", "a", status="completed", medication=drug, occurenceDateTime="2025-11-05"
    )
    found = fact(given)
    assert ([c.code.code for c in found.codings], found.period) == (["L01FF02"], Period.at(day("2025-11-05")))
    state = [{"subjectState": concept("urn:s", "on-study"), "startDate": "2025-10-01"}]
    subject = {
        "resourceType": "ResearchSubject",
        "id": "s",
        "subject": {"reference": "Patient/p1"},
        "status": "active",
        "progress": state,
    }
    taken = fact(subject)
    assert (taken.standing, taken.ongoing, taken.period) == (
        Standing.HOLDS, Truth.TRUE, Period(day("2025-10-01"), Span.on(END_OF_TIME)),
    )  # fmt: skip


# Odd JSON


def test_a_resource_whose_code_cannot_be_read_leaves_a_gap() -> None:
    found = record(observation(code=718))
    assert (found.facts, found.gaps) == (
        (),
        (Gap("Observation", Reason.INCOMPLETE_FETCH, "an Observation could not be read"),),
    )


FULL: tuple[Dict, ...] = (
    observation(
        meta={"versionId": "1", "security": [{"code": "N"}]}, interpretation=[{"text": "pos"}], specimen={"reference": "Specimen/s"},
        valueQuantity={"value": 5.1, "comparator": "<", "unit": "g/dL", "system": UCUM, "code": "g/dL"},
        referenceRange=[{"high": {"value": 35}, "age": {"low": {"value": 18, "unit": "a"}}, "type": concept("urn:t", "normal")}],
        component=[{"code": concept(LOINC, "8480-6"), "valueRatio": {"numerator": {"value": 1}, "denominator": {"value": 0}}}],
    ),
    condition(onsetAge={"value": 50, "unit": "a"}, abatementDateTime="2020", recordedDate="2021", encounter={"reference": "Encounter/e"}),
    statement(
        effectivePeriod={"start": "2025-01-01", "end": "2025-02-01"},
        dosage=[line(**timing(frequency=1, period=1, periodUnit="d", boundsPeriod={"start": "2025"}), asNeededBoolean=True)],
    ),
    resource("MedicationAdministration", "a", status="completed", medicationReference={"reference": "#m"},
             contained=[{"resourceType": "Medication", "id": "m", "code": {"text": "a drug"}, "ingredient": [{"itemReference": {"reference": "#m"}}]}]),
    resource("DiagnosticReport", "d", status="final", effectiveDateTime="2025", result=[{"reference": "Observation/o1"}], conclusion="x"),
    resource("ResearchSubject", "rs", individual={"reference": "Patient/p1"}, status="on-study", period={"start": "2025"}),
)  # fmt: skip

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["value", "start", "low", "coding", "reference", "x"]), inner),
    max_leaves=6,
)  # fmt: skip


def spots(document: Any, steps: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [found for key, one in inner for found in ((*steps, key), *spots(one, (*steps, key)))]


def spoilt(document: Any, steps: tuple[Any, ...], junk: Any) -> Any:
    if not steps:
        return junk
    key, *rest = steps
    if isinstance(document, dict):
        return {**document, key: spoilt(document[key], tuple(rest), junk)}
    return [spoilt(one, tuple(rest), junk) if number == key else one for number, one in enumerate(document)]


PROTECTED = {"resourceType", "id", "subject", "individual", "contained"}
SPOTS = [(n, steps) for n, one in enumerate(FULL) for steps in spots(one) if steps[0] not in PROTECTED]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SPOTS), JUNK)
def test_no_element_of_a_wrong_type_stops_the_reading_of_the_others(
    spot: tuple[int, tuple[Any, ...]], junk: Any
) -> None:
    number, steps = spot
    resources = [spoilt(one, steps, junk) if n == number else one for n, one in enumerate(FULL)]
    kinds = {f.kind for f in record(*resources).facts}
    assert kinds >= {one["resourceType"] for n, one in enumerate(FULL) if n != number}


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["birthDate", "gender", "deceasedBoolean", "deceasedDateTime", "meta"]), JUNK))
def test_no_patient_stops_the_reading(junk: Dict) -> None:
    assert record(observation(), patient={**PATIENT, **junk}).patient == "p1"


def test_the_packaged_shapes_read_every_element_of_the_full_examples() -> None:
    found = record(*FULL)
    assert found.gaps == ()
    assert len(found.facts) == len(FULL) + 1

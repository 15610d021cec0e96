"""What a short line of a story ("lab: hemoglobin 8.7 g/dL") is as a FHIR R4 resource (tests/cases/README.md)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Json = dict[str, Any]
Line = Mapping[str, Any]

SYSTEMS = {
    "LNC": "http://loinc.org",
    "SCT": "http://snomed.info/sct",
    "RXN": "http://www.nlm.nih.gov/research/umls/rxnorm",
    "ATC": "http://www.whocc.no/atc",
    "CM": "http://hl7.org/fhir/sid/icd-10-cm",
    "WHO": "http://hl7.org/fhir/sid/icd-10",
    "KCD": "http://www.hl7korea.or.kr/CodeSystem/kostat-kcd-8",
    "EDI": "http://www.hl7korea.or.kr/CodeSystem/hira-edi-medication",
    "ICDO3": "http://terminology.hl7.org/CodeSystem/icd-o-3",
    "AJCC": "http://cancerstaging.org",
    "LOCAL": "http://hospital.example.org/codes",
    "NCT": "http://clinicaltrials.gov",
    "ACT": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
    "INTERPRETATION": "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation",
    "AE-GRADE": "http://hl7.org/fhir/us/ctcae/CodeSystem/ctcae-grade-code-system",
}
UCUM = "http://unitsofmeasure.org"
PATIENT = "p1"

_CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
_VERIFICATION = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
_ALLERGY_CLINICAL = "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical"
_ALLERGY_VERIFICATION = "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification"
_RANGE_MEANING = "http://terminology.hl7.org/CodeSystem/referencerange-meaning"
_ADMINISTRATIVE_SEX = "http://hl7.org/fhir/administrative-gender"
_AE_OUTCOME = "http://terminology.hl7.org/CodeSystem/adverse-event-outcome"
_ASSERTED = "http://hl7.org/fhir/StructureDefinition/condition-assertedDate"
_MORPHOLOGY = "http://hl7.org/fhir/us/mcode/StructureDefinition/mcode-histology-morphology-behavior"
_TERMINATION = "http://hl7.org/fhir/us/mcode/StructureDefinition/mcode-treatment-termination-reason"
_GRADE = "http://hl7.org/fhir/us/ctcae/StructureDefinition/ctcae-grade"
_RESOLVED = "http://hl7.org/fhir/us/ctcae/StructureDefinition/adverse-event-resolved-date"

_NAMED_AMOUNT = re.compile(r"(?P<name>.*?)\s*(?P<amount>(?:<=|>=|<|>)?\s*\d+(?:\.\d+)?(?:\s.*)?)")
_AMOUNT = re.compile(r"(?P<comparator><=|>=|<|>)?\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>.*)")
_BETWEEN = re.compile(r"(?P<low>\d+(?:\.\d+)?)?-(?P<high>\d+(?:\.\d+)?)?")
_DOSAGE = re.compile(
    r"(?P<dose>\d+(?:\.\d+)?) (?P<unit>\S+)"
    r"(?:,? (?:(?P<times>once|twice|\d+ times) (?P<per>daily|weekly)"
    r"|every (?P<count>\d+) (?P<period>hour|day|week)s?))?"
    r"(?P<needed>,? as needed)?"
)
_PERIODS = {"hour": "h", "day": "d", "week": "wk", "daily": "d", "weekly": "wk"}


class ShortLineError(ValueError):
    """A line of a story that cannot be read; the message repeats it."""


def resources(given: Iterable[Line]) -> list[Json]:
    """The resources of all lines of a story; those without an id are numbered."""
    made = [resource for line in given for resource in _of(line)]
    for number, resource in enumerate(made, start=1):
        resource.setdefault("id", f"r{number}")
    return made


def patient(person: Line) -> Json:
    return {
        "resourceType": "Patient",
        "id": PATIENT,
        "gender": person.get("sex", "male"),
        "birthDate": person.get("born", "1965-05-20"),
        **person.get("also", {}),
    } | ({} if "dies" not in person else {"deceasedDateTime": person["dies"]})


def _of(line: Line) -> list[Json]:
    kind = next(iter(line))
    if kind not in _KINDS:
        raise ShortLineError(f"no kind of line is called {kind!r}: {', '.join(_KINDS)}")
    known = _KEYS | _OWN_KEYS.get(kind, frozenset())
    if unknown := [key for key in line if key not in known | {kind}]:
        raise ShortLineError(f"{kind} has no {', '.join(unknown)} (in {dict(line)})")
    made = _KINDS[kind](line)
    first = made[0]
    if "id" in line:
        first["id"] = line["id"]
    first |= line.get("also", {})
    return made


def _about(kind: str, **elements: Any) -> Json:
    subject = (
        "patient"
        if kind in ("AllergyIntolerance", "Consent")
        else "individual"
        if kind == "ResearchSubject"
        else "subject"
    )
    filled = {name: value for name, value in elements.items() if value not in (None, "", [], {})}
    return {"resourceType": kind, subject: {"reference": f"Patient/{PATIENT}"}, **filled}


# What lines are made of


def _coding(text: str) -> Json:
    """ "LNC 718-7", "LNC 718-7 Hemoglobin", or a whole URI before the code."""
    system, _, rest = str(text).partition(" ")
    code, _, display = rest.partition(" ")
    uri = SYSTEMS.get(system, system)
    if not code or ":" not in uri:
        raise ShortLineError(f"{text!r} is not a code: write e.g. 'LNC 718-7'; systems: {', '.join(SYSTEMS)}")
    return {"system": uri, "code": code} | ({"display": display} if display else {})


def _concept(codes: Any, text: str = "") -> Json:
    listed = codes if isinstance(codes, list) else [codes] if codes else []
    concept: Json = {"coding": [_coding(code) for code in listed]} if listed else {}
    return concept | ({"text": text} if text else {})


def _coded(system: str, code: str) -> Json:
    return {"coding": [{"system": system, "code": code}]}


def _named(line: Line, kind: str) -> Json:
    return _concept(line.get("code"), str(line[kind]))


def _state(line: Line, key: str, system: str, usual: str) -> Json | None:
    said = line.get(key, usual)
    return None if said == "none" else _coded(system, said)


def _status(line: Line, usual: str) -> str | None:
    said = line.get("status", usual)
    return None if said == "none" else said


def _period(line: Line) -> Json | None:
    found = {"start": line.get("from"), "end": line.get("to")}
    return {key: value for key, value in found.items() if value} or None


def _extension(url: str, **value: Any) -> Json:
    return {"url": url, **value}


def _reference(to: str | None) -> Json | None:
    return {"reference": to} if to else None


def _number(text: str) -> int | float:
    return float(text) if "." in text else int(text)


def _quantity(text: str, unit_text: str = "") -> Json:
    """ "<= 8.7 g/dL" with its unit as UCUM code; ``unit_text`` instead where the site writes a unit and no code."""
    match = _AMOUNT.fullmatch(str(text).strip())
    if match is None:
        raise ShortLineError(f"{text!r} is not an amount")
    amount: Json = {"value": _number(match["number"])}
    if match["comparator"]:
        amount["comparator"] = match["comparator"]
    if unit_text:
        amount["unit"] = unit_text
    elif match["unit"]:
        amount |= {"unit": match["unit"], "system": UCUM, "code": match["unit"]}
    return amount


# Laboratory results and other observations


def _lab(line: Line) -> list[Json]:
    name, value = _result(line, "lab")
    return [
        _about(
            "Observation",
            status=_status(line, "final"),
            code=_concept(line.get("code"), name),
            effectiveDateTime=line.get("on"),
            effectivePeriod=_period(line),
            issued=line.get("issued"),
            method=_concept(line["method"]) if "method" in line else None,
            specimen=_reference(line.get("specimen")),
            focus=[{"reference": line["focus"]}] if "focus" in line else None,
            component=[_part(part) for part in line.get("parts", [])],
            **value,
        )
    ]


def _part(part: Line) -> Json:
    name, value = _result(part, "part")
    return {"code": _concept(part.get("code"), name), **value}


def _result(line: Line, kind: str) -> tuple[str, Json]:
    """The name of what was measured, and its value in the shape that the line asks for."""
    name, amount = str(line[kind]), None
    if match := _NAMED_AMOUNT.fullmatch(name):
        name, amount = match["name"], match["amount"]
    elements: Json = {}
    unit_text = line.get("unit", "")
    if amount is not None:
        elements["valueQuantity"] = _quantity(amount, unit_text)
    if "score" in line:
        elements["valueInteger"] = int(line["score"])
    if "says" in line:
        elements["valueString"] = str(line["says"])
    if "answer" in line:
        elements["valueCodeableConcept"] = _concept(line["answer"])
    if "answer_text" in line:
        elements["valueCodeableConcept"] = {"text": line["answer_text"]}
    if "between" in line:
        elements["valueRange"] = _between(line["between"], unit_text)
    if "absent" in line:
        elements["dataAbsentReason"] = _coded(
            "http://terminology.hl7.org/CodeSystem/data-absent-reason", line["absent"]
        )
    if "flag" in line:
        elements["interpretation"] = [_coded(SYSTEMS["INTERPRETATION"], line["flag"])]
    ranges = line.get("ranges", [line["range"]] if "range" in line else [])
    if ranges:
        elements["referenceRange"] = [_range(one, elements.get("valueQuantity", {})) for one in ranges]
    return name, elements


def _between(text: str, unit_text: str) -> Json:
    """ "40-45 %" as a Range."""
    numbers, _, unit = str(text).partition(" ")
    match = _BETWEEN.fullmatch(numbers)
    if match is None:
        raise ShortLineError(f"{text!r} is not a range")
    ends = {"low": match["low"], "high": match["high"]}
    return {name: _quantity(f"{number} {unit}", unit_text) for name, number in ends.items() if number}


def _range(said: Any, value: Json) -> Json:
    """ "13-17" in the unit of its result, "13-17 g/dL", "text: <= 40", or a mapping with for, ages and type."""
    if not isinstance(said, Mapping):
        said = {"is": said}
    entry: Json = {}
    text = str(said["is"])
    numbers, _, unit = text.partition(" ")
    if text.startswith("text: "):
        entry["text"] = text.removeprefix("text: ")
    elif (match := _BETWEEN.fullmatch(numbers)) is None:
        raise ShortLineError(f"{text!r} is not a reference range: write '13-17', '-40' or 'text: <= 40'")
    else:
        own = (
            {"unit": unit, "system": UCUM, "code": unit}
            if unit
            else {k: value[k] for k in ("unit", "system", "code") if k in value}
        )
        ends = {"low": match["low"], "high": match["high"]}
        entry |= {name: {"value": _number(number), **own} for name, number in ends.items() if number}
    if "for" in said:
        entry["appliesTo"] = [_coded(_ADMINISTRATIVE_SEX, said["for"])]
    if "type" in said:
        entry["type"] = _coded(_RANGE_MEANING, said["type"])
    if "ages" in said:
        entry["age"] = _between(f"{said['ages']} a", "")
    return entry


def _report(line: Line) -> list[Json]:
    return [
        _about(
            "DiagnosticReport",
            status=_status(line, "final"),
            code=_named(line, "report"),
            category=[_concept(line["category"])] if "category" in line else None,
            effectiveDateTime=line.get("on"),
            issued=line.get("issued"),
            conclusion=line.get("says"),
            conclusionCode=[_concept(line["answer"])] if "answer" in line else None,
            result=[{"reference": one} for one in line.get("results", [])],
        )
    ]


# Diagnoses, allergies, events


def _diagnosis(line: Line) -> list[Json]:
    extensions = [
        _extension(_ASSERTED, valueDateTime=line["asserted"]) if "asserted" in line else None,
        _extension(_MORPHOLOGY, valueCodeableConcept=_concept(line["morphology"])) if "morphology" in line else None,
    ]
    onset: Json = {"onsetDateTime": line.get("since")}
    if "since_age" in line:
        onset = {"onsetAge": {"value": int(line["since_age"]), "system": UCUM, "code": "a"}}
    return [
        _about(
            "Condition",
            code=_named(line, "diagnosis"),
            clinicalStatus=_state(line, "status", _CLINICAL, "active"),
            verificationStatus=_state(line, "verified", _VERIFICATION, "confirmed"),
            abatementDateTime=line.get("until"),
            recordedDate=line.get("recorded"),
            bodySite=[_concept(line["site"])] if "site" in line else None,
            stage=[{"summary": _concept(line["stage"])}] if "stage" in line else None,
            evidence=[{"detail": [{"reference": line["evidence"]}]}] if "evidence" in line else None,
            extension=[one for one in extensions if one],
            **onset,
        )
    ]


def _allergy(line: Line) -> list[Json]:
    return [
        _about(
            "AllergyIntolerance",
            code=_named(line, "allergy"),
            clinicalStatus=_state(line, "status", _ALLERGY_CLINICAL, "active"),
            verificationStatus=_state(line, "verified", _ALLERGY_VERIFICATION, "confirmed"),
            type=line.get("type"),
            onsetDateTime=line.get("since"),
            recordedDate=line.get("recorded"),
            reaction=[{"substance": _concept(line["substance"])}] if "substance" in line else None,
        )
    ]


def _adverse_event(line: Line) -> list[Json]:
    extensions = [
        _extension(_GRADE, valueCodeableConcept=_coded(SYSTEMS["AE-GRADE"], str(line["grade"])))
        if "grade" in line
        else None,
        _extension(_RESOLVED, valueDateTime=line["until"]) if "until" in line else None,
    ]
    return [
        _about(
            "AdverseEvent",
            actuality=_status(line, "actual"),
            event=_named(line, "adverse_event"),
            date=line.get("on"),
            outcome=_coded(_AE_OUTCOME, line["outcome"]) if "outcome" in line else None,
            extension=[one for one in extensions if one],
        )
    ]


# Treatments


def _drug(line: Line) -> list[Json]:
    ended = "to" in line
    extensions = (
        [_extension(_TERMINATION, valueCodeableConcept=_concept(line["ended_because"]))]
        if "ended_because" in line
        else []
    )
    return [
        _about(
            "MedicationStatement",
            status=_status(line, "completed" if ended else "active"),
            medicationCodeableConcept=_medication(line, "drug"),
            medicationReference=_reference(line.get("medication")),
            effectivePeriod=_period(line),
            effectiveDateTime=line.get("on"),
            dateAsserted=line.get("recorded"),
            dosage=_dosage(line),
            reasonCode=[_concept(line["reason"])] if "reason" in line else None,
            extension=extensions,
        )
    ]


def _order(line: Line) -> list[Json]:
    dosage = _dosage(line)
    if period := _period(line):
        first = dosage[0] if dosage else {}
        timing: Json = dict(first.get("timing", {}))
        timing["repeat"] = {**timing.get("repeat", {}), "boundsPeriod": period}
        dosage = [{**first, "timing": timing}, *dosage[1:]]
    return [
        _about(
            "MedicationRequest",
            status=_status(line, "active"),
            intent=line.get("intent", "order"),
            medicationCodeableConcept=_medication(line, "order"),
            medicationReference=_reference(line.get("medication")),
            authoredOn=line.get("on"),
            dosageInstruction=dosage,
        )
    ]


def _administration(line: Line) -> list[Json]:
    dosage: Json = {}
    if "route" in line:
        dosage["route"] = _concept(line["route"])
    if "dose" in line:
        dosage["dose"] = _quantity(line["dose"])
    return [
        _about(
            "MedicationAdministration",
            status=_status(line, "completed"),
            medicationCodeableConcept=_medication(line, "administration"),
            medicationReference=_reference(line.get("medication")),
            effectiveDateTime=line.get("on"),
            effectivePeriod=_period(line),
            dosage=dosage,
            reasonCode=[_concept(line["reason"])] if "reason" in line else None,
        )
    ]


def _medication(line: Line, kind: str) -> Json | None:
    return None if "medication" in line else _named(line, kind)


def _dosage(line: Line) -> list[Json]:
    """ "20 mg once daily", "10 mg every 8 hours, as needed"; several lines where a dose changes ({is, from, to})."""
    said = line.get("dose")
    entries = said if isinstance(said, list) else [said] if said else []
    if not entries and "route" in line:
        return [{"route": _concept(line["route"])}]
    return [_dosage_line(entry, line) for entry in entries]


def _dosage_line(said: Any, line: Line) -> Json:
    if not isinstance(said, Mapping):
        said = {"is": said}
    match = _DOSAGE.fullmatch(str(said["is"]))
    if match is None:
        return {"text": str(said["is"])} | ({"route": _concept(line["route"])} if "route" in line else {})
    repeat: Json = {}
    if match["times"]:
        times = {"once": 1, "twice": 2}.get(match["times"]) or int(match["times"].split()[0])
        repeat = {"frequency": times, "period": 1, "periodUnit": _PERIODS[match["per"]]}
    elif match["count"]:
        repeat = {"frequency": 1, "period": int(match["count"]), "periodUnit": _PERIODS[match["period"]]}
    if period := _period(said):
        repeat["boundsPeriod"] = period
    entry: Json = {"doseAndRate": [{"doseQuantity": _quantity(f"{match['dose']} {match['unit']}")}]}
    if repeat:
        entry["timing"] = {"repeat": repeat}
    if match["needed"]:
        entry["asNeededBoolean"] = True
    if "route" in line:
        entry["route"] = _concept(line["route"])
    return entry


def _procedure(line: Line) -> list[Json]:
    return [
        _about(
            "Procedure",
            status=_status(line, "completed"),
            code=_named(line, "procedure"),
            performedDateTime=line.get("on"),
            performedPeriod=_period(line),
            bodySite=[_concept(line["site"])] if "site" in line else None,
            reasonReference=[{"reference": line["for"]}] if "for" in line else None,
            reasonCode=[_concept(line["reason"])] if "reason" in line else None,
        )
    ]


# Where the patient was, and took part


def _encounter(line: Line) -> list[Json]:
    return [
        _about(
            "Encounter",
            status=_status(line, "finished" if "to" in line or "on" in line else "in-progress"),
            period={"start": line["on"], "end": line["on"]} if "on" in line else _period(line),
            type=[{"text": line["encounter"]}],
            reasonCode=[_concept(line["reason"])] if "reason" in line else None,
            **{"class": {"system": SYSTEMS["ACT"], "code": line.get("class", "AMB")}},
        )
    ]


def _study(line: Line) -> list[Json]:
    own_id = f"study-{re.sub('[^A-Za-z0-9]', '-', str(line.get('code', 'x')).split()[-1])}"
    study: Json = {"resourceType": "ResearchStudy", "id": own_id, "status": "active", "title": line["study"]}
    if "code" in line:
        coding = _coding(line["code"])
        study["identifier"] = [{"system": coding["system"], "value": coding["code"]}]
    if "phase" in line:
        study["phase"] = _coded("http://terminology.hl7.org/CodeSystem/research-study-phase", line["phase"])
    subject = _about(
        "ResearchSubject",
        status=_status(line, "on-study"),
        study={"reference": f"ResearchStudy/{own_id}"},
        period=_period(line),
    )
    return [subject, study]


def _consent(line: Line) -> list[Json]:
    scope = _coded("http://terminology.hl7.org/CodeSystem/consentscope", line.get("scope", "research"))
    return [_about("Consent", status=_status(line, "active"), dateTime=line.get("on"), scope=scope)]


def _raw(line: Line) -> list[Json]:
    resource = dict(line["resource"])
    about = _about(resource["resourceType"])
    return [resource if {"subject", "patient", "individual"} & resource.keys() else {**about, **resource}]


_KINDS: Mapping[str, Callable[[Line], list[Json]]] = {
    "lab": _lab,
    "report": _report,
    "diagnosis": _diagnosis,
    "allergy": _allergy,
    "adverse_event": _adverse_event,
    "drug": _drug,
    "order": _order,
    "administration": _administration,
    "procedure": _procedure,
    "encounter": _encounter,
    "study": _study,
    "consent": _consent,
    "resource": _raw,
}
_KEYS = frozenset({"id", "also", "code", "status", "on", "from", "to"})
_OWN_KEYS: Mapping[str, frozenset[str]] = {
    "lab": frozenset(
        [
            "score",
            "says",
            "answer",
            "answer_text",
            "between",
            "absent",
            "flag",
            "range",
            "ranges",
            "unit",
            "issued",
            "method",
            "specimen",
            "focus",
            "parts",
        ]
    ),
    "report": frozenset(["issued", "says", "answer", "category", "results"]),
    "diagnosis": frozenset(
        ["since", "since_age", "until", "recorded", "asserted", "verified", "stage", "morphology", "site", "evidence"]
    ),
    "allergy": frozenset(["verified", "type", "since", "recorded", "substance"]),
    "adverse_event": frozenset(["grade", "until", "outcome"]),
    "drug": frozenset(["medication", "recorded", "dose", "route", "reason", "ended_because"]),
    "order": frozenset(["medication", "intent", "dose", "route"]),
    "administration": frozenset(["medication", "dose", "route", "reason"]),
    "procedure": frozenset(["site", "for", "reason"]),
    "encounter": frozenset(["class", "reason"]),
    "study": frozenset(["phase"]),
    "consent": frozenset(["scope"]),
}

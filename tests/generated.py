"""Charts nobody wrote: FHIR resources of every kind that the trials look at, drawn by hypothesis, and how they blur.

A chart is drawn exact: whole days, bare numbers, nothing missing. Blurring hides what a real chart hides (the day of a
date, the number behind "<5", a type that was not fetched), so that the exact chart is one of the things it may mean.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from fractions import Fraction
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from fhir_screen.core.decision import Decision
from fhir_screen.core.gaps import Gap
from fhir_screen.core.rules import Selector
from fhir_screen.core.screening import screen
from fhir_screen.core.trials import Trial
from fhir_screen.core.walk import selectors
from fhir_screen.fhir.raw import RawPatient
from fhir_screen.fhir.reader import read
from fhir_screen.mapping.load import Study, load

Json = dict[str, Any]

TODAY = date(2025, 11, 15)
SEOUL = ZoneInfo("Asia/Seoul")


@cache
def study() -> Study:
    return load()


@dataclass(frozen=True)
class Chart:
    """A patient, what is on record about him, and the types of which something may be missing."""

    patient: Json
    resources: tuple[Json, ...]
    gaps: tuple[str, ...] = ()

    def with_resources(self, resources: Iterable[Json]) -> Chart:
        return replace(self, resources=tuple(resources))


def raw(chart: Chart) -> RawPatient:
    def resolve(reference: str, _: Mapping[str, Any]) -> Json | None:
        return next((r for r in chart.resources if f"{r['resourceType']}/{r['id']}" == reference), None)

    gaps = tuple(Gap(kind, detail=f"{kind} answered 403") for kind in chart.gaps)
    return RawPatient("p", chart.patient, chart.resources, resolve, gaps)


def decided(trial: Trial, chart: Chart, on: date = TODAY, anchors: Mapping[str, date] | None = None) -> Decision:
    terms = study().terms
    return screen(trial, read(raw(chart), study().shapes, terms, SEOUL), terms.vocabulary, on, anchors)


# --- what the trials can recognise -------------------------------------------------------------------------------


Dish = tuple[str, str]
"""A resource type, and the concept that its code belongs to."""


@cache
def looked_for() -> Mapping[str, tuple[Selector, ...]]:
    """The selectors of each criterion."""
    return {
        criterion.id: tuple(s for atom in criterion.atoms for s in selectors(atom.rule))
        for trial in study().trials
        for criterion in trial.criteria
    }


@cache
def menu(criterion: str = "") -> tuple[Dish, ...]:
    """All that a criterion, or any of them, looks for, avoids, or asks a person about."""
    rows: set[Dish] = set()
    for id_, found in looked_for().items():
        for selector in found if criterion in ("", id_) else ():
            named = selector.find | selector.review | selector.minus | selector.never
            rows |= {(kind, name) for name in named for kind in study().terms.found_in[name] if coded(name)}
    return tuple(sorted(rows))


@cache
def answers_of(concept: str) -> tuple[str, ...]:
    """Concepts that some rule wants as the value of this one."""
    found = (selector for selectors_ in looked_for().values() for selector in selectors_ if concept in selector.find)
    return tuple(sorted({name for selector in found for name in selector.valued if coded(name)}))


def coded(concept: str) -> Sequence[tuple[str, str]]:
    return study().terms.codes_of.get(concept, ())


def codeable(draw: st.DrawFn, concept: str) -> Json:
    system, code = draw(st.sampled_from(coded(concept)))
    return {"coding": [{"system": system, "code": code}]}


# --- days --------------------------------------------------------------------------------------------------------

_EDGES = (0, 1, 10, 14, 21, 28, 30, 42, 84, 90, 168, 300, 365, 366, 5 * 365 + 1)
AGO = st.sampled_from(_EDGES).flatmap(lambda n: st.integers(max(0, n - 2), n + 2)) | st.integers(0, 2500)
PAST = AGO.map(lambda n: TODAY - timedelta(days=n))


@st.composite
def whens(draw: st.DrawFn) -> str:
    """A day on or before today, or an instant of it."""
    day = draw(PAST)
    clock = draw(st.sampled_from(["", "", "T08:00:00+09:00", "T17:30:00+09:00", "T23:30:00Z"]))
    if clock.endswith("Z"):
        day -= timedelta(days=1)
    return day.isoformat() + clock


@st.composite
def periods(draw: st.DrawFn) -> Json:
    start = draw(PAST)
    end = draw(st.none() | st.integers(0, 400))
    period: Json = {"start": start.isoformat()}
    if end is not None:
        period["end"] = min(start + timedelta(days=end), TODAY).isoformat()
    return period


# --- resources ---------------------------------------------------------------------------------------------------


@st.composite
def conditions(draw: st.DrawFn, concept: str) -> Json:
    resource: Json = {"resourceType": "Condition", "code": codeable(draw, concept)}
    verification = draw(st.sampled_from(["confirmed", "confirmed", "confirmed", None, "provisional", "refuted"]))
    if verification:
        resource["verificationStatus"] = {"coding": [{"code": verification}]}
    clinical = draw(st.sampled_from(["active", "active", "recurrence", "remission", "resolved", None]))
    if clinical:
        resource["clinicalStatus"] = {"coding": [{"code": clinical}]}
    onset = draw(st.none() | PAST)
    if onset:
        resource["onsetDateTime"] = onset.isoformat()
        if clinical in ("resolved", "remission"):
            resource["abatementDateTime"] = draw(st.dates(onset, TODAY)).isoformat()
    elif draw(st.booleans()):
        resource["recordedDate"] = draw(PAST).isoformat()
    if draw(st.integers(0, 3)) == 0:
        resource["bodySite"] = [codeable(draw, draw(st.sampled_from(["site-brain", "site-lymph-node"])))]
    if draw(st.integers(0, 3)) == 0:
        resource["stage"] = [
            {"summary": codeable(draw, draw(st.sampled_from(["stage-iv", "stage-iiic", "stage-other"])))}
        ]
    return resource


@st.composite
def procedures(draw: st.DrawFn, concept: str) -> Json:
    status = draw(st.sampled_from(["completed", "completed", "in-progress", "not-done", "unknown"]))
    resource: Json = {"resourceType": "Procedure", "status": status, "code": codeable(draw, concept)}
    if draw(st.booleans()):
        resource["performedDateTime"] = draw(whens())
    else:
        resource["performedPeriod"] = draw(periods())
    if draw(st.integers(0, 2)) == 0:
        resource["bodySite"] = [codeable(draw, "site-brain")]
    return resource


_NUMBERS = ("0", "0.4", "0.9", "1", "1.2", "1.6", "2", "2.1", "5", "8.9", "9", "13", "30", "40", "45", "60", "62", "88",
            "100", "119", "130", "160", "170", "181", "210", "500", "1500", "90000", "120000")  # fmt: skip


@st.composite
def quantities(draw: st.DrawFn, analyte: str) -> Json:
    known = study().terms.vocabulary.analytes[analyte]
    unit = draw(st.sampled_from(sorted(u for u in known.factors if u) or [""]))
    value: Json = {"value": float(draw(st.sampled_from(_NUMBERS)))}
    if unit:
        value |= {"unit": unit, "code": unit, "system": "http://unitsofmeasure.org"}
    return value


@st.composite
def observations(draw: st.DrawFn, concept: str) -> Json:
    status = draw(st.sampled_from(["final", "final", "final", "amended", "preliminary", "entered-in-error"]))
    resource: Json = {"resourceType": "Observation", "status": status, "code": codeable(draw, concept)}
    resource["effectiveDateTime"] = draw(whens())
    analyte = study().terms.analyte_of.get(concept)
    wanted = answers_of(concept)
    shape = draw(st.sampled_from(["number", "answer"]))
    if analyte and shape == "number":
        resource["valueQuantity"] = draw(quantities(analyte))
    elif wanted:
        resource["valueCodeableConcept"] = codeable(draw, draw(st.sampled_from(wanted)))
    elif shape == "number":
        resource["valueQuantity"] = {"value": float(draw(st.sampled_from(_NUMBERS)))}
    else:
        answer = draw(st.sampled_from(["qual-positive", "qual-negative", "qual-indeterminate"]))
        resource["valueCodeableConcept"] = codeable(draw, answer)
    if draw(st.booleans()):
        unit = resource.get("valueQuantity", {}).get("unit")
        high = {"value": float(draw(st.sampled_from(["0.9", "1.2", "40", "119"])))} | ({"unit": unit} if unit else {})
        resource["referenceRange"] = [{"high": high}]
    return resource


@st.composite
def medications(draw: st.DrawFn, concept: str, kind: str) -> Json:
    resource: Json = {"resourceType": kind, "medicationCodeableConcept": codeable(draw, concept)}
    dose: Json = {
        "timing": {"repeat": {"frequency": draw(st.integers(1, 3)), "period": 1, "periodUnit": "d"}},
        "doseAndRate": [
            {"doseQuantity": {"value": draw(st.sampled_from([5, 10, 20, 50])), "unit": "mg", "code": "mg"}}
        ],
    }
    if draw(st.integers(0, 3)) == 0:
        dose["asNeededBoolean"] = True
    route = draw(st.none() | st.sampled_from(["route-intravenous", "route-local"]))
    if route:
        dose["route"] = codeable(draw, route)
    match kind:
        case "MedicationStatement":
            resource["status"] = draw(st.sampled_from(["active", "completed", "completed", "not-taken", "on-hold"]))
            resource |= {"effectivePeriod": draw(periods()), "dosage": [dose]}
        case "MedicationRequest":
            resource["status"] = draw(st.sampled_from(["active", "completed", "draft"]))
            resource |= {"intent": "order", "authoredOn": draw(whens()), "dosageInstruction": [dose]}
        case _:
            resource["status"] = draw(st.sampled_from(["completed", "completed", "not-done"]))
            resource["effectiveDateTime"] = draw(whens())
            resource["dosage"] = {"dose": {"value": 10, "unit": "mg", "code": "mg"}} | (
                {"route": dose["route"]} if route else {}
            )
    return resource


@st.composite
def allergies(draw: st.DrawFn, concept: str) -> Json:
    resource: Json = {"resourceType": "AllergyIntolerance", "code": codeable(draw, concept)}
    status = draw(st.sampled_from(["confirmed", "unconfirmed", "refuted", None]))
    if status:
        resource["verificationStatus"] = {"coding": [{"code": status}]}
    return resource


@st.composite
def uncoded(draw: st.DrawFn) -> Json:
    """A record whose code says nothing to the mapping; its words may."""
    text = draw(
        st.sampled_from(
            ["Colon cancer", "간이식 후 상태", "Appendectomy", "Sprained ankle", "latent tuberculosis", "폐렴"]
        )
    )
    code = {"coding": [{"system": "urn:hospital:local", "code": "X1"}], "text": text}
    if draw(st.booleans()):
        return {"resourceType": "Condition", "code": code, "onsetDateTime": draw(PAST).isoformat()}
    return {"resourceType": "Procedure", "status": "completed", "code": code, "performedDateTime": draw(whens())}


@st.composite
def encounters(draw: st.DrawFn) -> Json:
    klass = {
        "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
        "code": draw(st.sampled_from(["AMB", "IMP"])),
    }
    return {"resourceType": "Encounter", "status": "finished", "class": klass, "period": draw(periods())}


@st.composite
def adverse_events(draw: st.DrawFn) -> Json:
    grade = {
        "url": "http://hl7.org/fhir/us/ctcae/StructureDefinition/ctcae-grade",
        "valueInteger": draw(st.integers(1, 4)),
    }
    outcome = draw(st.sampled_from(["ongoing", "resolved", "recovering"]))
    event = {"text": draw(st.sampled_from(["Colitis", "Alopecia", "Fatigue"]))}
    return {
        "resourceType": "AdverseEvent",
        "actuality": "actual",
        "event": event,
        "date": draw(whens()),
        "extension": [grade],
        "outcome": {
            "coding": [{"code": outcome, "system": "http://terminology.hl7.org/CodeSystem/adverse-event-outcome"}]
        },
    }


@st.composite
def of_menu(draw: st.DrawFn, criterion: str = "") -> Json:
    kind, concept = draw(st.sampled_from(menu(criterion) or menu()))
    match kind:
        case "Condition":
            return draw(conditions(concept))
        case "Procedure":
            return draw(procedures(concept))
        case "Observation":
            return draw(observations(concept))
        case "AllergyIntolerance":
            return draw(allergies(concept))
        case "DiagnosticReport":
            return {
                "resourceType": kind,
                "status": "final",
                "code": codeable(draw, concept),
                "effectiveDateTime": draw(whens()),
            }
        case _:
            return draw(medications(concept, kind))


@st.composite
def patients(draw: st.DrawFn) -> Json:
    born = draw(
        st.dates(date(1935, 1, 1), date(2008, 12, 31)) | st.sampled_from([date(2006, 11, 15), date(1944, 11, 16)])
    )
    return {
        "resourceType": "Patient",
        "id": "p",
        "gender": draw(st.sampled_from(["male", "female"])),
        "birthDate": born.isoformat(),
    }


@st.composite
def charts(draw: st.DrawFn, largest: int = 14) -> Chart:
    """Some things that the trials look at, most of them one criterion's, on a chart with a visit and a diagnosis."""
    own = of_menu(draw(st.sampled_from(sorted(looked_for()))))
    resources = draw(
        st.lists(own | own | own | of_menu() | uncoded() | encounters() | adverse_events(), max_size=largest)
    )
    resources.append(
        {
            "resourceType": "Encounter",
            "status": "finished",
            "class": {"code": "AMB"},
            "period": {"start": "2014-01-01", "end": "2014-01-02"},
        }
    )
    resources.append(
        {
            "resourceType": "Condition",
            "code": {
                "coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "I10", "display": "Hypertension"}]
            },
            "onsetDateTime": "2014-01-01",
        }
    )
    if draw(st.booleans()):
        resources.append(draw(conditions("dx-melanoma")))
    for number, resource in enumerate(resources):
        resource["id"] = f"r{number}"
        resource["meta"] = {"versionId": "1"}
    return Chart(draw(patients()), tuple(resources))


# --- blurring ----------------------------------------------------------------------------------------------------

_DATES = (
    "effectiveDateTime",
    "onsetDateTime",
    "abatementDateTime",
    "performedDateTime",
    "recordedDate",
    "authoredOn",
    "date",
)
_PERIODS = ("effectivePeriod", "performedPeriod", "period")


def _vaguer(draw: st.DrawFn, text: str) -> str:
    """The same date with its time, its day or its month left out."""
    return draw(st.sampled_from([text, text, text[:10] if not text.endswith("Z") else text, text[:7], text[:4]]))


def _blurred(draw: st.DrawFn, resource: Json) -> Json:
    vague = copy.deepcopy(resource)
    for key in _DATES:
        if key in vague:
            vague[key] = _month_safe(draw, vague[key])
    for key in _PERIODS:
        for end in ("start", "end"):
            if end in vague.get(key, {}):
                vague[key][end] = _month_safe(draw, vague[key][end])
    if "valueQuantity" in vague and draw(st.booleans()):
        _censor(draw, vague["valueQuantity"])
    return vague


def _month_safe(draw: st.DrawFn, text: str) -> str:
    """An instant in UTC may lie on the next day in Seoul, so only its whole form or its year is a blur of it."""
    if text.endswith("Z"):
        day = date.fromisoformat(text[:10]) + timedelta(days=1)
        return draw(st.sampled_from([text, day.isoformat(), day.isoformat()[:7], day.isoformat()[:4]]))
    return _vaguer(draw, text)


def _censor(draw: st.DrawFn, quantity: Json) -> None:
    value = Fraction(str(quantity["value"]))
    comparator = draw(st.sampled_from(["<", "<=", ">", ">="]))
    bounds = [n for n in map(Fraction, _NUMBERS) if _allows(comparator, value, n)]
    if bounds:
        quantity["value"] = float(draw(st.sampled_from(bounds)))
        quantity["comparator"] = comparator


def _allows(comparator: str, value: Fraction, bound: Fraction) -> bool:
    return {"<": value < bound, "<=": value <= bound, ">": value > bound, ">=": value >= bound}[comparator]


@st.composite
def blurred(draw: st.DrawFn, chart: Chart) -> Chart:
    """A chart of which the given one is a refinement: dates less exact, numbers censored, some types not complete."""
    patient = dict(chart.patient)
    patient["birthDate"] = draw(
        st.sampled_from([patient["birthDate"], patient["birthDate"][:7], patient["birthDate"][:4]])
    )
    kinds = sorted({r["resourceType"] for r in chart.resources})
    lost = draw(st.lists(st.sampled_from(kinds), unique=True, max_size=2))
    kept = [r for r in chart.resources if r["resourceType"] not in lost or draw(st.booleans())]
    return Chart(patient, tuple(_blurred(draw, r) if draw(st.booleans()) else r for r in kept), tuple(lost))

"""How what fhir_screen said is taken back on a server: never deleted, never over a person's word, planned first."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

from fhir_screen.core.decision import ClosedStudies, Decision, SubjectStanding, TrialIdentity, Verdict
from fhir_screen.core.truth import Truth
from fhir_screen.fhir.identity import (
    CRITERIA_EXTENSION,
    HOME,
    MACHINE_STATUSES,
    MANAGED,
    RETRACTED_EXTENSION,
    RETRACTED_STATUS,
    STATUS_WRITTEN_EXTENSION,
    TAG_SYSTEM,
    VERSION_IDENTIFIER,
    extension_value,
    is_managed,
    result_identity,
    subject_identity,
)
from fhir_screen.fhir.raw import Json
from fhir_screen.fhir.search import PATIENTS_PER_SEARCH
from fhir_screen.fhir.server import FhirServer, WriteFailed
from fhir_screen.fhir.standing import DuplicateIdentity, Ground, held, survey, tail

ERROR: Final = "entered-in-error"


@dataclass(frozen=True, slots=True)
class Which:
    """What is to be taken back; an empty part means any. Patients are bare ids."""

    trials: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()

    def means(self, trial: str, version: str, patient: str) -> bool:
        return (
            (not self.trials or trial in self.trials)
            and (not self.versions or version in self.versions)
            and (not self.patients or patient in self.patients)
        )


@dataclass(frozen=True, slots=True)
class Retraction:
    """One decision that is taken back, or why it is not; ``writes`` are whole resources as they will stand."""

    patient: str
    trial: str
    version: str
    verdict: str
    writes: tuple[Json, ...] = ()
    kept: tuple[str, ...] = ()
    failed: str = ""


def retractions(server: FhirServer, which: Which, site: str, reason: str) -> Iterator[Retraction]:
    """What would be taken back, by patient; changes nothing. Raises SearchFailed where an answer is not whole."""
    named = sorted(_named(server, which, site), key=lambda one: (one.patient, one.trial.id))
    known = Ground()
    for start in range(0, len(named), PATIENTS_PER_SEARCH):
        chunk = named[start : start + PATIENTS_PER_SEARCH]
        ground = survey(server, chunk, site, ClosedStudies.OBSERVATION_ONLY, known)
        for name in chunk:
            yield _retraction(name, site, ground, reason)


def retract(
    server: FhirServer, planned: Iterable[Retraction], site: str, reason: str, now: datetime
) -> Iterator[Retraction]:
    """Writes what was planned, a transaction for each; what somebody changed in between fails and stays as it is."""
    for one in planned:
        if not one.writes:
            yield one
            continue
        try:
            server.transaction(_bundle(one, site, reason, now))
        except WriteFailed as error:
            yield Retraction(one.patient, one.trial, one.version, one.verdict, (), one.kept, error.what)
        else:
            yield one


def _named(server: FhirServer, which: Which, site: str) -> Iterator[Decision]:
    """The decisions of this site whose Observations stand on the server, each as a name to look everything up by."""
    for resource in _observations(server, which.patients):
        trial, _, version = (extension_value(resource, CRITERIA_EXTENSION) or "").partition("|")
        patient = tail(resource.get("subject")).removeprefix("Patient/")
        name = _name(trial, version, patient)
        ours = is_managed(resource) and resource.get("id") == result_identity(site, name).id
        if ours and which.means(trial, version, patient):
            yield name


def _observations(server: FhirServer, patients: Sequence[str]) -> Iterator[Json]:
    ours = [("category", f"{HOME}/category|research-screening")]
    whose = [[("patient", patient)] for patient in patients] or [[]]
    for params in whose:
        for one in server.search("Observation", [*ours, *params], fresh=True):
            if one.resource.get("resourceType") == "Observation":
                yield one.resource


def _name(trial: str, version: str, patient: str) -> Decision:
    """A decision that says nothing: what stands is found by its trial and patient alone."""
    return Decision(
        TrialIdentity(trial, version, ""), f"Patient/{patient}", date.min, Truth.UNKNOWN, Verdict.NOT_ELIGIBLE, ()
    )


def _retraction(name: Decision, site: str, ground: Ground, reason: str) -> Retraction:
    patient, trial = name.patient.removeprefix("Patient/"), name.trial
    try:
        stands = held(name, site, ground)
    except DuplicateIdentity as error:
        return Retraction(patient, trial.id, trial.version, "?", failed=error.what)
    verdict, kept = stands.verdict or "?", stands.kept
    result = ground.get(result_identity(site, name).reference)
    subject = ground.get(subject_identity(site, name).reference)
    writes: list[Json] = []
    if result is not None and not stands.standing.observation_human and result.get("status") != ERROR:
        writes.append(_taken_back(result, reason))
    ours = stands.standing.subject is SubjectStanding.OURS
    if subject is not None and ours and subject.get("status") in MACHINE_STATUSES:
        writes.append(_closed(subject))
    return Retraction(patient, trial.id, trial.version, verdict, tuple(writes), kept)


def _taken_back(result: Json, reason: str) -> Json:
    marked = {"url": RETRACTED_EXTENSION, "valueString": reason}
    others = [one for one in result.get("extension") or () if one.get("url") != RETRACTED_EXTENSION]
    return {**result, "status": ERROR, "extension": [*others, marked]}


def _closed(subject: Json) -> Json:
    """R4 has no entered-in-error here. `not-registered` claims nothing about the patient; `ineligible` would."""
    written = {"url": STATUS_WRITTEN_EXTENSION, "valueString": RETRACTED_STATUS}
    return {**subject, "status": RETRACTED_STATUS, "extension": [written]}


def _bundle(one: Retraction, site: str, reason: str, now: datetime) -> dict[str, Any]:
    entries = [_entry(resource) for resource in one.writes]
    provenance = _provenance(one, site, reason, now)
    entries.append({"resource": provenance, "request": {"method": "PUT", "url": f"Provenance/{provenance['id']}"}})
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def _entry(resource: Json) -> dict[str, Any]:
    meta: Mapping[str, Any] = resource.get("meta") or {}
    kept = {key: value for key, value in meta.items() if key not in {"versionId", "lastUpdated"}}
    request = {"method": "PUT", "url": _reference(resource)}
    condition = {"ifMatch": f'W/"{meta["versionId"]}"'} if meta.get("versionId") else {}
    return {"resource": {**resource, "meta": kept}, "request": request | condition}


def _provenance(one: Retraction, site: str, reason: str, now: datetime) -> dict[str, Any]:
    recorded = now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    targets = [_reference(resource) for resource in one.writes]
    key = _key(site, recorded, *targets)
    terms = "http://terminology.hl7.org/CodeSystem"
    return {
        "resourceType": "Provenance",
        "id": f"fs-pv-{key}",
        "meta": {"tag": [{"system": TAG_SYSTEM, "code": MANAGED}]},
        "target": [{"reference": target} for target in targets],
        "recorded": recorded,
        "reason": [{"text": reason}],
        "activity": {"coding": [{"system": f"{terms}/v3-DataOperation", "code": "NULLIFY"}]},
        "agent": [
            {
                "type": {"coding": [{"system": f"{terms}/provenance-participant-type", "code": "assembler"}]},
                "who": {"identifier": {"system": VERSION_IDENTIFIER, "value": site}, "display": "fhir-screen retract"},
            }
        ],
    }


def _key(*parts: str) -> str:
    digest = hashlib.sha256("\x1f".join(("fhir-screen/retract/1", *parts)).encode()).digest()
    return base64.b32encode(digest).decode().rstrip("=").lower()


def _reference(resource: Json) -> str:
    return f"{resource['resourceType']}/{resource['id']}"

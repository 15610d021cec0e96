"""How what fhir_screen said is taken back on a server: never deleted, never over a person's word, planned first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any, Final

from fhir_screen.core.decision import ClosedStudies, Decision, SubjectStanding, TrialIdentity, Verdict
from fhir_screen.core.truth import Truth
from fhir_screen.fhir.address import same_place
from fhir_screen.fhir.identity import (
    CRITERIA_EXTENSION,
    HOME,
    MACHINE_STATUSES,
    RETRACTED_EXTENSION,
    RETRACTED_STATUS,
    SITE_IDENTIFIER,
    STATUS_WRITTEN_EXTENSION,
    extension_value,
    is_managed,
    result_identity,
    retraction_identity,
    subject_identity,
)
from fhir_screen.fhir.raw import Json
from fhir_screen.fhir.search import PATIENTS_PER_SEARCH, chunks
from fhir_screen.fhir.server import FhirServer, WriteFailed
from fhir_screen.fhir.standing import DuplicateIdentity, Ground, held, survey, tail, version
from fhir_screen.fhir.valuesets import NotWritable
from fhir_screen.fhir.writer import Entry, clean, provenance, transaction

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
    """One decision that is taken back, or why it is not; ``writes`` are resources as they will stand."""

    patient: str
    trial: str
    version: str
    verdict: str
    writes: tuple[Entry, ...] = ()
    kept: tuple[str, ...] = ()
    failed: str = ""


def retractions(server: FhirServer, which: Which, site: str, reason: str) -> Iterator[Retraction]:
    """What would be taken back, by patient; changes nothing. Raises SearchFailed where an answer is not whole."""
    named = sorted(_named(server, which, site), key=lambda one: (one.patient, one.trial.id))
    known = Ground()
    for chunk in chunks(named, PATIENTS_PER_SEARCH):
        ground = survey(server, chunk, site, ClosedStudies.OBSERVATION_ONLY, known)
        for name in chunk:
            yield _foreseen(_retraction(name, site, ground, reason, server.base))


def retract(
    server: FhirServer, planned: Iterable[Retraction], site: str, reason: str, now: datetime
) -> Iterator[Retraction]:
    """Writes what was planned, a transaction for each; what somebody changed in between fails and stays as it is."""
    for one in planned:
        if not one.writes:
            yield one
            continue
        try:
            server.transaction(transaction([*one.writes, _provenance(one, site, reason, now)]))
        except (WriteFailed, NotWritable) as error:
            yield replace(one, writes=(), failed=error.what)
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


def _foreseen(one: Retraction) -> Retraction:
    """A plan tells what could not be written: without a version nothing would protect a person's change."""
    if one.writes:
        try:
            transaction(one.writes)
        except NotWritable as error:
            return replace(one, writes=(), failed=error.what)
    return one


def _retraction(name: Decision, site: str, ground: Ground, reason: str, base: str) -> Retraction:
    patient, trial = name.patient.removeprefix("Patient/"), name.trial
    try:
        stands = held(name, site, ground)
    except DuplicateIdentity as error:
        return Retraction(patient, trial.id, trial.version, "?", failed=error.what)
    verdict, kept = stands.verdict or "?", stands.kept
    result = ground.get(result_identity(site, name).reference)
    subject = ground.get(subject_identity(site, name).reference)
    writes: list[Entry] = []
    if result is not None and not stands.standing.observation_human and result.get("status") != ERROR:
        writes.append(_instead_of(result, _taken_back(result, reason), base))
    ours = stands.standing.subject is SubjectStanding.OURS
    if subject is not None and ours and subject.get("status") in MACHINE_STATUSES:
        writes.append(_instead_of(subject, _closed(subject), base))
    return Retraction(patient, trial.id, trial.version, verdict, tuple(writes), kept)


def _taken_back(result: Json, reason: str) -> Json:
    """Marked with the reason, which a plan may not have yet."""
    marked = [{"url": RETRACTED_EXTENSION, "valueString": clean(reason)}] if reason else []
    others = [one for one in result.get("extension") or () if one.get("url") != RETRACTED_EXTENSION]
    return {**result, "status": ERROR, "extension": [*others, *marked]}


def _closed(subject: Json) -> Json:
    """R4 has no entered-in-error here. `not-registered` claims nothing about the patient; `ineligible` would."""
    written = {"url": STATUS_WRITTEN_EXTENSION, "valueString": RETRACTED_STATUS}
    return {**subject, "status": RETRACTED_STATUS, "extension": [written]}


def _instead_of(stands: Json, taken_back: Json, base: str) -> Entry:
    """Put over exactly the version that was looked at; version and time of what will stand are the server's."""
    meta = {key: value for key, value in stands["meta"].items() if key not in {"versionId", "lastUpdated"}}
    return Entry(_with_local_references({**taken_back, "meta": meta}, base), stands=True, version=version(stands))


def _with_local_references(value: Any, base: str) -> Any:
    """As we wrote them: some servers show relative references as whole addresses, and take none of those back."""
    if isinstance(value, Mapping):
        return {
            name: _local(inner, base) if name == "reference" else _with_local_references(inner, base)
            for name, inner in value.items()
        }
    return [_with_local_references(one, base) for one in value] if isinstance(value, list) else value


def _local(reference: Any, base: str) -> Any:
    there, *name = str(reference).partition("/_history/")[0].rsplit("/", 2)
    return str(reference)[len(there) + 1 :] if len(name) == 2 and same_place(there, base) else reference


def _provenance(one: Retraction, site: str, reason: str, now: datetime) -> Entry:
    recorded = now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    targets = [entry.url for entry in one.writes]
    who = {"identifier": {"system": SITE_IDENTIFIER, "value": site}, "display": "fhir-screen retract"}
    told = provenance(retraction_identity(site, recorded, targets), targets, recorded, "NULLIFY", who)
    return Entry({**told, "reason": [{"text": clean(reason)}]})

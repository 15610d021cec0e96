"""What stands on a FHIR server, or in a Bundle of ours, for given decisions: whose it is, and in which version."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from fhir_screen.core.decision import (
    ClosedStudies,
    Decision,
    Standing,
    SubjectAction,
    SubjectStanding,
    TrialIdentity,
    action,
)
from fhir_screen.errors import SafetyStop
from fhir_screen.fhir.assemble import contained
from fhir_screen.fhir.datatypes import objects
from fhir_screen.fhir.identity import (
    DECISION_EXTENSION,
    RESULT_IDENTIFIER,
    RETRACTED_EXTENSION,
    STATUS_WRITTEN_EXTENSION,
    Identity,
    carries,
    extension_value,
    is_managed,
    patient_id,
    result_identity,
    study_identity,
    subject_identity,
)
from fhir_screen.fhir.raw import Found, Json
from fhir_screen.fhir.search import KEYS_PER_SEARCH, PATIENTS_PER_SEARCH, Params, chunks, escaped

_MACHINE_KEYS: Final = frozenset(
    {"resourceType", "id", "meta", "text", "identifier", "status", "study", "individual", "extension"}
)


class DuplicateIdentity(SafetyStop):
    """Two resources claim to be the same one of ours: which of them a person trusts, only people can tell."""


class Searchable(Protocol):
    """The part of a FHIR server that is needed here; a `FhirServer` has it."""

    def search(self, kind: str, params: Params, *, fresh: bool = False) -> Iterator[Found]: ...

    def deleted(self, reference: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Held:
    """What stands for one decision, with what a write needs to know about it and a person wants to be told."""

    standing: Standing = field(default_factory=Standing)
    result: Json | None = None
    """Our Observation as it stands."""
    result_version: str | None = None
    subject_version: str | None = None
    verdict: str | None = None
    kept: tuple[str, ...] = ()
    """Why something is left to people, in words without patient data."""


@dataclass(slots=True)
class Ground:
    """Resources that were read to see what stands, by "Type/id"; the newest reading of each, and what was deleted."""

    resources: dict[str, Json] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)

    @staticmethod
    def of(resources: Iterable[Json]) -> Ground:
        ground = Ground()
        ground.add(resources)
        return ground

    def add(self, resources: Iterable[Json]) -> None:
        for resource in resources:
            self.resources[f"{resource.get('resourceType')}/{resource.get('id')}"] = resource

    def forget(self, references: Iterable[str]) -> None:
        for reference in references:
            self.resources.pop(reference, None)

    def get(self, reference: str) -> Json | None:
        return self.resources.get(reference)

    def of_kind(self, kind: str) -> list[Json]:
        return [one for one in self.resources.values() if one.get("resourceType") == kind]


def held(decision: Decision, site: str, ground: Ground) -> Held:
    """What stands for this decision. Raises DuplicateIdentity where two resources claim to be ours."""
    result, result_reasons = _result(decision, site, ground)
    subject, whose, subject_reasons = _subject(decision, site, ground)
    if whose is SubjectStanding.OURS and _stays_retracted(result, decision):
        whose, subject_reasons = SubjectStanding.HUMAN, (_RETRACTED,)
    standing = Standing(
        digest=extension_value(result, DECISION_EXTENSION) if result is not None else None,
        observation_human=bool(result_reasons),
        subject=whose,
        subject_status=_text(subject, "status"),
    )
    return Held(
        standing,
        result=result,
        result_version=version(result),
        subject_version=version(subject),
        verdict=_verdict(result),
        kept=(*result_reasons, *subject_reasons),
    )


def survey(
    server: Searchable, decisions: Sequence[Decision], site: str, closed: ClosedStudies, known: Ground
) -> Ground:
    """Reads what stands for these decisions: two searches for each chunk of patients where all is settled.

    Two more look for ids that would be created: HAPI ignores `If-None-Match: *`, and a PUT would overwrite. A subject
    that would be made although our Observation stands is asked for once more: somebody may have deleted it.
    ``known`` keeps studies from one survey to the next. Raises SearchFailed when an answer is not whole.
    """
    ground = Ground()
    patients = list(dict.fromkeys(patient_id(decision.patient) for decision in decisions))
    for chunk in chunks(patients, PATIENTS_PER_SEARCH):
        ground.add(_found(server, "ResearchSubject", "patient", chunk))
    results = [result_identity(site, decision) for decision in decisions]
    for keys in chunks([result.key for result in results], KEYS_PER_SEARCH):
        ground.add(_found(server, "Observation", "identifier", [f"{RESULT_IDENTIFIER}|{key}" for key in keys]))
    fresh = [one for one in decisions if action(one, Standing(), closed).subject is SubjectAction.CREATE]
    subjects = [subject_identity(site, one) for one in fresh]
    read_missing(server, [identity.reference for identity in results + subjects], ground)
    read_missing(server, _studies_of(ground), known)
    ground.add(known.resources.values())
    ground.deleted.update(filter(server.deleted, _vanished(fresh, site, ground)))
    return ground


def _vanished(decisions: Iterable[Decision], site: str, ground: Ground) -> Iterator[str]:
    """Subjects that are not there although our Observation is: new candidates, and those that a person deleted.

    Where both are gone, nobody took away a candidate: it begins anew.
    """
    for one in decisions:
        reference = subject_identity(site, one).reference
        said = ground.get(result_identity(site, one).reference) is not None
        if said and ground.get(reference) is None and not _subjects_for(one, site, ground):
            yield reference


def read_missing(server: Searchable, references: Iterable[str], into: Ground) -> None:
    """Reads these resources by id into a Ground that does not have them yet."""
    missing = [one for one in dict.fromkeys(references) if into.get(one) is None]
    for chunk in chunks(missing, KEYS_PER_SEARCH):
        for kind in dict.fromkeys(reference.partition("/")[0] for reference in chunk):
            ids = [reference.partition("/")[2] for reference in chunk if reference.startswith(f"{kind}/")]
            into.add(_found(server, kind, "_id", ids))


def version(resource: Json | None) -> str | None:
    """`meta.versionId`, which If-Match needs."""
    meta = resource.get("meta") if resource is not None else None
    found = meta.get("versionId") if isinstance(meta, Mapping) else None
    return str(found) if found else None


def _result(decision: Decision, site: str, ground: Ground) -> tuple[Json | None, tuple[str, ...]]:
    """Our Observation, and what people did to it."""
    identity = result_identity(site, decision)
    _refuse_doubles(identity, ground)
    resource = ground.get(identity.reference)
    if resource is None:
        return None, ()
    subject = tail(resource.get("subject"))
    if subject != f"Patient/{patient_id(decision.patient)}":
        return resource, ("our Observation belongs to another patient now",)
    if not is_managed(resource):
        return resource, ("our mark was taken off the Observation",)
    if resource.get("status") != "preliminary" and not _is_retracted(resource):
        return resource, (f"the Observation is {resource.get('status')}",)
    if extension_value(resource, DECISION_EXTENSION) is None:
        return resource, ("the Observation was saved by somebody who dropped its decision",)
    return resource, ()


_RETRACTED: Final = "the decision was retracted, and is still the same"


def _is_retracted(result: Json) -> bool:
    """Whether `retract` took it back: another decision is said anew, the same one is not repeated."""
    return result.get("status") == "entered-in-error" and extension_value(result, RETRACTED_EXTENSION) is not None


def _stays_retracted(result: Json | None, decision: Decision) -> bool:
    if result is None or not _is_retracted(result):
        return False
    return extension_value(result, DECISION_EXTENSION) == decision.digest


def _subject(decision: Decision, site: str, ground: Ground) -> tuple[Json | None, SubjectStanding, tuple[str, ...]]:
    """Our ResearchSubject or somebody's for the same patient and study, whose it is, and why."""
    identity = subject_identity(site, decision)
    _refuse_doubles(identity, ground)
    own = ground.get(identity.reference)
    others = [one for one in _subjects_for(decision, site, ground) if one.get("id") != identity.id]
    if others:
        names = ", ".join(sorted(f"ResearchSubject/{one.get('id')}" for one in others))
        by = "another site of fhir-screen" if all(map(is_managed, others)) else "somebody else"
        return others[0] if own is None else own, SubjectStanding.HUMAN, (f"{names} was made by {by}",)
    if own is None and identity.reference in ground.deleted:
        return None, SubjectStanding.HUMAN, ("a person deleted the ResearchSubject",)
    if own is None:
        return None, SubjectStanding.NONE, ()
    touched = _touched(own, identity, decision, site)
    return (own, SubjectStanding.HUMAN, (touched,)) if touched else (own, SubjectStanding.OURS, ())


def _touched(subject: Json, identity: Identity, decision: Decision, site: str) -> str:
    """What is not as the machine left it, so that nobody needs to remember what it wrote; empty where all is."""
    written = extension_value(subject, STATUS_WRITTEN_EXTENSION)
    if written is None or not is_managed(subject):
        return "the ResearchSubject was saved by somebody who dropped our marks"
    if subject.get("status") != written:
        return f"a person changed the status from {written} to {subject.get('status')}"
    as_left = {
        "identifier": [identity.identifier] == list(subject.get("identifier") or ()),
        "study": tail(subject.get("study")) == study_identity(site, decision.trial).reference,
        "individual": tail(subject.get("individual")) == f"Patient/{patient_id(decision.patient)}",
        "extension": len(subject.get("extension") or ()) == 1,
    }
    changed = [name for name, same in as_left.items() if not same] + sorted(set(subject) - _MACHINE_KEYS)
    return f"a person changed {', '.join(changed)} of the ResearchSubject" if changed else ""


def _subjects_for(decision: Decision, site: str, ground: Ground) -> list[Json]:
    patient = f"Patient/{patient_id(decision.patient)}"
    return [
        subject
        for subject in ground.of_kind("ResearchSubject")
        if tail(subject.get("individual")) == patient and _is_about(subject, decision.trial, site, ground)
    ]


def _is_about(subject: Json, trial: TrialIdentity, site: str, ground: Ground) -> bool:
    """Whether the study is this trial: our ResearchStudy, or any with the same registry number."""
    link = subject.get("study")
    reference = tail(link)
    if reference == study_identity(site, trial).reference:
        return True
    if isinstance(link, Mapping) and _names(link.get("identifier"), trial):
        return True
    study = contained(subject, reference[1:]) if reference.startswith("#") else ground.get(reference)
    return study is not None and _names(study.get("identifier"), trial)


def _names(identifiers: object, trial: TrialIdentity) -> bool:
    """A registry number counts under any system (sites spell the registry's URL in many ways), others under theirs."""
    for one in objects(identifiers):
        value = str(one.get("value") or "").strip()
        if value.casefold() == trial.id.casefold() or (one.get("system"), value) in trial.identifiers:
            return True
    return False


def _refuse_doubles(identity: Identity, ground: Ground) -> None:
    others = [
        f"{identity.kind}/{one.get('id')}"
        for one in ground.of_kind(identity.kind)
        if carries(one, identity) and one.get("id") != identity.id
    ]
    if others:
        raise DuplicateIdentity(
            f"duplicate identity: {', '.join(sorted(others))} claims to be {identity.reference}",
            remedy=f"look at both, then delete one of them or take the identifier {identity.system} off it",
        )


def _verdict(result: Json | None) -> str | None:
    value = result.get("valueCodeableConcept") if result is not None else None
    codings = value.get("coding") if isinstance(value, Mapping) else None
    return next((str(one.get("code")) for one in objects(codings)), None)


def tail(reference: object) -> str:
    """ "Type/id" of a Reference, whatever base or version it was written with; empty where there is none."""
    text = reference.get("reference") if isinstance(reference, Mapping) else None
    if not isinstance(text, str) or text.startswith("#"):
        return text or ""
    return "/".join(text.partition("/_history/")[0].split("/")[-2:])


def _text(resource: Json | None, key: str) -> str | None:
    value = resource.get(key) if resource is not None else None
    return str(value) if value is not None else None


def _studies_of(ground: Ground) -> list[str]:
    return [
        reference
        for subject in ground.of_kind("ResearchSubject")
        if (reference := tail(subject.get("study"))).startswith("ResearchStudy/")
    ]


def _found(server: Searchable, kind: str, parameter: str, values: Sequence[str]) -> list[Json]:
    """Matches of the right type; each is held against id or patient again by whoever uses it."""
    params = [(parameter, ",".join(_value(parameter, value) for value in values))]
    return [one.resource for one in server.search(kind, params, fresh=True) if one.resource["resourceType"] == kind]


def _value(parameter: str, value: str) -> str:
    system, bar, code = value.rpartition("|")
    return f"{escaped(system)}{bar}{escaped(code)}" if parameter == "identifier" else escaped(value)

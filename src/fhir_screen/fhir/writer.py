"""How decisions become FHIR R4: the resources of one patient's transaction, each identity once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from fhir_screen.core.answers import Answer, Evidence, merged
from fhir_screen.core.decision import (
    Action,
    CriterionResult,
    Decision,
    Effect,
    ObservationAction,
    Role,
    SubjectAction,
    TrialIdentity,
)
from fhir_screen.core.truth import Reason, Truth
from fhir_screen.fhir.identity import (
    CONTENT_WRITTEN_EXTENSION,
    CRITERIA_EXTENSION,
    DECISION_EXTENSION,
    HOME,
    MACHINE_STATUSES,
    MANAGED,
    STATUS_WRITTEN_EXTENSION,
    STUDY_EXTENSION,
    TAG_SYSTEM,
    VERSION_IDENTIFIER,
    Identity,
    device_identity,
    extension_value,
    patient_id,
    provenance_identity,
    result_identity,
    study_identity,
    subject_identity,
)
from fhir_screen.fhir.raw import Json
from fhir_screen.fhir.standing import Ground, Held, version
from fhir_screen.fhir.valuesets import DERIVABLE, RESEARCH_STUDY_STATUS, NotWritable, check, is_literal

if TYPE_CHECKING:
    from fhir.resources.R4B.bundle import Bundle

NCIT: Final = "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl"
_ELIGIBILITY_CRITERIA: Final = "C16112"
_CRITERION_CODE: Final = {Role.INCLUSION: "C25532", Role.EXCLUSION: "C25370"}
_TERMINOLOGY: Final = "http://terminology.hl7.org/CodeSystem"

_ABSENT_BECAUSE: Final = {
    Reason.INCOMPLETE_FETCH: "error",
    Reason.MASKED: "masked",
    Reason.UNIT_SUSPECT: "unsupported",
    Reason.UNIT_UNMAPPABLE: "unsupported",
    Reason.POLICY: "not-performed",
    Reason.PROXY: "not-performed",
    Reason.MANUAL: "not-performed",
}
"""Codes of data-absent-reason; every other reason is `unknown`: looked for, and not known."""

_REGISTRY_STATUS: Final = {
    "not-yet-recruiting": "approved",
    "recruiting": "active",
    "enrolling-by-invitation": "active",
    "active-not-recruiting": "closed-to-accrual",
    "suspended": "temporarily-closed-to-accrual",
    "terminated": "administratively-completed",
    "completed": "completed",
    "withdrawn": "withdrawn",
}
"""ClinicalTrials.gov's words for a study's state as codes of research-study-status; these are taken as they are."""

_ORDER: Final = ("Device", "ResearchStudy", "ResearchSubject", "Observation", "Provenance")
_NAMED_AT_MOST: Final = 5


class EvidenceLinks(StrEnum):
    """Whether the server that is written to holds the evidence, so that references to it lead somewhere."""

    LITERAL = "literal"
    NAMED = "named"
    """It was read elsewhere: references would be refused (HAPI-1094), so each source is only named."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Who writes and when: the site's id, the version of the tool, and the moment up to which the data reach.

    ``recorded_at`` needs a time zone; it is written only with a decision that is new or has changed.
    """

    site: str
    tool: str
    recorded_at: datetime
    links: EvidenceLinks = EvidenceLinks.LITERAL

    @property
    def recorded(self) -> str:
        if self.recorded_at.tzinfo is None:
            raise ValueError("recorded_at needs a time zone")
        return self.recorded_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    @property
    def device(self) -> Identity:
        return device_identity(self.site, self.tool)


@dataclass(frozen=True, slots=True)
class Part:
    """One trial of a patient: what was decided, what stands, and what may therefore be written."""

    decision: Decision
    held: Held
    action: Action


@dataclass(frozen=True, slots=True)
class Entry:
    """One resource to be put under its own id, and whether it replaces one that ``stands``, in which version."""

    resource: Json
    stands: bool = False
    version: str | None = None

    @property
    def url(self) -> str:
        return f"{self.resource['resourceType']}/{self.resource['id']}"

    @property
    def is_shared(self) -> bool:
        """Whether other patients' transactions may hold it too."""
        return self.resource["resourceType"] in {"Device", "ResearchStudy"}


def entries(parts: Iterable[Part], shared: Ground, signature: Signature) -> tuple[Entry, ...]:
    """The resources that one patient's decisions put, in the order in which they refer to each other.

    ``shared`` holds studies and devices that stand already. Empty where nothing is to be written.
    """
    found: dict[str, Entry] = {}
    for part in parts:
        if part.action.writes:
            found |= {entry.url: entry for entry in _entries_of(part, shared, signature)}
    return tuple(sorted(found.values(), key=_entry_order))


def transaction(parts: Sequence[Entry]) -> dict[str, Any]:
    """A transaction for a server: creates carry If-None-Match, changes carry If-Match.

    Raises NotWritable where something stands without a version: nothing would protect a person's change.
    """
    if any(one.stands and one.version is None for one in parts):
        raise NotWritable(
            "what stands on the server has no version, so a person's change could be written over",
            remedy="a server with versioning, or --write-to a folder",
        )
    return _bundle([_bundled(one, _request(one)) for one in parts])


def portable(resources: Iterable[Json]) -> dict[str, Any]:
    """A transaction for a server on which nothing of ours stands; it fails there rather than overwrite a person.

    What several patients share is put without a condition: the second patient's Bundle finds it there, the same.
    """
    made = []
    for entry in sorted(map(Entry, resources), key=_entry_order):
        made.append(_bundled(entry, {"method": "PUT", "url": entry.url} if entry.is_shared else _request(entry)))
    return _bundle(made)


def shared_identities(decisions: Iterable[Decision], signature: Signature) -> list[str]:
    """The references of what decisions share: their studies, and the device that writes."""
    studies = [study_identity(signature.site, decision.trial).reference for decision in decisions]
    return [signature.device.reference, *dict.fromkeys(studies)]


def summary(decision: Decision) -> str:
    """The decision in one line, as a note for whoever reads the Observation."""
    blocking = [c.id for c in decision.criteria if c.effect is Effect.BLOCKS]
    asking = [c.id for c in decision.criteria if c.open_question and c.effect is not Effect.BLOCKS]
    undetermined = sum(c.effect is Effect.UNDETERMINED for c in decision.criteria)
    parts = [f"{len(blocking)} of {len(decision.criteria)} criteria block{_listed(blocking)}"]
    if decision.blocked_by:
        parts.append(f"blocked by: {decision.blocked_by}")
    parts.append(f"{undetermined} undetermined")
    if asking:
        parts.append(f"to be looked at first{_listed(asking)}")
    return f"{decision.verdict}: {'; '.join(parts)}."


def _entries_of(part: Part, shared: Ground, signature: Signature) -> Iterator[Entry]:
    decision, held, action = part.decision, part.held, part.action
    if shared.get(signature.device.reference) is None:
        yield Entry(_device(signature))
    yield from _study_entry(decision.trial, shared, signature)
    targets = []
    if action.subject in {SubjectAction.CREATE, SubjectAction.UPDATE}:
        subject = _subject(decision, action.subject_status or "", signature)
        targets.append(Entry(subject, action.subject is SubjectAction.UPDATE, held.subject_version))
    if action.observation in {ObservationAction.CREATE, ObservationAction.UPDATE}:
        result = _observation(decision, signature)
        targets.append(Entry(result, action.observation is ObservationAction.UPDATE, held.result_version))
    yield from targets
    activity = "UPDATE" if any(target.stands for target in targets) else "CREATE"
    yield Entry(_provenance(decision, [target.url for target in targets], activity, signature))


def _study_entry(trial: TrialIdentity, shared: Ground, signature: Signature) -> Iterator[Entry]:
    """Our ResearchStudy where none stands, or where it is as we left it and we say otherwise now."""
    wanted = _study(trial, signature)
    stands = shared.get(study_identity(signature.site, trial).reference)
    if stands is None:
        yield Entry(wanted)
        return
    written = extension_value(stands, CONTENT_WRITTEN_EXTENSION)
    as_left = written == _content_hash(stands)
    if as_left and written != extension_value(wanted, CONTENT_WRITTEN_EXTENSION):
        yield Entry(wanted, stands=True, version=version(stands))


def _study(trial: TrialIdentity, signature: Signature) -> dict[str, Any]:
    identity = study_identity(signature.site, trial)
    content = _resource(identity) | {
        "identifier": [
            identity.identifier,
            *({"system": system, "value": value} for system, value in trial.identifiers),
        ],
        "title": clean(trial.title) or trial.id,
        "status": _study_status(trial),
        "relatedArtifact": [{"type": "documentation", "display": "criteria set", "url": _criteria_url(trial)}],
    }
    return content | {"extension": [_extension(CONTENT_WRITTEN_EXTENSION, _content_hash(content))]}


def _study_status(trial: TrialIdentity) -> str:
    word = trial.status.strip().lower().replace("_", "-").replace(",", "").replace(" ", "-")
    status = _REGISTRY_STATUS.get(word, word)
    if status not in RESEARCH_STUDY_STATUS:
        raise NotWritable(
            f"'{trial.status}' is no status of a study",
            where=f"trial {trial.id}",
            remedy=f"one of {', '.join(sorted(RESEARCH_STUDY_STATUS | set(_REGISTRY_STATUS)))}",
        )
    return status


def _content_hash(study: Json) -> str:
    """Of what a person would see: without meta, narrative and our own extension."""
    left_out = {"meta", "text", "extension"}
    others = [one for one in study.get("extension", ()) if one.get("url") != CONTENT_WRITTEN_EXTENSION]
    content = {key: value for key, value in study.items() if key not in left_out} | {"extension": others}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return "sha256-" + hashlib.sha256(text.encode()).hexdigest()


def _device(signature: Signature) -> dict[str, Any]:
    return _resource(signature.device) | {
        "identifier": [signature.device.identifier],
        "status": "active",
        "deviceName": [{"name": "fhir-screen", "type": "model-name"}],
        "type": {"text": "Trial pre-screening software"},
        "version": [{"value": clean(signature.tool)}],
    }


def _subject(decision: Decision, status: str, signature: Signature) -> dict[str, Any]:
    if status not in MACHINE_STATUSES:
        raise NotWritable(
            f"'{status}' is a status that only people give",
            where=f"trial {decision.trial.id}",
            remedy="this is a defect of fhir-screen: report it, with this line",
        )
    identity = subject_identity(signature.site, decision)
    return _resource(identity) | {
        "extension": [_extension(STATUS_WRITTEN_EXTENSION, status)],
        "identifier": [identity.identifier],
        "status": status,
        "study": {"reference": study_identity(signature.site, decision.trial).reference},
        "individual": {"reference": f"Patient/{patient_id(decision.patient)}"},
    }


def _observation(decision: Decision, signature: Signature) -> dict[str, Any]:
    identity = result_identity(signature.site, decision)
    study = study_identity(signature.site, decision.trial)
    content = _resource(identity) | {
        "extension": [
            {"url": STUDY_EXTENSION, "valueReference": {"reference": study.reference}},
            _extension(CRITERIA_EXTENSION, f"{decision.trial.id}|{decision.trial.version}"),
            _extension(DECISION_EXTENSION, decision.digest),
        ],
        "identifier": [identity.identifier],
        "status": "preliminary",
        "category": [{"coding": [_coding(f"{HOME}/category", "research-screening")]}],
        "code": {
            "coding": [_coding(NCIT, _ELIGIBILITY_CRITERIA), _coding(f"{HOME}/code", "screening-result")],
            "text": "Trial pre-screening (software, not reviewed)",
        },
        "subject": {"reference": f"Patient/{patient_id(decision.patient)}"},
        "effectiveDateTime": signature.recorded,
        "issued": signature.recorded,
        "valueCodeableConcept": {"coding": [_coding(f"{HOME}/outcome", decision.verdict)]},
        "note": [{"text": summary(decision)}],
        "device": {"reference": signature.device.reference},
    }
    derived = _derived_from(decision, signature)
    components = [component(decision.trial, criterion) for criterion in decision.criteria]
    return content | _where_any("derivedFrom", derived) | _where_any("component", components)


def component(trial: TrialIdentity, criterion: CriterionResult) -> dict[str, Any]:
    """One criterion of the Observation: its truth or why there is none, its effect, and why in words."""
    because = clean(criterion.answer.because)
    code = {
        "coding": [
            _coding(f"{HOME}/criterion/{trial.id}", criterion.id),
            _coding(NCIT, _CRITERION_CODE[criterion.role]),
        ],
        "text": clean(criterion.text) or criterion.id,
    }
    interpretation = {"coding": [_coding(f"{HOME}/effect", criterion.effect)]}
    truth = criterion.answer.truth
    if truth is Truth.TRUE or truth is Truth.FALSE:
        explained = interpretation | _where_any("text", because)
        return {"code": code, "valueBoolean": truth is Truth.TRUE, "interpretation": [explained]}
    absent = {"coding": [_coding(f"{_TERMINOLOGY}/data-absent-reason", _absent(criterion.answer))]}
    explained = absent | _where_any("text", because)
    return {"code": code, "dataAbsentReason": explained, "interpretation": [interpretation]}


def _absent(answer: Answer) -> str:
    if answer.truth is None:
        return "not-applicable"
    return "unknown" if answer.reason is None else _ABSENT_BECAUSE.get(answer.reason, "unknown")


def _derived_from(decision: Decision, signature: Signature) -> list[dict[str, Any]]:
    if signature.links is EvidenceLinks.NAMED:
        return []
    sources = _sources(decision)
    literal = [one for one in sources if is_literal(one) and one.partition("/")[0] in DERIVABLE]
    return [{"reference": one} for one in literal]


def _provenance(decision: Decision, targets: Sequence[str], activity: str, signature: Signature) -> dict[str, Any]:
    identity = provenance_identity(signature.site, decision, signature.recorded)
    who = {"reference": signature.device.reference}
    content = provenance(identity, targets, signature.recorded, activity, who)
    sources = [{"role": "source", "what": _source(source, signature)} for source in _sources(decision)]
    return content | {"policy": [_criteria_url(decision.trial)]} | _where_any("entity", sources)


def provenance(identity: Identity, targets: Sequence[str], recorded: str, activity: str, who: Json) -> dict[str, Any]:
    """What every Provenance of ours says: what was done to which resources, when, and by whom."""
    return _resource(identity) | {
        "target": [{"reference": target} for target in targets],
        "recorded": recorded,
        "activity": {"coding": [_coding(f"{_TERMINOLOGY}/v3-DataOperation", activity)]},
        "agent": [
            {
                "type": {"coding": [_coding(f"{_TERMINOLOGY}/provenance-participant-type", "assembler")]},
                "who": who,
            }
        ],
    }


def _source(source: str, signature: Signature) -> dict[str, Any]:
    """A reference to one version of a resource; the identifier keeps the version where a server strips it."""
    named = {"identifier": {"system": VERSION_IDENTIFIER, "value": clean(source)}}
    literal = signature.links is EvidenceLinks.LITERAL and is_literal(source)
    return {"reference": source} | named if literal else named


def _sources(decision: Decision) -> list[str]:
    answers = [atom.answer for criterion in decision.criteria for atom in criterion.atoms]
    answers += [criterion.answer for criterion in decision.criteria]
    return sorted({_versioned(evidence) for evidence in merged(answers) if evidence.reference})


def _versioned(evidence: Evidence) -> str:
    return f"{evidence.reference}/_history/{evidence.version}" if evidence.version else evidence.reference


def _resource(identity: Identity) -> dict[str, Any]:
    tag = {"system": TAG_SYSTEM, "code": MANAGED}
    return {"resourceType": identity.kind, "id": identity.id, "meta": {"tag": [tag]}}


def _criteria_url(trial: TrialIdentity) -> str:
    return f"{HOME}/criteria/{trial.id}|{trial.version}"


def _coding(system: str, code: str) -> dict[str, str]:
    return {"system": system, "code": str(code)}


def _extension(url: str, value: str) -> dict[str, str]:
    return {"url": url, "valueString": value}


def _where_any(name: str, value: object) -> dict[str, Any]:
    """FHIR has no empty elements: what is empty is left out."""
    return {name: value} if value else {}


def clean(text: str) -> str:
    """Without the control characters that FHIR strings must not have; words come from trial files and records."""
    return "".join(map(_allowed, text)).strip()


def _allowed(sign: str) -> str:
    if sign.isprintable() or sign in "\t\n\r":
        return sign
    return " " if sign.isspace() else ""


def _listed(ids: Sequence[str]) -> str:
    if not ids:
        return ""
    more = f" and {len(ids) - _NAMED_AT_MOST} more" if len(ids) > _NAMED_AT_MOST else ""
    return f" ({', '.join(ids[:_NAMED_AT_MOST])}{more})"


def _entry_order(entry: Entry) -> tuple[int, str]:
    return _ORDER.index(entry.resource["resourceType"]), entry.url


def _bundled(entry: Entry, request: Mapping[str, str]) -> dict[str, Any]:
    """With a fullUrl, without which a validator takes no relative reference; servers go by the request's url."""
    return {"fullUrl": f"{HOME}/fhir/{entry.url}", "resource": entry.resource, "request": request}


def _request(entry: Entry) -> dict[str, str]:
    condition = {"ifMatch": f'W/"{entry.version}"'} if entry.stands else {"ifNoneMatch": "*"}
    return {"method": "PUT", "url": entry.url} | condition


def _bundle(content: list[dict[str, Any]]) -> dict[str, Any]:
    from pydantic import ValidationError

    try:
        model = _bundle_model().model_validate({"resourceType": "Bundle", "type": "transaction", "entry": content})
    except ValidationError as error:
        places = sorted({".".join(str(step) for step in one["loc"]) for one in error.errors(include_input=False)})
        raise NotWritable(
            f"the transaction would not be valid R4: {', '.join(places)}",
            remedy="look at the texts of this trial; where they are well, report this line, which holds no patient data",
        ) from None
    made: dict[str, Any] = model.model_dump(mode="json")
    check(made)
    return made


@cache
def _bundle_model() -> type[Bundle]:
    """Loaded when the first Bundle is made: its import alone takes half a second, which `--help` must not."""
    from fhir.resources.R4B.bundle import Bundle

    return Bundle

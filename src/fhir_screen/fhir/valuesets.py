"""Which codes, references and forms FHIR R4 allows in what we write; `fhir.resources` lets any code pass."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from fhir_screen.errors import FhirScreenError
from fhir_screen.fhir.identity import is_managed
from fhir_screen.fhir.raw import Json


def _codes(text: str) -> frozenset[str]:
    return frozenset(text.split())


OBSERVATION_STATUS: Final = _codes("registered preliminary final amended corrected cancelled entered-in-error unknown")
RESEARCH_SUBJECT_STATUS: Final = _codes(
    "candidate eligible follow-up ineligible not-registered off-study on-study on-study-intervention"
    " on-study-observation pending-on-study potential-candidate screening withdrawn"
)
RESEARCH_STUDY_STATUS: Final = _codes(
    "active administratively-completed approved closed-to-accrual closed-to-accrual-and-intervention completed"
    " disapproved in-review temporarily-closed-to-accrual temporarily-closed-to-accrual-and-intervention"
    " withdrawn"
)
DEVICE_STATUS: Final = _codes("active inactive entered-in-error unknown")
DEVICE_NAME_TYPE: Final = _codes(
    "udi-label-name user-friendly-name patient-reported-name manufacturer-name model-name other"
)
ENTITY_ROLE: Final = _codes("derivation revision quotation source removal")
ARTIFACT_TYPE: Final = _codes(
    "documentation justification citation predecessor successor derived-from depends-on composed-of"
)
BUNDLE_TYPE: Final = _codes(
    "document message transaction transaction-response batch batch-response history searchset collection"
)
HTTP_VERB: Final = _codes("GET HEAD POST PUT DELETE PATCH")
DATA_ABSENT_REASON: Final = _codes(
    "unknown asked-unknown temp-unknown not-asked asked-declined masked not-applicable unsupported as-text error"
    " not-a-number negative-infinity positive-infinity not-performed not-permitted"
)

_REQUIRED: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    ("Observation", "status"): OBSERVATION_STATUS,
    ("ResearchSubject", "status"): RESEARCH_SUBJECT_STATUS,
    ("ResearchStudy", "status"): RESEARCH_STUDY_STATUS,
    ("ResearchStudy", "relatedArtifact.type"): ARTIFACT_TYPE,
    ("Device", "status"): DEVICE_STATUS,
    ("Device", "deviceName.type"): DEVICE_NAME_TYPE,
    ("Provenance", "entity.role"): ENTITY_ROLE,
    ("Observation", "component.dataAbsentReason.coding.code"): DATA_ABSENT_REASON,
}
"""Required bindings, and the one preferred binding that every reader of an Observation relies on."""

_MANDATORY: Final[Mapping[str, frozenset[str]]] = {
    "Observation": frozenset({"status", "code", "subject", "effectiveDateTime", "issued"}),
    "ResearchSubject": frozenset({"status", "study", "individual", "identifier"}),
    "ResearchStudy": frozenset({"status", "title"}),
    "Device": frozenset({"status"}),
    "Provenance": frozenset({"target", "recorded", "agent"}),
}

_TARGETS: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    ("ResearchSubject", "study"): frozenset({"ResearchStudy"}),
    ("ResearchSubject", "individual"): frozenset({"Patient"}),
    ("Observation", "subject"): frozenset({"Patient"}),
    ("Observation", "device"): frozenset({"Device"}),
    ("Observation", "extension.valueReference"): frozenset({"ResearchStudy"}),
    ("Observation", "derivedFrom"): _codes(
        "DocumentReference ImagingStudy Media QuestionnaireResponse Observation MolecularSequence"
    ),
    ("Provenance", "target"): frozenset({"Observation", "ResearchSubject"}),
    ("Provenance", "agent.who"): frozenset({"Device"}),
}
DERIVABLE: Final = _TARGETS["Observation", "derivedFrom"]

_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}\Z")
_REFERENCE: Final = re.compile(r"([A-Z][A-Za-z]{1,63})/[A-Za-z0-9\-.]{1,64}(/_history/[A-Za-z0-9\-.]{1,64})?\Z")
_ETAG: Final = re.compile(r'W/"[^"\s]{1,128}"\Z')
_STRING: Final = re.compile(r"[\t\n\r\x20-\ud7ff\ue000-\U0010ffff]+\Z")
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)\Z")
_INSTANTS: Final = frozenset(
    {("Observation", "effectiveDateTime"), ("Observation", "issued"), ("Provenance", "recorded")}
)


class NotWritable(FhirScreenError):
    """What would be written is no valid R4, or not ours to write; nothing of it is sent."""

    exit_code = 1


def is_literal(reference: str) -> bool:
    """Whether it has the form "Type/id", perhaps with a version, which any server can resolve against its base."""
    return _REFERENCE.match(reference) is not None


def check(bundle: Json) -> None:
    """Raises NotWritable for the first rule that the transaction breaks, naming the place and never a value."""
    for complaint in complaints(bundle):
        raise NotWritable(
            f"the transaction would not be valid: {complaint}", remedy="look at the mapping of this trial"
        )


def complaints(bundle: Json) -> Iterator[str]:
    """Everything that is wrong with a transaction of ours."""
    if bundle.get("type") not in BUNDLE_TYPE:
        yield "Bundle.type is no code of bundle-type"
    if bundle.get("type") != "transaction":
        yield "Bundle.type is not transaction"
    entries = bundle.get("entry") or []
    if not entries:
        yield "the Bundle is empty"
    urls = [entry.get("request", {}).get("url") for entry in entries]
    if len(set(urls)) != len(urls):
        yield "an identity occurs twice in the Bundle"
    for number, entry in enumerate(entries):
        for complaint in (*_of_request(entry), *_of_resource(entry["resource"])):
            yield f"entry[{number}] {entry['resource'].get('resourceType')}: {complaint}"


def _of_request(entry: Json) -> Iterator[str]:
    resource, request = entry["resource"], entry.get("request", {})
    if request.get("method") not in HTTP_VERB:
        yield "request.method is no HTTP verb"
    if request.get("method") != "PUT":
        yield "request.method is not PUT, so a second night would double it"
    if request.get("url") != f"{resource.get('resourceType')}/{resource.get('id')}":
        yield "request.url does not name the resource"
    if not str(entry.get("fullUrl")).endswith(f"/{request.get('url')}"):
        yield "fullUrl does not end in request.url"
    if "ifMatch" in request and not _ETAG.match(request["ifMatch"]):
        yield 'request.ifMatch is not of the form W/"version"'
    if request.get("ifNoneMatch", "*") != "*":
        yield "request.ifNoneMatch is not *"
    if "ifMatch" in request and "ifNoneMatch" in request:
        yield "request has both ifMatch and ifNoneMatch"


def _of_resource(resource: Json) -> Iterator[str]:
    kind = str(resource.get("resourceType"))
    if kind not in _MANDATORY:
        yield "is no type that we write"
        return
    own_id = str(resource.get("id") or "")
    if not _ID.match(own_id) or own_id.isdigit():
        yield "id is not 1 to 64 of A-Z a-z 0-9 - . with a letter (HAPI refuses numbers)"
    if not is_managed(resource):
        yield "the managed tag is missing"
    for name in sorted(_MANDATORY[kind] - set(resource)):
        yield f"{name} is missing"
    for path, value in _leaves(resource, ""):
        yield from _of_leaf(kind, path, value)
    if kind == "Observation":
        yield from _of_components(resource)


def _of_leaf(kind: str, path: str, value: Any) -> Iterator[str]:
    if value is None or value == "" or value in ([], {}):
        yield f"{path} is empty"
        return
    if isinstance(value, str) and not (_STRING.match(value) and value.strip()):
        yield f"{path} holds blanks or control characters only, or a character that FHIR forbids"
    allowed = _REQUIRED.get((kind, path))
    if allowed is not None and value not in allowed:
        yield f"{path} is not one of {', '.join(sorted(allowed))}"
    if (kind, path) in _INSTANTS and not _INSTANT.match(str(value)):
        yield f"{path} is no instant"
    if path.endswith(".reference") or path == "reference":
        yield from _of_reference(kind, path.removesuffix(".reference"), str(value))


def _of_reference(kind: str, path: str, reference: str) -> Iterator[str]:
    parts = _REFERENCE.match(reference)
    if parts is None:
        yield f"{path} is no relative reference (servers refuse absolute ones, even to themselves)"
    elif parts[1] not in _TARGETS.get((kind, path), {parts[1]}):
        yield f"{path} must not point to {parts[1]}"


def _of_components(observation: Json) -> Iterator[str]:
    for number, component in enumerate(observation.get("component", ())):
        has_value = any(name.startswith("value") for name in component)
        if has_value == ("dataAbsentReason" in component):
            yield f"component[{number}] needs either a value or a dataAbsentReason (obs-6)"


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every primitive and every empty container with its path, array indices left out."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _leaves(inner, path)
    else:
        yield path, value

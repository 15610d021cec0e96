"""How FHIR lies in files: Bundles, single resources and NDJSON, plain or gzipped, and what cannot be read of them."""

from __future__ import annotations

import gzip
import io
import json
import math
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import orjson

from fhir_screen.errors import NoInputError
from fhir_screen.fhir.assemble import SUBJECT_ELEMENTS
from fhir_screen.fhir.raw import Damage, Deletion, Found, Haul, Json

ENDINGS: Final = (".json", ".ndjson", ".jsonl", ".json.gz", ".ndjson.gz", ".jsonl.gz")
"""How the names end of what is read in a folder."""

_R4_R4B_R5: Final = """
    Account ActivityDefinition ActorDefinition AdministrableProductDefinition AdverseEvent AllergyIntolerance
    Appointment AppointmentResponse ArtifactAssessment AuditEvent Basic Binary BiologicallyDerivedProduct
    BiologicallyDerivedProductDispense BodyStructure Bundle CapabilityStatement CarePlan CareTeam CatalogEntry
    ChargeItem ChargeItemDefinition Citation Claim ClaimResponse ClinicalImpression ClinicalUseDefinition CodeSystem
    Communication CommunicationRequest CompartmentDefinition Composition ConceptMap Condition ConditionDefinition
    Consent Contract Coverage CoverageEligibilityRequest CoverageEligibilityResponse DetectedIssue Device
    DeviceAssociation DeviceDefinition DeviceDispense DeviceMetric DeviceRequest DeviceUsage DeviceUseStatement
    DiagnosticReport DocumentManifest DocumentReference EffectEvidenceSynthesis Encounter EncounterHistory Endpoint
    EnrollmentRequest EnrollmentResponse EpisodeOfCare EventDefinition Evidence EvidenceReport EvidenceVariable
    ExampleScenario ExplanationOfBenefit FamilyMemberHistory Flag FormularyItem GenomicStudy Goal GraphDefinition
    Group GuidanceResponse HealthcareService ImagingSelection ImagingStudy Immunization ImmunizationEvaluation
    ImmunizationRecommendation ImplementationGuide Ingredient InsurancePlan InventoryItem InventoryReport Invoice
    Library Linkage List Location ManufacturedItemDefinition Measure MeasureReport Media Medication
    MedicationAdministration MedicationDispense MedicationKnowledge MedicationRequest MedicationStatement
    MedicinalProduct MedicinalProductAuthorization MedicinalProductContraindication MedicinalProductDefinition
    MedicinalProductIndication MedicinalProductIngredient MedicinalProductInteraction MedicinalProductManufactured
    MedicinalProductPackaged MedicinalProductPharmaceutical MedicinalProductUndesirableEffect MessageDefinition
    MessageHeader MolecularSequence NamingSystem NutritionIntake NutritionOrder NutritionProduct Observation
    ObservationDefinition OperationDefinition OperationOutcome Organization OrganizationAffiliation
    PackagedProductDefinition Parameters Patient PaymentNotice PaymentReconciliation Permission Person
    PlanDefinition Practitioner PractitionerRole Procedure Provenance Questionnaire QuestionnaireResponse
    RegulatedAuthorization RelatedPerson RequestGroup RequestOrchestration Requirements ResearchDefinition
    ResearchElementDefinition ResearchStudy ResearchSubject RiskAssessment RiskEvidenceSynthesis Schedule
    SearchParameter ServiceRequest Slot Specimen SpecimenDefinition StructureDefinition StructureMap Subscription
    SubscriptionStatus SubscriptionTopic Substance SubstanceDefinition SubstanceNucleicAcid SubstancePolymer
    SubstanceProtein SubstanceReferenceInformation SubstanceSourceMaterial SubstanceSpecification SupplyDelivery
    SupplyRequest Task TerminologyCapabilities TestPlan TestReport TestScript Transport ValueSet VerificationResult
    VisionPrescription
"""
TYPES: Final = frozenset(_R4_R4B_R5.split())
"""The resource types of R4, R4B and R5: a misspelt one is a resource that nobody would ever ask for."""

WORDS_TOO: Final = frozenset(
    {"Basic", "Bundle", "Contract", "Group", "Library", "Linkage", "List", "Measure", "Media", "Patient", "Person"}
)
"""Types whose name may begin any English sentence: a text that begins with one names no type."""

HARMLESS: Final = frozenset({"information", "success"})
"""Severities of an OperationOutcome that leave the answer whole; everything else says that something is missing."""

NESTING: Final = 50
"""Bundles inside Bundles, how deep; no honest source comes near."""

_MAGIC: Final = b"\x1f\x8b"
_BOM: Final = b"\xef\xbb\xbf"
_CHUNK: Final = 1 << 20

_TYPED = re.compile(r"(?:(https?://[^?#]+?)/)?([A-Z][A-Za-z]+)/([^/?#|\s]+)(?:/_history/[^/?#\s]+)?\Z")
_ETAG = re.compile(r'(?:W/)?"?([^"]+)"?\Z')
_OK = re.compile(r"\s*2\d\d\b")
_EXPRESSION = re.compile(r"\s*/?(?:f:)?([A-Z][A-Za-z]+)\b([./\[]?)")
_CODE = re.compile(r"[a-z][a-z-]{1,39}\Z")

_BEGINNING = re.compile(
    r'\s*\{\s*"resourceType"\s*:\s*"([A-Z][A-Za-z]+)"\s*(?:,\s*"id"\s*:\s*"([A-Za-z0-9\-.]{1,64})"\s*,)?'
)
_SUBJECT = re.compile(
    r'"(?:subject|patient|individual)"\s*:\s*\{\s*"reference"\s*:\s*"Patient/([A-Za-z0-9\-.]{1,64})(?:/_history/[^"/]+)?"'
)
_SUBJECT_KEY = re.compile(r'"(?:subject|patient|individual)"\s*:')
_ANY_PATIENT = re.compile(r"Patient/([A-Za-z0-9\-.]*)")


def read_files(source: Path) -> Haul:
    """Everything in a folder (searched recursively, hidden files left out) or in one file, in the order of names.

    What cannot be read is in ``damage`` and stops nothing else. Raises NoInputError where the source does not exist
    or holds not one readable FHIR resource.
    """
    reading = _Reading()
    try:
        is_folder = stat.S_ISDIR(source.stat().st_mode)
    except (OSError, ValueError) as error:
        raise NoInputError(_cause(error), where=str(source), remedy=_remedy_for(source)) from error
    if is_folder:
        for path, name in _in_folder(reading, source, "", set()):
            _read_file(reading, path, name)
    else:
        _read_file(reading, source, source.name)
    if not reading.readable:
        raise NoInputError(_nothing(reading), where=str(source), remedy=_REMEDY)
    reading.haul.damage += [damage for url, damage in reading.pages_missing if url not in reading.pages_here]
    return reading.haul


_REMEDY: Final = "give a folder or file with FHIR as JSON or NDJSON, plain or .gz, or the address of a FHIR server"


def _remedy_for(source: Path) -> str:
    """What is not there and looks like the name of a host lacks its scheme."""
    host = str(source).partition("/")[0]
    looks_like_host = host == "localhost" or re.fullmatch(r"[\w-]+(?:\.[\w-]+)*(?::\d+|\.[a-z]{2,})", host)
    return f"the address of a server begins with http:// or https://; else {_REMEDY}" if looks_like_host else _REMEDY


@dataclass(slots=True)
class _Reading:
    """What has come so far; a page that one Bundle misses may yet turn up as another file."""

    haul: Haul = field(default_factory=Haul)
    readable: int = 0
    pages_missing: list[tuple[str, Damage]] = field(default_factory=list)
    pages_here: set[str] = field(default_factory=set)

    def damaged(self, what: str, kind: str | None = None, patient: str | None = None) -> None:
        self.haul.damage.append(Damage(what, kind, patient))


def _nothing(reading: _Reading) -> str:
    lines = ["not one readable FHIR resource", *(damage.what for damage in reading.haul.damage[:3])]
    if len(reading.haul.damage) > 3:
        lines.append(f"and {len(reading.haul.damage) - 3} more")
    return "; ".join(lines)


def _cause(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    return (error.strerror if isinstance(error, OSError) else None) or "cannot be opened"


# Files


def _in_folder(reading: _Reading, folder: Path, inside: str, seen: set[tuple[int, int]]) -> Iterator[tuple[Path, str]]:
    """Files to read, each once: what links lead to a second time, or round in a circle, is passed over."""
    try:
        children = sorted(folder.iterdir(), key=lambda child: child.name)
        own = folder.stat()
    except OSError as error:
        reading.damaged(f"{inside or folder.name}: this folder cannot be read ({_cause(error)})")
        return
    seen.add((own.st_dev, own.st_ino))
    for child in children:
        if child.name.startswith("."):
            continue
        name = f"{inside}/{child.name}" if inside else child.name
        wanted = child.name.lower().endswith(ENDINGS)
        try:
            status = child.stat()
        except OSError as error:
            if wanted:
                reading.damaged(f"{name}: cannot be opened ({_cause(error)})")
            continue
        identity = (status.st_dev, status.st_ino)
        if identity in seen:
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from _in_folder(reading, child, name, seen)
        elif wanted and stat.S_ISREG(status.st_mode):
            seen.add(identity)
            yield child, name
        elif wanted:
            reading.damaged(f"{name}: is neither a file nor a folder")


def _read_file(reading: _Reading, path: Path, name: str) -> None:
    try:
        data = path.read_bytes()
    except OSError as error:
        reading.damaged(f"{name}: cannot be opened ({_cause(error)})")
        return
    cut = ""
    if data.startswith(_MAGIC):
        data, cut = _unzipped(data)
    try:
        data = _as_utf8(data)
    except UnicodeDecodeError:
        cut = cut or "is not written in what its byte order mark says"
    if cut:
        reading.damaged(f"{name}: {cut}")
        _read_whole_lines(reading, data, name)
    elif re.search(r"\.(ndjson|jsonl)(\.gz)?\Z", name, re.IGNORECASE):
        _read_lines(reading, data, name)
    else:
        _read_document(reading, data, name)


def _unzipped(data: bytes) -> tuple[bytes, str]:
    """What can be unpacked, and what is wrong with the rest; of one with a wrong checksum nothing can be believed."""
    unpacked = bytearray()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            while chunk := stream.read1(_CHUNK):
                unpacked += chunk
    except EOFError:
        return bytes(unpacked), "the gzip file is cut off"
    except (OSError, zlib.error):
        return b"", "the gzip file is damaged"
    return bytes(unpacked), ""


def _as_utf8(data: bytes) -> bytes:
    if data.startswith(_BOM):
        return data[len(_BOM) :]
    if data.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")):
        return data.decode(json.detect_encoding(data)).encode()
    return data


def _read_document(reading: _Reading, data: bytes, name: str) -> None:
    """One JSON document; but a file of lines that are one each is what it is, whatever its name says."""
    try:
        document, trouble = _parsed(data)
    except _NotJsonError as error:
        if any(_stands_alone(line) for line in data.split(b"\n")):
            _read_each_line(reading, data, name)
        else:
            _note_torn(reading, data, name, str(error))
        return
    _take_document(reading, document, name, trouble)


def _read_lines(reading: _Reading, data: bytes, name: str) -> None:
    """NDJSON; but a file that is one document over several lines is what it is, whatever its name says."""
    first = next((line for line in data.split(b"\n") if line.strip()), b"")
    try:
        document, trouble = _parsed(data) if first.strip() and not _stands_alone(first) else (None, "")
    except _NotJsonError:
        document = None
    if document is None:
        _read_each_line(reading, data, name)
    else:
        _take_document(reading, document, name, trouble)


def _read_whole_lines(reading: _Reading, data: bytes, name: str) -> None:
    """What is left of a file that broke off and is known to be damaged: lines that are resources by themselves."""
    whole = data[: data.rfind(b"\n") + 1]
    if any(_stands_alone(line) for line in whole.split(b"\n")):
        _read_each_line(reading, whole, name)


def _read_each_line(reading: _Reading, data: bytes, name: str) -> None:
    # Only \n ends a line: U+2028, U+0085 and their like may stand in any string.
    for number, ended in enumerate(data.split(b"\n"), 1):
        line = ended.strip(b" \t\r").removeprefix(_BOM)
        if not line:
            continue
        where = f"{name}, line {number}"
        try:
            document, trouble = _parsed(line)
        except _NotJsonError as error:
            _note_torn(reading, line, where, str(error))
            continue
        _take_document(reading, document, where, trouble)


def _stands_alone(line: bytes) -> bool:
    try:
        document, _ = _parsed(line)
    except _NotJsonError:
        return False
    return _type_of(document) is not None


# JSON


class _NotJsonError(Exception):
    """Why a text is no JSON document."""


_SPOILT: Final = object()
"""Stands where a number was that FHIR does not know: NaN, or one beyond all measure."""


def _parsed(text: bytes) -> tuple[Any, str]:
    """A document, and why strict JSON would not have it: then a resource in it may be spoilt, though not all need be.

    Raises _NotJsonError.
    """
    try:
        return orjson.loads(text), ""
    except orjson.JSONDecodeError as error:
        trouble = f"{error.msg}, at {error.lineno}:{error.colno}"
    try:
        document = json.loads(
            # Bytes that are no UTF-8 become surrogates, by which the one resource is known that holds them.
            text.decode(errors="surrogateescape"),
            parse_constant=lambda _: _SPOILT,
            parse_float=_number,
            parse_int=_number,
            strict=False,
        )
    except (ValueError, RecursionError) as error:
        raise _NotJsonError(trouble) from error
    return document, trouble


def _number(text: str) -> object:
    """As orjson reads it: integers of up to 64 bits as such, all else as a float."""
    if len(text) < 19 and text.lstrip("-").isdigit():
        return int(text)
    number = float(text)
    return number if math.isfinite(number) else _SPOILT


def _sound(resource: Json) -> bool:
    """Whether it can be written as JSON again: no number or sign that FHIR does not know, and no abyss of brackets."""
    try:
        orjson.dumps(resource)
    except TypeError:
        return False
    return True


def _note_torn(reading: _Reading, text: bytes, where: str, cause: str) -> None:
    """A text that is no JSON: its type and patient are told only where a single resource can have been meant."""
    words = text.decode(errors="replace")
    kind, patient = _meant(words)
    shown = "is cut off or damaged" if words.lstrip().startswith(("{", "[")) else "is not JSON"
    reading.damaged(f"{where}: {shown} ({cause})", kind, patient)


def _meant(text: str) -> tuple[str | None, str | None]:
    beginning = _BEGINNING.match(text)
    if beginning is None or text.count('"resourceType"') > 1 or len(_SUBJECT_KEY.findall(text)) > 1:
        return None, None
    kind, own_id = beginning.groups()
    if kind not in TYPES or kind in {"Bundle", "OperationOutcome", "Parameters"}:
        return None, None
    if kind == "Patient":
        return kind, own_id
    subject = _SUBJECT.search(text)
    named = set(_ANY_PATIENT.findall(text))
    return kind, subject[1] if subject and named == {subject[1]} else None


# Resources


def _take_document(reading: _Reading, document: object, where: str, trouble: str) -> None:
    if isinstance(document, dict) and "resourceType" in document:
        _take(reading, document, _Place(where, trouble))
        return
    shape = "JSON, but no FHIR: there is no resourceType" if isinstance(document, dict) else "JSON, but no object"
    reading.damaged(f"{where}: {shape}")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a resource stands: what is said of it, and what its Bundle says for it."""

    where: str
    trouble: str = ""
    scope: str = ""
    full_url: str = ""
    bundle: Json = field(default_factory=dict)
    depth: int = 0


def _type_of(resource: object) -> str | None:
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    return kind if isinstance(kind, str) and kind in TYPES else None


def _take(reading: _Reading, resource: object, place: _Place) -> None:
    kind = _type_of(resource)
    if not isinstance(resource, dict) or kind is None:
        reading.damaged(f"{place.where}: {_no_resource(resource)}")
        return
    if take := _WRAPPERS.get(kind):
        reading.readable += 1
        take(reading, resource, place)
        return
    if not _sound(resource):
        cause = f"cannot be read ({place.trouble or 'nested too deeply'})"
    elif not isinstance(resource.get("id", ""), str):
        cause = "its id is no text"
    else:
        reading.readable += 1
        reading.haul.found.append(Found(resource, place.full_url, "", place.scope or place.where))
        return
    reading.damaged(f"{place.where}: {cause}", kind, _whose(resource, place.bundle))


def _no_resource(resource: object) -> str:
    if not isinstance(resource, dict):
        return "the resource is no JSON object"
    kind = resource.get("resourceType")
    shown = kind if isinstance(kind, str) and re.fullmatch(r"[A-Za-z]{1,60}", kind) else "the resourceType"
    return f"{shown} is no type of FHIR resource" if "resourceType" in resource else "has no resourceType"


def _take_bundle(reading: _Reading, bundle: Json, place: _Place) -> None:
    entries = bundle.get("entry", [])
    if not isinstance(entries, list):
        reading.damaged(f"{place.where}: its entry is no list")
        return
    if place.depth > NESTING:
        reading.damaged(f"{place.where}: too many Bundles in one another")
        return
    for number, entry in enumerate(entries, 1):
        where = f"{place.where}, entry {number}"
        if isinstance(entry, dict):
            inner = _Place(where, place.trouble, place.where, _text(entry, "fullUrl"), bundle, place.depth + 1)
            _take_entry(reading, entry, inner)
        else:
            reading.damaged(f"{where}: is no JSON object")
    _note_pages(reading, bundle, place.where)


def _take_parameters(reading: _Reading, parameters: Json, place: _Place) -> None:
    """The resources that an operation gave or was given, each in a parameter or in a part of one."""
    if place.depth > NESTING:
        reading.damaged(f"{place.where}: too many Parameters in one another")
        return
    for number, one in enumerate((*_objects(parameters, "parameter"), *_objects(parameters, "part")), 1):
        inner = replace(place, where=f"{place.where}, parameter {number}", full_url="", depth=place.depth + 1)
        if "resource" in one:
            _take(reading, one["resource"], inner)
        _take_parameters(reading, {"part": one.get("part")}, inner)


def _take_entry(reading: _Reading, entry: Json, place: _Place) -> None:
    response = _object(entry, "response")
    if _object(entry, "request").get("method") == "DELETE":
        _take_deletion(reading, entry, place)
        return
    answered = _text(place.bundle, "type") == "batch-response"
    if answered and response and not _OK.match(_text(response, "status")):
        _note_left_out(reading, f"{place.where}: was refused ({_status(response)})", _named_by(entry), place.bundle)
        return
    if outcome := _object(response, "outcome"):
        _take_outcome(reading, outcome, place)
    if entry.get("resource") is not None:
        _take(reading, _stamped(entry["resource"], response), place)


def _stamped(resource: object, response: Json) -> object:
    """The resource with the version and time that only its entry tells (Bundle.entry.response)."""
    told = {"versionId": _version(response), "lastUpdated": _text(response, "lastModified")}
    meta = resource.get("meta", {}) if isinstance(resource, dict) else None
    if not isinstance(resource, dict) or not isinstance(meta, dict):
        return resource
    added = {name: text for name, text in told.items() if text and name not in meta}
    return {**resource, "meta": {**meta, **added}} if added else resource


def _version(response: Json) -> str:
    tag = _ETAG.match(_text(response, "etag"))
    return tag[1] if tag else ""


def _take_deletion(reading: _Reading, entry: Json, place: _Place) -> None:
    url = _text(_object(entry, "request"), "url")
    stood = _TYPED.match(place.full_url)
    target = _TYPED.match(url) or stood
    if target is None:
        kind = url.partition("?")[0]
        what = f"{place.where}: what it deletes is not named by its id"
        reading.damaged(what, kind if kind in TYPES else None)
        return
    base = target[1] or (stood[1] if stood and stood.group(2, 3) == target.group(2, 3) else None)
    response = _object(entry, "response")
    reading.haul.deletions.append(
        Deletion(f"{target[2]}/{target[3]}", base or "", _version(response), _text(response, "lastModified"))
    )


def _whose(resource: Json, bundle: Json) -> str | None:
    """The id of the Patient whom a spoilt resource is about, if it says so beyond doubt."""
    if resource["resourceType"] == "Patient":
        return _text(resource, "id") or None
    literals = {_text(_object(resource, element), "reference") for element in SUBJECT_ELEMENTS if element in resource}
    if len(literals) != 1:
        return None
    literal = literals.pop()
    target = _TYPED.match(literal)
    if target and target[2] == "Patient" and not target[1]:
        return target[3]
    here = [_object(entry, "resource") for entry in _objects(bundle, "entry") if entry.get("fullUrl") == literal]
    patients = {_text(one, "id") for one in here if one.get("resourceType") == "Patient"}
    return (patients.pop() or None) if len(patients) == 1 else None


# What the source says was left out


def _take_outcome(reading: _Reading, outcome: Json, place: _Place) -> None:
    issues = outcome.get("issue", [])
    for issue in issues if isinstance(issues, list) else [{}]:
        told = issue if isinstance(issue, dict) else {}
        if _text(told, "severity") not in HARMLESS:
            what = f"{place.where}: the source says that something is missing ({_words_of(told)})"
            _note_left_out(reading, what, _named_in(told), place.bundle)


_WRAPPERS: Final[Mapping[str, Callable[[_Reading, Json, _Place], None]]] = {
    "Bundle": _take_bundle, "OperationOutcome": _take_outcome, "Parameters": _take_parameters,
}  # fmt: skip
"""What holds or says something about resources, and is none of a patient's own."""


def _note_left_out(reading: _Reading, what: str, named: Iterable[str], bundle: Json) -> None:
    kinds = frozenset(named) or _kinds(bundle)
    reading.haul.damage.append(Damage(what, _only(kinds), scope_kinds=kinds if len(kinds) > 1 else frozenset()))


def _named_by(entry: Json) -> frozenset[str]:
    """The type that a refused entry names: by an address, else in its outcome."""
    response = _object(entry, "response")
    for address in (_text(response, "location"), _text(entry, "fullUrl"), _text(_object(entry, "request"), "url")):
        if named := _types_in(address):
            return named
    outcome = _object(response, "outcome") or _object(entry, "resource")
    return frozenset(kind for issue in _objects(outcome, "issue") for kind in _named_in(issue))


def _types_in(address: str) -> frozenset[str]:
    return TYPES.intersection(re.split(r"[/?]", address))


def _named_in(issue: Json) -> set[str]:
    """Types that an issue names, as the place of the trouble or at the beginning of its text."""
    named: set[str] = set()
    for element in ("expression", "location"):
        places = issue.get(element)
        for place in places if isinstance(places, list) else ():
            found = _EXPRESSION.match(place) if isinstance(place, str) else None
            # "Patient" alone may mean the whole chart, "Patient.name" does not.
            if found and found[1] in TYPES and (found[2] or found[1] not in WORDS_TOO) and found[1] != "Bundle":
                named.add(found[1])
    if named:
        return named
    for text in (issue.get("diagnostics"), _object(issue, "details").get("text")):
        words = re.findall(r"[A-Za-z]+", text) if isinstance(text, str) else []
        if words and words[0] in TYPES - WORDS_TOO:
            named.update(word for word in words if word in TYPES - WORDS_TOO)
    return named - {"OperationOutcome"}


def _note_pages(reading: _Reading, bundle: Json, where: str) -> None:
    links = {_text(link, "relation"): _text(link, "url") for link in _objects(bundle, "link")}
    own, following = links.get("self", ""), links.get("next", "")
    reading.pages_here.add(own)
    if following:
        what = f"{where}: Bundle still carries a next link: pages are missing"
        kinds = _searched(bundle, own)
        scope = kinds if len(kinds) > 1 else frozenset()
        reading.pages_missing.append((following, Damage(what, _only(kinds), counts=False, scope_kinds=scope)))


def _searched(bundle: Json, own_address: str) -> frozenset[str]:
    """The types of which the pages that did not come may hold more; empty: every type."""
    everything = _kinds(bundle)
    if bundle.get("type") != "searchset":
        return everything
    matches = everything.intersection(
        _text(_object(entry, "resource"), "resourceType")
        for entry in _objects(bundle, "entry")
        if _object(entry, "search").get("mode", "match") == "match"
    )
    # $everything, and a search of Patient that brings their records along, leave out records of any type; so does a
    # page of several types whose address does not say what was searched.
    named = TYPES.intersection(re.split(r"[/?&=:]", own_address))
    if "$everything" in own_address or (matches == {"Patient"} and everything != matches) or (len(matches) > 1 and not named):
        return frozenset()
    return matches | named


def _kinds(bundle: Json) -> frozenset[str]:
    """The types of the resources in a Bundle, those in Bundles within it too."""
    kinds: set[str] = set()
    waiting = [bundle]
    while waiting:
        for entry in _objects(waiting.pop(), "entry"):
            resource = _object(entry, "resource")
            if resource.get("resourceType") == "Bundle":
                waiting.append(resource)
            else:
                kinds.add(_text(resource, "resourceType"))
    return frozenset(kinds & TYPES - {"OperationOutcome"})


def _only(kinds: frozenset[str]) -> str | None:
    return next(iter(kinds)) if len(kinds) == 1 else None


def _status(response: Json) -> str:
    found = re.match(r"\s*(\d{3})\b", _text(response, "status"))
    return found[1] if found else "no status"


def _words_of(issue: Json) -> str:
    """Only the codes: what a server writes freely may hold anything."""
    words = (_text(issue, "severity"), _text(issue, "code"))
    return ", ".join(word for word in words if _CODE.match(word)) or "no cause given"


# JSON of any shape


def _text(parent: Json, element: str) -> str:
    child = parent.get(element)
    return child if isinstance(child, str) else ""


def _object(parent: Json, element: str) -> Mapping[str, Any]:
    child = parent.get(element)
    return child if isinstance(child, dict) else {}


def _objects(parent: Json, element: str) -> list[Json]:
    children = parent.get(element)
    return [child for child in children if isinstance(child, dict)] if isinstance(children, list) else []

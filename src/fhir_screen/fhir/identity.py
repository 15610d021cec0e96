"""Which ids, identifiers and marks the resources that fhir_screen writes carry, by which it knows them again."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from fhir_screen.core.decision import Decision, TrialIdentity
from fhir_screen.fhir.datatypes import objects
from fhir_screen.fhir.raw import Json

HOME: Final = "https://fhir-screen.org"
TAG_SYSTEM: Final = f"{HOME}/tag"
MANAGED: Final = "managed"

STUDY_IDENTIFIER: Final = f"{HOME}/study"
SUBJECT_IDENTIFIER: Final = f"{HOME}/subject"
RESULT_IDENTIFIER: Final = f"{HOME}/result"
DEVICE_IDENTIFIER: Final = f"{HOME}/device"
SITE_IDENTIFIER: Final = f"{HOME}/site"
"""Names a site as the agent of a retraction: there is no Device of the night beside it."""
VERSION_IDENTIFIER: Final = f"{HOME}/version"
"""Beside a versioned reference: HAPI strips `/_history/n` from references when it stores them."""

CRITERIA_EXTENSION: Final = f"{HOME}/criteria"
DECISION_EXTENSION: Final = f"{HOME}/decision"
STATUS_WRITTEN_EXTENSION: Final = f"{HOME}/status-written"
"""On our ResearchSubject: the status that the machine wrote. Whoever else changes the status leaves it behind."""
CONTENT_WRITTEN_EXTENSION: Final = f"{HOME}/content-written"
"""On our ResearchStudy: a hash of what the machine wrote, which no longer fits once a person has changed something."""
RETRACTED_EXTENSION: Final = f"{HOME}/retracted"
"""On our Observation that was taken back: the reason that a person gave."""
STUDY_EXTENSION: Final = "http://hl7.org/fhir/StructureDefinition/workflow-researchStudy"

MACHINE_STATUSES: Final = frozenset({"candidate", "potential-candidate"})
"""The only states of a ResearchSubject that the machine writes (rule R16)."""

RETRACTED_STATUS: Final = "not-registered"
"""What `retract` makes of a candidate that no person touched: R4 has no entered-in-error for a ResearchSubject."""

_SCHEME = "fhir-screen/1"
_SEPARATOR = "\x1f"


@dataclass(frozen=True, slots=True)
class Identity:
    """One resource of ours: its type, its client id, and the same key as a business identifier."""

    kind: str
    id: str
    system: str
    key: str

    @property
    def reference(self) -> str:
        return f"{self.kind}/{self.id}"

    @property
    def identifier(self) -> dict[str, str]:
        return {"system": self.system, "value": self.key}


def study_identity(site: str, trial: TrialIdentity) -> Identity:
    return _identity("ResearchStudy", "st", STUDY_IDENTIFIER, _key(site, "st", trial.id, ""))


def subject_identity(site: str, decision: Decision) -> Identity:
    key = _key(site, "rs", decision.trial.id, patient_id(decision.patient))
    return _identity("ResearchSubject", "rs", SUBJECT_IDENTIFIER, key)


def result_identity(site: str, decision: Decision) -> Identity:
    """The eligibility Observation of one patient and trial."""
    key = _key(site, "ob", decision.trial.id, patient_id(decision.patient))
    return _identity("Observation", "ob", RESULT_IDENTIFIER, key)


def device_identity(site: str, tool_version: str) -> Identity:
    """This installation in this version: a new one is a new Device, so that none ever changes."""
    return _identity("Device", "dev", DEVICE_IDENTIFIER, _key(site, "dev", tool_version, ""))


def provenance_identity(site: str, decision: Decision, recorded: str) -> Identity:
    """One per change of a decision and never changed itself; the same change sent twice is the same resource."""
    key = _key(site, "pv", decision.trial.id, patient_id(decision.patient), decision.digest, recorded)
    return _identity("Provenance", "pv", VERSION_IDENTIFIER, key)


def retraction_identity(site: str, recorded: str, targets: Iterable[str]) -> Identity:
    """The Provenance of one retraction, which is never changed itself."""
    return _identity("Provenance", "pv", VERSION_IDENTIFIER, _key(site, "retract", recorded, *targets))


def patient_id(patient: str) -> str:
    """The bare id, whether it came as "p1" or as "Patient/p1"."""
    return patient.removeprefix("Patient/")


def is_own(resource: Json) -> bool:
    """Whether fhir_screen wrote it, so that it is no evidence (rule R16): last night's output proves nothing tonight.

    A ResearchSubject that a person has moved on ("on-study", "screening") speaks for that person and is evidence.
    """
    if not (is_managed(resource) or _has_own_identifier(resource)):
        return False
    return resource.get("resourceType") != "ResearchSubject" or resource.get("status") in (
        MACHINE_STATUSES | {RETRACTED_STATUS}
    )


def is_managed(resource: Json) -> bool:
    """Whether it carries our tag. The tag never changes: on HAPI tags stay for ever once they are set."""
    meta = resource.get("meta")
    tags = meta.get("tag") if isinstance(meta, Mapping) else None
    return any(tag.get("system") == TAG_SYSTEM and tag.get("code") == MANAGED for tag in objects(tags))


def carries(resource: Json, identity: Identity) -> bool:
    """Whether this business identifier stands in the resource."""
    return any(
        one.get("system") == identity.system and one.get("value") == identity.key
        for one in objects(resource.get("identifier"))
    )


def extension_value(resource: Json, url: str) -> str | None:
    """The valueString of the first extension with this URL."""
    values = (one.get("valueString") for one in objects(resource.get("extension")) if one.get("url") == url)
    return next((value for value in values if isinstance(value, str)), None)


def _has_own_identifier(resource: Json) -> bool:
    ours = {STUDY_IDENTIFIER, SUBJECT_IDENTIFIER, RESULT_IDENTIFIER, DEVICE_IDENTIFIER}
    return any(one.get("system") in ours for one in objects(resource.get("identifier")))


def _identity(kind: str, short: str, system: str, key: str) -> Identity:
    return Identity(kind, f"fs-{short}-{key}", system, key)


def _key(site: str, *parts: str) -> str:
    """Never from a server's address (a renamed host would double everything), never from a name or record number."""
    text = _SEPARATOR.join((_SCHEME, site, *parts))
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=").lower()

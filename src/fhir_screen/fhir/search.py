"""Which searches bring home the patients of a study, and what a server must offer for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from fhir_screen.fhir.raw import Json

One = TypeVar("One")

Params = list[tuple[str, str]]
"""Search parameters in the order in which they are sent; a comma inside a value means OR (FHIR R4, 3.1.1.5.8)."""

PATIENTS_PER_SEARCH: Final = 50
KEYS_PER_SEARCH: Final = 100
"""Longer OR lists break servers in many ways (HAPI #8380, #3091, #6457; 414 where only GET is understood)."""

BY_REFERENCE: Final = frozenset({"Medication", "ResearchStudy"})
"""Types that belong to no patient: they are fetched by id, where a patient's resource points to them."""

REFERRING: Final = frozenset(
    {
        "Consent",
        "Medication",
        "MedicationAdministration",
        "MedicationDispense",
        "MedicationRequest",
        "MedicationStatement",
        "ResearchSubject",
    }
)
"""Types whose meaning may stand in a resource of BY_REFERENCE: the drug, the study."""

PATIENT_PARAMETERS: Final = ("patient", "subject", "individual")
"""Names under which a search selects patients, the most usual first."""

WITHOUT_PATIENT_PARAMETER: Final = {"AdverseEvent": "subject"}
"""Where FHIR R4 has no `patient`, for servers that do not list their parameters."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a server says that it does with one resource type; empty sets where it does not say."""

    interactions: frozenset[str] = frozenset()
    parameters: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """A CapabilityStatement, as far as we use it. It is a claim: HAPI leaves out things that it can do."""

    fhir_version: str
    software: str = ""
    software_version: str = ""
    system: frozenset[str] = frozenset()
    types: Mapping[str, Offer] = field(default_factory=dict)

    @staticmethod
    def of(statement: Json) -> Capabilities:
        rest = _server_part(statement)
        software = statement.get("software") or {}
        return Capabilities(
            fhir_version=str(statement.get("fhirVersion") or ""),
            software=str(software.get("name") or ""),
            software_version=str(software.get("version") or ""),
            system=_codes(rest.get("interaction"), "code"),
            types={
                str(entry["type"]): Offer(
                    _codes(entry.get("interaction"), "code"),
                    _codes(entry.get("searchParam"), "name"),
                )
                for entry in rest.get("resource") or ()
                if isinstance(entry, Mapping) and entry.get("type")
            },
        )

    @property
    def transaction(self) -> bool:
        return "transaction" in self.system

    def searches(self, kind: str) -> bool:
        """Whether resources of this type can be searched; a server that lists no type at all is taken at its best."""
        if not self.types:
            return True
        offer = self.types.get(kind)
        return offer is not None and (not offer.interactions or "search-type" in offer.interactions)

    def parameters(self, kind: str) -> frozenset[str]:
        offer = self.types.get(kind)
        return offer.parameters if offer else frozenset()


@dataclass(frozen=True, slots=True)
class Search:
    """How all resources of one type that belong to given patients are asked for."""

    kind: str
    parameter: str

    def params(self, patients: Sequence[str]) -> Params:
        """The parameters for these patient ids; codes and dates are never narrowed here but judged locally."""
        prefix = "" if self.parameter == "patient" else "Patient/"
        return [(self.parameter, ",".join(prefix + escaped(one) for one in patients))]


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A type that this server does not let us search by patient: for every patient it is a gap (rule R4, c)."""

    kind: str
    detail: str


def plan(kinds: Iterable[str], capabilities: Capabilities) -> tuple[Search | Unavailable, ...]:
    """One search, or the reason why there is none, for each type but Patient and the BY_REFERENCE ones, by name."""
    wanted = sorted(set(kinds) - BY_REFERENCE - {"Patient"})
    return tuple(_planned(kind, capabilities) for kind in wanted)


def population(codes: Iterable[tuple[str, str]]) -> tuple[Params, ...]:
    """Searches on Condition that together find whoever has one of these (system, code), each asked for exactly.

    A token search knows no families of codes: C43 does not find C43.9, so the caller names each code.
    """
    tokens = [f"{escaped(system)}|{escaped(code)}" for system, code in sorted(set(codes))]
    return tuple([("code", ",".join(part))] for part in chunks(tokens, KEYS_PER_SEARCH))


def by_ids(ids: Sequence[str]) -> Params:
    return [("_id", ",".join(escaped(one) for one in ids))]


def by_link(ids: Sequence[str]) -> Params:
    """Patients that say of themselves that they are linked with one of these (Patient.link)."""
    return [("link", ",".join(f"Patient/{escaped(one)}" for one in ids))]


def chunks(items: Sequence[One], size: int) -> Iterator[Sequence[One]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def escaped(value: str) -> str:
    """FHIR R4, 3.1.1.4.7: what would separate values is written with a backslash."""
    return "".join(f"\\{sign}" if sign in "\\,|$" else sign for sign in value)


def _planned(kind: str, capabilities: Capabilities) -> Search | Unavailable:
    if not capabilities.searches(kind):
        return Unavailable(kind, f"the server does not offer a search of {kind}")
    listed = capabilities.parameters(kind)
    if not listed:
        return Search(kind, WITHOUT_PATIENT_PARAMETER.get(kind, "patient"))
    for parameter in PATIENT_PARAMETERS:
        if parameter in listed:
            return Search(kind, parameter)
    return Unavailable(kind, f"the server does not let {kind} be searched by patient")


def _server_part(statement: Json) -> Json:
    parts = [part for part in statement.get("rest") or () if isinstance(part, Mapping)]
    servers = [part for part in parts if part.get("mode") == "server"]
    return (servers or parts or [{}])[0]


def _codes(entries: object, key: str) -> frozenset[str]:
    if not isinstance(entries, list):
        return frozenset()
    return frozenset(str(entry[key]) for entry in entries if isinstance(entry, Mapping) and entry.get(key))

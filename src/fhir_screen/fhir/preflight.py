"""What a server has to offer before a night can be trusted to it, asked in order, each answer with its remedy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from fhir_screen.errors import FhirScreenError
from fhir_screen.fhir.identity import HOME, MANAGED, TAG_SYSTEM
from fhir_screen.fhir.search import Capabilities
from fhir_screen.fhir.server import Access, FhirServer, SearchFailed, WriteFailed

WRITTEN: Final = ("Device", "ResearchStudy", "Observation", "Provenance", "ResearchSubject")
"""What a night writes, in the order in which a transaction refers to it."""

CLOCK_WARNING, CLOCK_FAILURE = timedelta(seconds=30), timedelta(minutes=4)


class Mark(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: what was looked at, what was found, and what to do where that is not well."""

    name: str
    mark: Mark
    found: str
    remedy: str = ""


class Probe(StrEnum):
    """Whether the write permission is read from the CapabilityStatement, or tried with one tagged resource."""

    READ_ONLY = "read-only"
    WRITE = "write"


def examine(access: Access, kinds: Iterable[str], now: datetime, probe: Probe = Probe.READ_ONLY) -> Iterator[Check]:
    """Checks a server, the cheapest first; stops where nothing more can be asked. Changes nothing but for WRITE."""
    secure = access.base.startswith("https://")
    local = "127.0.0.1" in access.base or "localhost" in access.base
    yield Check(
        "address", Mark.OK if secure or local else Mark.WARNING, access.base,
        "" if secure or local else "use https: health records go over plain http",
    )  # fmt: skip
    for words in access.warnings:
        yield Check("secrets", Mark.WARNING, words, "chmod 600 the file")
    with FhirServer(access) as server:
        try:
            stated = server.capabilities()
        except FhirScreenError as trouble:
            yield Check("metadata", Mark.FAILED, trouble.what, trouble.remedy)
            return
        software = f"{stated.software} {stated.software_version}".strip() or "software not named"
        yield Check("FHIR", Mark.OK, f"{stated.fhir_version}, {software}")
        yield _clock(server, now)
        yield from _reading(server, stated, sorted({"Patient", *kinds}))
        yield _strictness(server)
        yield _paging(server)
        yield from _writing(server, stated, probe)


def _clock(server: FhirServer, now: datetime) -> Check:
    theirs = server.clock()
    if theirs is None:
        return Check("clock", Mark.WARNING, "the server does not tell its time")
    apart = abs(theirs - now)
    mark = Mark.OK if apart < CLOCK_WARNING else Mark.WARNING if apart < CLOCK_FAILURE else Mark.FAILED
    remedy = "" if mark is Mark.OK else "set both clocks by NTP: windows and tokens depend on them"
    return Check("clock", mark, f"{round(apart.total_seconds())} s apart", remedy)


def _reading(server: FhirServer, stated: Capabilities, kinds: Iterable[str]) -> Iterator[Check]:
    for kind in kinds:
        if not stated.searches(kind):
            yield Check(
                f"read {kind}", Mark.WARNING, "the server does not offer it",
                "criteria that need it stay unknown (incomplete-fetch)",
            )  # fmt: skip
            continue
        try:
            next(server.search(kind, [("_count", "1")]), None)
            yield Check(f"read {kind}", Mark.OK, "searchable")
        except SearchFailed as failed:
            yield Check(f"read {kind}", Mark.FAILED, failed.detail, "grant this client reading and searching of the type")


def _strictness(server: FhirServer) -> Check:
    """A server that ignores what it does not know answers a wider question than was asked."""
    try:
        next(server.search("Patient", [("no-such-parameter", "1"), ("_count", "1")]), None)
    except SearchFailed:
        return Check("strict search", Mark.OK, "an unknown parameter is refused")
    return Check("strict search", Mark.WARNING, "an unknown parameter is ignored", "nothing to do: every answer is filtered here too")


def _paging(server: FhirServer) -> Check:
    try:
        found = server.search("Patient", [("_count", "1")])
        seen = sum(1 for _, _ in zip(range(3), found, strict=False))
    except SearchFailed as failed:
        return Check("paging", Mark.FAILED, failed.detail, "the next link of a search has to work, and stay on this address")
    return Check("paging", Mark.OK, f"{seen} pages followed" if seen > 1 else "only one page to follow")


def _writing(server: FhirServer, stated: Capabilities, probe: Probe) -> Iterator[Check]:
    if probe is Probe.WRITE:
        yield _tried(server)
        return
    if stated.types and not stated.transaction:
        yield Check("write", Mark.WARNING, "no transactions are offered", "write into a folder or another server: --write-to")
    for kind in WRITTEN:
        offer = stated.types.get(kind)
        able = not stated.types or (offer is not None and {"create", "update"} <= (offer.interactions or {"create", "update"}))
        remedy = "" if able else "write into a folder or another server: --write-to"
        yield Check(f"write {kind}", Mark.OK if able else Mark.WARNING, "offered" if able else "not offered", remedy)


def _tried(server: FhirServer) -> Check:
    """Creates one tagged Basic resource and removes it again."""
    reference = "Basic/fs-probe"
    resource: dict[str, object] = {
        "resourceType": "Basic", "id": "fs-probe",
        "meta": {"tag": [{"system": TAG_SYSTEM, "code": MANAGED}]},
        "code": {"coding": [{"system": f"{HOME}/code", "code": "write-probe"}]},
    }  # fmt: skip
    try:
        server.transaction(_one({"method": "PUT", "url": reference}, resource))
        server.transaction(_one({"method": "DELETE", "url": reference}))
    except WriteFailed as failed:
        return Check("write probe", Mark.FAILED, failed.what, "grant this client writing, or use --write-to")
    return Check("write probe", Mark.OK, "one tagged resource was created and removed")


def _one(request: dict[str, str], resource: dict[str, object] | None = None) -> dict[str, object]:
    entry: dict[str, object] = {"request": request} | ({"resource": resource} if resource else {})
    return {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}

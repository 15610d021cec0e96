"""What a server has to offer before a night can be trusted to it, asked in order, each answer with its remedy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

from fhir_screen.errors import FhirScreenError, PreflightError
from fhir_screen.fhir.connection import Access
from fhir_screen.fhir.identity import HOME, MANAGED, TAG_SYSTEM
from fhir_screen.fhir.search import Capabilities
from fhir_screen.fhir.server import FhirServer, SearchFailed

WRITTEN: Final = ("Device", "ResearchStudy", "Observation", "Provenance", "ResearchSubject")
"""What a night writes, in the order in which a transaction refers to it."""

CLOCK_WARNING, CLOCK_FAILURE = timedelta(seconds=30), timedelta(minutes=4)
PAGES_TRIED: Final = 3

_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_ELSEWHERE: Final = "write into a folder or another server: --write-to"


class Mark(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: what was looked at, what was found, and what to do where that is not well.

    ``code`` is the exit code (contract) of a check that failed; 0 where it did not.
    """

    name: str
    mark: Mark
    found: str
    remedy: str = ""
    code: int = 0

    @staticmethod
    def failed(name: str, trouble: FhirScreenError) -> Check:
        found = f"{trouble.where}: {trouble.what}" if trouble.where else trouble.what
        return Check(name, Mark.FAILED, found, trouble.remedy, trouble.exit_code)


class Probe(StrEnum):
    """Whether the write permission is read from the CapabilityStatement, or tried with one tagged resource."""

    READ_ONLY = "read-only"
    WRITE = "write"


def examine(access: Access, kinds: Iterable[str], now: datetime, probe: Probe = Probe.READ_ONLY) -> Iterator[Check]:
    """Checks a server that is read from, the cheapest question first; stops where nothing more can be asked.

    Changes nothing but for WRITE. ``kinds`` are the resource types that the criteria look at.
    """
    try:
        with FhirServer(access) as server:
            yield _address(server)
            yield from (Check("secrets", Mark.WARNING, words, "chmod 600 FILE") for words in access.warnings)
            stated = server.capabilities()
            yield from _statement(server, stated)
            yield _let_in(server)
            yield from _reading(server, stated, sorted(set(kinds) - {"Patient"}))
            yield _strictness(server)
            yield _paging(server)
            yield _clock(server, now)
            yield from _writing(server, stated, probe)
    except FhirScreenError as trouble:
        yield Check.failed("server", trouble)


def examine_destination(access: Access, probe: Probe) -> Iterator[Check]:
    """Checks a server that is only written to."""
    try:
        with FhirServer(access) as server:
            stated = server.capabilities()
            yield Check("write to", Mark.OK, f"{server.base}, {_software(stated)}")
            yield from _writing(server, stated, probe)
    except FhirScreenError as trouble:
        yield Check.failed("write to", trouble)


def _address(server: FhirServer) -> Check:
    url = urlsplit(server.base)
    if url.scheme == "https" or url.hostname in _LOCAL:
        return Check("address", Mark.OK, server.base)
    return Check("address", Mark.WARNING, server.base, "use https: health records go over plain http")


def _statement(server: FhirServer, stated: Capabilities) -> Iterator[Check]:
    if server.base.startswith("https://"):
        yield Check("TLS", Mark.OK, "the certificate holds")
    yield Check("FHIR", Mark.OK, f"{stated.fhir_version}, {_software(stated)}")


def _software(stated: Capabilities) -> str:
    return f"{stated.software} {stated.software_version}".strip() or "software not named"


def _let_in(server: FhirServer) -> Check:
    """A CapabilityStatement is often open to all; only a question about patients shows whether we are let in."""
    try:
        found = next(server.search("Patient", [("_count", "1")]), None)
    except SearchFailed as failed:
        return Check("authorization", Mark.FAILED, failed.detail, _scope("Patient"), PreflightError.exit_code)
    if found is None:
        return Check(
            "authorization", Mark.WARNING, "let in, but no Patient can be seen", "is this the right server and scope?"
        )
    return Check("authorization", Mark.OK, "let in; patients can be searched")


def _scope(kind: str) -> str:
    return f"ask for reading and searching of {kind}, such as the scope system/{kind}.rs"


def _reading(server: FhirServer, stated: Capabilities, kinds: Iterable[str]) -> Iterator[Check]:
    for kind in kinds:
        name = f"read {kind}"
        by_codes = kind == "Condition"  # by which the population is found, unless it is said otherwise
        if not stated.searches(kind):
            if by_codes:
                yield Check(name, Mark.FAILED, "the server does not offer it", _WHOM, PreflightError.exit_code)
                continue
            lost = "criteria that need it stay unknown (incomplete-fetch)"
            yield Check(name, Mark.WARNING, "the server does not offer it", lost)
            continue
        try:
            next(server.search(kind, [("_count", "1")]), None)
        except SearchFailed as failed:
            if by_codes:
                yield Check(name, Mark.FAILED, failed.detail, f"{_scope(kind)}; {_WHOM}", PreflightError.exit_code)
                continue
            yield Check(name, Mark.WARNING, failed.detail, f"{_scope(kind)}; until then what needs it stays unknown")
        else:
            yield Check(name, Mark.OK, "searchable")


_WHOM = "without it nobody is found by a diagnosis: say whom with --group, --patient or --everyone"


def _strictness(server: FhirServer) -> Check:
    """A server that ignores what it does not know answers a wider question than was asked."""
    try:
        next(server.search("Patient", [("no-such-parameter", "1"), ("_count", "1")]), None)
    except SearchFailed:
        return Check("strict search", Mark.OK, "an unknown parameter is refused")
    calm = "nothing to do: every answer is filtered here too, it only takes longer"
    return Check("strict search", Mark.WARNING, "an unknown parameter is ignored", calm)


def _paging(server: FhirServer) -> Check:
    try:
        found = server.search("Patient", [("_count", "1")])
        seen = sum(1 for _, _ in zip(range(PAGES_TRIED), found, strict=False))
    except SearchFailed as failed:
        remedy = "the next link of a search has to work, and to stay on this address"
        return Check("paging", Mark.FAILED, failed.detail, remedy, PreflightError.exit_code)
    return Check("paging", Mark.OK, "the next link works" if seen > 1 else "there was no second page to ask for")


def _clock(server: FhirServer, now: datetime) -> Check:
    theirs = server.clock()
    if theirs is None or theirs.tzinfo is None:
        return Check("clock", Mark.WARNING, "the server does not tell its time", "look at its clock by hand")
    apart = abs(theirs - now)
    words = f"{round(apart.total_seconds())} s apart"
    if apart < CLOCK_WARNING:
        return Check("clock", Mark.OK, words)
    remedy = "set both clocks by NTP: windows of days and tokens depend on them"
    if apart < CLOCK_FAILURE:
        return Check("clock", Mark.WARNING, words, remedy)
    return Check("clock", Mark.FAILED, words, remedy, PreflightError.exit_code)


def _writing(server: FhirServer, stated: Capabilities, probe: Probe) -> Iterator[Check]:
    if probe is Probe.WRITE:
        yield _tried(server)
        return
    if stated.types and not stated.transaction:
        yield Check("write", Mark.WARNING, "no transactions are offered", _ELSEWHERE)
    missing = [kind for kind in WRITTEN if not _offers_writing(stated, kind)]
    if missing:
        yield Check(
            "write", Mark.WARNING, f"not offered for {', '.join(missing)}", f"{_ELSEWHERE}; or try --probe-write"
        )
    elif not stated.types or stated.transaction:
        yield Check("write", Mark.OK, f"{', '.join(WRITTEN)} are offered; --probe-write tries it")


def _offers_writing(stated: Capabilities, kind: str) -> bool:
    """Silence on interactions is no refusal, nor is silence on types."""
    offer = stated.types.get(kind)
    if not stated.types or offer is None:
        return not stated.types
    return not offer.interactions or {"create", "update"} & set(offer.interactions) != set()


def _tried(server: FhirServer) -> Check:
    """Creates one tagged Basic resource and removes it again, the way in which a night writes: by transaction."""
    reference = "Basic/fs-probe"
    resource: dict[str, Any] = {
        "resourceType": "Basic",
        "id": "fs-probe",
        "meta": {"tag": [{"system": TAG_SYSTEM, "code": MANAGED}]},
        "code": {"coding": [{"system": f"{HOME}/code", "code": "write-probe"}]},
    }
    try:
        server.transaction(_one({"resource": resource, "request": {"method": "PUT", "url": reference}}))
        server.transaction(_one({"request": {"method": "DELETE", "url": reference}}))
    except FhirScreenError as failed:
        remedy = "grant this client writing by transaction (and deleting, for the probe), or use --write-to"
        return Check("write probe", Mark.FAILED, failed.what, remedy, PreflightError.exit_code)
    return Check("write probe", Mark.OK, "one tagged Basic resource was created and removed")


def _one(entry: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}

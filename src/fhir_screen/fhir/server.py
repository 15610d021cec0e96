"""What one FHIR R4 server is asked: capabilities, searches page by page, reads, transactions; and what a refusal means."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlencode, urljoin

import orjson

from fhir_screen.errors import FhirScreenError, PreflightError, UsageError
from fhir_screen.fhir.address import has_user, origin_of, site_of, without_query
from fhir_screen.fhir.connection import FHIR_JSON, READ, READ_AGAIN, WRITE, Access, Call, Connection, Trouble
from fhir_screen.fhir.raw import Found, Json
from fhir_screen.fhir.reply import Reply, left_out, next_link
from fhir_screen.fhir.search import Capabilities, Params

RELEASES: Final = {"1.0": "DSTU2", "3.0": "STU3", "5.0": "R5", "6.0": "R6"}
NO_POST_SEARCH: Final = frozenset({404, 405, 501})
GONE: Final = frozenset({404, 410})

SMALLEST_PAGE: Final = 10
"""Fewer entries than any server's page holds: so few are surely all there are."""

_UNCACHED: Final = {"Cache-Control": "no-cache"}  # else HAPI repeats an answer that is up to 60 s old
_UNSTORED: Final = {"Cache-Control": "no-cache, no-store"}
_REFERENCE = re.compile(r"([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})\Z")


@dataclass(frozen=True, slots=True)
class Included(Found):
    """A resource that came along with a search (search.mode include) and is no match of it."""


class SearchFailed(FhirScreenError):
    """Not all that was asked for came; what did come was handed over before.

    ``kind`` is the resource type, ``status`` the last HTTP status or None where no answer came whole, ``detail``
    says in words what happened and holds no patient data, ``codes`` are the issue types of the OperationOutcome.
    """

    exit_code = 75

    def __init__(self, kind: str, detail: str, *, status: int | None = None, codes: tuple[str, ...] = ()) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.status, self.codes = kind, detail, status, codes

    @property
    def final(self) -> bool:
        """Whether asking for less at a time cannot help: the type is forbidden or not there."""
        return self.status in {403, 404}

    @property
    def overload(self) -> bool:
        """Whether the whole server may be in trouble, and not this question alone."""
        return self.status is None or self.status in READ_AGAIN


class WriteFailed(FhirScreenError):
    """A transaction was not (known to be) carried out; ``codes`` are issue types, never the server's own words."""

    exit_code = 1

    def __init__(self, what: str, *, status: int | None = None, codes: tuple[str, ...] = ()) -> None:
        super().__init__(f"{what} ({', '.join(codes)})" if codes else what)
        self.status, self.codes = status, codes


class Conflict(WriteFailed):
    """409 or 412, which servers use alike: somebody else wrote first. Read again, decide again."""

    exit_code = 5


class Rejected(WriteFailed):
    """The server understood and refused; the same transaction will be refused again."""


class UnknownOutcome(WriteFailed):
    """Nobody can tell whether it was carried out: read before trying again."""

    exit_code = 75


class FhirServer:
    """One FHIR server behind one address. Pages and the shapes of searches exist only in here.

    Raises what `Connection` raises, besides what each question tells.
    """

    def __init__(self, access: Access) -> None:
        self._connection = Connection(access)
        self._limits = access.limits
        self.base = self._connection.base
        self._get_only: set[str] = set()
        self._capabilities: Capabilities | None = None

    def __enter__(self) -> FhirServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def capabilities(self) -> Capabilities:
        """What the server says that it can do (GET /metadata, asked once).

        Raises PreflightError unless it is a FHIR R4 or R4B server that lets us in.
        """
        if self._capabilities is None:
            self._capabilities = self._stated()
        return self._capabilities

    def still_there(self) -> None:
        """Asks the simplest question once; raises TemporaryError when not even that is answered."""
        try:
            reply = self._connection.ask(self._get(f"{self.base}/metadata"), replace(READ, attempts=1))
        except Trouble as trouble:
            raise self._connection.down(trouble.words) from trouble
        if reply.status in READ_AGAIN:
            raise self._connection.down(f"the server answers {reply.status}")

    def clock(self) -> datetime | None:
        """The server's own time by the Date header of an answer; None where it tells none."""
        try:
            reply = self._connection.ask(self._get(f"{self.base}/metadata"), replace(READ, attempts=1))
        except Trouble:
            return None
        stamp = reply.headers.get("Date", "")
        try:
            return parsedate_to_datetime(stamp)
        except ValueError:
            return None

    def search(self, kind: str, params: Params, *, fresh: bool = False) -> Iterator[Found]:
        """All resources that match, over all pages; those that only came along are `Included`.

        POST [base]/Type/_search with everything in the body, or GET where that is refused. Each version of a resource
        comes once. ``fresh`` forbids every store on the way, for what decides a write. Raises SearchFailed after the
        last resource that did come.
        """
        seen: set[tuple[str, str, str]] = set()
        notes: dict[str, None] = {}
        for bundle in self._unstored(kind, params) if fresh else self._pages(kind, params, _UNCACHED):
            yield from self._matches(kind, bundle, seen, notes)
        if notes:
            raise SearchFailed(kind, f"{kind}: the server left something out", status=200, codes=tuple(notes))

    def read(self, reference: str) -> Json | None:
        """The resource that "Type/id" names, with `meta.versionId`; None where it never was or no longer is.

        Never from a store on the way.
        """
        kind, own_id = _reference_parts(reference)
        reply = self._instance(kind, own_id)
        if reply.status in GONE and not reply.html:
            return None
        if reply.status != 200:
            raise SearchFailed(kind, f"{kind} answered {reply.status}", status=reply.status, codes=reply.codes)
        document = reply.document
        if document is None or document.get("resourceType") != kind or document.get("id") != own_id:
            raise SearchFailed(kind, f"{kind} answered with {reply.nature}", status=200)
        return _with_version(document, reply.headers.get("ETag", ""))

    def deleted(self, reference: str) -> bool:
        """Whether what "Type/id" names was there and somebody deleted it, as far as the server tells 410 from 404."""
        kind, own_id = _reference_parts(reference)
        reply = self._instance(kind, own_id)
        if reply.status in READ_AGAIN:
            raise SearchFailed(kind, f"{kind} answered {reply.status}", status=reply.status, codes=reply.codes)
        return reply.status == 410 and not reply.html

    def operation(self, path: str, parameters: Json) -> Json:
        """Invokes an operation that changes nothing ("ValueSet/$expand") and returns the resource it answers with.

        Raises PreflightError where the server refuses or answers with anything else.
        """
        call = Call(
            "POST", f"{self.base}/{path}", {"Content-Type": FHIR_JSON}, orjson.dumps(parameters, default=_exact)
        )
        try:
            reply = self._connection.ask(call, READ)
        except Trouble as trouble:
            raise self._connection.down(trouble.words) from trouble
        if reply.status != 200 or reply.document is None:
            told = f" ({', '.join(reply.codes)})" if reply.codes else ""
            raise PreflightError(
                f"{path} answered {reply.status}{told}", where=self.base, remedy="ask a terminology server"
            )
        return reply.document

    def transaction(self, bundle: Json) -> Json:
        """Sends one transaction Bundle and returns its transaction-response, an answer for each entry.

        Sent again only where it certainly was not begun (no connection, 401, 429). Raises Conflict, Rejected or
        UnknownOutcome.
        """
        headers = {"Content-Type": FHIR_JSON, "Prefer": "return=minimal"}
        call = Call("POST", self.base, headers, orjson.dumps(bundle, default=_exact))
        try:
            reply = self._connection.ask(call, WRITE)
        except Trouble as trouble:
            raise UnknownOutcome(f"the transaction was sent, but {trouble.words}") from trouble
        return _written(reply, len(bundle.get("entry", ())))

    def _stated(self) -> Capabilities:
        try:
            reply = self._connection.ask(self._get(f"{self.base}/metadata"), replace(READ, attempts=3))
        except Trouble as trouble:
            raise self._connection.down(trouble.words) from trouble
        if reply.status in READ_AGAIN:
            raise self._connection.down(f"the server answers {reply.status}")
        if reply.status == 403:
            raise PreflightError("the server forbids us to read (403)", where=self.base, remedy=_ASK_FOR_SCOPES)
        if 300 <= reply.status < 400:
            target = without_query(reply.headers.get("Location", ""))
            raise PreflightError(
                f"the address leads elsewhere ({reply.status}), and redirects are not followed",
                where=self.base,
                remedy=f"give the address of the FHIR server itself; this one points to {target or 'nothing'}",
            )
        if reply.status != 200 or reply.document is None:
            raise PreflightError(
                f"no FHIR server: /metadata answered {reply.status} with {reply.nature}",
                where=self.base,
                remedy=_GIVE_BASE,
            )
        if reply.document.get("resourceType") != "CapabilityStatement":
            raise PreflightError(f"no FHIR server: /metadata is {reply.nature}", where=self.base, remedy=_GIVE_BASE)
        return self._understood(Capabilities.of(reply.document))

    def _understood(self, stated: Capabilities) -> Capabilities:
        if re.match(r"4\.[03](\.|\Z)", stated.fhir_version):
            return stated
        release = RELEASES.get(stated.fhir_version[:3], "")
        spoken = f"FHIR {release} ({stated.fhir_version})" if release else f"FHIR version {stated.fhir_version or '?'}"
        raise PreflightError(
            f"the server speaks {spoken}; R4 (4.0) and R4B (4.3) are understood",
            where=self.base,
            remedy="many servers offer R4 under another address, such as /r4 or /baseR4",
        )

    def _unstored(self, kind: str, params: Params) -> Iterator[Json]:
        """The pages of a no-store search, which HAPI 8.8 cuts after one page without a sign; then a paged one, too."""
        entries = 0
        for bundle in self._pages(kind, params, _UNSTORED):
            entries += len(bundle.get("entry", ()))
            yield bundle
        if entries >= SMALLEST_PAGE:
            yield from self._pages(kind, params, _UNCACHED)

    def _pages(self, kind: str, params: Params, freshness: Mapping[str, str]) -> Iterator[Json]:
        """Every page of one search; a search that expired on the way (410) is begun again, once."""
        try:
            yield from self._walk(kind, params, freshness)
        except _Expired:
            try:
                yield from self._walk(kind, params, freshness)
            except _Expired as expired:
                raise SearchFailed(kind, f"{kind}: the search expired twice between pages", status=410) from expired

    def _walk(self, kind: str, params: Params, freshness: Mapping[str, str]) -> Iterator[Json]:
        bundle = self._bundle(kind, 1, self._first(kind, params, freshness))
        yield bundle
        visited: set[str] = set()
        url = next_link(bundle)
        while url:
            number = len(visited) + 2
            url = self._allowed(kind, url)
            if url in visited or number > self._limits.pages:
                raise SearchFailed(kind, f"page {number} of {kind}: the next links run in a circle", status=200)
            visited.add(url)
            reply = self._page(kind, number, self._get(url, freshness))
            if reply.status in GONE:
                raise _Expired
            bundle = self._bundle(kind, number, reply)
            yield bundle
            url = next_link(bundle)

    def _first(self, kind: str, params: Params, freshness: Mapping[str, str]) -> Reply:
        sized = params if any(name == "_count" for name, _ in params) else [*params, ("_count", self._page_entries)]
        form, headers = urlencode(sized), {"Prefer": "handling=strict", **freshness}
        if kind not in self._get_only:
            posted = {"Content-Type": "application/x-www-form-urlencoded", **headers}
            reply = self._page(kind, 1, Call("POST", f"{self.base}/{kind}/_search", posted, form.encode()))
            if reply.status not in NO_POST_SEARCH:
                return reply
        reply = self._page(kind, 1, self._get(f"{self.base}/{kind}?{form}", headers))
        if reply.status == 200:
            self._get_only.add(kind)
        return reply

    def _instance(self, kind: str, own_id: str) -> Reply:
        try:
            return self._connection.ask(self._get(f"{self.base}/{kind}/{own_id}", _UNSTORED), READ)
        except Trouble as trouble:
            raise SearchFailed(kind, f"{kind}: {trouble.words}") from trouble

    @property
    def _page_entries(self) -> str:
        return str(self._limits.page_entries)

    def _page(self, kind: str, number: int, call: Call) -> Reply:
        try:
            return self._connection.ask(call, READ)
        except Trouble as trouble:
            raise SearchFailed(kind, f"{_page_name(kind, number)}: {trouble.words}") from trouble

    def _bundle(self, kind: str, number: int, reply: Reply) -> Json:
        name = _page_name(kind, number)
        if 300 <= reply.status < 400:
            raise SearchFailed(
                kind, f"{name} answered {reply.status}, a redirect that is not followed", status=reply.status
            )
        if reply.status != 200:
            raise SearchFailed(kind, f"{name} answered {reply.status}", status=reply.status, codes=reply.codes)
        document = reply.document
        if document is None or document.get("resourceType") != "Bundle":
            raise SearchFailed(kind, f"{name} answered with {reply.nature}", status=200, codes=reply.codes)
        entries = document.get("entry", [])
        if document.get("type", "searchset") != "searchset" or not isinstance(entries, list):
            raise SearchFailed(kind, f"{name} answered with a Bundle that is no searchset", status=200)
        return document

    def _allowed(self, kind: str, url: str) -> str:
        """The absolute form of a next link, which must lead to where we were sent; a token goes nowhere else."""
        try:
            absolute = urljoin(f"{self.base}/{kind}", url)
        except ValueError:
            absolute = ""
        if origin_of(absolute) != self._connection.origin or has_user(absolute):
            there = site_of(absolute) or "an address that cannot be read"
            raise SearchFailed(
                kind,
                f"{kind}: the next page is said to be at {there}, not at {site_of(self.base)}; not followed",
                status=200,
            )
        return absolute

    def _matches(
        self, kind: str, bundle: Json, seen: set[tuple[str, str, str]], notes: dict[str, None]
    ) -> Iterator[Found]:
        for entry in bundle.get("entry", ()):
            resource = entry.get("resource") if isinstance(entry, Mapping) else None
            if not isinstance(resource, Mapping) or not isinstance(resource.get("resourceType"), str):
                notes["unreadable-entry"] = None
                continue
            mode = (entry.get("search") or {}).get("mode")
            if resource["resourceType"] == "OperationOutcome" or mode == "outcome":
                notes.update(dict.fromkeys(left_out(resource)))
                continue
            key = identity(resource)
            if key in seen:
                continue
            seen.add(key)
            came_along = mode == "include" or (mode is None and resource["resourceType"] != kind)
            form = Included if came_along else Found
            yield form(resource, full_url=str(entry.get("fullUrl") or ""), base=self.base, scope=self.base)

    def _get(self, url: str, headers: Mapping[str, str] | None = None) -> Call:
        return Call("GET", url, dict(headers or {}))


_GIVE_BASE: Final = "the address must be the FHIR base, as in https://fhir.example.org/r4"
_ASK_FOR_SCOPES: Final = "ask the administrator for reading scopes, such as system/*.rs"


def identity(resource: Json) -> tuple[str, str, str]:
    """Type, id and version of a resource, or its whole content where it has no version."""
    meta = resource.get("meta") or {}
    stamp = meta.get("versionId") or orjson.dumps(resource, option=orjson.OPT_SORT_KEYS).decode()
    return str(resource.get("resourceType")), str(resource.get("id")), str(stamp)


class _Expired(Exception):
    """The server has forgotten the search that a next link belongs to."""


def _reference_parts(reference: str) -> tuple[str, str]:
    parts = _REFERENCE.match(reference)
    if parts is None:
        raise UsageError(
            "this is no reference of the form Type/id", where=repr(reference[:80]), remedy="as in Group/melanoma"
        )
    return parts[1], parts[2]


def _page_name(kind: str, number: int) -> str:
    return kind if number == 1 else f"page {number} of {kind}"


def _with_version(document: Json, etag: str) -> Json:
    meta = document.get("meta") or {}
    stated = re.fullmatch(r'(?:W/)?"([^"]+)"', etag)
    return document if meta.get("versionId") or not stated else {**document, "meta": {**meta, "versionId": stated[1]}}


def _exact(value: object) -> object:
    """A decimal goes out digit by digit, since 7.20 says more than 7.2."""
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f"))
    raise TypeError(f"{type(value).__name__} is not JSON")


def _written(reply: Reply, entries: int) -> Json:
    status, document = reply.status, reply.document
    if status in {409, 412}:
        raise Conflict(f"somebody else wrote first ({status})", status=status, codes=reply.codes)
    if 400 <= status < 500 and status not in READ_AGAIN:
        raise Rejected(f"the server refused the transaction ({status})", status=status, codes=reply.codes)
    if status not in {200, 201} or document is None or document.get("type") != "transaction-response":
        raise UnknownOutcome(
            f"the answer to a transaction was {status} with {reply.nature}", status=status, codes=reply.codes
        )
    statuses = [str((entry.get("response") or {}).get("status", "")) for entry in document.get("entry", ())]
    if len(statuses) != entries or not all(one.startswith("2") for one in statuses):
        raise UnknownOutcome(f"{entries} entries were sent, and not every one was answered as done", status=status)
    return document

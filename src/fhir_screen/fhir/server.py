"""How one FHIR R4 server is spoken to over HTTP: address, credentials, pages, patience, and what each refusal means."""

from __future__ import annotations

import http.client
import io
import logging
import re
import socket
import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urljoin

import orjson
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import LocationParseError, NewConnectionError
from urllib3.util import parse_url

from fhir_screen.errors import FhirScreenError, PreflightError, TemporaryError, UsageError
from fhir_screen.fhir.raw import Found, Json
from fhir_screen.fhir.reply import Reply, left_out, next_link, retry_after
from fhir_screen.fhir.search import Capabilities, Params
from fhir_screen.fhir.secret import Secret, basic, bearer, open_to_others

log = logging.getLogger(__name__)

FHIR_JSON: Final = "application/fhir+json"
LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
RELEASES: Final = {"1.0": "DSTU2", "3.0": "STU3", "5.0": "R5", "6.0": "R6"}
READ_AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})
"""Oracle answers 500 for passing trouble too; a read costs nothing to repeat."""
WRITE_AGAIN: Final = frozenset({429})
"""The one answer to a write that says for certain that it was not begun."""
NO_POST_SEARCH: Final = frozenset({404, 405, 501})
GONE: Final = frozenset({404, 410})

SMALLEST_PAGE: Final = 10
"""Fewer entries than any server's page holds: so few are surely all there are."""

_UNCACHED: Final = {"Cache-Control": "no-cache"}  # else HAPI repeats an answer that is up to 60 s old
_UNSTORED: Final = {"Cache-Control": "no-cache, no-store"}
_REFERENCE = re.compile(r"([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})\Z")
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how often a server is asked, in seconds, attempts and bytes.

    ``silence`` is the longest pause between two bytes, ``answer`` the longest whole answer, ``call`` the longest
    question with all its attempts and waits, ``run`` the longest life of a FhirServer. ``retry_after`` is the
    longest that a server's own Retry-After is obeyed.
    """

    connect: float = 10.0
    silence: float = 60.0
    answer: float = 300.0
    call: float = 900.0
    run: float = 6 * 3600.0
    attempts: int = 6
    first_wait: float = 0.5
    longest_wait: float = 30.0
    retry_after: float = 300.0
    page_entries: int = 200
    page_bytes: int = 64 << 20
    pages: int = 10_000


def spread(attempt: int) -> float:
    """A factor from 0.75 to 1 that differs from attempt to attempt, so that waits do not march in step."""
    return 0.75 + 0.25 * (attempt * 0.6180339887 % 1.0)


@dataclass(frozen=True, slots=True)
class Access:
    """Where a FHIR server is and how to enter; secrets are named by file and read when they are needed.

    ``token_file`` holds a bearer token, ``user_file`` one line ``user:password``; ``ca`` is a PEM file of own
    authorities, ``client_cert`` and ``client_key`` PEM files too. ``proxy`` is a URL; the environment is never asked.
    """

    base: str
    token_file: Path | None = None
    user_file: Path | None = None
    ca: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    proxy: str | None = None
    limits: Limits = field(default_factory=Limits)
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    jitter: Callable[[int], float] = spread

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is unsafe about these settings, though it works; no secret is in the words."""
        found = [open_to_others(path) for path in (self.token_file, self.user_file, self.client_key)]
        url = parse_url(self.base)
        if url.scheme == "http" and url.host not in LOCAL_HOSTS and (self.token_file or self.user_file):
            found.append("the token or password goes over plain http: use an https address")
        return tuple(words for words in found if words)


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
    """One FHIR server behind one address. Pages, tokens, retries and deadlines exist only in here.

    Raises UsageError for an address or secret file that cannot be meant, PreflightError where authorization or TLS
    fails, TemporaryError where the server cannot be reached or the run's deadline has passed.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._limits = access.limits
        self.base = _base(access.base)
        self._origin = _origin(self.base)
        self._credentials = _Credentials(self._origin, _secret(access))
        self._session = _session(access)
        self._run_ends = access.monotonic() + access.limits.run
        self._get_only: set[str] = set()
        self._give_ups = 0
        self._capabilities: Capabilities | None = None

    def __enter__(self) -> FhirServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._session.close()

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
            reply = self._ask(self._get(f"{self.base}/metadata"), replace(_READ, attempts=1))
        except _Trouble as trouble:
            raise self._down(trouble.words) from trouble
        if reply.status in READ_AGAIN:
            raise self._down(f"the server answers {reply.status}")

    def clock(self) -> datetime | None:
        """The server's own time by the Date header of an answer; None where it tells none."""
        try:
            reply = self._ask(self._get(f"{self.base}/metadata"), replace(_READ, attempts=1))
        except _Trouble:
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

    def read(self, reference: str, *, fresh: bool = True) -> Json | None:
        """The resource that "Type/id" names, with `meta.versionId`; None where it never was or no longer is."""
        kind, own_id = _reference_parts(reference)
        reply = self._instance(kind, own_id, _UNSTORED if fresh else _UNCACHED)
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
        reply = self._instance(kind, own_id, _UNSTORED)
        if reply.status in READ_AGAIN:
            raise SearchFailed(kind, f"{kind} answered {reply.status}", status=reply.status, codes=reply.codes)
        return reply.status == 410 and not reply.html

    def operation(self, path: str, parameters: Json) -> Json:
        """Invokes an operation that changes nothing ("ValueSet/$expand") and returns the resource it answers with.

        Raises PreflightError where the server refuses or answers with anything else.
        """
        call = _Call(
            "POST", f"{self.base}/{path}", {"Content-Type": FHIR_JSON}, orjson.dumps(parameters, default=_exact)
        )
        try:
            reply = self._ask(call, _READ)
        except _Trouble as trouble:
            raise self._down(trouble.words) from trouble
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
        call = _Call("POST", self.base, headers, orjson.dumps(bundle, default=_exact))
        try:
            reply = self._ask(call, _WRITE)
        except _Trouble as trouble:
            raise UnknownOutcome(f"the transaction was sent, but {trouble.words}") from trouble
        return _written(reply, len(bundle.get("entry", ())))

    def _stated(self) -> Capabilities:
        try:
            reply = self._ask(self._get(f"{self.base}/metadata"), replace(_READ, attempts=3))
        except _Trouble as trouble:
            raise self._down(trouble.words) from trouble
        if reply.status in READ_AGAIN:
            raise self._down(f"the server answers {reply.status}")
        if reply.status == 403:
            raise PreflightError("the server forbids us to read (403)", where=self.base, remedy=_ASK_FOR_SCOPES)
        if 300 <= reply.status < 400:
            target = _without_query(reply.headers.get("Location", ""))
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
            reply = self._page(kind, 1, _Call("POST", f"{self.base}/{kind}/_search", posted, form.encode()))
            if reply.status not in NO_POST_SEARCH:
                return reply
        reply = self._page(kind, 1, self._get(f"{self.base}/{kind}?{form}", headers))
        if reply.status == 200:
            self._get_only.add(kind)
        return reply

    def _instance(self, kind: str, own_id: str, freshness: Mapping[str, str]) -> Reply:
        try:
            return self._ask(self._get(f"{self.base}/{kind}/{own_id}", freshness), _READ)
        except _Trouble as trouble:
            raise SearchFailed(kind, f"{kind}: {trouble.words}") from trouble

    @property
    def _page_entries(self) -> str:
        return str(self._limits.page_entries)

    def _page(self, kind: str, number: int, call: _Call) -> Reply:
        try:
            return self._ask(call, _READ)
        except _Trouble as trouble:
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
        if _origin(absolute) != self._origin or _has_user(absolute):
            there = _site(absolute) or "an address that cannot be read"
            raise SearchFailed(
                kind,
                f"{kind}: the next page is said to be at {there}, not at {_site(self.base)}; not followed",
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

    def _get(self, url: str, headers: Mapping[str, str] | None = None) -> _Call:
        return _Call("GET", url, dict(headers or {}))

    def _down(self, words: str) -> TemporaryError:
        return TemporaryError(words, where=self.base, remedy="run the same command again when the server answers")

    def _ask(self, call: _Call, manner: _Manner) -> Reply:
        """Attempts and waits, until there is an answer worth having or patience ends.

        Raises _Trouble where the last attempt was sent and no answer came whole.
        """
        ends = self._access.monotonic() + self._limits.call
        attempts = self._patience(manner)
        attempt = 1
        while True:
            outcome = self._attempt(call)
            if not manner.again(outcome):
                self._give_ups = 0
                return _answer(outcome)
            wait = self._wait(outcome, attempt)
            if attempt >= attempts or self._access.monotonic() + wait > min(ends, self._run_ends):
                return self._given_up(outcome)
            log.info("retry status=%s attempt=%d wait=%.1f", outcome.status, attempt, wait)
            self._access.sleep(wait)
            attempt += 1

    def _patience(self, manner: _Manner) -> int:
        """A server that gave up on us again and again is asked with less patience, until it answers once."""
        attempts = min(manner.attempts or self._limits.attempts, self._limits.attempts)
        return attempts if attempts < 2 else max(2, attempts - self._give_ups)

    def _given_up(self, outcome: Reply | _Trouble) -> Reply:
        log.warning("given up status=%s", outcome.status)
        if outcome.status != 429:
            self._give_ups += 1
        if isinstance(outcome, _Trouble) and outcome.stage is _Stage.UNSENT:
            raise self._down(outcome.words) from outcome
        return _answer(outcome)

    def _wait(self, outcome: Reply | _Trouble, attempt: int) -> float:
        asked = retry_after(outcome.headers) if isinstance(outcome, Reply) else None
        if asked is not None:
            return min(asked, self._limits.retry_after)
        doubled = self._limits.first_wait * 2.0 ** (attempt - 1)
        return min(doubled, self._limits.longest_wait) * self._access.jitter(attempt)

    def _attempt(self, call: _Call) -> Reply | _Trouble:
        """One exchange, and one more with the secret read again where the first one is not let in."""
        try:
            reply = self._exchange(call)
            if reply.status == 401 and self._credentials.renewed():
                reply = self._exchange(call)
        except _Trouble as trouble:
            return trouble
        if reply.status == 401:
            raise PreflightError(
                f"the server does not let us in (401{self._credentials.used})",
                where=self.base,
                remedy="a valid token with --token-file, or user:password with --user-file",
            )
        return reply

    def _exchange(self, call: _Call) -> Reply:
        if self._access.monotonic() >= self._run_ends:
            raise self._down(f"the run took longer than {self._limits.run / 3600:g} h")
        session = self._session
        request = requests.Request(
            call.method,
            call.url,
            data=call.body,
            auth=self._credentials,
            headers={**call.headers, "X-Request-Id": str(uuid.uuid4())},
        )
        timeout = (self._limits.connect, self._limits.silence)
        try:
            prepared = session.prepare_request(request)
            prepared.url = call.url  # a next link is sent as it came, and requests would tidy it
            with session.send(
                prepared,
                timeout=timeout,
                allow_redirects=False,
                stream=True,
                verify=session.verify,
                cert=session.cert,
                proxies=session.proxies,
            ) as response:
                return Reply.of(response.status_code, response.headers, self._body(response))
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise self._told(error) from error

    def _body(self, response: requests.Response) -> bytes:
        parts: list[bytes] = []
        size = 0
        while part := response.raw.read(_CHUNK, decode_content=True):
            parts.append(part)
            size += len(part)
            if size > self._limits.page_bytes:
                raise _Trouble(f"the answer is larger than {self._limits.page_bytes >> 20} MB", _Stage.HOPELESS)
        return b"".join(parts)

    def _told(self, error: Exception) -> _Trouble:
        """What happened on the wire, in words without the URL, which libraries like to quote."""
        chain = list(_causes(error))
        if any(isinstance(one, ssl.SSLError) for one in chain) and not any(_is_cut(one) for one in chain):
            verification = next((one for one in chain if isinstance(one, ssl.SSLCertVerificationError)), None)
            words = f"the certificate does not hold: {verification.verify_message}" if verification else "TLS fails"
            raise PreflightError(
                words,
                where=self.base,
                remedy="--ca FILE for an authority of your own; check the name and dates of the certificate",
            ) from error
        if any(isinstance(one, socket.gaierror) for one in chain):
            return _Trouble("the name of the server cannot be resolved", _Stage.UNSENT)
        if any(isinstance(one, NewConnectionError | requests.ConnectTimeout) for one in chain):
            return _Trouble("the server cannot be reached", _Stage.UNSENT)
        if isinstance(error, requests.exceptions.ProxyError):
            return _Trouble("the proxy does not let us through", _Stage.UNSENT)
        if any(isinstance(one, TimeoutError | urllib3.exceptions.TimeoutError) for one in chain):
            return _Trouble("the answer took too long", _Stage.SENT)
        if any(isinstance(one, urllib3.exceptions.DecodeError) for one in chain):
            return _Trouble("the answer is not encoded as its header says", _Stage.SENT)
        return _Trouble("the connection was cut", _Stage.SENT)


_GIVE_BASE: Final = "the address must be the FHIR base, as in https://fhir.example.org/r4"
_ASK_FOR_SCOPES: Final = "ask the administrator for reading scopes, such as system/*.rs"


def identity(resource: Json) -> tuple[str, str, str]:
    """Type, id and version of a resource, or its whole content where it has no version."""
    meta = resource.get("meta") or {}
    stamp = meta.get("versionId") or orjson.dumps(resource, option=orjson.OPT_SORT_KEYS).decode()
    return str(resource.get("resourceType")), str(resource.get("id")), str(stamp)


class _Stage(Enum):
    UNSENT = "nothing reached the server"
    SENT = "the server may have acted"
    HOPELESS = "the same would come again"


class _Trouble(Exception):
    """No whole answer came."""

    status = None

    def __init__(self, words: str, stage: _Stage) -> None:
        super().__init__(words)
        self.words, self.stage = words, stage


class _Expired(Exception):
    """The server has forgotten the search that a next link belongs to."""


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Manner:
    """What is tried again: these statuses, and what was sent and lost (reads only). Unsent calls always are."""

    statuses: frozenset[int]
    lost: frozenset[_Stage]
    attempts: int | None = None

    def again(self, outcome: Reply | _Trouble) -> bool:
        if isinstance(outcome, _Trouble):
            return outcome.stage in self.lost
        return outcome.status in self.statuses or (outcome.torn and _Stage.SENT in self.lost)


_READ: Final = _Manner(READ_AGAIN, frozenset({_Stage.UNSENT, _Stage.SENT}))
_WRITE: Final = _Manner(WRITE_AGAIN, frozenset({_Stage.UNSENT}))


class _Credentials(AuthBase):
    """Puts the secret on requests to one origin, and on no other."""

    def __init__(self, origin: tuple[str, str, int], secret: Secret | None) -> None:
        self._origin, self._secret = origin, secret

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._secret and _origin(request.url or "") == self._origin:
            request.headers["Authorization"] = self._secret.header()
        return request

    def renewed(self) -> bool:
        """Reads the secret once more, whatever its date; False where there is none to be read."""
        try:
            return self._secret is not None and bool(self._secret.read())
        except UsageError:
            return False

    @property
    def used(self) -> str:
        return ", with the secret from the file read once more" if self._secret else ", and no secret was given"


class _Deadline(io.RawIOBase):
    """The reading end of a socket that stops at a moment, however busily it drips."""

    def __init__(self, inner: io.RawIOBase, ends: float, monotonic: Callable[[], float]) -> None:
        self._inner, self._ends, self._monotonic = inner, ends, monotonic

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._monotonic() >= self._ends:
            raise TimeoutError("the whole answer took too long")
        return self._inner.readinto(buffer)

    def close(self) -> None:
        self._inner.close()
        super().close()


def _session(access: Access) -> requests.Session:
    for path in (access.ca, access.client_cert, access.client_key):
        if path is not None and not path.is_file():
            raise UsageError("this file does not exist", where=str(path), remedy="a PEM file")
    session = requests.Session()
    session.trust_env = False
    session.verify = str(access.ca) if access.ca else True
    if access.client_cert:
        session.cert = (
            (str(access.client_cert), str(access.client_key)) if access.client_key else str(access.client_cert)
        )
    if access.proxy:
        session.proxies = {"http": access.proxy, "https": access.proxy}
    session.headers.update(
        {"Accept": FHIR_JSON, "Accept-Charset": "utf-8", "User-Agent": f"fhir-screen/{_own_version()}"}
    )
    adapter = _timed_adapter(access)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def _timed_adapter(access: Access) -> HTTPAdapter:
    """An adapter whose answers, headers included, end within `Limits.answer`; timeouts of requests are per byte."""

    class Answer(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            ends = access.monotonic() + access.limits.answer
            self.fp = io.BufferedReader(_Deadline(self.fp.detach(), ends, access.monotonic))

    class Plain(HTTPConnection):
        response_class = Answer

    class Secure(HTTPSConnection):
        response_class = Answer

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Secure

    class Timed(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs)
            self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}

        def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
            manager = super().proxy_manager_for(*args, **kwargs)
            manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
            return manager

    return Timed(max_retries=0)


def _secret(access: Access) -> Secret | None:
    if access.token_file and access.user_file:
        raise UsageError("both a token file and a user file are given", remedy="--token-file or --user-file, not both")
    if access.token_file:
        return Secret(access.token_file, bearer)
    return Secret(access.user_file, basic) if access.user_file else None


def _own_version() -> str:
    try:
        return version("fhir-screen")
    except PackageNotFoundError:
        return "0"


def _base(address: str) -> str:
    remedy = "an address such as https://fhir.example.org/r4, without a query"
    try:
        url = parse_url(address.strip())
    except LocationParseError as error:
        raise UsageError("the server's address cannot be read", remedy=remedy) from error
    if url.auth:
        raise UsageError("a user or password stands in the server's address", remedy="put it into a file: --user-file")
    if url.scheme not in {"http", "https"} or not url.host or url.query is not None or url.fragment is not None:
        raise UsageError("this is no FHIR base address", where=address, remedy=remedy)
    return url.url.rstrip("/")


def _origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port as the HTTP library itself will understand them; empty where it would not."""
    try:
        parts = parse_url(url)
    except LocationParseError:
        return "", "", 0
    scheme = parts.scheme or ""
    return scheme, (parts.host or "").rstrip("."), parts.port or {"http": 80, "https": 443}.get(scheme, 0)


def _site(url: str) -> str:
    scheme, host, port = _origin(url)
    return f"{scheme}://{host}:{port}" if host else ""


def _has_user(url: str) -> bool:
    return parse_url(url).auth is not None


def _without_query(url: str) -> str:
    return url.partition("?")[0].partition("#")[0]


def _reference_parts(reference: str) -> tuple[str, str]:
    parts = _REFERENCE.match(reference)
    if parts is None:
        raise UsageError("this is no reference of the form Type/id", where=repr(reference[:80]))
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


def _answer(outcome: Reply | _Trouble) -> Reply:
    if isinstance(outcome, _Trouble):
        raise outcome
    return outcome


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and all that it wraps; requests and urllib3 keep causes in arguments, too."""
    todo: list[object] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        todo += [one.__cause__, getattr(one, "reason", None), *one.args]


def _is_cut(error: BaseException) -> bool:
    return isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionResetError)

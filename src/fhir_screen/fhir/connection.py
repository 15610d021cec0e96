"""One exchange over HTTP and its repetition: credentials, deadlines, patience, and what a failure on the wire means."""

from __future__ import annotations

import http.client
import io
import logging
import socket
import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NewConnectionError
from urllib3.util import parse_url

from fhir_screen.errors import PreflightError, TemporaryError, UsageError
from fhir_screen.fhir.address import base_of, origin_of
from fhir_screen.fhir.reply import Reply, retry_after
from fhir_screen.fhir.secret import Secret, basic, bearer, open_to_others

log = logging.getLogger(__name__)
FHIR_JSON: Final = "application/fhir+json"
LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
READ_AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})
"""Oracle answers 500 for passing trouble too; a read costs nothing to repeat."""
WRITE_AGAIN: Final = frozenset({429})
"""The one answer to a write that says for certain that it was not begun."""
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
class Call:
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None = None


class Stage(Enum):
    UNSENT = "nothing reached the server"
    SENT = "the server may have acted"
    HOPELESS = "the same would come again"


class Trouble(Exception):
    """No whole answer came."""

    status = None

    def __init__(self, words: str, stage: Stage) -> None:
        super().__init__(words)
        self.words, self.stage = words, stage


@dataclass(frozen=True, slots=True)
class Manner:
    """What is tried again: these statuses, and what was sent and lost (reads only). Unsent calls always are."""

    statuses: frozenset[int]
    lost: frozenset[Stage]
    attempts: int | None = None

    def again(self, outcome: Reply | Trouble) -> bool:
        if isinstance(outcome, Trouble):
            return outcome.stage in self.lost
        return outcome.status in self.statuses or (outcome.torn and Stage.SENT in self.lost)


READ: Final = Manner(READ_AGAIN, frozenset({Stage.UNSENT, Stage.SENT}))
WRITE: Final = Manner(WRITE_AGAIN, frozenset({Stage.UNSENT}))


class Connection:
    """Exchanges with one server: attempts, waits, deadlines and credentials exist only in here.

    Raises UsageError for an address or secret file that cannot be meant, PreflightError where authorization or TLS
    fails, TemporaryError where the server cannot be reached or the run's deadline has passed.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._limits = access.limits
        self.base = base_of(access.base)
        self.origin = origin_of(self.base)
        self._credentials = _Credentials(self.origin, _secret(access))
        self._session = _session(access)
        self._run_ends = access.monotonic() + access.limits.run
        self._give_ups = 0

    def close(self) -> None:
        self._session.close()

    def ask(self, call: Call, manner: Manner) -> Reply:
        """Attempts and waits, until there is an answer worth having or patience ends.

        Raises Trouble where the last attempt was sent and no answer came whole.
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

    def down(self, words: str) -> TemporaryError:
        return TemporaryError(words, where=self.base, remedy="run the same command again when the server answers")

    def _patience(self, manner: Manner) -> int:
        """A server that gave up on us again and again is asked with less patience, until it answers once."""
        attempts = min(manner.attempts or self._limits.attempts, self._limits.attempts)
        return attempts if attempts < 2 else max(2, attempts - self._give_ups)

    def _given_up(self, outcome: Reply | Trouble) -> Reply:
        log.info("given up status=%s", outcome.status)
        if outcome.status != 429:
            self._give_ups += 1
        if isinstance(outcome, Trouble) and outcome.stage is Stage.UNSENT:
            raise self.down(outcome.words) from outcome
        return _answer(outcome)

    def _wait(self, outcome: Reply | Trouble, attempt: int) -> float:
        asked = retry_after(outcome.headers) if isinstance(outcome, Reply) else None
        if asked is not None:
            return min(asked, self._limits.retry_after)
        doubled = self._limits.first_wait * 2.0 ** (attempt - 1)
        return min(doubled, self._limits.longest_wait) * self._access.jitter(attempt)

    def _attempt(self, call: Call) -> Reply | Trouble:
        """One exchange, and one more with the secret read again where the first one is not let in."""
        try:
            reply = self._exchange(call)
            if reply.status == 401 and self._credentials.renewed():
                reply = self._exchange(call)
        except Trouble as trouble:
            return trouble
        if reply.status == 401:
            raise PreflightError(
                f"the server does not let us in (401{self._credentials.used})",
                where=self.base,
                remedy="a valid token with --token-file, or user:password with --user-file",
            )
        return reply

    def _exchange(self, call: Call) -> Reply:
        if self._access.monotonic() >= self._run_ends:
            raise self.down(f"the run took longer than {self._limits.run / 3600:g} h")
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
                raise Trouble(f"the answer is larger than {self._limits.page_bytes >> 20} MB", Stage.HOPELESS)
        return b"".join(parts)

    def _told(self, error: Exception) -> Trouble:
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
            return Trouble("the name of the server cannot be resolved (spelled right? behind a proxy: --proxy URL)", Stage.UNSENT)
        if any(isinstance(one, NewConnectionError | requests.ConnectTimeout) for one in chain):
            return Trouble("the server cannot be reached", Stage.UNSENT)
        if isinstance(error, requests.exceptions.ProxyError):
            return Trouble("the proxy does not let us through", Stage.UNSENT)
        if any(isinstance(one, TimeoutError | urllib3.exceptions.TimeoutError) for one in chain):
            return Trouble("the answer took too long", Stage.SENT)
        if any(isinstance(one, urllib3.exceptions.DecodeError) for one in chain):
            return Trouble("the answer is not encoded as its header says", Stage.SENT)
        return Trouble("the connection was cut", Stage.SENT)


class _Credentials(AuthBase):
    """Puts the secret on requests to one origin, and on no other."""

    def __init__(self, origin: tuple[str, str, int], secret: Secret | None) -> None:
        self._origin, self._secret = origin, secret

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._secret and origin_of(request.url or "") == self._origin:
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
    if access.ca and b"-----BEGIN CERTIFICATE-----" not in access.ca.read_bytes():
        raise UsageError("no certificate is in this file", where=str(access.ca), remedy="a PEM file: -----BEGIN CERTIFICATE-----")
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
        {"Accept": FHIR_JSON, "Accept-Charset": "utf-8", "User-Agent": f"fhir-screen/{own_version()}"}
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


def own_version() -> str:
    try:
        return version("fhir-screen")
    except PackageNotFoundError:  # run from a source tree that nobody installed
        return "0"


def _answer(outcome: Reply | Trouble) -> Reply:
    if isinstance(outcome, Trouble):
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

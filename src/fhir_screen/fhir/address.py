"""Addresses: the base of a FHIR server, and whether another address lies at the same place."""

from __future__ import annotations

from functools import lru_cache

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from fhir_screen.errors import UsageError


def base_of(address: str) -> str:
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


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port as the HTTP library itself will understand them; empty where it would not."""
    try:
        parts = parse_url(url)
    except LocationParseError:
        return "", "", 0
    scheme = parts.scheme or ""
    return scheme, (parts.host or "").rstrip("."), parts.port or {"http": 80, "https": 443}.get(scheme, 0)


def site_of(url: str) -> str:
    scheme, host, port = origin_of(url)
    return f"{scheme}://{host}:{port}" if host else ""


@lru_cache(maxsize=256)
def base_key(base: str) -> str:
    """One spelling of a base (rule R19): http or https, the case of the host and its usual ports make no other one.

    Behind a proxy a server may believe in either protocol and either port; the path is its own, to the letter.
    """
    authority, slash, path = base.partition("://")[2].rstrip("/").partition("/")
    host = authority.lower()
    for port in (":443", ":80"):
        host = host.removesuffix(port)
    return host.rstrip(".") + slash + path


def same_place(one: str, other: str) -> bool:
    """Whether two bases are of one server, however each of them is spelled."""
    return base_key(one) == base_key(other)


def has_user(url: str) -> bool:
    return parse_url(url).auth is not None


def without_query(url: str) -> str:
    return url.partition("?")[0].partition("#")[0]

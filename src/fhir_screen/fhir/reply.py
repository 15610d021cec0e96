"""What one answer of a FHIR server says, whatever came: a resource, a web page, half a sentence, or nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

import orjson

from fhir_screen.fhir.raw import Json

LEFT_OUT: Final = frozenset({"warning", "error", "fatal"})

_ISSUE_CODE = re.compile(r"[a-z][a-z-]{1,39}\Z")
_HAPI_CODE = re.compile(r"\bHAPI-\d{4}\b")


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole answer; ``nature`` says what it is, in words, and ``document`` is None unless it is a JSON object."""

    status: int
    headers: Mapping[str, str]
    document: Json | None
    nature: str
    html: bool

    @staticmethod
    def of(status: int, headers: Mapping[str, str], body: bytes) -> Reply:
        text = body.removeprefix(b"\xef\xbb\xbf").strip()
        if not text:
            return Reply(status, headers, None, "nothing", html=False)
        if text.startswith(b"<"):
            html = "html" in headers.get("Content-Type", "") or b"<html" in text[:1000].lower()
            return Reply(status, headers, None, "HTML" if html else "XML", html=html)
        try:
            document = orjson.loads(text)
        except orjson.JSONDecodeError:
            return Reply(status, headers, None, "something that is not JSON", html=False)
        if not isinstance(document, dict):
            return Reply(status, headers, None, "JSON that is no resource", html=False)
        kind = document.get("resourceType")
        named = f"a resource of type {kind}" if isinstance(kind, str) and kind.isalpha() else "JSON that is no resource"
        return Reply(status, headers, document, named, html=False)

    @property
    def torn(self) -> bool:
        """Whether a success arrived with no document in it, as after a proxy's hiccup; a web page is meant as it is."""
        return self.status == 200 and self.document is None and not self.nature.endswith("ML")

    @property
    def codes(self) -> tuple[str, ...]:
        return _issue_codes(self.document)


def next_link(bundle: Json) -> str:
    links = bundle.get("link") or ()
    urls = (link.get("url") for link in links if isinstance(link, Mapping) and link.get("relation") == "next")
    return next((url for url in urls if isinstance(url, str)), "")


def left_out(outcome: Json) -> Iterator[str]:
    """Issue types of what the server admits to have left out (rule R4, a); information is none of it."""
    for issue in outcome.get("issue") or ():
        if isinstance(issue, Mapping) and issue.get("severity") in LEFT_OUT:
            code = str(issue.get("code"))
            yield code if _ISSUE_CODE.match(code) else "unnamed"


def _issue_codes(document: Json | None) -> tuple[str, ...]:
    """Issue types, and HAPI's numbers, of an OperationOutcome; its free text may quote patient data and stays here."""
    if document is None or document.get("resourceType") != "OperationOutcome":
        return ()
    issues = [issue for issue in document.get("issue") or () if isinstance(issue, Mapping)]
    types = [code for issue in issues if _ISSUE_CODE.match(code := str(issue.get("code")))]
    numbers = [number for issue in issues for number in _HAPI_CODE.findall(str(issue.get("diagnostics")))]
    return tuple(dict.fromkeys([*types, *numbers]))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks us to wait (RFC 9110, 10.2.3); a date is measured by the server's own clock."""
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}", value):
        return float(value)
    try:
        seconds = (parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("Date", ""))).total_seconds()
    except (TypeError, ValueError):
        return None
    return seconds if seconds >= 0 else None

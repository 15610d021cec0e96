"""What fhir_screen wrote on a real server, and how the tests ask for it: fresh, and over all pages."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from typing import Any

WRITTEN = ("Device", "ResearchStudy", "ResearchSubject", "Observation", "Provenance")
OURS = "_tag=https%3A%2F%2Ffhir-screen.org%2Ftag%7Cmanaged"

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(url: str, method: str = "GET", body: Any = None, more: Mapping[str, str] | None = None) -> Any:
    """The JSON that a request is answered with; ``more`` are headers. Raises urllib's HTTPError."""
    told = {"Accept": "application/fhir+json", "Content-Type": "application/fhir+json", "Cache-Control": "no-cache"}
    data = json.dumps(body).encode() if body is not None else None
    with _direct.open(
        urllib.request.Request(url, data=data, method=method, headers=told | dict(more or {})), timeout=60
    ) as answer:
        return json.load(answer)


def ours(base: str, kind: str) -> list[Any]:
    """What stands with our tag, of one type."""
    found, url = [], f"{base}/{kind}?{OURS}&_count=200"
    while url:
        page = ask(url)
        found += [entry["resource"] for entry in page.get("entry", [])]
        url = next((link["url"] for link in page["link"] if link["relation"] == "next"), "")
    return found


def how_many(base: str, kind: str) -> int:
    """The number of those, without reading them."""
    return int(ask(f"{base}/{kind}?{OURS}&_summary=count")["total"])


def versions(base: str) -> dict[str, str]:
    """Of everything with our tag, by "Type/id"."""
    return {f"{kind}/{one['id']}": one["meta"]["versionId"] for kind in WRITTEN for one in ours(base, kind)}

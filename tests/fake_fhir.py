"""A small FHIR server for tests that always pages by two, and does on request what bad servers do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from werkzeug import Request, Response

PAGE = 2

Answer = Callable[["Asked"], Response | None]
"""A fault: answers in the server's place, or passes with None."""


@dataclass(frozen=True)
class Asked:
    """One request as the server understood it; ``page`` counts from 1."""

    method: str
    kind: str
    params: Mapping[str, str]
    page: int
    headers: Mapping[str, str]
    raw: str

    def about(self, patient: str) -> bool:
        return any(patient in value.replace("Patient/", "").split(",") for value in self.params.values())

    def alone(self, patient: str) -> bool:
        return any(value.replace("Patient/", "") == patient for value in self.params.values())


@dataclass
class FakeFhir:
    """Holds resources and answers /fhir: metadata, read, search by POST and GET, transactions of PUT and POST."""

    resources: list[dict[str, Any]] = field(default_factory=list)
    fhir_version: str = "4.0.1"
    kinds: tuple[str, ...] = ()
    search_params: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    faults: list[Answer] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    asleep: dict[str, tuple[str, dict[str, str], list[dict[str, Any]]]] = field(default_factory=dict)

    def __call__(self, request: Request) -> Response:
        asked, matches = self._understood(request)
        self.asked.append(asked)
        for fault in self.faults:
            answer = fault(asked)
            if answer is not None:
                return answer
        path = request.path.removeprefix("/fhir").strip("/")
        if path == "metadata":
            return fhir_json(self.statement())
        if request.method == "POST" and not path:
            return self._transaction(request.get_json())
        if path.count("/") == 1 and not path.endswith("/_search"):
            found = [one for one in self.resources if f"{one['resourceType']}/{one['id']}" == path]
            return fhir_json(found[0]) if found else outcome(404, "not-found")
        return self._page(request, asked, matches)

    def searches(self, kind: str) -> list[Asked]:
        return [one for one in self.asked if one.kind == kind]

    def statement(self) -> dict[str, Any]:
        kinds = self.kinds or tuple(sorted({one["resourceType"] for one in self.resources}))
        return {
            "resourceType": "CapabilityStatement",
            "fhirVersion": self.fhir_version,
            "software": {"name": "FakeFhir", "version": "1"},
            "rest": [
                {
                    "mode": "server",
                    "interaction": [{"code": "transaction"}],
                    "resource": [
                        {
                            "type": kind,
                            "interaction": [{"code": "read"}, {"code": "search-type"}],
                            "searchParam": [{"name": name} for name in self.search_params.get(kind, ())],
                        }
                        for kind in kinds
                    ],
                }
            ],
        }

    def _understood(self, request: Request) -> tuple[Asked, list[dict[str, Any]]]:
        path = request.path.removeprefix("/fhir").strip("/")
        raw = request.query_string.decode()
        params = dict(parse_qsl(raw, keep_blank_values=True))
        page = 1
        kind = path.partition("/")[0]
        matches: list[dict[str, Any]] = []
        if path.endswith("/_search"):
            params = dict(parse_qsl(request.get_data(as_text=True), keep_blank_values=True))
        if "_getpages" in params:
            kind, kept, matches = self.asleep[params["_getpages"]]
            page = 1 + int(params["_getpagesoffset"]) // PAGE
            params = {**kept, **params}
        elif kind:
            matches = [one for one in self.resources if one["resourceType"] == kind and _matches(one, params)]
        return Asked(request.method, kind, params, page, dict(request.headers), raw), matches

    def _page(self, request: Request, asked: Asked, matches: list[dict[str, Any]]) -> Response:
        base = request.host_url.rstrip("/") + "/fhir"
        start = (asked.page - 1) * PAGE
        links = [{"relation": "self", "url": base}]
        if start + PAGE < len(matches):
            ticket = asked.params.get("_getpages") or f"t{len(self.asleep)}"
            self.asleep[ticket] = (asked.kind, dict(asked.params), matches)
            # the last part must come back as it is, though a library would like to write a plain ~
            url = f"{base}?_getpages={ticket}&_getpagesoffset={start + PAGE}&_odd=a%7Cb%2C%7E"
            links.append({"relation": "next", "url": url})
        return fhir_json(searchset(matches[start : start + PAGE], links, base))

    def _transaction(self, bundle: dict[str, Any]) -> Response:
        for entry in bundle["entry"]:
            resource = entry["resource"]
            self.resources = [one for one in self.resources if _key(one) != _key(resource)] + [resource]
        done = [{"response": {"status": "201 Created", "etag": '"1"'}} for _ in bundle["entry"]]
        return fhir_json({"resourceType": "Bundle", "type": "transaction-response", "entry": done})


def fhir_json(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json.dumps(document), status, dict(headers or {}), content_type="application/fhir+json")


def searchset(
    resources: Iterable[dict[str, Any]], links: list[dict[str, str]] | None = None, base: str = ""
) -> dict[str, Any]:
    """A page; it has no `entry` at all when nothing was found, and its total lies."""
    entries = [
        {"fullUrl": f"{base}/{one['resourceType']}/{one['id']}", "resource": one, "search": {"mode": "match"}}
        for one in resources
    ]
    bundle = {"resourceType": "Bundle", "type": "searchset", "total": 1, "link": links or []}
    return {**bundle, "entry": entries} if entries else bundle


def outcome(status: int, code: str, diagnostics: str = "", severity: str = "error") -> Response:
    issue = {"severity": severity, "code": code, "diagnostics": diagnostics}
    return fhir_json({"resourceType": "OperationOutcome", "issue": [issue]}, status)


def _key(resource: Mapping[str, Any]) -> tuple[str, str]:
    return resource["resourceType"], resource["id"]


def _matches(resource: Mapping[str, Any], params: Mapping[str, str]) -> bool:
    tests = {
        "_id": lambda wanted: resource["id"] in wanted,
        "patient": lambda wanted: _subject(resource) in wanted,
        "subject": lambda wanted: f"Patient/{_subject(resource)}" in wanted,
        "code": lambda wanted: bool(_tokens(resource) & set(wanted)),
        "link": lambda wanted: any(link["other"]["reference"] in wanted for link in resource.get("link", ())),
    }
    return all(tests[name](value.split(",")) for name, value in params.items() if name in tests)


def _subject(resource: Mapping[str, Any]) -> str:
    whose = resource.get("subject") or resource.get("patient") or resource.get("individual") or {}
    return str(whose.get("reference", "")).removeprefix("Patient/")


def _tokens(resource: Mapping[str, Any]) -> set[str]:
    return {f"{one['system']}|{one['code']}" for one in resource.get("code", {}).get("coding", ())}

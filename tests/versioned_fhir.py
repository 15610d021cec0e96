"""A FHIR server for tests of writing: versions, If-Match, whole transactions or nothing, and HAPI's bad habits."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from werkzeug import Request, Response

from fake_fhir import fhir_json, outcome, searchset

Resource = dict[str, Any]


@dataclass
class VersionedFhir:
    """Takes transactions of PUT, reads, and searches by `_id`, `identifier` and `patient`.

    Like HAPI it ignores `ifNoneMatch`, answers 409 to a stale `ifMatch` (a deletion makes it stale, too), makes no
    version of an identical resource, keeps no versions inside references, and tells what was deleted (410) from what
    never was (404). ``shown`` is how it shows what stands, where that is not as it stands. ``before`` runs ahead of each transaction, as another writer would; what it returns is answered
    instead. ``after`` runs behind it, and what that returns is answered in its place.
    """

    stands: dict[str, Resource] = field(default_factory=dict)
    gone: dict[str, int] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    transactions: list[Resource] = field(default_factory=list)
    searches: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    cache_controls: set[str] = field(default_factory=set)
    before: list[Callable[[], Response | None]] = field(default_factory=list)
    after: list[Callable[[], Response | None]] = field(default_factory=list)
    refuse_search: Callable[[str], bool] = lambda _: False
    shown: Callable[[Resource], Resource] = lambda one: one

    def __call__(self, request: Request) -> Response:
        path = request.path.removeprefix("/fhir").strip("/")
        if request.method == "POST" and not path:
            return self._transaction(request.get_json())
        if path.endswith("/_search"):
            kind = path.removesuffix("/_search")
            params = dict(parse_qsl(request.get_data(as_text=True)))
            self.searches.append((kind, params))
            self.cache_controls.add(request.headers.get("Cache-Control", ""))
            if self.refuse_search(kind):
                return outcome(403, "forbidden")
            return fhir_json(searchset([self.shown(one) for one in self.of(kind) if _matches(one, params)]))
        if request.method == "GET" and path.count("/") == 1:
            self.reads.append(path)
            if path in self.stands:
                return fhir_json(self.stands[path])
            return outcome(410, "deleted") if path in self.gone else outcome(404, "not-found")
        return outcome(404, "not-found")

    def of(self, kind: str) -> list[Resource]:
        return [one for url, one in sorted(self.stands.items()) if url.startswith(f"{kind}/")]

    def only(self, kind: str) -> Resource:
        (one,) = self.of(kind)
        return one

    def versions(self) -> dict[str, str]:
        return {url: one["meta"]["versionId"] for url, one in self.stands.items()}

    def put(self, resource: Resource) -> None:
        """What anybody may do at any time; versions rise only with the content."""
        url = f"{resource['resourceType']}/{resource['id']}"
        old = self.stands.get(url)
        new = _without_versions(copy.deepcopy(resource))
        number = self._version(url)
        meta = {**new.get("meta", {}), "versionId": str(number)}
        if old is None or {**new, "meta": meta} != old:
            self.stands[url] = {**new, "meta": {**meta, "versionId": str(number + 1)}}
            self.gone.pop(url, None)

    def delete(self, kind: str) -> None:
        """A person's deletion of the one resource of this type; it is a version, too."""
        url = f"{kind}/{self.only(kind)['id']}"
        self.gone[url] = self._version(url) + 1
        del self.stands[url]

    def change(self, kind: str, **content: Any) -> None:
        """A person's change of the one resource of this type; None takes an element off."""
        resource = {**self.only(kind), **content}
        self.put({name: value for name, value in resource.items() if value is not None})

    def _version(self, url: str) -> int:
        """The last one, whether it stands or was deleted; 0 for what never was."""
        stands = self.stands.get(url)
        return int(stands["meta"]["versionId"]) if stands else self.gone.get(url, 0)

    def _transaction(self, bundle: Resource) -> Response:
        if self.before and (answer := self.before.pop(0)()) is not None:
            return answer
        self.transactions.append(bundle)
        for entry in bundle["entry"]:
            wanted, number = entry["request"].get("ifMatch"), self._version(entry["request"]["url"])
            if number and wanted not in {None, f'W/"{number}"'}:
                return outcome(409, "conflict")
        for entry in bundle["entry"]:
            self.put(entry["resource"])
        if self.after and (answer := self.after.pop(0)()) is not None:
            return answer
        done = [{"response": {"status": "200 OK"}} for _ in bundle["entry"]]
        return fhir_json({"resourceType": "Bundle", "type": "transaction-response", "entry": done})


def _matches(resource: Resource, params: dict[str, str]) -> bool:
    tests: dict[str, Callable[[], set[str]]] = {
        "_id": lambda: {resource["id"]},
        "identifier": lambda: {f"{one['system']}|{one['value']}" for one in resource.get("identifier", ())},
        "patient": lambda: {str(_whose(resource).get("reference")).removeprefix("Patient/")},
    }
    return all(tests[name]() & set(value.split(",")) for name, value in params.items() if name in tests)


def _whose(resource: Resource) -> Resource:
    return resource.get("individual") or resource.get("subject") or {}


def _without_versions(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: inner.partition("/_history/")[0] if name == "reference" else _without_versions(inner)
            for name, inner in value.items()
        }
    return [_without_versions(one) for one in value] if isinstance(value, list) else value

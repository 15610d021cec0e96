"""What the doctor finds on a real server; a retraction stands there, is not repeated, and can be spoken over."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from commands import Ended, fhir_screen
from tiny import DAY, chart, mappings

pytestmark = pytest.mark.server


def stands(base: str, path: str) -> list[dict[str, Any]]:
    request = urllib.request.Request(f"{base}/{path}", headers={"Cache-Control": "no-cache"})
    with urllib.request.urlopen(request) as answer:
        return [entry["resource"] for entry in json.load(answer).get("entry", ())]


def test_the_doctor_finds_a_real_server_well_and_its_probe_leaves_nothing(hapi: str, tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("site: doctor\n", encoding="utf-8")
    ended = fhir_screen("doctor", hapi, "--site", site, "--state", tmp_path / "state", "--probe-write", "--json")
    marks = {check["name"]: check["mark"] for check in ended.document["checks"]}
    assert {name: mark for name, mark in marks.items() if mark == "failed"} == {}
    assert (marks["FHIR"], marks["strict search"], marks["write probe"]) == ("ok", "ok", "ok")
    assert stands(hapi, "Basic?_id=fs-probe") == []


def test_a_retraction_on_a_real_server_is_kept_until_another_mapping_speaks(hapi: str, tmp_path: Path) -> None:
    patient, site, tiny = "retract-1", tmp_path / "site.yaml", mappings(tmp_path / "mappings")
    site.write_text("site: retracting\n", encoding="utf-8")
    entries = [
        {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
        for one in chart(patient)
    ]
    body = json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}).encode()
    urllib.request.urlopen(urllib.request.Request(hapi, body, {"Content-Type": "application/fhir+json"})).close()

    def night() -> Ended:
        words = ("--site", site, "--mappings", tiny, "--as-of", DAY, "--no-state", "--json")
        return fhir_screen("run", hapi, "--patient", patient, *words)

    def retract(*options: str) -> Ended:
        return fhir_screen(
            "retract", hapi, "--site", site, "--mappings", tiny, "--patient", patient, "--json", *options
        )

    def statuses() -> list[str]:
        ours = "category=https%3A%2F%2Ffhir-screen.org%2Fcategory%7Cresearch-screening"
        found = stands(hapi, f"Observation?patient={patient}&{ours}") + stands(
            hapi, f"ResearchSubject?patient={patient}"
        )
        return [one["status"] for one in found]

    assert (night().document["created"], statuses()) == (1, ["preliminary", "candidate"])
    assert (retract().document["retracted"], statuses()) == (1, ["preliminary", "candidate"])
    assert retract("--reason", "wrong code", "--yes").document["retracted"] == 1
    assert statuses() == ["entered-in-error", "not-registered"]
    assert (night().document["unchanged"], statuses()) == (1, ["entered-in-error", "not-registered"])
    words = tiny / "words.yaml"
    words.write_text(f"but_not: [corrected]\n{words.read_text('utf-8')}", encoding="utf-8")
    assert (night().document["updated"], statuses()) == (1, ["preliminary", "candidate"])

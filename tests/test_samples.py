"""The sample patients are sound FHIR and answer as their README says, wherever their elements lie."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from fhir.resources.R4B import get_fhir_model_class

from fhir_screen.fhir.raw import Damage
from fhir_screen.mapping.anchors import Anchors, load_anchors
from fhir_screen.mapping.documents import SiteDoc
from fhir_screen.mapping.load import load, packaged_mappings
from fhir_screen.nightly import Request, charts_of_files, screenings
from fhir_screen.report.ndjson import document

Dict = dict[str, Any]

SAMPLES = Path(__file__).parent.parent / "sample_bundles"
BUNDLES = sorted(SAMPLES.glob("*.json"))
EXPECTED: Dict = yaml.safe_load((SAMPLES / "expected.yaml").read_text(encoding="utf-8"))
README = (SAMPLES / "README.md").read_text(encoding="utf-8")
CANARIES = (SAMPLES / "canaries.txt").read_text(encoding="utf-8").splitlines()
TRIALS = ("TIL", "NK")
MOVED = "http://moved.example/"

Answers = Mapping[tuple[str, str], Dict]
"""What the contract's NDJSON says, by patient id and trial."""


def screened(
    source: Path, *, site: Path | None = None, anchors: Path | None = None, mappings: Path | None = None
) -> Answers:
    study = load(mappings, site)
    days = load_anchors(anchors) if anchors else Anchors()
    request = Request(EXPECTED["as_of"], today=lambda _: date.max, anchors=days)
    damage: list[Damage] = []
    done = list(screenings(charts_of_files(source, request, damage.append), study, request))
    found = [decision for one in done for decision in one.decisions]
    assert damage == []
    return {(d.patient.removeprefix("Patient/"), d.trial.id): document(d) for d in found}


@cache
def plain() -> Answers:
    return screened(SAMPLES)


@cache
def informed() -> Answers:
    return screened(SAMPLES, site=SAMPLES / "korean-site.yaml", anchors=SAMPLES / "anchors.yaml")


def bundle(path: Path) -> Dict:
    content: Dict = json.loads(path.read_text(encoding="utf-8"))
    return content


def resources(path: Path) -> list[Dict]:
    return [entry["resource"] for entry in bundle(path)["entry"]]


# What they are


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.stem)
def test_every_sample_is_one_patient_in_sound_r4(path: Path) -> None:
    get_fhir_model_class("Bundle").model_validate(bundle(path))
    kinds = [resource["resourceType"] for resource in resources(path)]
    assert kinds.count("Patient") == 1
    for resource in resources(path):
        get_fhir_model_class(resource["resourceType"]).model_validate(resource)


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.stem)
def test_every_sample_can_be_posted_to_a_server_as_it_is(path: Path) -> None:
    held = {f"{r['resourceType']}/{r['id']}" for r in resources(path)}
    assert bundle(path)["type"] == "transaction"
    for entry in bundle(path)["entry"]:
        address = f"{entry['resource']['resourceType']}/{entry['resource']['id']}"
        assert entry["request"] == {"method": "PUT", "url": address}
        assert entry["fullUrl"].endswith(f"/{address}")
    assert set(references(bundle(path))) <= held


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_no_two_samples_share_an_id() -> None:
    ids = [f"{r['resourceType']}/{r['id']}" for path in BUNDLES for r in resources(path)]
    assert len(ids) == len(set(ids))


# What they answer


@pytest.mark.parametrize("trial", TRIALS)
@pytest.mark.parametrize("patient", EXPECTED["patients"])
def test_a_sample_answers_as_expected(patient: str, trial: str) -> None:
    check(plain()[(patient, EXPECTED[trial])], EXPECTED["patients"][patient][trial])


@pytest.mark.parametrize("trial", TRIALS)
@pytest.mark.parametrize("patient", EXPECTED["patients"])
def test_local_codes_and_planned_days_change_only_what_they_tell_about(patient: str, trial: str) -> None:
    expected = EXPECTED["patients"][patient]
    check(informed()[(patient, EXPECTED[trial])], expected.get("informed", expected)[trial])


def check(answer: Dict, expected: Dict) -> None:
    atoms = {atom["id"]: atom for criterion in answer["criteria"] for atom in criterion["atoms"]}
    assert answer["verdict"] == expected["verdict"]
    assert answer["population"] == expected.get("population", "true")
    assert answer.get("blocked_by") == expected.get("blocked_by")
    assert [c["id"] for c in answer["criteria"] if c["effect"] == "blocks"] == expected.get("blocks", [])
    told = {
        name: " ".join(filter(None, (atoms[name]["truth"], atoms[name]["reason"])))
        for name in expected.get("atoms", {})
    }
    assert told == expected.get("atoms", {})


def test_every_sample_is_expected_and_every_expectation_has_its_sample() -> None:
    files = {patient: entry["file"] for patient, entry in EXPECTED["patients"].items()}
    assert files == {bundle(path)["id"]: path.name for path in BUNDLES}
    assert {patient for patient, _ in plain()} == set(files)


def test_the_readme_says_what_is_expected() -> None:
    first, _, second = README.partition("## What a site and its planners know")
    expected = EXPECTED["patients"].values()
    assert rows(first) == {e["file"]: tuple(e[t]["verdict"] for t in TRIALS) for e in expected}
    assert rows(second) == {
        e["file"]: tuple(e["informed"][t]["verdict"] for t in TRIALS) for e in expected if "informed" in e
    }


def rows(text: str) -> dict[str, tuple[str, ...]]:
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")
    ]
    return {file.strip("`"): (til, nk) for file, _, til, nk, _ in cells}


def test_a_partial_date_decides_on_the_day_that_is_told() -> None:
    answer = plain()[("sample-09", EXPECTED["TIL"])]
    (atom,) = (a for c in answer["criteria"] for a in c["atoms"] if a["id"] == "TIL-E02a")
    assert atom["changes_on"] == "2025-12-01"


def test_a_preliminary_result_and_a_transfusion_are_shown_and_do_not_decide() -> None:
    answer = plain()[("sample-23", EXPECTED["TIL"])]
    (atom,) = (a for c in answer["criteria"] for a in c["atoms"] if a["id"] == "TIL-I07a")
    assert set(atom["flags"]) >= {"post_transfusion", "preliminary_pending"}
    assert [e["reference"] for e in atom["evidence"]] == ["Observation/sample-23-hgb-2"]


# Canaries


def test_the_list_of_canaries_holds_every_name_birth_date_number_and_telephone() -> None:
    people = [next(r for r in resources(path) if r["resourceType"] == "Patient") for path in BUNDLES]
    for person in people:
        own = {name["text"] for name in person["name"]} | {
            given for n in person["name"] for given in n.get("given", [])
        }
        own |= {person["birthDate"], person["identifier"][0]["value"], person["telecom"][0]["value"]}
        assert own <= set(CANARIES)
    births = [person["birthDate"] for person in people]
    assert len(births) == len(set(births))
    assert len(CANARIES) == len(set(CANARIES))


def test_no_canary_reaches_the_output() -> None:
    text = json.dumps([*plain().values(), *informed().values()], ensure_ascii=False)
    assert [canary for canary in CANARIES if canary in text] == []


# Where things lie, and what they are called


@pytest.fixture(scope="session")
def moved_samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moved")
    count = 0
    for path in BUNDLES:
        content = bundle(path)
        for entry in content["entry"]:
            if is_laboratory(entry["resource"]):
                move(entry["resource"])
                count += 1
        (folder / path.name).write_text(json.dumps(content), encoding="utf-8")
    assert count > 300
    return folder


def is_laboratory(resource: Dict) -> bool:
    codes = [
        c["code"]
        for category in resource.get("category", [])
        if isinstance(category, dict)
        for c in category.get("coding", [])
    ]
    return resource["resourceType"] == "Observation" and "laboratory" in codes and "component" not in resource


def move(result: Dict) -> None:
    """Code, date, value and unit leave their elements for extensions."""

    def put(name: str, kind: str, value: object) -> None:
        result.setdefault("extension", []).append({"url": f"{MOVED}{name}", kind: value})

    put("code", "valueCodeableConcept", result.pop("code"))
    result["code"] = {"text": "result"}
    put("drawn", "valueDateTime", result.pop("effectiveDateTime"))
    if "valueCodeableConcept" in result:
        put("answer", "valueCodeableConcept", result.pop("valueCodeableConcept"))
    if "comparator" in result.get("valueQuantity", {}):
        put("bound", "valueQuantity", result.pop("valueQuantity"))
    if "valueQuantity" in result:
        amount = result.pop("valueQuantity")
        put("number", "valueDecimal", amount["value"])
        put("unit", "valueString", amount["unit"])


OVERLAY = """
site: moved
resources:
  Observation:
    code: ["$.extension[?(@.url == 'http://moved.example/code')].valueCodeableConcept", $.code]
    when: ["$.extension[?(@.url == 'http://moved.example/drawn')].valueDateTime", $.effectiveDateTime]
    value:
      quantity: [$.valueQuantity, "$.extension[?(@.url == 'http://moved.example/bound')].valueQuantity"]
      number: [$.valueInteger, "$.extension[?(@.url == 'http://moved.example/number')].valueDecimal"]
      unit: ["$.extension[?(@.url == 'http://moved.example/unit')].valueString"]
      coded: [$.valueCodeableConcept, "$.extension[?(@.url == 'http://moved.example/answer')].valueCodeableConcept"]
"""


def test_laboratory_results_moved_to_other_elements_answer_the_same_with_a_site_overlay(
    moved_samples: Path, tmp_path: Path
) -> None:
    overlay = tmp_path / "site.yaml"
    overlay.write_text(OVERLAY, encoding="utf-8")
    assert screened(moved_samples, site=overlay) == plain()


def test_without_the_overlay_moved_results_are_missing_and_never_normal(moved_samples: Path) -> None:
    answer = screened(moved_samples)[("sample-01", EXPECTED["TIL"])]
    atoms = {atom["id"]: atom for criterion in answer["criteria"] for atom in criterion["atoms"]}
    assert {atoms[name]["truth"] for name in ("TIL-I07a", "TIL-I07b", "TIL-I07f", "TIL-E05")} == {"unknown"}
    assert answer["verdict"] == "needs-review"


def renamed(text: str) -> str:
    return re.sub(
        r"\bTIL-[IE]\d\d[a-z]?\b", lambda found: f"q{hashlib.sha256(found[0].encode()).hexdigest()[:10]}", text
    )


def test_renaming_all_atoms_of_a_trial_changes_only_the_ids_in_the_output(tmp_path: Path) -> None:
    mappings = tmp_path / "mappings"
    shutil.copytree(packaged_mappings(), mappings)
    trial = mappings / "trials" / f"{EXPECTED['TIL']}.yaml"
    trial.write_text(renamed(trial.read_text(encoding="utf-8")), encoding="utf-8")
    after = screened(SAMPLES, mappings=mappings)
    for key, answer in plain().items():
        wanted = {**answer, "criteria": [with_new_ids(criterion) for criterion in answer["criteria"]]}
        assert after[key] == wanted


def with_new_ids(criterion: Dict) -> Dict:
    atoms = [{**atom, "id": renamed(atom["id"]), "because": renamed(atom["because"])} for atom in criterion["atoms"]]
    return {**criterion, "id": renamed(criterion["id"]), "atoms": atoms}


# Site files


def test_the_example_of_a_site_file_loads_and_shows_every_key() -> None:
    path = packaged_mappings() / "sites" / "example.yaml"
    assert load(site_file=path).site.id == "example"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(content) == {field.alias or name for name, field in SiteDoc.model_fields.items()}

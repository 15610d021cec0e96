"""The first day at a site: what the mappings do not know is told, and what is told back is used by the next run."""

from __future__ import annotations

import csv
import io
import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

import site_mapping_output
from commands import fhir_screen
from fake_fhir import FakeFhir, fhir_json
from fhir_screen.mapping.load import load, packaged_mappings
from fhir_screen.mapping.names import site_names
from fhir_screen.mapping.yamlfile import read_yaml
from tiny import DAY, LOINC, SNOMED, Resource, chart, mappings, write

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "sample_bundles"
LOCAL = "http://his.example/lab"
MARKS = [line for line in (SAMPLES / "canaries.txt").read_text("utf-8").splitlines() if line]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mappings(tmp_path_factory.mktemp("site") / "mappings")


def hemoglobin(own_id: str, patient: str, code: Resource, value: str = "13.2", unit: str = "g/dL") -> Resource:
    return {
        "resourceType": "Observation",
        "id": own_id,
        "status": "final",
        "subject": {"reference": f"Patient/{patient}"},
        "code": code,
        "effectiveDateTime": "2025-11-10",
        "valueQuantity": {"value": json.loads(value), "unit": unit},
    }


def local(code: str, display: str) -> Resource:
    return {"coding": [{"system": LOCAL, "code": code, "display": display}]}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two patients whose hemoglobin has a local code, and one of them a local unit; a third has the known code."""
    folder = tmp_path / "source"
    charts = [*chart("p1"), *chart("p2"), *chart("p3")]
    known = {f"{p}-hb" for p in ("p1", "p2")}
    charts = [one for one in charts if one["id"] not in known]
    charts.append(hemoglobin("h1", "p1", local("HB", "Hemoglobin (blood)")))
    charts.append(hemoglobin("h2", "p2", local("HB", "Hemoglobin (blood)"), "8.1", "gram-pro-dl"))
    charts.append(hemoglobin("h3", "p2", local("ZZ", "Something else")))
    write(folder / "all.json", charts)
    return folder


def answers(source: Path, tiny: Path, *more: str | Path) -> dict[str, tuple[str, str | None]]:
    """What the hemoglobin atom says of each patient."""
    done = fhir_screen("screen", source, "--mappings", tiny, "--as-of", DAY, *more)
    found = {}
    for line in done.out.splitlines():
        row = json.loads(line)
        atom = next(a for c in row["criteria"] for a in c["atoms"] if a["id"] == "T-I02")
        found[row["patient"].removeprefix("Patient/")] = (atom["truth"], atom["reason"])
    return found


def test_codes_lists_what_is_unknown_and_whom_it_may_concern(source: Path, tiny: Path) -> None:
    done = fhir_screen("codes", source, "--mappings", tiny, "--json")
    found = json.loads(done.out)
    assert done.code == 0
    assert [(one["code"], one["count"], one["patients"], one["atoms"]) for one in found["codes"]] == [
        ("HB", 2, 2, ["T-I02"]),
        ("ZZ", 1, 1, []),
    ]
    assert found["codes"][0]["perhaps"] == ["hemoglobin"]
    assert [(one["spelling"], one["count"]) for one in found["units"]] == [("gram-pro-dl", 1)]


def test_an_overlay_that_is_pasted_and_corrected_is_used_by_the_next_run(
    source: Path, tiny: Path, tmp_path: Path
) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(fhir_screen("codes", source, "--mappings", tiny).out, "utf-8")
    before = answers(source, tiny, "--site", overlay)
    assert [before[p] for p in ("p1", "p2", "p3")] == [("unknown", "no-data"), ("unknown", "no-data"), ("true", None)]
    text = overlay.read_text("utf-8")
    text = re.sub(r"#(- \{.*\"HB\".*)concept: NAME-IT", r"\1concept: hemoglobin", text)
    text = re.sub(r"#NAME-IT: (\[\"gram)", r"g/dL: \1", text)
    overlay.write_text(text, "utf-8")
    after = answers(source, tiny, "--site", overlay)
    assert [after[p] for p in ("p1", "p2", "p3")] == [("true", None), ("false", None), ("true", None)]
    again = json.loads(fhir_screen("codes", source, "--mappings", tiny, "--site", overlay, "--json").out)
    assert [one["code"] for one in again["codes"]] == ["ZZ"]
    assert again["units"] == []


def test_a_line_that_nobody_corrected_is_told_with_its_place(source: Path, tiny: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    text = fhir_screen("codes", source, "--mappings", tiny).out
    overlay.write_text(re.sub(r"#(- \{.*\"HB\")", r"\1", text), "utf-8")
    done = fhir_screen("check", "--mappings", tiny, "--site", overlay)
    assert done.code == 2
    assert re.search(r"overlay\.yaml:\d+, codes\[0\]\.concept: unknown concept 'NAME-IT'", done.err)


def test_words_of_one_patient_alone_are_counted_and_never_shown(tiny: Path, tmp_path: Path) -> None:
    rows = [*chart("p1"), *chart("p2"), *chart("p3")]
    rows.append(hemoglobin("h1", "p1", {"text": "Hemoglobin of Zebulon-Canary"}))
    rows.append(hemoglobin("h4", "p3", {"coding": [{"system": LOCAL, "code": "X"}], "text": "as Zebulon-Canary said"}))
    rows += [hemoglobin(f"h-{p}", p, {"text": "blood count"}) for p in ("p1", "p2")]
    write(tmp_path / "s" / "all.json", rows)
    for form in ([], ["--json"]):
        done = fhir_screen("codes", tmp_path / "s", "--mappings", tiny, *form)
        assert "Zebulon" not in done.out + done.err
        assert "blood count" in done.out
    found = json.loads(done.out)["codes"]
    assert {(one["code"], one["display"], one["count"]) for one in found} == {
        ("", "", 1), ("", "blood count", 2), ("X", "", 1),
    }  # fmt: skip


def test_a_code_of_a_known_system_is_listed_apart_even_where_its_name_is_looked_for(tiny: Path, tmp_path: Path) -> None:
    other = {"coding": [{"system": LOINC, "code": "4548-4", "display": "Hemoglobin A1c"}]}
    write(tmp_path / "s" / "all.json", [*chart("p1"), hemoglobin("h1", "p1", other, unit="%%")])
    found = json.loads(fhir_screen("codes", tmp_path / "s", "--mappings", tiny, "--json").out)
    assert [(one["code"], one["known_system"]) for one in found["codes"]] == [("4548-4", True)]
    assert found["units"] == []


def test_codes_of_a_server_looks_at_everybody(source: Path, tiny: Path, httpserver: HTTPServer) -> None:
    rows = json.loads((source / "all.json").read_text("utf-8"))
    resources = [entry["resource"] for entry in rows["entry"]] if isinstance(rows, dict) else rows
    for one in resources:
        if one["resourceType"] == "Condition":
            one["code"]["coding"][0]["system"] = "http://his.example/diagnosis"
    httpserver.expect_request(re.compile("/fhir.*")).respond_with_handler(FakeFhir(resources))
    done = fhir_screen("codes", httpserver.url_for("/fhir"), "--mappings", tiny, "--json")
    found = json.loads(done.out)
    assert found["patients"] == 3
    assert {one["code"] for one in found["codes"]} == {"HB", "ZZ", "C43.5"}


def test_coverage_counts_data_fresh_data_and_usable_data(tiny: Path, tmp_path: Path) -> None:
    rows = [*chart("p1"), *chart("p2", "8.0"), *chart("p3"), *chart("p4", disease="J45")]
    for one in rows:
        if one["id"] == "p3-hb":
            one["effectiveDateTime"] = "2024-01-10"
    rows = [one for one in rows if one["id"] != "p1-hb"]
    write(tmp_path / "s" / "all.json", rows)
    done = fhir_screen("coverage", tmp_path / "s", "--mappings", tiny, "--as-of", DAY, "--json")
    trial = json.loads(done.out)["trials"][0]
    criteria = {one["id"]: one for one in trial["criteria"]}
    hb = criteria["T-I02"]["atoms"][0]
    assert trial["patients"] == 3
    assert [hb[key] for key in ("any_data", "fresh", "usable", "true", "false")] == [2, 1, 1, 0, 1]
    assert hb["unknown"] == {"no-data": 1, "stale": 1}
    assert (criteria["T-I02"]["blocks"], criteria["T-I02"]["blocks_alone"]) == (1, 1)
    assert criteria["T-E01"]["atoms"][0]["any_data"] == 0


def test_a_patient_whom_two_criteria_keep_out_is_kept_out_by_none_alone(tiny: Path, tmp_path: Path) -> None:
    transplant = {
        "resourceType": "Procedure",
        "id": "t",
        "status": "completed",
        "subject": {"reference": "Patient/p1"},
        "code": {"coding": [{"system": SNOMED, "code": "77465005"}]},
        "performedDateTime": "2020-01-01",
    }
    write(tmp_path / "s" / "all.json", [*chart("p1", "8.0"), transplant])
    done = fhir_screen("coverage", tmp_path / "s", "--mappings", tiny, "--as-of", DAY, "--json")
    criteria = json.loads(done.out)["trials"][0]["criteria"]
    assert {c["id"]: (c["blocks"], c["blocks_alone"]) for c in criteria if c["blocks"]} == {
        "T-I02": (1, 0),
        "T-E01": (1, 0),
    }


def test_the_coverage_page_is_self_contained(tmp_path: Path) -> None:
    page = tmp_path / "coverage.html"
    done = fhir_screen("coverage", SAMPLES, "--as-of", "2025-11-15", "--html", page)
    text = page.read_text("utf-8")
    assert done.code == 0
    assert "<svg" in text
    assert "TIL-I07a" in text
    assert not re.search(r"<script|https?://|<link|url\(", text)


@pytest.mark.parametrize(
    "words", [("codes",), ("codes", "--json"), ("coverage", "--json"), ("coverage", "--html", "page.html")]
)
def test_no_patient_stands_in_any_of_these_outputs(words: tuple[str, ...], tmp_path: Path) -> None:
    done = fhir_screen(words[0], SAMPLES, *words[1:], cwd=tmp_path)
    left = done.out + done.err + "".join(file.read_text("utf-8") for file in tmp_path.iterdir())
    assert [mark for mark in MARKS if mark in left] == []
    assert not re.search(r"\bsample-\d", left)


CONCEPT_MAP = {
    "resourceType": "ConceptMap",
    "url": "http://his.example/ConceptMap/lab",
    "status": "active",
    "group": [
        {
            "source": LOCAL,
            "target": "http://loinc.org|2.77",
            "element": [
                {"code": "HB", "display": "Hb", "target": [{"code": "718-7", "equivalence": "equivalent"}]},
                {"code": "HBG", "target": [{"code": "718-7", "equivalence": "wider"}]},
                {"code": "GLU", "target": [{"code": "2345-7", "equivalence": "equal"}]},
                {"code": "OLD", "target": [{"equivalence": "unmatched"}]},
            ],
        }
    ],
}


def test_an_imported_concept_map_is_used_by_the_next_run(source: Path, tiny: Path, tmp_path: Path) -> None:
    write_map(tmp_path / "map.json", CONCEPT_MAP)
    done = fhir_screen("import-codes", tmp_path / "map.json", "--mappings", tiny, "-o", tmp_path / "lab.yaml")
    assert done.code == 0
    assert "1 codes hold, 1 are for a person, 1 have a target that no concept holds, 1 have none" in done.err
    site = tmp_path / "site.yaml"
    site.write_text("site: here\ninclude: [lab.yaml]\n", "utf-8")
    assert read_yaml(tmp_path / "lab.yaml").content["codes"] == [
        {"system": LOCAL, "code": "HB", "equals": "LNC|718-7", "display": "Hb"}
    ]
    assert answers(source, tiny, "--site", site)["p1"] == ("true", None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"resourceType": "ValueSet"}, "is not a FHIR ConceptMap"),
        ({"resourceType": "ConceptMap", "group": [{"source": LOCAL}]}, "group[0]"),
        ([], "is not a FHIR ConceptMap"),
    ],
)
def test_what_is_no_concept_map_is_told(content: Any, said: str, tiny: Path, tmp_path: Path) -> None:
    write_map(tmp_path / "map.json", content)
    done = fhir_screen("import-codes", tmp_path / "map.json", "--mappings", tiny)
    assert done.code == 2
    assert said in done.err
    assert done.out == ""


def write_map(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), "utf-8")


# --- expand ---------------------------------------------------------------------------------------------------------

# A few branches of SNOMED CT as the mapping lists them, with descendants that it does not list.
HIERARCHY = {
    "363346000": ["93761005", "372244006"],
    "372244006": ["93655004", "830150003"],
    "387713003": ["23968004"],
}


def code_system() -> Resource:
    def concept(code: str) -> Resource:
        below = [concept(one) for one in HIERARCHY.get(code, ())]
        return {"code": code, "display": f"concept {code}", **({"concept": below} if below else {})}

    roots = [concept(code) for code in HIERARCHY if not any(code in below for below in HIERARCHY.values())]
    return {
        "resourceType": "CodeSystem", "id": "site-commands-snomed", "url": SNOMED, "status": "active",
        "content": "complete", "hierarchyMeaning": "is-a", "concept": roots,
    }  # fmt: skip


def put(base: str, resource: Resource) -> None:
    request = urllib.request.Request(
        f"{base}/{resource['resourceType']}/{resource['id']}", data=json.dumps(resource).encode(), method="PUT",
        headers={"Content-Type": "application/fhir+json"},
    )  # fmt: skip
    with urllib.request.urlopen(request) as answer:
        answer.read()


def snomed_chart(code: str, display: str) -> list[Resource]:
    """A patient with melanoma, and a further condition that has a SNOMED CT code alone."""
    further = {
        "resourceType": "Condition",
        "id": "further",
        "subject": {"reference": "Patient/p1"},
        "clinicalStatus": {"coding": [{"code": "active"}]},
        "code": {"coding": [{"system": SNOMED, "code": code, "display": display}]},
        "onsetDateTime": "2025-06-10",
    }
    return [*chart("p1"), further]


def other_malignancy(folder: Path, *more: str | Path) -> dict[str, Any]:
    words = ("screen", folder, "--trial", "NCT07028008", "--as-of", DAY, *more)
    row = json.loads(fhir_screen(*words).out.splitlines()[0])
    return next(a for c in row["criteria"] for a in c["atoms"] if a["id"] == "TIL-E02a")


@pytest.mark.server
def test_descendants_from_a_real_server_decide_instead_of_words(hapi: str, tmp_path: Path) -> None:
    put(hapi, code_system())
    done = fhir_screen("expand", hapi, "-o", tmp_path / "descendants.yaml")
    assert done.code == 1, done.err
    assert "not expanded: http://snomed.info/sct|" in done.err
    site = tmp_path / "site.yaml"
    site.write_text("site: here\ninclude: [descendants.yaml]\n", "utf-8")
    saved = (tmp_path / "descendants.yaml").read_text("utf-8")
    assert re.match(r"# Descendants, from \S+ on \d{4}-\d\d-\d\d: \d+ codes, sha256 [0-9a-f]{64}\n", saved)

    write(tmp_path / "colon" / "all.json", snomed_chart("93761005", "Colon ca"))
    assert other_malignancy(tmp_path / "colon", "--site", site)["truth"] == "true"
    write(tmp_path / "words" / "all.json", snomed_chart("93761005", "Malignant neoplasm of colon"))
    words_alone = other_malignancy(tmp_path / "words")
    assert (words_alone["truth"], words_alone["reason"]) == ("unknown", "unmapped-code")

    # A melanoma lies below malignant disease as well, and is no other malignancy: listed, or below a listed one.
    for listed_or_not in ("93655004", "830150003"):
        write(tmp_path / listed_or_not / "all.json", snomed_chart(listed_or_not, "Melanoma of trunk"))
        assert other_malignancy(tmp_path / listed_or_not, "--site", site)["truth"] == "false"


class Pages:
    """ValueSet/$expand that gives two codes a page; with `stuck` the first page again and again."""

    def __init__(self, below: list[str], *, stuck: bool = False) -> None:
        self.below, self.stuck = below, stuck

    def __call__(self, request: Request) -> Response:
        parts = {one["name"]: one for one in request.get_json()["parameter"]}
        offset = 0 if self.stuck else parts.get("offset", {}).get("valueInteger", 0)
        contains = [{"system": SNOMED, "code": code} for code in self.below[offset : offset + 2]]
        return fhir_json({"resourceType": "ValueSet", "expansion": {"total": len(self.below), "contains": contains}})


def paging(httpserver: HTTPServer, pages: Pages) -> str:
    httpserver.expect_request("/fhir/ValueSet/$expand").respond_with_handler(pages)
    httpserver.expect_request(re.compile("/fhir.*")).respond_with_handler(FakeFhir(chart("p")))
    return httpserver.url_for("/fhir")


BELOW = [f"9000{number}" for number in range(5)]


def test_a_server_that_pages_is_asked_for_every_page(tmp_path: Path, httpserver: HTTPServer) -> None:
    done = fhir_screen("expand", paging(httpserver, Pages(BELOW)), "-o", tmp_path / "d.yaml")
    assert done.code == 0, done.err
    assert {row["code"] for row in read_yaml(tmp_path / "d.yaml").content["codes"]} == set(BELOW)


def test_half_an_expansion_is_none(tmp_path: Path, httpserver: HTTPServer) -> None:
    done = fhir_screen("expand", paging(httpserver, Pages(BELOW, stuck=True)), "-o", tmp_path / "d.yaml")
    assert done.code == 3
    assert "the server gave 2 of 5 descendants and no more" in done.err
    assert not (tmp_path / "d.yaml").exists()


def test_the_same_descendants_have_the_same_hash(tmp_path: Path, httpserver: HTTPServer) -> None:
    base = paging(httpserver, Pages(BELOW))
    texts = []
    for _ in range(2):
        fhir_screen("expand", base, "-o", tmp_path / "d.yaml")
        texts.append((tmp_path / "d.yaml").read_text("utf-8"))
    assert texts[0] == texts[1]


def test_the_page_shows_what_the_commands_say() -> None:
    page = site_mapping_output.PAGE.read_text("utf-8")
    assert page.count("$ fhir-screen") >= 7
    assert site_mapping_output.written(page) == page


def test_the_mapping_work_makes_a_hospital_with_local_codes_answer() -> None:
    site = ROOT / "mappings" / "sites" / "korean-local-codes.yaml"
    verdicts: list[str] = []
    unknown: list[int] = []
    for more in ((), ("--site", site)):
        words = ("screen", SAMPLES / "11-korean-local-codes.json", "--trial", "NCT00846833", "--as-of", DAY, *more)
        row = json.loads(fhir_screen(*words).out)
        verdicts.append(row["verdict"])
        atoms = [a for c in row["criteria"] for a in c["atoms"] if a["truth"] == "unknown" and a["reason"] != "manual"]
        unknown.append(len(atoms))
    assert verdicts == ["needs-review", "likely-eligible"]
    assert 5 * unknown[1] < unknown[0]


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_a_report_is_a_page_and_a_spreadsheet_for_their_owner_alone(tmp_path: Path, lang: str) -> None:
    page = tmp_path / "report.html"
    done = fhir_screen("report", SAMPLES, "--as-of", "2025-11-15", "--lang", lang, "-o", page)
    assert done.code == 0
    for path in (page, page.with_suffix(".csv")):
        assert f"written: {path}" in done.err
        assert path.stat().st_mode & 0o777 == 0o600
    text = page.read_text(encoding="utf-8")
    assert f'<html lang="{lang}">' in text
    assert "<script" not in text
    assert "https://" not in text


def test_a_report_goes_into_a_page(tmp_path: Path) -> None:
    assert fhir_screen("report", SAMPLES, "-o", tmp_path / "report.csv").code == 2


def test_concepts_are_found_by_their_name_and_their_meaning(tiny: Path) -> None:
    every = json.loads(fhir_screen("concepts", "--mappings", tiny, "--json").out)["concepts"]
    assert "hemoglobin" in {one["concept"] for one in every}
    found = fhir_screen("concepts", "HEMOGLOBIN", "--mappings", tiny)
    assert (found.code, found.err) == (0, "")
    assert found.out.splitlines() == ["hemoglobin  hemoglobin (Observation; 1 code)"]
    nothing = fhir_screen("concepts", "zebra", "--mappings", tiny)
    assert (nothing.code, nothing.out) == (1, "")
    assert nothing.err == "no concept has 'zebra' in its name or meaning; `fhir-screen concepts` lists all\n"


def test_concepts_are_found_by_what_sites_call_them_and_what_never_counts_says_so() -> None:
    for word in ("혈색소", "Hämoglobin"):
        assert fhir_screen("concepts", word).out == "lab-hemoglobin-mass  hemoglobin (Observation; 8 codes)\n"
    (line,) = fhir_screen("concepts", "lab-hemoglobin-NEVER").out.splitlines()
    assert line == "lab-hemoglobin-NEVER  never counts: look-alike (Observation; 1 code)"


def test_a_concept_that_no_criterion_asks_for_says_so() -> None:
    every = json.loads(fhir_screen("concepts", "--json").out)["concepts"]
    idle = {one["concept"] for one in every if one["counts"] and not one["asked_for"]}
    assert {"onc-tumor-size", "dx-hypertension", "ae-grade-low"} <= idle
    # kps-score is asked for where a parameter says so, and qual-indeterminate of every test.
    assert not {"onc-tumor-size-longest", "kps-score", "lab-egfr-bsa", "qual-indeterminate", "stage-iiic"} & idle
    (line,) = fhir_screen("concepts", "vital-bp-panel").out.splitlines()
    assert line == "vital-bp-panel  no criterion asks for it: blood pressure panel (Observation; 1 code)"


def test_what_sites_call_a_test_leads_to_a_concept_that_a_criterion_asks_for() -> None:
    study = load()
    names = site_names(packaged_mappings(), study.terms)
    assert names
    assert names.keys() - study.asked_for == set()


def test_a_report_of_hostile_texts_computes_nothing_and_runs_nothing(tiny: Path, tmp_path: Path) -> None:
    hostile = "=HYPERLINK(1) <script>alert(1)</script> melanoma"
    resources = chart("p1", disease="X99")
    resources[1]["code"] = {"text": hostile}
    write(tmp_path / "p1.json", resources)
    page = tmp_path / "report.html"
    assert fhir_screen("report", tmp_path / "p1.json", "--mappings", tiny, "--as-of", DAY, "-o", page).code == 0
    rows = list(csv.reader(io.StringIO(page.with_suffix(".csv").read_text("utf-8"))))
    assert any("HYPERLINK" in cell for cell in rows[1]), rows
    assert [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@"))] == []
    assert "<script>" not in page.read_text("utf-8")
    assert "&lt;script&gt;" in page.read_text("utf-8")


def test_the_samples_are_a_source_wherever_the_program_is_run(tmp_path: Path) -> None:
    here = fhir_screen("screen", "sample_bundles", "--as-of", DAY, "--format", "csv", cwd=tmp_path)
    assert (here.code, here.out.count("sample-01")) == (0, 2)
    (tmp_path / "sample_bundles").mkdir()
    own = fhir_screen("screen", "sample_bundles", "--as-of", DAY, "--format", "csv", cwd=tmp_path)
    assert own.code == 2, "a folder of this name is the reader's own"


def test_check_says_what_the_site_file_brought(tiny: Path, tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("site: north\ncodes:\n  - {system: urn:x, code: HB, concept: hemoglobin}\n", "utf-8")
    assert "site 'north': 1 code and 0 spellings of units of its own" in fhir_screen(
        "check", "--mappings", tiny, "--site", site
    ).out


def test_a_forgotten_name_is_told_as_the_manual_shows_it(tmp_path: Path) -> None:
    lines = ["# as `codes` wrote it"] * 4 + ["codes:", "  - {system: http://his.example/lab, code: HB, concept: NAME-IT}"]
    (tmp_path / "overlay.yaml").write_text("\n".join(lines), encoding="utf-8")
    ended = fhir_screen("check", "--site", "overlay.yaml", cwd=tmp_path)
    shown = f"$ fhir-screen check --site overlay.yaml\n{ended.err}```"
    assert (ended.code, shown in (ROOT / "docs" / "site-mapping.md").read_text("utf-8")) == (2, True)

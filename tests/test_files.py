"""What can be read from files, what cannot, and that neither hides the other."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from fhir_screen.errors import NoInputError
from fhir_screen.fhir.files import read_files
from fhir_screen.fhir.raw import Damage, Deletion, Haul

Dict = dict[str, Any]

PATIENT: Dict = {"resourceType": "Patient", "id": "p1", "birthDate": "1968-03-14"}


def observation(own_id: str = "o1", **more: Any) -> Dict:
    return {"resourceType": "Observation", "id": own_id, "subject": {"reference": "Patient/p1"}, **more}


def bundle(kind: str, *entries: Dict, **more: Any) -> Dict:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries), **more}


def outcome(severity: str, **more: Any) -> Dict:
    return {"resourceType": "OperationOutcome", "issue": [{"severity": severity, "code": "exception", **more}]}


def lines(*documents: object) -> str:
    return "".join(json.dumps(document) + "\n" for document in documents)


def read(tmp_path: Path, name: str, content: str | bytes | object) -> Haul:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_bytes((content if isinstance(content, str) else json.dumps(content)).encode())
    return read_files(path)


def names(haul: Haul) -> list[str]:
    return [f"{found.resource['resourceType']}/{found.resource.get('id')}" for found in haul.found]


def holes(haul: Haul) -> list[tuple[str | None, str | None]]:
    """Type and patient of each damage."""
    return [(damage.kind, damage.patient) for damage in haul.damage]


# Shapes that are read


@pytest.mark.parametrize(
    "kind",
    [
        "transaction",
        "transaction-response",
        "batch",
        "batch-response",
        "searchset",
        "history",
        "document",
        "collection",
        "message",
    ],
)
def test_every_type_of_bundle_gives_its_resources(tmp_path: Path, kind: str) -> None:
    haul = read(tmp_path, "a.json", bundle(kind, {"resource": PATIENT}, {"resource": observation()}))
    assert names(haul) == ["Patient/p1", "Observation/o1"]
    assert haul.damage == []


def test_a_single_resource_is_read(tmp_path: Path) -> None:
    haul = read(tmp_path, "p.json", PATIENT)
    assert [found.resource for found in haul.found] == [PATIENT]
    assert [(found.full_url, found.base, found.scope) for found in haul.found] == [("", "", "p.json")]


def test_an_entry_keeps_its_address_and_its_bundle(tmp_path: Path) -> None:
    first = bundle("collection", {"fullUrl": "urn:uuid:a", "resource": PATIENT})
    second = bundle("collection", {"fullUrl": "urn:uuid:a", "resource": observation()})
    haul = read(tmp_path, "two.ndjson", lines(first, second))
    assert [(found.full_url, found.scope) for found in haul.found] == [
        ("urn:uuid:a", "two.ndjson, line 1"),
        ("urn:uuid:a", "two.ndjson, line 2"),
    ]


def test_bundles_in_bundles_are_opened(tmp_path: Path) -> None:
    inner = bundle("searchset", {"resource": observation()})
    haul = read(tmp_path, "a.json", bundle("batch-response", {"resource": inner}, {"resource": PATIENT}))
    assert names(haul) == ["Observation/o1", "Patient/p1"]
    assert haul.found[0].scope == "a.json, entry 1"


def test_bundles_without_end_are_damage_and_no_crash(tmp_path: Path) -> None:
    deep: Dict = bundle("collection", {"resource": observation("deep")})
    for _ in range(60):
        deep = bundle("collection", {"resource": deep})
    haul = read(tmp_path, "a.ndjson", lines(deep, PATIENT))
    assert names(haul) == ["Patient/p1"]
    assert holes(haul) == [(None, None)]


ODD_TEXT = "line\u2028separator, next\u0085line, and a vertical\u000btab"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n \n", "\r\n\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("last", ["", "\n"])
def test_ndjson_loses_nothing_to_marks_and_line_ends(tmp_path: Path, start: str, end: str, last: str) -> None:
    odd = json.dumps(observation(note=[{"text": ODD_TEXT}]), ensure_ascii=False)
    haul = read(tmp_path, "x.ndjson", start + end.join([json.dumps(PATIENT), odd]) + last)
    assert names(haul) == ["Patient/p1", "Observation/o1"]
    assert haul.found[1].resource["note"][0]["text"] == ODD_TEXT
    assert haul.damage == []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_how_a_file_is_written(tmp_path: Path, encoding: str) -> None:
    patient = {**PATIENT, "name": [{"text": "시험"}]}
    haul = read(tmp_path, "p.json", json.dumps(patient, ensure_ascii=False).encode(encoding))
    assert [found.resource for found in haul.found] == [patient]


@pytest.mark.parametrize("name", ["a.json", "a.JSON", "a.ndjson", "a.jsonl", "a.txt", "a"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_named_outright_is_read_whatever_its_ending(tmp_path: Path, name: str, *, packed: bool) -> None:
    data = lines(PATIENT, observation()).encode()
    haul = read(tmp_path, name + ".gz" * packed, gzip.compress(data) if packed else data)
    assert names(haul) == ["Patient/p1", "Observation/o1"]
    assert haul.damage == []


@pytest.mark.parametrize("name", ["a.json", "a.ndjson", "a.json.gz", "a.txt"])
def test_one_document_over_several_lines_is_one_document(tmp_path: Path, name: str) -> None:
    haul = read(tmp_path, name, json.dumps(bundle("collection", {"resource": PATIENT}), indent=2))
    assert names(haul) == ["Patient/p1"]
    assert haul.damage == []


def test_a_file_that_is_not_packed_but_called_so_is_read(tmp_path: Path) -> None:
    assert names(read(tmp_path, "a.ndjson.gz", lines(PATIENT))) == ["Patient/p1"]


def test_numbers_keep_the_digits_a_threshold_needs(tmp_path: Path) -> None:
    long = '"component":[{"valueInteger":9007199254740993}]'
    text = f'{{"resourceType":"Observation","id":"o","valueQuantity":{{"value":7.20}},{long}}}'
    resource = read(tmp_path, "o.json", text).found[0].resource
    assert repr(resource["valueQuantity"]["value"]) == "7.2"
    assert resource["component"][0]["valueInteger"] == 9007199254740993


# Folders


def test_a_folder_is_read_whole_and_in_order(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.json").write_text(json.dumps(observation("second")))
    (tmp_path / "a.json").write_text(json.dumps(observation("first")))
    (tmp_path / "c.ndjson.gz").write_bytes(gzip.compress(lines(observation("third")).encode()))
    haul = read_files(tmp_path)
    assert names(haul) == ["Observation/first", "Observation/second", "Observation/third"]
    assert [found.scope for found in haul.found] == ["a.json", "b/x.json", "c.ndjson.gz, line 1"]


def test_a_folder_with_the_name_of_a_file_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x.json").mkdir()
    (tmp_path / "x.json" / "p.json").write_text(json.dumps(PATIENT))
    assert names(read_files(tmp_path)) == ["Patient/p1"]


def test_what_is_hidden_or_no_fhir_by_its_name_is_passed_over_in_silence(tmp_path: Path) -> None:
    for name in ("README.md", "site.yaml", "labs.csv", "x.json.bak", ".hidden.json", "noending"):
        (tmp_path / name).write_text("not FHIR")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "y.json").write_text("not FHIR")
    (tmp_path / "p.json").write_text(json.dumps(PATIENT))
    haul = read_files(tmp_path)
    assert names(haul) == ["Patient/p1"]
    assert haul.damage == []


def test_links_in_a_circle_end_and_no_file_is_read_twice(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "o.json").write_text(json.dumps({"resourceType": "Observation"}))
    (tmp_path / "in" / "up").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "in")
    (tmp_path / "z.json").symlink_to(tmp_path / "in" / "o.json")
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    haul = read_files(tmp_path)
    assert names(haul) == ["Observation/None"]
    assert [damage.what.partition(":")[0] for damage in haul.damage] == ["loop.json"]


def test_what_cannot_be_opened_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "p.json").write_text(json.dumps(PATIENT))
    haul = read_files(tmp_path)
    assert names(haul) == ["Patient/p1"]
    assert haul.damage == [
        Damage("gone.json: cannot be opened (does not exist)"),
        Damage("pipe.json: is neither a file nor a folder"),
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_forbidden_files_and_folders_are_told(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps(PATIENT))
    (tmp_path / "q.json").write_text("{}")
    (tmp_path / "q.json").chmod(0)
    (tmp_path / "r").mkdir(mode=0)
    haul = read_files(tmp_path)
    (tmp_path / "r").chmod(0o700)
    assert haul.damage == [
        Damage("q.json: cannot be opened (Permission denied)"),
        Damage("r: this folder cannot be read (Permission denied)"),
    ]


# Nothing to read


@pytest.mark.parametrize("name", ["nowhere", "bad\0name", "x" * 5000])
def test_a_source_that_does_not_exist_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(NoInputError) as caught:
        read_files(tmp_path / name)
    assert caught.value.exit_code == 2
    assert caught.value.remedy.startswith("give a folder or file")


@pytest.mark.parametrize("content", ["", "hello", "[]", "{}", '{"a": 1}', "<Patient/>", "null", "\n\n", "7"])
@pytest.mark.parametrize("name", ["a.json", "a.ndjson", "a.txt"])
def test_a_file_without_one_resource_is_an_error(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(NoInputError, match="not one readable FHIR resource"):
        read(tmp_path, name, content)


def test_a_folder_without_one_resource_says_why(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.json").write_text("{}")
    with pytest.raises(NoInputError) as caught:
        read_files(tmp_path)
    assert caught.value.what == (
        "not one readable FHIR resource; 0.json: JSON, but no FHIR: there is no resourceType; "
        "1.json: JSON, but no FHIR: there is no resourceType; "
        "2.json: JSON, but no FHIR: there is no resourceType; and 2 more"
    )


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match="not one readable FHIR resource"):
        read_files(tmp_path)


def test_an_answer_without_patients_is_an_answer(tmp_path: Path) -> None:
    haul = read(tmp_path, "a.json", {"resourceType": "Bundle", "type": "searchset", "total": 0})
    assert haul == Haul()


def test_an_empty_export_of_one_type_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "Observation.ndjson").write_text("")
    (tmp_path / "Patient.ndjson").write_text(lines(PATIENT))
    assert read_files(tmp_path).damage == []


# What cannot be read


@pytest.mark.parametrize(
    ("line", "kind", "patient"),
    [
        ("complete rubbish", None, None),
        ('"subject": {"reference": "Patient/p1"}}', None, None),
        ('{"resourceType": "Observation", "id": "o1", "sub', "Observation", None),
        ('{"resourceType":"Observation","subject":{"reference":"Patient/p1"},"val', "Observation", "p1"),
        ('{"resourceType":"Observation","subject":{"reference":"Patient/p1/_history/2"},"val', "Observation", "p1"),
        ('{"resourceType":"Observation","subject":{"reference":"Patient/p1', "Observation", None),
        ('{"resourceType":"Observation","subject":{"reference":"http://a/fhir/Patient/p1"},', "Observation", None),
        ('{"resourceType":"Observation","subject":{"reference":"urn:uuid:1"},"val', "Observation", None),
        # Somebody else is named, too: the line may have been put together of two.
        (
            '{"resourceType":"Observation","subject":{"reference":"Patient/p1"},"performer":[{"reference":"Patient/p2"}],',
            "Observation",
            None,
        ),
        ('{"resourceType":"Observation","subject":{"reference":"Patient/p1"},{"resourceType":"Condition"', None, None),
        ('{"resourceType":"Observation","subject":{"reference":"Patient/p1"},"subject":{"refer', None, None),
        ('{"resourceType":"AllergyIntolerance","patient":{"reference":"Patient/p1"},"co', "AllergyIntolerance", "p1"),
        ('{"resourceType":"Patient","id":"p9","birthDa', "Patient", "p9"),
        ('{"resourceType":"Patient","birthDa', "Patient", None),
        ('{"resourceType":"Patient","id":"p', "Patient", None),
        ('{"resourceType":"Bundle","type":"collection","entry":[{"res', None, None),
        ('{"resourceType":"Observaton","sta', None, None),
        ('{"id":"o1","resourceType":"Observation","sta', None, None),
        ('{"resourceType":"Observ', None, None),
        # Whole, but no FHIR.
        ("{}", None, None),
        ("[1, 2]", None, None),
        ('{"resourceType": 7}', None, None),
        ('{"resourceType": ["Observation"]}', None, None),
        ('{"resourceType": "observation", "id": "o1"}', None, None),
        ('{"resourceType": "Observaton", "id": "o1"}', None, None),
        # Whole, of a known type, and with one thing in it that cannot be meant.
        ('{"resourceType":"Observation","subject":{"reference":"Patient/p1"},"v":NaN}', "Observation", "p1"),
        ('{"resourceType":"Observation","subject":{"reference":"Patient/p1"},"v":1e400}', "Observation", "p1"),
        ('{"resourceType":"Observation","subject":{"reference":"Patient/p1"},"v":"\\ud800"}', "Observation", "p1"),
        ('{"resourceType":"Observation","subject":{"reference":"Patient/p1"},"id":7}', "Observation", "p1"),
        ('{"resourceType":"Observation","subject":{"identifier":{}},"v":-Infinity}', "Observation", None),
        ('{"v":NaN,"patient":{"reference":"Patient/p1"},"resourceType":"Immunization"}', "Immunization", "p1"),
        ('{"resourceType":"Patient","id":"p9","v":NaN}', "Patient", "p9"),
        ('{"resourceType":"Observation","v":' + "[" * 400 + "]" * 400 + "}", "Observation", None),
        ('{"resourceType":"Observation","v":' + "[" * 90000, "Observation", None),
    ],
)
def test_a_damaged_line_takes_no_more_with_it_than_it_must(
    tmp_path: Path, line: str, kind: str | None, patient: str | None
) -> None:
    haul = read(tmp_path, "x.ndjson", "\n".join([json.dumps(PATIENT), line, json.dumps(observation())]))
    assert names(haul) == ["Patient/p1", "Observation/o1"]
    assert holes(haul) == [(kind, patient)]
    assert haul.damage[0].what.startswith("x.ndjson, line 2: ")
    assert haul.damage[0].counts


def test_a_file_that_is_not_json_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("<html>Sign in</html>")
    (tmp_path / "b.json").write_text(json.dumps(PATIENT))
    haul = read_files(tmp_path)
    assert names(haul) == ["Patient/p1"]
    assert haul.damage == [Damage("a.json: is not JSON (unexpected character, expected a JSON value, at 1:1)")]


def test_a_damaged_file_of_one_resource_names_its_type_and_patient(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(observation(), indent=2)[:-3])
    (tmp_path / "b.json").write_text(json.dumps(PATIENT))
    assert holes(read_files(tmp_path)) == [("Observation", "p1")]


def test_bytes_that_are_no_utf8_spoil_the_one_resource_that_holds_them(tmp_path: Path) -> None:
    whole = bundle("collection", {"resource": PATIENT}, {"resource": observation(code={"text": "@"})})
    haul = read(tmp_path, "a.json", json.dumps(whole).encode().replace(b"@", "이식".encode("cp949")))
    assert names(haul) == ["Patient/p1"]
    assert holes(haul) == [("Observation", "p1")]


def test_an_impossible_number_spoils_the_one_entry_that_holds_it(tmp_path: Path) -> None:
    entries = [{"resource": PATIENT}, {"resource": observation("bad", value="@")}, {"resource": observation("good")}]
    haul = read(tmp_path, "a.json", json.dumps(bundle("collection", *entries)).replace('"@"', "NaN"))
    assert names(haul) == ["Patient/p1", "Observation/good"]
    assert holes(haul) == [("Observation", "p1")]
    assert haul.damage[0].what.startswith("a.json, entry 2: cannot be read (")


def test_a_spoilt_entry_finds_its_patient_by_the_address_in_its_bundle(tmp_path: Path) -> None:
    bad = {**observation("bad", value="@"), "subject": {"reference": "urn:uuid:1"}}
    entries: list[Dict] = [{"fullUrl": "urn:uuid:1", "resource": PATIENT}, {"resource": bad}]
    haul = read(tmp_path, "a.json", json.dumps(bundle("collection", *entries)).replace('"@"', "NaN"))
    assert holes(haul) == [("Observation", "p1")]


@pytest.mark.parametrize(
    "number", ["18446744073709551616", "-9223372036854775809", "1" * 300, "12345678901234567890.5"]
)
def test_a_number_of_any_length_is_no_crash(tmp_path: Path, number: str) -> None:
    haul = read(tmp_path, "o.json", json.dumps(observation(value="@")).replace('"@"', number))
    assert names(haul) == ["Observation/o1"]
    # The same, where NaN elsewhere in the file makes the slower parser read it.
    both = bundle("collection", {"resource": observation(value="@")}, {"resource": observation("o2", value="!")})
    haul = read(tmp_path, "b.json", json.dumps(both).replace('"@"', number).replace('"!"', "NaN"))
    assert names(haul) == ["Observation/o1"]


def test_no_contents_are_told_with_a_damage(tmp_path: Path) -> None:
    text = '{"resourceType":"Observation","note":"Canary Kim","subject":{"reference":"Patient/p1","display":"Canary"},'
    haul = read(tmp_path, "x.ndjson", text + "\n" + lines(PATIENT, outcome("error", diagnostics="Canary Kim is ill")))
    assert len(haul.damage) == 2
    assert not any("Canary" in damage.what for damage in haul.damage)


@pytest.mark.parametrize(
    ("entry", "hole"),
    [
        ("text", (None, None)),
        (None, (None, None)),
        ({"resource": "text"}, (None, None)),
        ({"resource": ["x"]}, (None, None)),
        ({"resource": {}}, (None, None)),
        ({"resource": {"resourceType": "Observation", "id": 5}}, ("Observation", None)),
        ({"resource": {"resourceType": "Bundle", "entry": "x"}}, (None, None)),
    ],
)
def test_a_malformed_entry_is_damage(tmp_path: Path, entry: Any, hole: tuple[str | None, str | None]) -> None:
    haul = read(tmp_path, "a.json", {"resourceType": "Bundle", "entry": [entry, {"resource": PATIENT}]})
    assert names(haul) == ["Patient/p1"]
    assert holes(haul) == [hole]


@pytest.mark.parametrize("entry", [{}, {"fullUrl": "urn:x"}, {"resource": None}, {"search": {"mode": "match"}}])
def test_an_entry_without_a_resource_is_nothing(tmp_path: Path, entry: Dict) -> None:
    assert read(tmp_path, "a.json", bundle("searchset", entry, {"resource": PATIENT})).damage == []


def test_of_a_gzip_file_that_was_cut_off_the_whole_lines_are_read(tmp_path: Path) -> None:
    packed = gzip.compress(lines(PATIENT, *(observation(f"o{n}") for n in range(200))).encode())
    haul = read(tmp_path, "x.ndjson.gz", packed[:-30])
    assert names(haul)[:2] == ["Patient/p1", "Observation/o0"]
    assert haul.damage == [Damage("x.ndjson.gz: the gzip file is cut off")]


def test_of_a_gzip_file_with_a_wrong_checksum_nothing_is_believed(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(lines(observation()).encode()))
    packed[-6] ^= 0xFF
    (tmp_path / "x.ndjson.gz").write_bytes(packed)
    (tmp_path / "p.json.gz").write_bytes(gzip.compress(json.dumps(PATIENT).encode()))
    haul = read_files(tmp_path)
    assert names(haul) == ["Patient/p1"]
    assert haul.damage == [Damage("x.ndjson.gz: the gzip file is damaged")]


def test_a_bundle_that_was_cut_off_in_gzip_is_one_damage(tmp_path: Path) -> None:
    packed = gzip.compress(json.dumps(bundle("collection", {"resource": PATIENT}), indent=1).encode())
    (tmp_path / "b.json.gz").write_bytes(packed[:-20])
    (tmp_path / "p.json").write_text(json.dumps(PATIENT))
    assert read_files(tmp_path).damage == [Damage("b.json.gz: the gzip file is cut off")]


# What the source says was left out


@pytest.mark.parametrize(
    ("issue", "kind", "kinds"),
    [
        ({}, None, {"Condition", "Observation"}),
        ({"diagnostics": "some entries were left out"}, None, {"Condition", "Observation"}),
        ({"diagnostics": "Procedure: 3 resources were left out"}, "Procedure", set()),
        ({"diagnostics": "Procedure and Condition resources are withheld"}, None, {"Condition", "Procedure"}),
        ({"details": {"text": "Immunization not available"}}, "Immunization", set()),
        # The first word may be any word: this says nothing of Patient resources alone.
        ({"diagnostics": "Patient data from the old system is missing"}, None, {"Condition", "Observation"}),
        ({"diagnostics": "List of drugs cut at 100"}, None, {"Condition", "Observation"}),
        ({"expression": ["Procedure.code"]}, "Procedure", set()),
        ({"expression": ["Procedure"], "diagnostics": "Observation"}, "Procedure", set()),
        ({"location": ["/f:Encounter/f:period"]}, "Encounter", set()),
        ({"expression": ["Bundle.entry[3]"]}, None, {"Condition", "Observation"}),
        ({"expression": ["Patient"]}, None, {"Condition", "Observation"}),
        ({"expression": "Procedure"}, None, {"Condition", "Observation"}),
    ],
)
@pytest.mark.parametrize("severity", ["warning", "error", "fatal", "unheard-of"])
def test_an_outcome_that_warns_makes_types_incomplete(
    tmp_path: Path, severity: str, issue: Dict, kind: str | None, kinds: set[str]
) -> None:
    entries = [
        {"resource": observation()},
        {"resource": {"resourceType": "Condition", "id": "c"}},
        {"resource": outcome(severity, **issue), "search": {"mode": "outcome"}},
    ]
    haul = read(tmp_path, "a.json", bundle("searchset", *entries))
    assert names(haul) == ["Observation/o1", "Condition/c"]
    assert [(damage.kind, set(damage.scope_kinds), damage.patient) for damage in haul.damage] == [(kind, kinds, None)]


@pytest.mark.parametrize("severity", ["information", "success"])
def test_an_outcome_that_only_informs_changes_nothing(tmp_path: Path, severity: str) -> None:
    haul = read(tmp_path, "a.json", bundle("searchset", {"resource": outcome(severity)}, {"resource": PATIENT}))
    assert (names(haul), haul.damage) == (["Patient/p1"], [])


def test_an_outcome_on_a_line_of_its_own_makes_every_type_incomplete(tmp_path: Path) -> None:
    haul = read(tmp_path, "x.ndjson", lines(PATIENT, outcome("error")))
    assert haul.damage == [Damage("x.ndjson, line 2: the source says that something is missing (error, exception)")]


def test_an_outcome_of_odd_shape_still_warns(tmp_path: Path) -> None:
    odd = [{"resourceType": "OperationOutcome", "issue": "x"}, {"resourceType": "OperationOutcome", "issue": ["x"]}]
    haul = read(tmp_path, "x.ndjson", lines(PATIENT, *odd, {"resourceType": "OperationOutcome"}))
    assert holes(haul) == [(None, None), (None, None)]


@pytest.mark.parametrize(
    ("response", "more", "kind"),
    [
        ({"status": "403 Forbidden"}, {}, "Condition"),
        ({"status": "404"}, {"fullUrl": "http://a/fhir/Procedure/1"}, "Procedure"),
        ({"status": "500", "location": "Encounter/1/_history/1"}, {}, "Encounter"),
        ({"status": "400 Bad", "outcome": outcome("error", diagnostics="Immunization: no")}, {}, "Immunization"),
        ({"status": "403"}, {"resource": outcome("error", expression=["Procedure.code"])}, "Procedure"),
        ({"lastModified": "2025-01-01"}, {}, "Condition"),
    ],
)
def test_a_refused_entry_makes_a_type_incomplete(tmp_path: Path, response: Dict, more: Dict, kind: str) -> None:
    found = {
        "resource": bundle("searchset", {"resource": {"resourceType": "Condition"}}),
        "response": {"status": "200 OK"},
    }
    haul = read(tmp_path, "a.json", bundle("batch-response", found, {"response": response, **more}))
    assert holes(haul) == [(kind, None)]
    assert haul.damage[0].what.startswith("a.json, entry 2: was refused (")


def test_where_nothing_came_every_type_is_incomplete(tmp_path: Path) -> None:
    haul = read(tmp_path, "x.ndjson", lines(bundle("batch-response", {"response": {"status": "403"}}), PATIENT))
    assert haul.damage == [Damage("x.ndjson, line 1, entry 1: was refused (403)")]


NEXT: Dict = {"relation": "next", "url": "http://a/fhir?page=2"}


@pytest.mark.parametrize(
    ("entries", "own", "kind", "kinds"),
    [
        ([{"resource": observation()}], "", "Observation", set()),
        (
            [
                {"resource": observation(), "search": {"mode": "match"}},
                {"resource": PATIENT, "search": {"mode": "include"}},
            ],
            "",
            "Observation",
            set(),
        ),
        (
            [{"resource": observation()}, {"resource": {"resourceType": "Condition"}}],
            "",
            None,
            set(),  # nobody says what was searched
        ),
        (
            [{"resource": observation()}, {"resource": {"resourceType": "Condition"}}],
            "http://a/fhir/Observation?_include=Observation:focus",
            None,
            {"Condition", "Observation"},
        ),
        ([{"resource": PATIENT}], "http://a/fhir/Patient?_revinclude=Procedure:subject", None, {"Patient", "Procedure"}),
        ([{"resource": PATIENT}], "", "Patient", set()),
        # _revinclude: the records of the next patients are on the next page.
        ([{"resource": PATIENT}, {"resource": observation(), "search": {"mode": "include"}}], "", None, set()),
        ([{"resource": observation()}], "http://a/fhir/Patient/p1/$everything", None, set()),
        ([], "http://a/fhir/Procedure?patient=p1", "Procedure", set()),
        ([], "", None, set()),
    ],
)
def test_a_next_link_makes_the_searched_type_incomplete_without_being_a_failure(
    tmp_path: Path, entries: list[Dict], own: str, kind: str | None, kinds: set[str]
) -> None:
    links = [{"relation": "self", "url": own}, NEXT]
    haul = read(tmp_path, "a.json", bundle("searchset", *entries, link=links))
    what = "a.json: Bundle still carries a next link: pages are missing"
    assert haul.damage == [Damage(what, kind, counts=False, scope_kinds=frozenset(kinds))]


def test_a_next_page_that_is_another_file_is_not_missing(tmp_path: Path) -> None:
    first = bundle("searchset", {"resource": PATIENT}, link=[NEXT])
    second = bundle("searchset", {"resource": observation()}, link=[{**NEXT, "relation": "self"}])
    (tmp_path / "2.json").write_text(json.dumps(first))
    (tmp_path / "1.json").write_text(json.dumps(second))
    assert read_files(tmp_path).damage == []


# Deletions


@pytest.mark.parametrize(
    ("entry", "deletion"),
    [
        ({"request": {"method": "DELETE", "url": "Observation/o1"}}, Deletion("Observation/o1")),
        (
            {
                "fullUrl": "http://a/fhir/Observation/o1",
                "request": {"method": "DELETE", "url": "Observation/o1"},
                "response": {"status": "204", "etag": 'W/"3"', "lastModified": "2025-10-02T09:00:00+09:00"},
            },
            Deletion("Observation/o1", "http://a/fhir", "3", "2025-10-02T09:00:00+09:00"),
        ),
        (
            {"request": {"method": "DELETE", "url": "http://a/fhir/Observation/o1"}},
            Deletion("Observation/o1", "http://a/fhir"),
        ),
        (
            {"fullUrl": "http://a/fhir/Observation/o1", "request": {"method": "DELETE"}},
            Deletion("Observation/o1", "http://a/fhir"),
        ),
        (
            {"request": {"method": "DELETE", "url": "Observation/o1"}, "resource": observation()},
            Deletion("Observation/o1"),
        ),
    ],
)
def test_a_deletion_is_told(tmp_path: Path, entry: Dict, deletion: Deletion) -> None:
    haul = read(tmp_path, "a.json", bundle("history", entry))
    assert (haul.deletions, haul.found, haul.damage) == ([deletion], [], [])


def test_a_deletion_by_search_cannot_be_followed(tmp_path: Path) -> None:
    entry = {"request": {"method": "DELETE", "url": "Observation?identifier=http://a/Patient/1"}}
    haul = read(tmp_path, "a.json", bundle("transaction", entry))
    assert holes(haul) == [("Observation", None)]
    assert haul.deletions == []


def test_a_version_that_only_the_entry_tells_is_that_of_the_resource(tmp_path: Path) -> None:
    answer = {"status": "200", "etag": 'W/"7"', "lastModified": "2025-10-02T09:00:00Z"}
    stamped = {**observation("o2"), "meta": {"versionId": "1"}}
    entries = [{"resource": observation(), "response": answer}, {"resource": stamped, "response": answer}]
    haul = read(tmp_path, "a.json", bundle("history", *entries))
    assert [found.resource["meta"] for found in haul.found] == [
        {"versionId": "7", "lastUpdated": "2025-10-02T09:00:00Z"},
        {"versionId": "1", "lastUpdated": "2025-10-02T09:00:00Z"},
    ]


# Any input at all


def test_no_cut_of_a_file_raises_anything_else(tmp_path: Path) -> None:
    whole = lines(bundle("searchset", {"resource": PATIENT}, link=[NEXT]), observation(), outcome("warning")).encode()
    for cut in range(0, len(whole), 7):
        path = tmp_path / f"{cut}.ndjson"
        path.write_bytes(whole[:cut])
        try:
            read_files(path)
        except NoInputError:
            assert cut < whole.index(b"\n")


@pytest.mark.parametrize("value", [None, 7, "text", [], {}, [None], [7], ["x"], [[]], [{}], True])
def test_no_shape_of_any_element_raises(tmp_path: Path, value: object) -> None:
    shapes: list[Dict] = [{**bundle("searchset"), key: value} for key in ("entry", "link", "type")]
    entry = {"fullUrl": "x", "resource": PATIENT, "request": {}, "response": {}, "search": {}}
    shapes += [bundle("batch-response", {**entry, key: value}) for key in entry]
    shapes += [
        bundle("history", {"request": {"method": value, "url": value}, "response": {"status": value, "etag": value}})
    ]
    shapes += [
        bundle(
            "history", {"fullUrl": value, "request": {"method": "DELETE", "url": value}, "response": {"etag": value}}
        )
    ]
    shapes += [{"resourceType": "OperationOutcome", "issue": value}]
    for key in ("severity", "code", "diagnostics", "expression", "details"):
        shapes.append({"resourceType": "OperationOutcome", "issue": [{"severity": "error", key: value}]})
    shapes += [bundle("searchset", link=[{"relation": value, "url": value}, {"relation": "next", "url": value}])]
    shapes += [{"resourceType": value, "id": value}, observation(subject=value), {**PATIENT, "id": value}]
    haul = read(tmp_path, "x.ndjson", lines(*shapes, observation("last")))
    assert names(haul)[-1] == "Observation/last"

"""The command line keeps its contract: options, streams, exit codes, and manners when something is wrong."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from commands import Ended, fhir_screen
from fake_fhir import FakeFhir, outcome
from fhir_screen.cli.main import COMMANDS
from tiny import DAY, chart, mappings, write

CANARY = "Zebulon-Canary"
UNDER_FHIR = re.compile("/fhir.*")


Run = Callable[..., Ended]


@pytest.fixture
def run() -> Run:
    """Runs a command in this process; whatever happens, nobody sees a traceback."""

    def quietly(*words: str | Path) -> Ended:
        ended = fhir_screen(*words)
        assert "Traceback" not in ended.err
        return ended

    return quietly


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mappings(tmp_path_factory.mktemp("tiny") / "mappings")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three patients: fit, anemic, and with another disease."""
    folder = tmp_path / "source"
    write(folder / "b.json", chart("p2", "8.7"))
    write(folder / "a.json", [*chart("p1"), *chart("p3", disease="J45")])
    return folder


@pytest.fixture
def screen(run: Run, tiny: Path, source: Path) -> Run:
    return lambda *words: run("screen", source, "--mappings", tiny, "--as-of", DAY, *words)


# Screening


def test_patients_outside_the_population_are_left_out(screen: Run) -> None:
    ended = screen()
    assert ended.code == 0
    assert ended.err == "not shown: 1 of 3 patients, who do not have the disease of any of the trials (--all shows them)\n"
    assert ended.answers == [("Patient/p1", "likely-eligible"), ("Patient/p2", "not-eligible")]


def test_all_prints_everybody_by_patient(screen: Run) -> None:
    ended = screen("--all")
    assert [(line["patient"], line["population"]) for line in ended.lines] == [
        ("Patient/p1", "true"),
        ("Patient/p2", "true"),
        ("Patient/p3", "false"),
    ]


def test_a_patient_is_named_with_or_without_his_type(screen: Run) -> None:
    assert screen("--patient", "p2").answers == screen("--patient", "Patient/p2").answers
    assert screen("--patient", "p2").answers == [("Patient/p2", "not-eligible")]


def test_a_patient_who_is_not_there_is_told_and_the_others_are_screened(screen: Run) -> None:
    ended = screen("--patient", "nobody", "--patient", "p1")
    assert ended.code == 1
    assert ended.answers == [("Patient/p1", "likely-eligible")]
    assert "Patient/nobody: not in this source" in ended.err


def test_nobody_of_those_asked_for_is_an_error(screen: Run) -> None:
    ended = screen("--patient", "nobody")
    assert (ended.code, ended.out) == (2, "")
    assert "none of these patients is here: nobody" in ended.err


def test_a_limit_takes_the_first_by_id(screen: Run) -> None:
    assert screen("--all", "--limit", "1").answers == [("Patient/p1", "likely-eligible")]


def test_a_parameter_can_be_set(screen: Run) -> None:
    assert screen("--patient", "p1").lines[0]["next_change"] == "2025-12-09"
    assert screen("--patient", "p1", "--set", "lab_validity_days=14").lines[0]["next_change"] == "2025-11-25"


def test_given_anchors_are_used(screen: Run, tmp_path: Path) -> None:
    anchors = tmp_path / "anchors.yaml"
    anchors.write_text("default: {consent_date: 1980-01-01}\npatients: {p2: {consent_date: 2025-11-01}}\n", "utf-8")
    ended = screen("--anchors", anchors)
    ages = [line["criteria"][2]["atoms"][0]["because"] for line in ended.lines]
    assert ages == ["age 10 on 1980-01-01", "age 55 on 2025-11-01"]


def test_csv_and_html_and_table_are_written(screen: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(screen("--format", "csv").out)))
    assert [(row["patient"], row["blocking"]) for row in rows] == [("Patient/p1", ""), ("Patient/p2", "T-I02")]
    assert screen("--format", "html").out.startswith("<!doctype html>")
    assert "Hemoglobin ≥ 9.0 g/dL" in screen("--format", "table").out


def test_a_file_is_for_its_owner_and_stdout_stays_empty(screen: Run, tmp_path: Path) -> None:
    path = tmp_path / "out.ndjson"
    ended = screen("-o", path)
    assert (ended.code, ended.out) == (0, "")
    assert path.read_text("utf-8") == screen().out
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == ["out.ndjson"]


def test_a_run_that_fails_leaves_the_old_file(screen: Run, tmp_path: Path) -> None:
    path = tmp_path / "out.ndjson"
    path.write_text("old", "utf-8")
    assert screen("-o", path, "--patient", "nobody").code == 2
    assert path.read_text("utf-8") == "old"


def test_what_cannot_be_read_is_told_counted_and_stops_nothing(screen: Run, source: Path) -> None:
    (source / "c.json").write_text('{"resourceType": "Patient", "name": "' + CANARY, "utf-8")
    ended = screen()
    assert ended.code == 1
    assert [patient for patient, _ in ended.answers] == ["Patient/p1", "Patient/p2"]
    assert "not read: c.json" in ended.err
    assert "1 could not be read" in ended.err
    assert CANARY not in ended.err


def test_the_deceased_are_blocked_by_that(screen: Run, source: Path) -> None:
    patient, *others = chart("p0")
    write(source / "0.json", [{**patient, "deceasedBoolean": True}, *others])
    line = screen("--patient", "p0").lines[0]
    assert (line["verdict"], line["blocked_by"]) == ("not-eligible", "deceased")


def test_the_bytes_do_not_depend_on_machine_locale_zone_or_hash_seed(tiny: Path, source: Path) -> None:
    def output(**around: str) -> bytes:
        environment = {"PATH": os.environ["PATH"], **around}
        words = ["screen", str(source), "--mappings", str(tiny), "--as-of", DAY, "--all"]
        program = [sys.executable, "-m", "fhir_screen", *words]
        return subprocess.run(program, env=environment, capture_output=True, check=True).stdout

    plain = output(TZ="UTC", LC_ALL="C", PYTHONHASHSEED="1")
    assert plain == output(TZ="Pacific/Kiritimati", LC_ALL="C.UTF-8", PYTHONHASHSEED="2")
    assert "≥".encode() not in plain
    assert len(plain.splitlines()) == 3


# What is wrong


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--as-of", "2025-13-01"], "not a date"),
        (["--as-of", "15.11.2025"], "write YYYY-MM-DD"),
        (["--trial", "TINY-2"], "did you mean 'TINY-1'?"),
        (["--set", "lab_validity_day=3"], "did you mean 'lab_validity_days'?"),
        (["--set", "lab_validity_days"], "not NAME=VALUE"),
        (["--set", "lab_validity_days=often"], "not a number of days"),
        (["--anchors", "nowhere.yaml"], "nowhere.yaml"),
        (["--site", "nowhere.yaml"], "nowhere.yaml"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
        (["--format", "xml"], "xml"),
        (["--limit", "0"], "0"),
        (["--everyone"], "for servers"),
        (["-o", "/nowhere/at/all"], "cannot be written"),
    ],
)
def test_a_word_that_cannot_be_meant_is_an_error_with_its_remedy(screen: Run, words: list[str], said: str) -> None:
    ended = screen(*words)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err


@pytest.mark.parametrize("content", ["<html>", '{"a": 1}', "[]", ""])
def test_a_source_without_one_resource_is_an_error(run: Run, tiny: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content, "utf-8")
    ended = run("screen", tmp_path, "--mappings", tiny)
    assert (ended.code, ended.out) == (2, "")
    assert "not one readable FHIR resource" in ended.err


def test_no_source_is_an_error(run: Run, tiny: Path, tmp_path: Path) -> None:
    assert run("screen", tmp_path / "nowhere", "--mappings", tiny).code == 2
    (tmp_path / "empty").mkdir()
    assert run("screen", tmp_path / "empty", "--mappings", tiny).code == 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("absent_means", "absent_mean", "did you mean 'absent_means'?"),
        ("find: transplant", "find: transplnt", "did you mean 'transplant'?"),
        (">= 9.0 g/dL", ">= 9.0 g/dl", "did you mean 'g/dL'"),
        ("$lab_validity_days", "$lab_validity", "unknown parameter $lab_validity"),
        ("population: T-I01", "population: T-I10", "unknown atom 'T-I10'"),
        ("consent_date", "consent_day", "did you mean 'consent_date'?"),
    ],
)
def test_an_authors_mistake_names_file_line_and_what_was_meant(
    run: Run, tmp_path: Path, old: str, new: str, said: str
) -> None:
    folder = mappings(tmp_path / "mappings")
    trial = folder / "trials" / "TINY-1.yaml"
    text = trial.read_text("utf-8").replace(old, new)
    trial.write_text(text, "utf-8")
    line = next(number for number, words in enumerate(text.splitlines(), 1) if new in words)
    ended = run("check", "--mappings", folder)
    assert ended.code == 2
    assert f"{trial}:{line}" in ended.err
    assert said in ended.err


def test_a_defect_costs_one_patient_and_is_told_without_a_word_of_his(
    screen: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fhir_screen import nightly

    real = nightly.read

    def broken(raw: Any, *rest: Any) -> Any:
        if raw.id == "p1":
            raise KeyError(CANARY)
        return real(raw, *rest)

    monkeypatch.setattr(nightly, "read", broken)
    ended = screen()
    assert ended.code == 1
    assert ended.answers == [("Patient/p2", "not-eligible")]
    assert "not screened: Patient/p1: a defect in fhir-screen (KeyError at nightly.py:" in ended.err
    assert CANARY not in ended.err


def test_a_defect_of_the_whole_is_one_line_and_a_code_of_its_own(screen: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError(CANARY)

    monkeypatch.setattr("fhir_screen.cli.options.study_of", broken)
    ended = screen()
    assert (ended.code, ended.out) == (70, "")
    assert "a defect in fhir-screen (KeyError" in ended.err
    assert CANARY not in ended.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_has_its_code(tiny: Path, tmp_path: Path, number: signal.Signals) -> None:
    pipe = tmp_path / "slow.json"
    os.mkfifo(pipe)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits that it is ignored
    program = [sys.executable, "-m", "fhir_screen", "screen", str(pipe), "--mappings", str(tiny)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        descriptor = _opened(pipe)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        os.close(descriptor)
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err
    assert b"interrupted" in err


def _opened(pipe: Path) -> int:
    """The writing end, as soon as somebody reads."""
    for _ in range(600):
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            time.sleep(0.05)
    raise AssertionError("nobody opened the source")


# Other commands


def test_the_help_needs_no_heavy_package() -> None:
    script = (
        "import sys; sys.argv = ['fhir-screen', '--help']; from fhir_screen.cli import cli; "
        "cli.main(standalone_mode=False); "
        "heavy = ('pydantic', 'requests', 'rich', 'yaml', 'fhir', 'orjson', 'jsonpath_ng'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_help_shows_an_example(run: Run, name: str) -> None:
    ended = run(name, "--help")
    assert ended.code == 0
    assert f"Example:  fhir-screen {name}" in ended.out


def test_check_counts_what_it_loaded(run: Run, tiny: Path) -> None:
    assert "TINY-1 version 1: 5 criteria, 5 atoms" in run("check", "--mappings", tiny).out
    counted = json.loads(run("check", "--mappings", tiny, "--json").out)
    assert counted["trials"] == [{"trial": "TINY-1", "version": "1", "criteria": 5, "atoms": 5}]


def test_explain_tells_one_patient(run: Run, tiny: Path, source: Path) -> None:
    given = ("--source", source, "--mappings", tiny, "--as-of", DAY)
    ended = run("explain", "p2", *given)
    assert ended.code == 0
    assert "As of 2025-11-15: not eligible: T-I02 blocks." in ended.out
    assert "hemoglobin 8.7 g/dL on 2025-11-10" in ended.out
    narrow = run("explain", "Patient/p2", *given, "--criterion", "T-E01")
    assert "T-E01" in narrow.out
    assert "T-I03" not in narrow.out
    assert json.loads(run("explain", "p2", *given, "--format", "json").out)["patient"] == "Patient/p2"
    assert run("explain", "p2", *given, "--format", "html").out.startswith("<!doctype html>")


def test_explain_of_nobody_or_nothing_is_an_error(run: Run, tiny: Path, source: Path) -> None:
    given = ("--source", source, "--mappings", tiny, "--as-of", DAY)
    assert run("explain", "p9", *given).code == 2
    ended = run("explain", "p2", *given, "--criterion", "T-I20")
    assert ended.code == 2
    assert "did you mean 'T-I03' or 'T-I02'" in ended.err


def test_schema_lists_documents_and_prints_each(run: Run) -> None:
    names = run("schema").out.split()
    assert "trial" in names
    for name in names:
        assert json.loads(run("schema", name).out)["$schema"].endswith("2020-12/schema")
    assert run("schema", "trail").code == 2


def test_the_demo_runs_offline_and_says_where_to_go_next(run: Run, tmp_path: Path) -> None:
    ended = run("demo", "--trial", "NCT07028008", "--write-to", tmp_path / "out")
    assert ended.code == 0
    assert "not eligible" in ended.out
    assert "fhir-screen explain sample-" in ended.err
    bundle = json.loads((tmp_path / "out" / "sample-03.json").read_text("utf-8"))
    assert {entry["resource"]["resourceType"] for entry in bundle["entry"]} == {
        "Device", "ResearchStudy", "Observation", "Provenance",
    }  # fmt: skip


# Nights


def test_a_night_from_folder_to_folder_writes_once(run: Run, tiny: Path, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = (source, "--mappings", tiny, "--write-to", out, "--json")
    planned = run("plan", *given, "--as-of", DAY)
    assert not out.exists()
    assert json.loads(planned.out)["dry_run"] is True
    first = json.loads(run("run", *given, "--as-of", DAY).out)
    datetime.fromisoformat(first.pop("started"))
    assert first == {
        "schema": "fhir-screen/run/1",
        "pulled": 3,
        "screened": 3,
        "failed": 0,
        "created": 2,
        "updated": 0,
        "unchanged": 1,
        "kept_human": 0,
        "conflicts": 0,
        "incomplete": {},
        "unknown": {"manual": 2},
        "unmapped": {},
        "unmapped_codes": 0,
        "trials": {"TINY-1": {"likely-eligible": 1, "needs-review": 0, "not-eligible": 1}},
        "site": "default",
        "destination": str(out),
        "exit_code": 0,
    }
    written = {path.name: path.read_bytes() for path in out.iterdir()}
    assert sorted(written) == ["p1.json", "p2.json"]
    second = json.loads(run("run", *given, "--as-of", "2025-11-16").out)
    assert (second["created"], second["updated"], second["unchanged"]) == (0, 0, 3)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == written


def test_a_night_needs_a_source_and_a_place_to_write(run: Run, tiny: Path, source: Path) -> None:
    assert "no server is given" in run("run", "--mappings", tiny).err
    ended = run("run", source, "--mappings", tiny)
    assert ended.code == 2
    assert "where to write is not said" in ended.err


def test_two_people_under_one_id_stop_the_night(run: Run, tiny: Path, tmp_path: Path) -> None:
    hosts = ("a.test", "b.test")
    people = [{"fullUrl": f"http://{host}/fhir/Patient/p1", "resource": chart("p1")[0]} for host in hosts]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": people}
    (tmp_path / "in.json").write_text(json.dumps(bundle), "utf-8")
    ended = run("run", tmp_path / "in.json", "--mappings", tiny, "--as-of", DAY, "--write-to", tmp_path / "out")
    assert ended.code == 4
    assert "duplicate identity" in ended.err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def fhir(httpserver: HTTPServer) -> FakeFhir:
    fake = FakeFhir(kinds=("Patient", "Condition", "Observation", "Procedure", "Encounter"))
    for patient, hemoglobin in (("p1", "13.2"), ("p2", "8.7")):
        fake.resources += chart(patient, hemoglobin)
    fake.resources += chart("p3", disease="J45")
    httpserver.expect_request(UNDER_FHIR).respond_with_handler(fake)
    return fake


def test_a_server_is_screened_by_the_codes_of_the_index_disease(
    run: Run, tiny: Path, fhir: FakeFhir, httpserver: HTTPServer
) -> None:
    ended = run("screen", httpserver.url_for("/fhir"), "--mappings", tiny, "--as-of", DAY, "--all")
    assert ended.answers == [("Patient/p1", "likely-eligible"), ("Patient/p2", "not-eligible")]
    everyone = run("screen", httpserver.url_for("/fhir"), "--mappings", tiny, "--as-of", DAY, "--all", "--everyone")
    assert [patient for patient, _ in everyone.answers] == ["Patient/p1", "Patient/p2", "Patient/p3"]


def test_the_address_may_come_from_the_environment_or_a_file(
    run: Run, tiny: Path, fhir: FakeFhir, httpserver: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "settings.toml"
    config.write_text(f'server = "{httpserver.url_for("/fhir")}"\nmappings = "{tiny}"\n', "utf-8")
    given = ("--as-of", DAY, "--json", "--write-to", tmp_path / "out")
    assert json.loads(run("plan", "--config", config, *given).out)["created"] == 2
    monkeypatch.setenv("FHIR_SCREEN_CONFIG", str(config))
    assert json.loads(run("plan", *given).out)["created"] == 2
    monkeypatch.setenv("FHIR_SCREEN_SERVER", "http://127.0.0.1:9/fhir")
    assert run("plan", *given).code == 75


def test_a_misspelt_setting_is_an_error(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text('sever = "http://127.0.0.1:9"\n', "utf-8")
    ended = run("plan", "--config", config)
    assert ended.code == 2
    assert "did you mean 'server'?" in ended.err


def test_a_type_that_is_forbidden_is_told_once_with_whose_record_lacks_it(
    run: Run, tiny: Path, fhir: FakeFhir, httpserver: HTTPServer
) -> None:
    fhir.faults.append(lambda asked: outcome(403, "forbidden") if asked.kind == "Procedure" else None)
    ended = run("screen", httpserver.url_for("/fhir"), "--mappings", tiny, "--as-of", DAY)
    assert ended.code == 1
    assert "incomplete: Procedure answered 403 (Patient/p1, Patient/p2)" in ended.err
    answers = [(line["criteria"][3]["truth"], line["criteria"][3]["atoms"][0]["reason"]) for line in ended.lines]
    assert answers == [("unknown", "incomplete-fetch")] * 2


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Response("<html>sign in</html>", 200, content_type="text/html"), 3),
        (Response("{}", 401, content_type="application/fhir+json"), 3),
        (Response("{}", 403, content_type="application/fhir+json"), 3),
    ],
    ids=["HTML", "401", "403"],
)
def test_an_address_that_we_may_not_use_has_its_code(
    run: Run, tiny: Path, httpserver: HTTPServer, answer: Response, code: int
) -> None:
    httpserver.expect_request(UNDER_FHIR).respond_with_response(answer)
    ended = run("screen", httpserver.url_for("/fhir"), "--mappings", tiny)
    assert (ended.code, ended.out) == (code, "")


def test_a_server_that_is_not_there_is_a_passing_trouble(run: Run, tiny: Path) -> None:
    ended = run("screen", "http://127.0.0.1:9/fhir", "--mappings", tiny)
    assert (ended.code, ended.out) == (75, "")
    assert "try: " in ended.err


def test_another_patients_data_stop_the_night(run: Run, tiny: Path, fhir: FakeFhir, httpserver: HTTPServer) -> None:
    stranger = next(one for one in fhir.resources if one["id"] == "p2-hb")
    fhir.faults.append(lambda asked: _with(stranger) if asked.kind == "Observation" and asked.about("p1") else None)
    ended = run("screen", httpserver.url_for("/fhir"), "--mappings", tiny, "--patient", "p1")
    assert ended.code == 4


def _with(resource: dict[str, Any]) -> Response:
    bundle = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": resource}]}
    return Response(json.dumps(bundle), 200, content_type="application/fhir+json")


def test_the_token_of_the_reader_goes_to_no_other_server(
    run: Run, tiny: Path, fhir: FakeFhir, httpserver: HTTPServer, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("of-the-reader", "utf-8")
    token.chmod(0o600)
    with HTTPServer() as elsewhere:
        target = FakeFhir(kinds=("Patient", "Observation", "ResearchSubject", "ResearchStudy", "Device", "Provenance"))
        elsewhere.expect_request(UNDER_FHIR).respond_with_handler(target)
        given = ("--mappings", tiny, "--as-of", DAY, "--token-file", token, "--write-to", elsewhere.url_for("/fhir"))
        ended = run("plan", httpserver.url_for("/fhir"), *given, "--json")
    assert json.loads(ended.out)["created"] == 2
    assert {asked.headers.get("Authorization") for asked in fhir.asked} == {"Bearer of-the-reader"}
    assert target.asked
    assert {asked.headers.get("Authorization") for asked in target.asked} == {None}

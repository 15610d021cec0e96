"""Whole nights against servers that demand a secret, lack a type or do not listen, and what a night leaves behind."""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from commands import Ended, fhir_screen
from fake_fhir import Asked, FakeFhir, outcome
from tiny import DAY, chart, mappings

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "sample_bundles"
TOKEN, RENEWED = "canary-token-1", "canary-token-2"
PATIENTS = [f"p{n}" for n in range(1, 9)]

Fault = Callable[[Asked], Response | None]


@pytest.fixture
def fake(httpserver: HTTPServer) -> FakeFhir:
    fake = FakeFhir()
    fake.resources = [one for patient in PATIENTS for one in chart(patient)]
    fake.kinds = (
        "Patient", "Condition", "DiagnosticReport", "Encounter", "Observation", "Procedure", "Specimen",
        "Device", "ResearchStudy", "ResearchSubject", "Provenance",
    )  # fmt: skip
    httpserver.expect_request(re.compile("/fhir.*")).respond_with_handler(fake)
    return fake


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN, encoding="utf-8")
    path.chmod(0o600)
    return path


@pytest.fixture
def night(httpserver: HTTPServer, tmp_path: Path) -> Callable[..., Ended]:
    tiny = mappings(tmp_path / "mappings")

    def run(*options: str | Path) -> Ended:
        place = ("--mappings", tiny, "--as-of", DAY, "--state", tmp_path / "state")
        return fhir_screen("run", httpserver.url_for("/fhir"), *place, "--json", *options)

    return run


def demands(*headers: str) -> Fault:
    """Lets in whoever brings one of these Authorization headers."""
    return lambda asked: None if asked.headers.get("Authorization") in headers else outcome(401, "login")


def written(fake: FakeFhir, kind: str = "ResearchSubject") -> list[str]:
    return sorted(one["individual"]["reference"] for one in fake.resources if one["resourceType"] == kind)


# --- secrets ------------------------------------------------------------------------------------------------------


def test_a_night_with_the_token_is_let_in(fake: FakeFhir, night: Callable[..., Ended], token: Path) -> None:
    fake.faults = [demands(f"Bearer {TOKEN}")]
    ended = night("--token-file", token)
    assert (ended.code, ended.document["created"], len(written(fake))) == (0, 8, 8)


def test_a_night_without_a_token_or_with_a_wrong_one_writes_nothing(
    fake: FakeFhir, night: Callable[..., Ended], token: Path
) -> None:
    fake.faults = [demands("Bearer another")]
    before = len(fake.resources)
    assert [night().code, night("--token-file", token).code, len(fake.resources)] == [3, 3, before]


def test_user_and_password_are_let_in(fake: FakeFhir, night: Callable[..., Ended], tmp_path: Path) -> None:
    users = tmp_path / "user"
    users.write_text("screen:p:w\n", encoding="utf-8")
    users.chmod(0o600)
    fake.faults = [demands(f"Basic {base64.b64encode(b'screen:p:w').decode()}")]
    assert night("--user-file", users).code == 0


def test_a_token_that_is_renewed_in_the_middle_goes_on(
    fake: FakeFhir, night: Callable[..., Ended], token: Path
) -> None:
    def expires(asked: Asked) -> Response | None:
        if len(fake.asked) == 9:
            token.write_text(RENEWED, encoding="utf-8")
        return demands(f"Bearer {TOKEN if len(fake.asked) < 9 else RENEWED}")(asked)

    fake.faults = [expires]
    assert (night("--token-file", token).code, len(written(fake))) == (0, 8)


@pytest.mark.parametrize("last", [3, 8, 14])
def test_a_token_that_dies_in_the_middle_stops_the_night_cleanly_and_the_next_one_completes_it(
    fake: FakeFhir, night: Callable[..., Ended], token: Path, last: int
) -> None:
    fake.faults = [lambda asked: outcome(401, "login") if len(fake.asked) > last else None]
    stopped = night("--token-file", token)
    assert (stopped.code, stopped.out, TOKEN in stopped.err) == (3, "", False)
    assert "with the secret from the file read once more" in stopped.err
    fake.faults = []
    assert (night("--token-file", token).code, len(written(fake))) == (0, 8)


def test_a_night_that_was_not_let_in_is_no_night_to_compare_with(
    fake: FakeFhir, night: Callable[..., Ended], token: Path, tmp_path: Path
) -> None:
    fake.faults = [demands("Bearer another")]
    night("--token-file", token)
    assert list((tmp_path / "state").glob("*.good.json")) == []
    (record,) = [json.loads(path.read_text("utf-8")) for path in (tmp_path / "state").glob("night-*.json")]
    assert (record["exit_code"], TOKEN in json.dumps(record)) == (3, False)


# --- TLS ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[HTTPServer]:
    """A server with a certificate of its own authority, which demands one of the client as well."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    with HTTPServer(host="127.0.0.1", ssl_context=context) as server:
        yield server


def test_own_authority_and_client_certificate_carry_a_whole_night(
    secure: HTTPServer, authority: trustme.CA, tmp_path: Path
) -> None:
    fake = FakeFhir(resources=[one for patient in PATIENTS for one in chart(patient)])
    secure.expect_request(re.compile("/fhir.*")).respond_with_handler(fake)
    ca, pair = tmp_path / "ca.pem", tmp_path / "client.pem"
    authority.cert_pem.write_to_path(str(ca))
    authority.issue_cert("screen@hospital.example").private_key_and_cert_chain_pem.write_to_path(str(pair))
    pair.chmod(0o600)
    words = ("run", secure.url_for("/fhir"), "--mappings", mappings(tmp_path / "m"), "--as-of", DAY, "--no-state")
    assert fhir_screen(*words).code == 3
    assert fhir_screen(*words, "--ca", ca).code in {3, 75}
    assert written(fake) == []
    fhir_screen(*words, "--ca", ca, "--client-cert", pair)
    assert len(written(fake)) == 8


# --- servers that lack something ----------------------------------------------------------------------------------


def test_a_server_without_procedures_leaves_what_needs_them_unknown(
    fake: FakeFhir, night: Callable[..., Ended]
) -> None:
    fake.kinds = tuple(kind for kind in fake.kinds if kind != "Procedure")
    ended = night()
    assert (ended.code, ended.document["created"], "Procedure" in ended.err) == (1, 8, True)
    assert ended.document["unknown"]["incomplete-fetch"] == 8


def test_a_type_that_vanished_since_the_last_night_stops_before_it_turns_the_list(
    fake: FakeFhir, night: Callable[..., Ended]
) -> None:
    assert night().code == 0
    before = json.dumps(fake.resources)
    fake.faults = [lambda asked: outcome(403, "forbidden") if asked.kind == "Procedure" else None]
    ended = night()
    assert (ended.code, "T-E01: unknown for 8 of 8 patients, before for 0 of 8" in ended.err) == (4, True)
    assert json.dumps(fake.resources) == before


class Deaf(FakeFhir):
    """Answers every search with all that it has of the type."""

    def _understood(self, request: Request) -> tuple[Asked, list[dict[str, Any]]]:
        asked, matches = super()._understood(request)
        everything = [one for one in self.resources if one["resourceType"] == asked.kind]
        return asked, matches if "_getpages" in asked.params else everything


def test_a_server_that_ignores_parameters_gives_the_same_night(
    httpserver: HTTPServer, fake: FakeFhir, night: Callable[..., Ended]
) -> None:
    honest = night().document
    before = json.dumps(fake.resources)
    deaf = Deaf(resources=fake.resources, kinds=fake.kinds)
    httpserver.clear()
    httpserver.expect_request(re.compile("/fhir.*")).respond_with_handler(deaf)
    again = night()
    assert (again.code, again.document["trials"], again.document["unchanged"]) == (0, honest["trials"], 8), again.err
    assert json.dumps(deaf.resources) == before


# --- who is found -------------------------------------------------------------------------------------------------


def verdicts(folder: Path) -> dict[str, str]:
    bundles = [json.loads(path.read_text("utf-8")) for path in sorted(folder.iterdir())]
    return {
        one["subject"]["reference"]: one["valueCodeableConcept"]["coding"][0]["code"]
        for bundle in bundles
        for one in (entry["resource"] for entry in bundle["entry"])
        if one["resourceType"] == "Observation"
    }


def test_whom_the_diagnosis_does_not_find_any_more_is_said_anew(
    fake: FakeFhir, night: Callable[..., Ended], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert night("--write-to", out).code == 0
    assert set(verdicts(out).values()) == {"likely-eligible"}
    (condition,) = [one for one in fake.resources if one["id"] == "p3-disease"]
    condition["code"] = {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "D22.9"}]}
    ended = night("--write-to", out)
    assert (ended.code, ended.document["pulled"], ended.document["updated"]) == (0, 8, 1)
    assert "note: 1 of the last good night's patients are not found by a diagnosis any more" in ended.err
    assert {patient for patient, verdict in verdicts(out).items() if verdict == "not-eligible"} == {"Patient/p3"}
    again = night("--write-to", out)
    assert (again.document["pulled"], again.document["updated"]) == (8, 0), "asked for again, should a write have failed"


def test_who_was_merged_into_another_since_comes_once(fake: FakeFhir, night: Callable[..., Ended]) -> None:
    assert night().code == 0
    for one in fake.resources:
        if one["resourceType"] == "Patient" and one["id"] == "p3":
            one["link"] = [{"other": {"reference": "Patient/p4"}, "type": "replaced-by"}]
    fake.resources = [one for one in fake.resources if one["id"] != "p3-disease"]
    ended = night()
    assert (ended.code, ended.document["pulled"]) == (0, 7), ended.err


def test_a_night_that_finds_nobody_says_so(fake: FakeFhir, night: Callable[..., Ended]) -> None:
    fake.resources = [one for one in fake.resources if one["resourceType"] != "Condition"]
    ended = night()
    assert (ended.code, ended.document["pulled"]) == (0, 0)
    assert ended.err.startswith("note: nobody was found to be screened")


# --- what a night leaves behind -----------------------------------------------------------------------------------


def canaries() -> list[str]:
    return [line for line in (SAMPLES / "canaries.txt").read_text("utf-8").splitlines() if line.strip()]


def sample_resources() -> list[dict[str, Any]]:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for path in sorted(SAMPLES.glob("*.json")):
        for entry in json.loads(path.read_text("utf-8")).get("entry", ()):
            one = entry["resource"]
            found[one["resourceType"], one["id"]] = one
    return list(found.values())


def tell_tales(found: bytes) -> list[str]:
    return [canary for canary in canaries() if canary.encode() in found or json.dumps(canary)[1:-1].encode() in found]


@pytest.mark.parametrize("fault", ["none", "forbidden", "dies", "mass change"])
def test_a_whole_night_leaves_nothing_of_a_patient_but_what_it_was_asked_for(
    httpserver: HTTPServer, tmp_path: Path, token: Path, fault: str
) -> None:
    fake = FakeFhir(resources=sample_resources())
    asked_urls: list[str] = []

    def listening(asked: Asked) -> Response | None:
        asked_urls.append(f"{asked.kind}?{asked.raw}")
        match fault:
            case "forbidden" if asked.kind == "Condition":
                return outcome(403, "forbidden", diagnostics=" ".join(canaries()))
            case "dies" if len(asked_urls) > 30:
                return outcome(401, "login", diagnostics=" ".join(canaries()))
        return None

    fake.faults = [listening]
    httpserver.expect_request(re.compile("/fhir.*")).respond_with_handler(fake)
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    left = [home, temporary, tmp_path / "state"]
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("XDG_STATE_HOME", None)
    program = [sys.executable, "-c", "from fhir_screen.cli import main; main()"]

    def night(*options: str) -> subprocess.CompletedProcess[bytes]:
        words = ["run", httpserver.url_for("/fhir"), "--everyone", "--as-of", "2025-11-15", "--token-file", str(token)]
        words += ["--state", str(tmp_path / "state"), "--json", *options]
        return subprocess.run([*program, *words], env=environment, cwd=home, capture_output=True, check=False)

    ended = [night()]
    if fault == "mass change":
        for one in fake.resources:
            if one["resourceType"] == "Observation" and "valueQuantity" in one:
                one["status"] = "cancelled"
        ended.append(night())
        assert ended[-1].returncode == 4
    streams = b"".join(one.stdout + one.stderr for one in ended)
    files = [path for place in left for path in place.rglob("*") if path.is_file()]
    assert any(path.name.startswith("night-") for path in files)
    assert tell_tales(streams + b"".join(path.read_bytes() for path in files)) == []
    assert tell_tales("\n".join(asked_urls).encode()) == []
    assert TOKEN.encode() not in streams + b"".join(path.read_bytes() for path in files)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_the_canaries_are_really_in_what_was_pulled() -> None:
    assert sorted(tell_tales(json.dumps(sample_resources(), ensure_ascii=False).encode())) == sorted(canaries())

"""The commands around the night: a new site's files, a look at the server that changes nothing, and taking back."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from commands import Ended, fhir_screen
from fake_fhir import Asked, FakeFhir, fhir_json, outcome
from fhir_screen.fhir.connection import Access
from fhir_screen.fhir.identity import RETRACTED_EXTENSION, extension_value
from fhir_screen.fhir.preflight import Mark, examine
from tiny import DAY, chart, mappings
from versioned_fhir import VersionedFhir

SAMPLES = Path(__file__).parent.parent / "sample_bundles"
READ = ("Condition", "DiagnosticReport", "Encounter", "Observation", "Procedure", "Specimen")


@pytest.fixture
def fake(httpserver: HTTPServer) -> FakeFhir:
    fake = FakeFhir(kinds=("Patient", *READ, "Device", "ResearchStudy", "Provenance", "ResearchSubject"))
    fake.resources = [*chart("p1"), *chart("p2"), *chart("p3", "8.1")]
    httpserver.expect_request(re.compile("/fhir.*")).respond_with_handler(fake)
    return fake


@pytest.fixture
def base(httpserver: HTTPServer) -> str:
    return httpserver.url_for("/fhir")


# --- init ---------------------------------------------------------------------------------------------------------


def test_init_writes_files_that_the_other_commands_understand(tmp_path: Path, fake: FakeFhir, base: str) -> None:
    place = tmp_path / "screening"
    begun = fhir_screen("init", place, "--server", base, "--site-id", "north", "--time-zone", "Europe/Berlin")
    assert begun.code == 0
    assert sorted(path.name for path in place.iterdir()) == [
        "fhir-screen.cron", "fhir-screen.service", "fhir-screen.timer", "fhir-screen.toml", "site.yaml", "token",
    ]  # fmt: skip
    assert fhir_screen("check", "--site", place / "site.yaml").code == 0
    tiny = mappings(tmp_path / "mappings")
    night = fhir_screen("run", "--config", place / "fhir-screen.toml", "--mappings", tiny, "--as-of", DAY, "--json")
    assert (night.code, night.document["created"]) == (0, 3)
    assert sorted(path.name for path in (place / "out").iterdir()) == ["p1.json", "p2.json", "p3.json"]
    assert {one["resourceType"] for one in fake.resources} == {"Patient", "Condition", "Observation"}


def test_every_line_that_init_comments_out_may_be_put_in(tmp_path: Path) -> None:
    fhir_screen("init", tmp_path, "--site-id", "north")
    site = tmp_path / "site.yaml"
    text = re.sub(r"^# (?=( |[a-z_]+:))", "", site.read_text("utf-8"), flags=re.M)
    site.write_text(text, encoding="utf-8")
    ended = fhir_screen("check", "--site", site)
    assert (ended.code, ended.err) == (0, "")


def test_the_token_file_of_init_is_empty_and_for_its_owner_alone(tmp_path: Path) -> None:
    fhir_screen("init", tmp_path / "new")
    token = tmp_path / "new" / "token"
    assert (token.read_bytes(), stat.S_IMODE(token.stat().st_mode)) == (b"", 0o600)
    assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700


def test_init_overwrites_nothing_unless_it_is_told_to_and_never_the_token(tmp_path: Path) -> None:
    fhir_screen("init", tmp_path, "--site-id", "north")
    (tmp_path / "token").write_text("secret", encoding="utf-8")
    (tmp_path / "site.yaml").write_text("site: mine\n", encoding="utf-8")
    again = fhir_screen("init", tmp_path, "--site-id", "south")
    assert (again.code, (tmp_path / "site.yaml").read_text("utf-8")) == (2, "site: mine\n")
    assert "already there" in again.err
    assert fhir_screen("init", tmp_path, "--site-id", "south", "--force").code == 0
    assert (tmp_path / "site.yaml").read_text("utf-8") == "site: mine\n", "half a day of a person's work"
    assert (tmp_path / "fhir-screen.toml.bak").is_file()
    assert (tmp_path / "token").read_text("utf-8") == "secret"


@pytest.mark.parametrize(
    "options",
    [
        *(("--site-id", one) for one in ("a b", "", "_north", ".north", "-north", "nörd", "north\n")),
        *(("--time-zone", one) for one in ("Mars/Base", "")),
    ],
)
def test_init_refuses_what_cannot_be_meant(tmp_path: Path, options: tuple[str, str]) -> None:
    assert fhir_screen("init", tmp_path / "new", *options).code == 2
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("site", ["north", "n", "9", "North-2.a_b", "no", "1.0", "null"])
def test_check_takes_every_site_id_that_init_takes(tmp_path: Path, site: str) -> None:
    assert fhir_screen("init", tmp_path, "--site-id", site).code == 0
    ended = fhir_screen("check", "--site", tmp_path / "site.yaml")
    assert (ended.code, ended.err) == (0, "")


def test_the_timer_and_the_cron_line_call_a_program_that_is_there(tmp_path: Path) -> None:
    fhir_screen("init", tmp_path)
    (unit,) = re.findall(r'^ExecStart="(.+)" run --json$', (tmp_path / "fhir-screen.service").read_text("utf-8"), re.M)
    (cron,) = re.findall(r"toml' '(.+?)' run --json", (tmp_path / "fhir-screen.cron").read_text("utf-8"))
    assert (Path(unit).is_file(), cron) == (True, unit)


# --- doctor -------------------------------------------------------------------------------------------------------


@pytest.fixture
def doctor(tmp_path: Path, base: str) -> Callable[..., Ended]:
    tiny, site, state = mappings(tmp_path / "mappings"), tmp_path / "site.yaml", tmp_path / "state"
    site.write_text("site: north\n", encoding="utf-8")

    def examine(*options: str | Path) -> Ended:
        return fhir_screen("doctor", base, "--mappings", tiny, "--site", site, "--state", state, *options)

    return examine


def marks(ended: Ended) -> dict[str, str]:
    return {check["name"]: check["mark"] for check in ended.document["checks"]}


def strict(asked: Asked) -> Response | None:
    return outcome(400, "invalid") if "no-such-parameter" in asked.params else None


def offering(fake: FakeFhir, *interactions: str) -> Callable[[Asked], Response | None]:
    """The server's CapabilityStatement, with these interactions for every type."""

    def fault(asked: Asked) -> Response | None:
        if asked.kind != "metadata":
            return None
        statement = fake.statement()
        for one in statement["rest"][0]["resource"]:
            one["interaction"] = [{"code": code} for code in interactions]
        return fhir_json(statement)

    return fault


def test_a_server_with_all_that_a_night_needs_is_well(fake: FakeFhir, doctor: Callable[..., Ended]) -> None:
    fake.faults = [strict, offering(fake, "read", "search-type", "create", "update")]
    ended = doctor("--json")
    assert (ended.code, set(marks(ended).values())) == (0, {"ok"})
    assert list(marks(ended)) == [
        "address", "FHIR", "authorization", *(f"read {kind}" for kind in READ),
        "strict search", "paging", "clock", "write", "mappings", "state",
    ]  # fmt: skip


def test_the_doctor_changes_nothing(fake: FakeFhir, doctor: Callable[..., Ended], tmp_path: Path) -> None:
    before = json.dumps(fake.resources)
    doctor("--write-to", tmp_path / "out")
    assert json.dumps(fake.resources) == before
    assert {asked.method for asked in fake.asked if not asked.kind} == set()
    assert (tmp_path / "state").exists() is (tmp_path / "out").exists() is False


def test_a_warning_names_what_is_lost_and_leaves_one(fake: FakeFhir, doctor: Callable[..., Ended]) -> None:
    fake.kinds = tuple(kind for kind in fake.kinds if kind != "Procedure")
    fake.faults = [strict, offering(fake, "read", "search-type", "create", "update")]
    ended = doctor()
    assert ended.code == 1
    assert "warning  read Procedure                the server does not offer it\n" in ended.out
    assert "try: criteria that need it stay unknown (incomplete-fetch)\n" in ended.out


def test_a_server_that_ignores_parameters_or_forbids_a_type_is_told(
    fake: FakeFhir, doctor: Callable[..., Ended]
) -> None:
    fake.faults = [lambda asked: outcome(403, "forbidden") if asked.kind == "Condition" else None]
    ended = doctor("--json")
    assert (ended.code, marks(ended)["strict search"], marks(ended)["read Condition"]) == (3, "warning", "failed")


def test_a_type_that_is_forbidden_and_finds_nobody_is_a_warning(fake: FakeFhir, doctor: Callable[..., Ended]) -> None:
    fake.faults = [lambda asked: outcome(403, "forbidden") if asked.kind == "Observation" else None]
    ended = doctor("--json")
    assert (ended.code, marks(ended)["read Observation"]) == (1, "warning")


def test_a_server_that_lets_nobody_in_is_a_failure_with_a_remedy(fake: FakeFhir, doctor: Callable[..., Ended]) -> None:
    fake.faults = [lambda asked: None if asked.kind == "metadata" else outcome(401, "login")]
    ended = doctor()
    assert ended.code == 3
    assert re.search(r"^failed   server .*401.*\n.*--token-file", ended.out, re.M)


def test_patients_that_may_not_be_searched_are_a_failure(fake: FakeFhir, doctor: Callable[..., Ended]) -> None:
    fake.faults = [lambda asked: outcome(403, "forbidden") if asked.kind == "Patient" else None]
    ended = doctor("--json")
    assert (ended.code, marks(ended)["authorization"]) == (3, "failed")


def test_another_release_and_a_web_page_are_failures(fake: FakeFhir, doctor: Callable[..., Ended]) -> None:
    fake.fhir_version = "5.0.0"
    assert "R5" in (ended := doctor()).out
    assert ended.code == 3
    fake.faults = [lambda _: Response("<html>", 200, content_type="text/html")]
    assert doctor().code == 3


def test_a_server_that_is_down_is_a_matter_of_time(tmp_path: Path) -> None:
    ended = fhir_screen("doctor", "http://127.0.0.1:9/fhir", "--state", tmp_path / "state")
    assert (ended.code, "the server cannot be reached" in ended.out) == (75, True)


def test_a_mistake_in_the_site_file_is_shown_with_its_line(
    fake: FakeFhir, doctor: Callable[..., Ended], tmp_path: Path
) -> None:
    fake.faults = [strict]
    (tmp_path / "site.yaml").write_text("site: north\ntime_zone: Mars/Base\n", encoding="utf-8")
    ended = doctor()
    assert ended.code == 2
    assert re.search(r"^failed   mappings .*site\.yaml:2", ended.out, re.M)


def test_a_clock_that_is_far_off_is_a_failure(fake: FakeFhir, base: str) -> None:
    yesterday, soon = (datetime.now(UTC) + apart for apart in (-timedelta(days=1), timedelta(minutes=2)))
    found = [{one.name: one.mark for one in examine(Access(base), (), now)}["clock"] for now in (yesterday, soon)]
    assert found == [Mark.FAILED, Mark.WARNING]


def test_the_write_probe_leaves_nothing_behind(
    httpserver: HTTPServer, fake: FakeFhir, doctor: Callable[..., Ended]
) -> None:
    httpserver.clear()
    sent: list[dict[str, Any]] = []

    def answer(request: Request) -> Response:
        if request.method == "POST" and request.path.strip("/") == "fhir":
            (entry,) = request.get_json()["entry"]
            sent.append(entry["request"])
            done = [{"response": {"status": "200 OK"}}]
            return fhir_json({"resourceType": "Bundle", "type": "transaction-response", "entry": done})
        return fake(request)

    httpserver.expect_request(re.compile("/fhir.*")).respond_with_handler(answer)
    assert marks(doctor("--json", "--probe-write"))["write probe"] == "ok"
    assert sent == [{"method": "PUT", "url": "Basic/fs-probe"}, {"method": "DELETE", "url": "Basic/fs-probe"}]


def test_a_write_probe_that_is_refused_is_a_failure(fake: FakeFhir, doctor: Callable[..., Ended]) -> None:
    fake.faults = [lambda asked: None if asked.kind else outcome(403, "forbidden")]
    ended = doctor("--json", "--probe-write")
    assert (ended.code, marks(ended)["write probe"]) == (3, "failed")


def test_folders_that_others_can_enter_are_told(fake: FakeFhir, doctor: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    (tmp_path / "file").write_text("", encoding="utf-8")
    ended = doctor("--json", "--write-to", tmp_path / "file")
    assert (marks(ended)["state"], marks(ended)["write to"], ended.code) == ("warning", "failed", 2)


# --- retract ------------------------------------------------------------------------------------------------------


class Site:
    """A server with two patients' decisions of one night on it."""

    def __init__(self, base: str, server: VersionedFhir, place: Path) -> None:
        self.base, self.server, self.place = base, server, place
        self.mappings = mappings(place / "mappings")
        for patient, value in {"p1": "13.2", "p2": "8.1"}.items():
            text = json.dumps(
                {
                    "resourceType": "Bundle",
                    "type": "collection",
                    "entry": [{"resource": r} for r in chart(patient, value)],
                }
            )
            (place / f"{patient}.json").write_text(text, encoding="utf-8")

    def night(self, *options: str | Path) -> Ended:
        place = ("--mappings", self.mappings, "--write-to", self.base, "--as-of", DAY, "--json", "--no-state")
        source = self.place / "source"
        source.mkdir(exist_ok=True)
        for patient in ("p1", "p2"):
            (source / f"{patient}.json").write_bytes((self.place / f"{patient}.json").read_bytes())
        return fhir_screen("run", source, *place, *options)

    def retract(self, *options: str | Path) -> Ended:
        return fhir_screen("retract", self.base, "--mappings", self.mappings, *options)

    @property
    def statuses(self) -> list[str]:
        return [one["status"] for kind in ("Observation", "ResearchSubject") for one in self.server.of(kind)]


class WithMetadata(VersionedFhir):
    def __call__(self, request: Request) -> Response:
        if request.path.endswith("/metadata"):
            return fhir_json({"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": []})
        return super().__call__(request)


@pytest.fixture
def site(httpserver: HTTPServer, base: str, tmp_path: Path) -> Site:
    server = WithMetadata()
    httpserver.expect_request(re.compile("/fhir.*")).respond_with_handler(server)
    site = Site(base, server, tmp_path)
    assert site.night().document["created"] == 2
    assert sorted(site.statuses) == ["candidate", "preliminary", "preliminary"]
    return site


WHY = ("--reason", "HB was mapped to the wrong test", "--yes")


def test_a_retraction_is_shown_first_and_changes_nothing(site: Site) -> None:
    before = site.server.versions()
    ended = site.retract("--trial", "TINY-1")
    assert ended.code == 0
    assert ended.out.splitlines() == [
        "would retract: p1 TINY-1|1 likely-eligible (Observation and ResearchSubject)",
        "would retract: p2 TINY-1|1 not-eligible (Observation)",
        "2 decisions to retract; nothing was written: add --reason TEXT --yes",
    ]
    assert site.server.versions() == before


def test_what_is_retracted_stays_with_its_reason_and_nothing_is_deleted(site: Site) -> None:
    before = set(site.server.stands)
    ended = site.retract("--trial", "TINY-1", "--json", *WHY)
    assert (ended.code, ended.document["retracted"], ended.document["dry_run"]) == (0, 2, False)
    assert site.statuses == ["entered-in-error", "entered-in-error", "not-registered"]
    assert {extension_value(one, RETRACTED_EXTENSION) for one in site.server.of("Observation")} == {WHY[1]}
    new = set(site.server.stands) - before
    assert (before <= set(site.server.stands), [one.partition("/")[0] for one in new]) == (True, ["Provenance"] * 2)


def test_a_second_retraction_finds_nothing_to_do(site: Site) -> None:
    site.retract("--trial", "TINY-1", *WHY)
    before = site.server.versions()
    assert site.retract("--trial", "TINY-1", "--json", *WHY).document["retracted"] == 0
    assert site.server.versions() == before


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (("--patient", "p1"), 1),
        (("--patient", "Patient/p2"), 1),
        (("--patient", "p9"), 0),
        (("--trial-version", "1"), 2),
        (("--trial-version", "2"), 0),
        (("--trial", "TINY-1", "--trial-version", "1", "--patient", "p2"), 1),
        (("--trial", "OTHER"), 0),
    ],
)
def test_only_what_is_named_is_retracted(site: Site, options: tuple[str, ...], count: int) -> None:
    ended = site.retract(*options, "--json", *WHY)
    assert (ended.document["retracted"], site.statuses.count("entered-in-error")) == (count, count)


def test_the_server_that_is_named_is_the_one_that_is_asked(site: Site, tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    for elsewhere in ("http://127.0.0.1:9/other", "a-folder"):
        config.write_text(f'write_to = "{elsewhere}"\n', encoding="utf-8")
        ended = site.retract("--trial", "TINY-1", "--json", "--config", config)
        assert (ended.code, ended.document["retracted"]) == (0, 2)


def test_what_another_site_wrote_is_not_ours_to_retract(site: Site, tmp_path: Path) -> None:
    other = tmp_path / "site.yaml"
    other.write_text("site: south\n", encoding="utf-8")
    assert site.retract("--trial", "TINY-1", "--site", other, "--json").document["retracted"] == 0


def test_what_people_changed_or_confirmed_is_kept(site: Site) -> None:
    for one in site.server.of("Observation"):
        site.server.put({**one, "status": "final"})
    site.server.change("ResearchSubject", status="screening")
    before = site.server.versions()
    ended = site.retract("--trial", "TINY-1", *WHY)
    assert ended.out.count("kept because a person decided: the Observation is final") == 2
    assert "a person changed the status from candidate to screening" in ended.out
    assert site.server.versions() == before


def test_a_change_at_the_same_moment_wins_and_is_told(site: Site) -> None:
    def somebody() -> None:
        site.server.change("ResearchSubject", status="screening")

    site.server.before = [somebody]
    ended = site.retract("--patient", "p1", *WHY)
    assert (ended.code, "somebody else wrote first" in ended.err) == (5, True)
    assert sorted(site.statuses) == ["preliminary", "preliminary", "screening"]


def test_a_retraction_is_a_transaction_like_that_of_a_night(site: Site) -> None:
    site.retract("--patient", "p1", *WHY)
    (sent,) = [one for one in site.server.transactions if one["entry"][0]["resource"]["status"] == "entered-in-error"]
    assert [(one["resource"]["resourceType"], one["request"]) for one in sent["entry"]] == [
        ("Observation", {"method": "PUT", "url": sent["entry"][0]["request"]["url"], "ifMatch": 'W/"1"'}),
        ("ResearchSubject", {"method": "PUT", "url": sent["entry"][1]["request"]["url"], "ifMatch": 'W/"1"'}),
        ("Provenance", {"method": "PUT", "url": sent["entry"][2]["request"]["url"], "ifNoneMatch": "*"}),
    ]
    told = sent["entry"][2]["resource"]
    assert told["target"] == [{"reference": one["request"]["url"]} for one in sent["entry"][:2]]
    assert (told["reason"], told["activity"]["coding"][0]["code"]) == ([{"text": WHY[1]}], "NULLIFY")
    assert told["agent"][0]["who"]["identifier"] == {"system": "https://fhir-screen.org/site", "value": "default"}


def test_a_retraction_changes_status_and_reason_and_nothing_else(site: Site) -> None:
    (before,) = [one for one in site.server.of("Observation") if one["subject"]["reference"] == "Patient/p1"]
    before = {**before, "note": [*before["note"], {"text": "called on Monday"}]}
    site.server.put(before)
    site.retract("--patient", "p1", *WHY)
    after = site.server.stands[f"Observation/{before['id']}"]
    marked = {"url": RETRACTED_EXTENSION, "valueString": WHY[1]}
    assert after == {
        **before,
        "status": "entered-in-error",
        "extension": [*before["extension"], marked],
        "meta": {**before["meta"], "versionId": "3"},
    }


def test_without_versions_nothing_is_retracted_and_the_plan_says_so(site: Site) -> None:
    def bare(resource: dict[str, Any]) -> dict[str, Any]:
        return {**resource, "meta": {"tag": resource["meta"]["tag"]}}

    site.server.shown, before = bare, site.server.versions()
    for words in (("--patient", "p1"), ("--patient", "p1", *WHY)):
        ended = site.retract(*words)
        assert (ended.code, "has no version" in ended.err) == (5, True)
        assert ended.out.splitlines()[-1].startswith("0 decisions")
    assert site.server.versions() == before


def test_a_server_that_shows_its_references_as_whole_addresses_gets_them_back_as_they_were(site: Site) -> None:
    def whole(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: f"{site.base}/{one}" if name == "reference" else whole(one) for name, one in value.items()}
        return [whole(one) for one in value] if isinstance(value, list) else value

    site.server.shown = whole
    assert site.retract("--trial", "TINY-1", *WHY).code == 0
    assert site.statuses == ["entered-in-error", "entered-in-error", "not-registered"]
    assert site.server.only("ResearchSubject")["individual"] == {"reference": "Patient/p1"}
    assert {one["subject"]["reference"] for one in site.server.of("Observation")} == {"Patient/p1", "Patient/p2"}


def test_what_an_earlier_version_retracted_is_still_known_as_retracted(site: Site) -> None:
    """As it stands on servers since the first release: marked by hand here, with no Provenance beside it."""
    marked = {"url": "https://fhir-screen.org/retracted", "valueString": "an earlier mapping"}
    written = {"url": "https://fhir-screen.org/status-written", "valueString": "not-registered"}
    for one in site.server.of("Observation"):
        site.server.put({**one, "status": "entered-in-error", "extension": [*one["extension"], marked]})
    site.server.change("ResearchSubject", status="not-registered", extension=[written])
    before = site.server.versions()
    assert site.retract("--trial", "TINY-1", "--json", *WHY).document["retracted"] == 0
    assert site.night().document["unchanged"] == 2
    assert site.server.versions() == before


def test_a_night_does_not_repeat_what_was_retracted(site: Site) -> None:
    site.retract("--trial", "TINY-1", *WHY)
    before = site.server.versions()
    night = site.night()
    assert (night.code, night.document["unchanged"], night.document["created"]) == (0, 2, 0)
    assert site.server.versions() == before


def test_a_corrected_mapping_speaks_anew_over_what_was_retracted(site: Site) -> None:
    site.retract("--trial", "TINY-1", *WHY)
    words = site.mappings / "words.yaml"
    words.write_text(f"but_not: [corrected]\n{words.read_text('utf-8')}", encoding="utf-8")
    assert site.night().document["updated"] == 2
    assert sorted(site.statuses) == ["candidate", "preliminary", "preliminary"]


@pytest.mark.parametrize(
    "options",
    [(), ("--yes", "--reason", "why"), ("--trial", "TINY-1", "--yes"), ("--patient", "p1", "--yes", "--reason", " ")],
)
def test_a_retraction_says_what_and_why(site: Site, options: tuple[str, ...]) -> None:
    before = site.server.versions()
    assert (site.retract(*options).code, site.server.versions()) == (2, before)


@pytest.mark.parametrize(
    ("words", "screened"),
    [((), {"NCT00846833"}), (("--trial", "NCT07028008"), {"NCT07028008"})],
    ids=["the site's own", "--trial wins"],
)
def test_a_site_takes_part_in_the_trials_that_it_names(tmp_path: Path, words: tuple[str, ...], screened: set[str]) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("site: north\nstudies: [NCT00846833]\n", encoding="utf-8")
    ended = fhir_screen("screen", SAMPLES, "--as-of", "2025-11-15", "--site", site, *words)
    assert {json.loads(line)["trial"] for line in ended.out.splitlines()} == screened


def test_a_site_file_is_checked_with_all_trials(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("site: north\nstudies: [NCT00846833]\n", encoding="utf-8")
    checked = fhir_screen("check", "--site", site, "--json").document
    assert {trial["trial"] for trial in checked["trials"]} == {"NCT00846833", "NCT07028008"}

"""What FhirServer promises over real HTTP: all or a failure, the token to one origin only, no write twice."""

from __future__ import annotations

import gzip
import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import trustme
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from fake_fhir import Asked, FakeFhir, fhir_json, outcome, searchset
from fhir_screen.errors import PreflightError, TemporaryError, UsageError
from fhir_screen.fhir.connection import Access, Limits
from fhir_screen.fhir.raw import Found
from fhir_screen.fhir.server import Conflict, FhirServer, Included, Rejected, SearchFailed, UnknownOutcome
from torn_server import (
    Act,
    TornServer,
    cut,
    cut_chunked,
    cut_unmeasured,
    drip,
    drip_headers,
    hang_up,
    silent,
    stalled,
    whole,
)

SECRET = "s3cr3t-canary-token"
PATIENTS = [{"resourceType": "Patient", "id": f"p{n}", "meta": {"versionId": "1"}} for n in range(5)]
HIGH, LOW = ({"resourceType": "Observation", "id": one, "meta": {"versionId": "1"}} for one in ("o1", "o2"))


@dataclass
class Clock:
    """Time that passes only by waiting, or by ``tick`` seconds at every look."""

    now: float = 0.0
    tick: float = 0.0
    waits: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def monotonic(self) -> float:
        self.now += self.tick
        return self.now


Open = Callable[..., FhirServer]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fake(httpserver: HTTPServer) -> FakeFhir:
    fhir = FakeFhir(resources=list(PATIENTS))
    httpserver.expect_request(re.compile("^/fhir")).respond_with_handler(fhir)
    return fhir


@pytest.fixture
def reach(httpserver: HTTPServer, clock: Clock) -> Iterator[Open]:
    """Opens a FhirServer that never really waits, on the fake server or on ``base``."""
    opened: list[FhirServer] = []

    def reach_(base: str = "", **settings: Any) -> FhirServer:
        access = Access(
            base or httpserver.url_for("/fhir"), sleep=clock.sleep, monotonic=clock.monotonic, jitter=lambda _: 1.0
        )
        server = FhirServer(replace(access, **settings))
        opened.append(server)
        return server

    yield reach_
    for server in opened:
        server.close()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    return path


def ids(found: Iterator[Found]) -> list[str]:
    return [one.resource["id"] for one in found]


def all_of(search: Iterator[Found]) -> tuple[list[str], SearchFailed]:
    """The ids that came before the search failed, and how it failed."""
    came: list[str] = []
    with pytest.raises(SearchFailed) as failed:
        came.extend(one.resource["id"] for one in search)
    return came, failed.value


def first_then(fault: Callable[[Asked], Response | None], times: int = 1) -> Callable[[Asked], Response | None]:
    """The fault so many times, then none."""
    left = [times]

    def answer(asked: Asked) -> Response | None:
        if left[0] == 0:
            return None
        response = fault(asked)
        left[0] -= response is not None
        return response

    return answer


def status(code: int, **headers: str) -> Callable[[Asked], Response]:
    return lambda _: Response("", code, {name.replace("_", "-"): value for name, value in headers.items()})


def unused_base() -> str:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return f"http://127.0.0.1:{door.getsockname()[1]}/fhir"


# Searching


def test_a_search_brings_every_page_and_sends_next_as_it_came(fake: FakeFhir, reach: Open) -> None:
    assert ids(reach().search("Patient", [])) == ["p0", "p1", "p2", "p3", "p4"]
    posted, second, third = fake.searches("Patient")
    assert (posted.method, posted.raw, posted.params) == ("POST", "", {"_count": "200"})
    assert (second.method, second.raw) == ("GET", "_getpages=t0&_getpagesoffset=2&_odd=a%7Cb%2C%7E")
    assert (third.method, third.page) == ("GET", 3)


def test_a_search_is_strict_and_forbids_a_stored_answer(fake: FakeFhir, reach: Open) -> None:
    ids(reach().search("Patient", []))
    ids(reach().search("Patient", [], fresh=True))
    bulk, fresh = (one for one in fake.searches("Patient") if one.method == "POST")
    assert bulk.headers["Prefer"] == fresh.headers["Prefer"] == "handling=strict"
    assert bulk.headers["Cache-Control"] == "no-cache"
    assert fresh.headers["Cache-Control"] == "no-cache, no-store"


def test_a_fresh_search_is_whole_though_hapi_cuts_it_after_one_page(httpserver: HTTPServer, reach: Open) -> None:
    many = [{"resourceType": "Observation", "id": f"o{n}", "meta": {"versionId": "1"}} for n in range(15)]

    def like_hapi(request: Request) -> Response:
        return fhir_json(searchset(many[:10] if "no-store" in request.headers["Cache-Control"] else many))

    httpserver.expect_request("/fhir/Observation/_search").respond_with_handler(like_hapi)
    assert ids(reach().search("Observation", [], fresh=True)) == [one["id"] for one in many]


def test_every_attempt_names_us_and_itself(fake: FakeFhir, reach: Open) -> None:
    ids(reach().search("Patient", []))
    headers = [one.headers for one in fake.asked]
    assert {one["Accept"] for one in headers} == {"application/fhir+json"}
    assert all(one["User-Agent"].startswith("fhir-screen/") for one in headers)
    assert len({one["X-Request-Id"] for one in headers}) == len(headers) == 3


def test_found_resources_carry_base_and_full_url(fake: FakeFhir, reach: Open) -> None:
    server = reach()
    first = next(server.search("Patient", []))
    assert (first.base, first.full_url) == (server.base, f"{server.base}/Patient/p0")


def test_nothing_found_is_no_failure(fake: FakeFhir, reach: Open) -> None:
    assert ids(reach().search("Patient", [("_id", "nobody")])) == []


def test_an_empty_page_in_the_middle_ends_nothing(fake: FakeFhir, reach: Open) -> None:
    def hollow(asked: Asked) -> Response | None:
        if asked.page != 2:
            return None
        base = f"http://{asked.headers['Host']}/fhir"
        url = f"{base}?_getpages={asked.params['_getpages']}&_getpagesoffset=4"
        return fhir_json(searchset([], [{"relation": "next", "url": url}]))

    fake.faults.append(hollow)
    assert ids(reach().search("Patient", [])) == ["p0", "p1", "p4"]


def test_included_resources_are_told_from_matches(httpserver: HTTPServer, reach: Open) -> None:
    page = searchset([HIGH, PATIENTS[0]])
    page["entry"][1]["search"]["mode"] = "include"
    httpserver.expect_request("/fhir/Observation/_search").respond_with_json(page)
    found = list(reach().search("Observation", []))
    assert [(type(one), one.resource["id"]) for one in found] == [(Found, "o1"), (Included, "p0")]


def test_a_version_that_comes_twice_is_handed_over_once(httpserver: HTTPServer, reach: Open) -> None:
    newer = {**HIGH, "meta": {"versionId": "2"}}
    httpserver.expect_request("/fhir/Observation/_search").respond_with_json(searchset([HIGH, LOW, HIGH, newer]))
    found = [(one.resource["id"], one.resource["meta"]["versionId"]) for one in reach().search("Observation", [])]
    assert found == [("o1", "1"), ("o2", "1"), ("o1", "2")]


@pytest.mark.parametrize("refusal", [404, 405, 501])
def test_a_server_without_post_search_is_asked_by_get(fake: FakeFhir, reach: Open, refusal: int) -> None:
    fake.faults.append(lambda asked: Response("", refusal) if asked.method == "POST" else None)
    server = reach()
    assert ids(server.search("Patient", [("_id", "p1,p3")])) == ["p1", "p3"]
    assert ids(server.search("Patient", [("_id", "p1")])) == ["p1"]
    assert [one.method for one in fake.asked] == ["POST", "GET", "GET"]


def test_an_expired_page_begins_the_search_again_and_repeats_nothing(fake: FakeFhir, reach: Open) -> None:
    fake.faults.append(first_then(lambda asked: Response("", 410) if asked.page == 3 else None))
    assert ids(reach().search("Patient", [])) == ["p0", "p1", "p2", "p3", "p4"]
    assert [one.page for one in fake.asked] == [1, 2, 3, 1, 2, 3]


def test_a_search_that_expires_twice_has_failed(fake: FakeFhir, reach: Open) -> None:
    fake.faults.append(lambda asked: Response("", 410) if asked.page == 2 else None)
    came, failed = all_of(reach().search("Patient", []))
    assert (came, failed.status) == (["p0", "p1"], 410)


@pytest.mark.parametrize("code", [403, 404])
def test_a_closed_type_fails_with_its_status(fake: FakeFhir, reach: Open, code: int) -> None:
    fake.faults.append(lambda _: outcome(code, "forbidden", "the chart of Canary Kim"))
    came, failed = all_of(reach().search("Procedure", []))
    assert (came, failed.kind, failed.status, failed.detail) == ([], "Procedure", code, f"Procedure answered {code}")
    assert failed.final
    assert "Canary" not in str(failed)


def test_what_came_before_a_lost_page_still_counts(fake: FakeFhir, reach: Open) -> None:
    fake.faults.append(lambda asked: Response("", 500) if asked.page == 2 else None)
    came, failed = all_of(reach().search("Patient", []))
    assert (came, failed.detail) == (["p0", "p1"], "page 2 of Patient answered 500")


@pytest.mark.parametrize("severity", ["warning", "error", "fatal"])
def test_a_server_that_admits_an_omission_has_failed_after_all_that_came(
    httpserver: HTTPServer, reach: Open, severity: str
) -> None:
    note = {"resourceType": "OperationOutcome", "issue": [{"severity": severity, "code": "suppressed"}]}
    page = searchset([HIGH])
    page["entry"].append({"resource": note, "search": {"mode": "outcome"}})
    httpserver.expect_request("/fhir/Observation/_search").respond_with_json(page)
    came, failed = all_of(reach().search("Observation", []))
    assert (came, failed.codes) == (["o1"], ("suppressed",))


def test_mere_information_is_no_omission(httpserver: HTTPServer, reach: Open) -> None:
    note = {"resourceType": "OperationOutcome", "id": "x", "issue": [{"severity": "information", "code": "processing"}]}
    page = searchset([HIGH, note])
    httpserver.expect_request("/fhir/Observation/_search").respond_with_json(page)
    assert ids(reach().search("Observation", [])) == ["o1"]


def test_an_entry_that_cannot_be_read_is_an_omission(httpserver: HTTPServer, reach: Open) -> None:
    page = searchset([HIGH])
    page["entry"] += [{"fullUrl": "urn:uuid:1"}, "nonsense"]
    httpserver.expect_request("/fhir/Observation/_search").respond_with_json(page)
    came, failed = all_of(reach().search("Observation", []))
    assert (came, failed.codes) == (["o1"], ("unreadable-entry",))


def test_next_links_in_a_circle_end_the_search(httpserver: HTTPServer, reach: Open) -> None:
    again = searchset([HIGH], [{"relation": "next", "url": httpserver.url_for("/fhir?page=again")}])
    httpserver.expect_request("/fhir/Observation/_search").respond_with_json(again)
    httpserver.expect_request("/fhir", query_string="page=again").respond_with_json(again)
    came, failed = all_of(reach().search("Observation", []))
    assert (came, failed.detail) == (["o1"], "page 3 of Observation: the next links run in a circle")


@pytest.mark.parametrize(
    ("code", "body", "nature"),
    [
        (200, "<html><body>Please log in</body></html>", "Procedure answered with HTML"),
        (200, "<Bundle xmlns='http://hl7.org/fhir'/>", "Procedure answered with XML"),
        (200, "", "Procedure answered with nothing"),
        (200, "[]", "Procedure answered with JSON that is no resource"),
        (200, '{"resourceType": "Bundle", "entry": [NaN]}', "Procedure answered with something that is not JSON"),
        (200, '{"resourceType": "OperationOutcome"}', "Procedure answered with a resource of type OperationOutcome"),
        (200, '{"resourceType": "Bundle", "type": "history"}', "Procedure answered with a Bundle that is no searchset"),
        (302, "", "Procedure answered 302, a redirect that is not followed"),
    ],
)
def test_what_is_no_page_is_never_taken_for_an_empty_one(
    fake: FakeFhir, reach: Open, code: int, body: str, nature: str
) -> None:
    fake.faults.append(lambda _: Response(body, code, {"Location": "/fhir/Patient"}))
    came, failed = all_of(reach().search("Procedure", []))
    assert (came, failed.detail) == ([], nature)


def test_a_byte_order_mark_and_compression_are_read_through(fake: FakeFhir, reach: Open) -> None:
    body = gzip.compress(b"\xef\xbb\xbf" + json.dumps(searchset([HIGH])).encode())
    fake.faults.append(lambda _: Response(body, 200, {"Content-Encoding": "gzip"}))
    assert ids(reach().search("Observation", [])) == ["o1"]


def test_a_wrongly_labelled_encoding_is_a_failure(fake: FakeFhir, reach: Open) -> None:
    fake.faults.append(lambda _: Response(json.dumps(searchset([HIGH])), 200, {"Content-Encoding": "gzip"}))
    came, failed = all_of(reach().search("Observation", []))
    assert (came, failed.detail) == ([], "Observation: the answer is not encoded as its header says")


def test_a_page_beyond_the_limit_is_not_read_to_its_end(fake: FakeFhir, reach: Open) -> None:
    bomb = gzip.compress(b" " * (4 << 20))
    fake.faults.append(lambda _: Response(bomb, 200, {"Content-Encoding": "gzip"}))
    came, failed = all_of(reach(limits=Limits(page_bytes=2 << 20)).search("Observation", []))
    assert (came, failed.detail, len(fake.asked)) == ([], "Observation: the answer is larger than 2 MB", 1)


# Patience


def test_a_flapping_server_is_asked_again_with_growing_waits(fake: FakeFhir, reach: Open, clock: Clock) -> None:
    codes = iter([500, 502, 503, 504])
    fake.faults.append(lambda _: Response("", code) if (code := next(codes, 0)) else None)
    assert ids(reach().search("Patient", [("_id", "p1")])) == ["p1"]
    assert clock.waits == [0.5, 1.0, 2.0, 4.0]


def test_attempts_have_an_end(fake: FakeFhir, reach: Open, clock: Clock) -> None:
    fake.faults.append(status(503))
    came, failed = all_of(reach(limits=Limits(attempts=3)).search("Patient", []))
    assert (came, failed.status, failed.overload, clock.waits) == ([], 503, True, [0.5, 1.0])


def test_a_server_that_keeps_failing_is_asked_with_less_patience_until_it_answers(fake: FakeFhir, reach: Open) -> None:
    fake.faults.append(lambda asked: Response("", 500) if asked.kind == "Procedure" else None)
    server = reach(limits=Limits(attempts=4))
    for _ in range(3):
        all_of(server.search("Procedure", []))
    assert len(fake.searches("Procedure")) == 4 + 3 + 2
    ids(server.search("Patient", []))
    all_of(server.search("Procedure", []))
    assert len(fake.searches("Procedure")) == 4 + 3 + 2 + 4


def test_being_throttled_costs_no_patience(fake: FakeFhir, reach: Open) -> None:
    fake.faults.append(status(429))
    server = reach(limits=Limits(attempts=4))
    for _ in range(2):
        all_of(server.search("Patient", []))
    assert len(fake.asked) == 8


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry_After": "7"}, 7.0),
        ({"Retry_After": "18000"}, 300.0),
        ({"Retry_After": "-5"}, 0.5),
        ({"Retry_After": "soon"}, 0.5),
        ({}, 0.5),
        ({"Retry_After": "Wed, 21 Oct 2015 07:28:30 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 30.0),
        ({"Retry_After": "Wed, 21 Oct 2015 07:27:00 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.5),
    ],
)
def test_retry_after_is_obeyed_within_reason(reach: Open, clock: Clock, headers: dict[str, str], wait: float) -> None:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    page = whole(json.dumps(searchset([HIGH])).encode())
    with TornServer([whole(b"", "429 Too Many Requests", lines), page]) as torn:
        assert ids(reach(torn.base).search("Observation", [])) == ["o1"]
    assert clock.waits == [wait]


def test_a_call_ends_before_its_deadline_whatever_the_server_asks(fake: FakeFhir, reach: Open, clock: Clock) -> None:
    fake.faults.append(status(429, Retry_After="250"))
    came, failed = all_of(reach(limits=Limits(call=600)).search("Patient", []))
    assert (came, failed.status, clock.waits) == ([], 429, [250.0, 250.0])


def test_a_run_ends_at_its_deadline(fake: FakeFhir, reach: Open, clock: Clock) -> None:
    server = reach(limits=Limits(run=3600))
    clock.now = 3600
    with pytest.raises(TemporaryError, match="longer than 1 h"):
        list(server.search("Patient", []))
    assert fake.asked == []


PAGE = json.dumps(searchset([HIGH])).encode()


@pytest.mark.parametrize("act", [cut(PAGE), cut_chunked(PAGE), cut_unmeasured(PAGE), hang_up])
def test_a_page_cut_in_half_is_read_again(reach: Open, act: Act) -> None:
    with TornServer([act, whole(PAGE)]) as torn:
        assert ids(reach(torn.base).search("Observation", [])) == ["o1"]
        assert len(torn.heard) == 2


@pytest.mark.parametrize("act", [cut(PAGE), cut_chunked(PAGE), cut_unmeasured(PAGE), hang_up])
def test_a_page_that_is_always_cut_is_a_failure(reach: Open, act: Act) -> None:
    with TornServer([act]) as torn:
        came, failed = all_of(reach(torn.base).search("Observation", []))
    assert came == []
    assert failed.detail in {
        "Observation: the connection was cut",
        "Observation answered with something that is not JSON",
    }


@pytest.mark.parametrize("act", [silent, stalled])
def test_a_server_that_falls_silent_is_left(reach: Open, act: Act) -> None:
    with TornServer([act, whole(PAGE)]) as torn:
        assert ids(reach(torn.base, limits=Limits(silence=0.1)).search("Observation", [])) == ["o1"]


@pytest.mark.parametrize("act", [drip, drip_headers])
def test_a_server_that_drips_for_ever_is_left_at_the_deadline(reach: Open, act: Act) -> None:
    ticking = Clock(tick=1.0)
    with TornServer([act, whole(PAGE)]) as torn:
        server = reach(torn.base, limits=Limits(answer=4.0), monotonic=ticking.monotonic)
        assert ids(server.search("Observation", [])) == ["o1"]


def test_a_server_that_is_gone_is_a_matter_of_time(reach: Open, clock: Clock) -> None:
    with pytest.raises(TemporaryError, match="cannot be reached") as gone:
        list(reach(unused_base(), limits=Limits(attempts=3)).search("Patient", []))
    assert (gone.value.exit_code, clock.waits) == (75, [0.5, 1.0])


# Origins and secrets


def test_a_next_link_to_another_origin_is_refused_and_the_token_stays_here(
    httpserver: HTTPServer, reach: Open, token_file: Path
) -> None:
    with TornServer([whole(PAGE)]) as elsewhere:
        away = searchset([HIGH], [{"relation": "next", "url": f"{elsewhere.base}?page=2"}])
        httpserver.expect_request("/fhir/Observation/_search").respond_with_json(away)
        came, failed = all_of(reach(token_file=token_file).search("Observation", []))
        assert elsewhere.heard == []
    assert came == ["o1"]
    assert "the next page is said to be at http://localhost:" in failed.detail


@pytest.mark.parametrize(
    "url",
    [
        "https://{host}/fhir?p=2",
        "http://{host}@evil.example/?p=2",
        "http://user:pw@{host}/?p=2",
        "//evil.example",
        "http://evil.example\\@{host}/",
        "http://[broken",
    ],
)
def test_tricky_next_links_lead_nowhere(httpserver: HTTPServer, reach: Open, url: str) -> None:
    there = url.replace("{host}", f"{httpserver.host}:{httpserver.port}")
    httpserver.expect_request("/fhir/Observation/_search").respond_with_json(
        searchset([HIGH], [{"relation": "next", "url": there}])
    )
    came, failed = all_of(reach().search("Observation", []))
    assert came == ["o1"]
    assert "not followed" in failed.detail
    assert len(httpserver.log) == 1


def test_a_relative_next_link_is_followed_on_the_same_origin(httpserver: HTTPServer, reach: Open) -> None:
    httpserver.expect_request("/fhir/Observation/_search").respond_with_json(
        searchset([HIGH], [{"relation": "next", "url": "/fhir?page=2"}])
    )
    httpserver.expect_request("/fhir", query_string="page=2").respond_with_json(searchset([LOW]))
    assert ids(reach().search("Observation", [])) == ["o1", "o2"]


def test_redirects_are_refused_and_nothing_is_sent_there(reach: Open, token_file: Path) -> None:
    with TornServer([whole(b"{}")]) as elsewhere:
        moved = whole(b"", "301 Moved Permanently", f"Location: {elsewhere.base}?secret=1\r\n")
        with TornServer([moved]) as first, pytest.raises(PreflightError, match="redirects are not followed") as refused:
            reach(first.base, token_file=token_file).capabilities()
        assert elsewhere.heard == []
        assert refused.value.remedy.endswith(f"this one points to {elsewhere.base}")


def test_the_token_is_sent_and_told_nobody(
    fake: FakeFhir, reach: Open, token_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    fake.faults.append(first_then(status(503)))
    server = reach(token_file=token_file)
    ids(server.search("Patient", []))
    assert {one.headers["Authorization"] for one in fake.asked} == {f"Bearer {SECRET}"}
    assert SECRET not in caplog.text
    assert SECRET not in repr(vars(server))


def test_a_user_file_is_basic_authorization(fake: FakeFhir, reach: Open, tmp_path: Path) -> None:
    path = tmp_path / "user"
    path.write_text("night:pässword:1\n", "utf-8")
    reach(user_file=path).capabilities()
    assert fake.asked[0].headers["Authorization"] == "Basic bmlnaHQ6cMOkc3N3b3JkOjE="


def test_a_token_file_that_changes_is_read_again(fake: FakeFhir, reach: Open, token_file: Path) -> None:
    server = reach(token_file=token_file)
    server.still_there()
    token_file.write_text("second-token")
    server.still_there()
    token_file.write_text("")  # in the middle of being written
    server.still_there()
    token_file.unlink()
    server.still_there()
    sent = [one.headers["Authorization"].removeprefix("Bearer ") for one in fake.asked]
    assert sent == [SECRET, "second-token", "second-token", "second-token"]


def test_a_401_in_the_night_reads_the_token_once_more(fake: FakeFhir, reach: Open, token_file: Path) -> None:
    def expired(asked: Asked) -> Response | None:
        if asked.headers.get("Authorization") == "Bearer fresh-token":
            return None
        if asked.page == 2:
            token_file.write_text("fresh-token")
            return Response("", 401)
        return None

    fake.faults.append(expired)
    assert ids(reach(token_file=token_file).search("Patient", [])) == ["p0", "p1", "p2", "p3", "p4"]
    assert [one.page for one in fake.asked] == [1, 2, 2, 3]


def test_a_second_401_stops_the_night(fake: FakeFhir, reach: Open, token_file: Path) -> None:
    fake.faults.append(lambda asked: Response("", 401) if asked.page == 2 else None)
    with pytest.raises(PreflightError, match="401, with the secret from the file read once more") as stopped:
        list(reach(token_file=token_file).search("Patient", []))
    assert (stopped.value.exit_code, [one.page for one in fake.asked]) == (3, [1, 2, 2])
    assert SECRET not in str(stopped.value)


def test_a_401_without_a_secret_says_what_to_give(fake: FakeFhir, reach: Open) -> None:
    fake.faults.append(status(401))
    with pytest.raises(PreflightError, match="no secret was given") as refused:
        reach().capabilities()
    assert "--token-file" in str(refused.value)
    assert len(fake.asked) == 1


@pytest.mark.parametrize("content", ["", "two words", "line\nline", "tökén"])
def test_a_token_file_that_holds_no_token_is_an_error_that_does_not_quote_it(
    reach: Open, token_file: Path, content: str
) -> None:
    token_file.write_text(content, "utf-8")
    with pytest.raises(UsageError, match="this is no bearer token") as wrong:
        reach(token_file=token_file)
    assert content == "" or content not in str(wrong.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"token_file": Path("/nowhere/token")},
        {"user_file": Path("/nowhere/user")},
        {"ca": Path("/nowhere/ca.pem")},
        {"base": "ftp://fhir.example.org"},
        {"base": "fhir.example.org/r4"},
        {"base": "https://fhir.example.org/r4?x=1"},
        {"base": "https://user:pw@fhir.example.org/r4"},
    ],
)
def test_settings_that_cannot_be_meant_are_refused_at_once(reach: Open, settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        reach(**settings)


def test_unsafe_settings_are_warned_of(token_file: Path) -> None:
    token_file.chmod(0o644)
    access = Access("http://fhir.example.org/r4", token_file=token_file)
    assert access.warnings == (
        f"{token_file} can be read by others (mode 0644): chmod 600",
        "the token or password goes over plain http: use an https address",
    )
    token_file.chmod(0o600)
    assert Access("https://fhir.example.org/r4", token_file=token_file).warnings == ()
    assert Access("http://127.0.0.1:8080/fhir", token_file=token_file).warnings == ()


def test_the_environment_decides_nothing(fake: FakeFhir, reach: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", unused_base())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    assert ids(reach().search("Patient", [("_id", "p1")])) == ["p1"]


def test_a_proxy_is_used_when_it_is_set(reach: Open) -> None:
    with TornServer([whole(PAGE)]) as proxy:
        server = reach("http://fhir.example.invalid/r4", proxy=proxy.base.removesuffix("/fhir"))
        assert ids(server.search("Observation", [])) == ["o1"]
        assert proxy.heard[0].startswith(b"POST http://fhir.example.invalid/r4/Observation/_search HTTP/1.1")


# TLS


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


def tls(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def pem(authority: trustme.CA, folder: Path) -> Path:
    path = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def test_an_authority_of_ones_own_is_trusted_when_it_is_named(
    reach: Open, authority: trustme.CA, tmp_path: Path, token_file: Path
) -> None:
    with TornServer([whole(PAGE)], tls(authority, "localhost")) as torn:
        server = reach(torn.base, ca=pem(authority, tmp_path), token_file=token_file)
        assert ids(server.search("Observation", [])) == ["o1"]


@pytest.mark.parametrize("name", ["localhost", "another.example.org"])
def test_a_certificate_that_does_not_hold_gets_no_byte_of_the_token(
    reach: Open, authority: trustme.CA, tmp_path: Path, token_file: Path, name: str
) -> None:
    ca = None if name == "localhost" else pem(authority, tmp_path)
    with TornServer([whole(PAGE)], tls(authority, name)) as torn:
        with pytest.raises(PreflightError, match="the certificate does not hold") as refused:
            reach(torn.base, ca=ca, token_file=token_file).capabilities()
        assert torn.heard == []
    assert refused.value.exit_code == 3


def test_a_client_certificate_opens_a_server_that_demands_one(
    reach: Open, authority: trustme.CA, tmp_path: Path
) -> None:
    context = tls(authority, "localhost")
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    own = authority.issue_cert("night.example.org")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    own.cert_chain_pems[0].write_to_path(str(cert))
    own.private_key_pem.write_to_path(str(key))
    with TornServer([whole(PAGE)], context) as torn:
        server = reach(torn.base, ca=pem(authority, tmp_path), client_cert=cert, client_key=key)
        assert ids(server.search("Observation", [])) == ["o1"]
        with pytest.raises((PreflightError, TemporaryError)):
            reach(torn.base, ca=pem(authority, tmp_path)).capabilities()


# Preflight


def test_capabilities_say_who_and_what(fake: FakeFhir, reach: Open) -> None:
    fake.search_params = {"Patient": ("_id", "link")}
    stated = reach().capabilities()
    assert (stated.fhir_version, stated.software, stated.software_version) == ("4.0.1", "FakeFhir", "1")
    assert stated.transaction
    assert stated.types["Patient"].interactions == {"read", "search-type"}
    assert stated.parameters("Patient") == {"_id", "link"}


@pytest.mark.parametrize("version", ["4.0.0", "4.0.1", "4.3.0"])
def test_r4_and_r4b_are_understood(fake: FakeFhir, reach: Open, version: str) -> None:
    fake.fhir_version = version
    assert reach().capabilities().fhir_version == version


@pytest.mark.parametrize(
    ("version", "words"),
    [("5.0.0", r"FHIR R5 \(5.0.0\)"), ("3.0.2", r"FHIR STU3 \(3.0.2\)"), ("", r"FHIR version \?"), ("4.1.0", "4.1.0")],
)
def test_other_releases_are_named_and_refused(fake: FakeFhir, reach: Open, version: str, words: str) -> None:
    fake.fhir_version = version
    with pytest.raises(PreflightError, match=words):
        reach().capabilities()


@pytest.mark.parametrize(
    ("code", "body", "words"),
    [
        (200, "<html></html>", "no FHIR server: /metadata answered 200 with HTML"),
        (200, "", "no FHIR server: /metadata answered 200 with nothing"),
        (200, '{"swagger": "2.0"}', "no FHIR server: /metadata is JSON that is no resource"),
        (200, '{"resourceType": "Patient"}', "no FHIR server: /metadata is a resource of type Patient"),
        (404, "<html></html>", "no FHIR server: /metadata answered 404 with HTML"),
        (403, "", "the server forbids us to read"),
        (302, "", "redirects are not followed"),
    ],
)
def test_an_address_that_is_no_fhir_server_is_told_apart(
    fake: FakeFhir, reach: Open, code: int, body: str, words: str
) -> None:
    fake.faults.append(lambda _: Response(body, code))
    with pytest.raises(PreflightError, match=re.escape(words)) as refused:
        reach().capabilities()
    assert refused.value.exit_code == 3


def test_a_server_that_is_down_at_the_start_is_a_matter_of_time(fake: FakeFhir, reach: Open) -> None:
    fake.faults.append(status(503))
    with pytest.raises(TemporaryError, match="the server answers 503"):
        reach().capabilities()
    with pytest.raises(TemporaryError, match="cannot be reached"):
        reach(unused_base()).capabilities()
    with pytest.raises(TemporaryError, match="name of the server cannot be resolved"):
        reach("http://no-such-host.invalid/fhir").capabilities()
    with TornServer([hang_up]) as torn, pytest.raises(TemporaryError, match="the connection was cut"):
        reach(torn.base).capabilities()


# Reading one


def test_reading_gives_the_resource_with_its_version(httpserver: HTTPServer, reach: Open) -> None:
    httpserver.expect_request("/fhir/Device/d1", headers={"Cache-Control": "no-cache, no-store"}).respond_with_json(
        {"resourceType": "Device", "id": "d1"}, headers={"ETag": 'W/"7"'}
    )
    assert reach().read("Device/d1") == {"resourceType": "Device", "id": "d1", "meta": {"versionId": "7"}}


@pytest.mark.parametrize("code", [404, 410])
def test_what_is_not_there_is_none(fake: FakeFhir, reach: Open, code: int) -> None:
    fake.faults.append(lambda _: outcome(code, "not-found"))
    assert reach().read("Device/d1") is None


@pytest.mark.parametrize(("code", "told"), [(410, True), (404, False), (200, False), (403, False), (501, False)])
def test_only_410_says_that_something_was_deleted(fake: FakeFhir, reach: Open, code: int, told: bool) -> None:
    fake.faults.append(lambda _: outcome(code, "deleted"))
    assert reach().deleted("Device/d1") is told


def test_where_nobody_answers_it_is_not_known_whether_something_was_deleted(fake: FakeFhir, reach: Open) -> None:
    fake.faults.append(status(503))
    with pytest.raises(SearchFailed, match="Device answered 503"):
        reach().deleted("Device/d1")


def test_a_web_page_instead_of_an_answer_is_not_none(fake: FakeFhir, reach: Open) -> None:
    fake.faults.append(lambda _: Response("<html>no such page</html>", 404))
    with pytest.raises(SearchFailed, match="Device answered 404"):
        reach().read("Device/d1")


def test_a_read_that_fails_is_not_none(fake: FakeFhir, reach: Open) -> None:
    fake.faults.append(status(403))
    with pytest.raises(SearchFailed, match="Device answered 403"):
        reach().read("Device/d1")


@pytest.mark.parametrize(
    "reference", ["Device", "Device/../Patient", "Device/a b", "http://evil.example/Device/1", "d/1?x"]
)
def test_what_is_no_reference_is_not_asked_for(fake: FakeFhir, reach: Open, reference: str) -> None:
    with pytest.raises(UsageError):
        reach().read(reference)
    assert fake.asked == []


def test_another_resource_than_the_one_asked_for_is_a_failure(httpserver: HTTPServer, reach: Open) -> None:
    httpserver.expect_request("/fhir/Device/d1").respond_with_json({"resourceType": "Device", "id": "d2"})
    with pytest.raises(SearchFailed, match="a resource of type Device"):
        reach().read("Device/d1")


# Writing


def transaction(*resources: dict[str, Any]) -> dict[str, Any]:
    entries = [
        {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
        for one in resources
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def test_a_transaction_is_answered_entry_by_entry(fake: FakeFhir, reach: Open) -> None:
    answer = reach().transaction(transaction(HIGH, LOW))
    assert [entry["response"]["status"] for entry in answer["entry"]] == ["201 Created", "201 Created"]
    assert fake.resources[-2:] == [HIGH, LOW]
    assert fake.asked[0].headers["Content-Type"] == "application/fhir+json"


def test_decimals_go_out_digit_by_digit(reach: Open) -> None:
    done = {"resourceType": "Bundle", "type": "transaction-response", "entry": [{"response": {"status": "200"}}]}
    with TornServer([whole(json.dumps(done).encode())]) as torn:
        reach(torn.base).transaction(transaction({**HIGH, "valueQuantity": {"value": Decimal("7.20")}}))
        assert b'"value":7.20}' in torn.heard[0]


@pytest.mark.parametrize("code", [409, 412])
def test_both_kinds_of_conflict_are_one(fake: FakeFhir, reach: Open, code: int) -> None:
    fake.faults.append(lambda _: outcome(code, "conflict", "HAPI-0989: Observation of Canary Kim is not current"))
    with pytest.raises(Conflict) as lost:
        reach().transaction(transaction(HIGH))
    assert str(lost.value) == f"somebody else wrote first ({code}) (conflict, HAPI-0989)"
    assert len(fake.asked) == 1


@pytest.mark.parametrize("code", [400, 403, 405, 422])
def test_a_refusal_names_codes_and_quotes_nobody(fake: FakeFhir, reach: Open, code: int) -> None:
    fake.faults.append(lambda _: outcome(code, "business-rule", "Canary Kim, born 1970"))
    with pytest.raises(Rejected) as refused:
        reach().transaction(transaction(HIGH))
    assert str(refused.value) == f"the server refused the transaction ({code}) (business-rule)"
    assert (refused.value.status, refused.value.codes, len(fake.asked)) == (code, ("business-rule",), 1)


@pytest.mark.parametrize("act", [hang_up, cut(b'{"resourceType": "Bundle"}'), stalled])
def test_a_write_whose_answer_is_lost_is_not_sent_again(reach: Open, act: Act) -> None:
    with TornServer([act]) as torn:
        with pytest.raises(UnknownOutcome):
            reach(torn.base, limits=Limits(silence=0.1)).transaction(transaction(HIGH))
        assert len(torn.heard) == 1


@pytest.mark.parametrize(
    ("code", "body"),
    [(500, ""), (502, "<html>"), (503, ""), (504, ""), (200, ""), (200, "<html>"), (200, '{"resourceType": "Bundle"}')],
)
def test_an_answer_that_proves_nothing_is_an_unknown_outcome(fake: FakeFhir, reach: Open, code: int, body: str) -> None:
    fake.faults.append(lambda _: Response(body, code))
    with pytest.raises(UnknownOutcome):
        reach().transaction(transaction(HIGH))
    assert len(fake.asked) == 1


@pytest.mark.parametrize("statuses", [["201"], ["201", "201", "201"], ["201", "404"], ["201", ""]])
def test_every_entry_must_be_answered_as_done(fake: FakeFhir, reach: Open, statuses: list[str]) -> None:
    entries = [{"response": {"status": one}} for one in statuses]
    answer = {"resourceType": "Bundle", "type": "transaction-response", "entry": entries}
    fake.faults.append(lambda _: fhir_json(answer))
    with pytest.raises(UnknownOutcome, match="2 entries were sent"):
        reach().transaction(transaction(HIGH, LOW))


def test_a_write_that_was_throttled_is_sent_again(fake: FakeFhir, reach: Open, clock: Clock) -> None:
    fake.faults.append(first_then(status(429, Retry_After="3"), times=2))
    reach().transaction(transaction(HIGH))
    assert (len(fake.asked), clock.waits) == (3, [3.0, 3.0])


def test_a_write_to_a_server_that_is_gone_was_certainly_not_done(reach: Open) -> None:
    with pytest.raises(TemporaryError, match="cannot be reached"):
        reach(unused_base()).transaction(transaction(HIGH))


def test_a_401_on_a_write_reads_the_token_once_more(fake: FakeFhir, reach: Open, token_file: Path) -> None:
    fake.faults.append(first_then(status(401)))
    reach(token_file=token_file).transaction(transaction(HIGH))
    assert len(fake.asked) == 2
    fake.faults.append(status(401))
    with pytest.raises(PreflightError):
        reach(token_file=token_file).transaction(transaction(HIGH))

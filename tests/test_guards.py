"""A night that is unlike the last good one stops before it writes, unless a person says why it is right."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from commands import Ended, fhir_screen
from fhir_screen.errors import SafetyStop, TemporaryError, UsageError
from fhir_screen.state.guards import Cohort, alarms, heed
from fhir_screen.state.record import StateFolder
from tiny import DAY, chart, mappings, write

LIKELY, NOT = "likely-eligible", "not-eligible"


def cohort(verdicts: str, **unknown: int) -> dict[str, Cohort]:
    """One letter a patient: + likely-eligible, - not-eligible, _ not there."""
    words = {"+": LIKELY, "-": NOT}
    named = {f"Patient/p{n}": words[sign] for n, sign in enumerate(verdicts) if sign != "_"}
    return {"T": Cohort("1", named, unknown)}


# --- what is unlike -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ("++++++++++", "--++++++++", ()),
        (
            "++++++++++",
            "---+++++++",
            ("T: 3 of 10 patients have another verdict than in the last good night",),
        ),
        ("+++", "-++", ()),
        ("++++++++++", "+++++++++_", ()),
        ("++++++++++++++++++++", "++++++++++++++++++__", ()),
        ("++++++++++++++++++++", "+++++++++++++++++___", ("T: the cohort shrank from 20 to 17 patients",)),
        ("++++", "____", ("T: the cohort shrank from 4 to 0 patients",)),
        ("+", "_", ()),
        ("", "++++", ()),
    ],
)
def test_more_than_a_fifth_of_flips_and_more_than_a_tenth_of_losses_are_too_much(
    before: str, now: str, told: tuple[str, ...]
) -> None:
    assert alarms(cohort(before), cohort(now)) == told


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (0, 2, ()),
        (0, 3, ("I07: unknown for 3 of 8 patients, before for 0 of 8",)),
        (4, 6, ()),
        (4, 7, ("I07: unknown for 7 of 8 patients, before for 4 of 8",)),
        (8, 0, ()),
    ],
)
def test_a_criterion_that_is_unknown_for_a_quarter_more_is_too_much(
    before: int, now: int, told: tuple[str, ...]
) -> None:
    assert alarms(cohort("++++++++", I07=before), cohort("++++++++", I07=now)) == told


def test_one_patient_is_never_a_mass() -> None:
    assert alarms(cohort("+", I07=0), cohort("-", I07=1)) == ()
    assert alarms(cohort("++"), cohort("+_")) == ()


def test_another_version_of_the_criteria_is_named_beside_its_flips() -> None:
    now = {"T": Cohort("2", cohort("--")["T"].verdicts)}
    (told,) = alarms(cohort("++"), now)
    assert told.endswith("(criteria 1 -> 2)")


def test_trials_are_compared_each_with_itself() -> None:
    assert alarms({"A": cohort("++")["T"]}, {"B": cohort("--")["T"]}) == ()


def test_nothing_unlike_stops_nothing() -> None:
    heed(())
    with pytest.raises(SafetyStop, match="nothing was written: T: the cohort shrank"):
        heed(("T: the cohort shrank from 4 to 0 patients",))


# --- the folder ---------------------------------------------------------------------------------------------------


def test_the_state_is_for_its_owner_alone(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "deep" / "state")
    state.keep_good("north", cohort("+-", I07=1))
    state.keep_record("20251115T000000Z", {"exit_code": 0})
    with state.locked("north"):
        modes = {stat.S_IMODE(path.stat().st_mode) for path in state.path.iterdir()}
    assert (stat.S_IMODE(state.path.stat().st_mode), modes) == (0o700, {0o600})


def test_a_good_night_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    state.keep_good("north", cohort("+-", I07=1))
    assert state.last_good("north") == cohort("+-", I07=1)
    assert state.last_good("south") == {}


def test_a_trial_that_was_not_screened_keeps_its_last_good_night(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    state.keep_good("north", {"A": cohort("+")["T"]})
    state.keep_good("north", {"B": cohort("-")["T"]})
    assert state.last_good("north") == {"A": cohort("+")["T"], "B": cohort("-")["T"]}


def test_two_nights_for_one_server_do_not_run_at_once(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    with (
        state.locked("north"),
        pytest.raises(TemporaryError, match="another night"),
        StateFolder(tmp_path).locked("north"),
    ):
        pass
    with state.locked("north"), state.locked("south"):
        pass


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": "other"}', '{"schema": "fhir-screen/good-night/1", "trials": 1}']
)
def test_a_last_good_night_that_cannot_be_read_is_said_and_not_forgotten(tmp_path: Path, text: str) -> None:
    (tmp_path / "north.good.json").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be read"):
        StateFolder(tmp_path).last_good("north")


# --- whole nights -------------------------------------------------------------------------------------------------


class Nights:
    """Nights from a folder of charts into a folder of Bundles, with a state beside them."""

    def __init__(self, place: Path) -> None:
        self.place, self.mappings = place, mappings(place / "mappings")
        self.out, self.state = place / "out", place / "state"

    def charts(self, **hemoglobin: str) -> None:
        source = self.place / "source"
        for old in source.glob("*") if source.exists() else ():
            old.unlink()
        for patient, value in hemoglobin.items():
            write(source / f"{patient}.json", chart(patient, value))

    def run(self, *options: str | Path, command: str = "run") -> Ended:
        place = ("--mappings", self.mappings, "--write-to", self.out, "--state", self.state, "--as-of", DAY)
        return fhir_screen(command, self.place / "source", *place, *options)

    @property
    def written(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.out.glob("*"))}

    @property
    def records(self) -> list[dict[str, Any]]:
        found = [json.loads(path.read_text("utf-8")) for path in self.state.glob("night-*.json")]
        return sorted(found, key=lambda record: (record["started"], record["exit_code"]))


@pytest.fixture
def nights(tmp_path: Path) -> Nights:
    found = Nights(tmp_path)
    found.charts(p1="13", p2="13", p3="13", p4="13")
    assert found.run("--json").code == 0
    return found


def test_a_night_like_the_last_one_writes_what_changed(nights: Nights) -> None:
    nights.charts(p1="13", p2="13", p3="13", p4="8.1")
    ended = nights.run("--json")
    assert (ended.code, ended.document["updated"], ended.document["unchanged"]) == (0, 1, 3)


def test_a_mass_change_writes_nothing_until_somebody_says_why(nights: Nights) -> None:
    before = nights.written
    nights.charts(p1="13", p2="13", p3="8.1", p4="8.1")
    stopped = nights.run("--json")
    assert (stopped.code, nights.written == before, stopped.out) == (4, True, "")
    assert "TINY-1: 2 of 4 patients have another verdict" in stopped.err
    assert nights.run("--json").code == 4
    accepted = nights.run("--json", "--accept-change", "new analyser, checked by Dr. Seo")
    assert (accepted.code, accepted.document["updated"]) == (0, 2)
    assert nights.run("--json").code == 0
    assert {record["accepted_change"] for record in nights.records} == {None, "new analyser, checked by Dr. Seo"}


def test_an_accepted_change_stays_accepted_where_the_night_was_interrupted(nights: Nights) -> None:
    nights.charts(p1="13", p2="13", p3="8.1", p4="8.1")
    nights.out.rename(nights.out.with_name("away"))
    nights.out.write_text("a file, where the folder should be")
    assert nights.run("--accept-change", "new analyser").code not in (0, 1, 5)
    nights.out.unlink()
    nights.out.with_name("away").rename(nights.out)
    ended = nights.run("--json")
    assert (ended.code, ended.document["updated"]) == (0, 2)


def test_a_cohort_that_lost_more_than_a_tenth_writes_nothing(nights: Nights) -> None:
    nights.charts(p1="13", p2="13")
    ended = nights.run()
    assert (ended.code, "the cohort shrank from 4 to 2 patients" in ended.err) == (4, True)


def test_a_plan_says_that_a_run_would_stop_and_leaves_no_trace(nights: Nights) -> None:
    before = {path.name: path.read_bytes() for path in nights.state.iterdir()}
    nights.charts(p1="8", p2="8", p3="8", p4="8")
    ended = nights.run(command="plan")
    assert (ended.code, "a run would stop: TINY-1: 4 of 4 patients" in ended.err) == (0, True)
    assert {path.name: path.read_bytes() for path in nights.state.iterdir()} == before


def test_a_night_of_a_few_patients_is_not_compared_with_one_of_all(nights: Nights) -> None:
    nights.charts(p1="8", p2="8", p3="13", p4="13")
    assert nights.run("--patient", "p1", "--patient", "p2").code == 0
    assert nights.run().code == 4


def test_the_record_of_a_night_has_its_counts_and_how_it_ended(nights: Nights) -> None:
    nights.charts(p1="8", p2="8", p3="8", p4="8")
    nights.run()
    good, stopped = nights.records
    assert (good["schema"], good["exit_code"], good["summary"]["created"]) == ("fhir-screen/night/1", 0, 4)
    assert good["criteria_unknown"]["TINY-1"] == {"version": "1", "patients": 4, "unknown": {"T-E02": 4}}
    assert stopped["exit_code"] == 4
    assert stopped["error"].startswith("nothing was written: TINY-1: 4 of 4 patients have another verdict")


def test_a_night_counts_the_patients_of_each_code_that_nobody_knows(nights: Nights) -> None:
    def local(system: str | None, code: str) -> dict[str, Any]:
        return {"code": code, "display": "typed by Frau Kanari"} | ({"system": system} if system else {})

    lab, many = "http://lab.example", [local("http://lab.example", f"K{number:02}") for number in range(60)]
    codings = {
        "p1": [local(lab, "HB"), *many],
        "p2": [local(lab, "HB")],
        "p3": [local(None, "typed")],
        "p4": [local("http://hl7.org/fhir/sid/icd-10", "J45")],
    }
    for patient, found in codings.items():
        resources = chart(patient, "13")
        for number, coding in enumerate([*found, *found[:1]]):
            resources.append(resources[2] | {"id": f"{patient}-{number}", "code": {"coding": [coding]}})
        write(nights.place / "source" / f"{patient}.json", resources)
    ended = nights.run("--json")
    told = ended.document["unmapped"]
    assert list(told.items())[:2] == [(f"{lab}|HB", 2), (f"{lab}|K00", 1)]
    assert (len(told), ended.document["unmapped_codes"]) == (50, 61)
    assert told in [record["summary"]["unmapped"] for record in nights.records]  # both nights may be of one second
    assert "Kanari" not in ended.out + json.dumps(nights.records)
    assert (
        "codes that the mappings do not know: 61, most often http://lab.example|HB (2 patients), "
        "http://lab.example|K00 (1 patient), http://lab.example|K01 (1 patient); see `fhir-screen codes`\n"
    ) in nights.run(command="plan").out


def test_without_state_nothing_is_kept_and_nothing_compared(nights: Nights) -> None:
    before = sorted(nights.state.iterdir())
    nights.charts(p1="8", p2="8", p3="8", p4="8")
    assert nights.run("--no-state").code == 0
    assert sorted(nights.state.iterdir()) == before


def test_a_night_that_finds_another_one_at_work_says_come_again(nights: Nights) -> None:
    (lock,) = nights.state.glob("*.lock")
    with StateFolder(nights.state).locked(lock.stem):
        assert nights.run().code == 75
    assert nights.run().code == 0


def test_a_plan_tells_who_appears_changes_and_disappears_and_because_of_what(nights: Nights) -> None:
    nights.charts(p1="8.1", p2="13", p3="13", p4="13", p5="13", p6="8.1")
    for patient in ("p2", "p3"):
        path = nights.place / "source" / f"{patient}.json"
        write(path, [{**one, "birthDate": "2010-01-01"} if patient == "p2" and "birthDate" in one else one
                     for one in chart(patient, "13.1" if patient == "p3" else "13")])  # fmt: skip
    ended = nights.run(command="plan")
    assert ended.out.splitlines()[:5] == [
        "would disappear: p1 TINY-1 likely-eligible -> not-eligible; because T-I02 supports -> blocks",
        "would disappear: p2 TINY-1 likely-eligible -> not-eligible; because T-I03 supports -> blocks",
        "would change:    p3 TINY-1 still likely-eligible; because T-I02 said otherwise",
        "would appear:    p5 TINY-1 likely-eligible, ResearchSubject candidate",
        "would record:    p6 TINY-1 not-eligible; because T-I02 blocks",
    ]
    changes = nights.run("--json", command="plan").document["changes"]
    assert [(one["patient"], one["action"], one["from"], one["to"]) for one in changes[:1]] == [
        ("Patient/p1", "disappear", "likely-eligible", "not-eligible")
    ]
    assert changes[0]["because"] == [{"criterion": "T-I02", "from": "supports", "to": "blocks"}]


def test_who_died_disappears_because_of_that(nights: Nights) -> None:
    path = nights.place / "source" / "p1.json"
    write(path, [{**one, "deceasedBoolean": True} if "birthDate" in one else one for one in chart("p1", "13")])
    assert "would disappear: p1 TINY-1 likely-eligible -> not-eligible; because deceased\n" in nights.run(command="plan").out


def test_a_shadow_night_says_where_it_wrote(nights: Nights) -> None:
    ended = nights.run("--json")
    assert ended.err == f"the Bundles are in {nights.out}\n"
    assert (ended.document["destination"], ended.document["site"], ended.document["exit_code"]) == (str(nights.out), "default", 0)

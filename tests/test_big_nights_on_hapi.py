"""Big nights against a real HAPI server: what a hundred people say meanwhile is kept, and twenty deaths leave no trace.

The patients are the sample patients again and again, each time under ids of their own: 300 where people write at the
same time, 44 where nights are killed, since those nights are begun more than twenty times. Two seasons lie between the
two nights, so that the second one has something else to say of nearly everybody.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
import urllib.error
from collections import Counter
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from commands import fhir_screen
from hapi.server import running
from hapi.written import WRITTEN, ask, how_many, ours, versions

SAMPLES = Path(__file__).parents[1] / "sample_bundles"
PROGRAM = Path(sys.executable).with_name("fhir-screen")
FIRST, SECOND = "2025-11-15", "2026-02-15"
ACCEPTED = ("--accept-change", "every laboratory value is too old by now")
STATUS = {"likely-eligible": "candidate", "needs-review": "potential-candidate"}
MOVED_ON = ("screening", "eligible", "ineligible", "withdrawn", "on-study", "off-study")
PORTION = 50
"""So many patients are looked up at once before they are written one by one: there a person can get in between."""

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("hapi")]

Resource = dict[str, Any]


def copies(folder: Path, many: int) -> Path:
    """So many patients: `sample-01-022-hgb` is the hemoglobin of the 23rd one, who is like the first.

    Without the dead one and the one who has another cancer, of whom no day says anything new.
    """
    told = [one for one in sorted(SAMPLES.glob("*.json")) if not one.name.startswith(("13-", "14-"))]
    folder.mkdir()
    for number, sample in zip(range(many), cycle(told), strict=False):
        own = f"sample-{sample.name[:2]}"
        text = sample.read_text("utf-8").replace(own, f"{own}-{number:03}")
        (folder / f"{number:03}.json").write_text(text, "utf-8")
    return folder


@dataclass(frozen=True)
class Site:
    """A server, and a hospital that runs its nights for it."""

    base: str
    folder: Path

    @property
    def file(self) -> Path:
        path = self.folder / "site.yaml"
        path.write_text('site: big-nights\nwrite_closed_studies: "true"\n', "utf-8")
        return path

    def begun(self, day: str, *more: str) -> subprocess.Popen[str]:
        words = ("--as-of", day, "--site", self.file, "--state", self.folder / "state", "--json", *more)
        return subprocess.Popen(
            [PROGRAM, "run", self.base, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def night(self, day: str, *more: str) -> Resource:
        return ended(self.begun(day, *more))

    def verdicts(self, day: str) -> dict[tuple[str, str], str]:
        """What the samples' own files say, by patient and trial."""
        lines = fhir_screen(
            "screen", SAMPLES, "--as-of", day, "--site", self.file, "--format", "ndjson"
        ).out.splitlines()
        return {(one["patient"], one["trial"]): one["verdict"] for one in map(json.loads, lines)}


def ended(night: subprocess.Popen[str]) -> Resource:
    """The summary of a night that is awaited."""
    out, err = night.communicate()
    assert night.returncode in (0, 1, 5), err
    return json.loads(out)  # type: ignore[no-any-return]


# A hundred people


def test_what_a_hundred_people_say_during_a_night_of_300_patients_is_kept(tmp_path: Path) -> None:
    with running(data=[copies(tmp_path / "patients", 300)]) as base:
        site = Site(base, tmp_path)
        assert site.night(FIRST)["created"] == 600

        night = site.begun(SECOND, *ACCEPTED)
        said = said_meanwhile(base, night, 100)
        assert night.poll() is None, "the last one spoke when the night was over"
        summary = ended(night)
        assert (summary["conflicts"], summary["failed"]) == (0, 0)

        subjects = {one["id"]: one for one in ours(base, "ResearchSubject")}
        assert {own: subjects[own] for own in said} == said
        results = {whose(one): one for one in ours(base, "Observation")}
        assert len({name[0] for name, one in results.items() if one["meta"]["versionId"] == "2"}) == 300
        before_it = [one for one in said.values() if when(one) < when(results[whose(one)])]
        assert 0 < len(before_it) < 100, "some spoke before the night came to their patient, some after it"
        others = {name for name in results if name[0] not in {whose(one)[0] for one in said.values()}}
        stand = {whose(one): one["status"] for one in subjects.values()}
        first, second = site.verdicts(FIRST), site.verdicts(SECOND)
        for name in others:
            of_sample = name[0].rpartition("-")[0], trial(results[name])
            assert verdict(results[name]) == second[of_sample]
            assert stand.get(name) == STATUS.get(second[of_sample], STATUS.get(first[of_sample]))

        stood = versions(base)
        assert site.night(SECOND)["kept_human"] == 100
        changed = {name for name, version in versions(base).items() if stood.get(name) != version}
        assert {name for name in changed if name.startswith("ResearchSubject/")} == set()
        assert {name for name in changed if name.startswith("Observation/")} <= {
            f"Observation/{one['id']}" for name, one in results.items() if name not in others
        }


def said_meanwhile(base: str, night: subprocess.Popen[str], many: int) -> dict[str, Resource]:
    """What so many people made of subjects, by id, spread over the time in which the night writes.

    Every other one speaks of a patient whom the night has looked up and not written yet, the rest of anybody; half of
    them say which version they saw.
    """
    chance = random.Random(100)
    left = sorted(ours(base, "ResearchSubject"), key=whose)
    patients = sorted({one["subject"]["reference"] for one in ours(base, "Observation")})
    before = how_many(base, "Provenance")
    said: dict[str, Resource] = {}
    for number in range(many):
        while (written := how_many(base, "Provenance") - before) < 2 * len(patients) * (number + 1) / (many + 20):
            assert night.poll() is None, "the night ended before all had spoken"
            time.sleep(0.02)
        now = written // 2
        next_ones = patients[now : (now // PORTION + 1) * PORTION]
        near = [one for one in left if whose(one)[0] in next_ones]
        one = chance.choice(near if number % 2 and near else left)
        left.remove(one)
        said[one["id"]] = spoken(f"{base}/ResearchSubject/{one['id']}", chance.choice(MOVED_ON), chance.random() < 0.5)
    return said


def spoken(url: str, status: str, careful: bool) -> Resource:
    """A coordinator's change: read, change the status, put; where the server refuses, from the beginning."""
    while True:
        seen = ask(url)
        match = {"If-Match": f'W/"{seen["meta"]["versionId"]}"'} if careful else {}
        try:
            return ask(url, "PUT", {**seen, "status": status}, match)  # type: ignore[no-any-return]
        except urllib.error.HTTPError as refused:
            refused.close()
            assert refused.code in (409, 412)


def whose(resource: Resource) -> tuple[str, str]:
    """Patient and study of an Observation or ResearchSubject of ours."""
    if resource["resourceType"] == "ResearchSubject":
        return resource["individual"]["reference"], resource["study"]["reference"]
    (study,) = [one["valueReference"]["reference"] for one in resource["extension"] if "valueReference" in one]
    return resource["subject"]["reference"], study


def trial(result: Resource) -> str:
    (criteria,) = [one["valueString"] for one in result["extension"] if one["url"].endswith("/criteria")]
    return str(criteria.partition("|")[0])


def verdict(result: Resource) -> str:
    return str(result["valueCodeableConcept"]["coding"][0]["code"])


def when(resource: Resource) -> str:
    return str(resource["meta"]["lastUpdated"])


# Twenty deaths


def test_nights_killed_at_20_moments_and_run_again_end_as_undisturbed_ones(tmp_path: Path) -> None:
    charts = copies(tmp_path / "patients", 44)
    nights = ((FIRST, ()), (SECOND, ACCEPTED))
    with running(data=[charts]) as base:
        site = at(base, tmp_path / "calm")
        lasted = [seconds(site, day, *more) for day, more in nights]
        undisturbed, calm_versions = content(base), versions_but_provenance(base)

    chance = random.Random(20)
    with running(data=[charts]) as base:
        site = at(base, tmp_path / "struck")
        for (day, more), whole in zip(nights, lasted, strict=True):
            before = how_many(base, "Provenance")
            for _ in range(3):  # while it reads
                night = site.begun(day, *more)
                time.sleep(whole * chance.uniform(0, 0.2))
                killed(night)
                assert half_written(base) == {}
            for goal in sorted(chance.sample(range(1, 70), 7)):  # while it writes its 88 decisions
                night = site.begun(day, *more)
                wait_for(night, base, before + goal)
                killed(night)
                assert goal <= settled(base) - before < 88
                assert half_written(base) == {}
            site.night(day, *more)
        assert content(base) == undisturbed
        assert versions_but_provenance(base) == calm_versions
        last = site.night(SECOND)  # under the guards, which read what the nights left in the state folder
        assert (last["unchanged"], last["updated"], last["created"]) == (88, 0, 0)
        assert content(base) == undisturbed


def at(base: str, folder: Path) -> Site:
    folder.mkdir()
    return Site(base, folder)


def seconds(site: Site, day: str, *more: str) -> float:
    begin = time.monotonic()
    site.night(day, *more)
    return time.monotonic() - begin


def wait_for(night: subprocess.Popen[str], base: str, count: int) -> None:
    """Until so many changes stand."""
    while how_many(base, "Provenance") < count:
        assert night.poll() is None, "the night ended before it was struck"
        time.sleep(0.01)


def killed(night: subprocess.Popen[str]) -> None:
    night.kill()
    night.communicate()
    assert night.returncode == -signal.SIGKILL


def settled(base: str) -> int:
    """How many changes stand, once the server has done with what a dead night had still sent."""
    count, before = how_many(base, "Provenance"), -1
    while count != before:
        time.sleep(0.2)
        count, before = how_many(base, "Provenance"), count
    return count


def half_written(base: str) -> dict[str, tuple[int, int]]:
    """Observations and subjects of which not every version has its Provenance, with the numbers of both."""
    told = Counter(target["reference"] for one in ours(base, "Provenance") for target in one["target"])
    stand = {
        f"{kind}/{one['id']}": int(one["meta"]["versionId"])
        for kind in ("ResearchSubject", "Observation")
        for one in ours(base, kind)
    }
    return {name: (stand.get(name, 0), told[name]) for name in {*stand, *told} if stand.get(name, 0) != told[name]}


def content(base: str) -> list[str]:
    """Everything of ours, without the moments at which it was written, and what only follows from these."""
    return sorted(json.dumps(timeless(one), sort_keys=True) for kind in WRITTEN for one in ours(base, kind))


def timeless(resource: Resource) -> Resource:
    moments = {"Observation": {"effectiveDateTime", "issued"}, "Provenance": {"id", "recorded"}}
    kept = {name: value for name, value in resource.items() if name not in moments.get(resource["resourceType"], ())}
    return {**kept, "meta": {"tag": resource["meta"]["tag"]}}


def versions_but_provenance(base: str) -> dict[str, str]:
    return {name: version for name, version in versions(base).items() if not name.startswith("Provenance/")}

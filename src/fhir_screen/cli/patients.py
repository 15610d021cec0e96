"""The patients of a source, as charts, as records and as decisions, and what went wrong on the way."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fhir_screen.cli.access import access_of
from fhir_screen.cli.options import Job, request_of, whose
from fhir_screen.cli.output import say
from fhir_screen.cli.progress import progress
from fhir_screen.core.decision import Decision
from fhir_screen.core.facts import PatientRecord
from fhir_screen.core.truth import Truth
from fhir_screen.errors import UsageError
from fhir_screen.fhir.raw import Damage, RawPatient
from fhir_screen.fhir.server import FhirServer
from fhir_screen.nightly import (
    Screened,
    charts_of_files,
    charts_of_server,
    is_server,
    screenings,
    screenings_with_records,
)

SAMPLES = "sample_bundles"
"""The made-up patients that come with the program are a source of this name, wherever it is run."""


@dataclass(slots=True)
class Heard:
    """What went wrong so far: said on stderr once each, and counted for the exit code."""

    read: int = 0
    unread: int = 0
    defects: int = 0
    said: set[str] = field(default_factory=set)
    incomplete: dict[str, list[str]] = field(default_factory=dict)

    def damage(self, one: Damage) -> None:
        self.unread += one.counts
        if one.what not in self.said:
            self.said.add(one.what)
            say(f"{'not read' if one.counts else 'note'}: {one.what}")

    def screened(self, one: Screened) -> None:
        self.read += 1
        if one.defect:
            self.defects += 1
            say(f"not screened: Patient/{one.patient}: {one.defect}")
        for detail in dict.fromkeys(gap.detail for gap in one.gaps):
            if detail not in self.said:
                self.incomplete.setdefault(detail, []).append(one.patient)

    def told(self) -> int:
        """Says what is missing from whose record; the exit code: 1 where anything was."""
        for detail, patients in sorted(self.incomplete.items()):
            more = f" and {len(patients) - 3} more" if len(patients) > 3 else ""
            say(f"incomplete: {detail} ({', '.join(f'Patient/{one}' for one in patients[:3])}{more})")
        if self.unread:
            say(f"{self.unread} could not be read")
        return 1 if self.unread or self.defects or self.incomplete else 0


@contextmanager
def charts(source: str, job: Job, heard: Heard, listed: Collection[str] = ()) -> Iterator[Iterator[RawPatient]]:
    """The patients of a folder, a file or a server as they stand there, with progress on stderr.

    ``listed`` are the patients of an earlier night, who are looked at although no diagnosis leads to them any more.
    """
    want, request = job.want, request_of(job.want)
    if not is_server(source):
        if want.everyone or want.group:
            raise UsageError("--everyone and --group are for servers", where=source, remedy="--patient")
        with progress("read") as on_progress:
            yield charts_of_files(_place(source), request, heard.damage, on_progress)
        return
    access = access_of(job.chosen, source)
    for words in access.warnings:
        say(f"warning: {words}")
    with FhirServer(access) as server, progress() as on_progress:
        yield charts_of_server(server, job.study, request, heard.damage, whose(want), on_progress, listed)


def _place(source: str) -> Path:
    place = Path(source)
    return packaged_samples() if source.rstrip("/") == SAMPLES and not place.exists() else place


def packaged_samples() -> Path:
    inside = Path(__file__).parents[1] / SAMPLES
    return inside if inside.is_dir() else Path(__file__).parents[3] / SAMPLES


@contextmanager
def screened(source: str, job: Job, heard: Heard, listed: Collection[str] = ()) -> Iterator[Iterator[Screened]]:
    """The patients of a source, screened one by one."""
    with charts(source, job, heard, listed) as raw:
        yield _hearing(screenings(raw, job.study, request_of(job.want)), heard)


def _hearing(done: Iterable[Screened], heard: Heard) -> Iterator[Screened]:
    for one in done:
        heard.screened(one)
        yield one


@contextmanager
def records_of(source: str, job: Job, heard: Heard) -> Iterator[Iterator[tuple[PatientRecord, Screened]]]:
    """The patients of a source as records, with what the trials say of them; what fails is told, and left out."""
    with charts(source, job, heard) as raw:
        yield _records(screenings_with_records(raw, job.study, request_of(job.want)), heard)


def _records(
    done: Iterable[tuple[PatientRecord | None, Screened]], heard: Heard
) -> Iterator[tuple[PatientRecord, Screened]]:
    for record, one in done:
        heard.screened(one)
        if record is not None:
            yield record, one


def of_population(
    done: Iterable[Screened], heard: Heard, wanted: Callable[[Truth], bool], remedy: str = ""
) -> Iterator[Decision]:
    """The decisions that a list shows; how many patients it leaves out, because no trial is theirs, is told at the end."""
    left_out = 0
    for one in done:
        shown = [decision for decision in one.decisions if wanted(decision.population)]
        left_out += not shown and not one.defect
        yield from shown
    if left_out:
        say(f"not shown: {left_out} of {heard.read} patients, who do not have the disease of any of the trials{remedy}")

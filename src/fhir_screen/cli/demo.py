"""`fhir-screen demo`: the sample patients, offline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import click

from fhir_screen.cli.exits import leave
from fhir_screen.cli.options import job_of, lang_option, trial_options
from fhir_screen.cli.output import emit, say
from fhir_screen.cli.patients import SAMPLES, Heard, of_population, packaged_samples, screened
from fhir_screen.cli.printing import printed
from fhir_screen.cli.run import sink, written
from fhir_screen.core.decision import Decision
from fhir_screen.mapping.study import Study
from fhir_screen.nightly import Night, Screened, candidates_only, night
from fhir_screen.report.languages import LANGUAGES
from fhir_screen.settings import Settings

_DEMO_DAY = "2025-11-15"


@click.command()
@click.option("--write-to", metavar="FOLDER", help="Also write one transaction Bundle a patient there.")
@click.option("--json", "as_json", is_flag=True, help="Lines of JSON instead of the table.")
@trial_options
@lang_option
def demo(write_to: str | None, as_json: bool, lang: str, **given: Any) -> None:  # noqa: FBT001
    """Screen the sample patients, offline: what the list of a morning looks like.

    \b
    Example:  fhir-screen demo
    """
    job, heard = job_of({**given, "as_of": _DEMO_DAY}), Heard()
    with screened(str(packaged_samples()), job, heard) as patients:
        done = list(patients)
    found = list(of_population(done, heard, candidates_only))
    emit(printed(found, "ndjson" if as_json else "table", LANGUAGES[lang]))
    if write_to:
        _written(done, replace(job.chosen, server=None, write_to=write_to), job.study)
    if not as_json:
        _point_onward(found)
    leave(heard.told())


def _written(done: Iterable[Screened], chosen: Settings, study: Study) -> None:
    so_far = Night()
    with sink(chosen, study, into=written) as bundles:
        for _ in night(done, bundles, so_far):
            pass
    say(f"{so_far.outcome.created} decisions new and {so_far.outcome.unchanged} as they stood in {chosen.write_to}")


def _point_onward(found: Sequence[Decision]) -> None:
    first = found[0].patient.removeprefix("Patient/") if found else "ID"
    say(f"These are the sample patients, as of {_DEMO_DAY}; they lie in {packaged_samples()}.")
    say("To see why, and to go on:")
    say(f"  fhir-screen explain {first} --source {SAMPLES} --as-of {_DEMO_DAY}")
    say("  fhir-screen screen https://fhir.hospital.example/r4 --limit 10")

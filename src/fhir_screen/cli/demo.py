"""`fhir-screen demo`: the sample patients, offline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from fhir_screen.cli.exits import leave
from fhir_screen.cli.options import job_of, lang_option, trial_options
from fhir_screen.cli.output import emit, say
from fhir_screen.cli.patients import Heard, screened
from fhir_screen.cli.printing import printed
from fhir_screen.cli.run import sink, written
from fhir_screen.core.decision import Decision
from fhir_screen.mapping.load import Study
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
    job, heard, samples = job_of({**given, "as_of": _DEMO_DAY}), Heard(), packaged_samples()
    with screened(str(samples), job, heard) as patients:
        done = list(patients)
    found = [decision for one in done for decision in one.decisions if candidates_only(decision.population)]
    emit(printed(found, "ndjson" if as_json else "table", LANGUAGES[lang]))
    if write_to:
        _written(done, replace(job.chosen, server=None, write_to=write_to), job.study)
    if not as_json:
        _point_onward(found, samples)
    leave(heard.told())


def _written(done: Iterable[Screened], chosen: Settings, study: Study) -> None:
    so_far = Night()
    with sink(chosen, study, into=written) as bundles:
        for _ in night(done, bundles, so_far):
            pass
    say(f"{so_far.outcome.created} decisions new and {so_far.outcome.unchanged} as they stood in {chosen.write_to}")


def _point_onward(found: Sequence[Decision], samples: Path) -> None:
    first = found[0].patient.removeprefix("Patient/") if found else "ID"
    say(f"These are the sample patients of {samples}, as of {_DEMO_DAY}. To see why, and to go on:")
    say(f"  fhir-screen explain {first} --source {samples} --as-of {_DEMO_DAY}")
    say("  fhir-screen screen https://fhir.hospital.example/r4 --limit 10")


def packaged_samples() -> Path:
    inside = Path(__file__).parents[1] / "sample_bundles"
    return inside if inside.is_dir() else Path(__file__).parents[3] / "sample_bundles"

"""`fhir-screen screen`: the list of a source, in four forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fhir_screen.cli.exits import leave
from fhir_screen.cli.options import (
    PATH,
    access_options,
    job_of,
    lang_option,
    patient_options,
    population_options,
    source_argument,
    source_of,
    trial_options,
)
from fhir_screen.cli.output import emit
from fhir_screen.cli.patients import Heard, of_population, screened
from fhir_screen.cli.printing import FORMS, default_form, printed
from fhir_screen.nightly import candidates_only, everybody
from fhir_screen.report.languages import LANGUAGES


@click.command()
@source_argument
@trial_options
@patient_options
@access_options
@population_options
@click.option("--all", "show_all", is_flag=True, help="Also print patients outside the trial's population.")
@click.option("--format", "form", type=click.Choice(FORMS), help="Default: table on a terminal, else ndjson.")
@click.option("-o", "output", type=PATH, metavar="PATH", help="Output file. Default: stdout.")
@lang_option
def screen(
    source: str | None,
    show_all: bool,  # noqa: FBT001
    form: str | None,
    output: Path | None,
    lang: str,
    **given: Any,
) -> None:
    """Screen SOURCE: a folder, a file, or the address of a FHIR server. Writes nothing to any server.

    \b
    Example:  fhir-screen screen sample_bundles --as-of 2025-11-15 --format csv
    """
    job, heard = job_of(given), Heard()
    wanted = everybody if show_all else candidates_only
    with screened(source_of(source, job.chosen), job, heard) as done:
        found = of_population(done, heard, wanted, " (--all shows them)")
        emit(printed(found, form or default_form(output), LANGUAGES[lang], output), output)
    leave(heard.told())

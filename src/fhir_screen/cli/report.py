"""`fhir-screen report`: a night for people, as one page and a spreadsheet beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fhir_screen.cli.exits import leave
from fhir_screen.cli.options import PATH, job_of, lang_option, source_of, source_options
from fhir_screen.cli.output import emit
from fhir_screen.cli.patients import Heard, screened
from fhir_screen.errors import UsageError
from fhir_screen.nightly import candidates_only, everybody
from fhir_screen.report import csv, html
from fhir_screen.report.languages import LANGUAGES


@click.command()
@source_options
@click.option("--all", "show_all", is_flag=True, help="Also tell of patients outside the trial's population.")
@click.option("-o", "page", type=PATH, required=True, metavar="PAGE", help="The page, .html; the .csv goes beside it.")
@lang_option
def report(source: str | None, show_all: bool, page: Path, lang: str, **given: Any) -> None:  # noqa: FBT001
    """Write a page about SOURCE: what needs a person first, the list with reasons, the funnel; and a CSV beside it.

    Both files hold patient data and are readable by their owner alone. Writes nothing to any server.

    \b
    Example:  fhir-screen report sample_bundles --as-of 2025-11-15 -o report.html
    """
    if page.suffix != ".html":
        raise UsageError(f"-o {page}: not the name of a page", remedy="write e.g. -o report.html")
    job, heard, words = job_of(given), Heard(), LANGUAGES[lang]
    wanted = everybody if show_all else candidates_only
    with screened(source_of(source, job.chosen), job, heard) as done:
        found = [decision for one in done for decision in one.decisions if wanted(decision.population)]
    sheet = page.with_suffix(".csv")
    for parts, path in ((csv.render(found, words), sheet), (html.render(found, words), page)):
        emit(parts, path)
    leave(heard.told())

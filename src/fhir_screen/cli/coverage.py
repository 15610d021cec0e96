"""`fhir-screen coverage`: what the data of a source can answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from fhir_screen.cli.exits import leave
from fhir_screen.cli.options import PATH, job_of, json_option, output_option, source_of, source_options
from fhir_screen.cli.output import emit, say
from fhir_screen.cli.patients import Heard, records_of
from fhir_screen.cli.printing import paper
from fhir_screen.core.decision import Decision
from fhir_screen.core.facts import PatientRecord
from fhir_screen.nightly import Screened, candidates_only, everybody
from fhir_screen.report import coverage as counting
from fhir_screen.report import coverage_html, coverage_table


@click.command()
@source_options
@click.option("--all", "show_all", is_flag=True, help="Count patients outside the trials' populations too.")
@json_option
@click.option("--html", "page", type=PATH, metavar="FILE", help="Also write a page with a bar for each atom.")
@output_option
def coverage(
    source: str | None, show_all: bool, as_json: bool, page: Path | None, output: Path | None, **given: Any  # noqa: FBT001
) -> None:
    """Count for how many patients of SOURCE there is any, fresh and usable data, criterion by criterion.

    Counted are patients who have, or may have, the disease of the trial.

    \b
    Example:  fhir-screen coverage sample_bundles --as-of 2025-11-15 --html coverage.html
    """
    job, heard = job_of(given), Heard()
    wanted = everybody if show_all else candidates_only
    days: set[str] = set()
    with records_of(source_of(source, job.chosen), job, heard) as read:
        found = counting.coverage(_counted(read, wanted, days), job.study.trials)
    if page is not None:
        emit(coverage_html.render(found, ", ".join(sorted(days))), page)
    if as_json:
        emit([json.dumps(counting.as_json(found)) + "\n"], output)
    else:
        emit(coverage_table.render(found, paper(output)), output)
    for trial in found:
        if not trial.patients:
            say(
                f"{trial.trial}: nobody here has its disease by a code that the mappings know; see `fhir-screen codes`, or --all"
            )
    leave(heard.told())


def _counted(
    read: Iterator[tuple[PatientRecord, Screened]], wanted: Callable[..., bool], days: set[str]
) -> Iterator[tuple[PatientRecord, Decision]]:
    for record, one in read:
        for decision in one.decisions:
            days.add(decision.as_of.isoformat())
            if wanted(decision.population):
                yield record, decision

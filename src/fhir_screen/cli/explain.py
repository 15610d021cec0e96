"""`fhir-screen explain`: one patient in full."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from fhir_screen.cli.exits import leave
from fhir_screen.cli.options import PATH, access_options, job_of, lang_option, source_of, trial_options
from fhir_screen.cli.output import emit
from fhir_screen.cli.patients import Heard, screened
from fhir_screen.core.decision import Decision
from fhir_screen.core.trials import Trial
from fhir_screen.errors import UsageError
from fhir_screen.mapping.study import Study
from fhir_screen.mapping.yamlfile import did_you_mean
from fhir_screen.nightly import Screened
from fhir_screen.report import explain as notes
from fhir_screen.report import html, ndjson
from fhir_screen.report.catalogue import Catalogue
from fhir_screen.report.languages import LANGUAGES


@click.command()
@click.argument("patient_id", metavar="PATIENT")
@click.option("--source", metavar="SOURCE", help="Folder, file or FHIR server. Default: the server of the settings.")
@click.option("--criterion", metavar="ID", help="Only this criterion or atom.")
@click.option("--format", "form", type=click.Choice(["text", "html", "json"]), default="text", show_default=True)
@click.option("-o", "output", type=PATH, metavar="PATH", help="Output file. Default: stdout.")
@trial_options
@click.option("--as-of", metavar="DATE", help="Screening date, YYYY-MM-DD. Default: today in the site's time zone.")
@click.option("--anchors", type=PATH, metavar="FILE", help="YAML or CSV with planned and known dates.")
@access_options
@lang_option
def explain(
    patient_id: str, source: str | None, criterion: str | None, form: str, output: Path | None, lang: str, **given: Any
) -> None:
    """Explain PATIENT: every criterion with its answer, its evidence, and what would settle it.

    \b
    Example:  fhir-screen explain sample-03 --source sample_bundles --as-of 2025-11-15
    """
    job, heard = job_of({**given, "patients": (patient_id,)}), Heard()
    if criterion:
        job = replace(job, study=replace(job.study, trials=_trials_with(job.study, criterion)))
    with screened(source_of(source, job.chosen), job, heard) as done:
        emit(_explained(list(done), form, criterion, LANGUAGES[lang]), output)
    leave(heard.told())


def _trials_with(study: Study, criterion: str) -> tuple[Trial, ...]:
    named = {t.id: {i for c in t.criteria for i in (c.id, *(a.id for a in c.atoms))} for t in study.trials}
    if not any(criterion in ids for ids in named.values()):
        remedy = did_you_mean(criterion, set().union(*named.values()))
        raise UsageError(f"no criterion {criterion!r} in {', '.join(named)}", remedy=remedy or "check --criterion")
    return tuple(trial for trial in study.trials if criterion in named[trial.id])


def _only(decision: Decision, criterion: str | None) -> Decision:
    return replace(decision, criteria=tuple(notes.chosen(decision, criterion))) if criterion else decision


def _explained(done: Sequence[Screened], form: str, criterion: str | None, words: Catalogue) -> Iterator[str]:
    noted = [(decision, one.anchors[decision.trial.id]) for one in done for decision in one.decisions]
    match form:
        case "json":
            yield from ndjson.render(_only(one, criterion) for one, _ in noted)
        case "html":
            yield from html.render_note(noted, criterion, words)
        case _:
            yield "\n".join("".join(f"{line}\n" for line in notes.note(*one, criterion, words)) for one in noted)

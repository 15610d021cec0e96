"""`fhir-screen check`: every mistake in mappings and site file."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import click

from fhir_screen.cli.options import asked, settings_of, study_of, trial_options
from fhir_screen.cli.output import emit
from fhir_screen.mapping.load import trials_of
from fhir_screen.report.wording import counted


@click.command()
@trial_options
@click.option("--json", "as_json", is_flag=True, help="Counts as JSON.")
def check(as_json: bool, **given: Any) -> None:  # noqa: FBT001
    """Check the mappings and the site file: every mistake with file, line and remedy.

    \b
    Example:  fhir-screen check --mappings mappings --site mappings/sites/example.yaml
    """
    want = asked(given)
    chosen = settings_of(want)
    study = study_of(replace(want, trials=want.trials or trials_of(chosen.mappings)), chosen)
    trials = [
        {
            "trial": trial.id,
            "version": trial.identity.version,
            "criteria": len(trial.criteria),
            "atoms": sum(len(criterion.atoms) for criterion in trial.criteria),
        }
        for trial in study.trials
    ]
    concepts, codes = len(study.terms.found_in), sum(len(c) for c in study.terms.codes_of.values())
    if as_json:
        emit([json.dumps({"trials": trials, "concepts": concepts, "codes": codes}) + "\n"])
        return
    for trial in trials:
        click.echo(f"{trial['trial']} version {trial['version']}: {trial['criteria']} criteria, {trial['atoms']} atoms")
    if chosen.site is not None:
        codes_of_site = counted(study.terms.local_codes, "code")
        spellings = counted(study.terms.local_units, "spelling")
        click.echo(f"site {study.site.id!r}: {codes_of_site} and {spellings} of units of its own")
    click.echo(f"{concepts} concepts, {codes} codes, {len(study.shapes.resources)} resource types: no mistakes found")

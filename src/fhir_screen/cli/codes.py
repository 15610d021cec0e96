"""`fhir-screen codes`: codes and units of a source that the mappings do not know."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from fhir_screen.cli.exits import leave
from fhir_screen.cli.options import Asked, job_of, json_option, output_option, source_of, source_options
from fhir_screen.cli.output import emit, say
from fhir_screen.cli.patients import Heard, records_of
from fhir_screen.mapping.load import packaged_mappings
from fhir_screen.mapping.names import site_names
from fhir_screen.nightly import is_server
from fhir_screen.report import inventory

_FIRST_LOOK: Final = 1000
"""So many patients of a server tell which codes are frequent; all of a hospital's would take a day."""


@click.command()
@source_options
@json_option
@output_option
def codes(source: str | None, as_json: bool, output: Path | None, **given: Any) -> None:  # noqa: FBT001
    """List codes and unit spellings of SOURCE that the mappings do not know, as a site overlay to paste and correct.

    Of a server it looks at every patient, the first 1000 by id unless --limit, --patient or --group say otherwise.

    \b
    Example:  fhir-screen codes sample_bundles -o overlay.yaml
    """
    job, heard = job_of(given), Heard()
    job = replace(job, want=_of_everybody(source_of(source, job.chosen), job.want))
    terms = job.study.terms
    names = site_names(job.chosen.mappings or packaged_mappings(), terms)
    with records_of(source_of(source, job.chosen), job, heard) as read:
        found = inventory.inventory((record for record, _ in read), job.study.trials, terms, names)
    if as_json:
        emit([json.dumps(inventory.as_json(found), ensure_ascii=False) + "\n"], output)
    else:
        emit([inventory.as_overlay(found)], output)
    concerned = sum(bool(entry.atoms) and not entry.known_system for entry in found.codes)
    say(
        f"patients: {found.patients}; codes that the mappings do not know: {len(found.codes)}, {concerned} of them may "
        f"concern the trials; spellings of units: {len(found.units)}"
    )
    leave(heard.told())


def _of_everybody(source: str, want: Asked) -> Asked:
    """Whoever has the index disease under a code that nobody knows is found by looking at all."""
    if not is_server(source) or want.patients or want.group:
        return want
    if want.limit is None:
        say(f"looking at the first {_FIRST_LOOK} patients; --limit N for more")
    return replace(want, everyone=True, limit=want.limit or _FIRST_LOOK)

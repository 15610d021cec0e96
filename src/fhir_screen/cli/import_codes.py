"""`fhir-screen import-codes`: a FHIR ConceptMap as a site overlay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fhir_screen.cli.options import PATH, job_of, output_option, today, trial_options
from fhir_screen.cli.output import emit, say
from fhir_screen.errors import UsageError
from fhir_screen.mapping.conceptmap import as_overlay
from fhir_screen.mapping.conceptmap import import_codes as read


@click.command(name="import-codes")
@click.argument("path", type=PATH, metavar="CONCEPTMAP.json")
@trial_options
@output_option
def import_codes(path: Path, output: Path | None, **given: Any) -> None:
    """Turn a FHIR ConceptMap file into a site overlay: equal codes hold, the rest are comments for a person.

    \b
    Example:  fhir-screen import-codes lab-to-loinc.json -o lab-codes.yaml
    """
    found = read(_json_of(path), job_of(given).study.terms.vocabulary.codebook, str(path))
    emit([as_overlay(found, today("UTC").isoformat())], output)
    say(
        f"{len(found.sure)} codes hold, {len(found.open)} are for a person, {found.unknown_targets} have a target that "
        f"no concept holds, {found.unmatched} have none"
    )


def _json_of(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as cause:
        raise UsageError(f"cannot be read: {cause.strerror}", where=str(path), remedy="check the path") from cause
    except ValueError as cause:
        raise UsageError("is not JSON", where=str(path), remedy="a FHIR ConceptMap as JSON") from cause

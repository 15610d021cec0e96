"""`fhir-screen schema`: JSON Schemas of the mapping documents, for editors."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fhir_screen.cli.options import PATH
from fhir_screen.cli.output import emit
from fhir_screen.errors import UsageError
from fhir_screen.mapping.schema import DOCUMENTS, json_schema
from fhir_screen.mapping.yamlfile import did_you_mean


@click.command()
@click.argument("name", required=False)
@click.option("-o", "output", type=PATH, metavar="PATH", help="Output file. Default: stdout.")
def schema(name: str | None, output: Path | None) -> None:
    """Print the JSON Schema of a mapping document for editors; without NAME, list the documents.

    \b
    Example:  fhir-screen schema trial -o trial.schema.json
    """
    if name is None:
        emit(["\n".join(sorted(DOCUMENTS)) + "\n"], output)
        return
    if name not in DOCUMENTS:
        raise UsageError(f"no document {name!r}", remedy=did_you_mean(name, DOCUMENTS) or ", ".join(sorted(DOCUMENTS)))
    emit([json.dumps(json_schema(name), indent=2, ensure_ascii=False) + "\n"], output)

"""`fhir-screen concepts`: the names that a site file may give a local code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from fhir_screen.cli.exits import leave
from fhir_screen.cli.options import PATH, asked, settings_of, study_of
from fhir_screen.cli.output import emit, say
from fhir_screen.mapping.vocabulary import Terms


@click.command()
@click.argument("words", nargs=-1)
@click.option("--mappings", type=PATH, metavar="DIR", help="Mappings folder. Default: the packaged mappings.")
@click.option("--json", "as_json", is_flag=True, help="The concepts as JSON.")
def concepts(words: tuple[str, ...], as_json: bool, mappings: Path | None) -> None:  # noqa: FBT001
    """List the concepts of the mappings: name, meaning, resource types, number of codes. WORDS narrow it down.

    \b
    Example:  fhir-screen concepts hemoglobin
    """
    want = asked({"mappings": mappings})
    terms = study_of(want, settings_of(want)).terms
    found = [
        row for row in _rows(terms) if all(word.lower() in f"{row['concept']} {row['label']}".lower() for word in words)
    ]
    if as_json:
        emit([json.dumps({"schema": "fhir-screen/concepts/1", "concepts": found}, ensure_ascii=False) + "\n"])
    else:
        emit(_lines(found))
    if not found:
        say(f"no concept has {' '.join(words)!r} in its name or meaning")
        leave(1)


def _rows(terms: Terms) -> Iterator[dict[str, Any]]:
    for name in sorted(terms.found_in):
        yield {
            "concept": name,
            "label": terms.vocabulary.label([name]),
            "types": sorted(terms.found_in[name]),
            "codes": len(terms.codes_of.get(name, ())),
        }


def _lines(found: list[dict[str, Any]]) -> Iterator[str]:
    width = max((len(row["concept"]) for row in found), default=0)
    for row in found:
        count = "1 code" if row["codes"] == 1 else f"{row['codes']} codes"
        yield f"{row['concept']:<{width}}  {row['label']} ({', '.join(row['types'])}; {count})\n"

"""`fhir-screen concepts`: the names that a site file may give a local code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from fhir_screen.cli.exits import leave
from fhir_screen.cli.options import PATH, asked, settings_of, study_of
from fhir_screen.cli.output import emit, say
from fhir_screen.core.words import Words
from fhir_screen.mapping.load import packaged_mappings
from fhir_screen.mapping.names import site_names
from fhir_screen.mapping.study import Study
from fhir_screen.report.wording import counted


@click.command()
@click.argument("words", nargs=-1)
@click.option("--mappings", type=PATH, metavar="DIR", help="Mappings folder. Default: the packaged mappings.")
@click.option("--json", "as_json", is_flag=True, help="The concepts as JSON.")
def concepts(words: tuple[str, ...], as_json: bool, mappings: Path | None) -> None:  # noqa: FBT001
    """List the concepts of the mappings: name, meaning, resource types, number of codes. WORDS narrow it down.

    What a test is called at sites (혈색소, Hämoglobin) is found too. A concept marked "never counts" takes codes that
    look alike and mean something else; one marked "no criterion asks for it" decides nothing by itself.

    \b
    Example:  fhir-screen concepts hemoglobin
    """
    want = asked({"mappings": mappings})
    chosen = settings_of(want)
    study = study_of(want, chosen)
    names = site_names(chosen.mappings or packaged_mappings(), study.terms)
    found = [row for row in _rows(study) if all(_is_called(row, word, names) for word in words)]
    if as_json:
        emit([json.dumps({"schema": "fhir-screen/concepts/1", "concepts": found}, ensure_ascii=False) + "\n"])
    else:
        emit(_lines(found))
    if not found:
        say(f"no concept has {' '.join(words)!r} in its name or meaning; `fhir-screen concepts` lists all")
        leave(1)


def _is_called(row: dict[str, Any], word: str, names: Mapping[str, Words]) -> bool:
    """By its name, its meaning, or what sites call it."""
    at_sites = names.get(row["concept"])
    return word.lower() in f"{row['concept']} {row['label']}".lower() or bool(at_sites and at_sites.find([word]))


def _rows(study: Study) -> Iterator[dict[str, Any]]:
    terms = study.terms
    for name in sorted(terms.found_in):
        yield {
            "concept": name,
            "label": terms.vocabulary.label([name]),
            "types": sorted(terms.found_in[name]),
            "codes": len(terms.codes_of.get(name, ())),
            "counts": not name.endswith("-NEVER"),
            "asked_for": name in study.asked_for,
        }


def _lines(found: list[dict[str, Any]]) -> Iterator[str]:
    width = max((len(row["concept"]) for row in found), default=0)
    for row in found:
        mark = "never counts: " if not row["counts"] else "" if row["asked_for"] else "no criterion asks for it: "
        yield f"{row['concept']:<{width}}  {mark}{row['label']} ({', '.join(row['types'])}; {counted(row['codes'], 'code')})\n"

"""`fhir-screen expand`: descendants of code sets from a terminology server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from fhir_screen.cli.access import access_of
from fhir_screen.cli.exits import leave
from fhir_screen.cli.options import PATH, access_options, job_of, today, trial_options
from fhir_screen.cli.output import emit, say
from fhir_screen.core.codes import canonical_uri
from fhir_screen.errors import PreflightError, UsageError
from fhir_screen.fhir.server import FhirServer
from fhir_screen.fhir.terminology import Descendant, NotExpanded, as_overlay
from fhir_screen.fhir.terminology import expand as ask
from fhir_screen.mapping.study import Study
from fhir_screen.mapping.yamlfile import did_you_mean


@click.command()
@click.argument("server_url", metavar="SERVER")
@trial_options
@access_options
@click.option("--system", "systems", multiple=True, metavar="URI", help="Code system; repeatable. Default: SNOMED CT.")
@click.option("-o", "output", type=PATH, metavar="PATH", help="Output file. Default: descendants-DATE.yaml.")
def expand(server_url: str, systems: tuple[str, ...], output: Path | None, **given: Any) -> None:
    """Ask terminology SERVER for all descendants of the code sets that have them, and save them as a site overlay.

    The file is dated and hashed; name it under `include:` in the site file.

    \b
    Example:  fhir-screen expand https://tx.fhir.org/r4 -o descendants.yaml
    """
    job = job_of(given)
    access, study = access_of(job.chosen, server_url), job.study
    for words in access.warnings:
        say(f"warning: {words}")
    with FhirServer(access) as server:
        expansion = ask(server, study.terms, _uris(study, systems or ("http://snomed.info/sct",)))
    found = expansion.found
    _tell_refused(expansion.refused)
    if not found and not expansion.refused:
        raise UsageError("no code set of the mappings has descendants in this system", remedy="leave --system out")
    if not found:
        raise PreflightError(
            "the server gave no descendants at all", where=server_url,
            remedy="ask a server that holds SNOMED CT; without one, word lists watch over these records",
        )  # fmt: skip
    day = today("UTC").isoformat()
    path = output or Path(f"descendants-{day}.yaml")
    emit([as_overlay(found, server_url, day)], path)
    say(f"{_codes(found)} codes of {len({one.concept for one in found})} sets")
    say(f"use it: write `include: [{path.name}]` into the site file beside it, and give that with --site")
    leave(1 if expansion.refused else 0)


def _codes(found: Sequence[Descendant]) -> int:
    return len({(one.system, one.code) for one in found})


def _uris(study: Study, systems: Sequence[str]) -> list[str]:
    """Code systems by their URI or by their key in systems.yaml."""
    known = study.terms.vocabulary.codebook.systems
    uris = []
    for name in systems:
        system = known.get(name) or known.get(canonical_uri(name))
        if system is None:
            raise UsageError(f"--system {name}: not a code system of the mappings", remedy=did_you_mean(name, known))
        uris.append(system.uri)
    return uris


def _tell_refused(refused: Sequence[NotExpanded]) -> None:
    for one in refused[:5]:
        say(f"not expanded: {one.system}|{one.code} ({one.concept}): {one.why}")
    if len(refused) > 5:
        say(f"not expanded: {len(refused) - 5} more")

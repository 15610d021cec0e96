"""`fhir-screen retract`: takes back what was written, and deletes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import click

from fhir_screen.cli.access import write_access_of
from fhir_screen.cli.exits import CONFLICTS, leave
from fhir_screen.cli.options import PATH, access_options, asked, settings_of, study_of
from fhir_screen.cli.output import emit, say
from fhir_screen.errors import UsageError
from fhir_screen.fhir.retract import Retraction, Which, retractions
from fhir_screen.fhir.retract import retract as written
from fhir_screen.fhir.server import FhirServer
from fhir_screen.nightly import is_server


@click.command()
@click.argument("url", required=False)
@click.option("--trial", "trials", multiple=True, metavar="ID", help="Of this trial; repeatable.")
@click.option("--trial-version", "versions", multiple=True, metavar="V", help="Of this version of its criteria.")
@click.option("--patient", "patients", multiple=True, metavar="ID", help="Of this patient; repeatable.")
@click.option("--reason", metavar="TEXT", help="Why; written beside what is taken back. Needed with --yes.")
@click.option("--yes", is_flag=True, help="Write. Without it the plan is shown and nothing is changed.")
@click.option("--site", type=PATH, metavar="FILE", help="Site overlay: only what this site wrote is taken back.")
@click.option("--mappings", type=PATH, metavar="DIR", hidden=True)
@click.option("--json", "as_json", is_flag=True, help="What is taken back as JSON.")
@access_options
def retract(
    url: str | None,
    trials: Sequence[str],
    versions: Sequence[str],
    patients: Sequence[str],
    reason: str | None,
    yes: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
    **given: Any,
) -> None:
    """Take back what fhir-screen wrote at URL, by trial, criteria version or patient. Deletes nothing.

    \b
    Observations become entered-in-error, candidates that no person touched not-registered.
    Without --yes the plan is shown. What people changed or confirmed stays as it is.

    \b
    Example:  fhir-screen retract https://fhir.example/r4 --trial-version 1
    """
    if not (trials or versions or patients):
        raise UsageError("what to take back is not said", remedy="--trial, --trial-version or --patient")
    if yes and not (reason or "").strip():
        raise UsageError("--yes needs --reason TEXT", remedy="it stands beside every resource that is taken back")
    chosen = settings_of(asked(given), server=url)
    if url:  # the server that was named, and no other one that the settings may write to
        chosen = replace(chosen, write_to=None)
    target = chosen.write_to or chosen.server
    if not target or not is_server(target):
        raise UsageError(
            "no server is given", where=target or "", remedy="fhir-screen retract URL, where the decisions stand"
        )
    own = asked({"site": chosen.site, "mappings": chosen.mappings})
    site = study_of(own, chosen).site.id
    why = (reason or "").strip()
    which = Which(tuple(trials), tuple(versions), tuple(one.removeprefix("Patient/") for one in patients))
    with FhirServer(write_access_of(chosen, target)) as server:
        server.capabilities()
        planned = list(retractions(server, which, site, why))
        done = list(written(server, planned, site, why, datetime.now(UTC))) if yes else planned
    if not done:
        say(
            f"nothing of site {site!r} stands at {server.base} for what was asked: check --trial, --patient, --site"
        )
    _tell_retracted(done, yes=yes, as_json=as_json)


def _tell_retracted(done: Sequence[Retraction], *, yes: bool, as_json: bool) -> None:
    failed = [one for one in done if one.failed]
    count = sum(bool(one.writes) for one in done)
    if as_json:
        document = {
            "schema": "fhir-screen/retract/1",
            "dry_run": not yes,
            "retracted": count,
            "failed": len(failed),
            "kept": sum(bool(one.kept) for one in done),
            "decisions": [_told(one) for one in done],
        }
        emit([json.dumps(document, ensure_ascii=False) + "\n"])
    else:
        emit(_retracted_lines(done, count, yes=yes))
    for one in failed:
        say(f"not retracted: Patient/{one.patient} {one.trial}: {one.failed}")
    leave(CONFLICTS if failed else 0)


def _told(one: Retraction) -> dict[str, Any]:
    return {
        "patient": f"Patient/{one.patient}",
        "trial": one.trial,
        "trial_version": one.version,
        "verdict": one.verdict,
        "retracts": [entry.url for entry in one.writes],
        "kept": list(one.kept),
    }


def _retracted_lines(done: Iterable[Retraction], count: int, *, yes: bool) -> Iterator[str]:
    would = "" if yes else "would "
    for one in done:
        kinds = " and ".join(str(entry.resource["resourceType"]) for entry in one.writes)
        kept = f"kept because a person decided: {'; '.join(one.kept)}" if one.kept else ""
        if kinds:
            yield f"{would}retract: {one.patient} {one.trial}|{one.version} {one.verdict} ({kinds})" + (
                f"; {kept}\n" if kept else "\n"
            )
        elif kept:
            yield f"keep:    {one.patient} {one.trial}|{one.version}; {kept}\n"
    ending = "" if yes or not count else "; nothing was written: add --reason TEXT --yes"
    yield f"{count} decisions {'retracted' if yes else 'to retract'}{ending}\n"

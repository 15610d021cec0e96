"""`fhir-screen run` and `plan`: the night, and what it would write."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from fhir_screen.cli.access import write_access_of
from fhir_screen.cli.exits import CONFLICTS, code_of, leave
from fhir_screen.cli.options import (
    Job,
    access_options,
    asked,
    combined,
    destination_options,
    night_settings,
    patient_options,
    population_options,
    study_of,
    trial_options,
)
from fhir_screen.cli.output import emit, say
from fhir_screen.cli.patients import Heard, screened
from fhir_screen.errors import SafetyStop, UsageError
from fhir_screen.fhir.connection import own_version
from fhir_screen.fhir.server import FhirServer
from fhir_screen.fhir.sinks import Destination, FolderSink, PlanSink, Recorded, ServerSink, Sink
from fhir_screen.fhir.writer import EvidenceLinks, Signature
from fhir_screen.mapping.study import Study
from fhir_screen.nightly import Night, is_server, night
from fhir_screen.report.changes import lines, listed, summary
from fhir_screen.settings import Settings, state_folder
from fhir_screen.state.record import StateFolder
from fhir_screen.state.watch import Scope, Watch, unwatched, watched_plan, watched_run

night_options = combined(
    trial_options,
    patient_options,
    access_options,
    population_options,
    destination_options,
    click.option("--json", "as_json", is_flag=True, help="The summary as JSON on stdout."),
)


@click.command()
@click.argument("url", required=False)
@night_options
@click.option("--no-state", is_flag=True, help="Keep no record and compare with no earlier night.")
@click.option("--accept-change", metavar="REASON", help="Write although much differs from the last good night.")
def run(url: str | None, as_json: bool, **given: Any) -> None:  # noqa: FBT001
    """Pull, screen and write back: the nightly job. URL is a FHIR server (also FHIR_SCREEN_SERVER) or a folder.

    \b
    Example:  fhir-screen run https://fhir.example/r4 --token-file token --write-to out/
    """
    _night("run", url, given, written, as_json=as_json)


@click.command()
@click.argument("url", required=False)
@night_options
def plan(url: str | None, as_json: bool, **given: Any) -> None:  # noqa: FBT001
    """Show what `run` would write, and write nothing.

    \b
    Example:  fhir-screen plan https://fhir.example/r4 --limit 20
    """
    _night("plan", url, given, foreseen, as_json=as_json)


Into = Callable[[Destination], Sink]
"""Whether a night writes, or only says what it would."""


def written(destination: Destination) -> Sink:
    return destination


def foreseen(destination: Destination) -> Sink:
    return PlanSink(destination)


def _night(command: str, url: str | None, given: dict[str, Any], into: Into, *, as_json: bool) -> None:
    chosen, source = night_settings(command, url, given)
    if not chosen.write_to and not is_server(source):
        raise UsageError("where to write is not said", where=source, remedy="--write-to a folder or a server")
    want, heard, so_far = asked(given), Heard(), Night()
    job, began = Job(want, chosen, study_of(want, chosen)), datetime.now(UTC)
    with watching(job, given, into) as watch:
        with screened(source, job, heard, watch.listed) as done, sink(chosen, job.study, into) as target:
            recorded = list(night(watch.through(done), target, so_far))
        stamp = {"started": began.isoformat(timespec="seconds"), "site": job.study.site.id, "destination": _target(chosen)}
        _tell(so_far, heard, recorded, watch, stamp, as_json=as_json, dry=into is foreseen)


@contextmanager
def watching(job: Job, given: dict[str, Any], into: Into) -> Iterator[Watch]:
    """The last good night to compare with, and a record of this one; a plan leaves no trace."""
    chosen, study, want = job.chosen, job.study, job.want
    source, target = chosen.server or "", _target(chosen)
    trials = {trial.id: trial.identity.version for trial in study.trials}
    folder = chosen.state or (state_folder() if is_server(source) or is_server(target) else None)
    if folder is None or given.get("no_state"):
        yield unwatched(trials)
        return
    whom = (*sorted(want.patients), f"{want.limit}", f"{want.group}", f"{want.everyone}")
    scope = Scope(source.rstrip("/"), target.rstrip("/"), study.site.id, whom)
    if into is foreseen:
        yield watched_plan(StateFolder(folder), scope, trials)
        return
    accepted = given.get("accept_change")
    with watched_run(StateFolder(folder), scope, trials, accepted, lambda: datetime.now(UTC), code_of) as watch:
        yield watch


@contextmanager
def sink(chosen: Settings, study: Study, into: Into) -> Iterator[Sink]:
    """Where decisions go: the server they came from, another one, or a folder."""
    target = _target(chosen)
    elsewhere = is_server(target) and target.rstrip("/") != (chosen.server or "").rstrip("/")
    links = EvidenceLinks.NAMED if elsewhere else EvidenceLinks.LITERAL
    signature = Signature(study.site.id, own_version(), datetime.now(UTC), links)
    if not is_server(target):
        yield into(FolderSink(Path(target), signature, study.site.closed_studies))
        return
    with FhirServer(write_access_of(chosen, target)) as server:
        server.capabilities()
        yield into(ServerSink(server, signature, study.site.closed_studies))


def _target(chosen: Settings) -> str:
    return chosen.write_to or chosen.server or ""


def _tell(
    so_far: Night, heard: Heard, recorded: Sequence[Recorded], watch: Watch, stamp: dict[str, Any], *, as_json: bool, dry: bool
) -> None:
    for one in recorded:
        if one.error is not None:
            say(f"not written: Patient/{one.patient}: {one.error}")
    code = _code(so_far, heard.told())
    document = summary(so_far, heard.unread + heard.defects, heard.incomplete, dry=dry)
    changes = [change for one in recorded for change in one.changes]
    watch.noted |= {"summary": document, "not_written": _reasons(recorded)}
    for words in watch.found:
        say(f"{'a run would stop' if dry else 'accepted'}: {words}")
    if as_json:
        told = {**document, **stamp, "exit_code": code, **({"changes": listed(changes)} if dry else {})}
        emit([json.dumps(told, ensure_ascii=False) + "\n"])
    else:
        emit(f"{line}\n" for line in lines(document, changes, dry=dry))
    if not dry and not is_server(stamp["destination"]):
        say(f"the Bundles are in {stamp['destination']}")
    leave(code)


def _code(so_far: Night, heard: int) -> int:
    if so_far.duplicates:
        return SafetyStop.exit_code
    return CONFLICTS if so_far.outcome.conflicts else 1 if so_far.outcome.failed else heard


def _reasons(recorded: Iterable[Recorded]) -> dict[str, int]:
    """Why patients were not written, and how many."""
    found: dict[str, int] = {}
    for one in recorded:
        if one.error is not None:
            found[one.error.what] = found.get(one.error.what, 0) + 1
    return found

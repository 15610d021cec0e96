"""The commands of the first day at a site: what the mappings do not know, what the data can answer, and more codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fhir_screen.cli import (
    Asked,
    Heard,
    _access,
    _options,
    _paper,
    _path,
    _patients,
    _studies,
    _whom,
    access_of,
    asked,
    charts,
    emit,
    leave,
    request_of,
    say,
    settings_of,
    study_of,
    today,
)
from fhir_screen.errors import PreflightError, UsageError

if TYPE_CHECKING:
    from fhir_screen.core.decision import Decision
    from fhir_screen.core.facts import PatientRecord
    from fhir_screen.fhir.raw import RawPatient
    from fhir_screen.fhir.terminology import Descendant, NotExpanded
    from fhir_screen.mapping.load import Study
    from fhir_screen.nightly import Screened
    from fhir_screen.settings import Settings

_FIRST_LOOK: Final = 1000
"""So many patients of a server tell which codes are frequent; all of a hospital's would take a day."""

_output = click.option("-o", "output", type=_path, metavar="PATH", help="Output file. Default: stdout.")
_json = click.option("--json", "as_json", is_flag=True, help="JSON instead.")
_source = _options(click.argument("source"), _studies, _patients, _access, _whom)


@click.command()
@_source
@_json
@_output
def codes(source: str, as_json: bool, output: Path | None, **given: Any) -> None:  # noqa: FBT001
    """List codes and unit spellings of SOURCE that the mappings do not know, as a site overlay to paste and correct.

    Of a server it looks at every patient, the first 1000 by id unless --limit, --patient or --group say otherwise.

    \b
    Example:  fhir-screen codes sample_bundles -o overlay.yaml
    """
    import json

    from fhir_screen.mapping.load import packaged_mappings
    from fhir_screen.mapping.names import site_names
    from fhir_screen.report import inventory

    want, heard = _of_everybody(source, asked(given)), Heard()
    chosen = settings_of(want)
    study = study_of(want, chosen)
    names = site_names(chosen.mappings or packaged_mappings(), study.terms)
    with _read(source, study, want, chosen, heard) as read:
        found = inventory.inventory((record for record, _ in read), study.trials, study.terms, names)
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
    from fhir_screen.nightly import is_server

    if not is_server(source) or want.patients or want.group:
        return want
    if want.limit is None:
        say(f"looking at the first {_FIRST_LOOK} patients; --limit N for more")
    return replace(want, everyone=True, limit=want.limit or _FIRST_LOOK)


@click.command()
@_source
@click.option("--all", "show_all", is_flag=True, help="Count patients outside the trials' populations too.")
@_json
@click.option("--html", "page", type=_path, metavar="FILE", help="Also write a page with a bar for each atom.")
@_output
def coverage(source: str, show_all: bool, as_json: bool, page: Path | None, output: Path | None, **given: Any) -> None:  # noqa: FBT001
    """Count for how many patients of SOURCE there is any, fresh and usable data, criterion by criterion.

    Counted are patients who have, or may have, the disease of the trial.

    \b
    Example:  fhir-screen coverage sample_bundles --as-of 2025-11-15 --html coverage.html
    """
    import json

    from fhir_screen.nightly import candidates_only, everybody
    from fhir_screen.report import coverage as counting
    from fhir_screen.report import coverage_html, coverage_table

    want, heard = asked(given), Heard()
    chosen = settings_of(want)
    study = study_of(want, chosen)
    wanted = everybody if show_all else candidates_only
    days: set[str] = set()
    with _read(source, study, want, chosen, heard) as read:
        found = counting.coverage(_counted(read, wanted, days), study.trials)
    if page is not None:
        emit(coverage_html.render(found, ", ".join(sorted(days))), page)
        say(f"written: {page}")
    if as_json:
        emit([json.dumps(counting.as_json(found)) + "\n"], output)
    else:
        emit(coverage_table.render(found, _paper(output)), output)
    for trial in found:
        if not trial.patients:
            say(f"{trial.trial}: nobody here has its disease by a code that the mappings know; see `fhir-screen codes`, or --all")
    leave(heard.told())


def _counted(
    read: Iterator[tuple[PatientRecord, Screened]], wanted: Callable[..., bool], days: set[str]
) -> Iterator[tuple[PatientRecord, Decision]]:
    for record, one in read:
        for decision in one.decisions:
            days.add(decision.as_of.isoformat())
            if wanted(decision.population):
                yield record, decision


@contextmanager
def _read(
    source: str, study: Study, want: Asked, chosen: Settings, heard: Heard
) -> Iterator[Iterator[tuple[PatientRecord, Screened]]]:
    """The patients of a source as records, with what the trials say of them; what fails is told, and left out."""
    with charts(source, study, want, chosen, heard) as raw:
        yield _screened(raw, study, want, heard)


def _screened(
    raws: Iterator[RawPatient], study: Study, want: Asked, heard: Heard
) -> Iterator[tuple[PatientRecord, Screened]]:
    from fhir_screen.nightly import records, screenings

    request = request_of(want)
    for raw in raws:
        for one in screenings([raw], study, request):
            heard.screened(one)
            if not one.defect:
                yield from ((record, one) for record in records([raw], study))


@click.command()
@click.argument("server_url", metavar="SERVER")
@_studies
@_access
@click.option("--system", "systems", multiple=True, metavar="URI", help="Code system; repeatable. Default: SNOMED CT.")
@click.option("-o", "output", type=_path, metavar="PATH", help="Output file. Default: descendants-DATE.yaml.")
def expand(server_url: str, systems: tuple[str, ...], output: Path | None, **given: Any) -> None:
    """Ask terminology SERVER for all descendants of the code sets that have them, and save them as a site overlay.

    The file is dated and hashed; name it under `include:` in the site file.

    \b
    Example:  fhir-screen expand https://tx.fhir.org/r4 -o descendants.yaml
    """
    from fhir_screen.fhir.server import FhirServer
    from fhir_screen.fhir.terminology import as_overlay
    from fhir_screen.fhir.terminology import expand as ask

    want = asked(given)
    chosen = settings_of(want)
    study = study_of(want, chosen)
    access = access_of(chosen, server_url)
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
    say(f"{_codes(found)} codes of {len({one.concept for one in found})} sets written: {path}")
    say(f"use it: write `include: [{path.name}]` into the site file beside it, and give that with --site")
    leave(1 if expansion.refused else 0)


def _codes(found: Sequence[Descendant]) -> int:
    return len({(one.system, one.code) for one in found})


def _uris(study: Study, systems: Sequence[str]) -> list[str]:
    """Code systems by their URI or by their key in systems.yaml."""
    from fhir_screen.core.codes import canonical_uri
    from fhir_screen.mapping.yamlfile import did_you_mean

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


@click.command(name="import-codes")
@click.argument("path", type=_path, metavar="CONCEPTMAP.json")
@_studies
@_output
def import_codes(path: Path, output: Path | None, **given: Any) -> None:
    """Turn a FHIR ConceptMap file into a site overlay: equal codes hold, the rest are comments for a person.

    \b
    Example:  fhir-screen import-codes lab-to-loinc.json -o lab-codes.yaml
    """
    from fhir_screen.mapping.conceptmap import as_overlay
    from fhir_screen.mapping.conceptmap import import_codes as read

    want = asked(given)
    study = study_of(want, settings_of(want))
    found = read(_json_of(path), study.terms.vocabulary.codebook, str(path))
    emit([as_overlay(found, today("UTC").isoformat())], output)
    say(
        f"{len(found.sure)} codes hold, {len(found.open)} are for a person, {found.unknown_targets} have a target that "
        f"no concept holds, {found.unmatched} have none"
    )


def _json_of(path: Path) -> object:
    import json

    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as cause:
        raise UsageError(f"cannot be read: {cause.strerror}", where=str(path), remedy="check the path") from cause
    except ValueError as cause:
        raise UsageError("is not JSON", where=str(path), remedy="a FHIR ConceptMap as JSON") from cause

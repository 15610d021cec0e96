"""`fhir-screen doctor`: whether a night would go through, and what to do where it would not."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from fhir_screen.cli.access import access_of, write_access_of
from fhir_screen.cli.exits import leave
from fhir_screen.cli.options import PATH, Asked, access_options, asked, destination_options, night_settings, study_of
from fhir_screen.cli.output import emit
from fhir_screen.errors import FhirScreenError, UsageError
from fhir_screen.fhir.preflight import Check, Mark, Probe, examine, examine_destination
from fhir_screen.nightly import is_server
from fhir_screen.settings import Settings, state_folder

_MARK: Final = 8
_NAME: Final = len("read MedicationAdministration")
LEAST_SPACE: Final = 200 << 20
"""Bytes that should be free where a night leaves its record or its Bundles."""


@click.command()
@click.argument("url", required=False)
@destination_options
@click.option("--trial", "trials", multiple=True, metavar="ID", help="Registry number; repeatable. Default: all.")
@click.option("--mappings", type=PATH, metavar="DIR", help="Mappings folder. Default: the packaged mappings.")
@click.option("--site", type=PATH, metavar="FILE", help="Site overlay.")
@click.option("--probe-write", is_flag=True, help="Create and remove one tagged resource.")
@click.option("--json", "as_json", is_flag=True, help="The checks as JSON.")
@access_options
def doctor(url: str | None, probe_write: bool, as_json: bool, **given: Any) -> None:  # noqa: FBT001
    """Check, in order, all that a night at URL needs, with a remedy for each fault. Changes nothing unless asked.

    \b
    Example:  fhir-screen doctor https://fhir.example/r4 --token-file token
    """
    chosen, source = night_settings("doctor", url, given)
    found: list[Check] = []
    for check in _checks(chosen, asked(given), probe_write=probe_write):
        found.append(check)
        if not as_json:
            emit([_line(check)])
    if as_json:
        document = {"schema": "fhir-screen/doctor/1", "server": source, "checks": [asdict(c) for c in found]}
        emit([json.dumps(document, ensure_ascii=False) + "\n"])
    failed = [check.code for check in found if check.code]
    leave(failed[0] if failed else int(any(check.mark.value == "warning" for check in found)))


def _line(check: Check) -> str:
    remedy = f"\n{'':{_MARK + _NAME + 2}}try: {check.remedy}" if check.remedy else ""
    return f"{check.mark.value:<{_MARK}} {check.name:<{_NAME}} {check.found}{remedy}\n"


def _checks(chosen: Settings, want: Asked, *, probe_write: bool) -> Iterator[Check]:
    source = chosen.server or ""
    target = chosen.write_to or source
    elsewhere = target.rstrip("/") != source.rstrip("/")
    kinds: frozenset[str] = frozenset()
    mapped: list[Check] = []
    try:
        study = study_of(want, chosen)
        kinds = study.kinds
        criteria = sum(len(trial.criteria) for trial in study.trials)
        words = f"{', '.join(trial.id for trial in study.trials)}: {criteria} criteria, site {study.site.id!r}"
        mapped.append(Check("mappings", Mark.OK, words))
        if chosen.site is None:
            mapped.append(Check("site file", Mark.WARNING, "none is given", "fhir-screen init, then --site FILE"))
    except FhirScreenError as trouble:
        mapped.append(Check.failed("mappings", trouble))
    probe = Probe.WRITE if probe_write else Probe.READ_ONLY
    if is_server(source):
        reading = examine(access_of(chosen, source), kinds, datetime.now(UTC), probe)
        yield from (check for check in reading if not elsewhere or not check.name.startswith("write"))
    else:
        yield Check("address", Mark.FAILED, f"{source} is no http address", "https://…", UsageError.exit_code)
    if elsewhere and is_server(target):
        yield from examine_destination(write_access_of(chosen, target), probe)
    yield from mapped
    if elsewhere and not is_server(target):
        yield _place("write to", Path(target))
    yield _place("state", chosen.state or state_folder())


def _place(name: str, path: Path) -> Check:
    """Whether a folder can be written and is closed to others; where it is not there yet, its nearest parent counts."""
    there = next((one for one in (path.absolute(), *path.absolute().parents) if one.exists()), Path("/"))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        found = f"{path} cannot be written"
        return Check(name, Mark.FAILED, found, "another folder, or its owner", UsageError.exit_code)
    free = shutil.disk_usage(there).free
    if free < LEAST_SPACE:
        return Check(name, Mark.WARNING, f"{path}: only {free >> 20} MB are free", "make room")
    if path.exists() and path.stat().st_mode & 0o077:
        mode = path.stat().st_mode & 0o777
        return Check(name, Mark.WARNING, f"{path} can be entered by others (mode {mode:04o})", f"chmod 700 {path}")
    return Check(name, Mark.OK, f"{path}, {free >> 30} GB free" + ("" if path.exists() else ", will be made"))

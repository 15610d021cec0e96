"""The commands around the night: files to begin with, a look at the server, and taking back what was said."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fhir_screen.cli import (
    CONFLICTS,
    Asked,
    _access,
    _path,
    access_of,
    asked,
    emit,
    leave,
    say,
    settings_of,
    study_of,
    write_access_of,
)
from fhir_screen.errors import FhirScreenError, UsageError

if TYPE_CHECKING:
    from fhir_screen.fhir.preflight import Check
    from fhir_screen.fhir.retract import Retraction
    from fhir_screen.settings import Settings

LEAST_SPACE: Final = 200 << 20
"""Bytes that should be free where a night leaves its record or its Bundles."""

# --- init ---------------------------------------------------------------------------------------------------------


@click.command()
@click.argument("folder", metavar="[DIR]", type=_path, default=Path())
@click.option("--server", metavar="URL", help="FHIR base of your server. Default: a placeholder to fill in.")
@click.option("--site-id", metavar="NAME", default="default", show_default=True, help="Your site's short name.")
@click.option("--time-zone", metavar="ZONE", default="Asia/Seoul", show_default=True, help="Your site's time zone.")
@click.option("--force", is_flag=True, help="Overwrite files that are there; the token never.")
def init(folder: Path, server: str | None, site_id: str, time_zone: str, force: bool) -> None:  # noqa: FBT001
    """Write the files of a new site into DIR: settings, site file, token file, systemd timer and cron line.

    \b
    Example:  fhir-screen init screening --server https://fhir.example/r4 --site-id north
    """
    place = folder.absolute()
    given = {
        "dir": str(place),
        "server": server or "https://fhir.hospital.example/r4",
        "site": _one_word(site_id, "--site-id"),
        "zone": _zone(time_zone),
        "program": shutil.which("fhir-screen") or str(Path(sys.executable).with_name("fhir-screen")),
        "user": _user(),
        **_examples(),
    }
    texts = {name: _filled(text, given) for name, text in _FILES.items()}
    standing = sorted(name for name in texts if (place / name).exists())
    if standing and not force:
        raise UsageError(f"already there: {', '.join(standing)}", where=str(place), remedy="another DIR, or --force")
    _lay(place, texts)
    for line in _NEXT.splitlines():
        click.echo(_filled(line, given))


def _examples() -> dict[str, str]:
    """A trial of the packaged mappings, and an exclusion of it, for lines that show how a site speaks of them."""
    from fhir_screen.core.decision import Role
    from fhir_screen.mapping.load import load

    trial = load().trials[0]
    exclusion = next(criterion for criterion in trial.criteria if criterion.role is Role.EXCLUSION)
    return {"trial": trial.id, "atom": exclusion.atoms[0].id}


def _one_word(text: str, option: str) -> str:
    if not text or not all(sign.isascii() and (sign.isalnum() or sign in "-_.") for sign in text):
        raise UsageError(f"{option} {text!r}: letters, digits, - _ . only", remedy="it goes into ids; keep it for ever")
    return text


def _zone(name: str) -> str:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as unknown:
        raise UsageError(f"no time zone {name!r}", remedy="a name such as Asia/Seoul or Europe/Berlin") from unknown


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container that knows no names
        return "fhir-screen"


def _filled(text: str, given: dict[str, str]) -> str:
    for name, value in given.items():
        text = text.replace(f"@{name}@", value)
    return text


def _lay(place: Path, texts: dict[str, str]) -> None:
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, text in texts.items():
            (place / name).write_text(text, encoding="utf-8")
        # the mode is given at birth: a token must not lie open for even a moment
        os.close(os.open(place / "token", os.O_CREAT | os.O_WRONLY, 0o600))
    except OSError as cause:
        raise UsageError(f"cannot be written: {cause.strerror}", where=str(place), remedy="check DIR") from cause


_NEXT = """\
Written to @dir@:
  fhir-screen.toml      how the server is reached         <- look at this first
  site.yaml             what your site knows: local codes, limits, policies
  token                 empty, for you alone (0600): put the bearer token in, then uncomment token_file
  fhir-screen.service, fhir-screen.timer, fhir-screen.cron    the nightly job, not installed
Next:
  export FHIR_SCREEN_CONFIG=@dir@/fhir-screen.toml
  fhir-screen doctor
  fhir-screen plan --limit 20
"""

_FILES: Final = {
    "fhir-screen.toml": """\
# How the server is reached and where files lie. Paths of files are relative to this one; that of write_to is not.
# Name it with FHIR_SCREEN_CONFIG or --config; options and FHIR_SCREEN_* variables win over it.

server = "@server@"

# Where decisions go. Left out: to the server above. A folder gets one transaction Bundle a patient (shadow mode):
# begin with this, and take it out when you trust the list.
write_to = "@dir@/out"

# Secrets are files, never arguments. One of:
# token_file = "token"              # the bearer token alone, on one line; read again when it changes
# user_file = "user"                # one line, user:password

# ca = "hospital-ca.pem"            # your own certificate authority
# client_cert = "client.pem"        # where the server demands a client certificate
# client_key = "client.key"
# proxy = "http://proxy.hospital.example:3128"

site = "site.yaml"
# mappings = "mappings"             # your own copy of the criteria; left out: those of the package

# Records of nights and the last good one to compare with (0700). Left out: ~/.local/state/fhir-screen
state = "state"
""",
    "site.yaml": """\
# What this site knows. `fhir-screen check --site site.yaml` says what is wrong with it, with the line.
# Every key may be left out; what is commented out here is an example.

site: @site@                # goes into the ids of all that is written: never change it once a night has run
time_zone: @zone@           # says on which civil day an instant lies

# studies: [@trial@]    # the trials that this site takes part in; left out: all of the mappings

# Local codes: `fhir-screen codes SOURCE` writes this block for you from what the mappings do not know.
# codes:
#   - {system: http://fhir.hospital.example/lab, code: HB, concept: lab-hemoglobin-mass, display: hemoglobin}
#   - {system: http://fhir.hospital.example/drug, code: "653500391", concept: drug-ici, display: a checkpoint inhibitor}

# More spellings of units, by the UCUM code that they mean.
# units:
#   10*3/uL: [천개/μL]

# Upper limits of normal for results that come without a reference range.
# upper_limits:
#   - {test: lab-ast, high: 40 U/L}
#   - {test: lab-creatinine-mass, high: 1.2 mg/dL, sex: male}

# What the site assumes where a protocol is silent; the investigator signs this.
# parameters:
#   lab_validity_days: "14"

# What silence means for an atom: closed (not on record is no) or unknown (a person is asked).
# absence_policy:
#   @atom@: unknown

# Whether candidates are written for studies that the registry says are closed.
# write_closed_studies: "false"
""",
    "fhir-screen.service": """\
# sudo cp fhir-screen.service fhir-screen.timer /etc/systemd/system/ && sudo systemctl enable --now fhir-screen.timer
[Unit]
Description=Nightly trial pre-screening
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=4h
StartLimitBurst=8

[Service]
Type=oneshot
User=@user@
UMask=0077
Environment=FHIR_SCREEN_CONFIG=@dir@/fhir-screen.toml
ExecStart="@program@" run --json
# 1: done, with failures that are listed. 5: conflicts are left for people. Both are looked at in the morning.
SuccessExitStatus=1 5
# 75: the server was down or another night was under way; the same command goes on.
RestartForceExitStatus=75
RestartSec=15min
TimeoutStartSec=7h
NoNewPrivileges=yes
PrivateTmp=yes
""",
    "fhir-screen.timer": """\
[Unit]
Description=Nightly trial pre-screening

[Timer]
OnCalendar=*-*-* 02:30:00
RandomizedDelaySec=10min
Persistent=true

[Install]
WantedBy=timers.target
""",
    "fhir-screen.cron": """\
# Instead of systemd: crontab -e, and paste the next line. The summary and all notes go into night.log.
30 2 * * * umask 077; FHIR_SCREEN_CONFIG='@dir@/fhir-screen.toml' '@program@' run --json >>'@dir@/night.log' 2>&1
""",
}

# --- doctor -------------------------------------------------------------------------------------------------------


@click.command()
@click.argument("url", required=False)
@click.option("--write-to", metavar="DEST", help="Another FHIR base, or a folder, that a night writes to.")
@click.option("--write-token-file", type=_path, metavar="FILE", help="Bearer token for DEST.")
@click.option("--write-user-file", type=_path, metavar="FILE", help="user:password for DEST.")
@click.option("--state", type=_path, metavar="DIR", help="Records of nights. Default: ~/.local/state/fhir-screen.")
@click.option("--trial", "trials", multiple=True, metavar="ID", help="Registry number; repeatable. Default: all.")
@click.option("--mappings", type=_path, metavar="DIR", help="Mappings folder. Default: the packaged mappings.")
@click.option("--site", type=_path, metavar="FILE", help="Site overlay.")
@click.option("--probe-write", is_flag=True, help="Create and remove one tagged resource.")
@click.option("--json", "as_json", is_flag=True, help="The checks as JSON.")
@_access
def doctor(url: str | None, probe_write: bool, as_json: bool, **given: Any) -> None:  # noqa: FBT001
    """Check, in order, all that a night at URL needs, with a remedy for each fault. Changes nothing unless asked.

    \b
    Example:  fhir-screen doctor https://fhir.example/r4 --token-file token
    """
    import json

    elsewhere = {name: given.pop(name) for name in ("write_to", "write_token_file", "write_user_file", "state")}
    want = asked(given)
    chosen = settings_of(want, server=url, **elsewhere)
    if not chosen.server:
        raise UsageError("no server is given", remedy="fhir-screen doctor URL, or set FHIR_SCREEN_SERVER")
    found: list[Check] = []
    for check in _checks(chosen, want, probe_write=probe_write):
        found.append(check)
        if not as_json:
            emit([_line(check)])
    if as_json:
        document = {"schema": "fhir-screen/doctor/1", "server": chosen.server, "checks": [asdict(c) for c in found]}
        emit([json.dumps(document, ensure_ascii=False) + "\n"])
    failed = [check.code for check in found if check.code]
    leave(failed[0] if failed else int(any(check.mark.value == "warning" for check in found)))


def _line(check: Check) -> str:
    remedy = f"\n{'':26}try: {check.remedy}" if check.remedy else ""
    return f"{check.mark.value:<8} {check.name:<16} {check.found}{remedy}\n"


def _checks(chosen: Settings, want: Asked, *, probe_write: bool) -> Iterator[Check]:
    from fhir_screen.fhir.preflight import Check, Mark, Probe, examine, examine_destination
    from fhir_screen.nightly import is_server
    from fhir_screen.settings import state_folder

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
    from fhir_screen.fhir.preflight import Check, Mark

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


# --- retract ------------------------------------------------------------------------------------------------------


@click.command()
@click.argument("url", required=False)
@click.option("--trial", "trials", multiple=True, metavar="ID", help="Of this trial; repeatable.")
@click.option("--trial-version", "versions", multiple=True, metavar="V", help="Of this version of its criteria.")
@click.option("--patient", "patients", multiple=True, metavar="ID", help="Of this patient; repeatable.")
@click.option("--reason", metavar="TEXT", help="Why; written beside what is taken back. Needed with --yes.")
@click.option("--yes", is_flag=True, help="Write. Without it the plan is shown and nothing is changed.")
@click.option("--site", type=_path, metavar="FILE", help="Site overlay: only what this site wrote is taken back.")
@click.option("--mappings", type=_path, metavar="DIR", hidden=True)
@click.option("--json", "as_json", is_flag=True, help="What is taken back as JSON.")
@_access
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
    from fhir_screen.fhir.retract import Which, retractions
    from fhir_screen.fhir.retract import retract as written
    from fhir_screen.fhir.server import FhirServer

    if not (trials or versions or patients):
        raise UsageError("what to take back is not said", remedy="--trial, --trial-version or --patient")
    if yes and not (reason or "").strip():
        raise UsageError("--yes needs --reason TEXT", remedy="it stands beside every resource that is taken back")
    chosen = settings_of(asked(given), server=url)
    target = chosen.write_to or chosen.server
    if not target or not target.lower().startswith(("http://", "https://")):
        raise UsageError("no server is given", where=target or "", remedy="fhir-screen retract URL")
    own = asked({"site": chosen.site, "mappings": chosen.mappings})
    site = study_of(own, chosen).site.id
    why = (reason or "").strip()
    which = Which(tuple(trials), tuple(versions), tuple(one.removeprefix("Patient/") for one in patients))
    with FhirServer(write_access_of(chosen, target)) as server:
        server.capabilities()
        planned = list(retractions(server, which, site, why))
        done = list(written(server, planned, site, why, datetime.now(UTC))) if yes else planned
    _tell_retracted(done, yes=yes, as_json=as_json)


def _tell_retracted(done: Sequence[Retraction], *, yes: bool, as_json: bool) -> None:
    import json

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
        "retracts": [f"{resource['resourceType']}/{resource['id']}" for resource in one.writes],
        "kept": list(one.kept),
    }


def _retracted_lines(done: Iterable[Retraction], count: int, *, yes: bool) -> Iterator[str]:
    would = "" if yes else "would "
    for one in done:
        kinds = " and ".join(str(resource["resourceType"]) for resource in one.writes)
        kept = f"kept because a person decided: {'; '.join(one.kept)}" if one.kept else ""
        if kinds:
            yield f"{would}retract: {one.patient} {one.trial}|{one.version} {one.verdict} ({kinds})" + (
                f"; {kept}\n" if kept else "\n"
            )
        elif kept:
            yield f"keep:    {one.patient} {one.trial}|{one.version}; {kept}\n"
    ending = "" if yes or not count else "; nothing was written: add --reason TEXT --yes"
    yield f"{count} decisions {'retracted' if yes else 'to retract'}{ending}\n"

"""`fhir-screen init`: the files of a new site."""

from __future__ import annotations

import getpass
import os
import shutil
import sys
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from fhir_screen.cli.options import PATH
from fhir_screen.core.decision import Role
from fhir_screen.errors import UsageError
from fhir_screen.fhir.address import base_of
from fhir_screen.mapping.documents import SiteDoc
from fhir_screen.mapping.load import load

_A_PERSONS_WORK: Final = frozenset({"site.yaml"})
"""Half a day of mapping, and the site's name in the ids of all that was written."""


@click.command()
@click.argument("folder", metavar="[DIR]", type=PATH, default=Path())
@click.option("--server", metavar="URL", help="FHIR base of your server. Default: a placeholder to fill in.")
@click.option("--site-id", metavar="NAME", default="default", show_default=True, help="Your site's short name.")
@click.option("--time-zone", metavar="ZONE", default="Asia/Seoul", show_default=True, help="Your site's time zone.")
@click.option(
    "--force", is_flag=True, help="Overwrite files that are there, each kept as NAME.bak; site file and token never."
)
def init(folder: Path, server: str | None, site_id: str, time_zone: str, force: bool) -> None:  # noqa: FBT001
    """Write the files of a new site into DIR: settings, site file, token file, systemd timer and cron line.

    \b
    Example:  fhir-screen init screening --server https://fhir.example/r4 --site-id north
    """
    place = folder.resolve()
    given = {
        "dir": str(place),
        "server": base_of(server) if server else "https://fhir.hospital.example/r4",
        "site": _site_id(site_id),
        "zone": _zone(time_zone),
        "program": shutil.which("fhir-screen") or str(Path(sys.executable).with_name("fhir-screen")),
        "user": _user(),
        **_examples(),
    }
    texts = {name: _filled(text, given) for name, text in _FILES.items()}
    standing = sorted(name for name in texts if (place / name).exists())
    if standing and not force:
        raise UsageError(f"already there: {', '.join(standing)}", where=str(place), remedy="another DIR, or --force")
    kept = sorted(name for name in standing if name in _A_PERSONS_WORK)
    _lay(place, {name: text for name, text in texts.items() if name not in kept})
    for name in kept:
        click.echo(f"{name} stays as it is; remove it to begin anew", err=True)
    for name in sorted(set(standing) - set(kept)):
        click.echo(f"{name} as it was is now {name}.bak", err=True)
    for line in _NEXT.splitlines():
        click.echo(_filled(line, given))


def _examples() -> dict[str, str]:
    """A trial of the packaged mappings, and an exclusion of it, for lines that show how a site speaks of them."""
    trial = load().trials[0]
    exclusion = next(criterion for criterion in trial.criteria if criterion.role is Role.EXCLUSION)
    return {"trial": trial.id, "atom": exclusion.atoms[0].id}


def _site_id(text: str) -> str:
    """As the site file may name it: what reads the file later is asked now."""
    try:
        return SiteDoc(site=text).site
    except ValueError as refused:
        raise UsageError(
            f"--site-id {text!r}: a letter or digit, then letters, digits, - _ . only",
            remedy="it goes into ids; keep it for ever",
        ) from refused


def _zone(name: str) -> str:
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as unknown:
        raise UsageError(f"no time zone {name!r}", remedy="a name such as Asia/Seoul or Europe/Berlin") from unknown


def _user() -> str:
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
            if (place / name).exists():
                (place / name).replace(place / f"{name}.bak")
            (place / name).write_text(text, encoding="utf-8")
        # the mode is given at birth: a token must not lie open for even a moment
        os.close(os.open(place / "token", os.O_CREAT | os.O_WRONLY, 0o600))
    except OSError as cause:
        raise UsageError(f"cannot be written: {cause.strerror}", where=str(place), remedy="check DIR") from cause


_NEXT = """\
In @dir@ now:
  fhir-screen.toml      how the server is reached         <- look at this first
  site.yaml             what your site knows: local codes, limits, policies
  token                 for you alone (0600): put the bearer token in, then uncomment token_file
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
# Only 75 is worth another try: the server was down, or another night was under way; the same command goes on.
Restart=on-failure
RestartPreventExitStatus=2 3 4 70 130
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

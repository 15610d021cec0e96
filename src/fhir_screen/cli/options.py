"""The options that commands share, and what they say: settings, the trials, the day, whom."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import click

from fhir_screen.errors import UsageError
from fhir_screen.fhir.pull import ByGroup, Everyone, Population
from fhir_screen.mapping.anchors import Anchors, load_anchors
from fhir_screen.mapping.load import load
from fhir_screen.mapping.scalars import day_of
from fhir_screen.mapping.study import Study
from fhir_screen.nightly import Request
from fhir_screen.report.languages import LANGUAGES
from fhir_screen.settings import Settings, settings

Command = TypeVar("Command", bound=Callable[..., Any])


def combined(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


PATH = click.Path(path_type=Path)


trial_options = combined(
    click.option("--trial", "trials", multiple=True, metavar="ID", help="Registry number; repeatable. Default: all."),
    click.option("--mappings", type=PATH, metavar="DIR", help="Mappings folder. Default: the packaged mappings."),
    click.option("--site", type=PATH, metavar="FILE", help="Site overlay: local codes, units, limits, parameters."),
    click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Override a parameter; repeatable."),
)


patient_options = combined(
    click.option("--as-of", metavar="DATE", help="Screening date, YYYY-MM-DD. Default: today in the site's time zone."),
    click.option("--anchors", type=PATH, metavar="FILE", help="YAML or CSV with planned and known dates."),
    click.option("--patient", "patients", multiple=True, metavar="ID", help="Only this patient; repeatable."),
    click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N patients, the first by id."),
)


access_options = combined(
    click.option("--token-file", type=PATH, metavar="FILE", help="File with a bearer token."),
    click.option("--user-file", type=PATH, metavar="FILE", help="File with user:password."),
    click.option("--ca", type=PATH, metavar="FILE", help="PEM file of your own certificate authority."),
    click.option("--client-cert", type=PATH, metavar="FILE", help="PEM file of a client certificate."),
    click.option("--client-key", type=PATH, metavar="FILE", help="PEM file of its key."),
    click.option("--proxy", metavar="URL", help="HTTP proxy; the environment is not asked."),
    click.option("--config", type=PATH, metavar="FILE", help="TOML file with settings; also FHIR_SCREEN_CONFIG."),
)


population_options = combined(
    click.option("--everyone", is_flag=True, help="Every Patient of a server, not only whoever has the index disease."),
    click.option("--group", metavar="ID", help="Screen the members of Group/ID."),
)


destination_options = combined(
    click.option("--write-to", metavar="DEST", help="Another FHIR base, or a folder for transaction Bundles."),
    click.option("--write-token-file", type=PATH, metavar="FILE", help="Bearer token for DEST."),
    click.option("--write-user-file", type=PATH, metavar="FILE", help="user:password for DEST."),
    click.option("--state", type=PATH, metavar="DIR", help="Records of nights. Default: ~/.local/state/fhir-screen."),
)
source_argument = click.argument("source", required=False)
source_options = combined(source_argument, trial_options, patient_options, access_options, population_options)


output_option = click.option("-o", "output", type=PATH, metavar="PATH", help="Output file. Default: stdout.")


lang_option = click.option(
    "--lang", type=click.Choice(list(LANGUAGES)), default="en", show_default=True,
    help="Language of table, note, CSV and HTML; the protocol's words stay, NDJSON too.",
)  # fmt: skip


json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead.")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options of one command say, before anything is loaded."""

    trials: tuple[str, ...] = ()
    mappings: Path | None = None
    site: Path | None = None
    assignments: tuple[str, ...] = ()
    as_of: str | None = None
    anchors: Path | None = None
    patients: tuple[str, ...] = ()
    limit: int | None = None
    everyone: bool = False
    group: str | None = None
    access: dict[str, Any] = field(default_factory=dict)


_ACCESS = ("token_file", "user_file", "ca", "client_cert", "client_key", "proxy", "config")


@dataclass(frozen=True, slots=True)
class Job:
    """What one command is to do: what it was asked, and the settings and the trials to which that leads."""

    want: Asked
    chosen: Settings
    study: Study


def job_of(given: dict[str, Any]) -> Job:
    want = asked(given)
    chosen = settings_of(want)
    return Job(want, chosen, study_of(want, chosen))


def asked(given: dict[str, Any]) -> Asked:
    access = {name: given[name] for name in _ACCESS if name in given}
    known = {name: given[name] for name in Asked.__dataclass_fields__ if name in given}
    return Asked(**known, access=access)


def settings_of(want: Asked, **more: Any) -> Settings:
    given = {**want.access, "mappings": want.mappings, "site": want.site, **more}
    config = given.pop("config", None)
    return settings(given, config)


def source_of(source: str | None, chosen: Settings) -> str:
    """The source that was named, else the server of the settings."""
    if found := source or chosen.server:
        return found
    raise UsageError(
        "no source is given", remedy="a folder, a file or a server: SOURCE, --config FILE or FHIR_SCREEN_CONFIG"
    )


_ELSEWHERE = ("write_to", "write_token_file", "write_user_file", "state")


def night_settings(command: str, url: str | None, given: dict[str, Any]) -> tuple[Settings, str]:
    """The settings of a command about nights, and the source that they name."""
    chosen = settings_of(asked(given), server=url, **{name: given[name] for name in _ELSEWHERE})
    if not chosen.server:
        raise UsageError(
            "no server is given", remedy=f"fhir-screen {command} URL, or --config FILE, or set FHIR_SCREEN_CONFIG"
        )
    return chosen, chosen.server


def study_of(want: Asked, chosen: Settings) -> Study:
    return load(chosen.mappings, chosen.site, want.trials, _assignments(want.assignments))


def _assignments(texts: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise UsageError(f"--set {text}: not NAME=VALUE", remedy="write e.g. --set lab_validity_days=14")
        found[name] = value
    return found


def request_of(want: Asked) -> Request:
    day = day_of(want.as_of) if want.as_of else None
    if want.as_of and day is None:
        raise UsageError(f"--as-of {want.as_of}: not a date", remedy="write YYYY-MM-DD")
    anchors = load_anchors(want.anchors) if want.anchors else Anchors()
    ids = tuple(dict.fromkeys(p.removeprefix("Patient/") for p in want.patients))
    return Request(day, today, anchors, ids, want.limit)


def today(zone: str) -> date:
    """The one reading of the calendar: the civil day in the study's time zone."""
    return datetime.now(ZoneInfo(zone)).date()


def whose(want: Asked) -> Population | None:
    if sum(map(bool, (want.group, want.everyone, want.patients))) > 1:
        raise UsageError("--patient, --group and --everyone exclude each other", remedy="keep one")
    if want.group:
        return ByGroup(want.group)
    return Everyone() if want.everyone else None

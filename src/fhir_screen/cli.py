"""The command line: options, the clock, stdout and stderr, and what each exit code means."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from fhir_screen.errors import FhirScreenError, SafetyStop, UsageError

if TYPE_CHECKING:
    from fhir_screen.core.decision import Decision
    from fhir_screen.core.trials import Trial
    from fhir_screen.fhir.pull import Population, Progress
    from fhir_screen.fhir.raw import Damage, RawPatient
    from fhir_screen.fhir.server import Access
    from fhir_screen.fhir.sinks import Destination, Recorded, Sink
    from fhir_screen.mapping.load import Study
    from fhir_screen.nightly import Night, Request, Screened
    from fhir_screen.report.table import Paper
    from fhir_screen.settings import Settings
    from fhir_screen.state.watch import Watch

CONFLICTS, DEFECT, INTERRUPTED = 5, 70, 130
FORMS = ["table", "ndjson", "csv", "html"]
_DEMO_DAY = "2025-11-15"

Command = TypeVar("Command", bound=Callable[..., Any])


def main() -> NoReturn:
    """Runs one command and exits with the code of the contract; no traceback, no patient data on stderr."""
    signal.signal(signal.SIGTERM, _end)
    try:
        code = cli.main(standalone_mode=False) or 0
    except (click.exceptions.Abort, KeyboardInterrupt):
        say("interrupted; the same command goes on where this one stopped")
        code = INTERRUPTED
    except click.ClickException as wrong:
        wrong.show(sys.stderr)
        code = 2
    except FhirScreenError as trouble:
        say(f"error: {trouble}")
        code = trouble.exit_code
    except Exception as error:  # noqa: BLE001 - a traceback could quote a patient
        from fhir_screen.nightly import place_of

        say(f"error: {place_of(error)}\n  try: report this line; it holds no patient data")
        code = DEFECT
    raise SystemExit(code)


def _end(*_: object) -> NoReturn:
    """SIGTERM ends a night as Ctrl-C does."""
    raise KeyboardInterrupt


def say(words: str) -> None:
    click.echo(words, err=True)


# --- options ------------------------------------------------------------------------------------------------------


def _options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_path = click.Path(path_type=Path)

_studies = _options(
    click.option("--trial", "trials", multiple=True, metavar="ID", help="Registry number; repeatable. Default: all."),
    click.option("--mappings", type=_path, metavar="DIR", help="Mappings folder. Default: the packaged mappings."),
    click.option("--site", type=_path, metavar="FILE", help="Site overlay: local codes, units, limits, parameters."),
    click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Override a parameter; repeatable."),
)
_patients = _options(
    click.option("--as-of", metavar="DATE", help="Screening date, YYYY-MM-DD. Default: today in the site's time zone."),
    click.option("--anchors", type=_path, metavar="FILE", help="YAML with planned and known dates."),
    click.option("--patient", "patients", multiple=True, metavar="ID", help="Only this patient; repeatable."),
    click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N patients, the first by id."),
)
_access = _options(
    click.option("--token-file", type=_path, metavar="FILE", help="File with a bearer token."),
    click.option("--user-file", type=_path, metavar="FILE", help="File with user:password."),
    click.option("--ca", type=_path, metavar="FILE", help="PEM file of your own certificate authority."),
    click.option("--client-cert", type=_path, metavar="FILE", help="PEM file of a client certificate."),
    click.option("--client-key", type=_path, metavar="FILE", help="PEM file of its key."),
    click.option("--proxy", metavar="URL", help="HTTP proxy; the environment is not asked."),
    click.option("--config", type=_path, metavar="FILE", help="TOML file with settings; also FHIR_SCREEN_CONFIG."),
)
_whom = _options(
    click.option("--everyone", is_flag=True, help="Every Patient of a server, not only whoever has the index disease."),
    click.option("--group", metavar="ID", help="Screen the members of Group/ID."),
)


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


def asked(given: dict[str, Any]) -> Asked:
    access = {name: given.pop(name) for name in _ACCESS if name in given}
    known = {name: given[name] for name in Asked.__dataclass_fields__ if name in given}
    return Asked(**known, access=access)


def settings_of(want: Asked, **more: Any) -> Settings:
    from fhir_screen.settings import settings

    given = {**want.access, "mappings": want.mappings, "site": want.site, **more}
    config = given.pop("config", None)
    return settings(given, config)


def study_of(want: Asked, chosen: Settings) -> Study:
    from fhir_screen.mapping.load import load

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
    from fhir_screen.mapping.load import Anchors, day_of, load_anchors
    from fhir_screen.nightly import Request

    day = day_of(want.as_of) if want.as_of else None
    if want.as_of and day is None:
        raise UsageError(f"--as-of {want.as_of}: not a date", remedy="write YYYY-MM-DD")
    anchors = load_anchors(want.anchors) if want.anchors else Anchors()
    ids = tuple(dict.fromkeys(p.removeprefix("Patient/") for p in want.patients))
    return Request(day, today, anchors, ids, want.limit)


def today(zone: str) -> date:
    """The one reading of the calendar: the civil day in the study's time zone."""
    from zoneinfo import ZoneInfo

    return datetime.now(ZoneInfo(zone)).date()


def access_of(chosen: Settings, base: str) -> Access:
    from fhir_screen.fhir.server import Access

    return Access(
        base, chosen.token_file, chosen.user_file, chosen.ca, chosen.client_cert, chosen.client_key, chosen.proxy
    )


@dataclass(slots=True)
class Heard:
    """What went wrong so far: said on stderr once each, and counted for the exit code."""

    unread: int = 0
    defects: int = 0
    said: set[str] = field(default_factory=set)
    incomplete: dict[str, list[str]] = field(default_factory=dict)

    def damage(self, one: Damage) -> None:
        self.unread += one.counts
        if one.what not in self.said:
            self.said.add(one.what)
            say(f"{'not read' if one.counts else 'note'}: {one.what}")

    def screened(self, one: Screened) -> None:
        if one.defect:
            self.defects += 1
            say(f"not screened: Patient/{one.patient}: {one.defect}")
        for detail in dict.fromkeys(gap.detail for gap in one.gaps):
            if detail not in self.said:
                self.incomplete.setdefault(detail, []).append(one.patient)

    def told(self) -> int:
        """Says what is missing from whose record; the exit code: 1 where anything was."""
        for detail, patients in sorted(self.incomplete.items()):
            more = f" and {len(patients) - 3} more" if len(patients) > 3 else ""
            say(f"incomplete: {detail} ({', '.join(f'Patient/{one}' for one in patients[:3])}{more})")
        if self.unread:
            say(f"{self.unread} could not be read")
        return 1 if self.unread or self.defects or self.incomplete else 0


@contextmanager
def screened(source: str, study: Study, want: Asked, chosen: Settings, heard: Heard) -> Iterator[Iterator[Screened]]:
    """The patients of a source, screened one by one."""
    from fhir_screen.nightly import screenings

    with charts(source, study, want, chosen, heard) as raw:
        yield _hearing(screenings(raw, study, request_of(want)), heard)


@contextmanager
def charts(source: str, study: Study, want: Asked, chosen: Settings, heard: Heard) -> Iterator[Iterator[RawPatient]]:
    """The patients of a folder, a file or a server as they stand there, with progress on stderr."""
    from fhir_screen.nightly import charts_of_files, charts_of_server, is_server

    request = request_of(want)
    if not is_server(source):
        if want.everyone or want.group:
            raise UsageError("--everyone and --group are for servers", where=source, remedy="--patient")
        yield charts_of_files(Path(source), request, heard.damage)
        return
    from fhir_screen.fhir.server import FhirServer

    access = access_of(chosen, source)
    for words in access.warnings:
        say(f"warning: {words}")
    with FhirServer(access) as server, progress() as on_progress:
        yield charts_of_server(server, study, request, heard.damage, whose(want), on_progress)


def _hearing(done: Iterable[Screened], heard: Heard) -> Iterator[Screened]:
    for one in done:
        heard.screened(one)
        yield one


def whose(want: Asked) -> Population | None:
    from fhir_screen.fhir.pull import ByGroup, Everyone

    if sum(map(bool, (want.group, want.everyone, want.patients))) > 1:
        raise UsageError("--patient, --group and --everyone exclude each other", remedy="keep one")
    if want.group:
        return ByGroup(want.group)
    return Everyone() if want.everyone else None


@contextmanager
def progress() -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal, a line a minute in a log."""
    if not sys.stderr.isatty():
        yield _a_line_a_minute()
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("patients", total=None)
        yield lambda state: bar.update(task, completed=state.patients_done, total=state.patients_total)


def _a_line_a_minute() -> Callable[[Progress], None]:
    import time

    next_line = time.monotonic() + 60

    def tell(state: Progress) -> None:
        nonlocal next_line
        if time.monotonic() >= next_line:
            next_line = time.monotonic() + 60
            say(f"{state.patients_done} of {state.patients_total} patients fetched")

    return tell


def emit(parts: Iterable[str], output: Path | None = None) -> None:
    """To a file, whole or not at all and for the owner only, else to stdout; always UTF-8, whatever the locale."""
    if output is None:
        for part in parts:
            sys.stdout.buffer.write(part.encode("utf-8"))
        sys.stdout.buffer.flush()
    elif output.exists() and not output.is_file():
        output.write_bytes("".join(parts).encode("utf-8"))
    else:
        _write_whole(parts, output)


def _write_whole(parts: Iterable[str], output: Path) -> None:
    import tempfile

    try:
        with tempfile.NamedTemporaryFile(dir=output.parent, prefix=f".{output.name}.", delete=False) as file:
            unfinished = Path(file.name)
            try:
                for part in parts:
                    file.write(part.encode("utf-8"))
                file.flush()
                unfinished.replace(output)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
    except OSError as cause:
        raise UsageError(f"cannot be written: {cause.strerror}", where=str(output), remedy="check -o") from cause


def leave(code: int) -> None:
    if code:
        raise click.exceptions.Exit(code)


# --- commands -----------------------------------------------------------------------------------------------------


_ELSEWHERE = {
    **dict.fromkeys(("codes", "coverage", "expand", "import-codes"), "site_commands"),
    **dict.fromkeys(("doctor", "init", "retract"), "operations"),
}


class _Commands(click.Group):
    """Commands of other modules too; those are imported when somebody asks for them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_ELSEWHERE})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        from importlib import import_module

        found = getattr(import_module(f"fhir_screen.{_ELSEWHERE[cmd_name]}"), cmd_name.replace("-", "_"))
        return found if isinstance(found, click.Command) else None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="fhir-screen", prog_name="fhir-screen")
def cli() -> None:
    """Screens the patients of a FHIR server for clinical trials, criterion by criterion, with evidence.

    \b
    Try:  fhir-screen demo
    """


@cli.command()
@click.argument("source")
@_studies
@_patients
@_access
@_whom
@click.option("--all", "show_all", is_flag=True, help="Also print patients outside the trial's population.")
@click.option("--format", "form", type=click.Choice(FORMS), help="Default: table on a terminal, else ndjson.")
@click.option("-o", "output", type=_path, metavar="PATH", help="Output file. Default: stdout.")
def screen(source: str, show_all: bool, form: str | None, output: Path | None, **given: Any) -> None:  # noqa: FBT001
    """Screen SOURCE: a folder, a file, or the address of a FHIR server. Writes nothing to any server.

    \b
    Example:  fhir-screen screen sample_bundles --as-of 2025-11-15 --format csv
    """
    from fhir_screen.nightly import candidates_only, everybody

    want, heard = asked(given), Heard()
    chosen = settings_of(want)
    study = study_of(want, chosen)
    wanted = everybody if show_all else candidates_only
    with screened(source, study, want, chosen, heard) as done:
        found = (decision for one in done for decision in one.decisions if wanted(decision.population))
        emit(_printed(found, form or _default_form(output), output), output)
    leave(heard.told())


def _default_form(output: Path | None) -> str:
    return "table" if output is None and sys.stdout.isatty() else "ndjson"


def _printed(found: Iterable[Decision], form: str, output: Path | None = None) -> Iterator[str]:
    from fhir_screen.report import csv, html, ndjson, table

    match form:
        case "ndjson":
            return ndjson.render(found)
        case "csv":
            return csv.render(found)
        case "html":
            return html.render(found)
        case _:
            return table.render(found, _paper(output))


def _paper(output: Path | None) -> Paper:
    from shutil import get_terminal_size

    from fhir_screen.report.table import Paper

    terminal = output is None and sys.stdout.isatty()
    return Paper(get_terminal_size((120, 24)).columns if terminal else 140, terminal)


@cli.command()
@click.option("--write-to", metavar="FOLDER", help="Also write one transaction Bundle a patient there.")
@click.option("--json", "as_json", is_flag=True, help="Lines of JSON instead of the table.")
@_studies
def demo(write_to: str | None, as_json: bool, **given: Any) -> None:  # noqa: FBT001
    """Screen the sample patients, offline: what the list of a morning looks like.

    \b
    Example:  fhir-screen demo
    """
    from fhir_screen.nightly import candidates_only

    want, heard, samples = asked({**given, "as_of": _DEMO_DAY}), Heard(), packaged_samples()
    chosen = replace(settings_of(want), server=None, write_to=None)
    study = study_of(want, chosen)
    with screened(str(samples), study, want, chosen, heard) as patients:
        done = list(patients)
    found = [decision for one in done for decision in one.decisions if candidates_only(decision.population)]
    emit(_printed(found, "ndjson" if as_json else "table"))
    if write_to:
        _written(done, replace(chosen, write_to=write_to), study)
    if not as_json:
        _point_onward(found, samples)
    leave(heard.told())


def _written(done: Iterable[Screened], chosen: Settings, study: Study) -> None:
    from fhir_screen.nightly import Night, night

    so_far = Night()
    with sink(chosen, study, into=_to) as bundles:
        for _ in night(done, bundles, so_far):
            pass
    say(f"{so_far.outcome.created} decisions new and {so_far.outcome.unchanged} as they stood in {chosen.write_to}")


def _point_onward(found: Sequence[Decision], samples: Path) -> None:
    first = found[0].patient.removeprefix("Patient/") if found else "ID"
    say(f"These are the sample patients of {samples}, as of {_DEMO_DAY}. To see why, and to go on:")
    say(f"  fhir-screen explain {first} --source {samples} --as-of {_DEMO_DAY}")
    say("  fhir-screen screen https://fhir.hospital.example/r4 --limit 10")


def packaged_samples() -> Path:
    inside = Path(__file__).parent / "sample_bundles"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "sample_bundles"


@cli.command()
@click.argument("patient_id", metavar="PATIENT")
@click.option("--source", required=True, metavar="SOURCE", help="Folder, file or FHIR server.")
@click.option("--criterion", metavar="ID", help="Only this criterion or atom.")
@click.option("--format", "form", type=click.Choice(["text", "html", "json"]), default="text", show_default=True)
@click.option("-o", "output", type=_path, metavar="PATH", help="Output file. Default: stdout.")
@_studies
@click.option("--as-of", metavar="DATE", help="Screening date, YYYY-MM-DD. Default: today in the site's time zone.")
@click.option("--anchors", type=_path, metavar="FILE", help="YAML with planned and known dates.")
@_access
def explain(patient_id: str, source: str, criterion: str | None, form: str, output: Path | None, **given: Any) -> None:
    """Explain PATIENT: every criterion with its answer, its evidence, and what would settle it.

    \b
    Example:  fhir-screen explain sample-03 --source sample_bundles --as-of 2025-11-15
    """
    want, heard = asked({**given, "patients": (patient_id,)}), Heard()
    chosen = settings_of(want)
    study = study_of(want, chosen)
    if criterion:
        study = replace(study, trials=_trials_with(study, criterion))
    with screened(source, study, want, chosen, heard) as done:
        emit(_explained(list(done), form, criterion), output)
    leave(heard.told())


def _trials_with(study: Study, criterion: str) -> tuple[Trial, ...]:
    from fhir_screen.mapping.yamlfile import did_you_mean

    named = {t.id: {i for c in t.criteria for i in (c.id, *(a.id for a in c.atoms))} for t in study.trials}
    if not any(criterion in ids for ids in named.values()):
        remedy = did_you_mean(criterion, set().union(*named.values()))
        raise UsageError(f"no criterion {criterion!r} in {', '.join(named)}", remedy=remedy or "check --criterion")
    return tuple(trial for trial in study.trials if criterion in named[trial.id])


def _explained(done: Sequence[Screened], form: str, criterion: str | None) -> Iterator[str]:
    from fhir_screen.report import explain, html, ndjson

    noted = [(decision, one.anchors[decision.trial.id]) for one in done for decision in one.decisions]
    match form:
        case "json":
            yield from ndjson.render(decision for decision, _ in noted)
        case "html":
            yield from html.render_note(noted, criterion)
        case _:
            yield "\n".join("".join(f"{line}\n" for line in explain.note(*one, criterion)) for one in noted)


@cli.command()
@_studies
@click.option("--json", "as_json", is_flag=True, help="Counts as JSON.")
def check(as_json: bool, **given: Any) -> None:  # noqa: FBT001
    """Check the mappings and the site file: every mistake with file, line and remedy.

    \b
    Example:  fhir-screen check --mappings mappings --site mappings/sites/example.yaml
    """
    import json

    from fhir_screen.mapping.load import trials_of

    want = asked(given)
    chosen = settings_of(want)
    study = study_of(replace(want, trials=want.trials or trials_of(chosen.mappings)), chosen)
    trials = [
        {
            "trial": trial.id,
            "version": trial.identity.version,
            "criteria": len(trial.criteria),
            "atoms": sum(len(criterion.atoms) for criterion in trial.criteria),
        }
        for trial in study.trials
    ]
    concepts, codes = len(study.terms.found_in), sum(len(c) for c in study.terms.codes_of.values())
    if as_json:
        emit([json.dumps({"trials": trials, "concepts": concepts, "codes": codes}) + "\n"])
        return
    for trial in trials:
        click.echo(f"{trial['trial']} version {trial['version']}: {trial['criteria']} criteria, {trial['atoms']} atoms")
    click.echo(f"{concepts} concepts, {codes} codes, {len(study.shapes.resources)} resource types: no mistakes found")


@cli.command()
@click.argument("name", required=False)
@click.option("-o", "output", type=_path, metavar="PATH", help="Output file. Default: stdout.")
def schema(name: str | None, output: Path | None) -> None:
    """Print the JSON Schema of a mapping document for editors; without NAME, list the documents.

    \b
    Example:  fhir-screen schema trial -o trial.schema.json
    """
    import json

    from fhir_screen.mapping.schema import DOCUMENTS, json_schema
    from fhir_screen.mapping.yamlfile import did_you_mean

    if name is None:
        emit(["\n".join(sorted(DOCUMENTS)) + "\n"], output)
        return
    if name not in DOCUMENTS:
        raise UsageError(f"no document {name!r}", remedy=did_you_mean(name, DOCUMENTS) or ", ".join(sorted(DOCUMENTS)))
    emit([json.dumps(json_schema(name), indent=2, ensure_ascii=False) + "\n"], output)


_night = _options(
    _studies,
    _patients,
    _access,
    _whom,
    click.option("--write-to", metavar="DEST", help="Another FHIR base, or a folder for transaction Bundles."),
    click.option("--write-token-file", type=_path, metavar="FILE", help="Bearer token for DEST."),
    click.option("--write-user-file", type=_path, metavar="FILE", help="user:password for DEST."),
    click.option("--json", "as_json", is_flag=True, help="The summary as JSON on stdout."),
    click.option("--state", type=_path, metavar="DIR", help="Records of nights. Default: ~/.local/state/fhir-screen."),
)


@cli.command()
@click.argument("url", required=False)
@_night
@click.option("--no-state", is_flag=True, help="Keep no record and compare with no earlier night.")
@click.option("--accept-change", metavar="REASON", help="Write although much differs from the last good night.")
def run(url: str | None, as_json: bool, **given: Any) -> None:  # noqa: FBT001
    """Pull, screen and write back: the nightly job. URL is a FHIR server (also FHIR_SCREEN_SERVER) or a folder.

    \b
    Example:  fhir-screen run https://fhir.example/r4 --token-file token --write-to out/
    """
    _run(url, given, _to, as_json=as_json)


@cli.command()
@click.argument("url", required=False)
@_night
def plan(url: str | None, as_json: bool, **given: Any) -> None:  # noqa: FBT001
    """Show what `run` would write, and write nothing.

    \b
    Example:  fhir-screen plan https://fhir.example/r4 --limit 20
    """
    _run(url, given, _foreseen, as_json=as_json)


Into = Callable[["Destination"], "Sink"]


def _to(destination: Destination) -> Sink:
    return destination


def _foreseen(destination: Destination) -> Sink:
    from fhir_screen.fhir.sinks import PlanSink

    return PlanSink(destination)


def _run(url: str | None, given: dict[str, Any], into: Into, *, as_json: bool) -> None:
    from fhir_screen.nightly import Night, is_server, night

    elsewhere = {name: given.pop(name) for name in ("write_to", "write_token_file", "write_user_file", "state")}
    want, heard, so_far = asked(given), Heard(), Night()
    chosen = settings_of(want, server=url, **elsewhere)
    if not chosen.server:
        raise UsageError("no server is given", remedy="fhir-screen run URL, or set FHIR_SCREEN_SERVER")
    if not chosen.write_to and not is_server(chosen.server):
        raise UsageError("where to write is not said", where=chosen.server, remedy="--write-to a folder or a server")
    study = study_of(want, chosen)
    with watching(chosen, study, want, given, into) as watch:
        with screened(chosen.server, study, want, chosen, heard) as done, sink(chosen, study, into) as target:
            recorded = list(night(watch.through(done), target, so_far))
        _tell(so_far, heard, recorded, watch, as_json=as_json, dry=into is _foreseen)


@contextmanager
def watching(chosen: Settings, study: Study, want: Asked, given: dict[str, Any], into: Into) -> Iterator[Watch]:
    """The last good night to compare with, and a record of this one; a plan leaves no trace."""
    from fhir_screen.nightly import is_server
    from fhir_screen.settings import state_folder
    from fhir_screen.state.record import StateFolder
    from fhir_screen.state.watch import Scope, unwatched, watched_plan, watched_run

    source, target = chosen.server or "", chosen.write_to or chosen.server or ""
    trials = {trial.id: trial.identity.version for trial in study.trials}
    folder = chosen.state or (state_folder() if is_server(source) or is_server(target) else None)
    if folder is None or given.get("no_state"):
        yield unwatched(trials)
        return
    whom = (*sorted(want.patients), f"{want.limit}", f"{want.group}", f"{want.everyone}")
    scope = Scope(source.rstrip("/"), target.rstrip("/"), study.site.id, whom)
    if into is _foreseen:
        yield watched_plan(StateFolder(folder), scope, trials)
        return
    accepted = given.get("accept_change")
    with watched_run(StateFolder(folder), scope, trials, accepted, lambda: datetime.now(UTC), _code_of) as watch:
        yield watch


def _code_of(end: BaseException) -> int:
    match end:
        case click.exceptions.Exit() | FhirScreenError():
            return end.exit_code
        case click.exceptions.Abort() | KeyboardInterrupt():
            return INTERRUPTED
        case _:
            return DEFECT


@contextmanager
def sink(chosen: Settings, study: Study, into: Into) -> Iterator[Sink]:
    """Where decisions go: the server they came from, another one, or a folder."""
    from fhir_screen.fhir.server import FhirServer
    from fhir_screen.fhir.sinks import FolderSink, ServerSink
    from fhir_screen.fhir.writer import EvidenceLinks, Signature
    from fhir_screen.nightly import is_server

    target = chosen.write_to or chosen.server or ""
    elsewhere = is_server(target) and target.rstrip("/") != (chosen.server or "").rstrip("/")
    links = EvidenceLinks.NAMED if elsewhere else EvidenceLinks.LITERAL
    signature = Signature(study.site.id, _own_version(), datetime.now(UTC), links)
    if not is_server(target):
        yield into(FolderSink(Path(target), signature, study.site.closed_studies))
        return
    with FhirServer(write_access_of(chosen, target)) as server:
        server.capabilities()
        yield into(ServerSink(server, signature, study.site.closed_studies))


def _own_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("fhir-screen")
    except PackageNotFoundError:  # run from a source tree that nobody installed
        return "0"


def write_access_of(chosen: Settings, target: str) -> Access:
    """How to enter where we write: the reader's secrets are for the reader's origin and go to no other."""
    own = chosen.write_token_file or chosen.write_user_file
    if own is None and _origin(target) == _origin(chosen.server or ""):
        return access_of(chosen, target)
    entering = replace(chosen, token_file=chosen.write_token_file, user_file=chosen.write_user_file)
    return access_of(replace(entering, client_cert=None, client_key=None), target)


def _origin(url: str) -> tuple[str, str]:
    from urllib.parse import urlsplit

    parts = urlsplit(url.lower())
    return parts.scheme, parts.netloc


def _tell(so_far: Night, heard: Heard, recorded: Sequence[Recorded], watch: Watch, *, as_json: bool, dry: bool) -> None:
    import json

    from fhir_screen.report.changes import lines, summary

    for one in recorded:
        if one.error is not None:
            say(f"not written: Patient/{one.patient}: {one.error}")
    code = heard.told()
    document = summary(so_far, heard.unread + heard.defects, heard.incomplete, dry=dry)
    changes = [change for one in recorded for change in one.changes]
    watch.noted |= {"summary": document, "not_written": _reasons(recorded)}
    for words in watch.found:
        say(f"{'a run would stop' if dry else 'accepted'}: {words}")
    emit([json.dumps(document) + "\n"] if as_json else (f"{line}\n" for line in lines(document, changes, dry=dry)))
    if so_far.duplicates:
        leave(SafetyStop.exit_code)
    leave(CONFLICTS if so_far.outcome.conflicts else 1 if so_far.outcome.failed else code)


def _reasons(recorded: Iterable[Recorded]) -> dict[str, int]:
    """Why patients were not written, and how many."""
    found: dict[str, int] = {}
    for one in recorded:
        if one.error is not None:
            found[one.error.what] = found.get(one.error.what, 0) + 1
    return found


if __name__ == "__main__":
    main()

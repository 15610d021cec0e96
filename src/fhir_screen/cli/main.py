"""The commands by name, each imported when somebody asks for it, and the one place where exceptions become exit codes."""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from typing import Final, NoReturn

import click

from fhir_screen.cli.exits import DEFECT, INTERRUPTED
from fhir_screen.cli.output import say
from fhir_screen.errors import FhirScreenError

COMMANDS: Final = {
    "demo": "Screen the sample patients, offline.",
    "screen": "Screen a folder, a file or a server; write nothing to any server.",
    "report": "Write a page and a spreadsheet: what needs a person first, the list, the funnel.",
    "explain": "Explain one patient: every criterion, its evidence, what would settle it.",
    "init": "Write the files of a new site: settings, site file, timer.",
    "doctor": "Check all that a night needs, with a remedy for each fault.",
    "codes": "List codes and units that the mappings do not know, as an overlay to paste.",
    "concepts": "List the concepts that a local code may be given.",
    "coverage": "Count for how many patients there is data, criterion by criterion.",
    "import-codes": "Turn a FHIR ConceptMap into a site overlay.",
    "expand": "Fetch descendants of the code sets from a terminology server.",
    "plan": "Show what a night would write, and write nothing.",
    "run": "Pull, screen and write back: the nightly job.",
    "retract": "Take back what was written; deletes nothing.",
    "check": "Check mappings and site file: every mistake with file, line and remedy.",
    "schema": "Print the JSON Schema of a mapping document, for editors.",
}
"""In the order in which a newcomer meets them."""

_MODULE: Final = {"plan": "run"}


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


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        found = getattr(import_module(f"fhir_screen.cli.{_MODULE.get(name, name)}"), name)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="fhir-screen", prog_name="fhir-screen")
def cli() -> None:
    """Screens the patients of a FHIR server for clinical trials, criterion by criterion, with evidence.

    \b
    Try:  fhir-screen demo
    """

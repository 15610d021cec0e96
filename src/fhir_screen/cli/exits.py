"""What each exit code means, and how a command ends with one."""

from __future__ import annotations

import click

from fhir_screen.errors import FhirScreenError

CONFLICTS, DEFECT, INTERRUPTED = 5, 70, 130


def leave(code: int) -> None:
    if code:
        raise click.exceptions.Exit(code)


def code_of(end: BaseException) -> int:
    match end:
        case click.exceptions.Exit() | FhirScreenError():
            return end.exit_code
        case click.exceptions.Abort() | KeyboardInterrupt():
            return INTERRUPTED
        case _:
            return DEFECT

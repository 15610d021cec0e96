"""The command line: one module a command, and the few things that all of them share."""

from fhir_screen.cli.main import cli, main

__all__ = ["cli", "main"]

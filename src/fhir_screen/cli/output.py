"""What a command says: results to stdout or a file, all else to stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import click

from fhir_screen.errors import UsageError
from fhir_screen.whole_file import write_whole


def say(words: str) -> None:
    click.echo(words, err=True)


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
        say(f"written: {output}")


def _write_whole(parts: Iterable[str], output: Path) -> None:
    try:
        write_whole(output, (part.encode("utf-8") for part in parts))
    except OSError as cause:
        raise UsageError(f"cannot be written: {cause.strerror}", where=str(output), remedy="check -o") from cause

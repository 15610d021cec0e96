"""Runs a command in this process and takes what it left on its streams."""

from __future__ import annotations

import io
import json
import signal
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fhir_screen import cli as command_line


@dataclass(frozen=True, slots=True)
class Ended:
    """How one command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.out)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def answers(self) -> list[tuple[str, str]]:
        return [(line["patient"], line["verdict"]) for line in self.lines]


def fhir_screen(*words: str | Path, cwd: Path = Path()) -> Ended:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    arguments, terminate = sys.argv, signal.getsignal(signal.SIGTERM)
    sys.argv = ["fhir-screen", *map(str, words)]
    try:
        with redirect_stdout(out), redirect_stderr(err), chdir(cwd):
            command_line.main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.argv = arguments
        signal.signal(signal.SIGTERM, terminate)
    return Ended(code, *(_text(stream) for stream in (out, err)))


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode("utf-8")

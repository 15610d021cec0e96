"""How far a pull or a folder has come: a bar on a terminal, a line a minute in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress as Bar

from fhir_screen.cli.output import say
from fhir_screen.fhir.pull import Progress


@contextmanager
def progress(verb: str = "fetched") -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal, a line a minute in a log; ``verb`` is what was done to the patients."""
    if not sys.stderr.isatty():
        yield _a_line_a_minute(verb)
        return
    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("patients", total=None)
        yield lambda state: bar.update(task, completed=state.patients_done, total=state.patients_total)


def _a_line_a_minute(verb: str) -> Callable[[Progress], None]:
    next_line = time.monotonic() + 60

    def tell(state: Progress) -> None:
        nonlocal next_line
        if time.monotonic() >= next_line:
            next_line = time.monotonic() + 60
            say(f"{state.patients_done} of {state.patients_total} patients {verb}")

    return tell

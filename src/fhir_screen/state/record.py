"""The state folder: the record of each night, the last good one to compare with, and a lock against two at once."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from fhir_screen.errors import TemporaryError, UsageError
from fhir_screen.state.guards import Cohort, Cohorts
from fhir_screen.whole_file import write_whole

GOOD: Final = "fhir-screen/good-night/1"
NIGHT: Final = "fhir-screen/night/1"


class StateFolder:
    """A folder made for the owner alone (0700, files 0600). Every file in it is whole or not there.

    It holds technical ids of patients with their verdicts, and counts; no name, date, value or secret.
    Raises UsageError where it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Holds the lock of this name. Raises TemporaryError while another process does; a killed one holds none."""
        path = self._made() / f"{name}.lock"
        with _opened(path) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as taken:
                what, remedy = "another night for the same server is under way", "run again when it has ended"
                raise TemporaryError(what, where=str(path), remedy=remedy) from taken
            yield

    def last_good(self, name: str) -> dict[str, Cohort]:
        """The last good night of this name, by trial; empty where there was none."""
        path = self.path / f"{name}.good.json"
        try:
            found: Any = json.loads(path.read_text("utf-8"))
            if found["schema"] != GOOD:
                raise KeyError("schema")
            return {trial: Cohort(**cohort) for trial, cohort in found["trials"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            what, remedy = "the last good night cannot be read", "remove the file: the next night starts anew"
            raise UsageError(what, where=str(path), remedy=remedy) from error

    def keep_good(self, name: str, cohorts: Cohorts) -> None:
        """Remembers a good night; trials that were not screened in it keep their last one."""
        trials = {trial: asdict(cohort) for trial, cohort in sorted({**self.last_good(name), **cohorts}.items())}
        self._write(f"{name}.good.json", {"schema": GOOD, "trials": trials})

    def keep_record(self, started: str, record: Mapping[str, Any]) -> Path:
        """Writes the record of a night under its beginning, an instant as in 20251115T010203.000004Z."""
        return self._write(f"night-{started}-{os.getpid()}.json", {"schema": NIGHT, **record})

    def spool(self) -> Any:
        """A file without a name: nothing of it is left however the night ends."""
        return tempfile.TemporaryFile(dir=self._made())

    def _made(self) -> Path:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(self.path, error) from error
        return self.path

    def _write(self, name: str, document: Mapping[str, Any]) -> Path:
        path = self._made() / name
        text = json.dumps(document, indent=1, ensure_ascii=False, sort_keys=False) + "\n"
        try:
            write_whole(path, [text.encode("utf-8")])
        except OSError as error:
            raise _unusable(self.path, error) from error
        return path


def _opened(path: Path) -> Any:
    try:
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "w")
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"the state folder cannot be used: {error.strerror}", where=str(path), remedy="--state DIR")

"""A night under watch: one at a time, nothing handed on before the guards have seen it all, and a record at the end."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from fhir_screen.core.decision import Decision
from fhir_screen.errors import FhirScreenError
from fhir_screen.state.guards import Cohort, alarms, heed
from fhir_screen.state.record import StateFolder

GOOD_ENDS = frozenset({0, 1, 5})
"""Exit codes of nights that went through to their end: done, done with handled failures, conflicts left for people."""


class Patient(Protocol):
    """One patient, screened."""

    @property
    def decisions(self) -> Sequence[Decision]: ...


One = TypeVar("One", bound=Patient)


@dataclass(frozen=True, slots=True)
class Scope:
    """What has to be alike for two nights to be compared: from where, to where, and whom. Trials are compared each."""

    source: str
    destination: str
    site: str
    whom: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return _digest(self.source, self.destination, self.site, *self.whom)

    @property
    def lock(self) -> str:
        """Of whom a night is does not matter here: two of them would write the same resources."""
        return _digest(self.destination, self.site)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


@dataclass(slots=True)
class Watch:
    """What a night has shown so far. ``accepted`` is the reason why a mass change is right."""

    folder: StateFolder | None
    name: str = ""
    before: Mapping[str, Cohort] = field(default_factory=dict)
    accepted: str | None = None
    cohorts: dict[str, Cohort] = field(default_factory=dict)
    found: tuple[str, ...] = ()
    noted: dict[str, Any] = field(default_factory=dict)

    @property
    def listed(self) -> frozenset[str]:
        """The patients of the last good night, and those who were its patients earlier."""
        return frozenset(patient for one in self.before.values() for patient in (*one.verdicts, *one.outside))

    def through(self, done: Iterable[One]) -> Iterator[One]:
        """Counts every patient; where there is a last good night, hands on the first one only after the last has come.

        Raises SafetyStop where the night is unlike the last good one, unless a person has accepted that: then it is
        remembered before anything is written, so that the next night goes on where this one was interrupted.
        """
        if self.folder is None or not self.before:
            yield from map(self.count, done)
            self.compare()
            return
        with self.folder.spool() as spool:
            for one in done:
                pickle.dump(self.count(one), spool, pickle.HIGHEST_PROTOCOL)
            end = spool.tell()
            self.compare()
            if self.accepted:
                self.folder.keep_good(self.name, self.cohorts)
            else:
                heed(self.found)
            spool.seek(0)
            while spool.tell() < end:
                again: One = pickle.load(spool)  # what we wrote ourselves, into a file that has no name
                yield again

    def count(self, one: One) -> One:
        for decision in one.decisions:
            before = self.before.get(decision.trial.id, Cohort())
            earlier = {*before.verdicts, *before.outside}
            self.cohorts.setdefault(decision.trial.id, Cohort(decision.trial.version)).count(decision, earlier)
        return one

    def compare(self) -> None:
        self.found = alarms(self.before, self.cohorts)


def unwatched(trials: Mapping[str, str]) -> Watch:
    """Without a state folder there is nothing to compare with, and nothing is kept."""
    return Watch(None, cohorts=_empty(trials))


def watched_plan(folder: StateFolder, scope: Scope, trials: Mapping[str, str]) -> Watch:
    """Compares with the last good night, stops nothing, and leaves the folder as it is."""
    return Watch(None, scope.name, folder.last_good(scope.name), cohorts=_empty(trials))


@contextmanager
def watched_run(
    folder: StateFolder,
    scope: Scope,
    trials: Mapping[str, str],
    accepted: str | None,
    clock: Callable[[], datetime],
    code_of: Callable[[BaseException], int],
) -> Iterator[Watch]:
    """A night, alone for its destination; however it ends, its record is written, and a good one is remembered."""
    with folder.locked(scope.lock):
        watch = Watch(folder, scope.name, folder.last_good(scope.name), accepted, _empty(trials))
        started = clock()
        try:
            yield watch
        except BaseException as error:
            _end(watch, folder, scope, started, clock(), code_of(error), error)
            raise
        _end(watch, folder, scope, started, clock(), 0, None)


def _empty(trials: Mapping[str, str]) -> dict[str, Cohort]:
    return {trial: Cohort(version) for trial, version in trials.items()}


def _end(
    watch: Watch,
    folder: StateFolder,
    scope: Scope,
    started: datetime,
    ended: datetime,
    code: int,
    error: BaseException | None,
) -> None:
    if code in GOOD_ENDS:
        folder.keep_good(scope.name, watch.cohorts)
    record = {
        "started": _instant(started),
        "ended": _instant(ended),
        "exit_code": code,
        "error": error.what if isinstance(error, FhirScreenError) else None,
        "source": scope.source,
        "destination": scope.destination,
        "site": scope.site,
        "unlike_last_good_night": list(watch.found),
        "accepted_change": watch.accepted,
        **watch.noted,
        "criteria_unknown": {
            trial: {"version": cohort.version, "patients": len(cohort.verdicts), "unknown": cohort.unknown}
            for trial, cohort in sorted(watch.cohorts.items())
        },
    }
    folder.keep_record(started.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ"), record)


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")

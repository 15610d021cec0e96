"""Where decisions go: onto a FHIR server, into a folder of Bundles, or nowhere but into a plan."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

from fhir_screen.core.decision import ClosedStudies, Decision, action
from fhir_screen.errors import FhirScreenError, UsageError
from fhir_screen.fhir.changes import Change, change
from fhir_screen.fhir.identity import is_managed, patient_id
from fhir_screen.fhir.raw import Json
from fhir_screen.fhir.search import PATIENTS_PER_SEARCH, chunks
from fhir_screen.fhir.server import Conflict, FhirServer, SearchFailed, UnknownOutcome, WriteFailed
from fhir_screen.fhir.standing import DuplicateIdentity, Ground, held, read_missing, survey, tail
from fhir_screen.fhir.valuesets import NotWritable
from fhir_screen.fhir.writer import Entry, Part, Signature, entries, portable, shared_identities, transaction
from fhir_screen.whole_file import write_whole

ATTEMPTS: Final = 3
"""How often a patient is read and decided again before the conflict is left to people."""

_FILE_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}\Z")


class Trouble(StrEnum):
    """Why nothing was written for a patient."""

    CONFLICT = "conflict"
    """Others kept writing at the same time, or two resources claim to be the same one of ours."""
    FAILED = "failed"
    """The server refused, could not be read, or nobody knows whether it wrote."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One patient, done: his changes, or why there are none. ``error`` is for the report and holds no patient data."""

    patient: str
    changes: tuple[Change, ...] = ()
    trouble: Trouble | None = None
    error: FhirScreenError | None = None
    undone: int = 0
    """Decisions that wanted to be written and were not."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Counts of decisions (patient and trial). Each is in exactly one of the first five; ``kept_human`` is besides.

    created: its Observation was made. updated: its Observation or its ResearchSubject was changed, or a subject was
    added. unchanged: nothing was written. conflicts, failed: it wanted to be written and was not. kept_human: an
    Observation or a ResearchSubject was left as a person wanted it, whatever else was written.
    """

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    conflicts: int = 0
    failed: int = 0
    kept_human: int = 0

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.created + other.created,
            self.updated + other.updated,
            self.unchanged + other.unchanged,
            self.conflicts + other.conflicts,
            self.failed + other.failed,
            self.kept_human + other.kept_human,
        )

    @staticmethod
    def of(recorded: Iterable[Recorded]) -> Outcome:
        return sum((_counted(one) for one in recorded), Outcome())


class Sink(Protocol):
    """Takes the decisions of any number of patients and tells of each patient as it is done."""

    def record(self, decisions: Sequence[Decision]) -> Iterator[Recorded]: ...


class Destination(Sink, Protocol):
    """A sink that can also say what it would do."""

    def foresee(self, decisions: Sequence[Decision]) -> Iterator[Recorded]: ...


@dataclass(frozen=True, slots=True)
class PlanSink:
    """Shows what a destination would do, and writes nothing."""

    destination: Destination

    def record(self, decisions: Sequence[Decision]) -> Iterator[Recorded]:
        return self.destination.foresee(decisions)


class ServerSink:
    """A FHIR server: one transaction a patient, with what stands there read just before.

    There must be one writer at a time for a server and a site. Raises PreflightError and TemporaryError, which end the
    night; whatever concerns one patient is told in `Recorded`.
    """

    def __init__(
        self, server: FhirServer, signature: Signature, closed: ClosedStudies = ClosedStudies.OBSERVATION_ONLY
    ) -> None:
        self._server, self._signature, self._closed = server, signature, closed
        self._shared = Ground()

    def record(self, decisions: Sequence[Decision]) -> Iterator[Recorded]:
        for patient, ground in self._surveyed(decisions):
            yield ground if isinstance(ground, Recorded) else self._recorded(patient, ground)

    def foresee(self, decisions: Sequence[Decision]) -> Iterator[Recorded]:
        for patient, ground in self._surveyed(decisions):
            yield ground if isinstance(ground, Recorded) else self._foreseen(patient, ground)

    def _surveyed(self, decisions: Sequence[Decision]) -> Iterator[tuple[tuple[Decision, ...], Ground | Recorded]]:
        """Each patient with what stands for him, read for many at once; or with the trouble that stood in the way."""
        for chunk in chunks(_by_patient(decisions), PATIENTS_PER_SEARCH):
            try:
                ground = self._survey([decision for patient in chunk for decision in patient])
            except SearchFailed as error:
                yield from ((patient, _failed(patient, error)) for patient in chunk)
                continue
            yield from ((patient, ground) for patient in chunk)

    def _survey(self, decisions: Sequence[Decision]) -> Ground:
        read_missing(self._server, shared_identities(decisions, self._signature), self._shared)
        return survey(self._server, decisions, self._signature.site, self._closed, self._shared)

    def _foreseen(self, patient: Sequence[Decision], ground: Ground) -> Recorded:
        try:
            changes, wanted = self._decided(patient, ground)
            if wanted:
                transaction(wanted)
        except DuplicateIdentity as error:
            return _conflict(patient, error)
        except NotWritable as error:
            return _failed(patient, error)
        return Recorded(patient_id(patient[0].patient), changes)

    def _recorded(self, patient: Sequence[Decision], ground: Ground) -> Recorded:
        try:
            return self._settled(patient, ground)
        except (Conflict, DuplicateIdentity) as error:
            return _conflict(patient, error)
        except (WriteFailed, SearchFailed, NotWritable) as error:
            return _failed(patient, error)

    def _settled(self, patient: Sequence[Decision], ground: Ground) -> Recorded:
        """Decides and writes; after a conflict or a lost answer it reads and decides again, until nothing is wanted."""
        lost: tuple[Change, ...] = ()
        failure: WriteFailed | None = None
        for attempt in range(ATTEMPTS + 1):
            changes, wanted = self._decided(patient, ground)
            if not wanted:
                return Recorded(patient_id(patient[0].patient), lost or changes)
            if failure is not None and attempt == ATTEMPTS:
                raise failure
            try:
                self._send(wanted)
            except Conflict as error:
                failure = error
            except UnknownOutcome as error:
                failure, lost = error, changes
            else:
                return Recorded(patient_id(patient[0].patient), changes)
            ground = self._read_again(patient, wanted)
        raise AssertionError("the last attempt returns or raises")

    def _decided(self, patient: Sequence[Decision], ground: Ground) -> tuple[tuple[Change, ...], tuple[Entry, ...]]:
        parts = _parts(patient, ground, self._signature, self._closed)
        return tuple(change(part) for part in parts), entries(parts, self._shared, self._signature)

    def _send(self, wanted: Sequence[Entry]) -> None:
        self._server.transaction(transaction(wanted))
        self._shared.add(entry.resource for entry in wanted if entry.is_shared)

    def _read_again(self, patient: Sequence[Decision], wanted: Sequence[Entry]) -> Ground:
        self._shared.forget(entry.url for entry in wanted if entry.is_shared)
        return self._survey(patient)


class FolderSink:
    """A folder with one transaction Bundle for each patient: what stands is what the file holds.

    The files are for a server on which nothing of ours stands. A file is left alone, byte for byte, while the
    decisions in it hold; what another run wrote into it for other trials stays. New folders are 0700, files 0600.
    """

    def __init__(
        self, folder: Path, signature: Signature, closed: ClosedStudies = ClosedStudies.OBSERVATION_ONLY
    ) -> None:
        self._folder, self._signature, self._closed = folder, signature, closed

    def record(self, decisions: Sequence[Decision]) -> Iterator[Recorded]:
        for patient in _by_patient(decisions):
            yield self._recorded(patient, self._written)

    def foresee(self, decisions: Sequence[Decision]) -> Iterator[Recorded]:
        for patient in _by_patient(decisions):
            yield self._recorded(patient, _not_written)

    def _recorded(self, patient: Sequence[Decision], finish: _Finish) -> Recorded:
        own_id = patient_id(patient[0].patient)
        try:
            path = self._path(own_id)
            ground = Ground.of(_resources_in(path))
            parts = _parts(patient, ground, self._signature, self._closed)
            finish(path, ground, parts)
        except DuplicateIdentity as error:
            return _conflict(patient, error)
        except NotWritable as error:
            return _failed(patient, error)
        return Recorded(own_id, tuple(change(part) for part in parts))

    def _written(self, path: Path, ground: Ground, parts: Sequence[Part]) -> None:
        made = entries(parts, Ground(), self._signature)
        if not made:
            return
        new = {entry.url: entry.resource for entry in made}
        old = {url: one for url, one in ground.resources.items() if not _is_superseded(one, new)}
        _replace(path, portable((old | new).values()))

    def _path(self, own_id: str) -> Path:
        if not _FILE_ID.match(own_id):
            raise NotWritable(
                "the id of a patient is no FHIR id, and no file is named after it",
                remedy="give him one of 1 to 64 letters, digits, - and . in the source",
            )
        return self._folder / f"{own_id}.json"


class _Finish(Protocol):
    def __call__(self, path: Path, ground: Ground, parts: Sequence[Part]) -> None: ...


def _not_written(path: Path, ground: Ground, parts: Sequence[Part]) -> None:
    """A plan ends here."""


def _parts(
    patient: Sequence[Decision], ground: Ground, signature: Signature, closed: ClosedStudies
) -> tuple[Part, ...]:
    stands = [held(decision, signature.site, ground) for decision in patient]
    return tuple(
        Part(decision, one, action(decision, one.standing, closed))
        for decision, one in zip(patient, stands, strict=True)
    )


def _by_patient(decisions: Iterable[Decision]) -> list[tuple[Decision, ...]]:
    grouped: dict[str, list[Decision]] = {}
    for decision in decisions:
        grouped.setdefault(patient_id(decision.patient), []).append(decision)
    return [tuple(one) for one in grouped.values()]


def _conflict(patient: Sequence[Decision], error: FhirScreenError) -> Recorded:
    return _undone(patient, Trouble.CONFLICT, error)


def _failed(patient: Sequence[Decision], error: FhirScreenError) -> Recorded:
    return _undone(patient, Trouble.FAILED, error)


def _undone(patient: Sequence[Decision], trouble: Trouble, error: FhirScreenError) -> Recorded:
    return Recorded(patient_id(patient[0].patient), (), trouble, error, undone=len(patient))


def _counted(one: Recorded) -> Outcome:
    created = sum(change.created for change in one.changes)
    updated = sum(change.updated for change in one.changes)
    return Outcome(
        created=created,
        updated=updated,
        unchanged=len(one.changes) - created - updated,
        conflicts=one.undone if one.trouble is Trouble.CONFLICT else 0,
        failed=one.undone if one.trouble is Trouble.FAILED else 0,
        kept_human=sum(change.kept_human for change in one.changes),
    )


def _is_superseded(resource: Json, new: dict[str, Json]) -> bool:
    """A Provenance that tells only of what is being replaced; in a folder there is no history for it to tell of."""
    targets = {tail(target) for target in resource.get("target", ())}
    return resource.get("resourceType") == "Provenance" and targets <= set(new)


def _resources_in(path: Path) -> list[Json]:
    """What our own file holds; nothing where there is none. Raises UsageError for a file that somebody else wrote."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise _foreign(path) from error
    try:
        found: Any = json.loads(text)
        resources = [entry["resource"] for entry in found["entry"]] if found.get("type") == "transaction" else []
        ours = bool(resources) and all(is_managed(resource) for resource in resources)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _foreign(path) from error
    if not ours:
        raise _foreign(path)
    return resources


def _foreign(path: Path) -> UsageError:
    return UsageError(
        "a file stands here that fhir-screen did not write, or that cannot be read; it is left alone",
        where=str(path.parent),
        remedy="--write-to an empty or a new folder",
    )


def _replace(path: Path, bundle: Json) -> None:
    data = (json.dumps(bundle, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, [data])
    except OSError as error:
        raise UsageError(
            f"no file can be written here ({error.strerror})",
            where=str(path.parent),
            remedy="another --write-to folder",
        ) from error

"""One night: charts come from a source, become records, are put to the trials, and the decisions go to a sink."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import islice
from pathlib import Path
from traceback import extract_tb
from typing import Final

from fhir_screen.core.anchors import anchors_of
from fhir_screen.core.decision import Decision, Verdict
from fhir_screen.core.facts import PatientRecord
from fhir_screen.core.gaps import Gap
from fhir_screen.core.screening import screen
from fhir_screen.core.trials import Trial
from fhir_screen.core.truth import Reason, Truth
from fhir_screen.errors import NoInputError, SafetyStop
from fhir_screen.fhir.assemble import assemble
from fhir_screen.fhir.files import read_files
from fhir_screen.fhir.identity import patient_id
from fhir_screen.fhir.pull import ByCodes, ByPatients, Population, Progress, ignore, pull
from fhir_screen.fhir.raw import Damage, RawPatient
from fhir_screen.fhir.reader import read
from fhir_screen.fhir.search import PATIENTS_PER_SEARCH
from fhir_screen.fhir.server import FhirServer
from fhir_screen.fhir.sinks import Outcome, Recorded, Sink
from fhir_screen.mapping.anchors import Anchors
from fhir_screen.mapping.population import index_tokens
from fhir_screen.mapping.study import Study
from fhir_screen.mapping.yamlfile import did_you_mean
from fhir_screen.report.inventory import kinds_looked_at, unmapped

Told = Callable[[Damage], None]

_CODINGS: Final = 50_000
"""So many different unknown codings a night counts; where a source makes up a code for each record, no more."""

_NOBODY_THERE: Final = (
    "nobody was found to be screened: no Patient here has a diagnosis of one of the trials, or none is shown to us "
    "(`fhir-screen doctor` says which; --everyone asks about all)"
)


_NOT_FOUND_AGAIN: Final = (
    "{count} of the last good night's patients are not found by a diagnosis any more, and were looked at by their ids"
)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a night: the day (None: today by each trial's zone, from ``today``), whom, and known days."""

    as_of: date | None
    today: Callable[[str], date]
    anchors: Anchors = field(default_factory=Anchors)
    patients: tuple[str, ...] = ()
    limit: int | None = None

    def day(self, study: Study, trial: Trial) -> date:
        return self.as_of or self.today(str(study.zone(trial)))


def charts_of_files(
    source: Path, request: Request, told: Told, on_progress: Callable[[Progress], None] = ignore
) -> Iterator[RawPatient]:
    """The patients of a folder or file, in the order of their ids; what could not be read goes to ``told``."""
    patients, damage = assemble(read_files(source))
    for one in damage:
        told(one)
    if request.patients:
        everybody_here, patients = patients, [one for one in patients if one.id in request.patients]
        here = {one.id for one in everybody_here}
        missing = sorted(set(request.patients) - here)
        if not patients:
            raise _nobody(missing, str(source), did_you_mean(missing[0], here))
        for own_id in missing:
            told(Damage(f"Patient/{own_id}: not in this source", kind="Patient", patient=own_id))
    patients = patients[: request.limit]
    for done, raw in enumerate(patients):
        on_progress(Progress(patients_done=done, patients_total=len(patients)))
        yield raw


def charts_of_server(
    server: FhirServer,
    study: Study,
    request: Request,
    told: Told,
    whose: Population | None = None,
    on_progress: Callable[[Progress], None] = ignore,
    listed: Collection[str] = (),
) -> Iterator[RawPatient]:
    """The charts of a population: the patients asked for, else whom ``whose`` says, else who has the index disease.

    ``listed`` are ids of patients of an earlier night. Whom the diagnosis does not find any more is looked at by id:
    what stands for him has to be said anew.
    """
    population = ByPatients(request.patients) if request.patients else whose or ByCodes(index_tokens(study))
    chunk = min(request.limit or PATIENTS_PER_SEARCH, PATIENTS_PER_SEARCH)
    charts = pull(server, study.kinds, population, chunk=chunk, on_progress=on_progress, on_damage=told)
    came: set[str] = set()
    for raw in islice(charts, request.limit):
        came.add(raw.id)
        yield raw
    if not came and request.patients:
        raise _nobody(request.patients, server.base)
    if not came:
        told(Damage(_NOBODY_THERE, kind="Patient", counts=False))
    if isinstance(population, ByCodes) and request.limit is None:
        yield from _found_no_more(server, study, sorted({*map(patient_id, listed)} - came), came, told)


def _found_no_more(
    server: FhirServer, study: Study, ids: Sequence[str], came: Container[str], told: Told
) -> Iterator[RawPatient]:
    """The charts of these patients; one who was merged into another since comes with that one, who may have come."""
    if not ids:
        return
    told(Damage(_NOT_FOUND_AGAIN.format(count=len(ids)), kind="Patient", counts=False))
    for raw in pull(server, study.kinds, ByPatients(tuple(ids)), on_damage=told):
        if raw.id not in came:
            yield raw


def _nobody(ids: Iterable[str], where: str, near: str = "") -> NoInputError:
    named = ", ".join(islice(ids, 5))
    remedy = near or "check the id; `fhir-screen screen` lists all"
    return NoInputError(f"none of these patients is here: {named}", where=where, remedy=remedy)


@dataclass(frozen=True, slots=True)
class Screened:
    """One patient, done: a decision for each trial, the anchors it rests on (by trial), and what is missing.

    ``unmapped`` are the codings of his record, system|code, that the mappings do not know. ``defect`` says where our own
    code failed on him, and holds nothing of the patient; then there is no decision.
    """

    patient: str
    decisions: tuple[Decision, ...] = ()
    anchors: Mapping[str, Mapping[str, date]] = field(default_factory=dict)
    gaps: tuple[Gap, ...] = ()
    unmapped: frozenset[str] = frozenset()
    defect: str = ""


def screenings(charts: Iterable[RawPatient], study: Study, request: Request) -> Iterator[Screened]:
    """Every patient put to every trial; a defect of ours costs the one patient on whom it shows, and is told."""
    return (done for _, done in screenings_with_records(charts, study, request))


def screenings_with_records(
    charts: Iterable[RawPatient], study: Study, request: Request
) -> Iterator[tuple[PatientRecord | None, Screened]]:
    """The same, each with the record that was screened, in the time zone of the first trial; None after a defect.

    A night does not carry records along: what it spools to disk holds no more of a patient than it has to.
    """
    kinds = kinds_looked_at(study.trials)
    for raw in charts:
        try:
            done = _screened(raw, study, request, kinds)
        except Exception as error:  # noqa: BLE001 - the patient is counted and named; the others go on
            done = None, Screened(raw.id, defect=place_of(error))
        yield done


def _screened(
    raw: RawPatient, study: Study, request: Request, kinds: frozenset[str]
) -> tuple[PatientRecord | None, Screened]:
    records: dict[str, PatientRecord] = {}
    decisions: list[Decision] = []
    anchors: dict[str, Mapping[str, date]] = {}
    for trial in study.trials:
        zone = study.zone(trial)
        if str(zone) not in records:
            records[str(zone)] = read(raw, study.shapes, study.terms, zone)
        record, day = records[str(zone)], request.day(study, trial)
        known = {**study.site.anchors, **anchors_of(record, trial, request.anchors.of(raw.id), day)}
        anchors[trial.id] = known
        decisions.append(screen(trial, record, study.terms.vocabulary, day, known))
    gaps = {gap: None for record in records.values() for gap in record.gaps if gap.reason is Reason.INCOMPLETE_FETCH}
    first = next(iter(records.values()))  # which codes are unknown does not depend on the zone
    return first, Screened(raw.id, tuple(decisions), anchors, tuple(gaps), unmapped(first, kinds))


def place_of(error: Exception) -> str:
    """Where our code failed, without the exception's own words: they may quote the patient."""
    frames = [frame for frame in extract_tb(error.__traceback__) if "fhir_screen" in frame.filename]
    where = f" at {frames[-1].filename.rpartition('fhir_screen/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"a defect in fhir-screen ({type(error).__name__}{where})"


def everybody(_: Truth) -> bool:
    return True


def candidates_only(population: Truth) -> bool:
    """Without `--all`, patients who surely do not have the index disease are left out."""
    return population is not Truth.FALSE


@dataclass(slots=True)
class Night:
    """What a night has done so far: the counts of its summary (contract, `run --json`); patients, unless it says else.

    ``trials`` counts verdicts of patients who have, or may have, the index disease; ``unknown`` unanswered atoms;
    ``unmapped`` patients by coding, system|code, that the mappings do not know.
    """

    pulled: int = 0
    screened: int = 0
    lost: int = 0
    outcome: Outcome = field(default_factory=Outcome)
    duplicates: int = 0
    trials: dict[str, dict[str, int]] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    unmapped: dict[str, int] = field(default_factory=dict)

    def heard(self, one: Screened) -> None:
        self.pulled += 1
        self.screened += not one.defect
        self.lost += bool(one.defect)
        for decision in one.decisions:
            self._decided(decision)
        for coding in sorted(one.unmapped):
            if coding in self.unmapped or len(self.unmapped) < _CODINGS:
                self.unmapped[coding] = self.unmapped.get(coding, 0) + 1

    def _decided(self, decision: Decision) -> None:
        counts = self.trials.setdefault(decision.trial.id, {verdict.value: 0 for verdict in Verdict})
        if not candidates_only(decision.population):
            return
        counts[decision.verdict.value] += 1
        reasons = [atom.answer.reason for criterion in decision.criteria for atom in criterion.atoms]
        for reason in reasons:
            if reason is not None:
                self.unknown[reason.value] = self.unknown.get(reason.value, 0) + 1

    def recorded(self, one: Recorded) -> None:
        self.outcome += Outcome.of([one])
        self.duplicates += isinstance(one.error, SafetyStop)


def night(done: Iterable[Screened], sink: Sink, so_far: Night) -> Iterator[Recorded]:
    """Records decisions, a portion of patients at a time, so that memory does not grow with the night.

    Raises SafetyStop where one id comes twice: two people's decisions would be written as one person's.
    """
    seen: set[str] = set()
    many = iter(done)
    while portion := list(islice(many, PATIENTS_PER_SEARCH)):
        for one in portion:
            if one.patient in seen:
                raise _two_people(one.patient)
            seen.add(one.patient)
            so_far.heard(one)
        for recorded in sink.record([decision for one in portion for decision in one.decisions]):
            so_far.recorded(recorded)
            yield recorded


def _two_people(patient: str) -> SafetyStop:
    return SafetyStop(
        f"duplicate identity: the source holds two Patients with the id {patient}",
        remedy="give each a source of its own; nothing was written for either",
    )


def is_server(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))

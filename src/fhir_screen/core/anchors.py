"""Days that a record itself names: when the patient consented to this study, and when he was enrolled in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Final

from fhir_screen.core.dates import END_OF_TIME
from fhir_screen.core.facts import Fact, PatientRecord, Standing
from fhir_screen.core.trials import Trial

CONSENT, ENROLMENT = "consent_date", "enrolment_date"

_ON_STUDY: Final = frozenset({"on-study", "on-study-intervention", "on-study-observation"})
_RESEARCH: Final = "research"


def anchors_of(
    record: PatientRecord, trial: Trial, given: Mapping[str, date], on: date = END_OF_TIME
) -> dict[str, date]:
    """The anchors of one patient: what a person gave, else what the record says, else unset (contract, `--anchors`).

    The consent date is that of the first active research Consent that names this study, else of the Consent behind
    his ResearchSubject; the enrolment date is the start of that subject's period once he is on study. A date that is
    vague, or later than ``on``, sets nothing.
    """
    subjects = [fact for fact in _holding(record, "ResearchSubject") if _names_study(fact, trial)]
    waiting = [fact for fact in record.planned if fact.kind == "ResearchSubject" and _names_study(fact, trial)]
    consented = _first_day(_consents(record, trial), on) or _first_day(_behind(record, [*subjects, *waiting]), on)
    enrolled = _first_day((fact for fact in subjects if fact.states & _ON_STUDY), on)
    found = {CONSENT: consented, ENROLMENT: enrolled}
    return {**{name: day for name, day in found.items() if day is not None}, **given}


def _holding(record: PatientRecord, kind: str) -> Iterator[Fact]:
    return (fact for fact in record.by_kind.get(kind, ()) if fact.standing is Standing.HOLDS)


def _names_study(fact: Fact, trial: Trial) -> bool:
    """The codes of such facts are the study's identifiers, their texts its title."""
    own = {name.casefold() for name in trial.names}
    return not own.isdisjoint(name.casefold() for name in (*(coding.code.code for coding in fact.codings), *fact.texts))


def _consents(record: PatientRecord, trial: Trial) -> Iterator[Fact]:
    return (fact for fact in _holding(record, "Consent") if _names_study(fact, trial) and _is_for_research(fact))


def _is_for_research(fact: Fact) -> bool:
    """A consent to treatment is none to research, even where it names the study; one without a scope is not refused."""
    scopes = {coding.code.code.lower() for coding in fact.facets.get("scope", ())}
    return not scopes or _RESEARCH in scopes


def _behind(record: PatientRecord, subjects: Iterable[Fact]) -> Iterator[Fact]:
    for subject in subjects:
        for reference in subject.links.get("consent", ()):
            for fact in record.by_reference.get(reference, ()):
                if fact.kind == "Consent" and fact.standing is Standing.HOLDS:
                    yield fact


def _first_day(facts: Iterable[Fact], on: date) -> date | None:
    starts = (fact.period.start for fact in facts if fact.period is not None)
    return min((start.first for start in starts if start.exact and start.first <= on), default=None)

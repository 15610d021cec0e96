"""From answers to one decision per patient and trial, and from a decision to what may be written (rules R16, R17)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from fhir_screen.core.answers import Answer, Evidence
from fhir_screen.core.truth import Truth, text_of


class Role(StrEnum):
    INCLUSION = "inclusion"
    EXCLUSION = "exclusion"


class AtomClass(StrEnum):
    """Who may answer: the machine, the machine with a person's confirmation, or a person alone (rule R17)."""

    AUTOMATIC = "automatic"
    PROXY = "proxy"
    MANUAL = "manual"


class Effect(StrEnum):
    """What a criterion's answer does to eligibility."""

    SUPPORTS = "supports"
    BLOCKS = "blocks"
    UNDETERMINED = "undetermined"


class Verdict(StrEnum):
    """The machine never says "eligible": what is left open is for people."""

    LIKELY_ELIGIBLE = "likely-eligible"
    NEEDS_REVIEW = "needs-review"
    NOT_ELIGIBLE = "not-eligible"


@dataclass(frozen=True, slots=True)
class TrialIdentity:
    """A trial as the record and the reader know it; ``closed`` where its registry status ends recruitment (R16)."""

    id: str
    version: str
    title: str
    status: str = "active"
    closed: bool = False
    identifiers: tuple[tuple[str, str], ...] = ()
    mapping_digest: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """The first day on which time alone makes an answer another one, and that one (None: it does not apply any more)."""

    day: date
    to: Truth | None


@dataclass(frozen=True, slots=True)
class AtomResult:
    """The answer to one atom; ``asked`` where a person has to give it, then ``question`` is what to ask.

    ``text_ko`` and ``question_ko`` say it to readers of Korean; like all words they are no part of the digest.
    """

    id: str
    text: str
    question: str
    atom_class: AtomClass
    answer: Answer
    asked: bool = False
    hints: tuple[str, ...] = ()
    change: Change | None = None
    text_ko: str = ""
    question_ko: str = ""

    @property
    def changes_on(self) -> date | None:
        return self.change.day if self.change else None

    @property
    def flags(self) -> tuple[str, ...]:
        return tuple(sorted(self.answer.flags))


@dataclass(frozen=True, slots=True)
class CriterionResult:
    """One criterion: its truth as written, and its effect once inclusion or exclusion is considered (rule R1)."""

    id: str
    role: Role
    text: str
    answer: Answer
    effect: Effect
    atoms: tuple[AtomResult, ...]
    open_question: bool = False
    """It keeps the patient from being likely-eligible although it does not block (contract, row `verdict`)."""
    text_ko: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What one night says about one patient and one trial. Pure data: no clock reading, no path, no server."""

    trial: TrialIdentity
    patient: str
    as_of: date
    population: Truth
    verdict: Verdict
    criteria: tuple[CriterionResult, ...]
    blocked_by: str | None = None
    next_change: date | None = None
    death: Evidence | None = None
    """Where the record says that the patient has died."""

    @property
    def digest(self) -> str:
        """The hash that decides "unchanged": criteria, answers, evidence versions and mapping, never the day."""
        content = {
            "trial": [self.trial.id, self.trial.version, self.trial.mapping_digest],
            "patient": self.patient,
            "verdict": self.verdict,
            "population": str(self.population),
            "blocked_by": self.blocked_by,
            "criteria": [_criterion_content(criterion) for criterion in self.criteria],
        }
        text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return "sha256-" + hashlib.sha256(text.encode()).hexdigest()


def _criterion_content(criterion: CriterionResult) -> list[object]:
    return [criterion.id, text_of(criterion.answer.truth), criterion.effect, [_atom_content(a) for a in criterion.atoms]]


def _atom_content(atom: AtomResult) -> list[object]:
    """What the answer says and stands on; its words, its flags of the day and its dates are not part of the decision."""
    evidence = sorted({_source(one) for one in atom.answer.evidence})
    return [atom.id, text_of(atom.answer.truth), atom.answer.reason, evidence]


def _source(evidence: Evidence) -> tuple[str, ...]:
    """A version of a resource says all; what we read out of it (an age, a span up to today) may move with the day."""
    if evidence.version is not None:
        return (evidence.reference, evidence.version)
    return (evidence.reference, "", evidence.code, evidence.value, evidence.date)


class SubjectStanding(StrEnum):
    """Whose the ResearchSubject on the server is."""

    NONE = "none"
    OURS = "ours"
    """The machine wrote it and nobody has touched it since."""
    HUMAN = "human"
    """A person changed it, or somebody else made one for the same patient and study."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the server holds now for one patient and trial, read just before the write."""

    digest: str | None = None
    """The decision that our Observation carries; None where there is no Observation of ours."""
    observation_human: bool = False
    """A person made our Observation final or amended, or took our mark off it."""
    subject: SubjectStanding = SubjectStanding.NONE
    subject_status: str | None = None


class ObservationAction(StrEnum):
    NOTHING = "nothing"
    """The patient does not have the index disease, and nothing was ever said about him."""
    CREATE = "create"
    UPDATE = "update"
    UNCHANGED = "unchanged"
    KEEP_HUMAN = "keep-human"


class SubjectAction(StrEnum):
    NOTHING = "nothing"
    CREATE = "create"
    UPDATE = "update"
    UNCHANGED = "unchanged"
    KEEP_HUMAN = "keep-human"


@dataclass(frozen=True, slots=True)
class Action:
    """What may be written: never anything over a person's decision, never anything that already stands."""

    observation: ObservationAction
    subject: SubjectAction
    subject_status: str | None = None

    @property
    def writes(self) -> bool:
        changing = {ObservationAction.CREATE, ObservationAction.UPDATE}
        return self.observation in changing or self.subject in {SubjectAction.CREATE, SubjectAction.UPDATE}


_STATUS_FOR = {Verdict.LIKELY_ELIGIBLE: "candidate", Verdict.NEEDS_REVIEW: "potential-candidate"}


class ClosedStudies(StrEnum):
    """Whether candidates are written for studies that no longer recruit (site key `write_closed_studies`)."""

    OBSERVATION_ONLY = "observation-only"
    CANDIDATES_TOO = "candidates-too"


def action(decision: Decision, standing: Standing, closed: ClosedStudies = ClosedStudies.OBSERVATION_ONLY) -> Action:
    """Decides what this decision may write over what stands; a pure function, so that a plan and a run agree."""
    subject, status = _subject_action(decision, standing, closed)
    return Action(_observation_action(decision, standing), subject, status)


def _observation_action(decision: Decision, standing: Standing) -> ObservationAction:
    if standing.observation_human:
        return ObservationAction.KEEP_HUMAN
    if standing.digest is None:
        outside = decision.population is Truth.FALSE
        return ObservationAction.NOTHING if outside else ObservationAction.CREATE
    return ObservationAction.UNCHANGED if standing.digest == decision.digest else ObservationAction.UPDATE


def _subject_action(decision: Decision, standing: Standing, closed: ClosedStudies) -> tuple[SubjectAction, str | None]:
    if standing.subject is SubjectStanding.HUMAN:
        return SubjectAction.KEEP_HUMAN, standing.subject_status
    wanted = _STATUS_FOR.get(decision.verdict)
    if decision.trial.closed and closed is ClosedStudies.OBSERVATION_ONLY:
        wanted = None
    if standing.subject is SubjectStanding.NONE:
        return (SubjectAction.NOTHING, None) if wanted is None else (SubjectAction.CREATE, wanted)
    if wanted is None or wanted == standing.subject_status:
        return SubjectAction.UNCHANGED, standing.subject_status
    return SubjectAction.UPDATE, wanted

"""What a decision changes over what stands, and because of which criteria: a plan is made of these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fhir_screen.core.decision import Action, Decision, Effect, ObservationAction, SubjectAction, Verdict
from fhir_screen.fhir.datatypes import objects
from fhir_screen.fhir.identity import HOME, patient_id
from fhir_screen.fhir.raw import Json
from fhir_screen.fhir.writer import Part, component


@dataclass(frozen=True, slots=True)
class Turn:
    """One criterion, and the effect that it had and has; alike where it rests on something else now.

    ``before`` None: nothing stands yet.
    """

    criterion: str
    before: str | None
    now: str


@dataclass(frozen=True, slots=True)
class Change:
    """What a decision did, or would do: the words for a plan, and what is counted."""

    patient: str
    trial: str
    action: Action
    verdict: str
    verdict_before: str | None = None
    kept: tuple[str, ...] = ()
    """Why something was left to people; empty where nothing was."""
    blocked_by: str | None = None
    """What ends a screening whatever the criteria say: deceased."""
    because: tuple[Turn, ...] = ()
    """The criteria that turned it; empty where nothing is written, or only versions of criteria or evidence moved."""

    @property
    def created(self) -> bool:
        return self.action.observation is ObservationAction.CREATE

    @property
    def updated(self) -> bool:
        return self.action.writes and not self.created

    @property
    def kept_human(self) -> bool:
        return ObservationAction.KEEP_HUMAN is self.action.observation or (
            SubjectAction.KEEP_HUMAN is self.action.subject
        )

    @property
    def appears(self) -> bool:
        """Nobody was told of this candidate before."""
        return self.action.writes and self._listed_now and not self._listed_before

    @property
    def disappears(self) -> bool:
        """A candidate of whom people were told, and who is none any more."""
        return self.action.writes and self._listed_before and not self._listed_now

    @property
    def _listed_now(self) -> bool:
        return self.verdict != Verdict.NOT_ELIGIBLE

    @property
    def _listed_before(self) -> bool:
        return self.verdict_before not in {None, str(Verdict.NOT_ELIGIBLE)}


def change(part: Part) -> Change:
    return Change(
        patient=patient_id(part.decision.patient),
        trial=part.decision.trial.id,
        action=part.action,
        verdict=str(part.decision.verdict),
        verdict_before=part.held.verdict,
        kept=part.held.kept,
        blocked_by=part.decision.blocked_by,
        because=tuple(_because(part.decision, part.held.result)) if part.action.writes else (),
    )


def _because(decision: Decision, result: Json | None) -> Iterator[Turn]:
    """Where nothing stands: what blocks, else what a person has to look at. Else what differs, turned effects first."""
    if result is None:
        blocks = [c for c in decision.criteria if c.effect is Effect.BLOCKS]
        for criterion in blocks or [c for c in decision.criteria if c.open_question]:
            yield Turn(criterion.id, None, str(criterion.effect))
        return
    stood = _components(result, f"{HOME}/criterion/{decision.trial.id}")
    turned: list[Turn] = []
    moved: list[Turn] = []
    for criterion in decision.criteria:
        before, now = stood.get(criterion.id, {}), component(decision.trial, criterion)
        if before == now:
            continue
        turn = Turn(criterion.id, _effect(before), str(criterion.effect))
        (moved if turn.before == turn.now else turned).append(turn)
    yield from turned or moved


def _components(result: Json, system: str) -> Mapping[str, Json]:
    """The components of our Observation by the id of their criterion."""
    return {code: one for one in objects(result.get("component")) if (code := _coded(one.get("code"), system)) is not None}


def _effect(component: Json) -> str | None:
    return next((code for one in objects(component.get("interpretation")) if (code := _coded(one, f"{HOME}/effect")) is not None), None)


def _coded(concept: object, system: str) -> str | None:
    """The code of this system in a CodeableConcept."""
    ours = (one for one in objects(concept.get("coding") if isinstance(concept, Mapping) else None) if one.get("system") == system)
    return next((str(one.get("code")) for one in ours), None)

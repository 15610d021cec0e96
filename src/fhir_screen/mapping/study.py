"""What a night is about: the compiled trials, the words and shapes they need, and the hospital's own policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fhir_screen.core.decision import ClosedStudies
from fhir_screen.core.trials import Trial
from fhir_screen.core.walk import kinds_of
from fhir_screen.errors import MappingError
from fhir_screen.mapping.shapes import Shapes
from fhir_screen.mapping.vocabulary import Terms
from fhir_screen.mapping.yamlfile import Document


@dataclass(frozen=True, slots=True)
class Site:
    """What a hospital says about itself: its name in identities, its time zone, its policies."""

    id: str = "default"
    zone: str = ""
    closed_studies: ClosedStudies = ClosedStudies.OBSERVATION_ONLY
    anchors: Mapping[str, date] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Study:
    """All that a night needs to know: trials, vocabulary, shapes and site."""

    trials: tuple[Trial, ...]
    terms: Terms
    shapes: Shapes
    site: Site
    asked_for: frozenset[str] = frozenset()
    """The concepts that a rule names, whatever the parameters choose; a code of any other decides nothing."""

    @property
    def kinds(self) -> frozenset[str]:
        """The resource types that the trials' rules look at, and those that tell whether silence means no (rule R4)."""
        ruled = frozenset[str]().union(*(kinds_of(trial) for trial in self.trials))
        also = frozenset[str]().union(*(self.shapes.resources[kind].also for kind in ruled if kind in self.shapes.resources))
        return ruled | also | {"Encounter", "Condition"}

    def zone(self, trial: Trial) -> ZoneInfo:
        return zone_of(self.site.zone) if self.site.zone else ZoneInfo(str(trial.zone))


def zone_of(name: str, document: Document | None = None) -> ZoneInfo:
    """A time zone by its name. Raises MappingError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as cause:
        where = document.where(("time_zone",)) if document else ""
        raise MappingError(f"unknown time zone {name!r}", where=where, remedy="e.g. Asia/Seoul") from cause

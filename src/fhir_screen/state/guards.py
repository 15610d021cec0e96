"""When a night differs so much from the last good one that a person has to look before anything is written."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from fhir_screen.core.decision import Decision
from fhir_screen.core.truth import Truth
from fhir_screen.errors import SafetyStop

FLIPPED: Final = Fraction(1, 5)
"""More than this share of the patients of both nights has another verdict."""
UNKNOWN_ROSE: Final = Fraction(1, 4)
"""A criterion is unknown for a share of patients that rose by more than this."""
SHRUNK: Final = Fraction(1, 10)
"""More than this share of the last good night's cohort is not there any more."""
SINGLE: Final = 1
"""One patient's change is that patient's story, whatever share of a small cohort he is."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """One trial's night: verdicts of the patients who have, or may have, its disease, and the unknowns by criterion."""

    version: str = ""
    verdicts: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    outside: list[str] = field(default_factory=list)
    """Patients of an earlier night who do not have the disease any more: what stands for them is looked at again."""

    def count(self, decision: Decision, listed: Container[str] = ()) -> None:
        if decision.population is Truth.FALSE:
            if decision.patient in listed:
                self.outside.append(decision.patient)
            return
        self.verdicts[decision.patient] = decision.verdict.value
        for criterion in decision.criteria:
            if criterion.answer.truth is Truth.UNKNOWN:
                self.unknown[criterion.id] = self.unknown.get(criterion.id, 0) + 1


Cohorts = Mapping[str, Cohort]
"""By trial."""


def alarms(before: Cohorts, now: Cohorts) -> tuple[str, ...]:
    """What is unlike the last good night, in words with counts and without patients; empty where all is as usual."""
    both = sorted(before.keys() & now.keys())
    return tuple(words for trial in both for words in _alarms(before[trial], now[trial], trial))


def heed(found: Iterable[str]) -> None:
    """Raises SafetyStop where anything is unlike the last good night."""
    words = "; ".join(found)
    if words:
        raise SafetyStop(
            f"nothing was written: {words}",
            remedy="look at `fhir-screen plan`; where the change is right, run again with --accept-change REASON",
        )


def _alarms(before: Cohort, now: Cohort, trial: str) -> Iterator[str]:
    yield from _flips(before, now, trial)
    yield from _shrinking(before, now, trial)
    yield from _unknowns(before, now)


def _flips(before: Cohort, now: Cohort, trial: str) -> Iterator[str]:
    both = before.verdicts.keys() & now.verdicts.keys()
    flipped = sum(before.verdicts[patient] != now.verdicts[patient] for patient in both)
    if flipped > SINGLE and flipped > FLIPPED * len(both):
        versions = f" (criteria {before.version} -> {now.version})" if before.version != now.version else ""
        yield f"{trial}: {flipped} of {len(both)} patients have another verdict than in the last good night{versions}"


def _shrinking(before: Cohort, now: Cohort, trial: str) -> Iterator[str]:
    was, is_now = len(before.verdicts), len(now.verdicts)
    if was - is_now > SINGLE and was - is_now > SHRUNK * was:
        yield f"{trial}: the cohort shrank from {was} to {is_now} patients"


def _unknowns(before: Cohort, now: Cohort) -> Iterator[str]:
    was, is_now = len(before.verdicts), len(now.verdicts)
    if not was or not is_now:
        return
    for criterion, count in sorted(now.unknown.items()):
        known_before = before.unknown.get(criterion, 0)
        if count - known_before > SINGLE and Fraction(count, is_now) - Fraction(known_before, was) > UNKNOWN_ROSE:
            yield f"{criterion}: unknown for {count} of {is_now} patients, before for {known_before} of {was}"

"""What a night wrote, or a plan would write, as lines for a person and as the summary for a script."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Protocol

SCHEMA = "fhir-screen/run/1"

_LISTED: Final = 50
"""So many unknown codings stand in the summary, those of most patients; `fhir-screen codes` has them all."""
_NAMED: Final = 3
"""So many of them, or of criteria, a person is told in one line."""


class Counted(Protocol):
    """The counts of a night, as `nightly.Night` keeps them."""

    pulled: int
    screened: int
    trials: dict[str, dict[str, int]]
    unknown: dict[str, int]
    unmapped: dict[str, int]

    @property
    def outcome(self) -> Any: ...


def summary(night: Counted, lost: int, incomplete: Mapping[str, Collection[str]], *, dry: bool) -> dict[str, Any]:
    """The summary of the contract; pulled and screened are patients, created to conflicts decisions.

    ``lost`` is what could not be read or screened; ``incomplete`` whose records have which hole. ``unmapped`` are
    patients by coding that the mappings do not know, most frequent first; ``unmapped_codes`` how many such there are.
    """
    frequent = sorted(night.unmapped.items(), key=lambda item: (-item[1], item[0]))
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "pulled": night.pulled,
        "screened": night.screened,
        "failed": night.outcome.failed + lost,
        "created": night.outcome.created,
        "updated": night.outcome.updated,
        "unchanged": night.outcome.unchanged,
        "kept_human": night.outcome.kept_human,
        "conflicts": night.outcome.conflicts,
        "incomplete": {what: len(patients) for what, patients in sorted(incomplete.items())},
        "unknown": dict(sorted(night.unknown.items())),
        "unmapped": dict(frequent[:_LISTED]),
        "unmapped_codes": len(frequent),
        "trials": {trial: dict(counts) for trial, counts in sorted(night.trials.items())},
    }
    return document | ({"dry_run": True} if dry else {})


def lines(document: Mapping[str, Any], changes: Iterable[Any], *, dry: bool) -> Iterator[str]:
    """The changes one by one, then the counts."""
    for change in changes:
        told = _told(change)
        if told:
            yield f"{'would ' if dry else ''}{told}"
    yield (
        f"{document['pulled']} patients pulled, {document['screened']} screened: {document['created']} "
        f"{'to create' if dry else 'created'}, {document['updated']} {'to update' if dry else 'updated'}, "
        f"{document['unchanged']} unchanged, {document['kept_human']} kept because a person or another site decided, "
        f"{document['conflicts']} conflicts, {document['failed']} failed"
    )
    for trial, counts in document["trials"].items():
        yield f"{trial}: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
    if document["unmapped_codes"]:
        named = islice(document["unmapped"].items(), _NAMED)
        often = ", ".join(f"{coding} ({patients} {'patient' if patients == 1 else 'patients'})" for coding, patients in named)
        yield f"codes that the mappings do not know: {document['unmapped_codes']}, most often {often}; see `fhir-screen codes`"


def _told(change: Any) -> str:
    """One line: what becomes of this decision, and why; empty where nothing does."""
    kept = f"kept because a person or another site decided: {'; '.join(change.kept)}" if change.kept else ""
    parts = [_moved(change), _because(change), kept]
    told = "; ".join(part for part in parts if part)
    return f"{_word(change)} {change.patient} {change.trial} {told}" if told else ""


def _word(change: Any) -> str:
    if not change.action.writes:
        return "keep:     "
    if change.appears:
        return "appear:   "
    if change.disappears:
        return "disappear:"
    return "record:   " if change.created else "change:   "


def _moved(change: Any) -> str:
    if not change.action.writes:
        return ""
    if change.created:
        subject = f", ResearchSubject {change.action.subject_status}" if change.action.subject.value == "create" else ""
        return f"{change.verdict}{subject}"
    before = change.verdict_before or "?"
    return f"still {change.verdict}" if before == change.verdict else f"{before} -> {change.verdict}"


def _because(change: Any) -> str:
    """What turned, and to what; a criterion with the same effect as before says it of something else."""
    if change.blocked_by and change.action.writes:
        return f"because {change.blocked_by}"
    if not change.because:
        return ""
    by_turn: dict[str, list[str]] = {}
    for turn in change.because:
        by_turn.setdefault(_turned(turn.before, turn.now), []).append(turn.criterion)
    return "because " + ", ".join(f"{_named(criteria)} {how}" for how, criteria in by_turn.items())


def _turned(before: str | None, now: str) -> str:
    if before == now:
        return "said otherwise"
    return now if before is None else f"{before} -> {now}"


def _named(criteria: Sequence[str]) -> str:
    more = f" and {len(criteria) - _NAMED} more" if len(criteria) > _NAMED else ""
    return f"{', '.join(criteria[:_NAMED])}{more}"


def listed(changes: Iterable[Any]) -> list[dict[str, Any]]:
    """The changes for a script, beside the summary of a plan."""
    return [
        {
            "patient": f"Patient/{one.patient}",
            "trial": one.trial,
            "action": _word(one).strip(" :"),
            "from": one.verdict_before,
            "to": one.verdict,
            "blocked_by": one.blocked_by,
            "because": [{"criterion": turn.criterion, "from": turn.before, "to": turn.now} for turn in one.because],
            "kept": list(one.kept),
        }
        for one in changes
        if one.action.writes or one.kept
    ]

"""All words that the reports say to a person, as one frozen catalogue a language; a report is given one, and asks no more.

The protocol's words are not among them: they stay as the registry has them, and so do values, dates and sources. A
language may put a label of the mapping beside them (``label``), and ask its own ``question`` of a person.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from fhir_screen.core.decision import AtomResult, CriterionResult, Role, Verdict
from fhir_screen.core.truth import Reason, Truth

SAID_ALREADY: Final = (
    "no_evidence", "explicit_negative", "needs_confirmation", "stale", "conflicting", "censored", "unit_suspect",
    "unit_unmappable", "partial_date", "masked",
)  # fmt: skip
"""Flags whose meaning stands in the sentence of the answer, or in what would settle it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Every key has a value in every language: a missing field is a type error, a missing entry is refused at import.

    Words in braces are filled in; texts of patients and protocols are only ever what is filled in.
    """

    lang: str
    label: Callable[[CriterionResult | AtomResult], str]
    """What the mapping says beside the protocol's words; empty where it says nothing."""
    question: Callable[[AtomResult], str]

    # --- answers
    verdict: Mapping[Verdict, str]
    answer: Mapping[Truth | None, str]
    settles: Mapping[Reason, str]
    """What would settle an unknown, by its reason …"""
    settled_by: Callable[[str, str], str]
    """… given what it is by its reason, and what the rule says that it wants, in English."""
    flags: Mapping[str, str]
    """What a flag says, where its name does not; empty where the answer says it already."""
    kind: Mapping[Role, str]
    role: Mapping[Role, str]
    blocked: Mapping[str, str]
    holds: str
    does_not_hold: str
    as_it_should: str
    to_confirm: str
    probably: str
    only_people: str
    disease_unknown: str
    more: str
    last_of_list: str
    everything: str
    confirm: str

    # --- the verdict in a sentence, and what comes next
    refused_because: str
    refused_by_one: str
    refused_by_several: str
    open_to_review: str
    left_to_people: str
    nothing_because: str
    look_again: str
    nothing_to_do: str
    look_at_everything: str

    # --- tables
    columns: tuple[str, str, str, str, str, str]
    sums: str
    nobody: str
    csv_start: str
    """What a spreadsheet needs to see before the first cell to read the signs of this language."""
    csv_columns: tuple[str, str, str, str, str, str, str, str, str, str, str, str, str]
    csv_verdict: Mapping[Verdict, str]
    csv_truth: Mapping[Truth, str]

    # --- notes and pages
    note_title: str
    as_of: str
    known_days: str
    day_names: Mapping[str, str]
    """Names of known days; one that is not here is said as it is written."""
    blocks: str
    open: str
    people: str
    speaks_for: str
    to_settle: str
    by_time: str
    hint: str
    noted: str
    version: str
    screening: str
    explanation: str
    on_day: str
    made_by: str
    first_heading: str
    list_heading: str
    funnel_heading: str
    nobody_waits: str
    candidates: str
    blocked_anyway: str
    step: str

    def __post_init__(self) -> None:
        tables = (
            (self.verdict, Verdict), (self.answer, (None, *Truth)), (self.settles, Reason), (self.kind, Role),
            (self.role, Role), (self.csv_verdict, Verdict), (self.csv_truth, Truth),
        )  # fmt: skip
        for table, keys in tables:
            if missing := set(keys) - set(table):
                raise ValueError(f"the catalogue {self.lang!r} has no word for {missing}")

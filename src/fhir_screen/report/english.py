"""The reports in English."""

from __future__ import annotations

from typing import Final

from fhir_screen.core.decision import AtomResult, CriterionResult, Role, Verdict
from fhir_screen.core.truth import Reason, Truth, text_of
from fhir_screen.report.catalogue import SAID_ALREADY, Catalogue


def _label(_: CriterionResult | AtomResult) -> str:
    return ""


def _question(atom: AtomResult) -> str:
    return atom.question


def _settled_by(_: str, wanted: str) -> str:
    return wanted


ENGLISH: Final = Catalogue(
    lang="en",
    label=_label,
    question=_question,
    verdict={
        Verdict.LIKELY_ELIGIBLE: "likely eligible",
        Verdict.NEEDS_REVIEW: "needs review",
        Verdict.NOT_ELIGIBLE: "not eligible",
    },
    answer={None: "does not apply", Truth.TRUE: "yes", Truth.FALSE: "no", Truth.UNKNOWN: "not known"},
    settles={
        Reason.INCOMPLETE_FETCH: "part of the record could not be fetched; screen again when it can",
        Reason.MASKED: "part of the record is masked; somebody who may see it has to look",
        Reason.CONFLICTING: "two entries contradict each other; a person has to say which one holds",
        Reason.UNIT_SUSPECT: "the value is not plausible in its unit; have the result checked",
        Reason.UNIT_UNMAPPABLE: "the unit is not understood; add its spelling to the site file",
        Reason.NO_REFERENCE_RANGE: "the result has no upper limit of normal; add the laboratory's to the site file",
        Reason.CENSORED: "the result is only a bound; an exact value would settle it",
        Reason.PARTIAL_DATE: "the date is incomplete; the full date would settle it",
        Reason.STATUS: "the entry's status leaves it open; confirm or withdraw the entry",
        Reason.UNMAPPED_CODE: "the entry's code is not known here; map it in the site file",
        Reason.STALE: "the last value is too old; a new one would settle it",
        Reason.ANCHOR_MISSING: "a planned date is not set; once it is, this can be answered",
        Reason.NO_DATA: "nothing on record; an entry would settle it",
        Reason.POLICY: "left to a person on purpose",
        Reason.PROXY: "the record speaks of it only indirectly; a person has to look",
        Reason.MANUAL: "a person has to answer",
    },
    settled_by=_settled_by,
    flags={
        **dict.fromkeys(SAID_ALREADY, ""),
        "dated_ahead": "an entry is dated after the screening day",
        "unmapped_in_window": "there are entries of this kind whose code is not known here",
        "verification_missing": "diagnosis without a verification status",
        "record_depth_short": "the record begins inside the time that was searched",
        "duplicate_id": "one id stands for two different entries",
        "preliminary_pending": "a preliminary result is there",
        "order_only": "known from an order alone",
        "inferred": "not observed itself: computed, or concluded from another entry",
        "issued": "dated by its release",
        "uln_source=site_table": "upper limit of normal from the site file",
        "uln_source=interpretation": "by the laboratory's own flag, without a reference range",
        "retest_count": "more results than the protocol permits",
        "reassess_at_anchor": "look again once the day is set",
        "washout_pending": "a wash-out is running",
        "borderline_conversion": "within 0.5 % of the limit after conversion of the unit",
        "unit_rescaled": "a fraction, read as a percentage",
    },
    kind={Role.INCLUSION: "inclusion", Role.EXCLUSION: "exclusion"},
    role={Role.INCLUSION: "must hold", Role.EXCLUSION: "must not hold"},
    blocked={"deceased": "deceased"},
    holds="holds",
    does_not_hold="does not hold",
    as_it_should="{holds}, as it should",
    to_confirm="{conclusion}; a person has to confirm it",
    probably="probably {holds}; a person has to confirm",
    only_people="only people's answers are open",
    disease_unknown="whether the patient has the disease is not known",
    more="and {count} more",
    last_of_list=" and {id}",
    everything="all",
    confirm="a person has to confirm it",
    refused_because="not eligible ({why}).",
    refused_by_one="not eligible: {ids} blocks.",
    refused_by_several="not eligible: {ids} block.",
    open_to_review="needs review: nothing blocks, but {ids} cannot be answered from the record.",
    left_to_people="likely eligible: nothing blocks; {count} questions are left to people.",
    nothing_because="nothing: {why}",
    look_again="look again on {day}",
    nothing_to_do="nothing, unless the record changes",
    look_at_everything="look at the whole record",
    columns=("Patient", "Trial", "Verdict", "Why, in the protocol's words", "Open", "Next"),
    sums="{count} {verdict}",
    nobody="Nobody here is in the population of these trials.",
    csv_start="",
    csv_columns=(
        "trial", "trial_version", "patient", "as_of", "population", "verdict", "blocked_by",
        "blocking", "to_review", "open_questions", "why", "next_step", "next_change",
    ),
    csv_verdict={verdict: verdict.value for verdict in Verdict},
    csv_truth={truth: text_of(truth) for truth in Truth},
    note_title="{patient} in {trial}, {title}",
    as_of="As of {day}: {verdict}",
    known_days="Known dates: {days}",
    day_names={},
    blocks="What blocks",
    open="What the record leaves open",
    people="What people have to answer",
    speaks_for="What speaks for the patient",
    to_settle="To settle it: {what}.",
    by_time="By time alone the answer becomes “{answer}” on {day}.",
    hint="hint: {text}",
    noted="noted: {flags}",
    version=" version {number}",
    screening="Screening",
    explanation="Explanation",
    on_day="{title} as of {days}",
    made_by="Made by fhir-screen from the record alone. It never says “eligible”: that is for people.",
    first_heading="What needs a person first",
    list_heading="The list, with reasons in the protocol's words",
    funnel_heading="The funnel, criterion by criterion",
    nobody_waits="Nobody waits for a person.",
    candidates="{count} candidates",
    blocked_anyway="{count} of them deceased",
    step="keeps out {out}, it alone {alone}; open for {open}; {remain} remain",
)  # fmt: skip

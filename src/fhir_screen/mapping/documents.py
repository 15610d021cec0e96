"""The shape of every mapping document, as pydantic models; their JSON Schema is what editors complete from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


class Doc(BaseModel):
    """Unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) and value else [] if value == "" else value


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""One name, or a list of names."""


@dataclass(frozen=True, slots=True)
class _Spelled:
    """How a truth is spelled in a document, where every scalar is text; any other word is a mistake."""

    words: Mapping[str, bool]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.words.__getitem__, core_schema.literal_schema([*self.words]))


YesNo = Annotated[bool, _Spelled({"yes": True, "no": False})]
TrueFalse = Annotated[bool, _Spelled({"true": True, "false": False})]
"""As parameters and the policies of a site are spelled, which may stand in such a place."""

Rule = Annotated[dict[str, Any] | str, Field(json_schema_extra={"$comment": "rule"}, description="a rule")]
Amount = Annotated[dict[str, Any], Field(json_schema_extra={"$comment": "amount"}, description="an amount")]


# --- code systems, concepts, units, analytes, words -------------------------------------------------------------


class SystemDoc(Doc):
    uri: str
    aliases: Names = ()
    matching: Literal["exact", "any-case", "prefix"] = "exact"
    reach: Literal["complete", "descendants"] = "complete"
    form: Literal["loinc", "sctid", "atc", "icd", ""] = ""
    """How its codes are written; a code in a set that is not written so is a mistake."""


class SystemsDoc(Doc):
    systems: dict[str, SystemDoc]
    joint: dict[str, Names] = {}


class ConceptDoc(Doc):
    """A code set. A row of ``codes`` is [system, code, display, verification] and perhaps the number it stands for."""

    label: str
    about: str = ""
    found_in: Names = ()
    analyte: str = ""
    texts: Names = ()
    descendants: YesNo = False
    """Whether descendants of its SNOMED CT rows belong to it: `expand` asks a terminology server for them."""
    codes: tuple[tuple[str, ...], ...] = ()


class ConceptsDoc(Doc):
    found_in: Names
    concepts: dict[str, ConceptDoc]


class AnalyteDoc(Doc):
    unit: str = ""
    like: str = ""
    factors: dict[str, str] = {}
    molar: dict[str, str] = {}
    fraction: dict[str, str] = {}
    plausible: Names = ()
    whole: Names = ()
    steps: str = ""
    prefixes: Names = ()
    less_than: str = ""
    more_than: str = ""
    spelled: dict[str, Names] = {}
    """Texts that mean another unit here than elsewhere, case and all."""


class AnalytesDoc(Doc):
    analytes: dict[str, AnalyteDoc]


class UnitsDoc(Doc):
    units: dict[str, Names]


class WordsDoc(Doc):
    but_not: Names = ()
    proving: Names = ()
    """Lists of which a hit proves something: what takes it back reaches to the end of the sentence."""
    words: dict[str, Names]


# --- resources ---------------------------------------------------------------------------------------------------


class PlaceDoc(Doc):
    path: str
    through: str = ""
    then: str = ""
    reported_by: str = ""
    via: str = ""
    take: Literal["whole", "start", "end", "all"] = "whole"
    flag: str = ""
    system: str = ""
    inner: str = ""
    """Where in each thing at ``path`` the code of a facet lies …"""
    beside: str = ""
    """… and what stands beside it (`not_beside` of a rule)."""


def _placed(value: Any) -> Any:
    return [{"path": v} if isinstance(v, str) else v for v in _listed(value)] if isinstance(value, str | list) else value


Places = Annotated[tuple[PlaceDoc, ...], BeforeValidator(_placed)]


class StatusDoc(Doc):
    path: Names
    """The first of these places that holds anything counts."""
    holds: Names = ()
    flagged: Names = ()
    pending: Names = ()
    unsure: Names = ()
    denied: Names = ()
    planned: Names = ()
    void: Names = ()
    otherwise: Literal["holds", "flagged", "pending", "unsure", "denied", "planned", "void"] = "unsure"
    missing: Literal["holds", "flagged", "pending", "unsure", "denied", "planned", "void"] = "unsure"
    flag: str = ""
    missing_flag: str = ""


class OngoingDoc(Doc):
    path: Names
    """The first of these places that holds anything counts."""
    yes: Names = ()
    no: Names = ()
    no_when: str = ""
    missing: Literal["yes", "no", "unknown"] = "unknown"


class ValueDoc(Doc):
    quantity: Places = ()
    number: Places = ()
    unit: Places = ()
    coded: Places = ()
    text: Places = ()
    boolean: Places = ()
    range: Places = ()
    ratio: Places = ()
    absent: Places = ()


class RangesDoc(Doc):
    at: str
    high: str = "$.high"
    text: str = "$.text"
    type: str = "$.type"
    applies_to: str = "$.appliesTo[*]"
    age: str = "$.age"


class DosesDoc(Doc):
    at: str
    amount: Names = ()
    repeat: Names = ()
    timing_code: Names = ()
    as_needed: Names = ()
    maximum: Names = ()
    single: YesNo = False


class PartDoc(Doc):
    at: str
    code: Places
    text: Places = ()
    value: ValueDoc | None = None
    ranges: RangesDoc | None = None
    facets: dict[str, Places] = {}


class NewestDoc(Doc):
    """Of a history that a resource keeps, only the entry that began last is in force."""

    of: str
    by: str


class ResourceDoc(Doc):
    code: Places
    text: Places = ()
    when: Places = ()
    start: Places = ()
    end: Places = ()
    recorded: Places = ()
    asserted: Places = ()
    supply: Places = ()
    newest: NewestDoc | None = None
    about_others: Names = ()
    contains: Names = ()
    not_when: dict[str, Names] = {}
    """Facets, by name, whose codings take the record away where they lie in these concepts."""
    status: tuple[StatusDoc, ...] = ()
    states: Names = ()
    ongoing: OngoingDoc | None = None
    value: ValueDoc | None = None
    ranges: RangesDoc | None = None
    components: PartDoc | None = None
    doses: DosesDoc | None = None
    facets: dict[str, Places] = {}
    links: dict[str, Places] = {}
    rank: int = 0
    flags: Names = ()
    also: Names = ()


class PersonDoc(Doc):
    born: Places
    sex: Places
    died: Places
    death: Places


class ResourcesDoc(Doc):
    Patient: PersonDoc
    resources: dict[str, ResourceDoc]


# --- rules -------------------------------------------------------------------------------------------------------


class WhereDoc(Doc):
    is_: Names = Field(alias="is")
    missing: Literal["yes", "no", "unknown"] = "unknown"
    otherwise: Literal["yes", "no", "unknown"] = "no"
    matched: Literal["yes", "no", "unknown"] = "yes"
    mixed: Literal["yes", "no", "unknown", ""] = ""
    """Where one coding lies in ``is`` and another does not; left out: as ``matched``."""
    against: Names = ()
    """Concepts that are a no where ``otherwise`` is not."""
    doubtful: Names = ()
    """Concepts whose facts are unknown where the coding is missing."""
    words: str = ""
    """A coding that nobody listed is a doubt only if it hits this list of words."""
    not_beside: Names = ()
    """A coding beside which one of these stands does not count."""


class LinkDoc(Doc):
    to: Names
    missing: Literal["yes", "no", "unknown"] = "yes"
    to_instance: YesNo = False


def _where(value: Any) -> Any:
    return {"is": value} if isinstance(value, str | list) else value


def _link(value: Any) -> Any:
    return {"to": value} if isinstance(value, str | list) else value


class SelectorDoc(Doc):
    """Which facts count."""

    find: Names = ()
    minus: Names = ()
    review: Names = ()
    never: Names = ()
    in_: Names = Field(default=(), alias="in")
    words: str = ""
    where: dict[str, Annotated[WhereDoc, BeforeValidator(_where)]] = {}
    linked: dict[str, Annotated[LinkDoc, BeforeValidator(_link)]] = {}
    not_linked: str = ""
    valued: Names = ()
    unvalued: Literal["no", "unknown"] = "no"
    states: Names = ()
    doubtful_states: Names = ()
    doubt_flag: str = ""
    ended: Literal["recorded", ""] = ""
    doubtful_words: str = ""
    other_study: YesNo = False
    planned: YesNo = False
    """Only what is planned and whose day has not passed; never evidence, so this is for flags and hints."""


class WhenDoc(Doc):
    within: str = ""
    overlaps: str = ""
    ended_within: str = ""
    lasting: str = ""
    """Going on; what nobody calls over is taken to last so long."""
    over_for: str = ""
    """Over at least so long before the anchor, and not begun before the first fact of ``not_before``."""
    not_before: SelectorDoc | None = None
    not_before_last: tuple[SelectorDoc, ...] = ()
    """As ``not_before``, of the last of all these facts to begin."""
    dated_by: str = ""
    before: str = "screening_date"
    if_unset: Literal["as-of", "wash-out", "unknown"] = "as-of"
    goes_on: YesNo = False


When = WhenDoc | Literal["ever", "now", "since-instance"]
Absent = Literal["no", "unknown", "nothing"]
Kind = Literal["positive", "inferred", "order_only"]


class HasDoc(SelectorDoc):
    """Whether the record holds such a fact; ``absent_means`` has no default."""

    what: str = ""
    when: When = "ever"
    absent_means: Absent
    evidence: Kind = "positive"
    older_means: Literal["no", "unknown"] = "no"
    protocol_exempt: TrueFalse = False
    exempt_from: str = "enrolment_date"
    """The anchor from which all such facts are the protocol's; `none`: only what names the study or is linked to it."""
    denied_by: Names = ()
    denial_settles: YesNo = False
    older_states: Names = ()
    denied_counts: YesNo = False
    """That something is refuted is a record of it, too."""


class SaysDoc(SelectorDoc):
    """Whether a report says so in its text."""

    what: str
    absent_means: Literal["unknown", "nothing"] = "unknown"


class NearbyDoc(SelectorDoc):
    within: str


class LatestDoc(SelectorDoc):
    valid_for: str = ""
    before: str = "screening_date"
    near: str = ""
    same_day: YesNo = False
    flags: dict[str, str] = {}
    doubted_by: str = ""
    retests: str = ""
    since_age: str = ""
    analyte: str = ""


class LargestDoc(SelectorDoc):
    valid_for: str
    before: str = "screening_date"
    analyte: str = ""


class MeanDoc(LatestDoc):
    last: int


class DerivationDoc(Doc):
    """A derived value: named inputs, and a formula tree over them; ``label`` is what people call it."""

    label: str = ""
    unit: str
    analyte: str = ""
    inputs: dict[str, Any]
    value: Any
    together: YesNo = False
    evidence: Kind = "inferred"


class MeasureDoc(Doc):
    what: str = ""
    latest: LatestDoc | None = None
    largest: LargestDoc | None = None
    mean: MeanDoc | None = None
    derived: str = ""
    first_of: tuple[Amount, ...] = ()
    older_stands: YesNo = False
    """Of ``first_of``: the first that is there stands, however much newer another one is."""
    needed: str
    flag_near: dict[str, NearbyDoc] = {}
    absent_means: Literal["unknown", "nothing"] = "unknown"


class ResultDoc(SelectorDoc):
    is_: Names = Field(alias="is")
    against: Names = ()
    pick: Literal["latest", "any"] = "latest"
    valid_for: str = ""
    negative_valid_for: str = ""
    before: str = "screening_date"
    number_means: Literal["detected", "cutoff", ""] = ""
    absent_means: Absent
    not_before: SelectorDoc | None = None
    what: str = ""
    evidence: Kind = "positive"
    flag_near: dict[str, NearbyDoc] = {}


class DailyDoseDoc(SelectorDoc):
    what: str = ""
    per_milligram: dict[str, str]
    needed: str
    when: WhenDoc
    protocol_exempt: TrueFalse = False
    exempt_from: str = "enrolment_date"


class ThenDoc(Doc):
    first: SelectorDoc
    event: tuple[SelectorDoc, ...]
    within: str
    what: str = ""
    first_day_counts: YesNo = False
    after: Literal["start", "end"] = "start"
    """After the first of ``first`` began, or after the first of them ended."""
    newly: YesNo = False
    """An event of a kind that was on record before is a question."""


class StableDoc(Doc):
    of: SelectorDoc
    good: Names
    bad: Names
    for_: str = Field(alias="for")
    since: tuple[SelectorDoc, ...] = ()
    """The good state counts only from the day on when the last of these facts had begun."""
    before: str = "screening_date"
    what: str = ""


class SeveralDoc(SelectorDoc):
    """Whether two of these facts tell of two things."""

    when: When = "ever"
    told_apart_by: Names = ()
    begun_apart: str = ""
    what: str


class AgeDoc(Doc):
    needed: str
    at: str = "as_of"


class InstanceDoc(Doc):
    find: Names
    review: Names = ()
    never: Names = ()


class AtLeastDoc(Doc):
    count: int
    of: tuple[Rule, ...]


class AgreeDoc(Doc):
    of: tuple[Rule, ...]
    flag: str = "and_reading"


class DecideDoc(Doc):
    what: str = ""
    shown_by: Rule
    ruled_out_by: Rule


class TakenBackDoc(Doc):
    rule: Rule
    by: Rule
    flag: str = ""


class AppliesWhenDoc(Doc):
    condition: Rule
    rule: Rule


class FlaggedDoc(Doc):
    rule: Rule
    flag: str
    when: Rule
    is_: Literal["true", "false", "unknown"] = Field(default="true", alias="is")


class BecauseDoc(Doc):
    rule: Rule
    because: str = ""


class DoubtDoc(BecauseDoc):
    unless: Rule | None = None


class ChooseDoc(Doc):
    by: str
    cases: dict[str, Rule]


class UseDoc(Doc):
    rule: str
    with_: dict[str, Any] = Field(default={}, alias="with")


class ConstantDoc(Doc):
    truth: Literal["true", "false", "unknown"]
    because: str


# --- trials, sites, anchors ---------------------------------------------------------------------------------------


class ParameterDoc(Doc):
    default: str
    about: str
    choices: Names = ()
    without_effect: YesNo = False
    """No rule of this trial reads it: it stands so that one setting does for all trials of a site."""


class HintDoc(Doc):
    text: str
    when: Rule | None = None


class AtomDoc(Doc):
    text: str
    text_ko: str = ""
    class_: Literal["automatic", "proxy", "manual"] = Field(alias="class")
    rule: Rule | None = None
    ask: str = ""
    ask_ko: str = ""
    asked_when: Rule | None = None
    hints: tuple[HintDoc, ...] = ()
    note: str = ""
    role_in_formula: Literal["decides", "shown"] = "decides"
    never_closed: YesNo = False
    """No site may take silence for a no here."""


class CriterionDoc(Doc):
    role: Literal["inclusion", "exclusion"]
    text: str
    text_ko: str = ""
    atoms: dict[str, AtomDoc]
    logic: Rule | None = None
    for_each: str = ""
    note: str = ""


class RegistryDoc(Doc):
    id: str
    system: str = "http://clinicaltrials.gov"
    title: str
    status: Literal[
        "not-yet-recruiting", "recruiting", "enrolling-by-invitation", "active-not-recruiting", "active",
        "suspended", "completed", "terminated", "withdrawn",
    ]  # fmt: skip
    """ClinicalTrials.gov's words, and `active`, a code of FHIR's own."""
    sponsor: str = ""
    phase: str = ""
    names: Names = ()


class TrialDoc(Doc):
    trial: RegistryDoc
    version: str
    time_zone: str = "UTC"
    population: str
    parameters: dict[str, ParameterDoc] = {}
    derived: dict[str, DerivationDoc] = {}
    criteria: dict[str, CriterionDoc]


class LibraryDoc(Doc):
    """Rules and derived values that trials share; ``$name`` in them is an argument of `use`, or a trial's parameter."""

    rules: dict[str, Rule] = {}
    derived: dict[str, DerivationDoc] = {}


class LocalCodeDoc(Doc):
    system: str
    code: str
    concept: Names = ()
    equals: str = ""
    display: str = ""
    descends: Literal["", "1", "2", "3", "4"] = ""
    """Of rows that `expand` wrote: how specific the set is below which the code lies; weaker than any listed code."""


class UpperLimitDoc(Doc):
    test: str
    high: str
    sex: Literal["male", "female", ""] = ""
    from_: str = Field(default="", alias="from")
    until: str = ""


class SiteDoc(Doc):
    """What a hospital says about itself; ``include`` names further files with `codes` and `units` alone."""

    site: str = Field(default="default", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    include: Names = ()
    time_zone: str = ""
    studies: Names = ()
    system_aliases: dict[str, Names] = {}
    codes: Annotated[tuple[LocalCodeDoc, ...], BeforeValidator(lambda value: value or ())] = ()
    units: Annotated[dict[str, Names], BeforeValidator(lambda value: value or {})] = {}
    resources: dict[str, Any] = {}
    upper_limits: tuple[UpperLimitDoc, ...] = ()
    parameters: dict[str, str] = {}
    absence_policy: dict[str, Literal["closed", "unknown"]] = {}
    write_closed_studies: TrueFalse = False
    anchors: dict[str, str] = {}


class AnchorsDoc(Doc):
    default: dict[str, str] = {}
    patients: dict[str, dict[str, str]] = {}

"""What a criterion can say: the rule language as a closed union of frozen classes, one for each construct."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from fhir_screen.core.answers import EvidenceKind
from fhir_screen.core.dates import Length
from fhir_screen.core.quantities import Relation
from fhir_screen.core.truth import Truth
from fhir_screen.core.words import Words


class Absence(StrEnum):
    """What "nothing on record" means (rule R3); there is no default."""

    CLOSED = "no"
    """Silence is a no, where the chart is one that would tell (rule R4)."""
    OPEN = "unknown"
    """Silence says nothing."""
    SILENT = "nothing"
    """Silence adds nothing here: a part of a two-sided proof whose other side has to speak."""


@dataclass(frozen=True, slots=True)
class Where:
    """A further condition on a fact: one of its codings of this role lies in these concepts.

    ``missing`` is the answer where the record gives no such coding; ``otherwise`` where it gives another, unless it
    lies in ``against``, which is a no; ``mixed`` where it gives one of these concepts and another as well (None: as
    ``matched``). Facts of the ``doubtful`` concepts are unknown where the coding is missing,
    whatever ``missing`` says. A coding that nobody listed may be one of them; with ``words`` only where its words
    say so.
    """

    facet: str
    concepts: frozenset[str]
    missing: Truth = Truth.UNKNOWN
    otherwise: Truth = Truth.FALSE
    matched: Truth = Truth.TRUE
    doubtful: frozenset[str] = frozenset()
    words: Words | None = None
    against: frozenset[str] = frozenset()
    mixed: Truth | None = None
    not_beside: frozenset[str] = frozenset()
    """A coding beside which the record writes one of these does not count."""


@dataclass(frozen=True, slots=True)
class Link:
    """A further condition on a fact: what its reference of this role points to carries one of these concepts.

    ``to_instance``: while one instance is under consideration, it has to be that very one.
    """

    role: str
    concepts: frozenset[str]
    missing: Truth = Truth.TRUE
    to_instance: bool = False


@dataclass(frozen=True, slots=True)
class Selector:
    """Which facts count. Of several matching sets the longest code decides, and `never` wins over all (rule R18)."""

    kinds: frozenset[str]
    find: frozenset[str]
    minus: frozenset[str] = frozenset()
    review: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()
    words: Words | None = None
    where: tuple[Where, ...] = ()
    links: tuple[Link, ...] = ()
    unlinked: str | None = None
    """Facts that have a reference of this role do not count (a resected lesion has a `specimen`)."""
    valued: frozenset[str] = frozenset()
    """The fact's value has to lie in one of these concepts; another value is a no, none is ``unvalued``."""
    unvalued: Truth = Truth.FALSE
    states: frozenset[str] = frozenset()
    doubtful_states: frozenset[str] = frozenset()
    doubt_flag: str = ""
    end_recorded: bool = False
    """Facts without a recorded end are unknown."""
    doubtful_words: Words | None = None
    """A fact that is called so is unknown, whatever its code says ("pembrolizumab or placebo")."""
    other_study: bool = False
    """Only facts of a study other than this trial count; of an unnamed study nobody can tell."""
    planned: bool = False
    """Only what is planned and whose day has not passed counts, instead of what was done."""


@dataclass(frozen=True, slots=True)
class Ever:
    """At any time up to the screening date."""


@dataclass(frozen=True, slots=True)
class Now:
    """Going on at the screening date. What nobody says to go on or to be over is taken to last ``assumed``."""

    assumed: Length | None = None


class Touch(StrEnum):
    """What of a fact has to lie in the window."""

    START = "starts"
    SPAN = "overlaps"
    END = "ends"


class Unset(StrEnum):
    """What a window does while its anchor is not set (rule R8)."""

    AS_OF = "as-of"
    WASH_OUT = "wash-out"
    UNKNOWN = "unknown"


ASSERTED = "asserted"
"""In place of a role: by the day on which the diagnosis was stated, where it is recorded."""


@dataclass(frozen=True, slots=True)
class During:
    """A closed window that ends at an anchor: [anchor - length, anchor]."""

    length: Length
    anchor: str
    touch: Touch = Touch.START
    unset: Unset = Unset.AS_OF
    dated_by: str = ""
    """Role of a reference whose encounter dates a fact that has no exact start of its own (an infarction's stay)."""
    state: bool = False
    """What goes on today is taken to go on (participation in a study), instead of perhaps ending before the window."""


@dataclass(frozen=True, slots=True)
class Since:
    """From the start of the instance under consideration on."""


@dataclass(frozen=True, slots=True)
class Until:
    """Over for ``length`` before an anchor (None: perhaps not over), and not begun before the first of ``since``.

    ``since_last``: not before the last of them to begin.
    """

    length: Length | None
    anchor: str
    since: tuple[Selector, ...] = ()
    since_last: bool = False


Timing = Ever | Now | During | Since | Until


@dataclass(frozen=True, slots=True)
class Exemption:
    """What belongs to the trial itself and does not count: facts linked to its study, or in its name.

    ``after``: an anchor on or after which every such fact is the trial's own, as is its harvest; empty for none.
    """

    after: str = ""


@dataclass(frozen=True, slots=True)
class Has:
    """Whether the record holds such a fact."""

    select: Selector
    absence: Absence
    timing: Timing = Ever()
    what: str = ""
    kind: EvidenceKind = EvidenceKind.POSITIVE
    older: Truth = Truth.FALSE
    """What a fact outside the window means; `unknown` hands it to a person."""
    exempt: Exemption | None = None
    denies: frozenset[str] = frozenset()
    """Concepts whose presence is an explicit no."""
    denial_settles: bool = False
    """This asks for exactly one fact, so that an explicit no of it is a no even where silence is unknown (rule R3)."""
    least_conditions: int = 1
    """On how many days a diagnosis without verification has to be coded to count (rule R6)."""
    older_states: frozenset[str] = frozenset()
    """Clinical states in which a fact from before the window is a question (a recurrence of an older cancer)."""
    denied_counts: bool = False
    """A refuted fact is a record of it, too."""


@dataclass(frozen=True, slots=True)
class Says:
    """Whether a report says so in its text, without taking it back ("no evidence of").

    Silence is unknown, or a no where ``silence_is_no``: then the rule only adds to others.
    """

    select: Selector
    words: Words
    what: str
    silence_is_no: bool = False


@dataclass(frozen=True, slots=True)
class Latest:
    """The latest valid amount of an analyte in its validity window (rule R9)."""

    select: Selector
    analyte: str
    valid_for: Length | None = None
    anchor: str = "screening_date"
    near: str = ""
    """Name of the input of the same formula near which the value has to lie, in place of the anchor."""
    same_day: bool = False
    """Values of one day are not ordered: they have to agree."""
    flags: tuple[tuple[str, str], ...] = ()
    """(concept, flag): a result of such a test is used, and flagged."""
    doubted_by: Words | None = None
    """Words of a result's notes that make it doubtful (clumped platelets)."""
    since_age: int | None = None
    """Only values from this age on, in completed years: the height of a child is not that of the man."""
    retests: int | None = None
    """How many further results in the window the protocol permits; more are flagged."""


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest valid amount in the window (sizes: one that reaches the limit is enough)."""

    select: Selector
    analyte: str
    valid_for: Length
    anchor: str = "screening_date"


@dataclass(frozen=True, slots=True)
class MeanOf:
    """The mean of the last n valid amounts."""

    latest: Latest
    count: int


@dataclass(frozen=True, slots=True)
class AgeYears:
    """Completed years at the date of another input, or at an anchor."""

    at: str


@dataclass(frozen=True, slots=True)
class Number:
    value: Fraction


@dataclass(frozen=True, slots=True)
class BySex:
    """A number that differs by sex; where the sex is not known, the formula has two results."""

    male: Fraction
    female: Fraction


class Operation(StrEnum):
    ADD = "add"
    SUBTRACT = "subtract"
    MULTIPLY = "multiply"
    DIVIDE = "divide"
    POWER = "power"
    SQRT = "sqrt"
    LN = "ln"
    LOG10 = "log10"
    MIN = "min"
    MAX = "max"


@dataclass(frozen=True, slots=True)
class Apply:
    operation: Operation
    operands: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Input:
    """A named input of the enclosing derivation."""

    name: str


Formula = Number | BySex | Input | Apply


@dataclass(frozen=True, slots=True)
class Derived:
    """A formula over measured inputs. ``together`` demands one specimen, or one point in time, of all of them."""

    name: str
    unit: str
    analyte: str
    inputs: tuple[tuple[str, Amounts], ...]
    value: Formula
    together: bool = False
    kind: EvidenceKind = EvidenceKind.INFERRED


@dataclass(frozen=True, slots=True)
class Bound:
    """A source that only bounds the amount from one side."""

    source: Amounts
    lower: bool


@dataclass(frozen=True, slots=True)
class FirstOf:
    """Sources by priority: the first that has a value speaks, bounds speak where they can decide.

    A newer one of lower priority that says otherwise is a conflict, unless ``older_stands``.
    """

    sources: tuple[Amounts, ...]
    older_stands: bool = False


Amounts = Latest | Largest | MeanOf | AgeYears | Derived | Bound | FirstOf


@dataclass(frozen=True, slots=True)
class Threshold:
    """A limit in a unit; ``written`` is its number as the protocol has it (9.0)."""

    number: Fraction
    unit: str
    written: str = ""


@dataclass(frozen=True, slots=True)
class TimesUpperLimit:
    """A multiple of the upper limit of normal, of the range that stands on the same result (rule R11)."""

    factor: Fraction


@dataclass(frozen=True, slots=True)
class Nearby:
    """A flag that is raised where such a fact lies shortly before the value (a transfusion before a hemoglobin)."""

    flag: str
    select: Selector
    within: Length


@dataclass(frozen=True, slots=True)
class Measure:
    """Whether an amount stands in a relation to a limit."""

    amount: Amounts
    relation: Relation
    limit: Threshold | TimesUpperLimit
    what: str = ""
    flags_near: tuple[Nearby, ...] = ()
    absence: Absence = Absence.OPEN


class Pick(StrEnum):
    LATEST = "latest"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Result:
    """Whether a test came out so (rule R13): `latest` lets the newest valid result speak, `any` one is enough."""

    select: Selector
    among: frozenset[str]
    against: frozenset[str]
    pick: Pick = Pick.LATEST
    valid_for: Length | None = None
    negative_valid_for: Length | None = None
    anchor: str = "screening_date"
    number: str = ""
    """What a bare number means: `detected` (above zero), `cutoff` (above the result's own range), or nothing."""
    absence: Absence = Absence.OPEN
    not_before: Selector | None = None
    """The result has to be as new as the newest fact of these; an older one settles nothing."""
    what: str = ""
    kind: EvidenceKind = EvidenceKind.POSITIVE
    flags_near: tuple[Nearby, ...] = ()


@dataclass(frozen=True, slots=True)
class DailyDose:
    """Whether the highest daily dose in a window, as an equivalent of one drug, stands in a relation to a limit.

    ``per_milligram`` says how much of the reference drug one milligram of each concept is worth, exactly.
    """

    select: Selector
    per_milligram: tuple[tuple[str, Fraction], ...]
    relation: Relation
    limit: Fraction
    timing: During
    what: str = ""
    exempt: Exemption | None = None


@dataclass(frozen=True, slots=True)
class Then:
    """Whether an event followed an exposure: after its first day, and on it or at most ``by`` after its last.

    ``first_day_counts``: what happened on the first day has followed too. ``after_end``: after the first of them ended
    (a remission is what comes after a disease). ``newly``: an event that was on record before, under the same code, is a
    question.
    """

    first: Selector
    event: tuple[Selector, ...]
    by: Length
    what: str = ""
    first_day_counts: bool = False
    after_end: bool = False
    newly: bool = False


@dataclass(frozen=True, slots=True)
class Stable:
    """Whether a state was seen at both ends of a period with nothing against it in between.

    The good state counts only once the last of ``since`` has begun; what nobody can read as good or bad leaves it open.
    """

    select: Selector
    good: frozenset[str]
    bad: frozenset[str]
    length: Length
    anchor: str = "screening_date"
    what: str = ""
    since: tuple[Selector, ...] = ()


@dataclass(frozen=True, slots=True)
class Several:
    """Whether two of these facts surely tell of two things, one of them at least placed by ``timing``.

    They do where their codes lie in different ones of the concepts ``told_apart_by`` (two sites), or where they began
    more than ``begun_apart`` from each other. Facts without a date of their own are not told apart by it.
    """

    select: Selector
    timing: Timing = Ever()
    told_apart_by: frozenset[str] = frozenset()
    begun_apart: Length | None = None
    what: str = ""


@dataclass(frozen=True, slots=True)
class Age:
    """Completed years at an anchor."""

    relation: Relation
    years: int
    anchor: str = "as_of"


@dataclass(frozen=True, slots=True)
class Sex:
    """Whether the administrative gender is this one; other and unknown are unknown."""

    is_: str


@dataclass(frozen=True, slots=True)
class InstanceIs:
    """Whether the instance under consideration carries these concepts, by its code."""

    find: frozenset[str]
    review: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class InstanceState:
    """Whether the instance under consideration is in one of these clinical states."""

    states: frozenset[str]


@dataclass(frozen=True, slots=True)
class All:
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Any:
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Not:
    rule: Rule


@dataclass(frozen=True, slots=True)
class AtLeast:
    """At least ``count`` of several."""

    count: int
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Agree:
    """Both or neither: one side alone is a question, flagged ``flag`` (a literal reading of "and")."""

    rules: tuple[Rule, ...]
    flag: str


@dataclass(frozen=True, slots=True)
class Decide:
    """Two-sided proof: shown, else ruled out, else unknown. What shows it takes precedence."""

    shown_by: Rule
    ruled_out_by: Rule
    what: str = ""


@dataclass(frozen=True, slots=True)
class Unless:
    """A finding that another one takes back: ``rule`` stands where ``unless`` is not true."""

    rule: Rule
    unless: Rule
    flag: str = ""


@dataclass(frozen=True, slots=True)
class AppliesWhen:
    """Not applicable where the condition is false; where it is not known, the rule is asked all the same."""

    condition: Rule
    rule: Rule


@dataclass(frozen=True, slots=True)
class Coded:
    """This part of a proxy atom is decided by the code alone, without judgement (rule R17)."""

    rule: Rule


@dataclass(frozen=True, slots=True)
class Judged:
    """This part of an atom is a judgement that a person has to confirm (rule R17).

    ``found_only``: only what was found is judged; that nothing is on record is decided by the codes.
    """

    rule: Rule
    found_only: bool = False


@dataclass(frozen=True, slots=True)
class Flagged:
    """Raises a flag where the condition has the given truth; the answer itself is the rule's."""

    rule: Rule
    flag: str
    when: Rule
    is_: Truth = Truth.TRUE


@dataclass(frozen=True, slots=True)
class Review:
    """What is true goes to a person: true becomes unknown, by policy."""

    rule: Rule
    because: str


@dataclass(frozen=True, slots=True)
class Doubt:
    """What is false here may still be true: false becomes unknown, with no data, ``unless`` something surely holds."""

    rule: Rule
    because: str = ""
    unless: Rule | None = None


@dataclass(frozen=True, slots=True)
class AtomRef:
    """The answer of another atom of the same trial."""

    id: str


@dataclass(frozen=True, slots=True)
class Ask:
    """A person answers."""

    question: str


@dataclass(frozen=True, slots=True)
class Constant:
    """A truth that a parameter has fixed."""

    truth: Truth
    because: str


Rule = (
    Has | Says | Measure | Result | DailyDose | Then | Stable | Several | Age | Sex | InstanceIs | InstanceState
    | All | Any | Not | AtLeast | Agree | Decide | Unless | AppliesWhen | Coded | Judged | Flagged | Review | Doubt
    | AtomRef | Ask | Constant
)  # fmt: skip


def named_instances(rule: Rule) -> tuple[Has, tuple[Rule, ...]]:
    """The `has` whose facts a formula takes one by one, and what else makes the same atom true without naming one.

    Raises ValueError where the rule is neither a `has` nor an `any` that begins with one.
    """
    match rule:
        case Has():
            return rule, ()
        case Any((Has() as first, *further)):
            return first, tuple(further)
        case _:
            raise ValueError("facts are taken one by one by `has`, or by `any` that begins with it")


@dataclass(frozen=True, slots=True)
class Hint:
    """What a person may want to see beside a question: always, or where the rule is true."""

    text: str
    rule: Rule | None = None

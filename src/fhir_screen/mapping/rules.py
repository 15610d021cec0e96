"""Compiles the YAML of the rule language, verb by verb, into `core.rules`; every name is checked here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, TypeVar

from pydantic import BaseModel

from fhir_screen.core import rules as core
from fhir_screen.core.answers import EvidenceKind
from fhir_screen.core.dates import Length
from fhir_screen.core.quantities import Relation
from fhir_screen.core.truth import Truth
from fhir_screen.errors import MappingError
from fhir_screen.mapping import documents as docs
from fhir_screen.mapping.shapes import ResourceShape
from fhir_screen.mapping.validation import validated
from fhir_screen.mapping.vocabulary import Terms
from fhir_screen.mapping.yamlfile import Document, Steps, did_you_mean

Model = TypeVar("Model", bound=BaseModel)

ANCHORS = frozenset(
    {"as_of", "screening_date", "consent_date", "enrolment_date", "planned_tissue_collection_date", "planned_infusion_date"}
)  # fmt: skip

_COMPARISON = re.compile(r"(<=|>=|<|>|=)\s*(\d+(?:\.\d+)?)\s*(.*)")
_LENGTH = re.compile(r"(\d+)\s+(day|week|month|year)s?")


@dataclass(frozen=True, slots=True)
class Shared:
    """A rule or derived value of the library, with the document it stands in."""

    document: Document
    steps: Steps
    content: Any


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a rule stands, and all that it may name."""

    document: Document
    steps: Steps
    terms: Terms
    shapes: Mapping[str, ResourceShape]
    parameters: Mapping[str, str]
    atoms: frozenset[str] = frozenset()
    library: Mapping[str, Shared] = field(default_factory=dict)
    derived: Mapping[str, Shared] = field(default_factory=dict)
    proxy: bool = False
    absence: str = ""
    least_conditions: int = 1
    used: set[str] = field(default_factory=set)
    depth: int = 0

    def at(self, *steps: str | int) -> Scope:
        return replace(self, steps=(*self.steps, *steps))

    def error(self, what: str, remedy: str = "") -> MappingError:
        return self.document.error(what, self.steps, remedy)


def compile_rule(scope: Scope, content: Any) -> core.Rule:
    """One rule: a mapping with one verb, or the name of an atom."""
    content = filled(scope, content)
    if isinstance(content, str):
        return _atom(scope, content)
    if not isinstance(content, dict) or len(content) != 1:
        verbs = ", ".join(sorted(VERBS))
        found = ", ".join(content) if isinstance(content, dict) else repr(content)
        raise scope.error(f"a rule is one verb and what it says (found {found or 'nothing'})", f"verbs: {verbs}")
    verb, body = next(iter(content.items()))
    if verb not in VERBS:
        raise scope.at(verb).error(f"unknown verb {verb!r}", did_you_mean(verb, VERBS) or f"verbs: {', '.join(sorted(VERBS))}")
    return VERBS[verb](scope.at(verb), body)


def filled(scope: Scope, content: Any) -> Any:
    """Puts parameters where ``$name`` stands."""
    if isinstance(content, str):
        if content.startswith("$") and content[1:].isidentifier() and content[1:] in scope.parameters:
            scope.used.add(content[1:])
            return scope.parameters[content[1:]]
        return re.sub(r"\$(\w+)", lambda m: _parameter(scope, m.group(1)), content)
    if isinstance(content, list):
        return [filled(scope.at(n), item) for n, item in enumerate(content)]
    if isinstance(content, dict):
        return {key: filled(scope.at(key), value) for key, value in content.items()}
    return content


def _parameter(scope: Scope, name: str) -> str:
    if name not in scope.parameters:
        raise scope.error(f"unknown parameter ${name}", did_you_mean(name, scope.parameters))
    scope.used.add(name)
    return str(scope.parameters[name])


def _doc(model: type[Model], scope: Scope, body: Any) -> Model:
    return validated(model, scope.document, body, scope.steps)


def _judged(scope: Scope, rule: core.Rule, *, found_only: bool = False) -> core.Rule:
    """A leaf of a proxy atom is a judgement, unless the mapping says `coded` (rule R17)."""
    return core.Judged(rule, found_only) if scope.proxy else rule


# --- leaves ------------------------------------------------------------------------------------------------------


def _has(scope: Scope, body: Any) -> core.Rule:
    doc = _doc(docs.HasDoc, scope, body)
    select = selector(scope, doc)
    absence = _absence(scope, doc.absent_means)
    if doc.absent_means == "no" and select.words is None and select.find and not doc.words:
        raise scope.error("silence is a no here, but no words guard against uncoded records", "add `words:` or `words: none`")
    what = doc.what or scope.terms.vocabulary.label(select.find)
    rule = core.Has(
        select, absence, timing(scope, doc.when), what, EvidenceKind(doc.evidence),
        Truth.UNKNOWN if doc.older_means == "unknown" else Truth.FALSE, _exemption(scope, doc),
        concepts(scope.at("denied_by"), doc.denied_by), doc.denial_settles == "yes", scope.least_conditions,
        frozenset(doc.older_states),
    )  # fmt: skip
    return _judged(scope, rule, found_only=True)


def _exemption(scope: Scope, doc: docs.HasDoc | docs.DailyDoseDoc) -> core.Exemption | None:
    if doc.protocol_exempt == "false":
        return None
    return core.Exemption("" if doc.exempt_from == "none" else _anchor(scope.at("exempt_from"), doc.exempt_from))


def _says(scope: Scope, body: Any) -> core.Rule:
    doc = _doc(docs.SaysDoc, scope, body)
    select = selector(scope, doc)
    if select.words is None:
        raise scope.error("which words to look for is not said", "add `words:`")
    return _judged(scope, core.Says(replace(select, words=None), select.words, doc.what))


def _absence(scope: Scope, said: str) -> core.Absence:
    absence = core.Absence(said)
    if scope.absence and absence is not core.Absence.SILENT:
        return core.Absence.CLOSED if scope.absence == "closed" else core.Absence.OPEN
    return absence


def selector(scope: Scope, doc: docs.SelectorDoc) -> core.Selector:
    find = concepts(scope.at("find"), doc.find)
    review = concepts(scope.at("review"), doc.review)
    kinds = frozenset(doc.in_) or frozenset[str]().union(*(scope.terms.found_in[c] for c in find | review))
    if not kinds:
        raise scope.error("what to find, and in which resource types, is not said", "add `find:` or `in:`")
    _check_shapes(scope, doc, kinds)
    where = tuple(
        core.Where(facet, concepts(scope.at("where", facet), w.is_), _truth(w.missing), _truth(w.otherwise), _truth(w.matched),
                   concepts(scope.at("where", facet, "doubtful"), w.doubtful), _words(scope.at("where", facet), w.words),
                   concepts(scope.at("where", facet, "against"), w.against))
        for facet, w in doc.where.items()
    )
    links = tuple(
        core.Link(role, concepts(scope.at("linked", role), link.to), _truth(link.missing)) for role, link in doc.linked.items()
    )
    return core.Selector(
        kinds, find, concepts(scope.at("minus"), doc.minus), review, concepts(scope.at("never"), doc.never),
        _words(scope, doc.words), where, links, doc.not_linked or None, concepts(scope.at("valued"), doc.valued),
        _truth(doc.unvalued), frozenset(doc.states), frozenset(doc.doubtful_states), doc.doubt_flag, doc.ended == "recorded",
        doc.other_study == "yes",
    )  # fmt: skip


def _check_shapes(scope: Scope, doc: docs.SelectorDoc, kinds: frozenset[str]) -> None:
    """The types, facets and links that a rule names are those of `resources.yaml`."""
    for kind in doc.in_:
        if kind not in scope.shapes:
            raise scope.at("in").error(f"unknown resource type {kind!r}", did_you_mean(kind, scope.shapes))
    shapes = [scope.shapes[kind] for kind in kinds if kind in scope.shapes]
    facets = {name for s in shapes for name in (*s.facets, *(s.components.facets if s.components else ()))}
    links = {name for s in shapes for name in s.links}
    named: list[tuple[str, Steps, str, set[str]]] = [("facet", ("where", name), name, facets) for name in doc.where]
    named += [("link", ("linked", name), name, links) for name in doc.linked]
    named += [("link", ("not_linked",), doc.not_linked, links)] if doc.not_linked else []
    for what, steps, name, known in named:
        if name not in known:
            remedy = did_you_mean(name, known) or f"known here: {', '.join(sorted(known))}"
            raise scope.at(*steps).error(f"no resource type here has a {what} {name!r}", remedy)


def _words(scope: Scope, name: str) -> Any:
    if not name or name == "none":
        return None
    if name not in scope.terms.words:
        raise scope.at("words").error(f"unknown list of words {name!r}", did_you_mean(name, scope.terms.words))
    return scope.terms.words[name]


def concepts(scope: Scope, names: Iterable[str]) -> frozenset[str]:
    known = scope.terms.found_in
    for number, name in enumerate(names):
        if name not in known:
            here = next((scope.at(s) for s in (number, name) if (*scope.steps, s) in scope.document.lines), scope)
            raise here.error(f"unknown concept {name!r}", did_you_mean(name, known))
    return frozenset(names)


def _truth(said: str) -> Truth:
    return {"yes": Truth.TRUE, "no": Truth.FALSE, "true": Truth.TRUE, "false": Truth.FALSE}.get(said, Truth.UNKNOWN)


def timing(scope: Scope, when: docs.When) -> core.Timing:
    match when:
        case "ever":
            return core.Ever()
        case "now":
            return core.Now()
        case "since-instance":
            return core.Since()
        case _:
            return _window(scope.at("when"), when)


def _window(scope: Scope, when: docs.WhenDoc) -> core.Timing:
    if when.lasting:
        return core.Now(length(scope.at("lasting"), when.lasting))
    if when.over_for or (when.not_before and not (when.within or when.overlaps or when.ended_within)):
        since = selector(scope.at("not_before"), when.not_before) if when.not_before else None
        over = length(scope.at("over_for"), when.over_for) if when.over_for else None
        return core.Until(over, _anchor(scope.at("before"), when.before), since)
    return during(scope, when)


def during(scope: Scope, when: docs.WhenDoc) -> core.During:
    given = {t: text for t, text in zip(core.Touch, (when.within, when.overlaps, when.ended_within), strict=True) if text}
    if len(given) != 1:
        raise scope.error("say one of within, overlaps, ended_within, lasting, over_for", "e.g. {within: 5 years, before: screening_date}")
    touch, text = next(iter(given.items()))
    unset = {"as-of": core.Unset.AS_OF, "wash-out": core.Unset.WASH_OUT, "unknown": core.Unset.UNKNOWN}[when.if_unset]
    whole, anchor = _window_length(scope, text), _anchor(scope.at("before"), when.before)
    return core.During(whole, anchor, touch, unset, when.dated_by, when.goes_on == "yes")


def _window_length(scope: Scope, text: str) -> Length:
    """The length of a window, less its earliest day where the trial leaves that outside (rule R8, `window_bound`)."""
    whole = length(scope, text)
    if scope.parameters.get("window_bound", "inclusive") == "inclusive":
        return whole
    return replace(whole, days=whole.days - 1)


def _anchor(scope: Scope, name: str) -> str:
    if name not in ANCHORS:
        raise scope.error(f"unknown anchor {name!r}", did_you_mean(name, ANCHORS) or f"anchors: {', '.join(sorted(ANCHORS))}")
    return name


def length(scope: Scope, text: str) -> Length:
    """"28 days", "3 weeks", "6 months", "1 year" (rule R8)."""
    match = _LENGTH.fullmatch(text.strip())
    if not match:
        raise scope.error(f"{text!r} is not a length of time", "write e.g. 28 days, 3 weeks, 6 months or 1 year")
    number = int(match.group(1))
    match match.group(2):
        case "day":
            return Length(days=number)
        case "week":
            return Length(days=7 * number)
        case "month":
            return Length(months=number)
        case _:
            return Length(months=12 * number)


def comparison(scope: Scope, text: str) -> tuple[Relation, Fraction, str]:
    match = _COMPARISON.fullmatch(text.strip())
    if not match:
        raise scope.at("needed").error(f"{text!r} is not a comparison", "write e.g. '>= 9.0 g/dL' or '<= 3 x ULN'")
    return Relation(match.group(1)), Fraction(match.group(2)), match.group(3).strip()


def _measure(scope: Scope, body: Any) -> core.Rule:
    doc = _doc(docs.MeasureDoc, scope, body)
    amount = _measured(scope, doc)
    relation, number, unit = comparison(scope, doc.needed)
    what = doc.what or _what(scope, amount)
    nearby = tuple(
        core.Nearby(flag, selector(scope.at("flag_near", flag), n), length(scope.at("flag_near", flag), n.within))
        for flag, n in doc.flag_near.items()
    )
    bar: core.Threshold | core.TimesUpperLimit
    if unit.lower().replace(" ", "") in ("xuln", "×uln"):
        bar = core.TimesUpperLimit(number)
    else:
        _check_unit(scope.at("needed"), amount, unit)
        bar = core.Threshold(number, unit)
    return _judged(scope, core.Measure(amount, relation, bar, what, nearby, core.Absence(doc.absent_means)))


def _measured(scope: Scope, doc: docs.MeasureDoc) -> core.Amounts:
    given: list[core.Amounts] = []
    if doc.latest:
        given.append(_latest(scope.at("latest"), doc.latest))
    if doc.largest:
        given.append(_largest(scope.at("largest"), doc.largest))
    if doc.mean:
        given.append(core.MeanOf(_latest(scope.at("mean"), doc.mean), doc.mean.last))
    if doc.derived:
        given.append(_derived(scope.at("derived"), doc.derived))
    if doc.first_of:
        given.append(_first_of(scope.at("first_of"), doc.first_of))
    if len(given) != 1:
        raise scope.error("say one of latest, largest, mean, derived, first_of")
    return given[0]


def _first_of(scope: Scope, content: Iterable[Any]) -> core.FirstOf:
    return core.FirstOf(tuple(_amount(scope.at(n), item) for n, item in enumerate(content)))


def _amount(scope: Scope, content: Any) -> core.Amounts:
    if not isinstance(content, dict) or len(content) != 1:
        raise scope.error("an amount is one of latest, derived, lower_bound, upper_bound, age_at, first_of")
    verb, body = next(iter(content.items()))
    here = scope.at(verb)
    match verb:
        case "latest":
            return _latest(here, _doc(docs.LatestDoc, here, body))
        case "largest":
            return _largest(here, _doc(docs.LargestDoc, here, body))
        case "derived":
            return _derived(here, body)
        case "lower_bound" | "upper_bound":
            return core.Bound(_amount(here, body), lower=verb == "lower_bound")
        case "age_at":
            return core.AgeYears(body)
        case "first_of":
            return _first_of(here, body)
        case _:
            known = ("latest", "largest", "derived", "lower_bound", "upper_bound", "age_at", "first_of")
            raise here.error(f"unknown kind of amount {verb!r}", did_you_mean(verb, known))


def _latest(scope: Scope, doc: docs.LatestDoc) -> core.Latest:
    select = selector(scope, doc)
    concepts(scope.at("flags"), doc.flags)
    return core.Latest(
        select, _analyte(scope, doc.analyte, select), length(scope.at("valid_for"), doc.valid_for) if doc.valid_for else None,
        _anchor(scope.at("before"), doc.before), doc.near, doc.same_day == "yes", tuple(doc.flags.items()),
        _words(scope.at("doubted_by"), doc.doubted_by), _count(scope.at("retests"), doc.retests),
    )  # fmt: skip


def _count(scope: Scope, text: str) -> int | None:
    if text and not text.isdigit():
        raise scope.error(f"{text!r} is not a number of times", "write e.g. 2")
    return int(text) if text else None


def _largest(scope: Scope, doc: docs.LargestDoc) -> core.Largest:
    select = selector(scope, doc)
    analyte = _analyte(scope, doc.analyte, select)
    return core.Largest(select, analyte, length(scope.at("valid_for"), doc.valid_for), _anchor(scope.at("before"), doc.before))


def _analyte(scope: Scope, named: str, select: core.Selector) -> str:
    known = scope.terms.vocabulary.analytes
    if named:
        if named not in known:
            raise scope.at("analyte").error(f"unknown analyte {named!r}", did_you_mean(named, known))
        return named
    given = {scope.terms.analyte_of.get(c) for c in select.find} - {None}
    if len(given) != 1:
        raise scope.error(f"what is measured by {', '.join(sorted(select.find))} is not one analyte", "add `analyte:`")
    return str(given.pop())


def _derived(scope: Scope, name: str) -> core.Derived:
    if name not in scope.derived:
        raise scope.error(f"unknown derived value {name!r}", did_you_mean(name, scope.derived))
    shared = scope.derived[name]
    here = replace(scope, document=shared.document, steps=shared.steps, depth=scope.depth + 1)
    if here.depth > 10:
        raise here.error(f"derived value {name!r} refers to itself")
    doc = _doc(docs.DerivationDoc, here, filled(here, shared.content))
    analytes = scope.terms.vocabulary.analytes
    analyte = doc.analyte or next((a.name for a in analytes.values() if a.unit == doc.unit), "")
    if analyte not in analytes:
        raise here.error(f"no analyte comes in {doc.unit!r}", "name it with `analyte:`")
    inputs = tuple((key, _amount(here.at("inputs", key), value)) for key, value in doc.inputs.items())
    for number, (key, amount) in enumerate(inputs):
        _check_mates(here.at("inputs", key), amount, list(doc.inputs)[:number])
    value = _formula(here.at("value"), doc.value, frozenset(doc.inputs))
    return core.Derived(name, doc.unit, analyte, inputs, value, doc.together == "yes", EvidenceKind(doc.evidence))


def _check_mates(scope: Scope, amount: core.Amounts, before: Sequence[str]) -> None:
    """An input may hang on one that stands before it, by name."""
    match amount:
        case core.AgeYears(at) if at not in before and at not in ANCHORS:
            remedy = did_you_mean(at, [*before, *ANCHORS])
            raise scope.at("age_at").error(f"{at!r} is neither an input before it nor an anchor", remedy)
        case core.Latest(near=near) if near and near not in before:
            raise scope.at("latest", "near").error(f"{near!r} is not an input before it", did_you_mean(near, before))
        case core.Bound(source, lower):
            _check_mates(scope.at("lower_bound" if lower else "upper_bound"), source, before)
        case core.FirstOf(sources):
            for number, source in enumerate(sources):
                _check_mates(scope.at("first_of", number), source, before)
        case _:
            return


def _formula(scope: Scope, content: Any, inputs: frozenset[str]) -> core.Formula:
    if isinstance(content, str):
        if content in inputs:
            return core.Input(content)
        try:
            top, _, bottom = content.partition("/")
            return core.Number(Fraction(top.strip()) / Fraction(bottom.strip() or 1))
        except (ValueError, ZeroDivisionError):
            raise scope.error(f"{content!r} is neither a number nor an input", did_you_mean(content, inputs)) from None
    if not isinstance(content, dict) or len(content) != 1:
        raise scope.error("a formula is a number, an input, or one operation")
    verb, body = next(iter(content.items()))
    if verb == "by_sex":
        return _by_sex(scope.at(verb), body)
    if verb not in list(core.Operation):
        known = [*core.Operation, "by_sex"]
        raise scope.at(verb).error(f"unknown operation {verb!r}", did_you_mean(verb, known) or ", ".join(known))
    here = scope.at(verb)
    listed = [(here.at(n), one) for n, one in enumerate(body)] if isinstance(body, list) else [(here, body)]
    if not _takes(core.Operation(verb), len(listed)):
        raise here.error(f"{verb} takes {_OPERANDS.get(core.Operation(verb), 'one number or more')} (found {len(listed)})")
    return core.Apply(core.Operation(verb), tuple(_formula(place, one, inputs) for place, one in listed))


_OPERANDS = {
    core.Operation.POWER: "two numbers",
    core.Operation.SQRT: "one number",
    core.Operation.LN: "one number",
    core.Operation.LOG10: "one number",
}


def _takes(operation: core.Operation, count: int) -> bool:
    return count == {"two numbers": 2, "one number": 1}.get(_OPERANDS.get(operation, ""), max(count, 1))


def _by_sex(scope: Scope, body: Any) -> core.BySex:
    if not isinstance(body, dict) or set(body) != {"male", "female"}:
        raise scope.error("by_sex names a number for male and one for female", 'e.g. {male: "1", female: "0.85"}')
    male, female = (_formula(scope.at(sex), body[sex], frozenset()) for sex in ("male", "female"))
    if not isinstance(male, core.Number) or not isinstance(female, core.Number):
        raise scope.error("by_sex names a number for male and one for female", 'e.g. {male: "1", female: "0.85"}')
    return core.BySex(male.value, female.value)


def _what(scope: Scope, amount: core.Amounts) -> str:
    match amount:
        case core.Latest() | core.Largest():
            return scope.terms.vocabulary.label(amount.select.find)
        case core.MeanOf():
            return _what(scope, amount.latest)
        case core.Derived():
            return amount.name.replace("-", " ")
        case core.Bound():
            return _what(scope, amount.source)
        case core.FirstOf():
            return _what(scope, amount.sources[0])
        case core.AgeYears():
            return "age"


def _check_unit(scope: Scope, amount: core.Amounts, unit: str) -> None:
    for name in _analytes_in(amount):
        analyte = scope.terms.vocabulary.analytes[name]
        if unit not in analyte.factors:
            raise scope.error(
                f"{name} does not come in {unit!r}",
                did_you_mean(unit, [*analyte.factors, "x ULN"]) or f"units: {', '.join(analyte.factors)}",
            )


def _analytes_in(amount: core.Amounts) -> set[str]:
    match amount:
        case core.Latest() | core.Largest() | core.Derived():
            return {amount.analyte}
        case core.MeanOf():
            return {amount.latest.analyte}
        case core.Bound():
            return _analytes_in(amount.source)
        case core.FirstOf():
            return set().union(*(_analytes_in(source) for source in amount.sources))
        case core.AgeYears():
            return {"age"}


def _result(scope: Scope, body: Any) -> core.Rule:
    doc = _doc(docs.ResultDoc, scope, body)
    among, against = _sides(scope, doc)
    select = selector(scope, doc)
    lengths = [length(scope, text) if text else None for text in (doc.valid_for, doc.negative_valid_for)]
    rule = core.Result(
        select, among, against, core.Pick(doc.pick), lengths[0], lengths[1], _anchor(scope.at("before"), doc.before), doc.number_means,
        _absence(scope, doc.absent_means), selector(scope.at("not_before"), doc.not_before) if doc.not_before else None,
        doc.what, EvidenceKind(doc.evidence),
    )  # fmt: skip
    return _judged(scope, rule)


def _sides(scope: Scope, doc: docs.ResultDoc) -> tuple[frozenset[str], frozenset[str]]:
    sides = {"positive": "qual-positive", "negative": "qual-negative"}
    if doc.is_ == ("positive",):
        return frozenset({sides["positive"]}), frozenset({sides["negative"]})
    if doc.is_ == ("negative",):
        return frozenset({sides["negative"]}), frozenset({sides["positive"]})
    return concepts(scope.at("is"), doc.is_), concepts(scope.at("against"), doc.against)


def _daily_dose(scope: Scope, body: Any) -> core.Rule:
    doc = _doc(docs.DailyDoseDoc, scope, body)
    relation, number, unit = comparison(scope, doc.needed)
    if unit != "mg":
        raise scope.at("needed").error("a daily dose is compared in mg", "write e.g. '> 20 mg'")
    concepts(scope.at("per_milligram"), doc.per_milligram)
    factors = tuple(
        (concept, _ratio(scope.at("per_milligram", concept), text)) for concept, text in doc.per_milligram.items()
    )
    rule = core.DailyDose(selector(scope, doc), factors, relation, number, during(scope.at("when"), doc.when), doc.what,
                          _exemption(scope, doc))
    return _judged(scope, rule)


def _ratio(scope: Scope, text: str) -> Fraction:
    top, _, bottom = text.partition("/")
    try:
        return Fraction(top.strip()) / Fraction(bottom.strip() or 1)
    except (ValueError, ZeroDivisionError):
        raise scope.error(f"{text!r} is not a fraction", "write e.g. 5/0.75") from None


def _then(scope: Scope, body: Any) -> core.Rule:
    doc = _doc(docs.ThenDoc, scope, body)
    events = tuple(selector(scope.at("event", n), e) for n, e in enumerate(doc.event))
    return _judged(scope, core.Then(selector(scope.at("first"), doc.first), events, length(scope, doc.within), doc.what,
                                    doc.first_day_counts == "yes"))


def _stable(scope: Scope, body: Any) -> core.Rule:
    doc = _doc(docs.StableDoc, scope, body)
    good, bad = concepts(scope.at("good"), doc.good), concepts(scope.at("bad"), doc.bad)
    select = selector(scope.at("of"), doc.of)
    return _judged(scope, core.Stable(select, good, bad, length(scope, doc.for_), _anchor(scope.at("before"), doc.before), doc.what))


def _several(scope: Scope, body: Any) -> core.Rule:
    doc = _doc(docs.SeveralDoc, scope, body)
    if bool(doc.told_apart_by) is bool(doc.begun_apart):
        raise scope.error("what tells these facts apart is not said", "say one of `told_apart_by:` and `begun_apart:`")
    apart = length(scope.at("begun_apart"), doc.begun_apart) if doc.begun_apart else None
    by = concepts(scope.at("told_apart_by"), doc.told_apart_by)
    return _judged(scope, core.Several(selector(scope, doc), timing(scope, doc.when), by, apart, doc.what))


def _age(scope: Scope, body: Any) -> core.Rule:
    doc = _doc(docs.AgeDoc, scope, body)
    relation, number, unit = comparison(scope, doc.needed)
    if number.denominator != 1 or unit not in ("", "years"):
        raise scope.at("needed").error("an age is compared in completed years", "write e.g. '>= 19 years'")
    return core.Age(relation, int(number), _anchor(scope.at("at"), doc.at))


def _sex(scope: Scope, body: Any) -> core.Rule:
    if body not in ("male", "female"):
        raise scope.error(f"sex is male or female (found {body!r})")
    return core.Sex(body)


def _instance_is(scope: Scope, body: Any) -> core.Rule:
    doc = _doc(docs.InstanceDoc, scope, body)
    return core.InstanceIs(*(concepts(scope.at(key), getattr(doc, key)) for key in ("find", "review", "never")))


def _instance_state(scope: Scope, body: Any) -> core.Rule:
    return _judged(scope, core.InstanceState(frozenset([body] if isinstance(body, str) else body)))


# --- composition -------------------------------------------------------------------------------------------------


def _rules(scope: Scope, body: Any) -> tuple[core.Rule, ...]:
    if not isinstance(body, list) or not body:
        raise scope.error("a list of rules is expected here")
    return tuple(compile_rule(scope.at(n), item) for n, item in enumerate(body))


def _at_least(scope: Scope, body: Any) -> core.Rule:
    doc = _doc(docs.AtLeastDoc, scope, body)
    if doc.count > len(doc.of):
        raise scope.error(f"at least {doc.count} of {len(doc.of)} can never be true", "lower `count:` or add a rule")
    return core.AtLeast(doc.count, _rules(scope.at("of"), list(doc.of)))


def _agree(scope: Scope, body: Any) -> core.Rule:
    doc = _doc(docs.AgreeDoc, scope, body)
    return core.Agree(_rules(scope.at("of"), list(doc.of)), doc.flag)


def _decide(scope: Scope, body: Any) -> core.Rule:
    doc = _doc(docs.DecideDoc, scope, body)
    shown = compile_rule(scope.at("shown_by"), doc.shown_by)
    ruled_out = compile_rule(scope.at("ruled_out_by"), doc.ruled_out_by)
    if scope.absence == "closed":
        said = core.Constant(Truth.TRUE, f"none on record: {doc.what}; the site says that its records would tell")
        ruled_out = core.Any((ruled_out, said))
    return core.Decide(shown, ruled_out, doc.what)


def _taken_back(scope: Scope, body: Any) -> core.Rule:
    doc = _doc(docs.TakenBackDoc, scope, body)
    return core.Unless(compile_rule(scope.at("rule"), doc.rule), compile_rule(scope.at("by"), doc.by), doc.flag)


def _applies_when(scope: Scope, body: Any) -> core.Rule:
    doc = _doc(docs.AppliesWhenDoc, scope, body)
    condition = compile_rule(replace(scope.at("condition"), proxy=False), doc.condition)
    return core.AppliesWhen(condition, compile_rule(scope.at("rule"), doc.rule))


def _flagged(scope: Scope, body: Any) -> core.Rule:
    doc = _doc(docs.FlaggedDoc, scope, body)
    when = compile_rule(replace(scope.at("when"), proxy=False), doc.when)
    return core.Flagged(compile_rule(scope.at("rule"), doc.rule), doc.flag, when, _truth(doc.is_))


def _review(scope: Scope, body: Any) -> core.Rule:
    doc = _doc(docs.BecauseDoc, scope, body)
    return core.Review(compile_rule(scope.at("rule"), doc.rule), doc.because)


def _doubt(scope: Scope, body: Any) -> core.Rule:
    doc = _doc(docs.DoubtDoc, scope, body)
    unless = compile_rule(replace(scope.at("unless"), proxy=False), doc.unless) if doc.unless is not None else None
    return core.Doubt(compile_rule(scope.at("rule"), doc.rule), doc.because, unless)


def _choose(scope: Scope, body: Any) -> core.Rule:
    doc = _doc(docs.ChooseDoc, scope, body)
    for case in doc.cases:
        compile_rule(scope.at("cases", case), doc.cases[case])
    if doc.by not in doc.cases:
        raise scope.error(f"no case for {doc.by!r}", did_you_mean(doc.by, doc.cases) or f"cases: {', '.join(doc.cases)}")
    return compile_rule(scope.at("cases", doc.by), doc.cases[doc.by])


def _use(scope: Scope, body: Any) -> core.Rule:
    if isinstance(body, str):
        body = {"rule": body}
    doc = _doc(docs.UseDoc, scope, body)
    if doc.rule not in scope.library:
        raise scope.error(f"unknown shared rule {doc.rule!r}", did_you_mean(doc.rule, scope.library))
    if scope.depth > 10:
        raise scope.error(f"shared rule {doc.rule!r} uses itself")
    shared = scope.library[doc.rule]
    inner = replace(
        scope, document=shared.document, steps=shared.steps, parameters={**scope.parameters, **doc.with_}, depth=scope.depth + 1
    )
    return compile_rule(inner, shared.content)


def _atom(scope: Scope, body: Any) -> core.Rule:
    if body not in scope.atoms:
        raise scope.error(f"unknown atom {body!r}", did_you_mean(str(body), scope.atoms))
    return core.AtomRef(body)


def _coded(scope: Scope, body: Any) -> core.Rule:
    return core.Coded(compile_rule(replace(scope, proxy=False), body))


def _judge(scope: Scope, body: Any) -> core.Rule:
    return core.Judged(compile_rule(replace(scope, proxy=False), body))


def _constant(scope: Scope, body: Any) -> core.Rule:
    doc = _doc(docs.ConstantDoc, scope, body)
    return core.Constant(_truth(doc.truth), doc.because)


VERBS: Mapping[str, Callable[[Scope, Any], core.Rule]] = {
    "has": _has,
    "says": _says,
    "measure": _measure,
    "result": _result,
    "daily_dose": _daily_dose,
    "then": _then,
    "stable": _stable,
    "several": _several,
    "age": _age,
    "sex": _sex,
    "instance_is": _instance_is,
    "instance_state": _instance_state,
    "all": lambda scope, body: core.All(_rules(scope, body)),
    "any": lambda scope, body: core.Any(_rules(scope, body)),
    "not": lambda scope, body: core.Not(compile_rule(scope, body)),
    "at_least": _at_least,
    "agree": _agree,
    "decide": _decide,
    "taken_back": _taken_back,
    "applies_when": _applies_when,
    "flagged": _flagged,
    "review": _review,
    "doubt": _doubt,
    "choose": _choose,
    "use": _use,
    "atom": _atom,
    "coded": _coded,
    "judged": _judge,
    "fixed": _constant,
}

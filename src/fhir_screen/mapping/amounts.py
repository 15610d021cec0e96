"""Compiles what is measured: latest, largest and mean results, derived values and their formulas, and the limit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, Final

from fhir_screen.core import rules as core
from fhir_screen.core.answers import EvidenceKind
from fhir_screen.core.quantities import Relation, number_text
from fhir_screen.core.units import limit
from fhir_screen.mapping import documents as docs
from fhir_screen.mapping.scalars import fraction_of
from fhir_screen.mapping.scope import Scope, checked, filled
from fhir_screen.mapping.selectors import ANCHORS, anchor_of, concepts, length, selector, words_of
from fhir_screen.mapping.yamlfile import one_of

_COMPARISON = re.compile(r"(<=|>=|<|>|=)\s*(\d+(?:\.\d+)?)\s*(.*)")


def comparison(scope: Scope, text: str) -> tuple[Relation, Fraction, str]:
    match = _COMPARISON.fullmatch(text.strip())
    if not match:
        raise scope.at("needed").error(f"{text!r} is not a comparison", "write e.g. '>= 9.0 g/dL' or '<= 3 x ULN'")
    return Relation(match.group(1)), Fraction(match.group(2)), match.group(3).strip()


def measured(scope: Scope, doc: docs.MeasureDoc) -> core.Amounts:
    if doc.older_stands and not doc.first_of:
        raise scope.at("older_stands").error("only of `first_of` one stands before another", "take `older_stands:` out")
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
        given.append(replace(_first_of(scope.at("first_of"), doc.first_of), older_stands=doc.older_stands))
    if len(given) != 1:
        raise scope.error("what is measured is said not at all, or twice", "say one of latest, largest, mean, derived, first_of")
    return given[0]


def _first_of(scope: Scope, content: Iterable[Any]) -> core.FirstOf:
    return core.FirstOf(tuple(_amount(scope.at(n), item) for n, item in enumerate(content)))


_AMOUNTS: Final = ("latest", "largest", "derived", "lower_bound", "upper_bound", "age_at", "first_of")


def _amount(scope: Scope, content: Any) -> core.Amounts:
    if not isinstance(content, dict) or len(content) != 1:
        raise scope.error("an amount is one key and what it says", f"write one of {', '.join(_AMOUNTS)}")
    verb, body = next(iter(content.items()))
    here = scope.at(verb)
    match verb:
        case "latest":
            return _latest(here, checked(docs.LatestDoc, here, body))
        case "largest":
            return _largest(here, checked(docs.LargestDoc, here, body))
        case "derived":
            return _derived(here, body)
        case "lower_bound" | "upper_bound":
            return core.Bound(_amount(here, body), lower=verb == "lower_bound")
        case "age_at":
            return core.AgeYears(body)
        case "first_of":
            return _first_of(here, body)
        case _:
            raise here.error(f"unknown kind of amount {verb!r}", one_of(verb, "kinds", _AMOUNTS))


def _latest(scope: Scope, doc: docs.LatestDoc) -> core.Latest:
    select = selector(scope, doc)
    concepts(scope.at("flags"), doc.flags)
    return core.Latest(
        select, _analyte(scope, doc.analyte, select), length(scope.at("valid_for"), doc.valid_for) if doc.valid_for else None,
        anchor_of(scope.at("before"), doc.before), doc.near, doc.same_day, tuple(doc.flags.items()),
        words_of(scope.at("doubted_by"), doc.doubted_by), _whole(scope.at("since_age"), doc.since_age, "years"),
        _whole(scope.at("retests"), doc.retests, "times"),
    )  # fmt: skip


def _whole(scope: Scope, text: str, of: str) -> int | None:
    if text and not text.isdigit():
        raise scope.error(f"{text!r} is not a number of {of}", "write a whole number, e.g. 2")
    return int(text) if text else None


def _largest(scope: Scope, doc: docs.LargestDoc) -> core.Largest:
    select = selector(scope, doc)
    analyte = _analyte(scope, doc.analyte, select)
    return core.Largest(select, analyte, length(scope.at("valid_for"), doc.valid_for), anchor_of(scope.at("before"), doc.before))


def _analyte(scope: Scope, named: str, select: core.Selector) -> str:
    known = scope.terms.vocabulary.analytes
    if named:
        if named not in known:
            raise scope.at("analyte").error(f"unknown analyte {named!r}", one_of(named, "analytes", known))
        return named
    given = {scope.terms.analyte_of.get(c) for c in select.find} - {None}
    if len(given) != 1:
        raise scope.error(f"what is measured by {', '.join(sorted(select.find))} is not one analyte", "add `analyte:`")
    return str(given.pop())


def _derived(scope: Scope, name: str) -> core.Derived:
    if name not in scope.derived:
        raise scope.error(f"unknown derived value {name!r}", one_of(name, "derived values", scope.derived))
    shared = scope.derived[name]
    here = replace(scope, document=shared.document, steps=shared.steps, depth=scope.depth + 1)
    if here.depth > 10:
        raise here.error(f"derived value {name!r} refers to itself", "break the circle")
    doc = checked(docs.DerivationDoc, here, filled(here, shared.content))
    analytes = scope.terms.vocabulary.analytes
    analyte = doc.analyte or next((a.name for a in analytes.values() if a.unit == doc.unit), "")
    if analyte not in analytes:
        raise here.error(f"no analyte comes in {doc.unit!r}", "name it with `analyte:`")
    inputs = tuple((key, _amount(here.at("inputs", key), value)) for key, value in doc.inputs.items())
    for number, (key, amount) in enumerate(inputs):
        _check_mates(here.at("inputs", key), amount, list(doc.inputs)[:number])
    value = _formula(here.at("value"), doc.value, frozenset(doc.inputs))
    label = doc.label or name.replace("-", " ")
    return core.Derived(label, doc.unit, analyte, inputs, value, doc.together, EvidenceKind(doc.evidence))


def _check_mates(scope: Scope, amount: core.Amounts, before: Sequence[str]) -> None:
    """An input may hang on one that stands before it, by name."""
    match amount:
        case core.AgeYears(at) if at not in before and at not in ANCHORS:
            remedy = one_of(at, "inputs and anchors", [*before, *sorted(ANCHORS)])
            raise scope.at("age_at").error(f"{at!r} is neither an input before it nor an anchor", remedy)
        case core.Latest(near=near) if near and near not in before:
            raise scope.at("latest", "near").error(f"{near!r} is not an input before it", one_of(near, "inputs before it", before))
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
        number = fraction_of(content)
        if number is None:
            raise scope.error(f"{content!r} is neither a number nor an input", one_of(content, "inputs", inputs))
        return core.Number(number)
    if not isinstance(content, dict) or len(content) != 1:
        raise scope.error("a formula is a number, an input, or one operation", "write e.g. {divide: [a, \"100\"]}")
    verb, body = next(iter(content.items()))
    if verb == "by_sex":
        return _by_sex(scope.at(verb), body)
    if verb not in list(core.Operation):
        known = [*core.Operation, "by_sex"]
        raise scope.at(verb).error(f"unknown operation {verb!r}", one_of(verb, "operations", known))
    here = scope.at(verb)
    listed = [(here.at(n), one) for n, one in enumerate(body)] if isinstance(body, list) else [(here, body)]
    if not _takes(core.Operation(verb), len(listed)):
        takes = _OPERANDS.get(core.Operation(verb), "one number or more")
        raise here.error(f"{verb} takes {takes} (found {len(listed)})", f"write a list of {takes}")
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


def label_of(scope: Scope, amount: core.Amounts) -> str:
    match amount:
        case core.Latest() | core.Largest():
            return scope.terms.vocabulary.label(amount.select.find)
        case core.MeanOf():
            return label_of(scope, amount.latest)
        case core.Derived():
            return amount.name
        case core.Bound():
            return label_of(scope, amount.source)
        case core.FirstOf():
            return label_of(scope, amount.sources[0])
        case core.AgeYears():
            return "age"


def check_limit(scope: Scope, amount: core.Amounts, number: Fraction, unit: str) -> None:
    """A limit has a unit of what is measured, and lies where its values may lie: 9 g/L is no limit of hemoglobin."""
    for name in sorted(_analytes_in(amount)):
        analyte = scope.terms.vocabulary.analytes[name]
        if not unit and not analyte.unit.startswith("{"):
            raise scope.error(f"{number_text(number)} has no unit", f"write e.g. {number_text(number)} {analyte.unit}")
        if unit not in analyte.factors:
            raise scope.error(f"{name} does not come in {unit!r}", one_of(unit, "units", [*analyte.factors, "x ULN"]))
        height = limit(number, unit, analyte)
        bounds = [end for one in analyte.plausible for end in (one.low, one.high) if end is not None]
        if bounds and height is not None and not min(bounds) <= height <= max(bounds):
            told = f"{number_text(number)} {unit} is {number_text(height)} {analyte.unit}"
            span = f"{number_text(min(bounds))} to {number_text(max(bounds))}"
            raise scope.error(f"{told}, where no value of {name} lies ({span})", "check the unit")


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


def ratio(scope: Scope, text: str) -> Fraction:
    number = fraction_of(text)
    if number is None:
        raise scope.error(f"{text!r} is not a fraction", "write e.g. 5/0.75")
    return number

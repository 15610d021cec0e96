"""Compiles the YAML of the rule language, verb by verb, into `core.rules`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fhir_screen.core import rules as core
from fhir_screen.core.answers import EvidenceKind
from fhir_screen.core.truth import Truth
from fhir_screen.errors import MappingError
from fhir_screen.mapping import documents as docs
from fhir_screen.mapping.amounts import check_limit, comparison, label_of, measured, ratio
from fhir_screen.mapping.scope import Scope, checked, filled
from fhir_screen.mapping.selectors import anchor_of, concepts, during, length, selector, timing, truth_of
from fhir_screen.mapping.yamlfile import one_of


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
        raise scope.at(verb).error(f"unknown verb {verb!r}", one_of(verb, "verbs", VERBS))
    return VERBS[verb](scope.at(verb), body)


def _judged(scope: Scope, rule: core.Rule, *, found_only: bool = False) -> core.Rule:
    """A leaf of a proxy atom is a judgement, unless the mapping says `coded` (rule R17)."""
    return core.Judged(rule, found_only) if scope.proxy else rule


# --- leaves ------------------------------------------------------------------------------------------------------


def _has(scope: Scope, body: Any) -> core.Rule:
    doc = checked(docs.HasDoc, scope, body)
    select = selector(scope, doc)
    absence = _absence(scope, doc.absent_means)
    if doc.absent_means == "no" and select.words is None and select.find and not doc.words:
        raise scope.error("silence is a no here, but no words guard against uncoded records", "add `words:` or `words: none`")
    what = doc.what or scope.terms.vocabulary.label(select.find)
    rule = core.Has(
        select, absence, timing(scope, doc.when, select.kinds), what, EvidenceKind(doc.evidence),
        Truth.UNKNOWN if doc.older_means == "unknown" else Truth.FALSE, _exemption(scope, doc),
        concepts(scope.at("denied_by"), doc.denied_by), doc.denial_settles, scope.least_conditions,
        frozenset(doc.older_states), doc.denied_counts,
    )  # fmt: skip
    return _judged(scope, rule, found_only=True)


def _exemption(scope: Scope, doc: docs.HasDoc | docs.DailyDoseDoc) -> core.Exemption | None:
    begun = "" if doc.exempt_from == "none" else anchor_of(scope.at("exempt_from"), doc.exempt_from)
    return core.Exemption(begun) if doc.protocol_exempt else None


def _says(scope: Scope, body: Any) -> core.Rule:
    doc = checked(docs.SaysDoc, scope, body)
    select = selector(scope, doc)
    if select.words is None:
        raise scope.error("which words to look for is not said", "add `words:`")
    return _judged(scope, core.Says(replace(select, words=None), select.words, doc.what, doc.absent_means == "nothing"))


def _absence(scope: Scope, said: str) -> core.Absence:
    absence = core.Absence(said)
    if scope.absence and absence is not core.Absence.SILENT:
        return core.Absence.CLOSED if scope.absence == "closed" else core.Absence.OPEN
    return absence


def _measure(scope: Scope, body: Any) -> core.Rule:
    doc = checked(docs.MeasureDoc, scope, body)
    amount = measured(scope, doc)
    relation, number, unit = comparison(scope, doc.needed)
    what = doc.what or label_of(scope, amount)
    nearby = _nearby(scope, doc.flag_near)
    bar: core.Threshold | core.TimesUpperLimit
    if unit.lower().replace(" ", "") in ("xuln", "×uln"):
        bar = core.TimesUpperLimit(number)
    else:
        check_limit(scope.at("needed"), amount, number, unit)
        bar = core.Threshold(number, unit, doc.needed.strip(" <>=").split(" ")[0])
    return _judged(scope, core.Measure(amount, relation, bar, what, nearby, core.Absence(doc.absent_means)))


def _nearby(scope: Scope, near: Mapping[str, docs.NearbyDoc]) -> tuple[core.Nearby, ...]:
    return tuple(
        core.Nearby(flag, selector(scope.at("flag_near", flag), n), length(scope.at("flag_near", flag, "within"), n.within))
        for flag, n in near.items()
    )


def _result(scope: Scope, body: Any) -> core.Rule:
    doc = checked(docs.ResultDoc, scope, body)
    among, against = _sides(scope, doc)
    select = selector(scope, doc)
    valid, negative_valid = (
        length(scope.at(key), text) if text else None
        for key, text in (("valid_for", doc.valid_for), ("negative_valid_for", doc.negative_valid_for))
    )
    rule = core.Result(
        select, among, against, core.Pick(doc.pick), valid, negative_valid, anchor_of(scope.at("before"), doc.before), doc.number_means,
        _absence(scope, doc.absent_means), selector(scope.at("not_before"), doc.not_before) if doc.not_before else None,
        doc.what, EvidenceKind(doc.evidence), _nearby(scope, doc.flag_near),
    )  # fmt: skip
    return _judged(scope, rule)


def _sides(scope: Scope, doc: docs.ResultDoc) -> tuple[frozenset[str], frozenset[str]]:
    positive, negative = frozenset({"qual-positive"}), frozenset({"qual-negative"})
    if doc.is_ in (("positive",), ("negative",)):
        if doc.against:
            raise scope.at("against").error("positive and negative are each other's opposite", "take `against:` out")
        return (positive, negative) if doc.is_ == ("positive",) else (negative, positive)
    return concepts(scope.at("is"), doc.is_), concepts(scope.at("against"), doc.against)


def _daily_dose(scope: Scope, body: Any) -> core.Rule:
    doc = checked(docs.DailyDoseDoc, scope, body)
    relation, number, unit = comparison(scope, doc.needed)
    if unit != "mg":
        raise scope.at("needed").error("a daily dose is compared in mg", "write e.g. '> 20 mg'")
    concepts(scope.at("per_milligram"), doc.per_milligram)
    factors = tuple(
        (concept, ratio(scope.at("per_milligram", concept), text)) for concept, text in doc.per_milligram.items()
    )
    select = selector(scope, doc)
    window = during(scope.at("when"), doc.when, select.kinds)
    return _judged(scope, core.DailyDose(select, factors, relation, number, window, doc.what, _exemption(scope, doc)))


def _then(scope: Scope, body: Any) -> core.Rule:
    doc = checked(docs.ThenDoc, scope, body)
    events = tuple(selector(scope.at("event", n), e) for n, e in enumerate(doc.event))
    return _judged(scope, core.Then(selector(scope.at("first"), doc.first), events, length(scope.at("within"), doc.within), doc.what,
                                    doc.first_day_counts, doc.after == "end", doc.newly))


def _stable(scope: Scope, body: Any) -> core.Rule:
    doc = checked(docs.StableDoc, scope, body)
    good, bad = concepts(scope.at("good"), doc.good), concepts(scope.at("bad"), doc.bad)
    select = selector(scope.at("of"), doc.of)
    since = tuple(selector(scope.at("since", n), one) for n, one in enumerate(doc.since))
    anchor = anchor_of(scope.at("before"), doc.before)
    return _judged(scope, core.Stable(select, good, bad, length(scope.at("for"), doc.for_), anchor, doc.what, since))


def _several(scope: Scope, body: Any) -> core.Rule:
    doc = checked(docs.SeveralDoc, scope, body)
    if bool(doc.told_apart_by) is bool(doc.begun_apart):
        raise scope.error("what tells these facts apart is not said", "say one of `told_apart_by:` and `begun_apart:`")
    apart = length(scope.at("begun_apart"), doc.begun_apart) if doc.begun_apart else None
    by = concepts(scope.at("told_apart_by"), doc.told_apart_by)
    select = selector(scope, doc)
    return _judged(scope, core.Several(select, timing(scope, doc.when, select.kinds), by, apart, doc.what))


def _age(scope: Scope, body: Any) -> core.Rule:
    doc = checked(docs.AgeDoc, scope, body)
    relation, number, unit = comparison(scope, doc.needed)
    if number.denominator != 1 or unit not in ("", "years"):
        raise scope.at("needed").error("an age is compared in completed years", "write e.g. '>= 19 years'")
    return core.Age(relation, int(number), anchor_of(scope.at("at"), doc.at))


def _sex(scope: Scope, body: Any) -> core.Rule:
    if body not in ("male", "female"):
        raise scope.error(f"{body!r} is no sex that a rule asks for", "write male or female")
    return core.Sex(body)


def _instance_is(scope: Scope, body: Any) -> core.Rule:
    doc = checked(docs.InstanceDoc, scope, body)
    return core.InstanceIs(*(concepts(scope.at(key), getattr(doc, key)) for key in ("find", "review", "never")))


def _instance_state(scope: Scope, body: Any) -> core.Rule:
    return _judged(scope, core.InstanceState(frozenset([body] if isinstance(body, str) else body)))


# --- composition -------------------------------------------------------------------------------------------------


def _rules(scope: Scope, body: Any) -> tuple[core.Rule, ...]:
    if not isinstance(body, list) or not body:
        raise scope.error("a list of rules is expected here", "write [one, another], or lines that begin with -")
    return tuple(compile_rule(scope.at(n), item) for n, item in enumerate(body))


def _at_least(scope: Scope, body: Any) -> core.Rule:
    doc = checked(docs.AtLeastDoc, scope, body)
    if doc.count > len(doc.of):
        raise scope.error(f"at least {doc.count} of {len(doc.of)} can never be true", "lower `count:` or add a rule")
    return core.AtLeast(doc.count, _rules(scope.at("of"), list(doc.of)))


def _agree(scope: Scope, body: Any) -> core.Rule:
    doc = checked(docs.AgreeDoc, scope, body)
    return core.Agree(_rules(scope.at("of"), list(doc.of)), doc.flag)


def _decide(scope: Scope, body: Any) -> core.Rule:
    doc = checked(docs.DecideDoc, scope, body)
    shown = compile_rule(scope.at("shown_by"), doc.shown_by)
    ruled_out = compile_rule(scope.at("ruled_out_by"), doc.ruled_out_by)
    if scope.absence == "closed":
        said = core.Constant(Truth.TRUE, f"none on record: {doc.what}; the site says that its records would tell")
        ruled_out = core.Any((ruled_out, said))
    return core.Decide(shown, ruled_out, doc.what)


def _taken_back(scope: Scope, body: Any) -> core.Rule:
    doc = checked(docs.TakenBackDoc, scope, body)
    return core.Unless(compile_rule(scope.at("rule"), doc.rule), compile_rule(scope.at("by"), doc.by), doc.flag)


def _applies_when(scope: Scope, body: Any) -> core.Rule:
    doc = checked(docs.AppliesWhenDoc, scope, body)
    condition = compile_rule(replace(scope.at("condition"), proxy=False), doc.condition)
    return core.AppliesWhen(condition, compile_rule(scope.at("rule"), doc.rule))


def _flagged(scope: Scope, body: Any) -> core.Rule:
    doc = checked(docs.FlaggedDoc, scope, body)
    when = compile_rule(replace(scope.at("when"), proxy=False), doc.when)
    return core.Flagged(compile_rule(scope.at("rule"), doc.rule), doc.flag, when, truth_of(doc.is_))


def _review(scope: Scope, body: Any) -> core.Rule:
    doc = checked(docs.BecauseDoc, scope, body)
    return core.Review(compile_rule(scope.at("rule"), doc.rule), doc.because)


def _doubt(scope: Scope, body: Any) -> core.Rule:
    doc = checked(docs.DoubtDoc, scope, body)
    unless = compile_rule(replace(scope.at("unless"), proxy=False), doc.unless) if doc.unless is not None else None
    return core.Doubt(compile_rule(scope.at("rule"), doc.rule), doc.because, unless)


def _choose(scope: Scope, body: Any) -> core.Rule:
    doc = checked(docs.ChooseDoc, scope, body)
    for case in doc.cases:
        compile_rule(scope.at("cases", case), doc.cases[case])
    if doc.by not in doc.cases:
        raise scope.error(f"no case for {doc.by!r}", one_of(doc.by, "cases", doc.cases))
    return compile_rule(scope.at("cases", doc.by), doc.cases[doc.by])


def _use(scope: Scope, body: Any) -> core.Rule:
    if isinstance(body, str):
        body = {"rule": body}
    doc = checked(docs.UseDoc, scope, body)
    if doc.rule not in scope.library:
        raise scope.error(f"unknown shared rule {doc.rule!r}", one_of(doc.rule, "shared rules", scope.library))
    if scope.depth > 10:
        raise scope.error(f"shared rule {doc.rule!r} uses itself", "break the circle")
    shared = scope.library[doc.rule]
    inner = replace(
        scope, document=shared.document, steps=shared.steps, parameters={**scope.parameters, **doc.with_}, used=set(),
        depth=scope.depth + 1,
    )  # fmt: skip
    try:
        rule = compile_rule(inner, shared.content)
    except MappingError as mistake:
        if not doc.with_ or mistake.where.startswith(f"{scope.document.path}:"):
            raise
        handed = ", ".join(f"{name}: {value}" for name, value in doc.with_.items())
        raise scope.error(f"{mistake.what} (in {mistake.where}, with {handed})", mistake.remedy) from mistake
    for name in doc.with_:
        if name not in inner.used:
            what = f"shared rule {doc.rule!r} has no argument {name!r}"
            raise scope.at("with", name).error(what, one_of(name, "it reads", inner.used))
    scope.used.update(inner.used - doc.with_.keys())
    return rule


def _atom(scope: Scope, body: Any) -> core.Rule:
    if body not in scope.atoms:
        raise scope.error(f"unknown atom {body!r}", one_of(str(body), "atoms", scope.atoms))
    return core.AtomRef(body)


def _coded(scope: Scope, body: Any) -> core.Rule:
    return core.Coded(compile_rule(replace(scope, proxy=False), body))


def _judge(scope: Scope, body: Any) -> core.Rule:
    return core.Judged(compile_rule(replace(scope, proxy=False), body))


def _constant(scope: Scope, body: Any) -> core.Rule:
    doc = checked(docs.ConstantDoc, scope, body)
    return core.Constant(truth_of(doc.truth), doc.because)


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
    "coded": _coded,
    "judged": _judge,
    "fixed": _constant,
}

"""Compiles which facts count and when: selectors, windows, anchors and lengths; every name is checked here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from fhir_screen.core import rules as core
from fhir_screen.core.dates import Length
from fhir_screen.core.truth import Truth
from fhir_screen.core.words import Words
from fhir_screen.mapping import documents as docs
from fhir_screen.mapping.scope import Scope
from fhir_screen.mapping.vocabulary import CONCEPTS_LISTED
from fhir_screen.mapping.yamlfile import did_you_mean, one_of

ANCHORS = frozenset(
    {"as_of", "screening_date", "consent_date", "enrolment_date", "planned_tissue_collection_date", "planned_infusion_date"}
)  # fmt: skip


_LENGTH = re.compile(r"(\d+)\s+(day|week|month|year)s?")


def selector(scope: Scope, doc: docs.SelectorDoc) -> core.Selector:
    find = concepts(scope.at("find"), doc.find)
    review = concepts(scope.at("review"), doc.review)
    kinds = frozenset(doc.in_) or frozenset[str]().union(*(scope.terms.found_in[c] for c in find | review))
    if not kinds:
        raise scope.error("what to find, and in which resource types, is not said", "add `find:` or `in:`")
    _check_shapes(scope, doc, kinds)
    where = tuple(
        core.Where(facet, concepts(scope.at("where", facet), w.is_), truth_of(w.missing), truth_of(w.otherwise), truth_of(w.matched),
                   concepts(scope.at("where", facet, "doubtful"), w.doubtful), words_of(scope.at("where", facet), w.words),
                   concepts(scope.at("where", facet, "against"), w.against), truth_of(w.mixed) if w.mixed else None,
                   concepts(scope.at("where", facet, "not_beside"), w.not_beside))
        for facet, w in doc.where.items()
    )
    links = tuple(
        core.Link(role, concepts(scope.at("linked", role), link.to), truth_of(link.missing), link.to_instance)
        for role, link in doc.linked.items()
    )
    return core.Selector(
        kinds, find, concepts(scope.at("minus"), doc.minus), review, concepts(scope.at("never"), doc.never),
        words_of(scope, doc.words), where, links, doc.not_linked or None, concepts(scope.at("valued"), doc.valued),
        truth_of(doc.unvalued), frozenset(doc.states), frozenset(doc.doubtful_states), doc.doubt_flag, doc.ended == "recorded",
        words_of(scope.at("doubtful_words"), doc.doubtful_words), doc.other_study, doc.planned,
    )  # fmt: skip


def _check_shapes(scope: Scope, doc: docs.SelectorDoc, kinds: frozenset[str]) -> None:
    """The types, facets and links that a rule names are those of `resources.yaml`."""
    for kind in doc.in_:
        if kind not in scope.shapes:
            raise scope.at("in").error(f"unknown resource type {kind!r}", one_of(kind, "resource types", scope.shapes))
    shapes = [scope.shapes[kind] for kind in kinds if kind in scope.shapes]
    facets = {name for s in shapes for name in (*s.facets, *(s.components.facets if s.components else ()))}
    for name in doc.where:
        _check_place(scope.at("where", name), "facet", name, facets)
    for name in doc.linked:
        _check_link(scope.at("linked", name), name, kinds)
    if doc.not_linked:
        _check_link(scope.at("not_linked"), doc.not_linked, kinds)


def _check_link(scope: Scope, name: str, kinds: Iterable[str]) -> None:
    _check_place(scope, "link", name, {link for kind in kinds if kind in scope.shapes for link in scope.shapes[kind].links})


def _check_dated_by(scope: Scope, name: str, kinds: frozenset[str]) -> None:
    if name != core.ASSERTED or not any(scope.shapes[kind].asserted for kind in kinds if kind in scope.shapes):
        _check_link(scope, name, kinds)


def _check_place(scope: Scope, what: str, name: str, known: Iterable[str]) -> None:
    names = list(known)
    if name not in names:
        raise scope.error(f"no resource type here has a {what} {name!r}", one_of(name, "known here", names))


def words_of(scope: Scope, name: str) -> Words | None:
    if not name or name == "none":
        return None
    if name not in scope.terms.words:
        raise scope.at("words").error(f"unknown list of words {name!r}", one_of(name, "lists", scope.terms.words))
    return scope.terms.words[name]


def concepts(scope: Scope, names: Iterable[str]) -> frozenset[str]:
    known = scope.terms.found_in
    for number, name in enumerate(names):
        if name not in known:
            here = next((scope.at(s) for s in (number, name) if (*scope.steps, s) in scope.document.lines), scope)
            raise here.error(f"unknown concept {name!r}", did_you_mean(name, known) or CONCEPTS_LISTED)
        scope.asked_for.add(name)
    return frozenset(names)


def truth_of(said: str) -> Truth:
    return {"yes": Truth.TRUE, "no": Truth.FALSE, "true": Truth.TRUE, "false": Truth.FALSE}.get(said, Truth.UNKNOWN)


_TOUCHES: Final = {"within": core.Touch.START, "overlaps": core.Touch.SPAN, "ended_within": core.Touch.END}
_READ_BESIDE: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(_TOUCHES, ("before", "if_unset", "dated_by", "goes_on")),
    "lasting": (),
    "over_for": ("before", "not_before", "not_before_last"),
    "not_before": ("before",),
    "not_before_last": ("before",),
}
"""The kinds of window, each with the keys that it reads beside its own; any other key would be a word without a meaning."""


def timing(scope: Scope, when: docs.When, kinds: frozenset[str]) -> core.Timing:
    """When a fact of these resource types counts."""
    match when:
        case "ever":
            return core.Ever()
        case "now":
            return core.Now()
        case "since-instance":
            return core.Since()
        case _:
            return _window(scope.at("when"), when, kinds)


def _window(scope: Scope, when: docs.WhenDoc, kinds: frozenset[str]) -> core.Timing:
    match _kind(scope, when):
        case "lasting":
            return core.Now(length(scope.at("lasting"), when.lasting))
        case "over_for" | "not_before" | "not_before_last":
            return _until(scope, when)
        case _:
            return during(scope, when, kinds)


def _kind(scope: Scope, when: docs.WhenDoc) -> str:
    given = when.model_fields_set
    kind = next((one for one in _READ_BESIDE if one in given), "")
    if not kind:
        raise scope.error(f"say one of {', '.join(_READ_BESIDE)}", "e.g. {within: 5 years, before: screening_date}")
    for key in docs.WhenDoc.model_fields:
        if key not in given or key == kind or key in _READ_BESIDE[kind]:
            continue
        if key in _READ_BESIDE:
            raise scope.at(key).error(f"`{kind}` and `{key}` are two kinds of window", "keep one; `all` or `any` asks for both")
        reads = ", ".join(_READ_BESIDE[kind]) or "no other key"
        raise scope.at(key).error(f"`{key}` says nothing beside `{kind}`", f"take it out (`{kind}` reads {reads})")
    return kind


def _until(scope: Scope, when: docs.WhenDoc) -> core.Until:
    if when.not_before and when.not_before_last:
        raise scope.error("say one of not_before and not_before_last", "the last includes the first")
    since = tuple(selector(scope.at("not_before_last", n), one) for n, one in enumerate(when.not_before_last))
    if when.not_before:
        since = (selector(scope.at("not_before"), when.not_before),)
    over = length(scope.at("over_for"), when.over_for) if when.over_for else None
    return core.Until(over, anchor_of(scope.at("before"), when.before), since, bool(when.not_before_last))


def during(scope: Scope, when: docs.WhenDoc, kinds: frozenset[str]) -> core.During:
    """A window of a fixed length that ends at an anchor."""
    kind = _kind(scope, when)
    if kind not in _TOUCHES:
        raise scope.at(kind).error(f"`{kind}` has no first and last day", f"say one of {', '.join(_TOUCHES)}")
    if when.dated_by:
        _check_dated_by(scope.at("dated_by"), when.dated_by, kinds)
    whole, anchor = _window_length(scope.at(kind), getattr(when, kind)), anchor_of(scope.at("before"), when.before)
    return core.During(whole, anchor, _TOUCHES[kind], core.Unset(when.if_unset), when.dated_by, when.goes_on)


def _window_length(scope: Scope, text: str) -> Length:
    """The length of a window, less its earliest day where the trial leaves that outside (rule R8, `window_bound`)."""
    whole = length(scope, text)
    if scope.parameters.get("window_bound", "inclusive") == "inclusive":
        return whole
    return replace(whole, days=whole.days - 1)


def anchor_of(scope: Scope, name: str) -> str:
    if name not in ANCHORS:
        raise scope.error(f"unknown anchor {name!r}", one_of(name, "anchors", ANCHORS))
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

"""Compiles one trial's document: its parameters, criteria, formulas and atoms, each name of them checked."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, Final

from fhir_screen.core import rules as core
from fhir_screen.core.decision import AtomClass, Role, TrialIdentity
from fhir_screen.core.trials import Atom, Criterion, Trial
from fhir_screen.core.walk import atoms_in
from fhir_screen.errors import UsageError
from fhir_screen.mapping.digest import digest_of
from fhir_screen.mapping.documents import AtomDoc, CriterionDoc, ParameterDoc, SiteDoc, TrialDoc
from fhir_screen.mapping.mistakes import Collected
from fhir_screen.mapping.rules import compile_rule
from fhir_screen.mapping.scope import Scope, Shared
from fhir_screen.mapping.study import zone_of
from fhir_screen.mapping.validation import validated
from fhir_screen.mapping.yamlfile import Document, one_of

_CLOSED = frozenset({"completed", "terminated", "withdrawn", "suspended"})


def compile_trial(given: Scope, overrides: Mapping[str, str], site: SiteDoc, shared: str) -> Trial:
    """The trial of the document that ``given`` stands in; ``shared`` is the digest of all that trials share."""
    document = given.document
    doc = validated(TrialDoc, document)
    parameters = _parameters(document, doc, overrides)
    own = {name: Shared(document, ("derived", name), document.content["derived"][name]) for name in doc.derived}
    ids = _atom_ids(document, doc)
    scope = replace(given, parameters=parameters, atoms=frozenset(ids), derived={**given.derived, **own}, used=set())
    compiled: list[Criterion] = []
    mistakes = Collected()
    for id_, criterion in doc.criteria.items():
        with mistakes.part():
            compiled.append(_criterion(scope.at("criteria", id_), id_, criterion, site))
    mistakes.tell()
    criteria = tuple(compiled)
    if doc.population not in ids:
        raise document.error(f"unknown atom {doc.population!r}", ("population",), one_of(doc.population, "atoms", ids))
    _check_cycles(document, criteria)
    _check_read(document, doc, scope.used | _READ_HERE)
    effective = hashlib.sha256(repr((shared, digest_of([document]), sorted(parameters.items()))).encode()).hexdigest()
    identity = TrialIdentity(
        doc.trial.id, doc.version, doc.trial.title, doc.trial.status,
        doc.trial.status in _CLOSED, ((doc.trial.system, doc.trial.id),), effective,
    )  # fmt: skip
    depth = parameters.get("closed_world_min_depth_days", "unset")
    return Trial(
        identity, doc.population, criteria, zone_of(doc.time_zone, document), frozenset({doc.trial.id, *doc.trial.names}),
        parameters, int(depth) if depth.isdigit() else None, parameters.get("use_preliminary") == "true",
    )  # fmt: skip


_READ_HERE: Final = frozenset({"closed_world_min_depth_days", "min_condition_count", "use_preliminary", "window_bound"})
"""Parameters that mean something wherever they are declared; all others are read by the rules that name them."""


def _check_read(document: Document, doc: TrialDoc, read: Collection[str]) -> None:
    """A parameter that nobody reads promises a choice that there is not."""
    mistakes = Collected()
    for name, parameter in doc.parameters.items():
        with mistakes.part():
            if name not in read and not parameter.without_effect:
                remedy = f"name it in a rule as ${name}, take it out, or say `without_effect: \"yes\"`"
                raise document.error(f"no rule reads the parameter {name!r}", ("parameters", name), remedy)
    mistakes.tell()


def _atom_ids(document: Document, doc: TrialDoc) -> dict[str, str]:
    """The atoms of a trial, each with its criterion."""
    ids: dict[str, str] = {}
    for criterion, one in doc.criteria.items():
        for id_ in one.atoms:
            if id_ in ids:
                steps = ("criteria", criterion, "atoms", id_)
                raise document.error(f"atom {id_!r} is defined twice", steps, f"{ids[id_]} has it already: rename one")
            ids[id_] = criterion
    return ids


def _parameters(document: Document, doc: TrialDoc, overrides: Mapping[str, str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, parameter in doc.parameters.items():
        value = spelled(overrides.get(name, parameter.default), parameter)
        if wrong := refused(name, value, parameter):
            raise UsageError(wrong[0], where=document.where(("parameters", name)), remedy=wrong[1])
        values[name] = value
    return values


def _criterion(scope: Scope, id_: str, doc: CriterionDoc, site: SiteDoc) -> Criterion:
    ruled = replace(scope, least_conditions=_least_conditions(scope, doc))
    atoms = tuple(_atom(ruled.at("atoms", a), a, atom, site) for a, atom in doc.atoms.items())
    if doc.logic is None:
        if len(atoms) != 1:
            raise scope.error("several atoms need a formula", "add `logic:`")
        formula: core.Rule = core.AtomRef(atoms[0].id)
    else:
        formula = compile_rule(scope.at("logic"), scope.document.content["criteria"][id_]["logic"])
    named = atoms_in(formula) | _named_in(scope.document.content["criteria"][id_].get("logic"))
    missing = [a for a, atom in doc.atoms.items() if atom.role_in_formula == "decides" and a not in named]
    if missing:
        raise scope.at("logic").error(
            f"atom {missing[0]!r} is missing from the formula", "add it to `logic:`, or say `role_in_formula: shown`"
        )
    if doc.for_each:
        _check_instances(scope.at("for_each"), doc.for_each, atoms)
    return Criterion(id_, Role(doc.role), doc.text, atoms, formula, doc.for_each or None, doc.text_ko)


def _least_conditions(scope: Scope, doc: CriterionDoc) -> int:
    """Only exclusions are guarded against billing codes that rule a disease out (rule R6)."""
    count = scope.parameters.get("min_condition_count", "1")
    return int(count) if Role(doc.role) is Role.EXCLUSION else 1


def _check_instances(scope: Scope, named: str, atoms: Iterable[Atom]) -> None:
    each = next((a for a in atoms if a.id == named), None)
    if each is None:
        raise scope.error(f"{named!r} is not an atom of this criterion", one_of(named, "atoms here", [a.id for a in atoms]))
    try:
        core.named_instances(each.rule)
    except ValueError as cause:
        raise scope.error(f"{named!r}: {cause}", "name an atom whose rule is one `has`, or an `any` that begins with one") from cause


def _named_in(content: Any) -> frozenset[str]:
    """All words of a formula, the cases included that the parameters leave out today."""
    if isinstance(content, str):
        return frozenset({content})
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    return frozenset[str]().union(*(_named_in(part) for part in parts))


def _atom(scope: Scope, id_: str, doc: AtomDoc, site: SiteDoc) -> Atom:
    kind = AtomClass(doc.class_)
    raw: Any = scope.document.content
    for step in scope.steps:
        raw = raw[step]
    if kind is AtomClass.MANUAL:
        if doc.rule is not None or not doc.ask:
            raise scope.error("a manual atom asks a person", "write `ask:` and no `rule:`")
        rule: core.Rule = core.Ask(doc.ask)
    elif doc.rule is None:
        raise scope.error("an atom that is not manual needs a rule", "add `rule:`")
    else:
        here = replace(scope.at("rule"), proxy=kind is AtomClass.PROXY, absence=site.absence_policy.get(id_, ""))
        rule = compile_rule(here, raw["rule"])
    guard = compile_rule(scope.at("asked_when"), raw["asked_when"]) if doc.asked_when is not None else None
    hints = tuple(
        core.Hint(h.text, compile_rule(scope.at("hints", n, "when"), raw["hints"][n]["when"]) if h.when else None)
        for n, h in enumerate(doc.hints)
    )
    return Atom(id_, doc.text, kind, rule, guard, hints, doc.text_ko, doc.ask_ko)


def _check_cycles(document: Document, criteria: Sequence[Criterion]) -> None:
    uses = {
        a.id: atoms_in(a.rule) | (atoms_in(a.asked_when) if a.asked_when else frozenset()) for c in criteria for a in c.atoms
    }
    for start in uses:
        seen: set[str] = set()
        queue = list(uses[start])
        while queue:
            atom = queue.pop()
            if atom == start:
                steps = next(("criteria", c.id, "atoms", start) for c in criteria if start in {a.id for a in c.atoms})
                raise document.error(f"atom {start!r} depends on itself", steps, "break the circle")
            if atom not in seen:
                seen.add(atom)
                queue += uses.get(atom, ())


_SWITCHES: Final = {"true": "on", "false": "off", "on": "true", "off": "false", "yes": "true", "no": "false"}
"""What YAML and people write for each other."""


def spelled(value: str, parameter: ParameterDoc) -> str:
    """The choice that a value means: in any case, a switch by another name, a number by another spelling (0.60)."""
    if not parameter.choices or value in parameter.choices:
        return value
    plain = value.strip().casefold()
    same = {choice for choice in parameter.choices if choice.casefold() in (plain, _SWITCHES.get(plain)) or _equal(choice, plain)}
    return same.pop() if len(same) == 1 else value


def _equal(one: str, other: str) -> bool:
    try:
        return Fraction(one) == Fraction(other)
    except (ValueError, ZeroDivisionError):
        return False


def refused(name: str, value: str, parameter: ParameterDoc) -> tuple[str, str] | None:
    """What is wrong with the value of a parameter, and a remedy."""
    if parameter.choices and value not in parameter.choices:
        return f"{name}={value} is not possible", one_of(value, "choices", parameter.choices)
    if name.endswith("_days") and not (value.isdigit() or value == "unset"):
        return f"{name}={value} is not a number of days", f"write e.g. {name}=28"
    if name == "min_condition_count" and not value.isdigit():
        return f"{name}={value} is not a number of days", f"write e.g. {name}=2"
    return None

"""Walks compiled rules: which atoms they name and which way, which resource types they look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, assert_never, get_args

from fhir_screen.core import rules as core
from fhir_screen.core.trials import Trial

_RULES = get_args(core.Rule)


def leaves(rule: core.Rule) -> Iterator[core.Rule]:
    """A rule and all rules inside it."""
    yield rule
    yield from _rules_in(_parts(rule))


def _rules_in(parts: Iterable[Any]) -> Iterator[core.Rule]:
    for part in parts:
        if isinstance(part, _RULES):
            yield from leaves(part)
        elif isinstance(part, tuple):
            yield from _rules_in(part)


def atoms_in(rule: core.Rule) -> frozenset[str]:
    """The atoms that a rule names."""
    return frozenset(leaf.id for leaf in leaves(rule) if isinstance(leaf, core.AtomRef))


def polarities(rule: core.Rule, atom_id: str) -> frozenset[bool]:
    """For each occurrence of the atom whether it pushes the formula the way it goes itself; both where that varies."""

    def of(*parts: core.Rule) -> frozenset[bool]:
        return frozenset[bool]().union(*(polarities(part, atom_id) for part in parts))

    def turned(part: core.Rule) -> frozenset[bool]:
        return frozenset(not one for one in polarities(part, atom_id))

    match rule:
        case core.AtomRef(id_):
            return frozenset({True}) if id_ == atom_id else frozenset()
        case core.Not(part):
            return turned(part)
        case core.All(rules) | core.Any(rules) | core.AtLeast(_, rules) | core.Agree(rules):
            return of(*rules)
        case core.Decide(shown_by, ruled_out_by):
            return of(shown_by) | turned(ruled_out_by)
        case core.Unless(part, unless):
            return of(part) | turned(unless)
        case core.Coded(part) | core.Judged(part) | core.Review(part) | core.Flagged(part):
            return of(part)
        case core.AppliesWhen(condition, part):
            return of(condition, part) | turned(condition)
        case core.Doubt(part, _, unless):
            return of(part) | (of(unless) | turned(unless) if unless is not None else frozenset())
        case (
            core.Has() | core.Says() | core.Measure() | core.Result() | core.DailyDose() | core.Then() | core.Stable()
            | core.Several() | core.Age() | core.Sex() | core.InstanceIs() | core.InstanceState() | core.Ask()
            | core.Constant()
        ):  # fmt: skip
            return frozenset()
        case _:
            assert_never(rule)


def only_atoms(rule: core.Rule) -> tuple[str, ...]:
    """The atoms of a rule that asks nothing else; none where it does."""
    formula = (core.All, core.Any, core.Not, core.AtomRef)
    inside = list(leaves(rule))
    named = dict.fromkeys(one.id for one in inside if isinstance(one, core.AtomRef))
    return tuple(named) if all(isinstance(one, formula) for one in inside) else ()


def kinds_of(trial: Trial) -> frozenset[str]:
    """The resource types that a trial's rules, guards and hints look at."""
    kinds: set[str] = set()
    for criterion in trial.criteria:
        for atom in criterion.atoms:
            rules = [atom.rule, *([atom.asked_when] if atom.asked_when else []), *(h.rule for h in atom.hints if h.rule)]
            for rule in rules:
                kinds |= {kind for selector in selectors(rule) for kind in selector.kinds}
    return frozenset(kinds)


def selectors(value: Any) -> Iterator[core.Selector]:
    """Every selector inside a rule."""
    if isinstance(value, core.Selector):
        yield value
        return
    for part in _parts(value):
        yield from selectors(part)


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple):
        yield from value
    elif type(value).__module__ == core.__name__ and hasattr(value, "__dataclass_fields__"):
        yield from (getattr(value, name) for name in value.__dataclass_fields__)
